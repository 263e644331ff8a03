defmodule ElixirScope.Foundation.ErrorTest do
  use ExUnit.Case, async: true
  doctest ElixirScope.Foundation.Error
  doctest ElixirScope.Foundation.Error.Catalogue

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Error.Catalogue
  alias ElixirScope.Foundation.Infrastructure.Native

  test "has the twelve fields" do
    fields =
      ~w(category code context correlation_id error_type message recovery_actions retry_strategy severity
                stacktrace subcategory timestamp)a

    assert :timeout |> Error.new() |> Map.from_struct() |> Map.keys() |> Enum.sort() == fields
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

    assert Error.wrap_error(:ok, :dependency_failed) == :ok
  end

  test "to_string shows a context" do
    assert Error.to_string(Error.new(:timeout, "Slow", context: %{a: 1})) ==
             "[4301:timeout] Slow | Context: %{a: 1} | Severity: medium"
  end
end
