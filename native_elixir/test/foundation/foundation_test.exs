defmodule ElixirScope.Foundation.FoundationTest do
  # The facade as the existing layer has it, row by row of section 5.
  use ElixirScope.Foundation.FoundationCase

  import ExUnit.CaptureLog

  alias ElixirScope.Foundation

  @services [
    config: {:config_server, ConfigServer, 5000},
    events: {:event_store, EventStore, 3000},
    telemetry: {:telemetry_service, TelemetryService, nil}
  ]

  defmodule NotReady do
    @moduledoc false
    # In the place of a service: it runs, and says that it is not ready.
    use GenServer

    def start_link(name), do: GenServer.start_link(__MODULE__, nil, name: name)

    @impl true
    def init(nil), do: {:ok, nil}

    @impl true
    def handle_call(:get_status, _from, nil), do: {:reply, {:ok, %{status: :starting}}, nil}
  end

  setup do: fresh_production()

  describe "1 Application:" do
    test "the registry first, then the infrastructure, then the services" do
      children =
        ElixirScope.Foundation.Supervisor |> Supervisor.which_children() |> Enum.reverse()

      order = for {id, _pid, _type, _modules} <- children, do: id

      assert [Registry, Foundation.Infrastructure.Supervisor | _others] = order
      assert Foundation.Services.Supervisor in order
      assert Process.whereis(Foundation.TaskSupervisor) |> is_pid()

      {:ok, services} = ProcessRegistry.lookup(:production, {:supervisor, :services})

      assert services |> Supervisor.which_children() |> Enum.map(&elem(&1, 0)) |> Enum.reverse() ==
               [ConfigServer, EventStore, TelemetryService]
    end

    test "the supervisor of test namespaces runs in test mode only" do
      for mode <- [false, true] do
        put_env(:test_mode, mode)

        capture_log(fn ->
          :ok = Foundation.shutdown()
          {:ok, _started} = Application.ensure_all_started(:elixir_scope_foundation)
        end)

        assert Foundation.available?()
        assert is_pid(Process.whereis(TestSupervisor)) == mode
      end
    end
  end

  describe "5 initialize" do
    test "starts what does not run, with the options of :config" do
      assert Foundation.initialize() == :ok
      for {_key, {name, module, _code}} <- @services, do: terminate(:production, name, module)
      dev = %{debug_mode: true, verbose_logging: true, performance_monitoring: true}
      assert Foundation.initialize(config: [dev: dev], other: :option) == :ok
      assert Foundation.available?()
      assert Config.get([:dev]) == {:ok, dev}
      assert Foundation.initialize(config: [dev: :ignored]) == :ok
    end

    test "is the first error" do
      for {_key, {name, module, _code}} <- @services, do: terminate(:production, name, module)

      assert {:error, %Types.Error{code: 5000, error_type: :service_unavailable}} =
               Foundation.initialize(config: [dev: :nonsense])

      refute Config.available?() or Events.available?() or Telemetry.available?()
    end
  end

  test "5 status: of the three services, or the first error" do
    assert {:ok, status} = Foundation.status()
    assert Map.keys(status) == [:config, :events, :telemetry]
    for {_name, service} <- status, do: assert(service.status == :running)

    for {_key, {name, module, code}} <- Enum.reverse(@services) do
      terminate(:production, name, module)

      assert {:error, %Types.Error{error_type: :service_unavailable, code: ^code}} =
               Foundation.status()

      assert Foundation.health() |> elem(1) |> Map.fetch!(:code) == code
    end
  end

  test "5 available?: when all three are" do
    assert Foundation.available?()

    for {_key, {name, module, _code}} <- @services do
      terminate(:production, name, module)
      refute Foundation.available?()
      {:ok, supervisor} = ProcessRegistry.lookup(:production, {:supervisor, :services})
      {:ok, _pid} = Supervisor.restart_child(supervisor, module)
      assert Foundation.available?()
    end
  end

  describe "5 health" do
    test "is healthy, with what one asks then" do
      before = System.monotonic_time(:millisecond)
      assert {:ok, health} = Foundation.health()

      assert health |> Map.keys() |> Enum.sort() ==
               ~w(elixir_version foundation_available otp_release services status timestamp)a

      assert %{status: :healthy, foundation_available: true} = health
      assert health.timestamp in before..System.monotonic_time(:millisecond)
      assert health.elixir_version == System.version()
      assert health.otp_release == System.otp_release()
      assert Map.keys(health.services) == [:config, :events, :telemetry]
    end

    test "is degraded where a service runs and is not ready" do
      terminate(:production, :event_store, EventStore)
      start_supervised!({NotReady, ProcessRegistry.via_tuple(:production, :event_store)})

      assert {:ok, %{status: :degraded, services: %{events: %{status: :starting}}}} =
               Foundation.health()
    end
  end

  test "5 version, shutdown" do
    assert Foundation.version() ==
             to_string(Application.spec(:elixir_scope_foundation, :vsn))

    assert Foundation.version() =~ ~r/^\d+\.\d+\.\d+/

    capture_log(fn ->
      assert Foundation.shutdown() == :ok
      refute Foundation.available?()
      assert Foundation.shutdown() == :ok
      {:ok, _started} = Application.ensure_all_started(:elixir_scope_foundation)
    end)

    assert Foundation.available?()
  end
end
