defmodule ElixirScope.Foundation.Infrastructure.Connection.LockedFileTest do
  # Real files; those who lock them besides are operating system processes of their own.
  use ElixirScope.Foundation.PoolCase, async: true

  alias ElixirScope.Foundation.Infrastructure.Connection.LockedFile

  doctest LockedFile

  @flock System.find_executable("flock")

  setup do
    name = "elixirscope file #{System.pid()} #{System.unique_integer([:positive])} é"
    directory = Path.join(System.tmp_dir!(), name)
    File.mkdir_p!(directory)
    on_exit(fn -> File.rm_rf!(directory) end)
    {:ok, path: Path.join(directory, "-journal")}
  end

  defp file_pool(options, pool_options \\ []) do
    defaults = [worker: {LockedFile, options}, retry_at_most: 20, retry_after: 1]
    start_pool(Keyword.merge(defaults, pool_options))
  end

  # Whether another program could have the file now.
  defp free?(path), do: match?({_, 0}, System.cmd(@flock, ["--nonblock", path, "true"]))

  # Another program that has the file until its input ends.
  defp hold(path) do
    port =
      Port.open({:spawn_executable, @flock}, [
        :binary,
        :exit_status,
        args: ["--no-fork", path, "/bin/cat"]
      ])

    Port.command(port, "held\n")
    assert_receive {^port, {:data, "held\n"}}, 30_000
    port
  end

  # The process that has the lock of a connection.
  defp locker(path) do
    Enum.find_value(Port.list(), fn port ->
      with {:os_pid, os_pid} <- Port.info(port, :os_pid),
           {:ok, fds} <- File.ls("/proc/#{os_pid}/fd"),
           true <- Enum.any?(fds, &(File.read_link("/proc/#{os_pid}/fd/#{&1}") == {:ok, path})),
           do: os_pid,
           else: (_ -> nil)
    end)
  end

  test "a file that is lent is nobody else's, in this node or outside of it", %{path: path} do
    pool = file_pool(path: path)
    assert {:ok, :ok} = ConnectionPool.with_connection(pool, &IO.binwrite(&1, "mine"))
    # Lent or not: the pool has it.
    refute free?(path)
    assert {:error, %Error{context: %{locked: true}} = error} = LockedFile.connect(path: path)
    assert error.message =~ "locked by another"

    # Two programs that ask at once are told the same.
    assert Enum.map(1..2, fn _ -> Task.async(fn -> free?(path) end) end)
           |> Task.await_many(30_000) ==
             [false, false]

    assert %{created: 1} = assert_settled(pool)
    stop_supervised!(elem(pool, 0))
    assert free?(path)
    assert File.read!(path) == "mine"
  end

  test "writers take turns, and nothing of theirs is lost", %{path: path} do
    pool = file_pool(path: path, append: true)

    1..8
    |> Enum.map(fn writer ->
      Task.async(fn ->
        for n <- 1..50 do
          {:ok, :ok} =
            ConnectionPool.with_connection(
              pool,
              fn file ->
                :ok = IO.binwrite(file, "#{writer} ")
                IO.binwrite(file, "#{n}\n")
              end,
              timeout: :infinity
            )
        end
      end)
    end)
    |> Task.await_many(60_000)

    lines = path |> File.read!() |> String.split("\n", trim: true)
    assert Enum.sort(lines) == Enum.sort(for writer <- 1..8, n <- 1..50, do: "#{writer} #{n}")
    assert %{created: 1} = assert_settled(pool)
  end

  test "a file that another program has locked is got when it is free, within the caller's time",
       %{
         path: path
       } do
    holder = hold(path)
    pool = file_pool(path: path)

    assert {:error, %Error{error_type: :create_failed} = error} =
             ConnectionPool.with_connection(pool, & &1, timeout: 0)

    assert error.message =~ "locked by another"

    waiter =
      Task.async(fn ->
        ConnectionPool.with_connection(pool, &IO.binwrite(&1, "x"), timeout: 60_000)
      end)

    assert Task.yield(waiter, 100) == nil
    Port.close(holder)
    assert {:ok, :ok} = Task.await(waiter, 60_000)
    assert File.read!(path) == "x"
    assert_settled(pool)
  end

  test "a lock goes with its holder, even if that is killed", %{path: path} do
    holder = hold(path)
    {:os_pid, os_pid} = Port.info(holder, :os_pid)
    {_, 0} = System.cmd("kill", ["-9", "#{os_pid}"])
    assert_receive {^holder, {:exit_status, _}}, 30_000
    assert {:ok, _} = ConnectionPool.with_connection(file_pool(path: path), & &1)
  end

  test "each holder finds the file at its beginning and in bytes", %{path: path} do
    pool = file_pool(path: path)

    {:ok, :ok} =
      ConnectionPool.with_connection(pool, fn file ->
        :ok = :io.setopts(file, binary: false, encoding: :unicode)
        IO.write(file, "é")
      end)

    assert {:ok, <<0xC3>>} = ConnectionPool.with_connection(pool, &IO.binread(&1, 1))
    assert {:ok, <<0xC3>>} = ConnectionPool.with_connection(pool, &IO.binread(&1, 1))
    {:ok, file} = ConnectionPool.checkout(pool)
    assert {:ok, <<0xA9>>} = :file.pread(file, 1, 1)
    assert {:ok, 2} = :file.position(file, :eof)
    assert :ok = ConnectionPool.checkin(pool, file)
    assert {:ok, <<0xC3>>} = ConnectionPool.with_connection(pool, &IO.binread(&1, 1))
    assert %{created: 1} = assert_settled(pool)
  end

  test "a list of files is as many connections", %{path: path} do
    paths = for n <- 1..3, do: "#{path}#{n}"
    pool = file_pool([path: paths], size: 3)
    files = for _ <- 1..3, do: elem(ConnectionPool.checkout(pool, 60_000), 1)
    for file <- files, do: :ok = IO.binwrite(file, "one")
    assert Enum.map(paths, &File.read!/1) == ["one", "one", "one"]
    assert {:error, %Error{error_type: :pool_exhausted}} = ConnectionPool.checkout(pool, 0)
    for file <- files, do: :ok = ConnectionPool.checkin(pool, file)
    assert_settled(pool)
  end

  test "a holder that is killed leaves neither file nor lock behind", %{path: path} do
    pool = file_pool(path: path)
    client = client()

    {:ok, file} =
      run(client, fn ->
        {:ok, file} = ConnectionPool.checkout(pool)
        :ok = IO.binwrite(file, "half")
        {:ok, file}
      end)

    kill(client)

    assert {:ok, "half"} =
             ConnectionPool.with_connection(pool, &IO.binread(&1, 9), timeout: 60_000)

    refute Process.alive?(file)
    assert %{reclaimed: 1} = assert_settled(pool)
  end

  test "a connection that is killed in the middle of a write is closed before its lock is free",
       %{
         path: path
       } do
    pool = file_pool(path: path)
    block = :binary.copy("x", 64 * 1024 * 1024)

    test = self()

    writer =
      Task.async(fn ->
        ConnectionPool.with_connection(pool, fn file ->
          send(test, {:writing, file})
          IO.binwrite(file, block)
        end)
      end)

    assert_receive {:writing, file}, 30_000
    Process.sleep(1)
    kill(file)
    Task.await(writer, 60_000)
    stop_supervised!(elem(pool, 0))
    # Whoever has the lock now sees a file that does not change any more.
    holder = hold(path)
    size = File.stat!(path).size
    Process.sleep(50)
    assert File.stat!(path).size == size
    Port.close(holder)
  end

  test "a connection whose lock is broken is closed", %{path: path} do
    pool = file_pool(path: path)
    {:ok, file} = ConnectionPool.checkout(pool)
    monitor = Process.monitor(file)
    {_, 0} = System.cmd("kill", ["-9", "#{locker(path)}"])
    assert_receive {:DOWN, ^monitor, :process, _, _}, 30_000
    assert {:error, :terminated} = :file.pread(file, 0, 1)
    # Whether the pool has heard of it yet or not: it is not lent again.
    ConnectionPool.checkin(pool, file)
    assert {:ok, other} = ConnectionPool.with_connection(pool, & &1)
    assert other != file
    assert_settled(pool)
  end

  test "a file that its holder closes is opened again for the next", %{path: path} do
    pool = file_pool(path: path)
    assert {:ok, :ok} = ConnectionPool.with_connection(pool, &:file.close/1)
    assert {:ok, :ok} = ConnectionPool.with_connection(pool, &IO.binwrite(&1, "x"))
    assert %{created: 2} = assert_settled(pool)
  end

  test "a file that is removed or replaced is noticed by a health check", %{path: path} do
    pool = file_pool([path: path], health: :passive)
    assert {:ok, :ok} = ConnectionPool.with_connection(pool, &IO.binwrite(&1, "old"))
    File.write!(path <> ".new", "new")
    File.rename!(path <> ".new", path)
    {:ok, _} = ConnectionPool.with_connection(pool, & &1)
    assert {:ok, "new"} = ConnectionPool.with_connection(pool, &IO.binread(&1, 3))
    assert %{checks_failed: 1} = assert_settled(pool)
  end

  test "what cannot be opened is named, and arguments that are none are refused as the pool starts",
       %{path: path} do
    for {bad, why} <- [
          {Path.dirname(path), "illegal operation on a directory"},
          {path <> "/below", "cannot open lock file"}
        ] do
      assert {:error, %Error{error_type: :external_service_error} = error} =
               LockedFile.connect(path: bad)

      assert error.message =~ why and error.context.path == bad
    end

    for {options, argument} <- [
          {[], :path},
          {[path: ""], :path},
          {[path: []], :path},
          {[path: "a\0"], :path},
          {[path: [path, 7]], :path},
          {[path: path, append: 1], :append},
          {[path: path, mode: 1], :option},
          {path, :options}
        ] do
      pool = [name: :refused, worker: {LockedFile, options}]
      assert {:error, %Error{context: %{argument: ^argument}}} = ConnectionPool.start_link(pool)
      assert {:error, %Error{context: %{argument: ^argument}}} = LockedFile.connect(options)
    end

    assert free?(path)
  end
end
