defmodule ElixirScope.Foundation.Infrastructure.NativeTest do
  use ExUnit.Case, async: true

  alias ElixirScope.Foundation.Infrastructure.Native

  test "the library, the application and the workspace have one version" do
    version = Native.library_version()
    assert to_string(Application.spec(:elixir_scope_foundation, :vsn)) == version

    assert File.read!(Path.expand("../../../../Cargo.toml", __DIR__)) =~
             ~s(version = "#{version}")
  end

  test "a loaded library stays as it is until the VM is restarted" do
    code = """
    alias ElixirScope.Foundation.Infrastructure.Native
    clock = Native.clock_new(7)
    IO.inspect({:code.load_file(Native), Native.clock_now(clock), Native.library_version()})
    """

    ebin = Application.app_dir(:elixir_scope_foundation, "ebin")
    {output, 0} = System.cmd("elixir", ["-pa", ebin, "-e", code], stderr_to_stdout: true)
    assert output =~ ~s({{:error, :on_load_failure}, 7, "#{Native.library_version()}"})
    assert output =~ "After an upgrade of a loaded library: restart the VM."
  end

  test "a library that cannot be loaded says why" do
    tmp_dir =
      Path.join(
        System.tmp_dir!(),
        "elixirscope_#{System.pid()}_#{System.unique_integer([:positive])}"
      )

    on_exit(fn -> File.rm_rf!(tmp_dir) end)

    # A VM of its own, with the application's code but another library in its place.
    ebin = Path.join([tmp_dir, "elixir_scope_foundation", "ebin"])
    native = Path.join([tmp_dir, "elixir_scope_foundation", "priv", "native"])
    File.mkdir_p!(native)
    File.cp_r!(Application.app_dir(:elixir_scope_foundation, "ebin"), ebin)
    File.write!(Path.join(native, "elixirscope_nif_faults.so"), "not a library")

    code = "IO.inspect(Code.ensure_loaded(ElixirScope.Foundation.Infrastructure.Native))"
    {output, 0} = System.cmd("elixir", ["-pa", ebin, "-e", code], stderr_to_stdout: true)

    assert output =~ "cannot load the NIF library"
    assert output =~ Path.join(native, "elixirscope_nif_faults.so")
    assert output =~ "OTP #{System.otp_release()}"
    assert output =~ to_string(:erlang.system_info(:system_architecture))
    assert output =~ "ESCOPE_NIF_PATH"
    assert output =~ "{:error, :on_load_failure}"
  end
end
