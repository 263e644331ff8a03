defmodule ElixirScope.Foundation.ProcessRegistry do
  @moduledoc """
  Finds processes by namespace and service name.

  A namespace is `:production` or, for a test that shall not see any other, `{:test, reference}`. A process
  registers itself by `via_tuple/2` in the underlying `Registry`; `register/3` also takes other processes, which
  are kept in a public table that outlives the callers. A dead process counts as absent.
  """

  alias ElixirScope.Compat.{ExRated, Fuse}
  alias ElixirScope.Foundation.{Error, Infrastructure}

  @table :process_registry_backup
  @grace_ms 100

  @type namespace :: :production | {:test, reference()}
  @type service_name :: atom()

  @doc "The registry as a child of a supervisor."
  @spec child_spec(term()) :: Supervisor.child_spec()
  def child_spec(_opts) do
    options = [keys: :unique, name: __MODULE__, partitions: System.schedulers_online()]

    %{
      id: Registry,
      start: {Registry, :start_link, [options]},
      type: :supervisor,
      restart: :permanent,
      shutdown: :infinity
    }
  end

  @doc false
  @spec create_table() :: :ok
  def create_table do
    :ets.new(@table, [:named_table, :public, :set, read_concurrency: true])
    :ok
  rescue
    # Somebody else has made it.
    ArgumentError -> :ok
  end

  @doc """
  The name under which a GenServer registers itself.

      iex> ElixirScope.Foundation.ProcessRegistry.via_tuple(:production, :config_server)
      {:via, Registry, {ElixirScope.Foundation.ProcessRegistry, {:production, :config_server}}}
  """
  @spec via_tuple(namespace(), term()) :: {:via, Registry, {module(), {namespace(), term()}}}
  def via_tuple(namespace, service), do: {:via, Registry, {__MODULE__, {namespace, service}}}

  @doc """
  Registers any process. Repeating it is fine; a name held by another living process is refused.

      iex> namespace = {:test, make_ref()}
      iex> ElixirScope.Foundation.ProcessRegistry.register(namespace, :worker, self())
      :ok
      iex> ElixirScope.Foundation.ProcessRegistry.lookup(namespace, :worker) == {:ok, self()}
      true
  """
  @spec register(namespace(), service_name(), pid()) ::
          :ok | {:error, {:already_registered, pid()} | Error.t()}
  def register(namespace, service, pid) when is_pid(pid) do
    case lookup(namespace, service) do
      {:ok, ^pid} ->
        :ok

      {:ok, other} ->
        {:error, {:already_registered, other}}

      :error ->
        guarded({:error, Infrastructure.Names.not_running(:noproc)}, fn ->
          claim({namespace, service}, pid)
        end)
    end
  end

  # The lookup saw nobody alive, so a row is a dead holder's; of several claimants one inserts.
  defp claim(key, pid) do
    with [{^key, holder}] <- :ets.lookup(@table, key),
         [] <- alive([holder]) do
      :ets.delete_object(@table, {key, holder})
    end

    if :ets.insert_new(@table, {key, pid}) do
      :ok
    else
      {namespace, service} = key
      register(namespace, service, pid)
    end
  end

  @doc "Forgets a name. A process that registered itself does so only for itself."
  @spec unregister(namespace(), service_name()) :: :ok
  def unregister(namespace, service) do
    guarded(:ok, fn ->
      :ets.delete(@table, {namespace, service})
      Registry.unregister(__MODULE__, {namespace, service})
    end)
  end

  @doc "The living process of this name."
  @spec lookup(namespace(), term()) :: {:ok, pid()} | :error
  def lookup(namespace, service) do
    key = {namespace, service}

    guarded(:error, fn ->
      with [] <- Registry.lookup(__MODULE__, key) |> Enum.map(&elem(&1, 0)) |> alive(),
           [] <- :ets.lookup(@table, key) |> Enum.map(&elem(&1, 1)) |> alive() do
        :error
      else
        [pid | _] -> {:ok, pid}
      end
    end)
  end

  @doc "Whether a living process has this name."
  @spec registered?(namespace(), service_name()) :: boolean()
  def registered?(namespace, service), do: lookup(namespace, service) != :error

  @doc "The names of a namespace."
  @spec list_services(namespace()) :: [service_name()]
  def list_services(namespace), do: namespace |> get_all_services() |> Map.keys()

  @doc "Names and processes of a namespace."
  @spec get_all_services(namespace()) :: %{service_name() => pid()}
  def get_all_services(namespace) do
    for {{^namespace, service}, pid} <- all(), into: %{}, do: {service, pid}
  end

  @doc "How many services a namespace has."
  @spec count_services(namespace()) :: non_neg_integer()
  def count_services(namespace), do: namespace |> get_all_services() |> map_size()

  @doc """
  Ends a test's namespace: stops what was registered with `register/3` (#{@grace_ms} ms to end by itself, then
  it is killed), and forgets the namespace's breakers, limiters and fuses. Returns when all of it is gone.
  """
  @spec cleanup_test_namespace(reference()) :: :ok
  def cleanup_test_namespace(reference) when is_reference(reference) do
    namespace = {:test, reference}

    guarded(:ok, fn ->
      registered = :ets.match_object(@table, {{namespace, :_}, :_})
      Enum.each(registered, fn {key, _pid} -> :ets.delete(@table, key) end)
      registered |> Enum.map(&elem(&1, 1)) |> Enum.uniq() |> List.delete(self()) |> stop()
      Infrastructure.Names.forget(namespace)
      Infrastructure.CircuitBreakerTelemetry.stop(namespace)
      Infrastructure.Tally.take(namespace)
      Fuse.Server.forget(namespace)
      ExRated.Buckets.forget(namespace)
    end)
  end

  defp stop(pids) do
    monitors = Enum.map(pids, &{&1, Process.monitor(&1)})
    Enum.each(pids, &Process.exit(&1, :shutdown))
    deadline = System.monotonic_time(:millisecond) + @grace_ms

    for {pid, monitor} <- monitors, not down?(monitor, deadline) do
      Process.exit(pid, :kill)
      receive do: ({:DOWN, ^monitor, :process, _pid, _reason} -> :ok)
    end
  end

  defp down?(monitor, deadline) do
    receive do
      {:DOWN, ^monitor, :process, _pid, _reason} -> true
    after
      max(deadline - System.monotonic_time(:millisecond), 0) -> false
    end
  end

  @doc "Sizes, for an operator."
  @spec stats() :: %{
          total_services: non_neg_integer(),
          production_services: non_neg_integer(),
          test_namespaces: non_neg_integer(),
          partitions: pos_integer(),
          partition_count: pos_integer(),
          memory_usage_bytes: non_neg_integer(),
          ets_table_info: map()
        }
  def stats do
    services = all()
    partitions = System.schedulers_online()
    words = table_size(:memory)

    %{
      total_services: length(services),
      production_services: Enum.count(services, &match?({{:production, _service}, _pid}, &1)),
      test_namespaces:
        services
        |> Enum.flat_map(fn
          {{{:test, reference}, _service}, _pid} -> [reference]
          _other -> []
        end)
        |> Enum.uniq()
        |> length(),
      partitions: partitions,
      partition_count: partitions,
      memory_usage_bytes: words * :erlang.system_info(:wordsize),
      ets_table_info: %{name: @table, size: table_size(:size), memory: words}
    }
  end

  defp table_size(item) do
    case :ets.info(@table, item) do
      :undefined -> 0
      size -> size
    end
  end

  # Services are named by atoms; other keys of the registry are internal processes.
  defp all do
    guarded([], fn ->
      own = Registry.select(__MODULE__, [{{:"$1", :"$2", :_}, [], [{{:"$1", :"$2"}}]}])

      for {{_namespace, service}, pid} = row <- :ets.tab2list(@table) ++ own,
          is_atom(service) and alive([pid]) != [],
          do: row
    end)
  end

  defp alive(pids), do: Enum.filter(pids, &(node(&1) != node() or Process.alive?(&1)))

  # Without a running registry its tables do not exist: as good as empty.
  defp guarded(absent, fun, again? \\ true) do
    fun.()
  rescue
    ArgumentError -> if again? and table?(), do: guarded(absent, fun, false), else: absent
  end

  # A host that starts the registry in a tree of its own, without this application, has no table yet. By now somebody
  # else may have made it.
  defp table? do
    registry = Process.whereis(__MODULE__)

    registry != nil and
      (:ets.whereis(@table) != :undefined or
         :proc_lib.start(__MODULE__, :keep_table, [registry]))
  end

  # The table ends with the registry, not with whoever needed it first. Of several that make it one keeps it.
  @doc false
  @spec keep_table(pid()) :: :ok
  def keep_table(registry) do
    monitor = Process.monitor(registry)
    create_table()
    :proc_lib.init_ack(true)

    if :ets.info(@table, :owner) == self(),
      do: receive(do: ({:DOWN, ^monitor, :process, _pid, _reason} -> :ok)),
      else: :ok
  end
end
