defmodule ElixirScope.Foundation.MemoryCheckTest do
  # The check of the load test notices a store that keeps everything, and lets one pass that keeps within its bound.
  use ElixirScope.Foundation.FoundationCase

  alias ElixirScope.Foundation.MemoryCheck

  doctest MemoryCheck

  # As the load test allows.
  @allowed 0.1

  defp growth_of_store(max_events) do
    put_env(:storage, %{hot: %{max_events: max_events}})
    namespace = start_namespace()

    batch = fn turn ->
      for id <- 1..6_000, do: event(turn * 10_000 + id, data: %{path: [:a, :b]})
    end

    {:ok, _ids} = EventStore.store_batch(namespace, batch.(0))

    samples =
      for turn <- 1..15 do
        {:ok, _ids} = EventStore.store_batch(namespace, batch.(turn))
        MemoryCheck.sample().vm
      end

    MemoryCheck.growth(samples)
  end

  test "a store without a bound grows, one within its bound does not" do
    assert growth_of_store(1_000_000) > @allowed
    assert abs(growth_of_store(2_000)) < @allowed / 2
  end

  test "noise is no growth, and noise does not hide growth" do
    flat = for _ <- 1..40, do: 100 + :rand.uniform(20)
    assert abs(MemoryCheck.growth(flat)) < @allowed
    rising = for second <- 1..40, do: 100 + second / 2 + :rand.uniform(20)
    assert MemoryCheck.growth(rising) > @allowed
    # As a service that is killed now and then and reads its events back.
    saw = for second <- 1..40, do: if(rem(second, 6) == 0, do: 50, else: 100)
    assert MemoryCheck.growth(saw) == 0.0
  end
end
