defmodule ElixirScope.Foundation.Application do
  @moduledoc """
  Starts the registry and the infrastructure. A host application depends on `:elixir_scope_foundation` and
  finds both running.
  """
  use Application

  alias ElixirScope.Foundation.{Infrastructure, ProcessRegistry}

  @impl true
  def start(_type, _args) do
    # Where `:telemetry` exists, events find it without a look-up of the code path.
    _ = Code.ensure_loaded(:telemetry)

    with :ok <- Infrastructure.Telemetry.check_prefix() do
      ProcessRegistry.create_table()

      Supervisor.start_link([ProcessRegistry, Infrastructure.Supervisor],
        strategy: :one_for_one,
        name: ElixirScope.Foundation.Supervisor
      )
    end
  end

  @impl true
  def stop(_state), do: Infrastructure.Names.forget_all()
end
