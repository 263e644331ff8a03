defmodule ElixirScope.Foundation.PureFunctionsTest do
  # The functions of values behind the services, by themselves: logic, validation by section, access, clocks.
  use ElixirScope.Foundation.FoundationCase, async: true

  alias ElixirScope.Foundation.Infrastructure.OpenMetrics
  alias ElixirScope.Foundation.Logic.{ConfigLogic, EventLogic}
  alias ElixirScope.Foundation.Validation.ConfigValidator

  @default %Types.Config{}

  test "paths that may change, and those that may not" do
    assert length(ConfigLogic.updatable_paths()) == 9
    assert Enum.all?(ConfigLogic.updatable_paths(), &ConfigLogic.updatable_path?/1)

    for path <- [[], [:ai], [:ai, :provider], [:dev, :debug_mode, :x], nil, "dev"],
        do: refute(ConfigLogic.updatable_path?(path))
  end

  test "the environment is merged, options replace" do
    env = [ai: [planning: %{sampling_rate: 0.5}], infrastructure: %{}, dev: %{debug_mode: true}]
    merged = ConfigLogic.merge_env_config(@default, env)
    assert merged.ai.planning == %{@default.ai.planning | sampling_rate: 0.5}
    assert merged.dev == %{@default.dev | debug_mode: true}
    assert merged.storage == @default.storage
    assert ConfigLogic.merge_env_config(@default, Map.new(env)) == merged

    replaced = ConfigLogic.merge_opts_config(merged, ai: %{provider: :openai}, namespace: :x)
    assert replaced.ai == %{provider: :openai}
    assert %{replaced | ai: merged.ai} == merged
    assert ConfigLogic.reset_config() == Types.Config.new()
  end

  test "each section is checked by itself" do
    checks = [
      ai: {&ConfigValidator.validate_ai_config/1, [:provider], :none, :invalid_config_value},
      capture:
        {&ConfigValidator.validate_capture_config/1, [:ring_buffer, :size], -1,
         :validation_failed},
      storage:
        {&ConfigValidator.validate_storage_config/1, [:hot, :max_events], 0, :validation_failed},
      interface:
        {&ConfigValidator.validate_interface_config/1, [:max_results], "1", :validation_failed},
      dev: {&ConfigValidator.validate_dev_config/1, [:debug_mode], nil, :validation_failed}
    ]

    for {section, {check, path, wrong, type}} <- checks do
      good = Map.fetch!(@default, section)
      assert check.(good) == :ok
      assert {:error, %Types.Error{error_type: ^type}} = check.(put_in(good, path, wrong))
      assert {:error, %Types.Error{}} = check.(nil)
    end
  end

  test "a configuration is read and written by Access" do
    assert @default[:ai][:provider] == :mock
    assert put_in(@default, [:ai, :provider], :openai).ai.provider == :openai
    assert {%{provider: :mock}, %Types.Config{ai: nil}} = Access.pop(@default, :ai)
    assert {%{provider: :mock}, %{ai: nil}} = Types.Config.pop(@default, :ai)
  end

  test "events of calls and states" do
    {:ok, entry} = EventLogic.create_function_entry(Enum, :map, 2, [1, 2], caller_line: 7)
    assert %{module: Enum, function: :map, arity: 2, args: [1, 2], caller_line: 7} = entry.data

    {:ok, leave} =
      EventLogic.create_function_exit(Enum, :map, 2, entry.data.call_id, [3], 5, :normal)

    assert leave.data.call_id == entry.data.call_id
    assert %{result: [3], duration_ns: 5, exit_reason: :normal} = leave.data

    for {before, later, diff} <- [{1, 2, :changed}, {1, 1, :no_change}] do
      {:ok, change} =
        EventLogic.create_state_change(self(), :handle_call, before, later, trigger_call_id: 9)

      assert %{state_diff: ^diff, trigger_call_id: 9, server_pid: pid} = change.data
      assert pid == self()
    end

    large = String.duplicate("x", 15_000)
    {:ok, entry} = EventLogic.create_function_entry(Enum, :map, 1, [large])
    assert %{truncated: true, original_size: size, preview: _, timestamp: _} = entry.data.args
    assert size > 15_000

    {:ok, binary} = EventLogic.serialize_event(entry)
    assert EventLogic.calculate_serialized_size(entry) == {:ok, byte_size(binary)}
  end

  test "a range of time holds both its ends" do
    events = for id <- 1..9, do: event(id, timestamp: id)
    found = EventLogic.filter_by_time_range(events, 3, 5)
    assert Enum.map(found, & &1.timestamp) == [3, 4, 5]
    assert EventLogic.filter_by_time_range(events, 5, 3) == []
  end

  test "clocks have the units that they say" do
    assert_in_delta Utils.monotonic_timestamp(), System.monotonic_time(:millisecond), 60_000
    assert_in_delta Utils.wall_timestamp(), System.system_time(:nanosecond), 60_000_000_000
  end

  test "a namespace is ready when its three services are" do
    {:test, reference} = start_namespace()
    assert TestSupervisor.wait_for_services_ready(reference) == :ok
    assert TestSupervisor.wait_for_services_ready(make_ref(), 20) == {:error, :timeout}
  end

  test "the text of metrics is of the type that its format asks for" do
    assert OpenMetrics.content_type() ==
             "application/openmetrics-text; version=1.0.0; charset=utf-8"
  end
end
