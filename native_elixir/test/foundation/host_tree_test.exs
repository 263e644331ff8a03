defmodule ElixirScope.Foundation.HostTreeTest do
  # Section 1: the application of an ElixirScope that exists starts registry, services and tasks in a tree of its own. It
  # takes this one with `runtime: false`, so nothing of it runs beside.
  use ElixirScope.Foundation.FoundationCase

  import ExUnit.CaptureLog

  alias ElixirScope.Foundation
  alias ElixirScope.Foundation.{Infrastructure, TaskSupervisor}

  @services [:config_server, :event_store, :telemetry_service]

  setup do
    on_exit(fn ->
      # A host's tree ends without this application's own end, which forgets what lives outside of processes.
      :ok = Foundation.Application.stop(nil)
      {:ok, _started} = Application.ensure_all_started(:elixir_scope_foundation)
    end)

    capture_log(fn -> :ok = Foundation.shutdown() end)
    :ok
  end

  # In the order of section 1; what else the host wants comes after the registry.
  defp start_host(others \\ []) do
    children =
      [ProcessRegistry] ++
        others ++
        [
          {ConfigServer, [namespace: :production]},
          {EventStore, [namespace: :production]},
          {TelemetryService, [namespace: :production]},
          {Task.Supervisor, name: TaskSupervisor},
          TestSupervisor
        ]

    host = %{
      id: :host,
      type: :supervisor,
      start:
        {Supervisor, :start_link,
         [children, [strategy: :one_for_one, name: ElixirScope.Supervisor]]}
    }

    start_supervised!(host)
  end

  defp idle, do: spawn(fn -> Process.sleep(:infinity) end)

  test "1 ElixirScope.Application: its children are enough for all functions of phase 0" do
    start_host()
    assert Foundation.available?()
    assert Foundation.initialize() == :ok
    assert {:ok, %{status: :healthy}} = Foundation.health()
    assert Enum.sort(ProcessRegistry.list_services(:production)) == @services

    :ok = Config.subscribe()
    assert Config.update([:dev, :debug_mode], true) == :ok
    assert_received {:config_notification, {:config_updated, [:dev, :debug_mode], true}}
    assert {:ok, [%{event_type: :config_updated}]} = Events.query(%{})
    assert {:ok, %{foundation: %{config_updates: 1}}} = Telemetry.get_metrics()

    assert {:ok, pid} =
             ServiceRegistry.health_check(:production, :config_server,
               health_check: &Process.alive?/1
             )

    Process.exit(pid, :kill)

    eventually(fn ->
      match?({:ok, new} when new != pid, ProcessRegistry.lookup(:production, :config_server))
    end)

    assert {:ok, false} = Config.get([:dev, :debug_mode])
  end

  test "1 register: the table outlives who needed it first, and ends with the registry" do
    start_host()
    pid = idle()
    test = self()
    spawn(fn -> send(test, ProcessRegistry.register(:production, :worker, pid)) end)
    assert_receive :ok
    assert ProcessRegistry.lookup(:production, :worker) == {:ok, pid}
    assert Enum.sort(ProcessRegistry.list_services(:production)) == @services ++ [:worker]
    assert %{production_services: 4, ets_table_info: %{size: 1}} = ProcessRegistry.stats()
    assert ProcessRegistry.unregister(:production, :worker) == :ok
    assert ProcessRegistry.lookup(:production, :worker) == :error

    stop_supervised!(:host)
    eventually(fn -> :ets.whereis(:process_registry_backup) == :undefined end)
    assert ProcessRegistry.list_services(:production) == []
    assert :ets.whereis(:process_registry_backup) == :undefined
  end

  test "1 register: of several that need the table first one keeps it, and none is refused" do
    start_host()

    for round <- 1..50 do
      before = length(keepers())
      # As for a registry that nobody has asked yet.
      if round > 1, do: true = :ets.delete(:process_registry_backup)

      registering =
        for number <- 1..8 do
          Task.async(fn ->
            receive do:
                      (:go -> ProcessRegistry.register(:production, :"worker_#{number}", self()))
          end)
        end

      Enum.each(registering, &send(&1.pid, :go))
      assert {round, Task.await_many(registering)} == {round, List.duplicate(:ok, 8)}
      eventually(fn -> length(keepers()) == before + 1 end)
    end
  end

  defp keepers do
    for pid <- Process.list(),
        {ProcessRegistry, :keep_table, 1} == :proc_lib.translate_initial_call(pid),
        do: pid
  end

  test "1 test namespaces: started and cleaned up" do
    start_host()
    reference = make_ref()
    namespace = {:test, reference}

    assert {:ok, [_config, _events, _telemetry]} =
             TestSupervisor.start_isolated_services(reference)

    worker = idle()
    assert ProcessRegistry.register(namespace, :worker, worker) == :ok
    assert ProcessRegistry.count_services(namespace) == 4
    assert TestSupervisor.namespace_healthy?(reference)
    assert TestSupervisor.cleanup_namespace(reference) == :ok
    assert ProcessRegistry.count_services(namespace) == 0
    refute Process.alive?(worker)
  end

  test "1 new infrastructure children: after the registry and before the services, they are all that protection needs" do
    start_host()

    assert {:error, %{error_type: :service_unavailable}} =
             ConfigServer.get_protected(:production, [:ai])

    stop_supervised!(:host)

    start_host([Infrastructure.Supervisor])
    assert {:ok, :mock} = ConfigServer.get_protected(:production, [:ai, :provider])
    assert {:ok, 1} = EventStore.store_protected(:production, event(1))
    context = %{user_id: make_ref()}

    assert :ok =
             ConfigServer.update_config_protected(:production, [:dev, :debug_mode], true, context)

    assert {:ok, true} = ConfigServer.get_enhanced(:production, [:dev, :debug_mode])
  end
end
