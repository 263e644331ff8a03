defmodule ElixirScope.Foundation.Infrastructure.ConnectionPoolKillTest do
  # Check-outs in processes of which three in ten are killed at random moments, while connections, the pool's process
  # and the database fail. `make soak SOAK=pool-kill` runs 10^6 of them.
  use ElixirScope.Foundation.PoolCase

  alias ElixirScope.Foundation.Infrastructure.DatabasePool
  alias ElixirScope.Foundation.PostgreSQLServer

  @moduletag :capture_log
  @moduletag timeout: :infinity

  @checkouts String.to_integer(System.get_env("KILL_CHECKOUTS", "5000"))
  @size 4
  @workers 16

  # A connection that its users enter and leave: a second one inside is the double hold that must never be.
  defmodule Canary do
    use GenServer

    def start_link(_ \\ []), do: GenServer.start_link(__MODULE__, nil)
    def enter(canary), do: GenServer.call(canary, :enter)
    def leave(canary), do: GenServer.call(canary, :leave)

    @impl true
    def init(_), do: {:ok, nil}

    @impl true
    def handle_call(:enter, {user, _}, nil), do: {:reply, :ok, user}
    def handle_call(:enter, {user, _}, other), do: {:reply, {:held_twice, user, other}, other}
    def handle_call(:leave, {user, _}, user), do: {:reply, :ok, nil}
    def handle_call(:leave, {user, _}, other), do: {:reply, {:not_inside, user, other}, other}
  end

  test "leases, connections and waiters survive kills of everybody" do
    seed = System.unique_integer()
    namespace = {:test, make_ref()}
    created = :counters.new(1, [])

    create = fn ->
      :counters.add(created, 1, 1)
      Canary.start_link()
    end

    options = [
      name: :pool,
      namespace: namespace,
      size: @size,
      max_overflow: @size,
      overflow_ttl: 5,
      retry_after: 1,
      create: create,
      close: &GenServer.stop/1
    ]

    {:ok, supervisor} =
      Supervisor.start_link([{ConnectionPool, options}],
        strategy: :one_for_one,
        max_restarts: 1_000_000
      )

    pool = {namespace, :pool}
    ends = run_all(fn -> use_canary(pool) end, seed, fn n -> fail(n, supervisor) end)
    report("canaries", ends)

    refute ends[:wrong]
    assert ends[:served] > 0 and ends[:killed] > 0
    assert Enum.sum(Map.values(ends)) == @checkouts

    s =
      await(pool, &(&1.in_use == 0 and &1.waiting == 0 and &1.creating == 0 and &1.closing == 0))

    assert s.idle <= 2 * @size
    assert_settled(pool)
    burst(pool)
    Supervisor.stop(supervisor)
  end

  test "a database that stops, and back-ends that are killed, leave nothing held" do
    server = PostgreSQLServer.start()
    namespace = {:test, make_ref()}

    options =
      PostgreSQLServer.options(server) ++
        [namespace: namespace, size: @size, max_overflow: 0, retry_after: 5, retry_at_most: 50]

    start_supervised!({DatabasePool, options})
    pool = {namespace, :database}

    use = fn -> use_backend(pool) end

    disturb = fn n ->
      case rem(n, 4) do
        0 ->
          PostgreSQLServer.down(server)
          PostgreSQLServer.up(server)

        # The server ends one back-end, or loses one and restarts all.
        n ->
          with {:ok, %{rows: [{backend}]}} <-
                 DatabasePool.with_connection(
                   &DatabasePool.query(&1, "SELECT pg_backend_pid()"),
                   pool: pool
                 ) do
            if n == 1, do: terminate(pool, backend), else: PostgreSQLServer.kill_9(backend)
          end
      end

      Process.sleep(100)
    end

    ends = run_all(use, 1, disturb, div(@checkouts, 10))
    report("PostgreSQL", ends)
    assert ends[:served] > 0
    refute ends[:wrong]
    assert Enum.sum(Map.values(ends)) == div(@checkouts, 10)
    assert_settled(pool)
    assert {:ok, _} = eventually(use)
  end

  test "the founding document's measures: reuse, burst, leaks" do
    pool = start_pool(size: @size, max_overflow: @size)
    burst(pool)
    assert %{overflow: 0} = assert_settled(pool)

    pool = start_pool(size: @size)

    1..@size
    |> Enum.map(fn _ ->
      Task.async(fn ->
        for _ <- 1..1_000, do: {:ok, _} = ConnectionPool.with_connection(pool, & &1)
      end)
    end)
    |> Task.await_many(60_000)

    {:ok, %{reuse: reuse, connections_created: created}} = ConnectionPool.stats(pool)
    assert reuse > 0.9 and created <= @size
    %{in_use: leaks} = assert_settled(pool)
    assert leaks == 0

    IO.puts(
      "pool: reuse #{Float.round(reuse * 100, 2)} %, burst of #{2 * @size} served, leaks #{leaks}"
    )
  end

  # As many as there may be connections hold one at the same time.
  defp burst(pool) do
    tasks = for _ <- 1..(2 * @size), do: Task.async(fn -> hold(pool) end)
    for task <- tasks, do: assert_receive({:holding, pid} when pid == task.pid, 10_000)
    assert %{in_use: in_use} = stats(pool)
    assert in_use == 2 * @size
    for task <- tasks, do: send(task.pid, :release)
    Task.await_many(tasks)
  end

  defp hold(pool) do
    {:ok, connection} = ConnectionPool.checkout(pool)
    [parent | _] = Process.get(:"$callers")
    send(parent, {:holding, self()})
    receive do: (:release -> :ok)
    :ok = ConnectionPool.checkin(pool, connection)
  end

  # What one process does; a kill of the connection or the pool under it shows as a refusal or an exit.
  defp use_canary(pool) do
    ConnectionPool.with_connection(
      pool,
      fn canary ->
        with :ok <- Canary.enter(canary) do
          if :rand.uniform(8) == 1, do: Process.sleep(1)
          Canary.leave(canary)
        end
        |> case do
          :ok -> {:ok, :served}
          wrong -> {:ok, {:wrong, wrong}}
        end
      end,
      timeout: 60_000
    )
  end

  defp terminate(pool, backend) do
    DatabasePool.with_connection(
      &DatabasePool.query(&1, "SELECT pg_terminate_backend($1::int)", [backend]),
      pool: pool
    )
  end

  # An advisory lock of the server is the canary: it belongs to one back-end, and nobody else gets it meanwhile.
  defp use_backend(pool) do
    DatabasePool.with_connection(
      fn c ->
        {:ok, %{rows: [{backend}]}} = DatabasePool.query(c, "SELECT pg_backend_pid()")
        key = [backend]

        {:ok, %{rows: [{true}]}} =
          DatabasePool.query(c, "SELECT pg_try_advisory_lock($1::int)", key)

        {:ok, %{rows: [{true}]}} =
          DatabasePool.query(c, "SELECT pg_advisory_unlock($1::int)", key)

        {:ok, %{rows: [{^backend}]}} = DatabasePool.query(c, "SELECT pg_backend_pid()")
        {:ok, backend}
      end,
      pool: pool,
      timeout: 30_000
    )
  rescue
    # The connection died under it: the statement's answer is an error. An answer of the server that is wrong is not.
    error in MatchError ->
      with {:ok, answer} <- error.term, do: {:ok, {:wrong, answer}}, else: (_ -> {:error, :died})
  end

  defp fail(n, supervisor) do
    [{_, server, _, _}] = Supervisor.which_children(supervisor)

    victims =
      if rem(n, 10) == 0,
        do: [server],
        else: is_pid(server) && (Process.info(server, :links) || {:links, []}) |> elem(1)

    victims = for pid <- List.wrap(victims), is_pid(pid), pid != supervisor, do: pid
    if victims != [], do: Process.exit(Enum.random(victims), :kill)
    Process.sleep(2)
  end

  # Runs `use` in that many processes, a few at a time; kills three in ten; counts how they ended.
  defp run_all(use, seed, disturb, count \\ @checkouts) do
    troublemaker = Task.async(fn -> trouble(1, disturb) end)

    ends =
      1..@workers
      |> Enum.map(fn worker ->
        share = div(count, @workers) + if(worker <= rem(count, @workers), do: 1, else: 0)

        Task.async(fn ->
          :rand.seed(:exsss, {seed, worker, 3})

          for _ <- 1..share//1,
              reduce: %{},
              do: (ends -> Map.update(ends, one(use), 1, &(&1 + 1)))
        end)
      end)
      |> Task.await_many(:infinity)
      |> Enum.reduce(&Map.merge(&1, &2, fn _, a, b -> a + b end))

    send(troublemaker.pid, :enough)
    Task.await(troublemaker, :infinity)
    ends
  end

  # Ends between two disturbances: a database that is down is up again.
  defp trouble(n, disturb) do
    receive do
      :enough -> :ok
    after
      0 ->
        disturb.(n)
        trouble(n + 1, disturb)
    end
  end

  defp one(use) do
    {pid, monitor} = spawn_monitor(fn -> exit({:used, use.()}) end)

    if :rand.uniform(10) <= 3 do
      for _ <- 1..:rand.uniform(400), do: :ok
      if :rand.uniform(2) == 1, do: Process.sleep(:rand.uniform(2) - 1)
      Process.exit(pid, :kill)
    end

    # Every waiter is answered: nobody is still waiting after its time-out.
    receive do
      {:DOWN, ^monitor, _, _, {:used, {:ok, {:wrong, _}}}} -> :wrong
      {:DOWN, ^monitor, _, _, {:used, {:ok, _}}} -> :served
      {:DOWN, ^monitor, _, _, {:used, {:error, _}}} -> :refused
      {:DOWN, ^monitor, _, _, :killed} -> :killed
      {:DOWN, ^monitor, _, _, _connection_died} -> :failed
    after
      120_000 -> flunk("a caller was not answered")
    end
  end

  defp report(what, ends), do: IO.puts("pool kills, #{what}: #{inspect(ends)}")

  defp eventually(fun, tries \\ 1_000) do
    case fun.() do
      {:ok, _} = good -> good
      bad when tries == 0 -> bad
      _ -> Process.sleep(10) && eventually(fun, tries - 1)
    end
  end
end
