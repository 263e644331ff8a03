defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Usage do
  @moduledoc false
  # Telemetry of check-outs and check-ins: one in so many is told, and so is the check-in that belongs to it. `since` is when
  # that was lent, nil for what is not told.
  #
  # A check-in by the connection alone has to know which check-out it ends, so a process keeps that in its dictionary. Only it can
  # give back what is noted there, whether the lease still lives or not.

  alias ElixirScope.Foundation.Infrastructure.{Connection, Native, Telemetry}
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.Directory

  @type since :: integer() | nil

  @doc "A connection was lent to a call that asked at `asked`. When, if that was told."
  @spec lent(pos_integer(), term(), reference(), non_neg_integer(), integer()) :: since()
  def lent(one_in, pool, handle, slot, asked) do
    if one_in == 1 or :rand.uniform(one_in) == 1 do
      now = System.monotonic_time()
      tell(:checkout, :queue_time, now - asked, pool, handle, slot)
      now
    end
  end

  @doc "What was lent at `since` is about to be given back."
  @spec returned(term(), reference(), non_neg_integer(), integer()) :: :ok
  def returned(pool, handle, slot, since),
    do: tell(:checkin, :use_time, System.monotonic_time() - since, pool, handle, slot)

  defp tell(event, measurement, time, pool, handle, slot) do
    measurements = %{
      :count => 1,
      measurement => System.convert_time_unit(time, :native, :nanosecond),
      :connection_age => Native.pool_connection_age(handle, slot)
    }

    metadata = %{pool: pool, slot: slot}
    Telemetry.call(Directory.namespace(pool), [:connection_pool, event], measurements, metadata)
  end

  @doc "Notes what the calling process took."
  @spec remember(tuple(), Connection.connection()) :: term()
  def remember({_handle, nil, _slot, _epoch, _since}, _connection), do: :ok

  def remember({handle, _one_in, slot, epoch, since}, connection) do
    key = {__MODULE__, handle, connection}
    Process.put(key, [{slot, epoch, since} | Process.get(key, [])])
  end

  @doc "What it took last under this connection; forgotten then."
  @spec recall(reference(), Connection.connection()) ::
          {non_neg_integer(), non_neg_integer(), since()} | nil
  def recall(handle, connection) do
    key = {__MODULE__, handle, connection}

    case Process.get(key, []) do
      [] -> nil
      [lease] -> Process.delete(key) && lease
      [lease | others] -> Process.put(key, others) && lease
    end
  end
end
