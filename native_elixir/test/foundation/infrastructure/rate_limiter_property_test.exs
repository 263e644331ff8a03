defmodule ElixirScope.Foundation.Infrastructure.RateLimiterPropertyTest do
  # Any history of calls is that of a model in whole numbers, which knows no ticks: what a key has is kept in units of one
  # token by one period, so that nothing is ever rounded. The core's own properties are tested in Rust; these are the ones
  # of the Elixir calls, which PropEr shrinks to a short history where they differ.
  use ExUnit.Case, async: true

  import ElixirScope.Foundation.Properties

  alias ElixirScope.Foundation.ProcessRegistry
  alias ElixirScope.Foundation.Infrastructure.{ManualClock, TokenBucketLimiter}

  @keys ["binary", :atom, {:user, 7}, %{a: [1.5]}]

  test "l01, l05, l06, l10 every history of one key at a time is the oracle's" do
    check_all(history(), 300, &as_the_oracle/1)
  end

  test "l11, l13, l14 groups are all or nothing, batches one by one" do
    check_all(history(), 200, &groups_and_batches/1)
  end

  test "l03 no interval admits more than burst and refill" do
    check_all(history(), 200, &bounded/1)
  end

  defp history do
    tokens = :proper_types.integer(1, 70)
    period_ns = :proper_types.integer(1, 5_000)
    burst = :proper_types.integer(0, 12)
    step = :proper_types.frequency([{3, 0}, {4, :proper_types.integer(1, 900)}])
    key = :proper_types.elements(@keys)
    cost = :proper_types.frequency([{6, 1}, {2, :proper_types.integer(0, 14)}])
    call = {step, key, cost}

    # The core takes 58 ticks a nanosecond at most, or the nearest slower rate: the oracle knows exact ones only.
    exact = fn {tokens, period_ns, _burst} ->
      div(tokens, Integer.gcd(tokens, period_ns)) <= 58
    end

    rule = :proper_types.add_constraint({tokens, period_ns, burst}, exact, true)
    {rule, :proper_types.resize(60, :proper_types.list(call))}
  end

  defp with_namespace(test) do
    reference = make_ref()
    namespace = {:test, reference}
    :ok = ManualClock.install(namespace)

    try do
      test.(namespace)
    after
      ProcessRegistry.cleanup_test_namespace(reference)
    end
  end

  defp rule({tokens, period_ns, burst}),
    do: %{tokens: tokens, period_ns: period_ns, burst: burst}

  # The oracle. `has` of a key: tokens times the period, as of the instant `at`.
  defp balance(model, key, now, {tokens, period_ns, burst}) do
    {has, at} = Map.get(model, key, {burst * period_ns, now})
    min(has + (now - at) * tokens, burst * period_ns)
  end

  defp expected(model, key, cost, now, {tokens, period_ns, burst} = rule) do
    has = balance(model, key, now, rule)
    wanted = cost * period_ns
    left = if has >= wanted, do: has - wanted, else: has

    verdict =
      cond do
        has >= wanted -> :allowed
        cost > burst -> :never
        true -> :rate_limited
      end

    decision = %TokenBucketLimiter.Decision{
      verdict: verdict,
      remaining: div(left, period_ns),
      limit: burst,
      retry_after_ns:
        case verdict do
          :allowed -> 0
          :never -> :infinity
          :rate_limited -> ceil_div(wanted - has, tokens)
        end,
      reset_after_ns: ceil_div(burst * period_ns - left, tokens)
    }

    model = if verdict == :allowed, do: Map.put(model, key, {left, now}), else: model
    {decision, model}
  end

  defp ceil_div(number, by), do: div(number + by - 1, by)

  defp as_the_oracle({rule, calls}) do
    with_namespace(fn namespace ->
      opts = [namespace: namespace]

      Enum.reduce(calls, {%{}, 0}, fn {step, key, cost}, {model, now} ->
        now = now + step
        ManualClock.set_ns(namespace, now)
        {:ok, before} = TokenBucketLimiter.peek(key, rule(rule), opts)
        assert before.remaining == div(balance(model, key, now, rule), elem(rule, 1))
        {:ok, decision} = TokenBucketLimiter.check(key, rule(rule), [cost: cost] ++ opts)
        {expected, model} = expected(model, key, cost, now, rule)
        assert decision == expected

        if decision.verdict == :rate_limited,
          do: exact_retry(decision, key, cost, now, rule, model)

        {model, now}
      end)
    end)
  end

  # By the oracle itself: that much later, and not a nanosecond sooner.
  defp exact_retry(%{retry_after_ns: wait}, key, cost, now, rule, model) do
    assert {%{verdict: :allowed}, _} = expected(model, key, cost, now + wait, rule)
    assert {%{verdict: :rate_limited}, _} = expected(model, key, cost, now + wait - 1, rule)
  end

  # Chunks of the history as groups, and the same chunks as batches of another limiter.
  defp groups_and_batches({rule, calls}) do
    with_namespace(fn namespace ->
      {group, batch} = {[namespace: namespace], [namespace: namespace, limiter: :batch]}

      calls
      |> Enum.chunk_every(3)
      |> Enum.reduce({%{}, %{}, 0}, fn [{step, _, _} | _] = chunk, {grouped, batched, now} ->
        now = now + step
        ManualClock.set_ns(namespace, now)
        charges = for {_step, key, cost} <- chunk, do: {key, rule(rule), cost}
        {:ok, decided} = TokenBucketLimiter.check_many(charges, group)
        grouped = as_the_group(grouped, decided, chunk, now, rule)
        {:ok, decisions} = TokenBucketLimiter.check_batch(charges, batch)

        {expected, batched} =
          Enum.map_reduce(chunk, batched, fn {_step, key, cost}, model ->
            expected(model, key, cost, now, rule)
          end)

        assert decisions == expected
        {grouped, batched, now}
      end)
    end)
  end

  defp as_the_group(model, decided, chunk, now, rule) do
    sums =
      Enum.reduce(chunk, %{}, fn {_, key, cost}, sums ->
        Map.update(sums, key, cost, &(&1 + cost))
      end)

    alone = Map.new(sums, fn {key, cost} -> {key, expected(model, key, cost, now, rule)} end)
    refused = for {_key, {%{verdict: verdict} = one, _}} <- alone, verdict != :allowed, do: one

    if refused == [] do
      assert %{verdict: :allowed, retry_after_ns: 0, blocked: []} = decided

      Enum.reduce(sums, model, fn {key, cost}, all ->
        elem(expected(all, key, cost, now, rule), 1)
      end)
    else
      blamed =
        for {{_, key, _}, index} <- Enum.with_index(chunk),
            elem(alone[key], 0).verdict != :allowed,
            do: index

      assert decided.blocked == blamed
      # An atom is more than any number.
      assert decided.retry_after_ns == refused |> Enum.map(& &1.retry_after_ns) |> Enum.max()

      assert decided.verdict ==
               if(Enum.any?(refused, &(&1.verdict == :never)), do: :never, else: :rate_limited)

      model
    end
  end

  defp bounded({{tokens, period_ns, burst} = rule, calls}) do
    with_namespace(fn namespace ->
      {admitted, _now} =
        Enum.flat_map_reduce(calls, 0, fn {step, _key, cost}, now ->
          now = now + step
          ManualClock.set_ns(namespace, now)
          options = [cost: cost, namespace: namespace]
          {:ok, decision} = TokenBucketLimiter.check("k", rule(rule), options)
          {if(decision.verdict == :allowed, do: [{now, cost}], else: []), now}
        end)

      for {from, _} <- admitted, {to, _} <- admitted, from <= to do
        sum = for({at, cost} <- admitted, at in from..to, do: cost) |> Enum.sum()
        assert sum <= burst + div(tokens * (to - from), period_ns)
      end
    end)
  end
end
