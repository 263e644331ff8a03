defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerKillTest do
  # Callers that are killed: at known moments, where the books are exact, and at any moment, where they balance within
  # what nobody can know. `make soak SOAK=breaker-kill` makes 100,000 calls.
  use ExUnit.Case, async: true

  alias ElixirScope.Foundation.ProcessRegistry

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreaker,
    CircuitBreakerRegistry,
    ManualClock
  }

  @calls String.to_integer(System.get_env("KILL_CALLS", "6000"))
  @batch 100
  @killed 30

  setup do
    reference = make_ref()
    on_exit(fn -> ProcessRegistry.cleanup_test_namespace(reference) end)
    %{namespace: {:test, reference}}
  end

  defp eventually(condition, tries \\ 2_000) do
    cond do
      condition.() -> :ok
      tries == 0 -> flunk("the condition did not come true")
      true -> Process.sleep(2) && eventually(condition, tries - 1)
    end
  end

  defp stats(namespace) do
    {:ok, stats} = CircuitBreaker.stats(namespace, :s)
    stats
  end

  defp finished(s),
    do: s.succeeded + s.failed + s.ignored + s.cancelled + s.stale + s.expired

  describe "killed inside the operation" do
    for {state, prepare, failures} <- [
          {"closed", quote(do: fn _ -> :ok end), 0},
          {"degraded", quote(do: fn ns -> CircuitBreaker.report(ns, :s, :failure) end), 0},
          {"forced closed", quote(do: fn ns -> CircuitBreaker.force_closed(ns, :s) end), 0},
          {"metrics only", quote(do: fn ns -> CircuitBreaker.metrics_only(ns, :s) end), 0},
          {"half-open", quote(do: &__MODULE__.half_open/1), 10}
        ],
        call_timeout <- [:infinity, 60_000] do
      test "#{state}, call_timeout #{call_timeout}", %{namespace: namespace} do
        :ok = ManualClock.install(namespace)

        :ok =
          CircuitBreakerRegistry.register(namespace, :s,
            failure_threshold: 2,
            half_open_permits: 20,
            successes_to_close: 10,
            call_timeout: unquote(call_timeout)
          )

        unquote(prepare).(namespace)
        before = stats(namespace)
        me = self()

        callers =
          for _ <- 1..10 do
            spawn_monitor(fn ->
              CircuitBreaker.execute(namespace, :s, fn ->
                send(me, {:in, self()})
                Process.sleep(:infinity)
              end)
            end)
          end

        workers = for _ <- 1..10, do: assert_receive({:in, worker}, 5_000) && worker
        for {caller, _} <- callers, do: Process.exit(caller, :kill)

        for {caller, monitor} <- callers,
            do: assert_receive({:DOWN, ^monitor, _, ^caller, :killed})

        eventually(fn -> not Enum.any?(workers, &Process.alive?/1) end)
        eventually(fn -> stats(namespace).failed == before.failed + unquote(failures) end)

        now = stats(namespace)
        assert now.admitted - before.admitted == 10
        # What a closed breaker admitted and nobody finished; a probe's death is its result.
        killed_in_flight = 10 - unquote(failures)
        in_flight = fn s -> s.admitted - finished(s) end
        assert in_flight.(now) - in_flight.(before) == killed_in_flight
        assert now.live_probes == 0
      end
    end
  end

  @doc false
  def half_open(namespace) do
    for _ <- 1..2, do: CircuitBreaker.report(namespace, :s, :failure)
    ManualClock.advance(namespace, 30_000)
  end

  # What a caller got to, as far as it could say so.
  @begun 1
  @ended 2
  @returned 3
  @rejected 4

  @tag timeout: :infinity
  test "R11 calls killed at any moment, in every state: the breaker lives and the books balance",
       %{
         namespace: namespace
       } do
    :ok =
      CircuitBreakerRegistry.register(namespace, :s,
        failure_threshold: 4,
        reset_timeout: 2,
        half_open_permits: 3,
        successes_to_close: 2,
        probe_lease: 20,
        strategy: :gradual_degradation
      )

    stages = :atomics.new(@calls, [])
    workers = :ets.new(:workers, [:public])

    killed =
      Enum.chunk_every(1..@calls, @batch)
      |> Enum.flat_map(fn batch ->
        mode(namespace, :rand.uniform(12))
        storm(namespace, batch, stages, workers)
      end)

    :ok = CircuitBreaker.auto(namespace, :s)
    eventually(fn -> stats(namespace).live_probes == 0 end)

    eventually(fn ->
      not Enum.any?(:ets.tab2list(workers), fn {pid} -> Process.alive?(pid) end)
    end)

    books(stats(namespace), stages, MapSet.new(killed))

    # Whatever was lost: after the open time a call is admitted, and successes close.
    eventually(fn -> match?({:ok, 1}, CircuitBreaker.execute(namespace, :s, fn -> 1 end)) end)

    eventually(fn ->
      CircuitBreaker.execute(namespace, :s, fn -> 1 end) && stats(namespace).state == :closed
    end)
  end

  defp mode(namespace, 1), do: CircuitBreaker.force_open(namespace, :s)
  defp mode(namespace, 2), do: CircuitBreaker.force_closed(namespace, :s)
  defp mode(namespace, 3), do: CircuitBreaker.metrics_only(namespace, :s)
  defp mode(namespace, 4), do: CircuitBreaker.reset(namespace, :s)
  defp mode(namespace, 5), do: CircuitBreaker.reconfigure(namespace, :s, half_open_permits: 4)
  defp mode(namespace, _other), do: CircuitBreaker.auto(namespace, :s)

  # One batch of callers at once, some of which are killed; the numbers of those.
  defp storm(namespace, batch, stages, workers) do
    callers =
      for number <- batch do
        fails = :rand.uniform(100) <= 30
        way = Enum.random([:here, :apart, :ask])
        pause = :rand.uniform(3) - 1
        say = &:atomics.put(stages, number, &1)

        {number,
         spawn_monitor(fn ->
           call(way, namespace, fails, pause, say, workers)
           # Who was quick is there to be killed all the same.
           receive do: (:leave -> :ok)
         end)}
      end

    victims = callers |> Enum.shuffle() |> Enum.take(div(length(batch) * @killed, 100))

    for {_number, {pid, _monitor}} <- victims do
      spin(:rand.uniform(20_000))
      Process.exit(pid, :kill)
    end

    for {_number, {pid, _monitor}} <- callers, do: send(pid, :leave)

    downs =
      for {number, {pid, monitor}} <- callers,
          do: receive(do: ({:DOWN, ^monitor, _, ^pid, reason} -> {number, reason}))

    for {number, :killed} <- downs, do: number
  end

  defp spin(0), do: :ok
  defp spin(n), do: spin(n - 1)

  defp call(:ask, namespace, fails, pause, say, _workers) do
    case CircuitBreaker.ask(namespace, :s) do
      {:ok, permit} ->
        say.(@begun)
        Process.sleep(pause)
        say.(@ended)
        CircuitBreaker.record(permit, if(fails, do: :failure, else: :success))
        say.(@returned)

      {:error, _rejection} ->
        say.(@rejected)
    end
  end

  defp call(way, namespace, fails, pause, say, workers) do
    operation = fn ->
      say.(@begun)
      if way == :apart, do: :ets.insert(workers, {self()})
      Process.sleep(pause)
      say.(@ended)
      if fails, do: :error, else: :ok
    end

    options = [call_timeout: if(way == :apart, do: 60_000, else: :infinity)]

    case CircuitBreaker.execute(namespace, :s, operation, options) do
      {:error, _rejection} -> say.(@rejected)
      _result -> say.(@returned)
    end
  end

  # A caller that was killed between two of its words may or may not have got to the next: that is all that
  # nobody can know.
  defp books(s, stages, killed) do
    reached =
      Enum.frequencies_by(1..@calls, fn number ->
        {:atomics.get(stages, number), MapSet.member?(killed, number)}
      end)

    count = fn stage, killed -> Map.get(reached, {stage, killed}, 0) end
    assert for(stage <- [0, @begun, @ended], do: count.(stage, false)) == [0, 0, 0]
    assert MapSet.size(killed) == div(@calls * @killed, 100)

    returned = count.(@returned, false) + count.(@returned, true)
    begun = returned + count.(@begun, true) + count.(@ended, true)
    unsaid = count.(0, true)
    assert s.admitted in begun..(begun + unsaid)

    in_flight = s.admitted - finished(s)
    assert in_flight in 0..(count.(@begun, true) + count.(@ended, true) + unsaid)
    assert finished(s) >= returned

    rejected =
      s.rejected_open + s.rejected_half_open + s.rejected_forced_open + s.rejected_degraded

    certain = count.(@rejected, false) + count.(@rejected, true)
    assert rejected in certain..(certain + unsaid)

    IO.puts(
      "kill test: #{@calls} calls, #{MapSet.size(killed)} killed, #{in_flight} of them in flight"
    )
  end
end
