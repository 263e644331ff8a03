defmodule ElixirScope.Foundation.Services.Supervisor do
  @moduledoc """
  The three services of one namespace. They do without each other, so each restarts alone.

  A restart costs a service's memory and takes less than a millisecond, so giving up would cost more than going on:
  they may end ten times as often as the usual limit allows (30 times in 5 seconds, which is twice what one kill of each
  service a second comes to). A service that cannot start at all still ends the tree at once.
  """
  use Supervisor

  alias ElixirScope.Foundation.ProcessRegistry
  alias ElixirScope.Foundation.Services.{ConfigServer, EventStore, TelemetryService}

  @doc "Starts the services of `:namespace`."
  @spec start_link(keyword()) :: Supervisor.on_start()
  def start_link(namespace: namespace) do
    # No atom, so the registry lists it among no services.
    name = ProcessRegistry.via_tuple(namespace, {:supervisor, :services})
    Supervisor.start_link(__MODULE__, namespace, name: name)
  end

  @impl true
  def init(namespace) do
    children =
      for service <- [ConfigServer, EventStore, TelemetryService],
          do: {service, namespace: namespace}

    Supervisor.init(children, strategy: :one_for_one, max_restarts: 30, max_seconds: 5)
  end
end
