defmodule ElixirScope.Foundation.Services.EventStore.Contents do
  @moduledoc false
  # The events that a store has, as a value: what is found, what is counted, and what goes first when it is too much.
  #
  # Each event has a place, a number that grows with every store, and the oldest event is that of the least place. Its
  # timestamp cannot say so: callers choose them, and monotonic ones begin anew with each node.
  #
  # `places` is a balanced tree of the places of `events`, no more and no less: a store takes logarithmic time, and so
  # does finding the oldest.

  alias ElixirScope.Foundation.Types.Event

  @enforce_keys [:places]
  defstruct places: nil,
            events: %{},
            bytes: 0,
            next_id: 1,
            next_place: 1,
            stored: 0,
            pruned: 0

  @type place :: pos_integer()
  @type t :: %__MODULE__{
          events: %{Event.id() => {Event.t(), place(), size :: non_neg_integer()}},
          places: :gb_trees.tree(place(), {Event.id(), kept_at :: integer()}),
          bytes: non_neg_integer(),
          next_id: Event.id(),
          next_place: place(),
          stored: non_neg_integer(),
          pruned: non_neg_integer()
        }

  @doc "Nothing."
  @spec new() :: t()
  def new, do: %__MODULE__{places: :gb_trees.empty()}

  @doc "Nothing, and no count. Places are not given again: the database may still get events of the old ones."
  @spec reset(t()) :: t()
  def reset(contents), do: %{new() | next_place: contents.next_place}

  @doc "The first of so many places that nobody else gets."
  @spec take_places(t(), non_neg_integer()) :: {place(), t()}
  def take_places(contents, count),
    do: {contents.next_place, %{contents | next_place: contents.next_place + count}}

  @doc "Puts an event in at its place; one with this id goes. `now` is when, in milliseconds of monotonic time."
  @spec put(t(), Event.t(), place(), non_neg_integer(), integer()) :: t()
  def put(contents, %Event{event_id: id} = event, place, size, now) do
    contents = take_out(contents, id)

    %{
      contents
      | events: Map.put(contents.events, id, {event, place, size}),
        places: :gb_trees.insert(place, {id, now}, contents.places),
        bytes: contents.bytes + size,
        next_id: max(contents.next_id, id) + 1,
        next_place: max(contents.next_place, place + 1)
    }
  end

  @doc "Counts stores."
  @spec count_stored(t(), non_neg_integer()) :: t()
  def count_stored(contents, count), do: %{contents | stored: contents.stored + count}

  @doc "The event of this id."
  @spec fetch(t(), Event.id()) :: {:ok, Event.t()} | :error
  def fetch(contents, id) do
    with {:ok, {event, _place, _size}} <- Map.fetch(contents.events, id), do: {:ok, event}
  end

  @doc "All events, in no order."
  @spec all(t()) :: [Event.t()]
  def all(contents), do: for({_id, {event, _place, _size}} <- contents.events, do: event)

  @doc "How many events there are."
  @spec count(t()) :: non_neg_integer()
  def count(contents), do: map_size(contents.events)

  @doc "Drops the events before this timestamp, and how many that were."
  @spec prune_before(t(), integer()) :: {non_neg_integer(), t()}
  def prune_before(contents, timestamp) do
    before = for {id, {event, _, _}} <- contents.events, event.timestamp < timestamp, do: id

    {length(before),
     before |> Enum.reduce(contents, &take_out(&2, &1)) |> count_pruned(length(before))}
  end

  @doc "Drops the events up to this place."
  @spec forget_through(t(), place()) :: t()
  def forget_through(contents, place),
    do: drop_oldest(contents, fn oldest, _kept_at, _count -> oldest <= place end)

  @doc "Drops the oldest events until there are no more than `max_events`, none kept before the instant `since`."
  @spec bound(t(), pos_integer(), integer()) :: t()
  def bound(contents, max_events, since) do
    drop_oldest(contents, fn _place, kept_at, count -> count > max_events or kept_at < since end)
  end

  defp drop_oldest(contents, goes?) do
    with count when count > 0 <- count(contents),
         {place, {id, kept_at}} = :gb_trees.smallest(contents.places),
         true <- goes?.(place, kept_at, count) do
      contents |> take_out(id) |> count_pruned(1) |> drop_oldest(goes?)
    else
      _stays -> contents
    end
  end

  defp count_pruned(contents, count), do: %{contents | pruned: contents.pruned + count}

  defp take_out(contents, id) do
    case Map.pop(contents.events, id) do
      {nil, _events} ->
        contents

      {{_event, place, size}, events} ->
        places = :gb_trees.delete(place, contents.places)
        %{contents | events: events, places: places, bytes: contents.bytes - size}
    end
  end
end
