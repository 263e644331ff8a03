defmodule ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Receipts do
  @moduledoc false
  # Uses of receipts. The native library decides; a receipt of another limiter, or of one that was replaced, is foreign.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{Names, Native}
  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.{Handle, Receipt, Rules}

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
