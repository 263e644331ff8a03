defmodule ElixirScope.Foundation.Infrastructure.Connection.HTTP.Request do
  @moduledoc false
  # A request as it goes over the wire, RFC 9112. What would end a line or the request early, or say otherwise where
  # the body ends, is refused: nobody's data becomes another request.

  alias ElixirScope.Foundation.Error

  @methods Map.new(~w(get head post put patch delete options)a, &{&1, String.upcase("#{&1}")})
  @own ~w(host connection content-length transfer-encoding upgrade expect te)
  @with_body [:post, :put, :patch]

  @enforce_keys [:head?, :line, :headers, :body]
  defstruct [:head?, :line, :headers, :body]

  @type t :: %__MODULE__{head?: boolean(), line: iodata(), headers: iodata(), body: iodata()}

  @spec new(term(), term(), term(), term()) :: {:ok, t()} | {:error, Error.t()}
  def new(method, path, headers, body) do
    with {:ok, verb} <- method(method),
         :ok <- path(:path, path),
         {:ok, headers} <- headers(headers),
         {:ok, length} <- measure(body) do
      length =
        if length > 0 or method in @with_body,
          do: ["content-length: ", Integer.to_string(length), "\r\n"],
          else: []

      line = [verb, " ", path, " HTTP/1.1\r\n"]

      {:ok,
       %__MODULE__{head?: method == :head, line: line, headers: [headers, length], body: body}}
    end
  end

  @doc "All of it, with the headers of the connection."
  @spec to_iodata(t(), String.t(), iodata()) :: iodata()
  def to_iodata(request, authority, headers) do
    host = ["host: ", authority, "\r\n"]
    [request.line, host, headers, request.headers, "\r\n", request.body]
  end

  @doc "The lines of headers."
  @spec headers(term()) :: {:ok, iodata()} | {:error, Error.t()}
  def headers(headers) do
    if is_list(headers) and Enum.all?(headers, &header?/1) do
      {:ok, for({name, value} <- headers, do: [name, ": ", value, "\r\n"])}
    else
      allowed =
        "a list of {name, value}, both strings without line breaks, and none of #{Enum.join(@own, ", ")}"

      {:error, Error.refused(:headers, headers, allowed)}
    end
  end

  @doc "Whether `path` can stand in a request line."
  @spec path(atom(), term()) :: :ok | {:error, Error.t()}
  def path(argument, path) do
    if is_binary(path) and path =~ ~r{\A/[\x21\x22\x24-\x7E]*\z},
      do: :ok,
      else: {:error, Error.refused(argument, path, "a path that begins with /, percent-encoded")}
  end

  defp method(method) do
    case @methods do
      %{^method => verb} ->
        {:ok, verb}

      _ ->
        {:error,
         Error.refused(
           :method,
           method,
           "one of " <> Enum.map_join(Map.keys(@methods), ", ", &inspect/1)
         )}
    end
  end

  defp header?({name, value}) when is_binary(name) and is_binary(value) do
    # RFC 9110, 5.1 and 5.5: a token; visible characters, spaces, tabs and bytes above ASCII.
    name =~ ~r/\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\z/ and value =~ ~r/\A[\t\x20-\x7E\x80-\xFF]*\z/ and
      String.downcase(name) not in @own
  end

  defp header?(_header), do: false

  defp measure(body) do
    {:ok, IO.iodata_length(body)}
  rescue
    ArgumentError -> {:error, Error.refused(:body, body, "iodata")}
  end
end
