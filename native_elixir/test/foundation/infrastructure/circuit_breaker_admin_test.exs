defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerAdminTest do
  # Modes, live configuration and injected faults.
  use ExUnit.Case, async: true

  alias ElixirScope.Foundation.{Error, ProcessRegistry}

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreaker,
    CircuitBreakerRegistry,
    ManualClock
  }

  setup do
    reference = make_ref()
    on_exit(fn -> ProcessRegistry.cleanup_test_namespace(reference) end)
    namespace = {:test, reference}
    :ok = ManualClock.install(namespace)
    %{namespace: namespace}
  end

  defp fail(namespace, service \\ :s),
    do: CircuitBreaker.execute(namespace, service, fn -> :error end)

  defp ok(namespace, service \\ :s), do: CircuitBreaker.execute(namespace, service, fn -> 1 end)

  defp stats(namespace) do
    {:ok, stats} = CircuitBreaker.stats(namespace, :s)
    stats
  end

  describe "modes" do
    test "R24 forced open rejects whatever happens, until somebody releases it", %{
      namespace: namespace
    } do
      :ok = CircuitBreaker.force_open(namespace, :s)
      :ok = CircuitBreaker.force_open(namespace, :s)
      ManualClock.advance(namespace, 1_000_000)
      :ok = CircuitBreaker.reset(namespace, :s)
      :ok = CircuitBreaker.reinstall(namespace, :s, [])

      assert {:error, %Error{error_type: :forced_open, code: 2523, context: context}} =
               ok(namespace)

      assert context.retry_after_ms == :infinity
      assert context.retry_after_ns == :infinity

      assert %{
               state: :open,
               mode: :forced_open,
               rejected_forced_open: 1,
               retry_after_ms: :infinity
             } = stats(namespace)

      :ok = CircuitBreaker.auto(namespace, :s)
      assert {:ok, 1} = ok(namespace)
      assert %{state: :closed, mode: :auto, last_cause: :mode_changed} = stats(namespace)
    end

    test "R24 forced closed is switched off: it admits and counts nothing toward a trip", %{
      namespace: namespace
    } do
      :ok = CircuitBreaker.force_closed(namespace, :s)
      for _ <- 1..9, do: assert(:error = fail(namespace))

      assert %{state: :closed, mode: :forced_closed, level: :none, failure_count: 0, failed: 9} =
               stats(namespace)
    end

    test "R24 metrics only admits, counts and tells", %{namespace: namespace} do
      :ok = CircuitBreaker.metrics_only(namespace, :s)
      for _ <- 1..9, do: assert(:error = fail(namespace))
      assert %{state: :closed, mode: :metrics_only, level: :exceeded} = stats(namespace)
      :ok = CircuitBreaker.auto(namespace, :s)
      assert %{state: :closed, level: :none, failure_count: 0} = stats(namespace)
    end
  end

  describe "degradation" do
    test "R18 gradual degradation sheds a share of the calls, without chance", %{
      namespace: namespace
    } do
      :ok =
        CircuitBreakerRegistry.register(namespace, :s,
          policy: :failures_in_period,
          tolerated_failures: 9,
          period: 1_000,
          strategy: :gradual_degradation,
          call_timeout: :infinity
        )

      for {failures, level, share} <- [{4, :light, 80}, {6, :medium, 50}, {8, :heavy, 20}] do
        :ok = CircuitBreaker.reset(namespace, :s)
        for _ <- 1..failures, do: :ok = CircuitBreaker.report(namespace, :s, :failure)
        assert %{level: ^level} = stats(namespace)
        admitted = for _ <- 1..100, match?({:ok, 1}, ok(namespace)), do: 1
        assert length(admitted) == share
      end

      :ok = CircuitBreaker.reset(namespace, :s)
      for _ <- 1..8, do: :ok = CircuitBreaker.report(namespace, :s, :failure)
      rejected = Enum.find_value(1..5, fn _ -> with {:ok, 1} <- ok(namespace), do: nil end)
      assert {:error, %Error{error_type: :service_degraded}} = rejected
      assert %{state: :closed, rejected_degraded: degraded} = stats(namespace)
      assert degraded > 100
    end

    test "levels and shares are given by name", %{namespace: namespace} do
      :ok =
        CircuitBreakerRegistry.register(namespace, :s,
          failure_threshold: 10,
          levels: %{light: 0.1},
          strategy: :gradual_degradation,
          admit: [light: 0.0]
        )

      :error = fail(namespace)
      assert {:error, %Error{error_type: :service_degraded}} = ok(namespace)
    end
  end

  describe "policies" do
    test "R02 a failure counts while it is younger than the period", %{namespace: namespace} do
      options = [policy: :failures_in_period, tolerated_failures: 1, period: 100]

      for {ms, state} <- [{100, :closed}, {99, :open}] do
        :ok = CircuitBreakerRegistry.register(namespace, :s, options)
        fail(namespace)
        ManualClock.advance(namespace, ms)
        fail(namespace)
        assert {:ok, ^state} = CircuitBreaker.state(namespace, :s)
      end
    end

    test "R03 a failure rate over a count window", %{namespace: namespace} do
      :ok =
        CircuitBreakerRegistry.register(namespace, :s,
          policy: :rate,
          window_size: 100,
          min_calls: 10,
          failure_rate: 0.5
        )

      for _ <- 1..6, do: fail(namespace)
      for _ <- 1..3, do: ok(namespace)

      assert %{state: :closed, window_calls: 9, failure_count: 6, failure_rate: rate} =
               stats(namespace)

      assert_in_delta rate, 0.6666, 0.0001
      ok(namespace)
      assert %{state: :open, last_cause: :failure_rate} = stats(namespace)
    end

    test "R04 calls that take longer are slow; equal is not", %{namespace: namespace} do
      options = [policy: :rate, window_size: 2, min_calls: 2, failure_rate: 1.0, slow_call: 10]

      for {ms, state} <- [{10, :closed}, {11, :open}] do
        :ok = CircuitBreakerRegistry.register(namespace, :s, [call_timeout: :infinity] ++ options)

        for _ <- 1..2,
            do:
              CircuitBreaker.execute(namespace, :s, fn -> ManualClock.advance(namespace, ms) end)

        assert {:ok, ^state} = CircuitBreaker.state(namespace, :s)
      end

      assert %{last_cause: :slow_call_rate, succeeded: 2, failed: 0} = stats(namespace)
    end

    test "R17 the open time grows to its cap", %{namespace: namespace} do
      :ok =
        CircuitBreakerRegistry.register(namespace, :s,
          failure_threshold: 1,
          reset_timeout: 50,
          backoff: 2.0,
          max_reset_timeout: 150
        )

      for ms <- [50, 100, 150, 150] do
        fail(namespace)
        assert stats(namespace).retry_after_ms == ms
        ManualClock.advance(namespace, ms)
      end
    end
  end

  describe "live configuration" do
    test "R23 reconfigure keeps state, and what it is not told", %{namespace: namespace} do
      :ok =
        CircuitBreakerRegistry.register(namespace, :s, failure_threshold: 5, reset_timeout: 70)

      for _ <- 1..2, do: fail(namespace)
      :ok = CircuitBreaker.reconfigure(namespace, :s, failure_threshold: 3)
      assert %{state: :closed, failure_count: 2, generation: 1} = stats(namespace)
      fail(namespace)
      assert %{state: :open, retry_after_ms: 70} = stats(namespace)
      :ok = CircuitBreaker.reconfigure(namespace, :s, reset_timeout: 5_000)
      assert %{state: :open, retry_after_ms: 70} = stats(namespace)
    end

    test "R23 reinstall begins anew from what is configured", %{namespace: namespace} do
      :ok =
        CircuitBreakerRegistry.register(namespace, :s, failure_threshold: 1, reset_timeout: 70)

      fail(namespace)
      :ok = CircuitBreaker.reinstall(namespace, :s, failure_threshold: 2)
      assert %{state: :closed, last_cause: :reinstalled} = stats(namespace)
      for _ <- 1..2, do: fail(namespace)
      assert %{state: :open, retry_after_ms: 30_000} = stats(namespace)
    end

    test "what is not the core's changes too", %{namespace: namespace} do
      me = self()
      :ok = CircuitBreakerRegistry.register(namespace, :s, call_timeout: 5_000)
      assert {:ok, other} = CircuitBreaker.execute(namespace, :s, fn -> self() end)
      assert other != me
      :ok = CircuitBreaker.reconfigure(namespace, :s, call_timeout: :infinity, ignore: [:error])
      assert {:ok, ^me} = CircuitBreaker.execute(namespace, :s, fn -> self() end)
      fail(namespace)
      assert %{ignored: 1} = stats(namespace)
    end

    test "a refused one changes nothing", %{namespace: namespace} do
      {:ok, 1} = ok(namespace)

      for {options, message} <- [
            {[failure_threshold: 0], "`failure_threshold` is 0"},
            {[half_open_permits: 9],
             "`half_open_permits` is 9, allowed is 1 to the probe_capacity of its creation"},
            {[policy: :rate, window_size: 9, min_calls: 1, failure_rate: 0.5],
             "`policy` is :rate, allowed is results up to the window_capacity of its creation"},
            {[tresh: 1], "`circuit breaker option` is :tresh"}
          ],
          change <- [&CircuitBreaker.reconfigure/3, &CircuitBreaker.reinstall/3] do
        assert {:error, %Error{message: text}} = change.(namespace, :s, options)
        assert String.starts_with?(text, message)
      end

      assert %{generation: 1, admitted: 1} = stats(namespace)
      for _ <- 1..4, do: fail(namespace)
      assert %{state: :closed, failure_count: 4} = stats(namespace)
    end

    test "of a breaker that does not exist is refused", %{namespace: namespace} do
      for change <- [&CircuitBreaker.reconfigure/3, &CircuitBreaker.reinstall/3],
          do:
            assert(
              {:error, %Error{error_type: :circuit_breaker_not_found}} =
                change.(namespace, :nobody, [])
            )
    end
  end

  describe "injected faults" do
    test "fail a share of the calls, the same for the same seed", %{namespace: namespace} do
      run = fn seed ->
        :ok =
          CircuitBreakerRegistry.register(namespace, :s,
            failure_threshold: 1_000,
            call_timeout: :infinity
          )

        :ok = CircuitBreaker.inject_faults(namespace, :s, failure_rate: 0.3, seed: seed)
        for _ <- 1..500, do: ok(namespace)
      end

      results = run.(7)
      refused = Enum.filter(results, &match?({:error, %Error{error_type: :fault_injected}}, &1))
      assert length(refused) in 100..200
      assert %{injected: injected, admitted: admitted} = stats(namespace)
      assert {injected, admitted + injected} == {length(refused), 500}
      kinds = fn results -> Enum.map(results, &elem(&1, 0)) end
      assert kinds.(run.(7)) == kinds.(results)
      assert kinds.(run.(8)) != kinds.(results)
    end

    test "count as failures, and end on demand", %{namespace: namespace} do
      :ok = CircuitBreaker.inject_faults(namespace, :s, failure_rate: 1.0)
      for _ <- 1..5, do: assert({:error, %Error{error_type: :fault_injected}} = ok(namespace))
      assert {:error, %Error{error_type: :circuit_open}} = ok(namespace)
      :ok = CircuitBreaker.inject_faults(namespace, :s, [])
      :ok = CircuitBreaker.reset(namespace, :s)
      assert {:ok, 1} = ok(namespace)
    end

    test "delay a call before it is made, within its call_timeout", %{namespace: namespace} do
      :ok = CircuitBreaker.inject_faults(namespace, :s, delay_rate: 1.0, delay: 60_000)
      options = [call_timeout: 20]

      assert {:error, %Error{error_type: :timeout}} =
               CircuitBreaker.execute(namespace, :s, fn -> flunk("it was made") end, options)

      :ok = CircuitBreaker.inject_faults(namespace, :s, delay_rate: 1.0, delay: 1)
      assert {:ok, 1} = ok(namespace)
      assert {:ok, permit} = CircuitBreaker.ask(namespace, :s)
      assert :ok = CircuitBreaker.record(permit, :success)
    end

    test "refuse what is no share", %{namespace: namespace} do
      for {faults, message} <- [
            {[failure_rate: 1.1], "`failure_rate` is 1.1, allowed is 0.0 to 1.0"},
            {[delay: 2 ** 70],
             "`delay` is 1180591620717411303424, allowed is 0 to 4611686018427 milliseconds"},
            {[rate: 1],
             "`fault option` is :rate, allowed is one of :delay, :delay_rate, :failure_rate, :seed"},
            {7, "`fault options` is 7"}
          ] do
        assert {:error, %Error{message: text}} =
                 CircuitBreaker.inject_faults(namespace, :s, faults)

        assert String.starts_with?(text, message)
      end
    end
  end
end
