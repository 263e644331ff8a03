defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerVectorsTest do
  use ExUnit.Case, async: true

  alias ElixirScope.Foundation.{ProcessRegistry, Vectors}
  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, CircuitBreakerRegistry}
  alias ElixirScope.Foundation.Infrastructure.{CircuitBreakerTelemetry, ManualClock}

  @tag :vectors
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

    :ok =
      CircuitBreakerRegistry.register(namespace, :vector,
        failure_threshold: config["failure_threshold"],
        half_open_permits: config["half_open_permits"],
        successes_to_close: config["successes_to_close"],
        reset_timeout: {config["open_for_ns"], :nanosecond},
        probe_lease: {config["probe_lease_ns"], :nanosecond}
      )

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

  defp run(%{"op" => "acquire"} = op, namespace, permits) do
    case CircuitBreaker.acquire(namespace, :vector) do
      {:ok, permit} ->
        {%{"verdict" => "ok", "retry_after_ns" => 0}, Map.put(permits, op["permit"], permit)}

      {:error, error} ->
        {%{"verdict" => word(error), "retry_after_ns" => error.context.retry_after_ns}, permits}
    end
  end

  defp run(%{"op" => "record"} = op, _namespace, permits) do
    case CircuitBreaker.record(permits[op["permit"]], String.to_atom(op["outcome"])) do
      :ok -> {%{"verdict" => "ok"}, permits}
      {:error, error} -> {%{"verdict" => word(error)}, permits}
    end
  end

  defp run(%{"op" => "reset"}, namespace, permits) do
    :ok = CircuitBreaker.reset(namespace, :vector)
    {%{}, permits}
  end

  defp run(%{"op" => "state"}, namespace, permits) do
    {:ok, stats} = CircuitBreaker.stats(namespace, :vector)

    {%{
       "phase" => Atom.to_string(stats.state),
       "generation" => stats.generation,
       "consecutive_failures" => stats.failure_count,
       "live_probes" => stats.live_probes
     }, permits}
  end

  defp word(error), do: Atom.to_string(error.error_type)

  defp events(namespace) do
    :ok = CircuitBreakerTelemetry.sync(namespace)
    received() |> Enum.map(&event/1)
  end

  defp received do
    receive do
      {:circuit_breaker_event, event} -> [event | received()]
    after
      0 -> []
    end
  end

  defp event(event) do
    %{
      "sequence" => event.sequence,
      "generation" => event.generation,
      "from" => Atom.to_string(event.from),
      "to" => Atom.to_string(event.to),
      "cause" => Atom.to_string(event.cause),
      "at_ns" => event.at_ns
    }
  end
end
