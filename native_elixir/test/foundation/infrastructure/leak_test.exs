defmodule ElixirScope.Foundation.Infrastructure.LeakTest do
  # Not async: it counts all native objects of the VM.
  use ExUnit.Case, async: false

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreaker,
    CircuitBreakerRegistry,
    CircuitBreakerTelemetry
  }

  alias ElixirScope.Foundation.Infrastructure.{Names, Native, TokenBucketLimiter}

  alias ElixirScope.Foundation.ProcessRegistry

  @tables [Names, CircuitBreakerTelemetry, :process_registry_backup]

  # A round creates and forgets all kinds of objects, also with owners that die and with refused input.
  defp round do
    reference = make_ref()
    namespace = {:test, reference}

    for number <- 1..20 do
      service = :"leak_#{number}"
      CircuitBreakerRegistry.register(namespace, service, failure_threshold: 1, reset_timeout: 0)
      CircuitBreaker.execute(namespace, service, fn -> {:error, :down} end)
      CircuitBreaker.execute(namespace, service, fn -> raise "probe" end)
      {_owner, monitor} = spawn_monitor(fn -> CircuitBreaker.acquire(namespace, service) end)
      assert_receive {:DOWN, ^monitor, :process, _owner, :normal}
      CircuitBreaker.acquire(namespace, service)
      CircuitBreakerRegistry.register(namespace, service, failure_threshold: 0)
    end

    for number <- 1..100,
        do: TokenBucketLimiter.check_rate_limit({:key, number}, 1, 1_000, namespace: namespace)

    TokenBucketLimiter.check_rate_limit(String.duplicate("x", 100_000), 1, 1_000,
      namespace: namespace
    )

    place = [namespace: namespace]
    {:ok, %{receipt: receipt}} = TokenBucketLimiter.reserve(:k, {1, 60_000}, place)
    TokenBucketLimiter.put_limit(:limit, {1, 1}, place)
    TokenBucketLimiter.put_limit(:limit, {2, 1}, place)

    # Two wait in line and are killed there.
    waiters =
      for _ <- 1..2 do
        spawn_monitor(fn -> TokenBucketLimiter.acquire(:k, {1, 60_000}, :infinity, place) end)
      end

    for {pid, monitor} <- waiters do
      Process.exit(pid, :kill)
      receive do: ({:DOWN, ^monitor, :process, ^pid, :killed} -> :ok)
    end

    TokenBucketLimiter.configure(namespace, max_keys: 10)
    {:error, _bad_receipt} = TokenBucketLimiter.refund(receipt)
    ProcessRegistry.cleanup_test_namespace(reference)
  end

  defp settled(objects, tries \\ 500) do
    Enum.each(Process.list(), &:erlang.garbage_collect/1)

    cond do
      no_more_than?(Native.live_objects(), objects) -> true
      tries == 0 -> Native.live_objects()
      true -> Process.sleep(10) && settled(objects, tries - 1)
    end
  end

  defp no_more_than?(now, before),
    do: Enum.all?(now, fn {kind, count} -> count <= before[kind] end)

  test "what is forgotten is freed" do
    round()
    Enum.each(Process.list(), &:erlang.garbage_collect/1)
    before = Native.live_objects()
    rows = Enum.map(@tables, &:ets.info(&1, :size))
    for _ <- 1..20, do: round()

    assert settled(before) == true
    assert Enum.map(@tables, &:ets.info(&1, :size)) == rows
  end
end
