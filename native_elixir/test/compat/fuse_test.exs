defmodule ElixirScope.Compat.FuseTest do
  use ElixirScope.FuseCase, async: false

  alias ElixirScope.Foundation.Infrastructure.Native

  doctest ElixirScope.Compat.Fuse
  doctest ElixirScope.Compat.Fuse.Stats

  # One melt is tolerated, which the states below have had, `fresh` apart.
  @standard {{:standard, 1, 1_000}, {:reset, 100}}
  @gradual {{:fault_injection, 0.5, 1, 1_000}, {:reset, 100}}
  @gone {:error, :not_found}
  @half {:gradual, 0.5}

  # Every cell of the table of fuse 2.5: operation, state before, what it returns, state after, events. A whole fuse is
  # followed by the melts that it remembers, a blown one by the time until it heals; `blown` has had 40 of its 100 ms. Of
  # a gradual fuse the first of two asks is turned down.
  @cells [
    {:install, :absent, :ok, {:ok, 0}, [:ok]},
    {:install, {:ok, 1}, :ok, {:ok, 0}, [:ok]},
    {:install, {:gradual, 1}, :ok, {:ok, 0}, [:ok]},
    {:install, :blown, :ok, {:ok, 0}, [:ok]},
    {:install, :disabled, :ok, :disabled, []},
    {:install_gradual, :absent, :ok, {:gradual, 0}, [@half]},
    {:install_gradual, {:ok, 1}, :ok, {:gradual, 0}, [@half]},
    {:install_gradual, {:gradual, 1}, :ok, {:gradual, 0}, [@half]},
    {:install_gradual, :blown, :ok, {:gradual, 0}, [@half]},
    {:install_gradual, :disabled, :ok, :disabled, []},
    {:ask, :absent, @gone, :absent, []},
    {:ask, {:ok, 1}, :ok, {:ok, 1}, []},
    {:ask, {:gradual, 1}, :blown, {:gradual, 1}, []},
    {:ask, :blown, :blown, {:blown, 60}, []},
    {:ask, :disabled, :blown, :disabled, []},
    {:ask_dirty, :absent, @gone, :absent, []},
    {:ask_dirty, {:ok, 1}, :ok, {:ok, 1}, []},
    {:ask_dirty, {:gradual, 1}, :blown, {:gradual, 1}, []},
    {:ask_dirty, :blown, :blown, {:blown, 60}, []},
    {:ask_dirty, :disabled, :blown, :disabled, []},
    {:melt, :absent, :ok, :absent, []},
    {:melt, {:ok, 0}, :ok, {:ok, 1}, []},
    {:melt, {:ok, 1}, :ok, {:blown, 100}, [:blown]},
    {:melt, {:gradual, 0}, :ok, {:gradual, 1}, []},
    {:melt, {:gradual, 1}, :ok, {:blown, 100}, [:blown]},
    {:melt, :blown, :ok, {:blown, 60}, []},
    {:melt, :disabled, :ok, :disabled, []},
    {:timer, :absent, :ok, :absent, []},
    {:timer, {:ok, 1}, :ok, {:ok, 1}, []},
    {:timer, {:gradual, 1}, :ok, {:gradual, 1}, []},
    {:timer, :blown, :ok, {:ok, 0}, [:ok]},
    {:timer, :blown_gradual, :ok, {:gradual, 0}, [@half]},
    {:timer, :disabled, :ok, :disabled, []},
    {:reset, :absent, @gone, :absent, []},
    {:reset, {:ok, 1}, :ok, {:ok, 0}, [:ok]},
    {:reset, {:gradual, 1}, :ok, {:gradual, 0}, [@half]},
    {:reset, :blown, :ok, {:ok, 0}, [:ok]},
    {:reset, :disabled, :ok, :disabled, []},
    {:circuit_disable, :absent, @gone, :absent, []},
    {:circuit_disable, {:ok, 1}, :ok, :disabled, [:blown]},
    {:circuit_disable, {:gradual, 1}, :ok, :disabled, [:blown]},
    {:circuit_disable, :blown, :ok, :disabled, []},
    {:circuit_disable, :disabled, :ok, :disabled, []},
    {:circuit_enable, :absent, @gone, :absent, []},
    {:circuit_enable, {:ok, 1}, :ok, {:ok, 1}, []},
    {:circuit_enable, {:gradual, 1}, :ok, {:gradual, 1}, []},
    {:circuit_enable, :blown, :ok, {:blown, 60}, []},
    {:circuit_enable, :disabled, :ok, {:ok, 0}, [:ok]},
    {:circuit_enable, :disabled_blown, :ok, {:ok, 0}, [:ok]},
    {:circuit_enable, :disabled_gradual, :ok, {:gradual, 0}, [@half]},
    {:remove, :absent, @gone, :absent, []},
    {:remove, {:ok, 1}, :ok, :absent, [:removed]},
    {:remove, {:gradual, 1}, :ok, :absent, [:removed]},
    {:remove, :blown, :ok, :absent, [:removed]},
    {:remove, :disabled, :ok, :absent, [:removed]},
    {:run, :absent, {@gone, :not_called}, :absent, []},
    {:run, {:ok, 1}, {{:ok, 7}, :called}, {:ok, 1}, []},
    {:run, {:gradual, 1}, {:blown, :not_called}, {:gradual, 1}, []},
    {:run, :blown, {:blown, :not_called}, {:blown, 60}, []},
    {:run, :disabled, {:blown, :not_called}, :disabled, []},
    {:run_melting, {:ok, 0}, {{:ok, 7}, :called}, {:ok, 1}, []},
    {:run_melting, {:ok, 1}, {{:ok, 7}, :called}, {:blown, 100}, [:blown]}
  ]

  for {{operation, before, returns, then, events}, row} <- Enum.with_index(@cells) do
    test "#{operation} of a fuse that is #{inspect(before)}", %{name: name} do
      {operation, before, returns, then, events} =
        unquote(Macro.escape({operation, before, returns, then, events}))

      enter(before, name)
      events(name)
      returned = perform(operation, name)
      told = events(name)
      assert {unquote(row), returned, told, look(name)} == {unquote(row), returns, events, then}
    end
  end

  defp enter(:absent, _name), do: :ok
  defp enter({:ok, melts}, name), do: installed(name, @standard, melts)
  defp enter({:gradual, melts}, name), do: installed(name, @gradual, melts)
  defp enter(:blown, name), do: blown(name, @standard)
  defp enter(:blown_gradual, name), do: blown(name, @gradual)

  defp enter(disabled, name) do
    enter(
      %{disabled: {:ok, 1}, disabled_blown: :blown, disabled_gradual: {:gradual, 1}}[disabled],
      name
    )

    :ok = Fuse.circuit_disable(name)
  end

  defp installed(name, options, melts) do
    :ok = Fuse.install(name, options)
    melt(name, melts)
  end

  defp blown(name, options) do
    installed(name, options, 2)
    advance(name, 40)
  end

  defp perform(:install, name), do: Fuse.install(name, @standard)
  defp perform(:install_gradual, name), do: Fuse.install(name, @gradual)
  defp perform(:ask, name), do: Fuse.ask(name, :sync)
  defp perform(:ask_dirty, name), do: Fuse.ask(name, :async_dirty)
  defp perform(:run, name), do: run(name, {:ok, 7})
  defp perform(:run_melting, name), do: run(name, {:melt, 7})

  defp perform(:timer, name) do
    advance(name, 60)
    timer(id(name))
  end

  defp perform(operation, name), do: apply(Fuse, operation, [name])

  defp run(name, result) do
    test = self()
    answer = Fuse.run(name, fn -> send(test, :called) && result end, :sync)
    called = receive(do: (:called -> :called), after: (0 -> :not_called))
    {answer, called}
  end

  # The state as a caller finds it out.
  defp look(name) do
    case for(_ <- 1..2, do: Fuse.ask(name, :sync)) do
      [@gone, @gone] -> :absent
      [:ok, :ok] -> {:ok, melts(name)}
      [:blown, :blown] -> heals(name)
      [_one, _other] -> {:gradual, melts(name)}
    end
  end

  defp heals(name) do
    cond do
      heals_after?(name, 60) -> {:blown, 60}
      heals_after?(name, 40) -> {:blown, 100}
      true -> :disabled
    end
  end

  defp heals_after?(name, ms) do
    advance(name, ms - 1)
    assert Fuse.ask(name, :sync) == :blown
    advance(name, 1)
    :ok in for(_ <- 1..2, do: Fuse.ask(name, :sync))
  end

  defp melts(name), do: 2 - Enum.find(1..2, fn _melt -> melts_through?(name) end)

  defp melts_through?(name) do
    Fuse.melt(name)
    :ok not in for(_ <- 1..2, do: Fuse.ask(name, :sync))
  end

  describe "install" do
    test "takes no options that fuse refuses", %{name: name} do
      wrong = [
        :standard,
        {{:standard, -1, 100}, {:reset, 100}},
        {{:standard, 1.0, 100}, {:reset, 100}},
        {{:standard, 1, -1}, {:reset, 100}},
        {{:standard, 1, 100}, {:reset, -1}},
        {{:standard, 1, 100}, {:delay, 1}},
        {{:barrier, 1, 100}, {:reset, 100}},
        {{:fault_injection, 1, 1, 100}, {:reset, 100}},
        {{:fault_injection, 0.0, 1, 100}, {:reset, 100}},
        {{:fault_injection, 1.1, 1, 100}, {:reset, 100}},
        {{:fault_injection, 0.5, 0, 100}, {:reset, 100}},
        {{:standard, 65_536, 100}, {:reset, 100}},
        {{:standard, 1, 1}, {:probe, 100, [limit: 1]}},
        {{:standard, 1, 1}, {:probe, 100, backoff: 1.1}},
        {{:standard, 1, 1}, {:probe, 100, max_reset_timeout: 99}}
      ]

      for options <- wrong do
        assert catch_error(Fuse.install(name, options)) == :badarg
        assert Fuse.ask(name, :sync) == @gone
      end
    end

    test "leaves a fuse as it was when the options are refused", %{name: name} do
      enter({:ok, 1}, name)
      assert catch_error(Fuse.install(name, {{:standard, 65_536, 100}, {:reset, 100}})) == :badarg
      assert look(name) == {:ok, 1}
    end

    test "replaces the options", %{name: name} do
      enter({:ok, 1}, name)
      :ok = Fuse.install(name, {{:standard, 0, 10}, {:reset, 7}})
      melt(name, 1)
      assert Fuse.ask(name, :sync) == :blown
      advance(name, 7)
      assert Fuse.ask(name, :sync) == :ok
    end

    test "makes room for more melts, and keeps counters and the disabled state", %{name: name} do
      enter({:ok, 1}, name)
      Fuse.ask(name, :sync)
      events(name)
      :ok = Fuse.install(name, {{:standard, 100, 1_000}, {:reset, 100}})
      assert events(name) == [:ok]
      melt(name, 100)
      assert Fuse.ask(name, :sync) == :ok
      melt(name, 1)
      assert Fuse.ask(name, :sync) == :blown
      assert events(name) == [:blown]
      assert Fuse.Stats.counters(name) == [ok: 2, blown: 1, melt: 102]

      Fuse.circuit_disable(name)
      :ok = Fuse.install(name, {{:standard, 1_000, 1_000}, {:reset, 100}})
      advance(name, 1_000)
      assert {Fuse.ask(name, :sync), events(name)} == {:blown, []}
      Fuse.circuit_enable(name)
      assert {Fuse.ask(name, :sync), events(name)} == {:ok, [:ok]}
    end

    test "of a disabled fuse takes effect with the next enable", %{name: name} do
      enter(:disabled, name)
      :ok = Fuse.install(name, {{:standard, 0, 10}, {:reset, 7}})
      Fuse.circuit_enable(name)
      assert Fuse.ask(name, :sync) == :ok
      melt(name, 1)
      advance(name, 6)
      assert Fuse.ask(name, :sync) == :blown
      advance(name, 1)
      assert Fuse.ask(name, :sync) == :ok
    end

    test "takes any term for a name, and keeps equal numbers apart" do
      names = [1, 1.0, "fuse", 'fuse', nil, {:a, "tuple", []}, %{a: 1}, self(), make_ref()]
      for name <- names, do: :ok = Fuse.install(name, @standard)
      melt(1, 2)
      assert Fuse.ask(1, :sync) == :blown
      for name <- names -- [1], do: assert(Fuse.ask(name, :sync) == :ok)
      for name <- names, do: :ok = Fuse.remove(name)
    end
  end

  test "a melt of an absent fuse is counted nowhere", %{name: name} do
    melt(name, 3)
    assert catch_error(Fuse.Stats.counters(name)) == :badarg
    enter({:ok, 0}, name)
    assert Fuse.Stats.counters(name) == [ok: 0, blown: 0, melt: 0]
    assert look(name) == {:ok, 0}
  end

  test "a context that is none raises", %{name: name} do
    assert_raise FunctionClauseError, fn -> Fuse.ask(name, :dirty) end
    assert_raise FunctionClauseError, fn -> Fuse.run(name, fn -> {:ok, 1} end, :dirty) end
  end

  test "melts that are max_t old do not count", %{name: name} do
    enter({:ok, 1}, name)
    advance(name, 999)
    melt(name, 1)
    assert Fuse.ask(name, :sync) == :blown
    enter({:ok, 1}, name)
    advance(name, 1_000)
    melt(name, 1)
    assert Fuse.ask(name, :sync) == :ok
  end

  test "a rate of 1.0 turns every ask down, and melts count none the less", %{name: name} do
    :ok = Fuse.install(name, {{:fault_injection, 1.0, 1, 1_000}, {:reset, 100}})
    for _ <- 1..10, do: assert(Fuse.ask(name, :sync) == :blown)
    melt(name, 2)
    assert events(name) == [{:gradual, 1.0}, :blown]
  end

  test "a fuse of the machine's clock heals though nobody asks" do
    name = {:heals, make_ref()}
    :ok = Fuse.install(name, {{:standard, 0, 1_000}, {:reset, 5}})
    assert events(name) == [:ok]
    melt(name, 1)
    assert_receive {:fuse_event, {^name, :blown}}, 5_000
    assert_receive {:fuse_event, {^name, :ok}}, 5_000
    :ok = Fuse.remove(name)
    assert events(name) == [:removed]
    assert Fuse.ask(name, :sync) == @gone
  end

  test "run: what fun may not return is no melt", %{name: name} do
    enter({:ok, 1}, name)
    assert catch_error(Fuse.run(name, fn -> :done end, :sync)) == {:case_clause, :done}
    {breaker, nil} = Fuse.Table.find(name)
    assert %{admitted: 1, ignored: 1} = Native.breaker_stats(breaker)
    assert look(name) == {:ok, 1}
  end

  test "run: a fuse that was removed meanwhile changes nothing for the caller", %{name: name} do
    enter({:ok, 1}, name)
    assert Fuse.run(name, fn -> {:melt, Fuse.remove(name)} end, :sync) == {:ok, :ok}
    assert Fuse.ask(name, :sync) == @gone
  end

  test "a rate that is smaller than a step is one step", %{name: name} do
    :ok = Fuse.install(name, {{:fault_injection, 0.00001, 1, 1_000}, {:reset, 100}})
    answers = for _ <- 1..10_000, do: Fuse.ask(name, :sync)
    assert Enum.count(answers, &(&1 == :blown)) == 1
  end

  test "the end of a test's namespace forgets its fuses", %{name: name} do
    {{:test, reference} = namespace, _fuse} = name
    names = [name, {namespace, :removed}]
    for name <- names, do: enter({:ok, 1}, name)
    :ok = Fuse.remove({namespace, :removed})
    ElixirScope.Foundation.ProcessRegistry.cleanup_test_namespace(reference)

    for name <- names do
      assert Fuse.ask(name, :sync) == @gone
      assert catch_error(Fuse.Stats.counters(name)) == :badarg
    end
  end
end
