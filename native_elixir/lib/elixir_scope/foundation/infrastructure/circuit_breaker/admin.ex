defmodule ElixirScope.Foundation.Infrastructure.CircuitBreaker.Admin do
  @moduledoc false
  # What somebody in charge may do to a breaker that exists.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.CircuitBreaker.Options
  alias ElixirScope.Foundation.Infrastructure.{CircuitBreakerRegistry, Native}

  @modes %{auto: 0, forced_open: 1, forced_closed: 2, metrics_only: 3}

  @spec reset(term(), term()) :: :ok | {:error, Error.t()}
  def reset(namespace, service) do
    with {:ok, handle} <- CircuitBreakerRegistry.lookup(namespace, service),
         do: Native.breaker_reset(handle.breaker)
  end

  @spec settle(term(), term()) :: :ok | {:error, Error.t()}
  def settle(namespace, service) do
    with {:ok, handle} <- CircuitBreakerRegistry.lookup(namespace, service),
         do: Native.breaker_settle(handle.breaker)
  end

  @spec set_mode(term(), term(), atom()) :: :ok | {:error, Error.t()}
  def set_mode(namespace, service, mode) do
    # Also before its first call: a service that shall not be called must not have to be called for that.
    with {:ok, handle} <- CircuitBreakerRegistry.fetch(namespace, service),
         do: Native.breaker_set_mode(handle.breaker, Map.fetch!(@modes, mode))
  end

  @spec reconfigure(term(), term(), term()) :: :ok | {:error, Error.t()}
  def reconfigure(namespace, service, options),
    do:
      CircuitBreakerRegistry.change(
        namespace,
        service,
        options,
        :own,
        &Native.breaker_reconfigure/2
      )

  @spec reinstall(term(), term(), term()) :: :ok | {:error, Error.t()}
  def reinstall(namespace, service, options) do
    CircuitBreakerRegistry.change(
      namespace,
      service,
      options,
      :configured,
      &Native.breaker_reinstall/2
    )
  end

  @spec inject_faults(term(), term(), term()) :: :ok | {:error, Error.t()}
  def inject_faults(namespace, service, faults) do
    with {:ok, core, layer} <- Options.faults(faults),
         {:ok, handle} <- CircuitBreakerRegistry.fetch(namespace, service),
         {:error, refusal} <- Native.breaker_inject_faults(handle.breaker, core),
         do: {:error, Options.refused(refusal, layer)}
  rescue
    error in ErlangError ->
      case error do
        %{original: :nif_not_loaded} -> Error.error_result(:fault_injection_disabled)
        _other -> reraise error, __STACKTRACE__
      end
  end
end
