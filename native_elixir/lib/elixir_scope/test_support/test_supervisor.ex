defmodule ElixirScope.TestSupport.TestSupervisor do
  @moduledoc """
  Services of test namespaces: a test gets ConfigServer, EventStore and TelemetryService of its own, and shares nothing with
  production or another test.

  Runs with `config :elixir_scope, test_mode: true`, set before the application starts.

      iex> alias ElixirScope.Foundation.Services.ConfigServer
      iex> alias ElixirScope.TestSupport.TestSupervisor
      iex> reference = make_ref()
      iex> {:ok, [_config, _events, _telemetry]} = TestSupervisor.start_isolated_services(reference)
      iex> ConfigServer.update({:test, reference}, [:dev, :debug_mode], true)
      :ok
      iex> ConfigServer.get([:dev, :debug_mode])
      {:ok, false}
      iex> TestSupervisor.cleanup_namespace(reference)
      :ok
  """
  use DynamicSupervisor

  alias ElixirScope.Foundation.{ProcessRegistry, Services}

  @services [:config_server, :event_store, :telemetry_service]

  @doc "Starts the supervisor of all test namespaces."
  @spec start_link(term()) :: Supervisor.on_start()
  def start_link(_opts), do: DynamicSupervisor.start_link(__MODULE__, [], name: __MODULE__)

  # A namespace whose services give up ends alone: it is temporary.
  @impl true
  def init(_opts), do: DynamicSupervisor.init(strategy: :one_for_one)

  @doc "Starts the three services of `{:test, reference}`; they run when this returns."
  @spec start_isolated_services(reference()) :: {:ok, [pid()]} | {:error, term()}
  def start_isolated_services(reference) when is_reference(reference) do
    namespace = {:test, reference}
    spec = Supervisor.child_spec({Services.Supervisor, namespace: namespace}, restart: :temporary)

    with {:ok, _pid} <- DynamicSupervisor.start_child(__MODULE__, spec) do
      services = ProcessRegistry.get_all_services(namespace)
      {:ok, Enum.map(@services, &Map.fetch!(services, &1))}
    end
  end

  @doc "Ends the services of a namespace and all else that it has."
  @spec cleanup_namespace(reference()) :: :ok
  def cleanup_namespace(reference) when is_reference(reference) do
    with {:ok, pid} <- ProcessRegistry.lookup({:test, reference}, {:supervisor, :services}),
         do: DynamicSupervisor.terminate_child(__MODULE__, pid)

    ProcessRegistry.cleanup_test_namespace(reference)
  end

  @doc "Whether all three services of a namespace run."
  @spec namespace_healthy?(reference()) :: boolean()
  def namespace_healthy?(reference) when is_reference(reference),
    do: Enum.all?(@services, &ProcessRegistry.registered?({:test, reference}, &1))

  @doc "Waits until all three services of a namespace run."
  @spec wait_for_services_ready(reference(), timeout()) :: :ok | {:error, :timeout}
  def wait_for_services_ready(reference, timeout_ms \\ 5_000) when is_reference(reference) do
    Enum.reduce_while(@services, :ok, fn service, :ok ->
      case ElixirScope.Foundation.ServiceRegistry.wait_for_service(
             {:test, reference},
             service,
             timeout_ms
           ) do
        {:ok, _pid} -> {:cont, :ok}
        {:error, :timeout} = error -> {:halt, error}
      end
    end)
  end
end
