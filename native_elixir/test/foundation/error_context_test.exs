defmodule ElixirScope.Foundation.ErrorContextTest do
  # What an operation was doing, row by row of section 5.
  use ExUnit.Case, async: true

  alias ElixirScope.Foundation.{Error, ErrorContext, Types}

  test "5 ErrorContext: its fields, which of them it must have, and the others' defaults" do
    assert %ErrorContext{metadata: %{}, breadcrumbs: [], parent_context: nil} =
             struct(ErrorContext)

    enforced = [operation_id: 1, module: A, function: :f, correlation_id: "c", start_time: 0]
    assert %ErrorContext{} = struct!(ErrorContext, enforced)

    for {field, _value} <- enforced,
        do:
          assert_raise(ArgumentError, fn ->
            struct!(ErrorContext, Keyword.delete(enforced, field))
          end)
  end

  describe "5 new" do
    test "has one breadcrumb, of itself" do
      assert %{module: A, function: :f, metadata: metadata, parent_context: nil} =
               context = ErrorContext.new(A, :f)

      assert metadata == %{}

      assert [%{module: A, function: :f, timestamp: _, metadata: metadata} = crumb] =
               context.breadcrumbs

      assert {map_size(crumb), metadata} == {4, %{}}
      assert byte_size(context.correlation_id) == 36
      assert context.operation_id != ErrorContext.new(A, :f).operation_id
    end

    test "takes correlation id, metadata and parent" do
      parent = ErrorContext.new(A, :f)

      assert %{correlation_id: "c", metadata: %{a: 1}, parent_context: ^parent} =
               context =
               ErrorContext.new(B, :g,
                 correlation_id: "c",
                 metadata: %{a: 1},
                 parent_context: parent
               )

      assert [%{metadata: %{a: 1}}] = context.breadcrumbs
    end
  end

  test "5 child_context: the parent's correlation id, metadata merged, one breadcrumb more" do
    parent = ErrorContext.new(A, :f, correlation_id: "c", metadata: %{a: 1, b: 1})
    assert %{metadata: %{a: 1, b: 1}} = ErrorContext.child_context(parent, B, :g)
    child = ErrorContext.child_context(parent, B, :g, %{b: 2})
    assert %{module: B, function: :g, correlation_id: "c", parent_context: ^parent} = child
    assert child.metadata == %{a: 1, b: 2}
    assert [%{module: A}, %{module: B, function: :g}] = child.breadcrumbs
    assert child.operation_id != parent.operation_id
  end

  test "5 add_breadcrumb, add_metadata: one more, and merged" do
    context = ErrorContext.new(A, :f, metadata: %{a: 1})

    assert [_, %{module: B, function: :g, metadata: none}] =
             ErrorContext.add_breadcrumb(context, B, :g).breadcrumbs

    assert none == %{}

    assert [_, %{metadata: %{step: 2}}] =
             ErrorContext.add_breadcrumb(context, B, :g, %{step: 2}).breadcrumbs

    assert ErrorContext.add_metadata(context, %{a: 2, b: 3}).metadata == %{a: 2, b: 3}
  end

  describe "5 with_context" do
    test "stands in the process dictionary during the call, and leaves the result as it is" do
      context = ErrorContext.new(A, :f)

      for result <- [:ok, nil, {:ok, 1}, {:error, :atom}, {:error, Error.new(:timeout)}] do
        assert ErrorContext.with_context(context, fn ->
                 assert Process.get(:error_context) == context
                 assert ErrorContext.get_current_context() == context
                 result
               end) == result

        assert ErrorContext.get_current_context() == nil
        refute :error_context in Process.get_keys()
      end
    end

    test "makes an exception an internal_error, with its message and the context" do
      context = ErrorContext.new(A, :f, correlation_id: "c", metadata: %{a: 1})

      assert {:error, %Error{error_type: :internal_error, correlation_id: "c"} = error} =
               ErrorContext.with_context(context, fn -> raise ArgumentError, "the original" end)

      assert error.message =~ "the original"
      assert error.context.operation_context.metadata == %{a: 1}
      assert [%{module: _, function: _, arity: _, file: _, line: _} | _] = error.stacktrace
      refute :error_context in Process.get_keys()
    end

    test "inside another one gives that one back" do
      outer = ErrorContext.new(A, :f)

      ErrorContext.with_context(outer, fn ->
        assert {:error, _} =
                 ErrorContext.with_context(ErrorContext.new(B, :g), fn -> raise "x" end)

        assert ErrorContext.get_current_context() == outer
      end)
    end

    test "lets a throw and an exit pass, and is gone afterwards" do
      context = ErrorContext.new(A, :f)
      assert catch_throw(ErrorContext.with_context(context, fn -> throw(:ball) end)) == :ball
      assert catch_exit(ErrorContext.with_context(context, fn -> exit(:out) end)) == :out
      refute :error_context in Process.get_keys()
    end
  end

  test "5 enhance_error: adds the operation to either kind of error, and takes nothing away" do
    context = ErrorContext.new(A, :f, metadata: %{a: 1}) |> ErrorContext.add_breadcrumb(B, :g)
    raw = Types.Error.new(code: 1, error_type: :x, message: "m", severity: :low, context: %{b: 2})

    for error <- [raw, Error.new(:timeout, "m", context: %{b: 2})] do
      enhanced = ErrorContext.enhance_error(error, context)
      assert {operation, %{b: 2}} = Map.pop!(enhanced.context, :operation_context)
      assert is_integer(operation.duration_ns) and operation.duration_ns >= 0

      assert Map.delete(operation, :duration_ns) == %{
               operation_id: context.operation_id,
               correlation_id: context.correlation_id,
               breadcrumbs: context.breadcrumbs,
               metadata: %{a: 1}
             }

      assert %{enhanced | context: error.context, correlation_id: nil} == error
    end
  end

  test "5 add_context: an error is enhanced, another reason becomes one, other results pass" do
    context = ErrorContext.new(A, :f)

    assert {:error, %Error{error_type: :timeout, context: %{more: 1, operation_context: %{}}}} =
             ErrorContext.add_context({:error, Error.new(:timeout)}, context, %{more: 1})

    assert {:error, %Error{context: %{original_reason: :enoent, operation_context: %{}}}} =
             ErrorContext.add_context({:error, :enoent}, context)

    for result <- [:ok, {:ok, 1}, nil],
        do: assert(ErrorContext.add_context(result, context, %{more: 1}) == result)
  end

  test "5 format_breadcrumbs: the way, and how long ago; nothing for none" do
    assert ErrorContext.format_breadcrumbs([]) == ""
    one = ErrorContext.new(A, :f)
    assert ErrorContext.format_breadcrumbs(one.breadcrumbs) =~ ~r/^A\.f \(\S+ ago\)$/
    two = ErrorContext.add_breadcrumb(one, B, :g)

    for way <- [two, two.breadcrumbs] do
      assert ErrorContext.format_breadcrumbs(way) =~ ~r/^A\.f \(\S+ ago\) -> B\.g \(\S+ ago\)$/
    end
  end

  test "5 get_operation_duration: milliseconds" do
    context = ErrorContext.new(A, :f)
    Process.sleep(10)
    duration = ErrorContext.get_operation_duration(context)
    assert duration >= 10 and duration < 60_000
  end
end
