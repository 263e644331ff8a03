defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool do
  @moduledoc """
  A pool of connections that are checked out and in without a message to anybody.

  What is handed to whom is decided by the native pool, in the calling process and in well under a
  microsecond. The pool's own process only makes and closes connections; a slow connect stands in nobody's
  way.

      iex> alias ElixirScope.Foundation.Infrastructure.ConnectionPool
      iex> {:ok, _} = ConnectionPool.start_link(name: :echo, size: 2, create: fn -> Agent.start_link(fn -> 7 end) end)
      iex> ConnectionPool.with_connection(:echo, fn agent -> Agent.get(agent, & &1) end)
      {:ok, 7}
      iex> {:ok, agent} = ConnectionPool.checkout(:echo)
      iex> ConnectionPool.checkin(:echo, agent)
      :ok
      iex> {:error, error} = ConnectionPool.checkin(:echo, agent)
      iex> error.error_type
      :stale_lease
      iex> ConnectionPool.stop(:echo)
      :ok

  In the user's own supervision tree: `{ConnectionPool, name: :echo, worker: Echo}`, see
  `ElixirScope.Foundation.Infrastructure.Connection`. Pools of
  `config :elixir_scope, :infrastructure, connection_pools: %{...}` start with the application.

  ## Who holds what

    * A check-out belongs to the process that called it. When that process dies, its connections are closed
      and replaced, since nobody knows what state they are in, and its place in the queue is given up.
    * `checkin/2` takes a connection back from the process that holds it. Anything else, a second check-in too,
      is `:stale_lease` and changes nothing: the present holder keeps the connection.
    * A connection process that dies leaves the pool at once, and a waiter gets a new one. Whoever held it holds
      nothing any more.
    * Waiters are served first come, first served, under both strategies. A wait is ended by exactly one of
      grant, time-out and close; a grant that arrives together with the time-out wins.
    * A worker with a `reset` has it run by whoever gives the connection back; what it does not clean is closed. A
      lease that travelled is closed instead, since only its process can be sure that nobody else holds it.
    * Everything ends with the pool: waiters get `:pool_closed`, connections are closed. That is so when its process
      crashes, too: its supervisor starts a new one without any connection, and leases of the old one are stale.

  ## Options

    * `:name` (required): an atom. `:database_pool` is an alias of `:database`;
    * `:namespace`: `:production` (default) or `{:test, reference}`, for async tests; such a pool is addressed
      as `{{:test, reference}, name}`;
    * `:worker`: a module or `{module, arg}`; or `:create` (no argument) and `:close` (one) as functions;
    * `:size` (5): connections that are kept; `:max_overflow` (10): how many more a burst may add;
    * `:overflow_ttl` (0): milliseconds that a surplus connection stays idle before it is closed; 0 closes it
      on its return;
    * `:strategy` (`:lifo`): which idle connection goes out: `:lifo`, `:fifo`, `:round_robin` or `:least_used`;
    * `:min_idle` (0): connections that are made ahead of demand, `:size` at most; `:max_creating` (any): how many are made
      at a time;
    * `:idle_timeout` (0, never): milliseconds after which an idle connection beyond `:min_idle` is closed;
    * `:max_lifetime` (0, none): age in milliseconds at which a connection is closed when nobody holds it, up to
      `:max_lifetime_jitter` (0) earlier at random;
    * `:health` (`:off`): when the worker's `ping/1` is asked: `:passive` on return, `:active` of all idle connections each
      `:health_interval` milliseconds, `:mixed` on return and of half of the idle ones; `:keepalive` (0, never): after so long
      without use. A ping that takes longer than `:check_limit` (5000) has failed;
    * `:leak_after` (0, never): milliseconds after which a connection on loan is reported once, with its holder, see
      `:connection_leaked`; it stays on loan;
    * `:queue_interval` (0, never): when the caller at the head of the queue has waited longer than `:queue_target` (0) for
      so many milliseconds, waits are ended early with `:shed` (CoDel, RFC 8289);
    * `:telemetry` (0): of how many check-outs one is told, see below; 0 for none;
    * `:max_slots` (0, as many as there are): up to where `resize/2` may go;
    * `:timeout` (5000): how long a check-out waits where the call does not say, `:infinity` allowed;
    * `:max_waiters` (10000): callers that may wait at a time;
    * `:retry_after` (100) and `:retry_at_most` (10000): the pause after a connection could not be made doubles
      from the one to the other;
    * `:close_timeout` (5000): when closing a connection takes longer, it is killed;
    * `:drain` (1000): how long a stopping pool waits for its connections to come back.

  ## Events

  Names follow the telemetry prefix and `:connection_pool`; each has the measurement `count: 1`, times are in
  nanoseconds.

  | event | by whom | further measurements | metadata |
  | --- | --- | --- | --- |
  | `:checkout` | the caller, if chosen | `queue_time`, `connection_age` | `pool`, `slot` |
  | `:checkin` | who gives back what was chosen | `use_time`, `connection_age` | `pool`, `slot` |
  | `:pool_timeout`, `:pool_exhausted`, `:pool_closed`, `:queue_full`, `:create_failed`, `:shed` | the refused caller | | `pool`, `timeout`, `last_error` |
  | `:connection_created`, `:connection_closed`, `:check_failed` | the pool's process | | `namespace`, `pool`, `slot` |
  | `:connection_leaked` | the pool's process | | `namespace`, `pool`, `slot`, `holder`, `since_ns` (of the pool's clock) |
  | `:connection_down`, `:create_failed` | the pool's process | | `namespace`, `pool`, `slot`, `reason` |

  `telemetry: n` tells one check-out in `n` and its check-in, chosen at random; 1 tells all, 0 (the default) none, which costs
  nothing. `status/1` counts them all.
  """

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Error.Catalogue

  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.{
    Config,
    Configured,
    Directory,
    Lease,
    Server
  }

  alias ElixirScope.Foundation.Infrastructure.{Connection, Names, Native, Telemetry}

  @typedoc "The native pool."
  @type handle :: reference()
  @typedoc "How a pool is addressed; a bare name is one of the namespace `:production`."
  @type pool :: atom() | {Names.namespace(), atom()} | pid()
  @type connection :: Connection.connection()
  @typedoc "State in which a connection comes back; a broken one is closed and replaced."
  @type condition :: :good | :broken

  @doc """
  Starts a pool, linked to the caller. It returns at once: connections are made in the background, and one
  that cannot be made is tried again after a growing pause.
  """
  @spec start_link(keyword() | map()) ::
          {:ok, pid()} | {:error, Error.t() | {:already_started, pid()} | term()}
  def start_link(options) do
    with {:ok, config} <- Config.new(options), do: Server.start_link(config)
  end

  @doc "The child specification of one pool. Options that are wrong are refused when it is started."
  @spec child_spec(keyword() | map()) :: Supervisor.child_spec()
  def child_spec(options) do
    {id, shutdown} =
      case Config.new(options) do
        {:ok, config} ->
          {{config.namespace, config.name}, config.drain + config.close_timeout + 1_000}

        {:error, _} ->
          {options, 5_000}
      end

    %{id: {__MODULE__, id}, start: {__MODULE__, :start_link, [options]}, shutdown: shutdown}
  end

  @doc """
  Stops a pool: waiters get `:pool_closed`, connections are closed. A pool under a supervisor is stopped through that.
  """
  @spec stop(pool()) :: :ok | {:error, Error.t()}
  def stop(pool) do
    with {:ok, {_, server, _, _}} <- find(pool), do: GenServer.stop(server, :normal, :infinity)
  catch
    :exit, _ -> :ok
  end

  @doc """
  Closes a pool for good, without stopping it: check-outs are refused, waiters get `:pool_closed`, connections are
  closed when they come back. Its process ends with `stop/1` or by its supervisor.
  """
  @spec close(pool()) :: :ok | {:error, Error.t()}
  def close(pool) do
    with {:ok, {handle, _, _, _}} <- find(pool), do: Native.pool_close(handle)
  end

  @doc """
  Closes a pool for good and waits until all of its connections are gone, for up to `timeout` milliseconds. Those that
  are still held then are in the error's context as `left`, and may come back later.
  """
  @spec drain(pool(), timeout()) :: :ok | {:error, Error.t()}
  def drain(pool, timeout \\ 5_000) do
    case Config.timeout_ns(timeout) do
      :error ->
        Config.invalid(:timeout, timeout, Config.timeout_range())

      _ ->
        with :ok <- close(pool),
             do: await_empty(pool, timeout, System.monotonic_time(:millisecond))
    end
  end

  defp await_empty(pool, timeout, since) do
    with {:ok, s} <- status(pool) do
      left = s.idle + s.in_use + s.creating + s.checking + s.closing

      cond do
        left == 0 ->
          :ok

        is_integer(timeout) and System.monotonic_time(:millisecond) - since >= timeout ->
          {:error,
           Error.new(
             :pool_timeout,
             "#{left} connections of pool #{inspect(pool)} did not come back",
             context: %{pool: pool, timeout: timeout, left: left}
           )}

        true ->
          Process.sleep(1)
          await_empty(pool, timeout, since)
      end
    end
  end

  @doc """
  Takes a connection, waiting for up to `timeout` milliseconds (the pool's `:timeout`, 5000 by default).

  0 waits for nobody: the call is refused as `:pool_exhausted` when all connections are in use. Where the pool has
  room it makes one for the call, which takes as long as that takes, and a failure is `:create_failed`.
  """
  @spec checkout(pool(), timeout() | nil) :: {:ok, connection()} | {:error, Error.t()}
  def checkout(pool, timeout \\ nil) do
    case take(pool, timeout, true) do
      {:ok, place, connection} ->
        remember(place, connection)
        {:ok, connection}

      error ->
        error
    end
  end

  @doc """
  As `checkout/2`, for a lease that any process may give back. The connection is in its field `connection`.
  """
  @spec checkout_lease(pool(), timeout() | nil) :: {:ok, Lease.t()} | {:error, Error.t()}
  def checkout_lease(pool, timeout \\ nil) do
    case take(pool, timeout, true) do
      {:ok, {handle, _edge, slot, epoch, since}, connection} ->
        {:ok,
         %Lease{handle: handle, slot: slot, epoch: epoch, connection: connection, since: since}}

      error ->
        error
    end
  end

  @doc """
  Gives a connection back: the caller's own, or any lease of `checkout_lease/2`. A connection that is not fit
  for the next holder comes back as `:broken`.
  """
  @spec checkin(pool(), connection() | Lease.t(), condition()) :: :ok | {:error, Error.t()}
  def checkin(pool, connection, condition \\ :good)

  def checkin(pool, %Lease{handle: own, slot: slot, epoch: epoch} = lease, condition)
      when condition in [:good, :broken] and slot in 0..0xFFFF_FFFF and
             epoch in 0..0xFFFF_FFFF_FFFF_FFFF do
    case find(pool) do
      {:ok, {^own, _, _, edge}} ->
        close? = condition == :broken or resets?(edge)
        tell_checkin(pool, {own, edge, slot, epoch, lease.since})
        returned(Native.pool_checkin_lease(own, slot, epoch, close?), pool)

      {:ok, _other} ->
        returned(:stale_lease, pool)

      error ->
        error
    end
  end

  def checkin(_pool, %Lease{} = lease, condition) when condition in [:good, :broken],
    do: Config.invalid(:lease, lease, "a lease of checkout_lease/2, unchanged")

  def checkin(pool, connection, condition) when condition in [:good, :broken] do
    case Directory.fetch(pool) do
      {handle, _, _, nil} ->
        returned(Native.pool_checkin(handle, connection, condition == :broken), pool)

      {handle, _, _, edge} ->
        with {slot, epoch, since} <- recall(handle, connection) do
          tell_checkin(pool, {handle, edge, slot, epoch, since})
          broken? = condition == :broken or not clean?(edge, connection)
          Native.pool_checkin_lease(handle, slot, epoch, broken?)
        end
        |> returned(pool)

      nil ->
        not_found(pool)
    end
  end

  def checkin(_pool, _connection, condition),
    do: Config.invalid(:condition, condition, ":good or :broken")

  @doc """
  Runs `fun` with a connection and gives it back.

  What `fun` returns comes back in `{:ok, _}`, unless it is `{:ok, _}`, `:error` or a tuple that starts with
  `:error` already. A raise, throw or exit closes the connection, for it may be in the middle of something, and
  goes on to the caller.

  Options: `:timeout` as for `checkout/2`, bounding the wait, not `fun`; `:allow_overflow` (true): whether this
  call may make the pool grow above its size.
  """
  @spec with_connection(pool(), (connection() -> result), keyword()) ::
          {:ok, result} | {:error, Error.t()} | result
        when result: term()
  def with_connection(pool, fun, opts \\ [])

  def with_connection(pool, fun, opts) when is_function(fun, 1) do
    with {:ok, timeout, overflow?} <- call_options(opts),
         {:ok, {handle, edge, slot, epoch, _since} = place, connection} <-
           take(pool, timeout, overflow?) do
      try do
        fun.(connection)
      catch
        kind, reason ->
          tell_checkin(pool, place)
          Native.pool_checkin_lease(handle, slot, epoch, true)
          :erlang.raise(kind, reason, __STACKTRACE__)
      else
        result ->
          # A stale lease is no news here: the connection died under `fun`, which has seen that itself.
          tell_checkin(pool, place)
          Native.pool_checkin_lease(handle, slot, epoch, not clean?(edge, connection))
          wrap(result)
      end
    end
  end

  def with_connection(_pool, fun, _opts), do: not_a_function(fun)

  defp not_a_function(fun), do: Config.invalid(:fun, fun, "a function of one argument")

  @doc false
  # What `with_connection/3` would refuse whatever the pool's state is.
  @spec check(pool(), term(), term()) :: :ok | {:error, Error.t()}
  def check(pool, fun, opts) do
    with true <- is_function(fun, 1) || not_a_function(fun),
         {:ok, timeout, _overflow?} <- call_options(opts),
         {:ok, {_, _, default_ns, _}} <- find(pool),
         wait_ns when is_integer(wait_ns) <- wait_ns(timeout, default_ns) do
      :ok
    else
      :error -> Config.invalid(:timeout, opts[:timeout], Config.timeout_range())
      error -> error
    end
  end

  @doc """
  What the pool looks like now, and what it has counted, all of one instant; the pool's process is not asked.

    * now: `size`, `capacity` (with overflow), `idle`, `in_use`, `overflow` (connections above `size`), `creating`,
      `checking`, `closing`, `waiting`, `failing` (creations that failed in a row), `closed`;
    * calls: `requests`, and how they ended: `granted`, `timed_out`, `cancelled` (by the caller's death), `exhausted`,
      `queue_full`, `closed_requests`, `create_failed`, `shed`;
    * leases: `returned`, `broken`, `reclaimed` (by the holder's death); `leaks`, those reported by `:leak_after`;
    * connections: `created`, `create_errors`, `destroyed`; `checks_passed`, `checks_failed`.
  """
  @spec status(pool()) :: {:ok, map()} | {:error, Error.t()}
  def status(pool) do
    with {:ok, {handle, _, _, _}} <- find(pool), do: {:ok, Native.pool_stats(handle)}
  end

  @doc """
  Changes `:size`, `:max_overflow` or both while the pool lives, up to `:max_slots` together. A larger pool makes connections
  for its waiters at once; a smaller one closes what is idle at once and the rest when it comes back.
  """
  @spec resize(pool(), keyword()) :: :ok | {:error, Error.t()}
  def resize(pool, sizes) do
    with {:ok, {handle, _, _, _}} <- find(pool),
         {:ok, sizes} <- Config.sizes(sizes) do
      now = Native.pool_stats(handle)
      size = Keyword.get(sizes, :size, now.size)
      overflow = Keyword.get(sizes, :max_overflow, now.capacity - now.size)

      with {:error, {argument, value, allowed}} <- Native.pool_resize(handle, size, overflow),
           do: Config.invalid(argument, value, allowed)
    end
  end

  @doc "Has every connection that there is now replaced: idle ones at once, others when they come back."
  @spec evict(pool()) :: :ok | {:error, Error.t()}
  def evict(pool) do
    with {:ok, {handle, _, _, _}} <- find(pool), do: Native.pool_evict(handle, 0)
  end

  @doc """
  What a dashboard wants to know, from `status/1`: `size`, `available`, `checked_out`, `overflow`, `waiting`,
  `total_checkouts`, `total_checkins` (also by the holder's death), `connections_created`, `connections_destroyed`, and
  `reuse`, the share of check-outs that needed no new connection, nil before the first.
  """
  @spec stats(pool()) :: {:ok, map()} | {:error, Error.t()}
  def stats(pool) do
    with {:ok, s} <- status(pool) do
      {:ok,
       %{
         size: s.size,
         available: s.idle,
         checked_out: s.in_use,
         overflow: s.overflow,
         waiting: s.waiting,
         total_checkouts: s.granted,
         total_checkins: s.returned + s.broken + s.reclaimed,
         connections_created: s.created,
         connections_destroyed: s.destroyed,
         reuse: if(s.granted > 0, do: max(0.0, 1 - s.created / s.granted))
       }}
    end
  end

  @doc "The names of the running pools of a namespace."
  @spec list_pools(Names.namespace()) :: [atom()]
  def list_pools(namespace \\ :production), do: Directory.names(namespace)

  defp find(pool) do
    case Directory.fetch(pool) do
      nil -> not_found(pool)
      entry -> {:ok, entry}
    end
  end

  defp take(pool, timeout, overflow?) do
    case Directory.fetch(pool) do
      {handle, _, default_ns, edge} ->
        asked = if edge, do: System.monotonic_time()

        with wait_ns when is_integer(wait_ns) <- wait_ns(timeout, default_ns),
             {connection, slot, epoch} <- take(pool, handle, wait_ns, overflow?) do
          {:ok, {handle, edge, slot, epoch, tell_checkout(pool, handle, edge, slot, asked)},
           connection}
        else
          :error -> Config.invalid(:timeout, timeout, Config.timeout_range())
          refused -> refused
        end

      nil ->
        not_found(pool)
    end
  end

  defp take(pool, handle, wait_ns, overflow?) do
    reference = make_ref()

    case Native.pool_checkout(handle, reference, wait_ns, overflow?) do
      {_connection, _slot, _epoch} = granted -> granted
      :wait -> await(pool, handle, reference, wait_ns)
      refusal -> refused(refusal, pool, handle, wait_ns)
    end
  end

  defp wait_ns(nil, default_ns), do: default_ns

  defp wait_ns(timeout, _default_ns), do: Config.timeout_ns(timeout)

  # The message comes from the process that ends the wait. When the cancel is told that something ended the
  # wait before it, that message is on its way or here: the sender cannot be interrupted between the two.
  defp await(pool, handle, reference, wait_ns) do
    receive do
      {^reference, outcome} -> ended(outcome, pool, handle, wait_ns)
    after
      if(wait_ns == 0, do: :infinity, else: Config.timeout_ms(wait_ns)) ->
        case Native.pool_cancel(handle) do
          :cancelled ->
            refused(:pool_timeout, pool, handle, wait_ns)

          :ended ->
            receive do
              {^reference, outcome} -> ended(outcome, pool, handle, wait_ns)
            end
        end
    end
  end

  defp ended({_connection, _slot, _epoch} = granted, _, _, _), do: granted
  defp ended(refusal, pool, handle, wait_ns), do: refused(refusal, pool, handle, wait_ns)

  # Whose a connection is has to be known before it is reset: a stranger's reset would hit its present holder. What is
  # noted here only this process can give back.
  defp remember({_handle, nil, _slot, _epoch, _since}, _connection), do: :ok

  defp remember({handle, _edge, slot, epoch, since}, connection) do
    key = {__MODULE__, handle, connection}
    Process.put(key, [{slot, epoch, since} | Process.get(key, [])])
  end

  defp recall(handle, connection) do
    key = {__MODULE__, handle, connection}

    case Process.get(key, []) do
      [] -> :stale_lease
      [lease] -> Process.delete(key) && lease
      [lease | others] -> Process.put(key, others) && lease
    end
  end

  # One check-out in so many is told, and so is the check-in that belongs to it: `since` is when it was lent.
  defp tell_checkout(pool, handle, {_reset, one_in}, slot, asked) when one_in > 0 do
    if one_in == 1 or :rand.uniform(one_in) == 1 do
      now = System.monotonic_time()
      tell(:checkout, :queue_time, now - asked, pool, handle, slot)
      now
    end
  end

  defp tell_checkout(_pool, _handle, _edge, _slot, _asked), do: nil

  defp tell_checkin(_pool, {_handle, _edge, _slot, _epoch, nil}), do: :ok

  defp tell_checkin(pool, {handle, _edge, slot, _epoch, since}),
    do: tell(:checkin, :use_time, System.monotonic_time() - since, pool, handle, slot)

  defp tell(event, measurement, time, pool, handle, slot) do
    measurements = %{
      :count => 1,
      measurement => System.convert_time_unit(time, :native, :nanosecond),
      :connection_age => Native.pool_connection_age(handle, slot)
    }

    metadata = %{pool: pool, slot: slot}
    Telemetry.call(namespace(pool), [:connection_pool, event], measurements, metadata)
  end

  # Of a pool as it is addressed. Who has its process's id only is not looked up for a count.
  defp namespace({namespace, _name}), do: namespace
  defp namespace(_name_or_pid), do: :production

  defp resets?({reset, _one_in}), do: reset != nil
  defp resets?(nil), do: false

  defp clean?(nil, _connection), do: true
  defp clean?({nil, _one_in}, _connection), do: true

  defp clean?({reset, _one_in}, connection) do
    reset.(connection) == :ok
  catch
    _kind, _reason -> false
  end

  defp returned(:ok, _pool), do: :ok

  defp returned(:stale_lease, pool) do
    {:error,
     Error.new(
       :stale_lease,
       "the calling process holds no such connection of pool #{inspect(pool)}",
       context: %{pool: pool, caller: self()}
     )}
  end

  defp refused(refusal, pool, handle, wait_ns) do
    context = %{
      pool: pool,
      timeout: Config.timeout_ms(wait_ns),
      last_error: Native.pool_last_error(handle)
    }

    Telemetry.call(namespace(pool), [:connection_pool, refusal], %{count: 1}, context)
    {:error, Error.new(refusal, message(refusal, context), context: context)}
  end

  defp message(:pool_timeout, %{last_error: nil} = context) do
    "no connection of pool #{inspect(context.pool)} became free within #{context.timeout} ms"
  end

  defp message(:pool_timeout, context) do
    "no connection of pool #{inspect(context.pool)} within #{context.timeout} ms; " <>
      "the last attempt to make one failed: #{reason(context.last_error)}"
  end

  defp message(:create_failed, context) do
    "pool #{inspect(context.pool)} could not make a connection: #{reason(context.last_error)}"
  end

  defp message(refusal, context),
    do: "#{Catalogue.fetch(refusal).message}: pool #{inspect(context.pool)}"

  # For a sentence; `last_error` in the context has all of it, stack trace included.
  defp reason(%Error{message: message}), do: message

  defp reason({exception, stacktrace}) when is_exception(exception) and is_list(stacktrace),
    do: Exception.format_banner(:error, exception)

  defp reason({:bad_return_value, value}) do
    "it returned #{inspect(value, limit: 10, printable_limit: 100)}, " <>
      "allowed is {:ok, connection} or {:error, reason}"
  end

  defp reason(other), do: inspect(other)

  defp not_found(pool) do
    {:error,
     Error.new(:pool_not_found, "no pool #{inspect(pool)}: #{Configured.why_not(pool)}",
       context: %{pool: pool}
     )}
  end

  defp call_options(opts) do
    with true <- Keyword.keyword?(opts) || Config.invalid(:opts, opts, "a keyword list"),
         {timeout, opts} = Keyword.pop(opts, :timeout),
         {overflow?, opts} = Keyword.pop(opts, :allow_overflow, true),
         true <-
           is_boolean(overflow?) || Config.invalid(:allow_overflow, overflow?, "true or false"),
         [] <- opts do
      {:ok, timeout, overflow?}
    else
      [{key, value} | _] ->
        Config.invalid(key, value, "no such option; the options are :timeout and :allow_overflow")

      error ->
        error
    end
  end

  defp wrap({:ok, _} = result), do: result
  defp wrap(:error), do: :error
  defp wrap(result) when is_tuple(result) and elem(result, 0) == :error, do: result
  defp wrap(result), do: {:ok, result}
end
