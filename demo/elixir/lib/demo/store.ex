defmodule Demo.Store do
  @moduledoc """
  The SQL: storing an event exactly once, and the burst's updates.
  """

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.DatabasePool

  # How long an attempt tries on a locked database.
  @attempt [timeout: 250]

  @insert "INSERT INTO events (seq, language, client, body) VALUES (?, 'elixir', ?, ?)"
  @look_up "SELECT 1 FROM events WHERE seq = ?"
  @update "INSERT INTO updates (user, value) VALUES (?, ?)"

  @doc """
  One attempt. When an earlier one may have stored the event, it is looked for first, in the transaction that stores
  it; the VM runs with one async thread, so a statement of that earlier attempt which nobody waits for any more has
  ended before the look-up begins.
  """
  @spec event(pid(), Demo.Events.event(), binary(), boolean()) ::
          {:ok, :stored | :found} | {:error, Error.t()}
  def event(connection, event, client, false), do: insert(connection, event, client)

  def event(connection, {seq, _body} = event, client, true) do
    look_and_insert = fn ->
      case DatabasePool.query(connection, @look_up, [seq], @attempt) do
        {:ok, %{rows: []}} -> insert(connection, event, client)
        {:ok, %{rows: [_ | _]}} -> {:ok, :found}
        error -> error
      end
    end

    DatabasePool.transaction(connection, look_and_insert, @attempt)
  end

  defp insert(connection, {seq, body}, client) do
    with {:ok, _} <- DatabasePool.exec(connection, @insert, [seq, client, body], @attempt), do: {:ok, :stored}
  end

  @doc "One of the burst's updates."
  @spec update(pid(), binary(), integer()) :: {:ok, integer()} | {:error, Error.t()}
  def update(connection, user, value), do: DatabasePool.exec(connection, @update, [user, value])
end
