defmodule ElixirScope.Foundation.Infrastructure.DatabasePool.PostgreSQL do
  @moduledoc false
  # PostgreSQL connections of the driver erlang-p1-pgsql.
  #
  # A connection is `{PostgreSQL, pid}` with the driver's process. That one may be killed at any time: its socket closes
  # with it, and the server ends the back-end and rolls back.
  #
  # Everything runs in the simple protocol: in the extended one the driver exits at any notice or change of a session
  # parameter. Parameters go through SQL's own PREPARE and EXECUTE as quoted literals, whose types the server infers; text
  # that comes back is turned into a value by its column's type.
  #
  # The driver sends no cancel request. A back-end that waits for a lock hears nothing of the end of its connection: it
  # would carry its statement out when it gets the lock, long after its caller was told of the time-out. So the server
  # is asked to look, in each statement, whether its client is still there.
  #
  # After an error the driver rolls back by itself. What followed in a transaction would then run outside of it, so
  # `transaction` notes the failure in its process, and every further statement is refused until its end.

  @behaviour ElixirScope.Foundation.Infrastructure.Connection

  alias ElixirScope.Foundation.{Error, Infrastructure}
  alias ElixirScope.Foundation.Infrastructure.Connection.Call
  alias ElixirScope.Foundation.Infrastructure.DatabasePool.SQL

  @timeout 5_000

  # In milliseconds. Unless the server, the database or the role has a value of its own. No row and no error comes
  # from a server before PostgreSQL 14, which knows no such parameter.
  @watch_client """
  SELECT set_config('client_connection_check_interval', '100', false)
  WHERE current_setting('client_connection_check_interval', true) = '0'
  """

  @type connection :: {__MODULE__, pid()}

  @doc "The worker's argument, or what is wrong with it."
  @spec argument(keyword()) :: {:ok, map()} | {:error, Error.t()}
  def argument(options) do
    argument = Map.merge(%{hostname: "localhost", port: 5432, password: ""}, Map.new(options))

    Enum.find_value(
      [:hostname, :username, :password, :database, :port, :reset],
      {:ok, argument},
      &refusal(&1, argument)
    )
  end

  defp refusal(:port, %{port: port}) do
    unless is_integer(port) and port in 1..65_535,
      do: {:error, Error.refused(:port, port, "a port from 1 to 65535")}
  end

  defp refusal(:reset, argument) do
    reset = Map.get(argument, :reset, true)
    unless is_boolean(reset), do: {:error, Error.refused(:reset, reset, "true or false")}
  end

  defp refusal(key, argument) do
    value = argument[key]
    unless is_binary(value), do: {:error, Error.refused(key, value, "a string")}
  end

  @impl true
  def connect(argument) do
    options = [
      host: String.to_charlist(argument.hostname),
      port: argument.port,
      user: argument.username,
      password: argument.password,
      database: argument.database,
      as_binary: true,
      connect_timeout: @timeout
    ]

    with {:module, _} <- Code.ensure_loaded(:pgsql),
         {:ok, driver} <- :pgsql.connect(options) do
      Process.link(driver)
      watched(driver)
    else
      {:error, :nofile} ->
        {:error,
         Error.new(
           :dependency_failed,
           "the PostgreSQL driver is missing: install erlang-p1-pgsql"
         )}

      {:error, reason} ->
        {:error,
         Error.new(:external_service_error, "cannot connect to PostgreSQL: #{inspect(reason)}",
           context: %{hostname: argument.hostname, port: argument.port, reason: reason}
         )}
    end
  end

  defp watched(driver) do
    connection = {__MODULE__, driver}

    case watch_client(driver) do
      :ok ->
        {:ok, connection}

      {:error, error} ->
        disconnect(connection, :unwanted)
        {:error, error}
    end
  end

  # A server whose system cannot tell refuses, and stays as it is.
  defp watch_client(driver) do
    case simple(driver, @watch_client, @timeout) do
      {:ok, _} -> :ok
      {:error, %Error{error_type: :external_service_error}} -> :ok
      {:error, error} -> {:error, error}
    end
  end

  # `:pgsql.terminate/1` ends the driver normally, which the process of its socket, linked to it, outlives for ever. A
  # kill takes both, and the server sees the end of the connection either way.
  @impl true
  def disconnect({_, driver}, _reason) do
    monitor = Process.monitor(driver)
    Process.unlink(driver)
    Process.exit(driver, :kill)
    receive do: ({:DOWN, ^monitor, :process, ^driver, _reason} -> :ok)
  end

  @impl true
  def ping(connection) do
    with {:ok, _} <- run(connection, "SELECT 1", [], []), do: :ok
  end

  # `DISCARD ALL` is refused in a transaction. The driver has rolled back then, so the second attempt gets through. It
  # discards what `connect` has set, too.
  @impl true
  def reset({_, driver}) do
    discard = fn -> simple(driver, "DISCARD ALL", @timeout) end

    with {:ok, _} <- with({:error, _} <- discard.(), do: discard.()),
         do: watch_client(driver)
  end

  @doc "Runs one statement: its command tag, columns and rows."
  @spec run(connection(), iodata(), list(), keyword()) ::
          {:ok, {String.t(), [String.t()], [tuple()]}} | {:error, Error.t()}
  def run({_, driver} = connection, sql, params, opts) do
    with {:ok, sql} <- SQL.text(sql),
         {:ok, literals} <- literals(params),
         :ok <- Infrastructure.check_options(opts, [:timeout, :grace]),
         {:ok, timeout} <- Call.milliseconds(opts, :timeout, @timeout),
         :ok <- usable(connection),
         {:ok, answers} <- send_all(driver, sql, literals, timeout) do
      {:ok, result(answers)}
    else
      {:error, error} ->
        if Process.get(key(connection)) == :open, do: Process.put(key(connection), :failed)
        {:error, error}
    end
  end

  defp send_all(driver, sql, [], timeout), do: simple(driver, sql, timeout)

  defp send_all(driver, sql, literals, timeout) do
    execute = "EXECUTE escope(" <> Enum.join(literals, ", ") <> ")"

    case simple(driver, "PREPARE escope AS #{sql}; #{execute}; DEALLOCATE escope", timeout) do
      {:error, %Error{error_type: :external_service_error} = error} ->
        # A prepared statement outlives the roll-back.
        simple(driver, "DEALLOCATE ALL", timeout)
        {:error, %{error | context: %{error.context | sql: sql}}}

      answer ->
        with {:ok, [_prepared | answers]} <- answer, do: {:ok, List.delete_at(answers, -1)}
    end
  end

  @doc "Notes that the calling process begins a transaction on this connection."
  @spec begin(connection(), keyword()) :: {:ok, nil} | {:error, Error.t()}
  def begin(connection, opts) do
    with {:ok, _} <- run(connection, "BEGIN", [], opts) do
      Process.put(key(connection), :open)
      {:ok, nil}
    end
  end

  @doc "Commits, unless a statement of the transaction failed."
  @spec commit(connection(), keyword()) :: {:ok, nil} | {:error, Error.t()}
  def commit(connection, opts) do
    answer = run(connection, "COMMIT", [], opts)
    Process.delete(key(connection))
    with {:ok, _} <- answer, do: {:ok, nil}
  end

  @doc "Rolls back; without a transaction it does nothing."
  @spec rollback(connection()) :: {:ok, term()} | {:error, Error.t()}
  def rollback(connection) do
    Process.delete(key(connection))
    run(connection, "ROLLBACK", [], [])
  end

  defp key({_, driver}), do: {__MODULE__, driver}

  defp usable(connection) do
    if Process.get(key(connection)) == :failed do
      {:error,
       Error.new(
         :external_service_error,
         "an earlier statement of the transaction failed: it is rolled back",
         context: %{sqlstate: "25P02"}
       )}
    else
      :ok
    end
  end

  # The driver's answers: `{tag, columns, rows}` of a statement with rows, a tag, or `{:error, fields}`.
  defp simple(driver, sql, timeout) do
    with {:ok, answers} <- call(driver, sql, timeout) do
      case List.keyfind(Enum.filter(answers, &is_tuple/1), :error, 0) do
        {:error, fields} -> failed(sql, fields)
        nil -> {:ok, answers}
      end
    end
  end

  defp result(answers) do
    case List.last(answers) do
      {tag, columns, rows} ->
        types = Enum.map(columns, &elem(&1, 3))
        names = Enum.map(columns, &to_string(elem(&1, 0)))
        {to_string(tag), names, Enum.map(rows, &row(&1, types))}

      nil ->
        {"", [], []}

      tag ->
        {to_string(tag), [], []}
    end
  end

  defp row(row, types), do: row |> Enum.zip_with(types, &value/2) |> List.to_tuple()

  # By the types' numbers in pg_type.dat; what is not here stays text.
  defp value(:null, _type), do: nil
  defp value(text, 16), do: text == "t"
  defp value(text, type) when type in [20, 21, 23, 26], do: String.to_integer(text)
  defp value("\\x" <> hex, 17), do: {:blob, Base.decode16!(hex, case: :lower)}

  defp value(text, type) when type in [700, 701] do
    case Float.parse(text) do
      {float, ""} -> float
      _nan_or_infinity -> text
    end
  end

  defp value(text, _type), do: text

  # Without the text: it may hold the values of parameters.
  defp call(driver, sql, timeout) do
    Call.run(driver, timeout, "statement", %{}, fn ->
      GenServer.call(driver, {:squery, sql}, timeout)
    end)
  end

  defp failed(sql, fields) do
    fields = Map.new(fields)

    {:error,
     Error.new(:external_service_error, "PostgreSQL refused the statement: #{fields[:message]}",
       context: %{sql: sql, sqlstate: fields[:code] && to_string(fields[:code])}
     )}
  end

  defp literals(params) when is_list(params) do
    literals = Enum.map(params, &literal/1)

    case Enum.find_index(literals, &(&1 == :error)) do
      nil ->
        {:ok, literals}

      index ->
        allowed =
          "nil, a boolean, an integer, a float, text in UTF-8 without a zero, or {:blob, bytes}"

        {:error, Error.refused("parameter #{index + 1}", Enum.at(params, index), allowed)}
    end
  end

  defp literals(params), do: {:error, Error.refused(:params, params, "a list of values")}

  # All are quoted, numbers too, so that none has a type of its own. `E''` takes no part in standard_conforming_strings:
  # with the backslash doubled it means the same whatever the session has set.
  defp literal(nil), do: "NULL"

  defp literal(value) when is_integer(value) or is_float(value) or is_boolean(value),
    do: "'#{value}'"

  defp literal({:blob, bytes}) when is_binary(bytes),
    do: "E'\\\\x" <> Base.encode16(bytes, case: :lower) <> "'"

  defp literal(value) when is_binary(value) do
    if String.valid?(value) and not String.contains?(value, <<0>>),
      do: "E'" <> (value |> String.replace("\\", "\\\\") |> String.replace("'", "''")) <> "'",
      else: :error
  end

  defp literal(_value), do: :error
end
