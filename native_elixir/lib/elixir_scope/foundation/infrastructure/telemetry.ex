defmodule ElixirScope.Foundation.Infrastructure.Telemetry do
  @moduledoc """
  Emits the infrastructure's telemetry events.

  Names start with `[:elixir_scope, :foundation, :infra]`, or with `config :elixir_scope, :telemetry_prefix`, a list
  of atoms. With anything else there the application does not start; put there later, it is passed over.

  Events go to `:telemetry` where that library is loaded; without it they cost a check. What happens to an object, seldom
  and told by a process of its own (a breaker's changes, a pool's connections), is a metric of the namespace's
  TelemetryService, too. What happens to single calls is not: a flood of refused calls must not become a flood of
  messages to one process. Their counts are in the statistics of each object, and in `OpenMetrics`.
  """

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.Names
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

  @doc "Emits an event whose name is the prefix and `suffix`."
  @spec execute([atom()], map(), map()) :: :ok
  def execute(suffix, measurements, metadata),
    do: emit(prefix() ++ suffix, measurements, metadata)

  @doc "Does so, and records it in the TelemetryService of a namespace."
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
