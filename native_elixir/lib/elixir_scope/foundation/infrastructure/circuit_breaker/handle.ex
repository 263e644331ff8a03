defmodule ElixirScope.Foundation.Infrastructure.CircuitBreaker.Handle do
  @moduledoc """
  A circuit breaker that was looked up: saves its holder the look-up by name.

  It stays with the breaker that it was made of. A breaker that is registered anew under the name is another one. One
  that is reconfigured or reinstalled is the same, but what is not the core's (`call_timeout`, classification, and
  whether single calls are told) stays as it was when the handle was made.
  """

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.CircuitBreaker.{Classifier, Options}
  alias ElixirScope.Foundation.Infrastructure.Names

  @enforce_keys [:breaker, :namespace, :service, :call_timeout, :classifier, :call_events, :layer]
  defstruct @enforce_keys

  @typedoc "Its fields are nobody's business."
  @type t :: %__MODULE__{
          breaker: reference(),
          namespace: Names.namespace(),
          service: atom(),
          call_timeout: timeout(),
          classifier: Classifier.t(),
          call_events: boolean(),
          layer: Options.layer()
        }

  # The handle for one call with options of its own.
  @doc false
  @spec for_call(t(), term()) :: {:ok, t()} | {:error, Error.t()}
  def for_call(handle, []), do: {:ok, handle}

  def for_call(handle, options) do
    with {:ok, own} <- Options.call(options),
         {:ok, classifier} <- classifier(handle, own) do
      {call_timeout, _given} = Map.get(own, :call_timeout, {handle.call_timeout, nil})
      {:ok, %{handle | call_timeout: call_timeout, classifier: classifier}}
    end
  end

  defp classifier(handle, own) do
    if Classifier.given?(own),
      do: Classifier.new(Options.edge(own)),
      else: {:ok, handle.classifier}
  end

  defimpl Inspect do
    def inspect(handle, _opts),
      do:
        "#CircuitBreaker.Handle<#{Kernel.inspect(handle.namespace)}, #{Kernel.inspect(handle.service)}>"
  end
end
