defmodule ElixirScope.Compat.Fuse.Event do
  @moduledoc """
  Tells handlers what becomes of fuses: `fuse_event` of fuse, a `:gen_event` manager.

  A handler is a module with the callbacks of `:gen_event`. It gets

    * `{name, :ok}`, or `{name, {:gradual, rate}}` of a fuse with `:fault_injection`: installed, reset, enabled or healed;
    * `{name, :blown}`: by melts or by `Fuse.circuit_disable/1`, and only if it was not blown before;
    * `{name, :removed}`.

  Those of one fuse come in the order in which it changed. A handler that fails is taken out, as `:gen_event` does, and
  harms neither fuses nor other handlers.
  """

  alias ElixirScope.Compat.Fuse

  @type event :: {Fuse.name(), :ok | :blown | {:gradual, float()} | :removed}

  @doc false
  @spec child_spec(term()) :: Supervisor.child_spec()
  def child_spec(_opts), do: %{id: __MODULE__, start: {__MODULE__, :start_link, []}}

  @doc false
  @spec start_link() :: {:ok, pid()} | {:error, term()}
  def start_link, do: :gen_event.start_link({:local, __MODULE__})

  @doc "Adds a handler: a module, or `{module, id}`."
  @spec add_handler(:gen_event.handler(), term()) :: term()
  def add_handler(handler, args), do: :gen_event.add_handler(__MODULE__, handler, args)

  @doc "Takes a handler out, and gives what its `terminate/2` returns."
  @spec delete_handler(:gen_event.handler(), term()) :: term()
  def delete_handler(handler, args), do: :gen_event.delete_handler(__MODULE__, handler, args)

  @doc "Sends an event to the handlers. While no manager runs, nobody hears of it."
  @spec notify(event()) :: :ok
  def notify(event) do
    case Process.whereis(__MODULE__) do
      nil -> :ok
      manager -> :gen_event.notify(manager, event)
    end
  end

  @doc "Returns when every change that happened before the call has been told."
  @spec sync() :: :ok
  def sync do
    Fuse.Server.sync()
    # Answered in turn, after the events that are on their way.
    _ = :gen_event.which_handlers(__MODULE__)
    :ok
  end
end
