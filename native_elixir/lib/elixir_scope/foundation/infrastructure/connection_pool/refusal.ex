defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Refusal do
  @moduledoc false
  # What a call of a pool gets instead of a connection, in words, and the event that tells it.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Error.Catalogue
  alias ElixirScope.Foundation.Infrastructure.{Native, Telemetry}
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.{Config, Configured, Directory}

  @doc "A check-out that the native pool refused."
  @spec refused(atom(), map()) :: {:error, Error.t()}
  def refused(refusal, call) do
    context = %{
      pool: call.pool,
      timeout: Config.timeout_ms(call.limit_ns),
      last_error: Native.pool_last_error(call.handle)
    }

    queue_time = System.monotonic_time(:nanosecond) - call.asked_ns
    measurements = %{count: 1, queue_time: queue_time}
    namespace = Directory.namespace(call.pool)
    Telemetry.call(namespace, [:connection_pool, event(refusal)], measurements, context)
    {:error, Error.new(refusal, message(refusal, context), context: context)}
  end

  defp event(:pool_timeout), do: :timeout
  defp event(refusal), do: refusal

  @doc "A connection or lease that does not belong to the caller."
  @spec stale(term()) :: {:error, Error.t()}
  def stale(pool) do
    {:error,
     Error.new(
       :stale_lease,
       "the calling process holds no such connection of pool #{inspect(pool)}",
       context: %{pool: pool, caller: self()}
     )}
  end

  @doc "A pool that is not there."
  @spec not_found(term()) :: {:error, Error.t()}
  def not_found(pool) do
    {:error,
     Error.new(:pool_not_found, "no pool #{inspect(pool)}: #{Configured.why_not(pool)}",
       context: %{pool: pool}
     )}
  end

  @doc "A pool of which something is left after the time to drain it."
  @spec not_drained(term(), timeout(), pos_integer()) :: {:error, Error.t()}
  def not_drained(pool, timeout, left) do
    {:error,
     Error.new(
       :pool_timeout,
       "#{left} connections of pool #{inspect(pool)} did not come back",
       context: %{pool: pool, timeout: timeout, left: left}
     )}
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
end
