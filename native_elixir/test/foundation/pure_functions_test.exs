defmodule ElixirScope.Foundation.PureFunctionsTest do
  # The functions of values behind the services, by themselves: validation by section, clocks, metrics as text.
  use ElixirScope.Foundation.FoundationCase, async: true

  alias ElixirScope.Foundation.Infrastructure.OpenMetrics
  alias ElixirScope.Foundation.Validation.ConfigValidator

  @default %Types.Config{}

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
