defmodule ElixirScope.Foundation.Infrastructure.TokenBucketLimiter do
  @moduledoc """
  Limits how often something may happen, for each key on its own.

  The limit `{limit, window_ms}` is a bucket: `limit` calls at once, refilled evenly, one each
  `window_ms / limit`. So 10 per 60,000 ms admits ten calls, then one every six seconds; a window that begins with a full
  bucket can see almost twenty.

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
  nothing. Every function may be called by any process at any time.

  A **rule** is `{limit, window_ms}`, `{limit, window_ms, burst}`, a map of `:tokens`, `:period_ns` and `:burst`, or the name
  of a limit: one of `default_limits`, or of `put_limit/3`, by which it changes while its keys live. The keys of a limit
  are its own.

  **Limiters** have names in a namespace: options `:namespace` (`:production`) and `:limiter` (`:default`), which all
  functions take. One that nobody made with `configure/3` is made at its first use, from

      config :elixir_scope, :infrastructure,
        rate_limiting: %{
          enabled: true,
          default_limits: %{config_updates: {10, 60_000}, everybody: {1_000, 1_000}},
          hierarchies: %{api: [user: {10, 1_000}, organisation: {100, 1_000}, global: :everybody]},
          max_keys: 65_536,
          limiters: %{uploads: %{max_keys: 1_000, full_policy: :overflow_key}}
        }

  | option | default | |
  | --- | --- | --- |
  | `:max_keys` | 65,536 | keys that owe something at the same time, 1 to 2^28 |
  | `:full_policy` | `:deny_new` | when all places of a new key are taken: refuse it (`:table_full`), `:evict_most_full`, or `:overflow_key`, one bucket for all of those |
  | `:max_waiting` | 1,024 | callers of `acquire/4` that wait at the same time |
  | `:events` | denied calls | see `ElixirScope.Foundation.Infrastructure.RateLimiterTelemetry` |

  State is per node, and lasts as long as the VM; `save/2` and `load/2` carry it over.
  """

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{Names, Native, RateLimiterTelemetry}

  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.{
    Admin,
    Batch,
    Charges,
    Decision,
    GroupDecision,
    Handle,
    HeaderFields,
    Hierarchy,
    Receipt,
    Receipts,
    Reservation,
    Rules,
    Waiting
  }

  import Rules, only: [is_window: 1]

  @type key :: term()
  @type rule ::
          {limit :: pos_integer(), window_ms :: pos_integer()}
          | {limit :: pos_integer(), window_ms :: pos_integer(), burst :: non_neg_integer()}
          | %{tokens: pos_integer(), period_ns: pos_integer(), burst: non_neg_integer()}
          | (name :: atom())
  @type charge :: {key(), rule()} | {key(), rule(), cost :: non_neg_integer()}
  @type option ::
          {:namespace, Names.namespace()} | {:limiter, atom()} | {:cost, non_neg_integer()}
  @type place :: {:namespace, Names.namespace()} | {:limiter, atom()}
  @type max_wait ::
          {:max_wait_ms, non_neg_integer() | :infinity} | {:max_wait_ns, non_neg_integer()}
  @type answer :: :ok | {:error, :rate_limited, pos_integer()} | {:error, Error.t()}
  @type strategy :: :as_is | :proportional | :additive | :reset

  # Largest integer that the VM keeps in a word. A comparison with a larger one is a call.
  @word 0x7FF_FFFF_FFFF_FFFF
  @ns_in_ms 1_000_000

  @doc """
  Counts one call for `key` if `limit` calls per `window_ms` admit it.

  `retry_after_ms` says when the same call would be admitted, rounded up. A bad argument, and a table with no
  place for a new key, is an error of its own. The option `:cost` (1) debits several calls at once; a cost
  above the limit can never be admitted and is refused with `:never`.
  """
  @spec check_rate_limit(key(), pos_integer(), pos_integer(), [option()]) :: answer()
  def check_rate_limit(key, limit, window_ms, opts \\ [])

  def check_rate_limit(key, limit, window_ms, [])
      when is_integer(limit) and limit in 0..@word and is_window(window_ms) do
    case Names.lookup(:limiter, :production, :default) do
      nil -> check_anywhere(key, limit, window_ms, [])
      handle -> check_native(handle, key, limit, window_ms, 1)
    end
  end

  # Also the way of a huge limit, and of a bad limit or window, which `Rules` names.
  def check_rate_limit(key, limit, window_ms, opts),
    do: check_anywhere(key, limit, window_ms, opts)

  defp check_anywhere(key, limit, window_ms, opts) do
    with :ok <- Rules.options(opts, [:cost]),
         {:ok, _rule} <- Rules.numbers({limit, window_ms}),
         {:ok, cost} <- Rules.cost_of(opts),
         {:ok, handle} <- Handle.fetch(opts),
         do: check_native(handle, key, limit, window_ms, cost)
  end

  defp check_native(%{native: native} = handle, key, limit, window_ms, cost) do
    case Native.limiter_check(native, key, limit, window_ms * @ns_in_ms, cost) do
      :ok when :erlang.map_get(:allowed_events, handle) == nil -> :ok
      verdict -> told(handle, verdict, key, limit, window_ms, cost)
    end
  end

  # What is not an admitted check without an event.
  defp told(handle, {:error, :key_opaque}, key, limit, window_ms, cost) do
    written = Rules.written(key)
    verdict = Native.limiter_check(handle.native, written, limit, window_ms * @ns_in_ms, cost)
    tell(handle, verdict, key, {limit, window_ms}, cost)
  end

  defp told(handle, verdict, key, limit, window_ms, cost),
    do: tell(handle, verdict, key, {limit, window_ms}, cost)

  defp tell(handle, verdict, key, rule, cost) do
    answer = if verdict == :ok, do: :ok, else: Rules.answer(verdict, key, rule, cost)
    RateLimiterTelemetry.answered(handle, key, rule, cost, answer)
    answer
  end

  # As `check_rate_limit/4` by the limit `name`, of which the configuration says `configured` now.
  @doc false
  @spec check_configured(key(), atom(), term(), [option()]) :: answer()
  def check_configured(key, name, configured, []) do
    with {:ok, handle} <- Handle.fetch(:production, :default),
         {:ok, limit} <- Handle.limit(handle, name, configured),
         do: check_limit(handle, key, name, limit, 1)
  end

  def check_configured(key, name, configured, opts) do
    with :ok <- Rules.options(opts, [:cost]),
         {:ok, cost} <- Rules.cost_of(opts),
         {:ok, handle} <- Handle.fetch(opts),
         {:ok, limit} <- Handle.limit(handle, name, configured),
         do: check_limit(handle, key, name, limit, cost)
  end

  defp check_limit(handle, key, name, limit, cost) do
    case Native.limiter_check_limit(handle.native, key, limit, cost) do
      :ok when :erlang.map_get(:allowed_events, handle) == nil ->
        :ok

      {:error, :key_opaque} ->
        verdict = Native.limiter_check_limit(handle.native, Rules.written(key), limit, cost)
        tell(handle, verdict, key, name, cost)

      verdict ->
        tell(handle, verdict, key, name, cost)
    end
  end

  # Gives back what `check_rate_limit/4` or `check_configured/4` took with these options. Only for who does so once.
  @doc false
  @spec refund_check(key(), rule(), [option()]) :: :ok
  def refund_check(key, rule, opts) do
    with {:ok, cost} <- Rules.cost_of(opts),
         {:ok, handle} <- Handle.fetch(opts),
         {:ok, measure} <- Rules.measure(rule, handle),
         do: Rules.fit(key, &Native.limiter_refund_check(handle.native, &1, measure, cost))

    :ok
  end

  @doc """
  Checks each of `keys` by itself, in order and at one moment, in a third of the time that so many calls take. A refusal
  does not stop the rest.

      iex> alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter
      iex> [one, two] = [make_ref(), make_ref()]
      iex> {:ok, [:ok, :ok, {:error, :rate_limited, ms}]} = TokenBucketLimiter.check_rate_limits([one, two, one], 1, 60_000)
      iex> ms in 1..60_000
      true
  """
  @spec check_rate_limits([key()], pos_integer(), pos_integer(), [option()]) ::
          {:ok, [answer()]} | {:error, Error.t()}
  def check_rate_limits(keys, limit, window_ms, opts \\ []) do
    rule = {limit, window_ms}

    with :ok <- Rules.options(opts, [:cost]),
         :ok <- Rules.list(:keys, keys),
         {:ok, numbers} <- Rules.numbers(rule),
         {:ok, cost} <- Rules.cost_of(opts),
         {:ok, handle} <- Handle.fetch(opts) do
      case Batch.keys(handle.native, keys, numbers, cost, rule) do
        {:ok, answers, true} when :erlang.map_get(:allowed_events, handle) == nil ->
          {:ok, answers}

        {:ok, answers, _all?} ->
          {:ok, tell_each(handle, keys, rule, cost, answers)}

        {:error, refusal} ->
          {:error, Rules.refused(refusal, nil, rule)}
      end
    end
  end

  defp tell_each(%{allowed_events: nil, denied_events: nil}, _keys, _rule, _cost, answers),
    do: answers

  defp tell_each(handle, keys, rule, cost, answers) do
    keys
    |> Enum.zip(answers)
    |> Enum.each(fn {key, answer} ->
      RateLimiterTelemetry.answered(handle, key, rule, cost, answer)
    end)

    answers
  end

  @doc """
  As `check_rate_limit/4`, with any rule and with all that the decision says: what remains, and when the bucket
  is full again.

      iex> alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter
      iex> {:ok, decision} = TokenBucketLimiter.check({:export, make_ref()}, {10, 1_000}, cost: 4)
      iex> {decision.verdict, decision.remaining, decision.limit}
      {:allowed, 6, 10}
      iex> {:ok, decision} = TokenBucketLimiter.check(make_ref(), :config_updates)
      iex> {decision.verdict, decision.remaining}
      {:allowed, 9}
  """
  @spec check(key(), rule(), [option()]) :: {:ok, Decision.t()} | {:error, Error.t()}
  def check(key, rule, opts \\ []) do
    with :ok <- Rules.options(opts, [:cost]),
         {:ok, cost} <- Rules.cost_of(opts),
         {:ok, handle} <- Handle.fetch(opts),
         {:ok, measure} <- Rules.measure(rule, handle),
         native = &Native.limiter_decide(handle.native, &1, measure, cost),
         {:ok, decision} <- decide(key, rule, native) do
      RateLimiterTelemetry.decided(handle, key, rule, cost, decision)
      {:ok, decision}
    end
  end

  @doc "What a `check/3` of cost 1 would say. Changes and counts nothing."
  @spec peek(key(), rule(), [place()]) :: {:ok, Decision.t()} | {:error, Error.t()}
  def peek(key, rule, opts \\ []) do
    with :ok <- Rules.options(opts, []),
         {:ok, handle} <- Handle.fetch(opts),
         {:ok, measure} <- Rules.measure(rule, handle),
         do: decide(key, rule, &Native.limiter_peek(handle.native, &1, measure))
  end

  defp decide(key, rule, native) do
    case Rules.fit(key, native) do
      {:error, reason} -> {:error, Rules.refused(reason, key, rule)}
      decision -> {:ok, Decision.from_native(decision)}
    end
  end

  @doc """
  Debits all of at most 32 charges `{key, rule}` or `{key, rule, cost}`, or none. Equal keys are summed.

      iex> alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter
      iex> [user, organisation] = [make_ref(), make_ref()]
      iex> charges = [{user, {1, 60_000}}, {organisation, {10, 60_000}}]
      iex> {:ok, %{verdict: :allowed}} = TokenBucketLimiter.check_many(charges)
      iex> {:ok, %{verdict: :rate_limited, blocked: [0]}} = TokenBucketLimiter.check_many(charges)
      iex> {:ok, %{remaining: 9}} = TokenBucketLimiter.peek(organisation, {10, 60_000})
  """
  @spec check_many([charge()], [place()]) :: {:ok, GroupDecision.t()} | {:error, Error.t()}
  def check_many(charges, opts \\ []), do: Charges.many(charges, opts)

  @doc """
  Debits a call of somebody at every level of a hierarchy, all or nothing. The hierarchy is a name in `hierarchies` of the
  configuration, or a list of levels with their rules; `subjects` says who it is at each level. The level `:global` is
  everybody's and needs no subject.

  A refusal says in its context which `level` has the caller wait longest, `blocked`: all that refuse and for how many
  milliseconds, and `retry_after_ms`. The key of a level is `{level, subject}`. Options: `:cost` (1).

      iex> alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter
      iex> levels = [user: {1, 1_000}, organisation: {5, 60_000}, global: {1_000, 1_000}]
      iex> subjects = %{user: make_ref(), organisation: "acme"}
      iex> TokenBucketLimiter.check_hierarchy(levels, subjects)
      :ok
      iex> {:error, error} = TokenBucketLimiter.check_hierarchy(levels, subjects)
      iex> {error.error_type, error.context.level, Map.keys(error.context.blocked)}
      {:rate_limited, :user, [:user]}
  """
  @spec check_hierarchy(atom() | [{atom(), rule()}], map() | keyword(), [option()]) ::
          :ok | {:error, Error.t()}
  def check_hierarchy(hierarchy, subjects, opts \\ []) do
    with :ok <- Rules.options(opts, [:cost]),
         {:ok, cost} <- Rules.cost_of(opts),
         {:ok, levels} <- Hierarchy.levels(hierarchy),
         {:ok, charges} <- Hierarchy.charges(levels, subjects, cost),
         {:ok, group} <- check_many(charges, Keyword.delete(opts, :cost)),
         do: Hierarchy.answer(group, levels)
  end

  @doc """
  Checks each charge `{key, rule}` or `{key, rule, cost}` by itself, in order and at one moment. A refusal does not stop
  the rest. For many keys under one rule there is `check_rate_limits/4`.
  """
  @spec check_batch([charge()], [place()]) ::
          {:ok, [Decision.t() | {:error, Error.t()}]} | {:error, Error.t()}
  def check_batch(charges, opts \\ []), do: Charges.batch(charges, opts)

  @doc """
  Debits a cost if it is granted within `:max_wait_ms` (0: at once, or `:infinity`). The caller uses it when the wait is over, and
  may give it back by its receipt. Grants of one key are in the order of the calls. Options: `:cost` (1), `:max_wait_ms` or
  `:max_wait_ns`.

      iex> alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter
      iex> key = make_ref()
      iex> {:ok, %{wait_ns: 0, receipt: receipt}} = TokenBucketLimiter.reserve(key, {10, 60_000}, cost: 8)
      iex> TokenBucketLimiter.settle(receipt, 3)
      {:ok, :applied}
      iex> {:ok, %{remaining: 7}} = TokenBucketLimiter.peek(key, {10, 60_000})
      iex> {:error, error} = TokenBucketLimiter.refund(receipt)
      iex> error.error_type
      :already_done
  """
  @spec reserve(key(), rule(), [option() | max_wait()]) ::
          {:ok, Reservation.t()} | {:error, Error.t()}
  def reserve(key, rule, opts \\ []), do: Receipts.reserve(key, rule, opts)

  @doc """
  Takes a reservation back before its time has come, as if it had never been made: `:too_late` afterwards, and
  `:forfeited` if anything was written to the key since, for the reservations behind it keep their times. Like the next
  two, it uses the receipt up: a second use is `:already_done`, and one of another limiter, or of a limiter that
  `configure/3` or `load/2` has replaced, is a `:bad_receipt`.
  """
  @spec cancel(Receipt.t(), [place()]) :: {:ok, :applied} | {:error, Error.t()}
  def cancel(receipt, opts \\ []), do: Receipts.cancel(receipt, opts)

  @doc """
  Gives `amount` of a receipt's cost back, or all. `:forfeited` while somebody waits for this key. An amount above the cost
  is refused and leaves the receipt good.
  """
  @spec refund(Receipt.t(), non_neg_integer() | :all, [place()]) ::
          {:ok, :applied} | {:error, Error.t()}
  def refund(receipt, amount \\ :all, opts \\ []), do: Receipts.refund(receipt, amount, opts)

  @doc """
  Replaces the cost of a receipt, an estimate, by what was used. Less is refunded. More is debited without a test, so that
  the balance may become negative, by up to one full bucket: `{:ok, :saturated}` says that it was cut there.
  """
  @spec settle(Receipt.t(), non_neg_integer(), [place()]) ::
          {:ok, :applied | :saturated} | {:error, Error.t()}
  def settle(receipt, actual, opts \\ []), do: Receipts.settle(receipt, actual, opts)

  @doc """
  Waits until `key` is admitted, at most `timeout` milliseconds (or `:infinity`), in the order of the calls. One that would
  have to wait longer is refused at once, with the time after which it would be admitted. Options: `:cost` (1).

  The process sleeps and takes no message. When it dies meanwhile, its reservation is given back if no later one was
  made. At most `:max_waiting` callers wait at a time; one more is refused with `:queue_full` unless it need not
  wait. In a namespace with a `ManualClock` the wait ends when that clock has come so far.

      iex> alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter
      iex> [often, seldom] = [make_ref(), make_ref()]
      iex> for _ <- 1..3, do: TokenBucketLimiter.acquire(often, {1, 5}, 60_000)
      [:ok, :ok, :ok]
      iex> :ok = TokenBucketLimiter.acquire(seldom, {1, 60_000}, 10)
      iex> {:error, :rate_limited, _ms} = TokenBucketLimiter.acquire(seldom, {1, 60_000}, 10)
  """
  @spec acquire(key(), rule(), timeout(), [option()]) :: answer()
  def acquire(key, rule, timeout \\ 5_000, opts \\ []) do
    with :ok <- Rules.options(opts, [:cost]),
         {:ok, cost} <- Rules.cost_of(opts),
         {:ok, max_wait_ns} <- Rules.wait(timeout, :timeout),
         {:ok, handle} <- Handle.fetch(opts),
         {:ok, measure} <- Rules.measure(rule, handle) do
      answer = Waiting.acquire(handle, key, rule, measure, cost, max_wait_ns)
      RateLimiterTelemetry.answered(handle, key, rule, cost, answer)
      answer
    end
  end

  @doc """
  Gives a key its full limit back. Tells whether the limiter knew the key. The option `:limit` is the name of the limit that
  measures the key.
  """
  @spec reset(key(), [place() | {:limit, atom()}]) :: {:ok, boolean()} | {:error, Error.t()}
  def reset(key, opts \\ []), do: Admin.reset(key, opts)

  @doc """
  Makes the limit `name`, or changes it while its keys live. What they have left is carried over by the option
  `:strategy`: `:as_is`, as many tokens, at most the new burst; `:proportional`, the same share; `:additive`, also what the
  burst has grown by; `:reset`, a full bucket. `:max_wait_ms` or `:max_wait_ns` is the longest wait of a reservation, one
  window unless given, and stays as it is.

  A fifth rule is refused with `:change_too_soon` while a key may still owe from the first. A burst is at most 2^32 - 1. A change
  of `default_limits` in the application's environment is a change `:as_is`, at the next call of `Infrastructure` that
  asks for the limit.

      iex> alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter
      iex> place = [namespace: {:test, make_ref()}]
      iex> TokenBucketLimiter.put_limit(:export, {10, 60_000}, place)
      :ok
      iex> {:ok, %{remaining: 4}} = TokenBucketLimiter.check("ann", :export, [cost: 6] ++ place)
      iex> TokenBucketLimiter.put_limit(:export, {20, 60_000}, [strategy: :proportional] ++ place)
      :ok
      iex> {:ok, %{remaining: 8, limit: 20}} = TokenBucketLimiter.peek("ann", :export, place)
  """
  @spec put_limit(atom(), rule(), [
          place() | {:strategy, strategy()} | max_wait()
        ]) :: :ok | {:error, Error.t()}
  def put_limit(name, rule, opts \\ []), do: Admin.put_limit(name, rule, opts)

  @doc "The rules of the limits that were used or made so far."
  @spec limits([place()]) :: {:ok, %{atom() => rule()}} | {:error, Error.t()}
  def limits(opts \\ []), do: Admin.limits(opts)

  @doc """
  A decision as HTTP header fields, of the policy `name` and the rule that was checked: `RateLimit-Policy` and `RateLimit` of
  the IETF draft, and `Retry-After` if the call was refused and a wait helps.

      iex> alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter
      iex> {:ok, decision} = TokenBucketLimiter.check(make_ref(), {10, 60_000})
      iex> TokenBucketLimiter.header_fields(decision, "api", {10, 60_000})
      {:ok, [{"ratelimit-policy", ~s("api";q=10;w=60)}, {"ratelimit", ~s("api";r=9;t=6)}]}
  """
  @spec header_fields(Decision.t(), String.t(), rule(), [place()]) ::
          {:ok, [{String.t(), String.t()}]} | {:error, Error.t()}
  def header_fields(%Decision{} = decision, name, rule, opts \\ []),
    do: HeaderFields.of(decision, name, rule, opts)

  @doc """
  Writes what every key owes to the file `path`, which is replaced as a whole. Only its owner may read it: it holds the secret of
  the keys' names. Its folder must be one that the VM may read and write. After `:ok` it will be there after a crash of
  the machine, too; after `:io_failed` the file is as it was, unless the message says that it was replaced, where a disk
  failed at the very end.
  """
  @spec save(Path.t(), [place()]) :: :ok | {:error, Error.t()}
  def save(path, opts \\ []), do: Admin.save(path, opts)

  @doc """
  Replaces the limiter by that of the file `path`, as if it had gone on since it was saved. It has that one's `max_keys`; limits
  keep their rules of now. A file that is damaged, cut short or none of ours is a `:bad_snapshot`, one that cannot be
  read `:io_failed`: the limiter and the file are then as they were.
  """
  @spec load(Path.t(), [place()]) :: :ok | {:error, Error.t()}
  def load(path, opts \\ []), do: Admin.load(path, opts)

  @doc """
  Makes a limiter, or makes it anew: what the old one counted, and its limits, are forgotten. The options are those of the
  table above, over what is configured.
  """
  @spec configure(Names.namespace(), atom(), keyword() | map()) :: :ok | {:error, Error.t()}
  def configure(namespace, name \\ :default, options),
    do: Admin.configure(namespace, name, options)

  @doc "The limiters of a namespace that were used or made so far."
  @spec list(Names.namespace()) :: [atom()]
  def list(namespace \\ :production),
    do: for({name, _handle} <- Names.list(:limiter, namespace), do: name)

  @doc "Forgets a limiter. Its next use makes it anew."
  @spec remove(Names.namespace(), atom()) :: :ok | {:error, Error.t()}
  def remove(namespace, name) do
    with {:ok, _last} <- Names.remove(:limiter, namespace, name), do: :ok
  end

  @doc """
  What a limiter did: `allowed`, `limited`, `never`, `table_full`; `evicted` and `overflowed` keys; receipts that gave
  nothing back (`forfeited`) and groups that did (`rolled_back`); callers that are `waiting` in `acquire/4`; how many live
  keys it is meant for (`capacity`) and has (`live_keys`), and its size in `bytes`.
  """
  @spec stats(Names.namespace(), atom()) :: {:ok, map()} | {:error, Error.t()}
  def stats(namespace \\ :production, name \\ :default), do: Admin.stats(namespace, name)
end
