defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerTelemetry do
  @moduledoc """
  Publishes what circuit breakers do. One process a namespace.

  The native library sends each change of a breaker to this process inside of the call that caused it, so a
  caller that is killed cannot take an event with it. Messages of several callers may overtake each other;
  each carries the breaker's gapless sequence number, and the publisher holds an event back until its
  predecessors have come, at most 64 events and 100 ms. What is still missing then is counted as
  dropped, and an event that comes later than that is dropped too: order is never broken.

  Telemetry events, after the prefix:

  | event | measurements | metadata |
  | --- | --- | --- |
  | `[:circuit_breaker, :state_change]` | `sequence`, `generation`, `at_ns` | `namespace`, `service`, `from`, `to`, `cause` |
  | `[:circuit_breaker, :reset]` | the same | the same; a reset of a closed breaker |
  | `[:circuit_breaker, :call_executed]` | `count` | `namespace`, `service`, `result` (`:success` or `:failure`) |
  | `[:circuit_breaker, :call_rejected]` | `count`, `retry_after_ms` | `namespace`, `service`, `reason` |

  The last two happen at every call and are emitted only after `call_events(true)`.
  """
  use GenServer, restart: :transient

  alias ElixirScope.Foundation.Infrastructure.{Names, Native, Telemetry}
  alias ElixirScope.Foundation.ProcessRegistry

  @supervisor ElixirScope.Foundation.Infrastructure.PublisherSupervisor
  @hold_back_events 64
  @hold_back_ms 100
  # Sequence numbers wrap with the breaker's generation.
  @sequences 0x1000_0000

  @type change :: %{
          namespace: Names.namespace(),
          service: atom(),
          sequence: pos_integer(),
          generation: pos_integer(),
          from: :closed | :open | :half_open,
          to: :closed | :open | :half_open,
          cause:
            :failure_threshold
            | :open_elapsed
            | :probes_succeeded
            | :probes_failed
            | :probe_expired
            | :reset,
          at_ns: non_neg_integer()
        }

  @doc """
  Sends `{:circuit_breaker_event, change}` to `pid` at each change of a breaker of this namespace, in order.
  """
  @spec subscribe(Names.namespace(), pid()) :: :ok | {:error, ElixirScope.Foundation.Error.t()}
  def subscribe(namespace, pid \\ self()) when is_pid(pid) do
    with :ok <- Names.check(namespace, :subscriber),
         {:ok, publisher} <- ensure(namespace),
         do: GenServer.call(publisher, {:subscribe, pid})
  end

  @doc "Ends a subscription."
  @spec unsubscribe(Names.namespace(), pid()) :: :ok
  def unsubscribe(namespace, pid \\ self()) do
    case publisher(namespace) do
      {:ok, publisher} -> GenServer.call(publisher, {:unsubscribe, pid})
      :error -> :ok
    end
  end

  @doc "Returns when every change that happened before the call is published."
  @spec sync(Names.namespace()) :: :ok
  def sync(namespace) do
    case publisher(namespace) do
      {:ok, publisher} -> GenServer.call(publisher, :sync)
      :error -> :ok
    end
  end

  @doc "How many changes of this namespace were published, and how many got lost."
  @spec stats(Names.namespace()) :: %{
          published_events: non_neg_integer(),
          dropped_events: non_neg_integer()
        }
  def stats(namespace) do
    case publisher(namespace) do
      {:ok, publisher} -> GenServer.call(publisher, :stats)
      :error -> %{published_events: 0, dropped_events: 0}
    end
  end

  @doc "Switches the events of single calls on or off, for all breakers."
  @spec call_events(boolean()) :: :ok
  def call_events(on) when is_boolean(on), do: :persistent_term.put(__MODULE__, on)

  @doc false
  @spec call_events?() :: boolean()
  def call_events?, do: :persistent_term.get(__MODULE__, false)

  @doc false
  @spec executed(Names.namespace(), atom(), :success | :failure) :: :ok
  def executed(namespace, service, result) do
    metadata = %{namespace: namespace, service: service, result: result}
    Telemetry.execute([:circuit_breaker, :call_executed], %{count: 1}, metadata)
  end

  @doc false
  @spec rejected(Names.namespace(), atom(), atom(), non_neg_integer()) :: :ok
  def rejected(namespace, service, reason, retry_after_ms) do
    measurements = %{count: 1, retry_after_ms: retry_after_ms}
    metadata = %{namespace: namespace, service: service, reason: reason}
    Telemetry.execute([:circuit_breaker, :call_rejected], measurements, metadata)
  end

  @doc false
  @spec create_table() :: :ok
  def create_table do
    # {id of a breaker, namespace, service, last published sequence}: outlives a publisher that crashes.
    :ets.new(__MODULE__, [:named_table, :public, :set])
    :ok
  end

  # A new breaker; whatever had its name before is not told about any more. Which those are is found out here, in
  # the one process that makes breakers: the publisher may look only after the next one has been made.
  @doc false
  @spec announce(pid(), integer(), Names.namespace(), atom()) :: :ok
  def announce(publisher, id, namespace, service) do
    predecessors = ids(namespace, service)
    :ets.insert(__MODULE__, {id, namespace, service, 0})
    GenServer.cast(publisher, {:retire, predecessors})
  end

  # The breakers that have or had this name and are told about.
  @doc false
  @spec ids(Names.namespace(), atom()) :: [integer()]
  def ids(namespace, service) do
    List.flatten(:ets.match(__MODULE__, {:"$1", namespace, service, :_}))
  rescue
    # The application does not run.
    ArgumentError -> []
  end

  @doc false
  @spec retire(Names.namespace(), [integer()]) :: :ok
  def retire(namespace, ids) do
    with {:ok, publisher} <- publisher(namespace), do: GenServer.cast(publisher, {:retire, ids})
    :ok
  end

  @doc false
  @spec ensure(Names.namespace()) :: {:ok, pid()} | {:error, ElixirScope.Foundation.Error.t()}
  def ensure(namespace) do
    with :error <- publisher(namespace) do
      case DynamicSupervisor.start_child(@supervisor, {__MODULE__, namespace}) do
        {:ok, pid} -> {:ok, pid}
        {:error, {:already_started, pid}} -> {:ok, pid}
      end
    end
  catch
    :exit, {:noproc, _call} -> {:error, Names.not_running(:noproc)}
  end

  @doc false
  @spec stop(Names.namespace()) :: :ok
  def stop(namespace) do
    with {:ok, pid} <- publisher(namespace),
         do: DynamicSupervisor.terminate_child(@supervisor, pid)

    :ets.match_delete(__MODULE__, {:_, namespace, :_, :_})
    :ok
  end

  @doc false
  @spec start_link(Names.namespace()) :: GenServer.on_start()
  def start_link(namespace),
    do: GenServer.start_link(__MODULE__, namespace, name: name(namespace))

  defp publisher(namespace), do: ProcessRegistry.lookup(namespace, {__MODULE__})
  defp name(namespace), do: ProcessRegistry.via_tuple(namespace, {__MODULE__})

  @impl true
  def init(namespace) do
    for {_service, {breaker, _timeout}} <- Names.list(:breaker, namespace),
        do: Native.breaker_publish_to(breaker, self())

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
    Enum.each(ids, &:ets.delete(__MODULE__, &1))
    {:noreply, %{state | held: Map.drop(state.held, ids)}}
  end

  @impl true
  def handle_info({:escope_breaker_event, id, change}, state) do
    case :ets.lookup(__MODULE__, id) do
      [{^id, namespace, service, last}] ->
        event = Map.merge(change, %{namespace: namespace, service: service})
        {:noreply, receive_event(state, id, last, event)}

      # A breaker that was removed.
      [] ->
        {:noreply, state}
    end
  end

  def handle_info({:release, id}, state), do: {:noreply, release(state, id)}

  def handle_info({:DOWN, _monitor, :process, pid, _reason}, state),
    do: {:noreply, drop_subscriber(state, pid)}

  # Nothing else is meant for this process, and a stray message is no reason to lose what is held back.
  def handle_info(_stray, state), do: {:noreply, state}

  defp receive_event(state, id, last, event) do
    case distance(last, event.sequence) do
      1 -> state |> publish(id, event) |> publish_held(id)
      ahead when ahead > 1 and ahead < div(@sequences, 2) -> hold(state, id, event)
      # Counted when it was given up.
      _late -> state
    end
  end

  defp hold(state, id, event) do
    held = Map.get(state.held, id, %{})
    if held == %{}, do: Process.send_after(self(), {:release, id}, @hold_back_ms)
    state = put_in(state.held[id], Map.put(held, event.sequence, event))
    if map_size(held) + 1 >= @hold_back_events, do: release(state, id), else: state
  end

  # Publishes what is next in line, as far as it has come.
  defp publish_held(state, id) do
    last = last_sequence(id)

    case pop_in(state.held[id][next(last)]) do
      {nil, _same} -> tidy(state, id)
      {event, state} -> state |> publish(id, event) |> publish_held(id)
    end
  end

  # The hold-back is over: gives up on what is missing before the first held event.
  defp release(state, id) do
    case state.held[id] do
      nil ->
        state

      held ->
        last = last_sequence(id)
        first = held |> Map.keys() |> Enum.min_by(&distance(last, &1))
        missing = distance(last, first) - 1
        state = skip_to(%{state | dropped: state.dropped + missing}, id, first)
        if state.held[id], do: release(state, id), else: state
    end
  end

  defp skip_to(state, id, sequence) do
    {event, state} = pop_in(state.held[id][sequence])
    state |> publish(id, event) |> publish_held(id)
  end

  defp tidy(state, id) do
    if state.held[id] in [nil, %{}], do: %{state | held: Map.delete(state.held, id)}, else: state
  end

  defp publish(state, id, event) do
    :ets.update_element(__MODULE__, id, {4, event.sequence})
    measurements = Map.take(event, [:sequence, :generation, :at_ns])
    metadata = Map.take(event, [:namespace, :service, :from, :to, :cause])
    kind = if event.from == event.to, do: :reset, else: :state_change
    Telemetry.execute([:circuit_breaker, kind], measurements, metadata)
    for {pid, _monitor} <- state.subscribers, do: send(pid, {:circuit_breaker_event, event})
    %{state | published: state.published + 1}
  end

  defp last_sequence(id), do: :ets.lookup_element(__MODULE__, id, 4)
  defp next(sequence), do: rem(sequence + 1, @sequences)
  defp distance(from, to), do: Integer.mod(to - from, @sequences)

  defp drop_subscriber(state, pid) do
    {monitor, subscribers} = Map.pop(state.subscribers, pid)
    if monitor, do: Process.demonitor(monitor, [:flush])
    %{state | subscribers: subscribers}
  end
end
