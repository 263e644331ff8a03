defmodule ElixirScope.Foundation.Infrastructure.Snapshot do
  @moduledoc """
  All breakers, limiters, pools and service metrics of a namespace as they are now: what `OpenMetrics` and the status page
  show. Each object is read by itself, without a process being asked for it; only the metrics come from
  TelemetryService, and are empty where that does not run or does not answer within a second.
  """

  alias ElixirScope.Foundation.Infrastructure.{
    CircuitBreaker,
    CircuitBreakerRegistry,
    ConnectionPool,
    Names,
    TokenBucketLimiter
  }

  alias ElixirScope.Foundation.Services.TelemetryService

  @typedoc "A metric's dotted name, number of emissions, and numeric measurements; these are nil where only emissions are kept."
  @type metric :: {String.t(), non_neg_integer(), %{atom() => number()} | nil}
  @type objects :: %{
          breakers: [{atom(), CircuitBreaker.Stats.t()}],
          limiters: [{atom(), map()}],
          pools: [{atom(), map()}]
        }
  @type t :: %{
          breakers: [{atom(), CircuitBreaker.Stats.t()}],
          limiters: [{atom(), map()}],
          pools: [{atom(), map()}],
          metrics: [metric()]
        }

  @metrics_within_ms 1_000

  @doc "Each part sorted by name."
  @spec take(Names.namespace()) :: t()
  def take(namespace \\ :production),
    do: namespace |> objects() |> Map.put(:metrics, metrics(namespace))

  @doc "All but the metrics, which is what asks no process."
  @spec objects(Names.namespace()) :: objects()
  def objects(namespace \\ :production) do
    %{
      breakers:
        each(CircuitBreakerRegistry.list(namespace), &CircuitBreaker.stats(namespace, &1)),
      limiters:
        each(TokenBucketLimiter.list(namespace), &TokenBucketLimiter.stats(namespace, &1)),
      pools: each(ConnectionPool.list_pools(namespace), &ConnectionPool.status({namespace, &1}))
    }
  end

  # What is gone since it was listed is left out.
  defp each(names, stats),
    do: for(name <- Enum.sort(names), {:ok, found} <- [stats.(name)], do: {name, found})

  defp metrics(namespace) do
    case TelemetryService.get_metrics(namespace, @metrics_within_ms) do
      {:ok, metrics} -> metrics |> Map.delete(:retrieved_at) |> flat([]) |> Enum.sort()
      {:error, _down} -> []
    end
  catch
    # Where a service hangs, whoever looks for the reason shall see all else.
    :exit, _no_answer -> []
  end

  defp flat(emissions, path) when is_integer(emissions), do: [{dotted(path), emissions, nil}]

  # A metric may have others below it.
  defp flat(%{measurements: measurements, count: count, timestamp: _, metadata: _} = metric, path) do
    numbers = Map.filter(measurements, fn {name, value} -> is_atom(name) and is_number(value) end)
    below = Map.drop(metric, [:measurements, :count, :timestamp, :metadata])
    [{dotted(path), count, numbers} | flat(below, path)]
  end

  defp flat(%{} = nested, path),
    do: Enum.flat_map(nested, fn {name, below} -> flat(below, [name | path]) end)

  defp flat(_other, _path), do: []

  defp dotted(path), do: path |> Enum.reverse() |> Enum.map_join(".", &part/1)

  # A name is of atoms; what else somebody emits must not take the page away from the others.
  defp part(name) when is_atom(name), do: Atom.to_string(name)
  defp part(other), do: inspect(other)
end
