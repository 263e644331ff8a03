defmodule ElixirScope.Foundation.Infrastructure.StatusPageTest do
  use ExUnit.Case, async: false

  alias ElixirScope.Foundation.Infrastructure.{CircuitBreaker, CircuitBreakerRegistry, StatusPage}

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
