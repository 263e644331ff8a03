defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Server.Connections do
  @moduledoc false
  # Connections come and go. Each callback runs in a job, whose end is reported to the native pool; that hands a new
  # connection to the oldest waiter by itself.

  alias ElixirScope.Foundation.Infrastructure.{Connection, Native}
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.Job
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.Server.{Shutdown, State}

  @type slot :: non_neg_integer()
  @type epoch :: non_neg_integer()

  @doc "Begins to make a connection."
  @spec create(State.t(), slot(), epoch()) :: State.t()
  def create(state, slot, epoch) do
    job = Job.create(state.config.worker)
    State.put_job(state, job, %{what: :create, slot: slot, epoch: epoch})
  end

  @doc "A connection was made, or not."
  @spec created(State.t(), slot(), epoch(), {:ok, Connection.connection()} | {:error, term()}) ::
          State.t()
  def created(state, slot, epoch, {:ok, connection}) do
    # Linked before anybody can be given it: from here on its death is noticed, and it ends with this process.
    case Job.adopt(connection) do
      :ok ->
        case Native.pool_created(state.handle, slot, epoch, connection) do
          :ok ->
            state |> alive(connection, slot) |> State.event(:connection_created, %{slot: slot})

          :stale ->
            close(state, connection, nil, :unwanted)
        end

      {:error, reason} ->
        created(state, slot, epoch, {:error, reason})
    end
  end

  def created(state, slot, epoch, {:error, reason}) do
    Native.pool_create_failed(state.handle, slot, epoch, reason)
    state |> State.event(:create_failed, %{slot: slot, reason: reason}) |> Shutdown.look()
  end

  defp alive(state, connection, slot) do
    case Connection.process(connection) do
      nil -> state
      pid -> %{state | alive: Map.put(state.alive, pid, slot)}
    end
  end

  @doc "Begins to close the connection in a slot, once nobody tests it any more."
  @spec destroy(State.t(), slot(), epoch(), atom()) :: State.t()
  def destroy(state, slot, epoch, why) do
    State.when_free(state, slot, why, fn state ->
      case Native.pool_connection(state.handle, slot) do
        {:ok, connection} -> close(state, connection, {slot, epoch, why}, :closed)
        :none -> destroyed(state, {slot, epoch, why})
      end
    end)
  end

  @doc "Closes what is in a slot whatever its state is: the pool ends."
  @spec abandon(State.t(), slot()) :: State.t()
  def abandon(state, slot) do
    State.when_free(state, slot, :shutdown, fn state ->
      case Native.pool_connection(state.handle, slot) do
        {:ok, connection} -> close(state, connection, nil, :shutdown)
        :none -> state
      end
    end)
  end

  # A connection process that has a place and is not known as alive has died: there is nothing to close.
  defp close(state, connection, place, reason) do
    pid = Connection.process(connection)

    if place != nil and pid != nil and not is_map_key(state.alive, pid),
      do: destroyed(state, place),
      else: start_close(state, connection, pid, place, reason)
  end

  defp start_close(state, connection, pid, place, reason) do
    job = Job.close(state.config.worker, connection, reason)
    # A close without time limit could never be given up, so 0 is at once here.
    timer = Process.send_after(self(), {:job_timeout, job}, state.config.close_timeout)
    state = %{state | alive: Map.delete(state.alive, pid)}
    State.put_job(state, job, %{what: :close, connection: connection, place: place, timer: timer})
  end

  @doc "The job that closed a connection has ended."
  @spec closed(State.t(), State.job()) :: State.t()
  def closed(state, %{connection: connection, place: place, timer: timer}) do
    State.in_time(timer)
    Job.release(connection)
    destroyed(state, place)
  end

  defp destroyed(state, nil), do: state

  defp destroyed(state, {slot, epoch, why}) do
    Native.pool_destroyed(state.handle, slot, epoch)

    state
    |> State.event(:connection_closed, %{slot: slot, reason: why})
    |> State.maintain()
    |> Shutdown.look()
  end

  @doc "A process that this one was linked to has died: a connection, if it is known."
  @spec down(State.t(), pid(), term()) :: State.t()
  def down(state, pid, reason) do
    case Map.pop(state.alive, pid) do
      {nil, _} ->
        state

      {slot, alive} ->
        Native.pool_connection_lost(state.handle, slot)

        %{state | alive: alive}
        |> State.event(:connection_down, %{slot: slot, reason: reason})
        |> State.maintain()
    end
  end
end
