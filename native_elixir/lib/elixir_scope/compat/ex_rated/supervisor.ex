defmodule ElixirScope.Compat.ExRated.Supervisor do
  @moduledoc false
  # Owns the table of counts, so a server that crashes takes none along.
  use Supervisor

  alias ElixirScope.Compat.ExRated
  alias ElixirScope.Compat.ExRated.{Buckets, Server}

  @spec start_link(term()) :: Supervisor.on_start()
  def start_link(opts), do: Supervisor.start_link(__MODULE__, opts, name: __MODULE__)

  @impl true
  def init(_opts) do
    Buckets.create(Server.settings!([]).ets_table_name)
    Supervisor.init([ExRated.child_spec([[], [name: ExRated]])], strategy: :one_for_one)
  end
end
