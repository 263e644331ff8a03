# Run by ci/browser.sh: serves the status page with live objects, and looks at it through Chromium.
alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, CircuitBreakerRegistry, ConnectionPool}
alias ElixirScope.Foundation.Infrastructure.{StatusPage, TokenBucketLimiter}

[chromium, out] = System.argv()
Application.put_env(:elixir_scope, :status_page, enabled: true, port: 0)
{:ok, options} = StatusPage.options()
{:ok, _} = StatusPage.start_link(options)
url = "http://127.0.0.1:#{StatusPage.port()}/status"

{:ok, _} =
  ConnectionPool.start_link(name: :parsers, size: 2, max_overflow: 0, create: fn -> Agent.start_link(fn -> 0 end) end)

for {name, options} <- [search: [failure_threshold: 3], payments: [failure_threshold: 3, reset_timeout: 60_000], mail: []],
    do: :ok = CircuitBreakerRegistry.register(:production, name, options)

load = fn load, n ->
  CircuitBreaker.execute(:production, :search, fn -> n end)
  CircuitBreaker.execute(:production, :mail, fn -> if rem(n, 7) == 0, do: :error, else: n end)
  CircuitBreaker.execute(:production, :payments, fn -> if n > 200, do: :error, else: n end)
  TokenBucketLimiter.check_rate_limit({:user, rem(n, 5)}, 100, 1_000)
  if rem(n, 3) == 0, do: ConnectionPool.with_connection(:parsers, fn _ -> Process.sleep(1) end)
  Process.sleep(1 + rem(n, 13))
  load.(load, n + 1)
end

spawn_link(fn -> load.(load, 1) end)

look = fn arguments ->
  arguments = ~w(--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars) ++ arguments ++ [url]
  # It complains of a missing desktop on its standard error.
  {output, 0} = System.cmd("sh", ["-c", ~s(exec "$0" "$@" 2>/dev/null), chromium | arguments])
  output
end

await = fn await ->
  if StatusPage.History.read().changes == [], do: Process.sleep(50) && await.(await)
end

await.(await)
Process.sleep(String.to_integer(System.get_env("ESCOPE_BROWSER_SECONDS", "3")) * 1_000)

check = fn what, true -> IO.puts("browser: #{what}"); what, _ -> raise("browser: not so: #{what}") end
dom = look.(["--dump-dom"])
check.("the page shows each breaker, limiter and pool", Enum.all?(~w(search payments mail default parsers), &(dom =~ "<h3>#{&1}</h3>")))
check.("an open breaker is said in words", dom =~ "■ open")
check.("every picture has a label", length(Regex.scan(~r/<svg/, dom)) == length(Regex.scan(~r/<svg role="img" aria-label="[^"]+"/, dom)))
check.("nothing is loaded from elsewhere", not (dom =~ ~r/(src|href)="(https?:)?\/\//))

# Its script brings what happens later: this breaker is made when the page, that was asked for once, asks again.
spawn_link(fn ->
  :erlang.trace_pattern({StatusPage.History, :read, 0}, true, [:local])
  :erlang.trace(:all, true, [:call])
  for _ <- 1..2, do: receive(do: ({:trace, _, :call, _} -> :ok))
  :erlang.trace(:all, false, [:call])
  CircuitBreakerRegistry.register(:production, :late_comer, [])
end)

later = look.(["--dump-dom", "--virtual-time-budget=30000"])
check.("the page keeps itself up to date", later =~ "<h3>late_comer</h3>")

for {name, arguments} <- [
      wide: ["--window-size=1280,1400"],
      narrow: ["--window-size=500,2400"],
      dark: ["--window-size=1280,1400", "--blink-settings=preferredColorScheme=0"]
    ] do
  file = Path.join(out, "#{name}.png")
  look.(["--screenshot=#{file}" | arguments])
  check.("a picture of it #{name}: #{file}", File.stat!(file).size > 10_000)
end
