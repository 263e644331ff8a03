defmodule ElixirScope.Foundation.Types.Error do
  @moduledoc """
  The error of services, logic and validators: a plain record, filled in by whoever returns it.

  It has the fields of `ElixirScope.Foundation.Error`, which the infrastructure returns and which takes its values
  from a catalogue. Match on `error_type`; that fits both.

      iex> error = ElixirScope.Foundation.Types.Error.new(code: 3001, error_type: :not_found, message: "No", severity: :low)
      iex> {error.error_type, error.context, error.recovery_actions}
      {:not_found, %{}, []}
  """

  @enforce_keys [:code, :error_type, :message, :severity]
  defstruct [
    :code,
    :error_type,
    :message,
    :severity,
    :correlation_id,
    :timestamp,
    :stacktrace,
    :category,
    :subcategory,
    :retry_strategy,
    context: %{},
    recovery_actions: []
  ]

  @type severity :: :low | :medium | :high | :critical
  @type t :: %__MODULE__{
          code: pos_integer() | nil,
          error_type: atom(),
          message: String.t(),
          severity: severity(),
          context: map(),
          correlation_id: String.t() | nil,
          timestamp: DateTime.t() | nil,
          stacktrace: list() | nil,
          category: atom(),
          subcategory: atom(),
          retry_strategy: atom(),
          recovery_actions: [String.t()]
        }

  @doc "An error of these fields, made now unless `:timestamp` says otherwise."
  @spec new(keyword()) :: t()
  def new(fields),
    do: struct!(__MODULE__, Keyword.put_new_lazy(fields, :timestamp, &DateTime.utc_now/0))
end
