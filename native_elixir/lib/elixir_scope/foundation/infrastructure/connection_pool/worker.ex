defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Worker do
  @moduledoc """
  How a pool makes and unmakes one connection.

  A pool is given its worker as a module with this behaviour, `worker: MyWorker` or `worker: {MyWorker, arg}`,
  or as functions, `create: fn -> ... end, close: fn conn -> ... end`.

  Both callbacks run in a short-lived process of their own, so a slow server slows nobody but the check-outs
  that need a new connection. A connection is any term. When it is a pid, the pool links to it: a connection
  process that dies is replaced at once, and none outlives its pool. A connection must not belong to the
  process that made it, as a port or a socket does: that process ends when the callback returns.

      defmodule Echo do
        @behaviour ElixirScope.Foundation.Infrastructure.ConnectionPool.Worker

        @impl true
        def create_connection(arg), do: Agent.start_link(fn -> arg end)

        @impl true
        def close_connection(agent), do: Agent.stop(agent)
      end
  """

  @typedoc "What a pool hands out."
  @type connection :: term()

  @doc """
  Makes a connection from the worker's argument.

  Anything but `{:ok, connection}`, a raise, a throw or an exit counts as a failure: the pool tries again after
  a back-off while somebody waits, and puts the reason into the errors of those who time out.
  """
  @callback create_connection(arg :: term()) :: {:ok, connection()} | {:error, term()}

  @doc "Closes a connection. The result is ignored; a connection process that still lives afterwards is killed."
  @callback close_connection(connection()) :: term()

  @typedoc "A worker in the form that the pool process runs."
  @type t :: %{create: (() -> term()), close: (connection() -> term())}

  @doc false
  @spec of_module(module(), term()) :: t()
  def of_module(module, arg) do
    %{create: fn -> module.create_connection(arg) end, close: &module.close_connection/1}
  end
end
