defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Server do
  @moduledoc false
  # The process of one pool: it carries out what the native pool decides and is never in the way of a check-out.
  #
  # The native pool sends it `{:escope_pool, :create | :destroy, slot, epoch}`. Each runs the worker's callback in a
  # process of its own, linked to this one, and reports the end back; the native pool then hands a new connection
  # to the oldest waiter by itself. Connection processes are linked as well: the death of one is an EXIT here, and
  # the death of this process ends them all. The native pool watches this process and closes when it dies, so that
  # nobody waits for a pool that is gone.
  #
  # `jobs` are the callbacks in flight, `alive` the connection processes in slots, by pid.

  use GenServer

  alias ElixirScope.Foundation.Infrastructure.{Connection, ManualClock, Native, Telemetry}
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.{Config, Directory, Job}

  defstruct [:handle, :config, :timer, jobs: %{}, alive: %{}]

  @spec start_link(Config.t(), GenServer.options()) :: GenServer.on_start()
  def start_link(%Config{} = config, options \\ []),
    do: GenServer.start_link(__MODULE__, config, options)

  @doc "As `start_link/2`, without a link."
  @spec start(Config.t(), GenServer.options()) :: GenServer.on_start()
  def start(%Config{} = config, options), do: GenServer.start(__MODULE__, config, options)

  @impl true
  def init(config) do
    Process.flag(:trap_exit, true)
    # A worker that needs processes of its own is made here, so that they end with the pool.
    worker = if is_function(config.worker), do: config.worker.(), else: config.worker
    config = %{config | worker: worker}
    timeout_ns = Config.timeout_ns(config.timeout)

    with {:ok, handle} <- new_pool(config),
         entry = {handle, self(), timeout_ns, edge(worker, config)},
         :ok <- Directory.register(key(config), entry, {worker, config.close_timeout}) do
      {:ok, maintain(%__MODULE__{handle: handle, config: config})}
    else
      {:error, reason} -> {:stop, reason}
    end
  end

  # What a call has to look after besides the native pool; nil where that is nothing.
  defp edge(%{reset: nil}, %Config{telemetry: 0}), do: nil
  defp edge(%{reset: reset}, config), do: {reset, config.telemetry}

  # A pool without a name is found by its process alone.
  defp key(%Config{name: nil}), do: nil
  defp key(config), do: {config.namespace, config.name}

  defp new_pool(config) do
    case Native.pool_new(Config.native(config), ManualClock.clock(config.namespace)) do
      {:ok, handle} -> {:ok, handle}
      {:error, {argument, value, allowed}} -> Config.invalid(argument, value, allowed)
    end
  end

  @impl true
  def handle_call({:created, result}, {job, _}, state) do
    case Map.pop(state.jobs, job) do
      {{:create, slot, epoch}, jobs} ->
        {:reply, :ok, %{state | jobs: jobs} |> created(slot, epoch, result) |> maintain()}

      {nil, _} ->
        {:reply, :ok, state}
    end
  end

  def handle_call({:checked, healthy?}, {job, _}, state) do
    case Map.pop(state.jobs, job) do
      {{:check, slot, epoch, timer}, jobs} ->
        Process.cancel_timer(timer)
        {:reply, :ok, checked(%{state | jobs: jobs}, slot, epoch, healthy?)}

      {nil, _} ->
        {:reply, :ok, state}
    end
  end

  # A stranger's call must not take the pool down.
  def handle_call(_request, _from, state), do: {:reply, {:error, :invalid_message}, state}

  @impl true
  def handle_cast(_request, state), do: {:noreply, state}

  @impl true
  def handle_info({:escope_pool, :create, slot, epoch}, state),
    do: {:noreply, create(state, slot, epoch)}

  def handle_info({:escope_pool, :destroy, slot, epoch}, state),
    do: {:noreply, destroy(state, slot, epoch)}

  def handle_info({:escope_pool, :check, slot, epoch}, state),
    do: {:noreply, check(state, slot, epoch)}

  def handle_info({:escope_pool, :leaked, slot, holder, since_ns}, state) do
    event(state, :connection_leaked, %{slot: slot, holder: holder, since_ns: since_ns})
    {:noreply, state}
  end

  def handle_info({:escope_pool, :maintain}, state), do: {:noreply, maintain(state)}
  def handle_info(:maintain, state), do: {:noreply, maintain(%{state | timer: nil})}
  def handle_info({:EXIT, pid, reason}, state), do: {:noreply, ended(state, pid, reason)}
  def handle_info({:close_timeout, job}, state), do: {:noreply, give_up(state, job)}
  def handle_info(_, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state) do
    # Known by its name until the end: who holds a connection can still give it back.
    Native.pool_close(state.handle)
    state = drain(state, deadline(state.config.drain), &(total(&1) == 0 and &1.jobs == %{}))

    # Whoever still holds a connection loses it now: nobody would be left to close it later.
    closing = for {_, {:close, _, {slot, _}, _}} <- state.jobs, do: slot
    slots = Native.pool_slots(state.handle) -- closing
    state = Enum.reduce(slots, state, &close_now(&2, &1))
    state = drain(state, deadline(state.config.close_timeout), &(&1.jobs == %{}))
    for {job, _} <- state.jobs, do: Process.exit(job, :kill)
    Directory.unregister()
  end

  # Creation.

  defp create(state, slot, epoch) do
    job = Job.create(state.config.worker)
    %{state | jobs: Map.put(state.jobs, job, {:create, slot, epoch})}
  end

  defp created(state, slot, epoch, {:ok, connection}) do
    # Linked before anybody can be given it: from here on its death is noticed, and it ends with this process.
    case Job.adopt(connection) do
      :ok ->
        case Native.pool_created(state.handle, slot, epoch, connection) do
          :ok -> state |> alive(connection, slot) |> event(:connection_created, %{slot: slot})
          :stale -> close(state, connection, nil, :unwanted)
        end

      {:error, reason} ->
        created(state, slot, epoch, {:error, reason})
    end
  end

  defp created(state, slot, epoch, {:error, reason}) do
    Native.pool_create_failed(state.handle, slot, epoch, reason)
    event(state, :create_failed, %{slot: slot, reason: reason})
  end

  defp alive(state, connection, slot) do
    case Connection.process(connection) do
      nil -> state
      pid -> %{state | alive: Map.put(state.alive, pid, slot)}
    end
  end

  # Health checks. The native pool gives up a check at its time limit by itself; the job is killed a moment later.

  defp check(state, slot, epoch) do
    case Native.pool_connection(state.handle, slot) do
      {:ok, connection} ->
        job = Job.check(state.config.worker, connection)
        timer = Process.send_after(self(), {:close_timeout, job}, state.config.check_limit)
        %{state | jobs: Map.put(state.jobs, job, {:check, slot, epoch, timer})}

      :none ->
        checked(state, slot, epoch, false)
    end
  end

  defp checked(state, slot, epoch, healthy?) do
    Native.pool_checked(state.handle, slot, epoch, healthy?)
    unless healthy?, do: event(state, :check_failed, %{slot: slot})
    maintain(state)
  end

  # Closing.

  defp destroy(state, slot, epoch) do
    case Native.pool_connection(state.handle, slot) do
      {:ok, connection} -> close(state, connection, {slot, epoch}, :closed)
      :none -> destroyed(state, {slot, epoch})
    end
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
    timer = Process.send_after(self(), {:close_timeout, job}, state.config.close_timeout)
    alive = Map.delete(state.alive, pid)
    %{state | jobs: Map.put(state.jobs, job, {:close, connection, place, timer}), alive: alive}
  end

  defp destroyed(state, nil), do: state

  defp destroyed(state, {slot, epoch}) do
    Native.pool_destroyed(state.handle, slot, epoch)
    state |> event(:connection_closed, %{slot: slot}) |> maintain()
  end

  defp give_up(state, job) do
    if is_map_key(state.jobs, job), do: Process.exit(job, :kill)
    state
  end

  # The end of a process that this one is linked to.

  defp ended(state, pid, reason) do
    case Map.pop(state.jobs, pid) do
      {{:create, slot, epoch}, jobs} ->
        created(%{state | jobs: jobs}, slot, epoch, {:error, {:exit, reason}}) |> maintain()

      {{:check, slot, epoch, timer}, jobs} ->
        Process.cancel_timer(timer)
        checked(%{state | jobs: jobs}, slot, epoch, false)

      {{:close, connection, place, timer}, jobs} ->
        Process.cancel_timer(timer)
        Job.release(connection)
        destroyed(%{state | jobs: jobs}, place)

      {nil, _} ->
        connection_down(state, pid, reason)
    end
  end

  defp connection_down(state, pid, reason) do
    case Map.pop(state.alive, pid) do
      {nil, _} ->
        state

      {slot, alive} ->
        Native.pool_connection_lost(state.handle, slot)

        event(%{state | alive: alive}, :connection_down, %{slot: slot, reason: reason})
        |> maintain()
    end
  end

  # Time: the native pool says when it next wants to be asked, and sends a message when that becomes earlier.

  defp maintain(state) do
    if state.timer, do: Process.cancel_timer(state.timer)

    case Native.pool_maintain(state.handle) do
      :infinity -> %{state | timer: nil}
      ms -> %{state | timer: Process.send_after(self(), :maintain, max(ms, 1))}
    end
  end

  # Shutdown: the same messages as in normal life, until it is done or the time is up.

  defp drain(state, deadline, done?) do
    if done?.(state) do
      state
    else
      receive do
        {:"$gen_call", from, {done, _} = request} when done in [:created, :checked] ->
          {:reply, reply, state} = handle_call(request, from, state)
          GenServer.reply(from, reply)
          drain(state, deadline, done?)

        {:"$gen_call", _, _} ->
          drain(state, deadline, done?)

        message ->
          {:noreply, state} = handle_info(message, state)
          drain(state, deadline, done?)
      after
        max(deadline - now(), 0) -> state
      end
    end
  end

  defp close_now(state, slot) do
    case Native.pool_connection(state.handle, slot) do
      {:ok, connection} -> close(state, connection, nil, :shutdown)
      :none -> state
    end
  end

  defp total(state) do
    stats = Native.pool_stats(state.handle)
    stats.idle + stats.in_use + stats.creating + stats.checking + stats.closing
  end

  defp deadline(ms), do: now() + ms
  defp now, do: System.monotonic_time(:millisecond)

  defp event(state, name, metadata) do
    metadata = Map.merge(metadata, %{namespace: state.config.namespace, pool: state.config.name})
    Telemetry.execute([:connection_pool, name], %{count: 1}, metadata)
    state
  end
end
