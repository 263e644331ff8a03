defmodule ElixirScope.Foundation.Infrastructure.Protection.Limit do
  @moduledoc false
  # The rate limit of one call: what is counted, and by which rule; taking its token and giving it back.
  #
  # A token is taken by a check and given back by `TokenBucketLimiter.refund_check/4`, without a receipt: every call
  # would pay for one, which costs more than the rest of the call, and hardly any uses it. A call gives back at most once.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{Config, Names, TokenBucketLimiter}
  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Decision

  @type rule :: {pos_integer(), pos_integer()}
  @typedoc "A key, the name of its limit if it has one, the rule, and the options of the check; nil without a limit."
  @type t :: {term(), atom(), rule(), [TokenBucketLimiter.option()]} | nil
  @typedoc """
  What a service has without being asked: a rule of `default_limits`, the one that holds where that has none, and what
  its keys begin with (nil: what the rule says).
  """
  @type default :: {atom(), rule(), atom()} | nil

  @event_storage {:event_storage, {100, 60_000}, :event_storage}
  @config_updates {:config_updates, {10, 60_000}, :config_update}

  @doc "The limits of the services: of what is stored, and of what is changed."
  @spec default(:event_storage | :config_updates) :: default()
  def default(:event_storage), do: @event_storage
  def default(:config_updates), do: @config_updates

  @doc "What any operation of a service has."
  @spec default_of(atom()) :: default()
  def default_of(:event_store), do: put_elem(@event_storage, 2, nil)
  def default_of(_service), do: nil

  @doc "The limit of an operation of a service by the options of `Infrastructure.protected_operation/4`."
  @spec of_operation(Names.namespace(), atom(), keyword(), default(), Config.t()) ::
          {:ok, t()} | {:error, Error.t()}
  def of_operation(namespace, service, opts, default, configured) do
    case Config.enabled(:rate_limiting, configured) do
      {:ok, true} -> operation(namespace, service, opts, default, configured)
      {:ok, false} -> {:ok, nil}
      error -> error
    end
  end

  defp operation(namespace, service, opts, default, configured) do
    case wanted(option(opts, :rate_limit), default, configured) do
      {:ok, nil} ->
        {:ok, nil}

      {:ok, {name, rule, tag}} ->
        key =
          case option(opts, :rate_key) do
            nil -> {tag || name || service, option(opts, :user_id) || namespace}
            key -> key
          end

        {:ok, {key, name, rule, options(namespace, option(opts, :cost))}}

      error ->
        error
    end
  end

  @doc "An option of a call, or nil; most calls have none."
  @spec option(keyword(), atom()) :: term()
  def option([], _key), do: nil
  def option(opts, key), do: Keyword.get(opts, key)

  # The rule, its name if it has one, and what keys begin with.
  defp wanted(nil, nil, _configured), do: {:ok, nil}

  defp wanted(nil, {name, usual, tag}, configured) do
    case Config.default_limit(name, configured) do
      {:ok, nil} -> {:ok, {nil, usual, tag || name}}
      {:ok, rule} -> {:ok, {name, rule, tag}}
      error -> error
    end
  end

  defp wanted(name, default, configured) when is_atom(name) do
    case Config.default_limit(name, configured) do
      {:ok, nil} -> not_a_rule(name)
      {:ok, rule} -> {:ok, {name, rule, tag(default)}}
      error -> error
    end
  end

  defp wanted(rule, default, _configured), do: {:ok, {nil, rule, tag(default)}}

  defp tag(nil), do: nil
  defp tag({_name, _usual, tag}), do: tag

  # A check without options is the fastest.
  defp options(:production, cost) when cost in [nil, 1], do: []
  defp options(:production, cost), do: [cost: cost]

  defp options(namespace, cost),
    do: [namespace: namespace, cost: if(is_nil(cost), do: 1, else: cost)]

  defp not_a_rule(given) do
    allowed =
      "{limit, window_ms}, or a name in `default_limits` of `config :elixir_scope, :infrastructure, " <>
        "rate_limiting: ...`: #{inspect(Config.default_limit_names())}"

    {:error, Error.refused(:rate_limit, given, allowed)}
  end

  @doc "The limit of a call of `Infrastructure.execute_protected/3`; `option` is its `rate_limiter:`."
  @spec of(atom(), map(), term(), Config.t()) :: {:ok, t()} | {:error, Error.t()}
  def of(key, config, option, configured) do
    case Config.enabled(:rate_limiting, configured) do
      {:ok, true} -> limit(key, config, option, configured)
      {:ok, false} -> {:ok, nil}
      error -> error
    end
  end

  defp limit(key, config, nil, _configured) do
    case config do
      %{rate_limiter: rule} -> {:ok, own(key, rule)}
      _none -> {:ok, nil}
    end
  end

  defp limit(_key, config, {name, id}, configured) when is_atom(name) do
    with %{rate_limiter: own} <- config do
      {:ok, {{name, id}, nil, rule(own), []}}
    else
      _none -> named(name, id, configured)
    end
  end

  defp limit(_key, _config, other, _configured), do: not_a_limiter(other)

  defp named(name, id, configured) do
    case Config.default_limit(name, configured) do
      {:ok, nil} -> not_a_limiter({name, id})
      {:ok, rule} -> {:ok, {{name, id}, name, rule, []}}
      error -> error
    end
  end

  defp not_a_limiter(given),
    do: {:error, Error.refused(:rate_limiter, given, "{name of a default limit, id}")}

  # The limit of all calls of a key together.
  defp own(key, config), do: {{:protection, key}, nil, rule(config), []}

  defp rule(%{limit: limit, window_ms: window_ms}), do: {limit, window_ms}

  @doc "Takes a token."
  @spec take(t()) :: :ok | {:error, Error.t()}
  def take(nil), do: :ok

  def take({key, nil, {limit, window_ms} = rule, options}) do
    with {:error, :rate_limited, retry_after_ms} <-
           TokenBucketLimiter.check_rate_limit(key, limit, window_ms, options),
         do: refused(key, rule, retry_after_ms, %{})
  end

  def take({key, name, {_limit, _window_ms} = rule, options}) do
    with {:error, :rate_limited, retry_after_ms} <-
           TokenBucketLimiter.check_configured(key, name, rule, options),
         do: refused(key, rule, retry_after_ms, %{rule: name})
  end

  def take({_key, _name, rule, _options}), do: not_a_rule(rule)

  defp refused(key, {limit, window_ms}, retry_after_ms, context) do
    context =
      Map.merge(context, %{
        key: key,
        limit: limit,
        window_ms: window_ms,
        retry_after_ms: retry_after_ms
      })

    Error.error_result(:rate_limited, nil, context: context)
  end

  @doc "Gives back what `take/1` took; forfeited where somebody waits for the key already."
  @spec give_back(t()) :: :ok
  def give_back(nil), do: :ok

  def give_back({key, name, rule, options}),
    do: TokenBucketLimiter.refund_check(key, name || rule, options)

  @doc "What is left of a key's own limit."
  @spec status(atom(), map()) :: map()
  def status(key, config) do
    {key, nil, rule, []} = own(key, config)

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
