defmodule ElixirScope.Foundation.Infrastructure.Telemetry do
  @moduledoc """
  Emits the infrastructure's telemetry events.

  Names start with `[:elixir_scope, :foundation, :infra]`, or with `config :elixir_scope, :telemetry_prefix`.
  Events go to `:telemetry` where that library is loaded; without it they cost a check.
  """

  @prefix [:elixir_scope, :foundation, :infra]

  @doc """
  What event names start with.

      iex> ElixirScope.Foundation.Infrastructure.Telemetry.prefix()
      [:elixir_scope, :foundation, :infra]
  """
  @spec prefix() :: [atom()]
  def prefix, do: Application.get_env(:elixir_scope, :telemetry_prefix, @prefix)

  @doc "Emits an event whose name is the prefix and `suffix`."
  @spec execute([atom()], map(), map()) :: :ok
  def execute(suffix, measurements, metadata),
    do: emit(prefix() ++ suffix, measurements, metadata)

  @doc "Emits an event of this full name."
  @spec emit([atom()], map(), map()) :: :ok
  def emit(name, measurements, metadata) do
    if function_exported?(:telemetry, :execute, 3) do
      apply(:telemetry, :execute, [name, measurements, metadata])
    end

    :ok
  end
end
