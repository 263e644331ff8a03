defmodule ElixirScopeBench.Reference do
  @moduledoc false
  # The reference NIF; `ESCOPE_REFERENCE_NIF` is its path without the extension.
  @on_load :load

  def load, do: :erlang.load_nif(String.to_charlist(System.fetch_env!("ESCOPE_REFERENCE_NIF")), 0)

  def new, do: :erlang.nif_error(:nif_not_loaded)
  def call(_held, _one, _two), do: :erlang.nif_error(:nif_not_loaded)
end

defmodule ElixirScopeBench.SideBySide do
  @moduledoc false
  # Measures two ways of doing the same thing in turn, on a number of processes at a time. A side is a function of
  # a repeat count that returns how many operations were admitted; it is a compiled loop. The cost of a base, which
  # is an empty loop unless another is given, is taken off both.
  #
  # A round measures the one and the other, back to back; which goes first alternates. The ratio is the median of the
  # rounds' ratios, the spread the distance between their quartiles.

  @rounds 9
  @slice_ns 60_000_000

  @doc "A row of the summary, or nil if an operation was not admitted."
  def row(id, peer_name, bound, processes, ours, peer, base \\ &empty/1) do
    {ours_n, peer_n} = {repeats(ours, processes), repeats(peer, processes)}
    ours = fn -> round(id, ours, base, processes, ours_n) end
    peer = fn -> round(id, peer, base, processes, peer_n) end
    {our_times, peer_times} = 1..@rounds |> Enum.map(&pair(&1, ours, peer)) |> Enum.unzip()

    if Enum.all?(our_times ++ peer_times),
      do: summary(id, peer_name, bound, processes, our_times, peer_times)
  end

  @doc "The row of what each round measured on either side."
  def summary(id, peer_name, bound, processes, our_times, peer_times) do
    [lower, ratio, upper] = quartiles(Enum.zip_with(our_times, peer_times, &(&1 / &2)))
    [[_, ours_ns, _], [_, peer_ns, _]] = [quartiles(our_times), quartiles(peer_times)]

    %{
      id: id,
      threads: processes,
      peer: peer_name,
      bound: bound,
      ours_ns: ours_ns,
      peer_ns: peer_ns,
      ratio: ratio,
      spread: upper - lower
    }
  end

  defp pair(turn, ours, peer) when rem(turn, 2) == 1 do
    ours_ns = ours.()
    {ours_ns, peer.()}
  end

  defp pair(_turn, ours, peer) do
    peer_ns = peer.()
    {ours.(), peer_ns}
  end

  @doc "The row as a line of JSON: its values are numbers, nil and plain strings."
  def to_json(row) do
    fields = for {key, value} <- row, do: [?", Atom.to_string(key), ~s(":), json(value)]
    ["{", Enum.intersperse(fields, ","), "}"]
  end

  defp json(nil), do: "null"
  defp json(value) when is_binary(value), do: [?", value, ?"]
  defp json(value) when is_integer(value), do: Integer.to_string(value)
  defp json(value) when is_float(value), do: :erlang.float_to_binary(value, decimals: 3)

  defp repeats(side, processes) do
    Stream.iterate(100, &(&1 * 2))
    |> Enum.find(fn n -> elem(run(side, processes, n), 0) >= @slice_ns end)
  end

  defp round(id, side, base, processes, n) do
    {time, admitted} = run(side, processes, n)
    {base_time, _} = run(base, processes, n)

    if admitted == n * processes do
      (time - base_time) / n
    else
      IO.puts(:stderr, "#{id}: #{admitted} of #{n * processes} admitted, the row is dropped")
      nil
    end
  end

  # All processes start together; the time is the slowest one's.
  defp run(side, processes, n) do
    parent = self()

    workers =
      for _ <- 1..processes do
        spawn_link(fn ->
          receive do: (:go -> :ok)
          began = System.monotonic_time(:nanosecond)
          admitted = side.(n)
          send(parent, {self(), System.monotonic_time(:nanosecond) - began, admitted})
        end)
      end

    Enum.each(workers, &send(&1, :go))

    results =
      for worker <- workers, do: receive(do: ({^worker, time, admitted} -> {time, admitted}))

    {results |> Enum.map(&elem(&1, 0)) |> Enum.max(),
     results |> Enum.map(&elem(&1, 1)) |> Enum.sum()}
  end

  defp empty(0), do: 0
  defp empty(n), do: empty(n - 1)

  # The lower quartile, the median and the upper quartile, by nearest rank.
  defp quartiles(values) do
    ordered = Enum.sort(values)
    for quarter <- 1..3, do: Enum.at(ordered, div(length(ordered) * quarter, 4))
  end
end
