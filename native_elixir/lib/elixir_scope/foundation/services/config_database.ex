defmodule ElixirScope.Foundation.Services.ConfigDatabase do
  @moduledoc """
  Versions of the configuration in a database, the table `elixir_scope_configs`: one row a namespace and version, with
  the time of writing and the configuration as an external term.

  The next version is found and written, and the row is read back, in one transaction that holds the write lock: of
  two writers one comes after the other, and what is returned is what the database has.
  """

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.DatabasePool
  alias ElixirScope.Foundation.ProcessRegistry
  alias ElixirScope.Foundation.Services.Database
  alias ElixirScope.Foundation.Types.Config

  @table """
  CREATE TABLE IF NOT EXISTS elixir_scope_configs (
    namespace TEXT NOT NULL,
    version INTEGER NOT NULL,
    written_at BIGINT NOT NULL,
    config BYTEA NOT NULL,
    PRIMARY KEY (namespace, version))
  """
  @insert """
  INSERT INTO elixir_scope_configs (namespace, version, written_at, config)
  VALUES ($1, (SELECT COALESCE(MAX(version), 0) + 1 FROM elixir_scope_configs WHERE namespace = $1), $2, $3)
  """
  @latest """
  SELECT version, written_at, config FROM elixir_scope_configs
  WHERE namespace = $1 ORDER BY version DESC LIMIT 1
  """

  @type stored :: %{version: pos_integer(), written_at: DateTime.t(), config: term()}

  @doc "Writes the next version and returns it as read back."
  @spec write(ProcessRegistry.namespace(), Config.t() | map() | keyword()) ::
          {:ok, stored()} | {:error, Error.t()}
  def write(namespace, config) do
    with :ok <- check(config) do
      Database.transaction(namespace, @table, &write_row(&1, namespace, config))
    end
  end

  @doc "The latest version."
  @spec read(ProcessRegistry.namespace()) :: {:ok, stored()} | {:error, Error.t()}
  def read(namespace) do
    Database.transaction(namespace, @table, &read_row(&1, namespace))
  end

  defp write_row(connection, namespace, config) do
    now = System.system_time(:microsecond)
    blob = {:blob, :erlang.term_to_binary(config, [:compressed])}

    with {:ok, _} <- DatabasePool.exec(connection, @insert, [inspect(namespace), now, blob]),
         do: read_row(connection, namespace)
  end

  defp read_row(connection, namespace) do
    case DatabasePool.query(connection, @latest, [inspect(namespace)]) do
      {:ok, %{rows: [{version, written_at, {:blob, config}}]}} ->
        written_at = DateTime.from_unix!(written_at, :microsecond)
        {:ok, %{version: version, written_at: written_at, config: :erlang.binary_to_term(config)}}

      {:ok, %{rows: []}} ->
        Error.error_result(
          :config_not_found,
          "The database has no configuration of this namespace",
          context: %{namespace: namespace}
        )

      {:error, _error} = error ->
        error
    end
  end

  defp check(config) do
    if is_map(config) or Keyword.keyword?(config),
      do: :ok,
      else:
        {:error, Error.refused(:config_data, config, "a map or a keyword list", :invalid_input)}
  end
end
