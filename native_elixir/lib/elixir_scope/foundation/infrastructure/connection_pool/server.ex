defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Server do
  @moduledoc false
  # The process of one pool: it carries out what the native pool decides and is never in the way of a check-out.
  #
  # The native pool sends it `{:escope_pool, :create | :destroy | :check, ...}`. Each runs the worker's callback in a
  # process of its own, linked to this one, and reports the end back. Connection processes are linked as well: the death
  # of one is an EXIT here, and the death of this process ends them all. The native pool watches this process and closes
  # when it dies, so that nobody waits for a pool that is gone.
  #
  # * `State`: what it knows;
  # * `Connections`: what comes and goes;
  # * `Checks`: tests and resets;
  # * `Shutdown`: the end.

  use GenServer

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{ManualClock, Native}
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.{Config, Directory}

  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.Server.{
    Checks,
    Connections,
    Shutdown,
    State
  }

  @spec start_link(Config.t(), GenServer.options()) :: GenServer.on_start()
  def start_link(%Config{} = config, options \\ []),
    do: GenServer.start_link(__MODULE__, config, options)

  @doc "As `start_link/2`, without a link."
  @spec start(Config.t(), GenServer.options()) :: GenServer.on_start()
  def start(%Config{} = config, options), do: GenServer.start(__MODULE__, config, options)

  @doc "Whether the connection of a lease, which the caller holds, passes its test."
  @spec pre_ping(pid(), non_neg_integer(), non_neg_integer()) :: boolean()
  def pre_ping(server, slot, epoch) do
    GenServer.call(server, {:pre_ping, slot, epoch}, :infinity)
  catch
    # The pool is gone, and its connections are.
    :exit, _ -> false
  end

  @doc "Does what time asks for."
  @spec maintain(pid()) :: :ok | :gone
  def maintain(server), do: call(server, :maintain)

  @doc "Waits until nothing is left of a pool that is closed, or how much is after `timeout`."
  @spec await_end(pid(), timeout()) :: :ok | {:left, pos_integer()} | :gone
  def await_end(server, timeout), do: call(server, {:drain, timeout})

  defp call(server, request) do
    GenServer.call(server, request, :infinity)
  catch
    :exit, _ -> :gone
  end

  @impl true
  def init(config) do
    Process.flag(:trap_exit, true)
    # A worker that needs processes of its own is made here, so that they end with the pool.
    worker = if is_function(config.worker), do: config.worker.(), else: config.worker
    config = %{config | worker: worker}
    timeout_ns = Config.timeout_ns(config.timeout)

    with {:ok, handle} <- new_pool(config),
         entry = {handle, self(), timeout_ns, one_in(config)},
         :ok <- Directory.register(key(config), entry, {worker, config.close_timeout}) do
      %State{handle: handle, config: config} |> State.maintain() |> stocked()
    else
      {:error, reason} -> {:stop, reason}
    end
  end

  # Without telemetry a call has nothing to look after besides the native pool.
  defp one_in(%Config{telemetry: 0}), do: nil
  defp one_in(%Config{telemetry: one_in}), do: one_in

  # A pool without a name is found by its process alone.
  defp key(%Config{name: nil}), do: nil
  defp key(config), do: {config.namespace, config.name}

  defp new_pool(config) do
    case Native.pool_new(Config.native(config), ManualClock.clock(config.namespace)) do
      {:ok, handle} -> {:ok, handle}
      {:error, refusal} -> Config.refused(refusal)
    end
  end

  defp stocked(%State{config: %Config{init_policy: :degraded}} = state), do: {:ok, state}

  defp stocked(state) do
    %State{config: config} = state = Shutdown.serve(state, :infinity, &stock_is_known?/1)

    case Native.pool_stats(state.handle) do
      %{create_errors: 0} ->
        {:ok, state}

      _ ->
        reason = Native.pool_last_error(state.handle)
        Shutdown.run(state)
        Directory.unregister()
        message = "pool #{inspect(config.name)} could not make its first connections"
        {:stop, Error.new(:create_failed, message, context: %{last_error: reason})}
    end
  end

  defp stock_is_known?(state) do
    stats = Native.pool_stats(state.handle)
    stats.create_errors > 0 or stats.created >= state.config.min_idle
  end

  @impl true
  def handle_call({:created, result}, {pid, _}, state) do
    case state.jobs do
      %{^pid => %{what: :create} = job} ->
        {:reply, :ok, %{state | jobs: Map.delete(state.jobs, pid)} |> created(job, result)}

      _ ->
        {:reply, :ok, state}
    end
  end

  def handle_call({:checked, passed?}, {pid, _}, state) do
    case state.jobs do
      %{^pid => %{what: :check} = job} ->
        {:reply, :ok, %{state | jobs: Map.delete(state.jobs, pid)} |> checked(job, passed?)}

      _ ->
        {:reply, :ok, state}
    end
  end

  def handle_call({:pre_ping, slot, epoch}, from, state)
      when slot in 0..0xFFFF_FFFF and epoch in 0..0xFFFF_FFFF_FFFF_FFFF,
      do: {:noreply, Checks.pre_ping(state, slot, epoch, from)}

  def handle_call(:maintain, _from, state),
    do: {:reply, :ok, state |> State.maintain() |> Shutdown.look()}

  def handle_call({:drain, timeout}, from, state)
      when timeout == :infinity or timeout in 0..0xFFFF_FFFF,
      do: {:noreply, Shutdown.await(state, timeout, from)}

  # A stranger's call must not take the pool down.
  def handle_call(_request, _from, state), do: {:reply, {:error, :invalid_message}, state}

  @impl true
  def handle_cast(_request, state), do: {:noreply, state}

  @impl true
  def handle_info({:escope_pool, :create, slot, epoch}, state),
    do: {:noreply, Connections.create(state, slot, epoch)}

  def handle_info({:escope_pool, :destroy, slot, epoch, why}, state),
    do: {:noreply, Connections.destroy(state, slot, epoch, why)}

  def handle_info({:escope_pool, :check, slot, epoch, kind}, state),
    do: {:noreply, Checks.check(state, slot, epoch, kind)}

  def handle_info({:escope_pool, :leaked, slot, holder, since_ns}, state) do
    metadata = %{slot: slot, holder: holder, since_ns: since_ns}
    {:noreply, State.event(state, :connection_leaked, metadata)}
  end

  def handle_info({:escope_pool, :maintain}, state), do: {:noreply, State.maintain(state)}

  def handle_info(:maintain, state),
    do: {:noreply, %{state | timer: nil} |> State.maintain() |> Shutdown.look()}

  def handle_info({:EXIT, pid, reason}, state), do: {:noreply, ended(state, pid, reason)}

  def handle_info({:job_timeout, job}, state) do
    if is_map_key(state.jobs, job), do: Process.exit(job, :kill)
    {:noreply, state}
  end

  def handle_info({:drain_timeout, from}, state), do: {:noreply, Shutdown.give_up(state, from)}
  def handle_info(_, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state) do
    # Known by its name until the end: who holds a connection can still give it back.
    Shutdown.run(state)
    Directory.unregister()
  end

  defp created(state, job, result),
    do: state |> Connections.created(job.slot, job.epoch, result) |> State.maintain()

  defp checked(state, job, passed?),
    do: state |> Checks.ended(job, passed?) |> State.maintain()

  # The end of a process that this one is linked to.
  defp ended(state, pid, reason) do
    case Map.pop(state.jobs, pid) do
      {%{what: :create} = job, jobs} ->
        created(%{state | jobs: jobs}, job, {:error, {:exit, reason}})

      {%{what: :check} = job, jobs} ->
        checked(%{state | jobs: jobs}, job, false)

      {%{what: :close} = job, jobs} ->
        Connections.closed(%{state | jobs: jobs}, job)

      {nil, _} ->
        Connections.down(state, pid, reason)
    end
  end
end
