defmodule ElixirScope.FuseCase do
  @moduledoc false
  # Fuses of a test: a namespace with a clock that stands still, and the events as the handlers get them.
  use ExUnit.CaseTemplate

  alias ElixirScope.Compat.Fuse
  alias ElixirScope.Foundation.Infrastructure.ManualClock
  alias ElixirScope.Foundation.ProcessRegistry

  defmodule Forward do
    @moduledoc false
    @behaviour :gen_event

    @impl true
    def init(pid), do: {:ok, pid}

    @impl true
    def handle_event(event, pid) do
      send(pid, {:fuse_event, event})
      {:ok, pid}
    end

    @impl true
    def handle_call(_request, pid), do: {:ok, :ok, pid}
  end

  using do
    quote do
      # SASL logs each alarm, and OTP each handler that fails.
      @moduletag :capture_log
      import ElixirScope.FuseCase
      alias ElixirScope.Compat.Fuse
    end
  end

  setup do
    reference = make_ref()
    namespace = {:test, reference}
    :ok = ManualClock.install(namespace)
    :ok = Fuse.Event.add_handler({Forward, reference}, self())

    on_exit(fn ->
      Fuse.Event.delete_handler({Forward, reference}, :done)
      ProcessRegistry.cleanup_test_namespace(reference)
    end)

    {:ok, namespace: namespace, name: {namespace, :fuse}}
  end

  def advance({namespace, _fuse}, ms), do: ManualClock.advance(namespace, ms)

  def melt(name, times), do: for(_ <- 1..times//1, do: :ok = Fuse.melt(name))

  @doc "What was told of a fuse since the last look, in order."
  def events(name) do
    Fuse.Event.sync()
    take(name, [])
  end

  defp take(name, told) do
    receive do
      {:fuse_event, {^name, what}} -> take(name, [what | told])
    after
      0 -> Enum.reverse(told)
    end
  end

  @doc "Has the timer of a fuse go off, whether it is running or not."
  def timer(id) do
    send(Fuse.Server, {:settle, id})
    Fuse.Server.sync()
  end

  def id(name), do: with(%{id: id} <- Fuse.Table.fetch(name), do: id)
end
