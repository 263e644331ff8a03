defmodule ElixirScope.Foundation.Services.EventStore.Changes do
  @moduledoc false
  # What changes an EventStore, as it is asked for: whether it may be done, what it is to the database, and what it makes
  # of the contents.

  alias ElixirScope.Foundation.Services.EventDatabase
  alias ElixirScope.Foundation.Services.EventStore.Contents
  alias ElixirScope.Foundation.Types.{Error, Event}
  alias ElixirScope.Foundation.Validation.EventValidator

  @int64 -0x8000000000000000..0x7FFFFFFFFFFFFFFF

  @type t ::
          {:store_event, Event.t()}
          | {:store_batch, [Event.t()]}
          | {:prune_before, integer()}
          | :reset_state

  @doc "Whether it may be done. One event that the database would refuse must not take those of others with it."
  @spec check(term(), :memory | :database) :: :ok | {:error, Error.t()}
  def check({:store_event, event}, persistence), do: valid(event, persistence)

  def check({:store_batch, events}, persistence) do
    Enum.reduce_while(events, :ok, fn event, :ok ->
      case valid(event, persistence) do
        :ok -> {:cont, :ok}
        error -> {:halt, error}
      end
    end)
  end

  def check({:prune_before, timestamp}, :database), do: column(:timestamp, timestamp)
  def check(_change, _persistence), do: :ok

  defp valid(event, persistence) do
    with :ok <- EventValidator.validate(event),
         :database <- persistence,
         :ok <- column(:event_id, event.event_id),
         :ok <- column(:timestamp, event.timestamp) do
      :ok
    else
      :memory -> :ok
      error -> error
    end
  end

  defp column(_name, value) when value in @int64, do: :ok
  defp column(name, value), do: EventValidator.mismatch(name, value, "an integer of 64 bits")

  @doc "How many events it stores."
  @spec size(t()) :: non_neg_integer()
  def size({:store_event, _event}), do: 1
  def size({:store_batch, events}), do: length(events)
  def size(_other), do: 0

  @doc "The change of the database, the events at places from this one on."
  @spec rows(t(), pos_integer()) :: EventDatabase.change()
  def rows({:store_event, event}, place), do: {:store, [{place, event}]}

  def rows({:store_batch, events}, place),
    do: {:store, events |> Enum.with_index(place) |> Enum.map(fn {event, at} -> {at, event} end)}

  def rows({:prune_before, timestamp}, _place), do: {:prune, timestamp}
  def rows(:reset_state, _place), do: :reset

  @doc """
  Makes it: the answer, and what is there then. Events get places from this one on, and have these `sizes` in the
  database.
  """
  @spec perform(t(), Contents.t(), pos_integer(), %{Event.id() => pos_integer()}, integer()) ::
          {term(), Contents.t()}
  def perform({:store_event, event}, contents, place, sizes, now),
    do: {{:ok, event.event_id}, keep([event], contents, place, sizes, now)}

  def perform({:store_batch, events}, contents, place, sizes, now),
    do: {{:ok, Enum.map(events, & &1.event_id)}, keep(events, contents, place, sizes, now)}

  def perform({:prune_before, timestamp}, contents, _place, _sizes, _now) do
    {count, contents} = Contents.prune_before(contents, timestamp)
    {{:ok, count}, contents}
  end

  def perform(:reset_state, contents, _place, _sizes, _now), do: {:ok, Contents.reset(contents)}

  defp keep(events, contents, place, sizes, now) do
    events
    |> Enum.with_index(place)
    |> Enum.reduce(contents, fn {event, place}, contents ->
      Contents.put(contents, event, place, Map.get(sizes, event.event_id, 0), now)
    end)
    |> Contents.count_stored(length(events))
  end
end
