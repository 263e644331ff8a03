defmodule ElixirScope.Foundation.ServiceFailuresTest do
  # What counts against a service and what does not (section 7 of the facts).
  use ElixirScope.Foundation.FoundationCase, async: false

  alias ElixirScope.Foundation.Infrastructure
  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, CircuitBreakerRegistry}

  @path [:ai, :provider]
  @updatable [:dev, :debug_mode]

  # Behind breakers that their first failure opens.
  setup do
    namespace = start_namespace()

    for service <- [:config_server, :event_store, :telemetry_service],
        do: :ok = CircuitBreakerRegistry.register(namespace, service, failure_threshold: 1)

    %{namespace: namespace}
  end

  test "7 no failure of a service: a mistake of a caller, whatever it calls", %{
    namespace: namespace
  } do
    opts = [rate_limit: {1_000, 1_000}]

    for {call, type} <- [
          {fn -> ConfigServer.get_protected(namespace, [:no]) end, :config_path_not_found},
          {fn -> ConfigServer.get_config_v1(namespace, @path ++ [:no]) end,
           :config_path_not_found},
          {fn -> ConfigServer.get_enhanced(namespace, [:no], opts) end, :config_path_not_found},
          {fn -> ConfigServer.update_config_v2(namespace, @path, 1, opts) end,
           :config_update_forbidden},
          {fn -> ConfigServer.update_config_v2(namespace, @updatable, 1, opts) end,
           :validation_failed},
          {fn -> EventStore.store_protected(namespace, Types.Event.new(), opts) end,
           :validation_failed},
          {fn -> EventStore.store_batch_protected(namespace, [:none], opts) end, :type_mismatch}
        ] do
      assert {:error, %Types.Error{error_type: ^type}} = call.()
    end

    for service <- [:config_server, :event_store],
        do: assert({:ok, :closed} = CircuitBreaker.state(namespace, service))
  end

  test "7 a failure of a service: being down", %{namespace: namespace} do
    for {service, module, call} <- [
          {:config_server, ConfigServer,
           fn -> ConfigServer.get_config_protected(namespace, @path) end},
          {:event_store, EventStore, fn -> EventStore.store_protected(namespace, event(1)) end},
          {:telemetry_service, TelemetryService,
           fn -> TelemetryService.status_protected(namespace) end}
        ] do
      terminate(namespace, service, module)
      assert {:error, %Types.Error{error_type: :service_unavailable}} = call.()
      assert {:error, %Error{error_type: :circuit_open}} = call.()
    end
  end

  test "7 a failure of a service: dying under the call, with nobody who starts it again" do
    namespace = {:test, make_ref()}
    :ok = CircuitBreakerRegistry.register(namespace, :config_server, failure_threshold: 1)
    {:ok, pid} = start_supervised({ConfigServer, namespace: namespace}, restart: :temporary)
    :ok = :sys.suspend(pid)
    read = Task.async(fn -> ConfigServer.get_protected(namespace, @path) end)
    eventually(fn -> Process.info(pid, :message_queue_len) == {:message_queue_len, 1} end)
    kill(namespace, :config_server)
    assert {:error, %Types.Error{error_type: :service_unavailable}} = Task.await(read)
    assert {:ok, :open} = CircuitBreaker.state(namespace, :config_server)
  end

  test "7 a failure of a service: an exit, a raise and a throw of what the facade runs", %{
    namespace: namespace
  } do
    for {end_it, kind} <- [
          {fn -> GenServer.call(:nobody, :get) end, :exit},
          {fn -> raise "no" end, :error},
          {fn -> throw(:no) end, :throw}
        ] do
      :ok = CircuitBreaker.reset(namespace, :config_server)

      assert {:error, %Error{error_type: :protected_operation_failed, context: %{kind: ^kind}}} =
               Infrastructure.execute_with_protection(namespace, :config_server, end_it)

      assert {:ok, :open} = CircuitBreaker.state(namespace, :config_server)
    end
  end

  test "7 call_timeout: the operation is in another process, in the caller with :infinity", %{
    namespace: namespace
  } do
    run = fn -> Infrastructure.execute_with_protection(namespace, :other, fn -> self() end) end
    me = self()
    assert {:ok, other} = run.()
    assert other != me
    :ok = CircuitBreaker.reconfigure(namespace, :other, call_timeout: :infinity)
    assert {:ok, ^me} = run.()
  end
end
