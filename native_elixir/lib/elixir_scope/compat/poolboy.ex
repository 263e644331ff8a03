defmodule ElixirScope.Compat.Poolboy do
  @moduledoc """
  The functions of poolboy 1.5 over the native pool: `alias ElixirScope.Compat.Poolboy`, and `Poolboy.` in the place of
  `:poolboy.`.

      iex> alias ElixirScope.Compat.Poolboy
      iex> defmodule Counter do
      ...>   def start_link(start), do: Agent.start_link(fn -> start end)
      ...> end
      iex> {:ok, pool} = Poolboy.start_link([worker_module: Counter, size: 2, max_overflow: 1], 7)
      iex> Poolboy.transaction(pool, fn worker -> Agent.get(worker, & &1) end)
      7
      iex> Poolboy.status(pool)
      {:ready, 2, 0, 0}
      iex> Poolboy.stop(pool)
      :ok

  A pool is a pid, a registered name, `{name, node()}`, `{:global, term}` or `{:via, module, term}`. Options: `name`,
  `worker_module`, `size` (5), `max_overflow` (10), `strategy` (`:lifo`, or `:fifo`); as in poolboy, others and values
  that are none are passed over. A worker is started by `worker_module.start_link(worker_args)`.

  No process stands in the way of check-out and check-in; the pool's process starts and stops workers.

  ## Differences

  | | poolboy | here |
  | --- | --- | --- |
  | a second check-in | releases whoever holds the worker now | changes nothing |
  | check-in by another process than the one that checked out | releases the worker | changes nothing, as an unknown pid does |
  | a worker whose owner died | goes to the next caller as it is | is stopped, another takes its place |
  | a worker that cannot be started | takes the pool down, and all who use it | the caller waits for another attempt, or exits with the reason when it does not wait |
  | ... when the pool starts | `{:error, {{:badmatch, {:error, reason}}, stack}}` | `{:error, reason}` |
  | starting and stopping workers | stalls every caller | stalls those who need a new worker |
  | a worker that died | is replaced at once | is replaced when somebody needs it; `status/1` counts its place as idle |
  | a worker that died just now | may be handed out | is not |
  | the place of an overflow worker that came back | is free for the next call | is free when that worker has ended |
  | time-out 0 with an idle worker | exits, mostly | gives the worker |
  | `{name, node}` of another node | is called there | exits with `{:remote_pool, call}`: a lease is bound to its node |
  | waiters | any number | 10,000, then an exit with `{:queue_full, call}` |
  | calls without documentation (`get_avail_workers` and its like) | are answered | are answered `{:error, :invalid_message}` |
  | `size: 0, max_overflow: 0` | a pool that is always full | is refused when it is started |
  """

  alias ElixirScope.Compat.Poolboy.Options
  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.Server

  @timeout 5_000

  @type pool ::
          pid() | atom() | {atom(), node()} | {:global, term()} | {:via, module(), term()}
  @type options :: [{atom(), term()}]
  @type start_result :: {:ok, pid()} | {:error, {:already_started, pid()} | term()}

  @doc "Starts a pool that is linked to nobody; the pool's options are the workers' argument as well."
  @spec start(options()) :: start_result()
  def start(pool_args), do: start(pool_args, pool_args)

  @doc "Starts a pool that is linked to nobody."
  @spec start(options(), term()) :: start_result()
  def start(pool_args, worker_args), do: start(&Server.start/2, pool_args, worker_args)

  @doc "Starts a pool, linked to the caller; the pool's options are the workers' argument as well."
  @spec start_link(options()) :: start_result()
  def start_link(pool_args), do: start_link(pool_args, pool_args)

  @doc "Starts a pool, linked to the caller. It returns when all `size` workers have started."
  @spec start_link(options(), term()) :: start_result()
  def start_link(pool_args, worker_args), do: start(&Server.start_link/2, pool_args, worker_args)

  defp start(start, pool_args, worker_args) do
    with {:ok, config, name} <- Options.parse(pool_args, worker_args),
         {:ok, pool} <- start.(config, name),
         do: fill(pool, config.size)
  end

  # The workers are started one after the other, as poolboy does.
  defp fill(pool, size) do
    taken = take(pool, size, [])
    for {:ok, lease} <- taken, do: ConnectionPool.checkin(pool, lease)

    case Enum.find(taken, &match?({:error, %Error{error_type: :create_failed}}, &1)) do
      nil ->
        {:ok, pool}

      {:error, error} ->
        GenServer.stop(pool, :normal, :infinity)
        {:error, error.context.last_error}
    end
  end

  defp take(_pool, 0, taken), do: taken

  defp take(pool, left, taken) do
    case ConnectionPool.checkout_lease(pool, 0) do
      {:ok, _} = lease -> take(pool, left - 1, [lease | taken])
      # Somebody is faster: the pool is known by its name already.
      refused -> [refused | taken]
    end
  end

  @doc "Stops a pool and its workers; waiters exit."
  @spec stop(pool()) :: :ok
  def stop(pool) do
    GenServer.stop(locate(pool, call(pool, :stop)), :normal, @timeout)
  catch
    # Stopped by somebody else in this instant.
    :exit, {:noproc, {GenServer, :stop, _}} -> exit({:noproc, call(pool, :stop)})
  end

  @doc "The child specification of a pool under a supervisor of the user: permanent, with 5000 ms to stop."
  @spec child_spec(term(), options(), term(), :tuple | :map) :: tuple() | map()
  def child_spec(id, pool_args, worker_args \\ [], format \\ :tuple)

  def child_spec(id, pool_args, worker_args, :tuple) do
    start = {__MODULE__, :start_link, [pool_args, worker_args]}
    {id, start, :permanent, 5_000, :worker, [__MODULE__]}
  end

  def child_spec(id, pool_args, worker_args, :map) do
    %{
      id: id,
      start: {__MODULE__, :start_link, [pool_args, worker_args]},
      restart: :permanent,
      shutdown: 5_000,
      type: :worker,
      modules: [__MODULE__]
    }
  end

  @doc """
  Takes a worker. Without `block` a pool whose workers are all in use answers `:full`; with it the call waits for up to
  `timeout` milliseconds and then exits with `{:timeout, call}`.
  """
  @spec checkout(pool(), boolean(), timeout()) :: pid() | :full
  def checkout(pool, block \\ true, timeout \\ @timeout) when is_boolean(block) do
    call = {:gen_server, :call, [pool, {:checkout, make_ref(), block}, timeout]}
    server = locate(pool, call)

    case ConnectionPool.checkout(server, if(block, do: timeout, else: 0)) do
      {:ok, worker} -> worker
      {:error, %Error{error_type: :pool_exhausted}} when not block -> :full
      {:error, error} -> exit({why(error), call})
    end
  end

  defp why(%Error{error_type: type}) when type in [:pool_timeout, :pool_exhausted], do: :timeout
  defp why(%Error{error_type: :pool_closed}), do: :normal
  defp why(%Error{error_type: :pool_not_found}), do: :noproc
  defp why(%Error{error_type: :create_failed} = error), do: error.context.last_error
  defp why(%Error{error_type: type}), do: type

  @doc "Gives a worker back. Anything but the caller's own check-out is passed over."
  @spec checkin(pool(), pid()) :: :ok
  def checkin(pool, worker) when is_pid(worker) do
    with server when is_pid(server) <- whereis(pool), do: ConnectionPool.checkin(server, worker)
    :ok
  end

  @doc """
  Runs `fun` with a worker and gives it back, whatever `fun` does. `timeout` is the time to wait for the worker.
  """
  @spec transaction(pool(), (pid() -> result), timeout()) :: result when result: term()
  def transaction(pool, fun, timeout \\ @timeout) when is_function(fun, 1) do
    worker = checkout(pool, true, timeout)

    try do
      fun.(worker)
    after
      checkin(pool, worker)
    end
  end

  @doc "`{:ready | :overflow | :full, idle, overflow, leased}`, by poolboy's arithmetic."
  @spec status(pool()) ::
          {:ready | :overflow | :full, non_neg_integer(), non_neg_integer(), non_neg_integer()}
  def status(pool) do
    case ConnectionPool.status(locate(pool, call(pool, :status))) do
      {:ok, %{size: size, capacity: capacity, in_use: leased}} ->
        {idle, overflow} = {max(size - leased, 0), max(leased - size, 0)}
        {state(idle, overflow, capacity - size), idle, overflow, leased}

      {:error, error} ->
        exit({why(error), call(pool, :status)})
    end
  end

  defp state(idle, 0, _) when idle > 0, do: :ready
  defp state(_, overflow, overflow), do: :full
  defp state(_, _, _), do: :overflow

  defp locate(pool, call) do
    case whereis(pool) do
      server when is_pid(server) -> server
      nil -> exit({:noproc, call})
      :remote -> exit({:remote_pool, call})
    end
  end

  # What poolboy's exits carry.
  defp call(pool, request), do: {:gen_server, :call, [pool, request]}

  defp whereis(pool) when is_pid(pool), do: if(node(pool) == node(), do: pool, else: :remote)
  defp whereis({name, node}) when node == node() and is_atom(name), do: whereis(name)

  defp whereis({name, node}) when is_atom(name) and is_atom(node) and name not in [:global, :via],
    do: :remote

  defp whereis(pool) do
    case GenServer.whereis(pool) do
      server when is_pid(server) -> whereis(server)
      _ -> nil
    end
  end
end
