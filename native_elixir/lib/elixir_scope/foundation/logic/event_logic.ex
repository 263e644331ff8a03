defmodule ElixirScope.Foundation.Logic.EventLogic do
  @moduledoc """
  Making, writing, choosing and transforming events, as functions of values; `EventStore` keeps them.

      iex> alias ElixirScope.Foundation.Logic.EventLogic
      iex> {:ok, event} = EventLogic.create_event(:spawn, %{a: 1})
      iex> {:ok, binary} = EventLogic.serialize_event(event)
      iex> EventLogic.deserialize_event(binary) == {:ok, event}
      true
  """

  alias ElixirScope.Foundation.Types.{Error, Event}
  alias ElixirScope.Foundation.Utils
  alias ElixirScope.Foundation.Validation.EventValidator

  @fields [:event_id, :timestamp, :wall_time, :node, :pid, :correlation_id, :parent_id]

  @doc "A valid event; see `ElixirScope.Foundation.Events.new_event/3`."
  @spec create_event(atom(), term(), keyword()) :: {:ok, Event.t()} | {:error, Error.t()}
  def create_event(event_type, data, opts \\ []) do
    event = bare_event(event_type, data, opts)
    with :ok <- EventValidator.validate(event), do: {:ok, event}
  end

  defp bare_event(event_type, data, opts) do
    struct(
      %Event{
        event_type: event_type,
        event_id: Utils.generate_id(),
        timestamp: Utils.monotonic_timestamp(),
        wall_time: DateTime.utc_now(),
        node: node(),
        pid: self(),
        data: data
      },
      Keyword.take(opts, @fields)
    )
  end

  @doc "The event of entering a function; its data's `call_id` is unique."
  @spec create_function_entry(module(), atom(), arity(), [term()], keyword()) ::
          {:ok, Event.t()} | {:error, Error.t()}
  def create_function_entry(module, function, arity, args, opts \\ []) do
    data = %{
      call_id: Utils.generate_id(),
      module: module,
      function: function,
      arity: arity,
      args: Utils.truncate_if_large(args),
      caller_module: opts[:caller_module],
      caller_function: opts[:caller_function],
      caller_line: opts[:caller_line]
    }

    create_event(:function_entry, data, opts)
  end

  @doc "The event of leaving the function call `call_id`."
  @spec create_function_exit(module(), atom(), arity(), Event.id(), term(), integer(), atom()) ::
          {:ok, Event.t()} | {:error, Error.t()}
  def create_function_exit(module, function, arity, call_id, result, duration_ns, exit_reason) do
    create_event(:function_exit, %{
      call_id: call_id,
      module: module,
      function: function,
      arity: arity,
      result: Utils.truncate_if_large(result),
      duration_ns: duration_ns,
      exit_reason: exit_reason
    })
  end

  @doc "The event of a server's new state. Options: `:trigger_message`, `:trigger_call_id`, and those of an event."
  @spec create_state_change(pid(), atom(), term(), term(), keyword()) ::
          {:ok, Event.t()} | {:error, Error.t()}
  def create_state_change(server_pid, callback, old_state, new_state, opts \\ []) do
    data = %{
      server_pid: server_pid,
      callback: callback,
      old_state: Utils.truncate_if_large(old_state),
      new_state: Utils.truncate_if_large(new_state),
      state_diff: if(old_state == new_state, do: :no_change, else: :changed),
      trigger_message: opts[:trigger_message],
      trigger_call_id: opts[:trigger_call_id]
    }

    create_event(:state_change, data, opts)
  end

  @doc "The event as a compressed external term."
  @spec serialize_event(Event.t()) :: {:ok, binary()}
  def serialize_event(%Event{} = event), do: {:ok, :erlang.term_to_binary(event, [:compressed])}

  @doc "The event that `serialize_event/1` wrote. It may hold functions: read only what a trusted writer wrote."
  @spec deserialize_event(binary()) :: {:ok, Event.t()} | {:error, Error.t()}
  def deserialize_event(binary) when is_binary(binary) do
    case :erlang.binary_to_term(binary) do
      %Event{} = event -> {:ok, event}
      _other -> not_an_event(binary)
    end
  rescue
    ArgumentError -> not_an_event(binary)
  end

  defp not_an_event(binary) do
    {:error,
     Error.new(
       code: nil,
       error_type: :deserialization_failed,
       message: "The binary of #{byte_size(binary)} bytes is not a serialized event",
       severity: :medium,
       category: :data,
       subcategory: :deserialization,
       context: %{size: byte_size(binary)}
     )}
  end

  @doc "How many bytes `serialize_event/1` gives."
  @spec calculate_serialized_size(Event.t()) :: {:ok, pos_integer()}
  def calculate_serialized_size(%Event{} = event) do
    {:ok, binary} = serialize_event(event)
    {:ok, byte_size(binary)}
  end

  @doc "The events of a correlation id, in the order of time."
  @spec extract_correlation_chain([Event.t()], String.t()) :: [Event.t()]
  def extract_correlation_chain(events, correlation_id) do
    events
    |> Enum.filter(&(&1.correlation_id == correlation_id))
    |> Enum.sort_by(& &1.timestamp)
  end

  @doc "The events by correlation id; those without one are left out."
  @spec group_by_correlation([Event.t()]) :: %{String.t() => [Event.t()]}
  def group_by_correlation(events),
    do: events |> Enum.reject(&is_nil(&1.correlation_id)) |> Enum.group_by(& &1.correlation_id)

  @doc "The events from `first` to `last`, both included."
  @spec filter_by_time_range([Event.t()], integer(), integer()) :: [Event.t()]
  def filter_by_time_range(events, first, last),
    do: Enum.filter(events, &(&1.timestamp >= first and &1.timestamp <= last))

  @doc "The event with its data changed by `fun`."
  @spec transform_event_data(Event.t(), (term() -> term())) :: Event.t()
  def transform_event_data(%Event{} = event, fun), do: %{event | data: fun.(event.data)}

  @doc """
  The events that a query asks for. Keys, in this order of application:

    * `event_type`, `correlation_id`: equal;
    * `time_range: {first, last}`: both included;
    * `order_by`: `:event_id` or `:timestamp`, ascending; otherwise the order is unspecified;
    * `offset`: how many to leave out first;
    * `limit`: how many at most; none where it is not positive.

  nil is as good as absent, and unknown keys are ignored. A value of the wrong type is an error.

      iex> alias ElixirScope.Foundation.{Logic.EventLogic, Types.Event}
      iex> events = for id <- 1..10, do: Event.new(event_id: id, event_type: :spawn, timestamp: id)
      iex> {:ok, found} = EventLogic.query(events, %{order_by: :event_id, offset: 2, limit: 3})
      iex> Enum.map(found, & &1.event_id)
      [3, 4, 5]
  """
  @spec query([Event.t()], map()) :: {:ok, [Event.t()]} | {:error, Error.t()}
  def query(events, query) do
    with :ok <- check_query(query) do
      {:ok,
       events
       |> equal(:event_type, query[:event_type])
       |> equal(:correlation_id, query[:correlation_id])
       |> within(query[:time_range])
       |> ordered(query[:order_by])
       |> Enum.drop(query[:offset] || 0)
       |> limited(query[:limit])}
    end
  end

  defp equal(events, _field, nil), do: events
  defp equal(events, field, value), do: Enum.filter(events, &(Map.fetch!(&1, field) == value))

  defp within(events, nil), do: events
  defp within(events, {first, last}), do: filter_by_time_range(events, first, last)

  defp ordered(events, field) when field in [:event_id, :timestamp],
    do: Enum.sort_by(events, &Map.fetch!(&1, field))

  defp ordered(events, _unspecified), do: events

  defp limited(events, limit) when is_integer(limit) and limit > 0, do: Enum.take(events, limit)
  defp limited(events, _none), do: events

  defp check_query(query) do
    cond do
      not range?(query[:time_range]) -> mismatch(:time_range, query, "two integers {from, to}")
      not offset?(query[:offset]) -> mismatch(:offset, query, "an integer from 0 on")
      not limit?(query[:limit]) -> mismatch(:limit, query, "an integer")
      true -> :ok
    end
  end

  defp range?({first, last}), do: is_integer(first) and is_integer(last)
  defp range?(range), do: is_nil(range)

  defp offset?(offset), do: is_nil(offset) or (is_integer(offset) and offset >= 0)
  defp limit?(limit), do: is_nil(limit) or is_integer(limit)

  defp mismatch(key, query, allowed),
    do: EventValidator.mismatch(key, query[key], allowed)
end
