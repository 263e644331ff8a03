defmodule ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Reservation do
  @moduledoc """
  A debit now or in the future.

    * `:decision`: whether the cost was debited. A refusal tells when a check would be admitted;
    * `:wait_ns`: the cost may be used so much later, 0 for at once;
    * `:receipt`: the means to give it back; nil where nothing was debited, and for a key that shares the overflow bucket.
  """

  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.{Decision, Receipt}

  @enforce_keys [:decision, :wait_ns, :receipt]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          decision: Decision.t(),
          wait_ns: non_neg_integer(),
          receipt: Receipt.t() | nil
        }
end
