defmodule ElixirScope.Foundation.Services.EventStore do
  @moduledoc """
  Keeps the events of a namespace: in memory only, so that they are gone when the process ends, or in a database too.

      config :elixir_scope, :storage, %{warm: %{enable: true, path: "/var/lib/app"}}

  With `warm: %{enable: true}` they are in the database of the pool `:database`, SQLite or PostgreSQL. An event is
  acknowledged after its transaction has committed, and is read back when the service starts: none that was
  acknowledged is lost when the service or the whole node is killed. All that is asked for while a transaction runs
  goes into the next one, so many callers share one commit; reads are answered from memory meanwhile.

  | key of `warm` | what it says |
  | --- | --- |
  | `path` | the folder of the SQLite database, made if there is none; where the pool `:database` is configured with a `:path` or an `:adapter` of its own, that counts |
  | `max_size_mb` | how much the events of a namespace may take in the database. After a commit that goes over it the oldest are dropped, until a tenth is free again |
  | `compression` | `:none`, or zlib's deflate for `:gzip` and for `:zstd`, which OTP 25 does not have. Events of both kinds are read |

  Without a database it is `hot` that bounds what is kept: the `max_events` stored last, and none for longer than
  `max_age_seconds`, for which the store looks every `prune_interval` milliseconds. The oldest is always the event that was
  stored first, whatever its timestamp. Audit events of the `ConfigServer` are events like all others.

  `status/0` says what holds: `persistence` (`:memory` or `:database`), `retention` (the limits), `compression`;
  `stats/0` counts as `events_pruned` what was dropped. Monotonic timestamps begin anew with each node: across
  restarts they are not in order.

  A database that is away for less than two seconds delays its callers. After that, or when it refuses, they get
  `:service_unavailable`, and nobody waits for an answer for longer than four seconds and a half: what was not begun is then
  not done, and of what was begun the error says that the outcome is unknown. An event's store may be repeated: the same
  id replaces.

  Functions without a namespace are those of `:production` and stand behind nothing. `store_protected/3` and
  `store_batch_protected/3` stand behind a rate limit and the breaker `{namespace, :event_store}`, where the flags of
  `ElixirScope.Foundation.Infrastructure.FeatureFlags` say so; a refused event never counts against the service.

  A service that does not run is `{:error, %Types.Error{code: 3000, error_type: :service_unavailable}}`.

      iex> alias ElixirScope.Foundation.{Events, Services.EventStore}
      iex> {:ok, event} = Events.new_event(:spawn, %{a: 1})
      iex> {:ok, id} = EventStore.store(event)
      iex> EventStore.get(id) == {:ok, event}
      true
      iex> {:ok, %{persistence: :memory, retention: limits}} = EventStore.status()
      iex> limits
      %{max_age_ms: 3_600_000, max_events: 100_000}
  """
  @behaviour ElixirScope.Foundation.Contracts.EventStore

  alias ElixirScope.Foundation.Infrastructure.Protection.Limit
  alias ElixirScope.Foundation.ProcessRegistry
  alias ElixirScope.Foundation.Services.EventStore.{Errors, Server}
  alias ElixirScope.Foundation.Services.Service
  alias ElixirScope.Foundation.Types.{Error, Event}

  @service :event_store
  @type namespace :: ProcessRegistry.namespace()
  @type error :: {:error, Error.t() | ElixirScope.Foundation.Error.t()}

  @doc "The child specification of the service of `:namespace` (`:production`)."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts), do: %{id: __MODULE__, start: {__MODULE__, :start_link, [opts]}}

  @doc "Starts the service of `:namespace` (`:production`)."
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts \\ []) do
    namespace = Keyword.get(opts, :namespace, :production)
    GenServer.start_link(Server, opts, name: ProcessRegistry.via_tuple(namespace, @service))
  end

  @doc "Keeps an event under its own id; the same id again replaces it."
  @impl true
  @spec store(Event.t()) :: {:ok, Event.id()} | error()
  def store(event), do: store(:production, event)

  @doc "Keeps an event of this namespace."
  @spec store(namespace(), Event.t()) :: {:ok, Event.id()} | error()
  def store(namespace, event), do: call(namespace, {:store_event, event})

  @doc "Keeps all events or, where one of them is not valid, none. The ids come in the order of the events."
  @impl true
  @spec store_batch([Event.t()]) :: {:ok, [Event.id()]} | error()
  def store_batch(events), do: store_batch(:production, events)

  @doc "Keeps all events of this namespace, or none."
  @spec store_batch(namespace(), [Event.t()]) :: {:ok, [Event.id()]} | error()
  def store_batch(namespace, events) when is_list(events),
    do: call(namespace, {:store_batch, events})

  @doc "Keeps an event without telling whether it did; one that is not valid is logged."
  @spec store_async(namespace(), Event.t()) :: :ok
  def store_async(namespace, event), do: Service.cast(namespace, @service, {:store_event, event})

  @doc """
  As `store/2`, behind the rule `event_storage` (100 in 60,000 ms unless configured), counted for `opts[:user_id]` or
  the namespace, and the breaker. Other options are those of
  `ElixirScope.Foundation.Infrastructure.protected_operation/4`.
  """
  @spec store_protected(namespace(), Event.t(), keyword()) :: {:ok, Event.id()} | error()
  def store_protected(namespace, event, opts \\ []),
    do: limited(namespace, opts, {:store_event, event})

  @doc "As `store_batch/2`, protected like `store_protected/3`; a batch costs its length."
  @spec store_batch_protected(namespace(), [Event.t()], keyword()) ::
          {:ok, [Event.id()]} | error()
  def store_batch_protected(namespace, events, opts \\ []) when is_list(events) do
    # What is no list of options is told as it is.
    opts = if Keyword.keyword?(opts), do: Keyword.put_new(opts, :cost, length(events)), else: opts
    limited(namespace, opts, {:store_batch, events})
  end

  defp limited(namespace, opts, request) do
    default = Limit.default(:event_storage)
    Service.limited_call(namespace, @service, opts, default, request, &down/0)
  end

  @doc "The event of this id, or `:not_found`."
  @impl true
  @spec get(Event.id()) :: {:ok, Event.t()} | error()
  def get(id), do: get(:production, id)

  @doc "The event of this id, of this namespace."
  @spec get(namespace(), Event.id()) :: {:ok, Event.t()} | error()
  def get(namespace, id) when is_integer(id) and id > 0, do: call(namespace, {:get_event, id})

  @doc "The events that a query asks for; see `ElixirScope.Foundation.Logic.EventLogic.query/2`."
  @impl true
  @spec query(map()) :: {:ok, [Event.t()]} | error()
  def query(query), do: query(:production, query)

  @doc "The events of this namespace that a query asks for."
  @spec query(namespace(), map()) :: {:ok, [Event.t()]} | error()
  def query(namespace, query) when is_map(query), do: call(namespace, {:query_events, query})

  @doc "The events of a correlation id, in the order of time."
  @impl true
  @spec get_by_correlation(String.t()) :: {:ok, [Event.t()]} | error()
  def get_by_correlation(correlation_id) when is_binary(correlation_id),
    do: call(:production, {:get_by_correlation, correlation_id})

  @doc "Drops the events before this timestamp and says how many. The unit is that of the events."
  @impl true
  @spec prune_before(integer()) :: {:ok, non_neg_integer()} | error()
  def prune_before(timestamp), do: prune_before(:production, timestamp)

  @doc "Drops the events of this namespace before this timestamp."
  @spec prune_before(namespace(), integer()) :: {:ok, non_neg_integer()} | error()
  def prune_before(namespace, timestamp) when is_integer(timestamp),
    do: call(namespace, {:prune_before, timestamp})

  @doc """
  Counts since the start: `events_stored`, `events_pruned`, `start_time` (monotonic ms), `current_event_count`,
  `uptime_ms`, `memory_usage_estimate` (1000 bytes an event).
  """
  @impl true
  @spec stats() :: {:ok, map()} | error()
  def stats, do: stats(:production)

  @doc "The counts of this namespace."
  @spec stats(namespace()) :: {:ok, map()} | error()
  def stats(namespace), do: call(namespace, :get_stats)

  @doc """
  How the service is: `status` (`:running`, or `:starting` until the events have been read back), `persistence`
  (`:memory` or `:database`), `retention` (`%{max_events, max_age_ms}` or `%{max_bytes}`), `compression` (`:none` or
  `:zlib`), `stored_bytes` (what the events take in the database, about), `event_count`, `next_id`.
  """
  @spec status() :: {:ok, map()} | error()
  def status, do: status(:production)

  @doc "How the service of this namespace is."
  @spec status(namespace()) :: {:ok, map()} | error()
  def status(namespace), do: call(namespace, :get_status)

  @doc "Whether the service runs."
  @impl true
  @spec available?() :: boolean()
  def available?, do: ProcessRegistry.registered?(:production, @service)

  @doc "Starts the service, linked to the caller, unless it runs."
  @spec initialize(keyword()) :: :ok | error()
  def initialize(opts \\ []) do
    Service.initialize(Server, @service, opts, fn reason ->
      Errors.unavailable("The EventStore did not start", %{reason: reason})
    end)
  end

  @doc "Stops the service; its supervisor starts it again."
  @spec stop() :: :ok
  def stop, do: Service.stop(:production, @service)

  @doc "Forgets all events and counts. In test mode only."
  @spec reset_state() :: :ok | error()
  def reset_state do
    if Service.test_mode?(), do: call(:production, :reset_state), else: Service.forbidden(3002)
  end

  defp call(namespace, request), do: Service.call(namespace, @service, request, &down/0)

  defp down, do: {:error, Errors.unavailable("The EventStore does not run", %{})}
end
