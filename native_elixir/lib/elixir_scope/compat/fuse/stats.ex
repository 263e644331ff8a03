defmodule ElixirScope.Compat.Fuse.Stats do
  @moduledoc """
  Counts asks and melts: `fuse_stats_ets` of fuse. The counters are the native core's and cost nothing more.

      iex> alias ElixirScope.Compat.Fuse
      iex> Fuse.install(:mail, {{:standard, 0, 10_000}, {:reset, 60_000}})
      iex> {Fuse.ask(:mail, :sync), Fuse.melt(:mail), Fuse.ask(:mail, :sync)}
      {:ok, :ok, :blown}
      iex> Fuse.Stats.counters(:mail)
      [ok: 1, blown: 1, melt: 1]
      iex> Fuse.remove(:mail)
      :ok
  """

  require Logger

  alias ElixirScope.Compat.Fuse
  alias ElixirScope.Compat.Fuse.Table
  alias ElixirScope.Foundation.Infrastructure.Native

  @doc """
  How often the fuse answered `ok` and `blown`, and how often it melted. Installing it again keeps them, and they stay
  readable when it is removed. Raises `badarg` for a name that was never installed.
  """
  @spec counters(Fuse.name()) :: [
          ok: non_neg_integer(),
          blown: non_neg_integer(),
          melt: non_neg_integer()
        ]
  def counters(name) do
    case Table.fetch(name) do
      nil -> Table.counters(name) || :erlang.error(:badarg, [name])
      fuse -> sum(fuse)
    end
  end

  @doc false
  @spec sum(Table.fuse()) :: keyword(non_neg_integer())
  def sum(%{breaker: breaker, past: past}) do
    stats = Enum.map([breaker | past], &Native.breaker_stats/1)

    total = fn keys ->
      stats |> Enum.map(&Map.take(&1, keys)) |> Enum.map(&sum_of/1) |> Enum.sum()
    end

    [
      ok: total.([:admitted]),
      blown:
        total.([:rejected_open, :rejected_half_open, :rejected_forced_open, :rejected_degraded]),
      melt: total.([:reported, :failed])
    ]
  end

  defp sum_of(counts), do: counts |> Map.values() |> Enum.sum()

  @doc false
  # The configured plugin; nil for none but this module.
  @spec plugin() :: module() | nil
  def plugin do
    case Application.get_env(:elixir_scope, :fuse, [])[:stats_plugin] do
      __MODULE__ -> nil
      plugin -> plugin
    end
  end

  @doc false
  @spec init(module() | nil, Fuse.name()) :: :ok
  def init(nil, _name), do: :ok

  def init(plugin, name) do
    plugin.init(name)
    :ok
  catch
    kind, reason ->
      failure = Exception.format_banner(kind, reason, __STACKTRACE__)
      Logger.warning("#{inspect(plugin)} does not count fuse #{inspect(name)}: #{failure}")
  end

  @doc false
  @spec count(module() | nil, Fuse.name(), :ok | :blown | :melt) :: :ok
  def count(nil, _name, _counter), do: :ok

  def count(plugin, name, counter) do
    plugin.increment(name, counter)
    :ok
  catch
    # Whoever asks is answered whatever becomes of the count.
    _kind, _reason -> :ok
  end
end
