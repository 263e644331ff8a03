defmodule ElixirScope.Foundation.Infrastructure.StatusPage do
  @moduledoc """
  A small web server that shows breakers, limiters, pools and service metrics of the namespace `:production`, off unless it
  is switched on:

      config :elixir_scope, :status_page, enabled: true, port: 9568

  | path | |
  | --- | --- |
  | `/status` | a page with states, rates and a timeline of the last two minutes, that keeps itself up to date |
  | `/status.json` | the same for programs |
  | `/metrics` | `ElixirScope.Foundation.Infrastructure.OpenMetrics` |

  Options: `:port` (9568; 0 chooses a free one, see `port/0`), `:bind` (`{127, 0, 0, 1}`), an IPv4 address, and `:hosts` ([]), names
  under which it may be asked for beside `localhost` and addresses: a request for any other name is refused, or a page from
  elsewhere could have its own name point here and read this one (DNS rebinding). Nobody has to log in: whoever binds it
  to another address than loopback shows it to everybody who can reach that.

  It is OTP's own server (`:inets`), which answers GET and HEAD and reads nothing from disk. The page loads nothing from anywhere.
  """
  use Supervisor

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.StatusPage.{Handler, History}

  @defaults %{enabled: false, port: 9568, bind: {127, 0, 0, 1}, hosts: []}

  @doc "What the configuration says, or why it cannot be."
  @spec options() ::
          {:ok,
           %{
             enabled: boolean(),
             port: :inet.port_number(),
             bind: :inet.ip4_address(),
             hosts: [String.t()]
           }}
          | {:error, Error.t()}
  def options do
    given = Application.get_env(:elixir_scope, :status_page, [])

    if is_map(given) or Keyword.keyword?(given),
      do: given |> Map.new() |> check(),
      else: refused(:status_page, given, "a map or a keyword list")
  end

  defp check(given) do
    options = Map.merge(@defaults, given)

    cond do
      unknown = List.first(Map.keys(given) -- Map.keys(@defaults)) ->
        refused(:status_page, unknown, "one of :enabled, :port, :bind, :hosts")

      not is_boolean(options.enabled) ->
        refused(:enabled, options.enabled, "true or false")

      options.port not in 0..65_535 ->
        refused(:port, options.port, "0 to 65535")

      not :inet.is_ipv4_address(options.bind) ->
        refused(:bind, options.bind, "an IPv4 address such as {127, 0, 0, 1}")

      not names?(options.hosts) ->
        refused(:hosts, options.hosts, "a list of names")

      true ->
        {:ok, options}
    end
  end

  defp names?([name | rest]), do: is_binary(name) and names?(rest)
  defp names?(rest), do: rest == []

  defp refused(argument, value, allowed),
    do: {:error, Error.refused(argument, value, allowed, :invalid_config_value)}

  @doc "The port that it listens on, or nil."
  @spec port() :: :inet.port_number() | nil
  def port do
    case :supervisor.get_childspec(__MODULE__, Handler) do
      {:ok, %{start: {:inets, :start, [:httpd, server, :stand_alone]}}} -> server[:port]
      {:error, _not_there} -> nil
    end
  catch
    :exit, _not_running -> nil
  end

  # Whether a request for this `Host` is meant for this server. An address is no name that somebody could point here.
  @doc false
  @spec host?(String.t()) :: boolean()
  def host?(host) do
    name = host |> String.replace(~r/:\d*$/, "") |> String.downcase()

    address =
      name |> String.trim_leading("[") |> String.trim_trailing("]") |> String.to_charlist()

    name == "localhost" or match?({:ok, _}, :inet.parse_strict_address(address)) or
      name in hosts()
  end

  defp hosts do
    case options() do
      {:ok, %{hosts: hosts}} -> Enum.map(hosts, &String.downcase/1)
      {:error, _changed_since} -> []
    end
  end

  @doc false
  @spec start_link(map()) :: Supervisor.on_start()
  def start_link(options), do: Supervisor.start_link(__MODULE__, options, name: __MODULE__)

  @impl true
  def init(options) do
    server = %{
      id: Handler,
      start: {:inets, :start, [:httpd, server(chosen(options)), :stand_alone]},
      type: :supervisor
    }

    Supervisor.init([History, server], strategy: :one_for_one)
  end

  # The server would choose a port, too, but does not tell which.
  defp chosen(%{port: 0} = options) do
    {:ok, socket} = :gen_tcp.listen(0, ip: options.bind)
    {:ok, port} = :inet.port(socket)
    :ok = :gen_tcp.close(socket)
    %{options | port: port}
  end

  defp chosen(options), do: options

  defp server(%{port: port, bind: bind}) do
    # The server wants directories though it never reads one.
    root = System.tmp_dir!() |> String.to_charlist()

    [
      port: port,
      bind_address: bind,
      ipfamily: :inet,
      server_name: 'elixirscope',
      server_root: root,
      document_root: root,
      server_tokens: :none,
      modules: [Handler],
      max_clients: 50,
      keep_alive_timeout: 15
    ]
  end
end
