defmodule ElixirScope.Foundation.Services.EventStore.Server do
  @moduledoc false
  # The process of an EventStore. Reads are answered from its memory at once; so are changes where there is no database.
  #
  # With one, a change is a request that waits. One linked process at a time, the job, does what has gathered in one
  # transaction; when it has committed, the changes are made in memory and their callers answered.
  #
  # | job | what it does | when |
  # | --- | --- | --- |
  # | `:load` | reads the events back page by page, each taken in before the next is read | at the start, until it succeeds |
  # | `:write` | makes the changes that wait | whenever some do |
  # | `:trim` | drops the oldest events from the database | after a write that went over `max_size_mb` |

  use GenServer

  require Logger

  alias ElixirScope.Foundation.Logic.{ConfigLogic, EventLogic}
  alias ElixirScope.Foundation.Services.EventStore.Job
  alias ElixirScope.Foundation.Services.{Service, TelemetryService}

  alias ElixirScope.Foundation.Services.EventStore.{
    Changes,
    Contents,
    Errors,
    Requests,
    Retention
  }

  @stored [:foundation, :event_store, :events_stored]
  @estimated_bytes 1_000
  # Between two attempts to read the events back, and between two looks for requests that have waited too long.
  @load_again_ms 100
  @look_ms 250

  @impl true
  def init(opts) do
    case ConfigLogic.build_config(Keyword.take(opts, [:storage])) do
      {:ok, config} ->
        retention = Retention.new(config.storage)
        {:ok, fresh(Keyword.get(opts, :namespace, :production), retention)}

      {:error, error} ->
        {:stop, {:config_validation_failed, error}}
    end
  end

  defp fresh(namespace, retention) do
    state = %{
      namespace: namespace,
      retention: retention,
      started: Service.started(),
      contents: Contents.new(),
      loaded?: retention.persistence == :memory,
      # The last event that was read back: the ids are positive.
      loaded_id: 0,
      requests: Requests.new(),
      # `{pid, kind, requests}` of the process that reads or writes.
      job: nil,
      looking?: false
    }

    if state.loaded? do
      prune_later(state)
      state
    else
      Process.flag(:trap_exit, true)
      load(state)
    end
  end

  @impl true
  def handle_call(:get_status, _from, state) do
    status = %{
      status: if(state.loaded?, do: :running, else: :starting),
      persistence: state.retention.persistence,
      retention: state.retention.limits,
      compression: state.retention.compression,
      event_count: Contents.count(state.contents),
      stored_bytes: state.contents.bytes,
      next_id: state.contents.next_id
    }

    {:reply, {:ok, status}, state}
  end

  def handle_call(request, from, %{loaded?: false} = state),
    do: {:noreply, wait(state, request, from)}

  def handle_call({:get_event, id}, _from, state) do
    with :error <- Contents.fetch(state.contents, id),
         do: {:reply, {:error, Errors.not_found(id)}, state},
         else: (found -> {:reply, found, state})
  end

  def handle_call({:query_events, query}, _from, state),
    do: {:reply, EventLogic.query(Contents.all(state.contents), query), state}

  def handle_call({:get_by_correlation, correlation_id}, _from, state) do
    events = EventLogic.extract_correlation_chain(Contents.all(state.contents), correlation_id)
    {:reply, {:ok, events}, state}
  end

  def handle_call(:get_stats, _from, state) do
    count = Contents.count(state.contents)

    stats = %{
      events_stored: state.contents.stored,
      events_pruned: state.contents.pruned,
      start_time: state.started,
      current_event_count: count,
      uptime_ms: Service.since(state.started),
      memory_usage_estimate: count * @estimated_bytes
    }

    {:reply, {:ok, stats}, state}
  end

  def handle_call(change, from, state) do
    case Changes.check(change, state.retention.persistence) do
      :ok -> {:noreply, accept(change, from, state)}
      {:error, _error} = error -> {:reply, error, state}
    end
  end

  @impl true
  def handle_cast(request, %{loaded?: false} = state), do: {:noreply, wait(state, request, nil)}

  def handle_cast(change, state) do
    case Changes.check(change, state.retention.persistence) do
      :ok ->
        {:noreply, accept(change, nil, state)}

      {:error, error} ->
        Logger.warning("EventStore dropped an event: #{error.message}")
        {:noreply, state}
    end
  end

  @impl true
  def handle_info(:load, state), do: {:noreply, load(state)}

  def handle_info({:page, job, events}, %{job: {job, :load, _none}} = state) do
    now = now()

    contents =
      Enum.reduce(events, state.contents, fn {place, size, event}, contents ->
        Contents.put(contents, event, place, size, now)
      end)

    {_place, _size, last} = List.last(events)
    Job.taken_in(job)
    {:noreply, %{state | contents: contents, loaded_id: last.event_id}}
  end

  def handle_info({:EXIT, job, reason}, %{job: {job, kind, requests}} = state) do
    {:noreply, ended(kind, Job.result(reason), requests, %{state | job: nil})}
  end

  # Whoever started the service by hand, and is linked to it, takes it along.
  def handle_info({:EXIT, _pid, reason}, state) when reason != :normal,
    do: {:stop, reason, state}

  def handle_info(:look, state), do: {:noreply, look(%{state | looking?: false})}

  def handle_info(:prune, state) do
    prune_later(state)
    {:noreply, bounded(state, now())}
  end

  def handle_info(_stray, state), do: {:noreply, state}

  ## Changes

  defp accept(change, from, state) do
    if state.retention.persistence == :memory or change == {:store_batch, []} do
      {place, contents} = Contents.take_places(state.contents, Changes.size(change))
      perform({change, from, place}, %{}, now(), %{state | contents: contents})
    else
      state |> wait(change, from) |> write()
    end
  end

  # `sizes` are those of the events in the database.
  defp perform({change, from, place}, sizes, now, state) do
    {answer, contents} = Changes.perform(change, state.contents, place, sizes, now)
    emit(change, state.namespace)
    if from, do: GenServer.reply(from, answer)
    bounded(%{state | contents: contents, started: started(change, state)}, now)
  end

  defp started(:reset_state, _state), do: Service.started()
  defp started(_change, state), do: state.started

  defp emit({:store_event, event}, namespace) do
    metadata = %{event_type: event.event_type, event_id: event.event_id}
    TelemetryService.emit(namespace, @stored, %{counter: 1}, metadata)
  end

  defp emit({:store_batch, [_ | _] = events}, namespace) do
    size = length(events)
    TelemetryService.emit(namespace, @stored, %{counter: size}, %{batch_size: size})
  end

  defp emit(_nothing_stored, _namespace), do: :ok

  defp bounded(state, now),
    do: %{state | contents: Retention.apply_to(state.retention, state.contents, now)}

  # Events that nobody asks for grow old too.
  defp prune_later(state), do: Process.send_after(self(), :prune, state.retention.look_every)

  ## Requests that wait for the database

  defp wait(state, request, from),
    do: look_later(%{state | requests: Requests.add(state.requests, request, from, now())})

  defp look_later(%{looking?: false} = state) do
    Process.send_after(self(), :look, @look_ms)
    %{state | looking?: true}
  end

  defp look_later(state), do: state

  # Who has waited too long is told: that its request was not begun, or that its outcome is unknown.
  defp look(state) do
    now = now()
    {late, requests} = Requests.take_late(state.requests, now)
    refuse(late, "The database did not get to it in time; it was not done", :timeout)
    state = %{state | requests: requests, job: told(state.job, now)}
    if Requests.empty?(requests) and is_nil(state.job), do: state, else: look_later(state)
  end

  defp told({job, :write, requests}, now) do
    {late, _in_time} = Enum.split_with(requests, &late?(&1, now))
    refuse(late, "The database has not answered; the outcome is unknown", :timeout)
    {job, :write, Enum.map(requests, &if(late?(&1, now), do: put_elem(&1, 1, nil), else: &1))}
  end

  defp told(job, _now), do: job

  defp late?({request, from, at, _place}, now),
    do: from != nil and Requests.late?({request, from, at}, now)

  defp refuse(requests, message, reason) do
    error = {:error, Errors.unavailable(message, %{reason: reason})}
    {waiting, dropped} = Enum.split_with(requests, fn request -> elem(request, 1) end)
    Enum.each(waiting, fn request -> GenServer.reply(elem(request, 1), error) end)
    if dropped != [], do: Logger.warning("#{message}: #{length(dropped)} that nobody waits for")
  end

  ## Jobs

  defp load(%{namespace: namespace, retention: retention, loaded_id: loaded_id} = state),
    do: job(state, :load, [], Job.load(namespace, retention.limits.max_bytes, loaded_id))

  defp write(%{job: nil} = state) do
    if Requests.empty?(state.requests), do: state, else: write_some(state)
  end

  defp write(state), do: state

  defp write_some(state) do
    {first, rest} = Requests.take(state.requests)

    {requests, contents} =
      Enum.map_reduce(first, state.contents, fn {change, from, at}, contents ->
        {place, contents} = Contents.take_places(contents, Changes.size(change))
        {{change, from, at, place}, contents}
      end)

    changes = Enum.map(requests, fn {change, _, _, place} -> Changes.rows(change, place) end)
    pid = Job.write(state.namespace, changes, state.retention.compression)
    job(%{state | requests: rest, contents: contents}, :write, requests, pid)
  end

  defp trim(%{namespace: namespace, retention: retention} = state),
    do: job(state, :trim, [], Job.trim(namespace, retention.limits.max_bytes))

  defp job(state, kind, requests, pid), do: look_later(%{state | job: {pid, kind, requests}})

  defp ended(:write, {:ok, sizes}, requests, state) do
    now = now()

    state =
      Enum.reduce(requests, state, fn {change, from, _at, place}, state ->
        perform({change, from, place}, sizes, now, state)
      end)

    if Retention.over?(state.retention, state.contents), do: trim(state), else: write(state)
  end

  defp ended(:write, {:error, reason}, requests, state) do
    refuse(requests, "The database did not take the events", reason)
    write(state)
  end

  defp ended(:trim, {:ok, nil}, [], state), do: write(state)

  defp ended(:trim, {:ok, place}, [], state),
    do: write(%{state | contents: Contents.forget_through(state.contents, place)})

  # The next write that succeeds asks again.
  defp ended(:trim, {:error, reason}, [], state) do
    Logger.warning("EventStore could not drop its oldest events: #{inspect(reason)}")
    write(state)
  end

  # What came in the meantime is done now, in its order.
  defp ended(:load, :ok, [], state) do
    {early, requests} = Requests.take_all(state.requests)
    state = %{state | loaded?: true, requests: requests}

    Enum.reduce(early, state, fn {request, from, _at}, state ->
      case from && handle_call(request, from, state) do
        nil ->
          {:noreply, state} = handle_cast(request, state)
          state

        {:noreply, state} ->
          state

        {:reply, answer, state} ->
          GenServer.reply(from, answer)
          state
      end
    end)
  end

  # The next attempt goes on after the last page.
  defp ended(:load, {:error, reason}, [], state) do
    {early, requests} = Requests.take_all(state.requests)
    refuse(early, "The events could not be read back", reason)
    Process.send_after(self(), :load, @load_again_ms)
    %{state | requests: requests}
  end

  defp now, do: System.monotonic_time(:millisecond)
end
