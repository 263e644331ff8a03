defmodule ElixirScope.Foundation.EventStoreTest do
  # The keeper of events as the existing layer has it, row by row of section 3; see FactsTest for those that a numbered fact
  # covers.
  use ElixirScope.Foundation.FoundationCase

  import ExUnit.CaptureLog

  @stored [:foundation, :event_store, :events_stored]

  setup do: fresh_production()

  # Ids in the order of the answer.
  defp ids(query) do
    {:ok, events} = EventStore.query(query)
    Enum.map(events, & &1.event_id)
  end

  test "3 Types.Event: its fields are nil by default; new/0, new(atom), new(keyword)" do
    fields = ~w(correlation_id data event_id event_type node parent_id pid timestamp wall_time)a

    event = Types.Event.new()
    assert event |> Map.from_struct() |> Map.keys() |> Enum.sort() == fields
    for field <- fields, do: assert(Map.fetch!(event, field) == nil)
    assert Types.Event.new(:spawn) == %Types.Event{event_type: :spawn}

    assert Types.Event.new(event_id: 1, data: 2, node: node()) ==
             %Types.Event{event_id: 1, data: 2, node: node()}
  end

  test "3 down: each call that needs the process is service_unavailable 3000" do
    assert EventStore.available?() and Events.available?()
    terminate(:production, :event_store, EventStore)
    refute EventStore.available?() or Events.available?()

    for call <- [
          fn -> EventStore.store(event(1)) end,
          fn -> EventStore.store_batch([event(1)]) end,
          fn -> EventStore.store_batch([]) end,
          fn -> EventStore.get(1) end,
          fn -> EventStore.query(%{}) end,
          fn -> EventStore.get_by_correlation("c") end,
          fn -> EventStore.prune_before(0) end,
          &EventStore.stats/0,
          &EventStore.status/0,
          &EventStore.reset_state/0,
          fn -> Events.store(event(1)) end,
          fn -> Events.query(event_type: :spawn) end,
          fn -> Events.get_correlation_chain("c") end,
          fn -> Events.get_time_range(0, 1) end,
          &Events.get_recent/0,
          &Events.stats/0,
          &Events.status/0
        ] do
      assert {:error,
              %Types.Error{
                code: 3000,
                error_type: :service_unavailable,
                severity: :high,
                category: :system,
                subcategory: :availability
              }} = call.()
    end

    assert EventStore.stop() == :ok
  end

  describe "3 store" do
    test "keeps the event's id; the same id overwrites" do
      assert EventStore.store(event(77, data: :old)) == {:ok, 77}
      assert EventStore.store(event(77, data: :new)) == {:ok, 77}
      assert EventStore.get(77) == {:ok, event(77, data: :new)}
      assert ids(%{}) == [77]
    end

    test "counts one, with type and id as metadata" do
      :ok = TelemetryService.attach_handlers([@stored])

      log =
        capture_log(fn ->
          {:ok, 5} = EventStore.store(event(5))
          {:ok, _metrics} = TelemetryService.get_metrics()
        end)

      assert [emission] = Regex.scan(~r/\[:foundation, :event_store.*/, log)
      assert emission |> hd() =~ "%{counter: 1} %{event_id: 5, event_type: :custom_event}"
      assert {:ok, %{foundation: %{events_stored: 1}}} = TelemetryService.get_metrics()
    end
  end

  describe "3 store_batch" do
    test "gives the ids in the order of the input, and nothing for nothing" do
      assert EventStore.store_batch(for id <- [9, 3, 7], do: event(id)) == {:ok, [9, 3, 7]}
      assert EventStore.store_batch([]) == {:ok, []}
      assert Enum.sort(ids(%{})) == [3, 7, 9]
    end

    test "is all or nothing, wherever the invalid event stands" do
      bad = %{event(4) | timestamp: "now"}

      for events <- [[bad, event(1)], [event(1), bad], [event(1), bad, event(2)]] do
        assert {:error, %Types.Error{code: 2002}} = EventStore.store_batch(events)
        assert ids(%{}) == []
      end

      assert {:ok, %{events_stored: 0}} = EventStore.stats()
    end

    test "counts itself once, with its size as value and metadata" do
      :ok = TelemetryService.attach_handlers([@stored])

      log =
        capture_log(fn ->
          {:ok, _ids} = EventStore.store_batch(for id <- 1..3, do: event(id))
          {:ok, _metrics} = TelemetryService.get_metrics()
        end)

      assert [emission] = Regex.scan(~r/\[:foundation, :event_store.*/, log)
      assert emission |> hd() =~ "%{counter: 3} %{batch_size: 3}"
      assert {:ok, %{foundation: %{events_stored: 1}}} = TelemetryService.get_metrics()
    end
  end

  test "3 get: the event, not_found, or a FunctionClauseError for what is no id" do
    {:ok, 1} = EventStore.store(event(1))
    assert EventStore.get(1) == {:ok, event(1)}
    assert Events.get(1) == {:ok, event(1)}

    assert {:error,
            %Types.Error{
              code: 3001,
              error_type: :not_found,
              severity: :low,
              category: :data,
              subcategory: :retrieval,
              context: %{event_id: 2}
            }} = EventStore.get(2)

    for id <- [0, -1, 1.0, "1", nil, :one],
        do: assert_raise(FunctionClauseError, fn -> EventStore.get(id) end)
  end

  describe "3 query" do
    setup do
      {:ok, _ids} =
        EventStore.store_batch([
          event(1, event_type: :spawn, timestamp: 40),
          event(2, event_type: :exit, timestamp: 30),
          event(3, event_type: :spawn, timestamp: 20),
          event(4, event_type: :exit, timestamp: 10)
        ])

      :ok
    end

    test "by type and by a range of time, both ends included" do
      assert ids(%{event_type: :spawn, order_by: :event_id}) == [1, 3]
      assert ids(%{event_type: :link}) == []
      assert ids(%{time_range: {20, 30}, order_by: :event_id}) == [2, 3]
      assert ids(%{time_range: {31, 39}}) == []
      assert ids(%{event_type: :exit, time_range: {0, 20}}) == [4]
    end

    test "ordered ascending, or in no order" do
      assert ids(%{order_by: :event_id}) == [1, 2, 3, 4]
      assert ids(%{order_by: :timestamp}) == [4, 3, 2, 1]
      for query <- [%{}, %{order_by: :other}], do: assert(Enum.sort(ids(query)) == [1, 2, 3, 4])
    end

    test "offset after the order, limit after the offset; a limit of 0 or less is none" do
      assert ids(%{order_by: :timestamp, offset: 1}) == [3, 2, 1]
      assert ids(%{order_by: :timestamp, limit: 2}) == [4, 3]
      assert ids(%{order_by: :timestamp, offset: 1, limit: 2}) == [3, 2]
      assert ids(%{order_by: :event_id, offset: 4}) == []
      assert ids(%{order_by: :event_id, event_type: :exit, offset: 1, limit: 5}) == [4]
      for limit <- [0, -1], do: assert(ids(%{order_by: :event_id, limit: limit}) == [1, 2, 3, 4])
    end

    test "ignores keys that it does not know" do
      assert ids(%{order_by: :event_id, unknown: 1, limit: 1}) == [1]
      assert ids(%{:order_by => :event_id, "limit" => 1}) == [1, 2, 3, 4]
    end

    test "by correlation id too; nil is as good as absent, and a value of the wrong type is 2002" do
      {:ok, 5} = EventStore.store(event(5, event_type: :spawn, correlation_id: "c"))
      assert ids(%{correlation_id: "c"}) == [5]
      assert ids(%{correlation_id: "c", event_type: :exit}) == []
      nothing = Map.from_keys([:event_type, :correlation_id, :time_range, :offset, :limit], nil)
      assert nothing |> Map.put(:order_by, :event_id) |> ids() == [1, 2, 3, 4, 5]

      for bad <- [%{time_range: 5}, %{time_range: {1, :now}}, %{offset: -1}, %{limit: :all}],
          do: assert({:error, %Types.Error{code: 2002}} = EventStore.query(bad))
    end

    test "of Events takes a keyword list too" do
      for query <- [%{order_by: :event_id, limit: 1}, [order_by: :event_id, limit: 1]],
          do: assert({:ok, [%{event_id: 1}]} = Events.query(query))
    end
  end

  test "3 get_by_correlation: ascending by timestamp, or nothing" do
    for {id, timestamp} <- [{1, 30}, {2, -10}, {3, 20}],
        do: EventStore.store(event(id, correlation_id: "c", timestamp: timestamp))

    EventStore.store(event(4))

    for call <- [
          &EventStore.get_by_correlation/1,
          &Events.get_by_correlation/1,
          &Events.get_correlation_chain/1
        ] do
      assert {:ok, [%{event_id: 2}, %{event_id: 3}, %{event_id: 1}]} = call.("c")
      assert call.("none") == {:ok, []}
    end
  end

  test "3 prune_before: drops what is before the timestamp, not what is at it" do
    {:ok, _} = EventStore.store_batch(for t <- 1..5, do: event(t, timestamp: t - 3))
    assert EventStore.prune_before(-2) == {:ok, 0}
    assert EventStore.prune_before(0) == {:ok, 2}
    assert ids(%{order_by: :event_id}) == [3, 4, 5]
    assert Events.prune_before(100) == {:ok, 3}

    assert {:ok, %{events_stored: 5, events_pruned: 5, current_event_count: 0}} =
             EventStore.stats()
  end

  test "3 stats, status: the counts, the estimate of 1000 bytes an event, the next id" do
    assert {:ok, %{status: :running, event_count: 0, next_id: 1}} = EventStore.status()
    before = System.monotonic_time(:millisecond)

    for {id, next_id} <- [{10, 11}, {3, 12}, {10, 13}, {100, 101}] do
      {:ok, ^id} = EventStore.store(event(id))
      assert {:ok, %{next_id: ^next_id}} = EventStore.status()
    end

    assert {:ok, stats} = EventStore.stats()

    assert %{
             events_stored: 4,
             events_pruned: 0,
             current_event_count: 3,
             memory_usage_estimate: 3_000
           } = stats

    assert stats |> Map.keys() |> Enum.sort() ==
             ~w(current_event_count events_pruned events_stored memory_usage_estimate start_time uptime_ms)a

    assert stats.start_time <= before
    assert stats.uptime_ms in 0..(System.monotonic_time(:millisecond) - stats.start_time)
    assert {:ok, %{status: :running, event_count: 3}} = Events.status()
  end

  test "3 reset_state: empties everything, in test mode only" do
    {:ok, 9} = EventStore.store(event(9))
    {:ok, 1} = EventStore.prune_before(10)
    {:ok, 5} = EventStore.store(event(5))
    assert EventStore.reset_state() == :ok
    assert {:ok, %{event_count: 0, next_id: 1}} = EventStore.status()

    assert {:ok, %{events_stored: 0, events_pruned: 0, current_event_count: 0}} =
             EventStore.stats()

    put_env(:test_mode, false)

    assert {:error,
            %Types.Error{
              code: 3002,
              error_type: :operation_forbidden,
              severity: :high,
              category: :security,
              subcategory: :authorization
            }} = EventStore.reset_state()
  end

  test "3 initialize, stop: as for the configuration" do
    for service <- [EventStore, Events] do
      assert service.initialize() == :ok
      assert service.initialize(odd: 1) == :ok
    end

    terminate(:production, :event_store, EventStore)
    assert EventStore.initialize() == :ok
    {:ok, pid} = ProcessRegistry.lookup(:production, :event_store)
    assert pid in (self() |> Process.info(:links) |> elem(1))
    assert EventStore.available?()
    assert EventStore.stop() == :ok
    refute EventStore.available?()
    assert EventStore.stop() == :ok
  end
end
