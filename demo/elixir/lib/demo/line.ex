defmodule Demo.Line do
  @moduledoc """
  One JSON object a line on standard output: how this worker talks to the stage (`demo/harness/worker.py`).
  """

  @doc "Prints a flat map of integers, atoms and strings."
  @spec say(atom(), keyword()) :: :ok
  def say(type, fields \\ []) do
    body =
      Enum.map_intersperse([{:type, type} | fields], ",", fn {key, value} -> [text(key), ":", json(value)] end)

    IO.write(["{", body, "}\n"])
  end

  defp json(value) when is_integer(value), do: Integer.to_string(value)
  defp json(value), do: text(value)

  defp text(value), do: [?", value |> to_string() |> String.replace(["\\", "\""], &("\\" <> &1)), ?"]
end
