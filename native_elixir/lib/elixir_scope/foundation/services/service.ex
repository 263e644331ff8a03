defmodule ElixirScope.Foundation.Services.Service do
  @moduledoc false
  # What the three services have in common: how they are called, with and without a breaker, how they are started by
  # hand, and what only tests may do.

  alias ElixirScope.Foundation.{Infrastructure, ProcessRegistry}
  alias ElixirScope.Foundation.Infrastructure.Protection.Limit
  alias ElixirScope.Foundation.Types.Error

  @type namespace :: ProcessRegistry.namespace()
  @type name :: :config_server | :event_store | :telemetry_service
  @type down :: (() -> {:error, Error.t()})

  @timeout 5_000

  # By their supervisor's names for them.
  @modules %{
    config_server: ElixirScope.Foundation.Services.ConfigServer,
    event_store: ElixirScope.Foundation.Services.EventStore,
    telemetry_service: ElixirScope.Foundation.Services.TelemetryService
  }
  # A service that its supervisor is starting again is asked so many times more.
  @again 10

  @doc """
  Calls the service of a namespace. One that is not there, or dies before it answers, is `down`; one that does not
  answer in time ends the caller, as any `GenServer.call/3` does.

  One that its supervisor starts again is asked again, so that its restart is no failure: when the request never
  reached it, and when it may be done twice, as a read, an update or a store under an event's id may.
  """
  @spec call(namespace(), name(), term(), down(), timeout()) :: term()
  def call(namespace, name, request, down, timeout \\ @timeout),
    do: attempt({namespace, name, request, down, timeout}, @again)

  defp attempt({namespace, name, _request, _down, _timeout} = call, again) do
    case ProcessRegistry.lookup(namespace, name) do
      {:ok, pid} -> call_process(pid, call, again)
      :error -> once_more(nil, call, again)
    end
  end

  defp call_process(pid, {_namespace, _name, request, down, timeout} = call, again) do
    GenServer.call(pid, request, timeout)
  catch
    :exit, {reason, {GenServer, :call, _arguments}}
    when reason not in [:timeout, :calling_self] ->
      if reason == :noproc or repeatable?(request),
        do: once_more(pid, call, again),
        else: down.()
  end

  # What an update changed went with the process, so it has to be done again; it bears an id, by which it stays one.
  defp repeatable?({:update_config, _path, _value, _update}), do: true

  defp repeatable?({kind, _argument}),
    do:
      kind in [
        :get_config_path,
        :get_event,
        :query_events,
        :get_by_correlation,
        :store_event,
        :store_batch
      ]

  defp repeatable?(request), do: request in [:get_config, :get_stats, :get_status]

  defp once_more(_dead, {_namespace, _name, _request, down, _timeout}, 0), do: down.()

  defp once_more(dead, {namespace, name, _request, down, _timeout} = call, again) do
    if restarted?(namespace, name, dead), do: attempt(call, again - 1), else: down.()
  end

  # The supervisor answers after a restart, if it knows of the end already; if not, it still names the dead process.
  defp restarted?(namespace, name, dead) do
    with {:ok, supervisor} <- ProcessRegistry.lookup(namespace, {:supervisor, :services}),
         children = Supervisor.which_children(supervisor),
         {_id, child, _type, _modules} <- List.keyfind(children, @modules[name], 0) do
      child == :restarting or (is_pid(child) and (child != dead or Process.sleep(1) == :ok))
    else
      _none -> false
    end
  catch
    # The supervisor is gone too, or its child asks.
    :exit, _reason -> false
  end

  @doc "Sends the service a message that nobody waits for; where it is not there, nothing happens."
  @spec cast(namespace(), name(), term()) :: :ok
  def cast(namespace, name, message) do
    case ProcessRegistry.lookup(namespace, name) do
      {:ok, pid} -> GenServer.cast(pid, message)
      :error -> :ok
    end
  end

  @doc """
  `call/5` behind the service's breaker, or without one where the feature flag is off.

  Whatever the service answers is a success of the service, also the refusal of a caller's mistake: nobody's wrong
  path shuts it for others. Failures are: being down, an exit, a crash, no answer in time.
  """
  @spec guarded_call(namespace(), name(), term(), down()) :: term()
  def guarded_call(namespace, name, request, down) do
    namespace
    |> Infrastructure.execute_with_protection(name, operation(namespace, name, request, down))
    |> answer()
  end

  @doc """
  The same behind the rate limit that `opts` ask for, or else `default`; see
  `ElixirScope.Foundation.Infrastructure.protected_operation/4`.
  """
  @spec limited_call(namespace(), name(), keyword(), Limit.default(), term(), down()) :: term()
  def limited_call(namespace, name, opts, default, request, down) do
    operation = operation(namespace, name, request, down)

    namespace
    |> Infrastructure.protected_operation(name, opts, operation, default)
    |> answer()
  end

  # One judge decides how long a call may take: the breaker, where it runs the operation in a process of its own
  # that it kills at the limit; otherwise the call itself.
  defp operation(namespace, name, request, down) do
    caller = self()

    fn ->
      timeout = if self() == caller, do: @timeout, else: :infinity

      case call(namespace, name, request, down, timeout) do
        {:error, %Error{error_type: :service_unavailable}} = failure -> failure
        answer -> {:ok, answer}
      end
    end
  end

  defp answer({:ok, answer}), do: answer
  defp answer(refusal), do: refusal

  @doc "Starts a service that does not run, linked to the caller, who survives a start that fails."
  @spec initialize(module(), name(), keyword(), (term() -> Error.t())) ::
          :ok | {:error, Error.t()}
  def initialize(module, name, opts, failed) do
    namespace = Keyword.get(opts, :namespace, :production)
    registered = ProcessRegistry.via_tuple(namespace, name)

    with false <- ProcessRegistry.registered?(namespace, name),
         {:ok, pid} <- start(module, opts, registered) do
      Process.link(pid)
      :ok
    else
      true -> :ok
      {:error, {:already_started, _pid}} -> :ok
      {:error, reason} -> {:error, failed.(reason)}
    end
  end

  # Without a running registry there is no name to register.
  defp start(module, opts, registered) do
    GenServer.start(module, opts, name: registered)
  rescue
    exception in ArgumentError -> {:error, exception}
  end

  @doc "Stops a service; its supervisor, if it has one, starts it again."
  @spec stop(namespace(), name()) :: :ok
  def stop(namespace, name) do
    case ProcessRegistry.lookup(namespace, name) do
      {:ok, pid} -> GenServer.stop(pid)
      :error -> :ok
    end
  catch
    # It was gone already, or went while it was asked to.
    :exit, _reason -> :ok
  end

  @doc "Whether `config :elixir_scope, test_mode: true` is set now."
  @spec test_mode?() :: boolean()
  def test_mode?, do: Application.get_env(:elixir_scope, :test_mode, false) == true

  @doc "The refusal of what only tests may do."
  @spec forbidden(pos_integer()) :: {:error, Error.t()}
  def forbidden(code) do
    {:error,
     Error.new(
       code: code,
       error_type: :operation_forbidden,
       message: "State is reset in test mode only: config :elixir_scope, test_mode: true",
       severity: :high,
       category: :security,
       subcategory: :authorization
     )}
  end

  @doc "Now, noted in the calling process for whoever wants to know how long it runs."
  @spec started() :: integer()
  def started do
    now = System.monotonic_time(:millisecond)
    Process.put(started_key(), now)
    now
  end

  @doc "Under which key of the dictionary `started/0` notes it."
  @spec started_key() :: atom()
  def started_key, do: :elixir_scope_started_ms

  @doc "How long since this instant of `System.monotonic_time(:millisecond)`."
  @spec since(integer()) :: non_neg_integer()
  def since(started), do: System.monotonic_time(:millisecond) - started
end
