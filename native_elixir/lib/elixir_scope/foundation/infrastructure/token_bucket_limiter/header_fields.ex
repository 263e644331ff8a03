defmodule ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.HeaderFields do
  @moduledoc false
  # A decision as HTTP header fields; the native library renders them, the same for every language.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.Native
  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.{Decision, Handle, Rules}

  @spec of(Decision.t(), term(), term(), keyword()) ::
          {:ok, [{String.t(), String.t()}]} | {:error, Error.t()}
  def of(decision, name, rule, opts) do
    with :ok <- Rules.options(opts, []),
         :ok <- Rules.text(:policy_name, name),
         {:ok, handle} <- Handle.fetch(opts),
         {:ok, measure} <- Rules.measure(rule, handle) do
      numbers = if is_tuple(measure), do: measure, else: elem(Native.limit_rule(measure), 0)

      case Native.limiter_header_fields(name, numbers, Decision.to_native(decision)) do
        {:error, refusal} ->
          {:error, Rules.refused(refusal, nil, rule)}

        {policy, limit, retry_after_s} ->
          retry = if retry_after_s, do: [{"retry-after", "#{retry_after_s}"}], else: []
          {:ok, [{"ratelimit-policy", policy}, {"ratelimit", limit} | retry]}
      end
    end
  end
end
