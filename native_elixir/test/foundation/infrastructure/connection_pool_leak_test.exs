defmodule ElixirScope.Foundation.Infrastructure.ConnectionPoolLeakTest do
  # Not async: it counts what the whole VM has.
  use ElixirScope.Foundation.PoolCase

  alias ElixirScope.Foundation.Infrastructure.Native

  test "pools and their connections leave nothing behind" do
    round()
    {pools, processes} = settle(fn -> {Native.pool_live(), length(Process.list())} end)
    before = memory()
    for _ <- 1..100, do: round()
    assert settle(fn -> {Native.pool_live(), length(Process.list())} end) == {pools, processes}
    grown = memory() - before
    assert grown < 2_000_000, "the VM grew by #{grown} bytes"
  end

  test "a process that has used a pool leaves nothing with it" do
    pool = start_pool(size: 2)

    use = fn ->
      {pid, monitor} = spawn_monitor(fn -> ConnectionPool.with_connection(pool, & &1) end)
      receive do: ({:DOWN, ^monitor, :process, ^pid, :normal} -> :ok)
    end

    for _ <- 1..1_000, do: use.()
    before = memory()
    for _ <- 1..20_000, do: use.()
    grown = memory() - before
    # A forgotten monitor alone would be more than a hundred bytes for each.
    assert grown < 1_000_000, "the VM grew by #{grown} bytes"
    assert_settled(pool)
  end

  # Good and bad ends of everything.
  defp round do
    pool = start_pool(size: 2, drain: 1)
    {:ok, first} = ConnectionPool.checkout(pool)
    {:ok, second} = ConnectionPool.checkout(pool)
    {:error, _} = ConnectionPool.checkout(pool, 1)
    waiter = client()
    later(waiter, fn -> ConnectionPool.checkout(pool, :infinity) end)
    await(pool, &(&1.waiting == 1))
    kill(waiter)
    :ok = ConnectionPool.checkin(pool, first)
    kill(second)
    stop_supervised!(elem(pool, 0))
  end

  defp settle(fun, last \\ nil, same \\ 0) do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    Process.sleep(20)
    now = fun.()

    cond do
      now != last -> settle(fun, now, 0)
      same < 5 -> settle(fun, last, same + 1)
      true -> now
    end
  end

  # The least of some looks: what a process had is given back a moment after its end.
  defp memory do
    looks =
      for _ <- 1..10 do
        for pid <- Process.list(), do: :erlang.garbage_collect(pid)
        Process.sleep(20)
        :erlang.memory(:total)
      end

    Enum.min(looks)
  end
end
