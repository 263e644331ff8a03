defmodule ElixirScope.Foundation.Infrastructure.StatusPageTest do
  use ExUnit.Case, async: false

  import ElixirScope.Foundation.FoundationCase, only: [eventually: 1]

  alias ElixirScope.Foundation.ProcessRegistry
  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, CircuitBreakerRegistry, StatusPage}
  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter

  setup do
    on_exit(fn -> Application.delete_env(:elixir_scope, :status_page) end)
    %{name: :"status <b>&\"#{System.unique_integer([:positive])}"}
  end

  defp start do
    Application.put_env(:elixir_scope, :status_page, enabled: true, port: 0)
    {:ok, options} = StatusPage.options()
    start_supervised!({StatusPage, options})
    "http://127.0.0.1:#{StatusPage.port()}"
  end

  defp request(method, url) do
    {:ok, {{_, code, _}, headers, body}} =
      :httpc.request(method, {String.to_charlist(url), []}, [], body_format: :binary)

    {code, Map.new(headers, fn {k, v} -> {to_string(k), to_string(v)} end), body}
  end

  defp await_change(name, tries \\ 500) do
    changes = StatusPage.History.read().changes

    if not Enum.any?(changes, &(&1.breaker == name)) do
      if tries == 0, do: flunk("no change of #{name} in #{inspect(changes)}")
      Process.sleep(10)
      await_change(name, tries - 1)
    end
  end

  test "is off unless it is switched on, and listens on loopback" do
    assert {:ok, %{enabled: false, bind: {127, 0, 0, 1}, port: 9568}} = StatusPage.options()
    assert StatusPage.port() == nil

    refute List.keymember?(
             Supervisor.which_children(ElixirScope.Foundation.Supervisor),
             StatusPage,
             0
           )
  end

  test "bad options are named" do
    for {options, start} <- [
          {[ports: 1], "`status_page` is :ports"},
          {[enabled: :yes], "`enabled` is :yes"},
          {[port: 65_536], "`port` is 65536"},
          {%{bind: "localhost"}, "`bind` is \"localhost\""},
          {%{hosts: "localhost"}, "`hosts` is \"localhost\""},
          {%{hosts: [:localhost]}, "`hosts` is [:localhost]"},
          {%{hosts: ["a" | "b"]}, "`hosts` is [\"a\" | \"b\"]"},
          {:on, "`status_page` is :on"}
        ] do
      Application.put_env(:elixir_scope, :status_page, options)
      assert {:error, %{message: message}} = StatusPage.options()
      assert String.starts_with?(message, start)
    end
  end

  test "shows a breaker, what it did and when it changed, and escapes its name", %{name: name} do
    url = start()
    on_exit(fn -> CircuitBreakerRegistry.remove(:production, name) end)
    :ok = CircuitBreakerRegistry.register(:production, name, failure_threshold: 1)
    CircuitBreaker.execute(:production, name, fn -> :error end)
    await_change(name)

    assert {200, %{"content-type" => "text/html; charset=utf-8"} = headers, page} =
             request(:get, url <> "/status")

    assert headers["content-security-policy"] =~ "default-src 'none'"
    assert page =~ "status &lt;b&gt;&amp;&quot;"
    refute page =~ "status <b>"
    assert page =~ ~r/■ open.*Changes of state.*closed → <span class="bad">open/s

    assert {200, %{"content-type" => "application/json"}, json} =
             request(:get, url <> "/status.json?x=1")

    {:ok, decoded} = {:ok, :jiffy.decode(json, [:return_maps])}

    assert %{"state" => "open", "failed" => 1} =
             Enum.find(decoded["breakers"], &(&1["name"] == to_string(name)))

    assert Enum.any?(decoded["changes"], &match?(%{"from" => "closed", "to" => "open"}, &1))

    assert {200, %{"content-type" => "application/openmetrics-text" <> _}, text} =
             request(:get, url <> "/metrics")

    assert String.ends_with?(text, "# EOF\n")
  end

  test "shows what the services measured, and the single calls that were told" do
    url = start()
    key = {:page, make_ref()}
    for _ <- 1..3, do: TokenBucketLimiter.check_rate_limit(key, 1, 60_000)
    StatusPage.History.read()

    eventually(fn ->
      {200, _, page} = request(:get, url <> "/status")
      {200, _, json} = request(:get, url <> "/status.json")
      name = "elixir_scope.foundation.infra.rate_limiter.request_denied"
      shown = Enum.find(:jiffy.decode(json, [:return_maps])["metrics"], &(&1["name"] == name))
      page =~ "<strong>#{name}</strong>" and shown && shown["measurements"]["counter"] >= 2
    end)
  end

  test "shows all else where the service of the metrics hangs", %{name: name} do
    url = start()
    on_exit(fn -> CircuitBreakerRegistry.remove(:production, name) end)
    {:ok, 1} = CircuitBreaker.execute(:production, name, fn -> 1 end)
    {:ok, telemetry} = ProcessRegistry.lookup(:production, :telemetry_service)
    history = Process.whereis(StatusPage.History)
    :ok = :sys.suspend(telemetry)
    on_exit(fn -> :sys.resume(telemetry) end)

    assert {200, _, page} = request(:get, url <> "/status")
    assert page =~ "status &lt;b&gt;"
    assert {200, _, text} = request(:get, url <> "/metrics")
    assert text =~ "elixirscope_breaker_calls_total{breaker="
    refute text =~ "elixirscope_service_"
    assert Process.whereis(StatusPage.History) == history
  end

  # A page of another site may have its name point here, and would be asked for by that name.
  test "answers no request for another host's name" do
    url = start()
    port = StatusPage.port()
    ask = fn path, host -> host(url <> path, host) end

    for path <- ~w(/status /status.json /metrics),
        host <- ["evil.example", "evil.example:#{port}"],
        do: assert({403, "This host" <> _} = ask.(path, host))

    for host <-
          ~w(127.0.0.1.evil.example localhost.evil.example 1 127.1 [evil] [::1] 127.0.0.1 LOCALHOST) do
      expected = if host in ~w([::1] 127.0.0.1 LOCALHOST), do: 200, else: 403
      assert {^expected, _} = ask.("/status", host)
      assert {^expected, _} = ask.("/status", "#{host}:#{port}")
    end

    Application.put_env(:elixir_scope, :status_page, enabled: true, hosts: ["Metrics.example"])
    assert {200, _} = ask.("/metrics", "metrics.example:9568")
    assert {403, _} = ask.("/metrics", "other.example")
  end

  defp host(url, host) do
    {:ok, {{_, code, _}, _headers, body}} =
      :httpc.request(:get, {String.to_charlist(url), [{'host', String.to_charlist(host)}]}, [],
        body_format: :binary
      )

    {code, body}
  end

  test "answers GET and HEAD of its three paths only" do
    url = start()
    assert {404, _, _} = request(:get, url <> "/etc/passwd")
    assert {404, _, _} = request(:get, url <> "/../../etc/passwd")
    assert {200, %{"content-length" => length}, ""} = request(:head, url <> "/status")
    assert String.to_integer(length) > 1_000

    {:ok, {{_, code, _}, _, _}} =
      :httpc.request(:post, {String.to_charlist(url <> "/status"), [], 'text/plain', "x"}, [], [])

    assert code == 405
  end
end
