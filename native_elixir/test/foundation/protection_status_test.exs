defmodule ElixirScope.Foundation.ProtectionStatusTest do
  # What `Infrastructure.get_protection_status/1` says, in each state of each part.
  use ElixirScope.Foundation.FoundationCase, async: false

  alias ElixirScope.Foundation.Infrastructure
  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, ConnectionPool}

  setup do: %{key: :"status_#{System.unique_integer([:positive])}"}

  defp configure(key, parts), do: :ok = Infrastructure.configure_protection(key, parts)

  defp status(key) do
    {:ok, status} = Infrastructure.get_protection_status(key)
    status
  end

  defp run(key, result), do: Infrastructure.execute_protected(key, [], fn -> result end)

  test "has the parts that are configured, and no other", %{key: key} do
    parts = [circuit_breaker: %{}, rate_limiter: %{limit: 1, window_ms: 1}, connection_pool: :p]

    for {part, config} <- parts do
      configure(key, [{part, config}])
      assert Map.keys(status(key)) == [part]
    end

    configure(key, parts)
    assert Enum.sort(Map.keys(status(key))) == Enum.sort(Keyword.keys(parts))
    configure(key, %{})
    assert status(key) == %{}
  end

  test "of a breaker: its phase, and the failures that count toward the next", %{key: key} do
    configure(key, circuit_breaker: %{failure_threshold: 3, recovery_time: 0})
    assert status(key).circuit_breaker == %{status: :closed, failure_count: 0}

    for failures <- 1..2 do
      {:error, :down} = run(key, {:error, :down})
      assert status(key).circuit_breaker == %{status: :closed, failure_count: failures}
    end

    {:error, :down} = run(key, {:error, :down})
    assert status(key).circuit_breaker == %{status: :open, failure_count: 0}

    Infrastructure.execute_protected(key, [], fn ->
      assert %{status: :half_open} = status(key).circuit_breaker
    end)

    assert status(key).circuit_breaker == %{status: :closed, failure_count: 0}
    :ok = CircuitBreaker.force_open(:production, key)
    assert %{status: :open} = status(key).circuit_breaker
  end

  test "of a limit: its rule, what remains, and when the next call may come", %{key: key} do
    configure(key, rate_limiter: %{limit: 2, window_ms: 60_000})
    full = %{limit: 2, window_ms: 60_000, remaining: 2, retry_after_ms: 0}
    assert status(key).rate_limiter == full
    {:ok, 1} = run(key, 1)
    assert status(key).rate_limiter == %{full | remaining: 1}
    {:ok, 1} = run(key, 1)
    assert %{remaining: 0, retry_after_ms: ms} = status(key).rate_limiter
    assert ms in 1..30_000
  end

  test "of a pool: what the pool says, by either way to name it", %{key: key} do
    name = :"pool_#{System.unique_integer([:positive])}"
    create = fn -> Agent.start_link(fn -> 0 end) end
    start_supervised!({ConnectionPool, name: name, size: 2, create: create})
    {:ok, _agent} = ConnectionPool.checkout(name)

    for pool <- [name, {:production, name}] do
      configure(key, connection_pool: pool)
      assert {:ok, status(key).connection_pool} == ConnectionPool.status(name)
    end

    assert %{size: 2, in_use: 1, granted: 1} = status(key).connection_pool
    :ok = stop_supervised({ConnectionPool, {:production, name}})
    assert status(key).connection_pool == %{error: :pool_not_found}
  end

  test "is what they hold while a switch is off", %{key: key} do
    configure(key,
      circuit_breaker: %{failure_threshold: 1},
      rate_limiter: %{limit: 1, window_ms: 60_000}
    )

    {:error, :down} = run(key, {:error, :down})
    put_env(:infrastructure, circuit_breakers: %{enabled: false})
    assert {:ok, 1} = run(key, 1)
    assert %{circuit_breaker: %{status: :open}, rate_limiter: %{remaining: 0}} = status(key)
  end
end
