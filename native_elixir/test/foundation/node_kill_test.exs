defmodule ElixirScope.Foundation.NodeKillTest do
  # Whole nodes that store events and are killed with SIGKILL, on both databases: what they acknowledged is there for the
  # next. They are configured as an application is: with a folder alone it is SQLite in that folder.
  use ExUnit.Case

  import ElixirScope.Foundation.DurableCase, only: [folder: 0]

  alias ElixirScope.Foundation.PostgreSQLServer

  @rounds 3
  @enough 200

  test "SQLite in the folder of storage.warm.path: no acknowledged event is lost" do
    # The folder is made.
    folder = Path.join(folder(), "a/b")
    lost_none(%{path: folder}, %{size: 2, max_overflow: 0})
    assert "elixir_scope.db" in File.ls!(folder)
  end

  test "PostgreSQL: no acknowledged event is lost" do
    # The path says nothing where the pool has a database of its own.
    folder = Path.join(folder(), "none")

    pool =
      Map.new([size: 2, max_overflow: 0] ++ PostgreSQLServer.options(PostgreSQLServer.start()))

    lost_none(%{path: folder}, pool)
    refute File.exists?(folder)
  end

  test "warm storage needs no configured pool" do
    folder = folder()

    script = fn version ->
      """
      {:ok, %{version: #{version}}} = ConfigServer.sync_to_database_v3(:production, %{n: #{version}})
      {:ok, #{version}} = EventStore.store(Event.new(event_id: #{version}, event_type: :spawn, timestamp: 0))
      {:ok, %{event_count: #{version}, persistence: :database}} = EventStore.status()
      IO.write("did it")
      # In order, for a database that is in the middle of something when the VM halts has its driver complain.
      System.stop()
      Process.sleep(:infinity)
      """
    end

    for version <- 1..2 do
      # A service that has not read its events back says so.
      wait = "{:ok, _} = EventStore.stats()\n"
      arguments = arguments(%{path: folder}, nil, wait <> script.(version))
      assert {"did it", 0} = System.cmd("elixir", arguments, stderr_to_stdout: true)
    end
  end

  test "a folder that cannot be made keeps nothing from starting, and is told" do
    file = Path.join(folder(), "file")
    File.write!(file, "")

    script = """
    {:error, error} = ConfigServer.sync_to_database_v3(:production, %{})
    {:ok, %{status: :starting}} = EventStore.status()
    {:ok, :mock} = ConfigServer.get([:ai, :provider])
    IO.write("\#{error.error_type}: \#{error.message}")
    """

    arguments = arguments(%{path: Path.join(file, "x")}, nil, script)
    assert {said, 0} = System.cmd("elixir", ["--logger-otp-reports", "false" | arguments])
    assert said =~ "pool_not_found"
    assert said =~ "`storage.warm.path` is #{inspect(Path.join(file, "x"))}, allowed is a folder"
  end

  defp lost_none(warm, pool) do
    acknowledged =
      Enum.flat_map(1..@rounds, fn round ->
        ids = killed_node(warm, pool, round)
        assert length(ids) >= @enough
        ids
      end)

    # One more node reads them back.
    script = """
    {:ok, events} = EventStore.query(%{})
    IO.write(Enum.map(events, &"kept \#{&1.event_id}\\n"))
    """

    {said, 0} = System.cmd("elixir", arguments(warm, pool, script))
    kept = for "kept " <> id <- String.split(said, "\n"), into: MapSet.new(), do: id
    assert Enum.reject(acknowledged, &(&1 in kept)) == []
    IO.puts("node kill: #{@rounds} nodes acknowledged #{length(acknowledged)}, none is lost")
  end

  # Another operating system process stores events from 20 processes and prints each acknowledged id. Killed with
  # SIGKILL once it has printed so many; what it still had printed counts too.
  defp killed_node(warm, pool, round) do
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

    options = [:binary, :exit_status, line: 1_000, args: arguments(warm, pool, script)]
    port = Port.open({:spawn_executable, System.find_executable("elixir")}, options)
    {:os_pid, os_pid} = Port.info(port, :os_pid)
    ids = acknowledgements(port, [], @enough)
    PostgreSQLServer.kill_9(os_pid)
    acknowledgements(port, ids, :all)
  end

  defp arguments(warm, pool, script) do
    pools = if pool, do: %{database: pool}, else: %{}

    start = """
    Application.put_env(:elixir_scope, :storage, #{inspect(%{warm: Map.put(warm, :enable, true)})})
    Application.put_env(:elixir_scope, :infrastructure, %{connection_pools: #{inspect(pools)}})
    {:ok, _} = Application.ensure_all_started(:elixir_scope_foundation)
    alias ElixirScope.Foundation.{Services.ConfigServer, Services.EventStore, Types.Event}
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
