defmodule ElixirScope.Compat.ExRated.Server do
  @moduledoc false
  # Drops windows that are over, and keeps the file. The table is not its own, so it may crash.
  use GenServer

  alias ElixirScope.Compat.ExRated.{Buckets, Snapshot}
  alias ElixirScope.Foundation.Infrastructure.Telemetry

  @longest_timer_ms 0xFFFF_FFFF

  @defaults [
    timeout: 90_000_000,
    cleanup_rate: 60_000,
    persistent: false,
    ets_table_name: :elixir_scope_ex_rated_buckets,
    file: nil
  ]
  # What the functions of ex_rated take; table and file are for all servers the same.
  @arguments [:timeout, :cleanup_rate, :persistent]

  @type settings :: %{
          timeout: pos_integer(),
          cleanup_rate: pos_integer(),
          persistent: boolean(),
          ets_table_name: atom(),
          file: Path.t()
        }

  @doc "What is configured, under `args`."
  @spec settings!(keyword()) :: settings()
  def settings!(args) do
    check_keys!(args, @arguments, "argument")
    settings = configured() |> Map.merge(Map.new(args)) |> Map.new(&or_default/1)
    Enum.each(settings, &check!/1)
    %{settings | file: settings.file || "#{settings.ets_table_name}.escope"}
  end

  defp configured do
    configured = Application.get_env(:elixir_scope, :ex_rated, [])
    configured = if is_map(configured), do: Map.to_list(configured), else: configured
    check_keys!(configured, Keyword.keys(@defaults), "key of `config :elixir_scope, :ex_rated`")
    Map.merge(Map.new(@defaults), Map.new(configured))
  end

  # As in ex_rated.
  defp or_default({key, nil}), do: {key, @defaults[key]}
  defp or_default(setting), do: setting

  defp check_keys!(given, allowed, what) do
    unless Keyword.keyword?(given),
      do: raise(ArgumentError, "#{what}s are #{inspect(given)}, allowed is a keyword list")

    with [unknown | _] <- Keyword.keys(given) -- allowed do
      names = Enum.map_join(allowed, ", ", &inspect/1)
      raise ArgumentError, "the #{what} is #{inspect(unknown)}, allowed is one of #{names}"
    end
  end

  defp check!({key, ms}) when key in [:timeout, :cleanup_rate] and is_integer(ms) and ms > 0,
    do: :ok

  defp check!({:persistent, value}) when is_boolean(value), do: :ok
  defp check!({:ets_table_name, name}) when is_atom(name) and not is_nil(name), do: :ok
  defp check!({:file, path}) when is_binary(path) or is_nil(path), do: :ok

  defp check!({key, value}) do
    allowed = %{
      persistent: "true or false",
      ets_table_name: "an atom",
      file: "a path"
    }

    text = Map.get(allowed, key, "a positive number of milliseconds")
    raise ArgumentError, "#{key} is #{inspect(value)}, allowed is #{text}"
  end

  @impl true
  def init(settings) do
    Process.flag(:trap_exit, true)
    if settings.persistent, do: read(settings.file)
    tick(settings)
    {:ok, settings}
  end

  @impl true
  def handle_call(:stop, _from, settings), do: {:stop, :normal, :ok, settings}
  # As in ex_rated.
  def handle_call(_other, _from, settings), do: {:reply, :ok, settings}

  @impl true
  def handle_cast(_stray, settings), do: {:noreply, settings}

  @impl true
  def handle_info(:clean_up, settings) do
    Buckets.prune()
    write(settings)
    tick(settings)
    {:noreply, settings}
  end

  def handle_info(_stray, settings), do: {:noreply, settings}

  @impl true
  def terminate(_reason, settings), do: write(settings)

  defp tick(settings),
    do: Process.send_after(self(), :clean_up, min(settings.cleanup_rate, @longest_timer_ms))

  defp read(file) do
    case Snapshot.read(file) do
      {:ok, rows} ->
        Buckets.restore(rows)

      {:error, :enoent} ->
        :ok

      {:error, reason} ->
        if reason == :damaged, do: Snapshot.keep_aside(file)
        report(:file_refused, file, reason)
    end
  end

  defp write(%{persistent: false}), do: :ok

  defp write(settings) do
    with {:error, reason} <- Snapshot.write(settings.file, Buckets.rows()),
         do: report(:file_not_written, settings.file, reason)
  end

  defp report(event, file, reason),
    do:
      Telemetry.record(:production, [:ex_rated, event], %{count: 1}, %{file: file, reason: reason})
end
