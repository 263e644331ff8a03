defmodule ElixirScope.Foundation.Infrastructure.CircuitBreaker.Operation do
  @moduledoc false
  # Runs a guarded operation and says what came of it: an outcome number of the native core (0 success,
  # 1 failure) and the result for the caller; a crash is still raw, as `{:crash, kind, reason, stacktrace}`.

  alias ElixirScope.Foundation.Error

  @success 0
  @failure 1

  @type crash :: {:crash, :error | :exit | :throw, term(), Exception.stacktrace()}

  @spec run((() -> term()), timeout()) :: {0 | 1, term() | crash()}
  def run(operation, :infinity) do
    operation.()
  catch
    kind, reason -> {@failure, {:crash, kind, reason, __STACKTRACE__}}
  else
    {:ok, _value} = result ->
      {@success, result}

    :error ->
      {@failure, :error}

    result when is_tuple(result) and tuple_size(result) > 0 and elem(result, 0) == :error ->
      {@failure, result}

    value ->
      {@success, {:ok, value}}
  end

  def run(operation, limit_ms) do
    caller = self()
    callers = [caller | Process.get(:"$callers") || []]
    tag = make_ref()

    {worker, monitor} =
      spawn_monitor(fn ->
        Process.put(:"$callers", callers)
        end_with(caller)
        send(caller, {tag, run(operation, :infinity)})
      end)

    receive do
      {^tag, result} ->
        Process.demonitor(monitor, [:flush])
        result

      {:DOWN, ^monitor, :process, ^worker, reason} ->
        {@failure, {:crash, :exit, reason, []}}
    after
      limit_ms ->
        Process.exit(worker, :kill)
        # When it is down nothing more can come, and the operation is over for sure.
        receive do: ({:DOWN, ^monitor, :process, ^worker, _reason} -> :ok)
        receive do: ({^tag, _late} -> :ok), after: (0 -> :ok)
        {@failure, {:error, timeout_error(limit_ms)}}
    end
  end

  @spec crash_error(atom(), term(), Exception.stacktrace(), term(), term()) :: Error.t()
  def crash_error(kind, reason, stacktrace, namespace, service) do
    cause = if kind == :error, do: Exception.normalize(:error, reason, stacktrace), else: reason
    message = "The operation ended by " <> Exception.format_banner(kind, cause, stacktrace)
    context = %{kind: kind, cause: cause, namespace: namespace, service: service}
    Error.new(:protected_operation_failed, message, context: context, stacktrace: stacktrace)
  end

  # An operation that nobody waits for any more must not go on.
  defp end_with(caller) do
    worker = self()

    spawn(fn ->
      caller_monitor = Process.monitor(caller)
      worker_monitor = Process.monitor(worker)

      receive do
        {:DOWN, ^caller_monitor, :process, ^caller, _reason} -> Process.exit(worker, :kill)
        {:DOWN, ^worker_monitor, :process, ^worker, _reason} -> :ok
      end
    end)
  end

  defp timeout_error(limit_ms) do
    Error.new(:timeout, "The operation took longer than its call_timeout of #{limit_ms} ms",
      context: %{call_timeout: limit_ms}
    )
  end
end
