defmodule ElixirScope.Foundation.Types.Config do
  @moduledoc """
  The configuration of ElixirScope and its defaults. What each value may be is in
  `ElixirScope.Foundation.Validation.ConfigValidator`.

      iex> config = ElixirScope.Foundation.Types.Config.new(%{dev: %{debug_mode: true}})
      iex> {config[:dev][:debug_mode], config.dev.verbose_logging}
      {true, false}
      iex> put_in(config, [:ai, :provider], :openai).ai.provider
      :openai
  """

  @behaviour Access

  alias ElixirScope.Foundation.Utils

  defstruct ai: %{
              provider: :mock,
              api_key: nil,
              model: "gpt-4",
              analysis: %{max_file_size: 1_000_000, timeout: 30_000, cache_ttl: 3600},
              planning: %{
                default_strategy: :balanced,
                performance_target: 0.01,
                sampling_rate: 1.0
              }
            },
            capture: %{
              ring_buffer: %{
                size: 1024,
                max_events: 1000,
                overflow_strategy: :drop_oldest,
                num_buffers: :schedulers
              },
              processing: %{batch_size: 100, flush_interval: 50, max_queue_size: 1000},
              vm_tracing: %{
                enable_spawn_trace: true,
                enable_exit_trace: true,
                enable_message_trace: false,
                trace_children: true
              }
            },
            storage: %{
              hot: %{max_events: 100_000, max_age_seconds: 3600, prune_interval: 60_000},
              warm: %{
                enable: false,
                path: "./elixir_scope_data",
                max_size_mb: 100,
                compression: :zstd
              },
              cold: %{enable: false}
            },
            interface: %{query_timeout: 10_000, max_results: 1000, enable_streaming: true},
            dev: %{debug_mode: false, verbose_logging: false, performance_monitoring: true}

  @type t :: %__MODULE__{
          ai: map(),
          capture: map(),
          storage: map(),
          interface: map(),
          dev: map()
        }

  @doc "The defaults."
  @spec new() :: t()
  def new, do: %__MODULE__{}

  @doc "The defaults with `overrides` merged in at every depth."
  @spec new(map()) :: t()
  def new(overrides) when is_map(overrides),
    do: struct(__MODULE__, Utils.deep_merge(Map.from_struct(new()), overrides))

  @impl Access
  defdelegate fetch(config, key), to: Map

  @impl Access
  defdelegate get_and_update(config, key, fun), to: Map

  @doc "Takes a section out; as a struct keeps its keys, nil stays in its place."
  @impl Access
  def pop(config, key), do: {Map.get(config, key), %{config | key => nil}}
end
