defmodule ElixirScope.Foundation.Events.GracefulDegradation do
  @moduledoc """
  Events where something is wrong with them or with the EventStore: there is always an event, always a binary, and a
  store or query that cannot be served says so instead of exiting.

      iex> alias ElixirScope.Foundation.Events.GracefulDegradation
      iex> event = GracefulDegradation.new_event_safe(nil, %{a: 1})
      iex> {event.event_type, event.data}
      {:system_event, %{original_type: nil, original_data: %{a: 1}}}
      iex> event |> GracefulDegradation.serialize_safe() |> GracefulDegradation.deserialize_safe() == {:ok, event}
      true
  """

  alias ElixirScope.Foundation.{Error, Events, Utils}
  alias ElixirScope.Foundation.Types.Event

  @doc "The event, or a `:system_event` that says what it should have been."
  @spec new_event_safe(term(), term()) :: Event.t()
  def new_event_safe(event_type, data) do
    case Events.new_event(event_type, data) do
      {:ok, event} ->
        event

      {:error, _error} ->
        Events.debug_new_event(:system_event, %{
          original_type: event_type,
          original_data: Utils.truncate_if_large(data)
        })
    end
  end

  @doc "The event as a binary; what is no event becomes a bare term, which `deserialize_safe/1` returns as it was."
  @spec serialize_safe(term()) :: binary()
  def serialize_safe(%Event{} = event) do
    {:ok, binary} = Events.serialize(event)
    binary
  end

  def serialize_safe(term), do: :erlang.term_to_binary(term, [:compressed])

  @doc "What `serialize_safe/1` was given, or `:deserialization_failed`."
  @spec deserialize_safe(term()) :: {:ok, term()} | {:error, Error.t()}
  def deserialize_safe(binary) when is_binary(binary) do
    {:ok, :erlang.binary_to_term(binary)}
  rescue
    ArgumentError -> unreadable(binary)
  end

  def deserialize_safe(other), do: unreadable(other)

  @doc "As `Events.store/1`; a service that does not answer is an error as well."
  @spec store_safe(term()) :: {:ok, Event.id()} | Events.error()
  def store_safe(event), do: safely(fn -> Events.store(event) end)

  @doc "As `Events.query/1`; a service that does not answer is an error as well."
  @spec query_safe(map() | keyword()) :: {:ok, [Event.t()]} | Events.error()
  def query_safe(query), do: safely(fn -> Events.query(query) end)

  defp safely(fun) do
    fun.()
  catch
    :exit, reason ->
      Error.error_result(:service_unavailable, "The EventStore did not answer",
        context: %{reason: reason}
      )
  end

  defp unreadable(given),
    do:
      {:error,
       Error.refused(:binary, given, "what serialize_safe/1 gave", :deserialization_failed)}
end
