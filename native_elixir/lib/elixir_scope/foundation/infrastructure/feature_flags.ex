defmodule ElixirScope.Foundation.Infrastructure.FeatureFlags do
  @moduledoc """
  Switches for a safe rollout, read from the configuration at every call. Off unless it says `enabled: true`; a
  configuration that cannot be read is an error of the protected call itself.

  The flags are independent. One that is off lets calls through and touches no state; on again, the old
  state is found.
  """

  alias ElixirScope.Foundation.Infrastructure.Config

  @doc "Whether calls go through circuit breakers. The namespace is accepted for later use."
  @spec circuit_breaker_enabled?(term()) :: boolean()
  def circuit_breaker_enabled?(_namespace), do: Config.enabled(:circuit_breakers) == {:ok, true}

  @doc "Whether rate limits are checked. The namespace is accepted for later use."
  @spec rate_limiting_enabled?(term()) :: boolean()
  def rate_limiting_enabled?(_namespace), do: Config.enabled(:rate_limiting) == {:ok, true}
end
