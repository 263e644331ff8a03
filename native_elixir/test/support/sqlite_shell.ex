defmodule ElixirScope.Foundation.SqliteShell do
  @moduledoc "Another OS process, the `sqlite3` shell, that takes a database for itself."

  import ExUnit.Assertions

  @doc "Writes a row `(1, 'holder')` into `t` in a transaction that locks everybody out; `unlock/1` commits it."
  def lock(path) do
    shell = System.find_executable("sqlite3") || flunk("these tests need the sqlite3 shell")

    port =
      Port.open({:spawn_executable, shell}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        args: ["-batch", path]
      ])

    say(port, "BEGIN EXCLUSIVE; INSERT INTO t VALUES (1, 'holder'); SELECT 'locked';")
    assert_receive {^port, {:data, "locked\n"}}, 10_000
    port
  end

  @doc "Commits and ends. Returns the instant at which the COMMIT was known to have returned."
  def unlock(port) do
    say(port, "COMMIT; SELECT 'committed';")
    say(port, ".quit")
    assert_receive {^port, {:data, "committed\n"}}, 10_000
    committed = System.monotonic_time()
    assert_receive {^port, {:exit_status, 0}}, 10_000
    committed
  end

  defp say(port, line), do: Port.command(port, line <> "\n")
end
