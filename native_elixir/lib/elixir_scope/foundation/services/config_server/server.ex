defmodule ElixirScope.Foundation.Services.ConfigServer.Server do
  @moduledoc false
  # The process of a ConfigServer. What a configuration may be is decided in `ConfigLogic`; this one holds the current
  # one and tells of changes.

  use GenServer

  alias ElixirScope.Foundation.Logic.{ConfigLogic, EventLogic}
  alias ElixirScope.Foundation.Services.{ConfigServer, EventStore, Service, TelemetryService}

  @impl true
  def init(opts) do
    case ConfigLogic.build_config(opts) do
      {:ok, config} -> {:ok, fresh(Keyword.get(opts, :namespace, :production), config)}
      {:error, error} -> {:stop, {:config_validation_failed, error}}
    end
  end

  defp fresh(namespace, config) do
    %{
      namespace: namespace,
      config: config,
      # pid => monitor
      subscribers: %{},
      started: Service.started(),
      updates_count: 0,
      last_update: nil
    }
  end

  @impl true
  def handle_call(:get_config, _from, state), do: {:reply, {:ok, state.config}, state}

  def handle_call({:get_config_path, path}, _from, state),
    do: {:reply, ConfigLogic.get_config_value(state.config, path), state}

  # Without an id, of somebody who speaks to the process itself.
  def handle_call({:update_config, path, value}, from, state),
    do: handle_call(ConfigServer.update_request(path, value), from, state)

  def handle_call({:update_config, path, value, update}, _from, state) do
    case ConfigLogic.update_config(state.config, path, value) do
      {:ok, config} -> {:reply, :ok, updated(state, config, path, value, update)}
      {:error, _error} = error -> {:reply, error, state}
    end
  end

  def handle_call(:reset_config, _from, state) do
    config = ConfigLogic.reset_config()
    notify(state, {:config_reset, config})

    record(state, :config_reset, %{
      timestamp: DateTime.utc_now(),
      reset_from_updates_count: state.updates_count
    })

    count(state, [:foundation, :config_resets], %{})
    {:reply, :ok, %{state | config: config}}
  end

  def handle_call(:reset_state, _from, state) do
    case ConfigLogic.build_config() do
      {:ok, config} ->
        Enum.each(state.subscribers, fn {_pid, monitor} ->
          Process.demonitor(monitor, [:flush])
        end)

        {:reply, :ok, fresh(state.namespace, config)}

      {:error, _error} = error ->
        {:reply, error, state}
    end
  end

  def handle_call({:subscribe, pid}, _from, state) do
    subscribers = Map.put_new_lazy(state.subscribers, pid, fn -> Process.monitor(pid) end)
    {:reply, :ok, %{state | subscribers: subscribers}}
  end

  def handle_call({:unsubscribe, pid}, _from, state), do: {:reply, :ok, forget(state, pid)}

  def handle_call(:get_status, _from, state) do
    status = %{
      status: :running,
      uptime_ms: Service.since(state.started),
      updates_count: state.updates_count,
      last_update: state.last_update,
      subscribers_count: map_size(state.subscribers)
    }

    {:reply, {:ok, status}, state}
  end

  @impl true
  def handle_info({:DOWN, _monitor, :process, pid, _reason}, state),
    do: {:noreply, forget(state, pid)}

  def handle_info(_stray, state), do: {:noreply, state}

  defp forget(state, pid) do
    {monitor, subscribers} = Map.pop(state.subscribers, pid)
    if monitor, do: Process.demonitor(monitor, [:flush])
    %{state | subscribers: subscribers}
  end

  # An update may be asked again whose first process died with it, told or not. Here it is a change: subscribers, who are
  # this process's own, are told. For the world it is the same one: its event has the same id, and it is counted once.
  defp updated(state, config, path, value, {id, counted}) do
    notify(state, {:config_updated, path, value})

    data = %{
      path: path,
      new_value: value,
      # As a result, `{:ok, old}`: readers of the event know it so.
      previous_value: ConfigLogic.get_config_value(state.config, path),
      timestamp: DateTime.utc_now()
    }

    record(state, :config_updated, data, event_id: id)

    if :atomics.exchange(counted, 1, 1) == 0,
      do: count(state, [:foundation, :config_updates], %{path: path})

    %{
      state
      | config: config,
        updates_count: state.updates_count + 1,
        last_update: System.monotonic_time(:millisecond)
    }
  end

  defp notify(state, news),
    do:
      Enum.each(state.subscribers, fn {pid, _monitor} ->
        send(pid, {:config_notification, news})
      end)

  defp record(state, event_type, data, opts \\ []) do
    {:ok, event} = EventLogic.create_event(event_type, data, opts)
    EventStore.store_async(state.namespace, event)
  end

  defp count(state, name, metadata),
    do: TelemetryService.emit(state.namespace, name, %{counter: 1}, metadata)
end
