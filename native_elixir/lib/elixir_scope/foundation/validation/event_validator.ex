defmodule ElixirScope.Foundation.Validation.EventValidator do
  @moduledoc """
  What an event must be to be stored.

      iex> alias ElixirScope.Foundation.{Types.Event, Validation.EventValidator}
      iex> EventValidator.validate(Event.new(event_id: 1, event_type: :spawn, timestamp: -5))
      :ok
      iex> {:error, error} = EventValidator.validate(Event.new())
      iex> error.message
      "Event ID cannot be nil"
  """

  alias ElixirScope.Foundation.Types.{Error, Event}

  @max_size 1_000_000
  @event_types [
    :function_entry,
    :function_exit,
    :state_change,
    :message_send,
    :message_receive,
    :spawn,
    :exit,
    :link,
    :unlink,
    :monitor,
    :demonitor,
    :system_event,
    :custom_event,
    :config_updated,
    :config_reset
  ]
  @required [event_id: "Event ID", event_type: "Event type", timestamp: "Timestamp"]

  @doc "Checks an event: what it must have, then the types, then the size of its data."
  @spec validate(term()) :: :ok | {:error, Error.t()}
  def validate(%Event{} = event) do
    with :ok <- check_required(event),
         :ok <- check_types(event),
         do: check_size(event.data)
  end

  def validate(other), do: mismatch(:event, other, "an %Event{}")

  @doc "Whether this is one of the known event types. Storing does not ask."
  @spec validate_event_type(term()) :: :ok | {:error, Error.t()}
  def validate_event_type(type) when type in @event_types, do: :ok

  def validate_event_type(type) when is_atom(type) do
    error(
      2004,
      :invalid_event_type,
      :medium,
      "`event_type` is #{inspect(type)}, which is none of the known types",
      %{
        event_type: type,
        allowed: @event_types
      }
    )
  end

  def validate_event_type(other), do: mismatch(:event_type, other, "an atom")

  defp check_required(event) do
    case Enum.find(@required, fn {field, _name} -> is_nil(Map.fetch!(event, field)) end) do
      nil ->
        :ok

      {field, name} ->
        error(2001, :validation_failed, :high, name <> " cannot be nil", %{field: field})
    end
  end

  defp check_types(event) do
    cond do
      not id?(event.event_id) ->
        mismatch(:event_id, event.event_id, "a positive integer")

      not is_atom(event.event_type) ->
        mismatch(:event_type, event.event_type, "an atom")

      not is_integer(event.timestamp) ->
        mismatch(:timestamp, event.timestamp, "an integer")

      not absent_or?(event.wall_time, &is_struct(&1, DateTime)) ->
        mismatch(:wall_time, event.wall_time, "a DateTime")

      not is_atom(event.node) ->
        mismatch(:node, event.node, "an atom")

      not absent_or?(event.pid, &is_pid/1) ->
        mismatch(:pid, event.pid, "a process id")

      not absent_or?(event.correlation_id, &is_binary/1) ->
        mismatch(:correlation_id, event.correlation_id, "a string")

      not absent_or?(event.parent_id, &id?/1) ->
        mismatch(:parent_id, event.parent_id, "a positive integer")

      true ->
        :ok
    end
  end

  defp check_size(data) do
    case :erlang.external_size(data) do
      size when size > @max_size ->
        message = "`data` has #{size} bytes, allowed are #{@max_size}"
        error(2003, :data_too_large, :high, message, %{size: size, max_size: @max_size})

      _size ->
        :ok
    end
  end

  defp id?(value), do: is_integer(value) and value > 0
  defp absent_or?(value, valid?), do: is_nil(value) or valid?.(value)

  @doc false
  @spec mismatch(atom(), term(), String.t()) :: {:error, Error.t()}
  def mismatch(field, value, allowed) do
    shown = inspect(value, limit: 10, printable_limit: 100)
    context = %{field: field, value: value, allowed: allowed}
    error(2002, :type_mismatch, :medium, "`#{field}` is #{shown}, allowed is #{allowed}", context)
  end

  defp error(code, type, severity, message, context) do
    {:error,
     Error.new(
       code: code,
       error_type: type,
       message: message,
       severity: severity,
       category: :data,
       subcategory: :validation,
       context: context
     )}
  end
end
