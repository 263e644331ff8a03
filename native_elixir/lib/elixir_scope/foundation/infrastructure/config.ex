defmodule ElixirScope.Foundation.Infrastructure.Config do
  @moduledoc """
  Reads `config :elixir_scope, :infrastructure`.

  Read at call time, so that `Application.put_env/3` takes effect at once; every level may be a map or a
  keyword list. What a number may be is the native core's business: here only shapes are checked, and an
  unknown key is refused, because a misspelt one would silently leave a service unprotected.
  """

  alias ElixirScope.Foundation.Error

  @breaker_keys [:enabled, :default_config, :services]
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
  What is configured for breakers: `{defaults, services}`, options that are not looked at here.

      iex> ElixirScope.Foundation.Infrastructure.Config.breakers()
      {:ok, {%{call_timeout: 5_000, failure_threshold: 5, reset_timeout: 30_000}, %{}}}
  """
  @spec breakers() :: {:ok, {term(), map()}} | {:error, Error.t()}
  def breakers do
    given = :elixir_scope |> Application.get_env(:infrastructure, %{}) |> to_map()
    section = Map.get(given, :circuit_breakers, %{})

    with :ok <- check_options(:circuit_breakers, section),
         {:ok, section} <- options(section, @breaker_keys, "key of circuit_breakers"),
         services = Map.get(section, :services, %{}),
         :ok <- check_options(:services, services),
         do: {:ok, {Map.get(section, :default_config, %{}), to_map(services)}}
  end

  defp check_options(name, given) do
    if is_map(given) or Keyword.keyword?(given),
      do: :ok,
      else: invalid(name, given, "a map or a keyword list")
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

  defp check_numbers(config, keys) do
    case Enum.find(keys, &(not (is_integer(config[&1]) and config[&1] >= 0))) do
      nil -> {:ok, config}
      key -> invalid(key, config[key], "a non-negative integer")
    end
  end

  defp options(given, allowed, what) do
    with :ok <- check_options(what <> "s", given) do
      map = to_map(given)

      case Map.keys(map) -- allowed do
        [] ->
          {:ok, map}

        [unknown | _] ->
          invalid(what, unknown, "one of #{Enum.map_join(Enum.sort(allowed), ", ", &inspect/1)}")
      end
    end
  end

  defp invalid(argument, value, allowed),
    do: {:error, Error.refused(argument, value, allowed, :invalid_config_value)}

  defp to_map(map) when is_map(map), do: map

  defp to_map(list) when is_list(list),
    do: if(Keyword.keyword?(list), do: Map.new(list), else: %{})

  defp to_map(_other), do: %{}
end
