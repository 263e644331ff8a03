defmodule ElixirScope.Foundation.Infrastructure.DatabasePool do
  @moduledoc """
  A pool of connections to an SQLite or a PostgreSQL database.

      config :elixir_scope, :infrastructure,
        connection_pools: %{
          database: %{size: 10, max_overflow: 5, timeout: 5_000, path: "/var/lib/app/app.db"}
        }

      DatabasePool.with_connection(fn conn ->
        DatabasePool.query(conn, "SELECT name FROM users WHERE id = ?", [7])
      end)

      iex> alias ElixirScope.Foundation.Infrastructure.DatabasePool
      iex> {:ok, _} = DatabasePool.start_link(path: ":memory:", name: :scratch, size: 1, max_overflow: 0)
      iex> DatabasePool.with_connection(&DatabasePool.query(&1, "SELECT 1 + ? AS sum", [2]), pool: :scratch)
      {:ok, %{columns: ["sum"], rows: [{3}]}}

  Without a `:path` it is the database of `config :elixir_scope, storage: %{warm: %{enable: true, path: folder}}`; without that
  too the pool does not start and `with_connection/2` answers `:pool_not_found`. To run it in your
  own tree instead: `{DatabasePool, path: "app.db"}`. It takes the options of
  `ElixirScope.Foundation.Infrastructure.ConnectionPool`, `:path`, and of SQLite's two below.

  ## PostgreSQL

      database: %{adapter: :postgresql, username: "app", password: "...", database: "app"}

  Further options: `:hostname` ("localhost"), `:port` (5432), and `:reset` (true): whether a connection that comes back is
  cleaned by `DISCARD ALL`, which costs two round trips. A connection is `{module, pid}`; the pid is what the functions of
  `:pgsql` take. The driver, Debian's `erlang-p1-pgsql`, speaks TCP only. Parameters are `$1`, `$2` ... of one
  SELECT, INSERT, UPDATE, DELETE or VALUES; numbers, booleans and `bytea` come back as such, other types as text. After an
  error the driver rolls back by itself: use `transaction/3`, which refuses what follows, not a BEGIN of your own.

  A statement that runs or waits for a lock when its time is over, or when its caller dies, is ended by the server, from
  version 14 on, when that next looks whether its client is still there: within 100 ms, or as often as
  `client_connection_check_interval` says where the server, the database or the role sets it.

  ## SQLite

  The driver is Debian's `erlang-p1-sqlite3`. It runs statements in the VM's async threads. There is one of them
  unless the VM is started with more (`+A 16`), so a long statement delays all others, and SQLite itself never
  waits for a lock here (`busy_timeout` is 0): a locked database is tried again by the calling process, after a
  random pause, until the call's deadline.

  The database gets a write-ahead log, in which readers and the writer do not lock each other out; the first connection needs
  the database for itself to bring that in, and the pool tries until it has it. `wal: false` leaves the journal as it is. `:setup`
  are SQL statements that are run on each new connection.

  A connection that comes back is rolled back: what a holder left open locks nobody out. That is one statement more.

  A connection is a process that the functions of `:sqlite3` take as well. It may be killed at any time: what it
  was doing is finished or rolled back, and its lock is released.
  """

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool
  alias ElixirScope.Foundation.Infrastructure.DatabasePool.{Connection, PostgreSQL, Statement}

  @pool :database_pool
  @wait 10_000

  @typedoc "An SQLite connection, or one of PostgreSQL."
  @type connection :: pid() | {module(), pid()}
  @typedoc "nil is SQL's NULL; a binary is text, `{:blob, binary}` is not."
  @type value :: nil | integer() | float() | binary() | {:blob, binary()}

  @doc "Starts a pool of connections to the database at `:path`; `:name` is `:database` if it is not given."
  @spec start_link(keyword() | map()) :: {:ok, pid()} | {:error, Error.t() | term()}
  def start_link(options) do
    with {:ok, options} <- options(options), do: ConnectionPool.start_link(options)
  end

  @doc "The child specification of one pool."
  @spec child_spec(keyword() | map()) :: Supervisor.child_spec()
  def child_spec(options) do
    pool_options =
      case options(options) do
        {:ok, pool_options} -> pool_options
        {:error, _} -> []
      end

    %{ConnectionPool.child_spec(pool_options) | start: {__MODULE__, :start_link, [options]}}
  end

  @doc false
  @spec options(term()) :: {:ok, keyword()} | {:error, Error.t()}
  def options(options) do
    with {:ok, options} <- keyword(:options, options),
         {adapter, options} = Keyword.pop(options, :adapter, :sqlite),
         {:ok, worker, options} <- worker(adapter, options) do
      {:ok, options |> Keyword.put_new(:name, :database) |> Keyword.merge(worker)}
    end
  end

  @postgresql [:hostname, :port, :username, :password, :database, :reset]

  defp worker(:sqlite, options) do
    {path, options} = Keyword.pop(options, :path)
    {wal, options} = Keyword.pop(options, :wal, true)
    {setup, options} = Keyword.pop(options, :setup, [])

    with {:ok, argument} <- Connection.argument(path, wal, setup),
         do: {:ok, [worker: {Connection, argument}], options}
  end

  defp worker(:postgresql, options) do
    {own, options} = Keyword.split(options, @postgresql)
    with {:ok, argument} <- PostgreSQL.argument(own), do: {:ok, postgresql(argument), options}
  end

  defp worker(other, _options),
    do: {:error, Error.refused(:adapter, other, ":sqlite or :postgresql")}

  defp postgresql(%{reset: false} = argument),
    do: [worker: {PostgreSQL, argument}, reset_on_return: false]

  defp postgresql(argument), do: [worker: {PostgreSQL, argument}]

  defp keyword(name, options) when is_map(options), do: keyword(name, Map.to_list(options))

  defp keyword(name, options) do
    if Keyword.keyword?(options),
      do: {:ok, options},
      else: {:error, Error.refused(name, options, "a keyword list or a map")}
  end

  @doc """
  Runs `fun` with a connection, as `ElixirScope.Foundation.Infrastructure.ConnectionPool.with_connection/3`.

  Options: `:pool` (`:database_pool`), `:timeout` (10000), `:allow_overflow` (true). When `fun` returns an error, a
  transaction that it left open is rolled back; when it raises, the connection is closed, which does the same.
  """
  @spec with_connection((connection() -> result), keyword()) ::
          {:ok, result} | {:error, Error.t()} | result
        when result: term()
  def with_connection(fun, opts \\ [])

  # What most calls say, without a search: this is in the way of each.
  def with_connection(fun, []) when is_function(fun, 1), do: lend(@pool, fun, timeout: @wait)

  def with_connection(fun, pool: pool) when is_function(fun, 1),
    do: lend(pool, fun, timeout: @wait)

  def with_connection(fun, opts) when is_function(fun, 1) do
    with {:ok, opts} <- keyword(:opts, opts) do
      {pool, opts} = Keyword.pop(opts, :pool, @pool)
      lend(pool, fun, Keyword.put_new(opts, :timeout, @wait))
    end
  end

  def with_connection(fun, opts), do: ConnectionPool.with_connection(@pool, fun, opts)

  @doc """
  Runs a statement that returns rows: `{:ok, %{columns: [name], rows: [tuple]}}`.

  A placeholder without a parameter is NULL, and a parameter without a placeholder is ignored: the driver does not
  compare their numbers.

  Options, in milliseconds: `:timeout` (5000) is the time for all attempts, a locked database is tried again until
  then; `:grace` (1000) is how much longer the last attempt may run before its connection is given up.
  """
  @spec query(connection(), iodata(), [value()], keyword()) ::
          {:ok, %{columns: [String.t()], rows: [tuple()]}} | {:error, Error.t()}
  def query(connection, sql, params \\ [], opts \\ [])

  def query({PostgreSQL, _} = connection, sql, params, opts) do
    with {:ok, {_tag, columns, rows}} <- PostgreSQL.run(connection, sql, params, opts),
         do: {:ok, %{columns: columns, rows: rows}}
  end

  def query(connection, sql, params, opts) do
    with {:ok, result} <- Statement.run(connection, sql, params, opts),
         do: {:ok, Statement.rows(result)}
  end

  @doc """
  Runs a statement for its effect. SQLite: `{:ok, rowid}` after an insert, else `{:ok, nil}`; PostgreSQL: the number of
  rows that were changed, nil where there are none to change. Options as for `query/4`.
  """
  @spec exec(connection(), iodata(), [value()], keyword()) ::
          {:ok, integer() | nil} | {:error, Error.t()}
  def exec(connection, sql, params \\ [], opts \\ [])

  def exec({PostgreSQL, _} = connection, sql, params, opts) do
    with {:ok, {tag, _, _}} <- PostgreSQL.run(connection, sql, params, opts),
         do: {:ok, changed(String.split(tag))}
  end

  def exec(connection, sql, params, opts) do
    with {:ok, result} <- Statement.run(connection, sql, params, opts),
         do: {:ok, Statement.rowid(result)}
  end

  defp changed(["INSERT", _oid, count]), do: String.to_integer(count)

  defp changed([command, count]) when command in ["UPDATE", "DELETE", "MERGE"],
    do: String.to_integer(count)

  defp changed(_tag), do: nil

  @doc """
  Runs `fun` in a transaction. In SQLite it takes the write lock at once (`BEGIN IMMEDIATE`), so that it cannot get stuck
  half-way against another writer.

  Commits and returns as `with_connection/2` does; an `:error` or error tuple rolls back and is returned, a raise
  rolls back and goes on. Options as for `query/4`, for the begin and the commit.
  """
  @spec transaction(connection(), (() -> result), keyword()) ::
          {:ok, result} | {:error, Error.t()} | result
        when result: term()
  def transaction(connection, fun, opts \\ [])

  def transaction(connection, fun, opts) when is_function(fun, 0) do
    with {:ok, _} <- begin(connection, opts) do
      try do
        fun.()
      catch
        kind, reason ->
          rollback(connection)
          :erlang.raise(kind, reason, __STACKTRACE__)
      else
        result ->
          if error?(result),
            do: rolled_back(connection, result),
            else: commit(connection, result, opts)
      end
    end
  end

  def transaction(_connection, fun, _opts),
    do: {:error, Error.refused(:fun, fun, "a function without arguments")}

  defp begin({PostgreSQL, _} = connection, opts), do: PostgreSQL.begin(connection, opts)
  defp begin(connection, opts), do: exec(connection, "BEGIN IMMEDIATE", [], opts)

  defp commit({PostgreSQL, _} = connection, opts), do: PostgreSQL.commit(connection, opts)
  defp commit(connection, opts), do: exec(connection, "COMMIT", [], opts)

  defp commit(connection, result, opts) do
    case commit(connection, opts) do
      {:ok, _} -> if match?({:ok, _}, result), do: result, else: {:ok, result}
      {:error, _} = error -> rolled_back(connection, error)
    end
  end

  defp rolled_back(connection, result) do
    rollback(connection)
    result
  end

  # "No transaction is active" is one of its good outcomes.
  defp rollback({PostgreSQL, _} = connection), do: PostgreSQL.rollback(connection)
  defp rollback(connection), do: exec(connection, "ROLLBACK", [], timeout: 1_000)

  defp lend(pool, fun, opts),
    do: ConnectionPool.with_connection(pool, &leave_clean(&1, fun), opts)

  defp leave_clean(connection, fun) do
    result = fun.(connection)
    if error?(result), do: rollback(connection)
    result
  end

  defp error?(:error), do: true

  defp error?(result),
    do: is_tuple(result) and tuple_size(result) > 0 and elem(result, 0) == :error
end
