defmodule ElixirScope.Foundation.Infrastructure.Connection.Guard do
  @moduledoc false
  # The process that stands for a connection whose own process must not be killed.
  #
  # A driver of SQLite that dies while it runs a statement cannot close its database: the file stays open in the VM, and an
  # open transaction keeps its lock for ever. A file that is being written is not closed yet when its process has died, so
  # its lock would be let go too early. Connections do get killed, by their pool, by an exit that spreads, by an operator. So
  # the pid that everybody knows is the guard's. It passes requests on to the process behind it, which answers the caller
  # directly.
  #
  # That process belongs to a keeper that nobody knows. When the guard dies, the keeper closes, as soon as the request in
  # hand is done, and lets go of what belongs to it. When something of it dies by itself, so do all.

  @typedoc """
  The process behind a guard; how it is closed, once its guard has died; and what is to be let go after its end.
  """
  @type opened :: {pid(), close :: (() -> term()), release :: (() -> term())}

  @doc """
  Runs `open` in the keeper, which owns what it opens. The guard is linked to the caller, and passes on messages whose first
  elements are `requests`.
  """
  @spec start_link([atom()], (() -> {:ok, opened()} | {:error, term()})) ::
          {:ok, pid()} | {:error, term()}
  def start_link(requests, open), do: :proc_lib.start_link(__MODULE__, :init, [requests, open])

  @doc false
  @spec init([atom()], (() -> {:ok, opened()} | {:error, term()})) :: :ok
  def init(requests, open) do
    guard = self()
    reference = make_ref()
    {keeper, monitor} = spawn_monitor(fn -> keep(guard, reference, open) end)

    receive do
      {^reference, {:ok, {process, _close, _release}}} ->
        :proc_lib.init_ack({:ok, guard})
        pass_on(requests, process, monitor)

      {^reference, {:error, reason}} ->
        :proc_lib.init_ack({:error, reason})

      {:DOWN, ^monitor, :process, ^keeper, reason} ->
        :proc_lib.init_ack({:error, reason})
    end
  end

  defp pass_on(requests, process, monitor) do
    receive do
      {:DOWN, ^monitor, :process, _keeper, reason} ->
        exit(reason)

      message ->
        if is_tuple(message) and tuple_size(message) > 0 and elem(message, 0) in requests,
          do: send(process, message)

        pass_on(requests, process, monitor)
    end
  end

  defp keep(guard, reference, open) do
    Process.flag(:trap_exit, true)
    monitor = Process.monitor(guard)
    opened = open.()
    send(guard, {reference, opened})

    with {:ok, {process, close, release}} <- opened do
      # Monitored, for not everything that is opened is linked; what is linked besides, a port say, must not end either.
      opened = Process.monitor(process)

      receive do
        {:DOWN, ^monitor, :process, ^guard, _reason} ->
          close.()
          release.()

        {:DOWN, ^opened, :process, _process, reason} ->
          release.()
          exit(reason)

        {:EXIT, _linked, reason} ->
          release.()
          exit(reason)
      end
    end
  end
end
