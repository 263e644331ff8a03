defmodule ElixirScope.Foundation.ConfigValuesTest do
  # What a configuration holds and may hold, key by key of section 2.
  use ElixirScope.Foundation.FoundationCase

  alias ElixirScope.Foundation.Logic.ConfigLogic
  alias ElixirScope.Foundation.Validation.ConfigValidator

  @default %Types.Config{}

  # As the table of section 2 has them.
  @defaults %{
    ai: %{
      provider: :mock,
      api_key: nil,
      model: "gpt-4",
      analysis: %{max_file_size: 1_000_000, timeout: 30_000, cache_ttl: 3600},
      planning: %{default_strategy: :balanced, performance_target: 0.01, sampling_rate: 1.0}
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
  }

  @positive [
    [:ai, :analysis, :max_file_size],
    [:ai, :analysis, :timeout],
    [:ai, :analysis, :cache_ttl],
    [:capture, :ring_buffer, :size],
    [:capture, :ring_buffer, :max_events],
    [:capture, :processing, :batch_size],
    [:capture, :processing, :flush_interval],
    [:capture, :processing, :max_queue_size],
    [:storage, :hot, :max_events],
    [:storage, :hot, :max_age_seconds],
    [:storage, :hot, :prune_interval],
    [:interface, :query_timeout],
    [:interface, :max_results]
  ]
  @booleans [
    [:capture, :vm_tracing, :enable_spawn_trace],
    [:capture, :vm_tracing, :enable_exit_trace],
    [:capture, :vm_tracing, :enable_message_trace],
    [:capture, :vm_tracing, :trace_children],
    [:interface, :enable_streaming],
    [:dev, :debug_mode],
    [:dev, :verbose_logging],
    [:dev, :performance_monitoring]
  ]
  @unchecked [
    [:ai, :api_key],
    [:ai, :model],
    [:capture, :ring_buffer, :num_buffers]
  ]

  test "2 Types.Config: the sections, keys and defaults" do
    assert Map.from_struct(@default) == @defaults
    assert Types.Config.new() == @default
    # `==` takes 1 for 1.0.
    assert is_float(@default.ai.planning.sampling_rate)
    assert ConfigValidator.validate(@default) == :ok
  end

  describe "2 rules:" do
    test "integers above 0, else 1001" do
      for path <- @positive do
        for good <- [1, 2 ** 70], do: accepted(path, good)
        for bad <- [0, -1, 1.0, "1", nil, :one], do: refused(path, bad, 1001)
      end
    end

    test "booleans, else 1001" do
      for path <- @booleans do
        for good <- [true, false], do: accepted(path, good)
        for bad <- [nil, 0, 1, "true", :yes], do: refused(path, bad, 1001)
      end
    end

    test "one of some names, else 1002" do
      for {path, names} <- [
            {[:ai, :provider], [:mock, :openai, :anthropic, :gemini]},
            {[:ai, :planning, :default_strategy], [:fast, :balanced, :thorough]},
            {[:capture, :ring_buffer, :overflow_strategy], [:drop_oldest, :drop_newest, :block]}
          ] do
        for good <- names, do: accepted(path, good)
        for bad <- [nil, :other, to_string(hd(names)), 1], do: refused(path, bad, 1002)
      end
    end

    test "a target from 0 on, else 1003" do
      path = [:ai, :planning, :performance_target]
      for good <- [0, 0.0, 0.5, 7, 1.0e300], do: accepted(path, good)
      for bad <- [-1, -0.001, nil, "0.1", :fast], do: refused(path, bad, 1003)
    end

    test "a rate from 0 to 1, else 1004" do
      path = [:ai, :planning, :sampling_rate]
      for good <- [0, 0.0, 0.5, 1, 1.0], do: accepted(path, good)
      for bad <- [-0.001, 1.001, 2, nil, "1", :all], do: refused(path, bad, 1004)
    end

    test "warm storage is checked only when it is enabled" do
      for {key, bad, code} <- [
            {:path, nil, 1001},
            {:path, 'list', 1001},
            {:max_size_mb, 0, 1001},
            {:compression, :rar, 1002},
            {:compression, nil, 1002}
          ] do
        warm = Map.put(@defaults.storage.warm, key, bad)
        accepted([:storage, :warm], warm)
        refused([:storage, :warm], %{warm | enable: true}, code, [:storage, :warm, key])
      end

      for compression <- [:none, :gzip, :zstd] do
        warm = %{enable: true, path: "x", max_size_mb: 1, compression: compression}
        accepted([:storage, :warm], warm)
      end

      accepted([:storage, :warm], %{enable: false})
    end

    test "of a section that is not there: that of its first key" do
      refused([:ai], nil, 1002, [:ai, :provider])
      refused([:dev], nil, 1001, [:dev, :debug_mode])
      refused([:capture, :ring_buffer], 5, 1001, [:capture, :ring_buffer, :size])
    end

    test "cold storage is anything but false: 1001" do
      for bad <- [true, nil, :off, 0], do: refused([:storage, :cold, :enable], bad, 1001)
    end

    test "the others are unchecked, as are keys that nobody knows" do
      for path <- @unchecked, value <- [nil, 1, "text", :atom], do: accepted(path, value)
      for path <- [[:ai, :extra], [:dev, :extra], [:storage, :hot, :extra]], do: accepted(path, 1)
    end

    test "the first error wins, in the order ai, capture, storage, interface, dev" do
      wrong = [
        {[:ai, :provider], :none, 1002},
        {[:ai, :analysis, :timeout], 0, 1001},
        {[:ai, :planning, :performance_target], -1, 1003},
        {[:ai, :planning, :sampling_rate], 2, 1004},
        {[:capture, :ring_buffer, :overflow_strategy], :drop, 1002},
        {[:storage, :hot, :max_events], 0, 1001},
        {[:interface, :max_results], 0, 1001},
        {[:dev, :debug_mode], 1, 1001}
      ]

      wrong
      |> Enum.reverse()
      |> Enum.reduce(@default, fn {path, value, code}, config ->
        config = put_in(config, path, value)

        assert {:error, %{code: ^code, context: %{path: ^path}}} =
                 ConfigValidator.validate(config)

        config
      end)
    end

    defp accepted(path, value) do
      assert {path, value, ConfigValidator.validate(put_in(@default, path, value))} ==
               {path, value, :ok}
    end

    @kinds %{
      1001 => {:validation_failed, :medium},
      1002 => {:invalid_config_value, :medium},
      1003 => {:constraint_violation, :high},
      1004 => {:range_error, :high}
    }

    defp refused(path, value, code, at \\ nil) do
      {type, severity} = @kinds[code]
      at = at || path

      assert {:error, error} = ConfigValidator.validate(put_in(@default, path, value))

      assert {^path, ^value, %Types.Error{code: ^code, error_type: ^type, category: :config}} =
               {path, value, error}

      assert %{severity: ^severity, context: %{path: ^at}} = error
      assert error.message =~ Enum.join(at, ".")
    end
  end

  test "2 Types.Config.new(overrides): merged at every depth" do
    config = Types.Config.new(%{ai: %{planning: %{sampling_rate: 0.5}, model: nil}, dev: %{x: 1}})
    assert config.ai.planning == %{@defaults.ai.planning | sampling_rate: 0.5}
    assert config.ai == %{@defaults.ai | planning: config.ai.planning, model: nil}
    assert config.dev == Map.put(@defaults.dev, :x, 1)
    assert {config.capture, config.storage} == {@defaults.capture, @defaults.storage}
    assert Types.Config.new(%{}) == @default
  end

  test "2 Types.Config: Access" do
    assert @default[:ai][:planning][:sampling_rate] == 1.0
    assert get_in(@default, [:storage, :hot, :max_events]) == 100_000
    assert @default[:nothing] == nil
    changed = put_in(@default, [:dev, :debug_mode], true)
    assert changed == %Types.Config{dev: %{@defaults.dev | debug_mode: true}}
    assert update_in(changed, [:dev, :debug_mode], &not/1) == @default
    assert {%{provider: :mock}, %Types.Config{ai: nil}} = Access.pop(@default, :ai)
    assert {false, ^changed} = get_and_update_in(@default, [:dev, :debug_mode], &{&1, true})
  end

  describe "2 Logic.ConfigLogic" do
    test "updatable_paths, updatable_path?" do
      for path <- ConfigLogic.updatable_paths(), do: assert(ConfigLogic.updatable_path?(path))
      assert length(ConfigLogic.updatable_paths()) == 9

      for path <- @unchecked ++ [[], [:ai], [:dev, :debug_mode, :x], nil, "dev"],
          do: refute(ConfigLogic.updatable_path?(path))
    end

    test "update_config, get_config_value" do
      path = [:interface, :max_results]
      assert {:ok, changed} = ConfigLogic.update_config(@default, path, 7)
      assert changed == put_in(@default, path, 7)
      assert ConfigLogic.get_config_value(changed, path) == {:ok, 7}

      assert {:error, %Types.Error{code: 1001}} = ConfigLogic.update_config(@default, path, 0)

      assert {:error, %Types.Error{error_type: :config_update_forbidden}} =
               ConfigLogic.update_config(@default, [:ai, :provider], :openai)

      assert {:error, %Types.Error{error_type: :config_path_not_found}} =
               ConfigLogic.get_config_value(@default, [:no])
    end

    test "merge_env_config: keyword lists and maps at every level, unknown keys skipped" do
      for env <- [
            [ai: [planning: [sampling_rate: 0.5]], infrastructure: %{enabled: true}],
            [ai: %{planning: %{sampling_rate: 0.5}}, test_mode: true],
            [ai: [planning: %{sampling_rate: 0.5}]],
            %{ai: %{planning: [sampling_rate: 0.5]}, odd: 1}
          ] do
        assert ConfigLogic.merge_env_config(@default, env) ==
                 put_in(@default, [:ai, :planning, :sampling_rate], 0.5)
      end
    end

    test "merge_opts_config: put over whole sections" do
      dev = %{debug_mode: true}
      assert ConfigLogic.merge_opts_config(@default, dev: dev) == %Types.Config{dev: dev}
      assert ConfigLogic.merge_opts_config(@default, namespace: :production) == @default
      assert ConfigLogic.merge_opts_config(@default, []) == @default
    end

    test "build_config: environment, then options, then the validator; reset_config: neither" do
      put_env(:dev, verbose_logging: true)
      assert {:ok, %Types.Config{dev: %{verbose_logging: true}}} = ConfigLogic.build_config()

      assert ConfigLogic.build_config(dev: @defaults.dev) == {:ok, @default}
      assert {:error, %Types.Error{code: 1001}} = ConfigLogic.build_config(dev: %{})
      assert ConfigLogic.reset_config() == @default
    end

    test "diff_configs: old, new and path where they differ, and nothing else" do
      changed =
        @default
        |> put_in([:dev, :debug_mode], true)
        |> put_in([:ai, :planning, :sampling_rate], 0.5)

      assert ConfigLogic.diff_configs(@default, changed) == %{
               dev: %{debug_mode: %{old: false, new: true, path: [:dev, :debug_mode]}},
               ai: %{
                 planning: %{
                   sampling_rate: %{
                     old: 1.0,
                     new: 0.5,
                     path: [:ai, :planning, :sampling_rate]
                   }
                 }
               }
             }

      assert ConfigLogic.diff_configs(changed, changed) == %{}
    end
  end

  test "2 the environment that the existing tests configure is valid" do
    put_env(:ai,
      planning: [default_strategy: :fast, performance_target: 0.1, sampling_rate: 1.0],
      analysis: [max_file_size: 100_000, timeout: 5_000, cache_ttl: 60]
    )

    put_env(:capture, processing: [batch_size: 10, flush_interval: 10, max_queue_size: 100])
    put_env(:dev, debug_mode: false, verbose_logging: false, performance_monitoring: false)
    assert {:ok, config} = ConfigLogic.build_config()
    assert config.ai.planning.default_strategy == :fast
    assert config.ai.analysis == %{max_file_size: 100_000, timeout: 5_000, cache_ttl: 60}
    assert config.capture.processing == %{batch_size: 10, flush_interval: 10, max_queue_size: 100}
    assert config.capture.ring_buffer == @defaults.capture.ring_buffer
    refute config.dev.performance_monitoring
  end
end
