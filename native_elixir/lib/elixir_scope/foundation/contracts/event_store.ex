defmodule ElixirScope.Foundation.Contracts.EventStore do
  @moduledoc "What a keeper of events can do."

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Types
  alias ElixirScope.Foundation.Types.Event

  @typedoc "The service's own, or the infrastructure's in front of it."
  @type error :: Types.Error.t() | Error.t()

  @callback store(Event.t()) :: {:ok, Event.id()} | {:error, error()}
  @callback store_batch([Event.t()]) :: {:ok, [Event.id()]} | {:error, error()}
  @callback get(Event.id()) :: {:ok, Event.t()} | {:error, error()}
  @callback query(map()) :: {:ok, [Event.t()]} | {:error, error()}
  @callback get_by_correlation(String.t()) :: {:ok, [Event.t()]} | {:error, error()}
  @callback prune_before(integer()) :: {:ok, non_neg_integer()} | {:error, error()}
  @callback stats() :: {:ok, map()} | {:error, error()}
  @callback available?() :: boolean()
end
