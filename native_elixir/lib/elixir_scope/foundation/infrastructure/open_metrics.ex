defmodule ElixirScope.Foundation.Infrastructure.OpenMetrics do
  @moduledoc """
  Breakers, limiters, pools and service metrics as OpenMetrics text 1.0.0
  (https://github.com/OpenObservability/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md).

  One metric family a number, one sample an object (and state, outcome or reason), whose name is the label `breaker`,
  `limiter`, `pool` or `metric`. Counters are totals since the object was made. A breaker that is registered anew begins at 0,
  as the format allows; so does a metric that the TelemetryService has forgotten, after five minutes without an emission or
  with its process. `StatusPage`, when it is switched on, serves the text under `/metrics`.

      iex> alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, OpenMetrics}
      iex> namespace = {:test, make_ref()}
      iex> CircuitBreaker.execute(namespace, :search, fn -> 1 end)
      iex> namespace |> OpenMetrics.render() |> String.split("\\n") |> Enum.filter(&(&1 =~ "succeeded"))
      [~s(elixirscope_breaker_calls_total{breaker="search",outcome="succeeded"} 1)]
  """

  alias ElixirScope.Foundation.Infrastructure.{Names, Snapshot}

  @content_type "application/openmetrics-text; version=1.0.0; charset=utf-8"

  @states [:closed, :open, :half_open]
  @modes [:auto, :forced_open, :forced_closed, :metrics_only]

  @type sample :: {suffix :: String.t(), labels :: [{String.t(), term()}], value :: term()}
  @type family ::
          {name :: String.t(), type :: String.t(), unit :: String.t(), help :: String.t(),
           [sample()]}

  @doc "What the text is served as."
  @spec content_type() :: String.t()
  def content_type, do: @content_type

  @doc "The text for all that a namespace has."
  @spec render(Names.namespace()) :: String.t()
  def render(namespace \\ :production), do: namespace |> Snapshot.take() |> text()

  @doc false
  @spec text(Snapshot.t()) :: String.t()
  def text(snapshot) do
    families =
      breakers(snapshot.breakers) ++
        limiters(snapshot.limiters) ++ pools(snapshot.pools) ++ metrics(snapshot.metrics)

    IO.iodata_to_binary([Enum.map(families, &family/1), "# EOF\n"])
  end

  defp breakers(all) do
    [
      states("elixirscope_breaker_state", "Phase of the breaker.", all, :state, @states),
      states(
        "elixirscope_breaker_mode",
        "Who decides: results, or an operator.",
        all,
        :mode,
        @modes
      ),
      counter(
        "elixirscope_breaker_calls",
        "Admitted calls by what their result said.",
        labelled(all, "breaker", "outcome", [
          :succeeded,
          :failed,
          :ignored,
          :cancelled,
          :stale,
          :expired
        ])
      )
    ] ++
      counters(all, "breaker",
        admitted: "Calls admitted.",
        reported: "Results told without a permit."
      ) ++
      [
        counter(
          "elixirscope_breaker_rejected",
          "Calls rejected, by reason.",
          labelled(all, "breaker", "reason",
            rejected_open: "open",
            rejected_half_open: "half_open",
            rejected_forced_open: "forced_open",
            rejected_degraded: "degraded"
          )
        )
      ] ++
      gauges(all, "breaker", opens: "Times opened since it was closed last.") ++
      [
        gauge(
          "elixirscope_breaker_failures",
          "Failures that count toward a trip.",
          of(all, "breaker", :failure_count)
        )
      ] ++
      gauges(all, "breaker", live_probes: "Probes under way.") ++
      [
        {"elixirscope_breaker_retry_after_seconds", "gauge", "seconds",
         "Time until a call may be admitted.",
         for({name, stats} <- all, do: {"", [{"breaker", name}], seconds(stats.retry_after_ns)})},
        memory(all, "breaker")
      ]
  end

  defp limiters(all) do
    [
      counter(
        "elixirscope_limiter_checks",
        "Checks by verdict.",
        labelled(all, "limiter", "verdict",
          allowed: "allowed",
          limited: "rate_limited",
          never: "never",
          table_full: "table_full"
        )
      )
    ] ++
      counters(all, "limiter",
        evicted: "Keys that made room.",
        overflowed: "Keys that share the overflow bucket.",
        forfeited: "Receipts that gave nothing back.",
        rolled_back: "Groups that were debited in part and given back."
      ) ++
      gauges(all, "limiter",
        waiting: "Callers that wait for a token.",
        live_keys: "Keys that owe something.",
        capacity: "Live keys that it is meant for."
      ) ++ [memory(all, "limiter")]
  end

  defp pools(all) do
    [
      gauge(
        "elixirscope_pool_connections",
        "Connections by what they are doing.",
        labelled(all, "pool", "state", [:idle, :in_use, :creating, :checking, :closing])
      )
    ] ++
      gauges(all, "pool",
        size: "Connections that are kept.",
        capacity: "Connections that there may be, with overflow.",
        overflow: "Connections above the size.",
        waiting: "Callers that wait for a connection.",
        failing: "Creations that failed in a row."
      ) ++
      counters(all, "pool", requests: "Check-outs asked for.") ++
      [
        counter(
          "elixirscope_pool_outcomes",
          "Check-outs by how they ended.",
          labelled(all, "pool", "outcome",
            granted: "granted",
            timed_out: "timed_out",
            cancelled: "cancelled",
            exhausted: "exhausted",
            queue_full: "queue_full",
            closed_requests: "closed",
            create_failed: "create_failed",
            shed: "shed"
          )
        ),
        counter(
          "elixirscope_pool_checkins",
          "Leases by how they ended.",
          labelled(all, "pool", "outcome", [:returned, :broken, :reclaimed])
        )
      ] ++
      counters(all, "pool",
        created: "Connections made.",
        create_errors: "Connections that could not be made.",
        destroyed: "Connections closed."
      )
  end

  defp metrics(all) do
    [
      counter(
        "elixirscope_service_emissions",
        "Emissions of a service metric.",
        for({name, count, _} <- all, do: {"_total", [{"metric", name}], count})
      ),
      gauge(
        "elixirscope_service_measurement",
        "Latest gauge, summed counter or mean of a service metric.",
        for {name, _, measurements} <- all,
            {measurement, value} <- Enum.sort(measurements || %{}) do
          {"", [{"metric", name}, {"measurement", measurement}], value}
        end
      )
    ]
  end

  # Families that are called as their field is.
  defp counters(all, label, fields),
    do:
      for({field, help} <- fields, do: counter(named(label, field), help, of(all, label, field)))

  defp gauges(all, label, fields),
    do: for({field, help} <- fields, do: gauge(named(label, field), help, of(all, label, field)))

  defp named(label, field), do: "elixirscope_#{label}_#{field}"

  defp memory(all, label) do
    {named(label, :size_bytes), "gauge", "bytes", "Memory of the #{label}.",
     of(all, label, :bytes)}
  end

  defp counter(name, help, samples),
    do:
      {name, "counter", "", help,
       for({_, labels, value} <- samples, do: {"_total", labels, value})}

  defp gauge(name, help, samples), do: {name, "gauge", "", help, samples}

  # In a stateset the family's name is a label that says which state the sample is of.
  defp states(name, help, all, field, states) do
    samples =
      for {breaker, stats} <- all, state <- states do
        value = if Map.fetch!(stats, field) == state, do: 1, else: 0
        {"", [{"breaker", breaker}, {name, state}], value}
      end

    {name, "stateset", "", help, samples}
  end

  defp of(all, label, field),
    do: for({name, stats} <- all, do: {"", [{label, name}], Map.fetch!(stats, field)})

  defp labelled(all, label, by, fields) do
    for {name, stats} <- all, field <- fields do
      {field, shown} = if is_tuple(field), do: field, else: {field, field}
      {"", [{label, name}, {by, shown}], Map.fetch!(stats, field)}
    end
  end

  defp seconds(:infinity), do: "+Inf"
  defp seconds(ns), do: ns / 1_000_000_000

  # A family without samples is left out.
  defp family({_name, _type, _unit, _help, []}), do: []

  defp family({name, type, unit, help, samples}) do
    [
      ["# TYPE ", name, " ", type, "\n"],
      if(unit == "", do: [], else: ["# UNIT ", name, " ", unit, "\n"]),
      ["# HELP ", name, " ", escaped(help), "\n"],
      for {suffix, labels, value} <- samples do
        [
          name,
          suffix,
          "{",
          Enum.map_intersperse(labels, ",", &label/1),
          "} ",
          to_string(value),
          "\n"
        ]
      end
    ]
  end

  defp label({name, value}), do: [name, "=\"", escaped(to_string(value)), "\""]

  defp escaped(text) do
    String.replace(text, ["\\", "\"", "\n"], fn
      "\\" -> "\\\\"
      "\"" -> "\\\""
      "\n" -> "\\n"
    end)
  end
end
