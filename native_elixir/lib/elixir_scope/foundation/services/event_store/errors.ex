defmodule ElixirScope.Foundation.Services.EventStore.Errors do
  @moduledoc false
  # The refusals that are the EventStore's own.

  alias ElixirScope.Foundation.Types.{Error, Event}

  @doc "It is down, or its database is."
  @spec unavailable(String.t(), map()) :: Error.t()
  def unavailable(message, context) do
    Error.new(
      code: 3000,
      error_type: :service_unavailable,
      message: message,
      severity: :high,
      category: :system,
      subcategory: :availability,
      context: context
    )
  end

  @doc "There is no such event."
  @spec not_found(Event.id()) :: Error.t()
  def not_found(id) do
    Error.new(
      code: 3001,
      error_type: :not_found,
      message: "There is no event #{id}",
      severity: :low,
      category: :data,
      subcategory: :retrieval,
      context: %{event_id: id}
    )
  end
end
