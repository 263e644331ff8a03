defmodule ElixirScope.Compat.PoolboyParityTest do
  # The same cases run against Debian's erlang-poolboy and against the shim; what they observe must be equal. What the
  # shim does otherwise on purpose stands in tests of its own below, and in the table of its documentation.
  use ExUnit.Case, async: true

  @moduletag :capture_log

  alias ElixirScope.Compat.Poolboy

  doctest Poolboy

  defmodule Worker do
    def start_link(:fail), do: {:error, :refused}
    def start_link(:ignore), do: :ignore

    # Says that it starts, and does when it is told to.
    def start_link({:slow, test}) do
      send(test, {:starting, self()})
      receive do: (:go_on -> Agent.start_link(fn -> test end))
    end

    def start_link(argument), do: Agent.start_link(fn -> argument end)
  end

  defp start(mod, options \\ [], argument \\ :argument) do
    defaults = [worker_module: Worker, size: 1, max_overflow: 0]
    {:ok, pool} = mod.start(Keyword.merge(defaults, options), argument)
    on_exit(fn -> if Process.alive?(pool), do: GenServer.stop(pool) end)
    pool
  end

  # The status, once it is what poolboy's casts and signals will make it.
  defp status(mod, pool, expected, tries \\ 2_000) do
    case mod.status(pool) do
      ^expected -> expected
      other when tries == 0 -> other
      _ -> Process.sleep(1) && status(mod, pool, expected, tries - 1)
    end
  end

  # It waits for nothing but its turn in either library.
  defp await_waiting(pid) do
    case Process.info(pid, :status) do
      {:status, :waiting} -> :ok
      {:status, _on_its_way} -> Process.sleep(1) && await_waiting(pid)
    end
  end

  defp caught(fun) do
    {:returned, fun.()}
  catch
    kind, reason -> {kind, shape(reason)}
  end

  # References and pids differ from run to run.
  defp shape({reason, {:gen_server, :call, [_pool, request, timeout]}}),
    do: {reason, {:gen_server, :call, [shape(request), timeout]}}

  defp shape({reason, {:gen_server, :call, [_pool, request]}}),
    do: {reason, {:gen_server, :call, [request]}}

  defp shape({:checkout, reference, block}) when is_reference(reference),
    do: {:checkout, :reference, block}

  defp shape(reason), do: reason

  defp holder(mod, pool) do
    test = self()

    pid =
      spawn(fn ->
        worker = mod.checkout(pool)
        send(test, {self(), worker})
        receive do: (:give_back -> mod.checkin(pool, worker))
        send(test, {self(), :gave_back})
        Process.sleep(:infinity)
      end)

    on_exit(fn -> Process.exit(pid, :kill) end)
    pid
  end

  defp held(pid) do
    receive do
      {^pid, worker} -> worker
    after
      5_000 -> :nothing
    end
  end

  @cases [
    "check-outs and check-ins move the numbers",
    "states without overflow",
    "states with one of each",
    "states with overflow alone",
    "sizes where none are given",
    "a full pool answers :full to who does not wait",
    "who does not wait gets an overflow worker, too",
    "a wait ends by its time-out",
    "a transaction returns what its function returns",
    "a transaction passes on a throw, an error and an exit",
    "a transaction's time-out bounds the wait only",
    "a waiter is served by a check-in",
    "waiters are served in order under lifo",
    "waiters are served in order under fifo",
    "lifo gives the latest, fifo the earliest",
    "lifo is the default",
    "an overflow worker dies on its return",
    "of a pool with overflow whichever worker comes back first dies",
    "a dead worker of a full pool is replaced for a waiter",
    "a dead leased worker frees its place",
    "dead leased workers of a pool with overflow are not replaced down to its size",
    "a dead idle worker is replaced",
    "an owner that dies frees its place",
    "an owner that exits normally frees its place",
    "a waiter that dies leaves the queue",
    "the end of a process that linked itself to the pool is passed over",
    "a dead pool exits with noproc",
    "a pool that is stopped ends its waiters",
    "names",
    "an unknown pid is passed over",
    "a check-in of no pid is a function clause",
    "values that are none are passed over",
    "workers get their argument",
    "a strange call is answered",
    "child specifications"
  ]

  for name <- @cases do
    test name do
      theirs = observe(unquote(name), :poolboy)
      ours = observe(unquote(name), Poolboy)
      assert ours == theirs
    end
  end

  defp observe("check-outs and check-ins move the numbers", mod) do
    pool = start(mod, size: 10, max_overflow: 5)
    [a, b] = for _ <- 1..2, do: mod.checkout(pool)
    out = mod.status(pool)
    answers = for w <- [a, b], do: mod.checkin(pool, w)
    {out, answers, mod.status(pool), is_pid(a), a == b}
  end

  defp observe("states without overflow", mod), do: states(mod, 2, 0)
  defp observe("states with one of each", mod), do: states(mod, 1, 1)
  defp observe("states with overflow alone", mod), do: states(mod, 0, 2)

  defp observe("a full pool answers :full to who does not wait", mod) do
    pool = start(mod, size: 2)
    workers = for _ <- 1..2, do: mod.checkout(pool, false)
    full = for _ <- 1..3, do: mod.checkout(pool, false, 1)
    mod.checkin(pool, hd(workers))
    {full, is_pid(mod.checkout(pool, false))}
  end

  defp observe("sizes where none are given", mod) do
    {:ok, pool} = mod.start([worker_module: Worker], :argument)
    on_exit(fn -> if Process.alive?(pool), do: GenServer.stop(pool) end)
    before = mod.status(pool)
    workers = for _ <- 1..15, do: mod.checkout(pool)
    {before, length(Enum.uniq(workers)), mod.checkout(pool, false), mod.status(pool)}
  end

  defp observe("who does not wait gets an overflow worker, too", mod) do
    pool = start(mod, size: 1, max_overflow: 1)
    for _ <- 1..3, do: {is_pid(mod.checkout(pool, false)), mod.status(pool)}
  end

  defp observe("a wait ends by its time-out", mod) do
    pool = start(mod)
    worker = mod.checkout(pool)
    ends = for t <- [0, 20], do: caught(fn -> mod.checkout(pool, true, t) end)
    mod.checkin(pool, worker)
    {ends, mod.status(pool), mod.checkout(pool) == worker}
  end

  defp observe("a transaction returns what its function returns", mod) do
    pool = start(mod)
    {mod.transaction(pool, &Agent.get(&1, fn a -> a end)), mod.transaction(pool, fn _ -> nil end)}
  end

  defp observe("a transaction passes on a throw, an error and an exit", mod) do
    pool = start(mod, size: 2)

    for fun <- [fn _ -> throw(:ball) end, fn _ -> raise "no" end, fn _ -> exit(:bye) end],
        do: {caught(fn -> mod.transaction(pool, fun) end), mod.status(pool)}
  end

  defp observe("a transaction's time-out bounds the wait only", mod) do
    pool = start(mod)
    mod.transaction(pool, fn _ -> Process.sleep(60) && :done end, 20)
  end

  defp observe("a waiter is served by a check-in", mod) do
    pool = start(mod)
    worker = mod.checkout(pool)
    waiter = Task.async(fn -> mod.transaction(pool, & &1) end)
    await_waiting(waiter.pid)
    while_waiting = mod.status(pool)
    mod.checkin(pool, worker)
    {while_waiting, Task.await(waiter) == worker, status(mod, pool, {:ready, 1, 0, 0})}
  end

  defp observe("waiters are served in order under lifo", mod), do: queue(mod, :lifo)
  defp observe("waiters are served in order under fifo", mod), do: queue(mod, :fifo)

  defp observe("lifo gives the latest, fifo the earliest", mod) do
    for strategy <- [:lifo, :fifo], do: order(mod, strategy: strategy)
  end

  defp observe("lifo is the default", mod), do: order(mod, [])

  defp observe("an overflow worker dies on its return", mod) do
    pool = start(mod, size: 1, max_overflow: 1)
    [first, second] = for _ <- 1..2, do: mod.checkout(pool)
    monitor = Process.monitor(second)
    mod.checkin(pool, second)
    dead = receive do: ({:DOWN, ^monitor, _, _, _} -> true), after: (2_000 -> false)
    {dead, Process.alive?(first), mod.status(pool), mod.checkout(pool) == second}
  end

  defp observe("of a pool with overflow whichever worker comes back first dies", mod) do
    pool = start(mod, size: 1, max_overflow: 1)
    [original, overflow] = for _ <- 1..2, do: mod.checkout(pool)
    monitor = Process.monitor(original)
    mod.checkin(pool, original)
    dead = receive do: ({:DOWN, ^monitor, _, _, _} -> true), after: (2_000 -> false)
    mod.checkin(pool, overflow)
    {dead, mod.status(pool), mod.checkout(pool) == overflow}
  end

  defp observe("a dead worker of a full pool is replaced for a waiter", mod) do
    pool = start(mod)
    owner = holder(mod, pool)
    worker = held(owner)
    waiter = holder(mod, pool)
    await_waiting(waiter)
    Process.exit(worker, :kill)
    replacement = held(waiter)
    {is_pid(replacement), replacement == worker, mod.status(pool)}
  end

  defp observe("a dead leased worker frees its place", mod) do
    pool = start(mod, size: 2)
    worker = mod.checkout(pool)
    Process.exit(worker, :kill)
    {status(mod, pool, {:ready, 2, 0, 0}), mod.checkout(pool) == worker}
  end

  defp observe(
         "dead leased workers of a pool with overflow are not replaced down to its size",
         mod
       ) do
    pool = start(mod, size: 5, max_overflow: 2)
    workers = for _ <- 1..7, do: mod.checkout(pool)

    steps = [
      {:overflow, 0, 1, 6},
      {:overflow, 0, 0, 5},
      {:ready, 1, 0, 4},
      {:ready, 2, 0, 3}
    ]

    for {worker, expected} <- Enum.zip(workers, steps) do
      Process.exit(worker, :kill)
      status(mod, pool, expected)
    end
  end

  defp observe("a dead idle worker is replaced", mod) do
    pool = start(mod, size: 2)
    [worker, other] = for _ <- 1..2, do: mod.checkout(pool)
    for w <- [worker, other], do: mod.checkin(pool, w)
    monitor = Process.monitor(worker)
    Process.exit(worker, :kill)
    assert_receive {:DOWN, ^monitor, _, _, _}, 2_000
    idle = status(mod, pool, {:ready, 2, 0, 0})
    again = for _ <- 1..2, do: mod.checkout(pool)
    {idle, worker in again, other in again, Enum.all?(again, &Process.alive?/1), mod.status(pool)}
  end

  defp observe("an owner that dies frees its place", mod) do
    pool = start(mod)
    owner = holder(mod, pool)
    held(owner)
    Process.exit(owner, :kill)
    {status(mod, pool, {:ready, 1, 0, 0}), is_pid(mod.checkout(pool))}
  end

  defp observe("an owner that exits normally frees its place", mod) do
    pool = start(mod)
    Task.await(Task.async(fn -> mod.checkout(pool) end))
    status(mod, pool, {:ready, 1, 0, 0})
  end

  defp observe("a waiter that dies leaves the queue", mod) do
    pool = start(mod)
    worker = mod.checkout(pool)
    [first, second] = for _ <- 1..2, do: holder(mod, pool) |> tap(&await_waiting/1)
    monitor = Process.monitor(first)
    Process.exit(first, :kill)
    assert_receive {:DOWN, ^monitor, _, _, _}, 2_000
    mod.checkin(pool, worker)
    {held(second) == worker, status(mod, pool, {:full, 0, 0, 1})}
  end

  defp observe("the end of a process that linked itself to the pool is passed over", mod) do
    pool = start(mod)
    stranger = spawn(fn -> Process.link(pool) && exit(:stranger) end)
    monitor = Process.monitor(stranger)
    assert_receive {:DOWN, ^monitor, _, _, _}, 2_000
    {mod.status(pool), is_pid(mod.checkout(pool)), Process.alive?(pool)}
  end

  defp observe("a dead pool exits with noproc", mod) do
    pool = start(mod)
    stopped = mod.stop(pool)

    calls = [
      fn -> mod.checkout(pool) end,
      fn -> mod.checkout(pool, false) end,
      fn -> mod.transaction(pool, & &1) end,
      fn -> mod.status(pool) end,
      fn -> mod.checkout(:no_such_pool) end
    ]

    {stopped, mod.checkin(pool, self()), Enum.map(calls, &caught/1)}
  end

  defp observe("a pool that is stopped ends its waiters", mod) do
    pool = start(mod)
    worker = mod.checkout(pool)
    # However long this machine takes to stop the pool: the waiter has no time-out of its own.
    waiter = Task.async(fn -> caught(fn -> mod.checkout(pool, true, :infinity) end) end)
    await_waiting(waiter.pid)
    monitor = Process.monitor(worker)
    stopped = mod.stop(pool)
    gone = receive do: ({:DOWN, ^monitor, _, _, _} -> true), after: (2_000 -> false)
    {stopped, Task.await(waiter), gone}
  end

  defp observe("names", mod) do
    name = :"parity_#{System.unique_integer([:positive])}"
    options = [worker_module: Worker, size: 1, max_overflow: 0]

    for {register, refer} <- [
          {{:local, name}, name},
          {{:local, name}, {name, node()}},
          {{:global, name}, {:global, name}},
          {{:via, :global, name}, {:via, :global, name}}
        ] do
      {:ok, pool} = mod.start([{:name, register} | options], :argument)
      {:error, {:already_started, again}} = mod.start([{:name, register} | options], :argument)
      worker = mod.checkout(refer)

      {again == pool, is_pid(worker), mod.checkin(refer, worker), mod.status(refer),
       mod.stop(refer)}
    end
  end

  defp observe("an unknown pid is passed over", mod) do
    pool = start(mod)
    {mod.checkin(pool, self()), mod.status(pool)}
  end

  defp observe("a check-in of no pid is a function clause", mod) do
    {:error, reason} = caught(fn -> mod.checkin(start(mod), :no_pid) end)
    match?(%FunctionClauseError{}, Exception.normalize(:error, reason))
  end

  defp observe("values that are none are passed over", mod) do
    pool = start(mod, size: "x", max_overflow: :bad, strategy: :foo, unknown: 1)
    negative = start(mod, size: -1, max_overflow: 1)
    {mod.status(pool), mod.status(negative)}
  end

  defp observe("workers get their argument", mod) do
    options = [worker_module: Worker, size: 1]
    {:ok, one} = mod.start(options)
    {:ok, two} = mod.start_link(options)
    argument = fn pool -> mod.transaction(pool, &Agent.get(&1, fn a -> a end)) end
    observed = {argument.(one) == options, argument.(two) == options, argument.(start(mod))}
    {observed, mod.stop(one), mod.stop(two)}
  end

  defp observe("a strange call is answered", mod) do
    pool = start(mod)
    GenServer.cast(pool, :strange)
    send(pool, :strange)
    {GenServer.call(pool, :strange), mod.status(pool)}
  end

  defp observe("child specifications", mod) do
    specs = [
      mod.child_spec(:id, size: 1),
      mod.child_spec(:id, [size: 1], :argument)
    ]

    specs |> inspect() |> String.replace(inspect(mod), "MODULE")
  end

  defp states(mod, size, overflow) do
    pool = start(mod, size: size, max_overflow: overflow)
    before = mod.status(pool)

    {workers, up} =
      Enum.map(1..2, fn _ -> {mod.checkout(pool), mod.status(pool)} end) |> Enum.unzip()

    down = for w <- workers, do: {mod.checkin(pool, w), mod.status(pool)}
    {before, up, down}
  end

  defp order(mod, options) do
    pool = start(mod, [size: 3] ++ options)
    workers = for _ <- 1..3, do: mod.checkout(pool)
    for w <- workers, do: mod.checkin(pool, w)
    again = for _ <- 1..3, do: mod.checkout(pool)
    for w <- again, do: Enum.find_index(workers, &(&1 == w))
  end

  defp queue(mod, strategy) do
    pool = start(mod, strategy: strategy)
    worker = mod.checkout(pool)
    test = self()
    tag = make_ref()

    for n <- 1..4 do
      await_waiting(spawn(fn -> mod.transaction(pool, fn _ -> send(test, {tag, n}) end) end))
    end

    mod.checkin(pool, worker)

    for _ <- 1..4 do
      receive do: ({^tag, n} -> n), after: (2_000 -> :nobody)
    end
  end

  # Poolboy's own model of its numbers, after each of some random commands: a check-out is refused at size and overflow only.
  test "random commands keep poolboy's numbers in both" do
    for mod <- [:poolboy, Poolboy], seed <- 1..12 do
      :rand.seed(:exsss, {seed, 7, 1})
      {size, overflow} = {:rand.uniform(4), :rand.uniform(4) - 1}
      pool = start(mod, size: size, max_overflow: overflow)

      for _ <- 1..60, reduce: [] do
        held ->
          held = command(mod, pool, held, size + overflow, :rand.uniform(5))
          out = length(held)
          numbers = {max(size - out, 0), max(out - size, 0), out}
          # The death of a worker, and in poolboy its check-in, take their time.
          assert eventually(fn -> Tuple.delete_at(mod.status(pool), 0) end, &(&1 == numbers)) ==
                   numbers,
                 "#{mod}, seed #{seed}, #{size} + #{overflow}"

          held
      end
    end
  end

  defp command(mod, pool, held, most, n) when n <= 3 and length(held) == most do
    assert mod.checkout(pool, false) == :full
    held
  end

  # Here the place of an overflow worker that came back is free when that has ended.
  defp command(mod, pool, held, _most, n) when n <= 3 do
    worker = eventually(fn -> mod.checkout(pool, false) end, &is_pid/1)
    assert is_pid(worker) and worker not in held
    [worker | held]
  end

  defp command(_mod, _pool, [], _most, _n), do: []

  defp command(mod, pool, held, _most, n) do
    worker = Enum.random(held)
    if n == 4, do: mod.checkin(pool, worker), else: Process.exit(worker, :kill)
    List.delete(held, worker)
  end

  defp eventually(look, fits?, tries \\ 2_000) do
    seen = look.()

    if fits?.(seen) or tries == 0,
      do: seen,
      else: Process.sleep(1) && eventually(look, fits?, tries - 1)
  end

  test "every function of poolboy is there" do
    internal = [:init, :handle_call, :handle_cast, :handle_info, :terminate, :code_change]

    theirs =
      for {f, a} <- :poolboy.module_info(:exports), f not in [:module_info | internal], do: {f, a}

    assert theirs -- Poolboy.module_info(:exports) == []
  end

  # Later than Debian's poolboy.
  test "a child specification is a tuple or a map" do
    assert Poolboy.child_spec(:id, [size: 1], :argument, :tuple) ==
             Poolboy.child_spec(:id, [size: 1], :argument)

    start = {Poolboy, :start_link, [[worker_module: Worker, size: 1], :argument]}
    spec = Poolboy.child_spec(:id, [worker_module: Worker, size: 1], :argument, :map)

    assert spec == %{
             id: :id,
             start: start,
             restart: :permanent,
             shutdown: 5_000,
             type: :worker,
             modules: [Poolboy]
           }

    pool = start_supervised!(spec)
    assert Poolboy.transaction(pool, &Agent.get(&1, fn a -> a end)) == :argument
  end

  describe "other than in poolboy" do
    test "the place of an overflow worker is free when that worker is gone" do
      pool = start(Poolboy, size: 0, max_overflow: 1)
      worker = Poolboy.checkout(pool)
      monitor = Process.monitor(worker)
      assert :ok = Poolboy.checkin(pool, worker)
      # Not even without waiting are there ever two.
      assert is_pid(Poolboy.checkout(pool))
      assert_received {:DOWN, ^monitor, _, _, _}
    end

    test "a second check-in does not release the next holder's worker" do
      pool = start(Poolboy)
      worker = Poolboy.checkout(pool)
      :ok = Poolboy.checkin(pool, worker)
      owner = holder(Poolboy, pool)
      assert held(owner) == worker
      assert :ok = Poolboy.checkin(pool, worker)
      assert Poolboy.status(pool) == {:full, 0, 0, 1}
      assert Poolboy.checkout(pool, false) == :full
    end

    test "a foreign check-in changes nothing" do
      pool = start(Poolboy)
      owner = holder(Poolboy, pool)
      worker = held(owner)
      assert :ok = Poolboy.checkin(pool, worker)
      assert Poolboy.status(pool) == {:full, 0, 0, 1}
      send(owner, :give_back)
      assert held(owner) == :gave_back
      assert Poolboy.checkout(pool) == worker
    end

    test "a worker whose owner died is not used again" do
      pool = start(Poolboy)
      owner = holder(Poolboy, pool)
      worker = held(owner)
      Process.exit(owner, :kill)
      refute Poolboy.checkout(pool) == worker
      refute Process.alive?(worker)
    end

    test "a worker that cannot be started is the start's error, and its caller's" do
      assert {:error, :refused} = Poolboy.start([worker_module: Worker, size: 1], :fail)
      pool = start(Poolboy, [size: 0, max_overflow: 1], :fail)
      assert {:exit, {:refused, _}} = caught(fn -> Poolboy.checkout(pool, false) end)
      assert {:exit, {:timeout, _}} = caught(fn -> Poolboy.checkout(pool, true, 20) end)
      assert Process.alive?(pool)
    end

    test "a worker that ignores its start is as one that fails" do
      assert {:error, :ignore} = Poolboy.start([worker_module: Worker, size: 1], :ignore)
      pool = start(Poolboy, [size: 0, max_overflow: 1], :ignore)
      assert {:exit, {:ignore, _}} = caught(fn -> Poolboy.checkout(pool, false) end)
      assert Process.alive?(pool)
    end

    test "a worker that starts slowly stands in nobody's way" do
      test = self()
      options = [worker_module: Worker, size: 1, max_overflow: 1]
      start = Task.async(fn -> Poolboy.start(options, {:slow, test}) end)
      assert_receive {:starting, first}
      send(first, :go_on)
      {:ok, pool} = Task.await(start)
      on_exit(fn -> if Process.alive?(pool), do: Poolboy.stop(pool) end)
      worker = Poolboy.checkout(pool)
      waiter = holder(Poolboy, pool)
      assert_receive {:starting, second}
      :ok = Poolboy.checkin(pool, worker)
      assert held(waiter) == worker
      send(second, :go_on)
    end

    test "an idle worker is given without time, too" do
      pool = start(Poolboy)
      assert is_pid(Poolboy.checkout(pool, true, 0))
      assert {:exit, {:timeout, _}} = caught(fn -> Poolboy.checkout(pool, true, 0) end)
    end

    test "the queue of waiters has an end" do
      pool = start(Poolboy)
      _worker = Poolboy.checkout(pool)
      waiters = for _ <- 1..10_000, do: spawn(fn -> Poolboy.checkout(pool, true, :infinity) end)
      Enum.each(waiters, &await_waiting/1)
      assert {:exit, {:queue_full, _}} = caught(fn -> Poolboy.checkout(pool) end)
      Enum.each(waiters, &Process.exit(&1, :kill))
    end

    test "what poolboy's own tests ask the pool's process is no message" do
      pool = start(Poolboy)

      for request <- [:get_avail_workers, :get_all_workers, :get_all_monitors],
          do: assert(GenServer.call(pool, request) == {:error, :invalid_message})
    end

    test "the pool of another node is refused" do
      for pool <- [{:pool, :other@nowhere}] do
        assert {:exit, {:remote_pool, _}} = caught(fn -> Poolboy.checkout(pool) end)
        assert {:exit, {:remote_pool, _}} = caught(fn -> Poolboy.status(pool) end)
        assert :ok = Poolboy.checkin(pool, self())
      end
    end

    test "a pool without a place is refused" do
      assert {:error, %ElixirScope.Foundation.Error{context: %{argument: :size}}} =
               Poolboy.start(worker_module: Worker, size: 0, max_overflow: 0)
    end

    test "without a worker module the start is refused" do
      assert {:error, {:noproc, _}} = Poolboy.start(size: 1)
      assert {:error, {:noproc, _}} = Poolboy.start(:no_list)
    end
  end
end
