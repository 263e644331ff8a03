defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerVectorsTest do
  use ExUnit.Case, async: true

  alias ElixirScope.Foundation.{ProcessRegistry, Vectors}
  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, CircuitBreakerRegistry}
  alias ElixirScope.Foundation.Infrastructure.{CircuitBreakerTelemetry, ManualClock}

  # A field of the core that is absent has the core's default, which `reconfigure` has to be told.
  @defaults %{
    "weight_success" => 0,
    "weight_failure" => 1,
    "weight_slow" => 0,
    "weight_ignored" => 0,
    "weight_cancelled" => 0,
    "slow_call_ns" => 0,
    "open_for_ns" => 30_000_000_000,
    "backoff_percent" => 100,
    "max_open_ns" => 0,
    "jitter_bp" => 0,
    "seed" => 0,
    "skip_half_open" => false,
    "half_open_permits" => 1,
    "successes_to_close" => 1,
    "probe_lease_ns" => 60_000_000_000,
    "release_expired_probes" => false,
    "half_open_limit_ns" => 0,
    "close_at_half_open_limit" => false,
    "max_ignored_probes" => 0,
    "ramp_ns" => 0,
    "ramp_from_bp" => 1_000,
    "level_light_bp" => 4_000,
    "level_medium_bp" => 6_000,
    "level_heavy_bp" => 8_000,
    "admit_bp" => 10_000,
    "admit_light_bp" => 10_000,
    "admit_medium_bp" => 10_000,
    "admit_heavy_bp" => 10_000
  }

  @tag :vectors
  @tag timeout: :infinity
  test "every vector of the breaker" do
    vectors = Vectors.read(:breaker)
    Enum.each(vectors, &replay/1)
    Vectors.report(:breaker, vectors)
  end

  defp replay(%{"config" => config, "ops" => ops, "name" => name}) do
    reference = make_ref()
    namespace = {:test, reference}
    :ok = ManualClock.install(namespace)
    :ok = CircuitBreakerTelemetry.subscribe(namespace)
    :ok = CircuitBreakerRegistry.register(namespace, :vector, options(config))

    ops
    |> Enum.with_index()
    |> Enum.reduce(%{}, fn {op, index}, permits ->
      ManualClock.set_ns(namespace, op["now_ns"])
      {answer, permits} = run(op, namespace, permits)

      answer =
        if op["op"] == "state", do: answer, else: Map.put(answer, "events", events(namespace))

      assert answer == op["expect"],
             "#{name}, operation #{index}: #{inspect(op)}, answered #{inspect(answer)}"

      permits
    end)

    ProcessRegistry.cleanup_test_namespace(reference)
  end

  defp options(config),
    do: @defaults |> Map.merge(config) |> Enum.reduce([strategy: :gradual_degradation], &option/2)

  defp option({"policy", "rate_" <> _window}, options), do: [{:policy, :rate} | options]
  defp option({"policy", policy}, options), do: [{:policy, String.to_atom(policy)} | options]
  defp option({"open_for_ns", ns}, options), do: [{:reset_timeout, {ns, :nanosecond}} | options]

  defp option({"max_open_ns", ns}, options),
    do: [{:max_reset_timeout, {ns, :nanosecond}} | options]

  defp option({"backoff_percent", percent}, options), do: [{:backoff, percent / 100} | options]
  defp option({"admit_bp", share}, options), do: group(options, :admit, :none, share / 10_000)

  defp option({"weight_" <> outcome, weight}, options),
    do: group(options, :weights, String.to_atom(outcome), weight)

  defp option({"level_" <> field, share}, options),
    do: group(options, :levels, level(field), share / 10_000)

  defp option({"admit_" <> field, share}, options),
    do: group(options, :admit, level(field), share / 10_000)

  defp option({field, value}, options) do
    cond do
      String.ends_with?(field, "_ns") -> [{name(field, "_ns"), {value, :nanosecond}} | options]
      String.ends_with?(field, "_bp") -> [{name(field, "_bp"), value / 10_000} | options]
      true -> [{String.to_atom(field), value} | options]
    end
  end

  defp group(options, group, entry, value),
    do: Keyword.update(options, group, %{entry => value}, &Map.put(&1, entry, value))

  defp level(field), do: name(field, "_bp")
  defp name(field, unit), do: field |> String.replace_suffix(unit, "") |> String.to_atom()

  defp run(%{"op" => "acquire"} = op, namespace, permits) do
    case CircuitBreaker.acquire(namespace, :vector) do
      {:ok, permit} ->
        {%{"verdict" => "ok", "retry_after_ns" => 0}, Map.put(permits, op["permit"], permit)}

      {:error, error} ->
        {%{"verdict" => word(error), "retry_after_ns" => wait(error.context.retry_after_ns)},
         permits}
    end
  end

  defp run(%{"op" => "ask"}, namespace, permits) do
    case CircuitBreaker.admit(namespace, :vector) do
      :ok ->
        {%{"verdict" => "ok", "retry_after_ns" => 0}, permits}

      {:error, error} ->
        {%{"verdict" => word(error), "retry_after_ns" => wait(error.context.retry_after_ns)},
         permits}
    end
  end

  defp run(%{"op" => "record"} = op, _namespace, permits),
    do: {permits[op["permit"]] |> CircuitBreaker.record(outcome(op)) |> verdict(), permits}

  defp run(%{"op" => "report"} = op, namespace, permits),
    do: {namespace |> CircuitBreaker.report(:vector, outcome(op)) |> verdict(), permits}

  defp run(%{"op" => "state"}, namespace, permits) do
    {:ok, stats} = CircuitBreaker.stats(namespace, :vector)

    {%{
       "phase" => Atom.to_string(stats.state),
       "mode" => Atom.to_string(stats.mode),
       "level" => Atom.to_string(stats.level),
       "generation" => stats.generation,
       "opens" => stats.opens,
       "live_probes" => stats.live_probes,
       "window_calls" => stats.window_calls,
       "failures" => stats.failure_count,
       "slow_calls" => stats.slow_calls,
       "failure_rate_bp" => round(stats.failure_rate * 10_000),
       "slow_call_rate_bp" => round(stats.slow_call_rate * 10_000),
       "retry_after_ns" => wait(stats.retry_after_ns),
       "last_cause" => stats.last_cause && Atom.to_string(stats.last_cause)
     }, permits}
  end

  defp run(op, namespace, permits) do
    :ok =
      case op do
        %{"op" => "settle"} ->
          CircuitBreaker.settle(namespace, :vector)

        %{"op" => "reset"} ->
          CircuitBreaker.reset(namespace, :vector)

        %{"op" => "set_mode", "mode" => mode} ->
          set_mode(mode, namespace)

        %{"op" => "reconfigure"} ->
          CircuitBreaker.reconfigure(namespace, :vector, options(op["config"]))

        %{"op" => "reinstall"} ->
          CircuitBreaker.reinstall(namespace, :vector, options(op["config"]))
      end

    {%{}, permits}
  end

  defp set_mode("auto", namespace), do: CircuitBreaker.auto(namespace, :vector)
  defp set_mode("forced_open", namespace), do: CircuitBreaker.force_open(namespace, :vector)
  defp set_mode("forced_closed", namespace), do: CircuitBreaker.force_closed(namespace, :vector)
  defp set_mode("metrics_only", namespace), do: CircuitBreaker.metrics_only(namespace, :vector)

  defp outcome(op), do: String.to_existing_atom(op["outcome"])
  defp verdict(:ok), do: %{"verdict" => "ok"}
  defp verdict({:error, error}), do: %{"verdict" => word(error)}
  defp word(error), do: Atom.to_string(error.error_type)
  defp wait(:infinity), do: nil
  defp wait(ns), do: ns

  defp events(namespace) do
    :ok = CircuitBreakerTelemetry.sync(namespace)
    Enum.map(received(), &event/1)
  end

  defp received do
    receive do
      {:circuit_breaker_event, event} -> [event | received()]
    after
      0 -> []
    end
  end

  @fields [:sequence, :generation, :from, :to, :from_level, :to_level, :mode, :cause, :at_ns]

  defp event(event), do: Map.new(@fields, &{Atom.to_string(&1), text(event[&1])})

  defp text(word) when is_atom(word), do: Atom.to_string(word)
  defp text(number), do: number
end
