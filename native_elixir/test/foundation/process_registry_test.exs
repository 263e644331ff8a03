defmodule ElixirScope.Foundation.ProcessRegistryTest do
  use ExUnit.Case, async: true
  doctest ElixirScope.Foundation.ProcessRegistry

  alias ElixirScope.Foundation.ProcessRegistry
  alias ElixirScope.Foundation.Services.{ConfigServer, EventStore, TelemetryService}

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreaker,
    CircuitBreakerRegistry,
    TokenBucketLimiter
  }

  setup do
    reference = make_ref()
    on_exit(fn -> ProcessRegistry.cleanup_test_namespace(reference) end)
    %{reference: reference, namespace: {:test, reference}}
  end

  defp idle, do: spawn(fn -> Process.sleep(:infinity) end)

  test "1 child_spec: the registry, unique, as many partitions as schedulers" do
    for arg <- [[], nil, :anything] do
      assert ProcessRegistry.child_spec(arg) == %{
               id: Registry,
               start:
                 {Registry, :start_link,
                  [
                    [
                      keys: :unique,
                      name: ProcessRegistry,
                      partitions: System.schedulers_online()
                    ]
                  ]},
               type: :supervisor,
               restart: :permanent,
               shutdown: :infinity
             }
    end
  end

  test "1 service child specs: the module as id, permanent, and the via tuple as the only name" do
    for {service, name} <- [
          {ConfigServer, :config_server},
          {EventStore, :event_store},
          {TelemetryService, :telemetry_service}
        ] do
      spec = service.child_spec(namespace: :production)
      assert %{id: ^service, start: {^service, :start_link, [[namespace: :production]]}} = spec
      assert Map.get(spec, :restart, :permanent) == :permanent
      assert Map.get(spec, :type, :worker) == :worker

      {:ok, pid} = ProcessRegistry.lookup(:production, name)
      assert {:error, {:already_started, ^pid}} = service.start_link()
      assert {:error, {:already_started, ^pid}} = service.start_link([])
      assert GenServer.whereis(service) == nil
      assert Process.info(pid, :registered_name) == {:registered_name, []}
    end
  end

  test "1 via_tuple, lookup: the registry goes first, then the public table of what was registered",
       %{
         namespace: namespace
       } do
    via = ProcessRegistry.via_tuple(namespace, :worker)
    assert via == {:via, Registry, {ProcessRegistry, {namespace, :worker}}}
    assert ProcessRegistry.lookup(namespace, :worker) == :error

    registered = idle()
    :ok = ProcessRegistry.register(namespace, :worker, registered)
    assert :ets.info(:process_registry_backup, :protection) == :public

    assert :ets.lookup(:process_registry_backup, {namespace, :worker}) == [
             {{namespace, :worker}, registered}
           ]

    assert ProcessRegistry.lookup(namespace, :worker) == {:ok, registered}
    {:ok, agent} = Agent.start_link(fn -> 1 end, name: via)
    assert ProcessRegistry.lookup(namespace, :worker) == {:ok, agent}
    assert ProcessRegistry.get_all_services(namespace) == %{worker: agent}
    assert ProcessRegistry.register(namespace, :worker, agent) == :ok
    Agent.stop(agent)
    assert ProcessRegistry.lookup(namespace, :worker) == {:ok, registered}
  end

  test "1 unregister, list_services, get_all_services, registered?, count_services: of nobody", %{
    namespace: namespace
  } do
    assert ProcessRegistry.unregister(namespace, :nobody) == :ok
    assert ProcessRegistry.list_services(namespace) == []
    assert ProcessRegistry.get_all_services(namespace) == %{}
    assert ProcessRegistry.registered?(namespace, :nobody) == false
    assert ProcessRegistry.count_services(namespace) == 0
  end

  test "1 cleanup_test_namespace: what registered itself by its via tuple goes on", %{
    reference: reference,
    namespace: namespace
  } do
    via = ProcessRegistry.via_tuple(namespace, :agent)
    {:ok, agent} = Agent.start_link(fn -> 1 end, name: via)
    worker = idle()
    :ok = ProcessRegistry.register(namespace, :worker, worker)
    assert ProcessRegistry.cleanup_test_namespace(reference) == :ok
    refute Process.alive?(worker)
    assert Agent.get(via, & &1) == 1
    assert ProcessRegistry.get_all_services(namespace) == %{agent: agent}
  end

  test "registers any process, once", %{namespace: namespace} do
    {one, other} = {idle(), idle()}
    assert :ok = ProcessRegistry.register(namespace, :worker, one)
    assert :ok = ProcessRegistry.register(namespace, :worker, one)

    assert {:error, {:already_registered, ^one}} =
             ProcessRegistry.register(namespace, :worker, other)

    assert {:ok, ^one} = ProcessRegistry.lookup(namespace, :worker)
    assert_raise FunctionClauseError, fn -> ProcessRegistry.register(namespace, :worker, :me) end
  end

  test "the dead are absent and give way", %{namespace: namespace} do
    {one, other} = {idle(), idle()}
    :ok = ProcessRegistry.register(namespace, :worker, one)
    monitor = Process.monitor(one)
    Process.exit(one, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^one, :killed}
    assert ProcessRegistry.lookup(namespace, :worker) == :error
    assert ProcessRegistry.list_services(namespace) == []
    assert :ok = ProcessRegistry.register(namespace, :worker, other)
    assert {:ok, ^other} = ProcessRegistry.lookup(namespace, :worker)
  end

  test "one of many claimants wins", %{namespace: namespace} do
    pids = for _ <- 1..20, do: idle()

    results =
      pids
      |> Enum.map(&Task.async(fn -> ProcessRegistry.register(namespace, :contended, &1) end))
      |> Task.await_many()

    assert Enum.count(results, &(&1 == :ok)) == 1
    {:ok, winner} = ProcessRegistry.lookup(namespace, :contended)
    assert Enum.count(results, &(&1 == {:error, {:already_registered, winner}})) == 19
  end

  test "via names and registered ones are one list", %{namespace: namespace} do
    {:ok, agent} =
      Agent.start_link(fn -> 1 end, name: ProcessRegistry.via_tuple(namespace, :agent))

    pid = idle()
    :ok = ProcessRegistry.register(namespace, :worker, pid)

    assert ProcessRegistry.get_all_services(namespace) == %{agent: agent, worker: pid}
    assert Enum.sort(ProcessRegistry.list_services(namespace)) == [:agent, :worker]
    assert ProcessRegistry.count_services(namespace) == 2
    assert ProcessRegistry.registered?(namespace, :agent)

    assert {:error, {:already_registered, ^agent}} =
             ProcessRegistry.register(namespace, :agent, pid)

    assert :ok = ProcessRegistry.unregister(namespace, :worker)
    assert :ok = ProcessRegistry.unregister(namespace, :worker)
    refute ProcessRegistry.registered?(namespace, :worker)
    assert Agent.get(ProcessRegistry.via_tuple(namespace, :agent), & &1) == 1
  end

  test "namespaces are apart", %{namespace: namespace} do
    :ok = ProcessRegistry.register(namespace, :worker, idle())
    assert ProcessRegistry.lookup({:test, make_ref()}, :worker) == :error
    assert ProcessRegistry.lookup(:production, :worker) == :error
  end

  test "1 stats: integers, and a map of the table", %{namespace: namespace} do
    :ok = ProcessRegistry.register(namespace, :worker, idle())
    {table, stats} = Map.pop!(ProcessRegistry.stats(), :ets_table_info)

    assert stats |> Map.keys() |> Enum.sort() ==
             ~w(memory_usage_bytes partition_count partitions production_services test_namespaces total_services)a

    for {_name, value} <- stats, do: assert(is_integer(value))
    assert stats.production_services >= 3
    assert stats.total_services > stats.production_services
    assert stats.test_namespaces >= 1

    assert {stats.partitions, stats.partition_count} ==
             {System.schedulers_online(), System.schedulers_online()}

    assert stats.memory_usage_bytes > 0
    assert %{size: size} = table
    assert size >= 1
  end

  test "cleaning a namespace ends what it had, and nothing else", %{
    reference: reference,
    namespace: namespace
  } do
    other = {:test, make_ref()}
    survivor = idle()
    :ok = ProcessRegistry.register(other, :worker, survivor)

    stubborn =
      spawn(fn ->
        Process.flag(:trap_exit, true)
        Process.sleep(:infinity)
      end)

    victims = [idle(), stubborn]

    for {pid, name} <- Enum.zip(victims, [:soft, :stubborn]),
        do: ProcessRegistry.register(namespace, name, pid)

    CircuitBreaker.execute(namespace, :search, fn -> 1 end)
    TokenBucketLimiter.check_rate_limit(:key, 1, 1_000, namespace: namespace)

    assert :ok = ProcessRegistry.cleanup_test_namespace(reference)

    assert Enum.map(victims, &Process.alive?/1) == [false, false]
    assert ProcessRegistry.count_services(namespace) == 0
    assert CircuitBreakerRegistry.list(namespace) == []
    assert :ok = TokenBucketLimiter.check_rate_limit(:key, 1, 1_000, namespace: namespace)
    assert Process.alive?(survivor)
    assert {:ok, ^survivor} = ProcessRegistry.lookup(other, :worker)
  end
end
