defmodule Demo.Faults do
  @moduledoc """
  The faults inside the BEAM. Clients do not know of them: a victim is chosen by what the journal says it is doing.

  To hit a process while it holds a connection it is suspended first. What it was doing is then looked at again, and
  cannot change before the blow falls.
  """

  alias Demo.{Clock, Journal, Line}
  alias ElixirScope.Foundation.{Error, ProcessRegistry, ServiceRegistry}
  alias ElixirScope.Foundation.Services.{ConfigServer, EventStore}

  @burst 25
  @user "alice"
  @setting [:ai, :planning, :performance_target]

  @spec cause(binary()) :: :ok
  def cause("burst"), do: burst()
  def cause("kill_connection"), do: strike(&kill_connection/1)
  def cause("kill_client"), do: strike(&kill_client/1)
  def cause("kill_config_server"), do: kill_service(:config_server, &config_server/0)
  def cause("kill_event_store"), do: kill_service(:event_store, &event_store/0)

  # One user, 25 updates, all at once.
  defp burst do
    updates = for value <- 1..@burst, do: Task.async(fn -> gate(fn -> update(value) end) end)
    at = Clock.now_ns()
    for task <- updates, do: send(task.pid, :go)
    verdicts = Task.await_many(updates)
    admitted = Enum.count(verdicts, &(&1 == :ok))
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
    result = ConfigServer.update_config_protected(:production, @setting, value / 1_000, %{user_id: @user})
    admitted? = not match?({:error, %Error{error_type: :rate_limited}}, result)
    Journal.limiter(key, rule, began, Clock.now_ns(), admitted?)
    result
  end

  # What the service is asked when it is back says whether it has what it had.
  defp kill_service(service, has) do
    {:ok, pid} = ProcessRegistry.lookup(:production, service)
    acknowledged = Journal.counts()[:done]
    at = Clock.now_ns()
    Process.exit(pid, :kill)
    Line.say(:fault, kind: :"#{service}_killed", at: at, pid: inspect(pid), acknowledged: acknowledged)

    Line.say(:fault,
      kind: :"#{service}_back",
      pid: inspect(successor(service, pid)),
      has: has.(),
      at: Clock.now_ns()
    )
  end

  defp successor(service, pid) do
    case ServiceRegistry.wait_for_service(:production, service, 30_000) do
      {:ok, ^pid} -> successor(service, pid)
      {:ok, successor} -> successor
    end
  end

  defp config_server do
    {:ok, %{updates_count: updates}} = ConfigServer.status()
    updates
  end

  # A store that reads its events back says so, and counts them afterwards.
  defp event_store do
    case EventStore.status() do
      {:ok, %{status: :running, persistence: :database, event_count: count}} ->
        count

      {:ok, %{status: :starting}} ->
        Process.sleep(1)
        event_store()
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
