defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerRegistry do
  @moduledoc """
  Which circuit breakers there are, by `{namespace, service}`.

  A namespace is `:production` or, for a test that shall not see any other, `{:test, reference}`; with
  `ElixirScope.Foundation.ProcessRegistry.cleanup_test_namespace/1` all that it has is gone. A breaker that nobody
  registered is made at its first use, from the configuration:

      config :elixir_scope, :infrastructure,
        circuit_breakers: %{
          default_config: %{failure_threshold: 5, reset_timeout: 30_000},
          services: %{search: %{policy: :rate, window_size: 100, min_calls: 20, failure_rate: 0.5}}
        }

  The options of a service stand over `default_config`, and what `register/3` is given over both; all of them are those
  of `ElixirScope.Foundation.Infrastructure.CircuitBreaker.Options`. The application does not start with a
  configuration that is wrong; one that becomes wrong later is told by the call that needs it.
  """

  alias ElixirScope.Foundation.Error

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreakerTelemetry,
    Config,
    ManualClock,
    Names,
    Native
  }

  alias ElixirScope.Foundation.Infrastructure.CircuitBreaker.{Handle, Options}

  @type namespace :: Names.namespace()
  @type service :: atom()
  @type health :: :healthy | :degraded | :unhealthy

  @doc """
  Makes the breaker of a service with its own options. Registering it again makes a new, closed breaker;
  `CircuitBreaker.reconfigure/3` and `CircuitBreaker.reinstall/3` change the one that is there.

      iex> alias ElixirScope.Foundation.Infrastructure.CircuitBreakerRegistry
      iex> CircuitBreakerRegistry.register({:test, make_ref()}, :payments, failure_threshold: 2)
      :ok
      iex> {:error, error} = CircuitBreakerRegistry.register({:test, make_ref()}, :payments, failure_threshold: 0)
      iex> error.message
      "`failure_threshold` is 0, allowed is 1 to 536870911"
  """
  @spec register(namespace(), service(), map() | keyword()) :: :ok | {:error, Error.t()}
  def register(namespace, service, options \\ []) do
    create = fn -> create(namespace, service, options) end

    with {:ok, handle} <- Names.replace(:breaker, namespace, service, create),
         do: attach(handle)
  end

  @doc "Forgets a breaker. Permits of it that are still out change nothing."
  @spec remove(namespace(), service()) :: :ok | {:error, Error.t()}
  def remove(namespace, service) do
    ids = fn -> CircuitBreakerTelemetry.ids(namespace, service) end

    with {:ok, ids} <- Names.remove(:breaker, namespace, service, ids),
         do: CircuitBreakerTelemetry.retire(namespace, ids)
  end

  @doc """
  The breaker of a service, if there is one already. `CircuitBreaker.handle/2` makes it if need be.

      iex> alias ElixirScope.Foundation.Infrastructure.CircuitBreakerRegistry
      iex> namespace = {:test, make_ref()}
      iex> {:error, error} = CircuitBreakerRegistry.lookup(namespace, :payments)
      iex> error.error_type
      :circuit_breaker_not_found
      iex> :ok = CircuitBreakerRegistry.register(namespace, :payments)
      iex> {:ok, _handle} = CircuitBreakerRegistry.lookup(namespace, :payments)
      iex> CircuitBreakerRegistry.list(namespace)
      [:payments]
  """
  @spec lookup(namespace(), service()) :: {:ok, Handle.t()} | {:error, Error.t()}
  def lookup(namespace, service) do
    case Names.lookup(:breaker, namespace, service) do
      nil -> not_found(namespace, service)
      handle -> {:ok, handle}
    end
  end

  @doc "The services of a namespace that have a breaker."
  @spec list(namespace()) :: [service()]
  def list(namespace), do: for({service, _handle} <- Names.list(:breaker, namespace), do: service)

  @doc """
  How a breaker's service seems to be: `:unhealthy` while the breaker is open or forced open, `:degraded` while it is
  half-open or has used a part of what its policy tolerates, else `:healthy`.
  """
  @spec health_check(namespace(), service()) :: {:ok, health()} | {:error, Error.t()}
  def health_check(namespace, service) do
    with {:ok, handle} <- lookup(namespace, service), do: {:ok, health(handle)}
  end

  @doc """
  The same for all breakers of a namespace.

      iex> alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, CircuitBreakerRegistry}
      iex> namespace = {:test, make_ref()}
      iex> {:ok, 1} = CircuitBreaker.execute(namespace, :search, fn -> 1 end)
      iex> CircuitBreaker.force_open(namespace, :search)
      iex> CircuitBreakerRegistry.health_check(namespace)
      %{search: :unhealthy}
  """
  @spec health_check(namespace()) :: %{service() => health()}
  def health_check(namespace),
    do:
      Map.new(Names.list(:breaker, namespace), fn {service, handle} ->
        {service, health(handle)}
      end)

  defp health(handle) do
    case Native.breaker_stats(handle.breaker) do
      %{state: :open} -> :unhealthy
      %{state: :closed, level: :none} -> :healthy
      _half_open_or_degraded -> :degraded
    end
  end

  @doc "Whether the breakers' configuration is one that breakers can be made of."
  @spec check_configuration() :: :ok | {:error, Error.t()}
  def check_configuration do
    with {:ok, {_defaults, services}} <- Config.breakers() do
      Enum.reduce_while([nil | Map.keys(services)], :ok, fn service, :ok ->
        with {:ok, settings} <- settings(service, []),
             {:ok, _breaker} <- breaker(settings, :monotonic, 0, self()) do
          {:cont, :ok}
        else
          {:error, error} -> {:halt, {:error, about(error, service)}}
        end
      end)
    end
  end

  defp about(error, nil), do: %{error | message: "default_config: " <> error.message}
  defp about(error, service), do: %{error | message: "#{inspect(service)}: " <> error.message}

  # The breaker of a name, which is made if there is none.
  @doc false
  @spec fetch(namespace(), service()) :: {:ok, Handle.t()} | {:error, Error.t()}
  def fetch(namespace, service) do
    create = fn -> create(namespace, service, []) end

    with nil <- Names.lookup(:breaker, namespace, service),
         {:ok, handle} <- Names.ensure(:breaker, namespace, service, create),
         :ok <- attach(handle) do
      {:ok, handle}
    else
      {:error, error} -> {:error, error}
      handle -> {:ok, handle}
    end
  end

  # Gives a breaker other options by `apply`, a function of the native breaker and the core's options.
  @doc false
  @spec change(namespace(), service(), term(), :own | :configured, (reference(), map() -> term())) ::
          :ok | {:error, Error.t()}
  def change(namespace, service, options, base, apply) do
    changed =
      Names.update(:breaker, namespace, service, fn handle ->
        with {:ok, settings} <- changed(handle, options, base),
             :ok <- refusal(apply.(handle.breaker, settings.core), settings.layer),
             do: {:ok, struct!(handle, Map.delete(settings, :core))}
      end)

    case changed do
      {:ok, _handle} -> :ok
      {:error, error} -> {:error, error}
      nil -> not_found(namespace, service)
    end
  end

  defp changed(handle, options, :own) do
    with {:ok, own} <- Options.layer(options),
         do: own |> Options.over(handle.layer) |> Options.settings()
  end

  defp changed(handle, options, :configured), do: settings(handle.service, options)

  defp refusal(:ok, _layer), do: :ok
  defp refusal({:error, refusal}, layer), do: {:error, Options.refused(refusal, layer)}

  # Again after the breaker can be found: a publisher that was restarted meanwhile has not seen it.
  defp attach(handle) do
    with {:ok, publisher} <- CircuitBreakerTelemetry.ensure(handle.namespace) do
      Native.breaker_publish_to(handle.breaker, publisher)
      :ok
    end
  end

  defp create(namespace, service, options) do
    id = System.unique_integer([:positive])

    with {:ok, settings} <- settings(service, options),
         {:ok, publisher} <- CircuitBreakerTelemetry.ensure(namespace),
         {:ok, breaker} <- breaker(settings, ManualClock.clock(namespace), id, publisher) do
      CircuitBreakerTelemetry.announce(publisher, id, namespace, service)

      {:ok,
       %Handle{
         breaker: breaker,
         namespace: namespace,
         service: service,
         call_timeout: settings.call_timeout,
         classifier: settings.classifier,
         call_events: CircuitBreakerTelemetry.call_events?(),
         layer: settings.layer
       }}
    end
  end

  defp settings(service, options) do
    with {:ok, {defaults, services}} <- Config.breakers(),
         {:ok, defaults} <- Options.layer(defaults),
         {:ok, configured} <- services |> Map.get(service, []) |> Options.layer(),
         {:ok, own} <- Options.layer(options),
         do: own |> Options.over(Options.over(configured, defaults)) |> Options.settings()
  end

  defp breaker(settings, clock, id, publisher) do
    with {:error, refusal} <- Native.breaker_new(settings.core, clock, id, publisher),
         do: {:error, Options.refused(refusal, settings.layer)}
  end

  defp not_found(namespace, service) do
    message = "There is no circuit breaker #{inspect(service)} in namespace #{inspect(namespace)}"
    context = %{namespace: namespace, service: service, allowed: list(namespace)}
    Error.error_result(:circuit_breaker_not_found, message, context: context)
  end
end
