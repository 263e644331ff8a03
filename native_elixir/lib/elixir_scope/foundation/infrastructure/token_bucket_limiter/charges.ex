defmodule ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Charges do
  @moduledoc false
  # Several keys in one call, each with its rule and its cost: all or nothing, or each by itself.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{Native, RateLimiterTelemetry}
  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.{Batch, Decision}
  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.{GroupDecision, Handle, Rules}

  @spec many(term(), keyword()) :: {:ok, GroupDecision.t()} | {:error, Error.t()}
  def many(charges, opts) do
    with :ok <- Rules.options(opts, []),
         {:ok, charges} <- charges(charges),
         {:ok, handle} <- Handle.fetch(opts),
         {:ok, native} <- native_charges(charges, handle),
         {:ok, group} <- debit_group(handle, native, charges) do
      RateLimiterTelemetry.decided_group(handle, charges, group)
      {:ok, group}
    end
  end

  defp debit_group(handle, native, charges) do
    case Native.limiter_check_many(handle.native, native) do
      {:error, {:key_opaque, index}} ->
        written = fn {key, measure, cost} -> {Rules.written(key), measure, cost} end
        debit_group(handle, List.update_at(native, index, written), charges)

      {:error, {:key_too_large, index}} ->
        {key, rule, _cost} = Enum.at(charges, index)
        {:error, Rules.refused(:key_too_large, key, rule)}

      # Of a long list not all is looked at.
      {:error, {"charges", _seen, allowed}} ->
        {:error, Error.refused(:charges, length(charges), allowed)}

      {:error, refusal} ->
        {:error, Rules.refused(refusal, nil, nil)}

      group ->
        {:ok, GroupDecision.from_native(group)}
    end
  end

  @spec batch(term(), keyword()) ::
          {:ok, [Decision.t() | {:error, Error.t()}]} | {:error, Error.t()}
  def batch(charges, opts) do
    with :ok <- Rules.options(opts, []),
         {:ok, charges} <- charges(charges),
         {:ok, handle} <- Handle.fetch(opts),
         {:ok, native} <- native_charges(charges, handle),
         {:ok, results} <- Batch.charges(handle.native, native),
         do: {:ok, Enum.zip_with(charges, results, &batch_result(handle, &1, &2))}
  end

  defp batch_result(_handle, {key, rule, _cost}, {:error, reason}),
    do: {:error, Rules.refused(reason, key, rule)}

  defp batch_result(handle, {key, rule, cost}, native) do
    decision = Decision.from_native(native)
    RateLimiterTelemetry.decided(handle, key, rule, cost, decision)
    decision
  end

  defp charges(charges) do
    with :ok <- Rules.list(:charges, charges), do: map_ok(charges, &charge/1)
  end

  defp charge({key, rule}), do: {:ok, {key, rule, 1}}

  defp charge({key, rule, cost}),
    do: with({:ok, cost} <- Rules.cost(cost), do: {:ok, {key, rule, cost}})

  defp charge(other),
    do: {:error, Error.refused(:charge, other, "{key, rule} or {key, rule, cost}")}

  defp native_charges(charges, handle) do
    map_ok(charges, fn {key, rule, cost} ->
      with {:ok, measure} <- Rules.measure(rule, handle), do: {:ok, {key, measure, cost}}
    end)
  end

  # Limits that a first charge has made are found by the next one, so the handle may be that of before.
  defp map_ok(list, change) do
    list
    |> Enum.reduce_while([], fn one, done ->
      case change.(one) do
        {:ok, changed} -> {:cont, [changed | done]}
        error -> {:halt, error}
      end
    end)
    |> case do
      done when is_list(done) -> {:ok, Enum.reverse(done)}
      error -> error
    end
  end
end
