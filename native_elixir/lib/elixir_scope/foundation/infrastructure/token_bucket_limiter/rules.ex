defmodule ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Rules do
  @moduledoc false
  # Rules, costs, waits and options as the native library takes them. Shapes are looked at here, ranges by the core.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.{Decision, Handle}

  @ns_in_ms 1_000_000
  @largest 0xFFFF_FFFF_FFFF_FFFF
  @largest_ms div(@largest, @ns_in_ms)
  # 2^62 - 1 nanoseconds, the most that the core takes, in the unit of the argument.
  @windows "1 to 4611686018427 milliseconds"
  # The longest wait that the core tells apart, of a limit with a name.
  @longest_wait_ns 0x3FF_FFFF_FFFF_FFFF
  @strategies %{as_is: 0, proportional: 1, additive: 2, reset: 3}

  defguard is_number_of_tokens(number)
           when is_integer(number) and number >= 0 and number <= @largest

  defguard is_window(ms) when is_integer(ms) and ms >= 0 and ms <= @largest_ms

  @type numbers :: {non_neg_integer(), non_neg_integer(), non_neg_integer()}

  @doc "What a call is measured by: a rule's numbers, or the native limit of a name."
  @spec measure(term(), Handle.t()) :: {:ok, numbers() | reference()} | {:error, Error.t()}
  def measure(name, handle) when is_atom(name) and not is_nil(name),
    do: Handle.limit(handle, name)

  def measure(rule, _handle), do: numbers(rule)

  @doc "A rule as `{tokens, period_ns, burst}`."
  @spec numbers(term()) :: {:ok, numbers()} | {:error, Error.t()}
  def numbers({limit, window_ms}), do: numbers({limit, window_ms, limit})

  def numbers({limit, window_ms, burst}) do
    cond do
      not is_number_of_tokens(limit) ->
        {:error, Error.refused(:limit, limit, "a positive integer below 2^62")}

      not is_window(window_ms) ->
        {:error, Error.refused(:window_ms, window_ms, @windows)}

      not is_number_of_tokens(burst) ->
        {:error, Error.refused(:burst, burst, "a non-negative integer below 2^62")}

      true ->
        {:ok, {limit, window_ms * @ns_in_ms, burst}}
    end
  end

  def numbers(%{tokens: tokens, period_ns: period_ns, burst: burst})
      when is_number_of_tokens(tokens) and is_number_of_tokens(period_ns) and
             is_number_of_tokens(burst),
      do: {:ok, {tokens, period_ns, burst}}

  def numbers(rule) do
    allowed =
      "{limit, window_ms}, {limit, window_ms, burst}, the name of a limit, or a map of non-negative integers " <>
        ":tokens, :period_ns and :burst"

    {:error, Error.refused(:rule, rule, allowed)}
  end

  @spec cost(term(), atom()) :: {:ok, non_neg_integer()} | {:error, Error.t()}
  def cost(cost, argument \\ :cost)
  def cost(cost, _argument) when is_number_of_tokens(cost), do: {:ok, cost}

  def cost(cost, argument),
    do: {:error, Error.refused(argument, cost, "a non-negative integer below 2^64")}

  @doc "The option `:cost`."
  @spec cost_of(keyword()) :: {:ok, non_neg_integer()} | {:error, Error.t()}
  def cost_of(opts), do: cost(Keyword.get(opts, :cost, 1))

  # `length` fails for an improper list, and with it the guard.
  @spec list(atom(), term()) :: :ok | {:error, Error.t()}
  def list(_argument, given) when length(given) >= 0, do: :ok
  def list(argument, given), do: {:error, Error.refused(argument, given, "a list")}

  @spec text(atom(), term()) :: :ok | {:error, Error.t()}
  def text(_argument, text) when is_binary(text), do: :ok
  def text(argument, other), do: {:error, Error.refused(argument, other, "a binary")}

  @doc "A wait in milliseconds, or `:infinity`, as nanoseconds."
  @spec wait(term(), atom()) :: {:ok, non_neg_integer()} | {:error, Error.t()}
  def wait(ms, argument \\ :max_wait_ms)
  def wait(:infinity, _argument), do: {:ok, @longest_wait_ns}

  def wait(ms, _argument) when is_integer(ms) and ms >= 0,
    do: {:ok, min(ms * @ns_in_ms, @longest_wait_ns)}

  def wait(ms, argument),
    do: {:error, Error.refused(argument, ms, "a non-negative integer or :infinity")}

  @doc "The options `:max_wait_ms` and `:max_wait_ns` as nanoseconds; nil without one."
  @spec max_wait(keyword()) :: {:ok, non_neg_integer() | nil} | {:error, Error.t()}
  def max_wait(opts) do
    case Keyword.take(opts, [:max_wait_ms, :max_wait_ns]) do
      [] -> {:ok, nil}
      [max_wait_ms: ms] -> wait(ms)
      [max_wait_ns: ns] when is_integer(ns) and ns >= 0 -> {:ok, min(ns, @longest_wait_ns)}
      [max_wait_ns: ns] -> {:error, Error.refused(:max_wait_ns, ns, "a non-negative integer")}
      both -> {:error, Error.refused(:opts, both, "one of :max_wait_ms and :max_wait_ns")}
    end
  end

  @spec strategy(term()) :: {:ok, non_neg_integer()} | {:error, Error.t()}
  def strategy(name) when is_map_key(@strategies, name), do: {:ok, strategy_number(name)}

  def strategy(other) do
    allowed = "one of #{Enum.map_join(Map.keys(@strategies), ", ", &inspect/1)}"
    {:error, Error.refused(:strategy, other, allowed)}
  end

  @spec strategy_number(atom()) :: non_neg_integer()
  def strategy_number(name), do: Map.fetch!(@strategies, name)

  @spec options(term(), [atom()]) :: :ok | {:error, Error.t()}
  def options([], _own), do: :ok

  def options(opts, own) do
    allowed = [:namespace, :limiter | own]

    cond do
      not Keyword.keyword?(opts) ->
        {:error, Error.refused(:opts, opts, "a keyword list")}

      (unknown = Keyword.keys(opts) -- allowed) != [] ->
        named = Enum.map_join(allowed, ", ", &inspect/1)
        {:error, Error.refused(:option, hd(unknown), "one of #{named}")}

      true ->
        :ok
    end
  end

  @doc """
  A key whose size a native call cannot see before it has walked it all is written as a binary, which is interrupted
  by the VM like any other work of the process.
  """
  @spec fit(term(), (term() -> result)) :: result when result: term()
  def fit(key, native) do
    with {:error, :key_opaque} <- native.(key), do: native.(written(key))
  end

  @spec written(term()) :: {atom(), binary()}
  def written(key),
    do: {ElixirScope.Foundation.Infrastructure.TokenBucketLimiter, :erlang.term_to_binary(key)}

  @doc "The error of what the native library refused."
  @spec refused(term(), term(), term()) :: Error.t()
  def refused(reason, key, _rule) when reason in [:key_too_large, :key_opaque],
    do: Error.refused(:key, key, "a term of at most 65536 bytes")

  # The core names the parts of its own rule; here they came from `limit` and `window_ms`.
  def refused({argument, _value, allowed}, _key, rule)
      when is_tuple(rule) and argument in ["tokens", "period_ns", "burst"] do
    case argument do
      "period_ns" -> Error.refused(:window_ms, elem(rule, 1), @windows)
      "burst" when tuple_size(rule) == 3 -> Error.refused(:burst, elem(rule, 2), allowed)
      _tokens_or_burst -> Error.refused(:limit, elem(rule, 0), allowed)
    end
  end

  def refused({:queue_full, retry_after_ns}, key, _rule) do
    context = %{retry_after_ms: Decision.ms(retry_after_ns), key: key}
    Error.new(:queue_full, "Too many callers wait already", context: context)
  end

  def refused({argument, value, allowed}, _key, _rule),
    do: Error.refused(argument, value, allowed)

  @spec too_soon(non_neg_integer()) :: Error.t()
  def too_soon(retry_after_ns) do
    context = %{retry_after_ms: Decision.ms(retry_after_ns), retry_after_ns: retry_after_ns}
    Error.new(:change_too_soon, nil, context: context)
  end

  @doc "The answer to a check that was not admitted, as the contract has it."
  @spec answer(term(), term(), term(), non_neg_integer()) ::
          {:error, :rate_limited, pos_integer()} | {:error, Error.t()}
  def answer(refusal, key, rule, cost) do
    case refusal do
      {:rate_limited, retry_after_ms} ->
        {:error, :rate_limited, retry_after_ms}

      {:error, reason} ->
        {:error, refused(reason, key, rule)}

      {:never, _forever} ->
        {:error, Error.new(:never, nil, context: %{cost: cost, limit: limit(rule)})}

      {:table_full, retry_after_ms} ->
        {:error, Error.new(:table_full, nil, context: %{retry_after_ms: retry_after_ms})}
    end
  end

  defp limit({limit, _window_ms}), do: limit
  defp limit({_limit, _window_ms, burst}), do: burst
  defp limit(%{burst: burst}), do: burst
  defp limit(name), do: name
end
