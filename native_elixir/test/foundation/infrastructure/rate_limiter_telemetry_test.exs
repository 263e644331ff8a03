defmodule ElixirScope.Foundation.Infrastructure.RateLimiterTelemetryTest do
  # Not async: there is one log of events, and configuration is the application's.
  use ExUnit.Case, async: false

  alias ElixirScope.Foundation.{Error, ProcessRegistry, TelemetryLog}
  alias ElixirScope.Foundation.Infrastructure.{ManualClock, TokenBucketLimiter}

  @prefix [:elixir_scope, :foundation, :infra, :rate_limiter]
  @rule {2, 60_000}

  setup do
    reference = make_ref()
    namespace = {:test, reference}
    :ok = ManualClock.install(namespace)
    :ok = TelemetryLog.attach()
    on_exit(fn -> ProcessRegistry.cleanup_test_namespace(reference) end)
    %{namespace: namespace, opts: [namespace: namespace]}
  end

  defp configure(namespace, events),
    do: :ok = TokenBucketLimiter.configure(namespace, events: events)

  # What was told of this namespace since the last look, in order.
  defp events(namespace, told \\ []) do
    receive do
      {:telemetry, @prefix ++ [event], measurements, %{namespace: ^namespace} = metadata} ->
        events(namespace, [{event, measurements, Map.delete(metadata, :namespace)} | told])
    after
      0 -> Enum.reverse(told)
    end
  end

  defp kinds(namespace), do: Enum.map(events(namespace), &elem(&1, 0))

  test "tells of each check, allowed or denied", %{namespace: namespace, opts: opts} do
    configure(namespace, :all)
    :ok = TokenBucketLimiter.check_rate_limit("k", 2, 60_000, [cost: 2] ++ opts)
    {:error, :rate_limited, 30_000} = TokenBucketLimiter.check_rate_limit("k", 2, 60_000, opts)
    {:error, %Error{}} = TokenBucketLimiter.check_rate_limit("k", 2, 60_000, [cost: 3] ++ opts)
    about = %{limiter: :default, key: "k", rule: @rule}

    assert events(namespace) == [
             {:request_allowed, %{count: 1, cost: 2}, about},
             {:request_denied, %{count: 1, cost: 1, retry_after_ms: 30_000},
              Map.put(about, :reason, :rate_limited)},
             {:request_denied, %{count: 1, cost: 3, retry_after_ms: :infinity},
              Map.put(about, :reason, :never)}
           ]
  end

  test "tells of every kind of call once", %{namespace: namespace, opts: opts} do
    configure(namespace, :all)
    both = [:request_allowed, :request_denied]
    once = fn call -> for _ <- 1..2, do: call.() end
    one = {1, 60_000}

    for {key, call} <- [
          check: &TokenBucketLimiter.check(&1, one, opts),
          reserve: &TokenBucketLimiter.reserve(&1, one, opts),
          acquire: &TokenBucketLimiter.acquire(&1, one, 0, opts),
          opaque: &TokenBucketLimiter.check_rate_limit({&1, 2 ** 80}, 1, 60_000, opts),
          named: &TokenBucketLimiter.check(&1, :config_updates, [cost: 10] ++ opts)
        ] do
      once.(fn -> call.(key) end)
      assert {key, kinds(namespace)} == {key, both}
    end

    once.(fn -> TokenBucketLimiter.check_many([{:m, one}, {:n, @rule}], opts) end)

    assert [{:request_allowed, %{cost: 2}, %{key: [:m, :n], rule: [^one, @rule]}}, denied] =
             events(namespace)

    assert {:request_denied, %{retry_after_ms: 60_000}, %{reason: :rate_limited}} = denied
    TokenBucketLimiter.check_batch([{:b, one}, {:b, one}], opts)
    assert kinds(namespace) == both
    TokenBucketLimiter.check_rate_limits([:e, :e], 1, 60_000, opts)
    assert kinds(namespace) == both
    once.(fn -> TokenBucketLimiter.check_hierarchy([user: one], %{user: 1}, opts) end)
    assert kinds(namespace) == both
    TokenBucketLimiter.peek(:check, one, opts)
    TokenBucketLimiter.check_rate_limit(:check, -1, 0, opts)
    assert kinds(namespace) == []
  end

  test "denied calls alone, unless configured otherwise", %{namespace: namespace, opts: opts} do
    for _ <- 1..4, do: TokenBucketLimiter.check_rate_limit("k", 2, 60_000, opts)
    assert kinds(namespace) == [:request_denied, :request_denied]
    TokenBucketLimiter.check_rate_limits(["k", "l"], 2, 60_000, opts)
    assert kinds(namespace) == [:request_denied]
    configure(namespace, :off)
    for _ <- 1..4, do: TokenBucketLimiter.check_rate_limit("k", 2, 60_000, opts)
    TokenBucketLimiter.check_rate_limits(["k", "k"], 2, 60_000, opts)
    assert kinds(namespace) == []
    configure(namespace, request_allowed: :all, request_denied: :off)
    for _ <- 1..4, do: TokenBucketLimiter.check_rate_limit("k", 2, 60_000, opts)
    assert kinds(namespace) == [:request_allowed, :request_allowed]
  end

  test "a sample stands for the calls that it was taken of", %{namespace: namespace, opts: opts} do
    configure(namespace, %{request_allowed: {:one_in, 4}})
    calls = 20_000
    for _ <- 1..calls, do: :ok = TokenBucketLimiter.check_rate_limit("k", calls, 60_000, opts)
    told = events(namespace)
    assert Enum.all?(told, &match?({:request_allowed, %{count: 4}, _}, &1))
    # Ten standard deviations of what chance makes of it.
    assert_in_delta length(told), calls / 4, 10 * :math.sqrt(calls * 3 / 16)
  end

  test "is configured for all limiters, and for one", %{opts: opts} do
    before = Application.get_env(:elixir_scope, :infrastructure)
    on_exit(fn -> Application.put_env(:elixir_scope, :infrastructure, before) end)

    section = %{
      events: :off,
      limiters: %{told: %{events: :all, max_keys: 10}},
      default_limits: %{everybody: {1, 60_000}},
      hierarchies: %{api: [user: {2, 60_000}, global: :everybody]}
    }

    Application.put_env(:elixir_scope, :infrastructure, %{rate_limiting: section})
    namespace = opts[:namespace]
    for _ <- 1..2, do: TokenBucketLimiter.check_hierarchy(:api, [user: 1], opts)
    assert kinds(namespace) == []
    told = [limiter: :told] ++ opts
    assert :ok = TokenBucketLimiter.check_hierarchy(:api, [user: 1], told)

    assert {:error, %Error{context: %{level: :global, blocked: %{global: 60_000}}}} =
             TokenBucketLimiter.check_hierarchy(:api, [user: 1], told)

    assert [{:request_allowed, _, %{limiter: :told}}, {:request_denied, _, _}] = events(namespace)

    for {bad, text} <- [
          {%{events: 5}, "`events` is 5"},
          {%{limiters: 5}, "`limiters` is 5"},
          {%{limiters: %{default: %{size: 1}}}, "`limiter option` is :size"},
          {%{full_policy: :x}, "`full_policy` is :x"},
          {%{algorithm: :fixed}, "`algorithm` is :fixed"}
        ] do
      Application.put_env(:elixir_scope, :infrastructure, %{rate_limiting: bad})

      assert {:error, %Error{message: message}} =
               TokenBucketLimiter.check_rate_limit(1, 1, 1, namespace: {:test, make_ref()})

      assert message =~ text
    end
  end

  test "a change of `default_limits` reaches keys that live", %{namespace: namespace} do
    before = Application.get_env(:elixir_scope, :infrastructure)
    on_exit(fn -> Application.put_env(:elixir_scope, :infrastructure, before) end)

    limit = fn rule ->
      section = %{enabled: true, default_limits: %{exports: rule}}
      Application.put_env(:elixir_scope, :infrastructure, %{rate_limiting: section})
    end

    ask = fn ->
      ElixirScope.Foundation.Infrastructure.protected_operation(
        namespace,
        :exports,
        [rate_limit: :exports, rate_key: "ann"],
        fn -> :done end
      )
    end

    place = [namespace: namespace]
    limit.({2, 60_000})
    assert {:ok, :done} = ask.()
    assert {:ok, :done} = ask.()
    assert {:error, %Error{error_type: :rate_limited, context: %{rule: :exports}}} = ask.()
    # From the configuration, as it is ...
    limit.({4, 60_000})
    assert {:error, %Error{context: %{retry_after_ms: 15_000}}} = ask.()
    # ... and by code, with a strategy, until the configuration changes.
    :ok = TokenBucketLimiter.put_limit(:exports, {8, 60_000}, [strategy: :additive] ++ place)
    for _ <- 1..4, do: assert({:ok, :done} = ask.())
    assert {:error, %Error{context: %{retry_after_ms: 7_500}}} = ask.()
    limit.({1, 60_000})
    assert {:error, %Error{context: %{retry_after_ms: 60_000}}} = ask.()
  end
end
