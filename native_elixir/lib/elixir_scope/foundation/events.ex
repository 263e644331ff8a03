defmodule ElixirScope.Foundation.Events do
  @moduledoc """
  Making events, and keeping them in the EventStore of `:production`.

      iex> alias ElixirScope.Foundation.Events
      iex> {:ok, event} = Events.new_event(:custom_event, %{a: 1}, correlation_id: "docs")
      iex> {:ok, _id} = Events.store(event)
      iex> {:ok, [found]} = Events.query(event_type: :custom_event, correlation_id: "docs")
      iex> found == event
      true
  """

  @behaviour ElixirScope.Foundation.Contracts.EventStore

  alias ElixirScope.Foundation.Logic.EventLogic
  alias ElixirScope.Foundation.Services.EventStore
  alias ElixirScope.Foundation.Types.{Error, Event}

  @type error :: EventStore.error()

  @doc "Starts the service unless it runs."
  @spec initialize(keyword()) :: :ok | error()
  defdelegate initialize(opts \\ []), to: EventStore

  @doc "How the service is."
  @spec status() :: {:ok, map()} | error()
  defdelegate status(), to: EventStore

  @doc "Whether the service runs."
  @impl true
  @spec available?() :: boolean()
  defdelegate available?(), to: EventStore

  @doc """
  An event of now: with a unique id, monotonic milliseconds, the wall clock, this node and process. Options replace
  these: `:event_id`, `:timestamp`, `:wall_time`, `:node`, `:pid`, `:correlation_id`, `:parent_id`.
  """
  @spec new_event(atom(), term(), keyword()) :: {:ok, Event.t()} | {:error, Error.t()}
  defdelegate new_event(event_type, data, opts \\ []), to: EventLogic, as: :create_event

  @doc "As `new_event/3`, but the bare event; raises where there is none."
  @spec debug_new_event(atom(), term(), keyword()) :: Event.t()
  def debug_new_event(event_type, data, opts \\ []) do
    case new_event(event_type, data, opts) do
      {:ok, event} -> event
      {:error, error} -> raise ArgumentError, error.message
    end
  end

  @doc "See `ElixirScope.Foundation.Logic.EventLogic.serialize_event/1`."
  @spec serialize(Event.t()) :: {:ok, binary()}
  defdelegate serialize(event), to: EventLogic, as: :serialize_event

  @doc "See `ElixirScope.Foundation.Logic.EventLogic.deserialize_event/1`."
  @spec deserialize(binary()) :: {:ok, Event.t()} | {:error, Error.t()}
  defdelegate deserialize(binary), to: EventLogic, as: :deserialize_event

  @doc "How many bytes `serialize/1` gives."
  @spec serialized_size(Event.t()) :: {:ok, pos_integer()}
  defdelegate serialized_size(event), to: EventLogic, as: :calculate_serialized_size

  @doc """
  The event of entering a function. Options: `:caller_module`, `:caller_function`, `:caller_line`, and those of
  `new_event/3`. Large arguments are cut short.
  """
  @spec function_entry(module(), atom(), arity(), [term()], keyword()) ::
          {:ok, Event.t()} | {:error, Error.t()}
  defdelegate function_entry(module, function, arity, args, opts \\ []),
    to: EventLogic,
    as: :create_function_entry

  @doc "The event of leaving the function call `call_id`. A large result is cut short."
  @spec function_exit(module(), atom(), arity(), Event.id(), term(), integer(), atom()) ::
          {:ok, Event.t()} | {:error, Error.t()}
  defdelegate function_exit(module, function, arity, call_id, result, duration_ns, exit_reason),
    to: EventLogic,
    as: :create_function_exit

  @doc "The event of a server's new state; see `ElixirScope.Foundation.Logic.EventLogic.create_state_change/5`."
  @spec state_change(pid(), atom(), term(), term(), keyword()) ::
          {:ok, Event.t()} | {:error, Error.t()}
  defdelegate state_change(server_pid, callback, old_state, new_state, opts \\ []),
    to: EventLogic,
    as: :create_state_change

  @doc "Keeps an event."
  @impl true
  @spec store(Event.t()) :: {:ok, Event.id()} | error()
  defdelegate store(event), to: EventStore

  @doc "Keeps all events, or none."
  @impl true
  @spec store_batch([Event.t()]) :: {:ok, [Event.id()]} | error()
  defdelegate store_batch(events), to: EventStore

  @doc "The event of this id."
  @impl true
  @spec get(Event.id()) :: {:ok, Event.t()} | error()
  defdelegate get(id), to: EventStore

  @doc "The events that a query, a map or a keyword list, asks for; see `ElixirScope.Foundation.Logic.EventLogic.query/2`."
  @impl true
  @spec query(map() | keyword()) :: {:ok, [Event.t()]} | error()
  def query(query), do: query |> Map.new() |> EventStore.query()

  @doc "The events of a correlation id, in the order of time."
  @impl true
  @spec get_by_correlation(String.t()) :: {:ok, [Event.t()]} | error()
  defdelegate get_by_correlation(correlation_id), to: EventStore

  @doc "As `get_by_correlation/1`."
  @spec get_correlation_chain(String.t()) :: {:ok, [Event.t()]} | error()
  defdelegate get_correlation_chain(correlation_id), to: EventStore, as: :get_by_correlation

  @doc "The events from `first` to `last`, both included, in the order of time."
  @spec get_time_range(integer(), integer()) :: {:ok, [Event.t()]} | error()
  def get_time_range(first, last),
    do: EventStore.query(%{time_range: {first, last}, order_by: :timestamp})

  @doc "The first `limit` events in the order of time: the oldest ones, whatever the name says."
  @spec get_recent(pos_integer()) :: {:ok, [Event.t()]} | error()
  def get_recent(limit \\ 100), do: EventStore.query(%{order_by: :timestamp, limit: limit})

  @doc "Drops the events before this timestamp and says how many."
  @impl true
  @spec prune_before(integer()) :: {:ok, non_neg_integer()} | error()
  defdelegate prune_before(timestamp), to: EventStore

  @doc "Counts since the start of the service."
  @impl true
  @spec stats() :: {:ok, map()} | error()
  defdelegate stats(), to: EventStore
end
