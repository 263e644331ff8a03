defmodule ElixirScope.Foundation.Infrastructure.StatusPage.Page do
  @moduledoc false
  # The status page as HTML. It says in words what it shows in colour, needs no script to be read, and loads nothing.

  alias ElixirScope.Foundation.Infrastructure.StatusPage.{Chart, History}

  @style """
  :root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1b2430;--soft:#566273;--line:#dde2e9;
  --ok:#1a7f4b;--warn:#9a6200;--bad:#c22f2f;--none:#e8ebf0}
  @media (prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1b2129;--ink:#e8ecf1;--soft:#a3afbd;--line:#2e3743;
  --ok:#4cc38a;--warn:#e2a93b;--bad:#ff7b72;--none:#2a323d}}
  *{box-sizing:border-box}
  body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
  main,header{max-width:72rem;margin:0 auto;padding:0 1rem}
  header{padding-top:1.5rem}
  h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .75rem}h3{font-size:1rem;margin:0;overflow-wrap:anywhere}
  .soft,dt,footer{color:var(--soft);font-size:.875rem}
  .grid{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(18rem,100%),1fr));list-style:none;margin:0;padding:0}
  .card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1rem;min-width:0}
  .top{display:flex;gap:.5rem;justify-content:space-between;align-items:start}
  .state{border:1px solid currentColor;border-radius:1rem;padding:0 .6rem;font-size:.875rem;font-weight:600;white-space:nowrap}
  .ok{color:var(--ok)}.warn{color:var(--warn)}.bad{color:var(--bad)}
  svg{display:block;width:100%;height:2.75rem;margin:.75rem 0 .1rem;background:var(--none);border-radius:.3rem}
  .f-ok{fill:var(--ok)}.f-warn{fill:var(--warn)}.f-bad{fill:var(--bad)}
  .good{fill:none;stroke:var(--ok);stroke-width:2}.fail{fill:none;stroke:var(--bad);stroke-width:2;stroke-dasharray:4 2}
  .axis{display:flex;justify-content:space-between;font-size:.75rem;color:var(--soft);margin-bottom:.6rem}
  dl{display:grid;grid-template-columns:repeat(3,1fr);gap:.5rem;margin:0}
  dd{margin:0;font-variant-numeric:tabular-nums;font-weight:600}
  ol.log{list-style:none;margin:0;padding:.5rem 1rem}ol.log li{overflow-wrap:anywhere;padding:.35rem 0;border-bottom:1px solid var(--line)}
  ol.log li:last-child{border:0}time{font-variant-numeric:tabular-nums;color:var(--soft);margin-right:.75rem}
  footer{max-width:72rem;margin:2rem auto;padding:0 1rem}a{color:inherit}
  """

  # Fetches the page anew and takes over its content; after a failure the page says how old it is.
  @script """
  setInterval(async()=>{try{const r=await fetch("/status");if(!r.ok)throw 0;
  const d=new DOMParser().parseFromString(await r.text(),"text/html");
  document.querySelector("main").innerHTML=d.querySelector("main").innerHTML;
  document.querySelector("#at").innerHTML=d.querySelector("#at").innerHTML;
  document.querySelector("#lost").textContent=""}
  catch{document.querySelector("#lost").textContent=" The server does not answer; this is what it said last."}},2000)
  """

  @spec render(History.t()) :: String.t()
  def render(history) do
    %{breakers: breakers, limiters: limiters, pools: pools, metrics: metrics} = history.now

    """
    <!DOCTYPE html>
    <html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
    <title>ElixirScope status</title><style>#{@style}</style><noscript><meta http-equiv="refresh" content="5"></noscript></head>
    <body><header><h1>ElixirScope status</h1>
    <p class="soft"><span id="at">As of #{escape(history.at)}, node #{escape(node())}.</span><strong id="lost" role="status" class="bad"></strong></p></header>
    <main>
    #{section("breakers", "Circuit breakers", breakers, &breaker(&1, history))}
    #{section("limiters", "Rate limiters", limiters, &limiter(&1, history))}
    #{section("pools", "Connection pools", pools, &pool(&1, history))}
    <section aria-labelledby="changes"><h2 id="changes">Changes of state</h2>#{changes(history.changes)}</section>
    <section aria-labelledby="metrics"><h2 id="metrics">Service metrics</h2>#{metrics(metrics)}</section>
    </main>
    <footer>Curves and strips show the last two minutes. Also as <a href="/status.json">JSON</a> and <a href="/metrics">OpenMetrics</a>.</footer>
    <script>#{@script}</script></body></html>
    """
  end

  defp section(id, title, [], _card),
    do:
      ~s(<section aria-labelledby="#{id}"><h2 id="#{id}">#{title}</h2><p class="soft">None so far.</p></section>)

  defp section(id, title, all, card) do
    ~s(<section aria-labelledby="#{id}"><h2 id="#{id}">#{title} <span class="soft">#{length(all)}</span></h2>) <>
      ~s(<ul class="grid">#{Enum.map_join(all, card)}</ul></section>)
  end

  defp breaker({name, stats}, history) do
    states = for sample <- history.samples, do: with({s, _, _} <- sample.breakers[name], do: s)
    {_, good, bad} = latest(history, :breakers, name)
    mode = if stats.mode == :auto, do: "", else: " (#{words(stats.mode)})"

    card(
      name,
      {tone(stats.state), words(stats.state) <> mode},
      Chart.strip(states, history.room, name),
      [
        {"ok", rate(good)},
        {"not ok", rate(bad)},
        {"failures", stats.failure_count},
        {"admitted", stats.admitted},
        {"opened", stats.opens},
        {"retry in", retry(stats.retry_after_ms)}
      ]
    )
  end

  defp limiter({name, stats}, history) do
    {_, good, bad} = latest(history, :limiters, name)
    tone = if bad > 0, do: {:warn, "limiting"}, else: {:ok, "within limits"}

    card(name, tone, curve(history, :limiters, name, {"allowed", "refused"}), [
      {"allowed", rate(good)},
      {"refused", rate(bad)},
      {"waiting", stats.waiting},
      {"allowed in all", stats.allowed},
      {"refused in all", stats.limited + stats.never + stats.table_full},
      {"live keys", "#{stats.live_keys} of #{stats.capacity}"}
    ])
  end

  defp pool({name, stats}, history) do
    {_, good, bad} = latest(history, :pools, name)

    card(name, pool_state(stats), curve(history, :pools, name, {"granted", "refused"}), [
      {"granted", rate(good)},
      {"refused", rate(bad)},
      {"waiting", stats.waiting},
      {"in use", "#{stats.in_use} of #{stats.capacity}"},
      {"idle", stats.idle},
      {"made", stats.created}
    ])
  end

  defp pool_state(%{closed: closed}) when closed not in [false, 0], do: {:bad, "closed"}
  defp pool_state(%{failing: failing}) when failing > 0, do: {:bad, "cannot connect"}
  defp pool_state(%{waiting: waiting}) when waiting > 0, do: {:warn, "callers wait"}
  defp pool_state(_stats), do: {:ok, "available"}

  defp curve(history, kind, name, labels) do
    rates = for sample <- history.samples, do: sample[kind][name]
    Chart.curve(rates, history.room, name, labels)
  end

  defp card(name, {tone, state}, chart, figures) do
    """
    <li class="card"><div class="top"><h3>#{escape(name)}</h3><span class="state #{tone}">#{mark(tone)} #{escape(state)}</span></div>
    #{chart}<div class="axis" aria-hidden="true"><span>2 min ago</span><span>now</span></div>
    <dl>#{Enum.map_join(figures, fn {term, value} -> "<div><dt>#{escape(term)}</dt><dd>#{escape(value)}</dd></div>" end)}</dl></li>
    """
  end

  defp changes([]), do: ~s(<p class="soft">None since the page was switched on.</p>)

  defp changes(all) do
    items =
      Enum.map_join(all, fn change ->
        at = DateTime.to_iso8601(change.at)

        ~s(<li><time datetime="#{at}">#{DateTime.to_time(change.at)}</time>) <>
          ~s(<strong>#{escape(change.breaker)}</strong> #{words(change.from)} → ) <>
          ~s(<span class="#{tone(change.to)}">#{words(change.to)}</span></li>)
      end)

    ~s(<ol class="card log">#{items}</ol>)
  end

  defp metrics([]), do: ~s(<p class="soft">None so far.</p>)

  defp metrics(all) do
    items =
      Enum.map_join(all, fn {name, emissions, measurements} ->
        values =
          Enum.map_join(Enum.sort(measurements || %{}), fn {measurement, value} ->
            " · #{escape(measurement)} #{escape(short(value))}"
          end)

        ~s(<li><strong>#{escape(name)}</strong> <span class="soft">#{emissions} told#{values}</span></li>)
      end)

    ~s(<ol class="card log">#{items}</ol>)
  end

  defp short(value) when is_float(value), do: Float.round(value, 3)
  defp short(value), do: value

  defp latest(history, kind, name) do
    with %{} = sample <- List.last(history.samples), {_, _, _} = rates <- sample[kind][name] do
      rates
    else
      _none -> {nil, 0.0, 0.0}
    end
  end

  @doc false
  @spec tone(atom()) :: :ok | :warn | :bad
  def tone(:closed), do: :ok
  def tone(:half_open), do: :warn
  def tone(:open), do: :bad

  # Not by colour alone.
  defp mark(:ok), do: "●"
  defp mark(:warn), do: "◐"
  defp mark(:bad), do: "■"

  defp words(atom), do: atom |> Atom.to_string() |> String.replace("_", " ")

  defp rate(value), do: "#{value}/s"

  defp retry(0), do: "–"
  defp retry(:infinity), do: "never"
  defp retry(ms), do: "#{Float.round(ms / 1_000, 1)} s"

  @doc false
  @spec escape(term()) :: String.t()
  def escape(term) do
    term
    |> to_string()
    |> String.replace(["&", "<", ">", "\""], fn
      "&" -> "&amp;"
      "<" -> "&lt;"
      ">" -> "&gt;"
      "\"" -> "&quot;"
    end)
  end
end
