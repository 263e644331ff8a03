defmodule ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Waiting do
  @moduledoc false
  # Waits for the grant of a reservation. The native library watches the caller: one that dies gives its reservation back.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{ManualClock, Native}
  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.{Decision, Handle, Rules}

  # The longest that a process waits without a look at the limiter's clock, and where a test moves that by hand.
  @slice_ms 3_600_000
  @manual_slice_ms 5

  @spec acquire(Handle.t(), term(), term(), term(), non_neg_integer(), non_neg_integer()) ::
          :ok | {:error, :rate_limited, pos_integer()} | {:error, Error.t()}
  def acquire(handle, key, rule, measure, cost, max_wait_ns) do
    native = &Native.limiter_wait(handle.native, &1, measure, cost, max_wait_ns)

    case Rules.fit(key, native) do
      {:error, reason} ->
        {:error, Rules.refused(reason, key, rule)}

      {{:allowed, _remaining, _limit, _retry, _reset}, _now, nil} ->
        :ok

      {{:allowed, _remaining, _limit, _retry, _reset}, grant_at_ns, waiter} ->
        sleep_until(handle, grant_at_ns)
        Native.waiter_done(waiter)

      {{verdict, _remaining, _limit, retry_after_ns, _reset}, _now, nil} ->
        Rules.answer({verdict, Decision.ms(retry_after_ns)}, key, rule, cost)
    end
  end

  # A timer may fire before its time as another clock sees it.
  defp sleep_until(handle, grant_at_ns) do
    left_ns = grant_at_ns - Native.limiter_now(handle.native)

    if left_ns > 0 do
      ms = min(Decision.ms(left_ns), slice(handle.namespace))

      receive do
      after
        ms -> sleep_until(handle, grant_at_ns)
      end
    end
  end

  defp slice(namespace) do
    if ManualClock.clock(namespace) == :monotonic, do: @slice_ms, else: @manual_slice_ms
  end
end
