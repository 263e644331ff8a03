defmodule ElixirScope.Foundation.Telemetry do
  @moduledoc """
  Recording metrics in the TelemetryService of `:production`. Emitting never waits and never fails.

      iex> alias ElixirScope.Foundation.Telemetry
      iex> Telemetry.measure([:docs, :measured], %{}, fn -> 42 end)
      42
      iex> {:ok, metric} = Telemetry.get_metrics_for([:docs, :measured, :stop])
      iex> metric.count
      1
  """

  @behaviour ElixirScope.Foundation.Contracts.Telemetry

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Services.TelemetryService
  alias ElixirScope.Foundation.Utils

  @type name :: TelemetryService.name()
  @type error :: TelemetryService.error()

  @doc "Starts the service unless it runs."
  @spec initialize(keyword()) :: :ok | error()
  defdelegate initialize(opts \\ []), to: TelemetryService

  @doc "How the service is."
  @spec status() :: {:ok, map()} | error()
  defdelegate status(), to: TelemetryService

  @doc "Whether the service runs."
  @impl true
  @spec available?() :: boolean()
  defdelegate available?(), to: TelemetryService

  @doc "Records measurements under a name."
  @impl true
  @spec execute(name(), map(), map()) :: :ok
  defdelegate execute(name, measurements, metadata), to: TelemetryService

  @doc "Runs `fun` and records how long it took; see `ElixirScope.Foundation.Services.TelemetryService.measure/3`."
  @impl true
  @spec measure(name(), map(), (() -> result)) :: result when result: term()
  defdelegate measure(name, metadata, fun), to: TelemetryService

  @doc "Counts one."
  @impl true
  @spec emit_counter(name(), map()) :: :ok
  defdelegate emit_counter(name, metadata), to: TelemetryService

  @doc "Sets a gauge."
  @impl true
  @spec emit_gauge(name(), number(), map()) :: :ok
  defdelegate emit_gauge(name, value, metadata), to: TelemetryService

  @doc "All metrics, nested by the parts of their names."
  @impl true
  @spec get_metrics() :: {:ok, map()} | error()
  defdelegate get_metrics(), to: TelemetryService

  @doc "What `get_metrics/0` has at this path: a metric, a count, or a map of what lies below."
  @spec get_metrics_for([atom()]) :: {:ok, term()} | error()
  def get_metrics_for(path) when is_list(path) do
    with {:ok, metrics} <- get_metrics(),
         :error <- Utils.fetch_nested(metrics, path) do
      Error.error_result(:data_not_found, "There is no metric at #{inspect(path)}",
        context: %{path: path}
      )
    end
  end

  @doc "Writes emissions of these names to the log."
  @impl true
  @spec attach_handlers([name()]) :: :ok | error()
  defdelegate attach_handlers(names), to: TelemetryService

  @doc "Writes them no more."
  @impl true
  @spec detach_handlers([name()]) :: :ok
  defdelegate detach_handlers(names), to: TelemetryService

  @doc "As `measure/3` under `[:elixir_scope, :function, :execution]`, with the module and the function."
  @spec time_function(module(), atom(), (() -> result)) :: result when result: term()
  def time_function(module, function, fun),
    do:
      measure([:elixir_scope, :function, :execution], %{module: module, function: function}, fun)

  @doc "Sets the gauge `[:elixir_scope, :performance, metric]`."
  @spec emit_performance(atom(), number(), map()) :: :ok
  def emit_performance(metric, value, metadata \\ %{}),
    do: emit_gauge([:elixir_scope, :performance, metric], value, metadata)

  @doc "Counts one `[:elixir_scope, :system, event]`."
  @spec emit_system_event(atom(), map()) :: :ok
  def emit_system_event(event, metadata \\ %{}),
    do: emit_counter([:elixir_scope, :system, event], metadata)
end
