defmodule ParseService.MixProject do
  use Mix.Project

  def project do
    [
      app: :parse_service,
      version: "0.1.0",
      elixir: "~> 1.14",
      start_permanent: Mix.env() == :prod,
      deps: [{:elixir_scope_foundation, path: "../../native_elixir"}],
      # What the warm-up parses is read from what the compiler keeps for debuggers.
      releases: [parse_service: [strip_beams: [keep: ["Dbgi"]]]],
      # Outside of the source, where the repository keeps all that is built.
      build_path: "../../target/parse_service/_build",
      lockfile: "../../target/parse_service/mix.lock"
    ]
  end

  def application, do: [mod: {ParseService.Application, []}, extra_applications: [:logger]]
end
