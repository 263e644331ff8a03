defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerPropertyTest do
  # Any sequence of calls behaves as a model of a dozen lines says. The core's own properties are tested in Rust;
  # these are the ones of `execute`: who runs, what comes back, what is counted. The seed is fixed.
  use ExUnit.Case, async: true

  alias ElixirScope.Foundation.{Error, ProcessRegistry}

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreaker,
    CircuitBreakerRegistry,
    ManualClock,
    SimpleCircuitBreaker
  }

  @histories 300
  @calls 60

  # What an operation does, whether that is a success, and what `execute` returns for it.
  defp operations do
    [
      {fn -> 7 end, true, &match?({:ok, 7}, &1)},
      {fn -> {:ok, 7} end, true, &match?({:ok, 7}, &1)},
      {fn -> nil end, true, &match?({:ok, nil}, &1)},
      {fn -> :error end, false, &match?(:error, &1)},
      {fn -> {:error, :down} end, false, &match?({:error, :down}, &1)},
      {fn -> {:error, :down, 3} end, false, &match?({:error, :down, 3}, &1)},
      {fn -> raise "no" end, false, &crashed?(&1, :error)},
      {fn -> throw(:ball) end, false, &crashed?(&1, :throw)},
      {fn -> exit(:gone) end, false, &crashed?(&1, :exit)}
    ]
  end

  defp crashed?(result, kind) do
    match?(
      {:error, %Error{error_type: :protected_operation_failed, context: %{kind: ^kind}}},
      result
    )
  end

  test "every history of calls is the model's" do
    :rand.seed(:exsss, {7, 11, 13})

    for history <- 1..@histories do
      reference = make_ref()
      namespace = {:test, reference}
      :ok = ManualClock.install(namespace)
      rule = %{threshold: :rand.uniform(4), reset_ms: :rand.uniform(50) - 1}

      :ok =
        CircuitBreakerRegistry.register(namespace, :search,
          failure_threshold: rule.threshold,
          reset_timeout: rule.reset_ms,
          call_timeout: Enum.random([:infinity, 60_000])
        )

      model = %{state: :closed, failures: 0, now: 0, opened: 0, admitted: 0, rejected: 0}

      model =
        Enum.reduce(1..@calls, model, fn call, model ->
          call(model, rule, namespace, "history #{history}, call #{call}")
        end)

      {:ok, stats} = CircuitBreaker.stats(namespace, :search)
      assert {stats.admitted, stats.rejected_open} == {model.admitted, model.rejected}
      assert stats.admitted == stats.succeeded + stats.failed
      assert {stats.live_probes, stats.stale, stats.expired} == {0, 0, 0}
      ProcessRegistry.cleanup_test_namespace(reference)
    end
  end

  defp call(model, rule, namespace, where) do
    ms = Enum.random([0, 0, 0, :rand.uniform(30)])
    :ok = ManualClock.advance(namespace, ms)
    model = %{model | now: model.now + ms}
    {operation, success?, expected} = Enum.random(operations())
    test = self()
    ran = make_ref()

    result =
      SimpleCircuitBreaker.execute(namespace, :search, fn ->
        send(test, ran)
        operation.()
      end)

    ran? = receive do: (^ran -> true), after: (0 -> false)
    admits? = model.state == :closed or model.now >= model.opened + rule.reset_ms
    assert {where, ran?} == {where, admits?}

    model = if admits?, do: record(model, rule, success?), else: reject(model, rule, result)
    if admits?, do: assert(expected.(result), "#{where}: #{inspect(result)}")
    assert {where, CircuitBreaker.state(namespace, :search)} == {where, {:ok, model.state}}
    model
  end

  defp reject(model, rule, result) do
    assert {:error, %Error{error_type: :circuit_open, context: context}} = result
    assert context.retry_after_ms == model.opened + rule.reset_ms - model.now
    %{model | rejected: model.rejected + 1}
  end

  defp record(model, rule, success?) do
    model = %{model | admitted: model.admitted + 1}
    failures = model.failures + 1

    cond do
      success? -> %{model | state: :closed, failures: 0}
      model.state == :closed and failures < rule.threshold -> %{model | failures: failures}
      true -> %{model | state: :open, failures: 0, opened: model.now}
    end
  end
end
