defmodule ElixirScope.Foundation.Infrastructure do
  @moduledoc """
  One door to breakers, limits and pools.

  **Breakers and rate limits are off here until the application's configuration turns them on**; until then
  the functions of this module run the operation unguarded. (`CircuitBreaker` and `TokenBucketLimiter` called
  by themselves ask no switch.)

      config :elixir_scope, :infrastructure,
        circuit_breakers: %{
          enabled: true,
          default_config: %{failure_threshold: 5, reset_timeout: 30_000, call_timeout: 5_000}
        },
        rate_limiting: %{
          enabled: true,
          default_limits: %{config_updates: {10, 60_000}, event_storage: {100, 60_000}}
        }

  The configuration is read at every call, so a switch or a rule takes effect at once; a breaker keeps the options that it
  was made with until `CircuitBreaker.reinstall/3`. Where no application is named
  `:elixir_scope`, mix remarks that it is not available; the values hold all the same.

  `execute_with_protection/3` and `protected_operation/4` take a namespace and a service,
  `with_pooled_connection/3` a pool. `execute_protected/3` combines protections that `configure_protection/2`
  gave a name.

  The order is fixed: first the rate limit, then the breaker, then the pool. A call that is limited does not
  touch the breaker, and one that the breaker rejects takes no connection.
  """

  alias ElixirScope.Foundation.Error

  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, Config, ConnectionPool}
  alias ElixirScope.Foundation.Infrastructure.Protection
  alias ElixirScope.Foundation.Infrastructure.Protection.Limit

  @type namespace :: CircuitBreaker.namespace()

  @operation_options [:rate_key, :rate_limit, :user_id, :cost]

  @doc """
  Runs `operation` behind the breaker of `service`; without breakers (feature flag) directly, with the same
  result shapes. See `ElixirScope.Foundation.Infrastructure.CircuitBreaker.execute/3`.

      iex> alias ElixirScope.Foundation.Infrastructure
      iex> Infrastructure.execute_with_protection({:test, make_ref()}, :search, fn -> {:ok, :found} end)
      {:ok, :found}
  """
  @spec execute_with_protection(namespace(), atom(), (() -> term())) :: term()
  def execute_with_protection(namespace, service, operation) do
    case Config.enabled(:circuit_breakers, Config.read()) do
      {:ok, true} -> CircuitBreaker.execute(namespace, service, operation)
      {:ok, false} -> CircuitBreaker.execute_unguarded(namespace, service, operation)
      error -> error
    end
  end

  @doc """
  Checks a rate limit, then runs `operation` behind the breaker of `service`.

  Options:

    * `:rate_limit`: `{limit, window_ms}`, or the name of a rule in `default_limits`. Without it the service
      `:event_store` has the rule `:event_storage` (100 in 60,000 ms where there is none), others have none;
    * `:rate_key`: what is counted; by default the rule or service together with `:user_id`, or with the
      namespace if there is no user;
    * `:cost`: how many calls this one counts for, 1 by default.

  A limited call is `{:error, %Error{error_type: :rate_limited}}` with `retry_after_ms` in its context. A call that the
  breaker rejects gets its token back, for nothing was done that the limit is there to bound; it is forfeited if
  somebody waits for the same key already.

      iex> alias ElixirScope.Foundation.Infrastructure
      iex> opts = [rate_limit: {1, 60_000}, rate_key: make_ref()]
      iex> namespace = {:test, make_ref()}
      iex> Infrastructure.protected_operation(namespace, :search, opts, fn -> :found end)
      {:ok, :found}
      iex> {:error, error} = Infrastructure.protected_operation(namespace, :search, opts, fn -> :found end)
      iex> error.error_type
      :rate_limited
  """
  @spec protected_operation(namespace(), atom(), keyword(), (() -> term())) :: term()
  def protected_operation(namespace, service, opts, operation) do
    protected_operation(namespace, service, opts, operation, Limit.default_of(service))
  end

  # With the limit that a call has where the options give none.
  @doc false
  @spec protected_operation(namespace(), atom(), keyword(), (() -> term()), Limit.default()) ::
          term()
  def protected_operation(namespace, service, opts, operation, default) do
    configured = Config.read()

    with :ok <- check_options(opts, @operation_options),
         :ok <- CircuitBreaker.check_operation(operation),
         {:ok, limit} <- Limit.of_operation(namespace, service, opts, default, configured),
         :ok <- Limit.take(limit) do
      case attempt(namespace, service, operation, configured) do
        {:admitted, result} ->
          result

        {:refused, error} ->
          Limit.give_back(limit)
          error
      end
    end
  end

  defp attempt(namespace, service, operation, configured) do
    case Config.enabled(:circuit_breakers, configured) do
      {:ok, true} ->
        CircuitBreaker.attempt(namespace, service, operation)

      {:ok, false} ->
        {:admitted, CircuitBreaker.execute_unguarded(namespace, service, operation)}

      error ->
        {:refused, error}
    end
  end

  # The rate limit alone.
  @doc false
  @spec check_rate_limit(namespace(), atom(), keyword(), Limit.default()) ::
          :ok | {:error, Error.t()}
  def check_rate_limit(namespace, service, opts, default) do
    with :ok <- check_options(opts, @operation_options),
         {:ok, limit} <- Limit.of_operation(namespace, service, opts, default, Config.read()),
         do: Limit.take(limit)
  end

  @doc "Runs `operation` with a connection of the pool. See `ConnectionPool.with_connection/3`."
  @spec with_pooled_connection(ConnectionPool.pool(), (term() -> term()), keyword()) :: term()
  def with_pooled_connection(pool, operation, opts \\ []),
    do: ConnectionPool.with_connection(pool, operation, opts)

  @doc """
  Gives `key` protections, for `execute_protected/3`. Each is optional:

    * `circuit_breaker: %{failure_threshold: 5, recovery_time: 30_000}`: the options of
      `CircuitBreakerRegistry.register/3`, where `:recovery_time` is `:reset_timeout`;
    * `rate_limiter: %{limit: 10, window_ms: 60_000}`;
    * `connection_pool: name` of a pool that exists.
  """
  @spec configure_protection(atom(), map() | keyword()) :: :ok | {:error, Error.t()}
  defdelegate configure_protection(key, config), to: Protection, as: :configure

  @doc "What `configure_protection/2` was given."
  @spec get_protection_config(atom()) :: {:ok, map()} | {:error, Error.t()}
  defdelegate get_protection_config(key), to: Protection, as: :fetch

  @doc """
  How the protections of `key` are doing: `:circuit_breaker` has `status` and `failure_count`, `:rate_limiter` its rule with
  `remaining` and `retry_after_ms`, `:connection_pool` what `ConnectionPool.status/1` says. One that is gone has `error`.
  It is what they hold, also while a switch is off and nobody asks them.

      iex> alias ElixirScope.Foundation.Infrastructure
      iex> :ok = Infrastructure.configure_protection(:billing, %{circuit_breaker: %{failure_threshold: 3}})
      iex> Infrastructure.get_protection_status(:billing)
      {:ok, %{circuit_breaker: %{status: :closed, failure_count: 0}}}
  """
  @spec get_protection_status(atom()) :: {:ok, map()} | {:error, Error.t()}
  defdelegate get_protection_status(key), to: Protection, as: :status

  @doc "The keys that have protections."
  @spec list_protection_keys() :: [atom()]
  defdelegate list_protection_keys(), to: Protection, as: :keys

  @doc """
  Runs `operation` behind the protections of `key`, in the order rate limit, breaker, pool. A breaker or a rate
  limit that is turned off in the configuration is left out.

  With a pool the operation takes the connection as its argument, otherwise it takes none. The options replace
  what the key is configured with; options alone are enough, then the key need not be configured:

    * `rate_limiter: {rule, id}`: counts `id` under the key's own limit, else under `rule` of `default_limits`;
    * `circuit_breaker: name`: another breaker of namespace `:production`;
    * `connection_pool: name`;
    * `timeout: ms`: for the whole call, or `:infinity`. The wait for a connection and the operation share it; the operation
      is also bounded by the breaker's `:call_timeout`, whichever ends first, and runs in a process of its own then. Too slow
      an operation is `:timeout`, its connection is closed. Without the option a connection is waited for up to
      5,000 ms, and the operation has the breaker's `:call_timeout` alone.

  A call that does not get as far as the service gives back what it took:

  | refused by | its token | its permit |
  | --- | --- | --- |
  | the rate limit | none taken | none taken |
  | the breaker | refunded | none taken |
  | the pool, which has no connection to give (`:pool_exhausted`, `:pool_timeout`, `:queue_full`, `:pool_closed`) | refunded | cancelled: says nothing about the service |
  | the pool, which could not make one (`:create_failed`, and `:pool_timeout` with a `last_error`) | spent | a failure, for the service was asked |

  A refund is forfeited if somebody waits for the same key already. An operation that is too slow counts as a
  failure also where a long wait for the connection left it little time.

      iex> alias ElixirScope.Foundation.Infrastructure
      iex> :ok = Infrastructure.configure_protection(:invoices, rate_limiter: %{limit: 1, window_ms: 60_000})
      iex> Infrastructure.execute_protected(:invoices, [timeout: 1_000], fn -> :sent end)
      {:ok, :sent}
      iex> {:error, error} = Infrastructure.execute_protected(:invoices, [], fn -> :sent end)
      iex> error.error_type
      :rate_limited
  """
  @spec execute_protected(atom(), keyword(), function()) :: term()
  defdelegate execute_protected(key, opts, operation), to: Protection, as: :execute

  @doc false
  @spec check_options(term(), [atom()]) :: :ok | {:error, Error.t()}
  def check_options(opts, allowed), do: check_options(opts, allowed, opts)

  defp check_options([], _allowed, _all), do: :ok

  defp check_options([{key, _value} | rest], allowed, all) when is_atom(key) do
    if key in allowed or not Keyword.keyword?(rest) do
      check_options(rest, allowed, all)
    else
      {:error, Error.refused(:option, key, "one of #{Enum.map_join(allowed, ", ", &inspect/1)}")}
    end
  end

  defp check_options(_no_keywords, _allowed, all),
    do: {:error, Error.refused(:opts, all, "a keyword list")}
end
