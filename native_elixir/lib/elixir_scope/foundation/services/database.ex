defmodule ElixirScope.Foundation.Services.Database do
  @moduledoc false
  # What the tables of the services have in common: the pool `:database`, and one text of SQL for both databases.
  # `$1`, `$2` ... must first appear in their order, for to SQLite they are names; BYTEA is a type without meaning there.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.DatabasePool
  alias ElixirScope.Foundation.ProcessRegistry

  @pool :database
  # Any number, the same in every node that writes: "escope" in ASCII.
  @lock 0x6573_636F_7065
  # SQLITE_ERROR, which a statement gets that names a missing table, and PostgreSQL's undefined_table.
  @sqlite_error 1
  @undefined_table "42P01"

  @doc """
  Runs `fun` in a transaction in which nobody else writes these tables. SQLite's has the write lock anyway; in
  PostgreSQL a lock of that transaction stands for it, which also keeps two writers from creating a table at once.

  The statement `create` is run when the database turns out to have no such table, and `fun` once more after it: a
  usual transaction does without, and a database that was replaced while the node runs gets its table.

  The database is that of the namespace's own pool, or else of production's: there, rows are apart by namespace.
  Options are those of `DatabasePool.with_connection/2`.
  """
  @spec transaction(
          ProcessRegistry.namespace(),
          String.t(),
          (DatabasePool.connection() -> {:ok, result}),
          keyword()
        ) :: {:ok, result} | {:error, Error.t()}
        when result: term()
  def transaction(namespace, create, fun, opts \\ []) do
    with_connection(namespace, opts, fn connection ->
      case attempt(connection, fun) do
        {:error, %Error{context: context}}
        when context.sqlite_code == @sqlite_error
        when context.sqlstate == @undefined_table ->
          attempt(connection, fn connection ->
            with {:ok, _} <- DatabasePool.exec(connection, create), do: fun.(connection)
          end)

        result ->
          result
      end
    end)
  end

  defp attempt(connection, fun) do
    DatabasePool.transaction(connection, fn ->
      with :ok <- lock(connection), do: fun.(connection)
    end)
  end

  defp with_connection(:production, opts, fun),
    do: DatabasePool.with_connection(fun, [pool: @pool] ++ opts)

  defp with_connection(namespace, opts, fun) do
    case DatabasePool.with_connection(fun, [pool: {namespace, @pool}] ++ opts) do
      {:error, %Error{error_type: :pool_not_found}} -> with_connection(:production, opts, fun)
      result -> result
    end
  end

  defp lock({DatabasePool.PostgreSQL, _driver} = connection) do
    with {:ok, _} <- DatabasePool.query(connection, "SELECT pg_advisory_xact_lock(#{@lock})"),
         do: :ok
  end

  defp lock(_sqlite), do: :ok

  @doc "Whether the database may be there again in a moment: what failed so is worth another attempt."
  @spec away?(Error.t()) :: boolean()
  def away?(%Error{error_type: type}) when type in [:dependency_failed, :timeout, :pool_timeout],
    do: true

  # Class 57, operator intervention: the server ends, or begins.
  def away?(%Error{context: %{sqlstate: "57" <> _}}), do: true
  def away?(%Error{}), do: false
end
