defmodule ElixirScope.Foundation.Infrastructure.Connection.HTTP.Response do
  @moduledoc false
  # Reads one answer off a socket, RFC 9112: its lines by OTP's decoder, its body by the rules of section 6.3. Tells
  # whether the connection can carry another one afterwards.

  alias ElixirScope.Foundation.Infrastructure.Connection.HTTP
  alias ElixirScope.Foundation.Infrastructure.Connection.HTTP.Socket

  @most_headers 256
  @most_interim 16
  # Reading asks for no more at once: what is asked for is allocated before it comes.
  @slice 0x10_0000

  @type result :: {:ok, HTTP.response(), keep? :: boolean()} | {:error, term()}

  @spec read(Socket.t(), boolean(), non_neg_integer()) :: result()
  def read(socket, head?, max_body), do: read(socket, head?, max_body, @most_interim)

  defp read(_socket, _head?, _max_body, 0), do: bad("interim answers without end")

  defp read(socket, head?, max_body, interim) do
    with :ok <- Socket.packet(socket, :http_bin),
         {:ok, minor, status} <- status(socket),
         {:ok, headers} <- headers(socket, [], @most_headers) do
      if status in 100..199 and status != 101,
        do: read(socket, head?, max_body, interim - 1),
        else: body(socket, head?, max_body, minor, status, headers)
    end
  end

  defp body(_socket, _head?, _max_body, _minor, status, _headers) when status not in 200..999,
    do: bad("the status #{status}")

  defp body(socket, head?, max_body, minor, status, headers) do
    framing = if head? or status in [204, 304], do: {:length, 0}, else: framing(headers)

    with {:ok, how} <- sized(framing, max_body),
         :ok <- Socket.packet(socket, :raw),
         {:ok, body} <- read_body(how, socket, max_body) do
      response = %{status: status, headers: headers, body: IO.iodata_to_binary(body)}
      {:ok, response, how != :until_closed and not ambiguous?(headers) and keeps?(minor, headers)}
    end
  end

  defp status(socket) do
    case Socket.recv(socket, 0) do
      {:ok, {:http_response, {1, minor}, status, _phrase}} -> {:ok, minor, status}
      {:ok, _other} -> bad("no HTTP/1.1")
      {:error, :emsgsize} -> bad("too long a line")
      error -> error
    end
  end

  defp headers(_socket, _read, 0), do: bad("more than #{@most_headers} headers")

  defp headers(socket, read, left) do
    case Socket.recv(socket, 0) do
      {:ok, {:http_header, _, name, _, value}} ->
        headers(socket, [{name |> to_string() |> String.downcase(), value} | read], left - 1)

      {:ok, :http_eoh} ->
        {:ok, Enum.reverse(read)}

      {:ok, _other} ->
        bad("a header that is none")

      {:error, :emsgsize} ->
        bad("too long a header")

      error ->
        error
    end
  end

  # Where the body ends. A server that gives both a length and an encoding is believed the encoding, once.
  defp framing(headers) do
    case {tokens(headers, "transfer-encoding"), Enum.uniq(tokens(headers, "content-length"))} do
      {[], []} -> :until_closed
      {[], [length]} -> {:length, length}
      {[], _several} -> :contradictory
      {codings, _} -> if List.last(codings) == "chunked", do: :chunked, else: :until_closed
    end
  end

  defp sized({:length, 0}, _max_body), do: {:ok, {:length, 0}}

  defp sized({:length, text}, max_body) do
    case text =~ ~r/\A[0-9]{1,19}\z/ && String.to_integer(text) do
      false -> bad("a length that is none")
      length when length > max_body -> too_long(max_body)
      length -> {:ok, {:length, length}}
    end
  end

  defp sized(:contradictory, _max_body), do: bad("two lengths")
  defp sized(how, _max_body), do: {:ok, how}

  defp ambiguous?(headers),
    do: tokens(headers, "transfer-encoding") != [] and tokens(headers, "content-length") != []

  defp keeps?(minor, headers) do
    connection = tokens(headers, "connection")
    if minor == 0, do: "keep-alive" in connection, else: "close" not in connection
  end

  defp read_body({:length, length}, socket, _max_body), do: exactly(socket, length, [])

  defp read_body(:until_closed, socket, max_body),
    do: until_closed(socket, max_body, max_body, [])

  defp read_body(:chunked, socket, max_body), do: chunks(socket, max_body, max_body, [])

  defp exactly(_socket, 0, read), do: {:ok, Enum.reverse(read)}

  defp exactly(socket, left, read) do
    slice = min(left, @slice)

    with {:ok, bytes} <- Socket.recv(socket, slice),
         do: exactly(socket, left - slice, [bytes | read])
  end

  defp until_closed(_socket, max_body, left, _read) when left < 0, do: too_long(max_body)

  defp until_closed(socket, max_body, left, read) do
    case Socket.recv(socket, 0) do
      {:ok, bytes} -> until_closed(socket, max_body, left - byte_size(bytes), [bytes | read])
      {:error, :closed} -> {:ok, Enum.reverse(read)}
      error -> error
    end
  end

  defp chunks(socket, max_body, left, read) do
    with {:ok, size} <- chunk_size(socket) do
      cond do
        size > left ->
          too_long(max_body)

        size == 0 ->
          with :ok <- trailers(socket, @most_headers), do: {:ok, Enum.reverse(read)}

        true ->
          with :ok <- Socket.packet(socket, :raw),
               {:ok, chunk} <- exactly(socket, size, []),
               {:ok, "\r\n"} <- Socket.recv(socket, 2) do
            chunks(socket, max_body, left - size, [chunk | read])
          else
            {:ok, _no_end} -> bad("a chunk without an end")
            error -> error
          end
      end
    end
  end

  defp chunk_size(socket) do
    with :ok <- Socket.packet(socket, :line),
         {:ok, line} <- Socket.recv(socket, 0) do
      case Regex.run(~r/\A([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\r\n\z/s, line) do
        [_, hexadecimal] -> {:ok, String.to_integer(hexadecimal, 16)}
        nil -> bad("a chunk that is none")
      end
    end
  end

  # Nobody asked for them. Still as lines, for TLS does not decode headers by themselves.
  defp trailers(_socket, 0), do: bad("more than #{@most_headers} trailers")

  defp trailers(socket, left) do
    case Socket.recv(socket, 0) do
      {:ok, "\r\n"} -> :ok
      {:ok, _trailer} -> trailers(socket, left - 1)
      error -> error
    end
  end

  defp tokens(headers, name) do
    for {^name, value} <- headers,
        token <- String.split(value, ","),
        token = token |> String.trim() |> String.downcase(),
        token != "",
        do: token
  end

  defp too_long(max_body), do: bad("more than #{max_body} bytes")
  defp bad(what), do: {:error, {:bad_response, what}}
end
