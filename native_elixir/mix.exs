Code.require_file("tasks/compile.elixirscope_nif.ex", __DIR__)

defmodule ElixirScope.Foundation.MixProject do
  use Mix.Project

  @version "0.1.0"

  def project do
    [
      app: :elixir_scope_foundation,
      version: @version,
      elixir: "~> 1.14",
      elixirc_paths: elixirc_paths(Mix.env()),
      # The NIF goes first: Elixir loads modules, and with them the library, while it compiles.
      compilers: [:elixirscope_nif] ++ Mix.compilers(),
      start_permanent: Mix.env() == :prod,
      deps: [],
      # Debian packages, looked for at run time: the drivers of database pools, and the JSON reader and the
      # property tests' PropEr of the tests.
      xref: [exclude: [:sqlite3, :pgsql, :jiffy, :proper, :proper_arith, :proper_types]],
      docs: docs(),
      description: "Circuit breakers, rate limits and connection pools on one native core"
    ]
  end

  def application do
    [
      mod: {ElixirScope.Foundation.Application, []},
      # SASL has the alarms of `Compat.Fuse`, inets the web server of the status page; TLS is for those who use it.
      extra_applications: [:crypto, :inets, :logger, :sasl, ssl: :optional]
    ]
  end

  # For `mix docs` of a project that has ex_doc; this one names no dependency from Hex.
  defp docs do
    [
      main: "readme",
      extras: ["README.md", "../docs/protect.md"],
      groups_for_modules: [
        Infrastructure: ~r/^ElixirScope\.Foundation\.Infrastructure/,
        Services: ~r/^ElixirScope\.Foundation\.(Services|Contracts|Config|Events|Telemetry)/,
        "Errors, types and names": ~r/^ElixirScope\.Foundation/,
        "In place of other libraries": ~r/^ElixirScope\.Compat/
      ]
    ]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_env), do: ["lib"]
end
