defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Checkin do
  @moduledoc false
  # Gives a connection back: the caller's own, or a lease. Whose it is, the native pool decides.
  #
  # One whose process has died is broken, whether the pool has heard of that or not. The look is a flag, except where signals
  # to that process are still on their way, a kill by its holder perhaps: then it takes the turn in which it handles them.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{Connection, Native}
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.{Directory, Lease, Refusal, Usage}

  @type condition :: :good | :broken

  @doc "Gives a lease back."
  @spec lease(term(), Lease.t(), condition()) :: :ok | {:error, Error.t()}
  def lease(pool, %Lease{handle: own, slot: slot, epoch: epoch} = lease, condition) do
    case Directory.fetch(pool) do
      {^own, _, _, one_in} ->
        place = {own, one_in, slot, epoch, lease.since}
        give_back(pool, place, lease.connection, condition)

      nil ->
        Refusal.not_found(pool)

      _other ->
        Refusal.stale(pool)
    end
  end

  @doc "Gives back a connection that the calling process holds."
  @spec own(term(), Connection.connection(), condition()) :: :ok | {:error, Error.t()}
  def own(pool, connection, condition) do
    case Directory.fetch(pool) do
      {handle, _, _, nil} ->
        returned(Native.pool_checkin(handle, connection, broken?(connection, condition)), pool)

      {handle, _, _, one_in} ->
        case Usage.recall(handle, connection) do
          {slot, epoch, since} ->
            give_back(pool, {handle, one_in, slot, epoch, since}, connection, condition)

          nil ->
            Refusal.stale(pool)
        end

      nil ->
        Refusal.not_found(pool)
    end
  end

  @doc "Gives back what was taken from a place."
  @spec give_back(term(), tuple(), Connection.connection(), condition()) ::
          :ok | {:error, Error.t()}
  def give_back(pool, {handle, _one_in, slot, epoch, since}, connection, condition) do
    if since, do: Usage.returned(pool, handle, slot, since)
    broken? = broken?(connection, condition)
    returned(Native.pool_checkin_lease(handle, slot, epoch, broken?), pool)
  end

  defp broken?(_connection, :broken), do: true

  defp broken?(connection, :good) do
    pid = Connection.process(connection)
    is_pid(pid) and node(pid) == node() and not Process.alive?(pid)
  end

  defp returned(:ok, _pool), do: :ok
  defp returned(:stale_lease, pool), do: Refusal.stale(pool)
end
