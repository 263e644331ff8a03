defmodule ElixirScope.Foundation.Config.GracefulDegradation do
  @moduledoc """
  Configuration while the ConfigServer is down: what was read in the last 300 seconds is still known, and an update that
  failed is kept until `retry_pending_updates/0`.

      iex> alias ElixirScope.Foundation.Config.GracefulDegradation
      iex> GracefulDegradation.initialize_fallback_system()
      :ok
      iex> GracefulDegradation.get_with_fallback([:ai, :provider])
      {:ok, :mock}
      iex> GracefulDegradation.get_cache_stats().config_cache_entries >= 1
      true
      iex> GracefulDegradation.cleanup_fallback_system()
      :ok

  The table belongs to whoever initializes it and ends with that process: let a long-lived one do so. Without it,
  calls go to the service alone.
  """

  alias ElixirScope.Foundation.{Config, Error}

  @table :config_fallback_cache
  @life_s 300

  @type path :: Config.path()

  @doc "Makes the table, unless there is one."
  @spec initialize_fallback_system() :: :ok
  def initialize_fallback_system do
    if :ets.whereis(@table) == :undefined,
      do: :ets.new(@table, [:named_table, :public, :set, read_concurrency: true])

    :ok
  rescue
    # Somebody else made it meanwhile.
    ArgumentError -> :ok
  end

  @doc "Drops the table and what it keeps."
  @spec cleanup_fallback_system() :: :ok
  def cleanup_fallback_system do
    with_table(:ok, fn -> :ets.delete(@table) end)
    :ok
  end

  @doc "The value at a path, else the one that was read last, if that is recent, else `:config_unavailable`."
  @spec get_with_fallback(path()) :: {:ok, term()} | {:error, Error.t()}
  def get_with_fallback(path) when is_list(path) do
    case Config.get(path) do
      {:ok, value} ->
        remember(:config_cache, path, value)
        {:ok, value}

      {:error, error} ->
        with :error <- recall(path), do: unavailable(path, error)
    end
  end

  @doc "As `Config.update/2`; an update that fails, for whatever reason, is kept as pending."
  @spec update_with_fallback(path(), term()) :: :ok | Config.error()
  def update_with_fallback(path, value) when is_list(path) do
    case Config.update(path, value) do
      :ok ->
        remember(:config_cache, path, value)
        :ok

      {:error, _error} = error ->
        remember(:pending_update, path, value)
        error
    end
  end

  @doc "Tries the pending updates again; those that fail again stay."
  @spec retry_pending_updates() :: :ok
  def retry_pending_updates do
    pending = with_table([], fn -> :ets.match_object(@table, {{:pending_update, :_}, :_, :_}) end)

    for {{:pending_update, path}, value, _since} = row <- pending,
        Config.update(path, value) == :ok do
      remember(:config_cache, path, value)
      with_table(true, fn -> :ets.delete_object(@table, row) end)
    end

    :ok
  end

  @doc "Drops what is older than #{@life_s} seconds and may not be used any more."
  @spec cleanup_expired_cache() :: :ok
  def cleanup_expired_cache do
    oldest = now() - @life_s

    with_table(0, fn ->
      :ets.select_delete(@table, [
        {{{:config_cache, :_}, :_, :"$1"}, [{:<, :"$1", oldest}], [true]}
      ])
    end)

    :ok
  end

  @doc "How much the table keeps: `total_entries`, `memory_words`, `config_cache_entries`, `pending_update_entries`."
  @spec get_cache_stats() :: %{atom() => non_neg_integer()}
  def get_cache_stats do
    none = %{
      total_entries: 0,
      memory_words: 0,
      config_cache_entries: 0,
      pending_update_entries: 0
    }

    with_table(none, fn ->
      %{
        total_entries: :ets.info(@table, :size),
        memory_words: :ets.info(@table, :memory),
        config_cache_entries: count(:config_cache),
        pending_update_entries: count(:pending_update)
      }
    end)
  end

  defp count(kind), do: :ets.select_count(@table, [{{{kind, :_}, :_, :_}, [], [true]}])

  defp remember(kind, path, value),
    do: with_table(true, fn -> :ets.insert(@table, {{kind, path}, value, now()}) end)

  defp recall(path) do
    case with_table([], fn -> :ets.lookup(@table, {:config_cache, path}) end) do
      [{_key, value, since}] -> if now() - since <= @life_s, do: {:ok, value}, else: :error
      [] -> :error
    end
  end

  defp unavailable(path, error) do
    Error.error_result(
      :config_unavailable,
      "The configuration at #{inspect(path)} is not known now",
      context: %{path: path, original_error: error}
    )
  end

  defp now, do: System.system_time(:second)

  defp with_table(absent, fun) do
    fun.()
  rescue
    ArgumentError -> absent
  end
end
