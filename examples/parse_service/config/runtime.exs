import Config

config :elixir_scope, :status_page,
  enabled: true,
  port: String.to_integer(System.get_env("PARSE_SERVICE_PORT", "9568"))
