defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Server.Shutdown do
  @moduledoc false
  # The end of a pool: those who wait for it, and what the process does when it is stopped.

  alias ElixirScope.Foundation.Infrastructure.Native
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.{Config, Server}
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.Server.{Connections, State}

  @doc "Answers `:ok` when nothing is left, or after `timeout` how much is."
  @spec await(State.t(), timeout(), GenServer.from()) :: State.t()
  def await(state, timeout, from) do
    timer =
      if timeout != :infinity, do: Process.send_after(self(), {:drain_timeout, from}, timeout)

    look(%{state | drains: [{from, timer} | state.drains]})
  end

  @doc "Answers those who wait, if nothing is left. To be called whenever a slot has become empty."
  @spec look(State.t()) :: State.t()
  def look(%State{drains: []} = state), do: state
  def look(state), do: if(State.left(state) == 0, do: answer_all(state), else: state)

  @doc "Time is up for one of them: nobody waits for a connection any longer."
  @spec give_up(State.t(), GenServer.from()) :: State.t()
  def give_up(state, from) do
    case List.keytake(state.drains, from, 0) do
      {{from, _timer}, drains} ->
        Native.pool_close(state.handle, Config.timeout_ns(:infinity))
        left = State.left(state)
        GenServer.reply(from, if(left == 0, do: :ok, else: {:left, left}))
        %{state | drains: drains}

      nil ->
        state
    end
  end

  defp answer_all(state) do
    for {from, timer} <- state.drains do
      State.in_time(timer)
      GenServer.reply(from, :ok)
    end

    %{state | drains: []}
  end

  @doc "Closes everything, first with those who hold a connection, then without them."
  @spec run(State.t()) :: State.t()
  def run(state) do
    Native.pool_close(state.handle, Config.timeout_ns(:infinity))
    state = serve(state, deadline(state.config.drain), &(State.left(&1) == 0 and &1.jobs == %{}))

    # Whoever still holds a connection loses it now: nobody would be left to close it later.
    closing = for {_, %{what: :close, place: {slot, _, _}}} <- state.jobs, do: slot
    slots = Native.pool_slots(state.handle) -- closing
    state = Enum.reduce(slots, state, &Connections.abandon(&2, &1))
    state = serve(state, deadline(state.config.close_timeout), &(&1.jobs == %{}))
    for {job, _} <- state.jobs, do: Process.exit(job, :kill)
    answer_all(state)
  end

  @doc "The same messages as in normal life, until it is done or the time is up."
  @spec serve(State.t(), integer() | :infinity, (State.t() -> boolean())) :: State.t()
  def serve(state, deadline, done?) do
    if done?.(state) do
      state
    else
      receive do
        {:"$gen_call", from, {what, _} = request} when what in [:created, :checked, :drain] ->
          state = reply(Server.handle_call(request, from, state), from)
          serve(state, deadline, done?)

        # It is given back as untested, and nobody is served again.
        {:"$gen_call", from, {:pre_ping, _, _}} ->
          GenServer.reply(from, false)
          serve(state, deadline, done?)

        {:"$gen_call", _, _} ->
          serve(state, deadline, done?)

        message ->
          {:noreply, state} = Server.handle_info(message, state)
          serve(state, deadline, done?)
      after
        wait(deadline) -> state
      end
    end
  end

  defp reply({:noreply, state}, _from), do: state

  defp reply({:reply, answer, state}, from) do
    GenServer.reply(from, answer)
    state
  end

  defp wait(:infinity), do: :infinity
  defp wait(deadline), do: max(deadline - now(), 0)

  defp deadline(ms), do: now() + ms
  defp now, do: System.monotonic_time(:millisecond)
end
