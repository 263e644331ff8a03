defmodule ElixirScope.Foundation.PoolCase do
  @moduledoc """
  Pools of a namespace of their own, over connections that are small processes, and what every test wants to
  know at its end: nothing is held, waited for or left over.
  """

  use ExUnit.CaseTemplate

  alias ElixirScope.Foundation.Infrastructure.ConnectionPool

  using do
    quote do
      import ElixirScope.Foundation.PoolCase

      alias ElixirScope.Foundation.Error
      alias ElixirScope.Foundation.Infrastructure.ConnectionPool
      alias ElixirScope.Foundation.PoolCase.Tested
    end
  end

  # An agent that can be made sick, or suspended, so that its ping hangs.
  defmodule Tested do
    @moduledoc false
    @behaviour ElixirScope.Foundation.Infrastructure.Connection

    @impl true
    def connect(test), do: Agent.start_link(fn -> %{test: test, healthy: true} end)

    @impl true
    def disconnect(agent, reason) do
      send(Agent.get(agent, & &1.test), {:disconnected, agent, reason})
      Agent.stop(agent)
    end

    @impl true
    def ping(agent) do
      %{test: test, healthy: healthy} = Agent.get(agent, & &1)
      send(test, {:pinged, agent})
      if healthy, do: :ok, else: {:error, :sick}
    end
  end

  @doc "Starts a pool of agents and returns its address."
  def start_pool(options \\ []) do
    namespace = Keyword.get(options, :namespace, {:test, make_ref()})

    defaults = [
      name: :pool,
      namespace: namespace,
      size: 1,
      max_overflow: 0,
      create: fn -> Agent.start_link(fn -> 0 end) end,
      close: &Agent.stop/1
    ]

    # A worker stands for both functions.
    defaults = if options[:worker], do: Keyword.drop(defaults, [:create, :close]), else: defaults

    ExUnit.Callbacks.start_supervised!({ConnectionPool, Keyword.merge(defaults, options)},
      id: namespace
    )

    {namespace, :pool}
  end

  @doc "The state and the counts of a pool."
  def stats(pool) do
    {:ok, stats} = ConnectionPool.status(pool)
    stats
  end

  @doc "Waits until the pool's state answers to `condition`, and returns it."
  def await(pool, condition, tries \\ 2_000) do
    stats = stats(pool)

    cond do
      condition.(stats) -> stats
      tries == 0 -> ExUnit.Assertions.flunk("the pool did not get there: #{inspect(stats)}")
      true -> Process.sleep(1) && await(pool, condition, tries - 1)
    end
  end

  @doc "Waits until nothing is under way, and checks that nothing is held and that the counts reconcile."
  def assert_settled(pool) do
    s =
      await(
        pool,
        &(&1.in_use == 0 and &1.waiting == 0 and &1.creating == 0 and &1.checking == 0 and
            &1.closing == 0)
      )

    ends =
      s.timed_out + s.cancelled + s.exhausted + s.queue_full + s.closed_requests +
        s.create_failed + s.shed

    import ExUnit.Assertions
    assert s.requests == s.granted + ends
    assert s.granted == s.returned + s.broken + s.reclaimed
    assert s.created - s.destroyed == s.idle
    s
  end

  @doc "A process that runs the functions it is sent, until it is killed or told to stop."
  def client do
    spawn(fn -> client_loop() end)
  end

  @doc "Runs `fun` in a client and returns what it returns."
  def run(client, fun) do
    reference = later(client, fun)
    ExUnit.Assertions.assert_receive({^reference, result}, 5_000)
    result
  end

  @doc "Has a client run `fun`; the result comes as a message `{reference, result}`."
  def later(client, fun) do
    reference = make_ref()
    send(client, {self(), reference, fun})
    reference
  end

  @doc "Kills a process and waits until it is gone."
  def kill(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    ExUnit.Assertions.assert_receive({:DOWN, ^monitor, :process, ^pid, _}, 5_000)
    :ok
  end

  defp client_loop do
    receive do
      {from, reference, fun} -> send(from, {reference, fun.()})
    end

    client_loop()
  end
end
