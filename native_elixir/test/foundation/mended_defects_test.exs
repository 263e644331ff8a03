defmodule ElixirScope.Foundation.MendedDefectsTest do
  # What section 10 of the facts keeps and mends, beside what the tests of each service say of it.
  use ElixirScope.Foundation.FoundationCase, async: false

  alias ElixirScope.Foundation
  alias ElixirScope.Foundation.Logic.ConfigLogic

  @path [:dev, :debug_mode]

  setup do
    fresh_production()
    %{namespace: start_namespace()}
  end

  test "10 keep: no service is registered under its module's name", %{namespace: namespace} do
    for module <- [ConfigServer, EventStore, TelemetryService],
        do: assert(Process.whereis(module) == nil)

    assert length(ProcessRegistry.list_services(namespace)) == 3
  end

  test "10 keep: events are timed by monotonic milliseconds, also those of the services", %{
    namespace: namespace
  } do
    before = System.monotonic_time(:millisecond)
    :ok = ConfigServer.update(namespace, @path, true)
    {:ok, [audit]} = EventStore.query(namespace, %{event_type: :config_updated})
    assert audit.timestamp in before..System.monotonic_time(:millisecond)
  end

  test "10 fix: available? says what is so" do
    for module <- [Config, Events, Telemetry, Foundation], do: assert(module.available?())
    terminate(:production, :event_store, EventStore)
    refute Events.available?()
    refute Foundation.available?()
    assert Config.available?()
  end

  test "10 fix: what is no event is refused, and the store lives", %{namespace: namespace} do
    {:ok, pid} = ProcessRegistry.lookup(namespace, :event_store)

    for none <- [%{}, nil, :event, [event_id: 1], %{event(1) | event_id: "1"}] do
      assert {:error, %Types.Error{code: 2002, error_type: :type_mismatch}} =
               EventStore.store(namespace, none)

      assert {:error, %Types.Error{code: 2002}} =
               EventStore.store_batch(namespace, [event(2), none])
    end

    assert {:ok, ^pid} = ProcessRegistry.lookup(namespace, :event_store)
    assert {:ok, %{event_count: 0}} = EventStore.status(namespace)
  end

  test "10 fix: an event store or a telemetry service that hangs delays no update", %{
    namespace: namespace
  } do
    {:ok, config_server} = ProcessRegistry.lookup(namespace, :config_server)

    hanging =
      for name <- [:event_store, :telemetry_service] do
        {:ok, pid} = ProcessRegistry.lookup(namespace, name)
        :ok = :sys.suspend(pid)
        pid
      end

    assert :ok = ConfigServer.update(namespace, @path, true)
    assert {:ok, true} = ConfigServer.get(namespace, @path)
    for pid <- hanging, do: :ok = :sys.resume(pid)
    assert {:ok, [_event]} = EventStore.query(namespace, %{event_type: :config_updated})
    assert {:ok, %{foundation: %{config_updates: 1}}} = TelemetryService.get_metrics(namespace)
    assert {:ok, ^config_server} = ProcessRegistry.lookup(namespace, :config_server)
  end

  test "10 fix: what a test namespace does leaves no event or count in production", %{
    namespace: namespace
  } do
    :ok = ConfigServer.update(namespace, @path, true)
    {:ok, pid} = ProcessRegistry.lookup(namespace, :config_server)
    :ok = GenServer.call(pid, :reset_config)
    {:ok, 1} = EventStore.store(namespace, event(1))
    {:ok, %{foundation: own}} = TelemetryService.get_metrics(namespace)
    assert %{config_updates: 1, config_resets: 1, events_stored: 3} = own
    assert {:ok, []} = EventStore.query(%{})
    {:ok, metrics} = TelemetryService.get_metrics()
    refute Map.has_key?(metrics, :foundation)
  end

  test "10 fix: variables of the system are read; cold storage stays invalid, and is named" do
    put_env(:ai, provider: {:system, "ELIXIR_SCOPE_NO_SUCH_PROVIDER"})
    assert {:ok, %{ai: %{provider: :mock}}} = ConfigLogic.build_config()
    System.put_env("ELIXIR_SCOPE_TEST_PROVIDER", "anthropic")
    on_exit(fn -> System.delete_env("ELIXIR_SCOPE_TEST_PROVIDER") end)
    put_env(:ai, provider: {:system, "ELIXIR_SCOPE_TEST_PROVIDER"})
    assert {:ok, %{ai: %{provider: :anthropic}}} = ConfigLogic.build_config()
    System.put_env("ELIXIR_SCOPE_TEST_PROVIDER", "nobody")
    assert {:error, %Types.Error{code: 1002}} = ConfigLogic.build_config()

    put_env(:ai, [])
    put_env(:storage, cold: [enable: true])
    assert {:error, %Types.Error{code: 1001, message: message}} = ConfigLogic.build_config()
    assert message =~ "storage.cold.enable"
  end
end
