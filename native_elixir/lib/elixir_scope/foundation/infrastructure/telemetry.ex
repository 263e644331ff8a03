defmodule ElixirScope.Foundation.Infrastructure.Telemetry do
  @moduledoc """
  Emits the infrastructure's telemetry events.

  Names start with `[:elixir_scope, :foundation, :infra]`, or with `config :elixir_scope, :telemetry_prefix`, a list
  of atoms. With anything else there the application does not start; put there later, it is passed over.

  Events go to `:telemetry` where that library is loaded, and are metrics of the namespace's TelemetryService in any case.
  What happens to an object, seldom and told by a process of its own (a breaker's changes, a pool's connections), is
  sent there with its measurements. What happens to a single call is added up, in a table, until the service is asked:
  such a metric has the measurement `counter`, the number of calls that its events stand for. Which calls are told, or
  one in how many, is said where the event is described; a call that is not told costs nothing.

  | single calls | told |
  | --- | --- |
  | `[:rate_limiter, :request_denied]`, `[:rate_limiter, :request_allowed]` | as `events:` of the limiter says: denied ones, unless switched off |
  | `[:circuit_breaker, :call_executed]`, `[:circuit_breaker, :call_rejected]` | after `CircuitBreakerTelemetry.call_events(true)` |
  | `[:connection_pool, :pool_timeout]` and the pool's other refusals | each |
  | `[:connection_pool, :checkout]`, `[:connection_pool, :checkin]` | as `telemetry:` of the pool says: none, unless switched on |
  """

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{Names, Tally}
  alias ElixirScope.Foundation.Services.TelemetryService

  @prefix [:elixir_scope, :foundation, :infra]

  @doc """
  What event names start with.

      iex> ElixirScope.Foundation.Infrastructure.Telemetry.prefix()
      [:elixir_scope, :foundation, :infra]
  """
  @spec prefix() :: [atom()]
  def prefix do
    prefix = configured()
    if prefix?(prefix), do: prefix, else: @prefix
  end

  @doc false
  @spec check_prefix() :: :ok | {:error, Error.t()}
  def check_prefix do
    prefix = configured()

    if prefix?(prefix),
      do: :ok,
      else:
        {:error,
         Error.refused(:telemetry_prefix, prefix, "a list of atoms", :invalid_config_value)}
  end

  defp configured, do: Application.get_env(:elixir_scope, :telemetry_prefix, @prefix)

  defp prefix?([atom | rest]) when is_atom(atom), do: prefix?(rest)
  defp prefix?(rest), do: rest == []

  @doc "Emits an event of `measurements.count` calls whose name is the prefix and `suffix`, and adds it up."
  @spec call(Names.namespace(), [atom()], map(), map()) :: :ok
  def call(namespace, suffix, %{count: calls} = measurements, metadata) do
    emit(prefix() ++ suffix, measurements, metadata)
    Tally.add(namespace, suffix, calls, metadata)
  end

  @doc "Emits an event whose name is the prefix and `suffix`, and records it in the TelemetryService of a namespace."
  @spec record(Names.namespace(), [atom()], map(), map()) :: :ok
  def record(namespace, suffix, measurements, metadata) do
    name = prefix() ++ suffix
    emit(name, measurements, metadata)
    TelemetryService.emit(namespace, name, measurements, metadata)
  end

  @doc "Emits an event of this full name."
  @spec emit([atom()], map(), map()) :: :ok
  def emit(name, measurements, metadata) do
    if function_exported?(:telemetry, :execute, 3) do
      apply(:telemetry, :execute, [name, measurements, metadata])
    end

    :ok
  end
end
