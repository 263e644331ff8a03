defmodule ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.GroupDecision do
  @moduledoc """
  What a check of several keys says, all or nothing.

    * `:verdict`: `:allowed`, or the gravest refusal of a member: `:never`, `:table_full`, `:rate_limited`;
    * `:retry_after_ns`: the same group is admitted so much later, without other traffic; `:infinity` for `:never`;
    * `:blocked`: the indexes of the members that are to blame, from 0;
    * `:decisions`: what each member says by itself.
  """

  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Decision

  @enforce_keys [:verdict, :retry_after_ns, :blocked, :decisions]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          verdict: Decision.verdict(),
          retry_after_ns: non_neg_integer() | :infinity,
          blocked: [non_neg_integer()],
          decisions: [Decision.t()]
        }

  @doc false
  @spec from_native({Decision.verdict(), non_neg_integer(), [tuple()]}) :: t()
  def from_native({verdict, retry_after_ns, decisions}) do
    decisions = Enum.map(decisions, &Decision.from_native/1)

    blocked =
      for {%{verdict: one}, index} <- Enum.with_index(decisions),
          verdict != :allowed and one != :allowed,
          do: index

    %__MODULE__{
      verdict: verdict,
      retry_after_ns: Decision.wait(retry_after_ns),
      blocked: blocked,
      decisions: decisions
    }
  end
end
