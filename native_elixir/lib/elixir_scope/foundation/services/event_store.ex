defmodule ElixirScope.Foundation.Services.EventStore do
  @moduledoc """
  Keeps the events of a namespace: in memory only, so that they are gone when the process ends, or in a database too.

  With `config :elixir_scope, storage: %{warm: %{enable: true}}` they are in the database of the pool `:database`, SQLite
  or PostgreSQL. An event is acknowledged after its transaction has committed, and is read back when the service starts:
  none that was acknowledged is lost when the service or the whole node is killed. All that is asked for while a
  transaction runs goes into the next one, so many callers share one commit; reads are answered meanwhile. When a write
  fails, its callers get `:service_unavailable`; where only the answer of the database was lost, such an event may
  appear after a restart. The other values under `warm` are not used. `status/0` says which it is: `persistence` is
  `:memory` or `:database`. Monotonic timestamps begin anew with each node: across restarts they are not in order.

  Functions without a namespace are those of `:production` and stand behind nothing. `store_protected/3` and
  `store_batch_protected/3` stand behind a rate limit and the breaker `{namespace, :event_store}`, where the flags of
  `ElixirScope.Foundation.Infrastructure.FeatureFlags` say so; a refused event never counts against the service.

  A service that does not run is `{:error, %Types.Error{code: 3000, error_type: :service_unavailable}}`.

      iex> alias ElixirScope.Foundation.{Events, Services.EventStore}
      iex> {:ok, event} = Events.new_event(:spawn, %{a: 1})
      iex> {:ok, id} = EventStore.store(event)
      iex> EventStore.get(id) == {:ok, event}
      true
  """
  use GenServer

  @behaviour ElixirScope.Foundation.Contracts.EventStore

  require Logger

  alias ElixirScope.Foundation.Infrastructure.Protection.Limit
  alias ElixirScope.Foundation.ProcessRegistry
  alias ElixirScope.Foundation.Logic.{ConfigLogic, EventLogic}
  alias ElixirScope.Foundation.Services.{EventDatabase, Service, TelemetryService}
  alias ElixirScope.Foundation.Types.{Error, Event}
  alias ElixirScope.Foundation.Validation.EventValidator

  @service :event_store
  @stored [:foundation, :event_store, :events_stored]
  @estimated_bytes 1_000
  # Requests in one transaction; the rest waits for the next.
  @at_once 1_000
  # Between two attempts to read the events back.
  @load_again_ms 100
  @int64 -0x8000000000000000..0x7FFFFFFFFFFFFFFF

  @type namespace :: ProcessRegistry.namespace()
  @type error :: {:error, Error.t() | ElixirScope.Foundation.Error.t()}

  @doc "Starts the service of `:namespace` (`:production`)."
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts \\ []) do
    namespace = Keyword.get(opts, :namespace, :production)
    GenServer.start_link(__MODULE__, opts, name: ProcessRegistry.via_tuple(namespace, @service))
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
  `uptime_ms`, `memory_usage_estimate` (#{@estimated_bytes} bytes an event).
  """
  @impl true
  @spec stats() :: {:ok, map()} | error()
  def stats, do: stats(:production)

  @doc "The counts of this namespace."
  @spec stats(namespace()) :: {:ok, map()} | error()
  def stats(namespace), do: call(namespace, :get_stats)

  @doc """
  How the service is: `status` (`:running`, or `:starting` until the events have been read back), `persistence`
  (`:memory` or `:database`), `event_count`, `next_id`.
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
    Service.initialize(__MODULE__, @service, opts, fn reason ->
      unavailable("The EventStore did not start", %{reason: reason})
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

  defp down, do: {:error, unavailable("The EventStore does not run", %{})}

  defp unavailable(message, context) do
    Error.new(
      code: 3000,
      error_type: :service_unavailable,
      message: message,
      severity: :high,
      category: :system,
      subcategory: :availability,
      context: context
    )
  end

  @impl true
  def init(opts) do
    case ConfigLogic.build_config(Keyword.take(opts, [:storage])) do
      {:ok, config} ->
        {:ok, started(Keyword.get(opts, :namespace, :production), config.storage.warm.enable)}

      {:error, error} ->
        {:stop, {:config_validation_failed, error}}
    end
  end

  defp started(namespace, durable?) do
    state = %{
      namespace: namespace,
      persistence: if(durable?, do: :database, else: :memory),
      loaded?: not durable?,
      # Requests with who waits for them, the latest first.
      waiting: [],
      # The process that reads or writes, and the requests it does.
      job: nil
    }

    # A linked process ends with this one: nothing is written for a service that is gone.
    if durable?, do: Process.flag(:trap_exit, true)
    state = Map.merge(state, fresh())
    if durable?, do: load(state), else: state
  end

  defp fresh do
    %{
      # id => event
      events: %{},
      next_id: 1,
      stored: 0,
      pruned: 0,
      started: Service.started()
    }
  end

  @impl true
  def handle_call(:get_status, _from, state) do
    status = %{
      status: if(state.loaded?, do: :running, else: :starting),
      persistence: state.persistence,
      event_count: map_size(state.events),
      next_id: state.next_id
    }

    {:reply, {:ok, status}, state}
  end

  def handle_call(request, from, %{loaded?: false} = state),
    do: {:noreply, %{state | waiting: [{request, from} | state.waiting]}}

  def handle_call({:get_event, id}, _from, state) do
    case Map.fetch(state.events, id) do
      {:ok, event} -> {:reply, {:ok, event}, state}
      :error -> {:reply, not_found(id), state}
    end
  end

  def handle_call({:query_events, query}, _from, state),
    do: {:reply, EventLogic.query(Map.values(state.events), query), state}

  def handle_call({:get_by_correlation, correlation_id}, _from, state) do
    events = EventLogic.extract_correlation_chain(Map.values(state.events), correlation_id)
    {:reply, {:ok, events}, state}
  end

  def handle_call(:get_stats, _from, state) do
    count = map_size(state.events)

    stats = %{
      events_stored: state.stored,
      events_pruned: state.pruned,
      start_time: state.started,
      current_event_count: count,
      uptime_ms: Service.since(state.started),
      memory_usage_estimate: count * @estimated_bytes
    }

    {:reply, {:ok, stats}, state}
  end

  def handle_call(change, from, state) do
    case check(change, state.persistence) do
      :ok -> {:noreply, accept(change, from, state)}
      {:error, _error} = error -> {:reply, error, state}
    end
  end

  @impl true
  def handle_cast(request, %{loaded?: false} = state),
    do: {:noreply, %{state | waiting: [{request, nil} | state.waiting]}}

  def handle_cast(change, state) do
    case check(change, state.persistence) do
      :ok ->
        {:noreply, accept(change, nil, state)}

      {:error, error} ->
        Logger.warning("EventStore dropped an event: #{error.message}")
        {:noreply, state}
    end
  end

  @impl true
  def handle_info(:load, state), do: {:noreply, load(state)}

  def handle_info({:EXIT, pid, reason}, %{job: {pid, requests}} = state) do
    state = %{state | job: nil}
    {:noreply, if(state.loaded?, do: written(reason, requests, state), else: read(reason, state))}
  end

  # Whoever started the service by hand, and is linked to it, takes it along.
  def handle_info({:EXIT, _pid, reason}, state) when reason != :normal,
    do: {:stop, reason, state}

  def handle_info(_stray, state), do: {:noreply, state}

  defp check({:store_event, event}, persistence), do: valid(event, persistence)

  defp check({:store_batch, events}, persistence),
    do: Enum.find_value(events, :ok, &invalid(&1, persistence))

  defp check({:prune_before, timestamp}, :database) when timestamp not in @int64,
    do: EventValidator.mismatch(:timestamp, timestamp, "an integer of 64 bits")

  defp check(_change, _persistence), do: :ok

  defp invalid(event, persistence) do
    with :ok <- valid(event, persistence), do: nil
  end

  defp valid(event, :memory), do: EventValidator.validate(event)

  defp valid(event, :database) do
    with :ok <- EventValidator.validate(event), do: columns(event)
  end

  # One event that the database would refuse must not take those of others with it.
  defp columns(%{event_id: id}) when id not in @int64,
    do: EventValidator.mismatch(:event_id, id, "an integer of 64 bits")

  defp columns(%{timestamp: timestamp}) when timestamp not in @int64,
    do: EventValidator.mismatch(:timestamp, timestamp, "an integer of 64 bits")

  defp columns(_event), do: :ok

  defp accept(change, from, %{persistence: :memory} = state), do: perform({change, from}, state)
  defp accept({:store_batch, []} = change, from, state), do: perform({change, from}, state)

  defp accept(change, from, state),
    do: write(%{state | waiting: [{change, from} | state.waiting]})

  defp write(%{job: nil, waiting: [_ | _]} = state) do
    {requests, later} = state.waiting |> Enum.reverse() |> Enum.split(@at_once)
    namespace = state.namespace

    pid =
      spawn_link(fn ->
        changes = Enum.map(requests, fn {change, _from} -> row_change(change) end)
        exit({:shutdown, EventDatabase.write(namespace, changes)})
      end)

    %{state | job: {pid, requests}, waiting: Enum.reverse(later)}
  end

  defp write(state), do: state

  defp row_change({:store_event, event}), do: {:store, [event]}
  defp row_change({:store_batch, events}), do: {:store, events}
  defp row_change({:prune_before, timestamp}), do: {:prune, timestamp}
  defp row_change(:reset_state), do: :reset

  defp written({:shutdown, :ok}, requests, state),
    do: requests |> Enum.reduce(state, &perform/2) |> write()

  defp written(reason, requests, state) do
    refuse(requests, "The database did not take the events", reason)
    write(state)
  end

  defp load(%{namespace: namespace} = state) do
    pid = spawn_link(fn -> exit({:shutdown, EventDatabase.read(namespace)}) end)
    %{state | job: {pid, []}}
  end

  # What came in the meantime is done now, in its order.
  defp read({:shutdown, {:ok, events}}, state) do
    loaded = Map.new(events, &{&1.event_id, &1})
    next_id = loaded |> Map.keys() |> Enum.max(fn -> 0 end) |> Kernel.+(1)
    early = Enum.reverse(state.waiting)
    state = %{state | events: loaded, next_id: next_id, loaded?: true, waiting: []}

    Enum.reduce(early, state, fn {request, from}, state ->
      case from && handle_call(request, from, state) do
        nil ->
          {:noreply, state} = handle_cast(request, state)
          state

        {:noreply, state} ->
          state

        {:reply, answer, state} ->
          GenServer.reply(from, answer)
          state
      end
    end)
  end

  defp read(reason, state) do
    refuse(state.waiting, "The events could not be read back", reason)
    Process.send_after(self(), :load, @load_again_ms)
    %{state | waiting: []}
  end

  defp refuse(requests, message, reason) do
    reason = with({:shutdown, {:error, error}} <- reason, do: error)
    error = {:error, unavailable(message, %{reason: reason})}
    {waiting, dropped} = Enum.split_with(requests, fn {_request, from} -> from end)
    Enum.each(waiting, fn {_request, from} -> GenServer.reply(from, error) end)
    if dropped != [], do: Logger.warning("#{message}: #{length(dropped)} that nobody waits for")
  end

  defp perform({change, from}, state) do
    {answer, state} = perform_change(change, state)
    if from, do: GenServer.reply(from, answer)
    state
  end

  defp perform_change({:store_event, event}, state),
    do: {{:ok, event.event_id}, kept_one(state, event)}

  defp perform_change({:store_batch, events}, state),
    do: {{:ok, Enum.map(events, & &1.event_id)}, kept_batch(state, events)}

  defp perform_change({:prune_before, timestamp}, state) do
    events = Map.reject(state.events, fn {_id, event} -> event.timestamp < timestamp end)
    count = map_size(state.events) - map_size(events)
    {{:ok, count}, %{state | events: events, pruned: state.pruned + count}}
  end

  defp perform_change(:reset_state, state), do: {:ok, Map.merge(state, fresh())}

  defp kept_one(state, event) do
    metadata = %{event_type: event.event_type, event_id: event.event_id}
    TelemetryService.emit(state.namespace, @stored, %{counter: 1}, metadata)
    keep(event, state)
  end

  defp kept_batch(state, []), do: state

  defp kept_batch(state, events) do
    size = length(events)
    TelemetryService.emit(state.namespace, @stored, %{counter: size}, %{batch_size: size})
    Enum.reduce(events, state, &keep/2)
  end

  defp keep(%{event_id: id} = event, state) do
    %{
      state
      | events: Map.put(state.events, id, event),
        next_id: max(state.next_id, id) + 1,
        stored: state.stored + 1
    }
  end

  defp not_found(id) do
    {:error,
     Error.new(
       code: 3001,
       error_type: :not_found,
       message: "There is no event #{id}",
       severity: :low,
       category: :data,
       subcategory: :retrieval,
       context: %{event_id: id}
     )}
  end
end
