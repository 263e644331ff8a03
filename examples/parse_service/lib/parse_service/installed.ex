defmodule ParseService.Installed do
  @moduledoc """
  The sources of the Elixir that is installed: something real to parse.

  Where the sources themselves are there, it is those. Packages such as Debian's hold compiled modules only; then it is what
  the compiler has kept in them for debuggers, every function as it was after the expansion of its macros, written
  as Elixir again. A few expansions hold what has no syntax; such a function is left out.
  """

  @doc "Names of sources, each with a function that reads it."
  @spec sources() :: [{String.t(), (() -> String.t() | nil)}]
  def sources do
    case "lib/**/*.ex" |> inside() |> Path.wildcard() do
      [] ->
        for beam <- Path.wildcard(inside("ebin/Elixir.*.beam")),
            do: {Path.basename(beam), fn -> written(beam) end}

      files ->
        for file <- files, do: {Path.basename(file), fn -> File.read!(file) end}
    end
  end

  defp inside(path), do: :elixir |> :code.lib_dir() |> Path.join(path)

  @doc "A compiled module as source; nil if its compiler kept nothing."
  @spec written(Path.t()) :: String.t() | nil
  def written(beam) do
    with {:ok, {module, [debug_info: {:debug_info_v1, backend, data}]}} <-
           :beam_lib.chunks(String.to_charlist(beam), [:debug_info]),
         {:ok, %{definitions: definitions}} <- backend.debug_info(:elixir_v1, module, data, []) do
      functions =
        for definition <- definitions, clause <- clauses(definition), do: [clause, "\n\n"]

      IO.iodata_to_binary(["defmodule ", inspect(module), " do\n", functions, "end\n"])
    else
      _nothing -> nil
    end
  end

  defp clauses({{name, _arity}, kind, _meta, clauses}) do
    for {_meta, arguments, guards, body} <- clauses do
      head =
        Enum.reduce(guards, {name, [], arguments}, fn guard, head ->
          {:when, [], [head, guard]}
        end)

      text({kind, [], [head, [do: body]]})
    end
  end

  defp text(definition) do
    text = Macro.to_string(definition)
    if match?({:ok, _}, Code.string_to_quoted(text)), do: text, else: ""
  rescue
    # Where it meets what no source can hold, `Macro.to_string/1` fails in its own ways.
    _not_writable -> ""
  end
end
