defmodule ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Receipts do
  @moduledoc false
  # Reservations, and the uses of their receipts. The native library decides; a receipt of another limiter, or of one
  # that was replaced, is foreign.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{Names, Native, RateLimiterTelemetry}
  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.{Decision, Handle, Receipt}
  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.{Reservation, Rules}

  @spec reserve(term(), term(), keyword()) :: {:ok, Reservation.t()} | {:error, Error.t()}
  def reserve(key, rule, opts) do
    with :ok <- Rules.options(opts, [:cost, :max_wait_ms, :max_wait_ns]),
         {:ok, cost} <- Rules.cost_of(opts),
         {:ok, max_wait_ns} <- Rules.max_wait(opts),
         {:ok, handle} <- Handle.fetch(opts),
         {:ok, measure} <- Rules.measure(rule, handle) do
      native = &Native.limiter_reserve(handle.native, &1, measure, cost, max_wait_ns || 0)

      case Rules.fit(key, native) do
        {:error, reason} ->
          {:error, Rules.refused(reason, key, rule)}

        {decision, wait_ns, receipt} ->
          decision = Decision.from_native(decision)
          RateLimiterTelemetry.decided(handle, key, rule, cost, decision)
          receipt = receipt(handle, receipt)
          {:ok, %Reservation{decision: decision, wait_ns: wait_ns, receipt: receipt}}
      end
    end
  end

  defp receipt(_handle, nil), do: nil

  defp receipt(handle, native),
    do: %Receipt{native: native, namespace: handle.namespace, limiter: handle.name}

  @spec cancel(term(), keyword()) :: {:ok, :applied} | {:error, Error.t()}
  def cancel(receipt, opts), do: use_once(receipt, opts, &Native.receipt_cancel/2)

  @spec refund(term(), term(), keyword()) :: {:ok, :applied} | {:error, Error.t()}
  def refund(receipt, :all, opts),
    do: use_once(receipt, opts, &Native.receipt_refund(&1, &2, nil))

  def refund(receipt, amount, opts) do
    with {:ok, amount} <- Rules.cost(amount, :amount),
         do: use_once(receipt, opts, &Native.receipt_refund(&1, &2, amount))
  end

  @spec settle(term(), term(), keyword()) :: {:ok, :applied | :saturated} | {:error, Error.t()}
  def settle(receipt, actual, opts) do
    with {:ok, actual} <- Rules.cost(actual, :actual),
         do: use_once(receipt, opts, &Native.receipt_settle(&1, &2, actual))
  end

  defp use_once(receipt, opts, native) do
    with :ok <- Rules.options(opts, []),
         {:ok, limiter, own} <- own(receipt, opts) do
      case native.(limiter, own) do
        counts when counts in [:applied, :saturated] -> {:ok, counts}
        {:error, refusal} -> {:error, Rules.refused(refusal, nil, nil)}
        refused -> Error.error_result(refused)
      end
    end
  end

  defp own(%Receipt{native: native, namespace: namespace, limiter: name}, opts) do
    with ^namespace <- Keyword.get(opts, :namespace, namespace),
         ^name <- Keyword.get(opts, :limiter, name),
         %Handle{native: limiter} <- Names.lookup(:limiter, namespace, name) do
      {:ok, limiter, native}
    else
      _another -> Error.error_result(:bad_receipt)
    end
  end

  defp own(_no_receipt, _opts), do: Error.error_result(:bad_receipt)
end
