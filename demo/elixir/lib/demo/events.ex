defmodule Demo.Events do
  @moduledoc """
  The events that this worker is to store, read from records `<seq> <bytes>\\n<body>\\n`.
  """

  @type event :: {seq :: non_neg_integer(), body :: binary()}

  @doc "All events of a file, as a tuple: clients pick theirs by position."
  @spec read!(Path.t()) :: tuple()
  def read!(path), do: path |> File.read!() |> parse([]) |> List.to_tuple()

  defp parse("", events), do: Enum.reverse(events)

  defp parse(data, events) do
    [head, rest] = :binary.split(data, "\n")
    [seq, length] = head |> String.split(" ") |> Enum.map(&String.to_integer/1)
    <<body::binary-size(length), "\n", rest::binary>> = rest
    parse(rest, [{seq, body} | events])
  end
end
