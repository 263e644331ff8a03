defmodule ElixirScope.Foundation.ErrorTest do
  use ExUnit.Case, async: true
  doctest ElixirScope.Foundation.Error
  doctest ElixirScope.Foundation.Error.Catalogue

  alias ElixirScope.Foundation.{Error, Types}
  alias ElixirScope.Foundation.Error.Catalogue
  alias ElixirScope.Foundation.Infrastructure.Native

  test "has the twelve fields" do
    fields =
      ~w(category code context correlation_id error_type message recovery_actions retry_strategy severity
                stacktrace subcategory timestamp)a

    assert :timeout |> Error.new() |> Map.from_struct() |> Map.keys() |> Enum.sort() == fields
  end

  # As the table of section 5 has them.
  @catalogue [
    {1101, :invalid_config_structure, :high, :config, :structure, :immediate},
    {1102, :missing_required_field, :high, :config, :structure, :immediate},
    {1201, :invalid_config_value, :medium, :config, :validation, :no_retry},
    {1202, :constraint_violation, :medium, :config, :validation, :fixed_delay},
    {1203, :range_error, :low, :config, :validation, :fixed_delay},
    {1301, :config_not_found, :high, :config, :access, :immediate},
    {1401, :config_update_forbidden, :medium, :config, :runtime, :fixed_delay},
    {2101, :initialization_failed, :critical, :system, :initialization, :no_retry},
    {2102, :service_unavailable, :high, :system, :initialization, :immediate},
    {2201, :resource_exhausted, :high, :system, :resources, :immediate},
    {2301, :dependency_failed, :high, :system, :dependencies, :immediate},
    {2401, :internal_error, :critical, :system, :runtime, :no_retry},
    {2501, :circuit_open, :medium, :system, :protection, :fixed_delay},
    {2502, :rate_limited, :medium, :system, :protection, :fixed_delay},
    {2503, :pool_timeout, :medium, :system, :protection, :fixed_delay},
    {2504, :pool_exhausted, :medium, :system, :protection, :fixed_delay},
    {2505, :pool_not_found, :medium, :system, :protection, :fixed_delay},
    {3101, :serialization_failed, :medium, :data, :serialization, :fixed_delay},
    {3102, :deserialization_failed, :medium, :data, :serialization, :fixed_delay},
    {3201, :type_mismatch, :low, :data, :validation, :fixed_delay},
    {3202, :format_error, :low, :data, :validation, :fixed_delay},
    {3203, :validation_failed, :medium, :data, :validation, :fixed_delay},
    {3204, :invalid_input, :low, :data, :validation, :fixed_delay},
    {3301, :data_corruption, :critical, :data, :corruption, :no_retry},
    {3401, :data_not_found, :low, :data, :not_found, :fixed_delay},
    {4101, :network_error, :medium, :external, :network, :exponential_backoff},
    {4201, :external_service_error, :medium, :external, :service, :fixed_delay},
    {4301, :timeout, :medium, :external, :timeout, :exponential_backoff},
    {4401, :authentication_failed, :high, :external, :auth, :immediate},
    {9999, :nobody_knows, :medium, :unknown, :unknown, :fixed_delay}
  ]
  @delays %{
    exponential_backoff: [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000],
    fixed_delay: List.duplicate(1_000, 7),
    immediate: List.duplicate(0, 7),
    no_retry: List.duplicate(:infinity, 7)
  }

  test "5 the catalogue: number, severity, place, retry and escalation of each type" do
    for {code, type, severity, category, subcategory, strategy} <- @catalogue do
      error = Error.new(type)

      assert {error.code, error.error_type, error.severity, error.category, error.subcategory} ==
               {code, type, severity, category, subcategory}

      assert {type, error.retry_strategy} == {type, strategy}
      assert Enum.map(0..6, &Error.retry_delay(error, &1)) == @delays[strategy]
      assert Error.is_retryable?(error) == (strategy != :no_retry)
      assert Error.should_escalate?(error) == severity in [:high, :critical]
    end
  end

  test "5 Types.Error.new: raw, made now, with an empty context and no advice; the code may be nil" do
    before = DateTime.utc_now()
    error = Types.Error.new(code: nil, error_type: :odd, message: "m", severity: :low)
    assert %{code: nil, error_type: :odd, message: "m", severity: :low} = error
    assert %{context: %{}, recovery_actions: []} = error
    assert map_size(error.context) == 0
    assert DateTime.compare(error.timestamp, before) in [:gt, :eq]

    for field <- ~w(category correlation_id retry_strategy stacktrace subcategory)a,
        do: assert(Map.fetch!(error, field) == nil)

    all = [
      code: 3001,
      error_type: :not_found,
      message: "m",
      severity: :low,
      context: %{a: 1},
      correlation_id: "c",
      timestamp: ~U[2020-01-01 00:00:00Z],
      stacktrace: [],
      category: :data,
      subcategory: :retrieval,
      retry_strategy: :fixed_delay,
      recovery_actions: ["Look again"]
    ]

    assert Types.Error.new(all) == struct!(Types.Error, all)

    for module <- [Error, Types.Error] do
      assert struct(module) |> Map.from_struct() |> Map.keys() |> Enum.sort() ==
               all |> Keyword.keys() |> Enum.sort()

      for field <- [:code, :error_type, :message, :severity] do
        assert_raise ArgumentError, fn -> struct!(module, Keyword.delete(all, field)) end
      end
    end
  end

  test "5 Error.new: message, context, correlation id and stack are the caller's" do
    before = DateTime.utc_now()
    error = Error.new(:timeout, "Too slow", context: %{a: 1}, correlation_id: "c", stacktrace: [])
    assert %{message: "Too slow", context: %{a: 1}, correlation_id: "c", stacktrace: []} = error
    assert DateTime.compare(error.timestamp, before) in [:gt, :eq]
    assert %{context: context, correlation_id: nil, stacktrace: nil} = Error.new(:timeout, nil)
    assert context == %{}
    assert is_binary(Error.new(:timeout).message)
    assert {:error, %Error{error_type: :timeout}} = Error.error_result(:timeout)

    assert {:error, %Error{message: "m", context: %{a: 1}}} =
             Error.error_result(:timeout, "m", context: %{a: 1})
  end

  test "every entry has a number and a text of its own" do
    entries = Enum.map(Catalogue.types(), &Catalogue.fetch/1)
    assert entries |> Enum.map(& &1.code) |> Enum.uniq() |> length() == length(entries)
    assert entries |> Enum.map(& &1.message) |> Enum.uniq() |> length() == length(entries)
  end

  test "every status of the native core has an entry of the same name" do
    words = for {code, word} <- Native.statuses(), code != 0, do: String.to_atom(word)
    assert length(words) > 10
    assert words -- Catalogue.types() == []
  end

  test "F35 an unknown error type" do
    error = Error.new(:no_such_type)

    assert %{code: 9999, message: "Unknown error", category: :unknown, subcategory: :unknown} =
             error

    assert error.correlation_id == nil
    assert error.stacktrace == nil
    assert Error.new(:x, nil, stacktrace: []).stacktrace == []
    assert Error.new(:x, nil, correlation_id: "c").correlation_id == "c"
    deep = for line <- 1..30, do: {__MODULE__, :f, 1, [file: 'f.ex', line: line]}
    frames = Error.new(:x, nil, stacktrace: deep).stacktrace
    assert length(frames) == 10
    assert hd(frames) == %{module: __MODULE__, function: :f, arity: 1, file: 'f.ex', line: 1}
    assert Error.new(:x, nil, stacktrace: [:odd]).stacktrace == [":odd"]
  end

  test "F36 recovery actions" do
    for {type, actions} <- [
          invalid_config_value: ["Check configuration format", "Validate against schema"],
          service_unavailable: ["Check service health", "Verify network connectivity"],
          resource_exhausted: ["Check memory usage", "Scale resources if needed"],
          timeout: ["Increase timeout value", "Check network latency"],
          invalid_argument: ["Correct the argument that the message names"],
          never: ["Lower the cost", "Raise the limit"],
          no_such_type: [
            "Check logs for details",
            "Review error context",
            "Contact support if needed"
          ]
        ] do
      assert actions -- Error.new(type).recovery_actions == []
    end

    assert "Review store implementation" in Error.new(:timeout, nil, context: %{operation: :store}).recovery_actions
  end

  test "retry strategies and delays" do
    for {type, strategy, delay} <- [
          {:timeout, :exponential_backoff, 2_000},
          {:network_error, :exponential_backoff, 2_000},
          {:external_service_error, :fixed_delay, 1_000},
          {:internal_error, :no_retry, :infinity},
          {:data_corruption, :no_retry, :infinity},
          {:invalid_config_value, :no_retry, :infinity},
          {:invalid_argument, :no_retry, :infinity},
          {:never, :no_retry, :infinity},
          {:already_done, :no_retry, :infinity},
          {:pool_closed, :no_retry, :infinity},
          {:service_unavailable, :immediate, 0},
          {:circuit_open, :fixed_delay, 1_000}
        ] do
      error = Error.new(type)
      assert error.retry_strategy == strategy
      assert Error.retry_delay(error, 1) == delay
      assert Error.is_retryable?(error) == (strategy != :no_retry)
    end

    assert Error.retry_delay(Error.new(:timeout), 1_000_000) == 30_000
  end

  test "escalation" do
    assert Error.should_escalate?(Error.new(:service_unavailable))
    assert Error.should_escalate?(Error.new(:internal_error))
    refute Error.should_escalate?(Error.new(:circuit_open))
  end

  test "a refused value is shown, however long it is, in a few words" do
    for {value, shown} <- [
          {2 ** 100, "1267650600228229401496703205376"},
          # As 2 ** 10_000_000, which takes ten seconds, in which the VM loads no module.
          {Bitwise.bsl(1, 10_000_000), "an integer of more than 256 bits"},
          {-(2 ** 300), "an integer of more than 256 bits"}
        ] do
      assert %Error{message: message, context: context} = Error.refused(:limit, value, "less")
      assert message == "`limit` is #{shown}, allowed is less"
      assert context.value == value
    end

    for value <- [
          String.duplicate("x", 10_000),
          Enum.to_list(1..10_000),
          Map.new(1..99, &{&1, &1})
        ],
        do: assert(byte_size(Error.refused(:limit, value, "less").message) < 250)
  end

  test "an %Error{} keeps its type when it is wrapped" do
    {:error, wrapped} =
      Error.wrap_error({:error, Error.new(:timeout)}, :dependency_failed, "No answer",
        context: %{a: 1}
      )

    assert wrapped.error_type == :timeout

    assert %{
             wrapped_by: :dependency_failed,
             wrapper_message: "No answer",
             wrapper_context: %{a: 1}
           } = wrapped.context

    for result <- [:ok, {:ok, 1}, :error, nil, {:error, :a, :b}],
        do: assert(Error.wrap_error(result, :dependency_failed) == result)
  end

  test "5 wrap_error: any other reason becomes a new error, a Types.Error too" do
    raw = Types.Error.new(code: 3001, error_type: :not_found, message: "No", severity: :low)

    for reason <- [raw, :enoent, "text", {:a, 1}] do
      assert {:error,
              %Error{error_type: :dependency_failed, message: "Failed", code: 2301} = error} =
               Error.wrap_error({:error, reason}, :dependency_failed, "Failed", context: %{a: 1})

      assert error.context == %{a: 1, original_reason: reason}
    end
  end

  test "to_string shows a context" do
    assert Error.to_string(Error.new(:timeout, "Slow", context: %{a: 1})) ==
             "[4301:timeout] Slow | Context: %{a: 1} | Severity: medium"

    assert Error.to_string(Error.new(:nobody_knows)) ==
             "[9999:nobody_knows] Unknown error | Severity: medium"
  end
end
