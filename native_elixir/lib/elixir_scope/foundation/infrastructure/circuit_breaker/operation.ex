defmodule ElixirScope.Foundation.Infrastructure.CircuitBreaker.Operation do
  @moduledoc false
  # Runs a guarded operation and says what came of it: an outcome number of the native core and the result for the
  # caller; a crash is still raw, as `{:crash, kind, reason, stacktrace}`.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.CircuitBreaker.Classifier
  alias ElixirScope.Foundation.Infrastructure.Native

  @success 0
  @failure 1
  @cancelled 4

  @type crash :: {:crash, :error | :exit | :throw, term(), Exception.stacktrace()}

  @spec run((() -> term()), Classifier.t(), timeout()) :: {0..4, term() | crash()}
  def run(operation, classifier, :infinity) do
    operation.()
  catch
    kind, reason ->
      crashed(classifier, {:crash, kind, reason, __STACKTRACE__})
  else
    {:ok, _value} = result ->
      classified(classifier, result, @success, result)

    :error ->
      classified(classifier, :error, @failure, :error)

    # Something in front of the service refused, which says nothing about the service.
    {__MODULE__, :cancelled, result} ->
      {@cancelled, result}

    result when is_tuple(result) and tuple_size(result) > 0 and elem(result, 0) == :error ->
      classified(classifier, result, @failure, result)

    value ->
      classified(classifier, value, @success, {:ok, value})
  end

  # The operation gets a process of its own, which the caller's leash ends with the caller. The result comes as a
  # message; that it is never delivered late follows from waiting for the end of that process, after which nothing
  # more can come.
  def run(operation, classifier, limit_ms) do
    callers = [self() | Process.get(:"$callers") || []]
    leash = leash()

    # Either message is known by a reference that is made here: so what waited in the mailbox before is passed over,
    # however much it is. `spawn_opt` would not do that, nor would the process for a tag.
    tag = make_ref()

    # One tuple is copied in less time than a list, or a function that holds the same.
    {worker, monitor} =
      spawn_monitor(__MODULE__, :work, [{tag, callers, leash, operation, classifier}])

    receive do
      {:DOWN, ^monitor, :process, ^worker, reason} ->
        # Sent before the end, so it is here if it was sent at all.
        receive do
          {^tag, result} -> result
        after
          # Somebody else ended it.
          0 -> crashed(classifier, {:crash, :exit, reason, []})
        end
    after
      limit_ms ->
        Process.exit(worker, :kill)
        receive do: ({:DOWN, ^monitor, :process, ^worker, _reason} -> :ok)
        receive do: ({^tag, _late} -> :ok), after: (0 -> :ok)
        {@failure, {:error, timeout_error(limit_ms)}}
    end
  end

  @doc false
  @spec work({reference(), nonempty_list(pid()), reference(), (() -> term()), Classifier.t()}) ::
          term()
  def work({tag, [caller | _] = callers, leash, operation, classifier}) do
    if Native.leash_hold(leash) do
      Process.put(:"$callers", callers)
      send(caller, {tag, run(operation, classifier, :infinity)})
    end
  end

  @doc "The operation, after an injected delay. It waits here: nothing native ever does."
  @spec delayed((() -> term()), pos_integer()) :: (() -> term())
  def delayed(operation, delay_ns) do
    # Upwards, and no longer than a receive can wait.
    delay_ms = min(div(delay_ns + 999_999, 1_000_000), 0xFFFF_FFFF)

    fn ->
      receive do
      after
        delay_ms -> operation.()
      end
    end
  end

  @spec crash_error(atom(), term(), Exception.stacktrace(), term(), term()) :: Error.t()
  def crash_error(kind, reason, stacktrace, namespace, service) do
    cause = if kind == :error, do: Exception.normalize(:error, reason, stacktrace), else: reason
    message = "The operation ended by " <> Exception.format_banner(kind, cause, stacktrace)
    context = %{kind: kind, cause: cause, namespace: namespace, service: service}
    Error.new(:protected_operation_failed, message, context: context, stacktrace: stacktrace)
  end

  defp crashed(nil, crash), do: {@failure, crash}

  defp crashed(classifier, {:crash, :error, reason, stacktrace} = crash),
    do:
      classified(
        classifier,
        {:raise, Exception.normalize(:error, reason, stacktrace)},
        @failure,
        crash
      )

  defp crashed(classifier, {:crash, kind, reason, _stacktrace} = crash),
    do: classified(classifier, {kind, reason}, @failure, crash)

  defp classified(nil, _ending, default, result), do: {default, result}

  defp classified(classifier, ending, default, result) do
    {Classifier.outcome(classifier, ending, default), result}
  catch
    # What the classifying code would have said is unknown; a call that it could not judge is no good sign.
    kind, reason -> {@failure, {:crash, kind, reason, __STACKTRACE__}}
  end

  # One for all calls of this process.
  defp leash do
    with nil <- Process.get(__MODULE__) do
      leash = Native.leash_new()
      Process.put(__MODULE__, leash)
      leash
    end
  end

  defp timeout_error(limit_ms) do
    Error.new(:timeout, "The operation took longer than its call_timeout of #{limit_ms} ms",
      context: %{call_timeout: limit_ms}
    )
  end
end
