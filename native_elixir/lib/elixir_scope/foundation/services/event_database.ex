defmodule ElixirScope.Foundation.Services.EventDatabase do
  @moduledoc false
  # The events of a namespace in a database, the table `elixir_scope_events`: one row an event, as an external term.
  # What is asked for at once is done in order in one transaction: all of it, or nothing.

  alias ElixirScope.Foundation.Infrastructure.DatabasePool
  alias ElixirScope.Foundation.Logic.EventLogic
  alias ElixirScope.Foundation.ProcessRegistry
  alias ElixirScope.Foundation.Services.Database
  alias ElixirScope.Foundation.Types.Event

  @table """
  CREATE TABLE IF NOT EXISTS elixir_scope_events (
    namespace TEXT NOT NULL,
    event_id BIGINT NOT NULL,
    timestamp BIGINT NOT NULL,
    event BYTEA NOT NULL,
    PRIMARY KEY (namespace, event_id))
  """
  @replacing """
  ON CONFLICT (namespace, event_id)
  DO UPDATE SET timestamp = excluded.timestamp, event = excluded.event
  """
  # Less than the 5 seconds that the callers of the store wait, so that they are told.
  @checkout [timeout: 2_000]
  # Four parameters each: well below the 999 of an old SQLite.
  @rows_a_statement 100

  @type change :: {:store, [Event.t()]} | {:prune, integer()} | :reset

  @doc "Does all changes, or none of them."
  @spec write(ProcessRegistry.namespace(), [change()]) :: :ok | {:error, term()}
  def write(namespace, changes) do
    written =
      Database.transaction(
        namespace,
        fn connection ->
          with {:ok, _} <- DatabasePool.exec(connection, @table),
               :ok <- each(merged(changes), &change(connection, inspect(namespace), &1)),
               do: {:ok, nil}
        end,
        @checkout
      )

    with {:ok, nil} <- written, do: :ok
  end

  @doc "All events of a namespace."
  @spec read(ProcessRegistry.namespace()) :: {:ok, [Event.t()]} | {:error, term()}
  def read(namespace) do
    sql = "SELECT event FROM elixir_scope_events WHERE namespace = $1"

    Database.transaction(
      namespace,
      fn connection ->
        with {:ok, _} <- DatabasePool.exec(connection, @table),
             {:ok, %{rows: rows}} <-
               DatabasePool.query(connection, sql, [inspect(namespace)], timeout: 60_000),
             do: {:ok, Enum.map(rows, &event/1)}
      end,
      @checkout
    )
  end

  defp event({{:blob, binary}}) do
    {:ok, event} = EventLogic.deserialize_event(binary)
    event
  end

  # Stores next to each other become one. Of events with one id the last is kept, for a statement changes a row once.
  defp merged(changes) do
    changes
    |> Enum.chunk_by(&match?({:store, _events}, &1))
    |> Enum.flat_map(fn
      [{:store, _events} | _] = stores -> [{:store, last_of_each_id(stores)}]
      others -> others
    end)
  end

  defp last_of_each_id(stores) do
    Map.values(
      for {:store, events} <- stores, event <- events, into: %{}, do: {event.event_id, event}
    )
  end

  defp change(connection, namespace, {:store, events}),
    do: events |> Enum.chunk_every(@rows_a_statement) |> each(&insert(connection, namespace, &1))

  defp change(connection, namespace, {:prune, timestamp}) do
    sql = "DELETE FROM elixir_scope_events WHERE namespace = $1 AND timestamp < $2"
    done(DatabasePool.exec(connection, sql, [namespace, timestamp]))
  end

  defp change(connection, namespace, :reset) do
    sql = "DELETE FROM elixir_scope_events WHERE namespace = $1"
    done(DatabasePool.exec(connection, sql, [namespace]))
  end

  defp insert(connection, namespace, events) do
    places =
      Enum.map_join(0..(length(events) - 1), ", ", fn row ->
        "($#{4 * row + 1}, $#{4 * row + 2}, $#{4 * row + 3}, $#{4 * row + 4})"
      end)

    sql =
      "INSERT INTO elixir_scope_events (namespace, event_id, timestamp, event) VALUES #{places} " <>
        @replacing

    values =
      Enum.flat_map(events, fn event ->
        {:ok, binary} = EventLogic.serialize_event(event)
        [namespace, event.event_id, event.timestamp, {:blob, binary}]
      end)

    done(DatabasePool.exec(connection, sql, values))
  end

  defp each(items, fun) do
    Enum.reduce_while(items, :ok, fn item, :ok ->
      case fun.(item) do
        :ok -> {:cont, :ok}
        error -> {:halt, error}
      end
    end)
  end

  defp done({:ok, _}), do: :ok
  defp done(error), do: error
end
