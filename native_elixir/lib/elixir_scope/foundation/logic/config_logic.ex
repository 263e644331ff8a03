defmodule ElixirScope.Foundation.Logic.ConfigLogic do
  @moduledoc """
  Reading, changing and comparing configurations, as functions of values; `ConfigServer` holds the current one.

      iex> alias ElixirScope.Foundation.{Logic.ConfigLogic, Types.Config}
      iex> {:ok, config} = ConfigLogic.update_config(Config.new(), [:dev, :debug_mode], true)
      iex> ConfigLogic.diff_configs(Config.new(), config)
      %{dev: %{debug_mode: %{old: false, new: true, path: [:dev, :debug_mode]}}}
  """

  alias ElixirScope.Foundation.Types.{Config, Error}
  alias ElixirScope.Foundation.Utils
  alias ElixirScope.Foundation.Validation.ConfigValidator

  @type path :: [atom()]

  @updatable [
    [:ai, :planning, :sampling_rate],
    [:ai, :planning, :performance_target],
    [:capture, :processing, :batch_size],
    [:capture, :processing, :flush_interval],
    [:interface, :query_timeout],
    [:interface, :max_results],
    [:dev, :debug_mode],
    [:dev, :verbose_logging],
    [:dev, :performance_monitoring]
  ]
  @sections Config.new() |> Map.from_struct() |> Map.keys()

  @doc "The paths that may change at run time."
  @spec updatable_paths() :: [path()]
  def updatable_paths, do: @updatable

  @doc "Whether this path may change at run time."
  @spec updatable_path?(term()) :: boolean()
  def updatable_path?(path), do: path in @updatable

  @doc "The configuration with another value, if the path may change and the value is allowed."
  @spec update_config(Config.t(), path(), term()) :: {:ok, Config.t()} | {:error, Error.t()}
  def update_config(%Config{} = config, path, value) do
    if updatable_path?(path) do
      updated = put_in(config, path, value)
      with :ok <- ConfigValidator.validate(updated), do: {:ok, updated}
    else
      error(
        :config_update_forbidden,
        :runtime,
        "`path` is #{inspect(path)}, which may not change at run time",
        %{
          path: path,
          allowed_paths: @updatable
        }
      )
    end
  end

  @doc """
  The value at a path; the path `[]` is the whole configuration.

      iex> alias ElixirScope.Foundation.{Logic.ConfigLogic, Types.Config}
      iex> ConfigLogic.get_config_value(Config.new(), [:ai, :provider])
      {:ok, :mock}
  """
  @spec get_config_value(Config.t(), path()) :: {:ok, term()} | {:error, Error.t()}
  def get_config_value(%Config{} = config, path) when is_list(path) do
    with :error <- Utils.fetch_nested(config, path) do
      message = "`path` is #{inspect(path)}, where the configuration has nothing"
      error(:config_path_not_found, :access, message, %{path: path})
    end
  end

  @doc """
  The defaults, the environment of the application `:elixir_scope` merged in, then `opts` put over whole sections.
  """
  @spec build_config(keyword()) :: {:ok, Config.t()} | {:error, Error.t()}
  def build_config(opts \\ []) do
    config =
      Config.new()
      |> merge_env_config(Application.get_all_env(:elixir_scope))
      |> merge_opts_config(opts)

    with :ok <- ConfigValidator.validate(config), do: {:ok, config}
  end

  @doc """
  Merges an application environment in at every depth; each level may be a map or a keyword list, and what is no
  section of the configuration is skipped. `{:system, variable}` stands for an environment variable of the
  operating system.
  """
  @spec merge_env_config(Config.t(), keyword() | map()) :: Config.t()
  def merge_env_config(%Config{} = config, env) do
    for {section, value} <- env, section in @sections, reduce: config do
      config -> Map.update!(config, section, &merge(&1, value))
    end
  end

  defp merge(old, {:system, variable}) when is_binary(variable), do: from_system(old, variable)

  defp merge(old, new) when is_map(old) do
    if is_map(new) or Keyword.keyword?(new),
      do: Map.merge(old, Map.new(new), fn _key, left, right -> merge(left, right) end),
      else: new
  end

  defp merge(_old, new), do: new

  # A name stands for the atom that it spells, if the validator's or anybody's code knows it.
  defp from_system(old, variable) do
    case System.get_env(variable) do
      nil -> old
      text when is_atom(old) and not is_nil(old) -> existing_atom(text)
      text -> text
    end
  end

  defp existing_atom(text) do
    String.to_existing_atom(text)
  rescue
    ArgumentError -> text
  end

  @doc "Puts sections over those of the configuration, unmerged; other options are skipped."
  @spec merge_opts_config(Config.t(), keyword()) :: Config.t()
  def merge_opts_config(%Config{} = config, opts),
    do: struct(config, Keyword.take(opts, @sections))

  @doc "The defaults alone, without the application's environment."
  @spec reset_config() :: Config.t()
  def reset_config, do: Config.new()

  @doc "What changed: a nested map with `%{old, new, path}` at each place that differs, empty when equal."
  @spec diff_configs(Config.t(), Config.t()) :: map()
  def diff_configs(%Config{} = old, %Config{} = new),
    do: diff(Map.from_struct(old), Map.from_struct(new), [])

  defp diff(old, new, path) do
    for key <- Enum.uniq(Map.keys(old) ++ Map.keys(new)), old[key] !== new[key], into: %{} do
      {key, change(old[key], new[key], path ++ [key])}
    end
  end

  defp change(old, new, path) when is_map(old) and is_map(new), do: diff(old, new, path)
  defp change(old, new, path), do: %{old: old, new: new, path: path}

  defp error(type, subcategory, message, context) do
    {:error,
     Error.new(
       code: nil,
       error_type: type,
       message: message,
       severity: :medium,
       category: :config,
       subcategory: subcategory,
       context: context
     )}
  end
end
