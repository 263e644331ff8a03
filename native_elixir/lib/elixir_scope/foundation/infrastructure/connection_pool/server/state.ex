defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Server.State do
  @moduledoc false
  # What the process of a pool knows.
  #
  # `jobs` are the callbacks in flight, by the pid of their process; `busy` which of them has a connection in hand that the
  # native pool may ask something else of, by slot; `alive` the connection processes in slots, by pid; `drains` who
  # waits for the pool's end.

  alias ElixirScope.Foundation.Infrastructure.{Connection, Native, Telemetry}
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.Config

  @enforce_keys [:handle, :config]
  defstruct [:handle, :config, :timer, jobs: %{}, busy: %{}, alive: %{}, drains: []]

  @type job ::
          %{what: :create, slot: non_neg_integer(), epoch: non_neg_integer()}
          | %{what: :close, connection: Connection.connection(), place: place(), timer: timer()}
          | %{
              what: :check,
              slot: non_neg_integer(),
              epoch: non_neg_integer(),
              kind: :idle | :returned | :pre_ping,
              from: GenServer.from() | nil,
              timer: timer(),
              next: {why :: atom(), (t() -> t())} | nil
            }
  @typedoc "Slot, epoch and why its connection goes; nil for a connection that never had a place."
  @type place :: {non_neg_integer(), non_neg_integer(), atom()} | nil
  @type timer :: reference() | nil
  @type t :: %__MODULE__{
          handle: reference(),
          config: Config.t(),
          timer: timer(),
          jobs: %{pid() => job()},
          busy: %{non_neg_integer() => pid()},
          alive: %{pid() => non_neg_integer()},
          drains: [{GenServer.from(), timer()}]
        }

  @doc "Notes a job."
  @spec put_job(t(), pid(), job()) :: t()
  def put_job(state, pid, job), do: %{state | jobs: Map.put(state.jobs, pid, job)}

  @doc "Has a job killed when its time is over; 0 is none."
  @spec limit(pid(), non_neg_integer()) :: timer()
  def limit(_job, 0), do: nil
  def limit(job, ms), do: Process.send_after(self(), {:job_timeout, job}, ms)

  @doc "The job has ended in time."
  @spec in_time(timer()) :: term()
  def in_time(timer), do: timer && Process.cancel_timer(timer)

  @doc """
  Runs `fun` once no job has the slot's connection in hand. A job that has is killed for it; of several that wait for
  its end only the last is run, since the native pool asked for it last.
  """
  @spec when_free(t(), non_neg_integer(), atom(), (t() -> t())) :: t()
  def when_free(state, slot, why, fun) do
    case state.busy do
      %{^slot => job} ->
        Process.exit(job, :kill)
        %{state | jobs: Map.update!(state.jobs, job, &%{&1 | next: {why, fun}})}

      _ ->
        fun.(state)
    end
  end

  @doc "Asks the native pool what time demands, and when to ask again: it sends a message when that becomes earlier."
  @spec maintain(t()) :: t()
  def maintain(state) do
    if state.timer, do: Process.cancel_timer(state.timer)

    case Native.pool_maintain(state.handle) do
      :infinity -> %{state | timer: nil}
      ms -> %{state | timer: Process.send_after(self(), :maintain, max(ms, 1))}
    end
  end

  @doc "Tells what became of a connection."
  @spec event(t(), atom(), map()) :: t()
  def event(state, name, metadata) do
    metadata = Map.merge(metadata, %{namespace: state.config.namespace, pool: state.config.name})
    Telemetry.record(state.config.namespace, [:connection_pool, name], %{count: 1}, metadata)
    state
  end

  @doc "Connections, those that come and go among them, and callers that wait for one."
  @spec left(t()) :: non_neg_integer()
  def left(state) do
    s = Native.pool_stats(state.handle)
    s.idle + s.in_use + s.creating + s.checking + s.closing + s.waiting
  end
end
