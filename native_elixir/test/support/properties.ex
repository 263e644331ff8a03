defmodule ElixirScope.Foundation.Properties do
  @moduledoc """
  Property tests with Debian's PropEr: random inputs, and the shortest one that fails.

  `mix test --seed N` makes the same inputs again: ExUnit prints its seed, and PropEr starts from it.
  """

  @doc """
  Checks `property` with `cases` inputs of a PropEr type. It fails by raising; what ExUnit then shows is how it fails
  for the shrunk input, which is printed before.
  """
  @spec check_all(term(), pos_integer(), (term() -> term())) :: :ok
  def check_all(type, cases, property) do
    # ExUnit has seeded the test's process. PropEr takes no seed, but a function that runs after it chose one.
    seed = {:rand.uniform(1_000_000), :rand.uniform(1_000_000), :rand.uniform(1_000_000)}

    seeded = fn ->
      :proper_arith.rand_start(seed)
      fn -> :ok end
    end

    test = :proper.setup(seeded, :proper.forall(type, &holds?(property, &1)))

    case :proper.quickcheck(test, [:quiet, :long_result, numtests: cases]) do
      true ->
        :ok

      [input] ->
        IO.puts("the property fails for #{inspect(input, limit: :infinity)}")
        property.(input)
        ExUnit.Assertions.flunk("the property failed for this input, but not again")

      error ->
        ExUnit.Assertions.flunk("PropEr could not check the property: #{inspect(error)}")
    end
  end

  # Debian's PropEr catches exceptions by a function that newer VMs lack, so none may reach it.
  defp holds?(property, input) do
    property.(input)
    true
  catch
    _kind, _reason -> false
  end
end
