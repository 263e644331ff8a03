defmodule Demo.MixProject do
  use Mix.Project

  @target Path.expand("../../target/demo", __DIR__)

  def project do
    [
      app: :elixir_scope_demo,
      version: "0.1.0",
      elixir: "~> 1.14",
      build_path: Path.join(@target, "_build"),
      lockfile: Path.join(@target, "mix.lock"),
      deps_path: Path.join(@target, "deps"),
      deps: [{:elixir_scope_foundation, path: "../../native_elixir"}]
    ]
  end

  def application, do: [extra_applications: [:logger]]
end
