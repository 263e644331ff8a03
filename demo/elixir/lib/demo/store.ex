defmodule Demo.Store do
  @moduledoc """
  An event of the demo in the library's EventStore, and the look at what its table holds.

  The number of an event is its id, so it may be stored again: after an attempt whose outcome is unknown, and by the
  successor of a client that was killed.
  """

  alias ElixirScope.Foundation.{Error, Events}
  alias ElixirScope.Foundation.Infrastructure.DatabasePool
  alias ElixirScope.Foundation.Types.Event

  @look_up "SELECT 1 FROM elixir_scope_events WHERE namespace = ':production' AND event_id = ?"

  @doc "The event of a paragraph. Ids are positive, the first paragraph has number 0."
  @spec event(Demo.Events.event()) :: Event.t()
  def event({seq, body}) do
    {:ok, event} = Events.new_event(:custom_event, %{seq: seq, body: body}, event_id: seq + 1)
    event
  end

  @doc "Whether the database has an event, by a connection of its pool."
  @spec stored?(pid(), Demo.Events.event()) :: {:ok, boolean()} | {:error, Error.t()}
  def stored?(connection, {seq, _body}) do
    with {:ok, %{rows: rows}} <- DatabasePool.query(connection, @look_up, [seq + 1]), do: {:ok, rows != []}
  end
end
