defmodule ElixirScope.Foundation.Infrastructure.RateLimiterVectorsTest do
  use ExUnit.Case, async: true

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{ManualClock, TokenBucketLimiter}
  alias ElixirScope.Foundation.{ProcessRegistry, Vectors}

  @tag :vectors
  test "every vector of the limiter" do
    vectors = Vectors.read(:limiter)
    Enum.each(vectors, &replay/1)
    Vectors.report(:limiter, vectors)
  end

  defp replay(%{"name" => name, "max_keys" => max_keys, "ops" => ops} = vector) do
    reference = make_ref()
    namespace = {:test, reference}
    opts = [namespace: namespace]
    :ok = ManualClock.install(namespace)
    policy = String.to_existing_atom(vector["full_policy"] || "deny_new")
    :ok = TokenBucketLimiter.configure(namespace, max_keys: max_keys, full_policy: policy)

    for {name, limit} <- vector["limits"] || %{} do
      options = [max_wait_ns: limit["max_wait_ns"]] ++ opts
      :ok = TokenBucketLimiter.put_limit(String.to_atom(name), rule(limit), options)
    end

    ops
    |> Enum.with_index()
    |> Enum.reduce(%{}, fn {op, index}, receipts ->
      ManualClock.set_ns(namespace, op["now_ns"])
      {answer, receipts} = run(op, measure(op, vector), receipts, opts)

      assert answer == op["expect"],
             "#{name}, operation #{index}: #{inspect(op)}, answered #{inspect(answer)}"

      receipts
    end)

    ProcessRegistry.cleanup_test_namespace(reference)
  end

  defp measure(%{"limit" => name}, _vector), do: String.to_existing_atom(name)
  defp measure(%{"rule" => rule}, _vector), do: rule(rule)
  defp measure(_op, %{"rule" => rule}), do: rule(rule)

  defp rule(rule),
    do: %{tokens: rule["tokens"], period_ns: rule["period_ns"], burst: rule["burst"]}

  defp run(%{"op" => "check", "key" => key, "cost" => cost}, rule, receipts, opts) do
    {:ok, decision} = TokenBucketLimiter.check(key, rule, [cost: cost] ++ opts)
    {decision(decision), receipts}
  end

  defp run(%{"op" => "peek", "key" => key}, rule, receipts, opts) do
    {:ok, decision} = TokenBucketLimiter.peek(key, rule, opts)
    {decision(decision), receipts}
  end

  defp run(%{"op" => "reset", "key" => key}, _rule, receipts, opts) do
    assert {:ok, known} = TokenBucketLimiter.reset(key, opts)
    assert is_boolean(known)
    {nil, receipts}
  end

  defp run(%{"op" => "reserve", "key" => key, "cost" => cost} = op, rule, receipts, opts) do
    options = [cost: cost, max_wait_ns: op["max_wait_ns"]] ++ opts
    {:ok, reservation} = TokenBucketLimiter.reserve(key, rule, options)
    number = if reservation.receipt, do: map_size(receipts)
    receipts = if number, do: Map.put(receipts, number, reservation.receipt), else: receipts
    wait = %{"wait_ns" => reservation.wait_ns, "receipt" => number}
    {Map.merge(decision(reservation.decision), wait), receipts}
  end

  defp run(%{"op" => "cancel", "receipt" => number}, _rule, receipts, opts),
    do: {used(TokenBucketLimiter.cancel(receipts[number], opts)), receipts}

  defp run(%{"op" => "refund", "receipt" => number} = op, _rule, receipts, opts),
    do: {used(TokenBucketLimiter.refund(receipts[number], op["amount"], opts)), receipts}

  defp run(%{"op" => "settle", "receipt" => number} = op, _rule, receipts, opts),
    do: {used(TokenBucketLimiter.settle(receipts[number], op["actual"], opts)), receipts}

  defp run(%{"op" => "check_many", "charges" => charges}, rule, receipts, opts) do
    charges = for one <- charges, do: {one["key"], by(one, rule), one["cost"]}
    {:ok, group} = TokenBucketLimiter.check_many(charges, opts)

    answer = %{
      "verdict" => Atom.to_string(group.verdict),
      "retry_after_ns" => finite(group.retry_after_ns),
      "blocked" => group.blocked
    }

    {answer, receipts}
  end

  defp run(%{"op" => "change", "limit" => name} = op, _limit, receipts, opts) do
    strategy = String.to_existing_atom(op["strategy"])
    options = [strategy: strategy] ++ opts

    answer =
      case TokenBucketLimiter.put_limit(String.to_atom(name), rule(op["rule"]), options) do
        :ok ->
          %{"verdict" => "ok"}

        {:error, %Error{error_type: :change_too_soon, context: context}} ->
          %{"verdict" => "change_too_soon", "retry_after_ns" => context.retry_after_ns}
      end

    {answer, receipts}
  end

  defp by(%{"limit" => name}, _rule), do: String.to_existing_atom(name)
  defp by(%{"rule" => rule}, _rule), do: rule(rule)
  defp by(_charge, rule), do: rule

  # Which receipt was used before is told apart here.
  defp used({:ok, counts}), do: Atom.to_string(counts)
  defp used({:error, %Error{error_type: :already_done}}), do: "bad_receipt"
  defp used({:error, %Error{error_type: refusal}}), do: Atom.to_string(refusal)

  defp decision(decision) do
    %{
      "verdict" => Atom.to_string(decision.verdict),
      "remaining" => decision.remaining,
      "limit" => decision.limit,
      "retry_after_ns" => finite(decision.retry_after_ns),
      "reset_after_ns" => decision.reset_after_ns
    }
  end

  defp finite(:infinity), do: nil
  defp finite(ns), do: ns
end
