defmodule ElixirScope.Foundation.Vectors do
  @moduledoc """
  Reads `tests/vectors/*.json`, the operations and answers that every language replays.
  """

  @doc "The vectors of a primitive."
  @spec read(:breaker | :limiter | :pool | :pool_full) :: [map()]
  def read(primitive) do
    path = Path.expand("../../../tests/vectors/#{primitive}.json", __DIR__)
    %{"vectors" => vectors} = path |> File.read!() |> :jiffy.decode([:return_maps, :use_nil])
    vectors
  end

  @doc "Prints what `make vectors` shows."
  @spec report(:breaker | :limiter | :pool | :pool_full, [map()]) :: :ok
  def report(primitive, vectors),
    do: IO.puts("vectors #{primitive} elixir: #{length(vectors)} replayed, 0 failed")
end
