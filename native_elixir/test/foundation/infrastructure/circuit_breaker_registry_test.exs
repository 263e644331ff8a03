defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerRegistryTest do
  # Names, namespaces, options and configuration. Not async: the application's environment is the VM's.
  use ExUnit.Case, async: false
  doctest ElixirScope.Foundation.Infrastructure.CircuitBreakerRegistry

  alias ElixirScope.Foundation.{Error, ProcessRegistry}

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreaker,
    CircuitBreakerRegistry,
    CircuitBreakerTelemetry,
    ConnectionPool,
    Names,
    TokenBucketLimiter
  }

  setup do
    before = Application.get_env(:elixir_scope, :infrastructure)
    reference = make_ref()

    on_exit(fn ->
      Application.put_env(:elixir_scope, :infrastructure, before)
      ProcessRegistry.cleanup_test_namespace(reference)
    end)

    %{namespace: {:test, reference}}
  end

  defp configure(breakers),
    do: Application.put_env(:elixir_scope, :infrastructure, circuit_breakers: breakers)

  defp fail(namespace, service),
    do: CircuitBreaker.execute(namespace, service, fn -> {:error, :down} end)

  describe "removal" do
    test "retires a breaker that was registered after it was asked for", %{namespace: namespace} do
      :ok = CircuitBreakerRegistry.register(namespace, :raced)
      test = self()

      busy =
        Task.async(fn ->
          Names.update(:breaker, namespace, :raced, fn handle ->
            send(test, {:busy, self()})
            receive do: (:go_on -> {:ok, handle})
          end)
        end)

      assert_receive {:busy, names}
      register = Task.async(fn -> CircuitBreakerRegistry.register(namespace, :raced) end)
      wait_for_requests(names, 1)
      remove = Task.async(fn -> CircuitBreakerRegistry.remove(namespace, :raced) end)
      wait_for_requests(names, 2)
      send(names, :go_on)

      assert {:ok, _handle} = Task.await(busy)
      assert [:ok, :ok] = Task.await_many([register, remove])
      :ok = CircuitBreakerTelemetry.sync(namespace)
      assert CircuitBreakerTelemetry.ids(namespace, :raced) == []
    end

    defp wait_for_requests(pid, count) do
      case Process.info(pid, :message_queue_len) do
        {:message_queue_len, ^count} -> :ok
        _fewer -> wait_for_requests(pid, count)
      end
    end
  end

  describe "namespaces" do
    test "are :production and {:test, reference}, everywhere" do
      for refused <- [:prod, nil, "production", {:test, 1}, {:prod, make_ref()}],
          result <- [
            CircuitBreaker.execute(refused, :search, fn -> flunk("it ran") end),
            CircuitBreaker.execute(refused, :search, fn -> flunk("it ran") end, []),
            CircuitBreaker.ask(refused, :search),
            CircuitBreaker.handle(refused, :search),
            CircuitBreaker.force_open(refused, :search),
            CircuitBreakerRegistry.register(refused, :search),
            CircuitBreakerTelemetry.subscribe(refused),
            TokenBucketLimiter.check_rate_limit(:key, 1, 1, namespace: refused),
            ConnectionPool.start_link(
              name: :p,
              namespace: refused,
              size: 1,
              create: fn -> :error end
            )
          ] do
        assert {:error, %Error{message: message}} = result
        assert message =~ "`namespace` is #{inspect(refused)}, allowed is :production or {:test, "
      end
    end

    test "of a test are gone with it", %{namespace: {:test, reference} = namespace} do
      fail(namespace, :search)
      {:ok, handle} = CircuitBreaker.handle(namespace, :search)
      assert CircuitBreakerRegistry.list(namespace) == [:search]
      :ok = ProcessRegistry.cleanup_test_namespace(reference)
      assert CircuitBreakerRegistry.list(namespace) == []

      assert {:error, %Error{error_type: :circuit_breaker_not_found}} =
               CircuitBreakerRegistry.lookup(namespace, :search)

      # Who still has a handle is not stopped by that.
      assert {:ok, 1} = CircuitBreaker.execute(handle, fn -> 1 end)
    end

    test "a name is an atom", %{namespace: namespace} do
      for service <- ["search", nil, 7] do
        assert {:error, %Error{message: message}} = fail(namespace, service)
        assert message == "`service` is #{inspect(service)}, allowed is an atom"
      end
    end
  end

  describe "handles" do
    test "are of one breaker, whatever becomes of its name", %{namespace: namespace} do
      :ok = CircuitBreakerRegistry.register(namespace, :search, failure_threshold: 1)
      {:ok, handle} = CircuitBreaker.handle(namespace, :search)
      assert inspect(handle) =~ "CircuitBreaker.Handle<{:test, #Reference"
      assert :error = CircuitBreaker.execute(handle, fn -> :error end)
      assert {:ok, :open} = CircuitBreaker.state(namespace, :search)
      assert {:error, %Error{error_type: :circuit_open}} = CircuitBreaker.ask(handle)
      assert {:error, %Error{error_type: :stale}} = CircuitBreaker.report(handle, :failure)

      :ok = CircuitBreakerRegistry.register(namespace, :search, failure_threshold: 1)

      assert {:error, %Error{error_type: :circuit_open}} =
               CircuitBreaker.execute(handle, fn -> 1 end)

      assert {:ok, 1} = CircuitBreaker.execute(namespace, :search, fn -> 1 end)
    end

    test "take options of a call, and raise on demand", %{namespace: namespace} do
      {:ok, handle} = CircuitBreaker.handle(namespace, :search)
      me = self()

      assert {:ok, ^me} =
               CircuitBreaker.execute(handle, fn -> self() end, call_timeout: :infinity)

      boom = fn -> raise "boom" end
      assert_raise RuntimeError, "boom", fn -> CircuitBreaker.execute!(handle, boom) end

      assert_raise RuntimeError, "boom", fn ->
        CircuitBreaker.execute!(handle, boom, ignore: [RuntimeError])
      end

      assert_raise RuntimeError, "boom", fn ->
        CircuitBreaker.execute!(namespace, :search, boom, [])
      end

      assert {:ok, %{failed: 2, ignored: 1}} = CircuitBreaker.stats(namespace, :search)
    end
  end

  test "health", %{namespace: namespace} do
    for service <- [:fine, :worn, :gone, :probed],
        do: CircuitBreaker.execute(namespace, service, fn -> 1 end)

    for _ <- 1..2, do: fail(namespace, :worn)
    for _ <- 1..5, do: fail(namespace, :gone)

    :ok =
      CircuitBreakerRegistry.register(namespace, :probed, failure_threshold: 1, reset_timeout: 0)

    fail(namespace, :probed)
    {:ok, _probe} = CircuitBreaker.ask(namespace, :probed)

    assert CircuitBreakerRegistry.health_check(namespace) == %{
             fine: :healthy,
             worn: :degraded,
             gone: :unhealthy,
             probed: :degraded
           }

    assert CircuitBreakerRegistry.health_check(namespace, :worn) == {:ok, :degraded}

    assert {:error, %Error{error_type: :circuit_breaker_not_found}} =
             CircuitBreakerRegistry.health_check(namespace, :nobody)
  end

  describe "configuration" do
    test "of a service stands over the defaults, and what is registered over both", %{
      namespace: namespace
    } do
      configure(%{
        default_config: %{failure_threshold: 3, reset_timeout: 11, levels: %{light: 0.3}},
        services: %{search: [failure_threshold: 2, levels: %{light: 0.5}]}
      })

      opens_after = fn service ->
        Enum.find(1..9, fn _ ->
          fail(namespace, service)
          CircuitBreaker.state(namespace, service) == {:ok, :open}
        end)
      end

      assert {opens_after.(:search), opens_after.(:other)} == {2, 3}
      :ok = CircuitBreakerRegistry.register(namespace, :search, failure_threshold: 1)
      assert opens_after.(:search) == 1
      assert {:ok, %{retry_after_ms: ms}} = CircuitBreaker.stats(namespace, :search)
      assert ms <= 11
    end

    test "a policy replaces the one below with all its options", %{namespace: namespace} do
      configure(default_config: %{failure_threshold: 1, reset_timeout: 60_000})
      options = [policy: :rate, window_size: 10, min_calls: 4, failure_rate: 0.5]
      :ok = CircuitBreakerRegistry.register(namespace, :search, options)
      for _ <- 1..3, do: fail(namespace, :search)
      assert {:ok, :closed} = CircuitBreaker.state(namespace, :search)
      fail(namespace, :search)
      assert {:ok, %{state: :open, retry_after_ms: ms}} = CircuitBreaker.stats(namespace, :search)
      assert ms in 50_000..60_000
    end

    for {breakers, message} <- [
          {%{default_config: %{failure_treshold: 3}},
           "default_config: `circuit breaker option` is :failure_treshold, allowed is one of"},
          {%{default_config: %{failure_threshold: 0}},
           "default_config: `failure_threshold` is 0"},
          {%{services: %{search: %{reset_timeout: -1}}}, ":search: `reset_timeout` is -1"},
          {%{services: 5}, "`services` is 5"},
          {%{default: %{}},
           "`circuit_breakers option` is :default, allowed is one of :default_config"},
          {5, "`circuit_breakers options` is 5, allowed is a map or a keyword list"}
        ] do
      test "#{inspect(breakers)} keeps the application from starting" do
        configure(unquote(Macro.escape(breakers)))
        assert {:error, %Error{message: text}} = CircuitBreakerRegistry.check_configuration()
        assert String.starts_with?(text, unquote(message))

        assert {:error, {:invalid_config_value, started}} =
                 ElixirScope.Foundation.Application.start(:normal, [])

        assert started =~ text
      end
    end
  end

  describe "options" do
    for {options, message} <- [
          {[policy: :often],
           "`policy` is :often, allowed is :consecutive_failures, :failures_in_period, :rate"},
          {[period: 5],
           "`period` is 5, allowed is an option of policy :failures_in_period or :rate; " <>
             "the policy is :consecutive_failures"},
          {[policy: :rate, failure_threshold: 5],
           "`failure_threshold` is 5, allowed is an option of policy"},
          {[policy: :failures_in_period, window_size: 5],
           "`window_size` is 5, allowed is an option of policy :rate; the policy is :failures_in_period"},
          {[policy: :rate],
           "`policy` is :rate, allowed is :rate with window_size or period, which say"},
          {[policy: :rate, buckets: 5],
           "`policy` is :rate, allowed is :rate with window_size or period, which say which results"},
          {[policy: :rate, window_size: 5],
           "`min_calls` is 10, allowed is 1 to window_size; it has its default"},
          {[levels: %{light: 0.7}],
           "`levels: medium` is 0.6, allowed is levels: light to 1.0; it has its default"},
          {[policy: :rate, window_size: 5, min_calls: 1, failure_rate: 50],
           "`failure_rate` is 50, allowed is 0.0001 to 1.0"},
          {[policy: :rate, window_size: 5, period: 5],
           "`window_size` is 5, allowed is absent where period is"},
          {[policy: :rate, window_size: 5, buckets: 5],
           "`window_size` is 5, allowed is absent where buckets"},
          {[policy: :rate, period: 5, min_calls: 1, failure_rate: 0.5],
           "`period` is 5, allowed is at least 1 millisecond for each bucket"},
          {[jitter: 1], "`jitter` is 1, allowed is 0.0 to 0.9999"},
          {[jitter: -0.5], "`jitter` is -0.5, allowed is a number from 0.0 to 1.0"},
          {[backoff: 1.1], "`backoff` is 1.1, allowed is 1.0, or 1.2 to 100.0"},
          {[reset_timeout: 10, max_reset_timeout: 5],
           "`max_reset_timeout` is 5, allowed is 0, or reset_timeout to 4611686018427 milliseconds"},
          {[levels: %{light: 0.5, medium: 0.4}],
           "`levels: medium` is 0.4, allowed is levels: light to 1.0"},
          {[levels: %{hard: 0.5}],
           "`entry of levels` is :hard, allowed is one of :heavy, :light, :medium"},
          {[levels: 0.5], "`levels` is 0.5, allowed is a map or a keyword list"},
          {[weights: %{failure: 0}], "`weights: failure` is 0, allowed is 1 to 15"},
          {[weights: %{slow: 16}], "`weights: slow` is 16, allowed is 0 to 15"},
          {[admit: %{light: 0.5}],
           "`admit: light` is 0.5, allowed is an option of strategy :gradual_degradation; " <>
             "the strategy is :fail_fast"},
          {[strategy: :gradual_degradation, admit: %{none: 1.5}],
           "`admit: none` is 1.5, allowed is 0.0 to 1.0"},
          {[strategy: :panic],
           "`strategy` is :panic, allowed is :fail_fast, :gradual_degradation"},
          {[skip_half_open: 1], "`skip_half_open` is 1, allowed is true or false"},
          {[probe_capacity: 65], "`probe_capacity` is 65, allowed is 0 to 64"},
          {[successes_to_close: 2],
           "`successes_to_close` is 2, allowed is 1 to half_open_permits"},
          {[slow_call: {2 ** 63, :nanosecond}],
           "`slow_call` is {9223372036854775808, :nanosecond}, allowed is 0 to 4611686018427 milliseconds"},
          {[classify: :no_function],
           "`classify` is :no_function, allowed is a function of the result"}
        ] do
      test "#{message}", %{namespace: namespace} do
        options = unquote(Macro.escape(options))
        result = CircuitBreakerRegistry.register(namespace, :options, options)
        assert {:error, %Error{error_type: :invalid_config_value, message: text}} = result
        assert String.starts_with?(text, unquote(message))
        assert CircuitBreakerRegistry.list(namespace) == []
      end
    end

    test "a policy needs no more than is its own", %{namespace: namespace} do
      for options <- [
            [policy: :failures_in_period],
            [policy: :rate, window_size: 10],
            [policy: :rate, period: 60_000]
          ] do
        :ok = CircuitBreakerRegistry.register(namespace, :default, options)
        for _ <- 1..4, do: fail(namespace, :default)
        for _ <- 1..5, do: CircuitBreaker.execute(namespace, :default, fn -> 1 end)
        assert {:ok, :closed} = CircuitBreaker.state(namespace, :default)
        fail(namespace, :default)
        assert {:ok, :open} = CircuitBreaker.state(namespace, :default)
      end
    end

    test "a strategy replaces the shares of the one below", %{namespace: namespace} do
      options = [strategy: :gradual_degradation, admit: [none: 0.0]]
      :ok = CircuitBreakerRegistry.register(namespace, :shed, options)
      assert {:error, %Error{}} = CircuitBreaker.execute(namespace, :shed, fn -> 1 end)
      :ok = CircuitBreaker.reconfigure(namespace, :shed, strategy: :fail_fast)
      assert {:ok, 1} = CircuitBreaker.execute(namespace, :shed, fn -> 1 end)
    end

    test "a wrong shape is refused, and nobody else notices", %{namespace: namespace} do
      names = Process.whereis(Names)

      for options <- [
            1..3,
            MapSet.new(),
            ~D[2024-01-01],
            [:policy | :rate],
            [weights: 1..2],
            [levels: [{:light, 0.1} | :medium]],
            [ignore: [:typo | :down]]
          ] do
        result = CircuitBreakerRegistry.register(namespace, :options, options)
        assert {:error, %Error{error_type: :invalid_config_value}} = result
      end

      assert_raise RuntimeError, "mine", fn ->
        Names.ensure(:breaker, namespace, :options, fn -> raise "mine" end)
      end

      assert Process.whereis(Names) == names
    end

    test "every one is taken", %{namespace: namespace} do
      shared = [
        weights: %{success: 0, failure: 2, slow: 1, ignored: 0, cancelled: 0},
        slow_call: 10,
        reset_timeout: {5, :nanosecond},
        backoff: 1.5,
        max_reset_timeout: 5_000,
        jitter: 0.25,
        seed: 7,
        skip_half_open: false,
        half_open_permits: 3,
        successes_to_close: 2,
        probe_lease: 50,
        release_expired_probes: true,
        half_open_limit: 500,
        close_at_half_open_limit: true,
        max_ignored_probes: 9,
        ramp: 1_000,
        ramp_from: 0.2,
        levels: [light: 0.1, medium: 0.2, heavy: 0.3],
        strategy: :gradual_degradation,
        admit: [none: 1, light: 0.9, medium: 0.8, heavy: 0.7],
        probe_capacity: 4,
        window_capacity: 256,
        call_timeout: 100,
        failure?: [:down],
        ignore: [:typo]
      ]

      for policy <- [
            [failure_threshold: 9],
            [policy: :failures_in_period, tolerated_failures: 0, period: 10],
            [policy: :rate, window_size: 9, min_calls: 2, failure_rate: 0.1, slow_call_rate: 0.9],
            [policy: :rate, period: 1_000, buckets: 5, min_calls: 2, failure_rate: 1]
          ] do
        assert :ok = CircuitBreakerRegistry.register(namespace, :all, policy ++ shared)
        assert {:ok, 1} = CircuitBreaker.execute(namespace, :all, fn -> 1 end)
        assert :ok = CircuitBreaker.reconfigure(namespace, :all, Map.new(policy ++ shared))
      end
    end
  end
end
