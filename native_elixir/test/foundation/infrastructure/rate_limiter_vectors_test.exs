defmodule ElixirScope.Foundation.Infrastructure.RateLimiterVectorsTest do
  use ExUnit.Case, async: true

  alias ElixirScope.Foundation.Infrastructure.{ManualClock, TokenBucketLimiter}
  alias ElixirScope.Foundation.{ProcessRegistry, Vectors}

  @tag :vectors
  test "every vector of the limiter" do
    vectors = Vectors.read(:limiter)
    Enum.each(vectors, &replay/1)
    Vectors.report(:limiter, vectors)
  end

  defp replay(%{"name" => name, "rule" => rule, "max_keys" => max_keys, "ops" => ops}) do
    reference = make_ref()
    namespace = {:test, reference}
    :ok = ManualClock.install(namespace)
    :ok = TokenBucketLimiter.configure(namespace, max_keys: max_keys)
    rule = %{tokens: rule["tokens"], period_ns: rule["period_ns"], burst: rule["burst"]}

    for {op, index} <- Enum.with_index(ops) do
      ManualClock.set_ns(namespace, op["now_ns"])
      answer = run(op, rule, namespace: namespace)

      assert answer == op["expect"],
             "#{name}, operation #{index}: #{inspect(op)}, answered #{inspect(answer)}"
    end

    ProcessRegistry.cleanup_test_namespace(reference)
  end

  defp run(%{"op" => "check", "key" => key, "cost" => cost}, rule, opts),
    do: key |> TokenBucketLimiter.check(rule, [cost: cost] ++ opts) |> decision()

  defp run(%{"op" => "peek", "key" => key}, rule, opts),
    do: key |> TokenBucketLimiter.peek(rule, opts) |> decision()

  defp run(%{"op" => "reset", "key" => key}, _rule, opts) do
    assert {:ok, known} = TokenBucketLimiter.reset(key, opts)
    assert is_boolean(known)
    nil
  end

  defp decision({:ok, decision}) do
    %{
      "verdict" => Atom.to_string(decision.verdict),
      "remaining" => decision.remaining,
      "limit" => decision.limit,
      "retry_after_ns" => if(decision.retry_after_ns != :infinity, do: decision.retry_after_ns),
      "reset_after_ns" => decision.reset_after_ns
    }
  end
end
