defmodule ElixirScope.Foundation.Infrastructure.SimpleCircuitBreaker do
  @moduledoc "The founding document's name of `ElixirScope.Foundation.Infrastructure.CircuitBreaker`."

  alias ElixirScope.Foundation.Infrastructure.CircuitBreaker

  @type state :: CircuitBreaker.phase()

  @typedoc "Milliseconds; 5, 30,000 and 5,000 unless configured. `CircuitBreaker.Options` has the others."
  @type config :: %{
          failure_threshold: pos_integer(),
          reset_timeout: pos_integer(),
          call_timeout: pos_integer()
        }

  @doc "See `ElixirScope.Foundation.Infrastructure.CircuitBreaker.execute/3`."
  @spec execute(CircuitBreaker.namespace(), CircuitBreaker.service(), (() -> term())) :: term()
  defdelegate execute(namespace, service, operation), to: CircuitBreaker

  @doc "See `ElixirScope.Foundation.Infrastructure.CircuitBreaker.execute!/3`."
  @spec execute!(CircuitBreaker.namespace(), CircuitBreaker.service(), (() -> term())) :: term()
  defdelegate execute!(namespace, service, operation), to: CircuitBreaker
end
