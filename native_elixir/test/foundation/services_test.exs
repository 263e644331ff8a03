defmodule ElixirScope.Foundation.ServicesTest do
  # The services together: how they are found and checked, their documentation's examples, and the defects of the existing
  # layer that are mended here.
  use ElixirScope.Foundation.FoundationCase, async: false

  import ExUnit.CaptureLog

  alias ElixirScope.Foundation
  alias ElixirScope.Foundation.Config.GracefulDegradation, as: ConfigFallback
  alias ElixirScope.Foundation.Contracts
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

  describe "1 ServiceRegistry" do
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

      assert services |> Map.keys() |> Enum.sort() ==
               [:config_server, :event_store, :telemetry_service]

      for {name, info} <- services do
        assert %{alive: true, pid: pid, uptime_ms: uptime} = info
        assert {:ok, pid} == ServiceRegistry.lookup(namespace, name)
        assert is_integer(uptime) and uptime >= 0
      end
    end

    test "tells of look-ups and registrations" do
      :ok = ElixirScope.Foundation.TelemetryLog.attach()
      event = [:elixir_scope, :foundation, :registry]
      lookup = event ++ [:lookup]
      {:ok, _} = ServiceRegistry.lookup(:production, :config_server)

      assert_received {:telemetry, ^lookup, %{duration: duration},
                       %{namespace: :production, service: :config_server, result: :ok}}

      assert is_integer(duration) and duration >= 0
      {:error, _} = ServiceRegistry.lookup(:production, :nobody)
      assert_received {:telemetry, ^lookup, _, %{service: :nobody, result: :error}}

      register = event ++ [:register]
      namespace = {:test, make_ref()}
      on_exit(fn -> ServiceRegistry.unregister(namespace, :me) end)
      :ok = ServiceRegistry.register(namespace, :me, self())

      assert_received {:telemetry, ^register, %{count: 1},
                       %{namespace: ^namespace, service: :me, result: :ok}}

      {:error, {:already_registered, _}} =
        ServiceRegistry.register(namespace, :me, spawn(fn -> 1 end))

      assert_received {:telemetry, ^register, %{count: 1}, %{service: :me, result: :error}}
    end

    test "waits as long as it takes a service to come, and no longer" do
      namespace = {:test, make_ref()}
      test = self()

      waiter =
        Task.async(fn ->
          {ServiceRegistry.wait_for_service(namespace, :late), System.monotonic_time()}
        end)

      Process.sleep(50)
      on_exit(fn -> ServiceRegistry.unregister(namespace, :late) end)
      registered = System.monotonic_time()
      :ok = ServiceRegistry.register(namespace, :late, test)
      assert {{:ok, ^test}, found} = Task.await(waiter)
      assert found > registered

      started = System.monotonic_time(:millisecond)
      assert {:error, :timeout} = ServiceRegistry.wait_for_service(namespace, :never, 30)
      assert System.monotonic_time(:millisecond) - started >= 30
    end
  end

  describe "configuration" do
    test "variables of the system" do
      System.put_env("ELIXIR_SCOPE_TEST_PROVIDER", "openai")
      on_exit(fn -> System.delete_env("ELIXIR_SCOPE_TEST_PROVIDER") end)

      put_env(:ai,
        provider: {:system, "ELIXIR_SCOPE_TEST_PROVIDER"},
        api_key: {:system, "ELIXIR_SCOPE_TEST_NONE"}
      )

      assert {:ok, %{ai: %{provider: :openai, api_key: nil}}} = Logic.ConfigLogic.build_config()
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
  end

  describe "events" do
    test "an event that nobody waits for is logged when it is not valid" do
      log =
        capture_log(fn ->
          :ok = EventStore.store_async(:production, Types.Event.new())
          {:ok, _} = EventStore.stats()
        end)

      assert log =~ "Event ID cannot be nil"
    end
  end

  describe "telemetry" do
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

    test "5 collect_error_metrics: a counter by category and subcategory" do
      assert Error.collect_error_metrics(Error.new(:timeout)) == :ok

      assert {:ok, %{count: 1, measurements: %{counter: 1}}} =
               Telemetry.get_metrics_for([:foundation, :errors, :external, :timeout])
    end
  end

  describe "the whole" do
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

    test "2 to 4: the services and their thin modules have the behaviour of their contract" do
      for {contract, modules} <- [
            {Contracts.Configurable, [Config, ConfigServer]},
            {Contracts.EventStore, [Events, EventStore]},
            {Contracts.Telemetry, [Telemetry, TelemetryService]}
          ],
          module <- modules do
        Code.ensure_loaded!(module)

        behaviours =
          for {:behaviour, list} <- module.module_info(:attributes), one <- list, do: one

        assert contract in behaviours

        for {function, arity} <- contract.behaviour_info(:callbacks),
            do: assert(function_exported?(module, function, arity))
      end
    end

    test "2 to 4: a call that is not answered within five seconds ends its caller, as of any GenServer" do
      calls = [
        config_server: &ConfigServer.get/0,
        event_store: &EventStore.stats/0,
        telemetry_service: &TelemetryService.get_metrics/0
      ]

      callers =
        for {name, call} <- calls do
          {:ok, pid} = ProcessRegistry.lookup(:production, name)
          :ok = :sys.suspend(pid)
          on_exit(fn -> :sys.resume(pid) end)
          {pid, Task.async(fn -> :timer.tc(fn -> catch_exit(call.()) end) end)}
        end

      for {pid, caller} <- callers do
        assert {time, {:timeout, {GenServer, :call, [^pid | _]}}} = Task.await(caller, 60_000)
        assert time >= 5_000_000
      end
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
end
