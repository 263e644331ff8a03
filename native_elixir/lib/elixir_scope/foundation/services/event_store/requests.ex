defmodule ElixirScope.Foundation.Services.EventStore.Requests do
  @moduledoc false
  # What an EventStore with a database was asked for and has not begun, in the order in which it came.
  #
  # Whatever the database does, each caller is answered before its call gives up. Refusing is the process's task; who has
  # waited too long is found here.

  # Less than the 5 seconds that the callers of the store wait, by more than the pause between two looks.
  @answer_within 4_000
  # Requests in one transaction; the rest waits for the next.
  @at_once 1_000

  @typedoc "Who waits is nil for what nobody waits for, or whoever waited has been answered."
  @type request :: {term(), GenServer.from() | nil, at :: integer()}
  @opaque t :: :queue.queue(request())

  @doc "None."
  @spec new() :: t()
  def new, do: :queue.new()

  @doc "Adds a request that came `now`, in milliseconds of monotonic time."
  @spec add(t(), term(), GenServer.from() | nil, integer()) :: t()
  def add(requests, request, from, now), do: :queue.in({request, from, now}, requests)

  @doc "Whether there is none."
  @spec empty?(t()) :: boolean()
  def empty?(requests), do: :queue.is_empty(requests)

  @doc "The first requests, as many as one transaction does."
  @spec take(t()) :: {[request()], t()}
  def take(requests) do
    {first, rest} = :queue.split(min(@at_once, :queue.len(requests)), requests)
    {:queue.to_list(first), rest}
  end

  @doc "All of them."
  @spec take_all(t()) :: {[request()], t()}
  def take_all(requests), do: {:queue.to_list(requests), new()}

  @doc "Those that have waited too long."
  @spec take_late(t(), integer()) :: {[request()], t()}
  def take_late(requests, now) do
    {late, rest} = requests |> :queue.to_list() |> Enum.split_while(&late?(&1, now))
    {late, :queue.from_list(rest)}
  end

  @doc "Whether this one has waited too long."
  @spec late?(request(), integer()) :: boolean()
  def late?({_request, _from, at}, now), do: now - at >= @answer_within
end
