defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Job do
  @moduledoc false
  # The short-lived processes that run a worker's callbacks for the pool process.
  #
  # A job that creates hands its connection over in three steps, so that at every instant somebody who would
  # take it along is linked to it: the worker links it to the job, the pool process links to it while the job
  # waits, the job unlinks and ends.

  alias ElixirScope.Foundation.Infrastructure.Connection

  @doc "Starts a job that creates a connection and tells the calling process `{:created, result}`."
  @spec create(Connection.t()) :: pid()
  def create(%{create: create, close: close}) do
    server = self()

    :proc_lib.spawn_link(fn ->
      # A worker that starts a linked process which fails must not take this job along before it has reported.
      Process.flag(:trap_exit, true)
      result = attempt(create)
      hand_over(server, result, close)
    end)
  end

  defp hand_over(server, result, close) do
    GenServer.call(server, {:created, result}, :infinity)
  catch
    # The pool process died before it heard of the connection: nobody else would close it.
    :exit, _ -> with {:ok, connection} <- result, do: finish(close, connection, :pool_down)
  else
    _ ->
      with {:ok, connection} <- result, pid when is_pid(pid) <- Connection.process(connection) do
        Process.unlink(pid)
      end
  end

  @doc "Starts a job that closes `connection`; its end is the end of the close."
  @spec close(Connection.t(), Connection.connection(), Connection.reason()) :: pid()
  def close(%{close: close}, connection, reason) do
    :proc_lib.spawn_link(fn ->
      Process.flag(:trap_exit, true)
      attempt(fn -> close.(connection, reason) end)
    end)
  end

  @doc """
  Starts a job that takes a connection through callbacks, each of which must answer `:ok`, and tells the calling process
  `{:checked, passed?}`.
  """
  @spec check([(Connection.connection() -> term())], Connection.connection()) :: pid()
  def check(callbacks, connection) do
    server = self()

    :proc_lib.spawn_link(fn ->
      Process.flag(:trap_exit, true)
      GenServer.call(server, {:checked, passes?(callbacks, connection)}, :infinity)
    end)
  end

  defp passes?(callbacks, connection) do
    Enum.all?(callbacks, &(&1.(connection) == :ok))
  catch
    _kind, _reason -> false
  end

  @doc "Closes what a pool process that died has left, in a process that nobody waits for."
  @spec abandoned(Connection.t(), Connection.connection(), non_neg_integer()) :: :ok
  def abandoned(%{close: close}, connection, close_timeout) do
    job = spawn(fn -> finish(close, connection, :pool_down) end)
    {:ok, _} = :timer.kill_after(close_timeout, job)
    :ok
  end

  defp finish(close, connection, reason) do
    pid = Connection.process(connection)
    if pid == nil or Process.alive?(pid), do: attempt(fn -> close.(connection, reason) end)
    release(connection)
  end

  @doc "Links the calling process to a connection process."
  @spec adopt(Connection.connection()) :: :ok | {:error, :connection_died}
  def adopt(connection) do
    case Connection.process(connection) do
      pid when is_pid(pid) and node(pid) == node() -> adopt_process(pid)
      _ -> :ok
    end
  end

  # A connection that died already is a failed creation: as a new one it would be replaced without a back-off.
  defp adopt_process(pid) do
    if Process.alive?(pid) do
      Process.link(pid)
      :ok
    else
      {:error, :connection_died}
    end
  end

  @doc "Lets go of a closed connection; a process that its worker left alive is killed."
  @spec release(Connection.connection()) :: :ok
  def release(connection) do
    with pid when is_pid(pid) <- Connection.process(connection) do
      Process.unlink(pid)
      Process.exit(pid, :kill)
    end

    :ok
  end

  defp attempt(fun) do
    case fun.() do
      {:ok, connection} -> {:ok, connection}
      {:error, reason} -> {:error, reason}
      other -> {:error, {:bad_return_value, other}}
    end
  catch
    :error, reason ->
      {:error, {Exception.normalize(:error, reason, __STACKTRACE__), __STACKTRACE__}}

    kind, reason ->
      {:error, {kind, reason}}
  end
end
