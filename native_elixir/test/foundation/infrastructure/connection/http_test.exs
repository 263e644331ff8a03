defmodule ElixirScope.Foundation.Infrastructure.Connection.HTTPTest do
  # Real sockets against servers that are stopped, silent, rude and well again.
  use ElixirScope.Foundation.PoolCase, async: true

  alias ElixirScope.Foundation.HTTPServer
  alias ElixirScope.Foundation.Infrastructure.Connection.HTTP

  @moduletag :capture_log

  defp http_pool(server, options \\ [], pool_options \\ []) do
    worker = {HTTP, [url: HTTPServer.url(server)] ++ options}
    start_pool(Keyword.merge([worker: worker, retry_after: 1, retry_at_most: 20], pool_options))
  end

  defp ask(pool, path, method \\ :get, opts \\ []) do
    ConnectionPool.with_connection(pool, &HTTP.request(&1, method, path, opts), timeout: 60_000)
  end

  defp body(pool, path) do
    with {:ok, %{status: 200, body: body}} <- ask(pool, path), do: {:ok, body}
  end

  # What one raw answer of a server is read as, and whether its connection could carry the next request.
  defp read(answer, options \\ []) do
    Process.flag(:trap_exit, true)
    server = HTTPServer.start(raw: fn -> answer end)
    {method, options} = Keyword.pop(options, :method, :get)
    {:ok, connection} = HTTP.connect([url: HTTPServer.url(server)] ++ options)
    result = HTTP.request(connection, method, "/raw", timeout: 60_000)
    {result, HTTP.reset(connection) == :ok}
  end

  describe "a connection" do
    test "is kept alive for request after request" do
      pool = http_pool(HTTPServer.start())
      assert for(_ <- 1..3, do: body(pool, "/")) == for(n <- 1..3, do: {:ok, "1.#{n}"})
      assert %{created: 1, returned: 3} = assert_settled(pool)
    end

    test "is its holder's alone" do
      pool = http_pool(HTTPServer.start(), [], size: 4)

      bodies =
        1..16
        |> Enum.map(fn _ -> Task.async(fn -> for _ <- 1..25, do: elem(body(pool, "/"), 1) end) end)
        |> Task.await_many(60_000)
        |> List.flatten()

      # No socket has answered two requests with one number, and none has lost a request.
      assert length(Enum.uniq(bodies)) == 400

      for {_socket, numbers} <- Enum.group_by(bodies, &hd(String.split(&1, "."))),
          do: assert(length(numbers) == numbers |> Enum.map(&number/1) |> Enum.max())

      assert %{created: created} = assert_settled(pool)
      assert created <= 4
    end

    test "that the server closes while nobody uses it is replaced" do
      server = HTTPServer.start()
      pool = http_pool(server)
      {:ok, connection} = ConnectionPool.checkout(pool)
      monitor = Process.monitor(connection)
      :ok = ConnectionPool.checkin(pool, connection)
      HTTPServer.stop(server)
      assert_receive {:DOWN, ^monitor, :process, _, {:shutdown, :closed}}, 30_000
      await(pool, &(&1.idle == 0))
      HTTPServer.restart(server)
      assert {:ok, "1.1"} = body(pool, "/")
      assert_settled(pool)
    end

    test "that the server announces to close is not lent again" do
      pool = http_pool(HTTPServer.start())
      assert for(_ <- 1..3, do: body(pool, "/close")) == for(n <- 1..3, do: {:ok, "#{n}.1"})
      {:ok, connection} = ConnectionPool.checkout(pool)
      assert {:ok, %{body: "4.1"}} = HTTP.request(connection, :get, "/close")
      refute Process.alive?(connection)

      assert {:error, %Error{error_type: :dependency_failed}} =
               HTTP.request(connection, :get, "/")

      ConnectionPool.checkin(pool, connection)
      assert_settled(pool)
    end

    test "that the server drops is an error at most, and never the next holder's answer" do
      pool = http_pool(HTTPServer.start())

      for _ <- 1..20 do
        assert {:ok, dropped} = body(pool, "/drop")

        case body(pool, "/") do
          {:ok, next} -> refute hd(String.split(next, ".")) == hd(String.split(dropped, "."))
          {:error, error} -> assert error.error_type in [:network_error, :dependency_failed]
        end
      end

      assert_settled(pool)
    end

    test "whose server does not answer in time is closed, and others go on" do
      pool = http_pool(HTTPServer.start(), [], size: 2)

      assert {:error, %Error{error_type: :timeout, context: context}} =
               ask(pool, "/hang", :post, timeout: 50)

      assert %{method: :post, path: "/hang", timeout: 50} = context
      assert {:ok, _} = body(pool, "/")
      assert %{created: 2, destroyed: 1} = assert_settled(pool)
    end

    test "whose holder is killed in a request is closed" do
      pool = http_pool(HTTPServer.start(heard: self()))
      client = client()
      later(client, fn -> ask(pool, "/hang", :get, timeout: 600_000) end)
      assert_receive {:heard, "GET", "/hang", _, _}, 30_000
      kill(client)
      assert {:ok, "2.1"} = body(pool, "/")
      assert %{reclaimed: 1} = assert_settled(pool)
    end

    test "that hears what nobody asked for ends" do
      extra =
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"

      pool = http_pool(HTTPServer.start(raw: fn -> {extra, :keep} end))
      {:ok, connection} = ConnectionPool.checkout(pool)
      monitor = Process.monitor(connection)
      assert {:ok, %{body: "ok"}} = HTTP.request(connection, :get, "/raw")
      assert_receive {:DOWN, ^monitor, :process, _, {:shutdown, :unsolicited}}, 30_000
      ConnectionPool.checkin(pool, connection)
      assert {:ok, "2.1"} = body(pool, "/")
      assert_settled(pool)
    end
  end

  test "a server that is stopped under load and heals: every request is answered, no connection is left over" do
    server = HTTPServer.start()
    pool = http_pool(server, [], size: 4)
    test = self()

    users =
      for _ <- 1..8 do
        Task.async(fn ->
          Stream.repeatedly(fn ->
            result = body(pool, "/")
            with {:ok, _} <- result, do: send(test, :served)
            result
          end)
          |> Enum.reduce_while([], fn result, results ->
            receive do: (:enough -> {:halt, [result | results]}),
                    after: (0 -> {:cont, [result | results]})
          end)
        end)
      end

    server =
      Enum.reduce(1..5, server, fn _round, server ->
        served(20)
        HTTPServer.stop(server)
        HTTPServer.restart(server)
      end)

    served(20)
    for user <- users, do: send(user.pid, :enough)

    for result <- List.flatten(Task.await_many(users, 120_000)) do
      case result do
        {:ok, body} -> assert body =~ ~r/\A\d+\.\d+\z/
        {:error, error} -> assert error.error_type in [:network_error, :dependency_failed]
      end
    end

    assert %{idle: idle} = assert_settled(pool)
    assert idle <= 4
    HTTPServer.stop(server)
    assert %{idle: 0} = await(pool, &(&1.idle == 0))
  end

  test "a server that is not there is named, and waited for within the caller's time" do
    server = HTTPServer.start()
    HTTPServer.stop(server)
    pool = http_pool(server)

    assert {:error, %Error{error_type: :create_failed} = error} =
             ConnectionPool.with_connection(pool, & &1, timeout: 0)

    assert error.message =~ "localhost:#{server.port} failed: connection refused"
    waiter = Task.async(fn -> body(pool, "/") end)
    assert Task.yield(waiter, 50) == nil
    HTTPServer.restart(server)
    assert {:ok, "1.1"} = Task.await(waiter, 60_000)
    assert_settled(pool)
  end

  describe "a request" do
    test "carries method, path, headers and body" do
      server = HTTPServer.start(heard: self())
      pool = http_pool(server, headers: [{"authorization", "Bearer x"}])
      opts = [headers: [{"X-One", "a b"}], body: ["snow ", ["☃"]]]
      assert {:ok, %{status: 200, body: "snow ☃"}} = ask(pool, "/echo", :post, opts)
      assert_receive {:heard, "POST", "/echo", headers, "snow ☃"}

      assert headers == [
               {"host", "localhost:#{server.port}"},
               {"authorization", "Bearer x"},
               {"X-One", "a b"},
               {"content-length", "8"}
             ]

      assert {:ok, %{status: 200, body: ""}} = ask(pool, "/", :head)
      big = :binary.copy("0123456789abcdef", 100_000)
      assert {:ok, %{body: ^big}} = ask(pool, "/echo", :put, body: big, timeout: 60_000)
      assert %{created: 1} = assert_settled(pool)
    end

    test "that could become another one is refused, and so is what is none" do
      pool = http_pool(HTTPServer.start(heard: self()))

      for {method, path, opts, argument} <- [
            {:connect, "/", [], :method},
            {"GET", "/", [], :method},
            {:get, "", [], :path},
            {:get, "http://evil/", [], :path},
            {:get, "/a b", [], :path},
            {:get, "/\r\nx: y", [], :path},
            {:get, "/\n", [], :path},
            {:get, "/#x", [], :path},
            {:get, 7, [], :path},
            {:get, "/", [headers: [{"x", "a\r\ny: b"}]], :headers},
            {:get, "/", [headers: [{"x", "a\n"}]], :headers},
            {:get, "/", [headers: [{"x\n", "a"}]], :headers},
            {:get, "/", [headers: [{"x: y", "a"}]], :headers},
            {:get, "/", [headers: [{"Content-Length", "7"}]], :headers},
            {:get, "/", [headers: [{"transfer-encoding", "chunked"}]], :headers},
            {:get, "/", [headers: [x: 1]], :headers},
            {:get, "/", [headers: %{}], :headers},
            {:get, "/", [body: :no], :body},
            {:get, "/", [timeout: -1], :timeout},
            {:get, "/", [timeuot: 1], :option},
            {:get, "/", :fast, :opts}
          ] do
        assert {:error, %Error{context: %{argument: ^argument}}} = ask(pool, path, method, opts)
      end

      assert {:error, %Error{context: %{argument: :connection}}} = HTTP.request(:no, :get, "/")
      refute_received {:heard, _, _, _, _}
      assert_settled(pool)
    end
  end

  describe "an answer" do
    test "ends where RFC 9112 says" do
      for {answer, body, kept?} <- [
            {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", true},
            {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "ok", true},
            {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true},
            {"HTTP/1.1 204 No\r\n\r\n", "", true},
            {"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", "", true},
            {"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 201 OK\r\ncontent-length: 1\r\n\r\nx",
             "x", true},
            {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false},
            {"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok", "ok",
             true},
            {"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok", "ok",
             false},
            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
             "ok0123456789", true},
            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n0\r\n\r\n", "", true},
            {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
             "ok", false}
          ] do
        assert {{:ok, %{body: ^body}}, ^kept?} = read({answer, :keep})
      end

      assert {{:ok, %{body: "until the end", status: 299}}, false} =
               read({"HTTP/1.1 299 Fine\r\n\r\nuntil the end", :close})

      assert {{:ok, %{body: ""}}, true} =
               read({"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", :keep}, method: :head)

      assert {{:ok, %{headers: headers}}, true} =
               read({"HTTP/1.1 200 OK\r\nX-A: 1\r\ncontent-length: 0\r\nX-a: 2\r\n\r\n", :keep})

      assert headers == [{"x-a", "1"}, {"content-length", "0"}, {"x-a", "2"}]
    end

    test "that is none is an error, and its connection ends" do
      long = :binary.copy("x", 0x2_0000)
      many = for n <- 1..300, do: "x-#{n}: y\r\n"

      for {answer, why} <- [
            {"SSH-2.0-OpenSSH_9.2\r\n", "no HTTP/1.1"},
            {"HTTP/1.1 999999 No\r\n\r\n", "it answered"},
            {"HTTP/1.1 101 Switch\r\n\r\n", "the status 101"},
            {"HTTP/1.1 200 OK\r\nno header\r\n\r\n", "a header that is none"},
            {"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "a length that is none"},
            {"HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\nx", "two lengths"},
            {"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n", "more than 100 bytes"},
            {"HTTP/1.1 200 OK\r\n\r\n" <> String.duplicate("x", 101), "more than 100 bytes"},
            {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nFFFF\r\n",
             "more than 100 bytes"},
            {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
             "a chunk that is none"},
            {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nxxx",
             "a chunk without an end"},
            {"HTTP/1.1 200 OK\r\nx: #{long}\r\n\r\n", "too long a header"},
            {"HTTP/1.1 200 OK\r\n#{many}\r\n", "more than 256 headers"},
            {String.duplicate("HTTP/1.1 102 Wait\r\n\r\n", 40), "interim answers without end"},
            {"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nxx", "the server closed it"},
            {"HTTP/1.1 200 O", "the server closed it"},
            {"", "the server closed it"}
          ] do
        assert {{:error, %Error{} = error}, false} = read({answer, :close}, max_body: 100)
        assert error.message =~ why
        assert %{method: :get, path: "/raw", reason: _} = error.context
      end
    end
  end

  test "a ping asks the path that it is given" do
    Process.flag(:trap_exit, true)
    server = HTTPServer.start()
    {:ok, plain} = HTTP.connect(url: HTTPServer.url(server))
    assert HTTP.ping(plain) == :ok
    {:ok, well} = HTTP.connect(url: HTTPServer.url(server), ping: "/health")
    assert HTTP.ping(well) == :ok
    {:ok, unwell} = HTTP.connect(url: HTTPServer.url(server), ping: "/no")
    assert HTTP.ping(unwell) == {:error, {:status, 503}}
    pool = http_pool(server, [ping: "/no"], health: :passive)
    assert {:ok, _} = body(pool, "/")
    await(pool, &(&1.checks_failed == 1))
    assert_settled(pool)
  end

  test "TLS verifies who answers" do
    Process.flag(:trap_exit, true)
    {of_server, of_client} = certificates()
    server = HTTPServer.start(tls: of_server)
    pool = http_pool(server, tls: [cacerts: of_client[:cacerts]])
    assert for(_ <- 1..3, do: body(pool, "/")) == for(n <- 1..3, do: {:ok, "1.#{n}"})
    assert {:ok, "1.4"} = body(pool, "/close")
    assert {:ok, "2.1"} = body(pool, "/")
    assert {:error, %Error{error_type: :timeout}} = ask(pool, "/hang", :get, timeout: 50)
    big = :binary.copy("0123456789abcdef", 100_000)
    assert {:ok, %{body: ^big}} = ask(pool, "/echo", :put, body: big, timeout: 60_000)
    HTTPServer.stop(server)
    await(pool, &(&1.idle == 0))

    HTTPServer.restart(server)
    # The authorities of the operating system do not know it.
    assert {:error, %Error{error_type: :network_error} = error} =
             HTTP.connect(url: HTTPServer.url(server))

    assert error.message =~ "Unknown CA" or error.message =~ "cacerts"

    assert {:error, %Error{error_type: :network_error}} =
             HTTP.connect(
               url: "https://127.0.0.1:#{server.port}",
               tls: [cacerts: of_client[:cacerts]]
             )

    assert_settled(pool)
  end

  test "chunks and ends of lines are read over TLS, too" do
    {of_server, _of_client} = certificates()

    chunked =
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\nT: x\r\n\r\n"

    server = HTTPServer.start(tls: of_server, raw: fn -> {chunked, :keep} end)
    pool = http_pool(server, tls: [verify: :verify_none])
    assert for(_ <- 1..2, do: body(pool, "/raw")) == [{:ok, "ok!"}, {:ok, "ok!"}]
    assert {:ok, "1.3"} = body(pool, "/")
    assert %{created: 1} = assert_settled(pool)
  end

  test "OTP's own server is understood" do
    root = Path.join(System.tmp_dir!(), "escope_httpd_#{System.unique_integer([:positive])}")
    File.mkdir_p!(root)
    File.write!(Path.join(root, "page.txt"), "a page")
    on_exit(fn -> File.rm_rf!(root) end)
    root_list = String.to_charlist(root)

    {:ok, httpd} =
      :inets.start(:httpd,
        port: 0,
        bind_address: {127, 0, 0, 1},
        server_name: 'localhost',
        server_root: root_list,
        document_root: root_list,
        max_keep_alive_request: 3
      )

    on_exit(fn -> :inets.stop(:httpd, httpd) end)
    port = :httpd.info(httpd)[:port]
    pool = start_pool(worker: {HTTP, url: "http://127.0.0.1:#{port}"})

    # It closes after some requests, without a word: the next one may come to its socket too early, and is asked again.
    again = fn path, method ->
      Stream.repeatedly(fn -> ask(pool, path, method) end)
      |> Enum.find(&(not match?({:error, %Error{context: %{reason: :closed}}}, &1)))
    end

    for _ <- 1..10, do: assert({:ok, %{body: "a page"}} = again.("/page.txt", :get))
    assert {:ok, %{status: 404}} = again.("/none", :get)
    assert {:ok, %{status: 200, body: ""}} = again.("/page.txt", :head)
    assert %{created: created} = assert_settled(pool)
    assert created > 1
  end

  test "options that are none are refused, as the pool starts" do
    for {options, argument} <- [
          {[], :url},
          {[url: "ftp://a"], :url},
          {[url: "http://a/path"], :url},
          {[url: "http://a?b"], :url},
          {[url: "http://u:p@a"], :url},
          {[url: "http://"], :url},
          {[url: "http://a:0"], :url},
          {[url: "http://a\r\n"], :url},
          {[url: <<255>>], :url},
          {[url: "http://a", headers: [{"host", "b"}]], :headers},
          {[url: "http://a", connect_timeout: -1], :connect_timeout},
          {[url: "http://a", max_body: :any], :max_body},
          {[url: "http://a", ping: "health"], :ping},
          {[url: "http://a", tls: 1], :tls},
          {[uri: "http://a"], :option},
          {:no, :opts}
        ] do
      pool = [name: :refused, worker: {HTTP, options}]
      assert {:error, %Error{context: %{argument: ^argument}}} = ConnectionPool.start_link(pool)
      assert {:error, %Error{context: %{argument: ^argument}}} = HTTP.connect(options)
    end
  end

  # Server and client options of TLS for a server of the name localhost.
  defp certificates do
    own = [digest: :sha256, key: {:namedCurve, :secp256r1}]
    name = {:Extension, {2, 5, 29, 17}, false, [dNSName: 'localhost']}
    chain = %{root: own, intermediates: [], peer: own ++ [extensions: [name]]}
    data = :public_key.pkix_test_data(%{server_chain: chain, client_chain: chain})
    {data.server_config, data.client_config}
  end

  defp served(0), do: :ok

  defp served(count) do
    assert_receive :served, 60_000
    served(count - 1)
  end

  defp number(body), do: body |> String.split(".") |> List.last() |> String.to_integer()
end
