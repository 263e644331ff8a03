defmodule ElixirScope.Compat.Fuse.Supervisor do
  @moduledoc false
  # The processes behind fuses. It owns their table, so none of them takes a fuse along when it crashes.
  use Supervisor

  alias ElixirScope.Compat.Fuse.{Event, Monitor, Server, Table}

  @spec start_link(term()) :: Supervisor.on_start()
  def start_link(opts), do: Supervisor.start_link(__MODULE__, opts, name: __MODULE__)

  @impl true
  def init(_opts) do
    Table.create()
    Supervisor.init([Event, Server, Monitor], strategy: :one_for_one)
  end
end
