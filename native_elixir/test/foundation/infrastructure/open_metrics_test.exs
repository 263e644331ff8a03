defmodule ElixirScope.Foundation.Infrastructure.OpenMetricsTest do
  use ElixirScope.Foundation.PoolCase, async: true
  doctest ElixirScope.Foundation.Infrastructure.OpenMetrics

  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, OpenMetrics, TokenBucketLimiter}
  alias ElixirScope.Foundation.Services.TelemetryService

  # A reader of the format by its grammar, that shares nothing with the writer: families come whole, once, with their
  # metadata before their samples, and the end is marked.
  defp parse(text) do
    assert String.valid?(text)
    assert String.ends_with?(text, "\n# EOF\n") or text == "# EOF\n"
    lines = text |> String.replace_suffix("# EOF\n", "") |> String.split("\n", trim: true)
    {families, _} = Enum.reduce(lines, {%{}, nil}, &line/2)
    for {name, family} <- families, do: assert(family.samples != [], "#{name} has no samples")
    families
  end

  defp line("# " <> metadata, {families, current}) do
    [kind, name, value] = String.split(metadata, " ", parts: 3)
    assert name =~ ~r/^[a-zA-Z_:][a-zA-Z0-9_:]*$/
    if name != current, do: refute(Map.has_key?(families, name), "#{name} is interleaved")
    family = Map.get(families, name, %{samples: []})
    assert family.samples == [], "metadata of #{name} after its samples"
    refute Map.has_key?(family, kind), "a second #{kind} of #{name}"
    if kind == "TYPE", do: assert(value in ~w(counter gauge stateset))
    if kind == "UNIT", do: assert(String.ends_with?(name, "_" <> value))
    assert kind in ~w(TYPE UNIT HELP)
    {Map.put(families, name, Map.put(family, kind, value)), name}
  end

  defp line(sample, {families, current}) do
    assert [_, name, labels, value] =
             Regex.run(~r/^([a-z_]+)\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\} (\S+)$/, sample)

    family = Map.fetch!(families, current)
    assert name == if(family["TYPE"] == "counter", do: current <> "_total", else: current)
    labels = labels(labels)
    value = number(value)
    if family["TYPE"] == "counter", do: assert(value >= 0)

    if family["TYPE"] == "stateset",
      do: assert(Map.has_key?(labels, current) and value in [0.0, 1.0])

    refute List.keymember?(family.samples, labels, 0), "#{sample} stands twice"
    {Map.put(families, current, %{family | samples: [{labels, value} | family.samples]}), current}
  end

  defp labels(""), do: %{}

  defp labels(text) do
    assert [all, name, value] =
             Regex.run(~r/^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\n"])*)",?/, text)

    value = Regex.replace(~r/\\(.)/, value, fn _, c -> if c == "n", do: "\n", else: c end)
    Map.put(labels(String.replace_prefix(text, all, "")), name, value)
  end

  defp number("+Inf"), do: :infinity

  defp number(text) do
    {value, ""} = Float.parse(text)
    value
  end

  defp value(families, name, labels) do
    {_, value} =
      List.keyfind(families[name].samples, labels, 0) || flunk("no #{name} #{inspect(labels)}")

    value
  end

  test "tells of breakers, limiters, pools and metrics what they say of themselves" do
    {namespace, _} = pool = start_pool()
    start_supervised!({TelemetryService, namespace: namespace})
    odd = :"a \"quoted\\\n name, ünd }"
    for _ <- 1..2, do: CircuitBreaker.execute(namespace, odd, fn -> 1 end)
    CircuitBreaker.execute(namespace, :down, fn -> :error end)
    CircuitBreaker.force_open(namespace, :down)
    CircuitBreaker.execute(namespace, :down, fn -> 1 end)
    for _ <- 1..3, do: TokenBucketLimiter.check_rate_limit(:key, 2, 60_000, namespace: namespace)
    {:ok, _agent} = ConnectionPool.checkout(pool)
    {:error, _} = ConnectionPool.checkout(pool, 0)
    TelemetryService.emit(namespace, [:a, :b], %{{:odd, 1} => 2, gauge: 1.5, note: "text"}, %{})
    TelemetryService.emit(namespace, [:a, {1, 2}], %{counter: 2}, %{})
    TelemetryService.emit(namespace, [:a, :b, :c], %{counter: 2}, %{})

    families = namespace |> OpenMetrics.render() |> parse()
    odd = Atom.to_string(odd)

    assert value(families, "elixirscope_breaker_calls", %{
             "breaker" => odd,
             "outcome" => "succeeded"
           }) == 2

    assert value(families, "elixirscope_breaker_calls", %{
             "breaker" => "down",
             "outcome" => "failed"
           }) == 1

    assert value(families, "elixirscope_breaker_rejected", %{
             "breaker" => "down",
             "reason" => "forced_open"
           }) == 1

    assert value(families, "elixirscope_breaker_retry_after_seconds", %{"breaker" => "down"}) ==
             :infinity

    assert value(families, "elixirscope_breaker_mode", %{
             "breaker" => "down",
             "elixirscope_breaker_mode" => "forced_open"
           }) == 1

    assert value(families, "elixirscope_breaker_state", %{
             "breaker" => odd,
             "elixirscope_breaker_state" => "closed"
           }) == 1

    assert value(families, "elixirscope_limiter_checks", %{
             "limiter" => "default",
             "verdict" => "allowed"
           }) == 2

    assert value(families, "elixirscope_limiter_checks", %{
             "limiter" => "default",
             "verdict" => "rate_limited"
           }) == 1

    assert value(families, "elixirscope_pool_connections", %{
             "pool" => "pool",
             "state" => "in_use"
           }) == 1

    assert value(families, "elixirscope_pool_outcomes", %{
             "pool" => "pool",
             "outcome" => "exhausted"
           }) == 1

    assert value(families, "elixirscope_service_measurement", %{
             "metric" => "a.b",
             "measurement" => "gauge"
           }) == 1.5

    assert value(families, "elixirscope_service_emissions", %{"metric" => "a.b.c"}) == 1
    assert families["elixirscope_breaker_size_bytes"]["UNIT"] == "bytes"

    if path = System.get_env("ESCOPE_OPENMETRICS_OUT"),
      do: File.write!(path, OpenMetrics.render(namespace))
  end

  test "what happens to breakers and pools is a metric of their namespace's TelemetryService" do
    namespace = {:test, make_ref()}
    start_supervised!({TelemetryService, namespace: namespace})
    options = [name: :pool, namespace: namespace, create: fn -> Agent.start_link(fn -> 0 end) end]
    start_supervised!({ConnectionPool, options})
    {:ok, 1} = ConnectionPool.with_connection({namespace, :pool}, fn _ -> 1 end)
    for _ <- 1..5, do: CircuitBreaker.execute(namespace, :search, fn -> :error end)

    infra =
      await_infra(
        namespace,
        &match?(%{circuit_breaker: %{state_change: _}, connection_pool: _}, &1)
      )

    assert %{count: 1, metadata: %{service: :search, to: :open}} =
             infra.circuit_breaker.state_change

    assert %{count: 1, metadata: %{pool: :pool}} = infra.connection_pool.connection_created
  end

  defp await_infra(namespace, condition, tries \\ 1_000) do
    {:ok, metrics} = TelemetryService.get_metrics(namespace)
    infra = get_in(metrics, [:elixir_scope, :foundation, :infra]) || %{}

    cond do
      condition.(infra) -> infra
      tries == 0 -> flunk("not there: #{inspect(infra)}")
      true -> Process.sleep(1) && await_infra(namespace, condition, tries - 1)
    end
  end

  test "a namespace without anything is an empty exposition" do
    assert OpenMetrics.render({:test, make_ref()}) == "# EOF\n"
  end
end
