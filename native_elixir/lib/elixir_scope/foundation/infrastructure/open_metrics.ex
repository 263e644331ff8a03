defmodule ElixirScope.Foundation.Infrastructure.OpenMetrics do
  @moduledoc """
  Breakers, limiters, pools and service metrics as OpenMetrics text 1.0.0
  (https://github.com/OpenObservability/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md).

  One metric family a number, one sample an object, whose name is the label `breaker`, `limiter`, `pool` or
  `metric`. Counters are totals since the object was made; a breaker that is registered anew begins at 0, as the
  format allows. `StatusPage`, when it is switched on, serves the text under `/metrics`.

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
      ),
      counter("elixirscope_breaker_admitted", "Calls admitted.", of(all, "breaker", :admitted)),
      counter(
        "elixirscope_breaker_reported",
        "Results told without a permit.",
        of(all, "breaker", :reported)
      ),
      counter(
        "elixirscope_breaker_rejected",
        "Calls rejected, by reason.",
        labelled(all, "breaker", "reason",
          rejected_open: "open",
          rejected_half_open: "half_open",
          rejected_forced_open: "forced_open",
          rejected_degraded: "degraded"
        )
      ),
      gauge(
        "elixirscope_breaker_opens",
        "Times opened since it was closed last.",
        of(all, "breaker", :opens)
      ),
      gauge(
        "elixirscope_breaker_failures",
        "Failures that count toward a trip.",
        of(all, "breaker", :failure_count)
      ),
      gauge(
        "elixirscope_breaker_live_probes",
        "Probes under way.",
        of(all, "breaker", :live_probes)
      ),
      {"elixirscope_breaker_retry_after_seconds", "gauge", "seconds",
       "Time until a call may be admitted.",
       for({name, stats} <- all, do: {"", [{"breaker", name}], seconds(stats.retry_after_ns)})},
      {"elixirscope_breaker_size_bytes", "gauge", "bytes", "Memory of the breaker.",
       of(all, "breaker", :bytes)}
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
      ),
      counter(
        "elixirscope_limiter_evicted",
        "Keys that made room.",
        of(all, "limiter", :evicted)
      ),
      counter(
        "elixirscope_limiter_overflowed",
        "Keys that share the overflow bucket.",
        of(all, "limiter", :overflowed)
      ),
      counter(
        "elixirscope_limiter_forfeited",
        "Receipts that gave nothing back.",
        of(all, "limiter", :forfeited)
      ),
      counter(
        "elixirscope_limiter_rolled_back",
        "Groups that were debited in part and given back.",
        of(all, "limiter", :rolled_back)
      ),
      gauge(
        "elixirscope_limiter_waiting",
        "Callers that wait for a token.",
        of(all, "limiter", :waiting)
      ),
      gauge(
        "elixirscope_limiter_live_keys",
        "Keys that owe something.",
        of(all, "limiter", :live_keys)
      ),
      gauge(
        "elixirscope_limiter_capacity",
        "Live keys that it is meant for.",
        of(all, "limiter", :capacity)
      ),
      {"elixirscope_limiter_size_bytes", "gauge", "bytes", "Memory of the limiter.",
       of(all, "limiter", :bytes)}
    ]
  end

  defp pools(all) do
    [
      gauge(
        "elixirscope_pool_connections",
        "Connections by what they are doing.",
        labelled(all, "pool", "state", [:idle, :in_use, :creating, :checking, :closing])
      ),
      gauge("elixirscope_pool_size", "Connections that are kept.", of(all, "pool", :size)),
      gauge(
        "elixirscope_pool_capacity",
        "Connections that there may be, with overflow.",
        of(all, "pool", :capacity)
      ),
      gauge(
        "elixirscope_pool_overflow",
        "Connections above the size.",
        of(all, "pool", :overflow)
      ),
      gauge(
        "elixirscope_pool_waiting",
        "Callers that wait for a connection.",
        of(all, "pool", :waiting)
      ),
      gauge(
        "elixirscope_pool_failing",
        "Creations that failed in a row.",
        of(all, "pool", :failing)
      ),
      counter("elixirscope_pool_requests", "Check-outs asked for.", of(all, "pool", :requests)),
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
      ),
      counter("elixirscope_pool_created", "Connections made.", of(all, "pool", :created)),
      counter(
        "elixirscope_pool_create_errors",
        "Connections that could not be made.",
        of(all, "pool", :create_errors)
      ),
      counter("elixirscope_pool_destroyed", "Connections closed.", of(all, "pool", :destroyed))
    ]
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
