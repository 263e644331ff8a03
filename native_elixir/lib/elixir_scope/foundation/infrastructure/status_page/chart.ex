defmodule ElixirScope.Foundation.Infrastructure.StatusPage.Chart do
  @moduledoc false
  # The two pictures of the status page as SVG: a strip of states, and two curves. Time goes to the right and ends at the
  # right edge; each says in its label what it shows. A sample that is nil is of a time before the object was there.

  alias ElixirScope.Foundation.Infrastructure.StatusPage.Page

  @height 44

  @spec strip([atom() | nil], pos_integer(), atom()) :: String.t()
  def strip(states, room, name) do
    label = "#{name}, last #{length(states)} seconds: #{summary(states)}"

    states
    |> Enum.with_index(room - length(states))
    |> Enum.chunk_by(&elem(&1, 0))
    |> Enum.map_join(fn [{state, from} | _] = run -> band(state, from, length(run)) end)
    |> svg(room, label)
  end

  defp band(nil, _from, _width), do: ""

  # What is not closed is higher, too.
  defp band(state, from, width) do
    top = %{closed: @height - 14, half_open: @height - 29, open: 0}[state]

    ~s(<rect class="f-#{Page.tone(state)}" x="#{from}" width="#{width}" y="#{top}" height="#{@height - top}"/>)
  end

  defp summary(states) do
    case states |> Enum.reject(&is_nil/1) |> Enum.frequencies() |> Enum.sort() do
      [] -> "nothing yet"
      counts -> Enum.map_join(counts, ", ", fn {state, n} -> "#{state} #{n} s" end)
    end
  end

  @spec curve([tuple() | nil], pos_integer(), atom(), {String.t(), String.t()}) :: String.t()
  def curve(rates, room, name, {good, bad}) do
    peak = for({_, g, b} <- rates, do: max(g, b)) |> Enum.max(fn -> 0.0 end)

    label =
      "#{name}, last #{length(rates)} seconds: at most #{peak} a second (#{good}, or #{bad}: dashed)"

    svg(line(rates, room, peak, 1, "good") <> line(rates, room, peak, 2, "fail"), room, label)
  end

  defp line(rates, room, peak, field, class) do
    points =
      for {rate, x} <- Enum.with_index(rates, room - length(rates)), rate != nil do
        "#{x},#{Float.round(@height - 2 - elem(rate, field) / max(peak, 1.0) * (@height - 6), 1)}"
      end

    ~s(<polyline class="#{class}" vector-effect="non-scaling-stroke" points="#{Enum.join(points, " ")}"/>)
  end

  defp svg(content, room, label) do
    ~s(<svg role="img" aria-label="#{Page.escape(label)}" viewBox="0 0 #{room} #{@height}" preserveAspectRatio="none">#{content}</svg>)
  end
end
