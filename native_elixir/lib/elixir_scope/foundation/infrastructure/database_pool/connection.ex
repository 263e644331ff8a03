defmodule ElixirScope.Foundation.Infrastructure.DatabasePool.Connection do
  @moduledoc false
  # Opens and closes one SQLite connection of the driver erlang-p1-sqlite3.
  #
  # The journal is a write-ahead log, so that readers and the writer do not lock each other out. It is the database's, not
  # the connection's: the first connection changes it, for which it needs the database for itself, and later ones find it.
  # Where somebody else holds the database then, the connection is not made: its pool tries again while somebody waits.

  @behaviour ElixirScope.Foundation.Infrastructure.Connection

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.Connection.Guard
  alias ElixirScope.Foundation.Infrastructure.DatabasePool.Statement

  @setup_timeout 5_000
  @at_once [timeout: 0, grace: @setup_timeout]
  # SQLITE_BUSY and SQLITE_LOCKED.
  @locked [5, 6]

  @doc "The worker's argument, or what is wrong with it."
  @spec argument(term(), term(), term()) :: {:ok, map()} | {:error, Error.t()}
  def argument(path, wal, setup) do
    cond do
      not (is_binary(path) and path != "" and not String.contains?(path, <<0>>)) ->
        {:error, Error.refused(:path, path, "the path of a database file, as a string")}

      not is_boolean(wal) ->
        {:error, Error.refused(:wal, wal, "true or false")}

      not (is_list(setup) and Enum.all?(setup, &is_binary/1)) ->
        {:error, Error.refused(:setup, setup, "a list of SQL statements")}

      true ->
        {:ok, %{path: path, wal: wal and path != ":memory:", setup: setup}}
    end
  end

  @impl true
  def connect(%{path: path} = argument) do
    with :ok <- driver(),
         :ok <- place(path),
         {:ok, connection} <- open(path) do
      case prepare(connection, argument) do
        :ok ->
          {:ok, connection}

        {:error, error} ->
          # The guard has the driver close.
          Process.exit(connection, :kill)
          {:error, error}
      end
    end
  end

  @impl true
  def disconnect(connection, _reason), do: :sqlite3.close_timeout(connection, :infinity)

  @impl true
  def ping(connection) do
    with {:ok, _} <- Statement.run(connection, "SELECT 1", [], timeout: @setup_timeout), do: :ok
  end

  # SQLITE_ERROR is its usual answer: there is no transaction to be rolled back. A connection that has died answers otherwise.
  @impl true
  def reset(connection) do
    case Statement.run(connection, "ROLLBACK", [], timeout: @setup_timeout) do
      {:ok, _} -> :ok
      {:error, %Error{context: %{sqlite_code: 1}}} -> :ok
      {:error, error} -> {:error, error}
    end
  end

  defp driver do
    case Code.ensure_loaded(:sqlite3) do
      {:module, _} ->
        :ok

      _ ->
        {:error,
         Error.new(:dependency_failed, "the SQLite driver is missing: install erlang-p1-sqlite3")}
    end
  end

  # The driver writes to the standard error of the VM when it cannot open a file; the usual reasons are found here.
  defp place(path) do
    directory = Path.dirname(path)

    cond do
      path == ":memory:" -> :ok
      File.dir?(path) -> cannot_open(path, "it is a directory")
      not File.dir?(directory) -> cannot_open(path, "there is no directory #{directory}")
      true -> :ok
    end
  end

  defp open(path) do
    case Guard.start_link([:"$gen_call"], fn -> open_driver(driver_name(path)) end) do
      {:ok, connection} -> {:ok, connection}
      {:error, reason} -> cannot_open(path, to_text(reason))
    end
  end

  # The functions of `:sqlite3` take a guard for a connection: all of them are calls.
  defp open_driver(file) do
    with {:ok, driver} <- :sqlite3.open(:anonymous, file: file),
         do: {:ok, {driver, fn -> :sqlite3.close_timeout(driver, :infinity) end, fn -> :ok end}}
  end

  # The VM encodes the name for the driver as it does file names: characters under UTF-8, else the bytes as they are.
  defp driver_name(path) do
    if :file.native_name_encoding() == :utf8,
      do: String.to_charlist(path),
      else: :binary.bin_to_list(path)
  end

  # The first statement reads the file's header: what is no database is found out now, not by the first user. A
  # database that somebody has locked is a database.
  defp prepare(connection, %{wal: wal, setup: setup}) do
    with :ok <- run(connection, "PRAGMA busy_timeout = 0"),
         :ok <- header(connection),
         :ok <- if(wal, do: wal(connection), else: :ok) do
      Enum.reduce_while(setup, :ok, fn sql, :ok ->
        case run(connection, sql) do
          :ok -> {:cont, :ok}
          error -> {:halt, error}
        end
      end)
    end
  end

  defp header(connection) do
    case Statement.run(connection, "PRAGMA schema_version", [], @at_once) do
      {:ok, _} -> :ok
      {:error, %Error{context: %{sqlite_code: code}}} when code in @locked -> :ok
      {:error, error} -> {:error, error}
    end
  end

  # SQLite answers with the journal that there is now: it is another one where the file's place has no shared memory.
  defp wal(connection) do
    with {:ok, result} <- Statement.run(connection, "PRAGMA journal_mode = WAL", [], @at_once) do
      case Statement.rows(result).rows do
        [{"wal"}] ->
          :ok

        [{mode}] ->
          {:error,
           Error.new(
             :external_service_error,
             "the database cannot have a write-ahead log, its journal is #{mode}; `wal: false` leaves it so",
             context: %{journal_mode: mode}
           )}
      end
    end
  end

  defp run(connection, sql) do
    with {:ok, _} <- Statement.run(connection, sql, [], timeout: @setup_timeout), do: :ok
  end

  defp cannot_open(path, why) do
    {:error,
     Error.new(:external_service_error, "cannot open the database #{inspect(path)}: #{why}",
       context: %{path: path}
     )}
  end

  defp to_text(reason) when is_list(reason), do: IO.chardata_to_string(reason)
  defp to_text(reason), do: inspect(reason)
end
