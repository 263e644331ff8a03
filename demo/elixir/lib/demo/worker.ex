defmodule Demo.Worker do
  @moduledoc """
  The BEAM's worker: 40 client processes, a sampler, and the faults that the stage asks for.

  `worker.sh DIRECTORY DATABASE` reads DIRECTORY/events.txt, says it is ready, waits for `start SPAN_MS`, and spreads
  its work over that span; a client that fell behind hurries to catch up. At the end DIRECTORY holds limiter.txt and
  inside.txt.
  """

  alias Demo.{Client, Clock, Events, Faults, Journal, Line}

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreaker,
    CircuitBreakerRegistry,
    CircuitBreakerTelemetry,
    ConnectionPool,
    TokenBucketLimiter
  }

  @clients 40
  @sample_ms 100
  @pool :database
  @services [:event_store, :config_server]

  @spec main([binary()]) :: :ok
  def main([directory, database]) do
    start_library(database)
    events = Events.read!(Path.join(directory, "events.txt"))
    Journal.create()
    Line.say(:ready)
    {:ok, span_ms} = await_start()

    clients =
      for index <- 0..(@clients - 1), into: %{} do
        start_client(&Client.run/1, %Client{
          name: "elixir-" <> String.pad_leading(Integer.to_string(index), 2, "0"),
          index: index,
          clients: @clients,
          events: events,
          began_ns: Clock.now_ns(),
          span_ns: span_ms * 1_000_000
        })
      end

    listen_for_faults()
    watch(clients, Clock.now_ns())
    Journal.write!(directory)
    finish(database)
  end

  defp start_library(database) do
    infrastructure = Application.fetch_env!(:elixir_scope, :infrastructure)
    pools = %{@pool => Map.put(infrastructure[:connection_pools].database, :path, database)}
    Application.put_env(:elixir_scope, :infrastructure, Keyword.put(infrastructure, :connection_pools, pools))
    {:ok, _} = Application.ensure_all_started(:elixir_scope_foundation)
    for service <- @services, do: :ok = CircuitBreakerRegistry.register(:production, service)
    :ok = CircuitBreakerTelemetry.subscribe(:production)
  end

  defp await_start do
    case IO.gets("") do
      "start " <> span_ms -> {:ok, span_ms |> String.trim() |> String.to_integer()}
      other -> {:error, {:expected, "start SPAN_MS", :got, other}}
    end
  end

  defp start_client(run, client) do
    {_pid, monitor} = spawn_monitor(fn -> run.(client) end)
    {monitor, client}
  end

  defp listen_for_faults do
    worker = self()

    spawn_link(fn ->
      IO.stream(:stdio, :line) |> Enum.each(fn line -> send(worker, {:command, String.trim(line)}) end)
    end)
  end

  # Until every client is done: a sample ten times a second, faults on command, a successor for each client that dies.
  defp watch(clients, _next) when clients == %{}, do: say_sample()

  defp watch(clients, next) do
    receive do
      {:DOWN, monitor, :process, _, reason} ->
        {client, clients} = Map.pop!(clients, monitor)
        clients |> replace(client, reason) |> watch(next)

      {:circuit_breaker_event, %{service: :event_store, kind: :generation} = change} ->
        Line.say(:transition,
          at: change.at_ns,
          sequence: change.sequence,
          from: change.from,
          to: change.to,
          cause: change.cause
        )

        watch(clients, next)

      {:circuit_breaker_event, _change} ->
        watch(clients, next)

      {:command, "fault " <> fault} ->
        spawn_link(fn -> Faults.cause(fault) end)
        watch(clients, next)
    after
      max(div(next - Clock.now_ns(), 1_000_000), 0) ->
        say_sample()
        watch(clients, next + @sample_ms * 1_000_000)
    end
  end

  defp replace(clients, _client, :normal), do: clients

  defp replace(clients, client, :killed) do
    last = Journal.doing(client.name)
    Line.say(:fault, kind: :client_replaced, at: Clock.now_ns(), client: client.name)
    {monitor, client} = start_client(&Client.succeed(&1, last), client)
    Map.put(clients, monitor, client)
  end

  # Anything else is a mistake of this program: the run shall fail.
  defp replace(_clients, client, reason), do: exit({client.name, reason})

  defp say_sample do
    {:ok, pool} = ConnectionPool.status(@pool)
    {:ok, breaker} = CircuitBreaker.stats(:production, :event_store)

    Line.say(
      :sample,
      [
        at: Clock.now_ns(),
        done: Journal.counts()[:done],
        state: breaker.state,
        in_use: pool.in_use,
        overflow: pool.overflow,
        waiting: pool.waiting
      ] ++ verdicts()
    )
  end

  defp verdicts do
    {:ok, limiter} = TokenBucketLimiter.stats(:production)

    breakers =
      for service <- @services do
        {:ok, breaker} = CircuitBreaker.stats(:production, service)
        breaker
      end

    [
      admitted: breakers |> Enum.map(& &1.admitted) |> Enum.sum(),
      limited: limiter.limited,
      rejected: breakers |> Enum.map(&(&1.rejected_open + &1.rejected_half_open)) |> Enum.sum()
    ]
  end

  # The database is a file that only connections open: what is open after its pool has ended has leaked.
  defp finish(database) do
    {:ok, pool} = ConnectionPool.status(@pool)
    verdicts = verdicts()
    :ok = ConnectionPool.stop(@pool)

    Line.say(
      :final,
      Journal.counts() ++
        verdicts ++
        [checkouts: pool.granted, created: pool.created, leased: pool.in_use, left_open: times_open(database)]
    )
  end

  defp times_open(path) do
    descriptors = "/proc/self/fd"
    Enum.count(File.ls!(descriptors), &(File.read_link(Path.join(descriptors, &1)) == {:ok, path}))
  end
end
