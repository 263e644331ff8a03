defmodule ElixirScope.Foundation.Infrastructure.CircuitBreaker.Stats do
  @moduledoc """
  A circuit breaker as seen at one moment.

  While no call is under way, `admitted` minus `succeeded`, `failed`, `ignored`, `cancelled`, `stale` and `expired` is the
  number of calls whose result nobody told: those that were killed, and those whose permit was dropped.
  """

  alias ElixirScope.Foundation.Infrastructure.CircuitBreaker
  alias ElixirScope.Foundation.Infrastructure.CircuitBreaker.Handle
  alias ElixirScope.Foundation.Infrastructure.Native

  @ns_in_ms 1_000_000
  # The core's way of saying that only somebody in charge can change that.
  @never 0xFFFF_FFFF_FFFF_FFFF

  @typedoc """
  * `state`, `mode`, `level`; `generation`, which grows with each change of them but the level; `opens` since it was
    closed; `live_probes`;
  * `failure_count`: failures that count toward a trip, by their weights; `window_calls`, `slow_calls`, and the
    shares `failure_rate` and `slow_call_rate`, where the policy has a window;
  * `retry_after_ms` (and `_ns`): until a call may be admitted; `:infinity` while forced open;
  * `last_cause`, `last_change_ns`: why and when this generation began, nil and 0 for the first;
  * totals: `admitted`, the results recorded, `reported` without a permit, the calls rejected by reason, and
    `injected` faults;
  * `bytes`: of the native breaker's cell with its configuration, probes and results.
  """
  @type t :: %{
          state: CircuitBreaker.phase(),
          mode: CircuitBreaker.mode(),
          level: CircuitBreaker.level(),
          generation: pos_integer(),
          opens: non_neg_integer(),
          live_probes: non_neg_integer(),
          failure_count: non_neg_integer(),
          window_calls: non_neg_integer(),
          slow_calls: non_neg_integer(),
          failure_rate: float(),
          slow_call_rate: float(),
          retry_after_ms: non_neg_integer() | :infinity,
          retry_after_ns: non_neg_integer() | :infinity,
          last_cause: atom(),
          last_change_ns: non_neg_integer(),
          admitted: non_neg_integer(),
          succeeded: non_neg_integer(),
          failed: non_neg_integer(),
          ignored: non_neg_integer(),
          cancelled: non_neg_integer(),
          stale: non_neg_integer(),
          expired: non_neg_integer(),
          reported: non_neg_integer(),
          rejected_open: non_neg_integer(),
          rejected_half_open: non_neg_integer(),
          rejected_forced_open: non_neg_integer(),
          rejected_degraded: non_neg_integer(),
          injected: non_neg_integer(),
          bytes: pos_integer()
        }

  @doc false
  @spec of(Handle.t()) :: t()
  def of(handle) do
    {core, counts} =
      handle.breaker
      |> Native.breaker_stats()
      |> Map.split([:failures, :failure_rate_bp, :slow_call_rate_bp, :retry_after_ns])

    Map.merge(counts, %{
      failure_count: core.failures,
      failure_rate: core.failure_rate_bp / 10_000,
      slow_call_rate: core.slow_call_rate_bp / 10_000,
      retry_after_ms: retry_after_ms(core.retry_after_ns),
      retry_after_ns: retry_after_ns(core.retry_after_ns)
    })
  end

  # Upwards: whoever comes back after that time shall not be too early.
  @doc false
  @spec retry_after_ms(non_neg_integer()) :: non_neg_integer() | :infinity
  def retry_after_ms(@never), do: :infinity
  def retry_after_ms(ns), do: div(ns + @ns_in_ms - 1, @ns_in_ms)

  @doc false
  @spec retry_after_ns(non_neg_integer()) :: non_neg_integer() | :infinity
  def retry_after_ns(@never), do: :infinity
  def retry_after_ns(ns), do: ns
end
