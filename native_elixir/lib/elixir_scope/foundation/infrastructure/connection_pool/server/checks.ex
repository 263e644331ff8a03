defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Server.Checks do
  @moduledoc false
  # Tests and resets of connections that nobody uses meanwhile, each in a job with its own time limit.
  #
  # | kind | when | what | limit |
  # | --- | --- | --- | --- |
  # | `:idle` | keep-alive and rounds of active checks | `ping` | `check_limit` |
  # | `:returned` | on return, and after its holder's death | `reset`, then `ping` | `return_limit` |
  # | `:pre_ping` | before it is lent, for the process that takes it | `ping` | `pre_ping_limit` |
  #
  # The native pool gives up the first two at their limit by itself and asks for the connection's end. That, as whatever else
  # it asks for meanwhile, waits for the job's end: no connection is closed under the hands of its tester.

  alias ElixirScope.Foundation.Infrastructure.Native
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.{Config, Job}
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.Server.State

  @doc "Begins what the native pool asks for."
  @spec check(State.t(), non_neg_integer(), non_neg_integer(), :idle | :returned) :: State.t()
  def check(state, slot, epoch, kind),
    do: State.when_free(state, slot, :check, &start(&1, slot, epoch, kind, nil))

  @doc "Begins a test for the holder of a lease, who is answered whether the connection passed."
  @spec pre_ping(State.t(), non_neg_integer(), non_neg_integer(), GenServer.from()) :: State.t()
  def pre_ping(state, slot, epoch, from) do
    # Once that is known, a lease ends by its holder or with a message to this process, behind the job.
    if Native.pool_is_leased(state.handle, slot, epoch) and not is_map_key(state.busy, slot),
      do: start(state, slot, epoch, :pre_ping, from),
      else: report(state, slot, epoch, :pre_ping, from, false)
  end

  defp start(state, slot, epoch, kind, from) do
    case Native.pool_connection(state.handle, slot) do
      {:ok, connection} ->
        {callbacks, limit} = task(kind, state.config)
        pid = Job.check(callbacks, connection)
        timer = State.limit(pid, limit)

        job = %{
          what: :check,
          slot: slot,
          epoch: epoch,
          kind: kind,
          from: from,
          timer: timer,
          next: nil
        }

        State.put_job(%{state | busy: Map.put(state.busy, slot, pid)}, pid, job)

      :none ->
        report(state, slot, epoch, kind, from, false)
    end
  end

  defp task(:idle, config), do: {[config.worker.ping], config.check_limit}
  defp task(:pre_ping, config), do: {[config.worker.ping], config.pre_ping_limit}

  defp task(:returned, config) do
    reset = if config.reset_on_return, do: [config.worker.reset], else: []
    {reset ++ ping_on_return(config, reset), config.return_limit}
  end

  # Without health checks and reset it comes from a holder that has died.
  defp ping_on_return(%Config{health: health} = config, reset) do
    if health in [:passive, :mixed] or reset == [], do: [config.worker.ping], else: []
  end

  @doc "A job has ended, with a verdict or without one."
  @spec ended(State.t(), State.job(), boolean()) :: State.t()
  def ended(state, job, passed?) do
    State.in_time(job.timer)
    state = %{state | busy: Map.delete(state.busy, job.slot)}

    case job.next do
      nil ->
        report(state, job.slot, job.epoch, job.kind, job.from, passed?)

      # Given up at its limit by the native pool, a moment before this process would have.
      {:check_failed, fun} ->
        state |> report(job.slot, job.epoch, job.kind, job.from, false) |> fun.()

      {_other, fun} ->
        answer(state, job.slot, job.epoch, job.kind, job.from, false)
        fun.(state)
    end
  end

  defp report(state, slot, epoch, kind, from, passed?) do
    answer(state, slot, epoch, kind, from, passed?)
    if passed?, do: state, else: State.event(state, :check_failed, %{slot: slot, kind: kind})
  end

  defp answer(_state, _slot, _epoch, :pre_ping, from, passed?), do: GenServer.reply(from, passed?)

  defp answer(state, slot, epoch, _kind, nil, passed?),
    do: Native.pool_checked(state.handle, slot, epoch, passed?)
end
