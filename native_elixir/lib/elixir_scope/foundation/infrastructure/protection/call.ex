defmodule ElixirScope.Foundation.Infrastructure.Protection.Call do
  @moduledoc false
  # One call through its stages, in the order rate limit, breaker, pool, under one deadline.
  #
  # Only the pool waits, so it gets what is left of the time, and the operation what the pool leaves. The connection is
  # taken by the caller, not by the process that a time limit puts the operation in: so the end of the wait is the
  # pool's to tell, and never taken for an operation that was too slow.
  #
  # A call that did not get to the service gives back what it took, for nothing happened that the limit or the breaker
  # is there to bound:
  #
  #   | refused by | token | permit |
  #   | the breaker | refunded | none taken |
  #   | the pool: no connection in time, all in use, queue full, closed | refunded | cancelled |
  #   | the pool: it cannot make a connection | spent | failure: the service was asked |
  #
  # A refund is forfeited where somebody waits for the key already; that can only be stricter.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, Config, ConnectionPool}
  alias ElixirScope.Foundation.Infrastructure.CircuitBreaker.Operation
  alias ElixirScope.Foundation.Infrastructure.Protection.Limit

  @namespace :production
  # How long a call without `timeout:` waits for a connection.
  @pool_wait_ms 5_000

  @type deadline :: integer() | :infinity | nil
  @type stages :: %{
          limit: Limit.t(),
          breaker: atom() | nil,
          pool: ConnectionPool.pool() | nil,
          timeout: timeout() | nil
        }

  @spec run(stages(), function(), Config.t()) :: term()
  def run(stages, operation, configured) do
    deadline = deadline(stages.timeout)

    with {:ok, breaker} <- breaker(stages.breaker, configured),
         :ok <- Limit.take(stages.limit) do
      case attempt(breaker, stages.pool, operation, deadline) do
        {:refused, error} ->
          Limit.give_back(stages.limit)
          error

        {:admitted, {__MODULE__, :refused, error}} ->
          Limit.give_back(stages.limit)
          error

        {:admitted, result} ->
          result
      end
    end
  end

  defp deadline(timeout) when is_integer(timeout), do: now() + timeout
  defp deadline(no_limit), do: no_limit

  defp now, do: System.monotonic_time(:millisecond)

  defp breaker(nil, _configured), do: {:ok, nil}

  defp breaker(name, configured) do
    case Config.enabled(:circuit_breakers, configured) do
      {:ok, true} -> CircuitBreaker.handle(@namespace, name)
      {:ok, false} -> {:ok, nil}
      error -> error
    end
  end

  defp attempt(nil, nil, operation, deadline) do
    {:admitted,
     CircuitBreaker.execute_unguarded(@namespace, nil, operation, left(:infinity, deadline))}
  end

  defp attempt(nil, pool, operation, deadline) do
    pooled = pooled(pool, operation, deadline, :infinity)
    {:admitted, CircuitBreaker.execute_unguarded(@namespace, nil, pooled)}
  end

  defp attempt(handle, nil, operation, deadline) do
    handle = %{handle | call_timeout: left(handle.call_timeout, deadline)}
    CircuitBreaker.attempt(handle, operation)
  end

  defp attempt(handle, pool, operation, deadline) do
    pooled = pooled(pool, operation, deadline, handle.call_timeout)
    CircuitBreaker.attempt(%{handle | call_timeout: :infinity}, pooled)
  end

  # At least a millisecond: a call that got this far may begin.
  defp left(limit, deadline) when not is_integer(deadline), do: limit
  defp left(limit, deadline), do: min(limit, max(deadline - now(), 1))

  defp pooled(pool, operation, deadline, call_timeout),
    do: fn -> with_connection(pool, operation, deadline, call_timeout) end

  defp with_connection(pool, operation, deadline, call_timeout) do
    run = fn connection ->
      {:ok, {__MODULE__, limited(operation, connection, left(call_timeout, deadline))}}
    end

    case ConnectionPool.with_connection(pool, run, timeout: pool_wait(deadline)) do
      {:ok, {__MODULE__, result}} -> result
      {:error, error} -> not_connected(error)
    end
  catch
    {__MODULE__, timed_out} -> timed_out
  end

  defp pool_wait(nil), do: @pool_wait_ms
  defp pool_wait(:infinity), do: :infinity
  defp pool_wait(deadline), do: max(deadline - now(), 0)

  defp limited(operation, connection, :infinity), do: operation.(connection)

  defp limited(operation, connection, limit_ms) do
    case Operation.run(fn -> operation.(connection) end, nil, limit_ms) do
      {_outcome, {:crash, kind, reason, stacktrace}} -> :erlang.raise(kind, reason, stacktrace)
      # Thrown, so that the pool closes a connection that is in the middle of something.
      {_outcome, {:error, %Error{error_type: :timeout}} = result} -> throw({__MODULE__, result})
      {_outcome, result} -> result
    end
  end

  defp not_connected(%Error{error_type: :create_failed} = error), do: {:error, error}

  # It waited because none could be made.
  defp not_connected(%Error{error_type: :pool_timeout, context: %{last_error: cause}} = error)
       when not is_nil(cause),
       do: {:error, error}

  defp not_connected(error),
    do: {Operation, :cancelled, {__MODULE__, :refused, {:error, error}}}
end
