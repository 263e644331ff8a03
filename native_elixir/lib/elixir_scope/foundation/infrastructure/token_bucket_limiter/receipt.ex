defmodule ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Receipt do
  @moduledoc """
  The proof of one debit, good for one `refund`, `cancel` or `settle`, by any process of this node. A receipt that is
  dropped leaves the cost debited.
  """

  alias ElixirScope.Foundation.Infrastructure.Names

  @enforce_keys [:native, :namespace, :limiter]
  defstruct @enforce_keys

  @opaque t :: %__MODULE__{native: reference(), namespace: Names.namespace(), limiter: atom()}

  defimpl Inspect do
    def inspect(receipt, _opts),
      do:
        "#TokenBucketLimiter.Receipt<#{inspect(receipt.namespace)}, #{inspect(receipt.limiter)}>"
  end
end
