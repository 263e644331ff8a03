defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Directory do
  @moduledoc false
  # Finds a running pool by `{namespace, name}`.
  #
  # Pools of the application live in `:persistent_term`: reading one costs no copy and takes no lock, and they
  # change only when a pool starts or stops. Pools of a `{:test, ref}` namespace come and go by the thousand,
  # and each erased persistent term makes the VM scan every process, so those live in ETS.
  #
  # This process only writes. It watches the pool processes, and closes and forgets the pools of those that die, so
  # a killed pool leaves nothing behind, no waiter either.

  use GenServer

  @table __MODULE__
  @aliases %{database_pool: :database}

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{Connection, Names, Native}
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.{Config, Job}

  @type key :: {Names.namespace(), atom()}
  @typedoc "Native pool, its process, its default wait in nanoseconds, and of how many check-outs one is told."
  @type entry ::
          {handle :: reference(), server :: pid(), timeout_ns :: non_neg_integer(),
           one_in :: pos_integer() | nil}

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_ \\ []), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc "The table of the pools of tests, and of all pools by their process; it belongs to the caller."
  @spec create_table() :: :ok
  def create_table do
    :ets.new(@table, [:named_table, :public, read_concurrency: true])
    :ok
  end

  @doc "The pool's entry. A bare name is one of `:production`; `:database_pool` is an alias of `:database`; a pid is the pool's."
  @spec fetch(term()) :: entry() | nil
  def fetch(name) when is_atom(name), do: application(:production, name)

  def fetch({{:test, ref}, name}) when is_reference(ref) and is_atom(name),
    do: test({:test, ref}, name)

  def fetch({namespace, name}) when is_atom(namespace) and is_atom(name),
    do: application(namespace, name)

  def fetch(server) when is_pid(server) do
    :ets.lookup_element(@table, server, 2)
  rescue
    ArgumentError -> nil
  end

  def fetch(_), do: nil

  @doc "The namespace of a pool as it is addressed; who has its process's id only is not looked up for a count."
  @spec namespace(term()) :: Names.namespace()
  def namespace({namespace, _name}), do: namespace
  def namespace(_name_or_pid), do: :production

  @doc """
  Enters the calling pool process, or says who has the name. `worker`, with the time that a close may take, closes
  what is left if that process dies.
  """
  @spec register(key() | nil, entry(), {Connection.t(), non_neg_integer()}) ::
          :ok | {:error, {:already_started, pid()} | Error.t()}
  def register(key, entry, worker) do
    key = with {namespace, name} <- key, do: {namespace, canonical(name)}
    call({:register, key, entry, worker}, {:error, Names.not_running(:noproc)})
  end

  @doc "Takes the calling pool process out."
  @spec unregister() :: :ok
  def unregister, do: call({:unregister, self()}, :ok)

  @doc "The names of one namespace, sorted."
  @spec names(Names.namespace()) :: [atom()]
  def names(namespace), do: call({:names, namespace}, [])

  defp call(request, absent) do
    GenServer.call(__MODULE__, request, :infinity)
  catch
    :exit, {_not_there_or_dying, {GenServer, :call, _arguments}} -> absent
  end

  defp canonical(name), do: Map.get(@aliases, name, name)

  defp application(namespace, name) do
    case :persistent_term.get({__MODULE__, namespace, name}, nil) do
      nil when is_map_key(@aliases, name) ->
        :persistent_term.get({__MODULE__, namespace, canonical(name)}, nil)

      entry ->
        entry
    end
  end

  defp test(namespace, name) do
    case :ets.lookup(@table, {namespace, canonical(name)}) do
      [{_, entry}] -> entry
      [] -> nil
    end
  rescue
    # The application does not run, so no pool does.
    ArgumentError -> nil
  end

  @impl true
  def init(_) do
    # After a restart: the pools outlived this process and are watched again.
    application =
      for {{__MODULE__, namespace, name}, entry} <- :persistent_term.get(),
          do: {{namespace, name}, entry}

    table = :ets.tab2list(@table)
    named = application ++ for {key, entry} <- table, do: {key, entry}
    keys = Map.new(named, fn {key, {_, server, _, _}} -> {server, key} end)
    {:ok, Map.new(for {server, _, _} <- table, do: watch(keys[server], server))}
  end

  @impl true
  def handle_call({:register, key, {_, server, _, _} = entry, worker}, _from, watched) do
    case fetch(key) do
      {_, other, _, _} when other != server ->
        if Process.alive?(other),
          do: {:reply, {:error, {:already_started, other}}, watched},
          else: {:reply, :ok, enter(key, entry, worker, died(other, watched))}

      _ ->
        {:reply, :ok, enter(key, entry, worker, watched)}
    end
  end

  def handle_call({:unregister, server}, _from, watched),
    do: {:reply, :ok, forget(server, watched)}

  def handle_call({:names, namespace}, _from, watched) do
    {:reply, Enum.sort(for({_, {_, {^namespace, name}}} <- watched, do: name)), watched}
  end

  @impl true
  def handle_info({:DOWN, _, :process, server, _}, watched),
    do: {:noreply, died(server, watched)}

  def handle_info(_, watched), do: {:noreply, watched}

  defp watch(key, server), do: {server, {Process.monitor(server), key}}

  defp enter(key, {_, server, _, _} = entry, worker, watched) do
    :ets.insert(@table, {server, entry, worker})
    store(key, entry)
    {server, value} = watch(key, server)
    Map.put(watched, server, value)
  end

  # A pool process that did not say good-bye has closed nothing. Connection processes die by their links; what is
  # left of the others is closed here, whoever holds it.
  defp died(server, watched) do
    with [{_, {handle, _, _, _}, {worker, close_timeout}}] <- :ets.lookup(@table, server) do
      Native.pool_close(handle, Config.timeout_ns(:infinity))

      for slot <- Native.pool_slots(handle),
          {:ok, connection} <- [Native.pool_connection(handle, slot)],
          do: Job.abandoned(worker, connection, close_timeout)
    end

    forget(server, watched)
  end

  defp forget(server, watched) do
    case Map.pop(watched, server) do
      {nil, watched} ->
        watched

      {{monitor, key}, watched} ->
        Process.demonitor(monitor, [:flush])

        with {handle, _, _, _} <- fetch(server),
             do: Native.pool_close(handle, Config.timeout_ns(:infinity))

        :ets.delete(@table, server)
        erase(key)
        watched
    end
  end

  defp store(nil, _entry), do: :ok
  defp store({{:test, _}, _} = key, entry), do: :ets.insert(@table, {key, entry})

  defp store({namespace, name}, entry),
    do: :persistent_term.put({__MODULE__, namespace, name}, entry)

  defp erase(nil), do: :ok
  defp erase({{:test, _}, _} = key), do: :ets.delete(@table, key)
  defp erase({namespace, name}), do: :persistent_term.erase({__MODULE__, namespace, name})
end
