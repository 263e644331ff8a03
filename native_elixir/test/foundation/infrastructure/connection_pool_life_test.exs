defmodule ElixirScope.Foundation.Infrastructure.ConnectionPoolLifeTest do
  # What becomes of connections besides being lent: made ahead, aged, evicted, left behind. Tests and resets are in
  # `ConnectionPoolChecksTest`.
  use ElixirScope.Foundation.PoolCase, async: true

  alias ElixirScope.Foundation.Infrastructure.ManualClock

  defmodule Term do
    @behaviour ElixirScope.Foundation.Infrastructure.Connection

    @impl true
    def connect(test), do: {:ok, {:term, test, make_ref()}}

    @impl true
    def disconnect({:term, test, _} = term, reason), do: send(test, {:disconnected, term, reason})
  end

  defp start(worker, options), do: start_pool([worker: {worker, self()}] ++ options)

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
          {[size: 4], :size},
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
    drains = for timeout <- [5_000, :infinity], do: drain(pool, timeout)
    await_drains(pool, 2)
    :ok = ConnectionPool.checkin(pool, held)
    assert Task.await_many(drains) == [:ok, :ok]
    await_drains(pool, 0)
    assert :ok = ConnectionPool.drain(pool, 0)
    assert {:error, %Error{context: %{argument: :timeout}}} = ConnectionPool.drain(pool, -1)
    assert %{phase: :closed} = assert_settled(pool)
  end

  test "p24 a drain serves those who wait, until its time is over" do
    pool = start(Term, [])
    {:ok, held} = ConnectionPool.checkout(pool)
    [first, second] = [client(), client()]
    first_answer = later(first, fn -> ConnectionPool.checkout(pool, :infinity) end)
    await(pool, &(&1.waiting == 1))
    second_answer = later(second, fn -> ConnectionPool.checkout(pool, :infinity) end)
    await(pool, &(&1.waiting == 2))
    drain = drain(pool, :infinity)
    await_drains(pool, 1)
    assert %{phase: :draining} = stats(pool)
    :ok = ConnectionPool.checkin(pool, held)
    assert_receive {^first_answer, {:ok, ^held}}, 2_000

    # Another one, whose time is over.
    assert {:error, %Error{context: %{left: 1}}} = ConnectionPool.drain(pool, 1)
    assert_receive {^second_answer, {:error, %Error{error_type: :pool_closed}}}, 2_000
    :ok = run(first, fn -> ConnectionPool.checkin(pool, held) end)
    assert :ok = Task.await(drain)
  end

  test "p24 who drains a pool that is stopped is told when that is done" do
    pool = start(Term, drain: 0)
    {:ok, held} = ConnectionPool.checkout(pool)
    drain = drain(pool, :infinity)
    await_drains(pool, 1)
    stop_supervised!(elem(pool, 0))
    assert_received {:disconnected, ^held, :shutdown}
    assert :ok = Task.await(drain)
    assert {:error, %Error{error_type: :pool_not_found}} = ConnectionPool.drain(pool)
  end

  test "p24 a close ends what is still held when its time is over" do
    namespace = {:test, make_ref()}
    :ok = ManualClock.install(namespace)
    pool = start(Term, namespace: namespace)
    {:ok, held} = ConnectionPool.checkout(pool)
    assert :ok = ConnectionPool.close(pool, 1_000)
    :ok = ManualClock.advance(namespace, 999)
    :ok = ConnectionPool.maintain(pool)
    assert %{in_use: 1, phase: :draining} = stats(pool)
    :ok = ManualClock.advance(namespace, 1)
    :ok = ConnectionPool.maintain(pool)
    assert_receive {:disconnected, ^held, :closed}, 2_000
    assert {:error, %Error{error_type: :stale_lease}} = ConnectionPool.checkin(pool, held)
    assert %{reclaimed: 1, phase: :closed} = assert_settled(pool)
    assert {:error, %Error{context: %{argument: :within}}} = ConnectionPool.close(pool, -1)
  end

  defp drain(pool, timeout), do: Task.async(fn -> ConnectionPool.drain(pool, timeout) end)

  # That they wait in the pool's process, for its answer.
  defp await_drains(pool, number) do
    {_, server, _, _} = ConnectionPool.Directory.fetch(pool)
    await(pool, fn _ -> length(:sys.get_state(server).drains) == number end)
  end

  test "p22 connections are replaced over a time" do
    namespace = {:test, make_ref()}
    :ok = ManualClock.install(namespace)
    pool = start(Term, namespace: namespace, size: 8, min_idle: 8)
    await(pool, &(&1.idle == 8))
    assert :ok = ConnectionPool.evict(pool, 1_000)

    # Eight instants of a thousand milliseconds' nanoseconds, none of them at once but by a chance of one in a million.
    assert %{destroyed: 0} = stats(pool)
    :ok = ManualClock.advance(namespace, 1_000)
    :ok = ConnectionPool.maintain(pool)
    await(pool, &(&1.destroyed == 8 and &1.idle == 8))
    assert {:error, %Error{context: %{argument: :within}}} = ConnectionPool.evict(pool, -1)
  end

  test "on a manual clock a pool does what is due when it is told to" do
    namespace = {:test, make_ref()}
    :ok = ManualClock.install(namespace)
    pool = start(Term, namespace: namespace, idle_timeout: 1_000)
    {:ok, term} = ConnectionPool.checkout(pool)
    :ok = ConnectionPool.checkin(pool, term)
    :ok = ManualClock.advance(namespace, 999)
    assert :ok = ConnectionPool.maintain(pool)
    assert %{idle: 1, closing: 0, destroyed: 0} = stats(pool)
    :ok = ManualClock.advance(namespace, 1)
    assert :ok = ConnectionPool.maintain(pool)
    assert_receive {:disconnected, ^term, :closed}, 2_000
    assert {:error, %Error{error_type: :pool_not_found}} = ConnectionPool.maintain(:nowhere)
  end

  describe "p16 a connection that cannot be made" do
    test "fails the start of a pool that asks for it, and what was made is closed" do
      Process.flag(:trap_exit, true)
      test = self()
      made = :counters.new(1, [])

      create = fn ->
        :counters.add(made, 1, 1)
        if :counters.get(made, 1) == 3, do: {:error, :down}, else: {:ok, :counters.get(made, 1)}
      end

      options = [
        name: :pool,
        namespace: {:test, make_ref()},
        size: 3,
        min_idle: 3,
        max_creating: 1,
        create: create,
        close: &send(test, {:closed, &1})
      ]

      assert {:error, %Error{error_type: :create_failed, context: %{last_error: :down}}} =
               ConnectionPool.start_link([init_policy: :error] ++ options)

      assert_received {:closed, 1}
      assert_received {:closed, 2}
      pool = {options[:namespace], :pool}
      assert {:error, %Error{error_type: :pool_not_found}} = ConnectionPool.status(pool)

      # Now it can be made.
      assert {:ok, server} = ConnectionPool.start_link([init_policy: :error] ++ options)
      assert %{idle: 3} = stats(pool)
      ConnectionPool.stop(server)

      # By default the pool starts without.
      :counters.put(made, 1, 2)
      assert {:ok, server} = ConnectionPool.start_link([retry_after: 1] ++ options)
      await(pool, &(&1.idle == 3 and &1.create_errors == 1))
      ConnectionPool.stop(server)
    end

    test "leaves its waiter waiting, or fails it, as the pool is told" do
      for {policy, expected} <- [retry: :pool_timeout, fail_fast: :create_failed] do
        options = [create_failure: policy, retry_after: 60_000, retry_at_most: 60_000]
        pool = start_pool([create: fn -> {:error, :down} end] ++ options)
        timeout = if policy == :retry, do: 20, else: :infinity
        assert {:error, error} = ConnectionPool.checkout(pool, timeout)
        assert {error.error_type, error.context.last_error} == {expected, :down}
        assert_settled(pool)
      end
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
    assert %{health_checks_passed: 0, health_checks_failed: 0} = s
  end

  test "p25 times of use are summed up where they are asked for" do
    namespace = {:test, make_ref()}
    :ok = ManualClock.install(namespace)
    pool = start(Term, namespace: namespace, measure: true)
    {:ok, term} = ConnectionPool.checkout(pool)
    waiter = client()
    answer = later(waiter, fn -> ConnectionPool.checkout(pool, :infinity) end)
    await(pool, &(&1.waiting == 1))
    :ok = ManualClock.advance(namespace, 3)
    :ok = ConnectionPool.checkin(pool, term)
    assert_receive {^answer, {:ok, ^term}}, 2_000
    assert %{use_ns: 3_000_000, queue_ns: 3_000_000, longest_queue_ns: 3_000_000} = stats(pool)
  end
end
