defmodule ElixirScope.Foundation.Infrastructure.ConnectionPoolRulesTest do
  # The rules of the pool as they show on the BEAM: processes that are killed, messages that cross, timers that race.
  use ElixirScope.Foundation.PoolCase, async: true

  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.Directory
  alias ElixirScope.Foundation.Infrastructure.{Connection, ManualClock, Native}

  @stale {:error, :stale_lease}

  test "p02 no connection is ever held twice, whatever is killed and whatever times out" do
    :rand.seed(:exsss, {1, 2, 3})
    pool = start_pool(size: 2, max_overflow: 1, overflow_ttl: 1)
    held = :ets.new(:held, [:public])
    results = :counters.new(3, [])

    use_connection = fn ->
      case ConnectionPool.checkout(pool, :rand.uniform(4) - 1) do
        {:ok, agent} ->
          true = :ets.insert_new(held, {agent})
          if :rand.uniform(3) == 1, do: Process.sleep(1)
          true = :ets.delete(held, agent)
          condition = if :rand.uniform(10) == 1, do: :broken, else: :good
          :ok = ConnectionPool.checkin(pool, agent, condition)
          :counters.add(results, 1, 1)

        {:error, %Error{error_type: type}} when type in [:pool_timeout, :pool_exhausted] ->
          :counters.add(results, 2, 1)
      end
    end

    users =
      for _ <- 1..16 do
        Task.async(fn -> for _ <- 1..150, do: use_connection.() end)
      end

    # Beside them, processes that are killed wherever they are: waiting, holding, giving back.
    for _ <- 1..100 do
      victim =
        spawn(fn ->
          Stream.repeatedly(fn -> ConnectionPool.with_connection(pool, & &1) end) |> Stream.run()
        end)

      Process.sleep(:rand.uniform(2) - 1)
      kill(victim)
    end

    Task.await_many(users, 60_000)
    assert :counters.get(results, 1) + :counters.get(results, 2) == 16 * 150
    assert :counters.get(results, 1) > 0
    assert_settled(pool)
  end

  test "p03 a second and a foreign check-in change nothing" do
    pool = start_pool()
    other = client()
    {:ok, agent} = ConnectionPool.checkout(pool)
    :ok = ConnectionPool.checkin(pool, agent)

    # Held by somebody else now: neither the former holder nor a stranger can give it back.
    {:ok, ^agent} = run(other, fn -> ConnectionPool.checkout(pool) end)
    before = stats(pool)
    assert @stale == type(ConnectionPool.checkin(pool, agent))
    assert @stale == type(ConnectionPool.checkin(pool, self()))
    assert stats(pool) == before
    assert :ok = run(other, fn -> ConnectionPool.checkin(pool, agent) end)
    assert_settled(pool)
  end

  test "p04 nothing is left of ten thousand check-outs and a thousand processes" do
    pool = start_pool(size: 2)
    for _ <- 1..10_000, do: {:ok, _} = ConnectionPool.with_connection(pool, & &1)

    for _ <- 1..1_000 do
      {pid, monitor} = spawn_monitor(fn -> {:ok, _} = ConnectionPool.checkout(pool) end)
      assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}, 5_000
    end

    assert %{reclaimed: 1_000, requests: 11_000} = assert_settled(pool)
  end

  test "p05 a grant and a time-out that meet have one outcome" do
    pool = start_pool()

    outcomes =
      for round <- 1..400 do
        {:ok, agent} = ConnectionPool.checkout(pool)
        waiter = Task.async(fn -> waited(pool, ConnectionPool.checkout(pool, 1)) end)
        # The check-in falls before, into and after the waiter's last instant.
        spin(rem(round, 40) * 50)
        :ok = ConnectionPool.checkin(pool, agent)
        outcome = Task.await(waiter)
        assert await(pool, &(&1.idle == 1)).in_use == 0
        outcome
      end

    assert Enum.uniq(outcomes) -- [:granted, :timed_out] == []
    stats = assert_settled(pool)
    assert stats.timed_out == Enum.count(outcomes, &(&1 == :timed_out))
    assert Process.info(self(), :message_queue_len) == {:message_queue_len, 0}
  end

  describe "p06 a waiter is served without waiting for its time-out" do
    test "when the holder is killed" do
      pool = start_pool()
      holder = client()
      {:ok, agent} = run(holder, fn -> ConnectionPool.checkout(pool) end)
      waiter = waiter(pool, :infinity)
      await(pool, &(&1.waiting == 1))
      kill(holder)
      assert {:ok, other} = served(waiter)
      assert other != agent
      refute Process.alive?(agent)
      kill(elem(waiter, 0))
      assert_settled(pool)
    end

    test "when the connection comes back broken" do
      pool = start_pool()
      {:ok, agent} = ConnectionPool.checkout(pool)
      waiter = waiter(pool, :infinity)
      await(pool, &(&1.waiting == 1))
      :ok = ConnectionPool.checkin(pool, agent, :broken)
      assert {:ok, other} = served(waiter)
      assert other != agent
      kill(elem(waiter, 0))
      assert_settled(pool)
    end

    test "when the connection dies while it is held" do
      pool = start_pool()
      {:ok, agent} = ConnectionPool.checkout(pool)
      waiter = waiter(pool, :infinity)
      await(pool, &(&1.waiting == 1))
      kill(agent)
      assert {:ok, other} = served(waiter)
      assert other != agent
      assert @stale == type(ConnectionPool.checkin(pool, agent))
      kill(elem(waiter, 0))
      assert_settled(pool)
    end

    test "when the connection dies while it is idle" do
      pool = start_pool()
      {:ok, agent} = ConnectionPool.checkout(pool)
      :ok = ConnectionPool.checkin(pool, agent)
      kill(agent)
      await(pool, &(&1.idle == 0 and &1.closing == 0))
      assert {:ok, other} = ConnectionPool.checkout(pool, :infinity)
      assert other != agent
      :ok = ConnectionPool.checkin(pool, other)
      assert_settled(pool)
    end

    test "when a creation fails" do
      attempts = :counters.new(1, [])

      create = fn ->
        :counters.add(attempts, 1, 1)

        if :counters.get(attempts, 1) == 1,
          do: {:error, :refused},
          else: Agent.start_link(fn -> 0 end)
      end

      pool = start_pool(create: create, retry_after: 1)
      assert {:ok, agent} = ConnectionPool.checkout(pool, :infinity)
      :ok = ConnectionPool.checkin(pool, agent)
      assert_settled(pool)
    end
  end

  test "p07 a waiter that is killed leaves the queue" do
    pool = start_pool()
    {:ok, agent} = ConnectionPool.checkout(pool)
    waiters = for _ <- 1..20, do: waiter(pool, :infinity)
    await(pool, &(&1.waiting == 20))
    for {client, _} <- waiters, do: kill(client)
    assert %{waiting: 0, cancelled: 20} = await(pool, &(&1.waiting == 0))
    :ok = ConnectionPool.checkin(pool, agent)
    assert_settled(pool)
  end

  test "p07 waiters that are killed while they are granted leave nothing held" do
    pool = start_pool()

    for _ <- 1..200 do
      {:ok, agent} = ConnectionPool.checkout(pool)
      {client, _} = waiter(pool, :infinity)
      await(pool, &(&1.waiting == 1))
      Process.exit(client, :kill)
      :ok = ConnectionPool.checkin(pool, agent)
      await(pool, &(&1.waiting == 0 and &1.in_use == 0))
    end

    assert_settled(pool)
  end

  test "p08 zero does not wait, and a wait without limit has none" do
    pool = start_pool()
    {:ok, agent} = ConnectionPool.checkout(pool)
    assert {:error, :pool_exhausted} = type(ConnectionPool.checkout(pool, 0))
    assert {:error, :pool_timeout} = type(ConnectionPool.checkout(pool, 1))
    waiter = waiter(pool, :infinity)
    await(pool, &(&1.waiting == 1))
    :ok = ConnectionPool.checkin(pool, agent)
    assert {:ok, ^agent} = served(waiter)
    kill(elem(waiter, 0))
    assert_settled(pool)
  end

  test "p08 the pool's own time-out holds where the call gives none" do
    pool = start_pool(timeout: 1)
    {:ok, agent} = ConnectionPool.checkout(pool, :infinity)
    assert {:error, error} = ConnectionPool.checkout(pool)
    assert {error.error_type, error.context.timeout} == {:pool_timeout, 1}
    assert {:error, error} = ConnectionPool.with_connection(pool, & &1)
    assert error.context.timeout == 1
    :ok = ConnectionPool.checkin(pool, agent)
    assert_settled(pool)
  end

  # A scheduler must not be held up for all of them; what is left over is the pool process's next message.
  test "p07 five hundred waiters that are due at once are woken in several steps" do
    namespace = {:test, make_ref()}
    :ok = ManualClock.install(namespace)
    pool = {namespace, :pool}

    server =
      start_supervised!(
        {ConnectionPool,
         name: :pool, namespace: namespace, size: 1, max_overflow: 0, create: fn -> {:ok, 1} end}
      )

    {:ok, 1} = ConnectionPool.checkout(pool)
    waiters = for _ <- 1..500, do: waiter(pool, 60_000)
    await(pool, &(&1.waiting == 500))
    {handle, ^server, _, _} = Directory.fetch(pool)

    :ok = :sys.suspend(server)
    ManualClock.advance(namespace, 60_000)
    Native.pool_maintain(handle)
    assert Process.info(server, :messages) == {:messages, [{:escope_pool, :maintain}]}
    :ok = :sys.resume(server)
    for waiter <- waiters, do: assert({:error, :pool_timeout} = type(served(waiter)))
    assert :ok = ConnectionPool.checkin(pool, 1)
    assert %{timed_out: 500} = assert_settled(pool)
  end

  test "p09 waiters are served in the order of their arrival, under every strategy" do
    for strategy <- [:lifo, :fifo, :round_robin, :least_used] do
      pool = start_pool(strategy: strategy)
      {:ok, agent} = ConnectionPool.checkout(pool)

      waiters =
        for n <- 1..10 do
          waiter = waiter(pool, :infinity)
          await(pool, &(&1.waiting == n))
          waiter
        end

      # Nobody overtakes them: a call that does not wait gets nothing while they queue.
      assert {:error, :pool_exhausted} = type(ConnectionPool.checkout(pool, 0))
      :ok = ConnectionPool.checkin(pool, agent)

      for {client, _} = waiter <- waiters do
        assert {:ok, ^agent} = served(waiter)
        assert :ok = run(client, fn -> ConnectionPool.checkin(pool, agent) end)
      end

      assert_settled(pool)
    end
  end

  test "p10 a call that does not wait gets a connection that is made for it, or its failure" do
    pool = start_pool(size: 1)
    assert {:ok, agent} = ConnectionPool.checkout(pool, 0)
    assert {:error, :pool_exhausted} = type(ConnectionPool.checkout(pool, 0))
    :ok = ConnectionPool.checkin(pool, agent)
    assert_settled(pool)

    failing = start_pool(create: fn -> {:error, :refused} end)
    assert {:error, error} = ConnectionPool.checkout(failing, 0)
    assert {error.error_type, error.context.last_error} == {:create_failed, :refused}
    assert %{create_failed: 1} = assert_settled(failing)
  end

  test "p11 a full queue refuses at once" do
    pool = start_pool(max_waiters: 2)
    {:ok, agent} = ConnectionPool.checkout(pool)
    waiters = for _ <- 1..2, do: waiter(pool, :infinity)
    await(pool, &(&1.waiting == 2))
    assert {:error, :queue_full} = type(ConnectionPool.checkout(pool, :infinity))
    for {client, _} <- waiters, do: kill(client)
    :ok = ConnectionPool.checkin(pool, agent)
    assert %{queue_full: 1} = assert_settled(pool)
  end

  for wait <- [0, :infinity] do
    test "p11 a pool without waiters makes a connection for a later call, after a wait of #{wait}" do
      pool = start_pool(max_waiters: 0)
      assert {:error, :queue_full} = type(ConnectionPool.checkout(pool, unquote(wait)))
      await(pool, &(&1.idle == 1))
      assert {:ok, agent} = ConnectionPool.checkout(pool)
      assert {:error, :queue_full} = type(ConnectionPool.checkout(pool))
      :ok = ConnectionPool.checkin(pool, agent)
      assert %{created: 1} = assert_settled(pool)
    end
  end

  test "p12 a burst of twice the size succeeds, and the pool shrinks afterwards" do
    pool = start_pool(size: 5, max_overflow: 5, overflow_ttl: 20)

    1..10
    |> Enum.map(fn _ ->
      Task.async(fn -> ConnectionPool.with_connection(pool, fn _ -> Process.sleep(20) end) end)
    end)
    |> Task.await_many()
    |> Enum.each(&assert {:ok, :ok} = &1)

    assert %{created: created} = await(pool, &(&1.idle == 5 and &1.closing == 0))
    assert created <= 10
    assert_settled(pool)
  end

  test "p14 more than nine of ten check-outs use a connection again" do
    pool = start_pool(size: 4, max_overflow: 4, overflow_ttl: 10_000)
    use = fn -> for _ <- 1..125, do: {:ok, _} = ConnectionPool.with_connection(pool, & &1) end
    1..8 |> Enum.map(fn _ -> Task.async(use) end) |> Task.await_many()
    assert %{granted: 1_000, created: created} = assert_settled(pool)
    assert created <= 8
  end

  test "p15 lifo takes the latest returned connection, fifo the earliest" do
    for {strategy, expected} <- [lifo: 2, fifo: 0] do
      pool = start_pool(size: 3, strategy: strategy)
      agents = for _ <- 1..3, do: elem(ConnectionPool.checkout(pool), 1)
      for agent <- agents, do: :ok = ConnectionPool.checkin(pool, agent)
      assert ConnectionPool.checkout(pool) == {:ok, Enum.at(agents, expected)}
    end
  end

  test "p16 failing creations keep their distance, and connections that exist are handed out" do
    allowed = :atomics.new(1, [])

    create = fn ->
      if :atomics.get(allowed, 1) == 0, do: {:error, :down}, else: Agent.start_link(fn -> 0 end)
    end

    pool = start_pool(size: 2, create: create, retry_after: 50, retry_at_most: 50)
    :atomics.put(allowed, 1, 1)
    {:ok, agent} = ConnectionPool.checkout(pool)
    :atomics.put(allowed, 1, 0)
    started = System.monotonic_time(:millisecond)
    waiter = waiter(pool, :infinity)
    %{create_errors: attempts} = await(pool, &(&1.create_errors >= 3))
    assert attempts <= div(System.monotonic_time(:millisecond) - started, 50) + 1
    kill(elem(waiter, 0))
    assert {:error, error} = ConnectionPool.checkout(pool, 1)
    assert error.context.last_error == :down
    :ok = ConnectionPool.checkin(pool, agent)
    assert {:ok, ^agent} = ConnectionPool.checkout(pool, 0)
    :ok = ConnectionPool.checkin(pool, agent)
    assert_settled(pool)
  end

  test "p17 a creation survives the death of the one that asked for it" do
    test = self()

    create = fn ->
      send(test, {:creating, self()})
      receive do: (:go -> Agent.start_link(fn -> 0 end))
    end

    pool = start_pool(create: create)
    {client, _} = waiter(pool, :infinity)
    assert_receive {:creating, job}
    kill(client)
    await(pool, &(&1.waiting == 0))
    send(job, :go)
    assert %{created: 1, idle: 1} = await(pool, &(&1.idle == 1))
    assert_settled(pool)
  end

  test "p19 the death of an owner ends its leases and waits and nobody else's" do
    pool = start_pool(size: 3)
    [owner, other] = [client(), client()]
    agents = for _ <- 1..2, do: elem(run(owner, fn -> ConnectionPool.checkout(pool) end), 1)
    {:ok, kept} = run(other, fn -> ConnectionPool.checkout(pool) end)
    lease = run(owner, fn -> ConnectionPool.checkout_lease(pool, 0) end)
    assert {:error, :pool_exhausted} = type(lease)

    kill(owner)
    assert %{reclaimed: 2, in_use: 1} = await(pool, &(&1.in_use == 1 and &1.closing == 0))
    refute Enum.any?(agents, &Process.alive?/1)
    assert Process.alive?(kept)
    assert :ok = run(other, fn -> ConnectionPool.checkin(pool, kept) end)
    assert_settled(pool)
  end

  test "p19 a lease that travelled ends with the process that took it" do
    pool = start_pool()
    owner = client()
    {:ok, lease} = run(owner, fn -> ConnectionPool.checkout_lease(pool) end)
    kill(owner)
    await(pool, &(&1.in_use == 0))
    assert @stale == type(ConnectionPool.checkin(pool, lease))
    assert_settled(pool)
  end

  test "p20 a broken connection is closed once and never handed out again" do
    pool = start_pool(size: 2)
    {:ok, agent} = ConnectionPool.checkout(pool)
    :ok = ConnectionPool.checkin(pool, agent, :broken)
    assert @stale == type(ConnectionPool.checkin(pool, agent, :broken))
    assert %{destroyed: 1, broken: 1} = assert_settled(pool)
    refute Process.alive?(agent)
  end

  test "p20 a connection that has just died is not handed out" do
    pool = start_pool(size: 3)

    for _ <- 1..200 do
      {:ok, agent} = ConnectionPool.checkout(pool)
      kill(agent)
      # Either way: the pool process has heard of the death, or the check-in sees it.
      assert type(ConnectionPool.checkin(pool, agent)) in [:ok, @stale]
      {:ok, other} = ConnectionPool.checkout(pool)
      :ok = ConnectionPool.checkin(pool, other)
      kill(other)
      {:ok, third} = ConnectionPool.checkout(pool)
      assert Process.alive?(third)
      :ok = ConnectionPool.checkin(pool, third)
    end

    assert_settled(pool)
  end

  # A process itself, and one behind a tag.
  for shape <- [:bare, :tagged] do
    test "p20 a #{shape} connection that its holder kills and gives back as good is not lent" do
      pool = start_shaped(unquote(shape))
      kill = &Process.exit(Connection.process(&1), :kill)

      ways = [
        fn -> with({:ok, true} <- ConnectionPool.with_connection(pool, kill), do: :ok) end,
        fn ->
          {:ok, connection} = ConnectionPool.checkout(pool)
          kill.(connection)
          ConnectionPool.checkin(pool, connection)
        end,
        fn ->
          {:ok, lease} = ConnectionPool.checkout_lease(pool)
          kill.(lease.connection)
          ConnectionPool.checkin(pool, lease)
        end
      ]

      for _ <- 1..100, way <- ways do
        # Either way: the pool process has heard of the death, or the check-in sees it.
        assert type(way.()) in [:ok, @stale]
        assert {:ok, 0} = ConnectionPool.with_connection(pool, &number/1)
      end

      assert %{created: 301} = assert_settled(pool)
    end

    test "p20 a #{shape} connection that dies while it is idle is not lent" do
      pool = start_shaped(unquote(shape))

      for _ <- 1..200 do
        {:ok, connection} = ConnectionPool.with_connection(pool, & &1)
        kill(Connection.process(connection))
        assert {:ok, 0} = ConnectionPool.with_connection(pool, &number/1)
      end

      assert %{created: 201} = assert_settled(pool)
    end
  end

  defp start_shaped(shape) do
    create = fn ->
      with {:ok, agent} <- Agent.start_link(fn -> 0 end), do: {:ok, shaped(shape, agent)}
    end

    start_pool(create: create, close: &Agent.stop(Connection.process(&1)))
  end

  defp shaped(:bare, agent), do: agent
  defp shaped(:tagged, agent), do: {:agent, agent}

  defp number(connection), do: Agent.get(Connection.process(connection), & &1)

  describe "p24 the end of a pool" do
    test "wakes its waiters, waits for its leases and closes everything" do
      pool = start_pool(size: 1, drain: 5_000)
      holder = client()
      {:ok, agent} = run(holder, fn -> ConnectionPool.checkout(pool) end)
      waiters = for _ <- 1..20, do: waiter(pool, :infinity)
      await(pool, &(&1.waiting == 20))

      stopping = Task.async(fn -> ConnectionPool.stop(pool) end)
      for waiter <- waiters, do: assert({:error, :pool_closed} = type(served(waiter)))
      assert Process.alive?(agent)
      # Closing, the pool is still known: who gives back what it holds ends the wait for it.
      assert :ok = run(holder, fn -> ConnectionPool.checkin(pool, agent) end)
      assert :ok = Task.await(stopping)
      refute Process.alive?(agent)
    end

    test "may come before that of its process" do
      pool = start_pool(size: 2)
      [held, idle] = for _ <- 1..2, do: elem(ConnectionPool.checkout(pool), 1)
      :ok = ConnectionPool.checkin(pool, idle)
      assert :ok = ConnectionPool.close(pool)
      assert :ok = ConnectionPool.close(pool)
      assert {:error, :pool_closed} = type(ConnectionPool.checkout(pool))
      assert %{closed: true, in_use: 1} = await(pool, &(&1.closing == 0))
      refute Process.alive?(idle)
      assert :ok = ConnectionPool.checkin(pool, held)
      assert %{idle: 0} = assert_settled(pool)
      refute Process.alive?(held)
    end

    test "takes connections that do not come back" do
      pool = start_pool(drain: 10)
      {:ok, agent} = ConnectionPool.checkout(pool)
      assert :ok = ConnectionPool.stop(pool)
      refute Process.alive?(agent)
    end

    test "ends a creation that is under way" do
      test = self()
      create = fn -> send(test, {:creating, self()}) && Process.sleep(:infinity) end
      pool = start_pool(create: create, drain: 10, close_timeout: 10)
      waiter = waiter(pool, :infinity)
      assert_receive {:creating, job}
      monitor = Process.monitor(job)
      assert :ok = ConnectionPool.stop(pool)
      assert {:error, :pool_closed} = type(served(waiter))
      assert_receive {:DOWN, ^monitor, :process, ^job, _}
    end

    test "by a kill wakes waiters by the hundred" do
      pool = start_pool()
      {:ok, _} = ConnectionPool.checkout(pool)
      waiters = for _ <- 1..500, do: waiter(pool, :infinity)
      await(pool, &(&1.waiting == 500))
      [{_, server, _, _}] = server(pool)
      kill(server)
      for waiter <- waiters, do: assert({:error, :pool_closed} = type(served(waiter)))
    end

    test "by a kill wakes the waiters and takes the connections along" do
      pool = start_pool()
      {:ok, agent} = ConnectionPool.checkout(pool)
      Process.unlink(agent)
      monitor = Process.monitor(agent)
      waiter = waiter(pool, :infinity)
      await(pool, &(&1.waiting == 1))
      [{_, server, _, _}] = server(pool)
      kill(server)
      assert {:error, :pool_closed} = type(served(waiter))
      assert_receive {:DOWN, ^monitor, :process, ^agent, :killed}
      # The supervisor has started it again under the same name.
      assert {:ok, other} = retry(fn -> ConnectionPool.checkout(pool) end)
      assert other != agent
      assert @stale == type(ConnectionPool.checkin(pool, agent))
    end
  end

  defp server({namespace, _}) do
    ExUnit.fetch_test_supervisor()
    |> elem(1)
    |> Supervisor.which_children()
    |> Enum.filter(&(elem(&1, 0) == namespace))
  end

  defp retry(fun, tries \\ 1_000) do
    case fun.() do
      {:error, %Error{error_type: type}}
      when type in [:pool_not_found, :pool_closed] and tries > 0 ->
        Process.sleep(1)
        retry(fun, tries - 1)

      result ->
        result
    end
  end

  defp waiter(pool, timeout) do
    client = client()
    {client, later(client, fn -> ConnectionPool.checkout(pool, timeout) end)}
  end

  defp served({_, reference}) do
    assert_receive {^reference, result}, 5_000
    result
  end

  defp waited(pool, {:ok, agent}), do: ConnectionPool.checkin(pool, agent) && :granted
  defp waited(_pool, {:error, %Error{error_type: :pool_timeout}}), do: :timed_out

  defp type({:error, %Error{error_type: type}}), do: {:error, type}
  defp type(result), do: result

  # Busy, for a time that the scheduler's granularity does not round.
  defp spin(microseconds) do
    until = System.monotonic_time(:microsecond) + microseconds
    Stream.repeatedly(fn -> System.monotonic_time(:microsecond) end) |> Enum.find(&(&1 >= until))
  end
end
