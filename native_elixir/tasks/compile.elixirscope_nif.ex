defmodule Mix.Tasks.Compile.ElixirscopeNif do
  @moduledoc """
  Builds the NIF crate with cargo and installs it in `priv/native`: for `MIX_ENV` dev and test as
  `elixirscope_nif_faults.so`, which can inject faults, otherwise as `elixirscope_nif.so`, which does not hold that
  code.

  Cargo alone decides what is stale. The library is installed by a rename, because overwriting a
  mapped library in place kills the running VM; equal bytes are left alone.

  Environment:

    * `ESCOPE_NIF_PATH`: install this prebuilt library, run no cargo;
    * `CARGO`: the cargo to run, `cargo` by default;
    * `CARGO_TARGET_DIR`: where cargo builds, `target` of the workspace by default.
  """
  use Mix.Task.Compiler

  @recursive true

  @impl true
  def run(_args) do
    with {:ok, built} <- build(),
         {:ok, status} <- install(built) do
      # Without it a fresh checkout has no `_build/.../priv` yet and the library is not found.
      Mix.Project.build_structure()
      {status, []}
    else
      {:error, message} ->
        Mix.shell().error(message)
        {:error, [diagnostic(message)]}
    end
  end

  @impl true
  def clean do
    File.rm(installed())
    :ok
  end

  defp build do
    case System.get_env("ESCOPE_NIF_PATH") do
      nil -> cargo()
      path -> {:ok, Path.expand(path)}
    end
  end

  defp cargo do
    cargo = System.get_env("CARGO") || "cargo"

    args =
      ~w(build -p elixirscope_nif --release --locked --quiet --manifest-path) ++
        [manifest(), "--target-dir", target_dir() | features()]

    case System.find_executable(cargo) do
      nil ->
        {:error,
         "#{cargo} was not found: install Rust, set CARGO, or point ESCOPE_NIF_PATH to a prebuilt library"}

      executable ->
        # The first build takes most of a minute, and --quiet says nothing meanwhile.
        unless File.exists?(installed()),
          do: Mix.shell().info("Building the native library with #{cargo}")

        case System.cmd(executable, args, into: IO.stream(), stderr_to_stdout: true) do
          {_output, 0} -> {:ok, Path.join([target_dir(), "release", "libelixirscope_nif.so"])}
          {_output, status} -> {:error, "#{cargo} #{Enum.join(args, " ")} failed with #{status}"}
        end
    end
  end

  defp install(built) do
    case File.read(built) do
      {:ok, bytes} ->
        if File.read(installed()) == {:ok, bytes}, do: {:ok, :noop}, else: replace(bytes)

      {:error, reason} ->
        {:error, "cannot read the NIF library #{built}: #{:file.format_error(reason)}"}
    end
  end

  defp replace(bytes) do
    temporary = "#{installed()}.#{System.pid()}"

    with :ok <- File.mkdir_p(Path.dirname(temporary)),
         :ok <- File.write(temporary, bytes),
         :ok <- File.rename(temporary, installed()) do
      {:ok, :ok}
    else
      {:error, reason} ->
        File.rm(temporary)
        {:error, "cannot install #{installed()}: #{:file.format_error(reason)}"}
    end
  end

  defp faults?, do: Mix.env() in [:dev, :test]
  defp library, do: if(faults?(), do: "elixirscope_nif_faults", else: "elixirscope_nif")
  defp features, do: if(faults?(), do: ~w(--features fault-injection), else: [])

  defp installed, do: Path.expand("priv/native/#{library()}.so", project_dir())
  defp manifest, do: Path.expand("../Cargo.toml", project_dir())

  # Cargo names a library by its crate alone, so each set of features needs a directory of its own: in a shared
  # one it would take the library of the one for that of the other.
  defp target_dir do
    base = System.get_env("CARGO_TARGET_DIR") || Path.expand("../target", project_dir())
    Path.expand(if(faults?(), do: Path.join(base, "faults"), else: base))
  end

  defp project_dir, do: Path.dirname(Mix.Project.project_file())

  defp diagnostic(message) do
    %Mix.Task.Compiler.Diagnostic{
      compiler_name: "elixirscope_nif",
      file: manifest(),
      message: message,
      position: nil,
      severity: :error
    }
  end
end
