defmodule ElixirScope.Foundation.Services.EventStore.Job do
  @moduledoc false
  # The process that works in the database for a store, linked to it: nothing is written for a store that is gone. What
  # it came to is its exit reason.

  alias ElixirScope.Foundation.ProcessRegistry
  alias ElixirScope.Foundation.Services.EventDatabase

  @typep namespace :: ProcessRegistry.namespace()

  @doc """
  Sends the caller the events after `after_id` as messages `{:page, job, events}`, each after the answer `taken_in/1` to the
  one before. What is too much goes first: memory is bounded as the table is.
  """
  @spec load(namespace(), pos_integer(), integer()) :: pid()
  def load(namespace, max_bytes, after_id) do
    store = self()

    start(fn ->
      with {:ok, _place} <- EventDatabase.trim(namespace, max_bytes) do
        EventDatabase.each_page(namespace, after_id, fn events ->
          send(store, {:page, self(), events})
          receive do: ({:taken_in, ^store} -> :ok)
        end)
      end
    end)
  end

  @doc "Asks for the next page."
  @spec taken_in(pid()) :: :ok
  def taken_in(job) do
    send(job, {:taken_in, self()})
    :ok
  end

  @doc "Makes changes in one transaction; see `EventDatabase.write/3`."
  @spec write(namespace(), [EventDatabase.change()], EventDatabase.compression()) :: pid()
  def write(namespace, changes, compression),
    do: start(fn -> EventDatabase.write(namespace, changes, compression) end)

  @doc "Drops the oldest events; see `EventDatabase.trim/2`."
  @spec trim(namespace(), pos_integer()) :: pid()
  def trim(namespace, max_bytes), do: start(fn -> EventDatabase.trim(namespace, max_bytes) end)

  defp start(fun), do: spawn_link(fn -> exit({:shutdown, fun.()}) end)

  @doc "What a job came to, by its exit reason."
  @spec result(term()) :: term()
  def result({:shutdown, result}), do: result
  def result(crash), do: {:error, crash}
end
