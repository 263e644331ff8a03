defmodule ElixirScope.Foundation.LoadTest do
  # 50 processes of mixed calls while the services are killed in turn, one a second, and PostgreSQL is stopped twice.
  # `make soak SOAK=foundation` runs it for 60 seconds. Every call that was begun counts.
  use ElixirScope.Foundation.FoundationCase

  alias ElixirScope.Foundation.Infrastructure.DatabasePool
  alias ElixirScope.Foundation.PostgreSQLServer
  alias ElixirScope.Foundation.Types.Event

  @moduletag :capture_log
  @moduletag timeout: :infinity

  @seconds String.to_integer(System.get_env("LOAD_SECONDS", "10"))
  @workers 50
  # So many events a worker, stored over and over: what is kept does not grow, whatever the rate.
  @ids 100
  # Each update stores an event too, of the time it happened: these are pruned each second, as a service in use does.
  # The workers' own are of a time that never comes.
  @kept 0x4000000000000000
  @limit [rate_limit: {1_000_000_000, 1_000}]
  @services [:config_server, :event_store, :telemetry_service]

  test "reads stay available and no acknowledged event is lost" do
    server = PostgreSQLServer.start()
    reference = make_ref()
    namespace = {:test, reference}
    pool = [namespace: namespace, size: 3, max_overflow: 0, retry_after: 5, retry_at_most: 50]
    start_supervised!({DatabasePool, PostgreSQLServer.options(server) ++ pool})
    put_env(:storage, %{warm: %{enable: true}})

    # A stopped database opens the store's breaker; with the usual 30 seconds few stores would be left to look at.
    infrastructure = Application.fetch_env!(:elixir_scope, :infrastructure)
    breakers = put_in(infrastructure[:circuit_breakers][:default_config][:reset_timeout], 500)
    put_env(:infrastructure, breakers)
    {:ok, _pids} = TestSupervisor.start_isolated_services(reference)
    on_exit(fn -> TestSupervisor.cleanup_namespace(reference) end)

    stop = :atomics.new(1, [])
    counts = :counters.new(8, [])

    workers =
      for worker <- 1..@workers,
          do: Task.async(fn -> work(namespace, worker, 1, %{}, counts, stop) end)

    started = System.monotonic_time(:millisecond)
    memory = for second <- 1..@seconds, do: second(second, started, namespace, server)
    :atomics.put(stop, 1, 1)
    acknowledged = workers |> Task.await_many(60_000) |> Enum.reduce(&Map.merge/2)

    report(counts)
    availability(counts, 1, "phase-0 reads")
    availability(counts, 3, "protected reads")
    assert :counters.get(counts, 6) > 0, "no update got through"

    kill(namespace, :event_store)
    {:ok, _pid} = ServiceRegistry.wait_for_service(namespace, :event_store)
    assert {:ok, events} = EventStore.query(namespace, %{})
    kept = Map.new(events, &{&1.event_id, &1.data})
    assert map_size(acknowledged) > 0
    # A later store of the same id may have been committed without its caller having heard of it.
    assert Enum.reject(acknowledged, fn {id, turn} -> Map.get(kept, id, 0) >= turn end) == []

    {early, late} = memory |> Enum.drop(div(@seconds, 5)) |> Enum.split(div(@seconds, 3))

    IO.puts(
      "load: memory #{div(Enum.max(early), 1_000)} kB early, #{div(Enum.min(late), 1_000)} kB at its least after"
    )

    assert Enum.min(late) < 1.2 * Enum.max(early)
  end

  # Counters: attempted and answered, for reads, protected reads, updates and stores.
  defp work(namespace, worker, turn, acknowledged, counts, stop) do
    if :atomics.get(stop, 1) == 1 do
      acknowledged
    else
      path = [:ai, :provider]

      for _ <- 1..10 do
        counted(counts, 1, fn -> ConfigServer.get(namespace, path) end)
        counted(counts, 3, fn -> ConfigServer.get_protected(namespace, path) end)
      end

      counted(counts, 5, fn ->
        ConfigServer.update_config_v2(namespace, [:dev, :debug_mode], true, @limit)
      end)

      id = worker * 1_000 + rem(turn, @ids)
      event = Event.new(event_id: id, event_type: :spawn, timestamp: @kept, data: turn)
      stored = counted(counts, 7, fn -> EventStore.store_protected(namespace, event, @limit) end)

      acknowledged =
        if stored == {:ok, id}, do: Map.put(acknowledged, id, turn), else: acknowledged

      work(namespace, worker, turn + 1, acknowledged, counts, stop)
    end
  end

  defp counted(counts, index, call) do
    :counters.add(counts, index, 1)
    answer = call.()
    if match?({:ok, _}, answer), do: :counters.add(counts, index + 1, 1)
    answer
  catch
    # A call that its service did not answer in time.
    :exit, _reason -> :timeout
  end

  defp second(second, started, namespace, server) do
    Process.sleep(max(started + second * 1_000 - System.monotonic_time(:millisecond), 0))
    name = Enum.at(@services, rem(second, 3))
    pid = kill(namespace, name)
    IO.puts("load: #{DateTime.utc_now()} killed #{name} #{inspect(pid)}")

    if second in [div(@seconds, 3), div(2 * @seconds, 3)] do
      PostgreSQLServer.down(server)
      IO.puts("load: #{DateTime.utc_now()} stopped PostgreSQL")
      PostgreSQLServer.up(server)
      IO.puts("load: #{DateTime.utc_now()} started PostgreSQL")
    end

    {:ok, _pid} = ServiceRegistry.wait_for_service(namespace, name)
    prune(namespace)
    :erlang.memory(:total)
  end

  # The next second does what a stopped database has not done.
  defp prune(namespace) do
    EventStore.prune_before(namespace, System.monotonic_time(:millisecond))
  catch
    :exit, _reason -> :later
  end

  defp report(counts) do
    for {name, index} <- [{"reads", 1}, {"protected reads", 3}, {"updates", 5}, {"stores", 7}] do
      attempted = :counters.get(counts, index)
      answered = :counters.get(counts, index + 1)
      share = Float.round(100 * answered / max(attempted, 1), 4)
      IO.puts("load: #{name} attempted #{attempted}, answered #{answered}, #{share} %")
    end
  end

  defp availability(counts, index, name) do
    attempted = :counters.get(counts, index)
    answered = :counters.get(counts, index + 1)
    assert attempted > 1_000
    assert answered / attempted > 0.999, "#{name}: #{attempted - answered} of #{attempted} failed"
  end
end
