defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerTelemetryTest do
  # Not async: the switch for call events and the telemetry prefix are the VM's.
  use ExUnit.Case, async: false
  doctest ElixirScope.Foundation.Infrastructure.Telemetry

  alias ElixirScope.Foundation.{Error, ProcessRegistry, TelemetryLog}

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreaker,
    CircuitBreakerRegistry,
    CircuitBreakerTelemetry,
    ManualClock
  }

  alias ElixirScope.Foundation.Infrastructure.CircuitBreakerTelemetry.Order

  setup do
    reference = make_ref()
    namespace = {:test, reference}

    on_exit(fn ->
      CircuitBreakerTelemetry.call_events(false)
      Application.delete_env(:elixir_scope, :telemetry_prefix)
      ProcessRegistry.cleanup_test_namespace(reference)
    end)

    :ok = ManualClock.install(namespace)
    :ok = CircuitBreakerTelemetry.subscribe(namespace)
    TelemetryLog.attach()
    %{namespace: namespace}
  end

  defp fail(namespace, service),
    do: CircuitBreaker.execute(namespace, service, fn -> {:error, :down} end)

  # The changes of generation; those of level only where a test asks for all.
  defp changes(namespace), do: Enum.filter(all_changes(namespace), &(&1.kind == :generation))

  defp all_changes(namespace) do
    CircuitBreakerTelemetry.sync(namespace)
    drain([])
  end

  defp drain(changes) do
    receive do
      {:circuit_breaker_event, change} -> drain([change | changes])
    after
      0 -> Enum.reverse(changes)
    end
  end

  defp publisher(namespace) do
    {:ok, pid} = ProcessRegistry.lookup(namespace, {CircuitBreakerTelemetry})
    pid
  end

  # A change as the native library sends it.
  defp native(id, sequence), do: native(id, :generation, sequence, sequence + 1)

  defp native(id, kind, sequence, generation) do
    {:escope_breaker_event, id,
     %{
       kind: kind,
       sequence: sequence,
       generation: generation,
       from: :closed,
       to: :closed,
       from_level: :none,
       to_level: :none,
       mode: :auto,
       cause: if(kind == :level, do: :level_changed, else: :reset),
       at_ns: 0
     }}
  end

  test "a life of a breaker, in order", %{namespace: namespace} do
    for _ <- 1..5, do: fail(namespace, :life)
    ManualClock.advance(namespace, 30_000)
    CircuitBreaker.execute(namespace, :life, fn -> 1 end)
    CircuitBreaker.reset(namespace, :life)

    assert [
             %{
               sequence: 1,
               from: :closed,
               to: :open,
               cause: :failure_threshold,
               at_ns: 0,
               service: :life
             },
             %{
               sequence: 2,
               from: :open,
               to: :half_open,
               cause: :open_elapsed,
               at_ns: 30_000_000_000
             },
             %{sequence: 3, from: :half_open, to: :closed, cause: :probes_succeeded},
             %{sequence: 4, from: :closed, to: :closed, cause: :reset}
           ] = changes(namespace)

    # Three changes of level besides.
    assert CircuitBreakerTelemetry.stats(namespace) == %{published_events: 7, dropped_events: 0}
  end

  test "levels have numbers of their own, and come between the generations that they belong to",
       %{
         namespace: namespace
       } do
    for _ <- 1..5, do: fail(namespace, :levels)
    CircuitBreaker.reset(namespace, :levels)
    for _ <- 1..2, do: fail(namespace, :levels)
    CircuitBreaker.execute(namespace, :levels, fn -> 1 end)

    told = for c <- all_changes(namespace), do: {c.kind, c.sequence, c.generation, c.to_level}

    assert told == [
             {:level, 1, 1, :light},
             {:level, 2, 1, :medium},
             {:level, 3, 1, :heavy},
             {:generation, 1, 2, :none},
             {:generation, 2, 3, :none},
             {:level, 4, 3, :light},
             {:level, 5, 3, :none}
           ]

    degraded = [:elixir_scope, :foundation, :infra, :circuit_breaker, :degraded]

    assert_received {:telemetry, ^degraded, %{sequence: 5, generation: 3},
                     %{from_level: :light, to_level: :none, cause: :level_changed}}
  end

  test "modes are told, and what would have opened", %{namespace: namespace} do
    CircuitBreaker.metrics_only(namespace, :modes)
    for _ <- 1..7, do: fail(namespace, :modes)
    CircuitBreaker.force_open(namespace, :modes)
    CircuitBreaker.force_open(namespace, :modes)
    CircuitBreaker.auto(namespace, :modes)
    CircuitBreaker.reinstall(namespace, :modes, [])
    CircuitBreakerTelemetry.sync(namespace)

    told =
      for {:telemetry, [:elixir_scope, :foundation, :infra, :circuit_breaker, event], _, metadata} <-
            received(),
          event not in [:degraded, :fuse_installed],
          do: {event, metadata.from, metadata.to, metadata.mode}

    assert told == [
             {:mode_changed, :closed, :closed, :metrics_only},
             {:would_open, :closed, :closed, :metrics_only},
             {:state_change, :closed, :open, :forced_open},
             {:mode_changed, :closed, :open, :forced_open},
             {:state_change, :open, :closed, :auto},
             {:mode_changed, :open, :closed, :auto},
             {:reinstalled, :closed, :closed, :auto}
           ]
  end

  defp received do
    receive do
      message -> [message | received()]
    after
      0 -> []
    end
  end

  test "telemetry events have the prefix", %{namespace: namespace} do
    for _ <- 1..5, do: fail(namespace, :named)
    CircuitBreakerTelemetry.sync(namespace)

    assert_received {:telemetry,
                     [:elixir_scope, :foundation, :infra, :circuit_breaker, :state_change],
                     measurements,
                     %{
                       namespace: ^namespace,
                       service: :named,
                       from: :closed,
                       to: :open,
                       cause: :failure_threshold
                     }}

    assert measurements == %{sequence: 1, generation: 2, at_ns: 0}

    Application.put_env(:elixir_scope, :telemetry_prefix, [:mine])
    CircuitBreaker.reset(namespace, :named)
    CircuitBreakerTelemetry.sync(namespace)

    assert_received {:telemetry, [:mine, :circuit_breaker, :state_change], _measurements,
                     %{cause: :reset}}

    CircuitBreaker.reset(namespace, :named)
    CircuitBreakerTelemetry.sync(namespace)

    assert_received {:telemetry, [:mine, :circuit_breaker, :reset], %{sequence: 3},
                     %{cause: :reset}}
  end

  test "a breaker is told of when it is made, once", %{namespace: namespace} do
    installed = [:elixir_scope, :foundation, :infra, :circuit_breaker, :fuse_installed]
    for _ <- 1..2, do: CircuitBreaker.execute(namespace, :made, fn -> 1 end)

    assert_received {:telemetry, ^installed, %{count: 1},
                     %{namespace: ^namespace, service: :made}}

    refute_received {:telemetry, ^installed, _, %{service: :made}}
  end

  test "single calls are told only when asked for", %{namespace: namespace} do
    :ok = CircuitBreakerRegistry.register(namespace, :calls)
    assert_received {:telemetry, _installed, %{count: 1}, %{service: :calls}}
    CircuitBreaker.execute(namespace, :calls, fn -> 1 end)
    refute_received {:telemetry, _name, _measurements, %{service: :calls}}

    CircuitBreakerTelemetry.call_events(true)
    CircuitBreaker.execute(namespace, :calls, fn -> 1 end)
    for _ <- 1..6, do: fail(namespace, :calls)

    prefix = [:elixir_scope, :foundation, :infra, :circuit_breaker]
    executed = prefix ++ [:call_executed]
    rejected = prefix ++ [:call_rejected]

    assert_received {:telemetry, ^executed, %{count: 1, duration: duration},
                     %{service: :calls, result: :success}}

    assert is_integer(duration) and duration >= 0
    assert_received {:telemetry, ^executed, %{count: 1}, %{service: :calls, result: :failure}}

    assert_received {:telemetry, ^rejected, %{retry_after_ms: 30_000},
                     %{service: :calls, reason: :circuit_open}}
  end

  test "an error can be counted" do
    Error.collect_error_metrics(Error.new(:circuit_open))

    assert_received {:telemetry, [:foundation, :errors, :system, :protection], %{counter: 1},
                     %{code: 2501}}
  end

  test "a caller that is killed right after its call loses no event", %{namespace: namespace} do
    :ok =
      CircuitBreakerRegistry.register(namespace, :killed,
        failure_threshold: 1,
        call_timeout: :infinity
      )

    {caller, monitor} =
      spawn_monitor(fn ->
        fail(namespace, :killed)
        Process.exit(self(), :kill)
      end)

    assert_receive {:DOWN, ^monitor, :process, ^caller, :killed}
    assert [%{sequence: 1, to: :open}] = changes(namespace)
  end

  # A caller that the machine stops between its decision and its message may outlast the hold-back: then the chain
  # has a gap, and the gap is counted.
  test "changes that many callers cause come in one chain, each once", %{namespace: namespace} do
    :ok =
      CircuitBreakerRegistry.register(namespace, :busy,
        failure_threshold: 1,
        reset_timeout: 0,
        call_timeout: :infinity
      )

    1..8
    |> Enum.map(fn number ->
      Task.async(fn ->
        for call <- 1..200 do
          CircuitBreaker.execute(namespace, :busy, fn ->
            if rem(call + number, 2) == 0, do: :error, else: :ok
          end)
        end
      end)
    end)
    |> Task.await_many()

    changes = changes(namespace)
    assert length(changes) > 10

    for {one, next} <- Enum.zip(changes, tl(changes)) do
      assert next.sequence > one.sequence
      if next.sequence == one.sequence + 1, do: assert(one.to == next.from)
    end

    last = List.last(changes)
    assert {:ok, last.to} == CircuitBreaker.state(namespace, :busy)

    assert CircuitBreakerTelemetry.stats(namespace) == %{
             published_events: length(changes),
             dropped_events: last.sequence - length(changes)
           }
  end

  test "order is restored", %{namespace: namespace} do
    CircuitBreakerTelemetry.announce(publisher(namespace), -1, namespace, :order)
    for sequence <- [3, 1, 2, 5, 4], do: send(publisher(namespace), native(-1, sequence))

    assert Enum.map(changes(namespace), & &1.sequence) == [1, 2, 3, 4, 5]
    assert CircuitBreakerTelemetry.stats(namespace).dropped_events == 0
  end

  test "the order of both sequences is restored", %{namespace: namespace} do
    CircuitBreakerTelemetry.announce(publisher(namespace), -4, namespace, :both)

    for {kind, sequence, generation} <- [
          {:level, 2, 2},
          {:level, 3, 3},
          {:generation, 2, 3},
          {:level, 1, 1},
          {:generation, 1, 2}
        ],
        do: send(publisher(namespace), native(-4, kind, sequence, generation))

    told = for c <- all_changes(namespace), do: {c.kind, c.sequence}
    assert told == [level: 1, generation: 1, level: 2, generation: 2, level: 3]
    assert CircuitBreakerTelemetry.stats(namespace).dropped_events == 0
  end

  test "a level whose generation never comes is told after a while, behind what is before it", %{
    namespace: namespace
  } do
    CircuitBreakerTelemetry.announce(publisher(namespace), -5, namespace, :lost)

    for {kind, sequence, generation} <- [{:level, 3, 3}, {:generation, 2, 3}, {:level, 1, 2}],
        do: send(publisher(namespace), native(-5, kind, sequence, generation))

    assert_receive {:circuit_breaker_event, %{kind: :level, sequence: 1}}, 5_000
    assert_receive {:circuit_breaker_event, %{kind: :generation, sequence: 2}}, 5_000
    assert_receive {:circuit_breaker_event, %{kind: :level, sequence: 3}}, 5_000
    assert CircuitBreakerTelemetry.stats(namespace) == %{published_events: 3, dropped_events: 2}
  end

  test "the numbers wrap" do
    {[_], order} =
      Order.push(%{Order.new() | generation: 0x0FFF_FFFF}, %{
        kind: :generation,
        sequence: 0,
        generation: 1
      })

    assert order.generation == 0
    level = %{kind: :level, sequence: 0, generation: 1}
    assert {[^level], _} = Order.push(%{order | level: 0xFFFF_FFFF}, level)
    late = %{kind: :level, sequence: 0xFFFF_FFFF, generation: 1}
    assert {[], ^order} = Order.push(order, late)
  end

  test "a gap is given up after a while, and counted", %{namespace: namespace} do
    CircuitBreakerTelemetry.announce(publisher(namespace), -2, namespace, :gap)
    for sequence <- [1, 3, 6], do: send(publisher(namespace), native(-2, sequence))

    assert_receive {:circuit_breaker_event, %{sequence: 1}}
    assert_receive {:circuit_breaker_event, %{sequence: 3}}, 5_000
    assert_receive {:circuit_breaker_event, %{sequence: 6}}, 5_000
    send(publisher(namespace), native(-2, 2))
    assert changes(namespace) == []
    assert CircuitBreakerTelemetry.stats(namespace) == %{published_events: 3, dropped_events: 3}
  end

  test "the hold-back of a gap that was filled does not shorten the next one", %{
    namespace: namespace
  } do
    publisher = publisher(namespace)
    CircuitBreakerTelemetry.announce(publisher, -9, namespace, :filled)
    send(publisher, native(-9, 2))
    %{held: %{-9 => {timer, _changes}}} = :sys.get_state(publisher)
    for sequence <- [1, 4], do: send(publisher, native(-9, sequence))
    send(publisher, {:timeout, timer, -9})
    send(publisher, native(-9, 3))

    assert Enum.map(changes(namespace), & &1.sequence) == [1, 2, 3, 4]
    assert CircuitBreakerTelemetry.stats(namespace).dropped_events == 0
  end

  test "what is held of a breaker that nobody knows any more is forgotten", %{
    namespace: namespace
  } do
    publisher = publisher(namespace)
    CircuitBreakerTelemetry.announce(publisher, -10, namespace, :gone)
    send(publisher, native(-10, 2))
    %{held: %{-10 => {timer, _changes}}} = :sys.get_state(publisher)
    :ets.delete(CircuitBreakerTelemetry, -10)
    send(publisher, {:timeout, timer, -10})
    assert %{held: held} = :sys.get_state(publisher)
    assert held == %{}
  end

  test "the hold-back is bounded", %{namespace: namespace} do
    CircuitBreakerTelemetry.announce(publisher(namespace), -3, namespace, :full)
    for sequence <- 2..65, do: send(publisher(namespace), native(-3, sequence))

    assert Enum.map(changes(namespace), & &1.sequence) == Enum.to_list(2..65)
    assert CircuitBreakerTelemetry.stats(namespace).dropped_events == 1
  end

  test "a publisher that crashes is replaced and goes on where it was", %{namespace: namespace} do
    for _ <- 1..5, do: fail(namespace, :crash)
    assert [%{sequence: 1}] = changes(namespace)

    old = publisher(namespace)
    monitor = Process.monitor(old)
    Process.exit(old, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^old, :killed}

    :ok = CircuitBreakerTelemetry.subscribe(namespace)
    CircuitBreaker.reset(namespace, :crash)
    assert [%{sequence: 2, cause: :reset}] = changes(namespace)
  end

  test "a publisher that is killed again and again takes nobody along", %{namespace: namespace} do
    {:ok, _value} = CircuitBreaker.execute(namespace, :crash, fn -> 1 end)
    supervisor = Process.whereis(ElixirScope.Foundation.Infrastructure.Supervisor)

    for _ <- 1..20 do
      old = publisher(namespace)
      monitor = Process.monitor(old)
      Process.exit(old, :kill)
      assert_receive {:DOWN, ^monitor, :process, ^old, :killed}
      :ok = CircuitBreakerTelemetry.subscribe(namespace)
    end

    assert Process.whereis(ElixirScope.Foundation.Infrastructure.Supervisor) == supervisor
    CircuitBreaker.force_open(namespace, :crash)
    assert [%{cause: :mode_changed}] = changes(namespace)
  end

  test "a breaker that is registered again starts at one, and its predecessor is silent", %{
    namespace: namespace
  } do
    :ok = CircuitBreakerRegistry.register(namespace, :again, failure_threshold: 1)
    {:ok, permit} = CircuitBreaker.acquire(namespace, :again)
    :ok = CircuitBreakerRegistry.register(namespace, :again, failure_threshold: 2)
    :ok = CircuitBreaker.record(permit, :failure)
    for _ <- 1..2, do: fail(namespace, :again)

    assert [%{sequence: 1, at_ns: 0}] = changes(namespace)
    assert {:ok, %{admitted: 2}} = CircuitBreaker.stats(namespace, :again)
  end

  test "a breaker that is registered twice before the publisher looks is heard", %{
    namespace: namespace
  } do
    :ok = :sys.suspend(publisher(namespace))

    for threshold <- [2, 1],
        do: :ok = CircuitBreakerRegistry.register(namespace, :twice, failure_threshold: threshold)

    :ok = :sys.resume(publisher(namespace))
    fail(namespace, :twice)
    assert [%{sequence: 1, to: :open}] = changes(namespace)
  end

  test "a breaker that was removed is silent and leaves nothing", %{namespace: namespace} do
    rows = :ets.info(CircuitBreakerTelemetry, :size)
    :ok = CircuitBreakerRegistry.register(namespace, :gone, failure_threshold: 1)
    {:ok, permit} = CircuitBreaker.acquire(namespace, :gone)
    :ok = CircuitBreakerRegistry.remove(namespace, :gone)
    :ok = CircuitBreaker.record(permit, :failure)
    assert changes(namespace) == []
    assert :ets.info(CircuitBreakerTelemetry, :size) == rows
  end

  test "a stray message does no harm", %{namespace: namespace} do
    send(publisher(namespace), :stray)
    assert :ok = CircuitBreakerTelemetry.sync(namespace)
  end

  test "a subscription ends with its process, or on demand", %{namespace: namespace} do
    :ok = CircuitBreakerTelemetry.unsubscribe(namespace)
    :ok = CircuitBreakerTelemetry.subscribe(namespace, spawn(fn -> :ok end))
    for _ <- 1..5, do: fail(namespace, :quiet)
    assert changes(namespace) == []
    # Three levels on the way up, and the opening.
    assert CircuitBreakerTelemetry.stats(namespace).published_events == 4
  end

  test "a namespace without a publisher has published nothing" do
    namespace = {:test, make_ref()}
    assert :ok = CircuitBreakerTelemetry.sync(namespace)
    assert :ok = CircuitBreakerTelemetry.unsubscribe(namespace)
    assert CircuitBreakerTelemetry.stats(namespace) == %{published_events: 0, dropped_events: 0}

    assert {:error, %Error{error_type: :invalid_argument}} =
             CircuitBreakerTelemetry.subscribe("prod")
  end
end
