defmodule ElixirScope.Foundation.Infrastructure.ConnectionPoolTest do
  use ElixirScope.Foundation.PoolCase, async: true

  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.Lease

  doctest ConnectionPool

  describe "connection pool" do
    test "manages connection lifecycle" do
      test = self()

      create = fn ->
        {:ok, agent} = Agent.start_link(fn -> 0 end)
        send(test, {:created, agent})
        {:ok, agent}
      end

      close = fn agent ->
        send(test, {:closed, agent})
        Agent.stop(agent)
      end

      pool = start_pool(size: 2, max_overflow: 1, create: create, close: close)

      # Made on demand, not before.
      refute_receive {:created, _}, 20
      assert {:ok, first} = ConnectionPool.checkout(pool)
      assert_receive {:created, ^first}

      # Kept and used again.
      assert :ok = ConnectionPool.checkin(pool, first)
      assert {:ok, ^first} = ConnectionPool.checkout(pool)

      # One above the size, closed on its return.
      assert {:ok, second} = ConnectionPool.checkout(pool)
      assert {:ok, third} = ConnectionPool.checkout(pool)
      assert length(Enum.uniq([first, second, third])) == 3
      assert %{in_use: 3, overflow: 1} = stats(pool)
      assert :ok = ConnectionPool.checkin(pool, second)
      assert_receive {:closed, ^second}

      # Everything goes with the pool.
      assert :ok = ConnectionPool.checkin(pool, first)
      assert :ok = ConnectionPool.checkin(pool, third)
      assert %{idle: 2} = assert_settled(pool)
      assert :ok = stop_supervised(elem(pool, 0))
      assert_receive {:closed, ^first}
      assert_receive {:closed, ^third}
      refute Enum.any?([first, second, third], &Process.alive?/1)
      assert {:error, %Error{error_type: :pool_not_found}} = ConnectionPool.checkout(pool)
    end

    test "handles connection failures gracefully" do
      attempts = :counters.new(1, [])

      create = fn ->
        :counters.add(attempts, 1, 1)

        case :counters.get(attempts, 1) do
          1 -> {:error, :refused}
          2 -> raise "no route"
          3 -> exit(:gone)
          4 -> throw(:ball)
          5 -> nil
          6 -> Process.exit(self(), :kill)
          7 -> {:ok, spawn(fn -> :ok end) |> tap(&await_death/1)}
          _ -> Agent.start_link(fn -> 0 end)
        end
      end

      pool = start_pool(create: create, retry_after: 1, retry_at_most: 2)
      assert {:ok, agent} = ConnectionPool.checkout(pool)
      assert Process.alive?(agent)
      assert %{create_errors: 7, created: 1, failing: 0} = stats(pool)
      assert :ok = ConnectionPool.checkin(pool, agent)
      assert_settled(pool)
    end

    test "a time-out carries the reason why no connection could be made" do
      pool = start_pool(create: fn -> {:error, :refused} end)

      assert {:error, %Error{error_type: :create_failed}} = ConnectionPool.checkout(pool, 0)

      assert {:error, %Error{error_type: :pool_timeout} = error} =
               ConnectionPool.checkout(pool, 1)

      assert error.context == %{pool: pool, timeout: 1, last_error: :refused}
      assert error.message =~ "the last attempt to make one failed: :refused"
    end

    test "the reason is a sentence, whatever the creation ended by" do
      for {create, sentence} <- [
            {fn -> raise "no server" end, "** (RuntimeError) no server"},
            {fn -> {:error, Error.new(:timeout, "too slow")} end, "too slow"},
            {fn -> :connected end,
             "it returned :connected, allowed is {:ok, connection} or {:error, reason}"},
            {fn -> throw(:ball) end, "{:throw, :ball}"}
          ] do
        pool = start_pool(create: create)
        assert {:error, %Error{} = error} = ConnectionPool.checkout(pool, 0)
        assert error.message == "pool #{inspect(pool)} could not make a connection: #{sentence}"
      end
    end

    test "closes a connection although its worker's close raises, hangs or leaves it alive" do
      for close <- [fn _ -> raise "no" end, fn _ -> Process.sleep(:infinity) end, fn _ -> :ok end] do
        pool = start_pool(close: close, close_timeout: 20)
        {:ok, agent} = ConnectionPool.checkout(pool)
        monitor = Process.monitor(agent)
        assert :ok = ConnectionPool.checkin(pool, agent, :broken)
        assert_receive {:DOWN, ^monitor, :process, ^agent, _}, 1_000
        assert %{broken: 1, idle: 0} = assert_settled(pool)
      end
    end

    test "hands out connections of any kind of term" do
      for connection <- [
            :atom,
            42,
            "text",
            {:tuple, [1.5, %{key: "value"}]},
            make_ref(),
            fn -> :ok end
          ] do
        pool = start_pool(create: fn -> {:ok, connection} end, close: fn _ -> :ok end)
        assert {:ok, ^connection} = ConnectionPool.checkout(pool)

        assert {:error, %Error{error_type: :stale_lease}} =
                 ConnectionPool.checkin(pool, {:another, connection})

        assert :ok = ConnectionPool.checkin(pool, connection)
        assert_settled(pool)
      end
    end

    test "gives back each of several equal connections once" do
      pool = start_pool(size: 3, create: fn -> {:ok, :same} end, close: fn _ -> :ok end)
      for _ <- 1..3, do: assert({:ok, :same} = ConnectionPool.checkout(pool))
      for _ <- 1..3, do: assert(:ok = ConnectionPool.checkin(pool, :same))
      assert {:error, %Error{error_type: :stale_lease}} = ConnectionPool.checkin(pool, :same)
      assert_settled(pool)
    end
  end

  describe "with_connection/3" do
    test "wraps what the function returns, unless it is a result already" do
      pool = start_pool()

      for {returned, expected} <- [
            {7, {:ok, 7}},
            {nil, {:ok, nil}},
            {:ok, {:ok, :ok}},
            {{:ok, 7}, {:ok, 7}},
            {:error, :error},
            {{:error, :no}, {:error, :no}},
            {{:error, :no, 3}, {:error, :no, 3}},
            {{}, {:ok, {}}}
          ] do
        assert ConnectionPool.with_connection(pool, fn _ -> returned end) == expected
      end

      assert %{created: 1, idle: 1} = assert_settled(pool)
    end

    test "closes the connection and passes on a raise, a throw and an exit" do
      pool = start_pool()

      assert_raise RuntimeError, "no", fn ->
        ConnectionPool.with_connection(pool, fn _ -> raise "no" end)
      end

      assert catch_throw(ConnectionPool.with_connection(pool, fn _ -> throw(:ball) end)) == :ball
      assert catch_exit(ConnectionPool.with_connection(pool, fn _ -> exit(:bye) end)) == :bye
      assert %{broken: 3, created: 3, idle: 0} = assert_settled(pool)
    end

    test "a connection that dies under the function is replaced" do
      pool = start_pool()

      assert {:ok, :survived} =
               ConnectionPool.with_connection(pool, fn agent -> kill(agent) && :survived end)

      assert {:ok, 0} = ConnectionPool.with_connection(pool, &Agent.get(&1, fn n -> n end))
      assert_settled(pool)
    end

    test "does not let the pool grow above its size when told so" do
      pool = start_pool(max_overflow: 1)
      {:ok, held} = ConnectionPool.checkout(pool)
      options = [allow_overflow: false, timeout: 20]

      assert {:error, %Error{error_type: :pool_timeout}} =
               ConnectionPool.with_connection(pool, fn _ -> :ok end, options)

      assert %{created: 1} = stats(pool)

      assert {:ok, :second} =
               ConnectionPool.with_connection(pool, fn _ -> :second end, timeout: 1_000)

      assert %{created: 2} = stats(pool)
      :ok = ConnectionPool.checkin(pool, held)
      assert_settled(pool)
    end
  end

  describe "leases" do
    test "another process gives back a lease" do
      pool = start_pool()
      client = client()

      {:ok, %Lease{connection: agent} = lease} =
        run(client, fn -> ConnectionPool.checkout_lease(pool) end)

      assert {:error, %Error{error_type: :stale_lease}} = ConnectionPool.checkin(pool, agent)
      assert :ok = ConnectionPool.checkin(pool, lease)
      assert {:error, %Error{error_type: :stale_lease}} = ConnectionPool.checkin(pool, lease)

      assert {:error, %Error{error_type: :stale_lease}} =
               run(client, fn -> ConnectionPool.checkin(pool, agent) end)

      assert {:ok, ^agent} = ConnectionPool.checkout(pool)
      :ok = ConnectionPool.checkin(pool, agent)
      assert_settled(pool)
    end

    test "a lease that somebody has changed is refused" do
      pool = start_pool()
      {:ok, lease} = ConnectionPool.checkout_lease(pool)

      for forged <- [%{lease | slot: -1}, %{lease | slot: nil}, %{lease | epoch: 2 ** 64}] do
        assert {:error, %Error{context: %{argument: :lease, value: ^forged}}} =
                 ConnectionPool.checkin(pool, forged)
      end

      for stale <- [%{lease | slot: 7}, %{lease | epoch: 0}, %{lease | handle: make_ref()}],
          do:
            assert(
              {:error, %Error{error_type: :stale_lease}} = ConnectionPool.checkin(pool, stale)
            )

      assert :ok = ConnectionPool.checkin(pool, lease)
      assert_settled(pool)
    end

    test "a lease of another pool changes nothing" do
      {pool, other} = {start_pool(), start_pool()}
      {:ok, lease} = ConnectionPool.checkout_lease(pool)
      {:ok, _} = ConnectionPool.checkout_lease(other)
      before = stats(other)
      assert {:error, %Error{error_type: :stale_lease}} = ConnectionPool.checkin(other, lease)

      assert {:error, %Error{error_type: :stale_lease}} =
               ConnectionPool.checkin(other, lease.connection)

      assert stats(other) == before
    end
  end

  describe "bad input" do
    test "names the option, its value and what is allowed" do
      good = [name: :bad, create: fn -> {:ok, 1} end]

      for {options, argument, allowed} <- [
            {[size: -1], :size, "an integer from 0"},
            {[size: 1.5], :size, "an integer from 0"},
            {[size: 0, max_overflow: 0], :size, "1 or more when max_overflow is 0"},
            {[size: 70_000], :size, "0 to 65536"},
            {[max_overflow: 0x1_0000_0000], :max_overflow, "an integer from 0"},
            {[max_waiters: 2_000_000], :max_waiters, "0 to 1000000"},
            {[retry_after: 0], :retry_after, "1 or more"},
            {[retry_at_most: 1], :retry_at_most, "retry_after or more"},
            {[max_creating: 0], :max_creating, "1 or more"},
            {[min_idle: 6], :min_idle, "0 to size"},
            {[max_slots: 1], :max_slots, "0, or size and max_overflow together"},
            {[max_lifetime: 1, max_lifetime_jitter: 2], :max_lifetime_jitter,
             "0 to max_lifetime"},
            {[health: :active, ping: fn _ -> :ok end], :health_interval, "1 or more"},
            {[health: :sometimes], :health, ":off, :passive, :active, :mixed"},
            {[health: :passive], :health, "by default, without a ping/1"},
            {[keepalive: 5], :keepalive, "by default, without a ping/1"},
            {[pre_ping_after: 5], :pre_ping_after, "by default, without a ping/1"},
            {[pre_ping_after: :seldom], :pre_ping_after, "or :never"},
            {[pre_ping_limit: -1], :pre_ping_limit, "milliseconds from 0"},
            {[return_limit: :infinity], :return_limit, "milliseconds from 0"},
            {[reset_on_return: true], :reset_on_return, "false, without a reset/1"},
            {[reset_on_return: nil], :reset_on_return, "true, false"},
            {[owner_death: :check], :owner_death, ":close, without a reset/1 or a ping/1"},
            {[owner_death: :keep], :owner_death, ":close, :check"},
            {[create_failure: :give_up], :create_failure, ":retry, :fail_fast"},
            {[init_policy: :wait], :init_policy, ":degraded, :error"},
            {[measure: 1], :measure, "true, false"},
            {[ping: fn -> :ok end], :ping, "a function of one argument"},
            {[overflow_ttl: -5], :overflow_ttl, "milliseconds from 0"},
            {[timeout: :soon], :timeout, "milliseconds from 0 to 4294967295, or :infinity"},
            {[strategy: :random], :strategy, ":lifo, :fifo"},
            {[name: "text"], :name, "an atom"},
            {[name: nil], :name, "an atom"},
            {[namespace: 7], :namespace, ":production or {:test, reference}"},
            {[create: fn _ -> :ok end], :create, "a function of no argument"},
            {[close: :no], :close, "a function of one argument"},
            {[worker: Enum], :worker,
             "a module or {module, arg}, and then none of :create, :close, :reset, :ping"},
            {[max_size: 3], :option, ":size"}
          ] do
        Process.flag(:trap_exit, true)

        assert {:error, %Error{} = error} =
                 ConnectionPool.start_link(Keyword.merge(good, options))

        assert error.context.argument == argument, inspect({options, error})
        assert error.message =~ allowed
      end

      assert {:error, %Error{message: message}} =
               ConnectionPool.start_link(name: :bad, worker: Enum)

      assert message =~ "exports connect/1 and disconnect/2"

      assert {:error, %Error{context: %{argument: :worker}}} =
               ConnectionPool.start_link(name: :bad)

      assert {:error, %Error{context: %{argument: :options}}} = ConnectionPool.start_link([1, 2])
      assert {:error, %Error{context: %{argument: :options}}} = ConnectionPool.start_link(:pool)
      assert {:error, %Error{error_type: :pool_not_found}} = ConnectionPool.status(:bad)
    end

    test "is refused by every call" do
      pool = start_pool()

      for timeout <- [-1, 1.5, "1", 0x1_0000_0000, :forever] do
        assert {:error, %Error{context: %{argument: :timeout}}} =
                 ConnectionPool.checkout(pool, timeout)
      end

      assert {:error, %Error{context: %{argument: :fun}}} =
               ConnectionPool.with_connection(pool, fn -> :ok end)

      run = fn opts -> ConnectionPool.with_connection(pool, fn _ -> :ok end, opts) end
      assert {:error, %Error{context: %{argument: :allow_overflow}}} = run.(allow_overflow: 1)
      assert {:error, %Error{context: %{argument: :retries}}} = run.(retries: 1)
      assert {:error, %Error{context: %{argument: :opts}}} = run.(:fast)

      assert {:error, %Error{context: %{argument: :condition}}} =
               ConnectionPool.checkin(pool, 1, :fine)

      for unknown <- [
            :nowhere,
            "pool",
            {:production, :nowhere},
            {{:test, make_ref()}, :pool},
            nil,
            self()
          ] do
        assert {:error, %Error{error_type: :pool_not_found} = error} =
                 ConnectionPool.checkout(unknown)

        assert error.message =~ inspect(unknown)
        assert {:error, %Error{error_type: :pool_not_found}} = ConnectionPool.checkin(unknown, 1)
        assert {:error, %Error{error_type: :pool_not_found}} = ConnectionPool.status(unknown)
        assert {:error, %Error{error_type: :pool_not_found}} = ConnectionPool.stop(unknown)
      end

      assert_settled(pool)
    end
  end

  # In a VM of its own, where the application is loaded and does not run.
  test "without the application every call says so" do
    code = """
    alias ElixirScope.Foundation.Infrastructure.ConnectionPool
    Process.flag(:trap_exit, true)
    {:error, error} = ConnectionPool.start_link(name: :p, create: fn -> {:ok, 1} end)
    {:error, unknown} = ConnectionPool.checkout(:p)
    IO.inspect({error.error_type, unknown.error_type, ConnectionPool.list_pools()})
    """

    ebin = Application.app_dir(:elixir_scope_foundation, "ebin")
    {output, 0} = System.cmd("elixir", ["-pa", ebin, "-e", code], stderr_to_stdout: true)
    assert output =~ "{:service_unavailable, :pool_not_found, []}"
  end

  describe "a worker module" do
    defmodule Echo do
      @behaviour ElixirScope.Foundation.Infrastructure.Connection

      @impl true
      def connect(value), do: Agent.start_link(fn -> value end)

      @impl true
      def disconnect(agent, _reason), do: Agent.stop(agent)
    end

    test "makes connections from its argument, under a supervisor of the user" do
      namespace = {:test, make_ref()}
      children = [{ConnectionPool, name: :echo, namespace: namespace, worker: {Echo, :hello}}]
      {:ok, supervisor} = Supervisor.start_link(children, strategy: :one_for_one)

      assert {:ok, :hello} =
               ConnectionPool.with_connection({namespace, :echo}, &Agent.get(&1, fn v -> v end))

      assert :ok = Supervisor.stop(supervisor)

      assert {:error, %Error{error_type: :pool_not_found}} =
               ConnectionPool.status({namespace, :echo})
    end

    test "that is wrong keeps its supervisor from starting, with the reason" do
      Process.flag(:trap_exit, true)
      children = [{ConnectionPool, name: :echo, worker: {Echo, 1}, size: -1}]

      assert {:error, {:shutdown, reason}} =
               Supervisor.start_link(children, strategy: :one_for_one)

      assert {:failed_to_start_child, _, %Error{context: %{argument: :size, value: -1}}} = reason
    end
  end

  describe "names" do
    test "a name has one pool, and the next one after its death" do
      namespace = {:test, make_ref()}
      options = [name: :pool, namespace: namespace, create: fn -> {:ok, 1} end]
      {:ok, first} = start_supervised({ConnectionPool, options}, restart: :temporary)
      Process.flag(:trap_exit, true)
      assert {:error, {:already_started, ^first}} = ConnectionPool.start_link(options)
      assert ConnectionPool.list_pools(namespace) == [:pool]
      kill(first)
      assert {:ok, second} = ConnectionPool.start_link(options)
      assert {:ok, 1} = ConnectionPool.checkout({namespace, :pool})
      assert :ok = ConnectionPool.stop({namespace, :pool})
      assert_receive {:EXIT, ^second, :normal}
      assert ConnectionPool.list_pools(namespace) == []
    end

    test "the database pool has two names" do
      namespace = {:test, make_ref()}

      start_supervised!(
        {ConnectionPool, name: :database, namespace: namespace, create: fn -> {:ok, 1} end}
      )

      assert {:ok, 1} = ConnectionPool.checkout({namespace, :database_pool})
      assert :ok = ConnectionPool.checkin({namespace, :database}, 1)
    end

    test "a pool of an application's namespace is found by its bare name" do
      name = :"pool_#{System.unique_integer([:positive])}"
      start_supervised!({ConnectionPool, name: name, create: fn -> {:ok, 1} end})
      assert {:ok, 1} = ConnectionPool.checkout(name)
      assert :ok = ConnectionPool.checkin({:production, name}, 1)
      assert name in ConnectionPool.list_pools()
    end
  end

  defp await_death(pid) do
    monitor = Process.monitor(pid)
    receive do: ({:DOWN, ^monitor, :process, ^pid, _} -> :ok)
  end
end
