defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerTest do
  use ExUnit.Case, async: true
  doctest ElixirScope.Foundation.Infrastructure.CircuitBreaker
  doctest ElixirScope.Foundation.Infrastructure.ManualClock

  alias ElixirScope.Foundation.{Error, ProcessRegistry}
  alias ElixirScope.Foundation.Services.ConfigServer

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreaker,
    CircuitBreakerRegistry,
    ManualClock,
    SimpleCircuitBreaker
  }

  setup do
    reference = make_ref()
    namespace = {:test, reference}
    on_exit(fn -> ProcessRegistry.cleanup_test_namespace(reference) end)
    :ok = ManualClock.install(namespace)
    %{namespace: namespace}
  end

  defp fail(namespace, service, times) do
    for _ <- 1..times, do: CircuitBreaker.execute(namespace, service, fn -> {:error, :down} end)
  end

  defp open(namespace, service, config \\ []) do
    :ok = CircuitBreakerRegistry.register(namespace, service, config)
    fail(namespace, service, 5)
    {:ok, :open} = CircuitBreaker.state(namespace, service)
  end

  # Waits for what another process does, not for a time.
  defp eventually(condition, tries \\ 1_000) do
    cond do
      condition.() -> true
      tries == 0 -> flunk("the condition did not come true")
      true -> Process.sleep(2) && eventually(condition, tries - 1)
    end
  end

  describe "basic circuit breaker functionality" do
    test "opens after failure threshold", %{namespace: namespace} do
      fail(namespace, :search, 4)
      assert {:ok, :closed} = CircuitBreaker.state(namespace, :search)
      fail(namespace, :search, 1)
      assert {:ok, :open} = CircuitBreaker.state(namespace, :search)

      me = self()
      result = CircuitBreaker.execute(namespace, :search, fn -> send(me, :called) end)

      assert {:error, %Error{error_type: :circuit_open, code: 2501, context: context}} = result
      assert context.retry_after_ms == 30_000
      refute_received :called
    end

    test "recovers in half-open state", %{namespace: namespace} do
      open(namespace, :search)
      ManualClock.advance(namespace, 29_999)

      assert {:error, %Error{context: %{retry_after_ms: 1}}} =
               CircuitBreaker.execute(namespace, :search, fn -> 1 end)

      ManualClock.advance(namespace, 1)
      assert {:ok, 1} = CircuitBreaker.execute(namespace, :search, fn -> 1 end)
      assert {:ok, :closed} = CircuitBreaker.state(namespace, :search)
    end

    test "a failed probe opens again", %{namespace: namespace} do
      open(namespace, :search)
      ManualClock.advance(namespace, 30_000)
      fail(namespace, :search, 1)
      assert {:ok, %{state: :open, opens: 2}} = CircuitBreaker.stats(namespace, :search)
    end

    test "admits one probe and rejects others", %{namespace: namespace} do
      open(namespace, :search)
      ManualClock.advance(namespace, 30_000)
      {:ok, probe} = CircuitBreaker.acquire(namespace, :search)

      assert {:error, %Error{error_type: :half_open_full, context: %{retry_after_ms: 60_000}}} =
               CircuitBreaker.execute(namespace, :search, fn -> 1 end)

      assert :ok = CircuitBreaker.record(probe, :ignored)
      assert {:ok, 1} = CircuitBreaker.execute(namespace, :search, fn -> 1 end)
    end

    test "a success forgets earlier failures", %{namespace: namespace} do
      fail(namespace, :search, 4)
      assert {:ok, 1} = CircuitBreaker.execute(namespace, :search, fn -> 1 end)
      fail(namespace, :search, 4)
      assert {:ok, %{state: :closed, failure_count: 4}} = CircuitBreaker.stats(namespace, :search)
    end

    test "reset closes", %{namespace: namespace} do
      open(namespace, :search)
      assert :ok = CircuitBreaker.reset(namespace, :search)
      assert {:ok, 1} = CircuitBreaker.execute(namespace, :search, fn -> 1 end)
    end

    test "namespaces and services are apart", %{namespace: namespace} do
      open(namespace, :search)
      assert {:ok, 1} = CircuitBreaker.execute(namespace, :other, fn -> 1 end)
      assert {:ok, 1} = CircuitBreaker.execute({:test, make_ref()}, :search, fn -> 1 end)
    end

    test "many first callers share one breaker", %{namespace: namespace} do
      1..50
      |> Enum.map(fn _ ->
        Task.async(fn -> CircuitBreaker.execute(namespace, :shared, fn -> 1 end) end)
      end)
      |> Task.await_many()

      assert {:ok, %{admitted: 50, succeeded: 50}} = CircuitBreaker.stats(namespace, :shared)
    end
  end

  describe "results" do
    for {name, value, result, failed} <- [
          {"ok tuple", {:ok, 1}, {:ok, 1}, 0},
          {"other value", nil, {:ok, nil}, 0},
          {"longer ok tuple", {:ok, 1, 2}, {:ok, {:ok, 1, 2}}, 0},
          {"bare error", :error, :error, 1},
          {"error tuple", {:error, :down}, {:error, :down}, 1},
          {"longer error tuple", {:error, :rate_limited, 5}, {:error, :rate_limited, 5}, 1},
          {"empty tuple", {}, {:ok, {}}, 0}
        ],
        call_timeout <- [1_000, :infinity] do
      test "#{name} with call_timeout #{call_timeout}", %{namespace: namespace} do
        :ok = CircuitBreakerRegistry.register(namespace, :r, call_timeout: unquote(call_timeout))
        value = unquote(Macro.escape(value))

        assert CircuitBreaker.execute(namespace, :r, fn -> value end) ==
                 unquote(Macro.escape(result))

        assert {:ok, %{failed: unquote(failed)}} = CircuitBreaker.stats(namespace, :r)
      end
    end

    for call_timeout <- [1_000, :infinity] do
      test "raise, throw and exit are failures with a cause, call_timeout #{call_timeout}",
           %{namespace: namespace} do
        :ok = CircuitBreakerRegistry.register(namespace, :r, call_timeout: unquote(call_timeout))
        run = &SimpleCircuitBreaker.execute(namespace, :r, &1)

        assert {:error, %Error{error_type: :protected_operation_failed} = error} =
                 run.(fn -> raise "boom" end)

        assert error.context.cause == %RuntimeError{message: "boom"}
        assert error.message =~ "boom"
        assert Enum.any?(error.stacktrace, &match?(%{module: __MODULE__}, &1))

        assert {:error, %Error{context: %{kind: :throw, cause: :ball}}} =
                 run.(fn -> throw(:ball) end)

        assert {:error, %Error{context: %{kind: :exit, cause: :bye}}} = run.(fn -> exit(:bye) end)

        assert {:error, %Error{context: %{kind: :error, cause: %ErlangError{original: :badness}}}} =
                 run.(fn -> :erlang.error(:badness) end)

        assert {:ok, %{failed: 4, failure_count: 4}} = CircuitBreaker.stats(namespace, :r)
      end

      test "execute! passes a crash on, call_timeout #{call_timeout}", %{namespace: namespace} do
        :ok = CircuitBreakerRegistry.register(namespace, :r, call_timeout: unquote(call_timeout))
        run = &SimpleCircuitBreaker.execute!(namespace, :r, &1)

        assert_raise RuntimeError, "boom", fn -> run.(fn -> raise "boom" end) end
        assert catch_throw(run.(fn -> throw(:ball) end)) == :ball
        assert catch_exit(run.(fn -> exit(:bye) end)) == :bye
        assert {:ok, 1} = run.(fn -> 1 end)
        assert {:ok, %{failed: 3, succeeded: 1}} = CircuitBreaker.stats(namespace, :r)
      end
    end
  end

  describe "call_timeout" do
    test "ends the operation and counts as a failure", %{namespace: namespace} do
      :ok = CircuitBreakerRegistry.register(namespace, :slow, call_timeout: 10)
      me = self()

      result =
        CircuitBreaker.execute(namespace, :slow, fn ->
          send(me, {:worker, self()})
          Process.sleep(:infinity)
        end)

      assert {:error, %Error{error_type: :timeout, context: %{call_timeout: 10}}} = result
      assert_received {:worker, worker}
      refute Process.alive?(worker)
      assert {:ok, %{failed: 1}} = CircuitBreaker.stats(namespace, :slow)
      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "runs apart with $callers, or in the caller", %{namespace: namespace} do
      me = self()
      where = fn -> {self(), Process.get(:"$callers")} end

      assert {:ok, {worker, [^me | _]}} = CircuitBreaker.execute(namespace, :apart, where)
      assert worker != me

      :ok = CircuitBreakerRegistry.register(namespace, :here, call_timeout: :infinity)
      assert {:ok, {^me, _}} = CircuitBreaker.execute(namespace, :here, where)
    end

    test "passes over what waits in the mailbox", %{namespace: namespace} do
      :ok = CircuitBreakerRegistry.register(namespace, :busy, call_timeout: 60_000)
      for number <- 1..10_000, do: send(self(), number)
      ours = fn -> {:ok, 1} = CircuitBreaker.execute(namespace, :busy, fn -> 1 end) end

      bare = fn ->
        {worker, monitor} = spawn_monitor(fn -> 1 end)
        receive do: ({:DOWN, ^monitor, :process, ^worker, :normal} -> :ok)
      end

      # To look at each message takes ten times the bare round trip.
      {ours_us, bare_us} =
        1..200 |> Enum.map(fn _ -> {microseconds(ours), microseconds(bare)} end) |> Enum.unzip()

      assert Enum.min(ours_us) < 4 * Enum.min(bare_us)
    end

    test "an operation that is killed is a failure", %{namespace: namespace} do
      result = CircuitBreaker.execute(namespace, :killed, fn -> Process.exit(self(), :kill) end)
      assert {:error, %Error{context: %{kind: :exit, cause: :killed}}} = result
      assert {:ok, %{failed: 1}} = CircuitBreaker.stats(namespace, :killed)
    end

    test "an operation does not outlive its caller", %{namespace: namespace} do
      me = self()

      caller =
        spawn(fn ->
          CircuitBreaker.execute(namespace, :orphan, fn ->
            send(me, {:worker, self()})
            Process.sleep(:infinity)
          end)
        end)

      assert_receive {:worker, worker}
      monitor = Process.monitor(worker)
      Process.exit(caller, :kill)
      assert_receive {:DOWN, ^monitor, :process, ^worker, :killed}
    end
  end

  describe "an operation within an operation" do
    test "ends with the caller of the outer one", %{namespace: namespace} do
      me = self()

      caller =
        spawn(fn ->
          CircuitBreaker.execute(namespace, :outer, fn ->
            CircuitBreaker.execute(namespace, :inner, fn ->
              send(me, {:workers, [self() | Process.get(:"$callers")]})
              Process.sleep(:infinity)
            end)
          end)
        end)

      assert_receive {:workers, [inner, outer, ^caller]}
      monitors = for worker <- [inner, outer], do: {worker, Process.monitor(worker)}
      Process.exit(caller, :kill)

      for {worker, monitor} <- monitors,
          do: assert_receive({:DOWN, ^monitor, :process, ^worker, :killed})
    end

    test "may run out of time while the outer one goes on", %{namespace: namespace} do
      :ok = CircuitBreakerRegistry.register(namespace, :inner, call_timeout: 5)

      assert {:ok, :timeout} =
               CircuitBreaker.execute(namespace, :outer, fn ->
                 {:error, error} =
                   CircuitBreaker.execute(namespace, :inner, fn -> Process.sleep(:infinity) end)

                 error.error_type
               end)
    end
  end

  describe "death of an owner" do
    for call_timeout <- [5_000, :infinity] do
      test "a killed probe is one failure, call_timeout #{call_timeout}", %{namespace: namespace} do
        open(namespace, :probe, call_timeout: unquote(call_timeout))
        ManualClock.advance(namespace, 30_000)
        me = self()

        caller =
          spawn(fn ->
            CircuitBreaker.execute(namespace, :probe, fn ->
              send(me, :in_probe)
              Process.sleep(:infinity)
            end)
          end)

        assert_receive :in_probe

        assert {:ok, %{state: :half_open, live_probes: 1}} =
                 CircuitBreaker.stats(namespace, :probe)

        Process.exit(caller, :kill)
        eventually(fn -> CircuitBreaker.state(namespace, :probe) == {:ok, :open} end)

        assert {:ok, %{failed: 6, opens: 2, live_probes: 0}} =
                 CircuitBreaker.stats(namespace, :probe)
      end
    end

    test "after its probe was recorded counts as nothing", %{namespace: namespace} do
      open(namespace, :probe, call_timeout: :infinity)
      ManualClock.advance(namespace, 30_000)

      {owner, monitor} =
        spawn_monitor(fn -> {:ok, 1} = CircuitBreaker.execute(namespace, :probe, fn -> 1 end) end)

      assert_receive {:DOWN, ^monitor, :process, ^owner, :normal}
      # The native library's monitor fires a moment before or after this one.
      Process.sleep(20)

      assert {:ok, %{state: :closed, admitted: 6, succeeded: 1, failed: 5, stale: 0}} =
               CircuitBreaker.stats(namespace, :probe)
    end

    test "a permit of acquire is one failure", %{namespace: namespace} do
      me = self()

      {owner, monitor} =
        spawn_monitor(fn ->
          {:ok, permit} = CircuitBreaker.acquire(namespace, :permit)
          send(me, {:permit, permit})
          receive do: (:die -> :ok)
        end)

      assert_receive {:permit, permit}
      send(owner, :die)
      assert_receive {:DOWN, ^monitor, :process, ^owner, :normal}
      eventually(fn -> match?({:ok, %{failed: 1}}, CircuitBreaker.stats(namespace, :permit)) end)
      assert {:error, %Error{error_type: :already_done}} = CircuitBreaker.record(permit, :success)
      assert {:ok, %{failed: 1, succeeded: 0}} = CircuitBreaker.stats(namespace, :permit)
    end

    test "a permit that another process recorded stays recorded", %{namespace: namespace} do
      me = self()

      {owner, monitor} =
        spawn_monitor(fn ->
          {:ok, permit} = CircuitBreaker.acquire(namespace, :permit)
          send(me, {:permit, permit})
          receive do: (:die -> :ok)
        end)

      assert_receive {:permit, permit}
      assert :ok = CircuitBreaker.record(permit, :success)
      send(owner, :die)
      assert_receive {:DOWN, ^monitor, :process, ^owner, :normal}
      assert {:ok, %{failed: 0, succeeded: 1}} = CircuitBreaker.stats(namespace, :permit)
    end
  end

  describe "permits" do
    test "of an earlier generation are stale", %{namespace: namespace} do
      {:ok, permit} = CircuitBreaker.acquire(namespace, :stale)
      CircuitBreaker.reset(namespace, :stale)
      assert {:error, %Error{error_type: :stale}} = CircuitBreaker.record(permit, :failure)
    end

    test "expire", %{namespace: namespace} do
      open(namespace, :lease, half_open_permits: 2)
      ManualClock.advance(namespace, 30_000)
      {:ok, probe} = CircuitBreaker.acquire(namespace, :lease)
      ManualClock.advance(namespace, 60_000)
      assert {:error, %Error{error_type: :expired}} = CircuitBreaker.record(probe, :success)
      assert {:ok, %{expired: 1}} = CircuitBreaker.stats(namespace, :lease)
    end
  end

  describe "bad input" do
    test "an unknown breaker is named", %{namespace: namespace} do
      for call <- [&CircuitBreaker.state/2, &CircuitBreaker.stats/2, &CircuitBreaker.reset/2] do
        assert {:error, %Error{error_type: :circuit_breaker_not_found, message: message}} =
                 call.(namespace, :nobody)

        assert message =~ ":nobody"
      end
    end

    test "names and operations of a wrong type are refused", %{namespace: namespace} do
      assert_refused(
        CircuitBreaker.execute(namespace, "search", fn -> 1 end),
        "`service` is \"search\""
      )

      assert_refused(
        CircuitBreaker.execute("prod", :search, fn -> 1 end),
        "`namespace` is \"prod\""
      )

      assert_refused(
        CircuitBreaker.execute({:test, 1}, :search, fn -> 1 end),
        "`namespace` is {:test, 1}"
      )

      assert_refused(
        CircuitBreaker.execute(namespace, :search, :no_fun),
        "`operation` is :no_fun"
      )

      assert_refused(CircuitBreaker.execute(namespace, :search, fn _ -> 1 end), "`operation` is")
      assert_refused(CircuitBreaker.acquire(nil, :search), "`namespace` is nil")
    end

    test "a clock is set by what is a time, where one is installed", %{namespace: namespace} do
      other = {:test, make_ref()}
      assert_refused(ManualClock.install(other, -1), "`now_ns` is -1")
      assert_refused(ManualClock.install(other, 2 ** 64), "`now_ns` is 18446744073709551616")
      assert_refused(ManualClock.install(:production, 0), "`namespace` is :production")
      assert_refused(ManualClock.advance(other, 1), "`namespace` is {:test, ")
      assert_refused(ManualClock.advance(namespace, -1), "`ms` is -1")
      assert_refused(ManualClock.advance(namespace, 2 ** 60), "`now_ns` is ")
      assert_refused(ManualClock.set_ns(namespace, "noon"), "`now_ns` is \"noon\"")
      assert ManualClock.now_ns(namespace) == 0
    end

    test "permits and outcomes of a wrong type are refused", %{namespace: namespace} do
      {:ok, permit} = CircuitBreaker.acquire(namespace, :search)
      assert_refused(CircuitBreaker.record(permit, :great), "`outcome` is :great")
      assert_refused(CircuitBreaker.record(make_ref(), :success), "`permit` is")
      assert_refused(CircuitBreaker.record(7, :success), "`permit` is 7")
    end

    for {config, message} <- [
          {[failure_threshold: 0], "`failure_threshold` is 0, allowed is 1 to"},
          {[failure_threshold: -1],
           "`failure_threshold` is -1, allowed is a non-negative integer"},
          {[failure_threshold: 5.0], "`failure_threshold` is 5.0"},
          {[failure_threshold: 2 ** 40],
           "`failure_threshold` is 1099511627776, allowed is 1 to 536870911"},
          {[half_open_permits: 2 ** 32], "`half_open_permits` is 4294967296, allowed is 1 to 64"},
          {[reset_timeout: "soon"], "`reset_timeout` is \"soon\""},
          {[reset_timeout: 2 ** 70], "`reset_timeout` is 1180591620717411303424"},
          {[call_timeout: 0], "`call_timeout` is 0"},
          {[call_timeout: 2 ** 32], "`call_timeout` is 4294967296"},
          {[half_open_permits: 65], "`half_open_permits` is 65, allowed is 1 to 64"},
          {[successes_to_close: 2],
           "`successes_to_close` is 2, allowed is 1 to half_open_permits"},
          {[probe_lease: 0], "`probe_lease` is 0"},
          {[treshold: 3], "`circuit breaker option` is :treshold, allowed is one of :admit, "},
          {:none, "`circuit breaker options` is :none"}
        ] do
      test "configuration #{inspect(config)} is refused", %{namespace: namespace} do
        result =
          CircuitBreakerRegistry.register(namespace, :config, unquote(Macro.escape(config)))

        assert {:error, %Error{error_type: :invalid_config_value, message: text}} = result
        assert String.starts_with?(text, unquote(message))
        assert CircuitBreakerRegistry.list(namespace) == []
      end
    end

    defp assert_refused(result, start) do
      assert {:error, %Error{error_type: :invalid_argument, message: message}} = result
      assert String.starts_with?(message, start)
      assert message =~ "allowed is"
    end
  end

  describe "supervision" do
    test "a breaker is a child that registers", %{namespace: namespace} do
      child =
        {CircuitBreaker, namespace: namespace, service: :child, config: [failure_threshold: 1]}

      start_supervised!(%{
        id: :tree,
        start: {Supervisor, :start_link, [[child], [strategy: :one_for_one]]}
      })

      fail(namespace, :child, 1)
      assert {:ok, :open} = CircuitBreaker.state(namespace, :child)
    end

    test "a wrong configuration stops the tree" do
      Process.flag(:trap_exit, true)

      child =
        {CircuitBreaker,
         namespace: {:test, make_ref()}, service: :child, config: [failure_threshold: 0]}

      assert {:error, {:shutdown, _reason}} =
               Supervisor.start_link([child], strategy: :one_for_one)
    end
  end

  describe "ElixirScope integration" do
    test "protects ConfigServer operations", %{namespace: namespace} do
      read = fn -> ConfigServer.get_protected(namespace, [:ai, :provider]) end

      for _ <- 1..5, do: assert({:error, %{error_type: :service_unavailable}} = read.())
      assert {:error, %Error{error_type: :circuit_open}} = read.()

      start_supervised!({ConfigServer, namespace: namespace})
      assert {:error, %Error{error_type: :circuit_open}} = read.()
      ManualClock.advance(namespace, 30_000)
      assert {:ok, :mock} = read.()
      assert {:ok, :closed} = CircuitBreaker.state(namespace, :config_server)

      # The caller's mistakes do not count.
      for _ <- 1..9 do
        assert {:error, %{error_type: :config_path_not_found}} =
                 ConfigServer.get_protected(namespace, [:none])
      end

      assert {:ok, :mock} = read.()
    end
  end

  defp microseconds(fun), do: fun |> :timer.tc() |> elem(0)
end
