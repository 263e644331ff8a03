defmodule ElixirScope.Foundation.Infrastructure.CircuitBreaker do
  @moduledoc """
  Guards calls to a service: after repeated failures it rejects them at once, until a probe shows that the
  service is back.

  The decisions are the native core's; this module finds the breaker, runs the operation, says how it went and, where
  it has a limit, sees that it keeps to it. No process stands in the way: a call is two short native calls.

      iex> alias ElixirScope.Foundation.Infrastructure.CircuitBreaker
      iex> namespace = {:test, make_ref()}
      iex> CircuitBreaker.execute(namespace, :search, fn -> 40 + 2 end)
      {:ok, 42}
      iex> for _ <- 1..5, do: CircuitBreaker.execute(namespace, :search, fn -> {:error, :down} end)
      iex> {:error, error} = CircuitBreaker.execute(namespace, :search, fn -> 42 end)
      iex> error.error_type
      :circuit_open

  * `execute/3` covers a call in one place, `execute/2` the same with a `handle/2` that saves the look-up.
  * `ask/2` (or `acquire/2`) and `record/2` are for a call whose result is known elsewhere or later, `report/3` for one
    that could not ask first.
  * `state/2` and `stats/2` show a breaker; `reset/2`, `force_open/2`, `force_closed/2`, `metrics_only/2`, `auto/2`,
    `reconfigure/3`, `reinstall/3` and `inject_faults/3` are for whoever is in charge of it.

  What a breaker may be told is in `ElixirScope.Foundation.Infrastructure.CircuitBreaker.Options`; namespaces and
  names are in `ElixirScope.Foundation.Infrastructure.CircuitBreakerRegistry`.

  What a caller's death means: a probe, and any permit of `ask/2`, counts as failed; a killed call of a
  closed breaker counts as nothing, it shows as `admitted` minus the results.
  """

  alias ElixirScope.Foundation.Error

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreakerRegistry,
    CircuitBreakerTelemetry,
    Names,
    Native
  }

  alias ElixirScope.Foundation.Infrastructure.CircuitBreaker.{
    Admin,
    Classifier,
    Handle,
    Operation,
    Stats
  }

  @type namespace :: CircuitBreakerRegistry.namespace()
  @type service :: CircuitBreakerRegistry.service()
  @type phase :: :closed | :open | :half_open
  @type mode :: :auto | :forced_open | :forced_closed | :metrics_only
  @type level :: :none | :light | :medium | :heavy | :exceeded
  @type outcome :: :success | :failure | :ignored | :slow | :cancelled
  @type operation :: (() -> term())
  @type call_options :: keyword() | map()
  @opaque permit :: reference()

  @doc """
  Registers a breaker as part of a supervision tree: `{CircuitBreaker, namespace: ..., service: ..., config: ...}`.

  A breaker is no process, so the child is ignored after it has registered; a wrong configuration stops the
  tree from starting.
  """
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    %{
      id: {__MODULE__, opts[:namespace] || :production, opts[:service]},
      start: {__MODULE__, :start_link, [opts]},
      restart: :temporary
    }
  end

  @doc false
  @spec start_link(keyword()) :: :ignore | {:error, Error.t()}
  def start_link(opts) do
    namespace = Keyword.get(opts, :namespace, :production)
    config = Keyword.get(opts, :config, [])
    with :ok <- CircuitBreakerRegistry.register(namespace, opts[:service], config), do: :ignore
  end

  @doc """
  The breaker of a service, for calls that shall not look it up each time.

      iex> alias ElixirScope.Foundation.Infrastructure.CircuitBreaker
      iex> {:ok, search} = CircuitBreaker.handle({:test, make_ref()}, :search)
      iex> CircuitBreaker.execute(search, fn -> 42 end)
      {:ok, 42}
  """
  @spec handle(namespace(), service()) :: {:ok, Handle.t()} | {:error, Error.t()}
  defdelegate handle(namespace, service), to: CircuitBreakerRegistry, as: :fetch

  @doc "As `execute/3`, by handle."
  @spec execute(Handle.t(), operation()) :: term()
  def execute(%Handle{} = handle, operation),
    do: handle |> call(operation) |> without_crash(handle)

  @doc """
  Runs `operation` if the breaker of `service` admits it.

  `{:ok, value}` comes back as it is, another value as `{:ok, value}`. `:error` and a tuple that starts with
  `:error` are failures and come back as they are. A raise, throw or exit is a failure and becomes an error
  with the cause in its context and the stack trace. A rejection is an error of type `:circuit_open`,
  `:half_open_full`, `:forced_open` or `:service_degraded` with `retry_after_ms` in its context, which is `:infinity`
  where only somebody in charge can change that.

  With a `call_timeout` (5,000 ms unless configured) the operation runs in a process of its own, with
  `$callers` set; at the limit, or when the caller dies, it is killed, and a result is never delivered late. With
  `:infinity` it runs in the caller.

  By handle: `execute(handle, operation, options)`.
  """
  @spec execute(namespace(), service(), operation()) :: term()
  @spec execute(Handle.t(), operation(), call_options()) :: term()
  def execute(%Handle{} = handle, operation, options) do
    with {:ok, handle} <- Handle.for_call(handle, options), do: execute(handle, operation)
  end

  def execute(namespace, service, operation) do
    case Names.lookup(:breaker, namespace, service) do
      nil ->
        with {:ok, handle} <- handle(namespace, service), do: execute(handle, operation)

      handle ->
        handle |> call(operation) |> without_crash(handle)
    end
  end

  @doc """
  As `execute/3`, with options for this call over those of the breaker:

    * `:call_timeout`: milliseconds, or `:infinity`;
    * `:ignore`: what says nothing about the service and is not counted, such as a caller's mistake: a list of error
      types and exception modules, or a function of the reason;
    * `:failure?`: the same for what counts as a failure; any other error counts as a success then;
    * `:classify`: a function, instead of those two, that gets what the operation returned, or `{:raise, exception}`,
      `{:throw, value}` or `{:exit, reason}`, and returns `:success`, `:failure`, `:ignored`, `:slow` or `:cancelled`.

  An error type is the atom itself, the first one of a tuple, or the `error_type` of an `Error` or a `Types.Error`. What
  the call returns is the same however it counts; an operation that exceeds its `call_timeout` always is a failure, and so is
  one whose classification crashes.

      iex> alias ElixirScope.Foundation.Infrastructure.CircuitBreaker
      iex> namespace = {:test, make_ref()}
      iex> CircuitBreaker.execute(namespace, :files, fn -> {:error, :enoent} end, ignore: [:enoent])
      {:error, :enoent}
      iex> {:ok, stats} = CircuitBreaker.stats(namespace, :files)
      iex> {stats.failed, stats.ignored}
      {0, 1}
  """
  @spec execute(namespace(), service(), operation(), call_options()) :: term()
  def execute(namespace, service, operation, options) do
    with {:ok, handle} <- handle(namespace, service), do: execute(handle, operation, options)
  end

  @doc "As `execute/2`, but a raise, throw or exit of the operation goes on to the caller."
  @spec execute!(Handle.t(), operation()) :: term()
  def execute!(%Handle{} = handle, operation) do
    case call(handle, operation) do
      {:crash, kind, reason, stacktrace} -> :erlang.raise(kind, reason, stacktrace)
      result -> result
    end
  end

  @doc "As `execute/3`, but a raise, throw or exit of the operation goes on to the caller."
  @spec execute!(namespace(), service(), operation()) :: term()
  @spec execute!(Handle.t(), operation(), call_options()) :: term()
  def execute!(%Handle{} = handle, operation, options) do
    with {:ok, handle} <- Handle.for_call(handle, options), do: execute!(handle, operation)
  end

  def execute!(namespace, service, operation) do
    with {:ok, handle} <- handle(namespace, service), do: execute!(handle, operation)
  end

  @doc "As `execute/4`, but a raise, throw or exit of the operation goes on to the caller."
  @spec execute!(namespace(), service(), operation(), call_options()) :: term()
  def execute!(namespace, service, operation, options) do
    with {:ok, handle} <- handle(namespace, service), do: execute!(handle, operation, options)
  end

  @doc false
  # The same result shapes without a breaker: for a feature flag that is off.
  @spec execute_unguarded(namespace(), service() | nil, operation(), timeout()) :: term()
  def execute_unguarded(namespace, service, operation, limit_ms \\ :infinity)

  def execute_unguarded(namespace, service, operation, limit_ms) when is_function(operation, 0) do
    case Operation.run(operation, nil, limit_ms) do
      {_outcome, {:crash, kind, reason, stacktrace}} ->
        {:error, Operation.crash_error(kind, reason, stacktrace, namespace, service)}

      {_outcome, result} ->
        result
    end
  end

  def execute_unguarded(_namespace, _service, operation, _limit_ms),
    do: check_operation(operation)

  @doc false
  # As `execute/2`, and tells a call that was not made from an error of the operation.
  @spec attempt(Handle.t(), operation()) :: {:refused | :admitted, term()}
  def attempt(handle, operation) when is_function(operation, 0) do
    case Native.breaker_acquire(handle.breaker) do
      {reason, retry_after} when is_atom(reason) ->
        {:refused, rejected(handle, reason, retry_after)}

      permit ->
        {:admitted, handle |> permitted(permit, operation) |> without_crash(handle)}
    end
  end

  def attempt(_handle, operation), do: {:refused, check_operation(operation)}

  @doc false
  @spec attempt(namespace(), service(), operation()) :: {:refused | :admitted, term()}
  def attempt(namespace, service, operation) do
    case Names.lookup(:breaker, namespace, service) do
      nil ->
        case handle(namespace, service) do
          {:ok, handle} -> attempt(handle, operation)
          error -> {:refused, error}
        end

      handle ->
        attempt(handle, operation)
    end
  end

  defp without_crash({:crash, kind, reason, stacktrace}, %{namespace: namespace, service: service}),
       do: {:error, Operation.crash_error(kind, reason, stacktrace, namespace, service)}

  defp without_crash(result, _handle), do: result

  defp call(handle, operation) when is_function(operation, 0) do
    case Native.breaker_acquire(handle.breaker) do
      permit when is_integer(permit) -> guard(handle, permit, operation)
      {reason, retry_after} when is_atom(reason) -> rejected(handle, reason, retry_after)
      permit -> permitted(handle, permit, operation)
    end
  end

  defp call(_handle, operation), do: check_operation(operation)

  defp permitted(handle, {:delayed, ns, permit}, operation),
    do: guard(handle, permit, Operation.delayed(operation, ns))

  defp permitted(handle, permit, operation), do: guard(handle, permit, operation)

  @doc false
  @spec check_operation(term()) :: :ok | {:error, Error.t()}
  def check_operation(operation) when is_function(operation, 0), do: :ok

  def check_operation(operation),
    do: {:error, Error.refused(:operation, operation, "a function without arguments")}

  defp guard(%{call_events: false} = handle, permit, operation) do
    {outcome, result} = Operation.run(operation, handle.classifier, handle.call_timeout)
    finish(handle.breaker, permit, outcome)
    result
  end

  defp guard(handle, permit, operation) do
    started = System.monotonic_time()
    {outcome, result} = Operation.run(operation, handle.classifier, handle.call_timeout)
    duration = System.monotonic_time() - started
    finish(handle.breaker, permit, outcome)
    CircuitBreakerTelemetry.executed(handle, Classifier.name(outcome), duration)
    result
  end

  defp finish(_breaker, permit, outcome) when is_reference(permit),
    do: Native.permit_record(permit, outcome)

  defp finish(breaker, permit, outcome), do: Native.breaker_record(breaker, permit, outcome)

  @doc """
  Asks to make a call whose result `record/2` will tell. The permit belongs to the calling process, whose
  death is a failure; another process may record it.

      iex> alias ElixirScope.Foundation.Infrastructure.CircuitBreaker
      iex> {:ok, permit} = CircuitBreaker.ask({:test, make_ref()}, :search)
      iex> CircuitBreaker.record(permit, :success)
      :ok
      iex> {:error, error} = CircuitBreaker.record(permit, :success)
      iex> error.error_type
      :already_done
  """
  @spec ask(namespace(), service()) :: {:ok, permit()} | {:error, Error.t()}
  def ask(namespace, service) do
    with {:ok, handle} <- handle(namespace, service), do: ask(handle)
  end

  @doc "As `ask/2`, by handle."
  @spec ask(Handle.t()) :: {:ok, permit()} | {:error, Error.t()}
  def ask(%Handle{} = handle) do
    case Native.breaker_acquire_owned(handle.breaker) do
      {:delayed, ns, permit} -> Operation.delayed(fn -> {:ok, permit} end, ns).()
      {reason, retry_after_ns} -> rejected(handle, reason, retry_after_ns)
      permit -> {:ok, permit}
    end
  end

  @doc "`ask/2` by the core's name."
  @spec acquire(namespace(), service()) :: {:ok, permit()} | {:error, Error.t()}
  defdelegate acquire(namespace, service), to: __MODULE__, as: :ask

  @doc """
  Asks whether a call may be made, without a permit: `report/3` may say how it went. C and Python call this `ask`.

  Such a call is never a probe, so a breaker that wants probes refuses it until they have closed it. It counts as
  admitted and cancelled.

      iex> alias ElixirScope.Foundation.Infrastructure.CircuitBreaker
      iex> CircuitBreaker.admit({:test, make_ref()}, :search)
      :ok
  """
  @spec admit(namespace(), service()) :: :ok | {:error, Error.t()}
  def admit(namespace, service) do
    with {:ok, handle} <- handle(namespace, service), do: admit(handle)
  end

  @doc "As `admit/2`, by handle."
  @spec admit(Handle.t()) :: :ok | {:error, Error.t()}
  def admit(%Handle{} = handle) do
    with {reason, retry_after_ns} <- Native.breaker_ask(handle.breaker),
         do: rejected(handle, reason, retry_after_ns)
  end

  @doc """
  Says how the call of a permit went. `:ignored` says nothing about the service: it is not counted, and a
  probe's place becomes free again; `:cancelled` is the same for a call that was given up. Refused with `:stale`,
  `:expired`, `:already_done` or `:permit_not_found`, without effect.
  """
  @spec record(permit(), outcome()) :: :ok | {:error, Error.t()}
  def record(permit, outcome) do
    with {:ok, number} <- outcome_number(outcome),
         do: permit |> Native.permit_record(number) |> verdict()
  rescue
    ArgumentError -> {:error, Error.refused(:permit, permit, "a permit of ask/2")}
  end

  @doc """
  Says how a call went that did not ask first. It counts in the state that the breaker has now; refused with `:stale`
  unless that is closed.

      iex> alias ElixirScope.Foundation.Infrastructure.CircuitBreaker
      iex> namespace = {:test, make_ref()}
      iex> for _ <- 1..5, do: CircuitBreaker.report(namespace, :search, :failure)
      iex> CircuitBreaker.state(namespace, :search)
      {:ok, :open}
  """
  @spec report(namespace(), service(), outcome()) :: :ok | {:error, Error.t()}
  def report(namespace, service, outcome) do
    with {:ok, handle} <- handle(namespace, service), do: report(handle, outcome)
  end

  @doc "As `report/3`, by handle."
  @spec report(Handle.t(), outcome()) :: :ok | {:error, Error.t()}
  def report(%Handle{} = handle, outcome) do
    with {:ok, number} <- outcome_number(outcome),
         do: handle.breaker |> Native.breaker_report(number) |> verdict()
  end

  defp outcome_number(outcome) do
    with nil <- Classifier.number(outcome) do
      {:error, Error.refused(:outcome, outcome, Classifier.allowed())}
    else
      number -> {:ok, number}
    end
  end

  defp verdict(:applied), do: :ok
  defp verdict(refusal), do: {:error, Error.new(refusal)}

  @doc "The phase of a breaker now. An open time that has passed reads as open until a call probes it."
  @spec state(namespace(), service()) :: {:ok, phase()} | {:error, Error.t()}
  def state(namespace, service) do
    with {:ok, stats} <- stats(namespace, service), do: {:ok, stats.state}
  end

  @doc """
  A breaker as it is now, `t:ElixirScope.Foundation.Infrastructure.CircuitBreaker.Stats.t/0`: state, mode and level,
  what counts toward a trip, why and when it changed last, and how many calls were admitted, rejected and recorded.
  """
  @spec stats(namespace(), service()) :: {:ok, Stats.t()} | {:error, Error.t()}
  def stats(namespace, service) do
    with {:ok, handle} <- CircuitBreakerRegistry.lookup(namespace, service),
         do: {:ok, Stats.of(handle)}
  end

  @doc "Closes a breaker and forgets its results. Permits granted before change nothing any more; the mode stays."
  @spec reset(namespace(), service()) :: :ok | {:error, Error.t()}
  defdelegate reset(namespace, service), to: Admin

  @doc """
  Does what is due: ends probe leases and half-open rounds that are over. Every call does so too; this is for
  whoever wants to hear of it without one.
  """
  @spec settle(namespace(), service()) :: :ok | {:error, Error.t()}
  defdelegate settle(namespace, service), to: Admin

  @doc "Rejects every call with `:forced_open`, whatever happens, until another mode is chosen."
  @spec force_open(namespace(), service()) :: :ok | {:error, Error.t()}
  def force_open(namespace, service), do: Admin.set_mode(namespace, service, :forced_open)

  @doc "Admits every call and counts nothing toward a trip: switches the breaker off."
  @spec force_closed(namespace(), service()) :: :ok | {:error, Error.t()}
  def force_closed(namespace, service), do: Admin.set_mode(namespace, service, :forced_closed)

  @doc "Admits every call and counts; when it would have opened it only tells, with the event `:would_open`."
  @spec metrics_only(namespace(), service()) :: :ok | {:error, Error.t()}
  def metrics_only(namespace, service), do: Admin.set_mode(namespace, service, :metrics_only)

  @doc """
  Puts the results in charge again. The breaker begins closed and without results; if they were in charge already,
  nothing changes.

      iex> alias ElixirScope.Foundation.Infrastructure.CircuitBreaker
      iex> namespace = {:test, make_ref()}
      iex> {:ok, 1} = CircuitBreaker.execute(namespace, :search, fn -> 1 end)
      iex> :ok = CircuitBreaker.force_open(namespace, :search)
      iex> {:error, error} = CircuitBreaker.execute(namespace, :search, fn -> 1 end)
      iex> {error.error_type, error.context.retry_after_ms}
      {:forced_open, :infinity}
      iex> :ok = CircuitBreaker.auto(namespace, :search)
      iex> CircuitBreaker.execute(namespace, :search, fn -> 1 end)
      {:ok, 1}
  """
  @spec auto(namespace(), service()) :: :ok | {:error, Error.t()}
  def auto(namespace, service), do: Admin.set_mode(namespace, service, :auto)

  @doc """
  Gives a breaker other options, over those that it has, and keeps its state: phase, open time, mode, and the results so
  far unless they are of another kind of policy. A half-open breaker whose permits, successes, lease or limit
  change begins a new round.
  """
  @spec reconfigure(namespace(), service(), map() | keyword()) :: :ok | {:error, Error.t()}
  defdelegate reconfigure(namespace, service, options), to: Admin

  @doc """
  Gives a breaker other options, over those that are configured, and begins anew: closed and without results, in the
  mode that it has.
  """
  @spec reinstall(namespace(), service(), map() | keyword()) :: :ok | {:error, Error.t()}
  defdelegate reinstall(namespace, service, options), to: Admin

  @doc """
  From now on makes calls of a closed breaker fail, or wait first: for development and tests.

    * `:failure_rate`: share of calls that fail, with `:fault_injected`, without being made, and count as failures;
    * `:delay_rate`, `:delay`: share of the others that wait before they are made, and how long (milliseconds);
    * `:seed`: equal seeds choose the same calls.

  What is absent is 0, so `inject_faults(namespace, service, [])` ends it. The library of `MIX_ENV=prod` does not hold
  any of this and answers `:fault_injection_disabled`; a project that depends on this one compiles it for `prod` unless
  it says `env: Mix.env()`.
  """
  @spec inject_faults(namespace(), service(), map() | keyword()) :: :ok | {:error, Error.t()}
  defdelegate inject_faults(namespace, service, faults), to: Admin

  defp rejected(handle, reason, retry_after_ns) do
    retry_after_ms = Stats.retry_after_ms(retry_after_ns)
    if handle.call_events, do: CircuitBreakerTelemetry.rejected(handle, reason, retry_after_ms)

    context = %{
      namespace: handle.namespace,
      service: handle.service,
      retry_after_ms: retry_after_ms,
      retry_after_ns: Stats.retry_after_ns(retry_after_ns)
    }

    Error.error_result(reason, nil, context: context)
  end
end
