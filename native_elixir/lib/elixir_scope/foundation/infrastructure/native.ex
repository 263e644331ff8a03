defmodule ElixirScope.Foundation.Infrastructure.Native do
  @moduledoc false
  # The NIF library's loader and nothing else: one stub a NIF. A loaded library cannot be replaced in a
  # running VM, so a new one needs a restart; all logic therefore lives in other modules, which reload freely.

  @on_load :load
  # For dev and test a library that can inject faults; the other one does not hold the code.
  @library if Mix.env() in [:dev, :test],
             do: "native/elixirscope_nif_faults",
             else: "native/elixirscope_nif"

  @doc false
  def load do
    path = :elixir_scope_foundation |> :code.priv_dir() |> library_path()

    case :erlang.load_nif(path, 0) do
      :ok -> :ok
      {:error, {reason, text}} -> {:error, explain(path, reason, text)}
    end
  end

  @doc false
  def explain(path, reason, text) do
    message =
      "cannot load the NIF library #{path}.so (#{reason}: #{text}); this is OTP " <>
        "#{:erlang.system_info(:otp_release)}, NIF version #{:erlang.system_info(:nif_version)}, on " <>
        "#{:erlang.system_info(:system_architecture)}. Run `mix compile`, or point ESCOPE_NIF_PATH to a " <>
        "library built for this machine and compile again. After an upgrade of a loaded library: restart the VM."

    :logger.error(String.to_charlist(message))
    String.to_charlist(message)
  end

  # During compilation the application is not loaded yet, so its own beam file shows the way.
  defp library_path({:error, :bad_name}) do
    __MODULE__
    |> :code.which()
    |> :filename.dirname()
    |> :filename.dirname()
    |> :filename.join('priv')
    |> library_path()
  end

  defp library_path(priv), do: :filename.join(priv, @library)

  # Library.

  def library_version, do: stub()
  def statuses, do: stub()
  def live_objects, do: stub()

  # Clocks.

  def clock_new(_now_ns), do: stub()
  def clock_set(_clock, _now_ns), do: stub()
  def clock_now(_clock), do: stub()

  # Circuit breakers.

  def breaker_defaults, do: stub()
  def breaker_new(_options, _clock, _id, _publisher), do: stub()
  def breaker_publish_to(_breaker, _publisher), do: stub()
  def breaker_acquire(_breaker), do: stub()
  def breaker_acquire_owned(_breaker), do: stub()
  def breaker_record(_breaker, _permit, _outcome), do: stub()
  def breaker_ask(_breaker), do: stub()
  def breaker_report(_breaker, _outcome), do: stub()
  def breaker_settle(_breaker), do: stub()
  def breaker_reset(_breaker), do: stub()
  def breaker_set_mode(_breaker, _mode), do: stub()
  def breaker_reconfigure(_breaker, _options), do: stub()
  def breaker_reinstall(_breaker, _options), do: stub()
  def breaker_stats(_breaker), do: stub()
  # Only in the library of MIX_ENV dev and test.
  def breaker_inject_faults(_breaker, _faults), do: stub()
  def permit_record(_permit, _outcome), do: stub()

  # Processes that work for others.

  def leash_new, do: stub()
  def leash_hold(_leash), do: stub()

  # Rate limiters.

  def limiter_new(_max_keys, _full_policy, _max_waiting, _clock), do: stub()
  def limiter_check(_limiter, _key, _limit, _window_ns, _cost), do: stub()
  def limiter_check_limit(_limiter, _key, _limit, _cost), do: stub()
  def limiter_refund_check(_limiter, _key, _measure, _cost), do: stub()
  def limiter_decide(_limiter, _key, _measure, _cost), do: stub()
  def limiter_peek(_limiter, _key, _measure), do: stub()
  def limiter_check_each(_limiter, _keys, _measure, _cost, _now_ns), do: stub()
  def limiter_check_batch(_limiter, _charges, _now_ns), do: stub()
  def limiter_check_many(_limiter, _charges), do: stub()
  def limiter_reserve(_limiter, _key, _measure, _cost, _max_wait_ns), do: stub()
  def limiter_wait(_limiter, _key, _measure, _cost, _max_wait_ns), do: stub()
  def limiter_reset(_limiter, _key, _limit), do: stub()
  def limiter_stats(_limiter), do: stub()
  def limiter_live_keys(_limiter), do: stub()
  def limiter_now(_limiter), do: stub()
  def limiter_save(_limiter, _path, _wall_ns), do: stub()
  def limiter_load(_path, _full_policy, _max_waiting, _clock, _wall_ns), do: stub()
  def limiter_header_fields(_name, _rule, _decision), do: stub()
  def limit_new(_name, _rule, _max_wait_ns), do: stub()
  def limit_change(_limiter, _limit, _rule, _strategy), do: stub()
  def limit_rule(_limit), do: stub()
  def receipt_refund(_limiter, _receipt, _amount), do: stub()
  def receipt_cancel(_limiter, _receipt), do: stub()
  def receipt_settle(_limiter, _receipt, _actual), do: stub()
  def waiter_done(_waiter), do: stub()

  # Connection pools.

  def pool_new(_options, _clock), do: stub()
  def pool_checkout(_pool, _reference, _wait, _overflow), do: stub()
  def pool_cancel(_pool), do: stub()
  def pool_checkin(_pool, _connection, _broken), do: stub()
  def pool_checkin_lease(_pool, _slot, _epoch, _broken), do: stub()
  def pool_created(_pool, _slot, _epoch, _connection), do: stub()
  def pool_create_failed(_pool, _slot, _epoch, _reason), do: stub()
  def pool_checked(_pool, _slot, _epoch, _healthy), do: stub()
  def pool_resize(_pool, _size, _max_overflow), do: stub()
  def pool_evict(_pool, _spread_ns), do: stub()
  def pool_destroyed(_pool, _slot, _epoch), do: stub()
  def pool_connection_lost(_pool, _slot), do: stub()
  def pool_connection(_pool, _slot), do: stub()
  def pool_connection_age(_pool, _slot), do: stub()
  def pool_slots(_pool), do: stub()
  def pool_last_error(_pool), do: stub()
  def pool_maintain(_pool), do: stub()
  def pool_close(_pool, _within_ns), do: stub()
  def pool_drain(_pool), do: stub()
  def pool_is_leased(_pool, _slot, _epoch), do: stub()
  def pool_stats(_pool), do: stub()
  def pool_live, do: stub()

  defp stub, do: :erlang.nif_error(:nif_not_loaded)
end
