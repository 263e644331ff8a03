defmodule ElixirScope.Foundation.Infrastructure.Protection.Limit do
  @moduledoc false
  # The rate limit of one call: what is counted, and by which rule.

  alias ElixirScope.Foundation.{Error, Infrastructure}
  alias ElixirScope.Foundation.Infrastructure.{Config, TokenBucketLimiter}
  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.{Decision, Receipt}

  @type rule :: {pos_integer(), pos_integer()}
  @type t :: {key :: term(), rule()} | {key :: term(), name :: atom(), rule()}

  @doc "The limit that a call has, or nil; `option` is its `rate_limiter:`."
  @spec of(atom(), map(), term()) :: {:ok, t() | nil} | {:error, Error.t()}
  def of(key, config, option) do
    case Config.enabled(:rate_limiting) do
      {:ok, true} -> limit(key, config, option)
      {:ok, false} -> {:ok, nil}
      error -> error
    end
  end

  defp limit(_key, config, nil) when not is_map_key(config, :rate_limiter), do: {:ok, nil}
  defp limit(key, config, nil), do: {:ok, own(key, config.rate_limiter)}

  defp limit(_key, config, {name, id}) when is_atom(name) do
    with %{rate_limiter: own} <- config do
      {:ok, {{name, id}, rule(own)}}
    else
      _none -> named(name, id)
    end
  end

  defp limit(_key, _config, other), do: not_a_rule(other)

  defp named(name, id) do
    case Config.default_limit(name) do
      {:ok, nil} -> not_a_rule({name, id})
      {:ok, rule} -> {:ok, {{name, id}, name, rule}}
      error -> error
    end
  end

  defp not_a_rule(given),
    do: {:error, Error.refused(:rate_limiter, given, "{name of a default limit, id}")}

  @doc "The limit of all calls of a key together."
  @spec own(atom(), map()) :: t()
  def own(key, config), do: {{:protection, key}, rule(config)}

  defp rule(%{limit: limit, window_ms: window_ms}), do: {limit, window_ms}

  @doc "Takes a token, with a receipt where a later stage may have to give it back: a check without one costs less."
  @spec take(t() | nil, boolean()) :: {:ok, Receipt.t() | nil} | {:error, Error.t()}
  def take(nil, _receipt?), do: {:ok, nil}

  def take(limit, false) do
    with :ok <- check(limit), do: {:ok, nil}
  end

  def take(limit, true) do
    with {:ok, reservation} <- reserve(limit) do
      case reservation.decision do
        %{verdict: :allowed} ->
          {:ok, reservation.receipt}

        %{verdict: :rate_limited} = decision ->
          Infrastructure.refused(limit, Decision.retry_after_ms(decision))

        %{verdict: refusal} ->
          Error.error_result(refusal, nil, context: %{key: elem(limit, 0)})
      end
    end
  end

  defp check({key, rule}), do: Infrastructure.limited(key, rule, [])
  defp check({key, name, rule}), do: Infrastructure.limited(key, name, rule, [])

  defp reserve({key, rule}), do: TokenBucketLimiter.reserve(key, rule)
  defp reserve({key, name, rule}), do: TokenBucketLimiter.reserve_configured(key, name, rule)

  @doc "What is left of a key's own limit."
  @spec status(atom(), map()) :: map()
  def status(key, config) do
    {key, rule} = own(key, config)

    case TokenBucketLimiter.peek(key, rule) do
      {:ok, decision} ->
        Map.merge(config, %{
          remaining: decision.remaining,
          retry_after_ms: Decision.retry_after_ms(decision)
        })

      {:error, error} ->
        Map.put(config, :error, error.error_type)
    end
  end
end
