defmodule ElixirScope.Compat.ExRatedTest do
  # Not async: servers of its own write and prune the one table.
  use ExUnit.Case, async: false
  doctest ElixirScope.Compat.ExRated

  alias ElixirScope.Compat.ExRated
  alias ElixirScope.Compat.ExRated.{Buckets, Server}
  alias ElixirScope.Foundation.Infrastructure.ManualClock
  alias ElixirScope.Foundation.{ProcessRegistry, TelemetryLog}

  @day 86_400_000

  setup do
    reference = make_ref()
    namespace = {:test, reference}
    :ok = ManualClock.install(namespace)
    on_exit(fn -> ProcessRegistry.cleanup_test_namespace(reference) end)
    %{namespace: namespace, id: {namespace, :id}}
  end

  defp file do
    folder = Path.join(System.tmp_dir!(), "ex_rated_#{System.pid()}_#{System.unique_integer()}")
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    Path.join(folder, "buckets")
  end

  defp configure(settings) do
    before = Application.get_env(:elixir_scope, :ex_rated, [])
    on_exit(fn -> Application.put_env(:elixir_scope, :ex_rated, before) end)
    Application.put_env(:elixir_scope, :ex_rated, settings)
  end

  describe "operation table" do
    # {operation, expected}, on one id at a scale of 1,000 ms from time 0.
    for {name, operations} <- [
          {"counts up to the limit, and denied calls too",
           [
             {{:check, 2}, {:ok, 1}},
             {{:check, 2}, {:ok, 2}},
             {{:check, 2}, {:error, 2}},
             {{:check, 10}, {:ok, 4}},
             {{:check, 2}, {:error, 2}}
           ]},
          {"windows begin with the epoch, not with the first call",
           [
             {{:at, 999}, nil},
             {{:check, 1}, {:ok, 1}},
             {{:check, 1}, {:error, 1}},
             {{:inspect, 1}, {2, 0, 1, 999, 999}},
             {{:at, 1_000}, nil},
             {{:inspect, 1}, {0, 1, 1_000, nil, nil}},
             {{:check, 1}, {:ok, 1}},
             {{:at, 1_250}, nil},
             {{:check, 1}, {:error, 1}},
             {{:inspect, 1}, {2, 0, 750, 1_000, 1_250}}
           ]},
          {"a limit of 0 counts nothing",
           [{{:check, 0}, {:error, 0}}, {{:inspect, 5}, {0, 5, 1_000, nil, nil}}]},
          {"delete forgets all windows of the id",
           [
             {{:check, 1}, {:ok, 1}},
             {{:at, 1_500}, nil},
             {{:check, 1}, {:ok, 1}},
             {:delete, :ok},
             {{:check, 1}, {:ok, 1}},
             {:delete, :ok},
             {:delete, :error}
           ]},
          {"a scale may be a fraction",
           [
             {{:check, 1.5, 1}, {:ok, 1}},
             {{:check, 1.5, 1}, {:error, 1}},
             {{:inspect, 1.5, 1}, {2, 0, 1.5, 0, 0}},
             {{:at, 2}, nil},
             {{:check, 1.5, 1}, {:ok, 1}}
           ]}
        ] do
      test name, %{namespace: namespace, id: id} do
        for {{operation, expected}, index} <-
              Enum.with_index(unquote(Macro.escape(operations))) do
          result = run(operation, id, namespace)
          assert result == expected, "#{index}: #{inspect(operation)} is #{inspect(result)}"
        end
      end
    end
  end

  defp run({:at, ms}, _id, namespace) do
    :ok = ManualClock.set_ns(namespace, ms * 1_000_000)
    nil
  end

  defp run({:check, limit}, id, _), do: ExRated.check_rate(id, 1_000, limit)
  defp run({:check, scale, limit}, id, _), do: ExRated.check_rate(id, scale, limit)
  defp run({:inspect, limit}, id, _), do: ExRated.inspect_bucket(id, 1_000, limit)
  defp run({:inspect, scale, limit}, id, _), do: ExRated.inspect_bucket(id, scale, limit)
  defp run(:delete, id, _), do: ExRated.delete_bucket(id)

  test "ids are any term, and equal numbers are one id", %{namespace: namespace} do
    ids = [nil, :_, :"$1", "a", :a, 'a', {:a}, %{a: 1}, self(), make_ref(), [], {}, -1]
    for id <- ids, do: assert({:ok, 1} = ExRated.check_rate({namespace, id}, @day, 1))
    for id <- ids, do: assert({:error, 1} = ExRated.check_rate({namespace, id}, @day, 1))
    assert {:ok, 1} = ExRated.check_rate({namespace, 1}, @day, 5)
    assert {:ok, 2} = ExRated.check_rate({namespace, 1.0}, @day, 5)
    # An id that a match would take for any other deletes itself only.
    assert :ok = ExRated.delete_bucket({namespace, :_})
    assert {:error, 1} = ExRated.check_rate({namespace, "a"}, @day, 1)

    for id <- [-1, :_, nil] do
      assert {:ok, 1} = ExRated.check_rate(id, @day * 365, 5)
      assert :ok = ExRated.delete_bucket(id)
    end
  end

  test "the wall clock of ids that are no test's" do
    id = make_ref()
    now = System.system_time(:millisecond)
    assert {:ok, 1} = ExRated.check_rate(id, @day, 5)
    assert {1, 4, ms_to_next, created, created} = ExRated.inspect_bucket(id, @day, 5)
    assert created >= now
    assert ms_to_next in 1..@day
    assert :ok = ExRated.delete_bucket(id)
  end

  describe "differences" do
    test "D1: many processes on fresh ids admit exactly the limit", %{namespace: namespace} do
      ids = for number <- 1..2_000, do: {namespace, number}

      admitted =
        1..8
        |> Enum.map(fn _ ->
          Task.async(fn -> for id <- ids, _ <- 1..3, do: ExRated.check_rate(id, @day, 5) end)
        end)
        |> Task.await_many(:infinity)
        |> List.flatten()
        |> Enum.count(&match?({:ok, _}, &1))

      assert admitted == 5 * 2_000
    end

    test "D2: clean-ups in the middle of calls harm none" do
      id = make_ref()
      tasks = for _ <- 1..4, do: Task.async(fn -> for _ <- 1..5_000, do: check(id) end)
      pruner = Task.async(fn -> for _ <- 1..2_000, do: Buckets.prune() end)
      assert tasks |> Task.await_many(:infinity) |> List.flatten() |> Enum.all?(&(&1 == :ok))
      Task.await(pruner, :infinity)
    end

    # At this scale nearly each call begins a window.
    defp check(id), do: elem(ExRated.check_rate(id, 1, 1_000_000), 0)

    test "D3: delete is ok where an old window was left", %{namespace: namespace, id: id} do
      ExRated.check_rate(id, 10, 1)
      ManualClock.advance(namespace, 10)
      ExRated.check_rate(id, 10, 1)
      assert :ok = ExRated.delete_bucket(id)
      assert :error = ExRated.delete_bucket(id)
    end

    test "D4: start arguments in any order, wrong ones are told" do
      file = file()
      configure(file: file)

      for args <- [
            [],
            [timeout: 1],
            [cleanup_rate: 1_000],
            [persistent: true],
            [persistent: true, cleanup_rate: 9, timeout: 8],
            [persistent: nil]
          ] do
        assert {:ok, server} = ExRated.start_link(args)
        assert :ok = ExRated.stop(server)
      end

      for {args, text} <- [
            {[ets_table_name: :x], "the argument is :ets_table_name, allowed is one of :timeout"},
            {[timeout: 0], "timeout is 0, allowed is a positive number of milliseconds"},
            {[cleanup_rate: 1.5], "cleanup_rate is 1.5"},
            {[persistent: 1], "persistent is 1, allowed is true or false"},
            {7, "arguments are 7, allowed is a keyword list"}
          ] do
        error = assert_raise ArgumentError, fn -> ExRated.start_link(args) end
        assert error.message =~ text
      end
    end

    test "D5, D6: a window is dropped when it is over, and not before" do
      [present, past] = [make_ref(), make_ref()]
      assert {:ok, 1} = ExRated.check_rate(present, @day * 365, 5)
      assert {:ok, 1} = ExRated.check_rate(past, 1, 5)
      {:ok, server} = ExRated.start_link(timeout: 1, cleanup_rate: @day)
      wait_until(fn -> elem(ExRated.inspect_bucket(past, 1, 5), 0) == 0 end)
      send(server, :clean_up)
      :sys.get_state(server)
      assert {:ok, 2} = ExRated.check_rate(present, @day * 365, 5)
      assert :error = ExRated.delete_bucket(past)
      ExRated.stop(server)
      ExRated.delete_bucket(present)
    end

    test "D7: the file is written with each clean-up, and read at a start" do
      configure(file: file())
      id = make_ref()
      assert {:ok, 1} = ExRated.check_rate(id, @day * 365, 5)
      {:ok, server} = GenServer.start(Server, Server.settings!(persistent: true))
      send(server, :clean_up)
      :sys.get_state(server)
      kill(server)
      assert :ok = ExRated.delete_bucket(id)
      # What was counted meanwhile stays; what was not is as it was.
      other = make_ref()
      assert {:ok, 1} = ExRated.check_rate(other, @day * 365, 5)
      {:ok, server} = ExRated.start_link(persistent: true)
      assert {:ok, 2} = ExRated.check_rate(id, @day * 365, 5)
      assert {:ok, 2} = ExRated.check_rate(other, @day * 365, 5)
      # A clean stop writes as well.
      assert :ok = ExRated.stop(server)
      Enum.each([id, other], &ExRated.delete_bucket/1)
      {:ok, server} = ExRated.start_link(persistent: true)
      assert {:ok, 3} = ExRated.check_rate(id, @day * 365, 5)
      ExRated.stop(server)
      Enum.each([id, other], &ExRated.delete_bucket/1)
    end

    test "D8: a crash of the server loses nothing, and another one starts" do
      id = make_ref()
      assert {:ok, 1} = ExRated.check_rate(id, @day * 365, 5)
      server = Process.whereis(ExRated)
      kill(server)
      wait_until(fn -> Process.whereis(ExRated) not in [nil, server] end)
      assert {:ok, 2} = ExRated.check_rate(id, @day * 365, 5)
      assert :ok = ExRated.delete_bucket(id)
    end

    test "D9: a damaged file is refused and kept" do
      path = file()
      configure(file: path)
      id = make_ref()
      assert {:ok, 1} = ExRated.check_rate(id, @day * 365, 5)
      {:ok, server} = ExRated.start_link(persistent: true)
      :ok = ExRated.stop(server)
      ExRated.delete_bucket(id)
      good = File.read!(path)
      size = byte_size(good) - 1
      <<short::binary-size(size), last>> = good

      :ok = TelemetryLog.attach()

      for bad <- [short, short <> <<Bitwise.bxor(last, 1)>>, "no file of ours", ""] do
        File.write!(path, bad)
        {:ok, server} = ExRated.start_link(persistent: true, cleanup_rate: @day)
        assert_received {:telemetry, name, %{count: 1}, %{file: ^path, reason: :damaged}}
        assert List.last(name) == :file_refused
        assert File.read!(path <> ".damaged") == bad
        assert {0, 5, _, nil, nil} = ExRated.inspect_bucket(id, @day * 365, 5)
        ExRated.stop(server)
      end

      # One that cannot be written is told as well.
      configure(file: "/proc/none/buckets")
      {:ok, server} = ExRated.start_link(persistent: true)
      ExRated.stop(server)
      assert_received {:telemetry, [_, _, _, :ex_rated, :file_not_written], _, %{reason: :enoent}}
    end

    test "D10: a limit below 1 admits nothing", %{id: id} do
      for limit <- [0, 0.0, 0.5, -1], _ <- 1..2 do
        assert {:error, ^limit} = ExRated.check_rate(id, 1_000, limit)
      end

      assert {0, 1, 1_000, nil, nil} = ExRated.inspect_bucket(id, 1_000, 1)
    end

    test "D11: a scale that is none is told", %{id: id} do
      for scale <- [0, -1, nil, "1"],
          call <- [&ExRated.check_rate/3, &ExRated.inspect_bucket/3] do
        error = assert_raise ArgumentError, fn -> call.(id, scale, 1) end
        assert error.message =~ "scale is #{inspect(scale)}, allowed is a positive number"
      end

      error = assert_raise ArgumentError, fn -> ExRated.check_rate(id, 1, "1") end
      assert error.message =~ ~s(limit is "1", allowed is a number)
    end

    test "D12: scales of one id do not meet", %{namespace: namespace, id: id} do
      # Window 7 of both.
      ManualClock.set_ns(namespace, 420_007 * 1_000_000)
      assert {:ok, 1} = ExRated.check_rate(id, 60_000, 5)
      assert {:ok, 1} = ExRated.check_rate(id, 60_001, 5)
      assert :ok = ExRated.delete_bucket(id)
      assert {:ok, 1} = ExRated.check_rate(id, 60_001, 5)
    end

    test "D13: no server is needed to look and to delete", %{id: id} do
      assert {:ok, 1} = ExRated.check_rate(id, 1_000, 1)
      :sys.suspend(ExRated)
      assert {1, 0, 1_000, 0, 0} = ExRated.inspect_bucket(id, 1_000, 1)
      assert :ok = ExRated.delete_bucket(id)
      :sys.resume(ExRated)
    end

    test "D14: a second server" do
      server = Process.whereis(ExRated)
      assert {:error, {:already_started, ^server}} = ExRated.start_link([], name: ExRated)
      name = [name: :ex_rated_of_a_test]
      assert %{id: ExRated, start: start} = ExRated.child_spec([[timeout: 1], name])
      assert start == {ExRated, :start_link, [[timeout: 1], name]}
      pid = start_supervised!(ExRated.child_spec([[], name]))
      assert Process.whereis(:ex_rated_of_a_test) == pid
      assert :ok = GenServer.call(pid, :anything)
    end

    test "D15: where the file is" do
      configure([])
      assert Server.settings!([]).file == "elixir_scope_ex_rated_buckets.escope"
      configure(ets_table_name: :mine)
      assert Server.settings!([]).file == "mine.escope"
      configure(file: "/tmp/here")
      assert Server.settings!([]).file == "/tmp/here"
      configure(name: :x)
      assert_raise ArgumentError, ~r/:name, allowed is one of/, fn -> Server.settings!([]) end
    end
  end

  test "what a test has counted is gone with its namespace", %{namespace: namespace, id: id} do
    {:test, reference} = namespace
    ExRated.check_rate(id, 1_000, 1)
    ProcessRegistry.cleanup_test_namespace(reference)
    assert :error = ExRated.delete_bucket(id)
  end

  defp kill(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    receive do: ({:DOWN, ^monitor, :process, ^pid, :killed} -> :ok)
  end

  defp wait_until(condition) do
    unless condition.() do
      Process.sleep(1)
      wait_until(condition)
    end
  end
end
