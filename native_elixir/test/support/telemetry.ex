defmodule :telemetry do
  @moduledoc """
  The one function of the `:telemetry` library that the product calls, for a VM that does not have the library.
  """

  @spec execute([atom()], map(), map()) :: :ok
  def execute(name, measurements, metadata) do
    for pid <- ElixirScope.Foundation.TelemetryLog.attached(),
        do: send(pid, {:telemetry, name, measurements, metadata})

    :ok
  end
end

defmodule ElixirScope.Foundation.TelemetryLog do
  @moduledoc "Who gets `{:telemetry, name, measurements, metadata}` messages."

  @doc "Sends the calling process all events."
  @spec attach() :: :ok
  def attach, do: :persistent_term.put(__MODULE__, [self()])

  @doc "The processes that get events."
  @spec attached() :: [pid()]
  def attached, do: :persistent_term.get(__MODULE__, [])
end
