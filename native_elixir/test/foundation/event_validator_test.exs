defmodule ElixirScope.Foundation.EventValidatorTest do
  # What an event must be before it is stored, by the row of section 3.
  use ElixirScope.Foundation.FoundationCase

  alias ElixirScope.Foundation.Validation.EventValidator

  test "3 EventValidator: what an event must have: 2001" do
    for {field, message} <- [
          event_id: ~r/^Event ID cannot be nil$/,
          event_type: ~r/type/i,
          timestamp: ~r/timestamp/i
        ] do
      assert {:error,
              %Types.Error{code: 2001, error_type: :validation_failed, severity: :high} = error} =
               EventValidator.validate(struct(event(1), [{field, nil}]))

      assert error.message =~ message
    end

    assert {:error, %{code: 2001, message: "Event ID cannot be nil"}} =
             EventValidator.validate(Types.Event.new())
  end

  test "3 EventValidator: of which types the fields are: 2002" do
    for {field, good, bad} <- [
          {:event_id, [1, 2 ** 80], [0, -1, 1.0, "1", :id]},
          {:event_type, [:spawn, :any_atom], ["spawn", 1]},
          {:timestamp, [0, -5, 2 ** 80], [1.0, "0", :now]},
          {:wall_time, [nil, DateTime.utc_now()], [1, "2020-01-01", ~N[2020-01-01 00:00:00]]},
          {:node, [nil, node(), :a@b], ["a@b", 1]},
          {:pid, [nil, self()], [:pid, make_ref(), 1]},
          {:correlation_id, [nil, "c", ""], [:c, 1, 'c']},
          {:parent_id, [nil, 1], [0, -1, "1", :id]}
        ] do
      for value <- good,
          do:
            assert(
              {field, value, EventValidator.validate(struct(event(1), [{field, value}]))} ==
                {field, value, :ok}
            )

      for value <- bad do
        assert {:error,
                %Types.Error{code: 2002, error_type: :type_mismatch, severity: :medium} = error} =
                 EventValidator.validate(struct(event(1), [{field, value}]))

        assert error.message =~ to_string(field)
      end
    end

    for other <- [%{}, nil, [event_id: 1]],
        do: assert({:error, %Types.Error{code: 2002}} = EventValidator.validate(other))
  end

  test "3 EventValidator: how large data may be: 2003 above 1,000,000 bytes of the external format" do
    header = :erlang.external_size("")
    just = :binary.copy("x", 1_000_000 - header)
    assert :erlang.external_size(just) == 1_000_000
    assert EventValidator.validate(event(1, data: just)) == :ok

    assert {:error,
            %Types.Error{
              code: 2003,
              error_type: :data_too_large,
              severity: :high,
              context: %{size: 1_000_001, max_size: 1_000_000}
            }} = EventValidator.validate(event(1, data: just <> "x"))
  end

  test "3 EventValidator: which event types are known; nobody asks when one is stored" do
    for type <- [
          :function_entry,
          :function_exit,
          :state_change,
          :message_send,
          :message_receive,
          :spawn,
          :exit,
          :link,
          :unlink,
          :monitor,
          :demonitor,
          :system_event,
          :custom_event,
          :config_updated,
          :config_reset
        ],
        do: assert(EventValidator.validate_event_type(type) == :ok)

    assert {:error, %Types.Error{code: 2004, error_type: :invalid_event_type}} =
             EventValidator.validate_event_type(:odd)

    for other <- ["spawn", 1],
        do:
          assert(
            {:error, %Types.Error{code: 2002, error_type: :type_mismatch}} =
              EventValidator.validate_event_type(other)
          )

    assert EventStore.store(start_namespace(), event(1, event_type: :odd)) == {:ok, 1}
  end
end
