defmodule ElixirScope.Foundation.FoundationCase do
  @moduledoc """
  A namespace with services of its own, or the services of `:production` in their first state.
  """
  use ExUnit.CaseTemplate

  alias ElixirScope.Foundation.ServiceRegistry
  alias ElixirScope.Foundation.Services.{ConfigServer, EventStore, TelemetryService}
  alias ElixirScope.TestSupport.TestSupervisor

  using do
    quote do
      import ElixirScope.Foundation.FoundationCase

      alias ElixirScope.Foundation.{
        Config,
        Error,
        Events,
        ProcessRegistry,
        ServiceRegistry,
        Telemetry,
        Types,
        Utils
      }

      alias ElixirScope.Foundation.Services.{ConfigServer, EventStore, TelemetryService}
      alias ElixirScope.TestSupport.TestSupervisor
    end
  end

  @doc "A namespace with running services, cleaned up after the test."
  def start_namespace do
    reference = make_ref()
    {:ok, _pids} = TestSupervisor.start_isolated_services(reference)
    ExUnit.Callbacks.on_exit(reference, fn -> TestSupervisor.cleanup_namespace(reference) end)
    {:test, reference}
  end

  @doc "The services of `:production`, as after a start; and again after the test, for others read them too."
  def fresh_production do
    # Registered first, it runs last: the environment is what it was, and what the test took away is back.
    ExUnit.Callbacks.on_exit(&reset_production/0)
    reset_production()
  end

  defp reset_production do
    for {service, name} <- [
          {ConfigServer, :config_server},
          {EventStore, :event_store},
          {TelemetryService, :telemetry_service}
        ] do
      {:ok, _pid} = ServiceRegistry.wait_for_service(:production, name)
      :ok = service.reset_state()
    end

    :ok
  end

  @doc "Switches breakers and limits on or off for the test."
  def flags(breakers, limits) do
    infrastructure = Application.fetch_env!(:elixir_scope, :infrastructure)

    put_env(
      :infrastructure,
      Keyword.merge(infrastructure,
        circuit_breakers: Map.put(infrastructure[:circuit_breakers], :enabled, breakers),
        rate_limiting: Map.put(infrastructure[:rate_limiting], :enabled, limits)
      )
    )
  end

  @doc "Sets an environment value of `:elixir_scope` for the test."
  def put_env(key, value) do
    # Once a test: the second call would take the value of the first for the one to go back to.
    unless Process.put({__MODULE__, key}, true) do
      before = Application.fetch_env(:elixir_scope, key)
      ExUnit.Callbacks.on_exit({:env, key}, fn -> restore_env(key, before) end)
    end

    Application.put_env(:elixir_scope, key, value)
  end

  defp restore_env(key, {:ok, value}), do: Application.put_env(:elixir_scope, key, value)
  defp restore_env(key, :error), do: Application.delete_env(:elixir_scope, key)

  @doc "Kills a service and waits until it is gone."
  def kill(namespace, name) do
    {:ok, pid} = ServiceRegistry.lookup(namespace, name)
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    receive do: ({:DOWN, ^monitor, :process, ^pid, _reason} -> pid)
  end

  @doc "Takes one service of a namespace away for good."
  def terminate(namespace, name, module) do
    {:ok, supervisor} =
      ElixirScope.Foundation.ProcessRegistry.lookup(namespace, {:supervisor, :services})

    :ok = Supervisor.terminate_child(supervisor, module)

    ExUnit.Callbacks.on_exit({namespace, name}, fn ->
      if Process.alive?(supervisor), do: Supervisor.restart_child(supervisor, module)
    end)
  end

  @doc "Repeats until the condition holds."
  def eventually(condition, tries \\ 2_000) do
    cond do
      condition.() -> :ok
      tries == 0 -> ExUnit.Assertions.flunk("it did not come about")
      true -> Process.sleep(1) && eventually(condition, tries - 1)
    end
  end

  @doc "A valid event of this id."
  def event(id, fields \\ []) do
    ElixirScope.Foundation.Types.Event.new(
      [event_id: id, event_type: :custom_event, timestamp: id] ++ fields
    )
  end
end
