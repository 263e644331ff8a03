defmodule ElixirScope.Foundation.Infrastructure.Connection do
  @moduledoc """
  How a pool makes, cleans and unmakes one connection.

  A pool is given a module with this behaviour, `worker: Counter` or `worker: {Counter, arg}`, or functions,
  `create: fn -> ... end, close: fn connection -> ... end`.

  `connect/1` and `disconnect/2` run in a short-lived process of their own, so a slow server slows nobody but the
  check-outs that need a new connection. A connection is any term. When it is a pid, or `{atom, pid}`, the pool links to
  that process: a connection process that dies is replaced, and none outlives its pool. A connection must not belong
  to the process that made it, as a port or a socket does: that process ends when the callback returns.

  ## An adapter of one's own

  What owns a socket, a port or a file is a process; the connection is its pid. Here it is an agent with a number.

      iex> defmodule Counter do
      ...>   @behaviour ElixirScope.Foundation.Infrastructure.Connection
      ...>
      ...>   # Linked to the process that runs this, until the pool has it.
      ...>   @impl true
      ...>   def connect(start) when is_integer(start), do: Agent.start_link(fn -> {start, start} end)
      ...>   def connect(start), do: {:error, {:no_integer, start}}
      ...>
      ...>   @impl true
      ...>   def disconnect(counter, _reason), do: Agent.stop(counter)
      ...>
      ...>   # For the pool's `:health` and `:keepalive`; may be left out.
      ...>   @impl true
      ...>   def ping(counter), do: if(Agent.get(counter, fn _ -> true end), do: :ok, else: {:error, :silent})
      ...>
      ...>   # Before each next holder; may be left out.
      ...>   @impl true
      ...>   def reset(counter), do: Agent.update(counter, fn {start, _} -> {start, start} end)
      ...>
      ...>   def next(counter), do: Agent.get_and_update(counter, fn {start, n} -> {n, {start, n + 1}} end)
      ...> end
      iex> alias ElixirScope.Foundation.Infrastructure.ConnectionPool
      iex> {:ok, _} = ConnectionPool.start_link(name: :counters, size: 1, max_overflow: 0, worker: {Counter, 7})
      iex> ConnectionPool.with_connection(:counters, &{Counter.next(&1), Counter.next(&1)})
      {:ok, {7, 8}}
      iex> ConnectionPool.with_connection(:counters, &Counter.next/1)
      {:ok, 7}
      iex> {:ok, counter} = ConnectionPool.checkout(:counters)
      iex> Agent.stop(counter)
      iex> {:ok, another} = ConnectionPool.checkout(:counters)
      iex> {another != counter, Counter.next(another)}
      {true, 7}
      iex> ConnectionPool.stop(:counters)
      :ok

  An adapter answers for three things. A call that is not answered in time leaves its connection in an unknown state:
  kill that process, the pool makes another. A connection that ended with its last use must fail `reset/1`, for its holder
  may give it back before the pool has heard of the end. And what may not be killed in the middle of something belongs to a
  process that nobody else knows, as in the adapters for SQLite and for files.

  Adapters that are here: `ElixirScope.Foundation.Infrastructure.DatabasePool` for SQLite and PostgreSQL,
  `ElixirScope.Foundation.Infrastructure.Connection.HTTP` and `ElixirScope.Foundation.Infrastructure.Connection.LockedFile`.
  """

  alias ElixirScope.Foundation.Error

  @typedoc "What a pool hands out."
  @type connection :: term()

  @typedoc """
  Why a connection is closed: the pool has no more use for it (`:closed`), it was made for a pool that wants it no
  more (`:unwanted`), the pool stops (`:shutdown`), or the pool's process died (`:pool_down`).
  """
  @type reason :: :closed | :unwanted | :shutdown | :pool_down

  @doc """
  Makes a connection from the worker's argument.

  Anything but `{:ok, connection}`, a raise, a throw or an exit counts as a failure: the pool tries again after
  a back-off while somebody waits, and puts the reason into the errors of those who time out.
  """
  @callback connect(arg :: term()) :: {:ok, connection()} | {:error, term()}

  @doc "Closes a connection. The result is ignored; a connection process that still lives afterwards is killed."
  @callback disconnect(connection(), reason()) :: term()

  @doc """
  Whether the connection works: anything but `:ok` closes it. Asked under the pool's `:health`, `:keepalive` and
  `:pre_ping_after`, in a process of its own, which is killed when that takes too long.
  """
  @callback ping(connection()) :: :ok | {:error, term()}

  @doc """
  Makes the connection fit for its next holder, in a process of its own, which is killed when that takes longer than the
  pool's `:return_limit`. Anything but `:ok` closes the connection.
  """
  @callback reset(connection()) :: :ok | {:error, term()}

  @doc """
  Whether `connect/1` can be given this argument. Asked as the pool starts, which fails with the error, so that a mistake shows
  before the first check-out; it looks at nothing but the argument.
  """
  @callback check_argument(arg :: term()) :: :ok | {:error, Error.t()}

  @optional_callbacks ping: 1, reset: 1, check_argument: 1

  @typedoc "A worker in the form that the pool runs."
  @type t :: %{
          create: (() -> term()),
          close: (connection(), reason() -> term()),
          reset: (connection() -> term()) | nil,
          ping: (connection() -> term()) | nil
        }

  @doc false
  @spec of_module(module(), term()) :: t()
  def of_module(module, arg) do
    reset = if function_exported?(module, :reset, 1), do: &module.reset/1
    ping = if function_exported?(module, :ping, 1), do: &module.ping/1

    %{
      create: fn -> module.connect(arg) end,
      close: &module.disconnect/2,
      reset: reset,
      ping: ping
    }
  end

  @doc false
  # The process that a connection is, or stands for.
  @spec process(connection()) :: pid() | nil
  def process(pid) when is_pid(pid), do: pid
  def process({tag, pid}) when is_atom(tag) and is_pid(pid), do: pid
  def process(_connection), do: nil
end
