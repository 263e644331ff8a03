defmodule ElixirScope.Foundation.PlannedFunctionsTest do
  # The plan's functions, row by row (section 7 of the facts), beside what `ProtectedServicesTest` says of the phases.
  use ElixirScope.Foundation.FoundationCase, async: false

  alias ElixirScope.Foundation.Infrastructure

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreaker,
    ConnectionPool,
    DatabasePool,
    ManualClock,
    TokenBucketLimiter
  }

  @path [:ai, :provider]
  @updatable [:dev, :debug_mode]

  # A clock that stands still, so that a token and an open breaker come back when the test says so.
  setup do
    namespace = start_namespace()
    :ok = ManualClock.install(namespace)
    %{namespace: namespace, user: make_ref()}
  end

  defp update(namespace, user, value \\ true, path \\ @updatable),
    do: ConfigServer.update_config_protected(namespace, path, value, %{user_id: user})

  defp left(namespace, key, limit) do
    {:ok, decision} = TokenBucketLimiter.peek(key, limit, namespace: namespace)
    decision.remaining
  end

  defp break(namespace, service) do
    {:ok, _handle} = CircuitBreaker.handle(namespace, service)
    :ok = CircuitBreaker.force_open(namespace, service)
  end

  defp pool(namespace, options \\ []) do
    path = Path.join(System.tmp_dir!(), "planned_#{System.pid()}_#{:erlang.phash2(namespace)}.db")
    on_exit(fn -> for file <- Path.wildcard(path <> "*"), do: File.rm!(file) end)
    defaults = [path: path, namespace: namespace, size: 1, max_overflow: 1]
    start_supervised!({DatabasePool, Keyword.merge(defaults, options)})
    {namespace, :database}
  end

  describe "7 update_config_protected:" do
    test "ten a minute under the key {:config_update, user_id}: a burst, then one each six seconds",
         %{namespace: namespace, user: user} do
      key = {:config_update, user}

      for n <- 9..0 do
        assert :ok = update(namespace, user)
        assert left(namespace, key, :config_updates) == n
      end

      assert {:error, %Error{error_type: :rate_limited, context: context}} =
               update(namespace, user)

      assert %{key: ^key, limit: 10, window_ms: 60_000, retry_after_ms: 6_000} = context
      ManualClock.advance(namespace, 5_999)
      assert {:error, %Error{context: %{retry_after_ms: 1}}} = update(namespace, user)
      ManualClock.advance(namespace, 1)
      assert :ok = update(namespace, user)
      assert {:error, %Error{error_type: :rate_limited}} = update(namespace, user)
    end

    test "no breaker", %{namespace: namespace, user: user} do
      break(namespace, :config_server)
      assert :ok = update(namespace, user)
      assert {:ok, %{admitted: 0}} = CircuitBreaker.stats(namespace, :config_server)
    end

    test "a rejected update has spent its token, be it the path or the value", context do
      %{namespace: namespace, user: user} = context

      for {path, value, type} <- [
            {@path, :openai, :config_update_forbidden},
            {@updatable, "yes", :validation_failed},
            {[:ai, :planning, :sampling_rate], 2.0, :range_error}
          ],
          do:
            assert(
              {:error, %Types.Error{error_type: ^type}} = update(namespace, user, value, path)
            )

      assert left(namespace, {:config_update, user}, :config_updates) == 7
    end

    test "the key of a test has the namespace's own bucket", %{namespace: namespace, user: user} do
      for _ <- 1..10, do: :ok = update(namespace, user)
      assert {:error, %Error{error_type: :rate_limited}} = update(namespace, user)
      assert :ok = update(start_namespace(), user)
    end
  end

  describe "7 update_config_v2:" do
    test "the same key; without a user_id that of the namespace", %{namespace: ns, user: user} do
      assert {:ok, :ok} = ConfigServer.update_config_v2(ns, @updatable, true, user_id: user)
      assert left(ns, {:config_update, user}, :config_updates) == 9
      assert {:ok, :ok} = ConfigServer.update_config_v2(ns, @updatable, true, [])
      assert left(ns, {:config_update, ns}, :config_updates) == 9
    end

    test "the service's errors, limit and breaker: an error of two elements each", context do
      %{namespace: ns, user: user} = context
      update = &ConfigServer.update_config_v2(ns, &1, &2, user_id: user)
      assert {:error, %Types.Error{error_type: :config_update_forbidden}} = update.(@path, 1)
      assert {:error, %Types.Error{error_type: :validation_failed}} = update.(@updatable, 1)
      assert {:ok, %{failed: 0, succeeded: 2}} = CircuitBreaker.stats(ns, :config_server)
      break(ns, :config_server)
      assert {:error, %Error{error_type: :forced_open}} = update.(@updatable, true)
      :ok = CircuitBreaker.auto(ns, :config_server)
      for _ <- 1..8, do: assert({:ok, :ok} = update.(@updatable, true))
      assert {:error, %Error{error_type: :rate_limited}} = update.(@updatable, true)
    end
  end

  test "7 get_enhanced: first the rate, then the breaker", %{namespace: namespace, user: user} do
    opts = [rate_limit: {1, 60_000}, user_id: user]
    assert {:ok, :mock} = ConfigServer.get_enhanced(namespace, @path, opts)
    break(namespace, :config_server)

    assert {:error, %Error{error_type: :rate_limited, context: %{retry_after_ms: 60_000}}} =
             ConfigServer.get_enhanced(namespace, @path, opts)

    assert {:ok, %{rejected_forced_open: 0}} = CircuitBreaker.stats(namespace, :config_server)
  end

  test "7 sync_to_database_v3: no breaker and no rate", %{namespace: namespace} do
    pool(namespace)
    for service <- [:config_server, :event_store, :database], do: break(namespace, service)

    for version <- 1..120 do
      assert {:ok, %{version: ^version, config: %{n: ^version}}} =
               ConfigServer.sync_to_database_v3(namespace, %{n: version})
    end

    assert {:ok, %{allowed: 0, limited: 0}} = TokenBucketLimiter.stats(namespace)
  end

  describe "7 store_protected:" do
    test "a hundred a minute under {:event_storage, user_id}: then one each 600 ms", context do
      %{namespace: namespace, user: user} = context
      store = &EventStore.store_protected(namespace, event(&1), user_id: user)
      for id <- 1..100, do: assert({:ok, ^id} = store.(id))

      assert {:error, %Error{error_type: :rate_limited, context: context}} = store.(101)

      assert %{key: {:event_storage, ^user}, limit: 100, retry_after_ms: 600} = context
      ManualClock.advance(namespace, 600)
      assert {:ok, 101} = store.(101)
      assert {:error, %Error{error_type: :rate_limited}} = store.(102)
    end

    test "without a user_id the key is that of the namespace, and a batch costs its length", %{
      namespace: namespace
    } do
      key = {:event_storage, namespace}
      assert {:ok, 1} = EventStore.store_protected(namespace, event(1))
      assert left(namespace, key, :event_storage) == 99
      events = Enum.map(2..31, &event/1)
      assert {:ok, [2 | _]} = EventStore.store_batch_protected(namespace, events)
      assert left(namespace, key, :event_storage) == 69
    end

    test "the breaker of the event store, which a service that is down opens", context do
      %{namespace: namespace, user: user} = context
      terminate(namespace, :event_store, EventStore)

      calls = [
        fn -> EventStore.store_protected(namespace, event(1), user_id: user) end,
        fn -> EventStore.store_batch_protected(namespace, [event(1)], user_id: user) end
      ]

      for _ <- 1..3, call <- calls, do: call.()

      for call <- calls,
          do: assert({:error, %Error{error_type: :circuit_open}} = call.())

      assert {:ok, :open} = CircuitBreaker.state(namespace, :event_store)
    end

    test "without a rule in the configuration the usual one holds", context do
      %{namespace: namespace, user: user} = context
      put_env(:infrastructure, rate_limiting: %{enabled: true})
      events = Enum.map(1..100, &event/1)
      opts = [user_id: user]
      assert {:ok, [_ | _]} = EventStore.store_batch_protected(namespace, events, opts)

      assert {:error, %Error{error_type: :rate_limited, context: %{limit: 100}}} =
               EventStore.store_protected(namespace, event(1), opts)
    end
  end

  describe "7 protected_operation:" do
    test "of the event store has its rule, of the others none", %{namespace: namespace} do
      run = &Infrastructure.protected_operation(namespace, &1, &2, fn -> :done end)

      for service <- [:config_server, :telemetry_service, :other],
          _ <- 1..200,
          do: assert({:ok, :done} = run.(service, []))

      for _ <- 1..100, do: assert({:ok, :done} = run.(:event_store, []))
      assert {:error, %Error{error_type: :rate_limited}} = run.(:event_store, [])
      assert {:ok, :done} = run.(:event_store, user_id: 1)
    end

    test "rate_key, rate_limit and cost are the call's", %{namespace: namespace, user: key} do
      run = fn opts ->
        Infrastructure.protected_operation(namespace, :other, opts, fn -> :done end)
      end

      assert {:ok, :done} = run.(rate_key: key, rate_limit: {10, 1_000}, cost: 4)
      assert left(namespace, key, {10, 1_000}) == 6

      assert {:error, %Error{error_type: :rate_limited, context: %{key: ^key}}} =
               run.(rate_key: key, rate_limit: {10, 1_000}, cost: 7)
    end

    test "what the breaker gives comes back as it is", %{namespace: namespace} do
      run = &Infrastructure.protected_operation(namespace, :other, [], &1)
      assert {:ok, 1} = run.(fn -> 1 end)
      assert {:ok, 1} = run.(fn -> {:ok, 1} end)
      assert {:error, :reason} = run.(fn -> {:error, :reason} end)
      assert {:error, %Error{error_type: :protected_operation_failed}} = run.(fn -> exit(:no) end)
    end
  end

  describe "7 the pool of the database:" do
    test "has two names, of which the configuration and the service use one each", %{
      namespace: namespace
    } do
      pool(namespace)
      read = &DatabasePool.query(&1, "SELECT 1")

      for name <- [:database, :database_pool] do
        assert {:ok, %{rows: [{1}]}} =
                 Infrastructure.with_pooled_connection({namespace, name}, read)
      end
    end

    test "grows by its overflow for with_connection, which has a time of its own to wait" do
      # Who says nothing waits for a millisecond here, by the machine's clock.
      pool = pool({:test, make_ref()}, timeout: 1)
      test = self()

      holders =
        for _ <- 1..2 do
          Task.async(fn ->
            DatabasePool.with_connection(
              fn _connection ->
                send(test, {:holding, self()})
                receive do: (:go -> {:ok, :held})
              end,
              pool: pool
            )
          end)
        end

      for holder <- holders, do: assert_receive({:holding, pid} when pid == holder.pid, 30_000)

      waiter =
        Task.async(fn ->
          DatabasePool.with_connection(&DatabasePool.query(&1, "SELECT 1"), pool: pool)
        end)

      eventually(fn -> match?({:ok, %{waiting: 1}}, ConnectionPool.status(pool)) end)

      assert {:error, %Error{error_type: :pool_timeout}} =
               Infrastructure.with_pooled_connection(pool, & &1)

      assert {:ok, %{waiting: 1}} = ConnectionPool.status(pool)
      for holder <- holders, do: send(holder.pid, :go)
      assert [{:ok, :held}, {:ok, :held}] = Task.await_many(holders)
      assert {:ok, %{rows: [{1}]}} = Task.await(waiter)
    end
  end

  test "7 the audit events of updates are stored past limit and breaker", %{
    namespace: namespace,
    user: user
  } do
    events = Enum.map(1..100, &event/1)
    {:ok, _ids} = EventStore.store_batch_protected(namespace, events)
    assert left(namespace, {:event_storage, namespace}, :event_storage) == 0
    break(namespace, :event_store)
    assert :ok = update(namespace, user)
    assert {:ok, [_one]} = EventStore.query(namespace, %{event_type: :config_updated})
  end

  test "7 TelemetryService: emitting stands behind nothing", %{namespace: namespace} do
    break(namespace, :telemetry_service)
    for _ <- 1..200, do: :ok = TelemetryService.emit(namespace, [:told], %{counter: 1}, %{})

    assert {:ok, %{told: %{measurements: %{counter: 200}}}} =
             TelemetryService.get_metrics(namespace)
  end
end
