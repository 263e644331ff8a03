defmodule ParseService.Parser do
  @moduledoc """
  A process that parses. It has its own heap, so that what a large source leaves behind is not the caller's garbage, and
  there are only as many at a time as the pool has.
  """
  use GenServer

  @behaviour ElixirScope.Foundation.Infrastructure.Connection

  @impl ElixirScope.Foundation.Infrastructure.Connection
  def connect(_arg), do: GenServer.start_link(__MODULE__, nil)

  @impl ElixirScope.Foundation.Infrastructure.Connection
  def disconnect(parser, _reason), do: GenServer.stop(parser)

  @doc "Parses in this process. The breaker and its `call_timeout` judge how long, not this call."
  @spec parse(pid(), String.t()) :: {:ok, Macro.t()} | {:error, {keyword(), term(), term()}}
  def parse(parser, source), do: GenServer.call(parser, {:parse, source}, :infinity)

  @impl GenServer
  def init(nil), do: {:ok, nil}

  # A token that does not exist yet stays a string: the atoms of a user's source would fill the atom table.
  @impl GenServer
  def handle_call({:parse, source}, _from, state) do
    encode = fn token, _where -> {:ok, {:token, token}} end
    {:reply, Code.string_to_quoted(source, static_atoms_encoder: encode), state, :hibernate}
  end
end
