defmodule ElixirScope.Foundation.SpecsTest do
  use ExUnit.Case, async: true

  # One stub a NIF; their callers say in their own specs what goes in and out.
  @stubs ElixirScope.Foundation.Infrastructure.Native

  test "every public function has a spec" do
    {:ok, modules} = :application.get_key(:elixir_scope_foundation, :modules)
    modules = for module <- modules -- [@stubs], of_the_product?(module), do: module
    functions = Enum.flat_map(modules, &public/1)
    assert length(functions) > 100
    assert functions -- Enum.flat_map(modules, &specified/1) == []
  end

  test "every public module and function is documented" do
    undocumented =
      for module <- documented(),
          {:docs_v1, _, _, _, moduledoc, _, docs} = Code.fetch_docs(module),
          missing <- missing(module, moduledoc, docs),
          do: missing

    assert undocumented == []
  end

  # Those that are not hidden; the protocols' implementations have nothing of their own to say.
  defp documented do
    {:ok, modules} = :application.get_key(:elixir_scope_foundation, :modules)

    for module <- modules,
        of_the_product?(module),
        not String.starts_with?(inspect(module), "Inspect."),
        {:docs_v1, _, _, _, moduledoc, _, _} = Code.fetch_docs(module),
        moduledoc != :hidden,
        do: module
  end

  # What a behaviour asks for is documented there.
  defp missing(module, moduledoc, docs) do
    asked_for = asked_for(module)

    of_functions =
      for {{kind, name, arity}, _, _, :none, _} <- docs,
          kind in [:function, :macro],
          {name, arity} not in asked_for,
          name != :__struct__,
          do: {module, name, arity}

    if moduledoc == :none, do: [module | of_functions], else: of_functions
  end

  # Others are compiled from test/support.
  defp of_the_product?(module) do
    source = List.to_string(module.module_info(:compile)[:source])
    String.starts_with?(source, Path.expand("../../lib", __DIR__) <> "/")
  end

  # A function with defaults is listed once, with all its arguments. What a behaviour asks for has its spec there.
  defp public(module) do
    {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(module)
    asked_for = asked_for(module)

    for {{:function, name, arity}, _, _, _, _} <- docs,
        {name, arity} not in asked_for,
        name != :__struct__,
        do: {module, name, arity}
  end

  defp asked_for(module) do
    behaviours = for {:behaviour, list} <- module.module_info(:attributes), one <- list, do: one

    Enum.flat_map(behaviours, & &1.behaviour_info(:callbacks)) ++
      if(behaviours -- [DynamicSupervisor, GenServer, Supervisor] == behaviours,
        do: [],
        else: [child_spec: 1]
      )
  end

  defp specified(module) do
    case Code.Typespec.fetch_specs(module) do
      {:ok, specs} -> for {{name, arity}, _} <- specs, do: {module, name, arity}
      :error -> []
    end
  end
end
