defmodule ElixirScope.Foundation.Infrastructure.Connection.LockedFile do
  @moduledoc """
  An open file that nobody else has: no other process of this node, by the pool; no other program, by a lock of the
  operating system.

      {ConnectionPool, name: :journal, size: 1, max_overflow: 0, worker: {LockedFile, path: "/var/lib/app/journal"}}

      iex> alias ElixirScope.Foundation.Infrastructure.{Connection.LockedFile, ConnectionPool}
      iex> path = Path.join(System.tmp_dir!(), "doctest-#{System.unique_integer([:positive])}.journal")
      iex> {:ok, _} = ConnectionPool.start_link(name: :journal, size: 1, max_overflow: 0, worker: {LockedFile, path: path})
      iex> ConnectionPool.with_connection(:journal, fn file ->
      ...>   IO.binwrite(file, "first line\\n")
      ...>   :file.datasync(file)
      ...> end)
      {:ok, :ok}
      iex> ConnectionPool.with_connection(:journal, &IO.binread(&1, :line))
      {:ok, "first line\\n"}
      iex> ConnectionPool.stop(:journal)
      iex> File.rm!(path)
      :ok

  The connection is the pid of an IO device: the functions of `IO` and `:file` take it, with binaries. The position is at
  the beginning for each holder. The file is made where there is none, and held for as long as the pool keeps the connection.

  ## Options

    * `:path` (required): the file. Or a list of files, of which a connection takes the first that is free: so a pool may
      have as many connections as there are files;
    * `:append` (false): whether everything that is written goes to the end.

  ## The lock

  It is that of `flock(2)`, held by a process of util-linux' `flock` for as long as the connection lives. The kernel
  gives it up when that process ends, and it ends when this node does, however that happens: a lock that is left
  over does not exist, as it does with a lock file that is created exclusively and names its owner; and other
  programs see it, unlike a lock inside of this node. OTP has no call for it. It costs an operating system process a
  connection, and nothing for each use.

  The lock binds those who ask for it, as always on Unix. It is the file's, not its name's: whoever replaces the file
  by renaming another one over it has one without a lock; `ping/1` notices that. A connection whose `flock` process is killed
  is closed when this is noticed.

  A file that is locked is not waited for here: the connection is not made, and the pool tries again while somebody waits, with
  pauses from `:retry_after` to `:retry_at_most`. What was written is in the file when the writing call returns, and on the
  disk after `:file.datasync/1`.
  """

  @behaviour ElixirScope.Foundation.Infrastructure.Connection

  alias ElixirScope.Foundation.{Error, Infrastructure}
  alias ElixirScope.Foundation.Infrastructure.Connection.Guard

  # No code of flock's own or of a shell's.
  @conflict 99
  # Says that it has the lock, and keeps it until it is told, or until nobody is left who could tell it.
  @hold "echo locked; read -r _"
  @release_timeout 5_000

  @impl true
  def check_argument(options), do: with({:ok, _paths, _modes} <- arguments(options), do: :ok)

  @impl true
  def connect(options) do
    with {:ok, paths, modes} <- arguments(options),
         {:ok, flock} <- flock() do
      first_free(paths, modes, flock)
    end
  end

  # The guard ends after the lock is given up, so that the next connection finds the file free.
  @impl true
  def disconnect(connection, _reason) do
    monitor = Process.monitor(connection)
    :file.close(connection)
    receive do: ({:DOWN, ^monitor, :process, _, _} -> :ok)
  end

  @doc "Whether the file is still there: not removed, and no other was renamed over it."
  @impl true
  def ping(connection) do
    case :file.read_file_info(connection) do
      {:ok, info} -> if File.Stat.from_record(info).links > 0, do: :ok, else: {:error, :removed}
      error -> error
    end
  end

  @impl true
  def reset(connection) do
    with {:ok, 0} <- :file.position(connection, :bof),
         do: :io.setopts(connection, binary: true, encoding: :latin1)
  end

  defp arguments(options) do
    with true <- Keyword.keyword?(options) || refused(:options, options, "a keyword list"),
         :ok <- Infrastructure.check_options(options, [:path, :append]),
         {:ok, paths} <- paths(options[:path]),
         append when is_boolean(append) <- Keyword.get(options, :append, false) do
      {:ok, paths, [:read, :binary, if(append, do: :append, else: :write)]}
    else
      {:error, error} -> {:error, error}
      append -> refused(:append, append, "true or false")
    end
  end

  defp paths(path) when is_binary(path), do: paths([path])

  defp paths(paths) do
    # Absolute, so that none looks like an option of flock.
    if is_list(paths) and paths != [] and Enum.all?(paths, &path?/1),
      do: {:ok, Enum.map(paths, &Path.absname/1)},
      else: refused(:path, paths, "the path of a file, as a string, or a list of them")
  end

  defp path?(path), do: is_binary(path) and path != "" and not String.contains?(path, <<0>>)

  defp refused(argument, value, allowed), do: {:error, Error.refused(argument, value, allowed)}

  defp flock do
    case System.find_executable("flock") do
      nil ->
        {:error, Error.new(:dependency_failed, "there is no program flock: install util-linux")}

      program ->
        {:ok, program}
    end
  end

  # The first failure that is none of locking is the result: a file that cannot be opened will not become free.
  defp first_free(paths, modes, flock) do
    Enum.reduce_while(paths, nil, fn path, _before ->
      case Guard.start_link([:file_request, :io_request], fn -> open(path, modes, flock) end) do
        {:error, %Error{context: %{locked: true}}} = error -> {:cont, error}
        result -> {:halt, result}
      end
    end)
  end

  defp open(path, modes, flock) do
    with {:ok, lock} <- lock(path, flock) do
      case :file.open(path, modes) do
        {:ok, device} ->
          {:ok, {device, fn -> :file.close(device) end, fn -> release(lock) end}}

        {:error, reason} ->
          release(lock)
          cannot_open(path, List.to_string(:file.format_error(reason)))
      end
    end
  end

  # Without a fork in between, the process of the port is the one that holds the lock.
  defp lock(path, flock) do
    how = ["--exclusive", "--nonblock", "--no-fork", "--conflict-exit-code", "#{@conflict}"]
    command = how ++ [path, "/bin/sh", "-c", @hold]
    options = [:binary, :exit_status, :stderr_to_stdout, args: command]
    locked(Port.open({:spawn_executable, flock}, options), path, "")
  end

  defp locked(port, path, said) do
    receive do
      {^port, {:data, "locked\n"}} ->
        {:ok, port}

      {^port, {:data, more}} ->
        locked(port, path, said <> more)

      {^port, {:exit_status, @conflict}} ->
        message = "the file #{inspect(path)} is locked by another"
        context = %{path: path, locked: true}
        {:error, Error.new(:resource_exhausted, message, context: context)}

      {^port, {:exit_status, _status}} ->
        cannot_open(path, String.trim(said))
    end
  end

  defp release(port) do
    # A port that has ended by itself has let go.
    if Port.info(port) != nil do
      Port.command(port, "\n")

      receive do
        {^port, {:exit_status, _status}} -> :ok
      after
        @release_timeout -> :ok
      end
    end
  end

  defp cannot_open(path, why) do
    message = "cannot open the file #{inspect(path)}: #{why}"
    {:error, Error.new(:external_service_error, message, context: %{path: path})}
  end
end
