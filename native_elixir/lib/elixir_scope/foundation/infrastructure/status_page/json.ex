defmodule ElixirScope.Foundation.Infrastructure.StatusPage.Json do
  @moduledoc false
  # JSON (RFC 8259) of what the status page knows. OTP 25 has no encoder of its own; this one knows the few kinds of
  # values that occur here.

  alias ElixirScope.Foundation.Infrastructure.StatusPage.History

  @spec encode(History.t()) :: String.t()
  def encode(history) do
    latest = List.last(history.samples) || %{}

    %{
      at: history.at,
      breakers: objects(history.now.breakers, latest[:breakers]),
      limiters: objects(history.now.limiters, latest[:limiters]),
      pools: objects(history.now.pools, latest[:pools]),
      changes: history.changes,
      metrics:
        for {name, emissions, measurements} <- history.now.metrics do
          %{name: name, emissions: emissions, measurements: measurements || %{}}
        end
    }
    |> value()
    |> IO.iodata_to_binary()
  end

  defp objects(all, latest) do
    for {name, stats} <- all do
      {_state, good, bad} = Map.get(latest || %{}, name, {nil, 0.0, 0.0})
      Map.merge(stats, %{name: name, good_per_second: good, bad_per_second: bad})
    end
  end

  defp value(constant) when constant in [nil, true, false],
    do: if(constant == nil, do: "null", else: to_string(constant))

  defp value(number) when is_number(number), do: to_string(number)
  defp value(%DateTime{} = time), do: time |> DateTime.to_iso8601() |> string()
  defp value(atom) when is_atom(atom), do: atom |> Atom.to_string() |> string()
  defp value(text) when is_binary(text), do: string(text)
  defp value(list) when is_list(list), do: [?[, Enum.map_intersperse(list, ?,, &value/1), ?]]

  defp value(%{} = map) do
    members =
      for {name, value} <- Enum.sort(map), do: [string(Atom.to_string(name)), ?:, value(value)]

    [?{, Enum.intersperse(members, ?,), ?}]
  end

  defp string(text), do: [?", for(<<c::utf8 <- text>>, do: character(c)), ?"]

  defp character(c) when c in [?", ?\\], do: [?\\, c]

  defp character(c) when c < 0x20,
    do: ["\\u", c |> Integer.to_string(16) |> String.pad_leading(4, "0")]

  defp character(c), do: <<c::utf8>>
end
