defmodule ElixirScope.Foundation.EventDatabaseAwayTest do
  # Databases that are locked, stopped, or away for a moment. Not async: it sets the environment.
  use ElixirScope.Foundation.DurableCase

  for database <- [:sqlite, :postgresql] do
    @tag database: database
    test "#{database}: callers of a database that does not answer are told before they give up",
         context do
      namespace = durable(database(context.database))
      {:ok, 1} = EventStore.store(namespace, event(1))
      unlock = lock(context.database, namespace)

      tasks =
        for id <- 2..21 do
          Task.async(fn ->
            # The second waits for the transaction of the first.
            if id > 11, do: eventually(fn -> begun?(namespace) end)
            EventStore.store(namespace, event(id))
          end)
        end

      for answer <- Task.await_many(tasks, 60_000) do
        assert {:error, %{error_type: :service_unavailable, context: %{reason: :timeout}}} =
                 answer
      end

      assert {:ok, %{event_id: 1}} = EventStore.get(namespace, 1)
      unlock.()
      assert {:ok, 22} = until_up(fn -> EventStore.store(namespace, event(22)) end)
    end
  end

  test "a stopped database is told, and what it acknowledged is there afterwards" do
    server = PostgreSQLServer.start()
    namespace = durable(PostgreSQLServer.options(server))
    assert {:ok, 1} = EventStore.store(namespace, event(1))
    PostgreSQLServer.down(server)
    assert {:error, %{error_type: :service_unavailable}} = EventStore.store(namespace, event(2))

    # Reads need no database; a service that starts without it waits for it, and takes nobody down.
    assert {:ok, %{event_id: 1}} = EventStore.get(namespace, 1)
    kill(namespace, :event_store)
    {:ok, _pid} = ServiceRegistry.wait_for_service(namespace, :event_store)
    assert {:ok, %{status: :starting}} = EventStore.status(namespace)
    assert {:error, %{error_type: :service_unavailable}} = EventStore.get(namespace, 1)
    PostgreSQLServer.up(server)
    assert {:ok, %{event_id: 1}} = until_up(fn -> EventStore.get(namespace, 1) end)
    assert {:ok, 3} = until_up(fn -> EventStore.store(namespace, event(3)) end)
  end

  test "every call is answered while a database stays away, by success or a clear error" do
    server = PostgreSQLServer.start()
    namespace = durable(PostgreSQLServer.options(server))

    put_env(:infrastructure, %{
      circuit_breakers: %{enabled: true, default_config: %{reset_timeout: 100}}
    })

    {:ok, 1} = EventStore.store(namespace, event(1))
    PostgreSQLServer.down(server)

    # The store is killed too: what asks for it then has to wait for the events to be read back.
    callers =
      for caller <- 1..20 do
        Task.async(fn ->
          for round <- 1..2 do
            id = 100 * caller + round
            if caller == 1, do: kill(namespace, :event_store)

            [
              EventStore.store(namespace, event(id)),
              EventStore.store_protected(namespace, event(id)),
              EventStore.get(namespace, 1),
              EventStore.prune_before(namespace, 0),
              ConfigServer.get_protected(namespace, [:ai, :provider])
            ]
          end
        end)
      end

    # A call that nobody answers exits, and its task with it.
    answers = callers |> Task.await_many(:infinity) |> List.flatten()
    assert length(answers) == 200
    assert Enum.count(answers, &match?({:ok, :mock}, &1)) == 40

    unclear =
      for {:error, error} <- answers,
          error.error_type not in [:service_unavailable, :circuit_open, :half_open_full, :timeout],
          do: error

    assert unclear == []
    PostgreSQLServer.up(server)
    assert {:ok, %{event_id: 1}} = until_up(fn -> EventStore.get(namespace, 1) end)

    eventually(
      fn -> match?({:ok, 2}, EventStore.store_protected(namespace, event(2))) end,
      20_000
    )
  end

  test "a database that is away for a moment delays stores, and none fails" do
    server = PostgreSQLServer.start()
    namespace = durable(PostgreSQLServer.options(server))

    workers =
      for worker <- 1..20 do
        Task.async(fn ->
          for n <- 1..100, do: EventStore.store(namespace, event(worker * 1_000 + n))
        end)
      end

    eventually(fn ->
      match?({:ok, %{event_count: n}} when n > 100, EventStore.status(namespace))
    end)

    PostgreSQLServer.down(server)
    PostgreSQLServer.up(server)
    answers = workers |> Task.await_many(60_000) |> List.flatten()
    assert Enum.reject(answers, &match?({:ok, _id}, &1)) == []
    restart_store(namespace)
    assert {:ok, %{event_count: 2_000}} = EventStore.status(namespace)
  end

  # Somebody else has the write lock until the function that is returned is called.
  defp lock(database, namespace) do
    test = self()

    holder =
      Task.async(fn ->
        with_database(namespace, fn connection ->
          DatabasePool.transaction(connection, fn ->
            {:ok, _} = hold(database, connection)
            send(test, :locked)
            receive do: (:unlock -> {:ok, nil})
          end)
        end)
      end)

    assert_receive :locked, 10_000

    fn ->
      send(holder.pid, :unlock)
      Task.await(holder)
    end
  end

  # SQLite's transaction has it.
  defp hold(:sqlite, _connection), do: {:ok, nil}

  defp hold(:postgresql, connection),
    do: DatabasePool.query(connection, "SELECT pg_advisory_xact_lock(#{0x6573636F7065})")

  defp begun?(namespace) do
    {:ok, pid} = ServiceRegistry.lookup(namespace, :event_store)
    :sys.get_state(pid).job != nil
  end
end
