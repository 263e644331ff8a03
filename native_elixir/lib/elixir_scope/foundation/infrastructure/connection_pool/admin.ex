defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Admin do
  @moduledoc false
  # What is done to a pool as a whole, and what it tells of itself.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.Native
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.{Config, Directory, Refusal, Server}

  @type pool :: term()

  @doc "State and counts."
  @spec status(pool()) :: {:ok, map()} | {:error, Error.t()}
  def status(pool) do
    with {:ok, {handle, _, _, _}} <- find(pool), do: {:ok, Native.pool_stats(handle)}
  end

  @doc "The same under a dashboard's names."
  @spec stats(pool()) :: {:ok, map()} | {:error, Error.t()}
  def stats(pool) do
    with {:ok, s} <- status(pool) do
      {:ok,
       %{
         size: s.size,
         available: s.idle,
         checked_out: s.in_use,
         overflow: s.overflow,
         waiting: s.waiting,
         total_checkouts: s.granted,
         total_checkins: s.returned + s.broken + s.reclaimed,
         health_checks_passed: s.checks_passed,
         health_checks_failed: s.checks_failed,
         connections_created: s.created,
         connections_destroyed: s.destroyed,
         reuse: if(s.granted > 0, do: max(0.0, 1 - s.created / s.granted))
       }}
    end
  end

  @doc "Changes the size."
  @spec resize(pool(), keyword()) :: :ok | {:error, Error.t()}
  def resize(pool, sizes) do
    with {:ok, {handle, _, _, _}} <- find(pool),
         {:ok, sizes} <- Config.sizes(sizes) do
      now = Native.pool_stats(handle)
      size = Keyword.get(sizes, :size, now.size)
      overflow = Keyword.get(sizes, :max_overflow, now.capacity - now.size)

      with {:error, refusal} <- Native.pool_resize(handle, size, overflow),
           do: Config.refused(refusal)
    end
  end

  @doc "Has all connections replaced within a time."
  @spec evict(pool(), timeout()) :: :ok | {:error, Error.t()}
  def evict(pool, within) do
    with {:ok, within_ns} <- nanoseconds(:within, within, Config.timeout_range()),
         {:ok, {handle, _, _, _}} <- find(pool),
         do: Native.pool_evict(handle, within_ns)
  end

  @doc "Does what time asks for."
  @spec maintain(pool()) :: :ok | {:error, Error.t()}
  def maintain(pool) do
    with {:ok, {_, server, _, _}} <- find(pool),
         :gone <- Server.maintain(server),
         do: Refusal.not_found(pool)
  end

  @doc "Closes it; leases end after a time."
  @spec close(pool(), timeout()) :: :ok | {:error, Error.t()}
  def close(pool, within) do
    with {:ok, within_ns} <- nanoseconds(:within, within, Config.timeout_range()),
         {:ok, {handle, _, _, _}} <- find(pool),
         do: Native.pool_close(handle, within_ns)
  end

  @doc "Closes it to new callers, and waits for the others."
  @spec drain(pool(), timeout()) :: :ok | {:error, Error.t()}
  def drain(pool, timeout) do
    with {:ok, _} <- nanoseconds(:timeout, timeout, Config.timeout_range()),
         {:ok, {handle, server, _, _}} <- find(pool) do
      Native.pool_drain(handle)

      case Server.await_end(server, timeout) do
        :ok -> :ok
        {:left, left} -> Refusal.not_drained(pool, timeout, left)
        :gone -> Refusal.not_found(pool)
      end
    end
  end

  defp nanoseconds(argument, ms, allowed) do
    case Config.timeout_ns(ms) do
      :error -> Config.invalid(argument, ms, allowed)
      ns -> {:ok, ns}
    end
  end

  @doc "A running pool."
  @spec find(pool()) :: {:ok, Directory.entry()} | {:error, Error.t()}
  def find(pool) do
    case Directory.fetch(pool) do
      nil -> Refusal.not_found(pool)
      entry -> {:ok, entry}
    end
  end
end
