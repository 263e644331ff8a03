defmodule ElixirScope.Foundation.Infrastructure.CallMetricsTest do
  # What happens to single calls as metrics of the TelemetryService: added up without messages, gathered when asked for.
  use ElixirScope.Foundation.FoundationCase, async: false

  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, CircuitBreakerTelemetry}
  alias ElixirScope.Foundation.Infrastructure.{ConnectionPool, OpenMetrics, TokenBucketLimiter}

  setup do
    %{namespace: start_namespace()}
  end

  defp metric(namespace, path) do
    {:ok, metrics} = TelemetryService.get_metrics(namespace)
    get_in(metrics, [:elixir_scope, :foundation, :infra] ++ path)
  end

  defp deny(namespace, key, n) do
    for _ <- 1..n,
        do:
          {:error, :rate_limited, _} =
            TokenBucketLimiter.check_rate_limit(key, 1, 60_000, namespace: namespace)
  end

  defp queue_length(namespace) do
    {:ok, pid} = ProcessRegistry.lookup(namespace, :telemetry_service)
    {:message_queue_len, length} = Process.info(pid, :message_queue_len)
    length
  end

  test "denied checks, with the first one's metadata", %{namespace: namespace} do
    :ok = TokenBucketLimiter.check_rate_limit("k", 1, 60_000, namespace: namespace)
    assert metric(namespace, [:rate_limiter, :request_denied]) == nil
    deny(namespace, "k", 3)

    assert %{count: 3, measurements: %{counter: 3}} =
             metric(namespace, [:rate_limiter, :request_denied])

    deny(namespace, "k", 2)
    denied = metric(namespace, [:rate_limiter, :request_denied])
    assert %{count: 5, measurements: %{counter: 5}, metadata: metadata} = denied
    assert %{namespace: ^namespace, limiter: :default, key: "k", reason: :rate_limited} = metadata
    assert metric(namespace, [:rate_limiter, :request_allowed]) == nil
  end

  test "a share of them, or none, as the limiter's events say", %{namespace: namespace} do
    :ok = TokenBucketLimiter.configure(namespace, events: {:one_in, 10})
    :ok = TokenBucketLimiter.check_rate_limit("k", 1, 60_000, namespace: namespace)
    deny(namespace, "k", 2_000)
    denied = metric(namespace, [:rate_limiter, :request_denied])
    assert denied.measurements.counter == 10 * denied.count
    assert denied.count in 100..300

    :ok = TokenBucketLimiter.configure(namespace, events: :off)
    :ok = TokenBucketLimiter.check_rate_limit("k", 1, 60_000, namespace: namespace)
    deny(namespace, "k", 100)
    assert metric(namespace, [:rate_limiter, :request_denied]).count == denied.count
  end

  test "the breaker's calls, once they are switched on", %{namespace: namespace} do
    on_exit(fn -> CircuitBreakerTelemetry.call_events(false) end)
    call = fn -> CircuitBreaker.execute(namespace, :search, fn -> 1 end) end
    {:ok, 1} = call.()
    assert metric(namespace, [:circuit_breaker, :call_executed]) == nil
    CircuitBreakerTelemetry.call_events(true)
    for _ <- 1..4, do: {:ok, 1} = call.()
    :ok = CircuitBreaker.force_open(namespace, :search)
    for _ <- 1..6, do: {:error, _} = call.()

    assert %{count: 4, measurements: %{counter: 4}} =
             metric(namespace, [:circuit_breaker, :call_executed])

    assert %{count: 6, metadata: %{service: :search, reason: :forced_open}} =
             metric(namespace, [:circuit_breaker, :call_rejected])
  end

  test "a pool's refusals and told check-outs", %{namespace: namespace} do
    {:ok, _} =
      ConnectionPool.start_link(
        name: :parsers,
        namespace: namespace,
        size: 1,
        max_overflow: 0,
        telemetry: 1,
        create: fn -> Agent.start_link(fn -> 0 end) end
      )

    pool = {namespace, :parsers}
    {:ok, agent} = ConnectionPool.checkout(pool)
    for _ <- 1..3, do: {:error, _} = ConnectionPool.checkout(pool, 0)
    {:error, _} = ConnectionPool.checkout(pool, 1)
    :ok = ConnectionPool.checkin(pool, agent)
    assert %{count: 3} = metric(namespace, [:connection_pool, :pool_exhausted])
    assert %{count: 1} = metric(namespace, [:connection_pool, :timeout])
    assert %{count: 1} = metric(namespace, [:connection_pool, :checkout])
    assert %{count: 1} = metric(namespace, [:connection_pool, :checkin])
  end

  test "are in OpenMetrics", %{namespace: namespace} do
    :ok = TokenBucketLimiter.check_rate_limit("k", 1, 60_000, namespace: namespace)
    deny(namespace, "k", 7)
    name = "elixir_scope.foundation.infra.rate_limiter.request_denied"
    text = OpenMetrics.render(namespace)
    assert text =~ ~s(elixirscope_service_emissions_total{metric="#{name}"} 7\n)
    assert text =~ ~s(elixirscope_service_measurement{metric="#{name}",measurement="counter"} 7\n)
  end

  test "a flood is no message, and none of it is lost", %{namespace: namespace} do
    {:ok, pid} = ProcessRegistry.lookup(namespace, :telemetry_service)
    :ok = TokenBucketLimiter.check_rate_limit("k", 1, 60_000, namespace: namespace)
    :sys.suspend(pid)
    before = queue_length(namespace)

    1..8
    |> Enum.map(fn _ -> Task.async(fn -> deny(namespace, "k", 500) end) end)
    |> Task.await_many(60_000)

    assert queue_length(namespace) == before
    :sys.resume(pid)

    # While it is asked again and again, too.
    flood = Task.async(fn -> deny(namespace, "k", 2_000) end)
    for _ <- 1..50, do: metric(namespace, [:rate_limiter, :request_denied])
    Task.await(flood, 60_000)
    assert %{count: 6_000} = metric(namespace, [:rate_limiter, :request_denied])
  end

  test "wait for a service that is down, and begin anew with a reset", %{namespace: namespace} do
    :ok = TokenBucketLimiter.check_rate_limit("k", 1, 60_000, namespace: namespace)
    terminate(namespace, :telemetry_service, TelemetryService)
    deny(namespace, "k", 5)
    {:ok, supervisor} = ProcessRegistry.lookup(namespace, {:supervisor, :services})
    {:ok, _pid} = Supervisor.restart_child(supervisor, TelemetryService)
    assert %{count: 5} = metric(namespace, [:rate_limiter, :request_denied])

    key = make_ref()
    :ok = TokenBucketLimiter.check_rate_limit(key, 1, 60_000)
    {:error, :rate_limited, _} = TokenBucketLimiter.check_rate_limit(key, 1, 60_000)
    :ok = TelemetryService.reset_metrics()
    assert metric(:production, [:rate_limiter, :request_denied]) == nil
  end

  test "end with a test's namespace, and are apart from others'", %{namespace: namespace} do
    other = start_namespace()
    :ok = TokenBucketLimiter.check_rate_limit("k", 1, 60_000, namespace: namespace)
    deny(namespace, "k", 2)
    assert metric(other, [:rate_limiter, :request_denied]) == nil
    {:test, reference} = namespace
    :ok = TestSupervisor.cleanup_namespace(reference)
    :ok = ProcessRegistry.cleanup_test_namespace(reference)
    table = ElixirScope.Foundation.Infrastructure.Tally
    assert :ets.match(table, {{namespace, :_}, :_, :_, :_}) == []
  end
end
