defmodule ElixirScope.Foundation.Infrastructure.Connection.HTTP.Client do
  @moduledoc false
  # The process of one HTTP connection: it owns the socket, sends a request and reads its answer.
  #
  # Between requests the socket is active once: that the server closes it, or says what nobody asked for, is a message,
  # and the end of this process. During a request it is passive, and this process blocks in reading; the time limit is the
  # caller's, who kills it.

  use GenServer, restart: :temporary

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.Connection.HTTP.{Options, Request, Response, Socket}

  defstruct [:socket, :options]

  @impl true
  def init(%Options{} = options) do
    with {:ok, socket} <- Socket.connect(options),
         :ok <- Socket.listen(socket) do
      {:ok, %__MODULE__{socket: socket, options: options}}
    else
      {:error, reason} -> {:stop, {:shutdown, error(reason, options)}}
    end
  end

  @impl true
  def handle_call({:request, request}, _from, %{socket: socket, options: options} = state) do
    with :ok <- Socket.stop_listening(socket),
         :ok <-
           Socket.send(socket, Request.to_iodata(request, options.authority, options.headers)),
         {:ok, response, keep?} <- Response.read(socket, request.head?, options.max_body) do
      if keep? and Socket.listen(socket) == :ok,
        do: {:reply, {:open, response}, state},
        else: {:stop, {:shutdown, :closed}, {:closed, response}, state}
    else
      {:error, reason} -> {:stop, {:shutdown, reason}, {:failed, error(reason, options)}, state}
    end
  end

  def handle_call(:ping_path, _from, state), do: {:reply, state.options.ping, state}

  @impl true
  def handle_info(message, state) do
    case Socket.event(state.socket, message) do
      nil -> {:noreply, state}
      reason -> {:stop, {:shutdown, reason}, state}
    end
  end

  defp error({:bad_response, what}, options),
    do: error(options, :external_service_error, "it answered #{what}", :bad_response)

  defp error(:unsolicited, options),
    do: error(options, :external_service_error, "it answered what nobody had asked", :unsolicited)

  defp error(reason, options), do: error(options, :network_error, Socket.format(reason), reason)

  defp error(options, type, why, reason) do
    Error.new(type, "the connection to #{options.authority} failed: #{why}",
      context: %{server: options.authority, reason: reason}
    )
  end
end
