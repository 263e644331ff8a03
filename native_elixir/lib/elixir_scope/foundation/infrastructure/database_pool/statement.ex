defmodule ElixirScope.Foundation.Infrastructure.DatabasePool.Statement do
  @moduledoc false
  # Runs one SQL statement until it gets through, fails for another reason than a lock, or is out of time.
  #
  # SQLite reports a locked database at once here. The pauses between attempts double from 1 ms up to 32 ms and are
  # drawn from the upper half of that, so that waiters neither rush in step nor sleep long past the unlock.

  alias ElixirScope.Foundation.{Error, Infrastructure}
  alias ElixirScope.Foundation.Infrastructure.Connection.Call
  alias ElixirScope.Foundation.Infrastructure.DatabasePool.SQL

  @busy 5
  @locked 6
  @timeout 5_000
  @longest_pause 32
  # An answer of SQLite that comes in time is not thrown away because the deadline for trying again is near.
  @grace 1_000

  @type result :: :ok | {:rowid, integer()} | [{:columns, list()} | {:rows, list()}]

  @spec run(pid(), iodata(), list(), keyword()) :: {:ok, result()} | {:error, Error.t()}
  def run(connection, sql, params, opts) do
    with :ok <- connection(connection),
         {:ok, sql} <- SQL.text(sql),
         {:ok, params} <- params(params),
         :ok <- Infrastructure.check_options(opts, [:timeout, :grace]),
         {:ok, timeout} <- Call.milliseconds(opts, :timeout, @timeout),
         {:ok, grace} <- Call.milliseconds(opts, :grace, @grace) do
      attempt({connection, sql, params, grace}, now() + timeout, timeout, 1)
    end
  end

  @doc "The rows of a result, with `nil` for NULL."
  @spec rows(result()) :: %{columns: [String.t()], rows: [tuple()]}
  def rows([{:columns, columns}, {:rows, rows}]) do
    %{columns: Enum.map(columns, &List.to_string/1), rows: Enum.map(rows, &row/1)}
  end

  def rows(_), do: %{columns: [], rows: []}

  @doc "The row id of an insert."
  @spec rowid(result()) :: integer() | nil
  def rowid({:rowid, id}), do: id
  def rowid(_), do: nil

  defp attempt({connection, sql, params, grace} = statement, deadline, timeout, pause) do
    case call(connection, sql, params, max(deadline - now(), 0) + grace) do
      {:error, code, _} when code in [@busy, @locked] ->
        again(statement, deadline, timeout, pause, code)

      {:error, code, message} ->
        failed(sql, code, message)

      {:error, %Error{}} = error ->
        error

      {:error, reason} ->
        failed(sql, nil, inspect(reason))

      result ->
        {:ok, result}
    end
  end

  defp again({_, sql, _, _} = statement, deadline, timeout, pause, code) do
    left = deadline - now()

    if left <= 0 do
      {:error,
       Error.new(:timeout, "the database was locked for #{timeout} ms",
         context: %{sql: sql, timeout: timeout, sqlite_code: code}
       )}
    else
      Process.sleep(min(left, div(pause, 2) + :rand.uniform(pause - div(pause, 2))))
      attempt(statement, deadline, timeout, min(pause * 2, @longest_pause))
    end
  end

  defp call(connection, sql, params, timeout) do
    result =
      Call.run(connection, timeout, "statement", %{sql: sql}, fn ->
        if params == [],
          do: :sqlite3.sql_exec_timeout(connection, sql, timeout),
          else: :sqlite3.sql_exec_timeout(connection, sql, params, timeout)
      end)

    if is_list(result), do: List.keyfind(result, :error, 0, result), else: result
  end

  defp failed(sql, code, message) do
    {:error,
     Error.new(:external_service_error, "SQLite refused the statement: #{message}",
       context: %{sql: sql, sqlite_code: code}
     )}
  end

  defp row(row),
    do: row |> Tuple.to_list() |> Enum.map(&if(&1 == :null, do: nil, else: &1)) |> List.to_tuple()

  defp connection(pid) when is_pid(pid) and pid != self(), do: :ok

  defp connection(other),
    do: {:error, Error.refused(:connection, other, "a connection of a database pool")}

  defp params(params) when is_list(params) do
    Enum.reduce_while(Enum.with_index(params, 1), {:ok, []}, fn {value, index}, {:ok, done} ->
      case param(value) do
        {:ok, value} ->
          {:cont, {:ok, [value | done]}}

        {:error, allowed} ->
          {:halt, {:error, Error.refused("parameter #{index}", value, allowed)}}
      end
    end)
    |> case do
      {:ok, reversed} -> {:ok, Enum.reverse(reversed)}
      error -> error
    end
  end

  defp params(params), do: {:error, Error.refused(:params, params, "a list of values")}

  # The driver would take more and store something else in silence: integers beyond 64 bits are cut to size.
  defp param(nil), do: {:ok, :null}
  defp param(value) when is_float(value), do: {:ok, value}

  defp param(value) when is_integer(value) and value in -0x8000000000000000..0x7FFFFFFFFFFFFFFF,
    do: {:ok, value}

  defp param(value) when is_integer(value), do: {:error, "an integer of 64 bits"}
  defp param({:blob, bytes} = value) when is_binary(bytes), do: {:ok, value}

  defp param(value) when is_binary(value) do
    if String.valid?(value), do: {:ok, value}, else: {:error, "text in UTF-8, or {:blob, bytes}"}
  end

  defp param(_value), do: {:error, "nil, an integer, a float, a string or {:blob, bytes}"}

  defp now, do: System.monotonic_time(:millisecond)
end
