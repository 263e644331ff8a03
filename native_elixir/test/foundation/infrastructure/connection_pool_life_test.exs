defmodule ElixirScope.Foundation.Infrastructure.ConnectionPoolLifeTest do
  # What becomes of connections besides being lent: made ahead, tested, aged, evicted, reset, left behind.
  use ElixirScope.Foundation.PoolCase, async: true

  alias ElixirScope.Foundation.Infrastructure.ManualClock

  defmodule Tested do
    @behaviour ElixirScope.Foundation.Infrastructure.Connection

    @impl true
    def connect(test), do: Agent.start_link(fn -> %{test: test, healthy: true} end)

    @impl true
    def disconnect(agent, reason) do
      send(Agent.get(agent, & &1.test), {:disconnected, agent, reason})
      Agent.stop(agent)
    end

    @impl true
    def ping(agent), do: if(Agent.get(agent, & &1.healthy), do: :ok, else: {:error, :sick})
  end

  defmodule Term do
    @behaviour ElixirScope.Foundation.Infrastructure.Connection

    @impl true
    def connect(test), do: {:ok, {:term, test, make_ref()}}

    @impl true
    def disconnect({:term, test, _} = term, reason), do: send(test, {:disconnected, term, reason})
  end

  defmodule Resetting do
    @behaviour ElixirScope.Foundation.Infrastructure.Connection

    @impl true
    def connect(test), do: {:ok, {:resetting, test, make_ref()}}

    @impl true
    def disconnect(_connection, _reason), do: :ok

    @impl true
    def reset({:resetting, test, _} = connection) do
      send(test, {:reset, connection, self()})

      receive do
        {:answer, answer} -> answer
      after
        0 -> :ok
      end
    end
  end

  defp start(worker, options) do
    namespace = Keyword.get(options, :namespace, {:test, make_ref()})

    defaults = [
      name: :pool,
      namespace: namespace,
      worker: {worker, self()},
      size: 1,
      max_overflow: 0
    ]

    start_supervised!({ConnectionPool, Keyword.merge(defaults, options)}, id: namespace)
    {namespace, :pool}
  end

  test "p18 a connection that fails its test on return is closed, and another made" do
    pool = start(Tested, health: :passive)
    {:ok, first} = ConnectionPool.checkout(pool)
    :ok = ConnectionPool.checkin(pool, first)
    assert {:ok, ^first} = ConnectionPool.checkout(pool)
    Agent.update(first, &%{&1 | healthy: false})
    :ok = ConnectionPool.checkin(pool, first)
    assert_receive {:disconnected, ^first, :closed}, 2_000
    assert {:ok, second} = ConnectionPool.checkout(pool)
    refute second == first
    :ok = ConnectionPool.checkin(pool, second)
    assert_settled(pool)
  end

  test "p18 active checks find an idle connection that is sick" do
    pool = start(Tested, health: :active, health_interval: 5, min_idle: 1)
    await(pool, &(&1.idle == 1))
    {:ok, sick} = ConnectionPool.checkout(pool)
    Agent.update(sick, &%{&1 | healthy: false})
    :ok = ConnectionPool.checkin(pool, sick)
    assert_receive {:disconnected, ^sick, :closed}, 2_000
    await(pool, &(&1.idle == 1 and &1.created == 2))
  end

  test "p18 a test that hangs has failed" do
    pool = start(Tested, health: :passive, check_limit: 20)
    {:ok, agent} = ConnectionPool.checkout(pool)
    :ok = :sys.suspend(agent)
    :ok = ConnectionPool.checkin(pool, agent)
    await(pool, &(&1.checking == 0 and &1.idle == 0))
    :ok = :sys.resume(agent)
    assert {:ok, another} = ConnectionPool.checkout(pool)
    refute another == agent
  end

  test "waits that have become too long are shed" do
    pool = start(Tested, min_idle: 1, queue_target: 1, queue_interval: 1)
    await(pool, &(&1.idle == 1))
    {:ok, agent} = ConnectionPool.checkout(pool)
    assert {:error, %{error_type: :shed}} = ConnectionPool.checkout(pool, 60_000)
    :ok = ConnectionPool.checkin(pool, agent)
    assert {:ok, ^agent} = ConnectionPool.checkout(pool)
    :ok = ConnectionPool.checkin(pool, agent)
    assert %{shed: 1} = assert_settled(pool)
  end

  test "connections are made ahead of demand" do
    pool = start(Tested, size: 3, min_idle: 2)
    await(pool, &(&1.idle == 2))
    {:ok, _} = ConnectionPool.checkout(pool)
    await(pool, &(&1.idle == 2 and &1.in_use == 1))
  end

  test "p15 round robin and least used" do
    for {strategy, expected} <- [round_robin: [0, 1, 2, 0], least_used: [0, 1, 2, 0]] do
      pool = start(Term, size: 3, strategy: strategy)
      held = for _ <- 1..3, do: elem(ConnectionPool.checkout(pool), 1)
      for c <- held, do: :ok = ConnectionPool.checkin(pool, c)

      order =
        for _ <- 1..4 do
          {:ok, c} = ConnectionPool.checkout(pool)
          :ok = ConnectionPool.checkin(pool, c)
          Enum.find_index(held, &(&1 == c))
        end

      assert order == expected, "#{strategy}: #{inspect(order)}"
    end
  end

  test "p21 a connection is not lent at the end of its life" do
    namespace = {:test, make_ref()}
    :ok = ManualClock.install(namespace)
    pool = start(Term, namespace: namespace, max_lifetime: 1_000)
    {:ok, first} = ConnectionPool.checkout(pool)
    :ok = ConnectionPool.checkin(pool, first)
    :ok = ManualClock.advance(namespace, 999)
    assert {:ok, ^first} = ConnectionPool.checkout(pool)
    :ok = ConnectionPool.checkin(pool, first)
    :ok = ManualClock.advance(namespace, 1)
    assert {:ok, second} = ConnectionPool.checkout(pool)
    refute second == first
  end

  test "p22 after an evict nobody gets an old connection" do
    pool = start(Term, size: 2)
    {:ok, held} = ConnectionPool.checkout(pool)
    {:ok, idle} = ConnectionPool.checkout(pool)
    :ok = ConnectionPool.checkin(pool, idle)
    assert :ok = ConnectionPool.evict(pool)
    assert_receive {:disconnected, ^idle, :closed}, 2_000
    refute_received {:disconnected, ^held, _}
    :ok = ConnectionPool.checkin(pool, held)
    assert_receive {:disconnected, ^held, :closed}, 2_000
    assert {:ok, new} = ConnectionPool.checkout(pool)
    refute new in [held, idle]
    assert {:error, %Error{error_type: :pool_not_found}} = ConnectionPool.evict(:nowhere)
  end

  test "p23 a larger pool serves its waiter at once, a smaller one closes what comes back" do
    pool = start(Term, max_slots: 3)
    {:ok, first} = ConnectionPool.checkout(pool)
    waiter = client()
    answer = later(waiter, fn -> ConnectionPool.checkout(pool, :infinity) end)
    await(pool, &(&1.waiting == 1))
    assert :ok = ConnectionPool.resize(pool, size: 2)
    assert_receive {^answer, {:ok, second}}, 2_000
    assert %{size: 2, capacity: 2, in_use: 2} = stats(pool)
    assert :ok = ConnectionPool.resize(pool, size: 1)
    :ok = ConnectionPool.checkin(pool, first)
    assert_receive {:disconnected, ^first, :closed}, 2_000
    :ok = run(waiter, fn -> ConnectionPool.checkin(pool, second) end)
    assert %{idle: 1} = assert_settled(pool)

    for {sizes, argument} <- [
          {[size: 4], "size"},
          {[size: -1], :size},
          {[count: 1], :option},
          {:large, :options}
        ] do
      assert {:error, %Error{context: %{argument: ^argument}}} =
               ConnectionPool.resize(pool, sizes)
    end
  end

  test "p24 a drain waits for what is held, and says what did not come back" do
    pool = start(Term, size: 2)
    {:ok, held} = ConnectionPool.checkout(pool)

    assert {:error, %Error{error_type: :pool_timeout, context: %{left: 1}}} =
             ConnectionPool.drain(pool, 10)

    assert {:error, %Error{error_type: :pool_closed}} = ConnectionPool.checkout(pool)
    drain = Task.async(fn -> ConnectionPool.drain(pool) end)
    :ok = ConnectionPool.checkin(pool, held)
    assert Task.await(drain) == :ok
    assert {:error, %Error{context: %{argument: :timeout}}} = ConnectionPool.drain(pool, -1)
  end

  describe "reset" do
    test "is run by whoever gives the connection back, and closes what it cannot clean" do
      pool = start(Resetting, [])
      me = self()
      {:ok, first} = ConnectionPool.checkout(pool)
      assert :ok = ConnectionPool.checkin(pool, first)
      assert_received {:reset, ^first, ^me}
      assert {:ok, ^first} = ConnectionPool.with_connection(pool, & &1)
      assert_received {:reset, ^first, ^me}
      send(self(), {:answer, {:error, :dirty}})
      assert {:ok, ^first} = ConnectionPool.with_connection(pool, & &1)
      assert {:ok, second} = ConnectionPool.checkout(pool)
      refute second == first
      assert :ok = ConnectionPool.checkin(pool, second)
      assert %{broken: 1} = assert_settled(pool)
    end

    test "never touches a connection that another process holds" do
      pool = start(Resetting, [])
      {:ok, connection} = ConnectionPool.checkout(pool)
      :ok = ConnectionPool.checkin(pool, connection)
      assert_received {:reset, ^connection, _}
      client = client()
      {:ok, ^connection} = run(client, fn -> ConnectionPool.checkout(pool) end)
      assert {:error, %Error{error_type: :stale_lease}} = ConnectionPool.checkin(pool, connection)
      refute_received {:reset, _, _}
      :ok = run(client, fn -> ConnectionPool.checkin(pool, connection) end)
      # A lease that travelled is closed.
      {:ok, lease} = ConnectionPool.checkout_lease(pool)
      assert :ok = ConnectionPool.checkin(pool, lease)
      assert %{broken: 1} = assert_settled(pool)
    end
  end

  test "a pool whose process crashes comes back empty: what it had is closed, once, and old leases are stale" do
    pool = start(Term, size: 2)
    {:ok, held} = ConnectionPool.checkout(pool)
    {:ok, idle} = ConnectionPool.checkout(pool)
    :ok = ConnectionPool.checkin(pool, idle)
    {_, server, _, _} = ConnectionPool.Directory.fetch(pool)
    assert {_, ^server, _, _} = ConnectionPool.Directory.fetch(server)
    kill(server)
    assert_receive {:disconnected, ^held, :pool_down}, 2_000
    assert_receive {:disconnected, ^idle, :pool_down}, 2_000

    {:ok, new} = eventually(fn -> ConnectionPool.checkout(pool) end)
    refute new in [held, idle]
    assert {:error, %Error{error_type: :stale_lease}} = ConnectionPool.checkin(pool, held)
    :ok = ConnectionPool.checkin(pool, new)
    assert_settled(pool)
    refute_received {:disconnected, ^held, _}
    assert ConnectionPool.Directory.fetch(server) == nil
  end

  defp eventually(fun, tries \\ 1_000) do
    case fun.() do
      {:ok, _} = good -> good
      bad when tries == 0 -> bad
      _ -> Process.sleep(1) && eventually(fun, tries - 1)
    end
  end

  test "stats/1 has a dashboard's names" do
    pool = start(Term, size: 2)
    for _ <- 1..10, do: {:ok, _} = ConnectionPool.with_connection(pool, & &1)

    assert {:ok,
            %{size: 2, available: 1, checked_out: 0, total_checkouts: 10, total_checkins: 10} = s} =
             ConnectionPool.stats(pool)

    assert s.connections_created == 1 and s.reuse == 0.9
  end
end
