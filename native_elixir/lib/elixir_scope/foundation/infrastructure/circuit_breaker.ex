defmodule ElixirScope.Foundation.Infrastructure.CircuitBreaker do
  @moduledoc """
  Guards calls to a service: after repeated failures it rejects them at once, until a probe shows that the
  service is back.

  The decisions are the native core's (consecutive failures, closed, open, half-open with leased single-use
  probes); this module finds the breaker, runs the operation and tells the core how it went. No process
  stands in the way: a call is two short native calls.

      iex> alias ElixirScope.Foundation.Infrastructure.CircuitBreaker
      iex> namespace = {:test, make_ref()}
      iex> CircuitBreaker.execute(namespace, :search, fn -> 40 + 2 end)
      {:ok, 42}
      iex> for _ <- 1..5, do: CircuitBreaker.execute(namespace, :search, fn -> {:error, :down} end)
      iex> {:error, error} = CircuitBreaker.execute(namespace, :search, fn -> 42 end)
      iex> error.error_type
      :circuit_open

  `execute/3` covers a call in one place. `acquire/2` and `record/2` are for a call whose result is known
  elsewhere or later.

  What a caller's death means: a probe, and any permit of `acquire/2`, counts as failed; a killed call of a
  closed breaker counts as nothing, it shows as `admitted` minus the results.
  """

  alias ElixirScope.Foundation.Error

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreakerRegistry,
    CircuitBreakerTelemetry,
    Native
  }

  alias ElixirScope.Foundation.Infrastructure.CircuitBreaker.Operation

  @type namespace :: CircuitBreakerRegistry.namespace()
  @type service :: CircuitBreakerRegistry.service()
  @type phase :: :closed | :open | :half_open
  @type outcome :: :success | :failure | :ignored
  @opaque permit :: reference()

  @ns_in_ms 1_000_000
  @outcomes %{success: 0, failure: 1, ignored: 2}

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
  Runs `operation` if the breaker of `service` admits it.

  `{:ok, value}` comes back as it is, another value as `{:ok, value}`. `:error` and a tuple that starts with
  `:error` are failures and come back as they are. A raise, throw or exit is a failure and becomes an error
  with the cause in its context and the stack trace. A rejection is an error of type `:circuit_open` or
  `:half_open_full` with `retry_after_ms` in its context.

  With a `call_timeout` (5,000 ms unless configured) the operation runs in a process of its own, with
  `$callers` set; at the limit, or when the caller dies, it is killed. With `:infinity` it runs in the caller.
  """
  @spec execute(namespace(), service(), (() -> result)) ::
          {:ok, term()} | {:error, Error.t()} | result
        when result: term()
  def execute(namespace, service, operation) do
    case run(namespace, service, operation) do
      {:crash, kind, reason, stacktrace} ->
        {:error, Operation.crash_error(kind, reason, stacktrace, namespace, service)}

      result ->
        result
    end
  end

  @doc "As `execute/3`, but a raise, throw or exit of the operation goes on to the caller."
  @spec execute!(namespace(), service(), (() -> result)) ::
          {:ok, term()} | {:error, Error.t()} | result
        when result: term()
  def execute!(namespace, service, operation) do
    case run(namespace, service, operation) do
      {:crash, kind, reason, stacktrace} -> :erlang.raise(kind, reason, stacktrace)
      result -> result
    end
  end

  @doc false
  # The same result shapes without a breaker: for a feature flag that is off.
  @spec execute_unguarded(namespace(), service() | nil, (() -> term())) :: term()
  def execute_unguarded(namespace, service, operation) when is_function(operation, 0) do
    case Operation.run(operation, :infinity) do
      {_outcome, {:crash, kind, reason, stacktrace}} ->
        {:error, Operation.crash_error(kind, reason, stacktrace, namespace, service)}

      {_outcome, result} ->
        result
    end
  end

  def execute_unguarded(_namespace, _service, operation), do: not_an_operation(operation)

  defp run(namespace, service, operation) when is_function(operation, 0) do
    case CircuitBreakerRegistry.fetch(namespace, service) do
      {:ok, {breaker, call_timeout}} ->
        case Native.breaker_acquire(breaker) do
          {reason, retry_after_ns} -> rejected(namespace, service, reason, retry_after_ns)
          permit -> guard(namespace, service, breaker, permit, operation, call_timeout)
        end

      error ->
        error
    end
  end

  defp run(_namespace, _service, operation), do: not_an_operation(operation)

  defp not_an_operation(operation),
    do: {:error, Error.refused(:operation, operation, "a function without arguments")}

  defp guard(namespace, service, breaker, permit, operation, call_timeout) do
    {outcome, result} = Operation.run(operation, call_timeout)
    finish(breaker, permit, outcome)

    if CircuitBreakerTelemetry.call_events?(),
      do:
        CircuitBreakerTelemetry.executed(
          namespace,
          service,
          if(outcome == 0, do: :success, else: :failure)
        )

    result
  end

  defp finish(breaker, permit, outcome) when is_integer(permit),
    do: Native.breaker_record(breaker, permit, outcome)

  defp finish(_breaker, permit, outcome), do: Native.permit_record(permit, outcome)

  @doc """
  Asks to make a call whose result `record/2` will tell. The permit belongs to the calling process, whose
  death is a failure; another process may record it.

      iex> alias ElixirScope.Foundation.Infrastructure.CircuitBreaker
      iex> {:ok, permit} = CircuitBreaker.acquire({:test, make_ref()}, :search)
      iex> CircuitBreaker.record(permit, :success)
      :ok
      iex> {:error, error} = CircuitBreaker.record(permit, :success)
      iex> error.error_type
      :already_done
  """
  @spec acquire(namespace(), service()) :: {:ok, permit()} | {:error, Error.t()}
  def acquire(namespace, service) do
    with {:ok, {breaker, _call_timeout}} <- CircuitBreakerRegistry.fetch(namespace, service) do
      case Native.breaker_acquire_owned(breaker) do
        {reason, retry_after_ns} -> rejected(namespace, service, reason, retry_after_ns)
        permit -> {:ok, permit}
      end
    end
  end

  @doc """
  Says how the call of a permit went. `:ignored` says nothing about the service: it is not counted, and a
  probe's place becomes free again. Refused with `:stale`, `:expired` or `:already_done`, without effect.
  """
  @spec record(permit(), outcome()) :: :ok | {:error, Error.t()}
  def record(permit, outcome) when is_map_key(@outcomes, outcome) do
    case Native.permit_record(permit, @outcomes[outcome]) do
      :applied -> :ok
      refusal -> {:error, Error.new(refusal)}
    end
  rescue
    ArgumentError -> {:error, Error.refused(:permit, permit, "a permit of acquire/2")}
  end

  def record(_permit, outcome),
    do: {:error, Error.refused(:outcome, outcome, ":success, :failure or :ignored")}

  @doc "The phase of a breaker now. An open time that has passed reads as open until a call probes it."
  @spec state(namespace(), service()) :: {:ok, phase()} | {:error, Error.t()}
  def state(namespace, service) do
    with {:ok, stats} <- stats(namespace, service), do: {:ok, stats.state}
  end

  @doc """
  Phase and counters of a breaker: `state`, `generation`, `failure_count` (consecutive), `opens` (since it was
  last closed), `live_probes`, `retry_after_ns`, and the totals `admitted`, `succeeded`, `failed`, `ignored`,
  `rejected_open`, `rejected_half_open`, `stale`, `expired`.
  """
  @spec stats(namespace(), service()) :: {:ok, map()} | {:error, Error.t()}
  def stats(namespace, service) do
    with {:ok, breaker} <- existing(namespace, service),
         do:
           {:ok,
            breaker |> Native.breaker_stats() |> then(&Map.put(&1, :failure_count, &1.failures))}
  end

  @doc "Closes a breaker and forgets its failures. Permits granted before change nothing any more."
  @spec reset(namespace(), service()) :: :ok | {:error, Error.t()}
  def reset(namespace, service) do
    with {:ok, breaker} <- existing(namespace, service), do: Native.breaker_reset(breaker)
  end

  defp existing(namespace, service) do
    case CircuitBreakerRegistry.lookup(namespace, service) do
      {breaker, _call_timeout} ->
        {:ok, breaker}

      nil ->
        message =
          "There is no circuit breaker #{inspect(service)} in namespace #{inspect(namespace)}"

        context = %{
          namespace: namespace,
          service: service,
          allowed: CircuitBreakerRegistry.list(namespace)
        }

        Error.error_result(:circuit_breaker_not_found, message, context: context)
    end
  end

  defp rejected(namespace, service, reason, retry_after_ns) do
    # Upwards: whoever comes back after that time shall not be too early.
    retry_after_ms = div(retry_after_ns + @ns_in_ms - 1, @ns_in_ms)

    if CircuitBreakerTelemetry.call_events?(),
      do: CircuitBreakerTelemetry.rejected(namespace, service, reason, retry_after_ms)

    context = %{
      namespace: namespace,
      service: service,
      retry_after_ms: retry_after_ms,
      retry_after_ns: retry_after_ns
    }

    Error.error_result(reason, nil, context: context)
  end
end

defmodule ElixirScope.Foundation.Infrastructure.SimpleCircuitBreaker do
  @moduledoc "The founding document's name of `ElixirScope.Foundation.Infrastructure.CircuitBreaker`."

  alias ElixirScope.Foundation.Infrastructure.CircuitBreaker

  @doc "See `ElixirScope.Foundation.Infrastructure.CircuitBreaker.execute/3`."
  @spec execute(CircuitBreaker.namespace(), CircuitBreaker.service(), (() -> term())) :: term()
  defdelegate execute(namespace, service, operation), to: CircuitBreaker

  @doc "See `ElixirScope.Foundation.Infrastructure.CircuitBreaker.execute!/3`."
  @spec execute!(CircuitBreaker.namespace(), CircuitBreaker.service(), (() -> term())) :: term()
  defdelegate execute!(namespace, service, operation), to: CircuitBreaker
end
