defmodule ElixirScope.Foundation.Infrastructure.CircuitBreakerRegistry do
  @moduledoc """
  Which circuit breakers there are, by `{namespace, service}`.

  A breaker that nobody registered is made at its first use, from the configured defaults. Its configuration
  is fixed from then on; registering it again makes a new, closed breaker.
  """

  alias ElixirScope.Foundation.Error

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreakerTelemetry,
    Config,
    ManualClock,
    Names,
    Native
  }

  @type namespace :: Names.namespace()
  @type service :: atom()
  @type entry :: {breaker :: reference(), call_timeout :: timeout()}

  # Options of the native core, and what they are called here.
  @numbers [
    failure_threshold: :failure_threshold,
    half_open_permits: :half_open_permits,
    successes_to_close: :successes_to_close
  ]
  @durations [open_for_ns: :reset_timeout, probe_lease_ns: :probe_lease]
  @largest 0xFFFF_FFFF_FFFF_FFFF

  @doc """
  Makes the breaker of a service with its own configuration, given over the configured defaults:
  `:failure_threshold`, `:half_open_permits`, `:successes_to_close`, `:call_timeout`, `:reset_timeout` and
  `:probe_lease` (times in milliseconds; the last two also as `{n, :nanosecond}`).

      iex> alias ElixirScope.Foundation.Infrastructure.CircuitBreakerRegistry
      iex> CircuitBreakerRegistry.register({:test, make_ref()}, :payments, failure_threshold: 2)
      :ok
      iex> {:error, error} = CircuitBreakerRegistry.register({:test, make_ref()}, :payments, failure_threshold: 0)
      iex> error.message
      "`failure_threshold` is 0, allowed is 1 to 536870911"
  """
  @spec register(namespace(), service(), map() | keyword()) :: :ok | {:error, Error.t()}
  def register(namespace, service, config \\ []) do
    with {:ok, entry} <-
           Names.replace(:breaker, namespace, service, creator(namespace, service, config)),
         do: attach(namespace, entry)
  end

  @doc "Forgets a breaker. Permits of it that are still out change nothing."
  @spec remove(namespace(), service()) :: :ok | {:error, Error.t()}
  def remove(namespace, service) do
    # Before the name is free: a breaker that somebody registers meanwhile is not one of these.
    ids = CircuitBreakerTelemetry.ids(namespace, service)

    with :ok <- Names.remove(:breaker, namespace, service),
         do: CircuitBreakerTelemetry.retire(namespace, ids)
  end

  @doc "The services of a namespace that have a breaker."
  @spec list(namespace()) :: [service()]
  def list(namespace), do: for({service, _entry} <- Names.list(:breaker, namespace), do: service)

  @doc false
  @spec lookup(namespace(), service()) :: entry() | nil
  def lookup(namespace, service), do: Names.lookup(:breaker, namespace, service)

  @doc false
  @spec fetch(namespace(), service()) :: {:ok, entry()} | {:error, Error.t()}
  def fetch(namespace, service) do
    case Names.lookup(:breaker, namespace, service) do
      nil -> create(namespace, service)
      entry -> {:ok, entry}
    end
  end

  defp create(namespace, service) do
    with {:ok, entry} <-
           Names.ensure(:breaker, namespace, service, creator(namespace, service, [])),
         :ok <- attach(namespace, entry),
         do: {:ok, entry}
  end

  # Again after the breaker can be found: a publisher that was restarted meanwhile has not seen it.
  defp attach(namespace, {breaker, _call_timeout}) do
    with {:ok, publisher} <- CircuitBreakerTelemetry.ensure(namespace) do
      Native.breaker_publish_to(breaker, publisher)
      :ok
    end
  end

  defp creator(namespace, service, overrides) do
    fn ->
      id = System.unique_integer([:positive])

      with {:ok, config} <- Config.breaker(overrides),
           {:ok, publisher} <- CircuitBreakerTelemetry.ensure(namespace),
           {:ok, entry} <- new(config, ManualClock.clock(namespace), id, publisher) do
        CircuitBreakerTelemetry.announce(publisher, id, namespace, service)
        {:ok, entry}
      end
    end
  end

  defp new(config, clock, id, publisher) do
    numbers = for {core, ours} <- @numbers, do: {core, config[ours]}
    durations = for {core, ours} <- @durations, do: {core, Config.nanoseconds(config[ours])}
    # What does not fit in a word is too large for the core as well, which says so.
    given = Map.new(numbers ++ durations, fn {core, value} -> {core, min(value, @largest)} end)
    options = Map.merge(Native.breaker_defaults(), given)

    case Native.breaker_new(options, clock, id, publisher) do
      {:ok, breaker} ->
        {:ok, {breaker, config.call_timeout}}

      {:error, {argument, _value, allowed}} ->
        {:error, refused(String.to_existing_atom(argument), allowed, config)}
    end
  end

  defp refused(argument, allowed, config) do
    {ours, allowed} =
      case @durations[argument] do
        nil -> {@numbers[argument], allowed}
        duration -> {duration, allowed <> " nanoseconds"}
      end

    Error.refused(ours, config[ours], allowed, :invalid_config_value)
  end
end
