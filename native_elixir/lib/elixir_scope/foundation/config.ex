defmodule ElixirScope.Foundation.Config do
  @moduledoc """
  The configuration of ElixirScope, for its users: `ElixirScope.Foundation.Services.ConfigServer` of `:production`
  without what only its owner needs.

      iex> alias ElixirScope.Foundation.Config
      iex> Config.get([:ai, :provider])
      {:ok, :mock}
      iex> Config.get_with_default([:no, :such], 7)
      7
      iex> {:error, error} = Config.safe_update([:ai, :api_key], "secret")
      iex> error.code
      1401
  """

  @behaviour ElixirScope.Foundation.Contracts.Configurable

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Services.ConfigServer
  alias ElixirScope.Foundation.Types

  @type path :: ConfigServer.path()
  @type error :: ConfigServer.error()

  @secret [[:ai, :api_key], [:storage, :encryption_key], [:security], [:system, :node_name]]

  @doc "Starts the service unless it runs."
  @spec initialize(keyword()) :: :ok | error()
  defdelegate initialize(opts \\ []), to: ConfigServer

  @doc "How the service is."
  @spec status() :: {:ok, map()} | error()
  defdelegate status(), to: ConfigServer

  @doc "The whole configuration."
  @impl true
  @spec get() :: {:ok, Types.Config.t()} | error()
  defdelegate get(), to: ConfigServer

  @doc "The value at a path."
  @impl true
  @spec get(path()) :: {:ok, term()} | error()
  defdelegate get(path), to: ConfigServer

  @doc "Changes the value at one of `updatable_paths/0`."
  @impl true
  @spec update(path(), term()) :: :ok | error()
  defdelegate update(path, value), to: ConfigServer

  @doc "Checks a configuration."
  @impl true
  @spec validate(Types.Config.t()) :: :ok | error()
  defdelegate validate(config), to: ConfigServer

  @doc "The paths that may change at run time."
  @impl true
  @spec updatable_paths() :: [path()]
  defdelegate updatable_paths(), to: ConfigServer

  @doc "Goes back to the defaults."
  @impl true
  @spec reset() :: :ok | error()
  defdelegate reset(), to: ConfigServer

  @doc "Whether the service runs."
  @impl true
  @spec available?() :: boolean()
  defdelegate available?(), to: ConfigServer

  @doc "Sends the caller the changes; see `ElixirScope.Foundation.Services.ConfigServer`."
  @spec subscribe() :: :ok | error()
  defdelegate subscribe(), to: ConfigServer

  @doc "Sends the caller no more changes."
  @spec unsubscribe() :: :ok | error()
  defdelegate unsubscribe(), to: ConfigServer

  @doc "The value at a path, or the default where that is an error."
  @spec get_with_default(path(), term()) :: term()
  def get_with_default(path, default) do
    case get(path) do
      {:ok, value} -> value
      {:error, _error} -> default
    end
  end

  @doc "As `update/2`; says of a path that is none, or is secret, what is wrong with it."
  @spec safe_update(term(), term()) :: :ok | error()
  def safe_update(path, _value) when not is_list(path),
    do: {:error, Error.refused(:path, path, "a list of atoms", :invalid_path)}

  def safe_update(path, _value) when path in @secret do
    Error.error_result(
      :config_update_forbidden,
      "`path` is #{inspect(path)}, which is secret and may not change at run time",
      context: %{path: path}
    )
  end

  def safe_update(path, value), do: update(path, value)
end
