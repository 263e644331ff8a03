defmodule Mix.Tasks.Compile.ElixirscopeNif do
  @moduledoc """
  Builds the NIF crate with cargo and installs it as `priv/native/elixirscope_nif.so`.

  Cargo alone decides what is stale. The library is installed by a rename, because overwriting a
  mapped library in place kills the running VM; equal bytes are left alone.

  Environment:

    * `ESCOPE_NIF_PATH`: install this prebuilt library, run no cargo;
    * `CARGO`: the cargo to run, `cargo` by default;
    * `CARGO_TARGET_DIR`: where cargo builds, `target` of the workspace by default.
  """
  use Mix.Task.Compiler

  @recursive true
  @library "elixirscope_nif.so"

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
    args = ~w(build -p elixirscope_nif --release --locked --quiet --manifest-path) ++ [manifest()]

    case System.find_executable(cargo) do
      nil ->
        {:error,
         "#{cargo} was not found: install Rust, set CARGO, or point ESCOPE_NIF_PATH to a prebuilt library"}

      executable ->
        # The first build takes most of a minute, and --quiet says nothing meanwhile.
        unless File.exists?(installed()),
          do: Mix.shell().info("Building the native library with #{cargo}")

        case System.cmd(executable, args, into: IO.stream(), stderr_to_stdout: true) do
          {_output, 0} -> {:ok, Path.join([target_dir(), "release", "lib" <> @library])}
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

  defp installed, do: Path.expand(Path.join("priv/native", @library), project_dir())
  defp manifest, do: Path.expand("../Cargo.toml", project_dir())

  defp target_dir do
    case System.get_env("CARGO_TARGET_DIR") do
      nil -> Path.expand("../target", project_dir())
      dir -> Path.expand(dir)
    end
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
