defmodule ElixirScope.Foundation.Infrastructure.RateLimiterTest do
  use ExUnit.Case, async: true
  doctest ElixirScope.Foundation.Infrastructure.TokenBucketLimiter

  alias ElixirScope.Foundation.{Error, ProcessRegistry}
  alias ElixirScope.Foundation.Services.ConfigServer
  alias ElixirScope.Foundation.Infrastructure.{ManualClock, Names, Native, TokenBucketLimiter}

  setup do
    reference = make_ref()
    namespace = {:test, reference}
    on_exit(fn -> ProcessRegistry.cleanup_test_namespace(reference) end)
    :ok = ManualClock.install(namespace)
    %{namespace: namespace, opts: [namespace: namespace]}
  end

  defp check(key, opts), do: TokenBucketLimiter.check_rate_limit(key, 10, 60_000, opts)

  test "token bucket allows burst traffic", %{opts: opts} do
    for _ <- 1..10, do: assert(:ok = check("user", opts))
    assert {:error, :rate_limited, 6_000} = check("user", opts)
  end

  test "refills one by one", %{namespace: namespace, opts: opts} do
    for _ <- 1..10, do: check("user", opts)
    ManualClock.advance(namespace, 5_999)
    assert {:error, :rate_limited, 1} = check("user", opts)
    ManualClock.advance(namespace, 1)
    assert :ok = check("user", opts)
    assert {:error, :rate_limited, 6_000} = check("user", opts)
  end

  test "keys are apart", %{opts: opts} do
    for _ <- 1..10, do: check("a", opts)
    assert :ok = check("b", opts)
  end

  test "integrates with Foundation services", %{namespace: namespace} do
    start_supervised!({ConfigServer, namespace: namespace})
    path = [:dev, :debug_mode]
    update = &ConfigServer.update_config_protected(namespace, path, &1, %{user_id: &2})

    for _ <- 1..10, do: assert(:ok = update.(true, 7))

    assert {:error, %Error{error_type: :rate_limited, context: %{retry_after_ms: 6_000}}} =
             update.(false, 7)

    # The limited update was not made, and is nobody else's.
    assert {:ok, true} = ConfigServer.get(namespace, path)
    assert :ok = update.(false, 8)
    ManualClock.advance(namespace, 6_000)
    assert :ok = update.(true, 7)
  end

  test "peek changes nothing, reset gives all back", %{opts: opts} do
    for _ <- 1..10, do: check("user", opts)
    rule = {10, 60_000}

    assert {:ok, %{verdict: :rate_limited, remaining: 0}} =
             TokenBucketLimiter.peek("user", rule, opts)

    assert {:ok, true} = TokenBucketLimiter.reset("user", opts)

    assert {:ok, %{verdict: :allowed, remaining: 10}} =
             TokenBucketLimiter.peek("user", rule, opts)

    assert {:ok, false} = TokenBucketLimiter.reset("user", opts)
  end

  test "a cost debits several, one above the limit never fits", %{opts: opts} do
    assert :ok = TokenBucketLimiter.check_rate_limit("batch", 10, 60_000, [cost: 9] ++ opts)

    assert {:error, :rate_limited, 6_000} =
             TokenBucketLimiter.check_rate_limit("batch", 10, 60_000, [cost: 2] ++ opts)

    assert {:error, %Error{error_type: :never}} =
             TokenBucketLimiter.check_rate_limit("batch", 10, 60_000, [cost: 11] ++ opts)
  end

  test "counts", %{namespace: namespace, opts: opts} do
    for _ <- 1..12, do: check("user", opts)

    assert {:ok, %{allowed: 10, limited: 2, live_keys: 1, capacity: capacity}} =
             TokenBucketLimiter.stats(namespace)

    assert capacity >= 65_536
  end

  test "many processes get exactly the burst", %{opts: opts} do
    results =
      1..20
      |> Enum.map(fn _ -> Task.async(fn -> for _ <- 1..10, do: check(:shared, opts) end) end)
      |> Task.await_many()
      |> List.flatten()

    assert Enum.count(results, &(&1 == :ok)) == 10
  end

  describe "keys" do
    # Each term is used up; all others must be untouched by that.
    test "terms that differ are different keys", %{opts: opts} do
      deep = Enum.reduce(1..200, [], fn _, inner -> [inner] end)

      terms = [
        "a",
        :a,
        'a',
        ["a"],
        {"a"},
        {:a},
        [:a],
        {},
        [],
        %{},
        [[]],
        [[], []],
        {[]},
        [{}],
        "",
        nil,
        true,
        false,
        1,
        1.0,
        -1,
        0,
        0.5,
        2 ** 62,
        2 ** 64,
        -(2 ** 64),
        2 ** 200,
        <<1::3>>,
        <<1::4>>,
        [1 | 2],
        [1, 2],
        {1, 2},
        {:a, 1},
        {:a, {1}},
        {{:a}, 1},
        %{a: 1},
        %{1 => :a},
        %{a: 1, b: 2},
        %{a: 2, b: 1},
        %{a: %{b: 1}},
        [a: 1],
        :ä,
        :日本,
        "ä",
        self(),
        make_ref(),
        &is_atom/1,
        deep,
        [deep],
        ~D[2024-01-01],
        ~D[2024-01-02],
        {"ab", "c"},
        {"a", "bc"},
        ["ab", "c"],
        :ab,
        {:a, :b},
        {:config_update, 1},
        {:config_update, "1"}
      ]

      for term <- terms,
          do: assert(:ok = TokenBucketLimiter.check_rate_limit(term, 1, 60_000, opts))

      for term <- terms do
        assert {:error, :rate_limited, _ms} =
                 TokenBucketLimiter.check_rate_limit(term, 1, 60_000, opts)
      end
    end

    test "equal terms are one key however they were built", %{opts: opts} do
      small = %{a: 1, b: 2}
      large = Map.new(1..100, &{&1, &1 * &1})
      reversed = Enum.reduce(100..1, %{}, &Map.put(&2, &1, &1 * &1))

      pairs = [
        {small, Map.put(%{b: 2}, :a, 1)},
        {large, reversed},
        {"sub", binary_part("a sub binary", 2, 3)},
        {0.0, -0.0},
        {{:user, 7}, :erlang.binary_to_term(:erlang.term_to_binary({:user, 7}))}
      ]

      for {one, other} <- pairs do
        assert :ok = TokenBucketLimiter.check_rate_limit(one, 1, 60_000, opts)

        assert {:error, :rate_limited, _ms} =
                 TokenBucketLimiter.check_rate_limit(other, 1, 60_000, opts)
      end
    end

    # The native library walks no term whose length it cannot bound; those are written by the VM, which can stop
    # in the middle. None must take a scheduler for itself.
    test "one that is deep or opaque is written outside of the native library", %{
      namespace: namespace,
      opts: opts
    } do
      long = Enum.to_list(1..70_000)
      {:ok, _} = TokenBucketLimiter.peek(:key, {1, 1}, opts)
      %{native: limiter} = Names.lookup(:limiter, namespace, :default)
      native = &Native.limiter_check(limiter, &1, 1, 1_000_000, 1)

      for {short, endless} <- [
            {nested(:a), nested(long)},
            {fn -> :a end, fn -> long end},
            {<<1::3>>, <<0::524_289>>},
            {2 ** 64, 2 ** 600_000}
          ] do
        for key <- [short, endless, {:user, short}],
            do: assert({:error, :key_opaque} = native.(key))

        assert :ok = TokenBucketLimiter.check_rate_limit(short, 1, 60_000, opts)

        assert {:error, :rate_limited, _} =
                 TokenBucketLimiter.check_rate_limit(short, 1, 60_000, opts)

        assert {:ok, %{remaining: 0}} = TokenBucketLimiter.peek(short, {1, 60_000}, opts)
        assert {:ok, true} = TokenBucketLimiter.reset(short, opts)
        assert {:ok, %{verdict: :allowed}} = TokenBucketLimiter.check(short, {1, 60_000}, opts)

        for refused <- [
              TokenBucketLimiter.check_rate_limit(endless, 1, 60_000, opts),
              TokenBucketLimiter.check(endless, {1, 60_000}, opts),
              TokenBucketLimiter.reset(endless, opts)
            ] do
          assert {:error, %Error{error_type: :invalid_argument, context: context}} = refused
          assert %{argument: :key, value: ^endless} = context
        end
      end

      for key <- [self(), make_ref(), hd(Port.list()), :日本],
          do: assert(:ok = native.({:user, key}))
    end

    defp nested(term), do: Enum.reduce(1..70, term, fn _, inner -> {inner} end)

    test "one that is too long is refused", %{opts: opts} do
      for key <- [
            String.duplicate("x", 65_537),
            Enum.to_list(1..70_000),
            {String.duplicate("x", 65_536)}
          ] do
        assert {:error, %Error{error_type: :invalid_argument, message: message}} =
                 check(key, opts)

        assert message =~ "`key` is"
        assert message =~ "at most 65536 bytes"
      end

      assert :ok = check(String.duplicate("x", 65_536), opts)
    end
  end

  describe "bad input" do
    for {limit, window, message} <- [
          {0, 60_000, "`limit` is 0, allowed is 1 to"},
          {-1, 60_000, "`limit` is -1"},
          {2 ** 62, 60_000, "`limit` is 4611686018427387904"},
          {2 ** 64, 60_000, "`limit` is 18446744073709551616"},
          {1.5, 60_000, "`limit` is 1.5"},
          {nil, 60_000, "`limit` is nil"},
          {10, 0, "`window_ms` is 0, allowed is 1 to 4611686018427 milliseconds"},
          {10, -5, "`window_ms` is -5, allowed is 1 to 4611686018427 milliseconds"},
          {10, 4_611_686_018_428,
           "`window_ms` is 4611686018428, allowed is 1 to 4611686018427 mi"},
          {10, 2 ** 60, "`window_ms` is 1152921504606846976"},
          {10, "minute", "`window_ms` is \"minute\""}
        ] do
      test "limit #{inspect(limit)} in #{inspect(window)} ms is refused", %{opts: opts} do
        {limit, window} = {unquote(limit), unquote(window)}

        for opts <- [[], opts] do
          result = TokenBucketLimiter.check_rate_limit("bad", limit, window, opts)
          assert {:error, %Error{error_type: :invalid_argument, message: text}} = result
          assert String.starts_with?(text, unquote(message))
        end

        assert {:error, %Error{}} = TokenBucketLimiter.peek("bad", {limit, window}, opts)
      end
    end

    test "options, costs, rules and namespaces are checked" do
      assert {:error, %Error{message: "`option` is :price" <> _}} =
               TokenBucketLimiter.check_rate_limit(1, 1, 1, price: 2)

      assert {:error, %Error{message: "`cost` is -1" <> _}} =
               TokenBucketLimiter.check_rate_limit(1, 1, 1, cost: -1)

      assert {:error, %Error{message: "`opts` is 7" <> _}} =
               TokenBucketLimiter.check_rate_limit(1, 1, 1, 7)

      assert {:error, %Error{message: "`rule` is :fast" <> _}} =
               TokenBucketLimiter.check(1, :fast)

      assert {:error, %Error{message: "`namespace` is \"x\"" <> _}} =
               TokenBucketLimiter.check_rate_limit(1, 1, 1, namespace: "x")

      assert {:error, %Error{message: "`namespace` is 5" <> _}} = TokenBucketLimiter.stats(5)
    end
  end
end
