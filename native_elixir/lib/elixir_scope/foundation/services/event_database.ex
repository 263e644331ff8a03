defmodule ElixirScope.Foundation.Services.EventDatabase do
  @moduledoc false
  # The events of a namespace in a database, the table `elixir_scope_events`: one row an event, as an external term.
  # What is asked for at once is done in order in one transaction: all of it, or nothing. Everything here may be done
  # twice with the same result, so what fails because the database is away is tried again for a moment, also where
  # its outcome is unknown.
  #
  # `stored` is the order in which events were stored: what goes first when the table is too large. `size` is the length
  # of `event`, so that sizes are known without reading what is large.

  alias ElixirScope.Foundation.Error
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
    stored BIGINT NOT NULL,
    size INTEGER NOT NULL,
    event BYTEA NOT NULL,
    PRIMARY KEY (namespace, event_id))
  """
  @columns 6
  @replacing """
  ON CONFLICT (namespace, event_id) DO UPDATE
  SET timestamp = excluded.timestamp, stored = excluded.stored, size = excluded.size, event = excluded.event
  """
  # About what a row and its entry in the index take beside the event.
  @row_bytes 128
  @total "SELECT COALESCE(SUM(size + #{@row_bytes}), 0) FROM elixir_scope_events WHERE namespace = $1"
  # The latest event that has to go so that those after it fit. The newest stays, whatever its size.
  @last_to_go """
  SELECT MAX(stored) FROM (
    SELECT stored, size + #{@row_bytes} AS own, SUM(size + #{@row_bytes}) OVER (ORDER BY stored DESC) AS bytes
    FROM elixir_scope_events WHERE namespace = $1) AS newest_first
  WHERE bytes > $2 AND bytes > own
  """
  @page_sizes """
  SELECT event_id, size FROM elixir_scope_events
  WHERE namespace = $1 AND event_id > $2 ORDER BY event_id LIMIT 1000
  """
  @page """
  SELECT event_id, stored, event FROM elixir_scope_events
  WHERE namespace = $1 AND event_id > $2 AND event_id <= $3 ORDER BY event_id
  """
  @page_bytes 1_000_000
  # PostgreSQL's driver takes seconds for a row of a megabyte, and nobody waits: callers are told meanwhile.
  @read [timeout: 60_000]

  # Less than the time in which the store answers, so that its callers are told why.
  @keep_trying 2_000
  @pause 20
  # With their columns well below the 999 parameters of an old SQLite.
  @rows_a_statement 100

  @type place :: pos_integer()
  @type change :: {:store, [{place(), Event.t()}]} | {:prune, integer()} | :reset
  @type compression :: :none | :zlib
  @typedoc "What an event takes in the database, its row included."
  @type size :: pos_integer()

  @doc "Does all changes, or none of them; the sizes of what was stored."
  @spec write(ProcessRegistry.namespace(), [change()], compression()) ::
          {:ok, %{Event.id() => size()}} | {:error, term()}
  def write(namespace, changes, compression) do
    changes = merged(changes, compression)

    written =
      transaction(namespace, fn connection ->
        with :ok <- each(changes, &change(connection, inspect(namespace), &1)), do: {:ok, nil}
      end)

    with {:ok, nil} <- written do
      {:ok,
       for({:rows, rows} <- changes, {id, _, _, event} <- rows, into: %{}, do: {id, size(event)})}
    end
  end

  @doc """
  Where the events take more than so many bytes, drops the oldest until there is a tenth of the room again, so that
  not every store drops some. The place of the last that went, or nil.
  """
  @spec trim(ProcessRegistry.namespace(), pos_integer()) ::
          {:ok, place() | nil} | {:error, term()}
  def trim(namespace, max_bytes) do
    name = inspect(namespace)

    transaction(namespace, fn connection ->
      case value(connection, @total, [name]) do
        {:ok, bytes} when bytes > max_bytes ->
          drop(connection, name, max_bytes - div(max_bytes, 10))

        {:ok, _fits} ->
          {:ok, nil}

        error ->
          error
      end
    end)
  end

  defp drop(connection, name, keep) do
    delete = "DELETE FROM elixir_scope_events WHERE namespace = $1 AND stored <= $2"

    with {:ok, last} when not is_nil(last) <- value(connection, @last_to_go, [name, keep]),
         {:ok, _} <- DatabasePool.exec(connection, delete, [name, last]),
         do: {:ok, last}
  end

  defp value(connection, sql, params) do
    with {:ok, %{rows: [{value}]}} <- DatabasePool.query(connection, sql, params),
         do: {:ok, value}
  end

  @doc """
  Gives `fun` the events after this id page by page, in the order of their ids. A page is at most 1000 events, or one
  megabyte and the rest of an event. Each is a transaction of its own: memory does not depend on the table's size.
  """
  @spec each_page(
          ProcessRegistry.namespace(),
          integer(),
          ([{place(), size(), Event.t()}] -> term())
        ) ::
          :ok | {:error, term()}
  def each_page(namespace, after_id, fun) do
    with {:ok, [_ | _] = rows} <- page(namespace, after_id),
         {:ok, events} <- decode(rows) do
      fun.(events)
      {_place, _size, last} = List.last(events)
      each_page(namespace, last.event_id, fun)
    else
      {:ok, []} -> :ok
      error -> error
    end
  end

  # The write lock is taken, so whatever a killed writer has begun is finished or undone before.
  defp page(namespace, after_id) do
    name = inspect(namespace)

    transaction(namespace, fn connection ->
      with {:ok, %{rows: [_ | _] = sizes}} <-
             DatabasePool.query(connection, @page_sizes, [name, after_id], @read),
           {:ok, %{rows: rows}} <-
             DatabasePool.query(connection, @page, [name, after_id, page_end(sizes)], @read) do
        {:ok, rows}
      else
        {:ok, %{rows: []}} -> {:ok, []}
        error -> error
      end
    end)
  end

  defp page_end(sizes) do
    Enum.reduce_while(sizes, {nil, 0}, fn {id, size}, {_last, bytes} ->
      if bytes + size < @page_bytes, do: {:cont, {id, bytes + size}}, else: {:halt, {id, bytes}}
    end)
    |> elem(0)
  end

  defp decode(rows) do
    Enum.reduce_while(rows, {:ok, []}, fn {id, place, {:blob, binary}}, {:ok, events} ->
      case EventLogic.deserialize_event(binary) do
        {:ok, event} -> {:cont, {:ok, [{place, size(binary), event} | events]}}
        {:error, error} -> {:halt, corrupt(id, error)}
      end
    end)
    |> then(&with({:ok, events} <- &1, do: {:ok, Enum.reverse(events)}))
  end

  defp corrupt(id, error) do
    Error.error_result(
      :data_corruption,
      "The row of event #{id} holds no event: #{error.message}",
      context: %{event_id: id}
    )
  end

  defp size(binary), do: byte_size(binary) + @row_bytes

  # While the database is away it is tried again for a moment.
  defp transaction(namespace, fun, deadline \\ now() + @keep_trying) do
    result = Database.transaction(namespace, @table, fun, timeout: max(deadline - now(), 0))

    with {:error, %Error{} = error} <- result do
      if Database.away?(error) and now() + @pause < deadline do
        Process.sleep(@pause)
        transaction(namespace, fun, deadline)
      else
        result
      end
    end
  end

  defp now, do: System.monotonic_time(:millisecond)

  # Stores next to each other become one. Of events with one id the last is kept, for a statement changes a row once.
  defp merged(changes, compression) do
    changes
    |> Enum.chunk_by(&match?({:store, _events}, &1))
    |> Enum.flat_map(fn
      [{:store, _events} | _] = stores -> [{:rows, rows(stores, compression)}]
      others -> others
    end)
  end

  defp rows(stores, compression) do
    last =
      for {:store, events} <- stores,
          {place, event} <- events,
          into: %{},
          do: {event.event_id, {place, event}}

    for {id, {place, event}} <- last, do: {id, event.timestamp, place, encode(event, compression)}
  end

  # Where compressing makes nothing shorter, the VM leaves it out. Both read alike, so the setting may change.
  defp encode(event, :none), do: :erlang.term_to_binary(event)
  defp encode(event, :zlib), do: :erlang.term_to_binary(event, [:compressed])

  defp change(connection, namespace, {:rows, rows}),
    do: rows |> Enum.chunk_every(@rows_a_statement) |> each(&insert(connection, namespace, &1))

  defp change(connection, namespace, {:prune, timestamp}) do
    sql = "DELETE FROM elixir_scope_events WHERE namespace = $1 AND timestamp < $2"
    done(DatabasePool.exec(connection, sql, [namespace, timestamp]))
  end

  defp change(connection, namespace, :reset) do
    sql = "DELETE FROM elixir_scope_events WHERE namespace = $1"
    done(DatabasePool.exec(connection, sql, [namespace]))
  end

  defp insert(connection, namespace, rows) do
    places =
      Enum.map_join(0..(length(rows) - 1), ", ", fn row ->
        "(" <> Enum.map_join(1..@columns, ", ", &"$#{@columns * row + &1}") <> ")"
      end)

    sql =
      "INSERT INTO elixir_scope_events (namespace, event_id, timestamp, stored, size, event) " <>
        "VALUES #{places} " <> @replacing

    values =
      Enum.flat_map(rows, fn {id, timestamp, place, event} ->
        [namespace, id, timestamp, place, byte_size(event), {:blob, event}]
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
