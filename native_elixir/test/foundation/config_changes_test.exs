defmodule ElixirScope.Foundation.ConfigChangesTest do
  # Who hears of a change of the configuration, and what it leaves behind, row by row of section 2.
  use ElixirScope.Foundation.FoundationCase

  import ExUnit.CaptureLog

  @debug [:dev, :debug_mode]

  setup do: fresh_production()

  describe "2 subscribe, unsubscribe" do
    test "of another process, as often as one likes" do
      test = self()

      other =
        spawn_link(fn ->
          receive do: ({:config_notification, news} -> send(test, {:other, news}))
          receive do: (:end -> :ok)
        end)

      for _ <- 1..2, do: assert(ConfigServer.subscribe(other) == :ok)
      assert {:ok, %{subscribers_count: 1}} = ConfigServer.status()
      :ok = ConfigServer.update(@debug, true)
      assert_receive {:other, {:config_updated, @debug, true}}
      for _ <- 1..2, do: assert(ConfigServer.unsubscribe(other) == :ok)
      assert {:ok, %{subscribers_count: 0}} = ConfigServer.status()
      :ok = ConfigServer.update(@debug, false)
      assert Process.info(other, :message_queue_len) == {:message_queue_len, 0}
      send(other, :end)
    end

    test "a subscriber that dies is dropped" do
      {pid, monitor} = spawn_monitor(fn -> receive do: (:end -> :ok) end)
      :ok = ConfigServer.subscribe(pid)
      assert {:ok, %{subscribers_count: 1}} = ConfigServer.status()
      send(pid, :end)
      assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}
      eventually(fn -> match?({:ok, %{subscribers_count: 0}}, ConfigServer.status()) end)
    end
  end

  test "2 messages: before the caller has its reply, one for each success and none for a failure" do
    :ok = Config.subscribe()
    :ok = Config.update(@debug, true)
    assert_received {:config_notification, {:config_updated, @debug, true}}
    {:error, _} = Config.update(@debug, :wrong)
    {:error, _} = Config.update([:ai, :provider], :openai)
    {:error, _} = Config.update([:no], 1)
    :ok = Config.reset()
    assert_received {:config_notification, {:config_reset, config}}
    assert config == %Types.Config{}
    refute_received {:config_notification, _news}
  end

  describe "2 what an update and a reset leave" do
    test "an event with its data" do
      :ok = ConfigServer.update([:interface, :max_results], 5)
      :ok = ConfigServer.update([:interface, :max_results], 6)
      assert {:ok, events} = EventStore.query(%{event_type: :config_updated})
      data = events |> Enum.map(& &1.data) |> Enum.sort_by(& &1.new_value)
      assert [%{new_value: 5} = first, %{new_value: 6} = second] = data
      for one <- data, do: assert(one.path == [:interface, :max_results])
      # As the result that it was, not the value.
      assert first.previous_value == {:ok, 1_000}
      assert second.previous_value == {:ok, 5}

      for one <- data,
          do:
            assert(
              one |> Map.keys() |> Enum.sort() == [:new_value, :path, :previous_value, :timestamp]
            )

      :ok = ConfigServer.reset()
      assert {:ok, [%{data: reset}]} = EventStore.query(%{event_type: :config_reset})
      assert %{reset_from_updates_count: 2} = reset
      assert Map.keys(reset) == [:reset_from_updates_count, :timestamp]
    end

    test "a count, with the path as its metadata" do
      :ok =
        TelemetryService.attach_handlers([
          [:foundation, :config_updates],
          [:foundation, :config_resets]
        ])

      log =
        capture_log(fn ->
          :ok = ConfigServer.update(@debug, true)
          :ok = ConfigServer.reset()
          {:error, _} = ConfigServer.update(@debug, 1)
          {:ok, _} = TelemetryService.get_metrics()
        end)

      assert log =~ "[:foundation, :config_updates]: %{counter: 1} %{path: [:dev, :debug_mode]}"
      assert log =~ "[:foundation, :config_resets]: %{counter: 1}"

      assert {:ok, %{foundation: %{config_updates: 1, config_resets: 1}}} =
               TelemetryService.get_metrics()
    end

    test "nothing where the other services are down, and the change is made" do
      terminate(:production, :event_store, EventStore)
      terminate(:production, :telemetry_service, TelemetryService)
      :ok = ConfigServer.subscribe()
      assert ConfigServer.update(@debug, true) == :ok
      assert_received {:config_notification, {:config_updated, @debug, true}}
      assert ConfigServer.get(@debug) == {:ok, true}
      assert ConfigServer.reset() == :ok
      assert ConfigServer.get(@debug) == {:ok, false}
    end
  end
end
