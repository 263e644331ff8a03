defmodule ParseServiceTest do
  use ExUnit.Case, async: false
  doctest ParseService

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.CircuitBreaker

  defp who, do: %{user: make_ref(), organisation: make_ref()}

  # The limits are those of a user each; the one for all holds 500 a second.
  defp patiently(source) do
    case ParseService.parse(who(), source) do
      {:error, %Error{error_type: :rate_limited, context: %{retry_after_ms: ms}}} ->
        Process.sleep(ms)
        patiently(source)

      result ->
        result
    end
  end

  test "parses the sources of the installed Elixir" do
    sources = ParseService.Installed.sources()
    assert length(sources) > 100

    parsed =
      for {name, read} <- Enum.take_every(sources, 4), source = read.() do
        assert match?({:ok, {_, _, [_ | _]}}, patiently(source)), "#{name} did not parse"
        byte_size(source)
      end

    assert length(parsed) > 25
    assert Enum.sum(parsed) > 100_000
  end

  test "what the compiler kept is written as it was meant" do
    beam = to_string(:code.which(Enum))
    source = ParseService.Installed.written(beam)
    assert source =~ "defmodule Enum do"
    assert source =~ ~r/def map\(enumerable, fun\)/
    assert ParseService.Installed.written("/no/such.beam") == nil
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
