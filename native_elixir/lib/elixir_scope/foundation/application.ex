defmodule ElixirScope.Foundation.Application do
  @moduledoc """
  The tree that a host application finds running when it depends on `:elixir_scope_foundation`:

      ElixirScope.Foundation.Supervisor
      ├── ProcessRegistry            who is where
      ├── Infrastructure.Supervisor  breakers, limiters, pools; their state outlives the services
      ├── Fuse.Supervisor            what stands in for the library fuse
      ├── ExRated.Supervisor         what stands in for the library ex_rated
      ├── Services.Supervisor        ConfigServer, EventStore, TelemetryService of :production
      ├── TaskSupervisor             tasks of the services' users
      ├── StatusPage                 /status and /metrics; with `config :elixir_scope, :status_page, enabled: true` only
      └── TestSupervisor             services of test namespaces; with `config :elixir_scope, test_mode: true` only

  It does not start with a configuration of circuit breakers that is wrong, such as a misspelt option: every guarded call
  would fail later, and a service that nobody calls for a while would hide it.

  A host that starts `ProcessRegistry`, the three services and `TaskSupervisor` in a tree of its own takes the dependency
  with `runtime: false`, as two of a name cannot run. All functions without protection work so; with
  `ElixirScope.Foundation.Infrastructure.Supervisor` after `ProcessRegistry` the others do too.
  """
  use Application

  alias ElixirScope.Compat.{ExRated, Fuse}
  alias ElixirScope.Foundation.{Infrastructure, ProcessRegistry, Services, TaskSupervisor}
  alias ElixirScope.TestSupport.TestSupervisor

  @impl true
  def start(_type, _args) do
    with :ok <- check_configuration(),
         {:ok, status_page} <- status_page(),
         do: start(status_page)
  end

  defp check_configuration do
    with {:error, error} <- Infrastructure.CircuitBreakerRegistry.check_configuration() do
      message = "config :elixir_scope, :infrastructure, circuit_breakers: " <> error.message
      {:error, {error.error_type, message}}
    end
  end

  defp status_page do
    with {:error, error} <- Infrastructure.StatusPage.options(),
         do: {:error, {error.error_type, "config :elixir_scope, :status_page: " <> error.message}}
  end

  defp start(status_page) do
    # Where `:telemetry` exists, events find it without a look-up of the code path.
    _ = Code.ensure_loaded(:telemetry)

    with :ok <- Infrastructure.Telemetry.check_prefix() do
      ProcessRegistry.create_table()

      Supervisor.start_link(children(status_page),
        strategy: :one_for_one,
        name: ElixirScope.Foundation.Supervisor
      )
    end
  end

  defp children(status_page) do
    [
      ProcessRegistry,
      Infrastructure.Supervisor,
      Fuse.Supervisor,
      ExRated.Supervisor,
      {Services.Supervisor, namespace: :production},
      {Task.Supervisor, name: TaskSupervisor}
    ] ++
      if(status_page.enabled, do: [{Infrastructure.StatusPage, status_page}], else: []) ++
      if(Services.Service.test_mode?(), do: [TestSupervisor], else: [])
  end

  @impl true
  def stop(_state) do
    Fuse.Table.forget_all()
    ExRated.Buckets.forget_all()
    Infrastructure.Names.forget_all()
  end
end
