defmodule ElixirScope.Foundation.Infrastructure.RateLimiterTelemetry do
  @moduledoc """
  Publishes what rate limiters do.

  Telemetry events go to `:telemetry` where that library is loaded, and are added up for the namespace's
  TelemetryService. Their names are the prefix, `[:elixir_scope,
  :foundation, :infra]` or `config :elixir_scope, :telemetry_prefix`, then `:rate_limiter`, then

  | event | when | measurements | metadata |
  | --- | --- | --- | --- |
  | `:request_allowed` | a check, group, reservation or wait was admitted | `count`, `cost` | `namespace`, `limiter`, `key`, `rule` |
  | `:request_denied` | it was not | `count`, `cost`, `retry_after_ms` | the same, and `reason` |

  `key` and `rule` are as the caller gave them; those of a group are lists, and `cost` is its sum. A member of a batch is
  an event of its own. `reason` is `:rate_limited`, `:never`, `:table_full` or `:queue_full`, and `retry_after_ms` is
  `:infinity` for `:never`.

  An event costs more than the check. So those of admitted calls are off and those of denied ones on, until

      config :elixir_scope, :infrastructure,
        rate_limiting: %{events: %{request_allowed: {:one_in, 100}, request_denied: :all}}

  says otherwise, for each of the two or in one word for both: `:all`, `:off`, or `{:one_in, n}`, which picks one call of
  `n` at random. `count` is how many calls the event stands for, 1 or `n`, so a sum of counts is an estimate of the
  calls. A limiter keeps what it was made with; `TokenBucketLimiter.configure/3` takes `:events` as well.
  """

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.Telemetry
  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.{Decision, GroupDecision, Handle}

  @type setting :: :all | :off | {:one_in, pos_integer()}

  @kinds [:request_allowed, :request_denied]
  @defaults %{request_allowed: :off, request_denied: :all}

  # What the configuration says, as one call of how many: nil for none.
  @doc false
  @spec parse(term()) ::
          {:ok, %{request_allowed: pos_integer() | nil, request_denied: pos_integer() | nil}}
          | {:error, Error.t()}
  def parse(events) do
    given =
      cond do
        is_map(events) -> events
        Keyword.keyword?(events) and events != [] -> Map.new(events)
        true -> Map.new(@kinds, &{&1, events})
      end

    shares =
      @defaults |> Map.merge(given) |> Map.new(fn {kind, setting} -> {kind, share(setting)} end)

    if Map.keys(given) -- @kinds == [] and :error not in Map.values(shares),
      do: {:ok, shares},
      else: refuse(events)
  end

  defp share(:all), do: 1
  defp share(:off), do: nil
  defp share({:one_in, n}) when is_integer(n) and n > 0 and n < 0x8000000, do: n
  defp share(_other), do: :error

  defp refuse(events) do
    allowed =
      ":all, :off or {:one_in, 1 to 134217727}, or a map of these for :request_allowed and :request_denied"

    {:error, Error.refused(:events, events, allowed, :invalid_config_value)}
  end

  @doc false
  @spec decided(Handle.t(), term(), term(), non_neg_integer(), Decision.t()) :: :ok
  def decided(handle, key, rule, cost, %{verdict: :allowed}),
    do: allowed(handle, key, rule, cost)

  def decided(handle, key, rule, cost, %{verdict: reason} = decision),
    do: denied(handle, key, rule, cost, reason, Decision.retry_after_ms(decision))

  @doc false
  @spec decided_group(Handle.t(), [{term(), term(), non_neg_integer()}], GroupDecision.t()) :: :ok
  def decided_group(%{allowed_events: nil}, _charges, %{verdict: :allowed}), do: :ok

  def decided_group(handle, charges, group) do
    {keys, rules} = {Enum.map(charges, &elem(&1, 0)), Enum.map(charges, &elem(&1, 1))}
    cost = charges |> Enum.map(&elem(&1, 2)) |> Enum.sum()

    if group.verdict == :allowed,
      do: allowed(handle, keys, rules, cost),
      else: denied(handle, keys, rules, cost, group.verdict, Decision.ms(group.retry_after_ns))
  end

  # As a contract's answer tells it.
  @doc false
  @spec answered(Handle.t(), term(), term(), non_neg_integer(), term()) :: :ok
  def answered(handle, key, rule, cost, :ok), do: allowed(handle, key, rule, cost)

  def answered(handle, key, rule, cost, {:error, :rate_limited, ms}),
    do: denied(handle, key, rule, cost, :rate_limited, ms)

  def answered(handle, key, rule, cost, {:error, %Error{error_type: reason, context: context}})
      when reason in [:never, :table_full, :queue_full],
      do: denied(handle, key, rule, cost, reason, Map.get(context, :retry_after_ms, :infinity))

  def answered(_handle, _key, _rule, _cost, _bad_argument), do: :ok

  defp allowed(%{allowed_events: nil}, _key, _rule, _cost), do: :ok

  defp allowed(%{allowed_events: n} = handle, key, rule, cost) do
    if chosen?(n) do
      measurements = %{count: n, cost: cost}
      metadata = about(handle, key, rule)
      Telemetry.call(handle.namespace, [:rate_limiter, :request_allowed], measurements, metadata)
    end

    :ok
  end

  defp denied(%{denied_events: nil}, _key, _rule, _cost, _reason, _ms), do: :ok

  defp denied(%{denied_events: n} = handle, key, rule, cost, reason, retry_after_ms) do
    if chosen?(n) do
      measurements = %{count: n, cost: cost, retry_after_ms: retry_after_ms}
      metadata = Map.put(about(handle, key, rule), :reason, reason)
      Telemetry.call(handle.namespace, [:rate_limiter, :request_denied], measurements, metadata)
    end

    :ok
  end

  defp about(handle, key, rule),
    do: %{namespace: handle.namespace, limiter: handle.name, key: key, rule: rule}

  defp chosen?(1), do: true
  # Not by `:rand`, whose state is the caller's own.
  defp chosen?(n), do: :erlang.phash2({:erlang.unique_integer(), self()}, n) == 0
end
