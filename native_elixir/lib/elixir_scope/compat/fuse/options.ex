defmodule ElixirScope.Compat.Fuse.Options do
  @moduledoc false
  # fuse's options as those of the native core. Shapes are looked at here, ranges by the core.

  alias ElixirScope.Compat.Fuse
  alias ElixirScope.Foundation.Infrastructure.Native

  @ns_in_ms 1_000_000
  @whole_bp 10_000
  # What does not fit in a word is too large for the core as well, which says so.
  @largest 0xFFFF_FFFF_FFFF_FFFF

  # What the core's options are called here, and what one unit of them is.
  @ours %{
    "tolerated_failures" => {"max_r", ""},
    "period_ns" => {"max_t", " nanoseconds"},
    "open_for_ns" => {"the reset time", " nanoseconds"},
    "max_open_ns" => {"max_reset_timeout", " nanoseconds"},
    "backoff_percent" => {"backoff", " per cent"},
    "jitter_bp" => {"jitter", ""}
  }

  defguardp is_count(n) when is_integer(n) and n >= 0

  @typedoc "What a whole fuse is told as."
  @type up :: :ok | {:gradual, float()}

  @doc "What a whole fuse is told as, and the core's options; or what is wrong."
  @spec parse(Fuse.options() | term()) :: {:ok, up(), map()} | {:error, binary()}
  def parse({strategy, refresh}) do
    with {:ok, up, counting} <- strategy(strategy),
         {:ok, opening} <- refresh(refresh) do
      given = Map.new(Map.merge(counting, opening), fn {key, value} -> {key, fit(value)} end)
      {:ok, up, Map.merge(Native.breaker_defaults(), given)}
    end
  end

  def parse(_other), do: {:error, "not {strategy, refresh}"}

  @doc "The core's refusal in fuse's words."
  @spec explain({binary(), non_neg_integer(), binary()}) :: binary()
  def explain({argument, value, allowed}) do
    {ours, unit} = @ours[argument]
    "#{ours} is #{value}, allowed is #{allowed}#{unit}"
  end

  defp strategy({:standard, max_r, max_t}) when is_count(max_r) and is_count(max_t),
    do: {:ok, :ok, counting(max_r, max_t)}

  defp strategy({:fault_injection, rate, max_r, max_t})
       when is_float(rate) and rate > 0.0 and rate <= 1.0 and is_count(max_r) and max_r > 0 and
              is_count(max_t) do
    # A rate that rounds to none would be silently off.
    turned_down = max(round(rate * @whole_bp), 1)
    {:ok, {:gradual, rate}, Map.put(counting(max_r, max_t), :admit_bp, @whole_bp - turned_down)}
  end

  defp strategy(_other) do
    {:error,
     "the strategy is neither {:standard, max_r >= 0, max_t} nor {:fault_injection, 0.0 < rate <= 1.0, max_r > 0, max_t}"}
  end

  # No levels before the fuse blows: nobody here would hear of them.
  defp counting(max_r, max_t) do
    %{
      policy: :failures_in_period,
      tolerated_failures: max_r,
      period_ns: max_t * @ns_in_ms,
      level_light_bp: @whole_bp,
      level_medium_bp: @whole_bp,
      level_heavy_bp: @whole_bp
    }
  end

  defp refresh({:reset, ms}) when is_count(ms),
    do: {:ok, %{open_for_ns: ms * @ns_in_ms, skip_half_open: true}}

  defp refresh({:probe, ms}), do: refresh({:probe, ms, []})

  defp refresh({:probe, ms, options}) when is_count(ms) and is_list(options) do
    growth = Enum.map(options, &growth/1)

    if :error in growth,
      do:
        {:error,
         "the options of :probe are backoff >= 1, max_reset_timeout and 0.0 <= jitter < 1.0"},
      else: {:ok, Enum.into(growth, %{open_for_ns: ms * @ns_in_ms, skip_half_open: false})}
  end

  defp refresh(_other),
    do: {:error, "the refresh is neither {:reset, ms} nor {:probe, ms} nor {:probe, ms, options}"}

  defp growth({:backoff, factor}) when is_number(factor) and factor >= 1 and factor <= @whole_bp,
    do: {:backoff_percent, round(factor * 100)}

  defp growth({:max_reset_timeout, ms}) when is_count(ms), do: {:max_open_ns, ms * @ns_in_ms}

  defp growth({:jitter, share}) when is_float(share) and share >= 0.0 and share < 1.0,
    do: {:jitter_bp, round(share * @whole_bp)}

  defp growth(_other), do: :error

  defp fit(value) when is_integer(value), do: min(value, @largest)
  defp fit(value), do: value
end
