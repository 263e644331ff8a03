defmodule ElixirScope.Foundation.Infrastructure.DatabasePoolPostgreSQLTest do
  # A real server; killed back-ends and restarts. One server for all, so not async.
  use ElixirScope.Foundation.PoolCase

  alias ElixirScope.Foundation.Infrastructure.DatabasePool
  alias ElixirScope.Foundation.Infrastructure.DatabasePool.PostgreSQL
  alias ElixirScope.Foundation.PostgreSQLServer

  @moduletag :capture_log
  @of_a_server_that_fails [:dependency_failed, :external_service_error, :timeout]

  setup_all do
    {:ok, server: PostgreSQLServer.start()}
  end

  defp pool(server, options \\ []) do
    namespace = {:test, make_ref()}
    defaults = [namespace: namespace, size: 2, max_overflow: 0, retry_after: 5, retry_at_most: 50]
    options = PostgreSQLServer.options(server) ++ Keyword.merge(defaults, options)
    start_supervised!({DatabasePool, options}, id: namespace)
    {namespace, :database}
  end

  defp with_pool(pool, fun), do: DatabasePool.with_connection(fun, pool: pool)
  defp value(pool, sql, params \\ []), do: with_pool(pool, &one(&1, sql, params))

  defp one(connection, sql, params \\ []) do
    with {:ok, %{rows: [{value}]}} <- DatabasePool.query(connection, sql, params),
         do: {:ok, value}
  end

  test "values of every kind come back as they went in", %{server: server} do
    pool = pool(server)
    assert {:ok, 3} = value(pool, "SELECT $1::int + 1", [2])
    assert {:ok, "zoë"} = value(pool, "SELECT $1::text", ["zoë"])
    assert {:ok, nil} = value(pool, "SELECT $1::text", [nil])
    assert {:ok, 1.5} = value(pool, "SELECT $1::float8", [1.5])
    assert {:ok, true} = value(pool, "SELECT $1::bool", [true])
    assert {:ok, 9_007_199_254_740_993} = value(pool, "SELECT $1::int8", [9_007_199_254_740_993])

    assert {:ok, false} = value(pool, "SELECT $1::bool", [false])

    assert {:ok, {:blob, <<0, 255, 92>>}} =
             value(pool, "SELECT $1::bytea", [{:blob, <<0, 255, 92>>}])

    # Nothing in a parameter is ever read as SQL, whatever the session says of backslashes.
    for text <- ["'", "''", "\\'; DROP TABLE x; --", "\\\\", "$1", "E'\\x00'", "\n\t"],
        setting <- ["on", "off"] do
      assert {:ok, ^text} =
               with_pool(pool, fn c ->
                 {:ok, _} = DatabasePool.exec(c, "SET standard_conforming_strings = #{setting}")
                 one(c, "SELECT $1::text", [text])
               end)
    end

    for bad <- [<<0>>, <<255>>, :atom, {:blob, 1}] do
      assert {:error, %Error{context: %{argument: "parameter 1"}}} =
               value(pool, "SELECT $1", [bad])
    end

    assert {:ok, %{columns: ["a", "b"], rows: [{1, 2}, {3, 4}]}} =
             with_pool(
               pool,
               &DatabasePool.query(&1, "SELECT * FROM (VALUES (1, 2), (3, 4)) t(a, b)")
             )

    assert_settled(pool)
  end

  test "a wrong statement is an error with its SQLSTATE, and the connection lives", %{
    server: server
  } do
    pool = pool(server, size: 1)

    for {sql, state} <- [
          {"SELEC 1", "42601"},
          {"SELECT 1/0", "22012"},
          {"SELECT * FROM no", "42P01"}
        ] do
      assert {:error, %Error{error_type: :external_service_error} = error} = value(pool, sql)
      assert error.context.sqlstate == state
    end

    assert {:ok, 1} = value(pool, "SELECT 1")
    assert %{created: 1} = assert_settled(pool)
  end

  test "a transaction commits, or leaves nothing", %{server: server} do
    pool = pool(server)
    {:ok, nil} = with_pool(pool, &DatabasePool.exec(&1, "CREATE TABLE t (n int)"))
    insert = fn c -> DatabasePool.exec(c, "INSERT INTO t VALUES (1)") end

    transaction = fn fun ->
      with_pool(pool, fn c -> DatabasePool.transaction(c, fn -> fun.(c) end) end)
    end

    assert {:ok, 1} = transaction.(insert)
    assert {:error, :no} = transaction.(fn c -> insert.(c) && {:error, :no} end)
    assert_raise RuntimeError, fn -> transaction.(fn c -> insert.(c) && raise "no" end) end
    # A failed statement that is not noticed: the commit says so.
    assert {:error, %Error{message: message}} =
             transaction.(fn c -> insert.(c) && value_of(DatabasePool.query(c, "SELECT 1/0")) end)

    assert message =~ "rolled back"
    assert {:ok, 1} = value(pool, "SELECT count(*) FROM t")
    assert_settled(pool)
  end

  defp value_of(_failed), do: :fine

  test "what a session has set is gone for the next holder", %{server: server} do
    pool = pool(server, size: 1)
    {:ok, connection} = ConnectionPool.checkout(pool)
    {:ok, _} = DatabasePool.exec(connection, "SET application_name = 'mine'")
    {:ok, _} = DatabasePool.exec(connection, "BEGIN")
    {:ok, backend} = one(connection, "SELECT pg_backend_pid()")
    :ok = ConnectionPool.checkin(pool, connection)
    assert {:error, %Error{error_type: :stale_lease}} = ConnectionPool.checkin(pool, connection)

    assert {:ok, ^backend} = value(pool, "SELECT pg_backend_pid()")
    assert {:ok, ""} = value(pool, "SELECT current_setting('application_name')")
    assert %{created: 1, broken: 0} = assert_settled(pool)
  end

  test "without reset it is still there", %{server: server} do
    pool = pool(server, size: 1, reset: false)
    {:ok, _} = with_pool(pool, &DatabasePool.exec(&1, "SET application_name = 'mine'"))
    assert {:ok, "mine"} = value(pool, "SELECT current_setting('application_name')")
  end

  test "a connection that died under its holder is never lent, with reset or without", %{
    server: server
  } do
    for reset <- [true, false] do
      pool = pool(server, size: 1, reset: reset)

      for _ <- 1..50 do
        {:ok, :gone} = with_pool(pool, fn {_, driver} -> Process.exit(driver, :kill) && :gone end)
        assert {:ok, 1} = value(pool, "SELECT 1")
      end

      assert_settled(pool)
    end
  end

  test "a holder that is killed rolls back, and its connection is replaced", %{server: server} do
    pool = pool(server, size: 1)
    {:ok, _} = with_pool(pool, &DatabasePool.exec(&1, "CREATE TABLE killed (n int)"))
    client = client()

    {:ok, {_, driver}} =
      run(client, fn ->
        {:ok, c} = ConnectionPool.checkout(pool)
        {:ok, _} = DatabasePool.exec(c, "BEGIN")
        {:ok, 1} = DatabasePool.exec(c, "INSERT INTO killed VALUES (1)")
        {:ok, c}
      end)

    monitor = Process.monitor(driver)
    kill(client)
    assert_receive {:DOWN, ^monitor, _, _, _}, 5_000
    assert {:ok, 0} = value(pool, "SELECT count(*) FROM killed")
    assert %{reclaimed: 1} = assert_settled(pool)
  end

  test "a back-end that is killed by kill -9 is replaced", %{server: server} do
    pool = pool(server)
    assert {:ok, backend} = value(pool, "SELECT pg_backend_pid()")
    PostgreSQLServer.kill_9(backend)
    # The server restarts all of its back-ends after such a crash.
    assert eventually(fn -> value(pool, "SELECT 1") end) == {:ok, 1}
    assert_settled(pool)
  end

  test "a back-end that the server ends is replaced, lent or not", %{server: server} do
    pool = pool(server, size: 1)
    other = pool(server, size: 1)
    terminate = &value(other, "SELECT pg_terminate_backend($1::int)", [&1])
    {:ok, nil} = with_pool(pool, &DatabasePool.exec(&1, "CREATE TABLE ended (n int)"))

    {:ok, idle} = value(pool, "SELECT pg_backend_pid()")
    assert {:ok, true} = terminate.(idle)
    assert {:ok, lent} = eventually(fn -> value(pool, "SELECT pg_backend_pid()") end)
    assert lent != idle

    {:ok, connection} = ConnectionPool.checkout(pool)
    {:ok, backend} = one(connection, "SELECT pg_backend_pid()")

    assert {:error, %Error{error_type: type}} =
             DatabasePool.transaction(connection, fn ->
               {:ok, 1} = DatabasePool.exec(connection, "INSERT INTO ended VALUES (1)")
               assert {:ok, true} = terminate.(backend)
               one(connection, "SELECT 1")
             end)

    assert type in [:dependency_failed, :external_service_error]
    # Back or not: what died is nobody's any more.
    ConnectionPool.checkin(pool, connection)
    assert {:ok, 0} = eventually(fn -> value(pool, "SELECT count(*) FROM ended") end)
    assert_settled(pool)
    assert_settled(other)
  end

  test "under load, a server that stops and starts answers every caller, and is held by none twice",
       %{
         server: server
       } do
    pool = pool(server, size: 3)
    test = self()

    users =
      for _ <- 1..8 do
        Task.async(fn ->
          Stream.repeatedly(fn -> exclusive(pool) end)
          |> Enum.reduce_while([], fn result, results ->
            with {:ok, _} <- result, do: send(test, :served)

            receive do
              :enough -> {:halt, [result | results]}
            after
              0 -> {:cont, [result | results]}
            end
          end)
        end)
      end

    for _ <- 1..2 do
      served(20)
      PostgreSQLServer.down(server)
      PostgreSQLServer.up(server)
    end

    served(20)
    for user <- users, do: send(user.pid, :enough)

    for result <- List.flatten(Task.await_many(users, 120_000)) do
      case result do
        {:ok, backend} -> assert is_integer(backend)
        {:error, error} -> assert error.error_type in @of_a_server_that_fails
      end
    end

    assert_settled(pool)
    # The server has the connections of the pool and no others.
    assert {:ok, _} = eventually(fn -> alone?(pool) end)
  end

  @backends "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"

  defp alone?(pool) do
    with {:ok, backends} <- value(pool, @backends) do
      %{idle: idle, checking: reset} = stats(pool)
      if backends == idle + reset, do: {:ok, backends}, else: {:error, backends}
    end
  end

  # A lock of the session that only one back-end has, and only its holder takes.
  defp exclusive(pool) do
    DatabasePool.with_connection(
      fn connection ->
        with {:ok, backend} <- one(connection, "SELECT pg_backend_pid()"),
             {:ok, true} <- one(connection, "SELECT pg_try_advisory_lock($1::int)", [backend]),
             {:ok, true} <- one(connection, "SELECT pg_advisory_unlock($1::int)", [backend]),
             {:ok, ^backend} <- one(connection, "SELECT pg_backend_pid()"),
             do: {:ok, backend}
      end,
      pool: pool,
      timeout: 60_000
    )
  end

  defp served(0), do: :ok

  defp served(count) do
    assert_receive :served, 60_000
    served(count - 1)
  end

  test "a row that another holder has locked is waited for until the deadline", %{server: server} do
    pool = pool(server)
    {:ok, nil} = with_pool(pool, &DatabasePool.exec(&1, "CREATE TABLE locked (n int)"))
    {:ok, 1} = with_pool(pool, &DatabasePool.exec(&1, "INSERT INTO locked VALUES (1)"))
    update = "UPDATE locked SET n = n + 1"
    client = client()

    {:ok, _} =
      run(client, fn ->
        {:ok, c} = ConnectionPool.checkout(pool)
        {:ok, _} = DatabasePool.exec(c, "BEGIN")
        DatabasePool.exec(c, update)
      end)

    assert {:error, %Error{error_type: :timeout}} =
             with_pool(
               pool,
               &DatabasePool.query(&1, "SELECT n FROM locked FOR UPDATE", [], timeout: 50)
             )

    waiter =
      Task.async(fn -> with_pool(pool, &DatabasePool.exec(&1, update, [], timeout: 60_000)) end)

    assert Task.yield(waiter, 50) == nil
    # The death of the holder ends its back-end, which lets go.
    kill(client)
    assert {:ok, 1} = Task.await(waiter, 60_000)
    assert {:ok, 2} = value(pool, "SELECT n FROM locked")
    assert_settled(pool)
  end

  test "a transaction, locks and whatever else a holder leaves are gone for the next", %{
    server: server
  } do
    pool = pool(server, size: 1)
    other = pool(server, size: 1)
    {:ok, nil} = with_pool(pool, &DatabasePool.exec(&1, "CREATE TABLE left_over (n int)"))

    leave = fn statements ->
      with_pool(pool, &for(sql <- statements, do: {:ok, _} = DatabasePool.query(&1, sql)))
    end

    {:ok, backend} = value(pool, "SELECT pg_backend_pid()")

    # An open transaction, with what it has written and locked.
    {:ok, _} = leave.(["BEGIN", "INSERT INTO left_over VALUES (1)", "LOCK TABLE left_over"])
    assert {:ok, 0} = value(other, "SELECT count(*) FROM left_over")
    # One that has failed.
    assert {:ok, {:error, %Error{}}} =
             with_pool(pool, fn c ->
               {:ok, _} = DatabasePool.exec(c, "BEGIN")
               {:ok, DatabasePool.exec(c, "INSERT INTO no_table VALUES (1)")}
             end)

    {:ok, _} =
      leave.([
        "SELECT pg_advisory_lock(7)",
        "CREATE TEMPORARY TABLE mine (n int)",
        "PREPARE mine AS SELECT 1",
        "LISTEN mine",
        "SET search_path = pg_catalog"
      ])

    # Nobody waits for the reset but who asks the same pool.
    assert_settled(pool)
    assert {:ok, true} = value(other, "SELECT pg_try_advisory_lock(7)")
    assert {:ok, 0} = value(pool, "SELECT count(*) FROM pg_prepared_statements")
    assert {:ok, nil} = value(pool, "SELECT to_regclass('mine')")
    assert {:ok, 0} = value(pool, "SELECT count(*) FROM pg_listening_channels()")
    assert {:ok, 0} = value(pool, "SELECT count(*) FROM left_over")
    assert {:ok, ^backend} = value(pool, "SELECT pg_backend_pid()")
    assert %{created: 1, broken: 0} = assert_settled(pool)
  end

  test "a server that stops and starts is waited for", %{server: server} do
    pool = pool(server)
    assert {:ok, 1} = value(pool, "SELECT 1")
    PostgreSQLServer.down(server)
    await(pool, &(&1.idle == 0))

    assert {:error, %Error{error_type: :pool_timeout} = error} =
             DatabasePool.with_connection(&one(&1, "SELECT 1"), pool: pool, timeout: 50)

    assert error.message =~ "cannot connect to PostgreSQL"

    waiter =
      Task.async(fn ->
        DatabasePool.with_connection(&one(&1, "SELECT 2"), pool: pool, timeout: 60_000)
      end)

    PostgreSQLServer.up(server)
    assert Task.await(waiter, 60_000) == {:ok, 2}
    assert_settled(pool)
  end

  test "a statement that takes too long gives up its connection", %{server: server} do
    pool = pool(server, size: 1)

    assert {:error, %Error{error_type: :timeout}} =
             with_pool(pool, &DatabasePool.query(&1, "SELECT pg_sleep(60)", [], timeout: 50))

    assert {:ok, 1} = value(pool, "SELECT 1")
  end

  test "a statement that waits for a lock is not carried out after its time-out", %{
    server: server
  } do
    for reset <- [true, false] do
      never_carried_out(server, reset, fn update, _waits? ->
        assert {:error, %Error{error_type: :timeout}} = update.(50)
      end)
    end
  end

  test "a statement that waits for a lock is not carried out after its caller's death", %{
    server: server
  } do
    never_carried_out(server, true, fn update, waits? ->
      client = client()
      later(client, fn -> update.(60_000) end)
      assert eventually(waits?)
      kill(client)
    end)
  end

  # Another session has the row locked until the back-end that was given up is gone; a third one looks for that, since
  # a transaction sees the same back-ends to its end.
  defp never_carried_out(server, reset, give_up) do
    pool = pool(server, size: 1, reset: reset)
    {:ok, backend} = value(pool, "SELECT pg_backend_pid()")
    sql = "UPDATE waited SET n = n + 1"
    update = fn timeout -> with_pool(pool, &DatabasePool.exec(&1, sql, [], timeout: timeout)) end

    other = pool(server)

    there = fn condition ->
      sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1::int AND #{condition}"
      value(other, sql, [backend])
    end

    with_pool(other, fn holder ->
      {:ok, _} = DatabasePool.exec(holder, "DROP TABLE IF EXISTS waited")
      {:ok, _} = DatabasePool.exec(holder, "CREATE TABLE waited AS SELECT 0 AS n")

      DatabasePool.transaction(holder, fn ->
        {:ok, 1} = DatabasePool.exec(holder, sql)
        give_up.(update, fn -> there.("wait_event_type = 'Lock'") == {:ok, 1} end)
        assert eventually(fn -> there.("true") == {:ok, 0} end)
      end)

      assert {:ok, 1} = one(holder, "SELECT n FROM waited")
    end)
  end

  test "options that are none are refused" do
    for {options, argument} <- [
          {[adapter: :mysql], :adapter},
          {[adapter: :postgresql], :username},
          {[adapter: :postgresql, username: "a", database: 1], :database},
          {[adapter: :postgresql, username: "a", database: "b", port: 0], :port},
          {[adapter: :postgresql, username: "a", database: "b", reset: 1], :reset}
        ] do
      assert {:error, %Error{context: %{argument: ^argument}}} = DatabasePool.start_link(options)
    end
  end

  defp eventually(fun, tries \\ 1_000) do
    case fun.() do
      good when good == true or elem(good, 0) == :ok -> good
      bad when tries == 0 -> bad
      _ -> Process.sleep(10) && eventually(fun, tries - 1)
    end
  end

  test "a connection that is closed leaves no process of the driver", %{server: server} do
    {:ok, argument} =
      PostgreSQL.argument(PostgreSQLServer.options(server) |> Keyword.delete(:adapter))

    before = sockets()

    for _ <- 1..10 do
      {:ok, connection} = PostgreSQL.connect(argument)
      assert length(sockets() -- before) == 1
      :ok = PostgreSQL.disconnect(connection, :closed)
    end

    eventually_none(before)
  end

  defp eventually_none(before) do
    if sockets() -- before != [], do: Process.sleep(1) && eventually_none(before)
  end

  defp sockets do
    for pid <- Process.list(),
        {:dictionary, dictionary} <- [Process.info(pid, :dictionary)],
        dictionary[:"$initial_call"] == {:pgsql_socket, :init, 1},
        do: pid
  end
end
