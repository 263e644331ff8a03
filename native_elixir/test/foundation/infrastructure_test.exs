defmodule ElixirScope.Foundation.InfrastructureTest do
  use ElixirScope.Foundation.PoolCase, async: false
  doctest ElixirScope.Foundation.Infrastructure

  alias ElixirScope.Foundation.{Infrastructure, ProcessRegistry}
  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, TokenBucketLimiter}

  setup do
    reference = make_ref()
    on_exit(fn -> ProcessRegistry.cleanup_test_namespace(reference) end)
    # Protections live in :production, so each test has its own key.
    %{namespace: {:test, reference}, key: :"protection_#{System.unique_integer([:positive])}"}
  end

  describe "protected_operation/4" do
    test "limits before it asks the breaker", %{namespace: namespace} do
      opts = [rate_limit: {1, 60_000}]
      run = fn -> Infrastructure.protected_operation(namespace, :search, opts, fn -> 1 end) end
      assert {:ok, 1} = run.()
      assert {:error, %Error{error_type: :rate_limited, context: context}} = run.()
      assert context.retry_after_ms in 1..60_000
      assert {:ok, %{admitted: 1, rejected_open: 0}} = CircuitBreaker.stats(namespace, :search)
    end

    test "users are apart, costs add up", %{namespace: namespace} do
      run = fn opts ->
        Infrastructure.protected_operation(
          namespace,
          :search,
          [rate_limit: {10, 60_000}] ++ opts,
          fn -> 1 end
        )
      end

      assert {:ok, 1} = run.(user_id: 1, cost: 10)
      assert {:error, %Error{error_type: :rate_limited}} = run.(user_id: 1)
      assert {:ok, 1} = run.(user_id: 2)
      assert {:error, %Error{error_type: :never}} = run.(user_id: 3, cost: 11)
    end

    test "gives the token back when the breaker refuses", %{namespace: namespace} do
      key = make_ref()

      for {limit, others} <- [
            {{7, 60_000}, []},
            {{7, 60_000}, cost: 2},
            {:config_updates, []},
            {:config_updates, cost: 3}
          ] do
        opts = [rate_limit: limit, rate_key: {key, limit, others}] ++ others
        run = &Infrastructure.protected_operation(namespace, :search, opts, &1)
        place = [namespace: namespace]

        remaining = fn ->
          {:ok, decision} = TokenBucketLimiter.peek(opts[:rate_key], limit, place)
          decision.remaining
        end

        assert {:ok, 1} = run.(fn -> 1 end)
        left = remaining.()
        :ok = CircuitBreaker.force_open(namespace, :search)
        for _ <- 1..20, do: assert({:error, %Error{error_type: :forced_open}} = run.(fn -> 1 end))
        assert remaining.() == left
        :ok = CircuitBreaker.auto(namespace, :search)
        # What came to the service is spent, however it went; a call that is none costs nothing.
        assert {:error, :down} = run.(fn -> {:error, :down} end)
        assert remaining.() == left - Keyword.get(others, :cost, 1)
        assert {:error, %Error{message: "`operation` is :none" <> _}} = run.(:none)
        assert remaining.() == left - Keyword.get(others, :cost, 1)
      end
    end

    test "forfeits the token where somebody waits for it", %{namespace: namespace} do
      opts = [rate_limit: {2, 60_000}, rate_key: make_ref()]
      place = [namespace: namespace]

      {:ok, _} =
        TokenBucketLimiter.reserve(
          opts[:rate_key],
          {2, 60_000},
          [cost: 1, max_wait_ms: 600_000] ++ place
        )

      # Between the check and the refusal somebody reserves more than there is.
      {:ok, limit} =
        Infrastructure.Protection.Limit.of_operation(
          namespace,
          :search,
          opts,
          nil,
          Infrastructure.Config.read()
        )

      :ok = Infrastructure.Protection.Limit.take(limit)

      {:ok, %{wait_ns: wait_ns}} =
        TokenBucketLimiter.reserve(
          opts[:rate_key],
          {2, 60_000},
          [cost: 1, max_wait_ms: 600_000] ++ place
        )

      assert wait_ns > 0
      :ok = Infrastructure.Protection.Limit.give_back(limit)
      assert {:ok, %{forfeited: 1}} = TokenBucketLimiter.stats(namespace)
    end

    test "without a breaker of that name gives the token back, too", %{namespace: namespace} do
      opts = [rate_limit: {1, 60_000}, rate_key: make_ref()]

      for _ <- 1..3 do
        assert {:error, %Error{message: "`service` is \"search\"" <> _}} =
                 Infrastructure.protected_operation(namespace, "search", opts, fn -> 1 end)
      end
    end

    test "without a rule nothing is limited", %{namespace: namespace} do
      for _ <- 1..200,
          do:
            assert(
              {:ok, 1} = Infrastructure.protected_operation(namespace, :search, [], fn -> 1 end)
            )
    end

    test "bad options are refused", %{namespace: namespace} do
      run = &Infrastructure.protected_operation(namespace, :search, &1, fn -> 1 end)

      assert {:error, %Error{message: "`option` is :rate, allowed is one of :rate_key" <> _}} =
               run.(rate: 1)

      assert {:error, %Error{message: "`opts` is %{}" <> _}} = run.(%{})
      assert {:error, %Error{message: "`rate_limit` is \"10\"" <> _}} = run.(rate_limit: "10")
      assert {:error, %Error{message: message}} = run.(rate_limit: :no_such_limit)
      assert message =~ "`rate_limit` is :no_such_limit"
      assert message =~ "default_limits"
      assert message =~ "[:config_updates, :event_storage]"
      assert {:error, %Error{message: "`limit` is 0" <> _}} = run.(rate_limit: {0, 1})
      assert {:error, %Error{message: "`cost` is -1" <> _}} = run.(rate_limit: {1, 1}, cost: -1)
    end
  end

  describe "pools" do
    test "with_pooled_connection/3 hands out a connection and takes it back" do
      pool = start_pool()
      assert {:ok, 0} = Infrastructure.with_pooled_connection(pool, &Agent.get(&1, fn n -> n end))

      assert {:error, :busy} =
               Infrastructure.with_pooled_connection(pool, fn _agent -> {:error, :busy} end,
                 timeout: 100
               )

      assert {:error, %Error{error_type: :pool_not_found}} =
               Infrastructure.with_pooled_connection(:no_pool, & &1)

      assert_settled(pool)
    end

    test "stand behind limit and breaker", %{key: key} do
      pool = start_pool()

      config = %{
        circuit_breaker: %{failure_threshold: 2},
        rate_limiter: %{limit: 3, window_ms: 60_000},
        connection_pool: pool
      }

      :ok = Infrastructure.configure_protection(key, config)
      assert {:ok, 0} = Infrastructure.execute_protected(key, [], &Agent.get(&1, fn n -> n end))

      for _ <- 1..2,
          do:
            assert(
              {:error, :down} =
                Infrastructure.execute_protected(key, [], fn _agent -> {:error, :down} end)
            )

      assert {:error, %Error{error_type: :rate_limited}} =
               Infrastructure.execute_protected(key, [], & &1)

      assert {:ok, %{circuit_breaker: %{status: :open}, connection_pool: %{granted: 3}}} =
               Infrastructure.get_protection_status(key)

      assert_settled(pool)
    end

    test "that have no connection to give cancel the permit and refund the token", %{key: key} do
      pool = start_pool()
      {:ok, agent} = ConnectionPool.checkout(pool)

      :ok =
        Infrastructure.configure_protection(key,
          circuit_breaker: [failure_threshold: 1, reset_timeout: 0],
          rate_limiter: %{limit: 2, window_ms: 60_000},
          connection_pool: pool
        )

      run = &Infrastructure.execute_protected(key, &1, fn agent -> {:ok, agent} end)

      # Long enough that some of it is left at the pool, where no time left is no wait.
      for {timeout, reason} <- [{200, :pool_timeout}, {0, :pool_exhausted}],
          _ <- 1..3,
          do: assert({:error, %Error{error_type: ^reason}} = run.(timeout: timeout))

      assert {:ok, %{state: :closed, admitted: 6, cancelled: 6, failed: 0}} =
               CircuitBreaker.stats(:production, key)

      assert {:ok, %{rate_limiter: %{remaining: 2}}} = Infrastructure.get_protection_status(key)

      # Half-open, too: the probe's place is free again.
      CircuitBreaker.report(:production, key, :failure)
      assert {:error, %Error{error_type: :pool_timeout}} = run.(timeout: 200)

      assert {:ok, %{state: :half_open, live_probes: 0}} = CircuitBreaker.stats(:production, key)
      :ok = ConnectionPool.checkin(pool, agent)
      assert {:ok, ^agent} = run.([])

      assert {:ok, %{state: :closed, live_probes: 0, succeeded: 1}} =
               CircuitBreaker.stats(:production, key)

      assert {:ok, %{rate_limiter: %{remaining: 1}}} = Infrastructure.get_protection_status(key)
      assert_settled(pool)
    end

    test "that cannot make a connection count against the service", %{key: key} do
      pool = start_pool(create: fn -> {:error, :refused} end)

      :ok =
        Infrastructure.configure_protection(key,
          circuit_breaker: [failure_threshold: 1],
          rate_limiter: %{limit: 5, window_ms: 60_000},
          connection_pool: pool
        )

      run = fn -> Infrastructure.execute_protected(key, [timeout: 50], & &1) end
      assert {:error, %Error{error_type: reason}} = run.()
      assert reason in [:create_failed, :pool_timeout]
      assert {:ok, %{state: :open, failed: 1}} = CircuitBreaker.stats(:production, key)
      assert {:error, %Error{error_type: :circuit_open}} = run.()
      assert {:ok, %{rate_limiter: %{remaining: 4}}} = Infrastructure.get_protection_status(key)
    end

    test "a caller that is killed inside leaves neither permit nor connection", %{key: key} do
      pool = start_pool()
      test = self()

      :ok =
        Infrastructure.configure_protection(key,
          circuit_breaker: [failure_threshold: 1, reset_timeout: 0],
          connection_pool: pool
        )

      {:error, :down} = Infrastructure.execute_protected(key, [], fn _ -> {:error, :down} end)

      caller =
        spawn(fn ->
          Infrastructure.execute_protected(key, [], fn _agent ->
            send(test, :inside)
            Process.sleep(:infinity)
          end)
        end)

      assert_receive :inside, 5_000
      assert {:ok, %{live_probes: 1}} = CircuitBreaker.stats(:production, key)
      kill(caller)
      assert %{reclaimed: 1} = assert_settled(pool)
      assert {:ok, 0} = Infrastructure.execute_protected(key, [], &Agent.get(&1, fn n -> n end))

      assert {:ok, %{state: :closed, live_probes: 0, failed: 2, succeeded: 1}} =
               CircuitBreaker.stats(:production, key)
    end

    test "calls that are wrong do not count against the service or the limit", %{key: key} do
      pool = start_pool()

      config = %{
        circuit_breaker: %{failure_threshold: 1},
        rate_limiter: %{limit: 1, window_ms: 60_000},
        connection_pool: pool
      }

      :ok = Infrastructure.configure_protection(key, config)

      for {opts, operation, start} <- [
            {[timeout: -1], & &1, "`timeout` is -1"},
            {[], fn -> :no_argument end, "`fun` is"},
            {[connection_pool: :no_pool], & &1, "no pool :no_pool"}
          ] do
        assert {:error, %Error{message: message}} =
                 Infrastructure.execute_protected(key, opts, operation)

        assert String.starts_with?(message, start)
      end

      assert {:ok, 1} = Infrastructure.execute_protected(key, [], fn _agent -> 1 end)
      assert {:ok, %{admitted: 1, failed: 0}} = CircuitBreaker.stats(:production, key)
      assert_settled(pool)
    end

    test "an operation that outlives its call_timeout gives its connection back", %{key: key} do
      pool = start_pool()

      :ok =
        Infrastructure.configure_protection(key,
          circuit_breaker: [call_timeout: 50],
          connection_pool: pool
        )

      hang = fn _agent -> Process.sleep(:infinity) end

      assert {:error, %Error{error_type: :timeout}} =
               Infrastructure.execute_protected(key, [], hang)

      read = &Agent.get(&1, fn n -> n end)
      assert {:ok, 0} = ConnectionPool.with_connection(pool, read, timeout: :infinity)
      assert_settled(pool)
    end

    test "that do not exist are named", %{key: key} do
      :ok = Infrastructure.configure_protection(key, connection_pool: :no_pool)

      assert {:error, %Error{error_type: :pool_not_found}} =
               Infrastructure.execute_protected(key, [], & &1)

      assert {:ok, %{connection_pool: %{error: :pool_not_found}}} =
               Infrastructure.get_protection_status(key)
    end
  end

  describe "execute_protected/3" do
    @stages for breaker <- [false, true],
                limiter <- [false, true],
                pool <- [false, true],
                breaker or limiter or pool,
                do: {breaker, limiter, pool}

    for {breaker, limiter, pool} <- @stages do
      name =
        for {true, name} <- [{limiter, "limit"}, {breaker, "breaker"}, {pool, "pool"}], do: name

      test "#{Enum.join(name, ", ")}: each stage refuses in its turn and gives back", %{key: key} do
        {breaker?, limiter?, pool?} = {unquote(breaker), unquote(limiter), unquote(pool)}
        pool = if pool?, do: start_pool()

        config =
          for {true, part} <- [
                {breaker?, {:circuit_breaker, %{failure_threshold: 1}}},
                {limiter?, {:rate_limiter, %{limit: 2, window_ms: 60_000}}},
                {pool?, {:connection_pool, pool}}
              ],
              do: part

        :ok = Infrastructure.configure_protection(key, config)
        operation = fn result -> if pool?, do: fn _agent -> result end, else: fn -> result end end
        run = &Infrastructure.execute_protected(key, &1, operation.(&2))

        remaining = fn ->
          Infrastructure.get_protection_status(key)
          |> elem(1)
          |> get_in([:rate_limiter, :remaining])
        end

        assert {:ok, 1} = run.([timeout: 60_000], 1)
        if limiter?, do: assert(remaining.() == 1)

        if pool? do
          {:ok, agent} = ConnectionPool.checkout(pool)
          assert {:error, %Error{error_type: :pool_exhausted}} = run.([timeout: 0], 1)
          :ok = ConnectionPool.checkin(pool, agent)
          if limiter?, do: assert(remaining.() == 1)
        end

        if breaker? do
          :ok = CircuitBreaker.force_open(:production, key)
          assert {:error, %Error{error_type: :forced_open}} = run.([], 1)
          if limiter?, do: assert(remaining.() == 1)
          if pool?, do: assert({:ok, %{granted: 2}} = ConnectionPool.status(pool))
          :ok = CircuitBreaker.auto(:production, key)
        end

        assert {:error, :down} = run.([], {:error, :down})

        if limiter? do
          assert {:error, %Error{error_type: :rate_limited, context: %{retry_after_ms: _}}} =
                   run.([], 1)
        end

        if breaker? do
          assert {:ok, stats} = CircuitBreaker.stats(:production, key)
          assert %{state: :open, succeeded: 1, failed: 1} = stats
          assert stats.cancelled == if(pool?, do: 1, else: 0)
        end

        if pool?, do: assert_settled(pool)
      end

      test "#{Enum.join(name, ", ")}: one deadline bounds the whole", %{key: key} do
        {breaker?, limiter?, pool?} = {unquote(breaker), unquote(limiter), unquote(pool)}
        pool = if pool?, do: start_pool()

        config =
          for {true, part} <- [
                {breaker?, {:circuit_breaker, %{failure_threshold: 1, call_timeout: :infinity}}},
                {limiter?, {:rate_limiter, %{limit: 2, window_ms: 60_000}}},
                {pool?, {:connection_pool, pool}}
              ],
              do: part

        :ok = Infrastructure.configure_protection(key, config)

        hang =
          if pool?,
            do: fn _ -> Process.sleep(:infinity) end,
            else: fn -> Process.sleep(:infinity) end

        assert {:error, %Error{error_type: :timeout}} =
                 Infrastructure.execute_protected(key, [timeout: 30], hang)

        if breaker?,
          do: assert({:ok, %{state: :open, failed: 1}} = CircuitBreaker.stats(:production, key))

        # The connection that the operation was using is not handed on.
        if pool?, do: assert(%{broken: 1} = assert_settled(pool))
      end
    end

    test "crashes come back as errors, and close the connection", %{key: key} do
      pool = start_pool()
      :ok = Infrastructure.configure_protection(key, circuit_breaker: [], connection_pool: pool)

      for opts <- [[], [timeout: 60_000]] do
        assert {:error,
                %Error{
                  error_type: :protected_operation_failed,
                  context: %{kind: :throw, cause: :ball}
                }} = Infrastructure.execute_protected(key, opts, fn _agent -> throw(:ball) end)
      end

      assert {:ok, %{failed: 2}} = CircuitBreaker.stats(:production, key)
      assert %{broken: 2} = assert_settled(pool)
    end

    test "a pool's error of the operation itself is no refusal", %{key: key} do
      pool = start_pool()
      :ok = Infrastructure.configure_protection(key, circuit_breaker: [], connection_pool: pool)
      nested = fn _agent -> {:error, Error.new(:pool_exhausted)} end

      assert {:error, %Error{error_type: :pool_exhausted}} =
               Infrastructure.execute_protected(key, [], nested)

      assert {:ok, %{failed: 1, cancelled: 0}} = CircuitBreaker.stats(:production, key)
    end

    test "a timeout that is none is refused", %{key: key} do
      for timeout <- [-1, 1.5, "1"] do
        assert {:error, %Error{message: "`timeout` is " <> _}} =
                 Infrastructure.execute_protected(
                   key,
                   [circuit_breaker: key, timeout: timeout],
                   fn -> 1 end
                 )
      end
    end
  end

  describe "protections by key" do
    test "are configured, listed and shown", %{key: key} do
      config = %{
        circuit_breaker: %{failure_threshold: 2, recovery_time: 60_000},
        rate_limiter: %{limit: 5, window_ms: 1_000}
      }

      assert :ok = Infrastructure.configure_protection(key, config)
      assert key in Infrastructure.list_protection_keys()
      assert {:ok, ^config} = Infrastructure.get_protection_config(key)

      for _ <- 1..2, do: Infrastructure.execute_protected(key, [], fn -> {:error, :down} end)

      assert {:ok,
              %{circuit_breaker: %{status: :open}, rate_limiter: %{limit: 5, window_ms: 1_000}}} =
               Infrastructure.get_protection_status(key)

      assert {:error, %Error{error_type: :circuit_open, context: %{retry_after_ms: ms}}} =
               Infrastructure.execute_protected(key, [], fn -> 1 end)

      assert ms in 1..60_000
    end

    test "are shown when their breaker is gone", %{key: key} do
      :ok = Infrastructure.configure_protection(key, circuit_breaker: [])
      :ok = Infrastructure.CircuitBreakerRegistry.remove(:production, key)

      assert {:ok, %{circuit_breaker: %{error: :circuit_breaker_not_found}}} =
               Infrastructure.get_protection_status(key)
    end

    test "limit, also by id", %{key: key} do
      :ok = Infrastructure.configure_protection(key, rate_limiter: %{limit: 1, window_ms: 60_000})
      assert {:ok, 1} = Infrastructure.execute_protected(key, [], fn -> 1 end)

      assert {:error, %Error{error_type: :rate_limited}} =
               Infrastructure.execute_protected(key, [], fn -> 1 end)

      assert {:ok, 1} =
               Infrastructure.execute_protected(key, [rate_limiter: {:login, key}], fn -> 1 end)

      assert {:error, %Error{error_type: :rate_limited}} =
               Infrastructure.execute_protected(key, [rate_limiter: {:login, key}], fn -> 1 end)
    end

    test "options alone are enough", %{key: key} do
      opts = [circuit_breaker: key, rate_limiter: {:config_updates, key}]

      for _ <- 1..10,
          do: assert({:ok, 1} = Infrastructure.execute_protected(key, opts, fn -> 1 end))

      assert {:error, %Error{error_type: :rate_limited}} =
               Infrastructure.execute_protected(key, opts, fn -> 1 end)

      assert {:ok, %{admitted: 10}} = CircuitBreaker.stats(:production, key)
    end

    test "a key without protections is named", %{key: key} do
      for call <- [
            &Infrastructure.get_protection_status/1,
            &Infrastructure.get_protection_config/1,
            &Infrastructure.execute_protected(&1, [], fn -> 1 end)
          ] do
        assert {:error, %Error{error_type: :invalid_argument, message: message}} = call.(key)
        assert message =~ inspect(key)
      end
    end

    test "bad configuration is refused and changes nothing", %{key: key} do
      for {config, start} <- [
            {%{breaker: %{}}, "`protection` is :breaker"},
            {:all, "`config` is :all"},
            {%{circuit_breaker: 5}, "`circuit_breaker` is 5"},
            {%{circuit_breaker: [1 | 2]}, "`circuit_breaker` is [1 | 2]"},
            {%{circuit_breaker: %{failure_threshold: 0}}, "`failure_threshold` is 0"},
            {%{rate_limiter: %{limit: 0, window_ms: 1}},
             "`rate_limiter` is %{limit: 0, window_ms: 1}"},
            {%{rate_limiter: %{limit: 1, window_ms: 1, burst: 5}},
             "`rate_limiter` is %{burst: 5, limit: 1, window_ms: 1}"},
            {%{rate_limiter: [limit: 1, window_ms: 1]},
             "`rate_limiter` is [limit: 1, window_ms: 1]"},
            {%{connection_pool: "db"}, "`connection_pool` is \"db\""},
            {%{connection_pool: nil}, "`connection_pool` is nil"}
          ] do
        assert {:error, %Error{message: message}} =
                 Infrastructure.configure_protection(key, config)

        assert String.starts_with?(message, start)
      end

      refute key in Infrastructure.list_protection_keys()

      assert {:error, %Error{message: "`key` is \"key\"" <> _}} =
               Infrastructure.configure_protection("key", %{})

      assert {:error, %Error{message: "`option` is :retries" <> _}} =
               Infrastructure.execute_protected(key, [retries: 1], fn -> 1 end)

      assert {:error, %Error{message: "`rate_limiter` is :x" <> _}} =
               Infrastructure.execute_protected(key, [rate_limiter: :x], fn -> 1 end)

      assert {:error, %Error{message: "`rate_limiter` is {:no_rule, 1}" <> _}} =
               Infrastructure.execute_protected(key, [rate_limiter: {:no_rule, 1}], fn -> 1 end)
    end
  end
end
