defmodule ElixirScope.Foundation do
  @moduledoc """
  The Foundation layer as a whole: configuration, events and telemetry of `:production`.

      iex> ElixirScope.Foundation.initialize()
      :ok
      iex> ElixirScope.Foundation.available?()
      true
      iex> {:ok, health} = ElixirScope.Foundation.health()
      iex> health.status
      :healthy
  """

  alias ElixirScope.Foundation.{Config, Events, Telemetry}

  @app :elixir_scope_foundation

  @type error ::
          {:error, ElixirScope.Foundation.Types.Error.t() | ElixirScope.Foundation.Error.t()}

  @doc "Starts what does not run, in turn: the configuration (with `opts[:config]`), the events, the telemetry."
  @spec initialize(keyword()) :: :ok | error()
  def initialize(opts \\ []) do
    with :ok <- Config.initialize(Keyword.get(opts, :config, [])),
         :ok <- Events.initialize(),
         do: Telemetry.initialize()
  end

  @doc "How the services are: `%{config, events, telemetry}`, or the first error."
  @spec status() :: {:ok, map()} | error()
  def status do
    with {:ok, config} <- Config.status(),
         {:ok, events} <- Events.status(),
         {:ok, telemetry} <- Telemetry.status(),
         do: {:ok, %{config: config, events: events, telemetry: telemetry}}
  end

  @doc "Whether all three services run."
  @spec available?() :: boolean()
  def available?, do: Config.available?() and Events.available?() and Telemetry.available?()

  @doc """
  `status` (`:healthy`, or `:degraded` where a service says another status than `:running`), `timestamp` (monotonic ms),
  `services` (as `status/0`), `foundation_available`, `elixir_version`, `otp_release`.
  """
  @spec health() :: {:ok, map()} | error()
  def health do
    with {:ok, services} <- status() do
      running? = Enum.all?(services, fn {_name, service} -> service.status == :running end)

      {:ok,
       %{
         status: if(running?, do: :healthy, else: :degraded),
         timestamp: System.monotonic_time(:millisecond),
         services: services,
         foundation_available: available?(),
         elixir_version: System.version(),
         otp_release: System.otp_release()
       }}
    end
  end

  @doc "The version of the application."
  @spec version() :: String.t()
  def version, do: @app |> Application.spec(:vsn) |> to_string()

  @doc "Stops the application with all its services; `Application.ensure_all_started(#{inspect(@app)})` starts it again."
  @spec shutdown() :: :ok
  def shutdown do
    case Application.stop(@app) do
      :ok -> :ok
      {:error, {:not_started, @app}} -> :ok
    end
  end
end
