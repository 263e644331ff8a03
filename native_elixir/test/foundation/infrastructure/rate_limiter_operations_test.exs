defmodule ElixirScope.Foundation.Infrastructure.RateLimiterOperationsTest do
  # Groups, hierarchies, batches, receipts, limits with names, waits, header fields, files, and limiters with names.
  use ExUnit.Case, async: true
  doctest ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Decision

  alias ElixirScope.Foundation.{Error, ProcessRegistry}
  alias ElixirScope.Foundation.Infrastructure.{ManualClock, TokenBucketLimiter}

  @minute 60_000
  @second_ns 1_000_000_000

  setup do
    reference = make_ref()
    namespace = {:test, reference}
    on_exit(fn -> ProcessRegistry.cleanup_test_namespace(reference) end)
    :ok = ManualClock.install(namespace)
    %{namespace: namespace, opts: [namespace: namespace]}
  end

  defp remaining(key, rule, opts) do
    {:ok, %{remaining: remaining}} = TokenBucketLimiter.peek(key, rule, opts)
    remaining
  end

  defp refusal({:error, %Error{error_type: type}}), do: type

  describe "a group" do
    test "l11 debits all or nothing, and says who is to blame", %{opts: opts} do
      charges = [{"user", {2, @minute}}, {"org", {10, @minute}, 3}, {"all", {100, @minute}}]

      assert {:ok, %{verdict: :allowed, blocked: []}} =
               TokenBucketLimiter.check_many(charges, opts)

      assert {:ok, %{verdict: :allowed}} = TokenBucketLimiter.check_many(charges, opts)
      assert {:ok, refused} = TokenBucketLimiter.check_many(charges, opts)
      assert %{verdict: :rate_limited, blocked: [0], decisions: [user, org, _all]} = refused
      assert {user.verdict, org.verdict} == {:rate_limited, :allowed}
      assert refused.retry_after_ns == 30 * @second_ns
      assert remaining("org", {10, @minute}, opts) == 4
      assert remaining("all", {100, @minute}, opts) == 98
    end

    test "l12 equal keys are summed, l08 what can never fit says so", %{opts: opts} do
      twice = [{:k, {3, @minute}, 2}, {:k, {3, @minute}, 2}]
      assert {:ok, refused} = TokenBucketLimiter.check_many(twice, opts)
      assert %{verdict: :never, retry_after_ns: :infinity, blocked: [0, 1]} = refused
      assert remaining(:k, {3, @minute}, opts) == 3
    end

    test "keys of all kinds, none and too many", %{opts: opts} do
      fun = fn -> :a end
      charges = [{fun, {1, @minute}}, {2 ** 70, {1, @minute}}]
      assert {:ok, %{verdict: :allowed}} = TokenBucketLimiter.check_many(charges, opts)
      assert {:ok, %{verdict: :rate_limited}} = TokenBucketLimiter.check_many(charges, opts)
      assert remaining(fun, {1, @minute}, opts) == 0
      assert {:ok, %{verdict: :allowed}} = TokenBucketLimiter.check_many([], opts)

      for {charges, text} <- [
            {List.duplicate({1, {1, 1}}, 33), "`charges` is 33, allowed is 0 to 32"},
            {List.duplicate({1, {1, 1}}, 3_000), "`charges` is 3000"},
            {[{String.duplicate("x", 70_000), {1, 1}}], "`key` is"},
            {[{1, {0, 1}}], "`tokens` is 0"},
            {[{1, {1, 1}, -1}], "`cost` is -1"},
            {[{1, "fast"}], "`rule` is \"fast\""},
            {[7], "`charge` is 7"},
            {[{1, {1, 1}} | :tail], "`charges` is"},
            {:all, "`charges` is :all"}
          ] do
        assert {:error, %Error{error_type: :invalid_argument, message: message}} =
                 TokenBucketLimiter.check_many(charges, opts)

        assert message =~ text
      end
    end
  end

  describe "a hierarchy" do
    @levels [user: {2, @minute}, organisation: {3, @minute}, global: {100, @minute}]

    test "in code: the refusal names the level and when to come back", %{opts: opts} do
      ask = fn user ->
        subjects = %{user: user, organisation: "acme"}
        TokenBucketLimiter.check_hierarchy(@levels, subjects, opts)
      end

      assert :ok = ask.("ann")
      assert :ok = ask.("ann")
      assert {:error, %Error{error_type: :rate_limited, context: context} = error} = ask.("ann")
      assert context == %{level: :user, blocked: %{user: 30_000}, retry_after_ms: 30_000}
      assert error.message =~ "Level :user refuses"
      assert :ok = ask.("bob")
      assert {:error, %Error{context: context}} = ask.("bob")
      assert %{level: :organisation, blocked: %{organisation: 20_000}} = context
      assert {:error, %Error{context: context}} = ask.("ann")
      assert %{level: :user, blocked: %{organisation: 20_000, user: 30_000}} = context
      assert remaining({:global, nil}, {100, @minute}, opts) == 97

      assert {:error, %Error{error_type: :never, context: %{level: :user}}} =
               TokenBucketLimiter.check_hierarchy([user: {1, 1}], [user: 1], [cost: 2] ++ opts)
    end

    test "bad ones are told", %{opts: opts} do
      for {levels, subjects, text} <- [
            {@levels, %{user: 1}, "allowed is a map with the level :organisation"},
            {@levels, 7, "`subjects` is 7"},
            {[], %{}, "`hierarchy` is []"},
            {[user: {1, 1}, user: {2, 2}], %{user: 1}, "`hierarchy` is"},
            {:unknown, %{}, "`hierarchy` is nil"},
            {[user: :no_limit], %{user: 1}, "`rule` is :no_limit"}
          ] do
        assert {:error, %Error{message: message}} =
                 TokenBucketLimiter.check_hierarchy(levels, subjects, opts)

        assert message =~ text
      end
    end
  end

  describe "a batch" do
    test "l14 equals as many calls in order", %{opts: opts} do
      long = String.duplicate("x", 70_000)
      opaque = fn -> long end
      keys = [:a, "b", :a, fn -> :c end, long, :a, {:d, 2 ** 80}, "b", opaque]
      assert {:ok, answers} = TokenBucketLimiter.check_rate_limits(keys, 2, @minute, opts)

      assert [:ok, :ok, :ok, :ok, too_long, {:error, :rate_limited, 30_000}, :ok, :ok, last] =
               answers

      for {refused, key} <- [{too_long, long}, {last, opaque}],
          do: assert({:error, %Error{context: %{argument: :key, value: ^key}}} = refused)

      charges = [{:a, {2, @minute}}, {:e, {5, @minute}, 4}, {:e, {5, @minute}, 6}, {:f, {0, 1}}]
      assert {:ok, [a, e, never, bad]} = TokenBucketLimiter.check_batch(charges, opts)
      assert %{verdict: :rate_limited, retry_after_ns: 30_000_000_000} = a
      assert %{verdict: :allowed, remaining: 1} = e
      assert %{verdict: :never, retry_after_ns: :infinity} = never
      assert {:error, %Error{message: "`limit` is 0" <> _}} = bad
      assert {:ok, []} = TokenBucketLimiter.check_rate_limits([], 2, @minute, opts)
      assert {:ok, [never]} = TokenBucketLimiter.check_rate_limits([1], 2, 9, [cost: 3] ++ opts)
      assert refusal(never) == :never

      for bad <- [
            TokenBucketLimiter.check_rate_limits([1 | 2], 1, 1, opts),
            TokenBucketLimiter.check_rate_limits(:a, 1, 1, opts),
            TokenBucketLimiter.check_rate_limits([1], 0, 1, opts),
            TokenBucketLimiter.check_batch([{1, 2, 3, 4}], opts)
          ],
          do: assert(refusal(bad) == :invalid_argument)
    end

    # Keys are found some ahead of their checks, and a native call takes a thousand.
    test "l14 a key that is written first may stand anywhere", %{opts: opts} do
      for at <- [0, 15, 16, 17, 999, 1_000, 1_003] do
        keys = List.insert_at(for(n <- 1..1_003, do: {at, rem(n, 501)}), at, {at, 2 ** 80})
        assert {:ok, answers} = TokenBucketLimiter.check_rate_limits(keys, 1, @minute, opts)

        Enum.zip_reduce(keys, answers, MapSet.new(), fn key, answer, seen ->
          expected = if key in seen, do: {:error, :rate_limited, @minute}, else: :ok
          assert {at, key, answer} == {at, key, expected}
          MapSet.put(seen, key)
        end)
      end
    end

    test "one that is longer than a native call may take", %{namespace: namespace, opts: opts} do
      keys = Enum.map(1..5_000, &{&1, String.duplicate("x", 300)})
      assert {:ok, answers} = TokenBucketLimiter.check_rate_limits(keys ++ keys, 1, @minute, opts)
      {first, second} = Enum.split(answers, 5_000)
      assert Enum.all?(first, &(&1 == :ok))
      assert Enum.all?(second, &(&1 == {:error, :rate_limited, @minute}))
      assert {:ok, %{allowed: 5_000, limited: 5_000}} = TokenBucketLimiter.stats(namespace)
    end
  end

  describe "receipts" do
    @rule {2, 1_000}

    test "l18 grants are in order, l19 the newest can be cancelled", %{opts: opts} do
      reserve = fn ->
        {:ok, reservation} = TokenBucketLimiter.reserve("k", @rule, [max_wait_ms: 1_500] ++ opts)
        reservation
      end

      waits = for _ <- 1..5, do: reserve.()

      assert Enum.map(waits, & &1.wait_ns) ==
               Enum.map([0, 0, 500, 1_000, 1_500], &(&1 * 1_000_000))

      assert %{decision: %{verdict: :rate_limited}, receipt: nil} = reserve.()
      [first, _, _, fourth, fifth] = Enum.map(waits, & &1.receipt)
      assert refusal(TokenBucketLimiter.cancel(fourth)) == :forfeited
      assert {:ok, :applied} = TokenBucketLimiter.cancel(fifth)
      assert refusal(TokenBucketLimiter.cancel(first)) == :too_late
      assert %{wait_ns: 1_500_000_000} = reserve.()
    end

    test "l15 a refund, l17 a settlement", %{opts: opts} do
      reserve = fn key, cost ->
        {:ok, %{receipt: receipt}} =
          TokenBucketLimiter.reserve(key, {10, @minute}, [cost: cost] ++ opts)

        receipt
      end

      part = reserve.("a", 5)
      assert refusal(TokenBucketLimiter.refund(part, 6)) == :invalid_argument
      assert {:ok, :applied} = TokenBucketLimiter.refund(part, 2)
      assert remaining("a", {10, @minute}, opts) == 7
      assert {:ok, :applied} = TokenBucketLimiter.refund(reserve.("a", 7))
      assert {:ok, :applied} = TokenBucketLimiter.settle(reserve.("a", 7), 1)
      assert remaining("a", {10, @minute}, opts) == 6
      assert {:ok, :applied} = TokenBucketLimiter.settle(reserve.("a", 6), 8)
      assert {:ok, %{retry_after_ns: ns}} = TokenBucketLimiter.peek("a", {10, @minute}, opts)
      assert ns == 18 * @second_ns
      assert {:ok, :saturated} = TokenBucketLimiter.settle(reserve.("b", 10), 1_000)

      for bad <- [-1, nil, 1.5, 2 ** 64] do
        assert refusal(TokenBucketLimiter.refund(part, bad)) == :invalid_argument
        assert refusal(TokenBucketLimiter.settle(part, bad)) == :invalid_argument
      end
    end

    test "l16 one is good for one use, by whoever comes first", %{opts: opts} do
      for _ <- 1..200 do
        key = make_ref()

        {:ok, %{receipt: receipt}} =
          TokenBucketLimiter.reserve(key, {8, @minute}, [cost: 8] ++ opts)

        uses = [
          fn -> TokenBucketLimiter.refund(receipt, 1) end,
          fn -> TokenBucketLimiter.settle(receipt, 7) end
        ]

        results = 1..8 |> Enum.map(&Task.async(Enum.at(uses, rem(&1, 2)))) |> Task.await_many()
        assert Enum.count(results, &(&1 == {:ok, :applied})) == 1
        assert Enum.count(results, &(refusal_of(&1) == :already_done)) == 7
        assert remaining(key, {8, @minute}, opts) == 1
      end
    end

    defp refusal_of({:ok, _counts}), do: nil
    defp refusal_of(error), do: refusal(error)

    test "l16 a foreign one is refused and stays good", %{namespace: namespace, opts: opts} do
      {:ok, %{receipt: receipt}} = TokenBucketLimiter.reserve("k", {2, @minute}, opts)
      assert refusal(TokenBucketLimiter.refund(receipt, 1, limiter: :other)) == :bad_receipt

      assert refusal(TokenBucketLimiter.refund(receipt, 1, namespace: :production)) ==
               :bad_receipt

      for nonsense <- [
            nil,
            make_ref(),
            %{receipt | native: make_ref()},
            %{receipt | limiter: :no}
          ] do
        for use <- [&TokenBucketLimiter.refund/1, &TokenBucketLimiter.cancel/1] do
          assert refusal(use.(nonsense)) == :bad_receipt
        end
      end

      assert remaining("k", {2, @minute}, opts) == 1
      assert {:ok, :applied} = TokenBucketLimiter.refund(receipt, 1, opts)
      {:ok, %{receipt: receipt}} = TokenBucketLimiter.reserve("k", {2, @minute}, opts)
      :ok = TokenBucketLimiter.configure(namespace, max_keys: 10)
      assert refusal(TokenBucketLimiter.refund(receipt)) == :bad_receipt
      assert inspect(receipt) =~ "TokenBucketLimiter.Receipt<{:test"
    end

    test "bad waits are told", %{opts: opts} do
      for {wait, text} <- [
            {[max_wait_ms: -1], "`max_wait_ms` is -1"},
            {[max_wait_ns: 1.5], "`max_wait_ns` is 1.5"},
            {[max_wait_ns: 1, max_wait_ms: 1], "one of :max_wait_ms and :max_wait_ns"},
            {[wait: 1], "`option` is :wait"}
          ] do
        assert {:error, %Error{message: message}} =
                 TokenBucketLimiter.reserve("k", {1, 1}, wait ++ opts)

        assert message =~ text
      end

      assert {:ok, %{decision: %{verdict: :never}}} =
               TokenBucketLimiter.reserve("k", {1, 1}, [cost: 2, max_wait_ms: :infinity] ++ opts)
    end
  end

  describe "limits with names" do
    test "l20 change by each strategy", %{opts: opts} do
      # Of 10 tokens 4 are left, then the limit is 20.
      for {strategy, left} <- [as_is: 4, proportional: 8, additive: 14, reset: 20] do
        :ok = TokenBucketLimiter.put_limit(strategy, {10, @minute}, opts)
        {:ok, %{remaining: 4}} = TokenBucketLimiter.check("ann", strategy, [cost: 6] ++ opts)
        :ok = TokenBucketLimiter.put_limit(strategy, {20, @minute}, [strategy: strategy] ++ opts)
        assert remaining("ann", strategy, opts) == left
        assert remaining("bob", strategy, opts) == 20
      end
    end

    test "their keys are their own", %{opts: opts} do
      for name <- [:one, :other], do: :ok = TokenBucketLimiter.put_limit(name, {1, @minute}, opts)

      for rule <- [:one, :other, {1, @minute}] do
        assert {:ok, %{verdict: :allowed}} = TokenBucketLimiter.check("k", rule, opts)
        assert {:ok, %{verdict: :rate_limited}} = TokenBucketLimiter.check("k", rule, opts)
      end

      assert {:ok, true} = TokenBucketLimiter.reset("k", [limit: :one] ++ opts)
      assert remaining("k", :one, opts) == 1
      assert remaining("k", :other, opts) == 0
      assert {:ok, limits} = TokenBucketLimiter.limits(opts)
      assert limits.one == %{tokens: 1, period_ns: @minute * 1_000_000, burst: 1}
    end

    test "of `default_limits` are made at their first use", %{opts: opts} do
      assert {:ok, %{limit: 100}} = TokenBucketLimiter.check("k", :event_storage, opts)
      assert {:ok, %{event_storage: %{burst: 100}}} = TokenBucketLimiter.limits(opts)
      charges = [{"k", :config_updates}, {"k", :event_storage}]
      assert {:ok, %{verdict: :allowed}} = TokenBucketLimiter.check_many(charges, opts)
      assert remaining("k", :config_updates, opts) == 9
    end

    test "a fifth rule has to wait for the first one's debts", %{namespace: namespace, opts: opts} do
      put = &TokenBucketLimiter.put_limit(:l, {&1, @minute}, [max_wait_ms: 0] ++ opts)
      for limit <- 1..4, do: assert(:ok = put.(limit))
      assert {:error, %Error{error_type: :change_too_soon, context: context}} = put.(5)
      assert %{retry_after_ms: 120_000} = context
      ManualClock.advance(namespace, 120_000)
      assert :ok = put.(5)
    end

    test "bad ones are told", %{opts: opts} do
      for {name, rule, options, text} <- [
            {"l", {1, 1}, [], "`name` is \"l\""},
            {nil, {1, 1}, [], "`name` is nil"},
            {:l, :other, [], "`rule` is :other"},
            {:l, {0, 1}, [], "`limit` is 0"},
            {:l, {1, 1, 2 ** 33}, [], "`burst` is 8589934592"},
            {:l, {1, 1}, [strategy: :twice], "`strategy` is :twice"},
            {:l, {1, 1}, [max_wait_ms: -1], "`max_wait_ms` is -1"}
          ] do
        assert {:error, %Error{message: message}} =
                 TokenBucketLimiter.put_limit(name, rule, options ++ opts)

        assert message =~ text
      end

      :ok = TokenBucketLimiter.put_limit(:l, {1, 1}, [max_wait_ms: 5] ++ opts)

      assert {:error, %Error{message: "`max_wait_ns` is 6000000, allowed is 5000000" <> _}} =
               TokenBucketLimiter.put_limit(:l, {1, 1}, [max_wait_ms: 6] ++ opts)

      for call <- [
            &TokenBucketLimiter.check("k", &1, opts),
            &TokenBucketLimiter.peek("k", &1, opts)
          ],
          do: assert({:error, %Error{message: "`rule` is :unknown" <> _}} = call.(:unknown))
    end
  end

  describe "acquire" do
    test "waits in the order of the calls, until the clock has come so far", context do
      %{namespace: namespace, opts: opts} = context
      test = self()
      :ok = TokenBucketLimiter.acquire("k", {1, 1_000}, 0, opts)

      waiters =
        for number <- 1..3 do
          pid =
            spawn_link(fn ->
              send(test, {number, TokenBucketLimiter.acquire("k", {1, 1_000}, 10_000, opts)})
            end)

          wait_until(fn -> waiting(namespace) == number end)
          pid
        end

      for number <- 1..3 do
        refute_received {_number, _answer}
        ManualClock.advance(namespace, 1_000)
        assert {^number, :ok} = receive(do: ({_number, _answer} = told -> told))
      end

      wait_until(fn -> not Enum.any?(waiters, &Process.alive?/1) end)
      assert waiting(namespace) == 0
    end

    test "refuses at once what cannot be in time", %{namespace: namespace, opts: opts} do
      assert :ok = TokenBucketLimiter.acquire("k", {1, 1_000}, :infinity, opts)

      assert {:error, :rate_limited, 1_000} =
               TokenBucketLimiter.acquire("k", {1, 1_000}, 999, opts)

      assert {:error, :rate_limited, 1_000} = TokenBucketLimiter.acquire("k", {1, 1_000}, 0, opts)
      never = TokenBucketLimiter.acquire("k", {1, 1_000}, :infinity, [cost: 2] ++ opts)
      assert refusal(never) == :never
      assert refusal(TokenBucketLimiter.acquire("k", {1, 1_000}, -1, opts)) == :invalid_argument
      assert waiting(namespace) == 0
    end

    test "the queue is bounded", %{namespace: namespace, opts: opts} do
      :ok = TokenBucketLimiter.configure(namespace, max_waiting: 2)
      :ok = TokenBucketLimiter.acquire("k", {1, 1_000}, 0, opts)
      ask = fn -> TokenBucketLimiter.acquire("k", {1, 1_000}, 60_000, opts) end
      tasks = for _ <- 1..2, do: Task.async(ask)
      wait_until(fn -> waiting(namespace) == 2 end)
      assert {:error, %Error{error_type: :queue_full, context: %{retry_after_ms: 3_000}}} = ask.()
      # Who need not wait is no part of the queue.
      assert :ok = TokenBucketLimiter.acquire("free", {1, 1_000}, 60_000, opts)
      ManualClock.advance(namespace, 2_000)
      assert [:ok, :ok] = Task.await_many(tasks, :infinity)
      assert waiting(namespace) == 0
    end

    test "by the machine's clock, and takes no message" do
      opts = [namespace: {:test, make_ref()}]
      send(self(), :mine)
      began = System.monotonic_time(:microsecond)
      for _ <- 1..4, do: :ok = TokenBucketLimiter.acquire("k", {1, 5}, 60_000, opts)
      # Never early, however busy the machine is.
      assert System.monotonic_time(:microsecond) - began >= 15_000
      assert_received :mine
    end
  end

  defp waiting(namespace) do
    {:ok, %{waiting: waiting}} = TokenBucketLimiter.stats(namespace)
    waiting
  end

  defp wait_until(condition) do
    unless condition.() do
      Process.sleep(1)
      wait_until(condition)
    end
  end

  test "header fields", %{opts: opts} do
    fields = fn rule, check ->
      {:ok, decision} = TokenBucketLimiter.check("k", rule, check ++ opts)
      {:ok, fields} = TokenBucketLimiter.header_fields(decision, "api", rule, opts)
      Map.new(fields)
    end

    :ok = TokenBucketLimiter.put_limit(:slow, {1, 1_500}, opts)

    assert fields.({2, 1_500}, []) == %{
             "ratelimit-policy" => ~s("api";q=2;w=2),
             "ratelimit" => ~s("api";r=1;t=1)
           }

    assert %{"retry-after" => "1"} = fields.({2, 1_500}, cost: 2)
    refute is_map_key(fields.({2, 1_500}, cost: 3), "retry-after")
    fields.(:slow, [])
    assert %{"ratelimit" => ~s("api";r=0;t=2), "retry-after" => "2"} = fields.(:slow, [])

    {:ok, decision} = TokenBucketLimiter.check("k", {1, 1}, opts)

    for {name, text} <- [{"", "`policy_name` is 0"}, {"ä", "`policy_name` is 2"}, {:a, "is :a"}] do
      assert {:error, %Error{message: message}} =
               TokenBucketLimiter.header_fields(decision, name, {1, 1}, opts)

      assert message =~ text
    end
  end

  describe "a file" do
    setup do
      folder = Path.join(System.tmp_dir!(), "limiter_#{System.pid()}_#{System.unique_integer()}")
      File.mkdir_p!(folder)
      on_exit(fn -> File.rm_rf!(folder) end)
      %{path: Path.join(folder, "limits")}
    end

    test "l25 keeps what keys owe, and limits their rules", %{opts: opts, path: path} do
      year = {10, 31_536_000_000}
      other = [namespace: {:test, make_ref()}]
      for options <- [opts, other], do: :ok = TokenBucketLimiter.put_limit(:l, year, options)
      # Its rules are numbered; those of the one that loads begin anew.
      :ok = TokenBucketLimiter.put_limit(:l, {20, 31_536_000_000}, [strategy: :reset] ++ other)
      {:ok, _} = TokenBucketLimiter.check("k", year, [cost: 7] ++ opts)
      {:ok, _} = TokenBucketLimiter.check("k", :l, [cost: 4] ++ opts)
      assert :ok = TokenBucketLimiter.save(path, opts)
      assert %{mode: mode} = File.stat!(path)
      assert Bitwise.band(mode, 0o777) == 0o600
      assert File.ls!(Path.dirname(path)) == ["limits"]

      assert :ok = TokenBucketLimiter.load(path, other)
      assert remaining("k", year, other) == 3
      # Four of ten are 0.4 years of debt, which is eight of twenty.
      assert remaining("k", :l, other) == 12
      assert remaining("new", year, other) == 10
    end

    test "l25 is refused and kept when it is damaged", %{opts: opts, path: path} do
      {:ok, _} = TokenBucketLimiter.check("k", {10, @minute}, [cost: 7] ++ opts)
      :ok = TokenBucketLimiter.save(path, opts)
      good = File.read!(path)
      size = byte_size(good) - 1
      <<short::binary-size(size), last>> = good

      for bad <- [short, short <> <<Bitwise.bxor(last, 1)>>, "", "no file of ours"] do
        File.write!(path, bad)

        assert {:error, %Error{error_type: :bad_snapshot} = error} =
                 TokenBucketLimiter.load(path, opts)

        assert error.message =~ path
        assert File.read!(path) == bad
        assert remaining("k", {10, @minute}, opts) == 3
      end

      assert refusal(TokenBucketLimiter.load(path <> "x", opts)) == :io_failed
      assert refusal(TokenBucketLimiter.save("/proc/none/x", opts)) == :io_failed
      assert refusal(TokenBucketLimiter.save(:path, opts)) == :invalid_argument
      assert refusal(TokenBucketLimiter.load(path, namespace: 5)) == :invalid_argument
    end
  end

  describe "limiters with names" do
    test "are apart, and made at their first use or by configure", %{namespace: namespace} do
      ask =
        &TokenBucketLimiter.check_rate_limit("k", 1, @minute, namespace: namespace, limiter: &1)

      for name <- [:default, :uploads, :logins] do
        assert :ok = ask.(name)
        assert {:error, :rate_limited, _} = ask.(name)
      end

      assert Enum.sort(TokenBucketLimiter.list(namespace)) == [:default, :logins, :uploads]
      :ok = TokenBucketLimiter.configure(namespace, :uploads, max_keys: 100)

      assert {:ok, %{capacity: capacity, allowed: 0}} =
               TokenBucketLimiter.stats(namespace, :uploads)

      assert capacity in 100..1_000
      assert :ok = ask.(:uploads)
      :ok = TokenBucketLimiter.remove(namespace, :logins)
      assert :ok = ask.(:logins)
      assert {:error, %Error{message: "`name` is \"x\"" <> _}} = ask.("x")
    end

    test "l24 do when they are full what they were told", %{namespace: namespace} do
      count = fn policy ->
        :ok = TokenBucketLimiter.configure(namespace, policy, max_keys: 1, full_policy: policy)
        opts = [namespace: namespace, limiter: policy]
        for key <- 1..40, do: TokenBucketLimiter.check_rate_limit(key, 1, @minute, opts)
        {:ok, stats} = TokenBucketLimiter.stats(namespace, policy)
        stats
      end

      assert %{allowed: 16, table_full: 24} = count.(:deny_new)
      assert %{allowed: 40, evicted: 24} = count.(:evict_most_full)
      assert %{allowed: 17, overflowed: 1, limited: 23} = count.(:overflow_key)
    end

    test "wrong options are told", %{namespace: namespace} do
      for {options, text} <- [
            {[max_keys: 0], "`max_keys` is 0"},
            {[max_keys: 2 ** 40], "`max_keys` is 1099511627776"},
            {[max_waiting: -1], "`max_waiting` is -1"},
            {[full_policy: :grow], "`full_policy` is :grow"},
            {[events: :some], "`events` is :some"},
            {[events: %{denied: :all}], "`events` is %{denied: :all}"},
            {[events: {:one_in, 0}], "`events` is {:one_in, 0}"},
            {[size: 1], "`limiter option` is :size"}
          ] do
        assert {:error, %Error{error_type: :invalid_config_value, message: message}} =
                 TokenBucketLimiter.configure(namespace, options)

        assert message =~ text
      end
    end
  end
end
