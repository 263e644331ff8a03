defmodule ElixirScope.Foundation.EventRetentionTest do
  # Events in memory only, within `storage.hot`. Not async: it sets the environment.
  use ElixirScope.Foundation.FoundationCase

  defp bounded(hot) do
    put_env(:storage, %{hot: Map.new(hot)})
    start_namespace()
  end

  defp ids(namespace) do
    {:ok, events} = EventStore.query(namespace, %{order_by: :event_id})
    Enum.map(events, & &1.event_id)
  end

  test "the events stored last stay, whatever their timestamps, and the store says so" do
    namespace = bounded(max_events: 10)

    assert {:ok, %{persistence: :memory, compression: :none, retention: %{max_events: 10}}} =
             EventStore.status(namespace)

    for id <- 1..12, do: {:ok, ^id} = EventStore.store(namespace, event(id, timestamp: -id))
    assert ids(namespace) == Enum.to_list(3..12)
    # Stored again is stored last.
    {:ok, 3} = EventStore.store(namespace, event(3))
    assert {:ok, [20, 21, 22]} = EventStore.store_batch(namespace, Enum.map(20..22, &event/1))
    assert ids(namespace) == [3, 7, 8, 9, 10, 11, 12, 20, 21, 22]
    assert {:error, %{error_type: :not_found}} = EventStore.get(namespace, 4)

    assert {:ok, %{events_stored: 16, events_pruned: 5, current_event_count: 10}} =
             EventStore.stats(namespace)
  end

  test "audit events are bounded like all others" do
    namespace = bounded(max_events: 5)

    for n <- 1..50 do
      :ok = ConfigServer.update(namespace, [:capture, :processing, :batch_size], n)
    end

    assert {:ok, events} = EventStore.query(namespace, %{event_type: :config_updated})
    assert Enum.sort(Enum.map(events, & &1.data.new_value)) == Enum.to_list(46..50)
  end

  test "events that nobody asks for go when they are too old" do
    namespace = bounded(max_age_seconds: 1, prune_interval: 10)
    {:ok, 1} = EventStore.store(namespace, event(1))

    eventually(
      fn -> match?({:ok, %{event_count: 0}}, EventStore.status(namespace)) end,
      20_000
    )

    assert {:ok, %{events_pruned: 1}} = EventStore.stats(namespace)
  end

  test "an update that is asked again after its process died is one event, counted once" do
    namespace = start_namespace()
    request = ConfigServer.update_request([:dev, :debug_mode], true)

    ask = fn ->
      :ok = ConfigServer.subscribe(namespace, self())
      {:ok, pid} = ServiceRegistry.lookup(namespace, :config_server)
      :ok = GenServer.call(pid, request)
      # To subscribers of this process it is a change: they have read what was before.
      assert_received {:config_notification, {:config_updated, [:dev, :debug_mode], true}}
    end

    ask.()
    kill(namespace, :config_server)
    {:ok, _pid} = ServiceRegistry.wait_for_service(namespace, :config_server)
    assert {:ok, false} = ConfigServer.get(namespace, [:dev, :debug_mode])
    ask.()
    assert {:ok, true} = ConfigServer.get(namespace, [:dev, :debug_mode])

    assert {:ok, [%{data: %{path: [:dev, :debug_mode]}}]} =
             EventStore.query(namespace, %{event_type: :config_updated})

    assert {:ok, %{foundation: %{config_updates: 1}}} = TelemetryService.get_metrics(namespace)

    # Another one is another one, also without an id.
    {:ok, pid} = ServiceRegistry.lookup(namespace, :config_server)
    :ok = GenServer.call(pid, {:update_config, [:dev, :debug_mode], false})
    assert {:ok, [_, _]} = EventStore.query(namespace, %{event_type: :config_updated})
    assert {:ok, %{foundation: %{config_updates: 2}}} = TelemetryService.get_metrics(namespace)
  end

  test "an update is asked again when its process dies before it answers" do
    namespace = start_namespace()
    {:ok, pid} = ServiceRegistry.lookup(namespace, :config_server)
    :ok = :sys.suspend(pid)
    update = Task.async(fn -> ConfigServer.update(namespace, [:dev, :debug_mode], true) end)
    eventually(fn -> Process.info(pid, :message_queue_len) == {:message_queue_len, 1} end)
    kill(namespace, :config_server)
    assert Task.await(update) == :ok
    assert {:ok, true} = ConfigServer.get(namespace, [:dev, :debug_mode])
    assert {:ok, [_one]} = EventStore.query(namespace, %{event_type: :config_updated})
  end
end
