import Config

# Standard output belongs to the lines for the stage.
config :logger, :console, device: :standard_error

# Events are acknowledged when the database has them.
config :elixir_scope, storage: %{warm: %{enable: true}}

# As the library's own configuration, but for a run of seconds: a call may take 1 s, the breaker tries again after 2 s, the
# connections of a burst linger for the next one, and the limit on events is wide enough for clients that hurry.
config :elixir_scope, :infrastructure,
  circuit_breakers: %{
    enabled: true,
    default_config: %{
      failure_threshold: 5,
      reset_timeout: 2_000,
      call_timeout: 1_000
    }
  },
  rate_limiting: %{
    enabled: true,
    algorithm: :token_bucket,
    default_limits: %{
      config_updates: {10, 60_000},
      event_storage: {10_000, 60_000}
    }
  },
  connection_pools: %{
    database: %{
      size: 10,
      max_overflow: 5,
      timeout: 5_000,
      overflow_ttl: 1_000,
      setup: ["PRAGMA synchronous = OFF"]
    }
  }
