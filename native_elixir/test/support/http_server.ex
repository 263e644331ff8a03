defmodule ElixirScope.Foundation.HTTPServer do
  @moduledoc """
  A small HTTP/1.1 server for tests, over TCP or TLS, that also misbehaves.

  Its answers name the connection: `/` answers the number of the socket and of the request on it. `/close` announces that
  the socket will be closed, `/drop` closes it without a word, `/hang` does not answer, `/echo` sends the body back. `/raw`
  sends what `raw:` says, and closes if that ends in `:close`.
  """

  defstruct [:listener, :acceptor, :port, :options]

  @doc "Starts a server on a free port, or on `port:`; it ends with the test."
  def start(options \\ []) do
    test = self()
    owner = spawn(fn -> own(test, options) end)

    receive do
      {^owner, listener, port} ->
        server = %__MODULE__{listener: listener, acceptor: owner, port: port, options: options}
        ExUnit.Callbacks.on_exit(fn -> stop(server) end)
        server
    after
      30_000 -> raise "the server did not start"
    end
  end

  @doc "Stops it, with all of its sockets."
  def stop(server) do
    monitor = Process.monitor(server.acceptor)
    Process.exit(server.acceptor, :kill)
    receive do: ({:DOWN, ^monitor, _, _, _} -> :ok)
  end

  @doc "Starts it again, on the same port."
  def restart(server), do: start(Keyword.put(server.options, :port, server.port))

  def url(%{port: port, options: options}),
    do: "#{if options[:tls], do: "https", else: "http"}://localhost:#{port}"

  # The sockets' processes are linked to the one that listens: all end together.
  defp own(test, options) do
    basic = [:binary, active: false, reuseaddr: true, ip: {127, 0, 0, 1}, backlog: 100]
    port = Keyword.get(options, :port, 0)

    if options[:tls], do: {:ok, _} = Application.ensure_all_started(:ssl)
    listener = listen(port, basic, options[:tls])

    {:ok, {_, port}} =
      if options[:tls], do: :ssl.sockname(listener), else: :inet.sockname(listener)

    send(test, {self(), listener, port})
    accept(listener, options, 1)
  end

  # The port of a server that was stopped is free a moment later.
  defp listen(port, basic, tls) do
    case if(tls, do: :ssl.listen(port, basic ++ tls), else: :gen_tcp.listen(port, basic)) do
      {:ok, listener} -> listener
      {:error, :eaddrinuse} -> Process.sleep(1) && listen(port, basic, tls)
    end
  end

  defp accept(listener, options, number) do
    transport = if options[:tls], do: :ssl, else: :gen_tcp

    {:ok, socket} =
      if options[:tls], do: :ssl.transport_accept(listener), else: :gen_tcp.accept(listener)

    server =
      spawn_link(fn ->
        receive do: (:go -> :ok)
        serve({transport, shaken(transport, socket)}, options, number, 1, "")
      end)

    :ok = transport.controlling_process(socket, server)
    send(server, :go)
    accept(listener, options, number + 1)
  end

  defp shaken(:gen_tcp, socket), do: socket

  defp shaken(:ssl, socket) do
    case :ssl.handshake(socket) do
      {:ok, socket} -> socket
      {:error, _refused} -> exit(:normal)
    end
  end

  defp serve({transport, socket} = own, options, number, request, buffer) do
    case read_request(own, buffer) do
      {method, path, headers, body, rest} ->
        if options[:heard], do: send(options[:heard], {:heard, method, path, headers, body})

        case answer(path, options, number, request, body) do
          {data, :keep} ->
            transport.send(socket, if(method == "HEAD", do: head(data), else: data))
            serve(own, options, number, request + 1, rest)

          {data, :close} ->
            transport.send(socket, data)
            transport.close(socket)

          :hang ->
            Process.sleep(:infinity)
        end

      :closed ->
        transport.close(socket)
    end
  end

  defp answer("/close", _options, number, request, _body),
    do: {ok("#{number}.#{request}", "connection: close\r\n"), :close}

  defp answer("/drop", _options, number, request, _body), do: {ok("#{number}.#{request}"), :close}
  defp answer("/hang", _options, _number, _request, _body), do: :hang
  defp answer("/echo", _options, _number, _request, body), do: {ok(body), :keep}
  defp answer("/raw", options, _number, _request, _body), do: options[:raw].()
  defp answer("/no", _, _, _, _), do: {"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno", :keep}
  defp answer(_path, _options, number, request, _body), do: {ok("#{number}.#{request}"), :keep}

  defp ok(body, headers \\ ""),
    do: "HTTP/1.1 200 OK\r\ncontent-length: #{byte_size(body)}\r\n#{headers}\r\n#{body}"

  defp head(data), do: hd(String.split(data, "\r\n\r\n", parts: 2)) <> "\r\n\r\n"

  defp read_request({transport, socket} = own, buffer) do
    with [head, rest] <- String.split(buffer, "\r\n\r\n", parts: 2),
         [line | lines] = String.split(head, "\r\n"),
         headers = for(line <- lines, do: List.to_tuple(String.split(line, ": ", parts: 2))),
         length = String.to_integer(:proplists.get_value("content-length", headers, "0")),
         <<body::binary-size(length), rest::binary>> <- rest do
      [method, path, "HTTP/1.1"] = String.split(line, " ")
      {method, path, headers, body, rest}
    else
      _more_is_to_come ->
        case transport.recv(socket, 0) do
          {:ok, data} -> read_request(own, buffer <> data)
          {:error, _} -> :closed
        end
    end
  end
end
