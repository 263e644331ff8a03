defmodule Demo.Faults do
  @moduledoc """
  The faults inside the BEAM. Clients do not know of them: a victim is chosen by what the journal says it is doing.

  To hit a process while it holds a connection it is suspended first. What it was doing is then looked at again, and
  cannot change before the blow falls.
  """

  alias Demo.{Clock, Journal, Line, Store}
  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure
  alias ElixirScope.Foundation.Infrastructure.DatabasePool

  @burst 25
  @user "alice"

  @spec cause(binary()) :: :ok
  def cause("burst"), do: burst()
  def cause("kill_connection"), do: strike(&kill_connection/1)
  def cause("kill_client"), do: strike(&kill_client/1)

  # One user, 25 updates, all at once.
  defp burst do
    updates = for value <- 1..@burst, do: Task.async(fn -> gate(fn -> update(value) end) end)
    at = Clock.now_ns()
    for task <- updates, do: send(task.pid, :go)
    verdicts = Task.await_many(updates)
    admitted = Enum.count(verdicts, &match?({:ok, _}, &1))
    Line.say(:fault, kind: :burst, at: at, asked: @burst, admitted: admitted, user: @user)
  end

  defp gate(fun) do
    receive do
      :go -> fun.()
    end
  end

  defp update(value) do
    rule = Demo.limit(:config_updates)
    key = "update/" <> @user
    began = Clock.now_ns()
    opts = [rate_key: {:config_update, @user}, rate_limit: rule]

    result =
      Infrastructure.protected_operation(:production, :config_server, opts, fn ->
        Journal.limiter(key, rule, began, Clock.now_ns(), true)
        DatabasePool.with_connection(&Store.update(&1, @user, value))
      end)

    with {:error, %Error{error_type: :rate_limited}} <- result do
      Journal.limiter(key, rule, began, Clock.now_ns(), false)
      result
    end
  end

  defp kill_connection({client, _pid, _position, {connection, seq}}),
    do: kill(connection, :connection_killed, client, connection, seq)

  defp kill_client({client, pid, _position, {connection, seq}}),
    do: kill(pid, :client_killed, client, connection, seq)

  # A blow that found its victim dead already is none, and the run has to say so.
  defp kill(victim, kind, client, connection, seq) do
    monitor = Process.monitor(victim)
    at = Clock.now_ns()
    Process.exit(victim, :kill)

    receive do
      {:DOWN, ^monitor, :process, ^victim, :killed} ->
        Line.say(:fault, kind: kind, at: at, client: client, connection: inspect(connection), seq: seq)

      {:DOWN, ^monitor, :process, ^victim, _other} ->
        :ok
    end
  end

  defp strike(blow) do
    case Journal.holders() do
      [] ->
        Process.sleep(1)
        strike(blow)

      holders ->
        {client, pid, _, _} = Enum.random(holders)
        suspend(pid)

        case Journal.doing(client) do
          {^client, ^pid, _, {_, _}} = doing ->
            blow.(doing)
            resume(pid)
            :ok

          _ ->
            resume(pid)
            strike(blow)
        end
    end
  end

  # A client that ended in between is suspended and resumed without effect.
  defp suspend(pid), do: quietly(fn -> :erlang.suspend_process(pid) end)
  defp resume(pid), do: quietly(fn -> :erlang.resume_process(pid) end)

  defp quietly(fun) do
    fun.()
  rescue
    ArgumentError -> true
  end
end
