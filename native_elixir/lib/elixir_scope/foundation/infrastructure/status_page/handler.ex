defmodule ElixirScope.Foundation.Infrastructure.StatusPage.Handler do
  @moduledoc false
  # The one module of the web server: every request ends here, so that no file is ever looked for.

  require Record

  alias ElixirScope.Foundation.Infrastructure.{OpenMetrics, StatusPage}

  Record.defrecordp(:mod, Record.extract(:mod, from_lib: "inets/include/httpd.hrl"))

  @html "text/html; charset=utf-8"
  @json "application/json"
  @plain "text/plain; charset=utf-8"

  # The callback that httpd calls under this name.
  @spec unquote(:do)(tuple()) :: {:proceed, list()}
  def unquote(:do)(request) do
    path = request |> mod(:request_uri) |> List.to_string() |> String.split("?") |> hd()

    {code, type, body} =
      if StatusPage.host?(host(request)),
        do: answer(to_string(mod(request, :method)), path),
        else: {403, @plain, "This host is not in `hosts:` of the status page\n"}

    body = if mod(request, :method) in ['HEAD', "HEAD"], do: {body, ""}, else: {body, body}
    {:proceed, [{:response, response(code, type, body)}]}
  end

  # Who names no host, as HTTP/1.0 allows, is no browser.
  defp host(request) do
    case List.keyfind(mod(request, :parsed_header), 'host', 0) do
      {_host, value} -> List.to_string(value)
      nil -> "localhost"
    end
  end

  defp response(code, type, {whole, sent}) do
    # httpd spells out the names that it knows; the others go as they are.
    head = [
      {:code, code},
      {:content_type, String.to_charlist(type)},
      {:content_length, whole |> byte_size() |> Integer.to_charlist()},
      {:cache_control, 'no-store'},
      {'x-content-type-options', 'nosniff'},
      {'content-security-policy',
       'default-src \'none\'; style-src \'unsafe-inline\'; script-src \'unsafe-inline\'; connect-src \'self\''}
    ]

    {:response, head, [sent]}
  end

  defp answer(method, path) when method in ["GET", "HEAD"], do: page(path)
  defp answer(_method, _path), do: {405, @plain, "Only GET and HEAD\n"}

  defp page("/metrics"), do: {200, OpenMetrics.content_type(), OpenMetrics.render()}
  defp page("/status"), do: {200, @html, StatusPage.Page.render(StatusPage.History.read())}
  defp page("/status.json"), do: {200, @json, StatusPage.Json.encode(StatusPage.History.read())}
  defp page(_other), do: {404, @plain, "There is /status, /status.json and /metrics\n"}
end
