defmodule ElixirScope.Foundation.Infrastructure.Reaper do
  @moduledoc false
  # Kills the processes that ran an operation for a caller which has died. The native library notices that, but cannot
  # kill.
  use GenServer

  # The native library knows this name.
  @name :elixir_scope_reaper

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: @name)

  @impl true
  def init(nil), do: {:ok, nil}

  @impl true
  def handle_info({:escope_kill, worker, caller}, state) do
    # It may have ended long ago, and its pid be somebody else's by now.
    if :erlang.process_info(worker, :parent) == {:parent, caller}, do: Process.exit(worker, :kill)
    {:noreply, state}
  end

  def handle_info(_stray, state), do: {:noreply, state}
end
