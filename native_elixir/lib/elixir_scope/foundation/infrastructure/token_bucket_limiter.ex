defmodule ElixirScope.Foundation.Infrastructure.TokenBucketLimiter do
  @moduledoc """
  Limits how often something may happen, for each key on its own.

  The limit `{limit, window_ms}` is a bucket: `limit` calls at once, refilled evenly, one each
  `window_ms / limit`. So 10 per 60,000 ms admits ten calls, then one every six seconds.

      iex> alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter
      iex> key = {:login, make_ref()}
      iex> for _ <- 1..3, do: TokenBucketLimiter.check_rate_limit(key, 3, 60_000)
      [:ok, :ok, :ok]
      iex> {:error, :rate_limited, retry_after_ms} = TokenBucketLimiter.check_rate_limit(key, 3, 60_000)
      iex> retry_after_ms in 1..20_000
      true

  A key is any term of at most 64 KiB: a binary means its bytes, other terms their value (`1` and `1.0`
  differ, as with `===`). The native core keeps 16 bytes a key in a table of fixed size, exact integer time
  and no process; a full bucket equals an absent one, so nothing has to be swept. A refused check costs
  nothing.

  Keys live in the limiter of a namespace, `:production` unless the option `:namespace` says otherwise. Its
  size is `max_keys` of `config :elixir_scope, :infrastructure, rate_limiting: ...`, read at its first use.
  """

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{Config, ManualClock, Names, Native}

  @type key :: term()
  @type rule ::
          {limit :: pos_integer(), window_ms :: pos_integer()}
          | %{tokens: pos_integer(), period_ns: pos_integer(), burst: non_neg_integer()}
  @type option :: {:namespace, Names.namespace()} | {:cost, non_neg_integer()}
  @type decision :: %{
          verdict: :allowed | :rate_limited | :never | :table_full,
          remaining: non_neg_integer(),
          limit: non_neg_integer(),
          retry_after_ns: non_neg_integer() | :infinity,
          reset_after_ns: non_neg_integer()
        }

  # Largest integer that the VM keeps in a word. A comparison with a larger one is a call.
  @word 0x7FF_FFFF_FFFF_FFFF
  @ns_in_ms 1_000_000
  @largest 0xFFFF_FFFF_FFFF_FFFF
  @largest_window div(@largest, @ns_in_ms)
  # 2^62 - 1 nanoseconds, the most that the core takes, in the unit of the argument.
  @windows "1 to 4611686018427 milliseconds"

  defguardp is_limit(limit) when is_integer(limit) and limit >= 0 and limit <= @largest
  defguardp is_window(ms) when is_integer(ms) and ms >= 0 and ms <= @largest_window

  @doc """
  Counts one call for `key` if `limit` calls per `window_ms` admit it.

  `retry_after_ms` says when the same call would be admitted, rounded up. A bad argument, and a table with no
  place for a new key, is an error of its own. The option `:cost` (1) debits several calls at once; a cost
  above the limit can never be admitted and is refused with `:never`.
  """
  @spec check_rate_limit(key(), pos_integer(), pos_integer(), [option()]) ::
          :ok | {:error, :rate_limited, pos_integer()} | {:error, Error.t()}
  def check_rate_limit(key, limit, window_ms, opts \\ [])

  def check_rate_limit(key, limit, window_ms, [])
      when is_integer(limit) and limit in 0..@word and is_window(window_ms) do
    case Names.lookup(:limiter, :production, :default) do
      nil -> first_check(key, limit, window_ms, 1, :production)
      limiter -> check_native(limiter, key, limit, window_ms, 1)
    end
  end

  def check_rate_limit(key, limit, window_ms, opts) do
    # Also the way of a huge limit, and of a bad limit or window, which `native_rule` names.
    with :ok <- check_options(opts),
         {:ok, _rule} <- native_rule({limit, window_ms}),
         {:ok, cost} <- cost(opts),
         do: first_check(key, limit, window_ms, cost, namespace(opts))
  end

  defp first_check(key, limit, window_ms, cost, namespace) do
    with {:ok, limiter} <- fetch(namespace),
         do: check_native(limiter, key, limit, window_ms, cost)
  end

  defp check_native(limiter, key, limit, window_ms, cost) do
    case Native.limiter_check(limiter, key, limit, window_ms * @ns_in_ms, cost) do
      :ok ->
        :ok

      {:error, :key_opaque} ->
        limiter
        |> Native.limiter_check(written(key), limit, window_ms * @ns_in_ms, cost)
        |> answer(key, limit, window_ms, cost)

      refusal ->
        answer(refusal, key, limit, window_ms, cost)
    end
  end

  defp answer(verdict, key, limit, window_ms, cost) do
    case verdict do
      :ok -> :ok
      {:rate_limited, retry_after_ms} -> {:error, :rate_limited, retry_after_ms}
      {:error, reason} -> {:error, refused(reason, key, {limit, window_ms})}
      {:never, _forever} -> {:error, Error.new(:never, nil, context: %{cost: cost, limit: limit})}
      {:table_full, ms} -> {:error, Error.new(:table_full, nil, context: %{retry_after_ms: ms})}
    end
  end

  @doc """
  As `check_rate_limit/4`, with any rule and with all that the decision says: what remains, and when the bucket
  is full again.

      iex> alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter
      iex> {:ok, decision} = TokenBucketLimiter.check({:export, make_ref()}, {10, 1_000}, cost: 4)
      iex> {decision.verdict, decision.remaining, decision.limit}
      {:allowed, 6, 10}
  """
  @spec check(key(), rule(), [option()]) :: {:ok, decision()} | {:error, Error.t()}
  def check(key, rule, opts \\ []) do
    with :ok <- check_options(opts),
         {:ok, cost} <- cost(opts) do
      decide(key, rule, opts, &Native.limiter_decide(&1, &2, &3, cost))
    end
  end

  @doc "What a `check/3` of cost 1 would say. Changes and counts nothing."
  @spec peek(key(), rule(), [option()]) :: {:ok, decision()} | {:error, Error.t()}
  def peek(key, rule, opts \\ []) do
    with :ok <- check_options(opts),
         do: decide(key, rule, opts, &Native.limiter_peek/3)
  end

  defp decide(key, rule, opts, native) do
    with {:ok, native_rule} <- native_rule(rule),
         {:ok, limiter} <- fetch(namespace(opts)) do
      case fit(key, &native.(limiter, &1, native_rule)) do
        {:error, reason} ->
          {:error, refused(reason, key, rule)}

        {verdict, remaining, limit, retry_after_ns, reset_after_ns} ->
          {:ok,
           %{
             verdict: verdict,
             remaining: remaining,
             limit: limit,
             retry_after_ns: if(verdict == :never, do: :infinity, else: retry_after_ns),
             reset_after_ns: reset_after_ns
           }}
      end
    end
  end

  @doc """
  Makes the limiter of a namespace anew, with the options that `rate_limiting` would give it: `:max_keys`, the
  number of keys that owe something at the same time. What the old one counted is forgotten.
  """
  @spec configure(Names.namespace(), keyword() | map()) :: :ok | {:error, Error.t()}
  def configure(namespace, options) do
    with {:ok, _limiter} <-
           Names.replace(:limiter, namespace, :default, creator(namespace, options)),
         do: :ok
  end

  @doc "Gives a key its full limit back. Tells whether the limiter knew the key."
  @spec reset(key(), [option()]) :: {:ok, boolean()} | {:error, Error.t()}
  def reset(key, opts \\ []) do
    with :ok <- check_options(opts),
         {:ok, limiter} <- fetch(namespace(opts)) do
      case fit(key, &Native.limiter_reset(limiter, &1)) do
        {:error, reason} -> {:error, refused(reason, key, nil)}
        known -> {:ok, known}
      end
    end
  end

  @doc """
  What a namespace's limiter did: `allowed`, `limited`, `never`, `table_full`; how many live keys it is meant
  for (`capacity`) and has (`live_keys`), and its size in `bytes`.
  """
  @spec stats(Names.namespace()) :: {:ok, map()} | {:error, Error.t()}
  def stats(namespace \\ :production) do
    with {:ok, limiter} <- fetch(namespace) do
      {:ok, Map.put(Native.limiter_stats(limiter), :live_keys, Native.limiter_live_keys(limiter))}
    end
  end

  defp fetch(namespace) do
    case Names.lookup(:limiter, namespace, :default) do
      nil -> Names.ensure(:limiter, namespace, :default, creator(namespace, []))
      limiter -> {:ok, limiter}
    end
  end

  defp creator(namespace, options) do
    fn ->
      with {:ok, config} <- Config.limiter(options), do: new(config, ManualClock.clock(namespace))
    end
  end

  defp new(%{max_keys: max_keys}, clock) do
    case Native.limiter_new(min(max_keys, @largest), clock) do
      {:ok, limiter} ->
        {:ok, limiter}

      {:error, {_argument, _value, allowed}} ->
        {:error, Error.refused(:max_keys, max_keys, allowed, :invalid_config_value)}
    end
  end

  defp native_rule({limit, window_ms}) when is_limit(limit) and is_window(window_ms),
    do: {:ok, {limit, window_ms * @ns_in_ms, limit}}

  defp native_rule({limit, window_ms}) when is_limit(limit),
    do: {:error, Error.refused(:window_ms, window_ms, @windows)}

  defp native_rule({limit, _window_ms}),
    do: {:error, Error.refused(:limit, limit, "a positive integer below 2^62")}

  defp native_rule(%{tokens: tokens, period_ns: period_ns, burst: burst})
       when is_limit(tokens) and is_limit(period_ns) and is_limit(burst),
       do: {:ok, {tokens, period_ns, burst}}

  defp native_rule(rule) do
    allowed =
      "{limit, window_ms} or a map of non-negative integers :tokens, :period_ns and :burst"

    {:error, Error.refused(:rule, rule, allowed)}
  end

  defp cost(opts) do
    case Keyword.get(opts, :cost, 1) do
      cost when is_limit(cost) -> {:ok, cost}
      cost -> {:error, Error.refused(:cost, cost, "a non-negative integer")}
    end
  end

  defp check_options(opts) do
    cond do
      not Keyword.keyword?(opts) ->
        {:error, Error.refused(:opts, opts, "a keyword list")}

      (unknown = Keyword.keys(opts) -- [:namespace, :cost]) != [] ->
        {:error, Error.refused(:option, hd(unknown), "one of :namespace, :cost")}

      true ->
        :ok
    end
  end

  # A key whose size a native call cannot see before it has walked it all. Writing it as a binary is interrupted
  # by the VM like any other work of the process.
  defp fit(key, native) do
    with {:error, :key_opaque} <- native.(key), do: native.(written(key))
  end

  defp written(key), do: {__MODULE__, :erlang.term_to_binary(key)}

  defp namespace(opts), do: Keyword.get(opts, :namespace, :production)

  defp refused(:key_too_large, key, _rule),
    do: Error.refused(:key, key, "a term of at most 65536 bytes")

  # The core names the parts of its own rule; here they came from `limit` and `window_ms`.
  defp refused({argument, _value, allowed}, _key, {limit, window_ms}) do
    case argument do
      "period_ns" -> Error.refused(:window_ms, window_ms, @windows)
      _tokens_or_burst -> Error.refused(:limit, limit, allowed)
    end
  end

  defp refused({argument, value, allowed}, _key, _rule),
    do: Error.refused(argument, value, allowed)
end
