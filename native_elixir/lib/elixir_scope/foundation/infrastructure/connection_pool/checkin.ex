defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Checkin do
  @moduledoc false
  # Gives a connection back: the caller's own, or a lease. Whose it is, the native pool decides.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{Connection, Native}
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.{Directory, Lease, Refusal, Usage}

  @type condition :: :good | :broken

  @doc "Gives a lease back."
  @spec lease(term(), Lease.t(), condition()) :: :ok | {:error, Error.t()}
  def lease(pool, %Lease{handle: own, slot: slot, epoch: epoch} = lease, condition) do
    case Directory.fetch(pool) do
      {^own, _, _, one_in} ->
        give_back(pool, {own, one_in, slot, epoch, lease.since}, condition)

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
        returned(Native.pool_checkin(handle, connection, condition == :broken), pool)

      {handle, _, _, one_in} ->
        case Usage.recall(handle, connection) do
          {slot, epoch, since} -> give_back(pool, {handle, one_in, slot, epoch, since}, condition)
          nil -> Refusal.stale(pool)
        end

      nil ->
        Refusal.not_found(pool)
    end
  end

  @doc "Gives back what was taken from a place."
  @spec give_back(term(), tuple(), condition()) :: :ok | {:error, Error.t()}
  def give_back(pool, {handle, _one_in, slot, epoch, since}, condition) do
    Usage.returned(pool, handle, slot, since)
    returned(Native.pool_checkin_lease(handle, slot, epoch, condition == :broken), pool)
  end

  defp returned(:ok, _pool), do: :ok
  defp returned(:stale_lease, pool), do: Refusal.stale(pool)
end
