defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerTelemetry.Order do
  @moduledoc false
  # Puts the changes of one breaker back in order. Pure.
  #
  # There are two gapless sequences, of generations and of levels within them. Each has its own numbers; a change of
  # level waits, besides, for the generation that it happened in. What waits is held; `flush/1` gives up on what is
  # missing.

  @type change :: %{
          :kind => :generation | :level,
          :sequence => integer(),
          :generation => integer(),
          optional(atom()) => term()
        }
  @type t :: %{generation: integer(), level: integer(), held: %{{atom(), integer()} => change()}}

  # Where the numbers wrap.
  @wraps %{generation: 0x1000_0000, level: 0x1_0000_0000}

  @spec new() :: t()
  def new, do: %{generation: 0, level: 0, held: %{}}

  @doc "Takes a change, and returns those that are next in line. One that was given up or has come before is dropped."
  @spec push(t(), change()) :: {[change()], t()}
  def push(order, %{kind: kind, sequence: sequence} = change) do
    if ahead(kind, order[kind], sequence) in 1..div(@wraps[kind], 2),
      do: drain(put_in(order.held[{kind, sequence}], change), []),
      else: {[], order}
  end

  @doc "All that is held, in order, and how many changes are missing before or between."
  @spec flush(t()) :: {[change()], non_neg_integer(), t()}
  def flush(order) do
    changes = order.held |> Map.values() |> Enum.sort_by(&position(order, &1))

    {missing, order} =
      Enum.reduce(changes, {0, order}, fn %{kind: kind, sequence: sequence}, {missing, order} ->
        {missing + ahead(kind, order[kind], sequence) - 1, %{order | kind => sequence}}
      end)

    {changes, missing, %{order | held: %{}}}
  end

  # A change of level before the next generation: it happened before that.
  defp drain(order, ready) do
    case next(order, :level) || next(order, :generation) do
      nil -> {Enum.reverse(ready), order}
      change -> order |> take(change) |> drain([change | ready])
    end
  end

  defp next(order, kind) do
    change = order.held[{kind, Integer.mod(order[kind] + 1, @wraps[kind])}]
    if change && begun?(order, change), do: change
  end

  defp begun?(_order, %{kind: :generation}), do: true
  defp begun?(order, change), do: began(order, change) == 0

  defp take(order, %{kind: kind, sequence: sequence}) do
    order = %{order | kind => sequence}
    %{order | held: Map.delete(order.held, {kind, sequence})}
  end

  # How many changes of generation are still to come before the one in which this change of level happened. The
  # first generation is 1, and the change with number n begins generation n + 1.
  defp began(order, change) do
    case ahead(:generation, order.generation, change.generation - 1) do
      behind when behind > div(0x1000_0000, 2) -> 0
      ahead -> ahead
    end
  end

  defp position(order, %{kind: :generation, sequence: sequence}),
    do: {ahead(:generation, order.generation, sequence), 0, 0}

  defp position(order, %{kind: :level, sequence: sequence} = change),
    do: {began(order, change), 1, ahead(:level, order.level, sequence)}

  defp ahead(kind, from, to), do: Integer.mod(to - from, @wraps[kind])
end
