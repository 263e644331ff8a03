defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Checkout do
  @moduledoc false
  # Takes a connection for the calling process: asks the native pool, waits for its message, and has a connection tested that
  # was idle for long.
  #
  # The message that ends a wait comes from the process that ends it. When the cancel is told that something ended the wait
  # before it, that message is on its way or here: the sender cannot be interrupted between the two.
  #
  # A test runs in a job of the pool's process, which can be stopped at its time limit, while the lease is the caller's
  # already: if the caller is killed, the connection ends with it. One that fails is given back as broken, and the call
  # asks again for what is left of its time.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{Connection, Native}

  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.{
    Config,
    Directory,
    Refusal,
    Server,
    Usage
  }

  @typedoc "Where a connection was taken from, and when, if that is told."
  @type place ::
          {handle :: reference(), one_in :: pos_integer() | nil, slot :: non_neg_integer(),
           epoch :: non_neg_integer(), since :: integer() | nil}

  @doc "A connection, and its place to give it back to."
  @spec take(term(), term(), boolean()) ::
          {:ok, place(), Connection.connection()} | {:error, Error.t()}
  def take(pool, timeout, overflow?) do
    case Directory.fetch(pool) do
      {handle, server, default_ns, one_in} ->
        asked = if one_in, do: System.monotonic_time()

        with wait_ns when is_integer(wait_ns) <- wait_ns(timeout, default_ns),
             {connection, slot, epoch} <- ask(pool, handle, server, wait_ns, overflow?) do
          since = if one_in, do: Usage.lent(one_in, pool, handle, slot, asked)
          {:ok, {handle, one_in, slot, epoch, since}, connection}
        else
          :error -> Config.invalid(:timeout, timeout, Config.timeout_range())
          refused -> refused
        end

      nil ->
        Refusal.not_found(pool)
    end
  end

  @doc "The wait that a call asks for, in nanoseconds."
  @spec wait_ns(term(), non_neg_integer()) :: non_neg_integer() | :error
  def wait_ns(nil, default_ns), do: default_ns
  def wait_ns(timeout, _default_ns), do: Config.timeout_ns(timeout)

  defp ask(pool, handle, server, wait_ns, overflow?) do
    reference = make_ref()

    case Native.pool_checkout(handle, reference, wait_ns, overflow?) do
      {_connection, _slot, _epoch} = granted ->
        granted

      answer ->
        go_on(answer, reference, wait_ns, %{
          pool: pool,
          handle: handle,
          server: server,
          overflow?: overflow?,
          limit_ns: wait_ns,
          asked_ns: System.monotonic_time(:nanosecond)
        })
    end
  end

  # `wait` is what this attempt asked for, `call.limit_ns` what the caller did.
  defp go_on({_connection, _slot, _epoch} = granted, _reference, _wait, _call), do: granted
  defp go_on(:wait, reference, wait, call), do: await(reference, wait, call)

  defp go_on({connection, slot, epoch, :untested}, _reference, _wait, call) do
    if Server.pre_ping(call.server, slot, epoch) do
      {connection, slot, epoch}
    else
      Native.pool_checkin_lease(call.handle, slot, epoch, true)
      again(call)
    end
  end

  # The connection died between the grant and its message.
  defp go_on(:lost, _reference, _wait, call), do: again(call)

  defp go_on(refusal, _reference, _wait, call), do: Refusal.refused(refusal, call)

  defp again(call) do
    {reference, wait} = {make_ref(), left(call)}
    answer = Native.pool_checkout(call.handle, reference, wait, call.overflow?)
    go_on(answer, reference, wait, call)
  end

  defp left(%{limit_ns: limit_ns} = call) do
    if limit_ns == 0 or limit_ns == Config.timeout_ns(:infinity) do
      limit_ns
    else
      left_ns = call.asked_ns + limit_ns - System.monotonic_time(:nanosecond)
      if left_ns > 0, do: left_ns, else: :late
    end
  end

  defp await(reference, wait, call) do
    receive do
      {^reference, outcome} -> go_on(outcome, reference, wait, call)
    after
      if(wait == 0, do: :infinity, else: Config.timeout_ms(wait)) ->
        case Native.pool_cancel(call.handle) do
          :cancelled ->
            Refusal.refused(:pool_timeout, call)

          :ended ->
            receive do
              {^reference, outcome} -> go_on(outcome, reference, wait, call)
            end
        end
    end
  end
end
