defmodule ElixirScope.Foundation.Infrastructure.ConnectionPoolChecksTest do
  # Tests and resets of connections: on return, while idle, before they are lent, after their holder's death.
  use ElixirScope.Foundation.PoolCase, async: true

  alias ElixirScope.Foundation.Infrastructure.ManualClock

  # Its reset ends when the test says how.
  defmodule Resetting do
    @behaviour ElixirScope.Foundation.Infrastructure.Connection

    @impl true
    def connect(test), do: {:ok, {:resetting, test, make_ref()}}

    @impl true
    def disconnect({:resetting, test, _} = connection, _reason),
      do: send(test, {:disconnected, connection, self()})

    @impl true
    def reset({:resetting, test, _} = connection) do
      send(test, {:reset, connection, self()})
      receive do: ({:answer, answer} -> answer)
    end
  end

  defp start(worker, options), do: start_pool([worker: {worker, self()}] ++ options)

  defp sicken(agent), do: Agent.update(agent, &%{&1 | healthy: false})

  test "p18 a connection that fails its test on return is closed, and another made" do
    pool = start(Tested, health: :passive)
    {:ok, first} = ConnectionPool.checkout(pool)
    :ok = ConnectionPool.checkin(pool, first)
    assert {:ok, ^first} = ConnectionPool.checkout(pool)
    sicken(first)
    :ok = ConnectionPool.checkin(pool, first)
    assert_receive {:disconnected, ^first, :closed}, 2_000
    assert {:ok, second} = ConnectionPool.checkout(pool)
    refute second == first
    :ok = ConnectionPool.checkin(pool, second)
    assert_settled(pool)
  end

  test "p18 active checks find an idle connection that is sick" do
    pool = start(Tested, health: :active, health_interval: 5, min_idle: 1)
    await(pool, &(&1.idle == 1))
    {:ok, sick} = ConnectionPool.checkout(pool)
    sicken(sick)
    :ok = ConnectionPool.checkin(pool, sick)
    assert_receive {:disconnected, ^sick, :closed}, 2_000
    await(pool, &(&1.idle == 1 and &1.created == 2))
  end

  test "p18 a test that hangs has failed" do
    pool = start(Tested, health: :passive, return_limit: 20)
    {:ok, agent} = ConnectionPool.checkout(pool)
    :ok = :sys.suspend(agent)
    :ok = ConnectionPool.checkin(pool, agent)
    await(pool, &(&1.checking == 0 and &1.idle == 0))
    :ok = :sys.resume(agent)
    assert {:ok, another} = ConnectionPool.checkout(pool)
    refute another == agent
  end

  test "p18 a test without a time limit may take as long as it takes" do
    pool = start(Tested, health: :passive, return_limit: 0)
    {:ok, agent} = ConnectionPool.checkout(pool)
    :ok = :sys.suspend(agent)
    :ok = ConnectionPool.checkin(pool, agent)
    await(pool, &(&1.checking == 1))
    :ok = :sys.resume(agent)
    await(pool, &(&1.idle == 1 and &1.checks_passed == 1))
  end

  describe "p18 before a check-out" do
    test "a connection is tested that was neither used nor tested for longer than a limit" do
      namespace = {:test, make_ref()}
      :ok = ManualClock.install(namespace)
      pool = start(Tested, namespace: namespace, pre_ping_after: 1_000)
      {:ok, first} = ConnectionPool.checkout(pool)
      :ok = ConnectionPool.checkin(pool, first)
      :ok = ManualClock.advance(namespace, 1_000)
      assert {:ok, ^first} = ConnectionPool.with_connection(pool, & &1)
      refute_received {:pinged, _}
      :ok = ManualClock.advance(namespace, 1_001)
      assert {:ok, ^first} = ConnectionPool.with_connection(pool, & &1)
      assert_received {:pinged, ^first}
      assert %{pre_pings: 1, created: 1, broken: 0} = assert_settled(pool)
    end

    test "one that fails is closed, and the call gets another" do
      pool = start(Tested, size: 2, pre_ping_after: 0)
      held = for _ <- 1..2, do: elem(ConnectionPool.checkout(pool), 1)
      # Both are sick, so it gets a new one.
      for agent <- held, do: sicken(agent)
      for agent <- held, do: :ok = ConnectionPool.checkin(pool, agent)
      assert {:ok, third} = ConnectionPool.checkout(pool)
      refute third in held
      for agent <- held, do: assert_received({:pinged, ^agent})
      for agent <- held, do: assert_receive({:disconnected, ^agent, :closed}, 2_000)
      :ok = ConnectionPool.checkin(pool, third)
      assert {:ok, ^third} = ConnectionPool.with_connection(pool, & &1)
      assert {:ok, %{connection: ^third} = lease} = ConnectionPool.checkout_lease(pool, 0)
      :ok = ConnectionPool.checkin(pool, lease)
      # Tests of its own count as such.
      assert %{pre_pings: 4, broken: 2, checks_failed: 0} = assert_settled(pool)
    end

    test "a test that hangs has failed at its limit, and no earlier" do
      pool = start(Tested, pre_ping_after: 0, pre_ping_limit: 20)
      {:ok, first} = ConnectionPool.checkout(pool)
      :ok = ConnectionPool.checkin(pool, first)
      :ok = :sys.suspend(first)
      began = System.monotonic_time(:millisecond)
      client = client()
      answer = later(client, fn -> ConnectionPool.checkout(pool) end)
      # Its close hangs as well until then.
      await(pool, &(&1.closing == 1))
      assert System.monotonic_time(:millisecond) - began >= 20
      :ok = :sys.resume(first)
      assert_receive {^answer, {:ok, second}}, 2_000
      refute second == first
      :ok = run(client, fn -> ConnectionPool.checkin(pool, second) end)
      assert_settled(pool)
    end

    test "the wait that is left after a test that failed is the wait, and none is a time-out" do
      pool = start(Tested, size: 1, pre_ping_after: 0, pre_ping_limit: 20)
      {:ok, agent} = ConnectionPool.checkout(pool)
      :ok = ConnectionPool.checkin(pool, agent)
      :ok = :sys.suspend(agent)

      assert {:error, %Error{error_type: :pool_timeout, context: %{timeout: 1}}} =
               ConnectionPool.checkout(pool, 1)

      :ok = :sys.resume(agent)
      assert %{timed_out: 1, broken: 1, requests: 3} = assert_settled(pool)

      # A call that waits for nobody gets a connection that is made for it.
      {:ok, agent} = ConnectionPool.checkout(pool)
      sicken(agent)
      :ok = ConnectionPool.checkin(pool, agent)
      await(pool, &(&1.idle == 1))
      assert {:error, %Error{error_type: :pool_exhausted}} = ConnectionPool.checkout(pool, 0)
      await(pool, &(&1.closing == 0))
      assert {:ok, other} = ConnectionPool.checkout(pool, 0)
      :ok = ConnectionPool.checkin(pool, other)
      assert_settled(pool)
    end

    test "a caller that is killed during the test holds nothing, and nobody is given the connection" do
      pool = start(Tested, pre_ping_after: 0, pre_ping_limit: 0)
      {:ok, agent} = ConnectionPool.checkout(pool)
      :ok = ConnectionPool.checkin(pool, agent)
      :ok = :sys.suspend(agent)
      client = client()
      later(client, fn -> ConnectionPool.checkout(pool) end)
      await(pool, &(&1.pre_pings == 1))
      kill(client)
      # The test is stopped, so the close may begin, which hangs until now.
      await(pool, &(&1.reclaimed == 1))
      :ok = :sys.resume(agent)
      assert_receive {:disconnected, ^agent, :closed}, 2_000
      assert {:ok, other} = ConnectionPool.checkout(pool)
      refute other == agent
      :ok = ConnectionPool.checkin(pool, other)
      assert_settled(pool)
    end

    test "a connection that dies under its test is replaced" do
      pool = start(Tested, pre_ping_after: 0, pre_ping_limit: 0)
      {:ok, agent} = ConnectionPool.checkout(pool)
      :ok = ConnectionPool.checkin(pool, agent)
      :ok = :sys.suspend(agent)
      client = client()
      answer = later(client, fn -> ConnectionPool.checkout(pool) end)
      await(pool, &(&1.pre_pings == 1))
      kill(agent)
      assert_receive {^answer, {:ok, other}}, 2_000
      refute other == agent
      :ok = run(client, fn -> ConnectionPool.checkin(pool, other) end)
      assert_settled(pool)
    end

    test "a pool that ends during the test, or before it, lends nothing" do
      for {suspended, drain} <- [agent: 0, server: 60_000] do
        options = [worker: {Tested, self()}, size: 1, pre_ping_after: 0, pre_ping_limit: 0]
        pool = {namespace, name} = {{:test, make_ref()}, :pool}
        place = [namespace: namespace, name: name, drain: drain]
        {:ok, server} = ConnectionPool.start_link(place ++ options)
        {:ok, agent} = ConnectionPool.checkout(pool)
        :ok = ConnectionPool.checkin(pool, agent)
        held_up = if suspended == :agent, do: agent, else: server
        :ok = :sys.suspend(held_up)
        client = client()
        answer = later(client, fn -> ConnectionPool.checkout(pool) end)
        # It waits for the test that hangs, or for one that the stop is faster than.
        await(pool, &(&1.pre_pings == 1))
        stop = Task.async(fn -> ConnectionPool.stop(pool) end)
        assert_receive {^answer, {:error, %Error{error_type: type}}}, 5_000
        assert type in [:pool_closed, :pool_not_found]
        if held_up == agent, do: :ok = :sys.resume(agent)
        assert :ok = Task.await(stop)
        refute Process.alive?(agent)
      end
    end

    test "nobody but a lease's holder has a connection tested" do
      pool = start(Tested, pre_ping_after: 0)
      {:ok, %{slot: slot, epoch: epoch}} = ConnectionPool.checkout_lease(pool)
      {_, server, _, _} = ConnectionPool.Directory.fetch(pool)
      refute ConnectionPool.Server.pre_ping(server, slot, epoch + 1)
      refute ConnectionPool.Server.pre_ping(server, slot + 1, epoch)
      assert {:error, :invalid_message} = GenServer.call(server, {:pre_ping, :slot, -1})
      refute_received {:pinged, _}
    end
  end

  describe "p18 a reset" do
    test "is over before anybody is given the connection" do
      pool = start(Resetting, [])
      {:ok, first} = ConnectionPool.checkout(pool)
      assert :ok = ConnectionPool.checkin(pool, first)
      assert_receive {:reset, ^first, job}, 2_000
      assert %{checking: 1, idle: 0} = stats(pool)
      assert {:error, %Error{error_type: :pool_exhausted}} = ConnectionPool.checkout(pool, 0)
      client = client()
      answer = later(client, fn -> ConnectionPool.checkout_lease(pool, :infinity) end)
      await(pool, &(&1.waiting == 1))
      send(job, {:answer, :ok})
      assert_receive {^answer, {:ok, %{connection: ^first} = lease}}, 2_000
      # So is that of a lease that travelled.
      :ok = ConnectionPool.checkin(pool, lease)
      assert_receive {:reset, ^first, job}, 2_000
      send(job, {:answer, :ok})
      assert %{checks_passed: 2, created: 1, broken: 0} = assert_settled(pool)
    end

    test "that fails, or is not over in time, closes the connection" do
      pool = start(Resetting, return_limit: 50)

      for answer <- [{:error, :dirty}, nil] do
        {:ok, connection} = ConnectionPool.checkout(pool)
        :ok = ConnectionPool.checkin(pool, connection)
        assert_receive {:reset, ^connection, job}, 2_000
        monitor = Process.monitor(job)
        if answer, do: send(job, {:answer, answer})
        assert_receive {:disconnected, ^connection, closer}, 5_000
        refute closer == job
        # Nobody had it in hand any more when it was closed.
        assert_received {:DOWN, ^monitor, :process, ^job, _}
      end

      assert %{checks_failed: 2, broken: 0} = assert_settled(pool)
    end

    test "is not asked of a connection that comes back broken, nor by a pool that is told so" do
      pool = start(Resetting, [])
      {:ok, first} = ConnectionPool.checkout(pool)
      :ok = ConnectionPool.checkin(pool, first, :broken)
      assert_receive {:disconnected, ^first, _}, 2_000
      catch_throw(ConnectionPool.with_connection(pool, fn _ -> throw(:ball) end))
      assert_settled(pool)

      pool = start(Resetting, reset_on_return: false)
      {:ok, first} = ConnectionPool.checkout(pool)
      :ok = ConnectionPool.checkin(pool, first)
      assert {:ok, ^first} = ConnectionPool.with_connection(pool, & &1)
      assert_settled(pool)
      refute_received {:reset, _, _}
    end

    test "comes before the test on return" do
      test = self()
      note = fn what -> fn _ -> send(test, what) && :ok end end

      pool = start_pool(reset: note.(:reset), ping: note.(:ping), health: :passive, close: nil)

      {:ok, _} = ConnectionPool.with_connection(pool, & &1)
      assert_receive first when first in [:reset, :ping], 2_000
      assert_receive second when second in [:reset, :ping], 2_000
      assert {first, second} == {:reset, :ping}
      assert_settled(pool)
    end
  end

  describe "p19 a connection whose holder died" do
    defp die_with(pool) do
      owner = client()
      {:ok, connection} = run(owner, fn -> ConnectionPool.checkout(pool) end)
      kill(owner)
      connection
    end

    test "is closed, healthy or not" do
      pool = start(Tested, [])
      agent = die_with(pool)
      assert_receive {:disconnected, ^agent, :closed}, 2_000
      refute_received {:pinged, _}
      assert %{reclaimed: 1, destroyed: 1} = assert_settled(pool)
    end

    test "is kept if the pool is to check it and it passes, for who waits" do
      pool = start(Tested, owner_death: :check)
      owner = client()
      {:ok, agent} = run(owner, fn -> ConnectionPool.checkout(pool) end)
      waiter = client()
      answer = later(waiter, fn -> ConnectionPool.checkout(pool, :infinity) end)
      await(pool, &(&1.waiting == 1))
      kill(owner)
      assert_receive {^answer, {:ok, ^agent}}, 2_000
      assert_received {:pinged, ^agent}
      :ok = run(waiter, fn -> ConnectionPool.checkin(pool, agent) end)
      assert %{reclaimed: 1, created: 1} = assert_settled(pool)
      # A return needs no test.
      refute_received {:pinged, ^agent}
    end

    test "is closed if it does not pass" do
      pool = start(Tested, owner_death: :check)
      {:ok, agent} = ConnectionPool.checkout(pool)
      sicken(agent)
      :ok = ConnectionPool.checkin(pool, agent)
      assert ^agent = die_with(pool)
      assert_receive {:disconnected, ^agent, :closed}, 2_000
      assert %{reclaimed: 1, checks_failed: 1} = assert_settled(pool)
    end

    test "is reset where that is how it is cleaned" do
      pool = start(Resetting, owner_death: :check)
      connection = die_with(pool)
      assert_receive {:reset, ^connection, job}, 2_000
      send(job, {:answer, :ok})
      await(pool, &(&1.idle == 1))
      assert %{reclaimed: 1, checks_passed: 1} = assert_settled(pool)
    end

    test "during its test before the check-out is checked anew, by one at a time" do
      pool = start(Tested, owner_death: :check, pre_ping_after: 0, pre_ping_limit: 0)
      {:ok, agent} = ConnectionPool.checkout(pool)
      :ok = ConnectionPool.checkin(pool, agent)
      :ok = :sys.suspend(agent)
      client = client()
      later(client, fn -> ConnectionPool.checkout(pool) end)
      await(pool, &(&1.pre_pings == 1))
      kill(client)
      await(pool, &(&1.checking == 1))
      :ok = :sys.resume(agent)
      await(pool, &(&1.idle == 1))
      assert %{reclaimed: 1, created: 1, checks_passed: 1} = assert_settled(pool)
    end
  end
end
