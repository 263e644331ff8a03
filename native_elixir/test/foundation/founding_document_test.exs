defmodule ElixirScope.Foundation.FoundingDocumentTest do
  # The founding document's names, and its code as it stands there, around a service of somebody who follows it.
  use ElixirScope.Foundation.FoundationCase, async: false

  alias ElixirScope.Foundation.Infrastructure

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreaker,
    ConnectionPool,
    DatabasePool,
    FeatureFlags,
    ManualClock,
    SimpleCircuitBreaker,
    TokenBucketLimiter
  }

  defmodule Service do
    @moduledoc false
    # What holds the values is an agent, so that it can be killed.
    alias ElixirScope.Foundation.{Error, Infrastructure}

    def get_config_protected(namespace, path) do
      ElixirScope.Foundation.Infrastructure.SimpleCircuitBreaker.execute(
        namespace,
        :settings,
        fn -> get_config_impl(path) end
      )
    end

    def update_config_protected(_namespace, path, value, user_context) do
      rate_key = {:config_update, user_context.user_id}

      # 10 updates per minute
      case ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.check_rate_limit(
             rate_key,
             10,
             60_000
           ) do
        :ok -> update_config_impl(path, value)
        {:error, :rate_limited, retry_after} -> {:error, create_rate_limit_error(retry_after)}
      end
    end

    def get_config_v1(namespace, path) do
      Infrastructure.execute_with_protection(namespace, :settings, fn ->
        get_config_impl(path)
      end)
    end

    def update_config_v2(namespace, path, value, opts) do
      Infrastructure.protected_operation(namespace, :settings, opts, fn ->
        update_config_impl(path, value)
      end)
    end

    def sync_to_database_v3(_namespace, config_data) do
      Infrastructure.with_pooled_connection(:database, fn conn ->
        sync_config_to_db(conn, config_data)
      end)
    end

    defp get_config_impl(path), do: Agent.get(__MODULE__, &Map.fetch(&1, path))
    defp update_config_impl(path, value), do: Agent.update(__MODULE__, &Map.put(&1, path, value))

    defp create_rate_limit_error(retry_after),
      do: Error.new(:rate_limited, nil, context: %{retry_after_ms: retry_after})

    defp sync_config_to_db(conn, config_data) do
      alias ElixirScope.Foundation.Infrastructure.DatabasePool
      {:ok, _} = DatabasePool.exec(conn, "CREATE TABLE config (data TEXT)")
      {:ok, _} = DatabasePool.exec(conn, "INSERT INTO config VALUES (?)", [inspect(config_data)])
      DatabasePool.query(conn, "SELECT data FROM config")
    end
  end

  setup do
    start_supervised!(%{
      id: Service,
      start: {Agent, :start_link, [fn -> %{[:limit] => 7} end, [name: Service]]},
      restart: :temporary
    })

    %{namespace: start_namespace(), user: make_ref()}
  end

  test "every function of the document is there" do
    functions = [
      {SimpleCircuitBreaker, execute: 3},
      {TokenBucketLimiter, check_rate_limit: 3},
      {ConnectionPool, checkout: 1, checkout: 2, checkin: 2, with_connection: 3},
      {DatabasePool, with_connection: 1},
      {Infrastructure,
       execute_with_protection: 3,
       protected_operation: 4,
       with_pooled_connection: 2,
       with_pooled_connection: 3},
      {FeatureFlags, circuit_breaker_enabled?: 1, rate_limiting_enabled?: 1},
      {ConfigServer,
       get: 2,
       get_protected: 2,
       get_enhanced: 2,
       get_enhanced: 3,
       get_config_protected: 2,
       get_config_v1: 2,
       update_config_protected: 4,
       update_config_v2: 4,
       sync_to_database_v3: 2}
    ]

    for {module, functions} <- functions, {name, arity} <- functions do
      assert Code.ensure_loaded?(module)
      assert function_exported?(module, name, arity), "#{inspect(module)}.#{name}/#{arity}"
    end
  end

  test "the circuit breaker has the document's types" do
    {:ok, types} = Code.Typespec.fetch_types(SimpleCircuitBreaker)
    types = for {:type, {name, _, []} = type} <- types, into: %{}, do: {name, text(type)}
    assert %{state: "state() :: " <> _, config: config} = types

    for key <- ~w(failure_threshold reset_timeout call_timeout),
        do: assert(config =~ "#{key}: pos_integer()")
  end

  defp text(type), do: type |> Code.Typespec.type_to_quoted() |> Macro.to_string()

  test "its deliverables are where it says" do
    root = Path.expand("../..", __DIR__)

    for path <- [
          "lib/elixir_scope/foundation/infrastructure/circuit_breaker.ex",
          "lib/elixir_scope/foundation/infrastructure/circuit_breaker_registry.ex",
          "lib/elixir_scope/foundation/infrastructure/circuit_breaker_telemetry.ex",
          "test/foundation/infrastructure/circuit_breaker_test.exs",
          "test/foundation/infrastructure/circuit_breaker_integration_test.exs",
          "test/foundation/infrastructure/circuit_breaker_property_test.exs"
        ],
        do: assert(File.regular?(Path.join(root, path)), path)
  end

  test "step 1.1, the circuit breaker: closed counts, open fails fast, half-open goes on" do
    namespace = {:test, make_ref()}
    :ok = ManualClock.install(namespace)
    run = &SimpleCircuitBreaker.execute(namespace, :any, &1)
    assert {:ok, :closed} = run.(fn -> elem(CircuitBreaker.state(namespace, :any), 1) end)
    for _ <- 1..5, do: assert({:error, :down} = run.(fn -> {:error, :down} end))
    assert {:error, %Error{error_type: :circuit_open}} = run.(fn -> flunk("it is open") end)
    ManualClock.advance(namespace, 30_000)
    assert {:ok, :half_open} = run.(fn -> elem(CircuitBreaker.state(namespace, :any), 1) end)
    assert {:ok, :closed} = CircuitBreaker.state(namespace, :any)
  end

  test "step 1.2, a service behind the breaker: one that is gone opens it", %{
    namespace: namespace
  } do
    for read <- [&Service.get_config_protected/2, &Service.get_config_v1/2],
        do: assert({:ok, 7} = read.(namespace, [:limit]))

    :ok = Agent.stop(Service)

    for _ <- 1..5 do
      assert {:error, %Error{error_type: :protected_operation_failed, context: %{kind: :exit}}} =
               Service.get_config_protected(namespace, [:limit])
    end

    # It is the same breaker.
    assert {:error, %Error{error_type: :circuit_open}} =
             Service.get_config_v1(namespace, [:limit])
  end

  test "step 2.2, a service with a rate limit", %{namespace: namespace, user: user} do
    context = %{user_id: user}

    for n <- 1..10,
        do: assert(:ok = Service.update_config_protected(namespace, [:limit], n, context))

    assert {:error, %Error{error_type: :rate_limited, context: %{retry_after_ms: ms}}} =
             Service.update_config_protected(namespace, [:limit], 11, context)

    assert ms in 1..6_000
    assert {:ok, 10} = Service.get_config_v1(namespace, [:limit])
  end

  describe "step 3.1, the pool:" do
    test "check-out and check-in, with a test on return", %{namespace: namespace} do
      healthy = :atomics.new(1, [])
      ping = fn _agent -> if :atomics.get(healthy, 1) == 0, do: :ok, else: {:error, :sick} end
      pool = pool(namespace, health: :passive, ping: ping)
      assert {:ok, agent} = ConnectionPool.checkout(pool)
      assert :ok = ConnectionPool.checkin(pool, agent)
      assert {:ok, ^agent} = ConnectionPool.checkout(pool)
      :atomics.put(healthy, 1, 1)
      assert :ok = ConnectionPool.checkin(pool, agent)
      eventually(fn -> match?({:ok, %{checks_failed: 1}}, ConnectionPool.status(pool)) end)
      assert {:ok, other} = ConnectionPool.checkout(pool)
      assert other != agent
    end

    test "the strategies and the ways of testing of step 3.2", %{namespace: namespace} do
      ping = fn _agent -> :ok end

      for strategy <- [:lifo, :fifo, :round_robin], health <- [:passive, :active, :mixed] do
        options = [strategy: strategy, health: health, health_interval: 1_000, ping: ping]
        pool = pool(namespace, options)
        assert {:ok, 7} = ConnectionPool.with_connection(pool, &Agent.get(&1, fn n -> n end))
        :ok = stop_supervised(:pool)
      end
    end

    defp pool(namespace, options) do
      create = fn -> Agent.start_link(fn -> 7 end) end
      options = [name: :pool, namespace: namespace, size: 1, create: create] ++ options
      start_supervised!(Supervisor.child_spec({ConnectionPool, options}, id: :pool))
      {namespace, :pool}
    end
  end

  test "step 3.3 and phase 3, the database pool by both of its names", %{namespace: namespace} do
    path = Path.join(System.tmp_dir!(), "founding_#{System.pid()}.db")
    on_exit(fn -> for file <- Path.wildcard(path <> "*"), do: File.rm!(file) end)
    start_supervised!({DatabasePool, path: path, size: 1, max_overflow: 1})
    assert {:ok, %{rows: [{"%{a: 1}"}]}} = Service.sync_to_database_v3(namespace, %{a: 1})

    # As the document writes `DatabasePool.with_connection/1`.
    with_connection = fn fun ->
      ElixirScope.Foundation.Infrastructure.ConnectionPool.with_connection(
        :database_pool,
        fun,
        allow_overflow: true,
        timeout: 10_000
      )
    end

    read = &DatabasePool.query(&1, "SELECT data FROM config")
    assert {:ok, %{rows: [{"%{a: 1}"}]}} = with_connection.(read)
    assert {:ok, %{rows: [{"%{a: 1}"}]}} = DatabasePool.with_connection(read)
  end

  describe "the integration architecture:" do
    test "execute_with_protection is the circuit breaker's execute", %{namespace: namespace} do
      for operation <- [fn -> 1 end, fn -> {:ok, 1} end, fn -> :error end, fn -> {:error, 1} end] do
        assert Infrastructure.execute_with_protection(namespace, :any, operation) ==
                 SimpleCircuitBreaker.execute(namespace, :any, operation)
      end
    end

    test "update_config_v2: the rate limit first, then the breaker", context do
      %{namespace: namespace, user: user} = context
      :ok = ManualClock.install(namespace)
      opts = [rate_limit: :config_updates, user_id: user]
      update = fn value -> Service.update_config_v2(namespace, [:limit], value, opts) end
      for n <- 1..10, do: assert({:ok, :ok} = update.(n))
      :ok = CircuitBreaker.force_open(namespace, :settings)
      assert {:error, %Error{error_type: :rate_limited}} = update.(11)
      assert {:ok, %{admitted: 10}} = CircuitBreaker.stats(namespace, :settings)
    end
  end

  test "backward compatibility: the three reads of a configuration agree", %{
    namespace: namespace
  } do
    reads = [&ConfigServer.get/2, &ConfigServer.get_protected/2, &ConfigServer.get_enhanced/2]

    for path <- [[:ai, :provider], [], [:none], [:ai, :provider, :below]] do
      answers =
        for read <- reads do
          with {:error, error} <- read.(namespace, path), do: {:error, %{error | timestamp: nil}}
        end

      assert [_one_answer] = Enum.uniq(answers)
    end
  end

  # Printed and not asserted: a machine may be busy.
  test "phase 1's measure: what the breaker adds to a call", %{namespace: namespace} do
    call = fn -> :ok end
    :ok = Infrastructure.CircuitBreakerRegistry.register(namespace, :any, call_timeout: :infinity)
    {bare, :ok} = :timer.tc(fn -> for(_ <- 1..20_000, do: call.()) && :ok end)

    {guarded, :ok} =
      :timer.tc(fn ->
        for(_ <- 1..20_000, do: {:ok, :ok} = SimpleCircuitBreaker.execute(namespace, :any, call))
        :ok
      end)

    IO.puts(
      "breaker: #{div((guarded - bare) * 1_000, 20_000)} ns a call (less than 1000000 wanted)"
    )

    assert {:ok, %{succeeded: 20_000}} = CircuitBreaker.stats(namespace, :any)
  end
end
