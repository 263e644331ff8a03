defmodule ElixirScope.Compat.ExRated.Buckets do
  @moduledoc false
  # The table of counts. A row is `{{id, scale, window}, count, created_at, updated_at, ends_at}`; all times are milliseconds
  # since 1970. Rows are made and counted by one atomic update, and only those of windows that are over are dropped: so no
  # count is lost, whoever comes between.

  alias ElixirScope.Foundation.Infrastructure.ManualClock

  @ns_in_ms 1_000_000
  @count 2
  @updated_at 4

  @spec create(atom()) :: :ok
  def create(table) do
    # Ordered, so that the rows of an id stand together and 1 is 1.0.
    options = [
      :named_table,
      :ordered_set,
      :public,
      read_concurrency: true,
      write_concurrency: true
    ]

    :ets.new(table, options)
    :persistent_term.put(__MODULE__, table)
  end

  @doc "When the application stops."
  @spec forget_all() :: boolean()
  def forget_all, do: :persistent_term.erase(__MODULE__)

  @spec table() :: atom()
  def table, do: :persistent_term.get(__MODULE__)

  @doc "Counts a call, and tells how many there were in this window."
  @spec count(term(), number()) :: pos_integer()
  def count(id, scale) do
    now = now(id)
    window = window(now, scale)
    key = {id, scale, window}
    row = {key, 0, now, now, ends_at(window, scale)}
    # The second one sets: any value is above -1.
    [count, _now] =
      :ets.update_counter(table(), key, [{@count, 1}, {@updated_at, 0, -1, now}], row)

    count
  end

  @doc "What was counted in this window, and how long it lasts."
  @spec look(term(), number()) ::
          {{pos_integer(), integer(), integer()} | nil, ms_to_next :: number()}
  def look(id, scale) do
    now = now(id)
    window = window(now, scale)

    row =
      case :ets.lookup(table(), {id, scale, window}) do
        [{_key, count, created, updated, _ends_at}] -> {count, created, updated}
        [] -> nil
      end

    {row, ends_at(window, scale) - now}
  end

  @doc "Deletes the rows of an id, and tells how many."
  @spec delete(term()) :: non_neg_integer()
  def delete(id), do: delete(table(), id, {id, 0, 0}, 0)

  # Numbers are before all other terms, and scales are positive. A match would take an id such as `:_` for anything.
  defp delete(table, id, before, deleted) do
    case :ets.next(table, before) do
      {other, _scale, _window} = key when other == id ->
        delete(table, id, key, deleted + length(:ets.take(table, key)))

      _end_or_another ->
        deleted
    end
  end

  @doc "Deletes what a test has left."
  @spec forget({:test, reference()}) :: :ok
  def forget({:test, _reference} = namespace) do
    :ets.match_delete(table(), {{{namespace, :_}, :_, :_}, :_, :_, :_, :_})
    :ok
  rescue
    # The application stops.
    ArgumentError -> :ok
  end

  @doc "Drops the windows that are over, and tells how many. Those of tests are their own."
  @spec prune() :: non_neg_integer()
  def prune do
    now = System.system_time(:millisecond)
    over = [{{:"$1", :_, :_, :_, :"$2"}, [{:"=<", :"$2", now}], [:"$1"]}]

    for {id, _scale, _window} = key <- :ets.select(table(), over), not test?(id), reduce: 0 do
      dropped -> dropped + length(:ets.take(table(), key))
    end
  end

  @doc "All rows but those of tests."
  @spec rows() :: [tuple()]
  def rows,
    do: for({{id, _, _}, _, _, _, _} = row <- :ets.tab2list(table()), not test?(id), do: row)

  @doc "Puts rows in their places, but for those that were counted meanwhile and those that are over."
  @spec restore([tuple()]) :: :ok
  def restore(rows) do
    now = System.system_time(:millisecond)
    for {_, _, _, _, ends_at} = row <- rows, ends_at > now, do: :ets.insert_new(table(), row)
    :ok
  end

  defp test?({{:test, reference}, _term}) when is_reference(reference), do: true
  defp test?(_id), do: false

  defp now({{:test, reference} = namespace, _term}) when is_reference(reference) do
    case ManualClock.clock(namespace) do
      :monotonic -> System.system_time(:millisecond)
      _manual -> div(ManualClock.now_ns(namespace), @ns_in_ms)
    end
  end

  defp now(_id), do: System.system_time(:millisecond)

  defp window(now, scale) when is_integer(scale), do: div(now, scale)
  defp window(now, scale), do: trunc(now / scale)

  defp ends_at(window, scale), do: window * scale + scale
end
