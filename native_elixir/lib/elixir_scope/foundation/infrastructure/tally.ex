defmodule ElixirScope.Foundation.Infrastructure.Tally do
  @moduledoc false
  # What happens to single calls, counted for the TelemetryService of their namespace.
  #
  # A flood of refused calls must not become a flood of messages to one process. So a call adds to a row of a table, and the
  # service takes the rows when it is asked for its metrics. Taking a row is atomic: what is added meanwhile makes the
  # next one. While the service is down, rows wait for it; there is one for each namespace and event.

  alias ElixirScope.Foundation.Infrastructure.Names

  @typedoc "An event's name behind the prefix, how often it was told, the calls that it stands for, the first one's metadata."
  @type row :: {[atom()], pos_integer(), pos_integer(), map()}

  @doc "Belongs to the supervisor, so it outlives those who write and read it."
  @spec create_table() :: :ok
  def create_table do
    :ets.new(__MODULE__, [:named_table, :public, :set, write_concurrency: true])
    :ok
  end

  @doc "One event that stands for `calls`. Where the application is not running, nothing happens."
  @spec add(Names.namespace(), [atom()], pos_integer(), map()) :: :ok
  def add(namespace, event, calls, metadata) do
    key = {namespace, event}
    _ = :ets.update_counter(__MODULE__, key, [{2, 1}, {3, calls}], {key, 0, 0, metadata})
    :ok
  rescue
    ArgumentError -> :ok
  end

  @doc "The rows of a namespace, which begin anew."
  @spec take(Names.namespace()) :: [row()]
  def take(namespace) do
    for [event] <- :ets.match(__MODULE__, {{namespace, :"$1"}, :_, :_, :_}),
        {_key, told, calls, metadata} <- :ets.take(__MODULE__, {namespace, event}),
        do: {event, told, calls, metadata}
  rescue
    ArgumentError -> []
  end
end
