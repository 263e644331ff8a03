defmodule ElixirScope.Foundation.ServicesTest do
  # The rows of sections 1 to 5 of the existing layer that no numbered fact covers, and the mended defects.
  use ElixirScope.Foundation.FoundationCase, async: false

  import ExUnit.CaptureLog

  alias ElixirScope.Foundation
  alias ElixirScope.Foundation.Config.GracefulDegradation, as: ConfigFallback
  alias ElixirScope.Foundation.{ErrorContext, Events.GracefulDegradation, Logic, Validation}

  doctest Foundation
  doctest Config
  doctest ConfigFallback
  doctest ConfigServer
  doctest Events
  doctest EventStore
  doctest ErrorContext
  doctest GracefulDegradation
  doctest Logic.ConfigLogic
  doctest Logic.EventLogic
  doctest ServiceRegistry
  doctest Telemetry
  doctest TelemetryService
  doctest TestSupervisor
  doctest Types.Config
  doctest Types.Error
  doctest Types.Event
  doctest Utils
  doctest Validation.ConfigValidator
  doctest Validation.EventValidator

  setup do: fresh_production()

  describe "service registry" do
    test "names who is not there" do
      namespace = {:test, make_ref()}

      assert {:error,
              %Types.Error{
                code: 5001,
                severity: :medium,
                category: :system,
                subcategory: :discovery
              } = error} = ServiceRegistry.lookup(namespace, :x)

      assert error.context == %{namespace: namespace, service: :x}
      assert error.message =~ "Service :x not found"
      assert error.message =~ "namespace {:test"
    end

    test "health checks" do
      {:ok, pid} = ServiceRegistry.lookup(:production, :config_server)

      check = fn fun, opts ->
        ServiceRegistry.health_check(:production, :config_server, [health_check: fun] ++ opts)
      end

      assert {:ok, ^pid} = ServiceRegistry.health_check(:production, :config_server, [])
      for good <- [:ok, {:ok, 1}, true], do: assert({:ok, ^pid} = check.(fn ^pid -> good end, []))
      assert {:error, {:health_check_failed, :bad}} = check.(fn _ -> :bad end, [])
      assert {:error, {:health_check_error, %RuntimeError{}}} = check.(fn _ -> raise "no" end, [])

      assert {:error, :health_check_timeout} =
               check.(fn _ -> Process.sleep(:infinity) end, timeout: 1)

      capture_log(fn ->
        assert {:error, {:health_check_crashed, :gone}} = check.(fn _ -> exit(:gone) end, [])
      end)

      assert {:error, %Types.Error{code: 5001}} =
               ServiceRegistry.health_check(:production, :nobody, [])

      mortal = spawn(fn -> Process.sleep(:infinity) end)
      namespace = {:test, make_ref()}
      :ok = ServiceRegistry.register(namespace, :mortal, mortal)

      assert {:error, :process_dead} =
               ServiceRegistry.health_check(namespace, :mortal,
                 health_check: fn pid ->
                   monitor = Process.monitor(pid)
                   Process.exit(pid, :kill)
                   receive do: ({:DOWN, ^monitor, _, _, _} -> :ok)
                 end
               )
    end

    test "waiting and information" do
      namespace = start_namespace()
      assert {:error, :timeout} = ServiceRegistry.wait_for_service(namespace, :nobody, 1)
      assert {:ok, _pid} = ServiceRegistry.wait_for_service(namespace, :event_store)

      assert %{namespace: ^namespace, total_services: 3, healthy_services: 3, services: services} =
               ServiceRegistry.get_service_info(namespace)

      for {_name, info} <- services,
          do: assert(%{alive: true, uptime_ms: uptime} = info) && assert(uptime >= 0)
    end

    test "tells of look-ups" do
      :ok = ElixirScope.Foundation.TelemetryLog.attach()
      name = [:elixir_scope, :foundation, :registry, :lookup]
      {:ok, _} = ServiceRegistry.lookup(:production, :config_server)

      assert_received {:telemetry, ^name, %{duration: _},
                       %{namespace: :production, service: :config_server, result: :ok}}

      {:error, _} = ServiceRegistry.lookup(:production, :nobody)
      assert_received {:telemetry, ^name, _, %{service: :nobody, result: :error}}
    end
  end

  describe "configuration" do
    test "the environment is merged deep, as keyword list or map, and unknown keys are skipped" do
      put_env(:ai, planning: [default_strategy: :fast])
      put_env(:dev, %{debug_mode: true})
      :ok = ConfigServer.reset_state()
      assert {:ok, %{default_strategy: :fast, sampling_rate: 1.0}} = Config.get([:ai, :planning])
      assert {:ok, true} = Config.get([:dev, :debug_mode])
      assert {:ok, config} = Config.get()

      assert config |> Map.from_struct() |> Map.keys() == [
               :ai,
               :capture,
               :dev,
               :interface,
               :storage
             ]

      :ok = Config.reset()
      assert {:ok, false} = Config.get([:dev, :debug_mode])
    end

    test "variables of the system" do
      System.put_env("ELIXIR_SCOPE_TEST_PROVIDER", "openai")
      on_exit(fn -> System.delete_env("ELIXIR_SCOPE_TEST_PROVIDER") end)

      put_env(:ai,
        provider: {:system, "ELIXIR_SCOPE_TEST_PROVIDER"},
        api_key: {:system, "ELIXIR_SCOPE_TEST_NONE"}
      )

      assert {:ok, %{ai: %{provider: :openai, api_key: nil}}} = Logic.ConfigLogic.build_config()
    end

    test "start options replace sections, and others leave no trace" do
      namespace = {:test, make_ref()}
      dev = %{debug_mode: true, verbose_logging: true, performance_monitoring: true}
      {:ok, pid} = start_supervised({ConfigServer, namespace: namespace, dev: dev, odd: 1})
      assert {:ok, config} = ConfigServer.get(namespace, [])
      assert config == %Types.Config{dev: dev}
      assert GenServer.whereis(ConfigServer) == nil
      assert {:ok, ^pid} = ProcessRegistry.lookup(namespace, :config_server)
    end

    test "an invalid configuration does not start, and harms no caller" do
      Process.flag(:trap_exit, true)
      namespace = {:test, make_ref()}

      assert {:error, {:config_validation_failed, %Types.Error{error_type: :validation_failed}}} =
               ConfigServer.start_link(namespace: namespace, dev: %{})

      assert_receive {:EXIT, _pid, {:config_validation_failed, _error}}
      Process.flag(:trap_exit, false)

      assert {:error,
              %Types.Error{code: 5000, context: %{reason: {:config_validation_failed, _}}}} =
               ConfigServer.initialize(namespace: namespace, dev: %{})

      assert :ok = ConfigServer.initialize(namespace: namespace)
      assert :ok = ConfigServer.initialize(namespace: namespace)
      {:ok, pid} = ProcessRegistry.lookup(namespace, :config_server)
      assert pid in (self() |> Process.info(:links) |> elem(1))
    end

    test "every rule of the validator" do
      bad = [
        {[:ai, :provider], :none, 1002},
        {[:ai, :analysis, :max_file_size], 0, 1001},
        {[:ai, :analysis, :timeout], 1.5, 1001},
        {[:ai, :analysis, :cache_ttl], nil, 1001},
        {[:ai, :planning, :performance_target], -1, 1003},
        {[:ai, :planning, :sampling_rate], -0.1, 1004},
        {[:ai, :planning, :default_strategy], :odd, 1002},
        {[:capture, :ring_buffer, :max_events], 0, 1001},
        {[:capture, :ring_buffer, :overflow_strategy], :drop, 1002},
        {[:capture, :processing, :batch_size], 0, 1001},
        {[:capture, :processing, :flush_interval], 0, 1001},
        {[:capture, :processing, :max_queue_size], "1", 1001},
        {[:capture, :vm_tracing, :trace_children], 1, 1001},
        {[:storage, :hot, :max_events], 0, 1001},
        {[:storage, :hot, :max_age_seconds], 0, 1001},
        {[:storage, :hot, :prune_interval], 0, 1001},
        {[:storage, :warm, :enable], :yes, 1001},
        {[:storage, :warm], %{enable: true, path: 1, max_size_mb: 1, compression: :none}, 1001},
        {[:storage, :warm], %{enable: true, path: "x", max_size_mb: 0, compression: :none}, 1001},
        {[:storage, :warm], %{enable: true, path: "x", max_size_mb: 1, compression: :rar}, 1002},
        {[:storage, :cold, :enable], true, 1001},
        {[:interface, :query_timeout], 0, 1001},
        {[:interface, :max_results], 0, 1001},
        {[:interface, :enable_streaming], nil, 1001},
        {[:dev, :verbose_logging], 0, 1001},
        {[:dev, :performance_monitoring], "on", 1001},
        {[:dev], nil, 1001}
      ]

      for {path, value, code} <- bad do
        config = put_in(Types.Config.new(), path, value)

        assert {:error, %Types.Error{code: ^code, category: :config} = error} =
                 Config.validate(config)

        assert error.message =~ Enum.join(path, ".")
      end

      assert :ok = Config.validate(Types.Config.new(%{storage: %{warm: %{path: 1}}}))
      assert :ok = Config.validate(Types.Config.new(%{storage: %{warm: %{enable: true}}}))

      # The first error wins.
      both = Types.Config.new(%{ai: %{provider: :none}, dev: %{debug_mode: 1}})
      assert {:error, %{code: 1002}} = Config.validate(both)
    end

    test "safe updates" do
      for path <- [
            [:ai, :api_key],
            [:storage, :encryption_key],
            [:security],
            [:system, :node_name]
          ],
          do: assert({:error, %Error{code: 1401}} = Config.safe_update(path, 1))

      assert {:error, %Error{error_type: :invalid_path}} = Config.safe_update(:dev, 1)

      assert {:error, %Types.Error{error_type: :config_update_forbidden, code: nil}} =
               Config.safe_update([:ai], 1)

      assert :ok = Config.safe_update([:dev, :debug_mode], true)
      assert Config.get_with_default([:dev, :debug_mode], :default) == true
    end

    test "reset_state drops subscribers, tells nobody and keeps the namespace" do
      namespace = start_namespace()
      {:ok, pid} = ProcessRegistry.lookup(namespace, :config_server)
      :ok = ConfigServer.subscribe(namespace, self())
      :ok = GenServer.call(pid, :reset_state)
      :ok = ConfigServer.update(namespace, [:dev, :debug_mode], true)
      refute_received {:config_notification, _}
      assert {:ok, [%{event_type: :config_updated}]} = EventStore.query(namespace, %{})
      assert {:ok, []} = Events.query(%{event_type: :config_updated})
    end

    test "a fallback while the service is down" do
      ConfigFallback.initialize_fallback_system()
      on_exit(&ConfigFallback.cleanup_fallback_system/0)
      assert {:ok, :mock} = ConfigFallback.get_with_fallback([:ai, :provider])
      terminate(:production, :config_server, ConfigServer)
      assert {:ok, :mock} = ConfigFallback.get_with_fallback([:ai, :provider])

      assert {:error, %Error{error_type: :config_unavailable}} =
               ConfigFallback.get_with_fallback([:ai, :model])

      assert {:error, %Types.Error{code: 5000}} =
               ConfigFallback.update_with_fallback([:dev, :debug_mode], true)

      assert %{total_entries: 2, config_cache_entries: 1, pending_update_entries: 1} =
               ConfigFallback.get_cache_stats()

      :ets.insert(
        :config_fallback_cache,
        {{:config_cache, [:ai, :provider]}, :mock, System.system_time(:second) - 301}
      )

      assert {:error, %Error{error_type: :config_unavailable}} =
               ConfigFallback.get_with_fallback([:ai, :provider])

      :ok = ConfigFallback.cleanup_expired_cache()

      assert %{config_cache_entries: 0, pending_update_entries: 1} =
               ConfigFallback.get_cache_stats()

      {:ok, _} =
        Supervisor.restart_child(
          elem(ProcessRegistry.lookup(:production, {:supervisor, :services}), 1),
          ConfigServer
        )

      :ok = ConfigFallback.retry_pending_updates()
      assert {:ok, true} = Config.get([:dev, :debug_mode])
      assert %{pending_update_entries: 0} = ConfigFallback.get_cache_stats()
    end
  end

  describe "events" do
    test "queries" do
      {:ok, _} =
        EventStore.store_batch([
          event(1, event_type: :spawn, correlation_id: "a"),
          event(2, event_type: :exit, correlation_id: "a"),
          event(3, event_type: :spawn)
        ])

      ids = fn query ->
        {:ok, found} = EventStore.query(query)
        found |> Enum.map(& &1.event_id) |> Enum.sort()
      end

      assert ids.(%{}) == [1, 2, 3]
      assert ids.(%{event_type: :spawn}) == [1, 3]
      assert ids.(%{event_type: :spawn, correlation_id: "a"}) == [1]
      assert ids.(%{event_type: nil, limit: nil, unknown: 1}) == [1, 2, 3]
      for limit <- [0, -1], do: assert(ids.(%{limit: limit}) == [1, 2, 3])
      assert ids.(%{order_by: :timestamp, offset: 1, limit: 1}) == [2]

      for bad <- [%{time_range: 5}, %{time_range: {1, :now}}, %{offset: -1}, %{limit: :all}],
          do: assert({:error, %Types.Error{code: 2002}} = EventStore.query(bad))

      assert {:ok, [%{event_id: 1}, %{event_id: 2}]} = Events.get_time_range(1, 2)
      assert {:ok, [%{event_id: 1}]} = Events.get_recent(1)
      assert {:ok, [_, _]} = Events.get_correlation_chain("a")
    end

    test "the same id again replaces" do
      {:ok, 1} = EventStore.store(event(1, data: :old))
      {:ok, 1} = EventStore.store(event(1, data: :new))
      assert {:ok, %{data: :new}} = EventStore.get(1)
      assert {:ok, %{events_stored: 2, current_event_count: 1}} = EventStore.stats()
    end

    test "wrong types" do
      for {field, value} <- [
            event_id: 0,
            event_id: "1",
            event_type: "spawn",
            timestamp: 1.0,
            wall_time: 1,
            node: "n",
            pid: 1,
            correlation_id: :c,
            parent_id: -1
          ] do
        assert {:error, %Types.Error{code: 2002, error_type: :type_mismatch, severity: :medium}} =
                 EventStore.store(struct(event(1), [{field, value}]))
      end

      for field <- [:event_type, :timestamp],
          do:
            assert(
              {:error, %{code: 2001, severity: :high}} =
                EventStore.store(struct(event(1), [{field, nil}]))
            )

      assert :ok = Validation.EventValidator.validate_event_type(:link)
      assert {:error, %{code: 2004}} = Validation.EventValidator.validate_event_type(:odd)
      assert {:error, %{code: 2002}} = Validation.EventValidator.validate_event_type("link")
      assert {:ok, %{event_type: :odd}} = Events.new_event(:odd, nil)
      assert_raise ArgumentError, fn -> Events.debug_new_event(nil, 1) end
    end

    test "an event that nobody waits for is logged when it is not valid" do
      log =
        capture_log(fn ->
          :ok = EventStore.store_async(:production, Types.Event.new())
          {:ok, _} = EventStore.stats()
        end)

      assert log =~ "Event ID cannot be nil"
    end

    test "timestamps are monotonic milliseconds and ids positive" do
      before = System.monotonic_time(:millisecond)
      {:ok, event} = Events.new_event(:spawn, 1)
      assert event.timestamp in before..System.monotonic_time(:millisecond)
      assert event.event_id > 0 and event.event_id < 2 ** 63
      assert %{node: node, pid: pid, wall_time: %DateTime{}} = event
      assert {node, pid} == {node(), self()}
    end

    test "pure forms" do
      events = [event(2, correlation_id: "a"), event(1, correlation_id: "a"), event(3)]

      assert [%{event_id: 1}, %{event_id: 2}] =
               Logic.EventLogic.extract_correlation_chain(events, "a")

      assert %{"a" => [_, _]} = grouped = Logic.EventLogic.group_by_correlation(events)
      assert map_size(grouped) == 1
      assert Logic.EventLogic.transform_event_data(event(1, data: 1), &(&1 + 1)).data == 2
    end

    test "degradation never exits" do
      assert GracefulDegradation.serialize_safe(:term) |> GracefulDegradation.deserialize_safe() ==
               {:ok, :term}

      for junk <- ["junk", :junk],
          do:
            assert(
              {:error, %Error{error_type: :deserialization_failed}} =
                GracefulDegradation.deserialize_safe(junk)
            )

      assert {:ok, 1} = GracefulDegradation.store_safe(event(1))
      assert {:ok, [_]} = GracefulDegradation.query_safe(event_type: :custom_event)
      terminate(:production, :event_store, EventStore)

      assert {:error, %{error_type: :service_unavailable}} =
               GracefulDegradation.store_safe(event(1))

      assert {:error, %{error_type: :service_unavailable}} = GracefulDegradation.query_safe(%{})
    end
  end

  describe "telemetry" do
    test "measurements merge by their kind" do
      for {gauge, counter, mean, text} <- [{1, 2, 10, "a"}, {5, 3, 20, "b"}] do
        Telemetry.execute([:t], %{gauge: gauge, counter: counter, mean: mean, text: text}, %{
          first: gauge
        })
      end

      assert {:ok, metric} = Telemetry.get_metrics_for([:t])

      assert %{
               measurements: %{gauge: 5, counter: 5, mean: 15.0, text: "b"},
               metadata: %{first: 1},
               count: 2
             } = metric

      assert is_integer(metric.timestamp)
    end

    test "names nest, also below a metric and below a count" do
      Telemetry.emit_counter([:n], %{})
      Telemetry.emit_counter([:n, :below], %{})
      Telemetry.emit_counter([:foundation, :config_updates], %{})
      Telemetry.emit_counter([:foundation, :config_operations], %{})
      Telemetry.emit_counter([:foundation, :config_updates, :below], %{})
      Telemetry.emit_counter([:foundation, :events_stored], %{})
      TelemetryService.emit_counter([:foundation, :event_store, :events_stored], 7, %{})
      assert {:ok, metrics} = Telemetry.get_metrics()
      assert %{count: 1, below: %{count: 1}} = metrics.n
      assert metrics.foundation.config_operations == 1

      assert {:error, %Error{error_type: :data_not_found}} =
               Telemetry.get_metrics_for([:no, :such])
    end

    test "names that are none" do
      for name <- [[], :name, [:a | :b]],
          do: assert_raise(FunctionClauseError, fn -> Telemetry.execute(name, %{}, %{}) end)
    end

    test "shorthands" do
      assert Telemetry.time_function(__MODULE__, :f, fn -> 1 end) == 1
      assert :ok = Telemetry.emit_performance(:speed, 3)
      assert :ok = Telemetry.emit_performance(:speed, 5, %{a: 1})
      assert :ok = Telemetry.emit_system_event(:start)
      {:ok, %{elixir_scope: metrics}} = Telemetry.get_metrics()
      assert %{execution: %{stop: %{count: 1}}} = metrics.function
      assert %{speed: %{measurements: %{gauge: 5}}} = metrics.performance
      assert %{start: %{measurements: %{counter: 1}}} = metrics.system
    end

    test "the metrics of the VM are there from the start" do
      {:ok, %{vm: vm}} = TelemetryService.get_metrics(start_namespace())
      assert for({_name, metric} <- vm, do: metric.measurements) == List.duplicate(%{gauge: 1}, 3)
    end

    test "handlers write to the log until they are detached" do
      assert :ok = Telemetry.attach_handlers([[:handled], [:other]])
      assert {:ok, %{handlers_count: 2}} = Telemetry.status()

      emit = fn ->
        capture_log(fn ->
          Telemetry.emit_counter([:handled], %{})
          {:ok, _} = Telemetry.status()
        end)
      end

      assert emit.() =~ "[:handled]"
      assert :ok = Telemetry.detach_handlers([[:handled]])
      assert emit.() == ""
      assert {:ok, %{handlers_count: 1}} = Telemetry.status()
      assert :ok = TelemetryService.reset_metrics()
      assert {:ok, %{metrics_count: 0, handlers_count: 1}} = Telemetry.status()
    end

    test "only metrics older than the retention are forgotten" do
      namespace = {:test, make_ref()}

      {:ok, pid} =
        start_supervised({TelemetryService, namespace: namespace, metric_retention_ms: 3_600_000})

      :ok = TelemetryService.emit(namespace, [:young], %{counter: 1}, %{})
      send(pid, :cleanup)
      assert {:ok, %{young: _}} = TelemetryService.get_metrics(namespace)

      other = {:test, make_ref()}

      {:ok, pid} =
        start_supervised({TelemetryService, namespace: other, metric_retention_ms: -1}, id: :short)

      :ok = TelemetryService.emit(other, [:old], %{counter: 1}, %{})
      send(pid, :cleanup)
      {:ok, metrics} = TelemetryService.get_metrics(other)
      assert Map.keys(metrics) == [:retrieved_at]
    end

    test "down, emitting is silent" do
      terminate(:production, :telemetry_service, TelemetryService)
      assert :ok = Telemetry.execute([:t], %{}, %{})
      assert :ok = Telemetry.emit_gauge([:t], 1, %{})
      assert Telemetry.measure([:t], %{}, fn -> 1 end) == 1
      assert :ok = Telemetry.detach_handlers([[:t]])

      for call <- [
            &Telemetry.get_metrics/0,
            &Telemetry.status/0,
            &TelemetryService.reset_metrics/0,
            fn -> Telemetry.attach_handlers([]) end
          ] do
        assert {:error,
                %Types.Error{
                  code: nil,
                  error_type: :service_unavailable,
                  severity: :medium,
                  subcategory: :initialization
                }} = call.()
      end

      refute Telemetry.available?()
      assert {:error, %{error_type: :service_unavailable}} = Foundation.status()
      assert {:error, %{error_type: :service_unavailable}} = Foundation.health()
      refute Foundation.available?()
    end

    test "errors are counted" do
      Error.collect_error_metrics(Error.new(:timeout))

      assert {:ok, %{count: 1}} =
               Telemetry.get_metrics_for([:foundation, :errors, :external, :timeout])
    end
  end

  describe "the whole" do
    test "status, health and version" do
      assert {:ok,
              %{
                config: %{status: :running},
                events: %{status: :running},
                telemetry: %{status: :running}
              }} = Foundation.status()

      assert {:ok,
              %{
                status: :healthy,
                timestamp: timestamp,
                services: %{},
                foundation_available: true,
                elixir_version: _,
                otp_release: _
              }} = Foundation.health()

      assert is_integer(timestamp)
      assert Foundation.version() =~ ~r/^\d+\.\d+\.\d+/
      assert Events.available?()
    end

    test "stopped services are started again" do
      for {service, name} <- [
            {ConfigServer, :config_server},
            {EventStore, :event_store},
            {TelemetryService, :telemetry_service}
          ] do
        {:ok, old} = ProcessRegistry.lookup(:production, name)
        assert :ok = service.stop()

        eventually(fn ->
          match?({:ok, new} when new != old, ProcessRegistry.lookup(:production, name))
        end)
      end
    end

    test "without the application every call says so, and nothing raises" do
      capture_log(fn ->
        assert :ok = Foundation.shutdown()
        assert :ok = Foundation.shutdown()
        refute Foundation.available?()
        for service <- [Config, Events, Telemetry], do: refute(service.available?())
        assert {:error, %Types.Error{code: 5000}} = Config.get()
        assert {:error, %Types.Error{code: 3000}} = Events.store(event(1))
        assert {:error, %Types.Error{code: nil}} = Telemetry.get_metrics()
        assert {:error, %Types.Error{code: 5000}} = Config.initialize()
        assert :ok = Telemetry.emit_counter([:t], %{})
        assert :ok = ConfigServer.stop()

        assert {:error, %Types.Error{code: 5001}} =
                 ServiceRegistry.lookup(:production, :config_server)

        {:ok, _started} = Application.ensure_all_started(:elixir_scope_foundation)
      end)

      assert Foundation.available?()
      assert {:ok, :mock} = Config.get([:ai, :provider])
    end

    test "services die at most as often as the supervisor expects" do
      namespace = start_namespace()

      for _ <- 1..8, name <- [:config_server, :event_store, :telemetry_service] do
        kill(namespace, name)
        {:ok, _} = ServiceRegistry.wait_for_service(namespace, name)
      end

      assert {:ok, :mock} = ConfigServer.get(namespace, [:ai, :provider])
    end
  end

  describe "error contexts" do
    test "children, breadcrumbs and metadata" do
      parent = ErrorContext.new(A, :f, correlation_id: "c", metadata: %{a: 1})
      assert [%{module: A, function: :f, metadata: %{a: 1}, timestamp: _}] = parent.breadcrumbs
      child = ErrorContext.child_context(parent, B, :g, %{b: 2})
      assert %{correlation_id: "c", metadata: %{a: 1, b: 2}, parent_context: ^parent} = child
      assert child.operation_id != parent.operation_id
      assert length(child.breadcrumbs) == 2
      more = child |> ErrorContext.add_breadcrumb(C, :h) |> ErrorContext.add_metadata(%{c: 3})
      assert length(more.breadcrumbs) == 3
      assert more.metadata == %{a: 1, b: 2, c: 3}
      assert ErrorContext.format_breadcrumbs(child) =~ ~r/^A\.f \(.* ago\) -> B\.g \(.* ago\)$/
      assert byte_size(ErrorContext.new(A, :f).correlation_id) == 36
    end

    test "errors get the context" do
      context = ErrorContext.new(A, :f, metadata: %{a: 1})

      for error <- [Error.new(:timeout), elem(ConfigServer.get([:no]), 1)] do
        enhanced = ErrorContext.enhance_error(error, context)

        assert %{
                 operation_id: _,
                 correlation_id: id,
                 breadcrumbs: [_],
                 duration_ns: _,
                 metadata: %{a: 1}
               } = enhanced.context.operation_context

        assert enhanced.correlation_id == id

        assert {:error, %{context: %{extra: 1}}} =
                 ErrorContext.add_context({:error, error}, context, %{extra: 1})
      end

      assert {:error, %Error{context: %{original_reason: :enoent}}} =
               ErrorContext.add_context({:error, :enoent}, context)

      assert ErrorContext.add_context({:ok, 1}, context) == {:ok, 1}
    end

    test "an exception becomes an error, and an outer context comes back" do
      outer = ErrorContext.new(A, :f)

      ErrorContext.with_context(outer, fn ->
        {:error, error} =
          ErrorContext.with_context(ErrorContext.new(B, :g), fn -> raise "broken" end)

        assert %Error{error_type: :internal_error, message: message} = error
        assert message =~ "broken"
        assert ErrorContext.get_current_context() == outer
      end)

      assert ErrorContext.get_current_context() == nil
    end
  end

  test "identifiers" do
    assert Utils.generate_correlation_id() =~
             ~r/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

    ids = for _ <- 1..1_000, do: Utils.generate_id()
    assert length(Enum.uniq(ids)) == 1_000
    assert Utils.retry(fn -> {:ok, 1} end) == {:ok, 1}

    assert {:error, %RuntimeError{}} =
             Utils.retry(fn -> raise "x" end, max_attempts: 2, base_delay: 1)
  end
end
