defmodule ElixirScopeBench.Rows do
  @moduledoc false
  # The BEAM rows of the number table: the public calls beside the reference NIF and poolboy, and the services'
  # protected calls beside what they protect.

  alias ElixirScope.Compat.Fuse
  alias ElixirScope.Foundation.{Events, Infrastructure}
  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, CircuitBreakerRegistry}
  alias ElixirScope.Foundation.Infrastructure.{ConnectionPool, DatabasePool}
  alias ElixirScope.Foundation.Infrastructure.{FeatureFlags, TokenBucketLimiter}
  alias ElixirScope.Foundation.PostgreSQLServer
  alias ElixirScope.Foundation.Services.{ConfigServer, EventStore}
  alias ElixirScopeBench.{Reference, SideBySide, Waits, Worker}

  @burst 1_000_000_000
  @hour_ms 3_600_000
  @keys 1_000
  @path [:ai, :provider]

  def main do
    flags(true)
    {:ok, _} = Application.ensure_all_started(:elixir_scope_foundation)
    :ok = CircuitBreakerRegistry.register(:production, :bench, call_timeout: :infinity)
    :ok = CircuitBreakerRegistry.register(:production, :limited, call_timeout: 60_000)
    :ok = Fuse.install(:bench, {{:standard, 10, @hour_ms}, {:reset, @hour_ms}})

    {:ok, _} =
      ConnectionPool.start_link(name: :bench, size: 10, max_overflow: 0, create: &connection/0)

    {:ok, _} =
      :poolboy.start_link(
        worker_module: Worker,
        name: {:local, :bench},
        size: 10
      )

    warm_up(:bench, 10)
    start_postgresql()

    for processes <- [1, 2, 8], row <- rows(processes), row != nil do
      row |> SideBySide.to_json() |> IO.puts()
    end

    for row <- Waits.rows(), do: row |> SideBySide.to_json() |> IO.puts()
  end

  # The services have their breakers from here: their calls run in the caller's process.
  defp flags(on) do
    Application.put_env(:elixir_scope, :infrastructure, %{
      circuit_breakers: %{enabled: on, default_config: %{call_timeout: :infinity}},
      rate_limiting: %{enabled: on, default_limits: %{event_storage: {@burst, @hour_ms}}}
    })
  end

  defp rows(processes) do
    reference = Reference.new()
    nif = &reference(reference, &1, 0)
    {:ok, handle} = CircuitBreaker.handle(:production, :bench)

    row = fn id, bound, ours ->
      SideBySide.row(id, "reference NIF", bound, processes, ours, nif)
    end

    [
      SideBySide.row("beam-a/a", "reference NIF beside itself", nil, processes, nif, nif),
      row.("beam-breaker", 4.0, &breaker(&1, 0)),
      row.("beam-breaker-handle", 3.0, &breaker_handle(handle, &1, 0)),
      timeout(processes),
      row.("beam-fuse-ask", 2.0, &fuse_ask(&1, 0)),
      row.("beam-limiter", 3.5, &limiter(&1, 0)),
      row.("beam-limiter-binary", 3.5, &limiter_binary(&1, 0)),
      batch(processes),
      SideBySide.row("beam-pool", "poolboy", 0.2, processes, &pool(&1, 0), &poolboy(&1, 0)),
      oneshot(processes),
      postgresql(processes),
      get_protected(processes),
      flag_off(processes),
      store_protected(processes),
      protected_operation(processes),
      execute_protected(processes)
    ]
  end

  # A limited call has a process of its own.
  defp timeout(processes) do
    {ours, peer} = {&breaker_timeout(&1, 0), &spawn_only(&1, 0)}
    SideBySide.row("beam-breaker-timeout", "spawn_monitor", 1.6, processes, ours, peer)
  end

  # A thousand keys in one call beside as many calls; a side counts thousands.
  defp batch(processes) do
    keys = for number <- 1..@keys, do: {:user, number}
    all_ok = List.duplicate(:ok, @keys)
    {ours, peer} = {&limiter_batch(keys, all_ok, &1, 0), &limiter_each(keys, &1, 0)}
    SideBySide.row("beam-limiter-batch", "1,000 single calls", 0.4, processes, ours, peer)
  end

  # What one check-out adds to a process that is spawned for it.
  defp oneshot(processes) do
    {ours, peer, spawn} = {&pool_oneshot(&1, 0), &poolboy_oneshot(&1, 0), &spawn_only(&1, 0)}

    SideBySide.row(
      "beam-pool-oneshot",
      "what poolboy adds to the spawn",
      0.33,
      processes,
      ours,
      peer,
      spawn
    )
  end

  # One statement of the driver, on connections of the same pool: lent for each, or once for all.
  defp postgresql(processes) do
    {ours, peer} = {&pool_pg(&1, 0), &driver_pg/1}
    SideBySide.row("beam-pool-pg", "the bare driver call", 1.02, processes, ours, peer)
  end

  defp get_protected(processes) do
    {ours, peer} = {&get_protected(&1, 0), &get(&1, 0)}
    SideBySide.row("beam-get-protected", "get", 1.2, processes, ours, peer)
  end

  defp flag_off(processes) do
    flags(false)
    {ours, peer} = {&get_protected(&1, 0), &get(&1, 0)}
    row = SideBySide.row("beam-flag-off", "get", 1.1, processes, ours, peer)
    flags(true)
    row
  end

  # The same event again replaces it, so the store does not grow.
  defp store_protected(processes) do
    {:ok, event} = Events.new_event(:bench, %{})
    {ours, peer} = {&store_protected(event, &1, 0), &store(event, &1, 0)}
    SideBySide.row("beam-store-protected", "store", 1.2, processes, ours, peer)
  end

  # One flag read, one execute by name and one check, one after the other.
  defp protected_operation(processes) do
    {ours, peer} = {&protected_operation(&1, 0), &its_parts(&1, 0)}
    SideBySide.row("beam-protected-operation", "its parts", 1.3, processes, ours, peer)
  end

  # A limit, a breaker and a pool under one name, beside the same three by hand, which give nothing back and have no
  # deadline.
  defp execute_protected(processes) do
    :ok =
      Infrastructure.configure_protection(:bench_all, %{
        circuit_breaker: %{call_timeout: :infinity},
        rate_limiter: %{limit: @burst, window_ms: @hour_ms},
        connection_pool: :bench
      })

    {ours, peer} = {&execute_protected(&1, 0), &by_hand(&1, 0)}
    SideBySide.row("beam-execute-protected", "the three by hand", nil, processes, ours, peer)
  end

  defp reference(_, 0, admitted), do: admitted

  defp reference(resource, n, admitted) do
    {:ok, _} = Reference.call(resource, n, 1)
    reference(resource, n - 1, admitted + 1)
  end

  defp breaker(0, admitted), do: admitted

  defp breaker(n, admitted) do
    {:ok, :done} = CircuitBreaker.execute(:production, :bench, fn -> :done end)
    breaker(n - 1, admitted + 1)
  end

  defp breaker_handle(_, 0, admitted), do: admitted

  defp breaker_handle(handle, n, admitted) do
    {:ok, :done} = CircuitBreaker.execute(handle, fn -> :done end)
    breaker_handle(handle, n - 1, admitted + 1)
  end

  defp breaker_timeout(0, admitted), do: admitted

  defp breaker_timeout(n, admitted) do
    {:ok, :done} = CircuitBreaker.execute(:production, :limited, fn -> :done end)
    breaker_timeout(n - 1, admitted + 1)
  end

  defp fuse_ask(0, admitted), do: admitted

  defp fuse_ask(n, admitted) do
    :ok = Fuse.ask(:bench, :sync)
    fuse_ask(n - 1, admitted + 1)
  end

  defp limiter(0, admitted), do: admitted

  defp limiter(n, admitted) do
    :ok = TokenBucketLimiter.check_rate_limit({:user, 17}, @burst, @hour_ms)
    limiter(n - 1, admitted + 1)
  end

  defp limiter_binary(0, admitted), do: admitted

  defp limiter_binary(n, admitted) do
    :ok = TokenBucketLimiter.check_rate_limit("user:17", @burst, @hour_ms)
    limiter_binary(n - 1, admitted + 1)
  end

  defp limiter_batch(_, _, 0, admitted), do: admitted

  defp limiter_batch(keys, all_ok, n, admitted) do
    {:ok, ^all_ok} = TokenBucketLimiter.check_rate_limits(keys, @burst, @hour_ms)
    limiter_batch(keys, all_ok, n - 1, admitted + 1)
  end

  defp limiter_each(_, 0, admitted), do: admitted

  defp limiter_each(keys, n, admitted) do
    each(keys)
    limiter_each(keys, n - 1, admitted + 1)
  end

  defp each([]), do: :ok

  defp each([key | keys]) do
    :ok = TokenBucketLimiter.check_rate_limit(key, @burst, @hour_ms)
    each(keys)
  end

  defp pool(0, admitted), do: admitted

  defp pool(n, admitted) do
    {:ok, connection} = ConnectionPool.checkout(:bench)
    :ok = ConnectionPool.checkin(:bench, connection)
    pool(n - 1, admitted + 1)
  end

  defp pool_pg(0, admitted), do: admitted

  defp pool_pg(n, admitted) do
    {:ok, _} = DatabasePool.with_connection(fn {_, driver} -> select(driver) end, pool: :bench_pg)
    pool_pg(n - 1, admitted + 1)
  end

  defp driver_pg(n) do
    {:ok, {_, driver} = connection} = ConnectionPool.checkout(:bench_pg)
    admitted = driver_pg(driver, n, 0)
    :ok = ConnectionPool.checkin(:bench_pg, connection)
    admitted
  end

  defp driver_pg(_driver, 0, admitted), do: admitted

  defp driver_pg(driver, n, admitted) do
    {:ok, _} = select(driver)
    driver_pg(driver, n - 1, admitted + 1)
  end

  defp select(driver), do: :pgsql.squery(driver, "SELECT 1")

  defp poolboy(0, admitted), do: admitted

  defp poolboy(n, admitted) do
    worker = :poolboy.checkout(:bench)
    :ok = :poolboy.checkin(:bench, worker)
    poolboy(n - 1, admitted + 1)
  end

  defp spawn_only(0, admitted), do: admitted

  defp spawn_only(n, admitted) do
    once(fn -> :ok end)
    spawn_only(n - 1, admitted + 1)
  end

  defp pool_oneshot(0, admitted), do: admitted

  defp pool_oneshot(n, admitted) do
    once(fn ->
      {:ok, connection} = ConnectionPool.checkout(:bench)
      ConnectionPool.checkin(:bench, connection)
    end)

    pool_oneshot(n - 1, admitted + 1)
  end

  defp poolboy_oneshot(0, admitted), do: admitted

  defp poolboy_oneshot(n, admitted) do
    once(fn -> :poolboy.checkin(:bench, :poolboy.checkout(:bench)) end)
    poolboy_oneshot(n - 1, admitted + 1)
  end

  defp get(0, admitted), do: admitted

  defp get(n, admitted) do
    {:ok, :mock} = ConfigServer.get(:production, @path)
    get(n - 1, admitted + 1)
  end

  defp get_protected(0, admitted), do: admitted

  defp get_protected(n, admitted) do
    {:ok, :mock} = ConfigServer.get_protected(:production, @path)
    get_protected(n - 1, admitted + 1)
  end

  defp store(_, 0, admitted), do: admitted

  defp store(event, n, admitted) do
    {:ok, _} = EventStore.store(:production, event)
    store(event, n - 1, admitted + 1)
  end

  defp store_protected(_, 0, admitted), do: admitted

  defp store_protected(event, n, admitted) do
    {:ok, _} = EventStore.store_protected(:production, event)
    store_protected(event, n - 1, admitted + 1)
  end

  defp protected_operation(0, admitted), do: admitted

  defp protected_operation(n, admitted) do
    opts = [rate_limit: {@burst, @hour_ms}, rate_key: {:user, 17}]
    {:ok, :done} = Infrastructure.protected_operation(:production, :bench, opts, fn -> :done end)
    protected_operation(n - 1, admitted + 1)
  end

  defp execute_protected(0, admitted), do: admitted

  defp execute_protected(n, admitted) do
    {:ok, :done} = Infrastructure.execute_protected(:bench_all, [], fn _connection -> :done end)
    execute_protected(n - 1, admitted + 1)
  end

  defp by_hand(0, admitted), do: admitted

  defp by_hand(n, admitted) do
    :ok = TokenBucketLimiter.check_rate_limit({:user, 17}, @burst, @hour_ms)

    {:ok, :done} =
      CircuitBreaker.execute(:production, :bench, fn ->
        ConnectionPool.with_connection(:bench, fn _connection -> :done end)
      end)

    by_hand(n - 1, admitted + 1)
  end

  defp its_parts(0, admitted), do: admitted

  defp its_parts(n, admitted) do
    true = FeatureFlags.circuit_breaker_enabled?(:production)
    :ok = TokenBucketLimiter.check_rate_limit({:user, 17}, @burst, @hour_ms)
    {:ok, :done} = CircuitBreaker.execute(:production, :bench, fn -> :done end)
    its_parts(n - 1, admitted + 1)
  end

  defp once(fun) do
    {pid, monitor} = spawn_monitor(fun)
    receive do: ({:DOWN, ^monitor, :process, ^pid, :normal} -> :ok)
  end

  # Our pool makes its connections on demand; poolboy has made its own.
  defp warm_up(pool, size) do
    held = for _ <- 1..size, do: elem(ConnectionPool.checkout(pool), 1)
    Enum.each(held, &ConnectionPool.checkin(pool, &1))
  end

  # Without the reset, which is a statement of its own.
  defp start_postgresql do
    server = PostgreSQLServer.start(fn stop -> System.at_exit(fn _status -> stop.() end) end)
    own = [name: :bench_pg, size: 8, max_overflow: 0, reset: false]
    {:ok, _} = DatabasePool.start_link(PostgreSQLServer.options(server) ++ own)
    warm_up(:bench_pg, 8)
  end

  defp connection, do: Agent.start_link(fn -> nil end)
end

defmodule ElixirScopeBench.Worker do
  @moduledoc false
  def start_link(_), do: Agent.start_link(fn -> nil end)
end
