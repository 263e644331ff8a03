defmodule ElixirScope.Foundation.Infrastructure.Supervisor do
  @moduledoc """
  The processes behind breakers, limiters and pools. It owns their tables, so a process that crashes
  loses no state.
  """
  use Supervisor

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreakerTelemetry,
    ConnectionPool,
    Names,
    PublisherSupervisor,
    Reaper
  }

  @doc false
  @spec start_link(term()) :: Supervisor.on_start()
  def start_link(opts), do: Supervisor.start_link(__MODULE__, opts, name: __MODULE__)

  @impl true
  def init(_opts) do
    Names.create_table()
    CircuitBreakerTelemetry.create_table()

    children = [
      Names,
      Reaper,
      {DynamicSupervisor, name: PublisherSupervisor, strategy: :one_for_one},
      ConnectionPool.Supervisor
    ]

    Supervisor.init(children, strategy: :one_for_one)
  end
end
