defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Supervisor do
  @moduledoc false
  # The directory of pools and the pools of the application's configuration.

  use Supervisor

  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.{Configured, Directory}

  @spec start_link(term()) :: Supervisor.on_start()
  def start_link(opts), do: Supervisor.start_link(__MODULE__, opts, name: __MODULE__)

  @impl true
  def init(_opts) do
    Directory.create_table()
    Supervisor.init([Directory | Configured.children()], strategy: :one_for_one)
  end
end
