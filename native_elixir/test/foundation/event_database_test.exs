defmodule ElixirScope.Foundation.EventDatabaseTest do
  # Real databases and services that are killed. Not async: it sets the environment.
  use ElixirScope.Foundation.DurableCase

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
        options = database(database)
        {:ok, namespace: durable(options), options: options}
      end

      test "events outlive their service, pruned ones do not come back", %{namespace: namespace} do
        events = for id <- 1..250, do: event(id, correlation_id: "c#{rem(id, 2)}")
        assert {:ok, ids} = EventStore.store_batch(namespace, events)
        assert ids == Enum.to_list(1..250)
        assert {:ok, 1} = EventStore.store(namespace, event(1, data: "again"))
        assert {:ok, 9} = EventStore.prune_before(namespace, 10)
        assert {:ok, []} = EventStore.store_batch(namespace, [])
        restart_store(namespace)

        assert {:ok, kept} = EventStore.query(namespace, %{order_by: :event_id})
        assert kept == Enum.drop(events, 9)

        assert {:ok, %{persistence: :database, event_count: 241, next_id: 251}} =
                 EventStore.status(namespace)
      end

      test "the same id again replaces, in one batch and over a restart", %{namespace: namespace} do
        assert {:ok, [7, 7]} =
                 EventStore.store_batch(namespace, [event(7), event(7, data: "last")])

        restart_store(namespace)
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

      test "the table is created once, and again when it is gone", %{namespace: namespace} do
        store = fn ids ->
          for id <- ids, do: {:ok, ^id} = EventStore.store(namespace, event(id))
        end

        sync = fn n ->
          assert {:ok, %{config: %{n: ^n}}} = ConfigServer.sync_to_database_v3(namespace, %{n: n})
        end

        store.([31])
        {calls, _} = calls(:exec, fn -> store.(1..20) && Enum.each(1..5, sync) end)
        assert creations(calls) == ["elixir_scope_configs"]
        assert length(calls) >= 25

        for table <- ~w(elixir_scope_events elixir_scope_configs) do
          {:ok, _} = with_database(namespace, &DatabasePool.exec(&1, "DROP TABLE #{table}"))
        end

        {calls, _} = calls(:exec, fn -> store.(21..30) && Enum.each(6..7, sync) end)
        assert Enum.sort(creations(calls)) == ~w(elixir_scope_configs elixir_scope_events)
        assert rows(namespace) == 10
      end

      test "a large table is read back page by page", %{namespace: namespace} do
        small = for id <- 1..2_500, do: event(id)
        large = for id <- 3_001..3_012, do: event(id, data: :crypto.strong_rand_bytes(500_000))
        assert {:ok, _ids} = EventStore.store_batch(namespace, small)

        for events <- Enum.chunk_every(large, 6),
            do: {:ok, _} = EventStore.store_batch(namespace, events)

        {_calls, results} = calls(:query, fn -> restart_store(namespace) end)
        pages = for {:ok, %{rows: [{_id, _place, {:blob, _}} | _] = rows}} <- results, do: rows
        assert Enum.sum(Enum.map(pages, &length/1)) == 2_512
        assert Enum.max(Enum.map(pages, &length/1)) == 1_000

        bytes =
          for rows <- pages, do: Enum.sum(for {_, _, {:blob, blob}} <- rows, do: byte_size(blob))

        assert Enum.max(bytes) in 1_000_000..1_600_000
        assert {:ok, kept} = EventStore.query(namespace, %{order_by: :event_id})
        assert kept == small ++ large
      end

      test "what the events may take in the database is bounded, the oldest go", context do
        namespace = durable(context.options, max_size_mb: 1, compression: :none)
        assert {:ok, %{retention: %{max_bytes: 1_048_576}}} = EventStore.status(namespace)
        data = String.duplicate("x", 10_000)

        for ids <- Enum.chunk_every(1..300, 20) do
          # Timestamps that fall: the oldest are those that were stored first.
          events = Enum.map(ids, &event(&1, data: data, timestamp: -&1))
          assert {:ok, ^ids} = EventStore.store_batch(namespace, events)
          {:ok, 1} = EventStore.store(namespace, event(1, data: data))
        end

        # A request after the last store finds what was dropped because of it dropped.
        {:ok, _count} = EventStore.prune_before(namespace, -1_000)
        {:ok, events} = EventStore.query(namespace, %{order_by: :event_id})
        [1 | ids] = Enum.map(events, & &1.event_id)
        assert length(ids) in 80..102
        assert ids == Enum.to_list(hd(ids)..300)

        assert {:ok, %{events_pruned: pruned, events_stored: 315}} = EventStore.stats(namespace)
        assert pruned == 300 - length(events)
        assert {:ok, %{stored_bytes: bytes}} = EventStore.status(namespace)
        assert bytes <= 1_048_576

        own = "FROM elixir_scope_events WHERE namespace = '#{inspect(namespace)}'"
        assert value(namespace, "SELECT COUNT(*) #{own}") == length(events)
        assert value(namespace, "SELECT SUM(LENGTH(event) + 128) #{own}") == bytes

        restart_store(namespace)
        assert {:ok, ^events} = EventStore.query(namespace, %{order_by: :event_id})
        assert {:ok, %{stored_bytes: ^bytes}} = EventStore.status(namespace)
      end

      test "a smaller bound holds before the events are read back", %{namespace: namespace} do
        data = :crypto.strong_rand_bytes(100_000)
        for id <- 1..40, do: {:ok, ^id} = EventStore.store(namespace, event(id, data: data))
        warm(max_size_mb: 1)
        {_calls, results} = calls(:query, fn -> restart_store(namespace) end)

        read =
          for {:ok, %{rows: rows}} <- results, {_id, _place, {:blob, _}} = row <- rows, do: row

        assert Enum.map(read, &elem(&1, 0)) == Enum.to_list(32..40)
        assert rows(namespace) == 9
      end

      test "compression is as configured, and what was written otherwise is read", context do
        data = String.duplicate("compressible ", 1_000)

        for {compression, id} <- Enum.with_index([:none, :gzip, :none, :zstd], 1) do
          warm(compression: compression)
          restart_store(context.namespace)
          used = if compression == :none, do: :none, else: :zlib
          assert {:ok, %{compression: ^used}} = EventStore.status(context.namespace)
          {:ok, ^id} = EventStore.store(context.namespace, event(id, data: data))
        end

        restart_store(context.namespace)
        {:ok, events} = EventStore.query(context.namespace, %{order_by: :event_id})
        assert events == for(id <- 1..4, do: event(id, data: data))

        for {id, expected} <- [
              {1, 13_000..14_000},
              {2, 1..1_000},
              {3, 13_000..14_000},
              {4, 1..1_000}
            ] do
          sql = "SELECT LENGTH(event) FROM elixir_scope_events WHERE event_id = #{id}"
          assert value(context.namespace, sql) in expected
        end
      end

      test "a row that is no event is told, and nothing is left out in silence", %{
        namespace: namespace
      } do
        for id <- 1..3, do: {:ok, ^id} = EventStore.store(namespace, event(id))
        broken = "UPDATE elixir_scope_events SET event = $1 WHERE event_id = 2"
        {:ok, _} = with_database(namespace, &DatabasePool.exec(&1, broken, [{:blob, "junk"}]))
        kill(namespace, :event_store)
        {:ok, _pid} = ServiceRegistry.wait_for_service(namespace, :event_store)

        assert {:error, %{error_type: :service_unavailable} = error} =
                 EventStore.get(namespace, 1)

        assert %{error_type: :data_corruption, context: %{event_id: 2}} = error.context.reason
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

  defp creations(calls) do
    for [_connection, "CREATE TABLE IF NOT EXISTS " <> rest, _params, _opts] <- calls,
        do: rest |> String.split() |> hd()
  end
end
