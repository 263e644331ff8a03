defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerModelTest do
  # Trips, half-open rounds, levels, shedding, modes and what is told of them, against a model in Elixir that knows
  # nothing of the core: any history of calls through the public modules is the model's.
  use ExUnit.Case, async: true

  import ElixirScope.Foundation.Properties

  alias ElixirScope.Foundation.{Error, ProcessRegistry}

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreaker,
    CircuitBreakerRegistry,
    CircuitBreakerTelemetry,
    ManualClock
  }

  @period 100
  @reset_ms 20
  @cap_ms 70
  @modes [:auto, :forced_open, :forced_closed, :metrics_only]

  test "R01 R06 R09 R14 R17 R18 R24 every history of a breaker is the model's" do
    check_all(history(), 400, &as_the_model/1)
  end

  defp history do
    command =
      :proper_types.frequency([
        {12,
         {:execute,
          :proper_types.elements([:success, :failure, :failure, :ignored, :slow, :cancelled])}},
        {2, {:report, :proper_types.elements([:success, :failure, :ignored])}},
        {5, {:advance, :proper_types.integer(0, 60)}},
        {1, :reset},
        {2, {:mode, :proper_types.elements([:auto | @modes])}}
      ])

    tolerated = :proper_types.integer(0, 5)
    permits = :proper_types.integer(1, 4)
    spare = :proper_types.integer(0, 3)
    strategy = :proper_types.elements([:fail_fast, :gradual_degradation])
    {tolerated, permits, spare, strategy, :proper_types.resize(80, :proper_types.list(command))}
  end

  defp as_the_model({tolerated, permits, spare, strategy, commands}) do
    reference = make_ref()
    namespace = {:test, reference}
    successes = max(1, permits - spare)

    rule = %{
      tolerated: tolerated,
      permits: permits,
      successes: successes,
      shares: if(strategy == :fail_fast, do: {1, 1, 1}, else: {0.8, 0.5, 0.2})
    }

    :ok = ManualClock.install(namespace)
    :ok = CircuitBreakerTelemetry.subscribe(namespace)

    :ok =
      CircuitBreakerRegistry.register(namespace, :s,
        policy: :failures_in_period,
        tolerated_failures: tolerated,
        period: @period,
        reset_timeout: @reset_ms,
        backoff: 2.0,
        max_reset_timeout: @cap_ms,
        half_open_permits: permits,
        successes_to_close: successes,
        strategy: strategy,
        call_timeout: :infinity
      )

    try do
      model = %{
        mode: :auto,
        state: :closed,
        failures: [],
        now: 0,
        until: 0,
        opens: 0,
        succeeded: 0,
        failed: 0,
        left_over: 0
      }

      model = Enum.reduce(commands, model, &step(&1, &2, rule, namespace))
      told(namespace, model)
    after
      ProcessRegistry.cleanup_test_namespace(reference)
      told()
    end
  end

  defp step(command, model, rule, namespace) do
    model = run(command, model, rule, namespace)
    {:ok, stats} = CircuitBreaker.stats(namespace, :s)
    assert {stats.state, stats.mode, stats.level} == {model.state, model.mode, level(model, rule)}
    assert {stats.opens, stats.live_probes} == {model.opens, 0}
    assert stats.retry_after_ms == wait(model)
    model
  end

  defp run({:advance, ms}, model, _rule, namespace) do
    :ok = ManualClock.advance(namespace, ms)
    %{model | now: model.now + ms}
  end

  defp run(:reset, model, _rule, namespace) do
    :ok = CircuitBreaker.reset(namespace, :s)
    if model.mode == :forced_open, do: model, else: closed(model)
  end

  defp run({:mode, mode}, model, _rule, namespace) do
    set = %{
      auto: &CircuitBreaker.auto/2,
      forced_open: &CircuitBreaker.force_open/2,
      forced_closed: &CircuitBreaker.force_closed/2,
      metrics_only: &CircuitBreaker.metrics_only/2
    }

    :ok = set[mode].(namespace, :s)

    cond do
      mode == model.mode -> model
      mode == :forced_open -> %{closed(model) | mode: mode, state: :open}
      true -> %{closed(model) | mode: mode}
    end
  end

  defp run({:report, outcome}, model, rule, namespace) do
    answer = CircuitBreaker.report(namespace, :s, outcome)

    if model.state == :closed do
      assert answer == :ok
      record(model, outcome, rule)
    else
      assert {:error, %Error{error_type: :stale}} = answer
      model
    end
  end

  defp run({:execute, outcome}, model, rule, namespace) do
    me = self()
    ran = make_ref()
    operation = fn -> send(me, ran) end
    result = CircuitBreaker.execute(namespace, :s, operation, classify: fn _ -> outcome end)
    ran? = receive do: (^ran -> true), after: (0 -> false)
    {verdict, model} = admit(model, rule)

    if verdict == :admitted do
      assert {ran?, result} == {true, {:ok, ran}}
      record(model, outcome, rule)
    else
      assert {:error, %Error{error_type: ^verdict, context: context}} = result
      refute ran?
      if verdict != :service_degraded, do: assert(context.retry_after_ms == wait(model))
      model
    end
  end

  defp admit(%{mode: :forced_open} = model, _rule), do: {:forced_open, model}

  defp admit(%{state: :open, now: now, until: until} = model, _rule) when now < until,
    do: {:circuit_open, model}

  defp admit(%{state: :open} = model, _rule),
    do: {:admitted, %{model | state: :half_open, succeeded: 0, failed: 0}}

  defp admit(%{state: :closed, mode: :auto} = model, %{shares: {light, medium, heavy}} = rule) do
    share = %{none: 1, light: light, medium: medium, heavy: heavy}[level(model, rule)]
    sum = model.left_over + round(share * 10)

    cond do
      share == 1 -> {:admitted, model}
      sum >= 10 -> {:admitted, %{model | left_over: sum - 10}}
      true -> {:service_degraded, %{model | left_over: sum}}
    end
  end

  defp admit(model, _rule), do: {:admitted, model}

  defp record(model, outcome, _rule) when outcome in [:ignored, :cancelled], do: model

  defp record(%{state: :half_open} = model, :failure, rule) do
    model = %{model | failed: model.failed + 1}
    if model.failed > rule.permits - rule.successes, do: opened(model), else: model
  end

  defp record(%{state: :half_open} = model, _success, rule) do
    model = %{model | succeeded: model.succeeded + 1}
    if model.succeeded == rule.successes, do: closed(model), else: model
  end

  defp record(%{mode: mode} = model, :failure, rule) when mode in [:auto, :metrics_only] do
    model = %{model | failures: [model.now | model.failures]}
    if mode == :auto and used(model) > rule.tolerated, do: opened(model), else: model
  end

  defp record(model, _outcome, _rule), do: model

  defp opened(model) do
    open_ms = min(@cap_ms, @reset_ms * 2 ** model.opens)
    %{model | state: :open, failures: [], opens: model.opens + 1, until: model.now + open_ms}
  end

  defp closed(model), do: %{model | state: :closed, failures: [], opens: 0}

  defp used(model), do: Enum.count(model.failures, &(model.now - &1 < @period))

  defp level(%{state: :closed} = model, rule) do
    used = used(model) / (rule.tolerated + 1)

    cond do
      used == 0 -> :none
      used >= 1 -> :exceeded
      used >= 0.8 -> :heavy
      used >= 0.6 -> :medium
      used >= 0.4 -> :light
      true -> :none
    end
  end

  defp level(_model, _rule), do: :none

  defp wait(%{mode: :forced_open}), do: :infinity
  defp wait(%{state: :open} = model), do: max(0, model.until - model.now)
  defp wait(_model), do: 0

  # R22: each sequence is gapless from 1, the changes are a chain, and the last one is the state.
  defp told(namespace, model) do
    :ok = CircuitBreakerTelemetry.sync(namespace)
    {generations, levels} = Enum.split_with(told(), &(&1.kind == :generation))

    for changes <- [generations, levels],
        do: assert(Enum.map(changes, & &1.sequence) == Enum.to_list(1..length(changes)//1))

    for {one, next} <- Enum.zip(generations, Enum.drop(generations, 1)),
        do: assert(one.to == next.from)

    if generations != [], do: assert(List.last(generations).to == model.state)
    assert CircuitBreakerTelemetry.stats(namespace).dropped_events == 0
  end

  defp told do
    receive do
      {:circuit_breaker_event, change} -> [change | told()]
    after
      0 -> []
    end
  end
end
