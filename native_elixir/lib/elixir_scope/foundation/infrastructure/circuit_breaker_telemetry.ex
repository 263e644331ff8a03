defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerTelemetry do
  @moduledoc """
  Publishes what circuit breakers do.

  The native library sends each change of a breaker to the publisher of its namespace inside of the call that caused it,
  so a caller that is killed cannot take an event with it. Messages of several callers may overtake each other; each
  carries a gapless number of its breaker, and the publisher holds an event back until its predecessors have come,
  at most 64 events and 100 ms. What is still missing then is counted as dropped, and an event that comes later than
  that is dropped too: order is never broken.

  Telemetry events go to `:telemetry` where that library is loaded, and to the namespace's TelemetryService. Their names are the prefix, `[:elixir_scope,
  :foundation, :infra]` or `config :elixir_scope, :telemetry_prefix`, then `:circuit_breaker`, then

  | event | when | measurements | metadata |
  | --- | --- | --- | --- |
  | `:fuse_installed` | a breaker was made, by its first use or by registering it | `count` | `namespace`, `service` |
  | `:state_change` | the phase changed | `sequence`, `generation`, `at_ns` | `namespace`, `service`, `from`, `to`, `mode`, `cause` |
  | `:mode_changed` | somebody chose another mode; after `:state_change` where that changed the phase too | the same | the same |
  | `:reset`, `:reinstalled`, `:reconfigured` | a closed breaker was reset or installed anew, a half-open one began another round | the same | the same |
  | `:degraded` | a closed breaker's level changed, up or down | the same | the same, and `from_level`, `to_level` |
  | `:would_open` | in mode `:metrics_only`: it would have opened | the same | as `:degraded` |
  | `:call_executed` | a call was made | `count`, `duration` (native units) | `namespace`, `service`, `result` (an outcome) |
  | `:call_rejected` | a call was not admitted | `count`, `retry_after_ms` | `namespace`, `service`, `reason` |

  `sequence` counts the changes of generation and, for the two events of levels, those apart. `cause` is one of
  `t:cause/0`. The last two events happen at every call and are emitted only after `call_events(true)`.
  """

  alias ElixirScope.Foundation.Infrastructure.CircuitBreaker
  alias ElixirScope.Foundation.Infrastructure.CircuitBreakerTelemetry.Publisher
  alias ElixirScope.Foundation.Infrastructure.{Names, Telemetry}
  alias ElixirScope.Foundation.ProcessRegistry

  @supervisor ElixirScope.Foundation.Infrastructure.PublisherSupervisor

  @type cause ::
          :failure_threshold
          | :failure_rate
          | :slow_call_rate
          | :open_elapsed
          | :probes_succeeded
          | :probes_failed
          | :probe_expired
          | :probes_ignored
          | :half_open_limit
          | :reset
          | :mode_changed
          | :reconfigured
          | :reinstalled
          | :level_changed
          | :would_open

  @typedoc """
  A change. Those of kind `:generation` and those of kind `:level` are counted by a `sequence` each; every
  generation begins at level `:none`.
  """
  @type change :: %{
          namespace: Names.namespace(),
          service: atom(),
          kind: :generation | :level,
          sequence: pos_integer(),
          generation: pos_integer(),
          from: CircuitBreaker.phase(),
          to: CircuitBreaker.phase(),
          from_level: CircuitBreaker.level(),
          to_level: CircuitBreaker.level(),
          mode: CircuitBreaker.mode(),
          cause: cause(),
          at_ns: non_neg_integer()
        }

  @doc """
  Sends `{:circuit_breaker_event, change}` to `pid` at each change of a breaker of this namespace, in order. Ends with `pid`,
  and with the publisher, should that crash.
  """
  @spec subscribe(Names.namespace(), pid()) :: :ok | {:error, ElixirScope.Foundation.Error.t()}
  def subscribe(namespace, pid \\ self()) when is_pid(pid) do
    with :ok <- Names.check(namespace),
         {:ok, publisher} <- ensure(namespace),
         do: GenServer.call(publisher, {:subscribe, pid})
  end

  @doc "Ends a subscription."
  @spec unsubscribe(Names.namespace(), pid()) :: :ok
  def unsubscribe(namespace, pid \\ self()), do: ask(namespace, {:unsubscribe, pid}, :ok)

  @doc "Returns when every change whose call returned before is published, but for one that is held back."
  @spec sync(Names.namespace()) :: :ok
  def sync(namespace), do: ask(namespace, :sync, :ok)

  @doc "How many changes of this namespace were published, and how many got lost."
  @spec stats(Names.namespace()) :: %{
          published_events: non_neg_integer(),
          dropped_events: non_neg_integer()
        }
  def stats(namespace), do: ask(namespace, :stats, %{published_events: 0, dropped_events: 0})

  @doc "Switches the events of single calls on or off, for all breakers. A handle keeps what it was made with."
  @spec call_events(boolean()) :: :ok
  def call_events(on) when is_boolean(on) do
    :persistent_term.put(__MODULE__, on)
    _ = Names.update_all(:breaker, &%{&1 | call_events: on})
    :ok
  end

  @doc false
  @spec call_events?() :: boolean()
  def call_events?, do: :persistent_term.get(__MODULE__, false)

  @doc false
  @spec executed(CircuitBreaker.Handle.t(), CircuitBreaker.outcome(), integer()) :: :ok
  def executed(handle, result, duration) do
    metadata = %{namespace: handle.namespace, service: handle.service, result: result}
    measurements = %{count: 1, duration: duration}
    Telemetry.call(handle.namespace, [:circuit_breaker, :call_executed], measurements, metadata)
  end

  @doc false
  @spec rejected(CircuitBreaker.Handle.t(), atom(), non_neg_integer() | :infinity) :: :ok
  def rejected(handle, reason, retry_after_ms) do
    measurements = %{count: 1, retry_after_ms: retry_after_ms}
    metadata = %{namespace: handle.namespace, service: handle.service, reason: reason}
    Telemetry.call(handle.namespace, [:circuit_breaker, :call_rejected], measurements, metadata)
  end

  @doc false
  @spec create_table() :: :ok
  def create_table do
    # {id of a breaker, namespace, service, last published change of generation, and of level}: outlives a
    # publisher that crashes.
    :ets.new(__MODULE__, [:named_table, :public, :set])
    :ok
  end

  # A new breaker; whatever had its name before is not told about any more. Which those are is found out here, in
  # the one process that makes breakers: the publisher may look only after the next one has been made.
  @doc false
  @spec announce(pid(), integer(), Names.namespace(), atom()) :: :ok
  def announce(publisher, id, namespace, service) do
    Telemetry.record(namespace, [:circuit_breaker, :fuse_installed], %{count: 1}, %{
      namespace: namespace,
      service: service
    })

    predecessors = ids(namespace, service)
    :ets.insert(__MODULE__, {id, namespace, service, 0, 0})
    GenServer.cast(publisher, {:retire, predecessors})
  end

  # The breakers that have or had this name and are told about.
  @doc false
  @spec ids(Names.namespace(), atom()) :: [integer()]
  def ids(namespace, service) do
    List.flatten(:ets.match(__MODULE__, {:"$1", namespace, service, :_, :_}))
  rescue
    # The application does not run.
    ArgumentError -> []
  end

  @doc false
  @spec retire(Names.namespace(), [integer()]) :: :ok
  def retire(namespace, ids) do
    case publisher(namespace) do
      {:ok, publisher} -> GenServer.cast(publisher, {:retire, ids})
      # Between two publishers: the next one has nothing of these held back.
      :error -> Enum.each(ids, &:ets.delete(__MODULE__, &1))
    end
  end

  @doc false
  @spec ensure(Names.namespace()) :: {:ok, pid()} | {:error, ElixirScope.Foundation.Error.t()}
  def ensure(namespace) do
    with :error <- publisher(namespace) do
      case DynamicSupervisor.start_child(@supervisor, {Publisher, {namespace, name(namespace)}}) do
        {:ok, pid} -> {:ok, pid}
        {:error, {:already_started, pid}} -> {:ok, pid}
      end
    end
  catch
    :exit, {:noproc, _call} -> {:error, Names.not_running(:noproc)}
  end

  @doc false
  @spec stop(Names.namespace()) :: :ok
  def stop(namespace) do
    with {:ok, pid} <- publisher(namespace),
         do: DynamicSupervisor.terminate_child(@supervisor, pid)

    :ets.match_delete(__MODULE__, {:_, namespace, :_, :_, :_})
    :ok
  end

  defp ask(namespace, request, absent) do
    case publisher(namespace) do
      {:ok, publisher} -> GenServer.call(publisher, request)
      :error -> absent
    end
  end

  defp publisher(namespace), do: ProcessRegistry.lookup(namespace, {__MODULE__})
  defp name(namespace), do: ProcessRegistry.via_tuple(namespace, {__MODULE__})
end
