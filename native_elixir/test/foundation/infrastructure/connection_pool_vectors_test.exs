defmodule ElixirScope.Foundation.Infrastructure.ConnectionPoolVectorsTest do
  use ElixirScope.Foundation.PoolCase, async: true

  alias ElixirScope.Foundation.Infrastructure.ManualClock
  alias ElixirScope.Foundation.Vectors

  @tag :vectors
  test "every vector of the pool" do
    vectors = Vectors.read(:pool)
    Enum.each(vectors, &replay/1)
    Vectors.report(:pool, vectors)
  end

  @tag :vectors
  test "every vector of the pool's orders, ages, checks and sizes" do
    vectors = Vectors.read(:pool_full)
    Enum.each(vectors, &replay_full/1)
    Vectors.report(:pool_full, vectors)
  end

  # Connections are numbered in the order of their creation; the pool closes them in processes of their own, so what
  # an operation destroyed is known once nothing is being closed any more.
  defp replay(%{"config" => config, "ops" => ops, "name" => name}) do
    test = self()
    made = :counters.new(1, [])

    create = fn ->
      :counters.add(made, 1, 1)
      {:ok, {:connection, :counters.get(made, 1)}}
    end

    pool =
      start_pool(
        size: config["size"],
        max_overflow: config["max_overflow"],
        strategy: String.to_atom(config["order"]),
        overflow_ttl: div(config["overflow_ttl_ns"], 1_000_000),
        create: create,
        close: fn {:connection, number} -> send(test, {:destroyed, pool_name(name), number}) end
      )

    ops
    |> Enum.with_index()
    |> Enum.reduce([], fn {op, index}, leases ->
      {answer, leases} = run(op, pool, leases)
      answer = observe(pool, pool_name(name), answer)
      expected = Map.put_new(op["expect"], "destroyed", [])

      assert answer == expected,
             "#{name}, operation #{index}: #{inspect(op)}, answered #{inspect(answer)}"

      leases
    end)

    stop_supervised!(elem(pool, 0))
  end

  defp pool_name(name), do: {:vector, name}

  defp run(%{"op" => "checkout"}, pool, leases) do
    case ConnectionPool.checkout_lease(pool, 0) do
      {:ok, %{connection: {:connection, number}} = lease} ->
        {%{"verdict" => "ok", "connection" => number}, leases ++ [lease]}

      {:error, error} ->
        {%{"verdict" => word(error)}, leases}
    end
  end

  defp run(%{"op" => "checkin", "lease" => index, "condition" => condition}, pool, leases) do
    case ConnectionPool.checkin(pool, Enum.at(leases, index), String.to_atom(condition)) do
      :ok -> {%{"verdict" => "ok"}, leases}
      {:error, error} -> {%{"verdict" => word(error)}, leases}
    end
  end

  defp run(%{"op" => "close"}, pool, leases) do
    :ok = ConnectionPool.close(pool)
    {%{"verdict" => "ok"}, leases}
  end

  defp observe(pool, name, answer) do
    stats = await(pool, &(&1.closing == 0))

    Map.merge(answer, %{
      "destroyed" => Enum.sort(destroyed(name)),
      "idle" => stats.idle,
      "leased" => stats.in_use,
      "overflow" => stats.overflow,
      "waiting" => stats.waiting
    })
  end

  defp destroyed(name) do
    receive do
      {:destroyed, ^name, number} -> [number | destroyed(name)]
    after
      0 -> []
    end
  end

  defp word(error), do: Atom.to_string(error.error_type)

  # The times of these vectors are compared with each other only, so a nanosecond there is a millisecond here.
  @unit_ns 1_000_000

  # Tests find the connections well that no operation has spoilt.
  defp replay_full(%{"config" => config, "ops" => ops, "name" => name}) do
    test = self()
    made = :counters.new(1, [])
    spoilt = :ets.new(:spoilt, [:public])
    namespace = {:test, make_ref()}
    :ok = ManualClock.install(namespace)

    create = fn ->
      :counters.add(made, 1, 1)
      number = :counters.get(made, 1)
      send(test, {namespace, "created", number})
      {:ok, {:connection, number}}
    end

    ping = fn {:connection, number} ->
      send(test, {namespace, "checked", number})
      if :ets.member(spoilt, number), do: {:error, :spoilt}, else: :ok
    end

    pool =
      start_pool(
        namespace: namespace,
        size: config["size"],
        max_overflow: config["max_overflow"],
        max_slots: config["max_slots"],
        min_idle: config["min_idle"],
        max_creating: config["max_concurrent_creates"],
        strategy: String.to_atom(config["order"]),
        health: String.to_atom(config["health"]),
        health_interval: config["health_interval_ns"],
        overflow_ttl: config["overflow_ttl_ns"],
        idle_timeout: config["idle_timeout_ns"],
        max_lifetime: config["max_lifetime_ns"],
        keepalive: config["keepalive_ns"],
        pre_ping_after: config["pre_ping_after_ns"] || :never,
        # Some leases of a vector are never given back.
        drain: 0,
        create: create,
        ping: ping,
        close: fn {:connection, number} -> send(test, {namespace, "destroyed", number}) end
      )

    ops
    |> Enum.with_index()
    |> Enum.reduce([], fn {op, index}, leases ->
      :ok = ManualClock.set_ns(namespace, op["now_ns"] * @unit_ns)
      {answer, leases} = run_full(op, pool, spoilt, leases)
      answer = observe_full(pool, namespace, Map.put_new(answer, "connection", nil))

      assert answer == op["expect"],
             "#{name}, operation #{index}: #{inspect(op)}, answered #{inspect(answer)}"

      leases
    end)

    stop_supervised!(namespace)
  end

  defp run_full(%{"op" => op} = step, pool, _spoilt, leases)
       when op in ["checkout", "checkin", "close"],
       do: run(step, pool, leases)

  defp run_full(step, pool, spoilt, leases) do
    case step["op"] do
      "maintain" ->
        :ok = ConnectionPool.maintain(pool)

      "spoil" ->
        :ets.insert(spoilt, {step["connection"]})

      "resize" ->
        sizes = [size: step["size"], max_overflow: step["max_overflow"]]
        :ok = ConnectionPool.resize(pool, sizes)

      "evict" ->
        :ok = ConnectionPool.evict(pool)

      "drain" ->
        # What is still held comes back later.
        with {:error, error} <- ConnectionPool.drain(pool, 0),
             do: assert(error.error_type == :pool_timeout)
    end

    {%{"verdict" => "ok"}, leases}
  end

  defp observe_full(pool, namespace, answer) do
    stats = settle(pool)

    lists =
      for list <- ["created", "checked", "destroyed"],
          into: %{},
          do: {list, Enum.sort(told(namespace, list))}

    answer
    |> Map.merge(lists)
    |> Map.merge(%{"idle" => stats.idle, "leased" => stats.in_use, "overflow" => stats.overflow})
  end

  # What is due now, and what comes of it, until nothing is.
  defp settle(pool) do
    at_rest? = &(&1.creating + &1.checking + &1.closing == 0)
    await(pool, at_rest?)
    :ok = ConnectionPool.maintain(pool)
    stats = stats(pool)
    if at_rest?.(stats), do: stats, else: settle(pool)
  end

  defp told(namespace, list) do
    receive do
      {^namespace, ^list, number} -> [number | told(namespace, list)]
    after
      0 -> []
    end
  end
end
