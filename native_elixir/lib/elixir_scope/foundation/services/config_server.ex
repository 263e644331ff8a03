defmodule ElixirScope.Foundation.Services.ConfigServer do
  @moduledoc """
  Holds the configuration of a namespace and tells subscribers when it changes.

  | functions | what stands before the service |
  | --- | --- |
  | `get/0,1,2`, `update/2,3` and all others without a suffix | nothing, whatever the flags say |
  | `get_config_v1/2`, `get_protected/2`, `get_config_protected/2` | the breaker `{namespace, :config_server}` |
  | `get_enhanced/3`, `update_config_v2/4` | a rate limit, then that breaker |
  | `update_config_protected/4` | the rate limit of one user |
  | `sync_to_database_v3/2` | the pool `:database` |

  The flags of `ElixirScope.Foundation.Infrastructure.FeatureFlags` are read at each protected call. A refusal of the
  caller's own mistake (an unknown path, a forbidden update, a bad value) is an answer of the service and never counts
  against it. An update that is refused so has spent its token all the same. Who puts `get/2` behind that breaker by
  `CircuitBreaker.execute/4` has to name such mistakes in `ignore:`, or they count.

  Functions without a namespace are those of `:production`. A service that does not run is
  `{:error, %Types.Error{code: 5000, error_type: :service_unavailable}}`.

  After an update or a reset, subscribers get `{:config_notification, {:config_updated, path, value}}` or
  `{:config_notification, {:config_reset, config}}` before the caller gets its answer. The namespace's EventStore gets an
  event and its TelemetryService a count; nobody waits for these, and where one of them is down nothing is lost
  but its record. Do not subscribe through a protected call: it may run in another process.

      iex> alias ElixirScope.Foundation.Services.ConfigServer
      iex> ConfigServer.get(:production, [:ai, :provider])
      {:ok, :mock}
      iex> ConfigServer.get_protected(:production, [:ai, :provider])
      {:ok, :mock}
      iex> {:error, error} = ConfigServer.update([:ai, :provider], :openai)
      iex> error.error_type
      :config_update_forbidden
  """
  @behaviour ElixirScope.Foundation.Contracts.Configurable

  alias ElixirScope.Foundation.{Infrastructure, ProcessRegistry, Utils}
  alias ElixirScope.Foundation.Infrastructure.Protection.Limit
  alias ElixirScope.Foundation.Logic.ConfigLogic
  alias ElixirScope.Foundation.Services.{ConfigDatabase, ConfigServer.Server, Service}
  alias ElixirScope.Foundation.Types.{Config, Error}
  alias ElixirScope.Foundation.Validation.ConfigValidator

  @service :config_server

  @type namespace :: ProcessRegistry.namespace()
  @type path :: ConfigLogic.path()
  @type error :: {:error, Error.t() | ElixirScope.Foundation.Error.t()}

  ## Phase 0: the service itself

  @doc "The child specification of the service; its options are those of `start_link/1`."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts), do: %{id: __MODULE__, start: {__MODULE__, :start_link, [opts]}}

  @doc "Starts the service of `:namespace` (`:production`); other options are sections that replace the configured ones."
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts \\ []) do
    namespace = Keyword.get(opts, :namespace, :production)
    GenServer.start_link(Server, opts, name: ProcessRegistry.via_tuple(namespace, @service))
  end

  @doc "The whole configuration."
  @impl true
  @spec get() :: {:ok, Config.t()} | error()
  def get, do: call(:production, :get_config)

  @doc "The value at a path; `[]` is the whole configuration."
  @impl true
  @spec get(path()) :: {:ok, term()} | error()
  def get(path) when is_list(path), do: get(:production, path)

  @doc "The value at a path, of this namespace."
  @spec get(namespace(), path()) :: {:ok, term()} | error()
  def get(namespace, path) when is_list(path), do: call(namespace, {:get_config_path, path})

  @doc "Changes the value at one of `updatable_paths/0`."
  @impl true
  @spec update(path(), term()) :: :ok | error()
  def update(path, value), do: update(:production, path, value)

  @doc "Changes the value at one of `updatable_paths/0`, of this namespace."
  @spec update(namespace(), path(), term()) :: :ok | error()
  def update(namespace, path, value) when is_list(path),
    do: call(namespace, update_request(path, value))

  @doc "Checks a configuration; needs no running service."
  @impl true
  @spec validate(Config.t()) :: :ok | error()
  defdelegate validate(config), to: ConfigValidator

  @doc "The paths that may change at run time."
  @impl true
  @spec updatable_paths() :: [path()]
  defdelegate updatable_paths(), to: ConfigLogic

  @doc "Goes back to the defaults, without the application's environment. Counters stay."
  @impl true
  @spec reset() :: :ok | error()
  def reset, do: call(:production, :reset_config)

  @doc "Starts afresh, with the environment, without subscribers and counts. In test mode only."
  @spec reset_state() :: :ok | error()
  def reset_state do
    if Service.test_mode?(), do: call(:production, :reset_state), else: Service.forbidden(5002)
  end

  @doc "How the service is: `status`, `uptime_ms`, `updates_count`, `last_update`, `subscribers_count`."
  @spec status() :: {:ok, map()} | error()
  def status, do: call(:production, :get_status)

  @doc "Whether the service runs."
  @impl true
  @spec available?() :: boolean()
  def available?, do: ProcessRegistry.registered?(:production, @service)

  @doc "Starts the service, linked to the caller, unless it runs; then the options are ignored."
  @spec initialize(keyword()) :: :ok | error()
  def initialize(opts \\ []) do
    Service.initialize(Server, @service, opts, fn reason ->
      unavailable("The ConfigServer did not start", %{reason: reason})
    end)
  end

  @doc "Stops the service; its supervisor starts it again."
  @spec stop() :: :ok
  def stop, do: Service.stop(:production, @service)

  @doc "Sends `pid` the changes from now on, until it dies."
  @spec subscribe(pid()) :: :ok | error()
  def subscribe(pid \\ self()), do: subscribe(:production, pid)

  @doc "Sends `pid` the changes of this namespace."
  @spec subscribe(namespace(), pid()) :: :ok | error()
  def subscribe(namespace, pid) when is_pid(pid), do: call(namespace, {:subscribe, pid})

  @doc "Sends `pid` no more changes."
  @spec unsubscribe(pid()) :: :ok | error()
  def unsubscribe(pid \\ self()), do: unsubscribe(:production, pid)

  @doc "Sends `pid` no more changes of this namespace."
  @spec unsubscribe(namespace(), pid()) :: :ok | error()
  def unsubscribe(namespace, pid) when is_pid(pid), do: call(namespace, {:unsubscribe, pid})

  ## Phase 1: behind the breaker

  @doc "As `get/2`, behind the breaker."
  @spec get_config_v1(namespace(), path()) :: {:ok, term()} | error()
  def get_config_v1(namespace, path) when is_list(path),
    do: Service.guarded_call(namespace, @service, {:get_config_path, path}, &down/0)

  @doc "As `get_config_v1/2`."
  @spec get_protected(namespace(), path()) :: {:ok, term()} | error()
  def get_protected(namespace, path), do: get_config_v1(namespace, path)

  @doc "As `get_config_v1/2`: the same breaker."
  @spec get_config_protected(namespace(), path()) :: {:ok, term()} | error()
  def get_config_protected(namespace, path), do: get_config_v1(namespace, path)

  ## Phase 2: behind a rate limit

  @doc """
  As `get/2`, behind the rate limit that `opts` give (reads have none by default) and the breaker. Options are
  those of `ElixirScope.Foundation.Infrastructure.protected_operation/4`.
  """
  @spec get_enhanced(namespace(), path(), keyword()) :: {:ok, term()} | error()
  def get_enhanced(namespace, path, opts \\ []) when is_list(path) do
    request = {:get_config_path, path}
    Service.limited_call(namespace, @service, opts, nil, request, &down/0)
  end

  @doc """
  As `update/3`, limited for each `user_id` of `user_context` (a map or a keyword list) by the rule `config_updates`,
  10 in 60,000 ms unless configured. The same user's `update_config_v2/4` counts with it. No breaker.

  What a user has left where that rule is configured: `TokenBucketLimiter.peek({:config_update, user_id}, :config_updates)`.
  """
  @spec update_config_protected(namespace(), path(), term(), map() | keyword()) :: :ok | error()
  def update_config_protected(namespace, path, value, user_context) when is_list(path) do
    limit = Limit.default(:config_updates)

    with {:ok, user_id} <- user_id(user_context),
         opts = [user_id: user_id],
         :ok <- Infrastructure.check_rate_limit(namespace, @service, opts, limit),
         do: update(namespace, path, value)
  end

  @doc """
  As `update/3`, behind the rate limit of `opts[:user_id]` and the breaker; `{:ok, :ok}`. Without a `:user_id`, all
  anonymous callers of the namespace share one limit. Further options are those of
  `ElixirScope.Foundation.Infrastructure.protected_operation/4`.
  """
  @spec update_config_v2(namespace(), path(), term(), keyword()) :: {:ok, :ok} | error()
  def update_config_v2(namespace, path, value, opts) when is_list(path) do
    limit = Limit.default(:config_updates)
    request = update_request(path, value)

    with :ok <- Service.limited_call(namespace, @service, opts, limit, request, &down/0),
         do: {:ok, :ok}
  end

  # The same update asked again after the service died is the same event, and counted once: the id is made here, and
  # whether it was counted is a cell that outlives the service.
  @doc false
  @spec update_request(path(), term()) :: tuple()
  def update_request(path, value),
    do: {:update_config, path, value, {Utils.generate_id(), :atomics.new(1, [])}}

  defp user_id(%{user_id: user_id}) when not is_nil(user_id), do: {:ok, user_id}

  defp user_id(context) do
    with true <- Keyword.keyword?(context),
         user_id when not is_nil(user_id) <- context[:user_id] do
      {:ok, user_id}
    else
      _none ->
        {:error,
         ElixirScope.Foundation.Error.refused(
           :user_context,
           context,
           "a map with a `user_id`",
           :invalid_input
         )}
    end
  end

  ## Phase 3: through the pool

  @doc """
  Writes `config_data` (a map or a keyword list) as the namespace's next version into the database of the pool
  `:database`, and returns what was read back: `{:ok, %{version, written_at, config}}`. Version and time are
  written in the same transaction. A test namespace uses its own pool `:database` if it has one.

  Without such a pool `:pool_not_found`. No breaker and no rate limit: the pool's time-outs protect the caller.
  """
  @spec sync_to_database_v3(namespace(), Config.t() | map() | keyword()) ::
          {:ok, ConfigDatabase.stored()} | error()
  defdelegate sync_to_database_v3(namespace, config_data), to: ConfigDatabase, as: :write

  @doc "The latest version that `sync_to_database_v3/2` wrote for this namespace, or `:config_not_found`."
  @spec load_from_database_v3(namespace()) :: {:ok, ConfigDatabase.stored()} | error()
  defdelegate load_from_database_v3(namespace), to: ConfigDatabase, as: :read

  defp call(namespace, request), do: Service.call(namespace, @service, request, &down/0)

  defp down, do: {:error, unavailable("The ConfigServer does not run", %{})}

  defp unavailable(message, context) do
    Error.new(
      code: 5000,
      error_type: :service_unavailable,
      message: message,
      severity: :high,
      category: :system,
      subcategory: :initialization,
      context: context
    )
  end
end
