defmodule ElixirScope.Foundation.Contracts.EventStore do
  @moduledoc "What a keeper of events can do."

  alias ElixirScope.Foundation.Types.{Error, Event}

  @callback store(Event.t()) :: {:ok, Event.id()} | {:error, Error.t()}
  @callback store_batch([Event.t()]) :: {:ok, [Event.id()]} | {:error, Error.t()}
  @callback get(Event.id()) :: {:ok, Event.t()} | {:error, Error.t()}
  @callback query(map()) :: {:ok, [Event.t()]} | {:error, Error.t()}
  @callback get_by_correlation(String.t()) :: {:ok, [Event.t()]} | {:error, Error.t()}
  @callback prune_before(integer()) :: {:ok, non_neg_integer()} | {:error, Error.t()}
  @callback stats() :: {:ok, map()} | {:error, Error.t()}
  @callback available?() :: boolean()
end
