defmodule ElixirScope.Foundation.TelemetryServiceTest do
  # The collector of metrics as the existing layer has it, row by row of section 4; see FactsTest for those that a numbered
  # fact covers.
  use ElixirScope.Foundation.FoundationCase

  import ExUnit.CaptureLog

  alias ElixirScope.Foundation

  setup do: fresh_production()

  defp metric(name) do
    {:ok, metric} = Telemetry.get_metrics_for(name)
    metric
  end

  test "4 down: emissions are silent, functions are run, and all else is service_unavailable" do
    terminate(:production, :telemetry_service, TelemetryService)
    refute TelemetryService.available?() or Telemetry.available?()

    for call <- [
          fn -> Telemetry.execute([:t], %{a: 1}, %{}) end,
          fn -> Telemetry.emit_counter([:t], %{}) end,
          fn -> TelemetryService.emit_counter([:t], 2, %{}) end,
          fn -> Telemetry.emit_gauge([:t], 1, %{}) end,
          fn -> Telemetry.emit_performance(:speed, 1) end,
          fn -> Telemetry.emit_system_event(:start) end,
          fn -> Telemetry.detach_handlers([[:t]]) end,
          &TelemetryService.stop/0
        ],
        do: assert(call.() == :ok)

    assert Telemetry.measure([:t], %{}, fn -> :result end) == :result
    assert Telemetry.time_function(__MODULE__, :f, fn -> :result end) == :result

    assert_raise ArgumentError, fn ->
      Telemetry.measure([:t], %{}, fn -> raise ArgumentError end)
    end

    for call <- [
          &Telemetry.get_metrics/0,
          &Telemetry.status/0,
          fn -> Telemetry.get_metrics_for([:t]) end,
          fn -> Telemetry.attach_handlers([[:t]]) end,
          &TelemetryService.reset_metrics/0,
          &TelemetryService.reset_state/0
        ] do
      assert {:error,
              %Types.Error{
                code: nil,
                error_type: :service_unavailable,
                severity: :medium,
                category: :system,
                subcategory: :initialization
              }} = call.()
    end
  end

  test "4 execute: a caller sees its own emissions, all of them" do
    for n <- 1..1_000 do
      assert Telemetry.execute([:own], %{n: n}, %{}) == :ok
      if rem(n, 100) == 0, do: assert(metric([:own]).count == n)
    end
  end

  test "4 emit_counter, emit_gauge: under which key the number stands" do
    assert Telemetry.emit_counter([:c], %{}) == :ok
    assert metric([:c]).measurements == %{counter: 1}
    assert TelemetryService.emit_counter([:c], 5, %{}) == :ok
    assert metric([:c]).measurements == %{counter: 6}
    assert Telemetry.emit_gauge([:g], 7, %{}) == :ok
    assert Telemetry.emit_gauge([:g], 2.5, %{}) == :ok
    assert metric([:g]).measurements == %{gauge: 2.5}
    refute function_exported?(Telemetry, :emit_counter, 3)
  end

  describe "4 measure" do
    test "runs in the caller and tells how long it took, in native units" do
      test = self()

      assert Telemetry.measure([:m], %{a: 1}, fn ->
               Process.sleep(5)
               {self(), :bare}
             end) == {test, :bare}

      assert %{stop: %{measurements: %{duration: duration}, metadata: %{a: 1}}} = metric([:m])
      assert System.convert_time_unit(duration, :native, :millisecond) in 5..60_000
    end

    test "of an exception tells of it, and raises it with its stack" do
      stack =
        try do
          Telemetry.measure([:m], %{a: 1}, fn -> List.first(:no_list) end)
        rescue
          FunctionClauseError -> __STACKTRACE__
        end

      assert {List, :first, [:no_list | _], _} = hd(stack)
      assert %{exception: exception} = metrics = metric([:m])
      assert Map.keys(metrics) == [:exception]

      assert %{measurements: %{duration: _}, metadata: %{a: 1, error: %FunctionClauseError{}}} =
               exception
    end

    test "of a throw or an exit tells nothing" do
      assert catch_throw(Telemetry.measure([:m], %{}, fn -> throw(:ball) end)) == :ball
      assert catch_exit(Telemetry.measure([:m], %{}, fn -> exit(:out) end)) == :out
      assert {:error, %Error{error_type: :data_not_found}} = Telemetry.get_metrics_for([:m])
    end
  end

  test "4 attach_handlers, detach_handlers: emissions of these names go to the log, level debug" do
    assert Telemetry.attach_handlers([[:logged], [:other, :logged]]) == :ok
    assert {:ok, %{handlers_count: 2}} = Telemetry.status()

    log = fn level ->
      capture_log([level: level], fn ->
        Telemetry.execute([:logged], %{n: 42}, %{why: :test})
        Telemetry.execute([:logged, :below], %{n: 43}, %{})
        {:ok, _} = Telemetry.status()
      end)
    end

    assert log.(:debug) =~ ~r/\[:logged\].*n: 42.*test/
    refute log.(:debug) =~ "n: 43"
    assert log.(:info) == ""
    assert Telemetry.detach_handlers([[:logged], [:unknown]]) == :ok
    assert log.(:debug) == ""
    assert {:ok, %{handlers_count: 1}} = Telemetry.status()
  end

  test "4 status: what it has, and the configuration with the start options merged in" do
    Telemetry.emit_counter([:a], %{})
    Telemetry.emit_counter([:a, :b], %{})

    assert {:ok, %{status: :running, metrics_count: 2, handlers_count: 0, config: config}} =
             Telemetry.status()

    assert config == %{
             enable_vm_metrics: true,
             enable_process_metrics: true,
             metric_retention_ms: 300_000,
             cleanup_interval: 60_000
           }

    namespace = {:test, make_ref()}

    start_supervised!(
      {TelemetryService, namespace: namespace, metric_retention_ms: 5, odd: :option}
    )

    assert {:ok, %{config: other}} = TelemetryService.status(namespace)
    assert other == Map.merge(config, %{metric_retention_ms: 5, odd: :option})
  end

  test "4 reset_metrics keeps the handlers, reset_state drops them and is for tests only" do
    Telemetry.emit_counter([:a], %{})
    :ok = Telemetry.attach_handlers([[:a]])
    assert TelemetryService.reset_metrics() == :ok
    assert {:ok, %{metrics_count: 0, handlers_count: 1}} = Telemetry.status()
    Telemetry.emit_counter([:b], %{})
    assert TelemetryService.reset_state() == :ok
    assert {:ok, %{metrics_count: 0, handlers_count: 0}} = Telemetry.status()
    put_env(:test_mode, false)
    assert TelemetryService.reset_metrics() == :ok

    assert {:error,
            %Types.Error{
              code: 7002,
              error_type: :operation_forbidden,
              severity: :high,
              category: :security,
              subcategory: :authorization
            }} = TelemetryService.reset_state()
  end

  test "4 time_function, emit_performance, emit_system_event: their names, kinds and metadata" do
    assert Telemetry.time_function(__MODULE__, :f, fn -> :result end) == :result

    assert %{measurements: %{duration: _}, metadata: %{module: __MODULE__, function: :f}} =
             metric([:elixir_scope, :function, :execution, :stop])

    assert Telemetry.emit_performance(:speed, 3) == :ok
    assert Telemetry.emit_performance(:size, 4, %{unit: :byte}) == :ok
    assert metric([:elixir_scope, :performance, :speed]).measurements == %{gauge: 3}

    assert %{measurements: %{gauge: 4}, metadata: %{unit: :byte}} =
             metric([:elixir_scope, :performance, :size])

    assert Telemetry.emit_system_event(:start) == :ok
    assert Telemetry.emit_system_event(:stop, %{reason: :test}) == :ok
    assert metric([:elixir_scope, :system, :start]).measurements == %{counter: 1}

    assert %{measurements: %{counter: 1}, metadata: %{reason: :test}} =
             metric([:elixir_scope, :system, :stop])
  end

  describe "4 an entry" do
    test "has the time of now, the metadata of the first emission, and a count" do
      before = System.monotonic_time()
      Telemetry.execute([:e], %{n: 1}, %{first: true})
      first = metric([:e])
      assert Map.keys(first) == [:count, :measurements, :metadata, :timestamp]
      assert first.timestamp in before..System.monotonic_time()
      Telemetry.execute([:e], %{n: 1}, %{first: false, more: 1})
      assert %{metadata: %{first: true}, count: 2} = second = metric([:e])
      assert map_size(second.metadata) == 1
    end

    test "merges gauges, counters, other numbers, and what is no number" do
      for {gauge, counter, other, text} <- [{5, 2, 10, :a}, {1, 3, 20, "b"}, {:odd, 4, 45, 3}],
          do:
            Telemetry.execute(
              [:e],
              %{gauge: gauge, counter: counter, other: other, text: text},
              %{}
            )

      # Mean of what was there and what came: (10 + 20) / 2 = 15, (15 + 45) / 2 = 30.
      assert metric([:e]).measurements == %{gauge: :odd, counter: 9, other: 30.0, text: 3}
      Telemetry.execute([:e], %{new: 1}, %{})
      assert metric([:e]).measurements == %{gauge: :odd, counter: 9, other: 30.0, text: 3, new: 1}
    end
  end

  describe "4 get_metrics" do
    test "nests names, and says when" do
      Telemetry.emit_counter([:a], %{})
      Telemetry.emit_counter([:a, :b, :c], %{})
      Telemetry.emit_counter([:d, :e], %{})
      before = System.monotonic_time()
      assert {:ok, metrics} = Telemetry.get_metrics()
      assert %{a: %{count: 1, b: %{c: %{count: 1}}}, d: %{e: %{count: 1}}} = metrics
      assert metrics.retrieved_at in before..System.monotonic_time()
    end

    test "shows four names as the number of emissions, whatever they summed" do
      emit = &TelemetryService.emit_counter([:foundation | &1], 7, %{})
      names = [:config_updates, :config_resets, :config_operations]
      for name <- names, _ <- 1..2, do: emit.([name])
      for _ <- 1..3, do: emit.([:event_store, :events_stored])
      emit.([:event_store, :other])
      assert {:ok, %{foundation: foundation}} = Telemetry.get_metrics()

      assert %{
               config_updates: 2,
               config_resets: 2,
               config_operations: 2,
               events_stored: 3,
               event_store: %{other: %{measurements: %{counter: 7}}}
             } = foundation

      refute is_map_key(foundation.event_store, :events_stored)
    end

    test "has three gauges of the VM from the start, of value 1" do
      {:ok, %{vm: vm}} = TelemetryService.get_metrics(start_namespace())
      assert map_size(vm) == 3

      for {_name, metric} <- vm,
          do: assert(%{measurements: %{gauge: 1}, count: 1} = metric)
    end
  end

  test "4 initialize, available?: as for the other services" do
    assert Telemetry.initialize() == :ok
    assert Telemetry.initialize(metric_retention_ms: 1) == :ok
    assert {:ok, %{config: %{metric_retention_ms: 300_000}}} = Telemetry.status()
    terminate(:production, :telemetry_service, TelemetryService)
    assert TelemetryService.initialize(metric_retention_ms: 7) == :ok
    assert {:ok, %{config: %{metric_retention_ms: 7}}} = Telemetry.status()
    assert Telemetry.available?() and Foundation.available?()
    assert TelemetryService.stop() == :ok
    refute Telemetry.available?() or Foundation.available?()
  end
end
