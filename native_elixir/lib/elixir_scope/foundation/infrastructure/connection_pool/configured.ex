defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Configured do
  @moduledoc false
  # Pools of `config :elixir_scope, :infrastructure, connection_pools: %{name => options}`.
  #
  # A pool whose configuration is wrong does not start and keeps nothing else from starting; whoever asks for it
  # is told why. The pool `:database` is one of SQLite databases unless its options name a worker.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{Config, ConnectionPool, DatabasePool}

  @doc "Child specifications of the configured pools that can start."
  @spec children() :: [Supervisor.child_spec()]
  def children do
    for {:ok, pools} <- [Config.section(:connection_pools)],
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
    with {:ok, pools} <- Config.section(:connection_pools),
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

  @spec options(atom(), term()) :: {:ok, keyword()} | {:error, Error.t()}
  defp options(name, options) do
    with {:ok, options} <- list(name, options) do
      options = Keyword.put(options, :name, name)
      own_worker? = Enum.any?([:worker, :create, :close], &Keyword.has_key?(options, &1))

      with {:ok, options} <-
             if(name == :database and not own_worker?,
               do: DatabasePool.options(options),
               else: {:ok, options}
             ),
           {:ok, _} <- ConnectionPool.Config.new(options),
           do: {:ok, options}
    end
  end

  defp list(_name, options) when is_map(options), do: list(nil, Map.to_list(options))

  defp list(name, options) do
    if Keyword.keyword?(options),
      do: {:ok, options},
      else: {:error, Error.refused(name, options, "a map or a keyword list of options")}
  end
end
