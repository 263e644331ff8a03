defmodule ElixirScope.Foundation.EventsTest do
  # Making and reading events, row by row of section 3; see FactsTest for those that a numbered fact covers.
  use ElixirScope.Foundation.FoundationCase

  alias ElixirScope.Foundation.Logic.EventLogic

  @large String.duplicate("x", 10_001)

  setup do: fresh_production()

  describe "3 new_event" do
    test "fills id, monotonic milliseconds, wall clock, node and process" do
      before = {System.monotonic_time(:millisecond), DateTime.utc_now()}

      assert {:ok, %Types.Event{event_type: :spawn, data: %{a: 1}} = event} =
               Events.new_event(:spawn, %{a: 1})

      assert event.timestamp in elem(before, 0)..System.monotonic_time(:millisecond)
      assert DateTime.compare(event.wall_time, elem(before, 1)) in [:eq, :gt]
      assert {event.node, event.pid} == {node(), self()}
      assert {event.correlation_id, event.parent_id} == {nil, nil}
      assert {:ok, %{event_id: other}} = Events.new_event(:spawn, nil)
      # Databases store it in 64 bits.
      assert event.event_id in 1..(2 ** 63 - 1)
      assert other != event.event_id
    end

    test "takes each of them as an option" do
      {:ok, wall_time, 0} = DateTime.from_iso8601("2020-01-01T00:00:00Z")

      opts = [
        event_id: 5,
        timestamp: -5,
        wall_time: wall_time,
        node: :other@host,
        pid: spawn(fn -> :ok end),
        correlation_id: "c",
        parent_id: 4
      ]

      assert {:ok, event} = Events.new_event(:custom_event, :data, opts)
      assert event == struct(%Types.Event{event_type: :custom_event, data: :data}, opts)
      assert Events.debug_new_event(:custom_event, :data, opts) == event
      assert {:error, %Types.Error{code: 2002}} = Events.new_event(:spawn, 1, parent_id: -1)
    end

    test "debug_new_event gives the bare event or raises" do
      assert %Types.Event{event_type: :spawn, data: 1} = Events.debug_new_event(:spawn, 1)
      assert_raise ArgumentError, fn -> Events.debug_new_event(nil, 1) end
      assert_raise ArgumentError, fn -> Events.debug_new_event(:spawn, 1, event_id: 0) end
    end
  end

  describe "3 serialize, deserialize, serialized_size" do
    test "are a compressed term and back" do
      {:ok, event} = Events.new_event(:spawn, %{text: @large})
      assert {:ok, binary} = Events.serialize(event)
      assert :erlang.binary_to_term(binary) == event
      assert byte_size(binary) < 1_000
      assert Events.serialized_size(event) == {:ok, byte_size(binary)}
      assert Events.deserialize(binary) == {:ok, event}
    end

    test "of junk is deserialization_failed" do
      for junk <- ["", "junk", <<131, 80, 0>>, :erlang.term_to_binary(%{event_id: 1})] do
        assert {:error, %Types.Error{code: nil, error_type: :deserialization_failed}} =
                 Events.deserialize(junk)
      end
    end
  end

  test "3 function_entry: its data, and the caller's if given" do
    assert {:ok, %{event_type: :function_entry, data: data}} =
             Events.function_entry(Enum, :map, 2, [1, :b])

    assert Map.delete(data, :call_id) == %{
             module: Enum,
             function: :map,
             arity: 2,
             args: [1, :b],
             caller_module: nil,
             caller_function: nil,
             caller_line: nil
           }

    assert is_integer(data.call_id)

    assert {:ok, %{correlation_id: "c", parent_id: 7, data: data}} =
             Events.function_entry(Enum, :map, 2, [],
               caller_module: __MODULE__,
               caller_function: :f,
               caller_line: 9,
               correlation_id: "c",
               parent_id: 7
             )

    assert %{caller_module: __MODULE__, caller_function: :f, caller_line: 9} = data
  end

  test "3 function_exit: its data" do
    assert {:ok, %{event_type: :function_exit, data: data}} =
             Events.function_exit(Enum, :map, 2, 42, [:result], 1_500, :normal)

    assert data == %{
             call_id: 42,
             module: Enum,
             function: :map,
             arity: 2,
             result: [:result],
             duration_ns: 1_500,
             exit_reason: :normal
           }
  end

  test "3 state_change: its data, and whether there is a difference" do
    assert {:ok, %{event_type: :state_change, data: data}} =
             Events.state_change(self(), :handle_call, %{a: 1}, %{a: 2})

    assert data == %{
             server_pid: self(),
             callback: :handle_call,
             old_state: %{a: 1},
             new_state: %{a: 2},
             state_diff: :changed,
             trigger_message: nil,
             trigger_call_id: nil
           }

    assert {:ok, %{correlation_id: "c", data: data}} =
             Events.state_change(self(), :handle_info, 1, 1,
               trigger_message: :tick,
               trigger_call_id: 8,
               correlation_id: "c"
             )

    assert %{state_diff: :no_change, trigger_message: :tick, trigger_call_id: 8} = data
  end

  test "3 large arguments, results and states are cut short above 10,000 bytes" do
    {:ok, entry} = Events.function_entry(Enum, :map, 2, [@large])
    {:ok, leave} = Events.function_exit(Enum, :map, 2, 1, @large, 1, :normal)
    {:ok, change} = Events.state_change(self(), :handle_call, @large, [@large])

    for cut <- [entry.data.args, leave.data.result, change.data.old_state, change.data.new_state] do
      assert %{truncated: true, original_size: size, preview: preview, timestamp: _} = cut
      assert map_size(cut) == 4
      assert size > 10_000
      assert is_binary(preview) and byte_size(preview) < 1_000
    end

    # Whether there is a difference is seen before anything is cut.
    assert change.data.state_diff == :changed

    just = binary_part(@large, 0, 10_000 - :erlang.external_size(""))
    assert :erlang.external_size(just) == 10_000

    assert {:ok, %{data: %{result: ^just}}} =
             Events.function_exit(Enum, :map, 2, 1, just, 1, :normal)

    assert {:ok, %{data: %{result: %{truncated: true, original_size: 10_001}}}} =
             Events.function_exit(Enum, :map, 2, 1, just <> "x", 1, :normal)
  end

  test "3 get_time_range, get_recent: in the order of time; the recent ones are the oldest" do
    {:ok, _} = Events.store_batch(for id <- 1..150, do: event(id, timestamp: 1_000 - id))
    assert {:ok, [%{event_id: 150}, %{event_id: 149}]} = Events.get_recent(2)
    assert {:ok, recent} = Events.get_recent()
    assert Enum.map(recent, & &1.timestamp) == Enum.to_list(850..949)
    assert {:ok, [%{timestamp: 900}, %{timestamp: 901}]} = Events.get_time_range(900, 901)
    assert Events.get_time_range(0, 1) == {:ok, []}
  end

  describe "3 Logic.EventLogic" do
    test "extract_correlation_chain, group_by_correlation: nil is nobody's" do
      events = [
        event(3, correlation_id: "a"),
        event(2, correlation_id: "b"),
        event(1, correlation_id: "a"),
        event(4)
      ]

      assert [%{event_id: 1}, %{event_id: 3}] = EventLogic.extract_correlation_chain(events, "a")
      assert EventLogic.extract_correlation_chain(events, "c") == []

      assert %{"a" => [_, _], "b" => [%{event_id: 2}]} =
               groups = EventLogic.group_by_correlation(events)

      assert Map.keys(groups) == ["a", "b"]
    end

    test "filter_by_time_range, transform_event_data" do
      events = for id <- 1..5, do: event(id, timestamp: id)
      assert [%{event_id: 2}, %{event_id: 3}] = EventLogic.filter_by_time_range(events, 2, 3)
      assert EventLogic.filter_by_time_range(events, 3, 2) == []
      changed = EventLogic.transform_event_data(event(1, data: %{a: 1}), &Map.put(&1, :b, 2))
      assert changed == event(1, data: %{a: 1, b: 2})
    end
  end
end
