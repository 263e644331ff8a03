defmodule ElixirScope.Foundation.Infrastructure.Protection do
  @moduledoc false
  # Protections under a name: a breaker of namespace :production with the key's name, a limit, a pool.

  alias ElixirScope.Foundation.{Error, Infrastructure}
  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, CircuitBreakerRegistry, Config}
  alias ElixirScope.Foundation.Infrastructure.{ConnectionPool, Names, TokenBucketLimiter}

  @namespace :production
  @parts [:circuit_breaker, :rate_limiter, :connection_pool]
  @options [:circuit_breaker, :rate_limiter, :connection_pool, :timeout]

  @spec configure(atom(), map() | keyword()) :: :ok | {:error, Error.t()}
  def configure(key, config) do
    with {:ok, config} <- parts(config),
         :ok <- check_limiter(config),
         :ok <- check_pool(config),
         :ok <- register_breaker(key, config),
         {:ok, _entry} <- Names.replace(:protection, @namespace, key, fn -> {:ok, config} end),
         do: :ok
  end

  @spec fetch(atom()) :: {:ok, map()} | {:error, Error.t()}
  def fetch(key) do
    case Names.lookup(:protection, @namespace, key) do
      nil ->
        {:error, Error.refused(:key, key, "a key of configure_protection/2: #{inspect(keys())}")}

      config ->
        {:ok, config}
    end
  end

  @spec keys() :: [atom()]
  def keys, do: for({key, _config} <- Names.list(:protection, @namespace), do: key)

  @spec status(atom()) :: {:ok, map()} | {:error, Error.t()}
  def status(key) do
    with {:ok, config} <- fetch(key), do: {:ok, Map.new(config, &part_status(&1, key))}
  end

  defp part_status({:circuit_breaker, _options}, key) do
    case CircuitBreaker.stats(@namespace, key) do
      {:ok, stats} ->
        {:circuit_breaker, %{status: stats.state, failure_count: stats.failure_count}}

      {:error, error} ->
        {:circuit_breaker, %{error: error.error_type}}
    end
  end

  defp part_status({:connection_pool, pool}, _key) do
    case ConnectionPool.status(pool) do
      {:ok, status} -> {:connection_pool, status}
      {:error, error} -> {:connection_pool, %{error: error.error_type}}
    end
  end

  defp part_status(rate_limiter, _key), do: rate_limiter

  @spec execute(atom(), keyword(), function()) :: term()
  def execute(key, opts, operation) do
    # Whether the operation was begun, in whichever process that is.
    begun = :atomics.new(1, [])

    with :ok <- Infrastructure.check_options(opts, @options),
         {:ok, config} <- known(key, opts),
         pool = opts[:connection_pool] || config[:connection_pool],
         {:ok, guarded} <- guarded(pool, opts, operation, begun),
         {:ok, receipt} <- limit(key, config, opts[:rate_limiter]) do
      breaker = opts[:circuit_breaker] || (config[:circuit_breaker] && key)
      result = guard(breaker, guarded, limit_of_all(opts[:timeout]))
      finish(result, :atomics.get(begun, 1) == 1, receipt, pool)
    end
  end

  # Without time nothing could be done; 0 only says that no connection is waited for.
  defp limit_of_all(timeout) when timeout in [nil, 0], do: :infinity
  defp limit_of_all(timeout), do: timeout

  defp finish(result, true, _receipt, _pool), do: result

  # Nothing was done for the token.
  defp finish(result, false, receipt, pool) do
    _ = receipt && TokenBucketLimiter.refund(receipt)

    case result do
      {:error, %Error{error_type: :timeout} = error} when not is_nil(pool) ->
        message = "No connection of pool #{inspect(pool)} within #{error.context.call_timeout} ms"
        Error.error_result(:pool_timeout, message, context: Map.put(error.context, :pool, pool))

      result ->
        result
    end
  end

  # Options alone are enough: then the key need not be configured.
  defp known(key, opts) do
    with {:error, error} <- fetch(key) do
      if Enum.any?(@parts, &Keyword.has_key?(opts, &1)), do: {:ok, %{}}, else: {:error, error}
    end
  end

  defp limit(key, config, option) do
    case Config.enabled(:rate_limiting) do
      {:ok, true} -> take(key, config, option)
      {:ok, false} -> {:ok, nil}
      error -> error
    end
  end

  defp take(_key, config, nil) when not is_map_key(config, :rate_limiter), do: {:ok, nil}
  defp take(key, config, nil), do: Infrastructure.reserved({:protection, key}, own_rule(config))

  defp take(_key, config, {rule, id}) when is_atom(rule) do
    case config do
      %{rate_limiter: _own} -> Infrastructure.reserved({rule, id}, own_rule(config))
      _none -> take_named(rule, id)
    end
  end

  defp take(_key, _config, other), do: not_a_rule(other)

  defp take_named(name, id) do
    case Config.default_limit(name) do
      {:ok, nil} -> not_a_rule({name, id})
      {:ok, rule} -> Infrastructure.reserved({name, id}, name, rule)
      error -> error
    end
  end

  defp own_rule(%{rate_limiter: %{limit: limit, window_ms: window_ms}}), do: {limit, window_ms}

  defp not_a_rule(given),
    do: {:error, Error.refused(:rate_limiter, given, "{name of a default limit, id}")}

  # A call that would be refused as wrong is refused before it can spend a token or count against the service.
  defp guarded(nil, opts, operation, begun) do
    cond do
      not is_function(operation, 0) ->
        {:error, Error.refused(:operation, operation, "a function without arguments")}

      ConnectionPool.Config.timeout_ns(Keyword.get(opts, :timeout, :infinity)) == :error ->
        {:error, Error.refused(:timeout, opts[:timeout], ConnectionPool.Config.timeout_range())}

      true ->
        {:ok, fn -> begin(begun, operation) end}
    end
  end

  defp guarded(pool, opts, operation, begun) do
    opts = [timeout: Keyword.get(opts, :timeout, 5_000)]

    with :ok <- ConnectionPool.check(pool, operation, opts) do
      pooled = fn connection -> begin(begun, fn -> operation.(connection) end) end
      {:ok, fn -> ConnectionPool.with_connection(pool, pooled, opts) end}
    end
  end

  defp begin(begun, operation) do
    :atomics.put(begun, 1, 1)
    operation.()
  end

  defp guard(nil, operation, timeout),
    do: CircuitBreaker.execute_unguarded(@namespace, nil, operation, timeout)

  defp guard(name, operation, timeout) do
    case Config.enabled(:circuit_breakers) do
      {:ok, true} -> execute_within(name, operation, timeout)
      {:ok, false} -> CircuitBreaker.execute_unguarded(@namespace, name, operation, timeout)
      error -> error
    end
  end

  defp execute_within(name, operation, timeout) do
    with {:ok, handle} <- CircuitBreaker.handle(@namespace, name) do
      # A number is less than an atom, so this is right for :infinity too.
      CircuitBreaker.execute(
        %{handle | call_timeout: min(handle.call_timeout, timeout)},
        operation
      )
    end
  end

  defp parts(config) do
    if is_map(config) or Keyword.keyword?(config) do
      config = Map.new(config)

      case Map.keys(config) -- @parts do
        [] ->
          {:ok, config}

        [unknown | _] ->
          allowed = "one of #{Enum.map_join(@parts, ", ", &inspect/1)}"
          {:error, Error.refused(:protection, unknown, allowed)}
      end
    else
      {:error, Error.refused(:config, config, "a map or a keyword list")}
    end
  end

  defp register_breaker(key, %{circuit_breaker: options}) do
    if is_map(options) or Keyword.keyword?(options) do
      options =
        Enum.map(options, fn
          {:recovery_time, ms} -> {:reset_timeout, ms}
          option -> option
        end)

      CircuitBreakerRegistry.register(@namespace, key, options)
    else
      {:error, Error.refused(:circuit_breaker, options, "a map or a keyword list")}
    end
  end

  defp register_breaker(_key, _config), do: :ok

  defp check_limiter(%{rate_limiter: rule}) do
    case rule do
      %{limit: limit, window_ms: ms}
      when map_size(rule) == 2 and is_integer(limit) and limit > 0 and is_integer(ms) and ms > 0 ->
        :ok

      other ->
        {:error, Error.refused(:rate_limiter, other, "%{limit: positive, window_ms: positive}")}
    end
  end

  defp check_limiter(_config), do: :ok

  defp check_pool(%{connection_pool: {_namespace, pool}}),
    do: check_pool(%{connection_pool: pool})

  defp check_pool(%{connection_pool: pool}) when not is_atom(pool) or is_nil(pool),
    do: {:error, Error.refused(:connection_pool, pool, "the name of a pool")}

  defp check_pool(_config), do: :ok
end
