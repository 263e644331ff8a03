defmodule ParseServiceTest do
  use ExUnit.Case, async: false
  doctest ParseService

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.CircuitBreaker

  defp who, do: %{user: make_ref(), organisation: make_ref()}

  # Debian's package holds no sources of Elixir, so those of the product are next.
  defp sources, do: Path.expand("../../../native_elixir/lib", __DIR__)

  test "parses real sources, all of them" do
    files = sources() |> Path.join("**/*.ex") |> Path.wildcard() |> Enum.take(40)
    assert length(files) == 40
    for file <- files, do: assert({:ok, {_, _, _}} = ParseService.parse(who(), File.read!(file)))
  end

  test "makes no atoms of a user's words" do
    word = "word_#{System.unique_integer([:positive])}_x"
    assert {:ok, _tree} = ParseService.parse(who(), word)
    assert_raise ArgumentError, fn -> String.to_existing_atom(word) end
  end

  test "limits users and organisations apart" do
    ann = who()
    for _ <- 1..20, do: ParseService.parse(ann, "1")

    assert {:error, %Error{error_type: :rate_limited, context: %{level: :user}}} =
             ParseService.parse(ann, "1")

    bob = %{ann | user: make_ref()}
    assert {:ok, 1} = ParseService.parse(bob, "1")
  end

  test "a source that does not parse says nothing about the service" do
    {:ok, before} = CircuitBreaker.stats(:production, :parser)
    for _ <- 1..10, do: assert({:error, {:syntax, _}} = ParseService.parse(who(), "def ("))
    assert {:ok, %{state: :closed, failed: failed}} = CircuitBreaker.stats(:production, :parser)
    assert failed == before.failed
  end
end
