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
    * A worker with a `reset/1` has it run when a connection comes back, in a process of the pool's, before anybody else is
      given the connection; what it does not clean in time is closed. Until then it is lent to nobody, so who asks at once may
      have another one made.
    * Everything ends with the pool: waiters get `:pool_closed`, connections are closed. That is so when its process
      crashes, too: its supervisor starts a new one without any connection, and leases of the old one are stale.

  ## Options

  Times are in milliseconds.

  | option | default | meaning |
  | --- | --- | --- |
  | `:name` | required | an atom; `:database_pool` is an alias of `:database` |
  | `:namespace` | `:production` | or `{:test, reference}`, for async tests; such a pool is addressed as `{{:test, reference}, name}` |
  | `:worker` | | a module or `{module, arg}`, see `ElixirScope.Foundation.Infrastructure.Connection`; or instead of it |
  | `:create`, `:close`, `:reset`, `:ping` | | functions of no argument and, all but the first optional, of a connection |
  | `:size` | 5 | connections that are kept |
  | `:max_overflow` | 10 | how many more a burst may add |
  | `:max_slots` | 0 | up to where `resize/2` may go; 0, as many as there are |
  | `:strategy` | `:lifo` | which idle connection goes out: `:lifo`, `:fifo`, `:round_robin` or `:least_used` |
  | `:timeout` | 5000 | how long a check-out waits where the call does not say, `:infinity` allowed |
  | `:max_waiters` | 10000 | callers that may wait at a time |
  | `:queue_interval`, `:queue_target` | 0, 0 | when the caller at the head of the queue has waited longer than the target for an interval, waits are ended early with `:shed` (CoDel, RFC 8289); interval 0, never |
  | `:min_idle` | 0 | connections that are made ahead of demand, `:size` at most |
  | `:init_policy` | `:degraded` | `:error`: the start waits for `:min_idle` connections and fails if one of them cannot be made |
  | `:max_creating` | any | how many connections are made at a time |
  | `:create_failure` | `:retry` | what a failed creation does to the caller that waited longest: it waits on, or under `:fail_fast` gets `:create_failed` |
  | `:retry_after`, `:retry_at_most` | 100, 10000 | the pause after a connection could not be made doubles from the one to the other |
  | `:overflow_ttl` | 0 | how long a surplus connection stays idle before it is closed; 0, not at all |
  | `:idle_timeout` | 0 | after which an idle connection beyond `:min_idle` is closed; 0, never |
  | `:max_lifetime`, `:max_lifetime_jitter` | 0, 0 | age at which a connection is closed when nobody holds it, up to the jitter earlier at random; 0, none |
  | `:health` | `:off` | `:passive`: a connection is tested on return; `:active`: all idle ones are each `:health_interval`; `:mixed`: on return, and half of the idle ones |
  | `:keepalive` | 0 | an idle connection is tested after so long without use; 0, never |
  | `:check_limit` | 5000 | a test of an idle connection that takes longer has failed; 0, no limit |
  | `:reset_on_return` | if there is a `reset` | whether connections are reset when they come back |
  | `:return_limit` | 5000 | the same for reset and test on return together |
  | `:pre_ping_after` | `:never` | a connection that was neither used nor tested for longer is tested before it is lent; 0 tests each that was idle |
  | `:pre_ping_limit` | 5000 | the same for that test, which comes on top of the wait |
  | `:owner_death` | `:close` | what becomes of a connection whose holder died; `:check`: it is reset, or tested if it cannot be, and kept if that goes well |
  | `:leak_after` | 0 | after which a connection on loan is reported once, with its holder, see `:connection_leaked`; it stays on loan; 0, never |
  | `:telemetry` | 0 | of how many check-outs one is told, see below; 0 for none |
  | `:measure` | false | whether `status/1` sums up times of use, which costs a look at the clock each call |
  | `:close_timeout` | 5000 | when closing a connection takes longer, it is killed |
  | `:drain` | 1000 | how long a stopping pool waits for its connections to come back |

  Whatever tests needs a worker with `ping/1`. Tests and resets run in processes of the pool's, one for each, that are killed at
  their limit; the connection is closed then.

  ## Events

  Names follow the telemetry prefix and `:connection_pool`; each has the measurement `count: 1`, times are in
  nanoseconds.

  | event | by whom | further measurements | metadata |
  | --- | --- | --- | --- |
  | `:checkout` | the caller, if chosen | `queue_time`, `connection_age` | `pool`, `slot` |
  | `:checkin` | who gives back what was chosen | `use_time`, `connection_age` | `pool`, `slot` |
  | `:timeout`, `:pool_exhausted`, `:pool_closed`, `:queue_full`, `:create_failed`, `:shed` | the refused caller | `queue_time` | `pool`, `timeout`, `last_error` |
  | `:connection_created` | the pool's process | | `namespace`, `pool`, `slot` |
  | `:connection_closed` | the pool's process | | the same and `reason`: `:broken`, `:lost`, `:overflow`, `:owner_gone`, `:pool_closed`, `:idle`, `:lifetime`, `:evicted`, `:check_failed`, `:resized` |
  | `:check_failed` | the pool's process | | the same and `kind`: `:idle`, `:returned`, `:pre_ping` |
  | `:connection_leaked` | the pool's process | | the same and `holder`, `since_ns` (of the pool's clock) |
  | `:connection_down`, `:create_failed` | the pool's process | | the same and `reason` |

  `queue_time` is how long a call took to be answered. `telemetry: n` tells one check-out in `n` and its check-in, chosen at
  random; 1 tells all, 0 (the default) none, which costs nothing. `status/1` counts them all.
  """

  alias ElixirScope.Foundation.Error

  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.{
    Admin,
    Checkin,
    Checkout,
    Config,
    Directory,
    Lease,
    Server,
    Usage
  }

  alias ElixirScope.Foundation.Infrastructure.{Connection, Names}

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
    with {:ok, {_, server, _, _}} <- Admin.find(pool),
         do: GenServer.stop(server, :normal, :infinity)
  catch
    :exit, _ -> :ok
  end

  @doc """
  Closes a pool for good, without stopping it: check-outs are refused, waiters get `:pool_closed`, connections are
  closed when they come back, or when `within` milliseconds are over, whoever holds them then. Its process ends with
  `stop/1` or by its supervisor.
  """
  @spec close(pool(), timeout()) :: :ok | {:error, Error.t()}
  def close(pool, within \\ :infinity), do: Admin.close(pool, within)

  @doc """
  Closes a pool for good to new callers, and waits until those who wait already are served and all of its connections are
  gone, for up to `timeout` milliseconds. Who waits longer than that gets `:pool_closed`. How many connections are
  still held then is in the error's context as `left`; they may come back later.
  """
  @spec drain(pool(), timeout()) :: :ok | {:error, Error.t()}
  def drain(pool, timeout \\ 5_000), do: Admin.drain(pool, timeout)

  @doc """
  Takes a connection, waiting for up to `timeout` milliseconds (the pool's `:timeout`, 5000 by default).

  0 waits for nobody: the call is refused as `:pool_exhausted` when all connections are in use. Where the pool has
  room it makes one for the call, which takes as long as that takes, and a failure is `:create_failed`.
  """
  @spec checkout(pool(), timeout() | nil) :: {:ok, connection()} | {:error, Error.t()}
  def checkout(pool, timeout \\ nil) do
    with {:ok, place, connection} <- Checkout.take(pool, timeout, true) do
      Usage.remember(place, connection)
      {:ok, connection}
    end
  end

  @doc """
  As `checkout/2`, for a lease that any process may give back. The connection is in its field `connection`.
  """
  @spec checkout_lease(pool(), timeout() | nil) :: {:ok, Lease.t()} | {:error, Error.t()}
  def checkout_lease(pool, timeout \\ nil) do
    with {:ok, {handle, _one_in, slot, epoch, since}, connection} <-
           Checkout.take(pool, timeout, true) do
      {:ok,
       %Lease{handle: handle, slot: slot, epoch: epoch, connection: connection, since: since}}
    end
  end

  @doc """
  Gives a connection back: the caller's own, or any lease of `checkout_lease/2`. A connection that is not fit
  for the next holder comes back as `:broken`.
  """
  @spec checkin(pool(), connection() | Lease.t(), condition()) :: :ok | {:error, Error.t()}
  def checkin(pool, connection, condition \\ :good)

  def checkin(pool, %Lease{slot: slot, epoch: epoch} = lease, condition)
      when condition in [:good, :broken] and slot in 0..0xFFFF_FFFF and
             epoch in 0..0xFFFF_FFFF_FFFF_FFFF,
      do: Checkin.lease(pool, lease, condition)

  def checkin(_pool, %Lease{} = lease, condition) when condition in [:good, :broken],
    do: Config.invalid(:lease, lease, "a lease of checkout_lease/2, unchanged")

  def checkin(pool, connection, condition) when condition in [:good, :broken],
    do: Checkin.own(pool, connection, condition)

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
         {:ok, place, connection} <- Checkout.take(pool, timeout, overflow?) do
      try do
        fun.(connection)
      catch
        kind, reason ->
          Checkin.give_back(pool, place, :broken)
          :erlang.raise(kind, reason, __STACKTRACE__)
      else
        result ->
          # A stale lease is no news here: the connection died under `fun`, which has seen that itself.
          Checkin.give_back(pool, place, :good)
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
         {:ok, {_, _, default_ns, _}} <- Admin.find(pool),
         wait_ns when is_integer(wait_ns) <- Checkout.wait_ns(timeout, default_ns) do
      :ok
    else
      :error -> Config.invalid(:timeout, opts[:timeout], Config.timeout_range())
      error -> error
    end
  end

  @doc """
  What the pool looks like now, and what it has counted, all of one instant; the pool's process is not asked.

    * now: `size`, `capacity` (with overflow), `idle`, `in_use`, `overflow` (connections above `size`), `creating`,
      `checking`, `closing`, `waiting`, `failing` (creations that failed in a row), `closed`, `phase` (`:running`,
      `:draining`, or `:closed` with nothing left);
    * calls: `requests`, and how they ended: `granted`, `timed_out`, `cancelled` (by the caller's death), `exhausted`,
      `queue_full`, `closed_requests`, `create_failed`, `shed`; `queue_ns`, the time that granted waits took together, and
      `longest_queue_ns`;
    * leases: `returned`, `broken`, `reclaimed` (by the holder's death); `leaks`, those reported by `:leak_after`; `use_ns`, the
      time that ended ones took together, under `:measure` or `:leak_after`;
    * connections: `created`, `create_errors`, `destroyed`; `checks_passed`, `checks_failed`, both without tests before
      a check-out, which are `pre_pings`.
  """
  @spec status(pool()) :: {:ok, map()} | {:error, Error.t()}
  def status(pool), do: Admin.status(pool)

  @doc """
  Changes `:size`, `:max_overflow` or both while the pool lives, up to `:max_slots` together. A larger pool makes connections
  for its waiters at once; a smaller one closes what is idle at once and the rest when it comes back.
  """
  @spec resize(pool(), keyword()) :: :ok | {:error, Error.t()}
  def resize(pool, sizes), do: Admin.resize(pool, sizes)

  @doc """
  Has every connection that there is now replaced, idle ones at once, others when they come back; or each at a random instant
  within so many milliseconds, so that not all are made anew at a time.
  """
  @spec evict(pool(), timeout()) :: :ok | {:error, Error.t()}
  def evict(pool, within \\ 0), do: Admin.evict(pool, within)

  @doc """
  Does what has become due: closes what is old, tests, tells of leaks, tries again. A pool does so by itself when the time
  comes; one that reads a `ElixirScope.Foundation.Infrastructure.ManualClock` is not told that its time went on.
  """
  @spec maintain(pool()) :: :ok | {:error, Error.t()}
  def maintain(pool), do: Admin.maintain(pool)

  @doc """
  What a dashboard wants to know, from `status/1`: `size`, `available`, `checked_out`, `overflow`, `waiting`,
  `total_checkouts`, `total_checkins` (also by the holder's death), `health_checks_passed`, `health_checks_failed`,
  `connections_created`, `connections_destroyed`, and `reuse`, the share of check-outs that needed no new connection, nil
  before the first.
  """
  @spec stats(pool()) :: {:ok, map()} | {:error, Error.t()}
  def stats(pool), do: Admin.stats(pool)

  @doc "The names of the running pools of a namespace."
  @spec list_pools(Names.namespace()) :: [atom()]
  def list_pools(namespace \\ :production), do: Directory.names(namespace)

  # What most calls have.
  defp call_options([]), do: {:ok, nil, true}
  defp call_options(timeout: timeout), do: {:ok, timeout, true}

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
