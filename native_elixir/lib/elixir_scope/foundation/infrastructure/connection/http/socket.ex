defmodule ElixirScope.Foundation.Infrastructure.Connection.HTTP.Socket do
  @moduledoc false
  # A socket of TCP or TLS under one set of calls. Reading and writing have no time limit: see `Client`.

  alias ElixirScope.Foundation.Infrastructure.Connection.HTTP.Options

  # The longest header line that is read.
  @longest_line 0x1_0000

  @type t :: {:gen_tcp | :ssl, term()}

  @spec connect(Options.t()) :: {:ok, t()} | {:error, term()}
  def connect(%Options{transport: :gen_tcp} = options) do
    host = String.to_charlist(options.host)

    with {:ok, socket} <-
           :gen_tcp.connect(host, options.port, basic(options), options.connect_timeout) do
      # Where nobody listens on a port of those that clients are given, TCP may connect a socket with itself.
      if :inet.sockname(socket) == :inet.peername(socket) do
        :gen_tcp.close(socket)
        {:error, :econnrefused}
      else
        {:ok, {:gen_tcp, socket}}
      end
    end
  end

  def connect(%Options{transport: :ssl} = options) do
    host = String.to_charlist(options.host)

    with {:ok, _started} <- Application.ensure_all_started(:ssl),
         {:ok, tls} <- tls(host, options.tls),
         {:ok, socket} <-
           :ssl.connect(host, options.port, basic(options) ++ tls, options.connect_timeout),
         do: {:ok, {:ssl, socket}}
  end

  defp basic(options) do
    family = if String.contains?(options.host, ":"), do: [:inet6], else: []
    family ++ [:binary, active: false, packet: :raw, packet_size: @longest_line, nodelay: true]
  end

  defp tls(host, own) do
    usual = [
      verify: :verify_peer,
      server_name_indication: host,
      customize_hostname_check: [match_fun: :public_key.pkix_verify_hostname_match_fun(:https)]
    ]

    known? =
      Enum.any?([:cacerts, :cacertfile], &List.keymember?(own, &1, 0)) or
        {:verify, :verify_none} in own

    usual = if known?, do: usual, else: [cacerts: :public_key.cacerts_get()] ++ usual
    {:ok, own ++ Enum.reject(usual, fn {key, _} -> List.keymember?(own, key, 0) end)}
  rescue
    error -> {:error, error}
  end

  @doc "From now on the end of the socket, and whatever comes in, are messages for `event/2`."
  @spec listen(t()) :: :ok | {:error, term()}
  def listen(socket), do: setopts(socket, active: :once, packet: :raw)

  @doc "Ends `listen/1`, unless something has come in."
  @spec stop_listening(t()) :: :ok | {:error, term()}
  def stop_listening({_transport, socket} = own) do
    with :ok <- setopts(own, active: false) do
      receive do
        message when elem(message, 1) == socket -> {:error, event(own, message)}
      after
        0 -> :ok
      end
    end
  end

  @doc "What a message says of the socket; nil if it is none of its own."
  @spec event(t(), term()) :: nil | :closed | :unsolicited | term()
  def event({_, socket}, {tag, socket}) when tag in [:tcp_closed, :ssl_closed], do: :closed
  def event({_, socket}, {tag, socket, _data}) when tag in [:tcp, :ssl], do: :unsolicited
  def event({_, socket}, {tag, socket, reason}) when tag in [:tcp_error, :ssl_error], do: reason
  def event(_socket, _message), do: nil

  @doc "Sets how the next reads cut what comes in: `:raw`, `:line` or `:http_bin`."
  @spec packet(t(), atom()) :: :ok | {:error, term()}
  def packet(socket, packet), do: setopts(socket, packet: packet)

  @spec send(t(), iodata()) :: :ok | {:error, term()}
  def send({transport, socket}, data), do: transport.send(socket, data)

  @spec recv(t(), non_neg_integer()) :: {:ok, term()} | {:error, term()}
  def recv({transport, socket}, length), do: transport.recv(socket, length, :infinity)

  @doc "The reason of an error in words."
  @spec format(term()) :: String.t()
  def format(:closed), do: "the server closed it"
  def format(reason) when is_atom(reason), do: List.to_string(:inet.format_error(reason))
  def format({:tls_alert, {_name, text}}), do: List.to_string(text)
  def format(reason), do: inspect(reason)

  defp setopts({:gen_tcp, socket}, options), do: :inet.setopts(socket, options)
  defp setopts({:ssl, socket}, options), do: :ssl.setopts(socket, options)
end
