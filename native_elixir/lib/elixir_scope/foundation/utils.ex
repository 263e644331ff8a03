defmodule ElixirScope.Foundation.Utils do
  @moduledoc """
  Small helpers of the Foundation layer: identifiers, times, nested maps, retries and texts.
  """

  import Bitwise

  # An id is 2^20 consecutive numbers a millisecond, and stays below 2^63 until the year 2248: databases store it.
  @sequence_bits 20
  @longest_term 10_000
  @preview_bytes 100
  @longest_pause_ms 30_000

  @doc """
  A positive integer that no other call gives, also not after a restart of the node.

      iex> alias ElixirScope.Foundation.Utils
      iex> Utils.generate_id() != Utils.generate_id()
      true
  """
  @spec generate_id() :: pos_integer()
  def generate_id do
    sequence = System.unique_integer([:positive]) &&& (1 <<< @sequence_bits) - 1
    System.system_time(:millisecond) <<< @sequence_bits ||| sequence
  end

  @doc "A random UUID (version 4, RFC 4122): 36 characters in lower case."
  @spec generate_correlation_id() :: String.t()
  def generate_correlation_id do
    <<a::32, b::16, _::4, c::12, _::2, d::14, e::48>> = :crypto.strong_rand_bytes(16)

    [a, b, 0x4000 ||| c, 0x8000 ||| d, e]
    |> Enum.zip_with([8, 4, 4, 4, 12], fn number, digits ->
      number |> Integer.to_string(16) |> String.downcase() |> String.pad_leading(digits, "0")
    end)
    |> Enum.join("-")
  end

  @doc "Monotonic time in milliseconds: the unit of event timestamps."
  @spec monotonic_timestamp() :: integer()
  def monotonic_timestamp, do: System.monotonic_time(:millisecond)

  @doc "Wall clock time in nanoseconds since 1970."
  @spec wall_timestamp() :: integer()
  def wall_timestamp, do: System.system_time(:nanosecond)

  @doc """
  The term itself, or a short stand-in where its external format is longer than `max_size` bytes (#{@longest_term}).

      iex> ElixirScope.Foundation.Utils.truncate_if_large(:small)
      :small
      iex> ElixirScope.Foundation.Utils.truncate_if_large(String.duplicate("x", 50), 10).truncated
      true
  """
  @spec truncate_if_large(term(), non_neg_integer()) :: term()
  def truncate_if_large(term, max_size \\ @longest_term) do
    case :erlang.external_size(term) do
      size when size > max_size ->
        %{
          truncated: true,
          original_size: size,
          preview:
            term
            |> inspect(limit: 5, printable_limit: @preview_bytes)
            |> String.slice(0, @preview_bytes),
          timestamp: DateTime.utc_now()
        }

      _size ->
        term
    end
  end

  @doc """
  Merges maps at every depth; the right one wins.

      iex> ElixirScope.Foundation.Utils.deep_merge(%{a: %{b: 1, c: 2}}, %{a: %{b: 3}})
      %{a: %{b: 3, c: 2}}
  """
  @spec deep_merge(map(), map()) :: map()
  def deep_merge(left, right),
    do: Map.merge(left, right, fn _key, old, new -> merge(old, new) end)

  defp merge(old, new)
       when is_map(old) and is_map(new) and not is_struct(old) and not is_struct(new),
       do: deep_merge(old, new)

  defp merge(_old, new), do: new

  @doc """
  The value at a path of nested maps.

      iex> alias ElixirScope.Foundation.Utils
      iex> {Utils.fetch_nested(%{a: %{b: nil}}, [:a, :b]), Utils.fetch_nested(%{a: 1}, [:a, :b])}
      {{:ok, nil}, :error}
  """
  @spec fetch_nested(term(), [term()]) :: {:ok, term()} | :error
  def fetch_nested(value, []), do: {:ok, value}

  def fetch_nested(map, [key | rest]) when is_map(map) do
    with {:ok, value} <- Map.fetch(map, key), do: fetch_nested(value, rest)
  end

  def fetch_nested(_leaf, _path), do: :error

  @doc """
  The value at a path of nested maps, or the default.

      iex> ElixirScope.Foundation.Utils.get_nested(%{a: %{b: 1}}, [:a, :x], :none)
      :none
  """
  @spec get_nested(map(), [term()], term()) :: term()
  def get_nested(map, path, default \\ nil) do
    case fetch_nested(map, path) do
      {:ok, value} -> value
      :error -> default
    end
  end

  @doc """
  Puts a value at a path, making the maps on the way; what stands on the way and is no map gives way.

      iex> ElixirScope.Foundation.Utils.put_nested(%{}, [:a, :b], 1)
      %{a: %{b: 1}}
  """
  @spec put_nested(map(), [term()], term()) :: map()
  def put_nested(_map, [], value), do: value
  def put_nested(map, [key], value) when is_map(map), do: Map.put(map, key, value)

  def put_nested(map, [key | rest], value) when is_map(map) do
    inner = if is_map(map[key]), do: map[key], else: %{}
    Map.put(map, key, put_nested(inner, rest, value))
  end

  @doc """
  Runs `fun` until it returns something else than `:error` or an error tuple. A raise counts as
  `{:error, exception}`. After the last attempt its result comes back.

  Options: `:max_attempts` (3), `:base_delay` in ms (100), doubled each time up to `:max_delay` (#{@longest_pause_ms}).

      iex> ElixirScope.Foundation.Utils.retry(fn -> {:error, :always} end, max_attempts: 2, base_delay: 1)
      {:error, :always}
  """
  @spec retry((() -> term()), keyword()) :: term()
  def retry(fun, opts \\ []) when is_function(fun, 0) do
    pause = Keyword.get(opts, :base_delay, 100)

    attempt(
      fun,
      Keyword.get(opts, :max_attempts, 3),
      pause,
      Keyword.get(opts, :max_delay, @longest_pause_ms)
    )
  end

  defp attempt(fun, left, pause, longest) do
    result = rescued(fun)

    if left > 1 and error?(result) do
      Process.sleep(min(pause, longest))
      attempt(fun, left - 1, min(pause * 2, longest), longest)
    else
      result
    end
  end

  defp rescued(fun) do
    fun.()
  rescue
    exception -> {:error, exception}
  end

  defp error?(:error), do: true

  defp error?(result),
    do: is_tuple(result) and tuple_size(result) > 0 and elem(result, 0) == :error

  @doc """
  Runs `fun` and says how long it took, in microseconds: `{result, duration}`.
  """
  @spec measure((() -> result)) :: {result, non_neg_integer()} when result: term()
  def measure(fun) when is_function(fun, 0) do
    {duration, result} = :timer.tc(fun)
    {result, duration}
  end

  @doc """
  A duration in nanoseconds for people.

      iex> Enum.map([999, 1_500, 2_500_000, 3_000_000_000, 90_000_000_000], &ElixirScope.Foundation.Utils.format_duration/1)
      ["999ns", "1.5μs", "2.5ms", "3.0s", "1.5m"]
  """
  @spec format_duration(non_neg_integer()) :: String.t()
  def format_duration(ns) when ns < 1_000, do: "#{ns}ns"
  def format_duration(ns) when ns < 1_000_000, do: "#{Float.round(ns / 1_000, 1)}μs"
  def format_duration(ns) when ns < 1_000_000_000, do: "#{Float.round(ns / 1_000_000, 1)}ms"
  def format_duration(ns) when ns < 60_000_000_000, do: "#{Float.round(ns / 1_000_000_000, 1)}s"
  def format_duration(ns), do: "#{Float.round(ns / 60_000_000_000, 1)}m"

  @doc """
  A size in bytes for people.

      iex> Enum.map([512, 1_536, 3_145_728], &ElixirScope.Foundation.Utils.format_bytes/1)
      ["512 B", "1.5 KB", "3.0 MB"]
  """
  @spec format_bytes(non_neg_integer()) :: String.t()
  def format_bytes(bytes) when bytes < 1_024, do: "#{bytes} B"
  def format_bytes(bytes) when bytes < 1_048_576, do: "#{Float.round(bytes / 1_024, 1)} KB"

  def format_bytes(bytes) when bytes < 1_073_741_824,
    do: "#{Float.round(bytes / 1_048_576, 1)} MB"

  def format_bytes(bytes), do: "#{Float.round(bytes / 1_073_741_824, 1)} GB"
end
