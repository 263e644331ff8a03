defmodule ElixirScope.Foundation.Infrastructure.Config do
  @moduledoc """
  Reads `config :elixir_scope, :infrastructure`.

  Read at call time, so that `Application.put_env/3` takes effect at once; every level may be a map or a
  keyword list. What a number may be is the native core's business: here only shapes are checked, and an
  unknown key is refused, because a misspelt one would silently leave a service unprotected.
  """

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.RateLimiterTelemetry

  @limiter_defaults %{max_keys: 65_536, full_policy: :deny_new, max_waiting: 1_024, events: %{}}
  @limiter_options Map.keys(@limiter_defaults)
  @full_policies [:deny_new, :evict_most_full, :overflow_key]
  # What may stand in a section; pools are named by the user.
  @sections %{
    circuit_breakers: [:enabled, :default_config, :services],
    rate_limiting:
      [:enabled, :algorithm, :default_limits, :hierarchies, :limiters] ++ @limiter_options,
    connection_pools: :any
  }

  @typedoc "What was configured when it was read: of each section what it holds and what its switch says."
  @opaque t :: %{
            atom() => {{:ok, map()} | {:error, Error.t()}, {:ok, boolean()} | {:error, Error.t()}}
          }

  @doc """
  What is configured now, for those of the functions below that take it: a call that asks for several things reads
  once, for reading takes longer than all else that they do.
  """
  @spec read() :: t()
  def read do
    configured = environment()

    case :persistent_term.get(__MODULE__, :none) do
      {^configured, sections} -> sections
      _another_configuration -> check_sections(configured)
    end
  end

  # What `Application.get_env/3` reads, without its look at the key: each protected call pays for it.
  defp environment do
    case :application.get_env(:elixir_scope, :infrastructure) do
      {:ok, configured} -> configured
      :undefined -> %{}
    end
  end

  # Each protected call reads, so what was found is kept together with what it was read from.
  defp check_sections(configured) do
    sections =
      Map.new(@sections, fn {name, _allowed} ->
        section = check(name, configured)
        {name, {section, switch(section)}}
      end)

    :persistent_term.put(__MODULE__, {configured, sections})
    sections
  end

  defp switch({:ok, %{enabled: enabled}}) when is_boolean(enabled), do: {:ok, enabled}
  defp switch({:ok, %{enabled: other}}), do: invalid(:enabled, other, "true or false")
  defp switch({:ok, _says_nothing}), do: {:ok, false}
  defp switch(error), do: error

  defp check(name, configured) do
    with {:ok, all} <- options(configured, Map.keys(@sections), "infrastructure section"),
         do: options(Map.get(all, name, %{}), @sections[name], "#{name} option")
  end

  @doc "A section as a map, empty when it is absent."
  @spec section(:circuit_breakers | :rate_limiting | :connection_pools, t()) ::
          {:ok, map()} | {:error, Error.t()}
  def section(name, configured \\ read()) when is_map_key(@sections, name),
    do: configured |> Map.fetch!(name) |> elem(0)

  @doc """
  Whether a section says `enabled: true`; off when it says nothing. What is neither yes nor no is an error, for
  a guess would leave a service unprotected or a limit unasked.
  """
  @spec enabled(:circuit_breakers | :rate_limiting, t()) ::
          {:ok, boolean()} | {:error, Error.t()}
  def enabled(name, configured \\ read())

  def enabled(:circuit_breakers, %{circuit_breakers: {_section, enabled}}), do: enabled
  def enabled(:rate_limiting, %{rate_limiting: {_section, enabled}}), do: enabled

  @doc """
  What is configured for breakers: `{defaults, services}`, options that are not looked at here.

      iex> ElixirScope.Foundation.Infrastructure.Config.breakers()
      {:ok, {%{call_timeout: 5_000, failure_threshold: 5, reset_timeout: 30_000}, %{}}}
  """
  @spec breakers() :: {:ok, {term(), map()}} | {:error, Error.t()}
  def breakers do
    with {:ok, section} <- section(:circuit_breakers),
         services = Map.get(section, :services, %{}),
         {:ok, services} <- options(services, :any, "service"),
         do: {:ok, {Map.get(section, :default_config, %{}), services}}
  end

  @doc """
  The configuration of a limiter: `overrides` over what `limiters` says of this name, over what the section says of all.
  """
  @spec limiter(atom(), map() | keyword()) :: {:ok, map()} | {:error, Error.t()}
  def limiter(name, overrides \\ []) do
    with {:ok, section} <- section(:rate_limiting),
         :ok <- check_algorithm(Map.get(section, :algorithm, :token_bucket)),
         {:ok, limiters} <- options(Map.get(section, :limiters, %{}), :any, "limiter"),
         {:ok, named} <-
           options(Map.get(limiters, name, %{}), @limiter_options, "limiter option"),
         {:ok, own} <- options(overrides, @limiter_options, "limiter option") do
      @limiter_defaults
      |> Map.merge(Map.take(section, @limiter_options))
      |> Map.merge(named)
      |> Map.merge(own)
      |> check_limiter()
    end
  end

  defp check_limiter(config) do
    with {:ok, config} <- check_numbers(config, [:max_keys, :max_waiting]),
         :ok <- check_policy(config.full_policy),
         {:ok, events} <- RateLimiterTelemetry.parse(config.events),
         do: {:ok, %{config | events: events}}
  end

  defp check_policy(policy) when policy in @full_policies, do: :ok

  defp check_policy(other),
    do: invalid(:full_policy, other, ":deny_new, :evict_most_full or :overflow_key")

  @doc "The levels of this name in `hierarchies`, or nil if there are none."
  @spec hierarchy(atom()) :: {:ok, term()} | {:error, Error.t()}
  def hierarchy(name), do: with({:ok, all} <- hierarchies(), do: {:ok, all[name]})

  @doc "The names in `hierarchies`."
  @spec hierarchy_names() :: [atom()]
  def hierarchy_names, do: names(hierarchies())

  defp hierarchies do
    with {:ok, section} <- section(:rate_limiting),
         do: options(Map.get(section, :hierarchies, %{}), :any, "hierarchy")
  end

  @doc "The rule `{limit, window_ms}` of this name in `default_limits`, or nil if there is none."
  @spec default_limit(atom(), t()) :: {:ok, term()} | {:error, Error.t()}
  def default_limit(name, configured \\ read()) do
    case section(:rate_limiting, configured) do
      {:ok, %{default_limits: limits}} when is_map(limits) -> {:ok, Map.get(limits, name)}
      {:ok, _no_map} -> with({:ok, limits} <- default_limits(), do: {:ok, limits[name]})
      error -> error
    end
  end

  @doc "The names of the rules in `default_limits`; none where that is no map of rules."
  @spec default_limit_names() :: [atom()]
  def default_limit_names, do: names(default_limits())

  defp names({:ok, map}), do: Map.keys(map)
  defp names({:error, _told_by_the_call}), do: []

  defp default_limits do
    with {:ok, section} <- section(:rate_limiting),
         do: options(Map.get(section, :default_limits, %{}), :any, "default limit")
  end

  defp check_algorithm(:token_bucket), do: :ok
  defp check_algorithm(other), do: invalid(:algorithm, other, ":token_bucket")

  defp check_numbers(config, keys) do
    case Enum.find(keys, &(not (is_integer(config[&1]) and config[&1] >= 0))) do
      nil -> {:ok, config}
      key -> invalid(key, config[key], "a non-negative integer")
    end
  end

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
