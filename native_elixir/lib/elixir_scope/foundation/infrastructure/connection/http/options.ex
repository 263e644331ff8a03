defmodule ElixirScope.Foundation.Infrastructure.Connection.HTTP.Options do
  @moduledoc false
  # The options of an HTTP connection, checked.

  alias ElixirScope.Foundation.{Error, Infrastructure}
  alias ElixirScope.Foundation.Infrastructure.Connection.Call
  alias ElixirScope.Foundation.Infrastructure.Connection.HTTP.Request

  @keys [:url, :headers, :connect_timeout, :max_body, :ping, :tls]
  @default_ports %{"http" => 80, "https" => 443}

  @enforce_keys [:transport, :host, :port, :authority]
  defstruct [
    :transport,
    :host,
    :port,
    :authority,
    :connect_timeout,
    :max_body,
    :ping,
    :tls,
    :headers
  ]

  @type t :: %__MODULE__{
          transport: :gen_tcp | :ssl,
          host: String.t(),
          port: 1..65_535,
          authority: String.t(),
          connect_timeout: non_neg_integer(),
          max_body: non_neg_integer(),
          ping: String.t() | nil,
          tls: keyword(),
          headers: iodata()
        }

  @spec new(term()) :: {:ok, t()} | {:error, Error.t()}
  def new(options) do
    with :ok <- Infrastructure.check_options(options, @keys),
         {:ok, server} <- server(options[:url]),
         {:ok, headers} <- Request.headers(options[:headers] || []),
         {:ok, connect_timeout} <- Call.milliseconds(options, :connect_timeout, 5_000),
         {:ok, max_body} <- max_body(Keyword.get(options, :max_body, 0x100_0000)),
         {:ok, ping} <- ping(options[:ping]),
         {:ok, tls} <- tls(options[:tls] || []) do
      own = %{headers: headers, connect_timeout: connect_timeout, max_body: max_body}
      {:ok, server |> struct!(own) |> struct!(ping: ping, tls: tls)}
    end
  end

  defp server(url) do
    with true <- is_binary(url) and String.printable?(url),
         {:ok, %URI{scheme: scheme, host: host, port: port} = uri} <- URI.new(url),
         true <- is_map_key(@default_ports, scheme) and is_binary(host) and host != "",
         true <- is_integer(port) and port in 1..65_535,
         true <-
           uri.path in [nil, "/"] and {uri.query, uri.fragment, uri.userinfo} == {nil, nil, nil} do
      literal = if String.contains?(host, ":"), do: "[#{host}]", else: host
      authority = if port == @default_ports[scheme], do: literal, else: "#{literal}:#{port}"
      transport = if scheme == "https", do: :ssl, else: :gen_tcp
      {:ok, %__MODULE__{transport: transport, host: host, port: port, authority: authority}}
    else
      _ ->
        {:error,
         Error.refused(
           :url,
           url,
           "http:// or https://, a host and perhaps a port, without a path"
         )}
    end
  end

  defp max_body(bytes) when is_integer(bytes) and bytes >= 0, do: {:ok, bytes}
  defp max_body(bytes), do: {:error, Error.refused(:max_body, bytes, "a number of bytes")}

  defp ping(nil), do: {:ok, nil}
  defp ping(path), do: with(:ok <- Request.path(:ping, path), do: {:ok, path})

  defp tls(options) do
    if is_list(options),
      do: {:ok, options},
      else: {:error, Error.refused(:tls, options, "a list of client options of :ssl")}
  end
end
