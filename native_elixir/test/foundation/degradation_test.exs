defmodule ElixirScope.Foundation.DegradationTest do
  # The services' stand-ins and the helpers, row by row of section 5.
  use ElixirScope.Foundation.FoundationCase

  alias ElixirScope.Foundation.Config.GracefulDegradation, as: ConfigFallback
  alias ElixirScope.Foundation.Events.GracefulDegradation, as: EventFallback

  @table :config_fallback_cache
  @debug [:dev, :debug_mode]

  setup do: fresh_production()

  describe "5 Config.GracefulDegradation" do
    setup do
      :ok = ConfigFallback.initialize_fallback_system()
      on_exit(&ConfigFallback.cleanup_fallback_system/0)
    end

    test "has a named public set, made and dropped as often as one likes" do
      assert %{named_table: true, protection: :public, type: :set} = Map.new(:ets.info(@table))
      assert ConfigFallback.initialize_fallback_system() == :ok
      for _ <- 1..2, do: assert(ConfigFallback.cleanup_fallback_system() == :ok)
      assert :ets.whereis(@table) == :undefined
      assert ConfigFallback.get_with_fallback([:ai, :provider]) == {:ok, :mock}
      assert ConfigFallback.update_with_fallback(@debug, true) == :ok
      assert ConfigFallback.retry_pending_updates() == :ok
      assert ConfigFallback.cleanup_expired_cache() == :ok
      assert ConfigFallback.get_cache_stats().total_entries == 0
    end

    test "keeps what was read, as a row with its time in seconds" do
      before = System.system_time(:second)
      assert ConfigFallback.get_with_fallback([:ai, :provider]) == {:ok, :mock}
      assert [{{:config_cache, [:ai, :provider]}, :mock, at}] = :ets.tab2list(@table)
      assert at in before..System.system_time(:second)
    end

    test "of a path that does not exist, or is not known while the service is down, config_unavailable" do
      assert {:error, %Error{error_type: :config_unavailable}} =
               ConfigFallback.get_with_fallback([:no])

      terminate(:production, :config_server, ConfigServer)

      assert {:error, %Error{error_type: :config_unavailable}} =
               ConfigFallback.get_with_fallback([:ai])
    end

    test "serves what was kept for 300 seconds, and drops it afterwards" do
      assert ConfigFallback.get_with_fallback([:ai, :provider]) == {:ok, :mock}
      terminate(:production, :config_server, ConfigServer)
      assert ConfigFallback.get_with_fallback([:ai, :provider]) == {:ok, :mock}
      now = System.system_time(:second)
      :ets.delete(@table, {:config_cache, [:ai, :provider]})
      :ets.insert(@table, {{:config_cache, [:young]}, :value, now - 290})
      :ets.insert(@table, {{:config_cache, [:old]}, :value, now - 301})
      :ets.insert(@table, {{:pending_update, [:old]}, :value, now - 301})
      assert ConfigFallback.get_with_fallback([:young]) == {:ok, :value}

      assert {:error, %Error{error_type: :config_unavailable}} =
               ConfigFallback.get_with_fallback([:old])

      assert ConfigFallback.cleanup_expired_cache() == :ok

      assert @table |> :ets.tab2list() |> Enum.map(&elem(&1, 0)) |> Enum.sort() ==
               [config_cache: [:young], pending_update: [:old]]
    end

    test "keeps a failed update as pending, whatever the reason, until it succeeds" do
      assert {:error, %{code: 1001}} = ConfigFallback.update_with_fallback(@debug, :wrong)

      assert {:error, %{error_type: :config_update_forbidden}} =
               ConfigFallback.update_with_fallback([:ai, :provider], :openai)

      assert [
               {{:pending_update, [:ai, :provider]}, :openai, _},
               {{:pending_update, @debug}, :wrong, _}
             ] = @table |> :ets.tab2list() |> Enum.sort()

      assert ConfigFallback.retry_pending_updates() == :ok
      assert ConfigFallback.get_cache_stats().pending_update_entries == 2

      terminate(:production, :config_server, ConfigServer)
      assert {:error, %{code: 5000}} = ConfigFallback.update_with_fallback(@debug, true)
      {:ok, supervisor} = ProcessRegistry.lookup(:production, {:supervisor, :services})
      {:ok, _pid} = Supervisor.restart_child(supervisor, ConfigServer)
      assert ConfigFallback.retry_pending_updates() == :ok
      assert Config.get(@debug) == {:ok, true}

      assert %{pending_update_entries: 1, config_cache_entries: 1, total_entries: 2} =
               ConfigFallback.get_cache_stats()
    end

    test "says how much it keeps" do
      stats = ConfigFallback.get_cache_stats()

      assert stats |> Map.keys() |> Enum.sort() ==
               ~w(config_cache_entries memory_words pending_update_entries total_entries)a

      assert %{total_entries: 0, config_cache_entries: 0, pending_update_entries: 0} = stats
      ConfigFallback.get_with_fallback([:ai])
      ConfigFallback.update_with_fallback([:ai], 1)

      assert %{total_entries: 2, config_cache_entries: 1, pending_update_entries: 1} =
               later = ConfigFallback.get_cache_stats()

      assert later.memory_words > stats.memory_words
    end
  end

  describe "5 Events.GracefulDegradation" do
    test "makes an event of anything" do
      assert %Types.Event{event_type: :spawn, data: 1} = EventFallback.new_event_safe(:spawn, 1)

      for {type, data} <- [{nil, 1}, {"spawn", 1}, {:spawn, String.duplicate("x", 2_000_000)}] do
        event = EventFallback.new_event_safe(type, data)
        assert {:ok, _id} = EventStore.store(event)
      end
    end

    test "makes a binary of any term, and back" do
      {:ok, event} = Events.new_event(:spawn, %{pid: self(), fun: &is_atom/1})

      for term <- [event, :term, %{a: make_ref()}] do
        assert binary = EventFallback.serialize_safe(term)
        assert is_binary(binary)
        assert EventFallback.deserialize_safe(binary) == {:ok, term}
      end

      for junk <- ["junk", :junk, nil],
          do:
            assert(
              {:error, %{error_type: :deserialization_failed}} =
                EventFallback.deserialize_safe(junk)
            )
    end

    test "stores and asks without an exit" do
      assert EventFallback.store_safe(event(1)) == {:ok, 1}
      assert {:ok, [%{event_id: 1}]} = EventFallback.query_safe(%{})
      assert {:error, %{code: 2002}} = EventFallback.store_safe(:no_event)
      terminate(:production, :event_store, EventStore)
      assert {:error, %{error_type: :service_unavailable}} = EventFallback.store_safe(event(1))
      assert {:error, %{error_type: :service_unavailable}} = EventFallback.query_safe(%{})
    end
  end

  describe "5 Utils" do
    test "ids, clocks and correlation ids" do
      ids = for _ <- 1..1_000, do: Utils.generate_id()
      assert Enum.all?(ids, &(is_integer(&1) and &1 > 0))
      assert ids |> Enum.uniq() |> length() == 1_000
      before = System.monotonic_time(:millisecond)
      assert Utils.monotonic_timestamp() in before..System.monotonic_time(:millisecond)

      uuid = ~r/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
      for _ <- 1..100, do: assert(Utils.generate_correlation_id() =~ uuid)
    end

    test "truncate_if_large" do
      assert Utils.truncate_if_large("small") == "small"
      assert Utils.truncate_if_large("small", 3).truncated

      assert %{truncated: true, original_size: size} =
               Utils.truncate_if_large(String.duplicate("x", 10_001))

      assert size > 10_000
    end

    test "deep_merge, get_nested, put_nested" do
      assert Utils.deep_merge(%{a: %{b: 1}, c: 1}, %{a: %{d: 2}, c: %{e: 3}}) ==
               %{a: %{b: 1, d: 2}, c: %{e: 3}}

      assert Utils.get_nested(%{a: %{b: 1}}, [:a, :b]) == 1
      assert Utils.get_nested(%{a: %{b: 1}}, [:a, :c]) == nil
      assert Utils.get_nested(%{a: %{b: 1}}, [:a, :b, :c], :default) == :default
      assert Utils.put_nested(%{a: %{b: 1}}, [:a, :c, :d], 2) == %{a: %{b: 1, c: %{d: 2}}}
    end

    test "retry: until it succeeds, or as often as asked" do
      tries = :counters.new(1, [])

      nth = fn n ->
        fn ->
          :counters.add(tries, 1, 1)
          if :counters.get(tries, 1) < n, do: {:error, :again}, else: {:ok, :done}
        end
      end

      assert Utils.retry(nth.(3), max_attempts: 3, base_delay: 1) == {:ok, :done}
      :counters.put(tries, 1, 0)
      assert Utils.retry(nth.(9), max_attempts: 2, base_delay: 1) == {:error, :again}
      assert :counters.get(tries, 1) == 2

      assert {:error, %RuntimeError{message: "no"}} =
               Utils.retry(fn -> raise "no" end, max_attempts: 2, base_delay: 1)
    end
  end
end
