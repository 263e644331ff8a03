defmodule ElixirScope.Foundation.Application do
  @moduledoc """
  Starts the registry, the infrastructure and what stands in for other libraries. A host application depends on `:elixir_scope_foundation` and
  finds both running.

  It does not start with a configuration of circuit breakers that is wrong, such as a misspelt option: every guarded call
  would fail later, and a service that nobody calls for a while would hide it.
  """
  use Application

  alias ElixirScope.Compat.{ExRated, Fuse}
  alias ElixirScope.Foundation.{Infrastructure, ProcessRegistry}

  @impl true
  def start(_type, _args) do
    with :ok <- check_configuration(), do: start()
  end

  defp check_configuration do
    with {:error, error} <- Infrastructure.CircuitBreakerRegistry.check_configuration() do
      message = "config :elixir_scope, :infrastructure, circuit_breakers: " <> error.message
      {:error, {error.error_type, message}}
    end
  end

  defp start do
    # Where `:telemetry` exists, events find it without a look-up of the code path.
    _ = Code.ensure_loaded(:telemetry)

    with :ok <- Infrastructure.Telemetry.check_prefix() do
      ProcessRegistry.create_table()

      children = [
        ProcessRegistry,
        Infrastructure.Supervisor,
        Fuse.Supervisor,
        ExRated.Supervisor
      ]

      Supervisor.start_link(children,
        strategy: :one_for_one,
        name: ElixirScope.Foundation.Supervisor
      )
    end
  end

  @impl true
  def stop(_state) do
    Fuse.Table.forget_all()
    ExRated.Buckets.forget_all()
    Infrastructure.Names.forget_all()
  end
end
