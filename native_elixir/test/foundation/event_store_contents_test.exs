defmodule ElixirScope.Foundation.EventStoreContentsTest do
  # What a store keeps, against a list in which the oldest stands first.
  use ExUnit.Case, async: true

  import ElixirScope.Foundation.Properties

  alias ElixirScope.Foundation.Services.EventStore.{Contents, Retention}
  alias ElixirScope.Foundation.Types.{Config, Event}

  @seconds 60

  defp event(id, timestamp), do: Event.new(event_id: id, event_type: :spawn, timestamp: timestamp)

  # Few ids and timestamps, so that events are replaced and times are equal.
  defp step do
    :proper_types.oneof([
      {:put, :proper_types.range(1, 12), :proper_types.range(-5, 5), :proper_types.range(1, 9)},
      {:prune, :proper_types.range(-6, 6)},
      {:forget, :proper_types.range(1, 40)},
      {:bound, :proper_types.range(1, 12), :proper_types.range(-1, 40)},
      :reset
    ])
  end

  test "random puts and drops agree with a list" do
    check_all(:proper_types.list(step()), 1_000, fn steps ->
      {contents, list, _now} =
        Enum.reduce(steps, {Contents.new(), [], 0}, fn step, {contents, list, now} ->
          {contents, list} = step(step, contents, list, now)
          agree(contents, list)
          {contents, list, now + 1}
        end)

      agree(contents, list)
    end)
  end

  defp step({:put, id, timestamp, size}, contents, list, now) do
    {place, contents} = Contents.take_places(contents, 1)
    event = event(id, timestamp)
    list = Enum.reject(list, fn {kept, _, _, _} -> kept.event_id == id end)
    {Contents.put(contents, event, place, size, now), list ++ [{event, place, size, now}]}
  end

  defp step({:prune, timestamp}, contents, list, _now) do
    {before, rest} = Enum.split_with(list, fn {event, _, _, _} -> event.timestamp < timestamp end)
    assert {count, contents} = Contents.prune_before(contents, timestamp)
    assert count == length(before)
    {contents, rest}
  end

  defp step({:forget, last}, contents, list, _now) do
    rest = Enum.reject(list, fn {_, place, _, _} -> place <= last end)
    {Contents.forget_through(contents, last), rest}
  end

  defp step({:bound, most, since}, contents, list, _now) do
    rest = list |> Enum.take(-most) |> Enum.filter(fn {_, _, _, at} -> at >= since end)
    {Contents.bound(contents, most, since), rest}
  end

  defp step(:reset, contents, _list, _now), do: {Contents.reset(contents), []}

  defp agree(contents, list) do
    events = for {event, _, _, _} <- list, do: event
    assert Enum.sort(Contents.all(contents)) == Enum.sort(events)
    assert Contents.count(contents) == length(events)
    assert contents.bytes == list |> Enum.map(&elem(&1, 2)) |> Enum.sum()
    assert :gb_trees.keys(contents.places) == for({_, place, _, _} <- list, do: place)
    for event <- events, do: assert(Contents.fetch(contents, event.event_id) == {:ok, event})
  end

  test "what is configured for hot or for warm storage bounds it" do
    hot = Config.new(%{storage: %{hot: %{max_events: 3, max_age_seconds: @seconds}}}).storage
    memory = Retention.new(hot)
    assert memory.limits == %{max_events: 3, max_age_ms: @seconds * 1_000}

    contents =
      Enum.reduce(1..5, Contents.new(), &Contents.put(&2, event(&1, 0), &1, 0, &1 * 1_000))

    left = Retention.apply_to(memory, contents, 5_000)
    assert left |> Contents.all() |> Enum.map(& &1.event_id) |> Enum.sort() == [3, 4, 5]
    assert left.pruned == 2
    later = Retention.apply_to(memory, left, 4_001 + @seconds * 1_000)
    assert [%{event_id: 5}] = Contents.all(later)

    for {configured, used} <- [none: :none, gzip: :zlib, zstd: :zlib] do
      warm = %{enable: true, path: "x", max_size_mb: 2, compression: configured}
      database = Retention.new(Config.new(%{storage: %{warm: warm}}).storage)
      assert %{persistence: :database, limits: %{max_bytes: 2_097_152}} = database
      assert database.compression == used
      assert Retention.apply_to(database, contents, 0) == contents
    end
  end
end
