defmodule ElixirScope.Foundation.EventStoreRequestsTest do
  # Who is served first, and who has waited too long.
  use ExUnit.Case, async: true

  alias ElixirScope.Foundation.Services.EventStore.Requests

  defp requests(list) do
    Enum.reduce(list, Requests.new(), fn {request, from, at}, requests ->
      Requests.add(requests, request, from, at)
    end)
  end

  test "those that somebody waits for go first, both in their order" do
    requests = requests([{:a, nil, 1}, {:b, :me, 2}, {:c, nil, 3}, {:d, :you, 4}])
    assert {taken, rest} = Requests.take(requests)
    assert Enum.map(taken, &elem(&1, 0)) == [:b, :d, :a, :c]
    assert Requests.empty?(rest)
  end

  test "a transaction takes a thousand, and a backlog of what nobody waits for holds no caller up" do
    backlog = for n <- 1..2_500, do: {n, nil, 0}
    requests = requests(backlog ++ [{:probe, :me, 1}])
    assert {[{:probe, :me, 1} | others], rest} = Requests.take(requests)
    assert Enum.map(others, &elem(&1, 0)) == Enum.to_list(1..999)
    assert {next, rest} = Requests.take(rest)
    assert Enum.map(next, &elem(&1, 0)) == Enum.to_list(1_000..1_999)
    assert {all, rest} = Requests.take_all(rest)
    assert Enum.map(all, &elem(&1, 0)) == Enum.to_list(2_000..2_500)
    assert Requests.empty?(rest)
  end

  test "who has waited for four seconds is late" do
    requests = requests([{:a, :me, 0}, {:b, nil, 1}, {:c, :me, 2}, {:d, nil, 3}])
    assert {[], _all} = Requests.take_late(requests, 3_999)
    assert {late, rest} = Requests.take_late(requests, 4_001)
    assert Enum.sort(Enum.map(late, &elem(&1, 0))) == [:a, :b]
    assert {[{:c, :me, 2}, {:d, nil, 3}], _none} = Requests.take(rest)
  end
end
