defmodule ElixirScope.Foundation.Infrastructure.ConfigTest do
  # Not async: the application's environment is the VM's.
  use ExUnit.Case, async: false
  doctest ElixirScope.Foundation.Infrastructure.Config

  alias ElixirScope.Foundation.{Error, Infrastructure, ProcessRegistry}

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreaker,
    Config,
    FeatureFlags,
    TokenBucketLimiter
  }

  @phases Path.expand("../../fixtures/phases.exs.txt", __DIR__)

  setup do
    before = Application.get_env(:elixir_scope, :infrastructure)
    reference = make_ref()

    on_exit(fn ->
      restore(before)
      ProcessRegistry.cleanup_test_namespace(reference)
    end)

    %{namespace: {:test, reference}}
  end

  defp restore(nil), do: Application.delete_env(:elixir_scope, :infrastructure)
  defp restore(config), do: configure(config)
  defp configure(config), do: Application.put_env(:elixir_scope, :infrastructure, config)

  # The three blocks of the founding document as they stand there. In its later blocks `...` stands for the
  # entries of the block before, which the test fills in as text.
  defp phases do
    blocks =
      @phases
      |> File.read!()
      |> String.split(~r/^(?=config )/m)
      |> Enum.filter(&String.starts_with?(&1, "config :elixir_scope, :infrastructure"))

    assert length(blocks) == 3

    {texts, _known} =
      Enum.map_reduce(blocks, %{}, fn block, known ->
        text =
          Enum.reduce(known, block, fn {key, map}, text ->
            String.replace(text, "#{key}: %{...}", "#{key}: #{map}")
          end)

        {text, Map.merge(known, maps(text))}
      end)

    texts
  end

  defp maps(text) do
    {:ok, {:config, _meta, [_app, _key, entries]}} = Code.string_to_quoted(text)
    Map.new(entries, fn {key, map} -> {key, Macro.to_string(map)} end)
  end

  defp load(text) do
    path =
      Path.join(
        System.tmp_dir!(),
        "elixirscope_#{System.pid()}_#{System.unique_integer([:positive])}.exs"
      )

    File.write!(path, "import Config\n" <> text)
    [elixir_scope: [infrastructure: infrastructure]] = Elixir.Config.Reader.read!(path)
    File.rm!(path)
    infrastructure
  end

  describe "the founding document's configuration" do
    test "phase 1: circuit breakers", %{namespace: namespace} do
      configure(load(Enum.at(phases(), 0)))

      assert FeatureFlags.circuit_breaker_enabled?(namespace)
      refute FeatureFlags.rate_limiting_enabled?(namespace)
      assert {:ok, {config, services}} = Config.breakers()

      assert {config, services} ==
               {%{failure_threshold: 5, reset_timeout: 30_000, call_timeout: 5_000}, %{}}

      assert {:ok, 1} =
               Infrastructure.execute_with_protection(namespace, :config_server, fn -> 1 end)

      assert {:ok, %{admitted: 1}} = CircuitBreaker.stats(namespace, :config_server)
    end

    test "phase 2: and rate limiting", %{namespace: namespace} do
      configure(load(Enum.at(phases(), 1)))

      assert FeatureFlags.circuit_breaker_enabled?(namespace)
      assert FeatureFlags.rate_limiting_enabled?(namespace)
      assert Config.default_limit(:config_updates) == {:ok, {10, 60_000}}
      assert Config.default_limit(:event_storage) == {:ok, {100, 60_000}}

      store = fn ->
        Infrastructure.protected_operation(namespace, :event_store, [], fn -> 1 end)
      end

      for _ <- 1..100, do: assert({:ok, 1} = store.())
      assert {:error, %Error{error_type: :rate_limited}} = store.()
    end

    test "phase 3: and connection pools", %{namespace: namespace} do
      configure(load(Enum.at(phases(), 2)))

      assert FeatureFlags.circuit_breaker_enabled?(namespace)
      assert FeatureFlags.rate_limiting_enabled?(namespace)

      assert Config.section(:connection_pools) ==
               {:ok, %{database: %{size: 10, max_overflow: 5, timeout: 5_000}}}
    end

    test "equals what is shipped" do
      [elixir_scope: [infrastructure: shipped]] =
        Elixir.Config.Reader.read!(Path.expand("../../../config/config.exs", __DIR__))

      assert Map.new(shipped) == Map.new(load(List.last(phases())))
    end
  end

  describe "flags" do
    test "are off when nothing is configured" do
      Application.delete_env(:elixir_scope, :infrastructure)
      refute FeatureFlags.circuit_breaker_enabled?(:production)
      refute FeatureFlags.rate_limiting_enabled?(:production)
    end

    test "may stand in maps or keyword lists, and take effect at once" do
      for on <- [%{circuit_breakers: %{enabled: true}}, [circuit_breakers: [enabled: true]]] do
        configure(on)
        assert FeatureFlags.circuit_breaker_enabled?(:production)
        configure(circuit_breakers: %{enabled: "yes"})
        refute FeatureFlags.circuit_breaker_enabled?(:production)
      end
    end

    test "off: the operation runs in the caller, same shapes, and no breaker exists", %{
      namespace: namespace
    } do
      configure(circuit_breakers: %{enabled: false})
      me = self()
      run = &Infrastructure.execute_with_protection(namespace, :search, &1)

      assert {:ok, ^me} = run.(fn -> self() end)
      assert {:error, :down} = run.(fn -> {:error, :down} end)

      assert {:error, %Error{error_type: :protected_operation_failed}} =
               run.(fn -> raise "boom" end)

      assert {:error, %Error{error_type: :invalid_argument}} = run.(:nothing)

      assert {:error, %Error{error_type: :circuit_breaker_not_found}} =
               CircuitBreaker.state(namespace, :search)
    end

    test "off: an open breaker lets calls through, and on again it is still open", %{
      namespace: namespace
    } do
      run = fn ->
        Infrastructure.execute_with_protection(namespace, :search, fn -> {:error, :down} end)
      end

      for _ <- 1..5, do: run.()
      assert {:error, %Error{error_type: :circuit_open}} = run.()
      configure(circuit_breakers: %{enabled: false})
      assert {:error, :down} = run.()
      configure(circuit_breakers: %{enabled: true})
      assert {:error, %Error{error_type: :circuit_open}} = run.()
    end

    test "off: rates are not counted", %{namespace: namespace} do
      opts = [rate_limit: {1, 60_000}, rate_key: :user]
      run = fn -> Infrastructure.protected_operation(namespace, :search, opts, fn -> 1 end) end
      configure(circuit_breakers: %{enabled: true})
      for _ <- 1..5, do: assert({:ok, 1} = run.())
      configure(rate_limiting: %{enabled: true})
      assert {:ok, 1} = run.()
      assert {:error, %Error{error_type: :rate_limited}} = run.()
    end
  end

  describe "bad configuration" do
    # Each of these was meant to protect, so none may pass for "off".
    test "of a section is told by every call that it was to protect", %{namespace: namespace} do
      run = fn ->
        Infrastructure.execute_with_protection(namespace, :search, fn -> flunk("unprotected") end)
      end

      store = fn ->
        Infrastructure.protected_operation(namespace, :event_store, [], fn ->
          flunk("no limit")
        end)
      end

      by_key = fn ->
        options = [rate_limiter: {:event_storage, 1}]
        Infrastructure.execute_protected(:no_key, options, fn -> flunk("no limit") end)
      end

      for {config, calls, start} <- [
            {7, [run, store, by_key], "`infrastructure sections` is 7, allowed is a map"},
            {[circuit_breaker: %{enabled: true}], [run, store, by_key],
             "`infrastructure section` is :circuit_breaker, allowed is one of :circuit_breakers"},
            {[circuit_breakers: true], [run], "`circuit_breakers options` is true"},
            {[circuit_breakers: %{enable: true}], [run], "`circuit_breakers option` is :enable"},
            {[circuit_breakers: %{enabled: "yes"}], [run],
             "`enabled` is \"yes\", allowed is true or false"},
            {[rate_limiting: [1]], [store, by_key], "`rate_limiting options` is [1]"},
            {[rate_limiting: %{enabled: true, limits: %{}}], [store, by_key],
             "`rate_limiting option` is :limits, allowed is one of :algorithm, :default_limits"},
            {[rate_limiting: %{enabled: 1}], [store, by_key], "`enabled` is 1"},
            {[rate_limiting: %{enabled: true, default_limits: 5}], [store, by_key],
             "`default limits` is 5"}
          ],
          call <- calls do
        configure(config)
        assert {:error, %Error{error_type: :invalid_config_value, message: message}} = call.()
        assert String.starts_with?(message, start)
      end
    end

    # In a VM of its own: this one's application runs.
    test "of the telemetry prefix keeps the application from starting" do
      code = """
      alias ElixirScope.Foundation.Infrastructure.Telemetry
      for app <- [:crypto, :inets, :sasl], do: :ok = Application.start(app)
      for prefix <- [:mine, [:mine | :own], ["mine"]] do
        Application.put_env(:elixir_scope, :telemetry_prefix, prefix)
        {:error, {error, _start}} = Application.start(:elixir_scope_foundation)
        IO.puts(error.message)
        IO.inspect(Telemetry.prefix())
      end
      """

      ebin = Application.app_dir(:elixir_scope_foundation, "ebin")
      {output, 0} = System.cmd("elixir", ["-pa", ebin, "-e", code], stderr_to_stdout: true)
      assert output =~ "`telemetry_prefix` is :mine, allowed is a list of atoms"
      assert output =~ "`telemetry_prefix` is [:mine | :own], allowed"
      assert output =~ "`telemetry_prefix` is [\"mine\"], allowed"
      assert output =~ "[:elixir_scope, :foundation, :infra]"
    end

    test "of breakers is told by the call that needs it", %{namespace: namespace} do
      run = fn service -> CircuitBreaker.execute(namespace, service, fn -> 1 end) end

      configure(circuit_breakers: %{default_config: %{failure_treshold: 3}})
      assert {:error, %Error{error_type: :invalid_config_value, message: message}} = run.(:a)
      assert message =~ ":failure_treshold, allowed is one of :admit, :backoff, "

      configure(circuit_breakers: %{default_config: %{reset_timeout: -1}})
      assert {:error, %Error{message: "`reset_timeout` is -1" <> _}} = run.(:b)

      configure(circuit_breakers: %{default_config: 5})
      assert {:error, %Error{message: "`circuit breaker options` is 5" <> _}} = run.(:c)
      assert Infrastructure.CircuitBreakerRegistry.list(namespace) == []
    end

    test "of the limiter is told by the call that needs it", %{namespace: namespace} do
      check = fn -> TokenBucketLimiter.check_rate_limit(:key, 1, 1, namespace: namespace) end

      for {config, start} <- [
            {%{max_keys: 0}, "`max_keys` is 0, allowed is 1 to"},
            {%{max_keys: 2 ** 70}, "`max_keys` is 1180591620717411303424"},
            {%{max_keys: "many"}, "`max_keys` is \"many\""},
            {%{algorithm: :sliding_window},
             "`algorithm` is :sliding_window, allowed is :token_bucket"}
          ] do
        configure(rate_limiting: config)
        assert {:error, %Error{error_type: :invalid_config_value, message: message}} = check.()
        assert String.starts_with?(message, start)
      end
    end

    test "a default limit that is none", %{namespace: namespace} do
      configure(rate_limiting: %{enabled: true, default_limits: %{event_storage: 100}})

      assert {:error, %Error{message: "`rate_limit` is 100" <> _}} =
               Infrastructure.protected_operation(namespace, :event_store, [], fn -> 1 end)

      assert {:error, %Error{message: "`rate_limit` is :no_rule" <> _}} =
               Infrastructure.protected_operation(
                 namespace,
                 :search,
                 [rate_limit: :no_rule],
                 fn -> 1 end
               )
    end
  end
end
