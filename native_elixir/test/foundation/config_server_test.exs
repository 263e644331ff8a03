defmodule ElixirScope.Foundation.ConfigServerTest do
  # The functions of the configuration as the existing layer has them, row by row of section 2; see FactsTest for those
  # that a numbered fact covers.
  use ElixirScope.Foundation.FoundationCase

  import ElixirScope.Foundation.Properties

  @debug [:dev, :debug_mode]
  @updatable [
    [:ai, :planning, :performance_target],
    [:ai, :planning, :sampling_rate],
    [:capture, :processing, :batch_size],
    [:capture, :processing, :flush_interval],
    [:dev, :debug_mode],
    [:dev, :performance_monitoring],
    [:dev, :verbose_logging],
    [:interface, :max_results],
    [:interface, :query_timeout]
  ]

  setup do: fresh_production()

  describe "2 get" do
    test "of nothing and of the empty path is the whole" do
      assert {:ok, %Types.Config{} = config} = ConfigServer.get()
      assert {:ok, ^config} = ConfigServer.get([])
      assert {:ok, ^config} = Config.get([])
    end

    test "of a path that does not exist or goes below a leaf is config_path_not_found" do
      for path <- [[:no], [:ai, :no], [:ai, :provider, :below], [:ai, :api_key, :below], [nil]] do
        assert {:error,
                %Types.Error{
                  code: nil,
                  error_type: :config_path_not_found,
                  severity: :medium,
                  category: :config,
                  subcategory: :access,
                  context: %{path: ^path}
                }} = ConfigServer.get(path)
      end
    end

    test "of what is no list is a FunctionClauseError" do
      for path <- [:ai, "ai", nil, {:ai}, %{}],
          service <- [ConfigServer, Config],
          do: assert_raise(FunctionClauseError, fn -> service.get(path) end)

      assert {:ok, _config} = ConfigServer.get()
    end

    test "of any list of atoms answers" do
      names = [
        :ai,
        :planning,
        :sampling_rate,
        :dev,
        :debug_mode,
        :storage,
        :hot,
        :no,
        nil,
        :__struct__
      ]

      check_all(:proper_types.list(:proper_types.elements(names)), 200, fn path ->
        assert elem(Config.get(path), 0) in [:ok, :error]
      end)
    end
  end

  describe "2 update" do
    test "of the nine paths succeeds, and of no other" do
      assert Enum.sort(ConfigServer.updatable_paths()) == @updatable
      assert Enum.sort(Config.updatable_paths()) == @updatable

      {:ok, config} = ConfigServer.get()

      for path <- @updatable do
        {:ok, value} = ConfigServer.get(path)
        other = if is_boolean(value), do: not value, else: 1
        assert ConfigServer.update(path, other) == :ok
        assert ConfigServer.get(path) == {:ok, other}
      end

      for path <- leaves(Map.from_struct(config), []) -- @updatable do
        assert {:error,
                %Types.Error{
                  code: nil,
                  error_type: :config_update_forbidden,
                  severity: :medium,
                  category: :config,
                  subcategory: :runtime,
                  context: %{path: ^path, allowed_paths: allowed}
                }} = ConfigServer.update(path, 1)

        assert Enum.sort(allowed) == @updatable
      end

      {:ok, updated} = ConfigServer.get()

      for path <- leaves(Map.from_struct(config), []) -- @updatable do
        assert get_in(updated, path) == get_in(config, path)
      end
    end

    test "to a value that the validator refuses is the validator's error, and changes nothing" do
      {:ok, before} = ConfigServer.get()

      for {path, value, code} <- [
            {[:ai, :planning, :performance_target], -0.1, 1003},
            {[:ai, :planning, :sampling_rate], 1.1, 1004},
            {[:capture, :processing, :batch_size], 0, 1001},
            {[:capture, :processing, :flush_interval], 1.0, 1001},
            {[:interface, :query_timeout], nil, 1001},
            {[:interface, :max_results], -1, 1001},
            {@debug, :yes, 1001}
          ] do
        assert {:error, %Types.Error{code: ^code}} = ConfigServer.update(path, value)
        assert ConfigServer.get() == {:ok, before}
      end

      assert {:ok, %{updates_count: 0, last_update: nil}} = ConfigServer.status()
    end
  end

  defp leaves(map, path) do
    Enum.flat_map(map, fn {key, value} ->
      if is_map(value), do: leaves(value, path ++ [key]), else: [path ++ [key]]
    end)
  end

  test "2 validate, updatable_paths: neither needs the process" do
    terminate(:production, :config_server, ConfigServer)

    for service <- [ConfigServer, Config] do
      assert service.validate(Types.Config.new()) == :ok

      assert {:error, %Types.Error{code: 1001}} =
               service.validate(Types.Config.new(%{dev: %{debug_mode: 1}}))

      assert length(service.updatable_paths()) == 9
    end
  end

  test "2 reset: the defaults of the struct without the environment, and the counters stay" do
    put_env(:dev, debug_mode: true)
    :ok = ConfigServer.reset_state()
    assert {:ok, true} = ConfigServer.get(@debug)
    :ok = ConfigServer.update([:interface, :max_results], 5)
    :ok = ConfigServer.subscribe()
    {:ok, before} = ConfigServer.status()

    assert ConfigServer.reset() == :ok
    assert ConfigServer.get() == {:ok, %Types.Config{}}
    assert {:ok, %{updates_count: 1, subscribers_count: 1} = status} = ConfigServer.status()
    assert status.last_update == before.last_update
  end

  describe "2 reset_state" do
    test "merges the environment again, drops subscribers and counts, and tells nobody" do
      :ok = ConfigServer.subscribe()
      :ok = ConfigServer.update(@debug, true)
      assert_received {:config_notification, {:config_updated, @debug, true}}
      put_env(:dev, %{verbose_logging: true})

      assert ConfigServer.reset_state() == :ok
      refute_received {:config_notification, _news}
      assert {:ok, %{debug_mode: false, verbose_logging: true}} = ConfigServer.get([:dev])

      assert {:ok, %{updates_count: 0, last_update: nil, subscribers_count: 0}} =
               ConfigServer.status()

      :ok = ConfigServer.update(@debug, true)
      refute_received {:config_notification, _news}
    end

    test "is forbidden without test mode" do
      for mode <- [false, nil] do
        put_env(:test_mode, mode)

        assert {:error,
                %Types.Error{
                  code: 5002,
                  error_type: :operation_forbidden,
                  severity: :high,
                  category: :security,
                  subcategory: :authorization
                }} = ConfigServer.reset_state()
      end
    end
  end

  test "2 status: how long it runs, and when it last changed, in monotonic milliseconds" do
    Process.sleep(2)
    before = System.monotonic_time(:millisecond)
    :ok = ConfigServer.update(@debug, true)
    now = System.monotonic_time(:millisecond)

    assert {:ok, %{status: :running, updates_count: 1, subscribers_count: 0} = status} =
             ConfigServer.status()

    assert status.last_update in before..now
    assert status.uptime_ms >= 1
    assert Config.status() |> elem(1) |> Map.delete(:uptime_ms) == Map.delete(status, :uptime_ms)
  end

  test "2 down: each call that needs the process is service_unavailable 5000" do
    assert ConfigServer.available?() and Config.available?()
    terminate(:production, :config_server, ConfigServer)
    refute ConfigServer.available?() or Config.available?()

    for call <- [
          &ConfigServer.get/0,
          fn -> ConfigServer.get([:ai]) end,
          fn -> ConfigServer.update(@debug, true) end,
          fn -> ConfigServer.update([:ai], 1) end,
          &ConfigServer.reset/0,
          &ConfigServer.reset_state/0,
          &ConfigServer.status/0,
          &ConfigServer.subscribe/0,
          &ConfigServer.unsubscribe/0,
          &Config.get/0,
          &Config.status/0,
          fn -> Config.safe_update(@debug, true) end
        ] do
      assert {:error,
              %Types.Error{
                code: 5000,
                error_type: :service_unavailable,
                severity: :high,
                category: :system,
                subcategory: :initialization
              }} = call.()
    end

    assert ConfigServer.stop() == :ok
    assert Config.get_with_default([:ai, :provider], :default) == :default
  end

  describe "2 initialize" do
    test "is :ok when it runs, whatever the options" do
      {:ok, pid} = ProcessRegistry.lookup(:production, :config_server)
      assert ConfigServer.initialize() == :ok
      assert ConfigServer.initialize(dev: :nonsense) == :ok
      assert Config.initialize() == :ok
      assert Config.initialize(dev: %{debug_mode: true}) == :ok
      assert {:ok, ^pid} = ProcessRegistry.lookup(:production, :config_server)
      assert {:ok, false} = ConfigServer.get(@debug)
    end

    test "starts it linked to the caller when it does not run" do
      terminate(:production, :config_server, ConfigServer)
      test = self()

      {owner, monitor} =
        spawn_monitor(fn ->
          send(test, {:initialized, ConfigServer.initialize([])})
          receive do: (:end -> exit(:shutdown))
        end)

      assert_receive {:initialized, :ok}
      assert {:ok, :mock} = ConfigServer.get([:ai, :provider])
      send(owner, :end)
      assert_receive {:DOWN, ^monitor, :process, ^owner, :shutdown}
      eventually(fn -> not ConfigServer.available?() end)
    end

    test "is service_unavailable 5000 when the configuration is wrong" do
      terminate(:production, :config_server, ConfigServer)

      for service <- [ConfigServer, Config] do
        assert {:error,
                %Types.Error{
                  code: 5000,
                  error_type: :service_unavailable,
                  context: %{reason: {:config_validation_failed, %Types.Error{code: 1002}}}
                }} = service.initialize(ai: %{Types.Config.new().ai | provider: :none})
      end

      refute ConfigServer.available?()
    end
  end

  test "2 start: options replace whole sections, over the environment" do
    put_env(:dev, debug_mode: true, verbose_logging: true)
    put_env(:interface, %{max_results: 7})
    namespace = {:test, make_ref()}
    dev = %{debug_mode: false, verbose_logging: false, performance_monitoring: false}
    start_supervised!({ConfigServer, namespace: namespace, dev: dev, odd: 1})
    interface = %{%Types.Config{}.interface | max_results: 7}
    # Other options leave no trace.
    assert ConfigServer.get(namespace, []) == {:ok, %Types.Config{dev: dev, interface: interface}}
  end

  test "2 Config: what it has of the service, and what it leaves out" do
    Code.ensure_loaded!(Config)

    for function <- [
          get: 0,
          get: 1,
          update: 2,
          validate: 1,
          updatable_paths: 0,
          reset: 0,
          status: 0,
          available?: 0,
          initialize: 0,
          initialize: 1,
          subscribe: 0,
          unsubscribe: 0,
          get_with_default: 2,
          safe_update: 2
        ],
        do: assert({function, function in Config.__info__(:functions)} == {function, true})

    for function <- [reset_state: 0, stop: 0, subscribe: 1, unsubscribe: 1],
        do: assert({function, function in Config.__info__(:functions)} == {function, false})
  end

  test "2 get_with_default: the value, be it nil, or the default on any error" do
    assert Config.get_with_default([:ai, :provider], :default) == :mock
    assert Config.get_with_default([:ai, :api_key], :default) == nil
    assert Config.get_with_default([:no, :such], :default) == :default
  end

  test "2 safe_update: no list, a secret path, and otherwise as update" do
    for path <- [:dev, "dev", nil, %{}],
        do: assert({:error, %Error{error_type: :invalid_path}} = Config.safe_update(path, 1))

    for path <- [[:ai, :api_key], [:storage, :encryption_key], [:security], [:system, :node_name]],
        do: assert({:error, %Error{code: 1401}} = Config.safe_update(path, 1))

    # Exact matches only: what lies below is any other path.
    for path <- [[:security, :x], [:system], [:ai, :api_key, :x], [:ai, :provider], []] do
      assert {:error, %Types.Error{error_type: :config_update_forbidden, code: nil}} =
               Config.safe_update(path, 1)
    end

    assert {:error, %Types.Error{code: 1001}} = Config.safe_update(@debug, 1)
    assert Config.safe_update(@debug, true) == :ok
    assert Config.get(@debug) == {:ok, true}
  end
end
