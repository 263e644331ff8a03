defmodule ElixirScope.Foundation.PhasesTest do
  # The phases and their flags, row by row (section 8 of the facts), beside what `ProtectedServicesTest` says of them.
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

  setup do
    namespace = start_namespace()
    :ok = ManualClock.install(namespace)
    %{namespace: namespace, user: make_ref()}
  end

  test "8 phase 1, on: five failures open it for 30 seconds, then a probe's success closes it", %{
    namespace: namespace
  } do
    {:ok, supervisor} = ProcessRegistry.lookup(namespace, {:supervisor, :services})
    :ok = Supervisor.terminate_child(supervisor, ConfigServer)
    read = fn -> ConfigServer.get_protected(namespace, @path) end

    for state <- [:closed, :closed, :closed, :closed, :open] do
      assert {:error, %Types.Error{error_type: :service_unavailable}} = read.()
      assert {:ok, ^state} = CircuitBreaker.state(namespace, :config_server)
    end

    {:ok, pid} = Supervisor.restart_child(supervisor, ConfigServer)
    # It would be ready, but nobody asks it.
    :ok = :sys.suspend(pid)

    for {advance, retry_after_ms} <- [{0, 30_000}, {29_999, 1}] do
      ManualClock.advance(namespace, advance)

      assert {:error, %Error{error_type: :circuit_open, context: context}} = read.()
      assert context.retry_after_ms == retry_after_ms
      assert Process.info(pid, :message_queue_len) == {:message_queue_len, 0}
    end

    :ok = :sys.resume(pid)
    ManualClock.advance(namespace, 1)
    assert {:ok, :mock} = read.()
    assert {:ok, :closed} = CircuitBreaker.state(namespace, :config_server)
  end

  test "8 phase 1, on: a probe that fails opens it for another 30 seconds", %{
    namespace: namespace
  } do
    terminate(namespace, :config_server, ConfigServer)
    read = fn -> ConfigServer.get_config_v1(namespace, @path) end
    for _ <- 1..5, do: read.()
    ManualClock.advance(namespace, 30_000)
    assert {:error, %Types.Error{error_type: :service_unavailable}} = read.()

    assert {:error, %Error{error_type: :circuit_open, context: %{retry_after_ms: 30_000}}} =
             read.()
  end

  describe "8 phase 2:" do
    # The limit is used up and the breaker is forced open: who lets a call through did not ask.
    for {limits, breakers, answer} <- [
          {true, true, :rate_limited},
          {true, false, :rate_limited},
          {false, true, :forced_open},
          {false, false, :ok}
        ] do
      test "limits #{limits}, breakers #{breakers}: #{answer}", context do
        %{namespace: namespace, user: user} = context
        opts = [user_id: user]
        update = fn -> ConfigServer.update_config_v2(namespace, @updatable, true, opts) end
        store = fn id -> EventStore.store_protected(namespace, event(id), opts) end
        read_opts = [rate_limit: {1, 60_000}, rate_key: {:reads, user}]
        read = fn -> ConfigServer.get_enhanced(namespace, @path, read_opts) end

        for _ <- 1..10, do: {:ok, :ok} = update.()
        for id <- 1..100, do: {:ok, ^id} = store.(id)
        {:ok, :mock} = read.()
        for s <- [:config_server, :event_store], do: :ok = CircuitBreaker.force_open(namespace, s)

        flags(unquote(breakers), unquote(limits))
        before = TokenBucketLimiter.stats(namespace)

        for result <- [update.(), store.(101), read.()] do
          case unquote(answer) do
            :ok -> assert {:ok, _} = result
            type -> assert {:error, %Error{error_type: ^type}} = result
          end
        end

        unless unquote(limits), do: assert(TokenBucketLimiter.stats(namespace) == before)

        # On again, both are found as they were.
        flags(true, true)

        for result <- [update.(), store.(102), read.()],
            do: assert({:error, %Error{error_type: :rate_limited}} = result)

        for s <- [:config_server, :event_store],
            do: assert({:ok, :open} = CircuitBreaker.state(namespace, s))
      end
    end

    test "update_config_protected asks the flag of the limits alone", context do
      %{namespace: namespace, user: user} = context

      update = fn ->
        ConfigServer.update_config_protected(namespace, @updatable, true, %{user_id: user})
      end

      for _ <- 1..10, do: :ok = update.()
      flags(false, true)
      assert {:error, %Error{error_type: :rate_limited}} = update.()
      flags(true, false)
      assert :ok = update.()
    end
  end

  describe "8 phase 3:" do
    setup do
      folder = Path.join(System.tmp_dir!(), "phases_#{System.pid()}")
      File.mkdir!(folder)
      on_exit(fn -> File.rm_rf!(folder) end)
      infrastructure = Application.fetch_env!(:elixir_scope, :infrastructure)
      pools = put_in(infrastructure[:connection_pools][:database][:path], folder <> "/a.db")
      put_env(:infrastructure, pools)
      %{infrastructure: pools}
    end

    test "ten connections and five more, all of which come back" do
      assert [spec] = ConnectionPool.Configured.children()
      start_supervised!(spec)
      test = self()

      holders =
        for _ <- 1..15 do
          Task.async(fn ->
            DatabasePool.with_connection(fn _connection ->
              send(test, {:holding, self()})
              receive do: (:go -> {:ok, :held})
            end)
          end)
        end

      for holder <- holders, do: assert_receive({:holding, pid} when pid == holder.pid, 60_000)
      assert {:ok, %{in_use: 15, overflow: 5}} = ConnectionPool.status(:database)

      assert {:error, %Error{error_type: :pool_exhausted}} =
               Infrastructure.with_pooled_connection(:database, & &1, timeout: 0)

      for holder <- holders, do: send(holder.pid, :go)
      assert Enum.all?(Task.await_many(holders), &(&1 == {:ok, :held}))

      eventually(fn ->
        match?({:ok, %{in_use: 0, idle: 10, closing: 0}}, ConnectionPool.status(:database))
      end)
    end

    test "no flag is asked", %{namespace: namespace, infrastructure: infrastructure} do
      [spec] = ConnectionPool.Configured.children()
      start_supervised!(spec)

      for enabled <- [true, false] do
        put_env(:infrastructure,
          circuit_breakers: %{enabled: enabled},
          rate_limiting: %{enabled: enabled},
          connection_pools: infrastructure[:connection_pools]
        )

        assert {:ok, %{config: %{a: 1}}} = ConfigServer.sync_to_database_v3(namespace, %{a: 1})
        assert {:ok, 1} = Infrastructure.with_pooled_connection(:database, fn _ -> 1 end)
        assert {:ok, 1} = DatabasePool.with_connection(fn _ -> 1 end)
      end
    end
  end

  test "8 without a configured pool: pool_not_found" do
    for call <- [
          fn -> Infrastructure.with_pooled_connection(:database, & &1) end,
          fn -> DatabasePool.with_connection(& &1) end,
          fn -> ConfigServer.sync_to_database_v3(:production, %{}) end
        ],
        do: assert({:error, %Error{code: 2505, error_type: :pool_not_found}} = call.())
  end

  test "8 breakers, limits and pools live outside of the services", context do
    %{namespace: namespace, user: user} = context
    options = [name: :pool, namespace: namespace, create: fn -> Agent.start_link(fn -> 0 end) end]
    start_supervised!({ConnectionPool, options})
    {:ok, agent} = ConnectionPool.checkout({namespace, :pool})
    opts = [rate_limit: {1, 60_000}, user_id: user]
    {:ok, :mock} = ConfigServer.get_enhanced(namespace, @path, opts)
    {:ok, _handle} = CircuitBreaker.handle(namespace, :event_store)
    :ok = CircuitBreaker.force_open(namespace, :event_store)

    for name <- [:config_server, :event_store, :telemetry_service] do
      kill(namespace, name)
      {:ok, _pid} = ServiceRegistry.wait_for_service(namespace, name)
    end

    assert {:error, %Error{error_type: :rate_limited}} =
             ConfigServer.get_enhanced(namespace, @path, opts)

    assert {:error, %Error{error_type: :forced_open}} =
             EventStore.store_protected(namespace, event(1))

    assert :ok = ConnectionPool.checkin({namespace, :pool}, agent)
    assert {:ok, ^agent} = ConnectionPool.checkout({namespace, :pool})
  end
end
