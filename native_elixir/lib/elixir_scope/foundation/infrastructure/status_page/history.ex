defmodule ElixirScope.Foundation.Infrastructure.StatusPage.History do
  @moduledoc false
  # What the last two minutes looked like: one sample a second, each with every object's state and what it did since the
  # sample before. Memory is bounded by the number of samples and of changes.

  use GenServer

  alias ElixirScope.Foundation.Infrastructure.Snapshot

  @every_ms 1_000
  @samples 120
  @changes 50

  @type sample :: %{
          breakers: %{atom() => {state :: atom(), good :: number(), bad :: number()}},
          limiters: %{atom() => {:limiter, good :: number(), bad :: number()}},
          pools: %{atom() => {:pool, good :: number(), bad :: number()}}
        }
  @type change :: %{at: DateTime.t(), breaker: atom(), from: atom(), to: atom()}
  @type t :: %{
          now: Snapshot.t(),
          at: DateTime.t(),
          samples: [sample()],
          changes: [change()],
          room: pos_integer()
        }

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc "Samples oldest first, changes latest first, rates a second."
  @spec read() :: t()
  def read do
    history = GenServer.call(__MODULE__, :read)
    Map.merge(history, %{now: Snapshot.take(), at: now(), room: @samples})
  end

  @impl true
  def init(_opts) do
    schedule()
    {:ok, %{last: totals(Snapshot.objects()), taken: clock(), samples: [], changes: []}}
  end

  @impl true
  def handle_call(:read, _from, state),
    do: {:reply, %{samples: Enum.reverse(state.samples), changes: state.changes}, state}

  @impl true
  def handle_info(:sample, state) do
    schedule()
    {totals, taken} = {totals(Snapshot.objects()), clock()}
    seconds = max(taken - state.taken, 1) / 1_000

    sample = Map.new(totals, fn {kind, all} -> {kind, rates(all, state.last[kind], seconds)} end)

    {:noreply,
     %{
       last: totals,
       taken: taken,
       samples: Enum.take([sample | state.samples], @samples),
       changes:
         Enum.take(changes(totals.breakers, state.last.breakers) ++ state.changes, @changes)
     }}
  end

  def handle_info(_stray, state), do: {:noreply, state}

  defp schedule, do: Process.send_after(self(), :sample, @every_ms)
  defp clock, do: System.monotonic_time(:millisecond)
  defp now, do: DateTime.truncate(DateTime.utc_now(), :second)

  defp totals(snapshot) do
    %{
      breakers:
        Map.new(snapshot.breakers, fn {name, s} ->
          rejected =
            s.rejected_open + s.rejected_half_open + s.rejected_forced_open + s.rejected_degraded

          {name, {s.state, s.admitted - s.failed, s.failed + rejected}}
        end),
      limiters:
        Map.new(snapshot.limiters, fn {name, s} ->
          {name, {:limiter, s.allowed, s.limited + s.never + s.table_full}}
        end),
      pools:
        Map.new(snapshot.pools, fn {name, s} ->
          {name, {:pool, s.granted, s.requests - s.granted}}
        end)
    }
  end

  defp rates(all, before, seconds) do
    Map.new(all, fn {name, {state, good, bad}} ->
      {_state, good_before, bad_before} = Map.get(before, name, {state, 0, 0})
      {name, {state, rate(good, good_before, seconds), rate(bad, bad_before, seconds)}}
    end)
  end

  # An object that was made anew counts from 0.
  defp rate(total, before, seconds) when total >= before,
    do: Float.round((total - before) / seconds, 1)

  defp rate(total, _before, seconds), do: Float.round(max(total, 0) / seconds, 1)

  defp changes(breakers, before) do
    for {name, {state, _, _}} <- breakers,
        {was, _, _} <- [Map.get(before, name, {:closed, 0, 0})],
        was != state,
        do: %{at: now(), breaker: name, from: was, to: state}
  end
end
