defmodule ElixirScopeBench.Waits do
  @moduledoc false
  # Pool beside poolboy where callers wait: sixteen processes on four connections, each held for a millisecond asleep.
  #
  # Three rows: time an operation, the 99th percentile of the waits, and the longest. A wait lasts from the call until the
  # caller has its connection. 0.97 of the peer's throughput is 1.031 of its time.

  alias ElixirScope.Foundation.Infrastructure.ConnectionPool
  alias ElixirScopeBench.{SideBySide, Worker}

  @processes 16
  @four [size: 4, max_overflow: 0]
  @turns 60
  @rounds 9
  @bounds [{"", 1.031}, {"-p99", 1.0}, {"-longest", 1.0}]

  @doc "The rows."
  def rows do
    {:ok, _} = ConnectionPool.start_link([name: :bench_wait, create: &connection/0] ++ @four)
    {:ok, _} = :poolboy.start_link([worker_module: Worker, name: {:local, :bench_wait}] ++ @four)
    # Our pool makes its connections on demand; poolboy has made its own.
    {_, _} = {measure(&ours/0), measure(&poolboy/0)}
    rounds = Enum.map(1..@rounds, &pair/1)
    for {{name, bound}, column} <- Enum.with_index(@bounds), do: row(name, bound, column, rounds)
  end

  defp row(name, bound, column, rounds) do
    {ours, peer} =
      rounds |> Enum.map(fn {o, p} -> {elem(o, column), elem(p, column)} end) |> Enum.unzip()

    SideBySide.summary("beam-pool-wait#{name}", "poolboy", bound, @processes, ours, peer)
  end

  defp pair(turn) when rem(turn, 2) == 1 do
    ours = measure(&ours/0)
    {ours, measure(&poolboy/0)}
  end

  defp pair(_turn) do
    peer = measure(&poolboy/0)
    {measure(&ours/0), peer}
  end

  # Nanoseconds an operation of the slowest process, the 99th percentile of all waits and the longest one.
  defp measure(turn) do
    parent = self()

    workers =
      for _ <- 1..@processes do
        spawn_link(fn ->
          receive do: (:go -> :ok)
          began = now()
          waits = for _ <- 1..@turns, do: turn.()
          send(parent, {self(), now() - began, waits})
        end)
      end

    Enum.each(workers, &send(&1, :go))

    {times, waits} =
      workers
      |> Enum.map(fn worker -> receive(do: ({^worker, time, waits} -> {time, waits})) end)
      |> Enum.unzip()

    waits = waits |> Enum.concat() |> Enum.sort()
    {Enum.max(times) / @turns, Enum.at(waits, div(length(waits) * 99, 100)), List.last(waits)}
  end

  defp ours do
    asked = now()
    {:ok, connection} = ConnectionPool.checkout(:bench_wait, :infinity)
    waited = now() - asked
    Process.sleep(1)
    :ok = ConnectionPool.checkin(:bench_wait, connection)
    waited
  end

  defp poolboy do
    asked = now()
    worker = :poolboy.checkout(:bench_wait, true, :infinity)
    waited = now() - asked
    Process.sleep(1)
    :ok = :poolboy.checkin(:bench_wait, worker)
    waited
  end

  defp now, do: System.monotonic_time(:nanosecond)

  defp connection, do: Worker.start_link(nil)
end
