defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerPropertyTest do
  # Any sequence of calls behaves as a model of a dozen lines says. The core's own properties are tested in Rust;
  # these are the ones of `execute`: who runs, what comes back, what is counted. PropEr shrinks a history that
  # differs to a short one.
  use ExUnit.Case, async: true

  import ElixirScope.Foundation.Properties

  alias ElixirScope.Foundation.{Error, ProcessRegistry}

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreaker,
    CircuitBreakerRegistry,
    ManualClock,
    SimpleCircuitBreaker
  }

  # What an operation does, whether that is a success, and what `execute` returns for it.
  @operations %{
    value: true,
    ok_tuple: true,
    nothing: true,
    error: false,
    error_tuple: false,
    long_error_tuple: false,
    raises: false,
    throws: false,
    exits: false
  }

  defp operation(:value), do: 7
  defp operation(:ok_tuple), do: {:ok, 7}
  defp operation(:nothing), do: nil
  defp operation(:error), do: :error
  defp operation(:error_tuple), do: {:error, :down}
  defp operation(:long_error_tuple), do: {:error, :down, 3}
  defp operation(:raises), do: raise("no")
  defp operation(:throws), do: throw(:ball)
  defp operation(:exits), do: exit(:gone)

  defp expected?(:value, result), do: result == {:ok, 7}
  defp expected?(:ok_tuple, result), do: result == {:ok, 7}
  defp expected?(:nothing, result), do: result == {:ok, nil}
  defp expected?(:raises, result), do: crashed?(result, :error)
  defp expected?(:throws, result), do: crashed?(result, :throw)
  defp expected?(:exits, result), do: crashed?(result, :exit)
  defp expected?(name, result), do: result == operation(name)

  defp crashed?(result, kind) do
    match?(
      {:error, %Error{error_type: :protected_operation_failed, context: %{kind: ^kind}}},
      result
    )
  end

  test "every history of calls is the model's" do
    check_all(history(), 300, &as_the_model/1)
  end

  # A configuration, and calls with steps of time and resets between them.
  defp history do
    command =
      :proper_types.frequency([
        {8, {:execute, :proper_types.elements(Map.keys(@operations))}},
        {3, {:advance, :proper_types.integer(0, 30)}},
        {1, :reset}
      ])

    threshold = :proper_types.integer(1, 4)
    reset_ms = :proper_types.integer(0, 49)
    call_timeout = :proper_types.elements([:infinity, 60_000])
    {threshold, reset_ms, call_timeout, :proper_types.resize(60, :proper_types.list(command))}
  end

  defp as_the_model({threshold, reset_ms, call_timeout, commands}) do
    reference = make_ref()
    namespace = {:test, reference}
    :ok = ManualClock.install(namespace)

    :ok =
      CircuitBreakerRegistry.register(namespace, :search,
        failure_threshold: threshold,
        reset_timeout: reset_ms,
        call_timeout: call_timeout
      )

    rule = %{threshold: threshold, reset_ms: reset_ms}
    model = %{state: :closed, failures: 0, now: 0, opened: 0, admitted: 0, rejected: 0}

    try do
      model = Enum.reduce(commands, model, &step(&1, &2, rule, namespace))
      {:ok, stats} = CircuitBreaker.stats(namespace, :search)
      assert {stats.admitted, stats.rejected_open} == {model.admitted, model.rejected}
      assert stats.admitted == stats.succeeded + stats.failed
      assert {stats.live_probes, stats.stale, stats.expired} == {0, 0, 0}
    after
      # Also between the histories that a failing one is shrunk to.
      ProcessRegistry.cleanup_test_namespace(reference)
    end
  end

  defp step(command, model, rule, namespace) do
    model = run(command, model, rule, namespace)
    assert CircuitBreaker.state(namespace, :search) == {:ok, model.state}
    model
  end

  defp run({:advance, ms}, model, _rule, namespace) do
    :ok = ManualClock.advance(namespace, ms)
    %{model | now: model.now + ms}
  end

  defp run(:reset, model, _rule, namespace) do
    :ok = CircuitBreaker.reset(namespace, :search)
    %{model | state: :closed, failures: 0}
  end

  defp run({:execute, name}, model, rule, namespace) do
    test = self()
    ran = make_ref()

    result =
      SimpleCircuitBreaker.execute(namespace, :search, fn ->
        send(test, ran)
        operation(name)
      end)

    ran? = receive do: (^ran -> true), after: (0 -> false)
    assert ran? == (model.state == :closed or model.now >= model.opened + rule.reset_ms)

    if ran? do
      assert expected?(name, result)
      record(model, rule, @operations[name])
    else
      assert {:error, %Error{error_type: :circuit_open, context: context}} = result
      assert context.retry_after_ms == model.opened + rule.reset_ms - model.now
      %{model | rejected: model.rejected + 1}
    end
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
