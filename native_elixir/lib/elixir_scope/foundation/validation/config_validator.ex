defmodule ElixirScope.Foundation.Validation.ConfigValidator do
  @moduledoc """
  What a configuration may hold: one table of rules, checked from top to bottom; the first that is broken is the error.

  Keys that no rule names are nobody's business here.

      iex> alias ElixirScope.Foundation.{Types.Config, Validation.ConfigValidator}
      iex> ConfigValidator.validate(Config.new())
      :ok
      iex> {:error, error} = ConfigValidator.validate(Config.new(%{ai: %{planning: %{sampling_rate: 1.5}}}))
      iex> error.message
      "`ai.planning.sampling_rate` is 1.5, allowed is a number from 0 to 1"
  """

  alias ElixirScope.Foundation.Types.{Config, Error}
  alias ElixirScope.Foundation.Utils

  @type result :: :ok | {:error, Error.t()}

  @kinds %{
    validation_failed: {1001, :medium},
    invalid_config_value: {1002, :medium},
    constraint_violation: {1003, :high},
    range_error: {1004, :high}
  }

  @sections [
    ai: [
      {[:provider], {:one_of, [:mock, :openai, :anthropic, :gemini]}},
      {[:analysis, :max_file_size], :positive},
      {[:analysis, :timeout], :positive},
      {[:analysis, :cache_ttl], :positive},
      {[:planning, :performance_target], :not_negative},
      {[:planning, :sampling_rate], :share},
      {[:planning, :default_strategy], {:one_of, [:fast, :balanced, :thorough]}}
    ],
    capture: [
      {[:ring_buffer, :size], :positive},
      {[:ring_buffer, :max_events], :positive},
      {[:ring_buffer, :overflow_strategy], {:one_of, [:drop_oldest, :drop_newest, :block]}},
      {[:processing, :batch_size], :positive},
      {[:processing, :flush_interval], :positive},
      {[:processing, :max_queue_size], :positive},
      {[:vm_tracing, :enable_spawn_trace], :boolean},
      {[:vm_tracing, :enable_exit_trace], :boolean},
      {[:vm_tracing, :enable_message_trace], :boolean},
      {[:vm_tracing, :trace_children], :boolean}
    ],
    storage: [
      {[:hot, :max_events], :positive},
      {[:hot, :max_age_seconds], :positive},
      {[:hot, :prune_interval], :positive},
      {[:warm, :enable], :boolean},
      {[:warm, :path], {:enabled, :text}},
      {[:warm, :max_size_mb], {:enabled, :positive}},
      {[:warm, :compression], {:enabled, {:one_of, [:none, :gzip, :zstd]}}},
      {[:cold, :enable], :off}
    ],
    interface: [
      {[:query_timeout], :positive},
      {[:max_results], :positive},
      {[:enable_streaming], :boolean}
    ],
    dev: [
      {[:debug_mode], :boolean},
      {[:verbose_logging], :boolean},
      {[:performance_monitoring], :boolean}
    ]
  ]

  @doc "Checks a whole configuration."
  @spec validate(term()) :: result()
  def validate(%Config{} = config),
    do:
      first_error(@sections, fn {name, rules} -> section(name, Map.get(config, name), rules) end)

  def validate(other), do: broken("config", other, :validation_failed, "a %Config{}", %{})

  for {name, rules} <- @sections do
    @doc "Checks the section `#{name}`."
    @spec unquote(:"validate_#{name}_config")(term()) :: result()
    def unquote(:"validate_#{name}_config")(section),
      do: section(unquote(name), section, unquote(Macro.escape(rules)))
  end

  defp section(name, section, rules),
    do: first_error(rules, fn {path, rule} -> check(name, section, path, rule) end)

  # These count only where their neighbour `enable` says so.
  defp check(name, section, path, {:enabled, rule}) do
    case Utils.fetch_nested(section, List.replace_at(path, -1, :enable)) do
      {:ok, true} -> check(name, section, path, rule)
      _off -> :ok
    end
  end

  defp check(name, section, path, rule) do
    value = Utils.get_nested(section, path)

    if holds?(rule, value) do
      :ok
    else
      {error_type, allowed} = describe(rule)
      path = [name | path]
      broken(Enum.join(path, "."), value, error_type, allowed, %{path: path})
    end
  end

  defp holds?(:positive, value), do: is_integer(value) and value > 0
  defp holds?(:not_negative, value), do: is_number(value) and value >= 0
  defp holds?(:share, value), do: is_number(value) and value >= 0 and value <= 1
  defp holds?(:boolean, value), do: is_boolean(value)
  defp holds?(:text, value), do: is_binary(value)
  defp holds?(:off, value), do: value == false
  defp holds?({:one_of, values}, value), do: value in values

  defp describe(:positive), do: {:validation_failed, "a positive integer"}
  defp describe(:not_negative), do: {:constraint_violation, "a number from 0 on"}
  defp describe(:share), do: {:range_error, "a number from 0 to 1"}
  defp describe(:boolean), do: {:validation_failed, "true or false"}
  defp describe(:text), do: {:validation_failed, "a string"}
  defp describe(:off), do: {:validation_failed, "false: there is no such storage yet"}

  defp describe({:one_of, values}),
    do: {:invalid_config_value, "one of " <> Enum.map_join(values, ", ", &inspect/1)}

  defp broken(name, value, error_type, allowed, context) do
    {code, severity} = Map.fetch!(@kinds, error_type)

    {:error,
     Error.new(
       code: code,
       error_type: error_type,
       message:
         "`#{name}` is #{inspect(value, limit: 10, printable_limit: 100)}, allowed is #{allowed}",
       severity: severity,
       category: :config,
       subcategory: :validation,
       context: Map.merge(context, %{value: value, allowed: allowed})
     )}
  end

  defp first_error(list, check) do
    Enum.reduce_while(list, :ok, fn item, :ok ->
      case check.(item) do
        :ok -> {:cont, :ok}
        error -> {:halt, error}
      end
    end)
  end
end
