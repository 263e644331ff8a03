defmodule ElixirScope.Foundation.Application do
  @moduledoc """
  Starts the processes of the application.
  """
  use Application

  @impl true
  def start(_type, _args) do
    Supervisor.start_link([], strategy: :one_for_one, name: ElixirScope.Foundation.Supervisor)
  end
end
