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
    Reaper,
    Tally
  }

  @doc false
  @spec start_link(term()) :: Supervisor.on_start()
  def start_link(opts), do: Supervisor.start_link(__MODULE__, opts, name: __MODULE__)

  @impl true
  def init(_opts) do
    Names.create_table()
    CircuitBreakerTelemetry.create_table()
    Tally.create_table()

    children = [
      Names,
      Reaper,
      # One publisher a namespace, and each loses at most what it holds back: one that is killed over and over is no
      # reason to end the others, and with them breakers' and pools' processes.
      {DynamicSupervisor, name: PublisherSupervisor, max_restarts: 1_000, max_seconds: 1},
      ConnectionPool.Supervisor
    ]

    Supervisor.init(children, strategy: :one_for_one)
  end
end
