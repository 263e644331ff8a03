defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Configured do
  @moduledoc false
  # Pools of `config :elixir_scope, :infrastructure, connection_pools: %{name => options}`.
  #
  # A pool whose configuration is wrong does not start and keeps nothing else from starting; whoever asks for it
  # is told why. The pool `:database` is one of SQLite databases unless its options name a worker. Where they name no
  # database either, it is the one in the folder of `config :elixir_scope, storage: %{warm: %{enable: true, path: ...}}`.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{Config, ConnectionPool, DatabasePool}
  alias ElixirScope.Foundation.Logic.ConfigLogic

  @file_name "elixir_scope.db"

  @doc "Child specifications of the configured pools that can start."
  @spec children() :: [Supervisor.child_spec()]
  def children do
    for {:ok, pools} <- [pools()],
        {name, options} <- pools,
        {:ok, options} <- [options(name, options)] do
      ConnectionPool.child_spec(options)
    end
  end

  @doc "Why there is no such pool."
  @spec why_not(term()) :: String.t()
  def why_not({:production, name}), do: why_not(name)
  def why_not(:database_pool), do: why_not(:database)

  def why_not(name) when is_atom(name) do
    with {:ok, pools} <- pools(),
         {:ok, options} <- Map.fetch(pools, name),
         {:ok, _} <- options(name, options) do
      "it is configured, but it does not run on this node, #{node()}"
    else
      :error -> "none of this name is configured or started on this node, #{node()}"
      {:error, error} -> "the configuration is wrong: #{error.message}"
    end
  end

  def why_not(_pool),
    do: "a pool is addressed by its name or by {namespace, name} on its node; this is #{node()}"

  # Warm storage is a pool of its own where none is configured.
  defp pools do
    with {:ok, pools} <- Config.section(:connection_pools),
         do: {:ok, if(warm_folder(), do: Map.put_new(pools, :database, %{}), else: pools)}
  end

  # A configuration that is wrong is told by the services, which do not start with it.
  defp warm_folder do
    case ConfigLogic.build_config() do
      {:ok, %{storage: %{warm: %{enable: true, path: path}}}} -> path
      _off_or_wrong -> nil
    end
  end

  @spec options(atom(), term()) :: {:ok, keyword()} | {:error, Error.t()}
  defp options(name, options) do
    with {:ok, options} <- list(name, options) do
      options = Keyword.put(options, :name, name)
      own_worker? = Enum.any?([:worker, :create, :close], &Keyword.has_key?(options, &1))

      with {:ok, options} <-
             if(name == :database and not own_worker?,
               do: database(options),
               else: {:ok, options}
             ),
           {:ok, _} <- ConnectionPool.Config.new(options),
           do: {:ok, options}
    end
  end

  defp database(options) do
    folder = warm_folder()

    if folder == nil or Keyword.has_key?(options, :path) or Keyword.has_key?(options, :adapter) do
      DatabasePool.options(options)
    else
      with :ok <- make(folder),
           do: DatabasePool.options([path: Path.join(folder, @file_name)] ++ options)
    end
  end

  defp make(folder) do
    with {:error, reason} <- File.mkdir_p(folder) do
      {:error,
       Error.refused("storage.warm.path", folder, "a folder; it cannot be made: #{reason}")}
    end
  end

  defp list(_name, options) when is_map(options), do: list(nil, Map.to_list(options))

  defp list(name, options) do
    if Keyword.keyword?(options),
      do: {:ok, options},
      else: {:error, Error.refused(name, options, "a map or a keyword list of options")}
  end
end
