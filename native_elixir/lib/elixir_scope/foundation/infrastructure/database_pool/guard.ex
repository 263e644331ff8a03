defmodule ElixirScope.Foundation.Infrastructure.DatabasePool.Guard do
  @moduledoc false
  # The process that stands for a connection, so that the driver's own process is never killed.
  #
  # A driver process that dies while it runs a statement cannot close its database: the file stays open in the VM,
  # and an open transaction keeps its lock for ever. Connections do get killed, by their pool, by an exit that
  # spreads, by an operator. So the pid that everybody knows is the guard's. It passes each call on to the driver,
  # which answers the caller directly: the functions of `:sqlite3` take a guard for a connection.
  #
  # The driver belongs to a keeper that nobody knows. When the guard dies, the keeper has the driver close as soon as
  # the statement in hand is done, which rolls back. When the driver dies by itself, so do both.

  @doc "Opens the database; the guard is linked to the caller."
  @spec start_link(charlist()) :: {:ok, pid()} | {:error, term()}
  def start_link(file), do: :proc_lib.start_link(__MODULE__, :init, [file])

  @doc false
  @spec init(charlist()) :: :ok
  def init(file) do
    guard = self()
    reference = make_ref()
    {keeper, monitor} = spawn_monitor(fn -> keep(guard, reference, file) end)

    receive do
      {^reference, {:ok, driver}} ->
        :proc_lib.init_ack({:ok, guard})
        pass_on(driver, monitor)

      {^reference, {:error, reason}} ->
        :proc_lib.init_ack({:error, reason})

      {:DOWN, ^monitor, :process, ^keeper, reason} ->
        :proc_lib.init_ack({:error, reason})
    end
  end

  defp pass_on(driver, monitor) do
    receive do
      {:"$gen_call", _from, _request} = call ->
        send(driver, call)
        pass_on(driver, monitor)

      {:DOWN, ^monitor, :process, _keeper, reason} ->
        exit(reason)

      _other ->
        pass_on(driver, monitor)
    end
  end

  defp keep(guard, reference, file) do
    Process.flag(:trap_exit, true)
    monitor = Process.monitor(guard)
    opened = :sqlite3.open(:anonymous, file: file)
    send(guard, {reference, opened})

    with {:ok, driver} <- opened do
      receive do
        {:DOWN, ^monitor, :process, ^guard, _reason} -> :sqlite3.close_timeout(driver, :infinity)
        {:EXIT, ^driver, reason} -> exit(reason)
      end
    end
  end
end
