import Config

# `:elixir_scope` is the host application. Alone, without a host, mix therefore says that it is not available.
#
# The values are the defaults that a host application starts from. Mix merges repeated `config` calls by
# top key and replaces the maps below whole: an environment that changes one repeats its map in full.
config :elixir_scope, :infrastructure,
  circuit_breakers: %{
    enabled: true,
    default_config: %{
      failure_threshold: 5,
      reset_timeout: 30_000,
      call_timeout: 5_000
    }
  },
  rate_limiting: %{
    enabled: true,
    algorithm: :token_bucket,
    default_limits: %{
      # 10 per minute
      config_updates: {10, 60_000},
      # 100 per minute
      event_storage: {100, 60_000}
    }
  },
  connection_pools: %{
    database: %{
      size: 10,
      max_overflow: 5,
      timeout: 5_000
    }
  }
