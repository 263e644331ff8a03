defmodule ElixirScope.Foundation.Infrastructure.Connection.HTTP do
  @moduledoc """
  A kept-alive HTTP/1.1 connection to an external API, over TCP or TLS.

      config :elixir_scope, :infrastructure,
        connection_pools: %{
          parser_api: %{size: 4, worker: {ElixirScope.Foundation.Infrastructure.Connection.HTTP, url: "https://api.example.com"}}
        }

      ConnectionPool.with_connection(:parser_api, fn api ->
        HTTP.request(api, :post, "/parse", headers: [{"content-type", "text/plain"}], body: source)
      end)

  One connection is one socket, its holder's alone, for one request at a time. It is a process: when the server closes the
  socket while nobody uses it, the process ends, and the pool makes another. The server's announcement that it will close,
  an answer that is none, and a request that is not answered in time end it as well. Nothing is sent twice: whoever gets an error
  knows best whether to ask again. A server that closes at the very moment at which it is asked makes an error, too; that is in the
  nature of HTTP/1.1, and seldom where `:idle_timeout` of the pool is shorter than the server's.

  ## Options

    * `:url` (required): scheme, host and port, as `"http://127.0.0.1:8080"`;
    * `:headers` ([]): `{name, value}` pairs that are sent with each request, such as an authorization;
    * `:connect_timeout` (5000): milliseconds for TCP and TLS together;
    * `:max_body` (16 MiB): a longer answer is refused, and its connection closed;
    * `:ping` (none): a path that answers GET with 2xx while the server is well, asked under the pool's `:health`. Without it a
      socket that is open is well;
    * `:tls` ([]): client options of `:ssl`, such as `cacertfile:`. The server's certificate is verified against those of the
      operating system and for the host of the URL.

  ## On what

  Sockets of `:gen_tcp` and `:ssl`, whose decoder of HTTP reads status and header lines. `:httpc` is no connection to be lent: it
  has a pool of its own behind each profile, opens another socket in silence where one was closed, and makes an atom for each
  profile that is started.
  """

  @behaviour ElixirScope.Foundation.Infrastructure.Connection

  alias ElixirScope.Foundation.{Error, Infrastructure}
  alias ElixirScope.Foundation.Infrastructure.Connection.Call
  alias ElixirScope.Foundation.Infrastructure.Connection.HTTP.{Client, Options, Request}

  @timeout 5_000

  @typedoc "Names of headers are in small letters, in the order in which they came."
  @type response :: %{
          status: 200..999,
          headers: [{String.t(), String.t()}],
          body: binary()
        }

  @impl true
  def check_argument(options), do: with({:ok, _options} <- Options.new(options), do: :ok)

  @impl true
  def connect(options) do
    with {:ok, options} <- Options.new(options) do
      case GenServer.start_link(Client, options) do
        {:ok, connection} -> {:ok, connection}
        {:error, {:shutdown, error}} -> {:error, error}
      end
    end
  end

  # It may be in the middle of an answer that nobody waits for any more.
  @impl true
  def disconnect(connection, _reason) do
    Process.exit(connection, :shutdown)
    ended(connection)
  end

  @impl true
  def ping(connection) do
    with path when path != nil <- GenServer.call(connection, :ping_path, :infinity),
         {:ok, %{status: status}} <- request(connection, :get, path) do
      if status in 200..299, do: :ok, else: {:error, {:status, status}}
    else
      nil -> :ok
      {:error, error} -> {:error, error}
    end
  end

  # A connection that ended with its last answer is not lent again, whoever hears of its end first.
  @impl true
  def reset(connection), do: if(Process.alive?(connection), do: :ok, else: {:error, :closed})

  @doc """
  Sends a request and waits for its answer, of whatever status.

  `method` is `:get`, `:head`, `:post`, `:put`, `:patch`, `:delete` or `:options`; `path` begins with a slash and may have a
  query. Options: `:headers`, `{name, value}` pairs; `:body`, iodata; `:timeout` (5000), milliseconds for all of it. The
  connection itself takes care of Host, Connection, Content-Length and Transfer-Encoding.
  """
  @spec request(pid(), atom(), String.t(), keyword()) :: {:ok, response()} | {:error, Error.t()}
  def request(connection, method, path, opts \\ []) do
    with true <- is_pid(connection) || refused(connection),
         :ok <- Infrastructure.check_options(opts, [:headers, :body, :timeout]),
         {:ok, timeout} <- Call.milliseconds(opts, :timeout, @timeout),
         {:ok, request} <- Request.new(method, path, opts[:headers] || [], opts[:body] || "") do
      context = %{method: method, path: path}

      connection
      |> Call.run(timeout, "request", context, fn ->
        GenServer.call(connection, {:request, request}, timeout)
      end)
      |> answered(connection, context)
    end
  end

  defp refused(connection),
    do: {:error, Error.refused(:connection, connection, "a connection of an HTTP pool")}

  defp answered({:open, response}, _connection, _context), do: {:ok, response}

  defp answered({:closed, response}, connection, _context) do
    ended(connection)
    {:ok, response}
  end

  defp answered({:failed, %Error{} = error}, connection, context) do
    ended(connection)
    {:error, %{error | context: Map.merge(error.context, context)}}
  end

  defp answered({:error, error}, _connection, _context), do: {:error, error}

  defp ended(connection) do
    monitor = Process.monitor(connection)
    receive do: ({:DOWN, ^monitor, :process, _, _} -> :ok)
  end
end
