defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerClassificationTest do
  # What an operation's end counts as, by the options of a breaker and of a call.
  use ExUnit.Case, async: true

  alias ElixirScope.Foundation.{Error, Logic, ProcessRegistry, Types}
  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, CircuitBreakerRegistry}

  @outcomes [:succeeded, :failed, :ignored, :cancelled]

  setup do
    reference = make_ref()
    on_exit(fn -> ProcessRegistry.cleanup_test_namespace(reference) end)
    %{namespace: {:test, reference}}
  end

  # What one call was counted as.
  defp counted(namespace, operation, options) do
    service = :"s#{System.unique_integer([:positive])}"
    :ok = CircuitBreakerRegistry.register(namespace, service, call_timeout: :infinity)
    result = CircuitBreaker.execute(namespace, service, operation, options)
    {:ok, stats} = CircuitBreaker.stats(namespace, service)
    assert stats.admitted == 1
    {result, Enum.find(@outcomes, &(stats[&1] == 1))}
  end

  for {name, operation, options, counted} <- [
        {"an atom", quote(do: {:error, :enoent}), [ignore: [:enoent]], :ignored},
        {"another atom", quote(do: {:error, :eio}), [ignore: [:enoent]], :failed},
        {"the first of a longer tuple", quote(do: {:error, :enoent, "path"}), [ignore: [:enoent]],
         :ignored},
        {"the first of a tuple", quote(do: {:error, {:enoent, "path"}}), [ignore: [:enoent]],
         :ignored},
        {"a bare error", quote(do: :error), [ignore: [:error]], :ignored},
        {"an Error's type", quote(do: Error.error_result(:not_found)), [ignore: [:not_found]],
         :ignored},
        {"the type of a service's error",
         quote(do: Logic.ConfigLogic.get_config_value(Types.Config.new(), [:no])),
         [ignore: [:config_path_not_found]], :ignored},
        {"an exception", quote(do: raise("no")), [ignore: [RuntimeError]], :ignored},
        {"an exception as a value", quote(do: {:error, %RuntimeError{}}),
         [ignore: [RuntimeError]], :ignored},
        {"an Erlang error", quote(do: :erlang.error(:badarg)), [ignore: [ArgumentError]],
         :ignored},
        {"an exit", quote(do: exit({:noproc, {GenServer, :call, []}})), [ignore: [:noproc]],
         :ignored},
        {"a throw", quote(do: throw(:ball)), [ignore: [:ball]], :ignored},
        {"a failure by name", quote(do: {:error, :down}), [failure?: [:down]], :failed},
        {"an error that is none", quote(do: {:error, :typo}), [failure?: [:down]], :succeeded},
        {"ignored before failed", quote(do: {:error, :down}),
         [failure?: [:down], ignore: [:down]], :ignored},
        {"a success whatever the lists say", quote(do: :down),
         [failure?: [:down], ignore: [:down]], :succeeded}
      ] do
    test "by list: #{name}", %{namespace: namespace} do
      operation = fn -> unquote(operation) end
      {_result, counted} = counted(namespace, operation, unquote(options))
      assert counted == unquote(counted)
    end
  end

  test "by functions of the reason", %{namespace: namespace} do
    options = [failure?: &(&1 == {:http, 500}), ignore: &match?({:http, 404}, &1)]

    for {status, counted} <- [{500, :failed}, {404, :ignored}, {400, :succeeded}] do
      result = {:error, {:http, status}}
      assert counted(namespace, fn -> result end, options) == {result, counted}
    end
  end

  test "by one function of the ending", %{namespace: namespace} do
    me = self()

    classify = fn ending ->
      send(me, {:ending, ending})
      receive do: ({:say, outcome} -> outcome)
    end

    for {operation, ending, outcome, counted} <- [
          {fn -> 7 end, 7, :failure, :failed},
          {fn -> {:ok, 7} end, {:ok, 7}, :slow, :succeeded},
          {fn -> {:error, :x} end, {:error, :x}, :success, :succeeded},
          {fn -> raise "boom" end, {:raise, %RuntimeError{message: "boom"}}, :cancelled,
           :cancelled},
          {fn -> throw(:ball) end, {:throw, :ball}, :ignored, :ignored},
          {fn -> exit(:bye) end, {:exit, :bye}, :success, :succeeded}
        ] do
      send(me, {:say, outcome})
      assert {_result, ^counted} = counted(namespace, operation, classify: classify)
      assert_received {:ending, ^ending}
    end
  end

  test "the result does not depend on what it counts as", %{namespace: namespace} do
    assert {{:ok, 7}, :failed} = counted(namespace, fn -> 7 end, classify: fn _ -> :failure end)

    assert {{:error, %Error{error_type: :protected_operation_failed}}, :succeeded} =
             counted(namespace, fn -> raise "x" end, classify: fn _ -> :success end)
  end

  test "R15 a classification that crashes is a failure, applied once", %{namespace: namespace} do
    assert {{:error, %Error{context: %{cause: %RuntimeError{message: "judge"}}}}, :failed} =
             counted(namespace, fn -> 7 end, classify: fn _ -> raise "judge" end)

    assert {{:error, %Error{message: message}}, :failed} =
             counted(namespace, fn -> 7 end, classify: fn _ -> :great end)

    assert message =~ "`classify` returned :great, allowed is :success"

    assert {{:error, %Error{context: %{kind: :throw}}}, :failed} =
             counted(namespace, fn -> {:error, 1} end, ignore: fn _ -> throw(:judge) end)
  end

  test "a breaker has its own, and a call's take their place", %{namespace: namespace} do
    :ok = CircuitBreakerRegistry.register(namespace, :files, ignore: [:enoent])
    for _ <- 1..9, do: CircuitBreaker.execute(namespace, :files, fn -> {:error, :enoent} end)
    assert {:ok, %{ignored: 9, failed: 0}} = CircuitBreaker.stats(namespace, :files)

    run = &CircuitBreaker.execute(namespace, :files, fn -> {:error, :enoent} end, &1)
    assert {:error, :enoent} = run.(failure?: [:enoent])
    assert {:error, :enoent} = run.(call_timeout: :infinity)
    assert {:ok, %{ignored: 10, failed: 1}} = CircuitBreaker.stats(namespace, :files)
  end

  test "an operation that takes too long is a failure, whatever classifies", %{
    namespace: namespace
  } do
    options = [call_timeout: 1, classify: fn _ -> :success end]
    sleep = fn -> Process.sleep(:infinity) end
    assert {{:error, %Error{error_type: :timeout}}, :failed} = counted(namespace, sleep, options)
  end

  for {options, message} <- [
        {[classify: :no], "`classify` is :no, allowed is a function of the result"},
        {[ignore: "x"], "`ignore` is \"x\", allowed is a list of error types"},
        {[failure?: ["x"]], "`failure?` is [\"x\"], allowed is a list of error types"},
        {[call_timeout: 0], "`call_timeout` is 0, allowed is 1 to"},
        {[reset_timeout: 1],
         "`option of a call` is :reset_timeout, allowed is one of :call_timeout"},
        {:none, "`options of a call` is :none, allowed is a map or a keyword list"}
      ] do
    test "options #{inspect(options)} are refused", %{namespace: namespace} do
      options = unquote(Macro.escape(options))
      result = CircuitBreaker.execute(namespace, :refused, fn -> flunk("it ran") end, options)
      assert {:error, %Error{error_type: :invalid_config_value, message: text}} = result
      assert String.starts_with?(text, unquote(message))
    end
  end

  test "classify stands alone", %{namespace: namespace} do
    options = [classify: fn _ -> :success end, ignore: []]
    assert {:error, error} = CircuitBreaker.execute(namespace, :both, fn -> 1 end, options)
    assert error.message =~ "`classify` is #Function"
    assert error.message =~ "absent where failure? or ignore is given"
  end
end
