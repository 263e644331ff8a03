defmodule ElixirScope.Foundation.EventDatabaseTest do
  # Real databases, a server that stops, nodes and services that are killed. Not async: it sets the environment.
  use ElixirScope.Foundation.FoundationCase

  alias ElixirScope.Foundation.Infrastructure.DatabasePool
  alias ElixirScope.Foundation.PostgreSQLServer
  alias ElixirScope.Foundation.Types.Event

  @moduletag :capture_log

  defp sqlite do
    folder =
      Path.join(
        System.tmp_dir!(),
        "escope_events_#{System.pid()}_#{System.unique_integer([:positive])}"
      )

    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    [path: Path.join(folder, "events.db")]
  end

  # A namespace whose store keeps its events in this database.
  defp durable(database) do
    reference = make_ref()

    pool = [
      namespace: {:test, reference},
      size: 2,
      max_overflow: 0,
      retry_after: 5,
      retry_at_most: 50
    ]

    start_supervised!({DatabasePool, Keyword.merge(database, pool)}, id: reference)
    put_env(:storage, %{warm: %{enable: true}})
    {:ok, _pids} = TestSupervisor.start_isolated_services(reference)
    on_exit(fn -> TestSupervisor.cleanup_namespace(reference) end)
    {:test, reference}
  end

  defp value(namespace, sql) do
    {:ok, value} =
      DatabasePool.with_connection(
        fn connection ->
          with {:ok, %{rows: [{value}]}} <- DatabasePool.query(connection, sql), do: {:ok, value}
        end,
        pool: {namespace, :database}
      )

    value
  end

  defp rows(namespace), do: value(namespace, "SELECT COUNT(*) FROM elixir_scope_events")

  # The frames of the write-ahead log that end a transaction: they tell the database's size. https://sqlite.org/fileformat2.html
  defp transactions(_namespace, [path: path], :sqlite) do
    {:ok, <<_::binary-size(8), page_size::32, _::32, salts::64, _::64, frames::binary>>} =
      File.read(path <> "-wal")

    for(
      <<_page::32, size::32, ^salts::64, _::64, _::binary-size(page_size) <- frames>>,
      size > 0,
      do: size
    )
    |> length()
  end

  defp transactions(namespace, _database, :postgresql),
    do: value(namespace, "SELECT COUNT(DISTINCT xmin::text) FROM elixir_scope_events")

  test "without a database the store says that it is memory only" do
    assert {:ok, %{persistence: :memory, status: :running}} = EventStore.status(start_namespace())
  end

  for database <- [:sqlite, :postgresql] do
    describe "#{database}" do
      @describetag database: database

      setup %{database: database} do
        options =
          if database == :sqlite,
            do: sqlite(),
            else: PostgreSQLServer.options(PostgreSQLServer.start())

        {:ok, namespace: durable(options), options: options}
      end

      test "events outlive their service, pruned ones do not come back", %{namespace: namespace} do
        events = for id <- 1..250, do: event(id, correlation_id: "c#{rem(id, 2)}")
        assert {:ok, ids} = EventStore.store_batch(namespace, events)
        assert ids == Enum.to_list(1..250)
        assert {:ok, 1} = EventStore.store(namespace, event(1, data: "again"))
        assert {:ok, 9} = EventStore.prune_before(namespace, 10)
        assert {:ok, []} = EventStore.store_batch(namespace, [])
        kill(namespace, :event_store)
        {:ok, _pid} = ServiceRegistry.wait_for_service(namespace, :event_store)

        assert {:ok, kept} = EventStore.query(namespace, %{order_by: :event_id})
        assert kept == Enum.drop(events, 9)

        assert {:ok, %{persistence: :database, event_count: 241, next_id: 251}} =
                 EventStore.status(namespace)
      end

      test "the same id again replaces, in one batch and over a restart", %{namespace: namespace} do
        assert {:ok, [7, 7]} =
                 EventStore.store_batch(namespace, [event(7), event(7, data: "last")])

        kill(namespace, :event_store)
        {:ok, _pid} = ServiceRegistry.wait_for_service(namespace, :event_store)
        assert {:ok, %{data: "last"}} = EventStore.get(namespace, 7)
        assert {:ok, 7} = EventStore.store(namespace, event(7, data: "new"))
        assert {:ok, %{data: "new"}} = EventStore.get(namespace, 7)
        assert rows(namespace) == 1
      end

      test "a wrong event is its caller's mistake alone", %{namespace: namespace} do
        tasks =
          for id <- 1..50 do
            Task.async(fn ->
              wrong = Enum.at([%{}, Event.new(), event(0x8000000000000000 + id)], rem(id, 3))

              {EventStore.store_protected(namespace, wrong),
               EventStore.store(namespace, event(id))}
            end)
          end

        for answers <- Task.await_many(tasks, 60_000) do
          assert {{:error, %{error_type: type}}, {:ok, _id}} = answers
          assert type in [:type_mismatch, :validation_failed]
        end

        assert {:ok, 51} = EventStore.store(namespace, event(51))
        assert {:ok, %{event_count: 51}} = EventStore.status(namespace)
      end

      test "callers at once share transactions", %{namespace: namespace} = context do
        {:ok, _id} = EventStore.store(namespace, event(301))
        before = transactions(namespace, context.options, context.database)
        tasks = for id <- 1..300, do: Task.async(fn -> EventStore.store(namespace, event(id)) end)
        assert Enum.map(Task.await_many(tasks, 60_000), &elem(&1, 1)) == Enum.to_list(1..300)
        assert rows(namespace) == 301
        commits = transactions(namespace, context.options, context.database) - before
        assert commits in 1..150
      end

      test "configuration is written with version and time, and read back", %{
        namespace: namespace
      } do
        versions =
          1..8
          |> Task.async_stream(&ConfigServer.sync_to_database_v3(namespace, %{n: &1}),
            timeout: 60_000
          )
          |> Enum.map(fn {:ok, {:ok, %{version: version, config: %{n: n}}}} -> {version, n} end)

        assert versions |> Enum.map(&elem(&1, 0)) |> Enum.sort() == Enum.to_list(1..8)
        {8, last} = List.keyfind(versions, 8, 0)

        assert {:ok, %{version: 8, written_at: %DateTime{}, config: %{n: ^last}}} =
                 ConfigServer.load_from_database_v3(namespace)
      end
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

  defp until_up(fun) do
    with {:error, %{error_type: :service_unavailable}} <- fun.() do
      Process.sleep(20)
      until_up(fun)
    end
  end

  test "no event that a node acknowledged is lost when the node is killed under load" do
    [path: path] = sqlite()

    acknowledged =
      Enum.flat_map(1..3, fn round ->
        ids = killed_node(path, round, 200)
        assert length(ids) >= 200
        ids
      end)

    # A fourth node reads them back.
    script = """
    {:ok, events} = EventStore.query(%{})
    IO.write(Enum.map(events, &"kept \#{&1.event_id}\\n"))
    """

    {said, 0} = System.cmd("elixir", arguments(path, script))
    kept = for "kept " <> id <- String.split(said, "\n"), into: MapSet.new(), do: id
    assert Enum.reject(acknowledged, &(&1 in kept)) == []
  end

  # Another operating system process stores events from 20 processes and prints each acknowledged id. Killed with
  # SIGKILL once it has printed so many; what it still had printed counts too.
  defp killed_node(path, round, enough) do
    script = """
    for worker <- 1..20 do
      spawn(fn ->
        Enum.each(1..1_000_000, fn n ->
          id = #{round} * 1_000_000_000 + worker * 10_000_000 + n
          case EventStore.store(Event.new(event_id: id, event_type: :spawn, timestamp: n)) do
            {:ok, ^id} -> IO.write("ack \#{id}\\n")
            {:error, error} -> IO.write("error \#{inspect(error)}\\n")
          end
        end)
      end)
    end
    Process.sleep(:infinity)
    """

    options = [:binary, :exit_status, line: 1_000, args: arguments(path, script)]
    port = Port.open({:spawn_executable, System.find_executable("elixir")}, options)
    {:os_pid, os_pid} = Port.info(port, :os_pid)
    ids = acknowledgements(port, [], enough)
    PostgreSQLServer.kill_9(os_pid)
    acknowledgements(port, ids, :all)
  end

  defp arguments(path, script) do
    start = """
    Application.put_env(:elixir_scope, :storage, %{warm: %{enable: true}})
    pools = %{database: %{path: #{inspect(path)}, size: 2, max_overflow: 0}}
    Application.put_env(:elixir_scope, :infrastructure, %{connection_pools: pools})
    {:ok, _} = Application.ensure_all_started(:elixir_scope_foundation)
    alias ElixirScope.Foundation.{Services.EventStore, Types.Event}
    """

    build = Path.dirname(Application.app_dir(:elixir_scope_foundation))
    ["-pa", Path.join(build, "elixir_scope_foundation/ebin"), "-e", start <> script]
  end

  defp acknowledgements(_port, ids, enough) when length(ids) == enough, do: ids

  defp acknowledgements(port, ids, enough) do
    receive do
      {^port, {:data, {:eol, "ack " <> id}}} ->
        acknowledgements(port, [id | ids], enough)

      {^port, {:data, {:eol, "error " <> message}}} ->
        flunk("a store failed: " <> message)

      {^port, {:data, _other}} ->
        acknowledgements(port, ids, enough)

      {^port, {:exit_status, status}} ->
        assert {enough, status} == {:all, 137}
        ids
    end
  end
end
