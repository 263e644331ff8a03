defmodule ElixirScope.Foundation.Infrastructure.RateLimiterKillTest do
  # Processes that are killed while they hold or wait for something.
  use ExUnit.Case, async: true

  alias ElixirScope.Foundation.ProcessRegistry
  alias ElixirScope.Foundation.Infrastructure.{ManualClock, TokenBucketLimiter}

  @rule {2, 2_000}

  setup do
    reference = make_ref()
    namespace = {:test, reference}
    :ok = ManualClock.install(namespace)
    on_exit(fn -> ProcessRegistry.cleanup_test_namespace(reference) end)
    %{namespace: namespace, opts: [namespace: namespace]}
  end

  # One that has ended already is as good.
  defp kill(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    receive do: ({:DOWN, ^monitor, :process, ^pid, _reason} -> :ok)
  end

  defp stats(namespace) do
    {:ok, stats} = TokenBucketLimiter.stats(namespace)
    stats
  end

  defp wait_until(condition) do
    unless condition.() do
      Process.sleep(1)
      wait_until(condition)
    end
  end

  defp wait_in(namespace, opts) do
    before = stats(namespace).waiting
    pid = spawn(fn -> TokenBucketLimiter.acquire("k", @rule, 60_000, opts) end)
    wait_until(fn -> stats(namespace).waiting == before + 1 end)
    pid
  end

  defp reset_after_ms(opts) do
    {:ok, decision} = TokenBucketLimiter.peek("k", @rule, opts)
    TokenBucketLimiter.Decision.reset_after_ms(decision)
  end

  test "the newest of those who wait gives its reservation back", context do
    %{namespace: namespace, opts: opts} = context
    :ok = TokenBucketLimiter.acquire("k", @rule, 0, [cost: 2] ++ opts)
    waiters = for _ <- 1..3, do: wait_in(namespace, opts)
    assert reset_after_ms(opts) == 5_000

    for {pid, left} <- waiters |> Enum.reverse() |> Enum.zip([4_000, 3_000, 2_000]) do
      kill(pid)
      wait_until(fn -> reset_after_ms(opts) == left end)
    end

    assert %{waiting: 0, forfeited: 0} = stats(namespace)
  end

  test "one with others behind it leaves the queue, and its time passes", context do
    %{namespace: namespace, opts: opts} = context
    :ok = TokenBucketLimiter.acquire("k", @rule, 0, [cost: 2] ++ opts)
    [first, second] = for _ <- 1..2, do: wait_in(namespace, opts)
    kill(first)
    wait_until(fn -> stats(namespace).waiting == 1 end)
    wait_until(fn -> stats(namespace).forfeited == 1 end)
    assert reset_after_ms(opts) == 4_000
    monitor = Process.monitor(second)
    ManualClock.advance(namespace, 2_000)
    assert :normal = receive(do: ({:DOWN, ^monitor, :process, _pid, reason} -> reason))
    assert stats(namespace).waiting == 0
  end

  test "one that holds a reservation leaves its cost debited, and nothing wedged", context do
    %{namespace: namespace, opts: opts} = context
    test = self()

    pid =
      spawn(fn ->
        {:ok, reservation} = TokenBucketLimiter.reserve("k", @rule, [cost: 2] ++ opts)
        send(test, reservation.receipt)
        Process.sleep(:infinity)
      end)

    receipt = receive(do: (receipt -> receipt))
    kill(pid)
    assert {:error, :rate_limited, 1_000} = check(opts)
    # A receipt is whoever's holds it.
    assert {:ok, :applied} = TokenBucketLimiter.refund(receipt, 1)
    assert :ok = check(opts)
    ManualClock.advance(namespace, 2_000)
    assert :ok = check(opts)
  end

  defp check(opts), do: TokenBucketLimiter.check_rate_limit("k", 2, 2_000, opts)

  test "kills at any moment leave no one in the queue and admit no more than the rule", context do
    %{namespace: namespace, opts: opts} = context
    rule = {5, 1_000}

    started =
      for round <- 1..60 do
        pids =
          for _ <- 1..8,
              do: spawn(fn -> TokenBucketLimiter.acquire(:all, rule, 10_000, opts) end)

        # Some before, some after they have reserved.
        :erlang.yield()
        for {pid, index} <- Enum.with_index(pids), rem(index + round, 3) == 0, do: kill(pid)
        ManualClock.advance(namespace, 1_000)
        pids
      end

    # Who is late to start waits from now on.
    wait_until(fn ->
      ManualClock.advance(namespace, 1_000)
      not Enum.any?(List.flatten(started), &Process.alive?/1)
    end)

    wait_until(fn -> stats(namespace).waiting == 0 end)
    ManualClock.advance(namespace, 600_000)
    assert stats(namespace).allowed <= 480
    assert {:ok, %{remaining: 5}} = TokenBucketLimiter.peek(:all, rule, opts)
  end
end
