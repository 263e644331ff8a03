defmodule ElixirScope.Foundation.LoadTest do
  # 50 processes of mixed calls while the services are killed in turn, one a second, and PostgreSQL is stopped twice.
  # `make soak SOAK=foundation` runs it for 60 seconds. Every call that was begun counts.
  use ElixirScope.Foundation.DurableCase

  alias ElixirScope.Foundation.Logic.EventLogic
  alias ElixirScope.Foundation.MemoryCheck

  @moduletag timeout: :infinity

  @seconds String.to_integer(System.get_env("LOAD_SECONDS", "10"))
  @workers 50
  # So many events a worker, stored over and over. Each update leaves one more, the audit event: the bound of the storage
  # drops these, oldest first. It has room for five times what is stored while a worker goes through its ids once, so
  # it drops none of the workers' own.
  @ids 20
  @megabytes 4
  @limit [rate_limit: {1_000_000_000, 1_000}]
  @services [:config_server, :event_store, :telemetry_service]
  # What a call may be answered beside success, while a database is away.
  @clear [:service_unavailable, :circuit_open, :half_open_full, :timeout]
  # By which share of itself memory may seem to grow from a fifth of the run to its end. What the operating system has
  # given goes up and down with the allocators, and a short run has few samples.
  @growth if @seconds >= 30, do: %{vm: 0.1, resident: 0.2}, else: %{vm: 0.25, resident: 0.4}
  # Who was refused comes back a little later.
  @pause 10

  test "reads stay available, every call is answered, no acknowledged event is lost, memory is flat" do
    server = PostgreSQLServer.start()

    # A stopped database may open the store's breaker; with the usual 30 seconds few stores would be left to look at.
    infrastructure = Application.fetch_env!(:elixir_scope, :infrastructure)
    breakers = put_in(infrastructure[:circuit_breakers][:default_config][:reset_timeout], 500)
    put_env(:infrastructure, breakers)
    namespace = durable(PostgreSQLServer.options(server), max_size_mb: @megabytes)
    fill(namespace)

    # Connections and the publisher of events start when they are needed: all are there when processes are counted.
    {:ok, :mock} = ConfigServer.get_protected(namespace, [:ai, :provider])
    with_database(namespace, fn _one -> with_database(namespace, fn _two -> {:ok, nil} end) end)
    processes = length(Process.list())
    answers = :ets.new(:answers, [:public, write_concurrency: true])
    stop = :atomics.new(1, [])

    workers =
      for worker <- 1..@workers,
          do: Task.async(fn -> work(namespace, worker, 1, %{}, answers, stop) end)

    killer = Task.async(fn -> for second <- 1..@seconds, do: kill_one(second, namespace) end)
    databases = Task.async(fn -> for third <- 1..2, do: stop_database(third, server) end)
    memory = samples(namespace, killer)
    Task.await_many([killer, databases], 60_000)
    :atomics.put(stop, 1, 1)
    acknowledged = workers |> Task.await_many(60_000) |> Enum.reduce(&Map.merge/2)

    answers = report(answers)
    for kind <- [:read, :protected_read], do: assert(share(answers, kind) > 0.999)
    for kind <- [:update, :store], do: assert(share(answers, kind) > 0)

    unclear = for {{_kind, answer}, _count} <- answers, answer not in [:ok | @clear], do: answer
    assert unclear == [], "answers that are neither success nor a clear error"

    {:ok, %{events_pruned: pruned}} = until_up(fn -> EventStore.stats(namespace) end)
    restart_store(namespace)
    assert {:ok, events} = EventStore.query(namespace, %{})
    kept = Map.new(events, &{&1.event_id, &1.data})
    assert map_size(acknowledged) > 0
    # A later store of the same id may have been committed without its caller having heard of it.
    assert Enum.reject(acknowledged, fn {id, turn} -> Map.get(kept, id, 0) >= turn end) == []

    IO.puts(
      "load: #{map_size(acknowledged)} acknowledged ids, none lost; #{pruned} old events dropped since the last kill"
    )

    {:ok, %{stored_bytes: bytes}} = EventStore.status(namespace)
    assert bytes <= @megabytes * 1_048_576

    for {kind, allowed} <- @growth, do: assert(growth(kind, memory) < allowed)
    eventually(fn -> length(Process.list()) <= processes end)
  end

  # From the first second on the storage is as full as it may be, with events like those that it is about to get.
  defp fill(namespace) do
    until = @megabytes * 1_048_576 * 0.9

    events =
      for n <- 1..2_000 do
        {:ok, event} =
          EventLogic.create_event(:config_updated, %{
            path: [:dev, :debug_mode],
            new_value: true,
            previous_value: {:ok, n},
            timestamp: DateTime.utc_now()
          })

        event
      end

    {:ok, _ids} = EventStore.store_batch(namespace, events)
    {:ok, %{stored_bytes: bytes}} = EventStore.status(namespace)
    if bytes < until, do: fill(namespace)
  end

  defp work(namespace, worker, turn, acknowledged, answers, stop) do
    if :atomics.get(stop, 1) == 1 do
      acknowledged
    else
      path = [:ai, :provider]

      for _ <- 1..10 do
        counted(answers, :read, fn -> ConfigServer.get(namespace, path) end)
        counted(answers, :protected_read, fn -> ConfigServer.get_protected(namespace, path) end)
      end

      counted(answers, :update, fn ->
        ConfigServer.update_config_v2(namespace, [:dev, :debug_mode], true, @limit)
      end)

      id = worker * 1_000 + rem(turn, @ids)
      event = Event.new(event_id: id, event_type: :spawn, timestamp: 0, data: turn)

      stored =
        counted(answers, :store, fn -> EventStore.store_protected(namespace, event, @limit) end)

      acknowledged =
        if stored == {:ok, id}, do: Map.put(acknowledged, id, turn), else: acknowledged

      work(namespace, worker, turn + 1, acknowledged, answers, stop)
    end
  end

  defp counted(answers, kind, call) do
    {answer, result} =
      try do
        case call.() do
          {:ok, _} = result -> {:ok, result}
          {:error, error} -> {error.error_type, :refused}
        end
      catch
        # A call that its service did not answer in time, or anything else that is no answer.
        kind, reason -> {{kind, inspect(reason)}, :none}
      end

    :ets.update_counter(answers, {kind, answer}, 1, {nil, 0})
    if answer != :ok, do: Process.sleep(@pause)
    result
  end

  # One a second; what is not there yet after its last end is waited for.
  defp kill_one(second, namespace) do
    Process.sleep(1_000)
    name = Enum.at(@services, rem(second, 3))
    {:ok, _pid} = ServiceRegistry.wait_for_service(namespace, name)
    pid = kill(namespace, name)
    IO.puts("load: #{DateTime.utc_now()} killed #{name} #{inspect(pid)}")
  end

  defp stop_database(_third, server) do
    Process.sleep(div(@seconds * 1_000, 3))
    PostgreSQLServer.down(server)
    IO.puts("load: #{DateTime.utc_now()} stopped PostgreSQL")
    PostgreSQLServer.up(server)
    IO.puts("load: #{DateTime.utc_now()} started PostgreSQL")
  end

  # Until the killer is done; never of a store that has just started, which has less than it is about to have.
  defp samples(namespace, killer) do
    Process.sleep(250)
    {:ok, _stats} = until_up(fn -> stats(namespace) end)
    sample = MemoryCheck.sample()
    if Process.alive?(killer.pid), do: [sample | samples(namespace, killer)], else: [sample]
  end

  defp stats(namespace) do
    EventStore.stats(namespace)
  catch
    :exit, _reason -> {:error, %{error_type: :service_unavailable}}
  end

  defp report(answers) do
    answers = Map.new(:ets.tab2list(answers))

    for kind <- [:read, :protected_read, :update, :store] do
      by_answer = for {{^kind, answer}, count} <- answers, do: "#{inspect(answer)} #{count}"
      percent = Float.round(100 * share(answers, kind), 4)
      IO.puts("load: #{kind}: #{Enum.join(by_answer, ", ")}; succeeded #{percent} %")
    end

    answers
  end

  defp share(answers, kind) do
    attempted = Enum.sum(for {{^kind, _answer}, count} <- answers, do: count)
    assert attempted > 100
    Map.get(answers, {kind, :ok}, 0) / attempted
  end

  defp growth(kind, memory) do
    samples = memory |> Enum.drop(div(length(memory), 5)) |> Enum.map(& &1[kind])
    growth = MemoryCheck.growth(samples)

    IO.puts(
      "load: memory (#{kind}), #{length(samples)} samples: #{div(hd(samples), 1_000)} kB early, #{div(List.last(samples), 1_000)} kB at the end, " <>
        "trend #{Float.round(100 * growth, 2)} % of it"
    )

    growth
  end
end
