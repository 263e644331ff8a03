defmodule Demo.Clock do
  @moduledoc """
  CLOCK_MONOTONIC in nanoseconds, as the other processes of the machine read it.

  `System.monotonic_time/1` has an origin and corrections of its own; the performance counter has neither.
  """

  @spec now_ns() :: non_neg_integer()
  def now_ns, do: :os.perf_counter(:nanosecond)

  @doc "Sleeps until an instant; not at all if it has passed."
  @spec sleep_until(integer()) :: :ok
  def sleep_until(instant_ns) do
    case instant_ns - now_ns() do
      left when left > 0 -> Process.sleep(div(left + 999_999, 1_000_000))
      _ -> :ok
    end
  end
end
