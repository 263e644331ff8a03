defmodule ElixirScope.Foundation.DurableCase do
  @moduledoc """
  EventStores that keep their events in a real database, SQLite or PostgreSQL. Not for async tests: it sets the environment.
  """
  use ExUnit.CaseTemplate

  import ExUnit.Assertions

  alias ElixirScope.Foundation.{FoundationCase, PostgreSQLServer, ServiceRegistry}
  alias ElixirScope.Foundation.Infrastructure.DatabasePool
  alias ElixirScope.TestSupport.TestSupervisor

  using do
    quote do
      use ElixirScope.Foundation.FoundationCase
      import ElixirScope.Foundation.DurableCase

      alias ElixirScope.Foundation.Infrastructure.DatabasePool
      alias ElixirScope.Foundation.PostgreSQLServer
      alias ElixirScope.Foundation.Types.Event

      @moduletag :capture_log
    end
  end

  @doc "The options of a pool of this kind of database, which is empty and there until the test ends."
  def database(:sqlite), do: [path: Path.join(folder(), "events.db")]
  def database(:postgresql), do: PostgreSQLServer.options(PostgreSQLServer.start())

  @doc "A folder that is there until the test ends."
  def folder do
    folder =
      Path.join(
        System.tmp_dir!(),
        "escope_events_#{System.pid()}_#{System.unique_integer([:positive])}"
      )

    File.mkdir_p!(folder)
    ExUnit.Callbacks.on_exit(fn -> File.rm_rf!(folder) end)
    folder
  end

  @doc "A namespace whose store keeps its events in this database; `warm` are further settings of `storage.warm`."
  def durable(database, warm \\ []) do
    reference = make_ref()

    pool = [
      namespace: {:test, reference},
      size: 2,
      max_overflow: 0,
      retry_after: 5,
      retry_at_most: 50
    ]

    ExUnit.Callbacks.start_supervised!({DatabasePool, Keyword.merge(database, pool)},
      id: reference
    )

    warm(warm)
    {:ok, _pids} = TestSupervisor.start_isolated_services(reference)
    ExUnit.Callbacks.on_exit(fn -> TestSupervisor.cleanup_namespace(reference) end)
    {:test, reference}
  end

  @doc "Switches warm storage on, with these settings, for services that start from now on."
  def warm(settings \\ []),
    do: FoundationCase.put_env(:storage, %{warm: Map.new([enable: true] ++ settings)})

  @doc "Kills a store and waits until another one has read the events back."
  def restart_store(namespace) do
    FoundationCase.kill(namespace, :event_store)
    {:ok, pid} = ServiceRegistry.wait_for_service(namespace, :event_store)
    # A table that takes longer to read than callers may wait.
    {:ok, _stats} = until_up(fn -> GenServer.call(pid, :get_stats, :infinity) end)
    pid
  end

  @doc "Runs statements on a connection of the namespace's pool."
  def with_database(namespace, fun),
    do: DatabasePool.with_connection(fun, pool: {namespace, :database})

  @doc "The one value that a statement selects."
  def value(namespace, sql) do
    assert {:ok, %{rows: [{value}]}} = with_database(namespace, &DatabasePool.query(&1, sql))
    value
  end

  @doc "Repeats as long as the service says that it is unavailable."
  def until_up(fun) do
    with {:error, %{error_type: :service_unavailable}} <- fun.() do
      Process.sleep(20)
      until_up(fun)
    end
  end

  @doc "Runs `fun` and returns which calls of this function of `DatabasePool` were made, and what each returned."
  def calls(name, fun) do
    tracer = self()
    function = {DatabasePool, name, 4}
    :erlang.trace(:all, true, [:call, {:tracer, tracer}])
    :erlang.trace_pattern(function, [{:_, [], [{:return_trace}]}], [:local])
    # A tracer's own calls are not traced.
    fun |> Task.async() |> Task.await(:infinity)
    :erlang.trace(:all, false, [:call])
    :erlang.trace_pattern(function, false, [:local])
    delivered = :erlang.trace_delivered(:all)
    receive do: ({:trace_delivered, :all, ^delivered} -> :ok)
    {traced(:call), traced(:return_from)}
  end

  defp traced(:call) do
    receive do
      {:trace, _pid, :call, {_module, _name, arguments}} -> [arguments | traced(:call)]
    after
      0 -> []
    end
  end

  defp traced(:return_from) do
    receive do
      {:trace, _pid, :return_from, _function, result} -> [result | traced(:return_from)]
    after
      0 -> []
    end
  end
end
