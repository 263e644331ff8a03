defmodule ElixirScope.Foundation.NamespacesTest do
  # Two namespaces side by side, under load while the services of one of them are killed.
  use ElixirScope.Foundation.FoundationCase

  alias ElixirScope.Foundation.Infrastructure.CircuitBreaker

  @path [:dev, :debug_mode]
  @limit [rate_limit: {1_000_000_000, 1_000}]

  test "kills, breakers, events and configuration of one are none of the other's" do
    {killed, quiet} = {start_namespace(), start_namespace()}
    :ok = ConfigServer.update(quiet, @path, true)

    workers =
      for worker <- 1..10, namespace <- [killed, quiet] do
        Task.async(fn ->
          answers =
            for turn <- 1..200 do
              id = worker * 1_000 + turn
              stored = EventStore.store_protected(namespace, event(id), @limit)
              {ConfigServer.get_protected(namespace, @path), stored, id}
            end

          {namespace, answers}
        end)
      end

    for name <- [:config_server, :event_store, :telemetry_service, :config_server, :event_store] do
      kill(killed, name)
      {:ok, _pid} = ServiceRegistry.wait_for_service(killed, name)
    end

    for {namespace, answers} <- Task.await_many(workers, 60_000),
        {read, stored, id} <- answers do
      assert {namespace, read} == {namespace, {:ok, namespace == quiet}}
      assert {namespace, stored} == {namespace, {:ok, id}}
    end

    # The quiet one has all of its events; only the other's breaker can be opened by its own.
    assert {:ok, %{event_count: count}} = EventStore.status(quiet)
    assert count == 2_001
    :ok = CircuitBreaker.force_open(killed, :config_server)

    assert {:error, %Error{error_type: :forced_open}} = ConfigServer.get_protected(killed, @path)

    assert {:ok, true} = ConfigServer.get_protected(quiet, @path)
    assert {:ok, false} = ConfigServer.get(:production, @path)
  end
end
