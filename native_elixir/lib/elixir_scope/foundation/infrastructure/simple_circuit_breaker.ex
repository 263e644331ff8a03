defmodule ElixirScope.Foundation.Infrastructure.SimpleCircuitBreaker do
  @moduledoc "The founding document's name of `ElixirScope.Foundation.Infrastructure.CircuitBreaker`."

  alias ElixirScope.Foundation.Infrastructure.CircuitBreaker

  @doc "See `ElixirScope.Foundation.Infrastructure.CircuitBreaker.execute/3`."
  @spec execute(CircuitBreaker.namespace(), CircuitBreaker.service(), (() -> term())) :: term()
  defdelegate execute(namespace, service, operation), to: CircuitBreaker

  @doc "See `ElixirScope.Foundation.Infrastructure.CircuitBreaker.execute!/3`."
  @spec execute!(CircuitBreaker.namespace(), CircuitBreaker.service(), (() -> term())) :: term()
  defdelegate execute!(namespace, service, operation), to: CircuitBreaker
end
