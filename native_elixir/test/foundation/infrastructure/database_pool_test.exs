defmodule ElixirScope.Foundation.Infrastructure.DatabasePoolTest do
  # Real SQLite databases in files; other writers are OS processes of their own.
  use ElixirScope.Foundation.PoolCase, async: true

  import ElixirScope.Foundation.SqliteShell

  alias ElixirScope.Foundation.Infrastructure.DatabasePool

  doctest DatabasePool

  # Out of patience soon, but not of time for an answer: the machine may be busy.
  @short [timeout: 20, grace: 60_000]

  setup do
    directory =
      Path.join(
        System.tmp_dir!(),
        "elixirscope #{System.pid()} #{System.unique_integer([:positive])} é"
      )

    File.mkdir_p!(directory)
    on_exit(fn -> File.rm_rf!(directory) end)
    {:ok, path: Path.join(directory, "test data.db")}
  end

  defp start_database(path, options \\ []) do
    namespace = {:test, make_ref()}
    options = Keyword.merge([path: path, namespace: namespace, size: 2, max_overflow: 1], options)
    start_supervised!({DatabasePool, options}, id: namespace)
    {namespace, :database_pool}
  end

  defp with_database(pool, fun, options \\ []),
    do: DatabasePool.with_connection(fun, [pool: pool] ++ options)

  defp create_table(pool) do
    assert {:ok, nil} = with_database(pool, &DatabasePool.exec(&1, "CREATE TABLE t (a, b)"))
  end

  describe "statements" do
    test "store and return values of every kind", %{path: path} do
      pool = start_database(path)
      create_table(pool)

      values = [
        nil,
        0,
        -1,
        0x7FFFFFFFFFFFFFFF,
        -0x8000000000000000,
        1.5,
        "",
        "zażółć",
        "a\0b",
        {:blob, <<0, 255>>}
      ]

      for {value, row} <- Enum.with_index(values, 1) do
        assert {:ok, ^row} =
                 with_database(
                   pool,
                   &DatabasePool.exec(&1, "INSERT INTO t VALUES (?, ?)", [row, value])
                 )
      end

      assert {:ok, %{columns: ["b"], rows: rows}} =
               with_database(pool, &DatabasePool.query(&1, "SELECT b FROM t ORDER BY a"))

      assert Enum.map(rows, &elem(&1, 0)) == values

      assert {:ok, %{rows: []}} =
               with_database(pool, &DatabasePool.query(&1, "SELECT b FROM t WHERE a = ?", [99]))

      assert %{granted: 13, broken: 0, checks_failed: 0} = assert_settled(pool)
    end

    test "with bad input are refused before they reach the driver", %{path: path} do
      pool = start_database(path)

      with_database(pool, fn conn ->
        for {sql, params, opts, argument} <- [
              {:select, [], [], :sql},
              {<<255>>, [], [], :sql},
              {"SELECT ?", :none, [], :params},
              {"SELECT ?", [:atom], [], "parameter 1"},
              {"SELECT ?, ?", [1, %{}], [], "parameter 2"},
              {"SELECT ?", [0x8000000000000000], [], "parameter 1"},
              {"SELECT ?", [<<255>>], [], "parameter 1"},
              {"SELECT 1", [], [timeout: -1], :timeout},
              {"SELECT 1", [], [timeout: :infinity], :timeout},
              {"SELECT 1", [], [timeout: 2 ** 31], :timeout},
              {"SELECT 1", [], [grace: 1.0], :grace},
              {"SELECT 1", [], [timeuot: 10], :option},
              {"SELECT 1", [], :fast, :opts}
            ] do
          assert {:error, %Error{context: %{argument: ^argument}}} =
                   DatabasePool.query(conn, sql, params, opts)
        end

        for bad <- [nil, :no_connection, "path", self()] do
          assert {:error, %Error{context: %{argument: :connection, value: ^bad}}} =
                   DatabasePool.exec(bad, "SELECT 1")
        end

        assert {:error, %Error{context: %{argument: :fun, value: :none}}} =
                 DatabasePool.transaction(conn, :none)

        assert {:error, %Error{error_type: :external_service_error} = error} =
                 DatabasePool.query(conn, "SELEC")

        assert error.message =~ "syntax error"
        assert error.context == %{sql: "SELEC", sqlite_code: 1}
        assert {:error, %Error{}} = DatabasePool.exec(conn, "")
        assert Process.alive?(conn)
      end)

      assert_settled(pool)
    end

    test "of a connection that is killed say that their outcome is unknown", %{path: path} do
      pool = start_database(path)

      assert {:error, %Error{error_type: :dependency_failed, message: message}} =
               with_database(pool, fn conn ->
                 kill(conn) && DatabasePool.query(conn, "SELECT 1")
               end)

      assert message =~ "outcome is unknown"
      assert {:ok, %{rows: [{1}]}} = with_database(pool, &DatabasePool.query(&1, "SELECT 1"))
      assert_settled(pool)
    end

    test "that take too long give up their connection", %{path: path} do
      pool = start_database(path)

      endless =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) SELECT max(i) FROM n"

      with_database(pool, fn conn ->
        result = DatabasePool.query(conn, endless, [], timeout: 0)
        # A fast machine may be done within the grace.
        assert match?({:ok, _}, result) or match?({:error, %Error{error_type: :timeout}}, result)
        if match?({:error, _}, result), do: refute(Process.alive?(conn))
      end)

      # The statement is still running, in the one thread that all share.
      again = &DatabasePool.query(&1, "SELECT 1", [], timeout: 120_000)
      assert {:ok, %{rows: [{1}]}} = with_database(pool, again, timeout: 120_000)
      assert_settled(pool)
    end
  end

  describe "a locked database" do
    test "the lock holder's COMMIT returns before the waiter does", %{path: path} do
      pool = start_database(path)
      create_table(pool)
      holder = lock(path)
      test = self()

      waiter =
        Task.async(fn ->
          result =
            with_database(pool, fn conn ->
              send(test, :writing)
              DatabasePool.exec(conn, "INSERT INTO t VALUES (2, 'waiter')", [], timeout: 30_000)
            end)

          {result, System.monotonic_time()}
        end)

      assert_receive :writing, 5_000

      # It does wait, and it waits in its own process: others use the pool and the driver meanwhile.
      assert Task.yield(waiter, 150) == nil
      assert {:error, %Error{error_type: :timeout} = error} = insert(pool, 3, @short)
      assert error.context.sqlite_code == 5
      assert error.message == "the database was locked for 20 ms"

      committed = unlock(holder)
      assert {{:ok, 2}, finished} = Task.await(waiter, 30_000)
      assert finished > committed

      assert {:ok, %{rows: [{"holder"}, {"waiter"}]}} =
               with_database(pool, &DatabasePool.query(&1, "SELECT b FROM t"))

      assert_settled(pool)
    end

    test "does not keep a connection from being made", %{path: path} do
      pool = start_database(path)
      create_table(pool)
      holder = lock(path)
      with_database(pool, &kill/1)
      assert {:ok, pid} = with_database(pool, & &1, timeout: 5_000)
      assert is_pid(pid)
      unlock(holder)
      assert {:ok, 1} = insert(pool, 1, timeout: 5_000) |> then(fn {:ok, n} -> {:ok, n - 1} end)
      assert_settled(pool)
    end

    test "ends a transaction in commit or in nothing", %{path: path} do
      pool = start_database(path)
      create_table(pool)

      writers =
        for n <- 1..8 do
          Task.async(fn ->
            with_database(pool, fn conn ->
              DatabasePool.transaction(conn, fn ->
                {:ok, %{rows: [{before}]}} = DatabasePool.query(conn, "SELECT count(*) FROM t")
                {:ok, _} = DatabasePool.exec(conn, "INSERT INTO t VALUES (?, ?)", [n, before])
                if rem(n, 2) == 0, do: {:error, :no}, else: before
              end)
            end)
          end)
        end

      results = Task.await_many(writers, 30_000)
      assert Enum.count(results, &(&1 == {:error, :no})) == 4
      assert Enum.sort(for {:ok, before} <- results, do: before) == [0, 1, 2, 3]

      assert {:ok, %{rows: [{4}]}} =
               with_database(pool, &DatabasePool.query(&1, "SELECT count(*) FROM t"))

      assert_settled(pool)
    end
  end

  describe "what a user leaves behind" do
    test "an error with an open transaction is rolled back", %{path: path} do
      pool = start_database(path, size: 1, max_overflow: 0)
      create_table(pool)

      assert {:error, :changed_my_mind} =
               with_database(pool, fn conn ->
                 {:ok, _} = DatabasePool.exec(conn, "BEGIN IMMEDIATE")
                 {:ok, _} = DatabasePool.exec(conn, "INSERT INTO t VALUES (1, 1)")
                 {:error, :changed_my_mind}
               end)

      assert {:ok, %{rows: [{0}]}} =
               with_database(pool, &DatabasePool.query(&1, "SELECT count(*) FROM t"))

      assert %{created: 1} = assert_settled(pool)
    end

    test "a transaction that nobody ended is rolled back, and locks nobody out", %{path: path} do
      pool = start_database(path, size: 1, max_overflow: 0)
      create_table(pool)

      begin = fn conn ->
        {:ok, _} = DatabasePool.exec(conn, "BEGIN IMMEDIATE")
        DatabasePool.exec(conn, "INSERT INTO t VALUES (1, 1)")
      end

      assert {:ok, 1} = with_database(pool, begin)
      {:ok, conn} = ConnectionPool.checkout(pool, 60_000)
      assert {:ok, 1} = begin.(conn)
      assert :ok = ConnectionPool.checkin(pool, conn)
      {"", 0} = System.cmd("sqlite3", [path, "INSERT INTO t VALUES (2, 2)"])

      assert {:ok, %{rows: [{2}]}} =
               with_database(pool, &DatabasePool.query(&1, "SELECT a FROM t"))

      assert %{created: 1, broken: 0} = assert_settled(pool)
    end

    test "a connection that died under its holder is never lent", %{path: path} do
      pool = start_database(path, size: 1, max_overflow: 0)

      for _ <- 1..50 do
        assert {:ok, :gone} =
                 with_database(pool, &with(true <- Process.exit(&1, :kill), do: :gone))

        assert {:ok, %{rows: [{1}]}} = with_database(pool, &DatabasePool.query(&1, "SELECT 1"))
      end

      assert_settled(pool)
    end

    test "a raise in a transaction is rolled back and goes on", %{path: path} do
      pool = start_database(path, size: 1, max_overflow: 0)
      create_table(pool)

      assert_raise RuntimeError, "no", fn ->
        with_database(pool, fn conn ->
          DatabasePool.transaction(conn, fn ->
            {:ok, _} = DatabasePool.exec(conn, "INSERT INTO t VALUES (1, 1)")
            raise "no"
          end)
        end)
      end

      assert {:ok, %{rows: [{0}]}} =
               with_database(pool, &DatabasePool.query(&1, "SELECT count(*) FROM t"))

      assert_settled(pool)
    end

    test "a client that is killed in a transaction leaves no lock", %{path: path} do
      pool = start_database(path)
      create_table(pool)
      client = client()
      test = self()

      later(client, fn ->
        with_database(pool, fn conn ->
          {:ok, _} = DatabasePool.exec(conn, "BEGIN IMMEDIATE")
          send(test, {:in_transaction, conn})
          Process.sleep(:infinity)
        end)
      end)

      assert_receive {:in_transaction, conn}, 5_000
      assert {:error, %Error{error_type: :timeout}} = insert(pool, 1, @short)
      kill(client)
      assert {:ok, 1} = insert(pool, 1, timeout: 5_000)
      refute Process.alive?(conn)
      assert_settled(pool)
    end
  end

  test "a connection that is killed in the middle of a transaction's statement leaves no lock", %{
    path: path
  } do
    pool = start_database(path)
    create_table(pool)
    test = self()

    # Far longer than it takes to kill a process, on a busy machine too.
    long =
      "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000) SELECT i, i FROM n"

    user =
      Task.async(fn ->
        with_database(pool, fn conn ->
          {:ok, _} = DatabasePool.exec(conn, "BEGIN IMMEDIATE")
          send(test, {:in_transaction, conn})
          DatabasePool.exec(conn, long)
        end)
      end)

    assert_receive {:in_transaction, conn}, 5_000
    Process.sleep(20)
    kill(conn)
    assert {:error, %Error{error_type: :dependency_failed}} = Task.await(user)
    assert {:ok, 1} = insert(pool, 1, timeout: 30_000)

    assert {:ok, %{rows: [{1}]}} =
             with_database(pool, &DatabasePool.query(&1, "SELECT count(*) FROM t"))

    assert_settled(pool)
  end

  describe "a database that cannot be opened" do
    test "is named in the error, and nothing leaks", %{path: path} do
      File.write!(path <> ".txt", String.duplicate("this is no database\n", 100))

      for {bad, why} <- [
            {Path.join(path, "below.db"), "there is no directory"},
            {Path.dirname(path), "it is a directory"},
            {path <> ".txt", "not a database"}
          ] do
        pool = start_database(bad)

        assert {:error, %Error{error_type: :create_failed} = error} =
                 with_database(pool, & &1, timeout: 0)

        assert %Error{message: message} = error.context.last_error
        assert message =~ why
        assert %{created: 0, in_use: 0} = assert_settled(pool)
        stop_supervised!(elem(pool, 0))
      end

      # A port closes a moment after its owner is gone.
      assert Enum.any?(1..1_000, fn _ -> Process.sleep(5) && ports(Path.dirname(path)) == [] end)
    end

    test "and options that are no options are refused" do
      for {options, argument} <- [
            {[], :path},
            {[path: 7], :path},
            {[path: ""], :path},
            {[path: "a\0b"], :path},
            {[path: "a.db", setup: "PRAGMA x"], :setup},
            {[path: "a.db", wal: :yes], :wal},
            {[path: "a.db", size: -1], :size},
            {:no, :options}
          ] do
        assert {:error, %Error{context: %{argument: ^argument}}} =
                 DatabasePool.start_link(options)
      end

      assert {:error, %Error{context: %{argument: :fun}}} = DatabasePool.with_connection(:no)

      for opts <- [:fast, [1, 2], [{:timeout, 1} | :fast]] do
        assert {:error, %Error{context: %{argument: :opts, value: ^opts}}} =
                 DatabasePool.with_connection(& &1, opts)
      end
    end

    test "is explained where the configuration names none" do
      assert {:error, %Error{error_type: :pool_not_found, message: message}} =
               DatabasePool.with_connection(& &1)

      assert message =~ "the configuration is wrong: `path` is nil"
    end
  end

  test "each connection has a write-ahead log, does not wait in SQLite, and then runs the setup",
       %{
         path: path
       } do
    settings = fn pool, names ->
      both =
        with_database(pool, fn one ->
          {pragmas(one, names), with_database(pool, &pragmas(&1, names))}
        end)

      assert {:ok, {settings, {:ok, settings}}} = both
      assert %{created: 2} = assert_settled(pool)
      stop_supervised!(elem(pool, 0))
      settings
    end

    assert settings.(start_database(path, wal: false), ~w(journal_mode busy_timeout)) == [
             "delete",
             0
           ]

    assert settings.(start_database(path), ~w(journal_mode busy_timeout)) == ["wal", 0]
    # The database keeps it.
    assert settings.(start_database(path, wal: false), ~w(journal_mode)) == ["wal"]
    own = ["PRAGMA cache_size = 7", "PRAGMA synchronous = OFF"]
    assert settings.(start_database(path, setup: own), ~w(cache_size synchronous)) == [7, 0]
  end

  test "reads go on while another process writes", %{path: path} do
    pool = start_database(path)
    create_table(pool)
    holder = lock(path)
    count = &DatabasePool.query(&1, "SELECT count(*) FROM t", [], @short)
    assert {:ok, %{rows: [{0}]}} = with_database(pool, count)
    unlock(holder)
    assert {:ok, %{rows: [{1}]}} = with_database(pool, count)
    assert_settled(pool)
  end

  test "a database that somebody holds gets its log once it is free, within the caller's time", %{
    path: path
  } do
    {"", 0} = System.cmd("sqlite3", [path, "CREATE TABLE t (a, b)"])
    holder = lock(path)
    pool = start_database(path, retry_after: 1, retry_at_most: 10)

    assert {:error, %Error{error_type: :create_failed} = error} =
             with_database(pool, & &1, timeout: 0)

    assert error.message =~ "the database was locked"

    waiter =
      Task.async(fn -> with_database(pool, &pragmas(&1, ["journal_mode"]), timeout: 60_000) end)

    assert Task.yield(waiter, 50) == nil
    unlock(holder)
    assert {:ok, ["wal"]} = Task.await(waiter, 60_000)
    assert_settled(pool)
  end

  defp pragmas(connection, names) do
    for name <- names do
      {:ok, %{rows: [{value}]}} = DatabasePool.query(connection, "PRAGMA " <> name)
      value
    end
  end

  defp insert(pool, value, opts) do
    insert = &DatabasePool.exec(&1, "INSERT INTO t VALUES (?, 'x')", [value], opts)
    with_database(pool, insert, timeout: 60_000)
  end

  defp ports(directory) do
    for port <- Port.list(),
        {:name, name} <- [Port.info(port, :name)],
        List.to_string(name) =~ directory,
        do: port
  end
end
