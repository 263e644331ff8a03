import Config

# A dependency's own configuration is not read: what the host says here is all there is.
config :elixir_scope, :infrastructure,
  circuit_breakers: %{
    enabled: true,
    services: %{parser: %{failure_threshold: 5, reset_timeout: 1_000, call_timeout: 5_000}}
  },
  rate_limiting: %{
    enabled: true,
    hierarchies: %{parse: [user: {20, 1_000}, organisation: {50, 1_000}, global: {500, 1_000}]}
  }
