defmodule ElixirScope.Foundation.ServiceRegistry do
  @moduledoc """
  Finds services as `ElixirScope.Foundation.ProcessRegistry` does, with errors that say what was looked for, health
  checks and events.

  Look-ups and registrations are told as `[:elixir_scope, :foundation, :registry, :lookup]` (`%{duration}`, native time
  units) and `[..., :register]` (`%{count: 1}`), with `%{namespace, service, result}`, where `:telemetry` is loaded.

      iex> alias ElixirScope.Foundation.ServiceRegistry
      iex> {:ok, pid} = ServiceRegistry.lookup(:production, :config_server)
      iex> ServiceRegistry.health_check(:production, :config_server, health_check: &Process.alive?/1) == {:ok, pid}
      true
      iex> {:error, error} = ServiceRegistry.lookup(:production, :nobody)
      iex> error.error_type
      :service_not_found
  """

  alias ElixirScope.Foundation.Infrastructure.Telemetry
  alias ElixirScope.Foundation.{ProcessRegistry, TaskSupervisor}
  alias ElixirScope.Foundation.Services.Service
  alias ElixirScope.Foundation.Types.Error

  @event [:elixir_scope, :foundation, :registry]
  @poll_ms 10

  @type namespace :: ProcessRegistry.namespace()
  @type service_name :: ProcessRegistry.service_name()

  @doc "Registers a process; see `ElixirScope.Foundation.ProcessRegistry.register/3`."
  @spec register(namespace(), service_name(), pid()) :: :ok | {:error, term()}
  def register(namespace, service, pid) do
    result = ProcessRegistry.register(namespace, service, pid)
    told(:register, %{count: 1}, namespace, service, result)
    result
  end

  @doc "Forgets a name."
  @spec unregister(namespace(), service_name()) :: :ok
  defdelegate unregister(namespace, service), to: ProcessRegistry

  @doc "The living process of this name."
  @spec lookup(namespace(), service_name()) :: {:ok, pid()} | {:error, Error.t()}
  def lookup(namespace, service) do
    started = System.monotonic_time()
    result = ProcessRegistry.lookup(namespace, service)
    told(:lookup, %{duration: System.monotonic_time() - started}, namespace, service, result)
    with :error <- result, do: {:error, not_found(namespace, service)}
  end

  @doc "The names of a namespace."
  @spec list_services(namespace()) :: [service_name()]
  defdelegate list_services(namespace), to: ProcessRegistry

  @doc """
  Whether a service is there and passes the check of `opts[:health_check]`, a function of its pid that says `:ok`,
  `{:ok, _}` or `true`. The check has `opts[:timeout]` milliseconds (5,000) and runs in a process of its own.

  Errors: that of the look-up, `:process_dead`, `:health_check_timeout`, `{:health_check_failed, what_it_said}`,
  `{:health_check_error, exception}`, `{:health_check_crashed, reason}`.
  """
  @spec health_check(namespace(), service_name(), keyword()) :: {:ok, pid()} | {:error, term()}
  def health_check(namespace, service, opts \\ []) do
    with {:ok, pid} <- lookup(namespace, service),
         :ok <- check(pid, opts[:health_check], Keyword.get(opts, :timeout, 5_000)),
         do: if(Process.alive?(pid), do: {:ok, pid}, else: {:error, :process_dead})
  end

  defp check(_pid, nil, _timeout), do: :ok

  defp check(pid, health_check, timeout) do
    task = Task.Supervisor.async_nolink(TaskSupervisor, fn -> checked(health_check, pid) end)

    case Task.yield(task, timeout) || Task.shutdown(task, :brutal_kill) do
      {:ok, verdict} -> verdict
      {:exit, reason} -> {:error, {:health_check_crashed, reason}}
      nil -> {:error, :health_check_timeout}
    end
  end

  defp checked(health_check, pid) do
    case health_check.(pid) do
      true -> :ok
      :ok -> :ok
      {:ok, _value} -> :ok
      other -> {:error, {:health_check_failed, other}}
    end
  rescue
    exception -> {:error, {:health_check_error, exception}}
  end

  @doc "Waits until a service is there, at most `timeout_ms`."
  @spec wait_for_service(namespace(), service_name(), non_neg_integer()) ::
          {:ok, pid()} | {:error, :timeout}
  def wait_for_service(namespace, service, timeout_ms \\ 5_000),
    do: poll(namespace, service, System.monotonic_time(:millisecond) + timeout_ms)

  defp poll(namespace, service, deadline) do
    case ProcessRegistry.lookup(namespace, service) do
      {:ok, pid} ->
        {:ok, pid}

      :error ->
        left = deadline - System.monotonic_time(:millisecond)

        if left > 0 do
          Process.sleep(min(left, @poll_ms))
          poll(namespace, service, deadline)
        else
          {:error, :timeout}
        end
    end
  end

  @doc "All services of a namespace: `%{namespace, services, total_services, healthy_services}`,
  each service as `%{pid, alive, uptime_ms}`."
  @spec get_service_info(namespace()) :: map()
  def get_service_info(namespace) do
    services =
      for {name, pid} <- ProcessRegistry.get_all_services(namespace),
          into: %{},
          do: {name, info(pid)}

    %{
      namespace: namespace,
      services: services,
      total_services: map_size(services),
      healthy_services: Enum.count(services, fn {_name, info} -> info.alive end)
    }
  end

  # A service notes in its dictionary when it started; of another process nobody knows: 0.
  defp info(pid) do
    with {:dictionary, dictionary} <- Process.info(pid, :dictionary),
         {_key, started} <- List.keyfind(dictionary, Service.started_key(), 0) do
      %{pid: pid, alive: true, uptime_ms: Service.since(started)}
    else
      _unknown -> %{pid: pid, alive: Process.alive?(pid), uptime_ms: 0}
    end
  end

  @doc "The name for `GenServer.start_link/3`; see `ElixirScope.Foundation.ProcessRegistry.via_tuple/2`."
  @spec via_tuple(namespace(), service_name()) :: {:via, Registry, term()}
  defdelegate via_tuple(namespace, service), to: ProcessRegistry

  @doc "Ends a test's namespace; see `ElixirScope.Foundation.ProcessRegistry.cleanup_test_namespace/1`."
  @spec cleanup_test_namespace(reference()) :: :ok
  defdelegate cleanup_test_namespace(reference), to: ProcessRegistry

  defp told(what, measurements, namespace, service, result) do
    result = if match?({:error, _}, result) or result == :error, do: :error, else: :ok

    Telemetry.emit(@event ++ [what], measurements, %{
      namespace: namespace,
      service: service,
      result: result
    })
  end

  defp not_found(namespace, service) do
    Error.new(
      code: 5001,
      error_type: :service_not_found,
      message: "Service #{inspect(service)} not found in namespace #{inspect(namespace)}",
      severity: :medium,
      category: :system,
      subcategory: :discovery,
      context: %{namespace: namespace, service: service}
    )
  end
end
