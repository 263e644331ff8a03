defmodule ElixirScope.Compat.Fuse.Server do
  @moduledoc false
  # Installs and removes fuses, tells what becomes of them, and has them heal when nobody asks.
  #
  # It decides nothing. A change comes as a message of the native call that made it, so two of them may arrive in the
  # wrong order; each carries its number, and one that is early waits for those before it. A timer is not what heals a
  # fuse: it asks the core to look at its clock, so one that is late, early or of another life does no harm.
  use GenServer

  alias ElixirScope.Compat.Fuse
  alias ElixirScope.Compat.Fuse.{Event, Monitor, Options, Stats, Table}
  alias ElixirScope.Foundation.Infrastructure.{ManualClock, Native}

  @ns_in_ms 1_000_000
  @day_ms 86_400_000
  @forced_open 1
  # A change that does not come was lost with the process that it was sent to.
  @hold_back_ms 100
  # Sequence numbers wrap with the breaker's generation.
  @sequences 0x1000_0000

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @spec install(Fuse.name(), Options.up(), map()) :: :ok | {:error, binary()}
  def install(name, up, options),
    do: GenServer.call(__MODULE__, {:install, name, up, options, Stats.plugin()})

  @spec remove(Fuse.name()) :: :ok | {:error, :not_found}
  def remove(name), do: GenServer.call(__MODULE__, {:remove, name})

  @doc "Here and not in the caller, so that an installation cannot lose it."
  @spec set_mode(Fuse.name(), non_neg_integer()) :: :ok | {:error, :not_found}
  def set_mode(name, mode), do: GenServer.call(__MODULE__, {:set_mode, name, mode})

  @doc "Removes what a test has left."
  @spec forget({:test, reference()}) :: :ok
  def forget(namespace) do
    GenServer.call(__MODULE__, {:forget, namespace})
  catch
    # The application stops.
    :exit, {_reason, {GenServer, :call, _arguments}} -> :ok
  end

  @spec sync() :: :ok
  def sync, do: GenServer.call(__MODULE__, :sync)

  # By the id of a breaker: `names`, `timers`, and in `held` the timer of a hold-back and the changes that came early, by
  # number.
  @impl true
  def init(_opts) do
    state = %{names: %{}, timers: %{}, held: %{}}
    {:ok, Enum.reduce(Table.list(), state, &resume(&2, &1))}
  end

  # After a crash: what changed meanwhile was sent to a process that is gone.
  defp resume(state, fuse) do
    Native.breaker_publish_to(fuse.breaker, self())
    stats = Native.breaker_stats(fuse.breaker)
    now = if stats.state == :closed, do: fuse.up, else: :blown
    if now != fuse.told, do: Event.notify({fuse.name, now})
    sequence = Integer.mod(stats.generation - 1, @sequences)
    keep(state, %{fuse | told: now, sequence: sequence})
  end

  @impl true
  def handle_call({:install, name, up, options, plugin}, _from, state) do
    installed =
      case Table.fetch(name) do
        nil ->
          create(state, name, up, options, plugin)

        fuse ->
          reinstall(
            state,
            %{fuse | up: up, plugin: plugin, heals: heals?(name, options)},
            options
          )
      end

    case installed do
      {:ok, state} -> {:reply, :ok, state}
      {:error, refusal} -> {:reply, {:error, Options.explain(refusal)}, state}
    end
  end

  def handle_call({:remove, name}, _from, state) do
    case Table.fetch(name) do
      nil -> {:reply, {:error, :not_found}, state}
      fuse -> {:reply, :ok, delete(state, fuse)}
    end
  end

  def handle_call({:set_mode, name, mode}, _from, state) do
    case Table.find(name) do
      nil -> {:reply, {:error, :not_found}, state}
      {breaker, _plugin} -> {:reply, Native.breaker_set_mode(breaker, mode), state}
    end
  end

  def handle_call({:forget, namespace}, _from, state) do
    fuses = Enum.filter(Table.list(), &(Table.namespace(&1.name) == namespace))
    state = Enum.reduce(fuses, state, &delete(&2, &1))
    Table.forget_counters(namespace)
    {:reply, :ok, state}
  end

  def handle_call(:sync, _from, state), do: {:reply, :ok, state}

  @impl true
  def handle_info({:escope_breaker_event, id, change}, state) do
    case fuse_of(state, id) do
      nil -> {:noreply, state}
      fuse -> {:noreply, arrive(state, fuse, change)}
    end
  end

  def handle_info({:settle, id}, state) do
    case fuse_of(state, id) do
      nil ->
        {:noreply, state}

      fuse ->
        Native.breaker_settle(fuse.breaker)
        {:noreply, set_timer(state, fuse)}
    end
  end

  def handle_info({:timeout, timer, {:release, id}}, state) do
    with %{} = fuse <- fuse_of(state, id), {^timer, held} <- state.held[id] do
      first = held |> Map.keys() |> Enum.min_by(&ahead(&1, fuse))
      fuse = %{fuse | sequence: Integer.mod(first - 1, @sequences)}
      # What waits behind another gap may wait as long again.
      {:noreply, tell_held(%{state | held: Map.delete(state.held, id)}, fuse, held)}
    else
      # Of a hold-back that is over.
      _another -> {:noreply, state}
    end
  end

  def handle_info(_stray, state), do: {:noreply, state}

  defp create(state, name, up, options, plugin) do
    with {:ok, id, breaker} <- new(name, options) do
      Stats.init(plugin, name)

      fuse = %{
        name: name,
        id: id,
        breaker: breaker,
        past: [],
        plugin: plugin,
        up: up,
        told: up,
        sequence: 0,
        heals: heals?(name, options)
      }

      state = keep(state, fuse)
      Event.notify({name, up})
      {:ok, state}
    end
  end

  defp reinstall(state, fuse, options) do
    case Native.breaker_reinstall(fuse.breaker, options) do
      :ok -> {:ok, keep(state, fuse)}
      {:error, _refusal} -> replace(state, fuse, options)
    end
  end

  # For more melts than the breaker has room for. The new one has twice the room, so they are few.
  defp replace(state, fuse, options) do
    with {:ok, id, breaker} <- new(fuse.name, options) do
      {state, fuse} = state |> drain(fuse) |> retire(fuse)
      disabled = Native.breaker_stats(fuse.breaker).mode == :forced_open

      if disabled,
        do: Native.breaker_set_mode(breaker, @forced_open),
        else: Event.notify({fuse.name, fuse.up})

      told = if disabled, do: :blown, else: fuse.up
      past = [fuse.breaker | fuse.past]
      {:ok, keep(state, %{fuse | id: id, breaker: breaker, past: past, told: told, sequence: 0})}
    end
  end

  defp new(name, options) do
    id = System.unique_integer([:positive])
    clock = ManualClock.clock(Table.namespace(name))
    with {:ok, breaker} <- Native.breaker_new(options, clock, id, self()), do: {:ok, id, breaker}
  end

  # A clock that a test moves knows nothing of timers, and a probe needs somebody's run.
  defp heals?(name, options),
    do: options.skip_half_open and ManualClock.clock(Table.namespace(name)) == :monotonic

  defp delete(state, fuse) do
    {state, fuse} = state |> drain(fuse) |> retire(fuse)
    Table.delete(fuse.name)
    Table.put_counters(fuse.name, Stats.sum(fuse))
    Monitor.clear(fuse.name)
    Event.notify({fuse.name, :removed})
    state
  end

  # Tells what was on its way before it goes.
  defp drain(state, %{id: id, name: name}) do
    receive do
      {:escope_breaker_event, ^id, change} ->
        fuse = Table.fetch(name)
        state |> arrive(fuse, change) |> drain(fuse)
    after
      0 -> state
    end
  end

  defp retire(state, %{id: id} = fuse) do
    state = cancel_timer(state, id)
    state = %{state | names: Map.delete(state.names, id), held: Map.delete(state.held, id)}
    {state, fuse}
  end

  defp keep(state, fuse) do
    Table.put(fuse)
    set_timer(put_in(state.names[fuse.id], fuse.name), fuse)
  end

  defp fuse_of(state, id) do
    case state.names do
      %{^id => name} -> Table.fetch(name)
      _removed -> nil
    end
  end

  defp arrive(state, _fuse, %{kind: :level}), do: state

  defp arrive(state, fuse, change) do
    {_timer, held} = Map.get(state.held, fuse.id, {nil, %{}})

    if ahead(change.sequence, fuse) in 1..div(@sequences, 2),
      do: tell_held(state, fuse, Map.put(held, change.sequence, change)),
      # Given up before it came.
      else: state
  end

  defp tell_held(state, %{id: id} = fuse, held) do
    {fuse, left} = tell_in_order(fuse, held)
    state = keep(state, fuse)

    if left == %{} do
      %{state | held: Map.delete(state.held, id)}
    else
      timer =
        case state.held do
          %{^id => {timer, _changes}} -> timer
          _none -> :erlang.start_timer(@hold_back_ms, self(), {:release, id})
        end

      put_in(state.held[id], {timer, left})
    end
  end

  defp tell_in_order(fuse, held) do
    case Map.pop(held, Integer.mod(fuse.sequence + 1, @sequences)) do
      {nil, held} -> {fuse, held}
      {change, held} -> fuse |> tell(change) |> tell_in_order(held)
    end
  end

  # To be whole is told each time that somebody made it so, to be blown only when it was not.
  defp tell(fuse, change) do
    now = if change.to == :closed, do: fuse.up, else: :blown
    unless now == :blown and fuse.told == :blown, do: Event.notify({fuse.name, now})
    %{fuse | told: now, sequence: change.sequence}
  end

  defp ahead(sequence, fuse), do: Integer.mod(sequence - fuse.sequence, @sequences)

  defp set_timer(state, fuse) do
    state = cancel_timer(state, fuse.id)

    case fuse.heals && Native.breaker_stats(fuse.breaker) do
      %{state: :open, mode: :auto, retry_after_ns: ns} ->
        ms = min(div(ns, @ns_in_ms) + 1, @day_ms)
        put_in(state.timers[fuse.id], Process.send_after(self(), {:settle, fuse.id}, ms))

      _not_waiting ->
        state
    end
  end

  defp cancel_timer(state, id) do
    {timer, timers} = Map.pop(state.timers, id)
    if timer, do: Process.cancel_timer(timer)
    %{state | timers: timers}
  end
end
