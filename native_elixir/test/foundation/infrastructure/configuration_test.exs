defmodule ElixirScope.Foundation.Infrastructure.ConfigurationTest do
  # What `config :elixir_scope, :infrastructure` says by its shapes and by what it leaves out (section 6 of the facts),
  # beside what `ConfigTest` says of wrong values.
  use ElixirScope.Foundation.FoundationCase, async: false

  alias ElixirScope.Foundation.Infrastructure
  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, Config, ConnectionPool}
  alias ElixirScope.Foundation.Infrastructure.{FeatureFlags, ManualClock, TokenBucketLimiter}

  setup do
    reference = make_ref()
    on_exit(fn -> ProcessRegistry.cleanup_test_namespace(reference) end)
    %{namespace: {:test, reference}}
  end

  defp flags,
    do:
      {FeatureFlags.circuit_breaker_enabled?(:production),
       FeatureFlags.rate_limiting_enabled?(:production)}

  test "6 an absent key is off, at every level" do
    for absent <- [
          [],
          %{},
          [circuit_breakers: %{}],
          %{rate_limiting: []},
          [circuit_breakers: [default_config: %{}], rate_limiting: %{default_limits: %{}}],
          [connection_pools: %{}]
        ] do
      put_env(:infrastructure, absent)
      assert flags() == {false, false}
    end

    Application.delete_env(:elixir_scope, :infrastructure)
    assert flags() == {false, false}
  end

  test "6 what is not true is off, and whatever the namespace is" do
    for {value, on?} <- [{true, true}, {false, false}, {nil, false}, {1, false}, {"true", false}] do
      put_env(:infrastructure,
        circuit_breakers: %{enabled: value},
        rate_limiting: %{enabled: value}
      )

      for namespace <- [:production, {:test, make_ref()}, :any, nil] do
        assert FeatureFlags.circuit_breaker_enabled?(namespace) == on?
        assert FeatureFlags.rate_limiting_enabled?(namespace) == on?
      end
    end
  end

  test "6 each level may be a map or a keyword list", %{namespace: namespace} do
    as = %{map: &Map.new/1, list: &Enum.to_list/1}

    for {_, top} <- as, {_, section} <- as, {_, inner} <- as do
      infrastructure =
        top.(
          circuit_breakers:
            section.(
              enabled: true,
              default_config: inner.(failure_threshold: 2),
              services: inner.(patient: inner.(failure_threshold: 3))
            ),
          rate_limiting: section.(enabled: true, default_limits: inner.(a_rule: {3, 60_000})),
          connection_pools: section.(a_pool: inner.(size: 3, create: fn -> {:ok, 1} end))
        )

      put_env(:infrastructure, infrastructure)
      assert flags() == {true, true}
      services = [:"s#{System.unique_integer([:positive])}", :patient]

      for {service, threshold} <- Enum.zip(services, [2, 3]) do
        :ok = Infrastructure.CircuitBreakerRegistry.register(namespace, service, [])
        fail = fn -> CircuitBreaker.execute(namespace, service, fn -> :error end) end
        for _ <- 2..threshold, do: fail.()
        assert {:ok, :closed} = CircuitBreaker.state(namespace, service)
        fail.()
        assert {:ok, :open} = CircuitBreaker.state(namespace, service)
      end

      assert Config.default_limit(:a_rule) == {:ok, {3, 60_000}}
      assert [spec] = ConnectionPool.Configured.children()
      start_supervised!(spec)
      assert {:ok, %{size: 3}} = ConnectionPool.status(:a_pool)
      :ok = stop_supervised(spec.id)
    end
  end

  test "6 circuit breakers that are only enabled have the plan's default_config", %{
    namespace: namespace
  } do
    :ok = ManualClock.install(namespace)
    put_env(:infrastructure, circuit_breakers: %{enabled: true})
    :ok = ManualClock.install(namespace)
    run = &Infrastructure.execute_with_protection(namespace, :service, &1)
    for _ <- 1..5, do: assert({:error, :down} = run.(fn -> {:error, :down} end))

    assert {:error, %Error{error_type: :circuit_open, context: %{retry_after_ms: 30_000}}} =
             run.(fn -> 1 end)

    assert {:ok, %{call_timeout: 5_000}} = CircuitBreaker.handle(namespace, :service)
  end

  test "6 the token bucket is the only algorithm, and the usual one", %{namespace: namespace} do
    check = fn -> TokenBucketLimiter.check_rate_limit(:key, 1, 60_000, namespace: namespace) end

    put_env(:infrastructure, rate_limiting: %{algorithm: :fixed_window})
    assert {:error, %Error{error_type: :invalid_config_value, message: message}} = check.()
    assert message =~ "`algorithm` is :fixed_window, allowed is :token_bucket"
    put_env(:infrastructure, rate_limiting: %{algorithm: :token_bucket})
    assert :ok = check.()
  end

  # What the comment of `config/config.exs` warns of.
  test "6 Mix takes a later map whole, and keeps the other keys" do
    path = Path.join(System.tmp_dir!(), "merge_#{System.pid()}.exs")
    on_exit(fn -> File.rm!(path) end)

    File.write!(path, """
    import Config
    config :elixir_scope, :infrastructure,
      circuit_breakers: %{enabled: true, default_config: %{failure_threshold: 2}},
      rate_limiting: %{enabled: true}
    config :elixir_scope, :infrastructure, circuit_breakers: %{enabled: true}
    """)

    [elixir_scope: [infrastructure: infrastructure]] = Elixir.Config.Reader.read!(path)
    put_env(:infrastructure, infrastructure)
    assert flags() == {true, true}
    assert Config.breakers() == {:ok, {%{}, %{}}}
  end

  test "6 a change takes effect with the next call", %{namespace: namespace} do
    put_env(:infrastructure, rate_limiting: %{enabled: true, default_limits: %{r: {1, 60_000}}})
    opts = [rate_limit: :r, rate_key: make_ref()]
    run = fn -> Infrastructure.protected_operation(namespace, :service, opts, fn -> 1 end) end
    assert {:ok, 1} = run.()
    assert {:error, %Error{error_type: :rate_limited}} = run.()
    put_env(:infrastructure, rate_limiting: %{enabled: false, default_limits: %{r: {1, 60_000}}})
    assert {:ok, 1} = run.()
    put_env(:infrastructure, rate_limiting: %{enabled: true, default_limits: %{r: {9, 60_000}}})
    # What was spent before is still owed.
    assert {:error, %Error{error_type: :rate_limited, context: %{limit: 9}}} = run.()
    put_env(:infrastructure, circuit_breakers: %{enabled: true, default_config: %{oops: 1}})

    assert {:error, %Error{error_type: :invalid_config_value}} =
             Infrastructure.execute_with_protection(namespace, :never_called, fn -> 1 end)
  end
end
