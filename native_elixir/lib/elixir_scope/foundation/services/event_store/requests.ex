defmodule ElixirScope.Foundation.Services.EventStore.Requests do
  @moduledoc false
  # What an EventStore with a database was asked for and has not begun.
  #
  # Whatever the database does, each caller is answered before its call gives up. Refusing is the process's task; who has
  # waited too long is found here.
  #
  # Those that somebody waits for go first. Audit events that nobody waits for may come faster than a database takes
  # them, for instance while the store's breaker is open and keeps those back that would wait: behind them no probe
  # would come through in time, and the breaker would stay open. In themselves both keep their order.

  # Less than the 5 seconds that the callers of the store wait, by more than the pause between two looks.
  @answer_within 4_000
  # Requests in one transaction; the rest waits for the next.
  @at_once 1_000

  @enforce_keys [:callers, :others]
  defstruct @enforce_keys

  @typedoc "Who waits is nil for what nobody waits for, or whoever waited has been answered."
  @type request :: {term(), GenServer.from() | nil, at :: integer()}
  @type t :: %__MODULE__{callers: :queue.queue(request()), others: :queue.queue(request())}

  @doc "None."
  @spec new() :: t()
  def new, do: %__MODULE__{callers: :queue.new(), others: :queue.new()}

  @doc "Adds a request that came `now`, in milliseconds of monotonic time."
  @spec add(t(), term(), GenServer.from() | nil, integer()) :: t()
  def add(requests, request, nil, now),
    do: %{requests | others: :queue.in({request, nil, now}, requests.others)}

  def add(requests, request, from, now),
    do: %{requests | callers: :queue.in({request, from, now}, requests.callers)}

  @doc "Whether there is none."
  @spec empty?(t()) :: boolean()
  def empty?(requests),
    do: :queue.is_empty(requests.callers) and :queue.is_empty(requests.others)

  @doc "The first requests, as many as one transaction does."
  @spec take(t()) :: {[request()], t()}
  def take(requests) do
    {callers, later_callers} = split(requests.callers, @at_once)
    {others, later_others} = split(requests.others, @at_once - length(callers))
    {callers ++ others, %{requests | callers: later_callers, others: later_others}}
  end

  defp split(queue, most) do
    {first, rest} = :queue.split(min(most, :queue.len(queue)), queue)
    {:queue.to_list(first), rest}
  end

  @doc "All of them."
  @spec take_all(t()) :: {[request()], t()}
  def take_all(requests),
    do: {:queue.to_list(requests.callers) ++ :queue.to_list(requests.others), new()}

  @doc "Those that have waited too long."
  @spec take_late(t(), integer()) :: {[request()], t()}
  def take_late(requests, now) do
    {late_callers, callers} = split_late(requests.callers, now)
    {late_others, others} = split_late(requests.others, now)
    {late_callers ++ late_others, %{requests | callers: callers, others: others}}
  end

  defp split_late(queue, now) do
    {late, rest} = queue |> :queue.to_list() |> Enum.split_while(&late?(&1, now))
    {late, :queue.from_list(rest)}
  end

  @doc "Whether this one has waited too long."
  @spec late?(request(), integer()) :: boolean()
  def late?({_request, _from, at}, now), do: now - at >= @answer_within
end
