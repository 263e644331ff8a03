defmodule ElixirScope.Compat.FuseDefectsTest do
  # What is wrong with fuse 2.5 and must not be wrong here.
  use ElixirScope.FuseCase, async: false

  alias ElixirScope.Compat.Fuse.{Event, Monitor, Stats}
  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, Native}

  defmodule BadPlugin do
    @moduledoc false
    @behaviour ElixirScope.Compat.Fuse.StatsPlugin

    @impl true
    def init(name), do: :erlang.list_to_atom(name)

    @impl true
    def increment(name, _counter), do: :erlang.list_to_atom(name)
  end

  defp install(name, max_r, reset_ms, max_t \\ 1_000),
    do: :ok = Fuse.install(name, {{:standard, max_r, max_t}, {:reset, reset_ms}})

  test "F1 the timer of a removed fuse does not heal its successor", %{name: name} do
    install(name, 0, 300)
    melt(name, 1)
    advance(name, 200)
    old = id(name)
    :ok = Fuse.remove(name)
    install(name, 0, 5_000)
    melt(name, 1)
    advance(name, 250)
    timer(old)
    timer(id(name))
    assert Fuse.ask(name, :sync) == :blown
    advance(name, 4_750)
    assert Fuse.ask(name, :sync) == :ok
  end

  test "F2 a timer that goes off after a reset does not heal the next blow", %{name: name} do
    install(name, 0, 100)
    melt(name, 1)
    :ok = :sys.suspend(Fuse.Server)
    :ok = Fuse.reset(name)
    melt(name, 1)
    send(Fuse.Server, {:settle, id(name)})
    :ok = :sys.resume(Fuse.Server)
    assert events(name) == [:ok, :blown, :ok, :blown]
    assert Fuse.ask(name, :sync) == :blown
  end

  test "F3 a fuse is told blown once, however often it melts or is disabled", %{name: name} do
    install(name, 0, 100)
    melt(name, 5)
    Fuse.circuit_disable(name)
    melt(name, 5)
    assert events(name) == [:ok, :blown]
  end

  test "F4 a melt leaves nothing behind, however many there were in the window", %{name: name} do
    install(name, 1, 100, 1_000_000)
    {breaker, _plugin} = Fuse.Table.find(name)
    bytes = Native.breaker_stats(breaker).bytes
    melt(name, 20_000)
    assert Native.breaker_stats(breaker).bytes == bytes

    assert Process.info(Process.whereis(Fuse.Server), :message_queue_len) ==
             {:message_queue_len, 0}

    assert Stats.counters(name)[:melt] == 20_000
  end

  test "F5 times that are too long are refused, and harm no other fuse", %{
    name: {space, _} = name
  } do
    install(name, 0, 100)
    server = Process.whereis(Fuse.Server)

    for options <- [
          {{:standard, 0, 100}, {:reset, Bitwise.bsl(1, 70)}},
          {{:standard, 0, Bitwise.bsl(1, 70)}, {:reset, 100}}
        ] do
      assert catch_error(Fuse.install({space, :other}, options)) == :badarg
    end

    # The longest that are taken.
    install({space, :other}, 0, 4_611_686_018_427, 4_611_686_018_427)
    melt({space, :other}, 1)
    assert Fuse.ask({space, :other}, :sync) == :blown
    assert Fuse.ask(name, :sync) == :ok
    assert Process.whereis(Fuse.Server) == server
  end

  test "F5 a plugin that raises loses its counts and nothing else", %{name: name} do
    Application.put_env(:elixir_scope, :fuse, stats_plugin: BadPlugin)
    on_exit(fn -> Application.delete_env(:elixir_scope, :fuse) end)

    log = ExUnit.CaptureLog.capture_log(fn -> install(name, 0, 100) end)
    assert log =~ "BadPlugin does not count fuse"
    assert {Fuse.ask(name, :sync), Fuse.melt(name), Fuse.ask(name, :sync)} == {:ok, :ok, :blown}
    assert Stats.counters(name) == [ok: 1, blown: 1, melt: 1]
  end

  test "F5 a fuse blows while nobody can be told", %{name: name} do
    install(name, 0, 100)
    server = Process.whereis(Fuse.Server)
    :ok = Supervisor.terminate_child(Fuse.Supervisor, Event)
    melt(name, 1)
    Fuse.Server.sync()
    {:ok, _pid} = Supervisor.restart_child(Fuse.Supervisor, Event)
    assert Fuse.ask(name, :sync) == :blown
    assert Process.whereis(Fuse.Server) == server
  end

  test "F6 the alarm of a removed fuse is cleared", %{name: name} do
    install(name, 0, 100)
    melt(name, 1)
    :ok = Monitor.sample()
    assert {name, :fuse_blown} in :alarm_handler.get_alarms()
    :ok = Fuse.remove(name)
    refute {name, :fuse_blown} in :alarm_handler.get_alarms()
  end

  test "F6 an alarm that is set while its fuse is removed is cleared by the next look", %{
    name: name
  } do
    :alarm_handler.set_alarm({name, :fuse_blown})
    Fuse.Table.put_alarm(name, 0)
    :ok = Monitor.sample()
    refute {name, :fuse_blown} in :alarm_handler.get_alarms()
  end

  test "F7 a window of nothing is refused", %{name: name} do
    for strategy <- [{:standard, 1, 0}, {:fault_injection, 0.5, 1, 0}],
        do: assert(catch_error(Fuse.install(name, {strategy, {:reset, 100}})) == :badarg)
  end

  test "F8 asks that fault injection turns down are counted", %{name: name} do
    :ok = Fuse.install(name, {{:fault_injection, 0.25, 1, 1_000}, {:reset, 100}})
    answers = for _ <- 1..1_000, do: Fuse.ask(name, :sync)
    assert Enum.count(answers, &(&1 == :blown)) == 250
    assert Stats.counters(name) == [ok: 750, blown: 250, melt: 0]
  end

  test "F9 a fuse may heal by a probe, with a growing time", %{name: name} do
    :ok = Fuse.install(name, {{:standard, 0, 1_000}, {:probe, 100, backoff: 2.0}})
    melt(name, 1)
    advance(name, 100)
    assert Fuse.ask(name, :sync) == :blown
    # The probe holds off the others, and fails.
    assert Fuse.run(name, fn -> {:melt, Fuse.run(name, fn -> {:ok, 1} end, :sync)} end, :sync) ==
             {:ok, :blown}

    advance(name, 199)
    assert Fuse.run(name, fn -> {:ok, 1} end, :sync) == :blown
    advance(name, 1)
    assert Fuse.run(name, fn -> {:ok, 2} end, :sync) == {:ok, 2}
    assert Fuse.ask(name, :sync) == :ok
    assert events(name) == [:ok, :blown, :ok]
  end

  test "F10 a melt of a run from before the blow does not count after the heal", %{name: name} do
    install(name, 0, 100)

    late = fn ->
      melt(name, 1)
      advance(name, 100)
      {:melt, Fuse.ask(name, :sync)}
    end

    assert Fuse.run(name, late, :sync) == {:ok, :ok}
    assert Fuse.ask(name, :sync) == :ok
    assert events(name) == [:ok, :blown, :ok]
  end

  test "F11 an exception, a throw and an exit melt, and go on to the caller", %{name: name} do
    for {kind, fun} <- [
          error: fn -> raise "no" end,
          throw: fn -> throw(:no) end,
          exit: fn -> exit(:no) end
        ] do
      install(name, 0, 100)
      caught = try(do: Fuse.run(name, fun, :sync), catch: (kind, _reason -> kind))
      assert {caught, Fuse.ask(name, :sync)} == {kind, :blown}
    end

    assert Stats.counters(name)[:melt] == 3
  end

  test "F12 a reset of a blown fuse leaves no timer, and the next blow has its own", %{name: name} do
    install(name, 0, 100)
    melt(name, 1)
    advance(name, 60)
    Fuse.reset(name)
    melt(name, 1)
    advance(name, 60)
    timer(id(name))
    assert Fuse.ask(name, :sync) == :blown
    advance(name, 40)
    timer(id(name))
    assert events(name) == [:ok, :blown, :ok, :blown, :ok]
  end

  test "F12 a blown fuse that is installed anew blows and heals by the new options", %{name: name} do
    install(name, 0, 100)
    melt(name, 1)
    install(name, 1, 1_000)
    melt(name, 1)
    assert Fuse.ask(name, :sync) == :ok
    melt(name, 1)
    advance(name, 999)
    assert Fuse.ask(name, :sync) == :blown
    advance(name, 1)
    assert Fuse.ask(name, :sync) == :ok
  end

  test "F12 the monitor looks at fuses of every kind", %{name: {space, _} = name} do
    :ok = Fuse.install(name, {{:fault_injection, 1.0, 1, 1_000}, {:reset, 100}})
    :ok = Fuse.install({space, :probe}, {{:standard, 0, 1_000}, {:probe, 100}})
    monitor = Process.whereis(Monitor)
    :ok = Monitor.sample()
    assert Process.whereis(Monitor) == monitor
    refute {name, :fuse_blown} in :alarm_handler.get_alarms()
  end

  test "F12 without tolerance the first melt blows", %{name: name} do
    install(name, 0, 100)
    assert Fuse.ask(name, :sync) == :ok
    melt(name, 1)
    assert Fuse.ask(name, :sync) == :blown
  end

  test "F13 a run counts once, however often its fun tries", %{name: name} do
    install(name, 1, 100)
    attempts = :counters.new(1, [])

    retry = fn retry, left ->
      :counters.add(attempts, 1, 1)
      if left == 0, do: {:melt, :failed}, else: retry.(retry, left - 1)
    end

    assert Fuse.run(name, fn -> retry.(retry, 4) end, :sync) == {:ok, :failed}
    assert :counters.get(attempts, 1) == 5
    assert Fuse.ask(name, :sync) == :ok
    assert Stats.counters(name)[:melt] == 1
  end

  test "a fuse and a breaker of the same name are two", %{namespace: namespace} do
    install({namespace, :shared}, 0, 100)
    melt({namespace, :shared}, 1)
    assert CircuitBreaker.execute(namespace, :shared, fn -> 1 end) == {:ok, 1}
  end
end
