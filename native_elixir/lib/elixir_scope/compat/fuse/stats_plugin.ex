defmodule ElixirScope.Compat.Fuse.StatsPlugin do
  @moduledoc """
  Counts asks and melts in a place of one's own: `fuse_stats_plugin` of fuse.

      config :elixir_scope, :fuse, stats_plugin: MyApp.FuseStats

  It is asked for at `Fuse.install/2` and called besides `ElixirScope.Compat.Fuse.Stats`, which counts in any case:
  `init/1` when a name is installed that was not there, `increment/2` by the process that asks or melts. One that raises,
  throws or exits loses that count.
  """

  alias ElixirScope.Compat.Fuse

  @callback init(Fuse.name()) :: term()
  @callback increment(Fuse.name(), :ok | :blown | :melt) :: term()
end
