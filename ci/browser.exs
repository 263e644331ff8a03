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

long = :a_breaker_whose_name_is_much_longer_than_the_narrowest_screen_is_wide_and_has_no_blank

for {name, options} <- [{long, []}, search: [failure_threshold: 3], payments: [failure_threshold: 3, reset_timeout: 60_000], mail: []],
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

look = fn arguments, url ->
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
dom = look.(["--dump-dom"], url)
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

later = look.(["--dump-dom", "--virtual-time-budget=30000"], url)
check.("the page keeps itself up to date", later =~ "<h3>late_comer</h3>")

# The window of this browser is at least 500 wide, so the narrowest screen is a frame of that width: on a page of its own, with
# what the server sent inside, and what sticks out of it named.
{:ok, {_, _, html}} = :httpc.request(:get, {String.to_charlist(url), []}, [], body_format: :binary)

narrow = fn html ->
  escaped = html |> String.replace("&", "&amp;") |> String.replace("\"", "&quot;")
  file = Path.join(out, "narrow.html")

  File.write!(file, """
  <!DOCTYPE html><body style="margin:0"><iframe id="f" width="320" height="6000" style="border:0" srcdoc="#{escaped}"></iframe><p id="found"></p>
  <script>f.onload = () => {
    const inside = f.contentDocument, page = inside.documentElement;
    const out = [...inside.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > 320.5);
    found.textContent = "seen " + inside.querySelectorAll("h3").length + " scroll " + page.scrollWidth + " out " + out.length;
  }</script></body>
  """)

  dom = look.(["--dump-dom", "--allow-file-access-from-files", "--virtual-time-budget=5000"], "file://" <> file)
  [_, seen, scroll, out_of] = Regex.run(~r/seen (\d+) scroll (\d+) out (\d+)/, dom)
  {file, String.to_integer(seen) > 0, scroll == "320" and out_of == "0"}
end

{file, seen?, fits?} = narrow.(html)
check.("a screen of 320 pixels shows everything", seen? and fits?)
wider = String.replace(html, "<main>", "<main><p style=\"width:330px\">x</p>")
check.("something wider would be noticed", match?({_, true, false}, narrow.(wider)))
narrow.(html)
look.(["--screenshot=#{Path.join(out, "320.png")}", "--window-size=500,6000", "--virtual-time-budget=5000"], "file://" <> file)

for {name, arguments} <- [
      wide: ["--window-size=1280,1400"],
      narrow: ["--window-size=500,2400"],
      dark: ["--window-size=1280,1400", "--blink-settings=preferredColorScheme=0"]
    ] do
  file = Path.join(out, "#{name}.png")
  look.(["--screenshot=#{file}" | arguments], url)
  check.("a picture of it #{name}: #{file}", File.stat!(file).size > 10_000)
end
