defmodule ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Decision do
  @moduledoc """
  What a check says.

    * `:verdict`: `:allowed`, or why not: `:rate_limited` for now, `:never` for a cost above the burst, `:table_full`
      for a new key that finds no place;
    * `:remaining`: the largest cost that would be admitted now, after this check;
    * `:limit`: the burst, which is what `remaining` starts from;
    * `:retry_after_ns`: the same check is admitted so much later, without other traffic; 0 if it was admitted,
      `:infinity` for `:never`;
    * `:reset_after_ns`: all of the burst is there again so much later.
  """

  @enforce_keys [:verdict, :remaining, :limit, :retry_after_ns, :reset_after_ns]
  defstruct @enforce_keys

  @type verdict :: :allowed | :rate_limited | :never | :table_full
  @type t :: %__MODULE__{
          verdict: verdict(),
          remaining: non_neg_integer(),
          limit: non_neg_integer(),
          retry_after_ns: non_neg_integer() | :infinity,
          reset_after_ns: non_neg_integer()
        }

  @typep native ::
           {verdict(), non_neg_integer(), non_neg_integer(), non_neg_integer(), non_neg_integer()}

  @ns_in_ms 1_000_000
  # How the native library writes that no wait helps.
  @forever 0xFFFF_FFFF_FFFF_FFFF

  @doc """
  `retry_after_ns` in milliseconds, rounded up, so that who waits that long is never too early.

      iex> alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Decision
      iex> Decision.retry_after_ms(%Decision{verdict: :rate_limited, remaining: 0, limit: 1, retry_after_ns: 1_000_001, reset_after_ns: 1_000_001})
      2
  """
  @spec retry_after_ms(t()) :: non_neg_integer() | :infinity
  def retry_after_ms(%__MODULE__{retry_after_ns: ns}), do: ms(ns)

  @doc "`reset_after_ns` in milliseconds, rounded up."
  @spec reset_after_ms(t()) :: non_neg_integer()
  def reset_after_ms(%__MODULE__{reset_after_ns: ns}), do: div(ns + @ns_in_ms - 1, @ns_in_ms)

  @doc false
  @spec from_native(native()) :: t()
  def from_native({verdict, remaining, limit, retry_after_ns, reset_after_ns}) do
    %__MODULE__{
      verdict: verdict,
      remaining: remaining,
      limit: limit,
      retry_after_ns: wait(retry_after_ns),
      reset_after_ns: reset_after_ns
    }
  end

  @doc false
  @spec to_native(t()) :: native()
  def to_native(%__MODULE__{} = decision) do
    retry = if decision.retry_after_ns == :infinity, do: @forever, else: decision.retry_after_ns
    {decision.verdict, decision.remaining, decision.limit, retry, decision.reset_after_ns}
  end

  @doc false
  @spec wait(non_neg_integer()) :: non_neg_integer() | :infinity
  def wait(@forever), do: :infinity
  def wait(ns), do: ns

  @doc false
  @spec ms(non_neg_integer() | :infinity) :: non_neg_integer() | :infinity
  def ms(:infinity), do: :infinity
  def ms(ns), do: div(ns + @ns_in_ms - 1, @ns_in_ms)
end
