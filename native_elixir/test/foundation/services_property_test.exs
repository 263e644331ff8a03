defmodule ElixirScope.Foundation.ServicesPropertyTest do
  # Any history of calls of the three services is that of a model of a few lines.
  use ElixirScope.Foundation.FoundationCase

  import ElixirScope.Foundation.Properties

  @paths [[:dev, :debug_mode], [:dev, :verbose_logging], [:ai, :provider], [:no], [:dev, :no]]

  describe "configuration" do
    test "any history of updates and resets is the model's" do
      value = :proper_types.oneof([:proper_types.boolean(), :proper_types.integer(), nil, "on"])
      update = {:update, :proper_types.elements(@paths), value}
      call = :proper_types.frequency([{8, update}, {1, :reset}])
      check_all(:proper_types.list(call), 100, &configured_as_the_model/1)
    end
  end

  defp configured_as_the_model(calls) do
    namespace = start_namespace()
    defaults = %{[:dev, :debug_mode] => false, [:dev, :verbose_logging] => false}

    Enum.reduce(calls, defaults, fn call, model ->
      model = configure(call, namespace, model)
      for {path, value} <- model, do: assert(ConfigServer.get(namespace, path) == {:ok, value})
      assert {:ok, :mock} = ConfigServer.get(namespace, [:ai, :provider])
      {:ok, config} = ConfigServer.get(namespace, [])
      assert ConfigServer.validate(config) == :ok
      model
    end)
  end

  # Only what may change does, and only to what it may be.
  defp configure({:update, path, value}, namespace, model) do
    answer = ConfigServer.update(namespace, path, value)

    if is_map_key(model, path) and is_boolean(value) do
      assert answer == :ok
      Map.put(model, path, value)
    else
      assert {:error, %Types.Error{}} = answer
      model
    end
  end

  defp configure(:reset, namespace, model) do
    {:ok, pid} = ServiceRegistry.lookup(namespace, :config_server)
    assert GenServer.call(pid, :reset_config) == :ok
    Map.new(model, fn {path, _value} -> {path, false} end)
  end

  describe "events" do
    test "any history of stores, batches, queries and prunes is the model's" do
      event =
        {:proper_types.integer(1, 20), :proper_types.integer(-5, 30),
         :proper_types.elements(["a", "b", nil])}

      call =
        :proper_types.frequency([
          {5, {:store, event}},
          {2, {:batch, :proper_types.list(event)}},
          {1, {:wrong_batch, :proper_types.list(event)}},
          {1, {:prune, :proper_types.integer(-5, 30)}}
        ])

      check_all(:proper_types.list(call), 100, &stored_as_the_model/1)
    end
  end

  defp stored_as_the_model(calls) do
    namespace = start_namespace()

    Enum.reduce(calls, %{}, fn call, model ->
      model = change(call, namespace, model)
      by_id = model |> Map.values() |> Enum.sort_by(& &1.event_id)
      assert EventStore.query(namespace, %{order_by: :event_id}) == {:ok, by_id}

      middle = by_id |> Enum.drop(2) |> Enum.take(3)
      window = %{order_by: :event_id, offset: 2, limit: 3}
      assert EventStore.query(namespace, window) == {:ok, middle}

      {:ok, ranged} = EventStore.query(namespace, %{time_range: {0, 10}, order_by: :timestamp})
      assert Enum.map(ranged, & &1.timestamp) == Enum.sort(Enum.map(ranged, & &1.timestamp))
      assert Enum.sort(ranged) == Enum.sort(Enum.filter(by_id, &(&1.timestamp in 0..10)))

      {:ok, pid} = ServiceRegistry.lookup(namespace, :event_store)
      {:ok, chain} = GenServer.call(pid, {:get_by_correlation, "a"})
      assert Enum.map(chain, & &1.timestamp) == Enum.sort(Enum.map(chain, & &1.timestamp))
      assert Enum.sort(chain) == Enum.sort(Enum.filter(by_id, &(&1.correlation_id == "a")))
      model
    end)
  end

  defp change({:store, fields}, namespace, model) do
    event = made(fields)
    assert EventStore.store(namespace, event) == {:ok, event.event_id}
    Map.put(model, event.event_id, event)
  end

  defp change({:batch, batch}, namespace, model) do
    events = Enum.map(batch, &made/1)
    assert EventStore.store_batch(namespace, events) == {:ok, Enum.map(events, & &1.event_id)}
    Enum.reduce(events, model, &Map.put(&2, &1.event_id, &1))
  end

  defp change({:wrong_batch, batch}, namespace, model) do
    events = Enum.map(batch, &made/1) ++ [Types.Event.new()]
    assert {:error, %{error_type: :validation_failed}} = EventStore.store_batch(namespace, events)
    model
  end

  defp change({:prune, timestamp}, namespace, model) do
    kept = Map.reject(model, fn {_id, event} -> event.timestamp < timestamp end)
    pruned = map_size(model) - map_size(kept)
    assert EventStore.prune_before(namespace, timestamp) == {:ok, pruned}
    kept
  end

  defp made({id, timestamp, correlation_id}),
    do: event(id) |> Map.merge(%{timestamp: timestamp, correlation_id: correlation_id})

  describe "telemetry" do
    test "counters are summed, gauges are the last, others are averaged pair by pair" do
      name = :proper_types.elements([[:a], [:b, :c], [:b, :d]])
      kind = :proper_types.elements([:counter, :gauge, :duration])
      emission = {name, kind, :proper_types.integer()}
      check_all(:proper_types.list(emission), 100, &measured_as_the_model/1)
    end
  end

  defp measured_as_the_model(emissions) do
    namespace = start_namespace()

    for {name, kind, value} <- emissions,
        do: TelemetryService.emit(namespace, name, %{kind => value}, %{})

    {:ok, metrics} = TelemetryService.get_metrics(namespace)
    groups = Enum.group_by(emissions, &elem(&1, 0))

    for name <- [[:a], [:b, :c], [:b, :d]] do
      expected = Map.get(groups, name, [])
      metric = get_in(metrics, name)
      if expected == [], do: assert(metric == nil), else: measured(metric, expected)
    end
  end

  defp measured(metric, emissions) do
    assert metric.count == length(emissions)

    values = Enum.group_by(emissions, &elem(&1, 1), &elem(&1, 2))
    assert Enum.sort(Map.keys(metric.measurements)) == Enum.sort(Map.keys(values))
    for {kind, values} <- values, do: assert(metric.measurements[kind] == aggregate(kind, values))
  end

  defp aggregate(:counter, values), do: Enum.sum(values)
  defp aggregate(:gauge, values), do: List.last(values)
  defp aggregate(:duration, [first | rest]), do: Enum.reduce(rest, first, &((&1 + &2) / 2))
end
