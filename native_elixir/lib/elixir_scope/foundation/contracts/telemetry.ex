defmodule ElixirScope.Foundation.Contracts.Telemetry do
  @moduledoc "What a collector of metrics can do. Emitting never fails and never waits."

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Types

  @typedoc "The service's own, or the infrastructure's in front of it."
  @type error :: Types.Error.t() | Error.t()
  @type name :: [atom(), ...]

  @callback execute(name(), map(), map()) :: :ok
  @callback measure(name(), map(), (() -> result)) :: result when result: term()
  @callback emit_counter(name(), map()) :: :ok
  @callback emit_gauge(name(), number(), map()) :: :ok
  @callback get_metrics() :: {:ok, map()} | {:error, error()}
  @callback attach_handlers([name()]) :: :ok | {:error, error()}
  @callback detach_handlers([name()]) :: :ok
  @callback available?() :: boolean()
end
