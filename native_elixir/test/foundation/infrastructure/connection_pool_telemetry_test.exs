defmodule ElixirScope.Foundation.Infrastructure.ConnectionPoolTelemetryTest do
  # Not async: one process at a time gets the events.
  use ElixirScope.Foundation.PoolCase

  @prefix [:elixir_scope, :foundation, :infra, :connection_pool]

  setup do
    ElixirScope.Foundation.TelemetryLog.attach()
  end

  defp assert_event(name, metadata) do
    event = @prefix ++ [name]
    assert_receive {:telemetry, ^event, %{count: 1} = measured, found}, 1_000
    assert Map.take(found, Map.keys(metadata)) == metadata
    measured
  end

  test "check-outs and check-ins are told with their times, all, some or none" do
    use_all = fn pool ->
      {:ok, agent} = ConnectionPool.checkout(pool)
      :ok = ConnectionPool.checkin(pool, agent)
      {:ok, lease} = ConnectionPool.checkout_lease(pool)
      :ok = ConnectionPool.checkin(pool, lease)
      {:ok, _} = ConnectionPool.with_connection(pool, & &1)
      catch_throw(ConnectionPool.with_connection(pool, fn _ -> throw(:ball) end))
    end

    pool = start_pool(telemetry: 1)
    use_all.(pool)

    for {name, time} <- [checkout: :queue_time, checkin: :use_time], _ <- 1..4 do
      event = @prefix ++ [name]
      assert_received {:telemetry, ^event, %{count: 1, connection_age: age} = measured, found}
      assert %{^time => spent} = measured
      assert is_integer(age) and age > 0 and is_integer(spent) and spent > 0
      assert found == %{pool: pool, slot: 0}
    end

    assert_settled(pool)

    pool = start_pool(telemetry: 0)
    use_all.(pool)
    event = @prefix ++ [:checkout]
    refute_received {:telemetry, ^event, _, _}

    :rand.seed(:exsss, {1, 2, 3})
    pool = start_pool(telemetry: 10)
    for _ <- 1..1_000, do: {:ok, _} = ConnectionPool.with_connection(pool, & &1)
    assert length(told(event)) in 50..150
    assert length(told(@prefix ++ [:checkin])) in 50..150
  end

  defp told(event) do
    receive do
      {:telemetry, ^event, _, %{pool: {_, :pool}}} -> [event | told(event)]
    after
      0 -> []
    end
  end

  test "a connection that is kept for too long is told once, with its holder" do
    {namespace, name} = pool = start_pool(leak_after: 1)
    {:ok, agent} = ConnectionPool.checkout(pool)

    assert_event(:connection_leaked, %{
      namespace: namespace,
      pool: name,
      slot: 0,
      holder: self()
    })

    Process.sleep(20)
    event = @prefix ++ [:connection_leaked]
    refute_received {:telemetry, ^event, _, %{pool: ^name, namespace: ^namespace}}
    :ok = ConnectionPool.checkin(pool, agent)
    assert %{leaks: 1} = assert_settled(pool)
  end

  test "a pool tells what becomes of its connections, and which calls it refused" do
    attempts = :counters.new(1, [])

    create = fn ->
      :counters.add(attempts, 1, 1)

      if :counters.get(attempts, 1) == 1,
        do: {:error, :refused},
        else: Agent.start_link(fn -> 0 end)
    end

    {namespace, name} = pool = start_pool(create: create, retry_after: 1, max_waiters: 1)
    place = %{namespace: namespace, pool: name, slot: 0}

    {:ok, agent} = ConnectionPool.checkout(pool)
    assert_event(:create_failed, Map.put(place, :reason, :refused))
    assert_event(:connection_created, place)

    {:error, _} = ConnectionPool.checkout(pool, 0)
    assert_event(:pool_exhausted, %{pool: pool, timeout: 0})
    {:error, _} = ConnectionPool.checkout(pool, 1)
    assert %{queue_time: time} = assert_event(:timeout, %{pool: pool, timeout: 1})
    # It has waited that long.
    assert time >= 1_000_000
    waiter = client()
    later(waiter, fn -> ConnectionPool.checkout(pool, :infinity) end)
    await(pool, &(&1.waiting == 1))
    {:error, _} = ConnectionPool.checkout(pool)
    assert_event(:queue_full, %{pool: pool, timeout: 5_000})
    kill(waiter)

    kill(agent)
    assert_event(:connection_down, Map.put(place, :reason, :killed))
    assert_event(:connection_closed, Map.put(place, :reason, :lost))
    :ok = ConnectionPool.close(pool)
    {:error, _} = ConnectionPool.checkout(pool)
    assert_event(:pool_closed, %{pool: pool})
    assert_settled(pool)
  end

  test "a pool tells why a connection goes, and which test it did not pass" do
    sick = :atomics.new(1, [])
    ping = fn _ -> if :atomics.get(sick, 1) == 0, do: :ok, else: {:error, :sick} end
    options = [ping: ping, health: :passive, pre_ping_after: 0, pre_ping_limit: 0]
    {namespace, name} = pool = start_pool(options)
    place = %{namespace: namespace, pool: name, slot: 0}

    {:ok, agent} = ConnectionPool.checkout(pool)
    :ok = ConnectionPool.checkin(pool, agent, :broken)
    assert_event(:connection_closed, Map.put(place, :reason, :broken))

    {:ok, agent} = ConnectionPool.checkout(pool)
    :atomics.put(sick, 1, 1)
    :ok = ConnectionPool.checkin(pool, agent)
    assert_event(:check_failed, Map.put(place, :kind, :returned))
    assert_event(:connection_closed, Map.put(place, :reason, :check_failed))

    :atomics.put(sick, 1, 0)
    {:ok, agent} = ConnectionPool.checkout(pool)
    :ok = ConnectionPool.checkin(pool, agent)
    await(pool, &(&1.idle == 1))
    :atomics.put(sick, 1, 1)
    # A new connection needs no test.
    assert {:ok, other} = ConnectionPool.checkout(pool)
    refute other == agent
    assert_event(:check_failed, Map.put(place, :kind, :pre_ping))
    assert_event(:connection_closed, Map.put(place, :reason, :broken))
    :atomics.put(sick, 1, 0)
    :ok = ConnectionPool.checkin(pool, other)
    await(pool, &(&1.idle == 1))
    :ok = ConnectionPool.close(pool)
    assert_event(:connection_closed, Map.put(place, :reason, :pool_closed))
    assert_settled(pool)
  end
end
