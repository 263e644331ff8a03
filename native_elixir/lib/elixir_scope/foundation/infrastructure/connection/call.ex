defmodule ElixirScope.Foundation.Infrastructure.Connection.Call do
  @moduledoc false
  # A call to the process of a connection with a time limit, the same for all that the adapters lend.
  #
  # Who does not answer in time is in an unknown state: it is killed, so that nobody is given it again; its pool notices
  # its end. A late answer is no message to the caller, for `GenServer.call/3` takes it back by an alias.

  alias ElixirScope.Foundation.Error

  # `receive` takes 2^32 - 1, and a time and its grace are added up.
  @longest 0x7FFF_FFFF

  @doc """
  Runs `call`, which calls `connection` and exits as `GenServer.call/3` does. `what` is asked of it, for the message,
  and `context` is the error's, with what ended the call.
  """
  @spec run(pid(), timeout(), String.t(), map(), (() -> result)) :: result | {:error, Error.t()}
        when result: term()
  def run(connection, timeout, what, context, call) do
    call.()
  catch
    :exit, {:timeout, _} ->
      Process.exit(connection, :kill)
      message = "the #{what} took longer than #{timeout} ms; its outcome is unknown"
      {:error, Error.new(:timeout, message, context: Map.put(context, :timeout, timeout))}

    :exit, {reason, _} ->
      message = "the connection died; the #{what}'s outcome is unknown"
      {:error, Error.new(:dependency_failed, message, context: Map.put(context, :reason, reason))}
  end

  @doc "A time limit of the options, in milliseconds."
  @spec milliseconds(keyword(), atom(), non_neg_integer()) ::
          {:ok, non_neg_integer()} | {:error, Error.t()}
  def milliseconds(opts, name, default) do
    case Keyword.get(opts, name, default) do
      ms when is_integer(ms) and ms >= 0 and ms <= @longest -> {:ok, ms}
      other -> {:error, Error.refused(name, other, "milliseconds from 0 to #{@longest}")}
    end
  end
end
