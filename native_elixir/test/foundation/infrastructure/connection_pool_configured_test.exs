defmodule ElixirScope.Foundation.Infrastructure.ConnectionPoolConfiguredTest do
  # Not async: it changes the application's configuration.
  use ElixirScope.Foundation.PoolCase

  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.Configured
  alias ElixirScope.Foundation.Infrastructure.DatabasePool

  setup do
    before = Application.get_env(:elixir_scope, :infrastructure)
    on_exit(fn -> Application.put_env(:elixir_scope, :infrastructure, before) end)
  end

  defp configure(pools),
    do: Application.put_env(:elixir_scope, :infrastructure, connection_pools: pools)

  test "the configured database pool serves the plan's with_connection(fun)" do
    path = Path.join(System.tmp_dir!(), "configured_#{System.pid()}.db")
    on_exit(fn -> File.rm(path) end)
    configure(%{database: %{size: 10, max_overflow: 5, timeout: 5_000, path: path}})

    assert [spec] = Configured.children()
    start_supervised!(spec)

    assert {:ok, %{rows: [{1}]}} =
             DatabasePool.with_connection(&DatabasePool.query(&1, "SELECT 1"))

    assert {:ok, %{size: 10, capacity: 15}} = ConnectionPool.status(:database_pool)
    assert {:ok, pid} = ConnectionPool.checkout(:database)
    assert :ok = ConnectionPool.checkin(:database_pool, pid)
  end

  test "other pools name their worker; keyword lists and maps are the same" do
    create = fn -> {:ok, :connection} end
    configure(one: %{create: create, size: 1}, two: [create: create])
    for spec <- Configured.children(), do: start_supervised!(spec)
    assert {:ok, %{size: 1}} = ConnectionPool.status(:one)
    assert {:ok, %{size: 5}} = ConnectionPool.status(:two)
  end

  test "a pool whose configuration is wrong does not start, and says why" do
    configure(%{
      good: %{create: fn -> {:ok, 1} end},
      bad: %{size: -1, create: fn -> {:ok, 1} end},
      odd: 7,
      none: %{}
    })

    assert [%{id: {ConnectionPool, {:production, :good}}}] = Configured.children()

    for {name, why} <- [
          bad: "`size` is -1",
          odd: "`odd` is 7",
          none: "`worker` is nil",
          other: "none of this name"
        ] do
      assert {:error, %Error{error_type: :pool_not_found, message: message}} =
               ConnectionPool.checkout(name)

      assert message =~ why
    end

    assert {:error, %Error{message: message}} = ConnectionPool.checkout(:good)
    assert message =~ "it is configured, but it does not run on this node"
  end

  test "pools that are no map of pools start none, and every one of them says why" do
    configure(7)
    assert Configured.children() == []

    assert {:error, %Error{error_type: :pool_not_found, message: message}} =
             ConnectionPool.checkout(:any)

    assert message =~ "`connection_pools options` is 7, allowed is a map or a keyword list"
  end
end
