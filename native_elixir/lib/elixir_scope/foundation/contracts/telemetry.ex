defmodule ElixirScope.Foundation.Contracts.Telemetry do
  @moduledoc "What a collector of metrics can do. Emitting never fails and never waits."

  alias ElixirScope.Foundation.Types.Error

  @type name :: [atom(), ...]

  @callback execute(name(), map(), map()) :: :ok
  @callback measure(name(), map(), (() -> result)) :: result when result: term()
  @callback emit_counter(name(), map()) :: :ok
  @callback emit_gauge(name(), number(), map()) :: :ok
  @callback get_metrics() :: {:ok, map()} | {:error, Error.t()}
  @callback attach_handlers([name()]) :: :ok | {:error, Error.t()}
  @callback detach_handlers([name()]) :: :ok
  @callback available?() :: boolean()
end
