defmodule ElixirScope.Foundation.Infrastructure.Protection do
  @moduledoc false
  # Protections under a name: a breaker of namespace :production with the key's name, a limit, a pool.

  alias ElixirScope.Foundation.{Error, Infrastructure}
  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, CircuitBreakerRegistry}
  alias ElixirScope.Foundation.Infrastructure.{Config, ConnectionPool, Names}
  alias ElixirScope.Foundation.Infrastructure.Protection.{Call, Limit}

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
      nil -> unknown(key)
      config -> {:ok, config}
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

  defp part_status({:rate_limiter, config}, key), do: {:rate_limiter, Limit.status(key, config)}

  # A call that is wrong is refused before it can spend a token or count against the service.
  @spec execute(atom(), keyword(), function()) :: term()
  def execute(key, opts, operation) do
    configured = Config.read()

    with :ok <- Infrastructure.check_options(opts, @options),
         {:ok, config} <- known(key, opts),
         pool = Limit.option(opts, :connection_pool) || Map.get(config, :connection_pool),
         timeout = Limit.option(opts, :timeout),
         :ok <- check_call(pool, timeout, operation),
         {:ok, limit} <- Limit.of(key, config, Limit.option(opts, :rate_limiter), configured) do
      stages = %{limit: limit, breaker: breaker(key, config, opts), pool: pool, timeout: timeout}
      Call.run(stages, operation, configured)
    end
  end

  defp breaker(key, config, opts) do
    Limit.option(opts, :circuit_breaker) || if is_map_key(config, :circuit_breaker), do: key
  end

  # Options alone are enough: then the key need not be configured.
  defp known(key, opts) do
    case Names.lookup(:protection, @namespace, key) do
      nil -> if Enum.any?(@parts, &Keyword.has_key?(opts, &1)), do: {:ok, %{}}, else: unknown(key)
      config -> {:ok, config}
    end
  end

  defp unknown(key),
    do: {:error, Error.refused(:key, key, "a key of configure_protection/2: #{inspect(keys())}")}

  defp check_call(nil, timeout, operation) do
    with :ok <- CircuitBreaker.check_operation(operation),
         do: if(timeout == nil, do: :ok, else: ConnectionPool.Config.check_timeout(timeout))
  end

  defp check_call(pool, timeout, operation),
    do: ConnectionPool.check(pool, operation, timeout: timeout)

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
