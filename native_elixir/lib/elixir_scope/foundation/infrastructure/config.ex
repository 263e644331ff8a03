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
  # What may stand in a section; pools are named by the user.
  @sections %{
    circuit_breakers: [:enabled, :default_config],
    rate_limiting: [:enabled, :algorithm, :default_limits, :max_keys],
    connection_pools: :any
  }

  @doc "A section as a map, empty when it is absent."
  @spec section(:circuit_breakers | :rate_limiting | :connection_pools) ::
          {:ok, map()} | {:error, Error.t()}
  def section(name) when is_map_key(@sections, name) do
    configured = Application.get_env(:elixir_scope, :infrastructure, %{})

    with {:ok, all} <- options(configured, Map.keys(@sections), "infrastructure section"),
         do: options(Map.get(all, name, %{}), @sections[name], "#{name} option")
  end

  @doc """
  Whether a section says `enabled: true`; off when it says nothing. What is neither yes nor no is an error, for
  a guess would leave a service unprotected or a limit unasked.
  """
  @spec enabled(:circuit_breakers | :rate_limiting) :: {:ok, boolean()} | {:error, Error.t()}
  def enabled(name) do
    with {:ok, section} <- section(name) do
      case Map.get(section, :enabled, false) do
        enabled when is_boolean(enabled) -> {:ok, enabled}
        other -> invalid(:enabled, other, "true or false")
      end
    end
  end

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
    with {:ok, section} <- section(:circuit_breakers),
         configured = Map.get(section, :default_config, %{}),
         {:ok, defaults} <- options(configured, @breaker_keys, "circuit breaker option"),
         {:ok, own} <- options(overrides, @breaker_keys, "circuit breaker option") do
      @breaker_defaults |> Map.merge(defaults) |> Map.merge(own) |> check_breaker()
    end
  end

  @doc "The configuration of a namespace's limiter: `overrides` over what is configured."
  @spec limiter(map() | keyword()) :: {:ok, %{max_keys: pos_integer()}} | {:error, Error.t()}
  def limiter(overrides \\ []) do
    with {:ok, section} <- section(:rate_limiting),
         :ok <- check_algorithm(Map.get(section, :algorithm, :token_bucket)),
         {:ok, own} <- options(overrides, [:max_keys], "limiter option") do
      @limiter_defaults
      |> Map.merge(Map.take(section, [:max_keys]))
      |> Map.merge(own)
      |> check_numbers([:max_keys])
    end
  end

  @doc "The rule `{limit, window_ms}` of this name in `default_limits`, or nil if there is none."
  @spec default_limit(atom()) :: {:ok, term()} | {:error, Error.t()}
  def default_limit(name), do: with({:ok, limits} <- default_limits(), do: {:ok, limits[name]})

  @doc "The names of the rules in `default_limits`; none where that is no map of rules."
  @spec default_limit_names() :: [atom()]
  def default_limit_names do
    case default_limits() do
      {:ok, limits} -> Map.keys(limits)
      {:error, _told_by_the_call} -> []
    end
  end

  defp default_limits do
    with {:ok, section} <- section(:rate_limiting),
         do: options(Map.get(section, :default_limits, %{}), :any, "default limit")
  end

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
      map = Map.new(given)

      case unknown(map, allowed) do
        [] ->
          {:ok, map}

        [unknown | _] ->
          invalid(what, unknown, "one of #{Enum.map_join(Enum.sort(allowed), ", ", &inspect/1)}")
      end
    else
      invalid(what <> "s", given, "a map or a keyword list")
    end
  end

  defp unknown(_map, :any), do: []
  defp unknown(map, allowed), do: Map.keys(map) -- allowed

  defp invalid(argument, value, allowed),
    do: {:error, Error.refused(argument, value, allowed, :invalid_config_value)}
end
