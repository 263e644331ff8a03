defmodule ElixirScope.Foundation.ProtectedServicesTest do
  # The functions of phases 0 to 3 of the services, with the flags on and off, in namespaces side by side.
  use ElixirScope.Foundation.FoundationCase, async: false

  alias ElixirScope.Foundation.Infrastructure

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreaker,
    CircuitBreakerRegistry,
    DatabasePool,
    FeatureFlags
  }

  @path [:ai, :provider]
  @updatable [:dev, :debug_mode]
  @reads [
    get_config_v1: &ConfigServer.get_config_v1/2,
    get_protected: &ConfigServer.get_protected/2,
    get_config_protected: &ConfigServer.get_config_protected/2,
    get_enhanced: &ConfigServer.get_enhanced/2
  ]

  setup do
    %{namespace: start_namespace(), user: make_ref()}
  end

  defp admitted(namespace, service) do
    case CircuitBreaker.stats(namespace, service) do
      {:ok, stats} -> stats.admitted
      {:error, %{error_type: :circuit_breaker_not_found}} -> :none
    end
  end

  defp break(namespace, service), do: :ok = CircuitBreaker.force_open(namespace, service)

  describe "phase 0" do
    test "asks no flag and touches no breaker", %{namespace: namespace} do
      {:ok, _} = ConfigServer.get_protected(namespace, @path)
      break(namespace, :config_server)
      assert {:ok, :mock} = ConfigServer.get(namespace, @path)
      assert {:ok, %Types.Config{}} = ConfigServer.get(namespace, [])
      assert :ok = ConfigServer.update(namespace, @updatable, true)

      put_env(:infrastructure, :nonsense)
      assert {:ok, true} = ConfigServer.get(namespace, @updatable)
    end

    test "the old functions are never limited", %{namespace: namespace} do
      for id <- 1..202, do: assert({:ok, ^id} = EventStore.store(namespace, event(id)))
      for _ <- 1..20, do: assert(:ok = ConfigServer.update(namespace, @updatable, true))
    end
  end

  describe "phase 1" do
    for {name, _read} <- @reads do
      test "#{name} gives what get gives", %{namespace: namespace} do
        read = @reads[unquote(name)]
        assert {:ok, :mock} = read.(namespace, @path)
        assert {:ok, nil} = read.(namespace, [:ai, :api_key])
        assert {:ok, %Types.Config{}} = read.(namespace, [])

        assert {:error, %Types.Error{error_type: :config_path_not_found}} =
                 read.(namespace, [:no])

        assert admitted(namespace, :config_server) == 4
        assert_raise FunctionClauseError, fn -> read.(namespace, :ai) end
      end

      test "#{name} without the flag runs in the caller and leaves the breaker alone", %{
        namespace: namespace
      } do
        flags(false, false)
        read = @reads[unquote(name)]
        assert {:ok, :mock} = read.(namespace, @path)

        assert {:error, %Types.Error{error_type: :config_path_not_found}} =
                 read.(namespace, [:no])

        assert admitted(namespace, :config_server) == :none
        terminate(namespace, :config_server, ConfigServer)
        for _ <- 1..10, do: assert({:error, %Types.Error{code: 5000}} = read.(namespace, @path))
        assert admitted(namespace, :config_server) == :none
      end
    end

    test "a caller's mistakes never open the breaker", %{namespace: namespace} do
      for _ <- 1..20 do
        {:error, _} = ConfigServer.get_protected(namespace, [:wrong])

        {:error, _} =
          ConfigServer.update_config_v2(namespace, [:wrong], 1, rate_limit: {100, 1_000})

        {:error, _} =
          ConfigServer.update_config_v2(namespace, @updatable, 1, rate_limit: {100, 1_000})

        {:error, _} = EventStore.store_protected(namespace, Types.Event.new())
      end

      assert {:ok, %{state: :closed, failed: 0}} = CircuitBreaker.stats(namespace, :config_server)
      assert {:ok, %{state: :closed, failed: 0}} = CircuitBreaker.stats(namespace, :event_store)
    end

    test "five failures open it, and calls fail without touching the service", %{
      namespace: namespace
    } do
      terminate(namespace, :config_server, ConfigServer)

      for _ <- 1..5,
          do:
            assert(
              {:error, %Types.Error{code: 5000}} = ConfigServer.get_protected(namespace, @path)
            )

      for {_name, read} <- @reads do
        assert {:error, %Error{error_type: :circuit_open, context: %{retry_after_ms: ms}}} =
                 read.(namespace, @path)

        assert ms in 1..30_000
      end

      assert admitted(namespace, :config_server) == 5
    end

    test "a probe closes it again", %{namespace: namespace} do
      :ok = CircuitBreakerRegistry.register(namespace, :config_server, reset_timeout: 1)
      {:ok, supervisor} = ProcessRegistry.lookup(namespace, {:supervisor, :services})
      :ok = Supervisor.terminate_child(supervisor, ConfigServer)
      for _ <- 1..5, do: {:error, _} = ConfigServer.get_protected(namespace, @path)
      assert {:ok, :open} = CircuitBreaker.state(namespace, :config_server)
      {:ok, _pid} = Supervisor.restart_child(supervisor, ConfigServer)
      eventually(fn -> ConfigServer.get_protected(namespace, @path) == {:ok, :mock} end)
      assert {:ok, :closed} = CircuitBreaker.state(namespace, :config_server)
    end

    test "an open breaker outlives the service, and namespaces have their own", %{
      namespace: namespace
    } do
      {:ok, _} = ConfigServer.get_protected(namespace, @path)
      break(namespace, :config_server)
      kill(namespace, :config_server)
      {:ok, _} = ServiceRegistry.wait_for_service(namespace, :config_server)

      assert {:error, %Error{error_type: :forced_open}} =
               ConfigServer.get_protected(namespace, @path)

      assert {:ok, :mock} = ConfigServer.get_protected(start_namespace(), @path)
      assert {:ok, :mock} = ConfigServer.get_protected(:production, @path)
    end

    test "off lets calls through at once, on again finds the old state", %{namespace: namespace} do
      {:ok, _} = ConfigServer.get_protected(namespace, @path)
      break(namespace, :config_server)
      flags(false, true)
      refute FeatureFlags.circuit_breaker_enabled?(namespace)
      assert {:ok, :mock} = ConfigServer.get_protected(namespace, @path)
      flags(true, true)

      assert {:error, %Error{error_type: :forced_open}} =
               ConfigServer.get_protected(namespace, @path)
    end

    test "a service that does not answer is a failure, judged by the breaker", %{
      namespace: namespace
    } do
      :ok =
        CircuitBreakerRegistry.register(namespace, :config_server,
          call_timeout: 20,
          failure_threshold: 1
        )

      {:ok, pid} = ProcessRegistry.lookup(namespace, :config_server)
      :sys.suspend(pid)
      assert {:error, %Error{error_type: :timeout}} = ConfigServer.get_protected(namespace, @path)

      assert {:error, %Error{error_type: :circuit_open}} =
               ConfigServer.get_protected(namespace, @path)

      :sys.resume(pid)
    end

    test "metrics and status of telemetry", %{namespace: namespace} do
      assert {:ok, %{retrieved_at: _}} = TelemetryService.get_metrics_protected(namespace)
      assert {:ok, %{status: :running}} = TelemetryService.status_protected(namespace)
      break(namespace, :telemetry_service)

      assert {:error, %Error{error_type: :forced_open}} =
               TelemetryService.get_metrics_protected(namespace)

      assert {:error, %Error{error_type: :forced_open}} =
               TelemetryService.status_protected(namespace)

      assert :ok = TelemetryService.emit(namespace, [:still], %{counter: 1}, %{})
      assert {:ok, %{still: %{count: 1}}} = TelemetryService.get_metrics(namespace)
      flags(false, false)
      assert {:ok, %{still: _}} = TelemetryService.get_metrics_protected(namespace)
    end
  end

  describe "phase 2" do
    test "ten updates a user, also between the two functions", %{namespace: namespace, user: user} do
      for _ <- 1..5 do
        assert :ok =
                 ConfigServer.update_config_protected(namespace, @updatable, true, %{
                   user_id: user
                 })

        assert {:ok, :ok} =
                 ConfigServer.update_config_v2(namespace, @updatable, false, user_id: user)
      end

      for refused <- [
            ConfigServer.update_config_protected(namespace, @updatable, true, %{user_id: user}),
            ConfigServer.update_config_v2(namespace, @updatable, true, user_id: user)
          ] do
        assert {:error, %Error{error_type: :rate_limited, context: %{retry_after_ms: ms}}} =
                 refused

        assert ms in 1..6_000
      end

      assert {:ok, false} = ConfigServer.get(namespace, @updatable)

      assert :ok =
               ConfigServer.update_config_protected(namespace, @updatable, true,
                 user_id: make_ref()
               )
    end

    test "a limit outlives the service", %{namespace: namespace, user: user} do
      update = fn ->
        ConfigServer.update_config_protected(namespace, @updatable, true, %{user_id: user})
      end

      for _ <- 1..10, do: :ok = update.()
      kill(namespace, :config_server)
      {:ok, _} = ServiceRegistry.wait_for_service(namespace, :config_server)
      assert {:error, %Error{error_type: :rate_limited}} = update.()
    end

    test "a refused update has spent its token", %{namespace: namespace, user: user} do
      for _ <- 1..10 do
        assert {:error, %Types.Error{error_type: :config_update_forbidden}} =
                 ConfigServer.update_config_protected(namespace, @path, :openai, %{user_id: user})
      end

      assert {:error, %Error{error_type: :rate_limited}} =
               ConfigServer.update_config_protected(namespace, @updatable, true, %{user_id: user})
    end

    test "an open breaker spends no token of an update or a store", %{
      namespace: namespace,
      user: user
    } do
      break(namespace, :config_server)
      break(namespace, :event_store)

      for id <- 1..120 do
        for refused <- [
              ConfigServer.update_config_v2(namespace, @updatable, true, user_id: user),
              EventStore.store_protected(namespace, event(id), user_id: user),
              EventStore.store_batch_protected(namespace, [event(id), event(id + 1)],
                user_id: user
              )
            ],
            do: assert({:error, %Error{error_type: :forced_open}} = refused)
      end

      :ok = CircuitBreaker.auto(namespace, :config_server)
      :ok = CircuitBreaker.auto(namespace, :event_store)

      for _ <- 1..10 do
        assert {:ok, :ok} =
                 ConfigServer.update_config_v2(namespace, @updatable, true, user_id: user)
      end

      for id <- 1..100,
          do: assert({:ok, ^id} = EventStore.store_protected(namespace, event(id), user_id: user))
    end

    test "a user must be named", %{namespace: namespace} do
      for context <- [%{}, [], nil, %{user_id: nil}, :me] do
        assert {:error, %Error{error_type: :invalid_input}} =
                 ConfigServer.update_config_protected(namespace, @updatable, true, context)
      end

      assert {:ok, false} = ConfigServer.get(namespace, @updatable)
    end

    test "without the flag nothing is counted", %{namespace: namespace, user: user} do
      flags(true, false)

      for _ <- 1..20 do
        assert :ok =
                 ConfigServer.update_config_protected(namespace, @updatable, true, %{
                   user_id: user
                 })

        assert {:ok, :ok} =
                 ConfigServer.update_config_v2(namespace, @updatable, true, user_id: user)

        assert {:ok, :mock} =
                 ConfigServer.get_enhanced(namespace, @path,
                   rate_limit: {1, 60_000},
                   rate_key: user
                 )
      end

      for id <- 1..120, do: assert({:ok, ^id} = EventStore.store_protected(namespace, event(id)))
      assert admitted(namespace, :event_store) == 120
      flags(true, true)

      assert :ok =
               ConfigServer.update_config_protected(namespace, @updatable, true, %{user_id: user})
    end

    test "without a rule in the configuration the usual one holds", %{
      namespace: namespace,
      user: user
    } do
      put_env(:infrastructure, rate_limiting: %{enabled: true})

      update = fn ->
        ConfigServer.update_config_protected(namespace, @updatable, true, %{user_id: user})
      end

      for _ <- 1..10, do: assert(:ok = update.())

      assert {:error, %Error{error_type: :rate_limited, context: %{limit: 10, window_ms: 60_000}}} =
               update.()
    end

    test "a rule of the configuration is read at call time", %{namespace: namespace, user: user} do
      put_env(:infrastructure,
        rate_limiting: [enabled: true, default_limits: [config_updates: {1, 60_000}]]
      )

      assert {:ok, :ok} =
               ConfigServer.update_config_v2(namespace, @updatable, true, user_id: user)

      assert {:error, %Error{error_type: :rate_limited, context: %{limit: 1}}} =
               ConfigServer.update_config_v2(namespace, @updatable, true, user_id: user)
    end

    test "reads have no limit unless the call gives one", %{namespace: namespace, user: user} do
      for _ <- 1..20,
          do: assert({:ok, :mock} = ConfigServer.get_enhanced(namespace, @path, user_id: user))

      opts = [rate_limit: {1, 60_000}, user_id: user]
      assert {:ok, :mock} = ConfigServer.get_enhanced(namespace, @path, opts)

      assert {:error, %Error{error_type: :rate_limited}} =
               ConfigServer.get_enhanced(namespace, @path, opts)
    end

    test "options of a wrong shape are refused", %{namespace: namespace} do
      for call <- [
            &ConfigServer.get_enhanced(namespace, @path, &1),
            &ConfigServer.update_config_v2(namespace, @updatable, true, &1),
            &EventStore.store_protected(namespace, event(1), &1),
            &EventStore.store_batch_protected(namespace, [event(1)], &1)
          ],
          opts <- [:opts, [unknown: 1], [1 | 2]] do
        assert {:error, %Error{error_type: :invalid_argument}} = call.(opts)
      end
    end

    test "events: a hundred a user, a batch costs its length", %{namespace: namespace, user: user} do
      opts = [user_id: user]
      assert {:ok, []} = EventStore.store_batch_protected(namespace, [], opts)

      assert {:ok, ids} =
               EventStore.store_batch_protected(namespace, Enum.map(1..98, &event/1), opts)

      assert ids == Enum.to_list(1..98)
      assert {:ok, 99} = EventStore.store_protected(namespace, event(99), opts)

      assert {:error, %Error{error_type: :rate_limited}} =
               EventStore.store_batch_protected(namespace, Enum.map(100..140, &event/1), opts)

      assert {:error, %Error{error_type: :never}} =
               EventStore.store_batch_protected(namespace, Enum.map(1..101, &event/1), opts)

      assert {:ok, 100} = EventStore.store_protected(namespace, event(100), user_id: make_ref())
      assert {:ok, %{events_stored: 100}} = EventStore.stats(namespace)
      break(namespace, :event_store)

      assert {:error, %Error{error_type: :forced_open}} =
               EventStore.store_protected(namespace, event(1))
    end

    test "the facade gives what the service gives", %{namespace: namespace} do
      assert {:ok, :mock} =
               Infrastructure.protected_operation(namespace, :config_server, [], fn ->
                 ConfigServer.get(namespace, @path)
               end)
    end
  end

  describe "phase 3" do
    test "without a pool", %{namespace: namespace} do
      assert {:error, %Error{error_type: :pool_not_found}} =
               ConfigServer.sync_to_database_v3(namespace, %{a: 1})

      assert {:error, %Error{error_type: :pool_not_found}} =
               ConfigServer.load_from_database_v3(:production)
    end

    test "versions are written and read back", %{namespace: namespace} do
      start_supervised!(
        {DatabasePool, path: path(), namespace: namespace, size: 2, max_overflow: 1}
      )

      assert {:error, %Error{error_type: :config_not_found}} =
               ConfigServer.load_from_database_v3(namespace)

      {:ok, config} = ConfigServer.get(namespace, [])

      assert {:ok, %{version: 1, written_at: %DateTime{}, config: ^config}} =
               ConfigServer.sync_to_database_v3(namespace, config)

      assert {:ok, %{version: 2, config: %{pid: pid}} = second} =
               ConfigServer.sync_to_database_v3(namespace, %{pid: self()})

      assert pid == self()
      assert ConfigServer.load_from_database_v3(namespace) == {:ok, second}

      for bad <- [:config, "text", [1]],
          do:
            assert(
              {:error, %Error{error_type: :invalid_input}} =
                ConfigServer.sync_to_database_v3(namespace, bad)
            )
    end

    test "writers at once get a version each", %{namespace: namespace} do
      start_supervised!(
        {DatabasePool, path: path(), namespace: namespace, size: 2, max_overflow: 1}
      )

      versions =
        1..10
        |> Task.async_stream(fn n -> ConfigServer.sync_to_database_v3(namespace, %{n: n}) end,
          timeout: 60_000
        )
        |> Enum.map(fn {:ok, {:ok, %{version: version}}} -> version end)

      assert Enum.sort(versions) == Enum.to_list(1..10)
    end

    test "namespaces that share the pool of production are apart", %{namespace: namespace} do
      start_supervised!({DatabasePool, path: path(), size: 1, max_overflow: 0})
      {:ok, %{version: 1}} = ConfigServer.sync_to_database_v3(:production, %{of: :production})
      {:ok, %{version: 1}} = ConfigServer.sync_to_database_v3(namespace, %{of: :test})

      assert {:ok, %{config: %{of: :production}}} =
               ConfigServer.load_from_database_v3(:production)
    end
  end

  defp path do
    path =
      Path.join(
        System.tmp_dir!(),
        "elixirscope-#{System.pid()}-#{System.unique_integer([:positive])}.db"
      )

    on_exit(fn -> File.rm(path) end)
    path
  end
end
