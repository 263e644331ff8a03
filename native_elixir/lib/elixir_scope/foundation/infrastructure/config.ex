defmodule ElixirScope.Foundation.Infrastructure.Config do
  @moduledoc """
  Reads `config :elixir_scope, :infrastructure`.

  Read at call time, so that `Application.put_env/3` takes effect at once; every level may be a map or a
  keyword list. What a number may be is the native core's business: here only shapes are checked, and an
  unknown key is refused, because a misspelt one would silently leave a service unprotected.
  """

  alias ElixirScope.Foundation.Error

  @type breaker :: %{
          failure_threshold: pos_integer(),
          reset_timeout: duration(),
          call_timeout: pos_integer() | :infinity,
          half_open_permits: pos_integer(),
          successes_to_close: pos_integer(),
          probe_lease: duration()
        }
  @typedoc "Milliseconds, or a number with its unit."
  @type duration :: non_neg_integer() | {non_neg_integer(), :nanosecond}

  @breaker_defaults %{
    failure_threshold: 5,
    reset_timeout: 30_000,
    call_timeout: 5_000,
    half_open_permits: 1,
    successes_to_close: 1,
    probe_lease: 60_000
  }
  @breaker_keys Map.keys(@breaker_defaults)
  @durations [:reset_timeout, :probe_lease]
  @limiter_defaults %{max_keys: 65_536}
  @sections [:circuit_breakers, :rate_limiting, :connection_pools]

  @doc "A section as a map; empty when it is absent or not a map."
  @spec section(:circuit_breakers | :rate_limiting | :connection_pools) :: map()
  def section(name) when name in @sections do
    :elixir_scope
    |> Application.get_env(:infrastructure, %{})
    |> to_map()
    |> Map.get(name)
    |> to_map()
  end

  @doc "Whether a section says `enabled: true`."
  @spec enabled?(:circuit_breakers | :rate_limiting) :: boolean()
  def enabled?(name), do: Map.get(section(name), :enabled) == true

  @doc """
  The configuration of a breaker: `overrides` over the configured defaults over the built-in ones.

      iex> alias ElixirScope.Foundation.Infrastructure.Config
      iex> {:ok, config} = Config.breaker(reset_timeout: 100)
      iex> {config.reset_timeout, config.failure_threshold}
      {100, 5}
      iex> {:error, error} = Config.breaker(reset_timout: 100)
      iex> error.message
      "`circuit breaker option` is :reset_timout, allowed is one of " <>
        ":call_timeout, :failure_threshold, :half_open_permits, :probe_lease, :reset_timeout, :successes_to_close"
  """
  @spec breaker(map() | keyword()) :: {:ok, breaker()} | {:error, Error.t()}
  def breaker(overrides \\ []) do
    configured = Map.get(section(:circuit_breakers), :default_config, %{})

    with {:ok, defaults} <- options(configured, @breaker_keys, "circuit breaker option"),
         {:ok, own} <- options(overrides, @breaker_keys, "circuit breaker option") do
      @breaker_defaults |> Map.merge(defaults) |> Map.merge(own) |> check_breaker()
    end
  end

  @doc "The configuration of a namespace's limiter: `overrides` over what is configured."
  @spec limiter(map() | keyword()) :: {:ok, %{max_keys: pos_integer()}} | {:error, Error.t()}
  def limiter(overrides \\ []) do
    section = section(:rate_limiting)
    algorithm = Map.get(section, :algorithm, :token_bucket)

    with :ok <- check_algorithm(algorithm),
         {:ok, own} <- options(overrides, [:max_keys], "limiter option") do
      @limiter_defaults
      |> Map.merge(Map.take(section, [:max_keys]))
      |> Map.merge(own)
      |> check_numbers([:max_keys])
    end
  end

  @doc "The rule `{limit, window_ms}` of this name in `default_limits`, or nil."
  @spec default_limit(atom()) :: {pos_integer(), pos_integer()} | nil
  def default_limit(name),
    do: Map.get(default_limits(), name)

  @doc "The names of the rules in `default_limits`."
  @spec default_limit_names() :: [term()]
  def default_limit_names, do: Map.keys(default_limits())

  defp default_limits,
    do: :rate_limiting |> section() |> Map.get(:default_limits) |> to_map()

  defp check_algorithm(:token_bucket), do: :ok
  defp check_algorithm(other), do: invalid(:algorithm, other, ":token_bucket")

  defp check_breaker(config) do
    with {:ok, config} <- check_numbers(config, @breaker_keys -- [:call_timeout | @durations]),
         {:ok, config} <- check_durations(config) do
      case config.call_timeout do
        :infinity -> {:ok, config}
        ms when is_integer(ms) and ms > 0 and ms <= 0xFFFF_FFFF -> {:ok, config}
        other -> invalid(:call_timeout, other, "1 to 2^32 - 1 milliseconds, or :infinity")
      end
    end
  end

  defp check_numbers(config, keys) do
    case Enum.find(keys, &(not (is_integer(config[&1]) and config[&1] >= 0))) do
      nil -> {:ok, config}
      key -> invalid(key, config[key], "a non-negative integer")
    end
  end

  defp check_durations(config) do
    case Enum.find(@durations, &(not duration?(config[&1]))) do
      nil -> {:ok, config}
      key -> invalid(key, config[key], "non-negative milliseconds, or {n, :nanosecond}")
    end
  end

  defp duration?({n, :nanosecond}), do: duration?(n)
  defp duration?(n), do: is_integer(n) and n >= 0

  @doc "A duration in nanoseconds."
  @spec nanoseconds(duration()) :: non_neg_integer()
  def nanoseconds({n, :nanosecond}), do: n
  def nanoseconds(ms), do: ms * 1_000_000

  defp options(given, allowed, what) do
    if is_map(given) or Keyword.keyword?(given) do
      map = to_map(given)

      case Map.keys(map) -- allowed do
        [] ->
          {:ok, map}

        [unknown | _] ->
          invalid(what, unknown, "one of #{Enum.map_join(Enum.sort(allowed), ", ", &inspect/1)}")
      end
    else
      invalid(what <> "s", given, "a map or a keyword list")
    end
  end

  defp invalid(argument, value, allowed),
    do: {:error, Error.refused(argument, value, allowed, :invalid_config_value)}

  defp to_map(map) when is_map(map), do: map

  defp to_map(list) when is_list(list),
    do: if(Keyword.keyword?(list), do: Map.new(list), else: %{})

  defp to_map(_other), do: %{}
end
