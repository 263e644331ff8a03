defmodule Demo do
  @moduledoc """
  The demo's part that runs on the BEAM. `Demo.Worker` is where it starts.
  """

  @doc "A rule of this application's configuration: `{limit, window_ms}`."
  @spec limit(atom()) :: {pos_integer(), pos_integer()}
  def limit(name) do
    infrastructure = Application.fetch_env!(:elixir_scope, :infrastructure)
    Map.fetch!(infrastructure[:rate_limiting].default_limits, name)
  end
end
