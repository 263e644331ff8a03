defmodule ElixirScope.Compat.FuseProcessesTest do
  # Events, alarms, counters and plugins, and what a crash leaves.
  use ElixirScope.FuseCase, async: false

  alias ElixirScope.Compat.Fuse.{Event, Monitor, Server, Stats}

  @options {{:standard, 0, 1_000}, {:reset, 100}}

  defmodule Plugin do
    @moduledoc false
    @behaviour ElixirScope.Compat.Fuse.StatsPlugin

    @impl true
    def init({_space, {:told, pid}} = name), do: send(pid, {:plugin, name, :init})

    @impl true
    def increment({_space, {:told, pid}} = name, counter), do: send(pid, {:plugin, name, counter})
  end

  defmodule Fragile do
    @moduledoc false
    @behaviour :gen_event

    @impl true
    def init(pid), do: {:ok, pid}

    @impl true
    def handle_event(_event, _pid), do: raise("no")

    @impl true
    def handle_call(_request, pid), do: {:ok, :ok, pid}

    @impl true
    def terminate(_reason, pid), do: send(pid, :gone)
  end

  describe "events" do
    test "come in the order of the changes, whatever the order of the messages", %{name: name} do
      :ok = Fuse.install(name, @options)
      for {sequence, to} <- [{3, :open}, {2, :closed}, {1, :open}], do: change(name, sequence, to)
      assert events(name) == [:ok, :blown, :ok, :blown]
    end

    test "from before a removal or an installation come before it", %{name: name} do
      wide = {{:standard, 100, 1_000}, {:reset, 100}}

      for {request, told} <- [
            {fn -> Fuse.install(name, wide) end, [:ok, :blown, :ok]},
            {fn -> Fuse.remove(name) end, [:ok, :blown, :removed]}
          ] do
        :ok = Fuse.install(name, @options)
        :ok = :sys.suspend(Server)
        waiting = Task.async(request)
        assert eventually(fn -> waits?(Server) end)
        melt(name, 101)
        :ok = :sys.resume(Server)
        assert Task.await(waiting) == :ok
        assert events(name) == told
      end
    end

    test "go on after one that got lost", %{name: name} do
      :ok = Fuse.install(name, @options)
      for {sequence, to} <- [{4, :open}, {3, :closed}], do: change(name, sequence, to)
      assert events(name) == [:ok]
      # Held back for a while, then told.
      assert_receive {:fuse_event, {^name, :ok}}, 5_000
      assert events(name) == [:blown]
      # What comes later than that is not told any more.
      change(name, 2, :open)
      assert events(name) == []
    end

    test "go on after each of two that got lost", %{name: name} do
      :ok = Fuse.install(name, @options)
      for {sequence, to} <- [{2, :open}, {5, :closed}], do: change(name, sequence, to)
      assert_receive {:fuse_event, {^name, :ok}}
      assert_receive {:fuse_event, {^name, :blown}}, 5_000
      assert_receive {:fuse_event, {^name, :ok}}, 5_000
    end

    test "wait their own time for a change that is late", %{name: name} do
      :ok = Fuse.install(name, @options)
      change(name, 2, :closed)
      id = id(name)
      %{held: %{^id => {timer, _changes}}} = :sys.get_state(Server)
      for {sequence, to} <- [{1, :open}, {4, :closed}], do: change(name, sequence, to)
      send(Server, {:timeout, timer, {:release, id}})
      change(name, 3, :open)
      assert events(name) == [:ok, :blown, :ok, :blown, :ok]
    end

    test "tell each blow and each heal once, in turn, whoever made them" do
      name = {:busy, make_ref()}
      :ok = Fuse.install(name, {{:standard, 0, 1_000}, {:reset, 0}})

      busy = fn ->
        for _ <- 1..2_000 do
          Fuse.melt(name)
          Fuse.ask(name, :sync)
        end
      end

      1..4 |> Enum.map(fn _ -> Task.async(busy) end) |> Task.await_many(60_000)
      Fuse.reset(name)
      told = events(name)
      :ok = Fuse.remove(name)

      assert length(told) > 2_000
      assert List.last(told) == :ok
      # The reset may have found it whole.
      assert length(told) - length(Enum.dedup(told)) <= 1
    end

    test "a handler that fails is taken out, and the others go on", %{name: name} do
      Event.add_handler({Fragile, name}, self())

      ExUnit.CaptureLog.capture_log(fn ->
        :ok = Fuse.install(name, @options)
        assert_receive :gone, 5_000
      end)

      refute {Fragile, name} in :gen_event.which_handlers(Event)
      melt(name, 1)
      assert events(name) == [:ok, :blown]
    end

    test "a handler that was deleted hears nothing more", %{name: name} do
      :ok = Event.add_handler({ElixirScope.FuseCase.Forward, name}, self())
      Event.delete_handler({ElixirScope.FuseCase.Forward, name}, :done)
      :ok = Fuse.install(name, @options)
      assert events(name) == [:ok]
    end
  end

  describe "a crash of the server" do
    test "leaves fuses as they are, and what changed meanwhile is told", %{
      name: {space, _} = name
    } do
      :ok = Fuse.install(name, @options)
      :ok = Fuse.install({space, :whole}, @options)
      events(name)
      :ok = Supervisor.terminate_child(Fuse.Supervisor, Server)
      melt(name, 1)
      assert Fuse.ask(name, :sync) == :blown
      {:ok, _pid} = Supervisor.restart_child(Fuse.Supervisor, Server)
      assert events(name) == [:blown]
      assert events({space, :whole}) == [:ok]
      advance(name, 100)
      timer(id(name))
      assert events(name) == [:ok]
    end

    test "does not keep a fuse from healing by itself" do
      name = {:crash, make_ref()}
      :ok = Fuse.install(name, {{:standard, 0, 1_000}, {:reset, 20}})
      assert events(name) == [:ok]
      melt(name, 1)
      :ok = Supervisor.terminate_child(Fuse.Supervisor, Server)
      {:ok, _pid} = Supervisor.restart_child(Fuse.Supervisor, Server)
      assert_receive {:fuse_event, {^name, :blown}}, 5_000
      assert_receive {:fuse_event, {^name, :ok}}, 5_000
      :ok = Fuse.remove(name)
    end

    test "of all of it leaves no fuse that nobody knows" do
      name = {:forgotten, make_ref()}
      :ok = Fuse.install(name, @options)
      :ok = Supervisor.terminate_child(ElixirScope.Foundation.Supervisor, Fuse.Supervisor)
      {:ok, _pid} = Supervisor.restart_child(ElixirScope.Foundation.Supervisor, Fuse.Supervisor)
      assert Fuse.ask(name, :sync) == {:error, :not_found}
    end
  end

  describe "alarms" do
    test "are set by one blown sample and cleared by three clean ones in a row", %{name: name} do
      :ok = Fuse.install(name, @options)
      melt(name, 1)
      assert samples(name, 1) == [true]
      advance(name, 100)
      assert samples(name, 2) == [true, true]
      melt(name, 1)
      assert samples(name, 1) == [true]
      advance(name, 100)
      assert samples(name, 3) == [true, true, false]
    end

    test "are set for a disabled fuse", %{name: name} do
      :ok = Fuse.install(name, @options)
      Fuse.circuit_disable(name)
      assert samples(name, 1) == [true]
    end

    test "outlive the monitor, and then are cleared none the less", %{name: name} do
      :ok = Fuse.install(name, @options)
      melt(name, 1)
      assert samples(name, 1) == [true]
      :ok = Supervisor.terminate_child(Fuse.Supervisor, Monitor)
      Fuse.reset(name)
      {:ok, _pid} = Supervisor.restart_child(Fuse.Supervisor, Monitor)
      assert samples(name, 3) == [true, true, false]
    end

    test "come by themselves at the configured interval", %{name: name} do
      configured([monitor_interval: 1], fn ->
        :ok = Fuse.install(name, @options)
        melt(name, 1)
        assert eventually(fn -> alarm?(name) end)
        Fuse.reset(name)
        assert eventually(fn -> not alarm?(name) end)
      end)
    end

    test "are off where the configuration says so" do
      configured([monitor: false], fn -> assert Process.whereis(Monitor) == nil end)
    end

    test "need no alarm handler", %{name: name} do
      ExUnit.CaptureLog.capture_log(fn ->
        :ok = Application.stop(:sasl)
        :ok = Fuse.install(name, @options)
        melt(name, 1)
        assert Monitor.sample() == :ok
        assert Fuse.remove(name) == :ok
        :ok = Application.start(:sasl)
      end)
    end
  end

  describe "counters" do
    test "stay when a fuse is installed anew or removed, and begin anew afterwards", %{name: name} do
      assert catch_error(Stats.counters(name)) == :badarg
      :ok = Fuse.install(name, @options)
      Fuse.ask(name, :sync)
      Fuse.run(name, fn -> {:ok, 1} end, :sync)
      Fuse.run(name, fn -> {:melt, 1} end, :sync)
      Fuse.ask(name, :async_dirty)
      Fuse.run(name, fn -> {:ok, 1} end, :sync)
      Fuse.circuit_disable(name)
      melt(name, 2)
      counted = [ok: 3, blown: 2, melt: 3]
      assert Stats.counters(name) == counted
      :ok = Fuse.install(name, @options)
      assert Stats.counters(name) == counted
      :ok = Fuse.remove(name)
      assert Stats.counters(name) == counted
      :ok = Fuse.install(name, @options)
      assert Stats.counters(name) == [ok: 0, blown: 0, melt: 0]
    end

    test "are told to a plugin as well", %{namespace: namespace} do
      name = {namespace, {:told, self()}}
      Application.put_env(:elixir_scope, :fuse, stats_plugin: Plugin)
      on_exit(fn -> Application.delete_env(:elixir_scope, :fuse) end)

      :ok = Fuse.install(name, @options)
      Fuse.ask(name, :sync)
      Fuse.run(name, fn -> {:melt, 1} end, :sync)
      Fuse.run(name, fn -> {:ok, 1} end, :sync)
      melt(name, 1)
      catch_throw(Fuse.reset(name) && Fuse.run(name, fn -> throw(:no) end, :sync))
      :ok = Fuse.install(name, @options)
      assert told(name) == [:init, :ok, :ok, :melt, :blown, :melt, :ok, :melt]
    end
  end

  defp change(name, sequence, to) do
    change = %{kind: :generation, sequence: sequence, to: to}
    send(Server, {:escope_breaker_event, id(name), change})
  end

  defp waits?(server) do
    {:message_queue_len, length} = Process.info(Process.whereis(server), :message_queue_len)
    length > 0
  end

  defp samples(name, times) do
    for _ <- 1..times do
      :ok = Monitor.sample()
      alarm?(name)
    end
  end

  defp alarm?(name), do: {name, :fuse_blown} in :alarm_handler.get_alarms()

  # With a monitor of this configuration.
  defp configured(config, check) do
    restart(config)
    check.()
  after
    restart([])
  end

  defp restart(config) do
    Application.put_env(:elixir_scope, :fuse, config)
    :ok = Supervisor.terminate_child(Fuse.Supervisor, Monitor)
    {:ok, _pid_or_undefined} = Supervisor.restart_child(Fuse.Supervisor, Monitor)
    Application.delete_env(:elixir_scope, :fuse)
  end

  defp eventually(check, left \\ 2_000) do
    check.() or (left > 0 and (Process.sleep(1) == :ok and eventually(check, left - 1)))
  end

  defp told(name) do
    receive do
      {:plugin, ^name, what} -> [what | told(name)]
    after
      0 -> []
    end
  end
end
