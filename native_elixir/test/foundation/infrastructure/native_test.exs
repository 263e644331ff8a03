defmodule ElixirScope.Foundation.Infrastructure.NativeTest do
  use ExUnit.Case, async: true

  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, Native}

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

  test "a native function of the hot path raises in its caller where it cannot take an argument" do
    {:ok, %{breaker: breaker}} = CircuitBreaker.handle({:test, make_ref()}, :search)
    {:ok, limiter} = Native.limiter_new(100, :deny_new, 10, :monotonic)

    for {function, arguments} <- [
          breaker_acquire: [:none],
          breaker_acquire: [limiter],
          breaker_record: [limiter, 0, 0],
          breaker_record: [breaker, -1, 0],
          breaker_record: [breaker, 0, 5],
          pool_checkout: [limiter, make_ref(), 0, true],
          pool_checkin: [limiter, :connection, false],
          pool_checkin_lease: [limiter, 0, 0, false]
        ] do
      assert_raise ArgumentError, fn -> apply(Native, function, arguments) end
    end
  end

  # A native call that keeps its process on a normal scheduler is never seen to leave it.
  test "what takes time in proportion to a number of keys leaves the normal schedulers alone" do
    {:ok, limiter} = Native.limiter_new(100, :deny_new, 10, :monotonic)
    assert :limiter_live_keys in left_for(fn -> Native.limiter_live_keys(limiter) end)
    assert :limiter_new in left_for(fn -> Native.limiter_new(100, :deny_new, 10, :monotonic) end)
    assert left_for(fn -> Native.limiter_now(limiter) end) == []
  end

  # The native functions for which a process that runs `fun` leaves its scheduler.
  defp left_for(fun) do
    worker =
      spawn_link(fn ->
        receive do: (:go -> fun.())
        receive do: (:stop -> :ok)
      end)

    :erlang.trace(worker, true, [:running])
    send(worker, :go)
    # It waits for the next message where it has done the work.
    left = left(worker, [])
    send(worker, :stop)
    left
  end

  defp left(worker, functions) do
    receive do
      {:trace, ^worker, :out, {Native, function, _arity}} -> left(worker, [function | functions])
      {:trace, ^worker, :out, {__MODULE__, _waiting, _arity}} -> functions
      {:trace, ^worker, _in_or_out, _function} -> left(worker, functions)
    end
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
