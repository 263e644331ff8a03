defmodule Demo.Client do
  @moduledoc """
  One of the processes that store events: `protected_operation` around `DatabasePool.with_connection`.

  A client's share is fixed and its place in it stands in the journal, so the successor of a killed client goes on
  where that one was. It does not know whether the event at that place was stored, so it looks first; the same holds
  after an attempt whose outcome is unknown.
  """

  alias Demo.{Clock, Journal, Store}
  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure
  alias ElixirScope.Foundation.Infrastructure.DatabasePool

  @refusals [:circuit_open, :half_open_full]
  # Refused and failed in these ways, an attempt has certainly stored nothing.
  @not_stored [:rate_limited, :pool_timeout, :queue_full] ++ @refusals
  # How often a client that the breaker refuses asks again, with some spread; and the pause after a failure.
  @ask_again_ms 100
  @pause_ms 5

  defstruct [:name, :index, :clients, :events, :began_ns, :span_ns]

  @type t :: %__MODULE__{
          name: binary(),
          index: non_neg_integer(),
          clients: pos_integer(),
          events: tuple(),
          began_ns: integer(),
          span_ns: pos_integer()
        }

  @doc "Stores the whole share, each event when it is due."
  @spec run(t()) :: :ok
  def run(%__MODULE__{} = client), do: from(client, client.index)

  @doc "Takes a killed client's place."
  @spec succeed(t(), Journal.doing()) :: :ok
  def succeed(client, {_name, _pid, position, held}) do
    await_end(held)
    store(client, position, true)
    from(client, position + client.clients)
  end

  # The pool closes a dead client's connection. Until that process is gone a statement may still be under way, and
  # a look-up would come too early.
  defp await_end(nil), do: :ok

  defp await_end({connection, _seq}) do
    monitor = Process.monitor(connection)

    receive do
      {:DOWN, ^monitor, :process, _, _} -> :ok
    end
  end

  defp from(client, position) when position >= tuple_size(client.events), do: :ok

  defp from(client, position) do
    Clock.sleep_until(client.began_ns + div(client.span_ns * position, tuple_size(client.events)))
    store(client, position, false)
    from(client, position + client.clients)
  end

  defp store(client, position, in_doubt?) do
    Journal.at(client.name, position)
    event = elem(client.events, position)

    case attempt(client.name, event, in_doubt?) do
      :ok ->
        Journal.count(:done)

      {:error, type} when type in @refusals ->
        Process.sleep(@ask_again_ms + :rand.uniform(@ask_again_ms))
        store(client, position, in_doubt?)

      {:error, type} ->
        Journal.count(:failed)
        Process.sleep(@pause_ms + :rand.uniform(@pause_ms))
        store(client, position, in_doubt? or type not in @not_stored)
    end
  end

  defp attempt(name, event, in_doubt?) do
    key = "event/" <> name
    began = Clock.now_ns()

    result =
      Infrastructure.protected_operation(:production, :event_store, [user_id: name], fn ->
        entered = Clock.now_ns()
        Journal.limiter(key, Demo.limit(:event_storage), began, entered, true)

        with {:ok, {what, database_ns}} <- DatabasePool.with_connection(&on(&1, name, event, in_doubt?)) do
          {:ok, {what, database_ns, Clock.now_ns() - entered}}
        end
      end)

    ended = Clock.now_ns()

    case result do
      {:ok, {what, database_ns, operation_ns}} ->
        Journal.inside(ended - began - operation_ns, operation_ns - database_ns)
        if what == :found, do: Journal.count(:found)
        :ok

      {:error, %Error{error_type: type}} ->
        # Whoever the limiter lets through comes to the breaker or beyond; beyond it is written already.
        if type == :rate_limited or type in @refusals,
          do: Journal.limiter(key, Demo.limit(:event_storage), began, ended, type != :rate_limited)

        {:error, type}
    end
  end

  defp on(connection, name, {seq, _body} = event, in_doubt?) do
    entered = Clock.now_ns()
    Journal.holds(name, connection, seq)
    if in_doubt?, do: Journal.count(:lookups)
    result = Store.event(connection, event, name, in_doubt?)
    Journal.releases(name)
    with {:ok, what} <- result, do: {:ok, {what, Clock.now_ns() - entered}}
  end
end
