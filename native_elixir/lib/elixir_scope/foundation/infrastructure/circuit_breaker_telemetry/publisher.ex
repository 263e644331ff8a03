defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerTelemetry.Publisher do
  @moduledoc false
  # One process a namespace: gets the changes of its breakers, puts them in order, tells telemetry and subscribers.
  use GenServer, restart: :transient

  alias ElixirScope.Foundation.Infrastructure.CircuitBreakerTelemetry.Order
  alias ElixirScope.Foundation.Infrastructure.{Names, Native, Telemetry}

  @table ElixirScope.Foundation.Infrastructure.CircuitBreakerTelemetry
  @hold_back_events 64
  @hold_back_ms 100

  @spec start_link({Names.namespace(), GenServer.name()}) :: GenServer.on_start()
  def start_link({namespace, name}), do: GenServer.start_link(__MODULE__, namespace, name: name)

  @impl true
  def init(namespace) do
    for {_service, handle} <- Names.list(:breaker, namespace),
        do: Native.breaker_publish_to(handle.breaker, self())

    # `held`: by the id of a breaker, the timer of its hold-back and what is held.
    {:ok, %{held: %{}, subscribers: %{}, published: 0, dropped: 0}}
  end

  @impl true
  def handle_call({:subscribe, pid}, _from, state) do
    subscribers = Map.put_new_lazy(state.subscribers, pid, fn -> Process.monitor(pid) end)
    {:reply, :ok, %{state | subscribers: subscribers}}
  end

  def handle_call({:unsubscribe, pid}, _from, state),
    do: {:reply, :ok, drop_subscriber(state, pid)}

  def handle_call(:sync, _from, state), do: {:reply, :ok, state}

  def handle_call(:stats, _from, state),
    do: {:reply, %{published_events: state.published, dropped_events: state.dropped}, state}

  @impl true
  def handle_cast({:retire, ids}, state) do
    Enum.each(ids, &:ets.delete(@table, &1))
    {:noreply, %{state | held: Map.drop(state.held, ids)}}
  end

  @impl true
  def handle_info({:escope_breaker_event, id, change}, state) do
    case breaker(state, id) do
      nil ->
        {:noreply, state}

      {named, order} ->
        {ready, order} = Order.push(order, Map.merge(change, named))
        {:noreply, state |> publish(id, ready, order) |> keep(id, order)}
    end
  end

  def handle_info({:timeout, timer, id}, state) do
    case state.held do
      %{^id => {^timer, _changes}} -> {:noreply, release(state, id)}
      # Of a hold-back that is over: what is held now may wait its own time.
      _another -> {:noreply, state}
    end
  end

  def handle_info({:DOWN, _monitor, :process, pid, _reason}, state),
    do: {:noreply, drop_subscriber(state, pid)}

  # Nothing else is meant for this process, and a stray message is no reason to lose what is held back.
  def handle_info(_stray, state), do: {:noreply, state}

  # Who a breaker is and how far it has been told; nil if it was removed.
  defp breaker(state, id) do
    with [{^id, namespace, service, generation, level}] <- :ets.lookup(@table, id) do
      {_timer, held} = Map.get(state.held, id, {nil, %{}})
      order = %{generation: generation, level: level, held: held}
      {%{namespace: namespace, service: service}, order}
    else
      [] -> nil
    end
  end

  defp keep(state, id, %{held: held}) when held == %{},
    do: %{state | held: Map.delete(state.held, id)}

  defp keep(state, id, order) do
    timer =
      case state.held do
        %{^id => {timer, _changes}} -> timer
        _none -> :erlang.start_timer(@hold_back_ms, self(), id)
      end

    state = put_in(state.held[id], {timer, order.held})
    if map_size(order.held) >= @hold_back_events, do: release(state, id), else: state
  end

  # The hold-back is over: gives up on what is missing.
  defp release(state, id) do
    case breaker(state, id) do
      nil ->
        %{state | held: Map.delete(state.held, id)}

      {_named, order} ->
        {changes, missing, order} = Order.flush(order)
        state = publish(%{state | dropped: state.dropped + missing}, id, changes, order)
        keep(state, id, order)
    end
  end

  defp publish(state, _id, [], _order), do: state

  defp publish(state, id, changes, order) do
    :ets.update_element(@table, id, [{4, order.generation}, {5, order.level}])

    for change <- changes do
      tell(change)
      for {pid, _monitor} <- state.subscribers, do: send(pid, {:circuit_breaker_event, change})
    end

    %{state | published: state.published + length(changes)}
  end

  defp tell(change) do
    measurements = Map.take(change, [:sequence, :generation, :at_ns])
    metadata = Map.take(change, [:namespace, :service, :from, :to, :mode, :cause])

    case change do
      %{cause: :level_changed} -> execute(:degraded, measurements, levels(metadata, change))
      %{cause: :would_open} -> execute(:would_open, measurements, levels(metadata, change))
      %{from: same, to: same, cause: cause} -> execute(cause, measurements, metadata)
      _other_phase -> execute(:state_change, measurements, metadata)
    end

    if change.cause == :mode_changed and change.from != change.to,
      do: execute(:mode_changed, measurements, metadata)
  end

  defp levels(metadata, change),
    do: Map.merge(metadata, Map.take(change, [:from_level, :to_level]))

  defp execute(event, measurements, metadata),
    do: Telemetry.record(metadata.namespace, [:circuit_breaker, event], measurements, metadata)

  defp drop_subscriber(state, pid) do
    {monitor, subscribers} = Map.pop(state.subscribers, pid)
    if monitor, do: Process.demonitor(monitor, [:flush])
    %{state | subscribers: subscribers}
  end
end
