defmodule Demo.Client do
  @moduledoc """
  One of the processes that store events by the services.

  For each event a client asks the ConfigServer for a value, behind its breaker; stores the event, behind the limit of its
  own and the EventStore's breaker; and, once that is acknowledged, looks into the database for it, by a connection of
  its own. The first client writes a version of the configuration now and then.

  Every other event goes by the facade, `Infrastructure.protected_operation/4` around the plain `EventStore.store/2`: there
  the time at which the limit has decided is known, and what limit and breaker take.

  A client's share is fixed and its place in it stands in the journal, so the successor of a killed client goes on
  where that one was.
  """

  alias Demo.{Clock, Journal, Store}
  alias ElixirScope.Foundation.Infrastructure
  alias ElixirScope.Foundation.Infrastructure.DatabasePool
  alias ElixirScope.Foundation.Services.{ConfigServer, EventStore}

  @namespace :production
  @setting [:capture, :processing, :batch_size]
  @refusals [:circuit_open, :half_open_full]
  # How often a client that the breaker refuses asks again, with some spread; and the pause after a failure.
  @ask_again_ms 100
  @pause_ms 5
  # The first client writes the configuration at one of so many of its events.
  @version_every 25

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
  def succeed(client, {_name, _pid, position, _held}), do: from(client, position)

  defp from(client, position) when position >= tuple_size(client.events), do: :ok

  defp from(client, position) do
    Clock.sleep_until(client.began_ns + div(client.span_ns * position, tuple_size(client.events)))
    Journal.at(client.name, position)
    event = elem(client.events, position)
    turn = div(position, client.clients)

    read()
    guard_ns = store(client.name, event, rem(turn, 2) == 0)
    pool_ns = look_up(client.name, event)
    if guard_ns, do: Journal.inside(guard_ns, pool_ns)
    Journal.count(:done)
    if client.index == 0 and rem(turn, @version_every) == 0, do: write_version()
    from(client, position + client.clients)
  end

  defp read do
    Journal.count(:reads)
    with {:ok, _size} <- ConfigServer.get_protected(@namespace, @setting), do: Journal.count(:answered)
  end

  # Until it is acknowledged.
  defp store(name, event, facade?) do
    stored = if facade?, do: store_by_facade(name, event), else: store_by_service(name, event)

    case stored do
      {:ok, guard_ns} ->
        guard_ns

      {:error, type} ->
        if type in @refusals do
          Process.sleep(@ask_again_ms + :rand.uniform(@ask_again_ms))
        else
          Journal.count(:failed)
          Process.sleep(@pause_ms + :rand.uniform(@pause_ms))
        end

        store(name, event, facade?)
    end
  end

  defp store_by_service(name, {seq, _body} = event) do
    began = Clock.now_ns()
    result = EventStore.store_protected(@namespace, Store.event(event), user_id: name)
    decided(name, began, Clock.now_ns(), result)

    case result do
      {:ok, id} when id == seq + 1 -> {:ok, nil}
      {:error, %{error_type: type}} -> {:error, type}
    end
  end

  defp store_by_facade(name, {seq, _body} = event) do
    began = Clock.now_ns()

    result =
      Infrastructure.protected_operation(@namespace, :event_store, [user_id: name], fn ->
        entered = Clock.now_ns()

        with {:ok, id} <- EventStore.store(@namespace, Store.event(event)),
             do: {:ok, {id, entered, Clock.now_ns()}}
      end)

    ended = Clock.now_ns()

    case result do
      {:ok, {id, entered, left}} when id == seq + 1 ->
        decided(name, began, entered, result)
        {:ok, entered - began + (ended - left)}

      {:error, %{error_type: type}} ->
        decided(name, began, ended, result)
        {:error, type}
    end
  end

  # What the limit said. Whom the breaker refuses has its token back, as if it had never asked.
  defp decided(_name, _began, _until, {:error, %{error_type: type}}) when type in @refusals, do: true

  defp decided(name, began, until, result) do
    admitted? = not match?({:error, %{error_type: :rate_limited}}, result)
    Journal.limiter("event/" <> name, Demo.limit(:event_storage), began, until, admitted?)
  end

  # An event that was acknowledged is there. An attempt to look may fail: its connection is killed, for one.
  defp look_up(name, {seq, _body} = event) do
    began = Clock.now_ns()

    looked =
      DatabasePool.with_connection(fn connection ->
        entered = Clock.now_ns()
        Journal.holds(name, connection, seq)
        result = Store.stored?(connection, event)
        Journal.releases(name)
        with {:ok, stored?} <- result, do: {:ok, {stored?, Clock.now_ns() - entered}}
      end)

    case looked do
      {:ok, {stored?, database_ns}} ->
        Journal.count(:lookups)
        if stored?, do: Journal.count(:found)
        Clock.now_ns() - began - database_ns

      {:error, _unknown} ->
        Journal.count(:failed)
        Process.sleep(@pause_ms + :rand.uniform(@pause_ms))
        look_up(name, event)
    end
  end

  defp write_version do
    {:ok, config} = ConfigServer.get(@namespace, [])

    case ConfigServer.sync_to_database_v3(@namespace, config) do
      {:ok, %{config: ^config}} ->
        Journal.count(:versions)

      # The database is locked for a while; the next version comes in its turn.
      {:error, _locked} ->
        Journal.count(:failed)
    end
  end
end
