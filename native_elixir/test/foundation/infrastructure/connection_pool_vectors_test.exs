defmodule ElixirScope.Foundation.Infrastructure.ConnectionPoolVectorsTest do
  use ElixirScope.Foundation.PoolCase, async: true

  alias ElixirScope.Foundation.Vectors

  @tag :vectors
  test "every vector of the pool" do
    vectors = Vectors.read(:pool)
    Enum.each(vectors, &replay/1)
    Vectors.report(:pool, vectors)
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
end
