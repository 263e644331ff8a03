defmodule ElixirScope.Compat.Fuse.Monitor do
  @moduledoc """
  Raises an alarm of SASL's `:alarm_handler` for each fuse that is blown: `fuse_monitor` of fuse.

  It looks at the fuses once a minute, or every `monitor_interval` milliseconds. The alarm `{name, :fuse_blown}` is set when
  it finds one blown, disabled ones too, and cleared when it has found it whole three times in a row, or when the
  fuse is removed. A blow between two looks may go unseen.

      config :elixir_scope, :fuse, monitor: true, monitor_interval: 60_000
  """
  use GenServer

  alias ElixirScope.Compat.Fuse
  alias ElixirScope.Compat.Fuse.Table
  alias ElixirScope.Foundation.Infrastructure.Native

  @interval_ms 60_000
  @clean_samples 3

  @doc false
  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts) do
    if config(:monitor, true),
      do:
        GenServer.start_link(__MODULE__, config(:monitor_interval, @interval_ms), name: __MODULE__),
      else: :ignore
  end

  @doc "Looks at all fuses now."
  @spec sample() :: :ok
  def sample, do: GenServer.call(__MODULE__, :sample)

  @doc false
  @spec clear(Fuse.name()) :: :ok
  def clear(name) do
    if Table.take_alarm(name), do: alarm(:clear_alarm, name)
    :ok
  end

  @impl true
  def init(interval_ms) do
    schedule(interval_ms)
    {:ok, interval_ms}
  end

  @impl true
  def handle_call(:sample, _from, interval_ms) do
    look()
    {:reply, :ok, interval_ms}
  end

  @impl true
  def handle_info(:sample, interval_ms) do
    look()
    schedule(interval_ms)
    {:noreply, interval_ms}
  end

  def handle_info(_stray, interval_ms), do: {:noreply, interval_ms}

  defp look do
    fuses = Table.list()
    Enum.each(fuses, &judge(&1.name, blown?(&1.breaker), Table.alarm(&1.name)))
    # One that was removed just after it had been found blown.
    Enum.each(Table.alarms() -- Enum.map(fuses, & &1.name), &clear/1)
  end

  defp blown?(breaker) do
    Native.breaker_settle(breaker)
    Native.breaker_stats(breaker).state != :closed
  end

  defp judge(name, true, nil) do
    Table.put_alarm(name, 0)
    alarm(:set_alarm, {name, :fuse_blown})
  end

  defp judge(name, true, _clean), do: Table.put_alarm(name, 0)
  defp judge(_name, false, nil), do: :ok
  defp judge(name, false, clean) when clean + 1 == @clean_samples, do: clear(name)
  defp judge(name, false, clean), do: Table.put_alarm(name, clean + 1)

  # SASL may be stopped.
  defp alarm(function, argument) do
    if Process.whereis(:alarm_handler), do: apply(:alarm_handler, function, [argument])
    :ok
  end

  defp schedule(interval_ms), do: Process.send_after(self(), :sample, interval_ms)

  defp config(key, default),
    do: Keyword.get(Application.get_env(:elixir_scope, :fuse, []), key, default)
end
