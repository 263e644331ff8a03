defmodule Demo.Journal do
  @moduledoc """
  What the clients record: each verdict of the limiter with its time, the time spent inside the library, counts,
  and what each client is doing right now.

  The tables belong to the worker, so what a killed client wrote outlives it. A verdict is written as soon as it is
  known, before the operation runs: a client that is killed inside the operation leaves no gap.
  """

  @calls Module.concat(__MODULE__, Calls)
  @inside Module.concat(__MODULE__, Inside)
  @doing Module.concat(__MODULE__, Doing)
  @counts [:done, :failed, :lookups, :found, :reads, :answered, :versions]

  @typedoc "A client's place in the work, and the connection that it holds with the event that it looks for on it."
  @type doing ::
          {client :: binary(), pid(), position :: non_neg_integer(),
           nil | {connection :: pid(), seq :: integer()}}

  @spec create() :: :ok
  def create do
    :ets.new(@calls, [:named_table, :public, :duplicate_bag, write_concurrency: true])
    :ets.new(@inside, [:named_table, :public, :duplicate_bag, write_concurrency: true])
    :ets.new(@doing, [:named_table, :public, :set, write_concurrency: true])
    :persistent_term.put(__MODULE__, :counters.new(length(@counts), []))
  end

  @doc "A check of the limiter: the verdict was reached between the two instants."
  @spec limiter(binary(), {pos_integer(), pos_integer()}, integer(), integer(), boolean()) :: true
  def limiter(key, {limit, window_ms}, at_ns, until_ns, admitted?) do
    :ets.insert(@calls, {key, limit, window_ms, at_ns, until_ns, admitted?})
  end

  @doc "Time that one event spent in limiter and breaker, and in the pool."
  @spec inside(non_neg_integer(), non_neg_integer()) :: true
  def inside(guard_ns, pool_ns), do: :ets.insert(@inside, {guard_ns, pool_ns})

  @spec count(atom()) :: :ok
  def count(name), do: :counters.add(:persistent_term.get(__MODULE__), index(name), 1)

  @spec counts() :: keyword(non_neg_integer())
  def counts,
    do: for(name <- @counts, do: {name, :counters.get(:persistent_term.get(__MODULE__), index(name))})

  @doc "A client is at `position`, holding no connection."
  @spec at(binary(), non_neg_integer()) :: true
  def at(client, position), do: :ets.insert(@doing, {client, self(), position, nil})

  @doc "A client holds a connection to look for an event."
  @spec holds(binary(), pid(), integer()) :: boolean()
  def holds(client, connection, seq), do: :ets.update_element(@doing, client, {4, {connection, seq}})

  @doc "A client is about to give its connection back."
  @spec releases(binary()) :: boolean()
  def releases(client), do: :ets.update_element(@doing, client, {4, nil})

  @spec doing(binary()) :: doing()
  def doing(client), do: :ets.lookup(@doing, client) |> hd()

  @doc "The clients that hold a connection at this moment."
  @spec holders() :: [doing()]
  def holders, do: :ets.select(@doing, [{{:_, :_, :_, {:_, :_}}, [], [:"$_"]}])

  @doc "Writes the records in the form that `demo/harness/worker.py` reads."
  @spec write!(Path.t()) :: :ok
  def write!(directory) do
    write_table!(Path.join(directory, "limiter.txt"), @calls, fn {key, limit, window_ms, at, until, admitted?} ->
      verdict = if admitted?, do: 1, else: 0
      "#{key} #{limit} #{window_ms * 1_000_000} #{limit} 1 #{at} #{until} #{verdict}\n"
    end)

    write_table!(Path.join(directory, "inside.txt"), @inside, fn {guard, pool} -> "#{guard} #{pool}\n" end)
  end

  defp write_table!(path, table, line) do
    File.write!(path, :ets.foldl(fn row, lines -> [line.(row) | lines] end, [], table))
  end

  for {name, index} <- Enum.with_index(@counts, 1) do
    defp index(unquote(name)), do: unquote(index)
  end
end
