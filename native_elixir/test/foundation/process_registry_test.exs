defmodule ElixirScope.Foundation.ProcessRegistryTest do
  use ExUnit.Case, async: true
  doctest ElixirScope.Foundation.ProcessRegistry

  alias ElixirScope.Foundation.ProcessRegistry

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

  test "stats", %{namespace: namespace} do
    :ok = ProcessRegistry.register(namespace, :worker, idle())
    stats = ProcessRegistry.stats()
    assert stats.total_services >= 1
    assert stats.test_namespaces >= 1
    assert stats.partitions == System.schedulers_online()
    assert stats.memory_usage_bytes > 0
    assert %{size: size} = stats.ets_table_info
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
