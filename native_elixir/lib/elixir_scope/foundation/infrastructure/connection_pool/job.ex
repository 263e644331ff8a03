defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Job do
  @moduledoc false
  # The short-lived processes that run a worker's callbacks for the pool process.
  #
  # A job that creates hands its connection over in three steps, so that at every instant somebody who would
  # take it along is linked to it: the worker links it to the job, the pool process links to it while the job
  # waits, the job unlinks and ends.

  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.Worker

  @doc "Starts a job that creates a connection and tells the calling process `{:created, result}`."
  @spec create(Worker.t()) :: pid()
  def create(%{create: create}) do
    server = self()

    :proc_lib.spawn_link(fn ->
      # A worker that starts a linked process which fails must not take this job along before it has reported.
      Process.flag(:trap_exit, true)
      result = attempt(create)
      GenServer.call(server, {:created, result}, :infinity)
      with {:ok, connection} when is_pid(connection) <- result, do: Process.unlink(connection)
    end)
  end

  @doc "Starts a job that closes `connection`; its end is the end of the close."
  @spec close(Worker.t(), Worker.connection()) :: pid()
  def close(%{close: close}, connection) do
    :proc_lib.spawn_link(fn ->
      Process.flag(:trap_exit, true)
      attempt(fn -> close.(connection) end)
    end)
  end

  @doc "Links the calling process to a connection process."
  @spec adopt(Worker.connection()) :: :ok | {:error, :connection_died}
  def adopt(connection) when is_pid(connection) and node(connection) == node() do
    # A connection that died already is a failed creation: as a new one it would be replaced without a back-off.
    if Process.alive?(connection) do
      Process.link(connection)
      :ok
    else
      {:error, :connection_died}
    end
  end

  def adopt(_connection), do: :ok

  @doc "Lets go of a closed connection; a process that its worker left alive is killed."
  @spec release(Worker.connection()) :: :ok
  def release(connection) when is_pid(connection) do
    Process.unlink(connection)
    Process.exit(connection, :kill)
    :ok
  end

  def release(_connection), do: :ok

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
