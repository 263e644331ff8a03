defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Config do
  @moduledoc false
  # Turns the options of a pool into checked values. An error names the option, its value and what is allowed;
  # nothing is skipped or rounded in silence.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{Connection, Names}
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.Worker

  @ms 1_000_000
  # Longest wait of `receive` and of a timer.
  @max_ms 0xFFFF_FFFF
  @forever_ns 0xFFFF_FFFF_FFFF_FFFF
  @max_u32 0xFFFF_FFFF

  @enforce_keys [:worker]
  defstruct name: nil,
            namespace: :production,
            worker: nil,
            size: 5,
            max_overflow: 10,
            strategy: :lifo,
            timeout: 5_000,
            overflow_ttl: 0,
            max_waiters: 10_000,
            max_slots: 0,
            telemetry: 0,
            measure: false,
            min_idle: 0,
            max_creating: 0xFFFF_FFFF,
            init_policy: :degraded,
            create_failure: :retry,
            idle_timeout: 0,
            max_lifetime: 0,
            max_lifetime_jitter: 0,
            keepalive: 0,
            health: :off,
            health_interval: 0,
            check_limit: 5_000,
            reset_on_return: nil,
            return_limit: 5_000,
            pre_ping_after: :never,
            pre_ping_limit: 5_000,
            owner_death: :close,
            leak_after: 0,
            queue_target: 0,
            queue_interval: 0,
            retry_after: 100,
            retry_at_most: 10_000,
            close_timeout: 5_000,
            drain: 1_000

  @type t :: %__MODULE__{
          name: atom(),
          namespace: Names.namespace(),
          worker: Connection.t() | (() -> Connection.t()),
          size: non_neg_integer(),
          max_overflow: non_neg_integer(),
          strategy: :lifo | :fifo | :round_robin | :least_used,
          timeout: timeout(),
          overflow_ttl: non_neg_integer(),
          max_waiters: non_neg_integer(),
          max_slots: non_neg_integer(),
          telemetry: non_neg_integer(),
          measure: boolean(),
          min_idle: non_neg_integer(),
          max_creating: non_neg_integer(),
          init_policy: :degraded | :error,
          create_failure: :retry | :fail_fast,
          idle_timeout: non_neg_integer(),
          max_lifetime: non_neg_integer(),
          max_lifetime_jitter: non_neg_integer(),
          keepalive: non_neg_integer(),
          health: :off | :passive | :active | :mixed,
          health_interval: non_neg_integer(),
          check_limit: non_neg_integer(),
          reset_on_return: boolean() | nil,
          return_limit: non_neg_integer(),
          pre_ping_after: non_neg_integer() | :never,
          pre_ping_limit: non_neg_integer(),
          owner_death: :close | :check,
          leak_after: non_neg_integer(),
          queue_target: non_neg_integer(),
          queue_interval: non_neg_integer(),
          retry_after: pos_integer(),
          retry_at_most: pos_integer(),
          close_timeout: non_neg_integer(),
          drain: non_neg_integer()
        }

  @counts [:size, :max_overflow, :max_waiters, :max_slots, :telemetry, :min_idle, :max_creating]
  @times [
    :overflow_ttl,
    :retry_after,
    :retry_at_most,
    :close_timeout,
    :drain,
    :idle_timeout,
    :max_lifetime,
    :max_lifetime_jitter,
    :keepalive,
    :health_interval,
    :check_limit,
    :return_limit,
    :pre_ping_limit,
    :leak_after,
    :queue_target,
    :queue_interval
  ]
  @words [
    strategy: [:lifo, :fifo, :round_robin, :least_used],
    health: [:off, :passive, :active, :mixed],
    owner_death: [:close, :check],
    init_policy: [:degraded, :error],
    create_failure: [:retry, :fail_fast],
    reset_on_return: [true, false],
    measure: [true, false]
  ]
  @keys [:name, :namespace, :timeout, :pre_ping_after] ++
          Keyword.keys(@words) ++ @counts ++ @times

  @spec new(keyword() | map()) :: {:ok, t()} | {:error, Error.t()}
  def new(options) when is_map(options), do: options |> Map.to_list() |> new()

  def new(options) when is_list(options) do
    with :ok <- keyword(options),
         {:ok, worker} <- Worker.new(Keyword.take(options, Worker.keys())) do
      options
      |> Keyword.drop(Worker.keys())
      |> Enum.reduce_while({:ok, %__MODULE__{worker: worker}}, fn {key, value}, {:ok, config} ->
        case check(key, value) do
          :ok -> {:cont, {:ok, Map.put(config, key, value)}}
          {:error, _} = error -> {:halt, error}
        end
      end)
      |> named()
      |> served()
    end
  end

  def new(options), do: invalid(:options, options, "a keyword list or a map")

  @doc "The options of the native pool."
  @spec native(t()) :: map()
  def native(%__MODULE__{} = config) do
    %{
      size: config.size,
      max_overflow: config.max_overflow,
      order: config.strategy,
      max_waiters: config.max_waiters,
      max_slots: config.max_slots,
      min_idle: config.min_idle,
      max_creating: config.max_creating,
      idle_timeout_ns: config.idle_timeout * @ms,
      max_lifetime_ns: config.max_lifetime * @ms,
      max_lifetime_jitter_ns: config.max_lifetime_jitter * @ms,
      keepalive_ns: config.keepalive * @ms,
      health: config.health,
      health_interval_ns: config.health_interval * @ms,
      check_limit_ns: config.check_limit * @ms,
      reset_on_return: config.reset_on_return == true,
      return_limit_ns: config.return_limit * @ms,
      pre_ping_after_ns: after_ns(config.pre_ping_after),
      pre_ping_limit_ns: config.pre_ping_limit * @ms,
      owner_death: config.owner_death,
      leak_after_ns: config.leak_after * @ms,
      queue_target_ns: config.queue_target * @ms,
      queue_interval_ns: config.queue_interval * @ms,
      measure: config.measure,
      create_failure: config.create_failure,
      overflow_ttl_ns: config.overflow_ttl * @ms,
      backoff_ns: config.retry_after * @ms,
      backoff_cap_ns: config.retry_at_most * @ms,
      jitter_seed: :erlang.phash2(make_ref())
    }
  end

  @doc "The sizes that a resize names, checked."
  @spec sizes(term()) :: {:ok, keyword()} | {:error, Error.t()}
  def sizes(sizes) do
    with :ok <- keyword(sizes) do
      Enum.find_value(sizes, {:ok, sizes}, fn {key, value} ->
        case if(key in [:size, :max_overflow], do: check(key, value), else: :unknown) do
          :ok -> nil
          :unknown -> invalid(:option, key, ":size and :max_overflow")
          error -> error
        end
      end)
    end
  end

  @doc "A wait in nanoseconds; `:infinity` is the largest 64-bit word."
  @spec timeout_ns(term()) :: non_neg_integer() | :error
  def timeout_ns(ms) when is_integer(ms) and ms >= 0 and ms <= @max_ms, do: ms * @ms
  def timeout_ns(:infinity), do: @forever_ns
  def timeout_ns(_), do: :error

  @doc "Whether this is a wait, told by the name of the option."
  @spec check_timeout(term()) :: :ok | {:error, Error.t()}
  def check_timeout(timeout) do
    if timeout_ns(timeout) == :error, do: invalid(:timeout, timeout, timeout_range()), else: :ok
  end

  @doc "The inverse of `timeout_ns/1`; part of a millisecond counts as a whole one."
  @spec timeout_ms(non_neg_integer()) :: timeout()
  def timeout_ms(@forever_ns), do: :infinity
  def timeout_ms(ns), do: div(ns + @ms - 1, @ms)

  @doc "What `timeout_ns/1` accepts, in words."
  @spec timeout_range() :: String.t()
  def timeout_range, do: "milliseconds from 0 to #{@max_ms}, or :infinity"

  @native %{
    "max_concurrent_creates" => :max_creating,
    "create_backoff_ns" => :retry_after,
    "create_backoff_cap_ns" => :retry_at_most,
    "max_lifetime_jitter_ns" => :max_lifetime_jitter,
    "health_interval_ns" => :health_interval
  }

  @doc "The same for one that the native pool refuses, in the words and units of the option."
  @spec refused({String.t(), non_neg_integer(), String.t()}) :: {:error, Error.t()}
  def refused({argument, value, allowed}) do
    key = Map.get_lazy(@native, argument, fn -> String.to_existing_atom(argument) end)
    value = if String.ends_with?(argument, "_ns"), do: div(value, @ms), else: value

    allowed =
      allowed
      |> String.replace("create_backoff_ns", "retry_after")
      |> String.replace("_ns", "")

    invalid(key, value, allowed)
  end

  @doc "The error result of an argument that is out of range."
  @spec invalid(atom(), term(), String.t()) :: {:error, Error.t()}
  def invalid(argument, value, allowed), do: {:error, Error.refused(argument, value, allowed)}

  defp after_ns(:never), do: @forever_ns
  defp after_ns(ms), do: ms * @ms

  defp named({:ok, %__MODULE__{name: nil}}), do: invalid(:name, nil, "an atom")
  defp named(result), do: result

  # What asks for a callback is refused without it.
  defp served({:ok, config}) do
    %{reset: reset, ping: ping} = config.worker
    resets? = if(config.reset_on_return == nil, do: reset != nil, else: config.reset_on_return)

    needs_ping =
      Enum.find(
        [
          health: config.health != :off,
          keepalive: config.keepalive > 0,
          pre_ping_after: config.pre_ping_after != :never
        ],
        fn {_option, used?} -> used? and ping == nil end
      )

    cond do
      needs_ping != nil ->
        {option, true} = needs_ping
        invalid(option, Map.fetch!(config, option), "what it is by default, without a ping/1")

      resets? and reset == nil ->
        invalid(:reset_on_return, true, "false, without a reset/1")

      config.owner_death == :check and not resets? and ping == nil ->
        invalid(:owner_death, :check, ":close, without a reset/1 or a ping/1 to check with")

      true ->
        {:ok, %{config | reset_on_return: resets?}}
    end
  end

  defp served(error), do: error

  defp keyword(options) do
    if Keyword.keyword?(options),
      do: :ok,
      else: invalid(:options, options, "a keyword list or a map")
  end

  defp check(:name, name) when is_atom(name) and not is_nil(name), do: :ok
  defp check(:name, name), do: invalid(:name, name, "an atom")
  defp check(:namespace, namespace), do: Names.check(namespace)

  for {key, words} <- @words do
    defp check(unquote(key), word) when word in unquote(words), do: :ok

    defp check(unquote(key), word),
      do: invalid(unquote(key), word, unquote(Enum.map_join(words, ", ", &inspect/1)))
  end

  defp check(:pre_ping_after, :never), do: :ok

  defp check(:pre_ping_after, value) do
    if milliseconds?(value),
      do: :ok,
      else: invalid(:pre_ping_after, value, "milliseconds from 0 to #{@max_ms}, or :never")
  end

  defp check(:timeout, timeout), do: check_timeout(timeout)

  defp check(key, value) when key in @times do
    if milliseconds?(value),
      do: :ok,
      else: invalid(key, value, "milliseconds from 0 to #{@max_ms}")
  end

  # Narrower bounds are the native core's.
  defp check(key, value) when key in @counts do
    if is_integer(value) and value >= 0 and value <= @max_u32,
      do: :ok,
      else: invalid(key, value, "an integer from 0 to #{@max_u32}")
  end

  defp check(key, _value) do
    invalid(:option, key, "one of " <> Enum.map_join(@keys ++ Worker.keys(), ", ", &inspect/1))
  end

  defp milliseconds?(value), do: is_integer(value) and value >= 0 and value <= @max_ms
end
