defmodule ElixirScope.Foundation.Services.TelemetryService do
  @moduledoc """
  Collects the metrics of a namespace. Emitting is a message that nobody waits for: it is never limited, never refused,
  and says `:ok` also where the service is down. A caller sees its own earlier emissions in `get_metrics/0`.

  A metric keeps `timestamp` (native monotonic time of the latest emission), `measurements`, `metadata` (of the first
  emission) and `count`. Measurements merge: a `:gauge` is the latest, a `:counter` the sum, another number the
  mean of what was there and what comes, anything else the latest.

  What happens to single calls of limiters, breakers and pools is there too: see
  `ElixirScope.Foundation.Infrastructure.Telemetry`. It is added up without a message, and gathered when it is asked for.

  Functions without a namespace are those of `:production`. `get_metrics_protected/1` and `status_protected/1` stand behind
  the breaker `{namespace, :telemetry_service}`, where the feature flag says so.

  A service that does not run is `{:error, %Types.Error{error_type: :service_unavailable}}`.

      iex> alias ElixirScope.Foundation.Services.TelemetryService
      iex> TelemetryService.emit_counter([:docs, :telemetry, :example], 2, %{})
      iex> TelemetryService.emit_counter([:docs, :telemetry, :example], 3, %{})
      iex> {:ok, metrics} = TelemetryService.get_metrics()
      iex> {metrics.docs.telemetry.example.measurements, metrics.docs.telemetry.example.count}
      {%{counter: 5}, 2}
  """
  use GenServer

  @behaviour ElixirScope.Foundation.Contracts.Telemetry

  require Logger

  alias ElixirScope.Foundation.Infrastructure.{Tally, Telemetry}
  alias ElixirScope.Foundation.ProcessRegistry
  alias ElixirScope.Foundation.Services.Service
  alias ElixirScope.Foundation.Types.Error
  alias ElixirScope.Foundation.Utils

  @service :telemetry_service
  @defaults %{
    enable_vm_metrics: true,
    enable_process_metrics: true,
    metric_retention_ms: 300_000,
    cleanup_interval: 60_000
  }
  @vm_metrics [[:vm, :memory], [:vm, :total_run_queue_lengths], [:vm, :system_counts]]

  # Shown as the number of emissions alone, and where.
  @counts %{
    [:foundation, :event_store, :events_stored] => [:foundation, :events_stored],
    [:foundation, :config_updates] => [:foundation, :config_updates],
    [:foundation, :config_resets] => [:foundation, :config_resets],
    [:foundation, :config_operations] => [:foundation, :config_operations]
  }

  @type namespace :: ProcessRegistry.namespace()
  @type name :: [atom(), ...]
  @type error :: {:error, Error.t() | ElixirScope.Foundation.Error.t()}

  # A proper list with something in it.
  defguardp is_name(name) when length(name) > 0

  @doc """
  Starts the service of `:namespace` (`:production`). Options: `:enable_vm_metrics` (true), `:enable_process_metrics` (true),
  `:metric_retention_ms` (300,000: an older metric is forgotten), `:cleanup_interval` (60,000 ms).
  """
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts \\ []) do
    namespace = Keyword.get(opts, :namespace, :production)
    GenServer.start_link(__MODULE__, opts, name: ProcessRegistry.via_tuple(namespace, @service))
  end

  @doc "Records measurements under a name."
  @impl true
  @spec execute(name(), map(), map()) :: :ok
  def execute(name, measurements, metadata), do: emit(:production, name, measurements, metadata)

  @doc "Records measurements under a name, in this namespace."
  @spec emit(namespace(), name(), map(), map()) :: :ok
  def emit(namespace, name, measurements, metadata)
      when is_name(name) and is_map(measurements) and is_map(metadata),
      do: Service.cast(namespace, @service, {:execute_event, name, measurements, metadata})

  @doc "Counts one."
  @impl true
  @spec emit_counter(name(), map()) :: :ok
  def emit_counter(name, metadata), do: emit_counter(name, 1, metadata)

  @doc "Counts `n`."
  @spec emit_counter(name(), number(), map()) :: :ok
  def emit_counter(name, n, metadata) when is_number(n),
    do: execute(name, %{counter: n}, metadata)

  @doc "Sets a gauge."
  @impl true
  @spec emit_gauge(name(), number(), map()) :: :ok
  def emit_gauge(name, n, metadata) when is_number(n), do: execute(name, %{gauge: n}, metadata)

  @doc """
  Runs `fun` in the caller and returns its result. Records its duration in native time units under `name ++ [:stop]`, or
  `name ++ [:exception]` for an exception, which goes on to the caller.
  """
  @impl true
  @spec measure(name(), map(), (() -> result)) :: result when result: term()
  def measure(name, metadata, fun)
      when is_name(name) and is_map(metadata) and is_function(fun, 0) do
    started = System.monotonic_time()

    try do
      fun.()
    rescue
      exception ->
        ended(name, :exception, started, Map.put(metadata, :error, exception))
        reraise exception, __STACKTRACE__
    else
      result ->
        ended(name, :stop, started, metadata)
        result
    end
  end

  defp ended(name, how, started, metadata),
    do: execute(name ++ [how], %{duration: System.monotonic_time() - started}, metadata)

  @doc "Writes emissions of these names to the log, level debug."
  @impl true
  @spec attach_handlers([name()]) :: :ok | error()
  def attach_handlers(names) when is_list(names), do: call(:production, {:attach_handlers, names})

  @doc "Writes them no more."
  @impl true
  @spec detach_handlers([name()]) :: :ok
  def detach_handlers(names) when is_list(names),
    do: Service.cast(:production, @service, {:detach_handlers, names})

  @doc """
  All metrics, nested by the parts of their names, and `retrieved_at` (native monotonic time). The metrics of the
  services themselves are shown as the number of emissions alone: `foundation.events_stored`,
  `foundation.config_updates`, `foundation.config_resets`, `foundation.config_operations`.
  """
  @impl true
  @spec get_metrics() :: {:ok, map()} | error()
  def get_metrics, do: get_metrics(:production)

  @doc "All metrics of this namespace."
  @spec get_metrics(namespace()) :: {:ok, map()} | error()
  def get_metrics(namespace), do: call(namespace, :get_metrics)

  # For who does not wait as long as any other caller.
  @doc false
  @spec get_metrics(namespace(), timeout()) :: {:ok, map()} | error()
  def get_metrics(namespace, timeout),
    do: Service.call(namespace, @service, :get_metrics, &down/0, timeout)

  @doc "As `get_metrics/1`, behind the breaker."
  @spec get_metrics_protected(namespace()) :: {:ok, map()} | error()
  def get_metrics_protected(namespace),
    do: Service.guarded_call(namespace, @service, :get_metrics, &down/0)

  @doc "How the service is: `status`, `metrics_count`, `handlers_count`, `config`."
  @spec status() :: {:ok, map()} | error()
  def status, do: status(:production)

  @doc "How the service of this namespace is."
  @spec status(namespace()) :: {:ok, map()} | error()
  def status(namespace), do: call(namespace, :get_status)

  @doc "As `status/1`, behind the breaker."
  @spec status_protected(namespace()) :: {:ok, map()} | error()
  def status_protected(namespace),
    do: Service.guarded_call(namespace, @service, :get_status, &down/0)

  @doc "Forgets all metrics."
  @spec reset_metrics() :: :ok | error()
  def reset_metrics, do: call(:production, :reset_metrics)

  @doc "Forgets metrics and handlers. In test mode only."
  @spec reset_state() :: :ok | error()
  def reset_state do
    if Service.test_mode?(), do: call(:production, :reset_state), else: Service.forbidden(7002)
  end

  @doc "Whether the service runs."
  @impl true
  @spec available?() :: boolean()
  def available?, do: ProcessRegistry.registered?(:production, @service)

  @doc "Starts the service, linked to the caller, unless it runs."
  @spec initialize(keyword()) :: :ok | error()
  def initialize(opts \\ []) do
    Service.initialize(__MODULE__, @service, opts, fn reason ->
      unavailable("The TelemetryService did not start", %{reason: reason})
    end)
  end

  @doc "Stops the service; its supervisor starts it again."
  @spec stop() :: :ok
  def stop, do: Service.stop(:production, @service)

  defp call(namespace, request), do: Service.call(namespace, @service, request, &down/0)

  defp down, do: {:error, unavailable("The TelemetryService does not run", %{})}

  defp unavailable(message, context) do
    Error.new(
      code: nil,
      error_type: :service_unavailable,
      message: message,
      severity: :medium,
      category: :system,
      subcategory: :initialization,
      context: context
    )
  end

  @impl true
  def init(opts) do
    Service.started()
    {namespace, opts} = Keyword.pop(opts, :namespace, :production)
    config = Enum.into(opts, @defaults)
    if config.enable_vm_metrics, do: Enum.each(@vm_metrics, &present/1)
    schedule_cleanup(config)
    {:ok, %{namespace: namespace, config: config, metrics: %{}, handlers: MapSet.new()}}
  end

  defp present(name), do: GenServer.cast(self(), {:execute_event, name, %{gauge: 1}, %{}})

  defp schedule_cleanup(config), do: Process.send_after(self(), :cleanup, config.cleanup_interval)

  @impl true
  def handle_cast({:execute_event, name, measurements, metadata}, state),
    do: {:noreply, record(state, name, measurements, metadata, 1)}

  def handle_cast({:detach_handlers, names}, state),
    do: {:noreply, %{state | handlers: MapSet.difference(state.handlers, MapSet.new(names))}}

  @impl true
  def handle_call({:attach_handlers, names}, _from, state),
    do: {:reply, :ok, %{state | handlers: MapSet.union(state.handlers, MapSet.new(names))}}

  def handle_call(:get_metrics, _from, state) do
    state = gather(state)
    {:reply, {:ok, nested(state.metrics)}, state}
  end

  def handle_call(:get_status, _from, state) do
    state = gather(state)

    status = %{
      status: :running,
      metrics_count: map_size(state.metrics),
      handlers_count: MapSet.size(state.handlers),
      config: state.config
    }

    {:reply, {:ok, status}, state}
  end

  def handle_call(:reset_metrics, _from, state),
    do: {:reply, :ok, %{gather(state) | metrics: %{}}}

  def handle_call(:reset_state, _from, state),
    do: {:reply, :ok, %{gather(state) | metrics: %{}, handlers: MapSet.new()}}

  @impl true
  def handle_info(:cleanup, state) do
    schedule_cleanup(state.config)
    state = gather(state)

    retention = System.convert_time_unit(state.config.metric_retention_ms, :millisecond, :native)
    oldest = System.monotonic_time() - retention

    {:noreply,
     %{state | metrics: Map.filter(state.metrics, fn {_, m} -> m.timestamp >= oldest end)}}
  end

  def handle_info(_stray, state), do: {:noreply, state}

  # What was added up since the last time.
  defp gather(state) do
    prefix = Telemetry.prefix()

    Enum.reduce(Tally.take(state.namespace), state, fn {event, told, calls, metadata}, state ->
      record(state, prefix ++ event, %{counter: calls}, metadata, told)
    end)
  end

  defp record(state, name, measurements, metadata, count) do
    if name in state.handlers,
      do: Logger.debug("#{inspect(name)}: #{inspect(measurements)} #{inspect(metadata)}")

    update_in(state.metrics[name], &emitted(&1, measurements, metadata, count))
  end

  defp emitted(nil, measurements, metadata, count),
    do: %{
      timestamp: System.monotonic_time(),
      measurements: measurements,
      metadata: metadata,
      count: count
    }

  defp emitted(metric, measurements, _metadata, count) do
    %{
      metric
      | timestamp: System.monotonic_time(),
        measurements: Map.merge(metric.measurements, measurements, &merged/3),
        count: metric.count + count
    }
  end

  defp merged(:gauge, _old, new), do: new
  defp merged(_key, old, new) when not is_number(old) or not is_number(new), do: new
  defp merged(:counter, old, new), do: old + new
  defp merged(_key, old, new), do: (old + new) / 2

  # Shorter names first: a longer one is then added to what stands there.
  defp nested(metrics) do
    metrics
    |> Enum.sort_by(fn {name, _metric} -> length(name) end)
    |> Enum.reduce(%{}, fn {name, metric}, nested ->
      case Map.fetch(@counts, name) do
        {:ok, path} -> Utils.put_nested(nested, path, metric.count)
        :error -> Utils.put_nested(nested, name, metric)
      end
    end)
    |> Map.put(:retrieved_at, System.monotonic_time())
  end
end
