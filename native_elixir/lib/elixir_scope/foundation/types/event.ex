defmodule ElixirScope.Foundation.Types.Event do
  @moduledoc """
  Something that happened: what, when, where, and what it belongs to.

      iex> ElixirScope.Foundation.Types.Event.new(:spawn).event_type
      :spawn
  """

  defstruct [
    :event_type,
    :event_id,
    :timestamp,
    :wall_time,
    :node,
    :pid,
    :correlation_id,
    :parent_id,
    :data
  ]

  @type id :: pos_integer()
  @type t :: %__MODULE__{
          event_type: atom() | nil,
          event_id: id() | nil,
          timestamp: integer() | nil,
          wall_time: DateTime.t() | nil,
          node: node() | nil,
          pid: pid() | nil,
          correlation_id: String.t() | nil,
          parent_id: id() | nil,
          data: term()
        }

  @doc "An event without anything."
  @spec new() :: t()
  def new, do: %__MODULE__{}

  @doc "An event of this type, or of these fields."
  @spec new(atom() | keyword()) :: t()
  def new(event_type) when is_atom(event_type), do: %__MODULE__{event_type: event_type}
  def new(fields) when is_list(fields), do: struct(__MODULE__, fields)
end
