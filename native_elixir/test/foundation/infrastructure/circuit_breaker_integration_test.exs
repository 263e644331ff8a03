defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerIntegrationTest do
  # Limit, breaker and pool together, through the facade, before a real database with real faults.
  # Not async: the VM's one thread for SQLite is busy for seconds in another module's test.
  use ElixirScope.Foundation.PoolCase, async: false

  alias ElixirScope.Foundation.{Infrastructure, ProcessRegistry, SqliteShell}

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreaker,
    CircuitBreakerRegistry,
    DatabasePool,
    ManualClock
  }

  @threshold 3
  @reset_ms 30_000
  @limit 10

  setup do
    reference = make_ref()
    path = Path.join(System.tmp_dir!(), "breaker_#{System.pid()}_#{:erlang.phash2(reference)}.db")

    on_exit(fn ->
      ProcessRegistry.cleanup_test_namespace(reference)
      for file <- Path.wildcard(path <> "*"), do: File.rm!(file)
    end)

    namespace = {:test, reference}
    :ok = ManualClock.install(namespace)

    :ok =
      CircuitBreakerRegistry.register(namespace, :event_store,
        failure_threshold: @threshold,
        reset_timeout: @reset_ms,
        call_timeout: 120_000
      )

    # A namespace of its own: the pool keeps to the machine's clock.
    pool_namespace = {:test, make_ref()}
    options = [path: path, namespace: pool_namespace, size: 2, max_overflow: 1]
    start_supervised!({DatabasePool, options})
    pool = {pool_namespace, :database}
    create = &DatabasePool.exec(&1, "CREATE TABLE t (a, b)")
    {:ok, nil} = DatabasePool.with_connection(create, pool: pool)

    %{namespace: namespace, pool: pool, path: path, reached: :counters.new(1, [])}
  end

  # Out of patience at once, but not of time for an answer: the machine may be busy.
  defp store(context, value) do
    opts = [rate_limit: {@limit, 60_000}]

    Infrastructure.protected_operation(context.namespace, :event_store, opts, fn ->
      :counters.add(context.reached, 1, 1)

      DatabasePool.with_connection(
        &DatabasePool.exec(&1, "INSERT INTO t VALUES (2, ?)", [value], timeout: 0, grace: 60_000),
        pool: context.pool,
        timeout: :infinity
      )
    end)
  end

  defp stored(context) do
    select = &DatabasePool.query(&1, "SELECT b FROM t ORDER BY rowid")
    {:ok, %{rows: rows}} = DatabasePool.with_connection(select, pool: context.pool)
    Enum.map(rows, &elem(&1, 0))
  end

  test "a database that somebody has locked is left alone until it is free again", context do
    assert {:ok, 1} = store(context, "before")

    holder = SqliteShell.lock(context.path)

    for _ <- 1..@threshold,
        do: assert({:error, %Error{error_type: :timeout}} = store(context, "x"))

    assert {:error, %Error{error_type: :circuit_open} = error} = store(context, "x")
    assert error.context.retry_after_ms == @reset_ms
    assert :counters.get(context.reached, 1) == 1 + @threshold

    # Still locked: the probe fails, and it is one.
    ManualClock.advance(context.namespace, @reset_ms)
    assert {:error, %Error{error_type: :timeout}} = store(context, "x")
    assert {:error, %Error{error_type: :circuit_open}} = store(context, "x")
    assert :counters.get(context.reached, 1) == 2 + @threshold

    SqliteShell.unlock(holder)
    ManualClock.advance(context.namespace, @reset_ms)
    assert {:ok, 3} = store(context, "after")
    assert {:ok, :closed} = CircuitBreaker.state(context.namespace, :event_store)
    assert stored(context) == ["before", "holder", "after"]
    assert_settled(context.pool)
  end

  test "a connection that is killed under the operation is one failure, and is replaced",
       context do
    killed =
      Infrastructure.execute_with_protection(context.namespace, :event_store, fn ->
        DatabasePool.with_connection(
          fn conn -> kill(conn) && DatabasePool.exec(conn, "INSERT INTO t VALUES (1, 1)") end,
          pool: context.pool
        )
      end)

    assert {:error, %Error{error_type: :dependency_failed}} = killed

    assert {:ok, %{failure_count: 1, state: :closed}} =
             CircuitBreaker.stats(context.namespace, :event_store)

    assert {:ok, 1} = store(context, "after")
    assert stored(context) == ["after"]
    assert_settled(context.pool)
  end

  test "a limited call reaches neither the breaker nor the pool", context do
    for n <- 1..@limit, do: assert({:ok, ^n} = store(context, n))
    requests = stats(context.pool).requests
    assert {:error, %Error{error_type: :rate_limited}} = store(context, "x")
    assert {:ok, %{admitted: @limit}} = CircuitBreaker.stats(context.namespace, :event_store)
    assert stats(context.pool).requests == requests
    assert stored(context) == Enum.to_list(1..@limit)
    assert_settled(context.pool)
  end

  # A service as they are in a system: a GenServer under a supervisor, found by its registered name.
  defmodule Settings do
    @moduledoc false
    use GenServer

    def start_link(name), do: GenServer.start_link(__MODULE__, %{provider: :mock}, name: name)

    @impl true
    def init(settings), do: {:ok, settings}

    @impl true
    def handle_call({:get, key}, _from, settings) do
      case settings do
        %{^key => value} -> {:reply, {:ok, value}, settings}
        _ -> {:reply, {:error, :config_path_not_found}, settings}
      end
    end
  end

  test "a GenServer that hangs, dies and comes back is guarded, and its callers' mistakes are not its failures",
       %{namespace: namespace} do
    name = ProcessRegistry.via_tuple(namespace, :config_server)
    server = start_supervised!({Settings, name}, restart: :temporary)

    :ok =
      CircuitBreakerRegistry.register(namespace, :config_server,
        failure_threshold: @threshold,
        reset_timeout: @reset_ms,
        call_timeout: 20,
        ignore: [:config_path_not_found]
      )

    reached = :counters.new(1, [])

    get = fn key, options ->
      operation = fn ->
        :counters.add(reached, 1, 1)
        GenServer.call(name, {:get, key}, :infinity)
      end

      CircuitBreaker.execute(namespace, :config_server, operation, options)
    end

    patient = [call_timeout: 60_000]
    assert {:ok, :mock} = get.(:provider, patient)
    for _ <- 1..9, do: assert({:error, :config_path_not_found} = get.(:nothing, patient))

    # It hangs: each call is ended at its limit, and then nobody waits for it any more.
    :ok = :sys.suspend(server)

    for _ <- 1..@threshold,
        do: assert({:error, %Error{error_type: :timeout}} = get.(:provider, []))

    before = :counters.get(reached, 1)
    assert {:error, %Error{error_type: :circuit_open}} = get.(:provider, [])
    assert :counters.get(reached, 1) == before

    # It is gone: the probe says so.
    kill(server)
    ManualClock.advance(namespace, @reset_ms)

    assert {:error, %Error{error_type: :protected_operation_failed, context: %{kind: :exit}}} =
             get.(:provider, patient)

    assert {:error, %Error{error_type: :circuit_open}} = get.(:provider, [])

    start_supervised!({Settings, name}, id: :again)
    ManualClock.advance(namespace, @reset_ms)
    assert {:ok, :mock} = get.(:provider, patient)

    assert {:ok, %{state: :closed, ignored: 9, failed: failed}} =
             CircuitBreaker.stats(namespace, :config_server)

    assert failed == @threshold + 1
  end

  test "an operation ends with its caller, also after the process that ends it was replaced", %{
    namespace: namespace
  } do
    old = Process.whereis(:elixir_scope_reaper)
    me = self()

    caller =
      spawn(fn ->
        CircuitBreaker.execute(namespace, :orphan, fn ->
          send(me, {:worker, self()})
          Process.sleep(:infinity)
        end)
      end)

    assert_receive {:worker, worker}
    kill(old)
    await_name(:elixir_scope_reaper)
    # What is not meant for it, or comes too late, harms nobody.
    send(:elixir_scope_reaper, :stray)
    send(:elixir_scope_reaper, {:escope_kill, me, caller})
    monitor = Process.monitor(worker)
    Process.exit(caller, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^worker, :killed}, 5_000
  end

  defp await_name(name),
    do: Process.whereis(name) || (Process.sleep(1) && await_name(name))
end
