defmodule ElixirScope.Foundation.Infrastructure.Names do
  @moduledoc """
  Finds native objects by kind, namespace and name.

  A name is there to find a handle, and that must cost next to nothing: objects of the application's
  namespaces are read from `:persistent_term`, without a copy and without a lock. Writing there is expensive,
  so the many short-lived namespaces of tests live in a table.

  Creation goes through one process, so that a name has one object even when many callers need it first at the
  same moment. The objects outlive that process: the table belongs to the supervisor.
  """
  use GenServer

  alias ElixirScope.Foundation.Error

  # Every rate limit without a namespace looks for this object, and an atom is found in a quarter of the time that
  # a tuple takes.
  @usual_limiter Module.concat(__MODULE__, UsualLimiter)

  @type kind :: :breaker | :limiter | :clock | :protection
  @type namespace :: atom() | {:test, reference()}
  @type name :: atom()
  @type entry :: term()

  @doc false
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc false
  @spec create_table() :: :ok
  def create_table do
    :ets.new(__MODULE__, [:named_table, :public, :set, read_concurrency: true])
    :ok
  end

  @doc "The entry of a name, or nil."
  @spec lookup(kind(), namespace(), name()) :: entry() | nil
  def lookup(kind, {:test, _reference} = namespace, name) do
    :ets.lookup_element(__MODULE__, {kind, namespace, name}, 2)
  rescue
    ArgumentError -> nil
  end

  def lookup(kind, namespace, name),
    do: :persistent_term.get(permanent(kind, namespace, name), nil)

  @doc "The entry of a name; `create` makes it if there is none."
  @spec ensure(kind(), namespace(), name(), (() -> {:ok, entry()} | {:error, Error.t()})) ::
          {:ok, entry()} | {:error, Error.t()}
  def ensure(kind, namespace, name, create) do
    with :ok <- check(namespace, name), do: call({:ensure, {kind, namespace, name}, create})
  end

  @doc "Gives a name a new object, whatever it had before."
  @spec replace(kind(), namespace(), name(), (() -> {:ok, entry()} | {:error, Error.t()})) ::
          {:ok, entry()} | {:error, Error.t()}
  def replace(kind, namespace, name, create) do
    with :ok <- check(namespace, name), do: call({:replace, {kind, namespace, name}, create})
  end

  @doc "Forgets a name."
  @spec remove(kind(), namespace(), name()) :: :ok | {:error, Error.t()}
  def remove(kind, namespace, name), do: call({:remove, {kind, namespace, name}})

  @doc "Names and entries of a namespace."
  @spec list(kind(), namespace()) :: [{name(), entry()}]
  def list(kind, namespace) do
    for [name, entry] <- :ets.match(__MODULE__, {{kind, namespace, :"$1"}, :"$2"}),
        do: {name, entry}
  rescue
    ArgumentError -> []
  end

  @doc "Forgets all that a namespace has."
  @spec forget(namespace()) :: :ok | {:error, Error.t()}
  def forget(namespace), do: call({:forget, namespace})

  @doc "Forgets what the application has: when it stops."
  @spec forget_all() :: :ok
  def forget_all do
    for {key, _entry} <- :persistent_term.get(), permanent?(key), do: :persistent_term.erase(key)
    :ok
  end

  defp permanent(:limiter, :production, :default), do: @usual_limiter
  defp permanent(kind, namespace, name), do: {__MODULE__, kind, namespace, name}

  defp permanent?({__MODULE__, _kind, _namespace, _name}), do: true
  defp permanent?(key), do: key == @usual_limiter

  @doc "Whether this is a namespace: an atom, or `{:test, reference}`."
  @spec check(term(), term()) :: :ok | {:error, Error.t()}
  def check(namespace, name) do
    cond do
      not namespace?(namespace) ->
        {:error, Error.refused(:namespace, namespace, "an atom or {:test, reference}")}

      not is_atom(name) or is_nil(name) ->
        {:error, Error.refused(:name, name, "an atom")}

      true ->
        :ok
    end
  end

  @doc false
  @spec not_running(term()) :: Error.t()
  def not_running(reason) do
    message = "The application :elixir_scope_foundation is not running"
    Error.new(:service_unavailable, message, context: %{reason: reason})
  end

  defp namespace?({:test, reference}), do: is_reference(reference)
  defp namespace?(namespace), do: is_atom(namespace) and not is_nil(namespace)

  defp call(request) do
    GenServer.call(__MODULE__, request, :infinity)
  catch
    :exit, {reason, {GenServer, :call, _arguments}} -> {:error, not_running(reason)}
  end

  @impl true
  def init(_opts), do: {:ok, nil}

  @impl true
  def handle_call({:ensure, {kind, namespace, name} = key, create}, _from, state) do
    case lookup(kind, namespace, name) do
      nil -> {:reply, make(key, create), state}
      entry -> {:reply, {:ok, entry}, state}
    end
  end

  def handle_call({:replace, key, create}, _from, state), do: {:reply, make(key, create), state}

  def handle_call({:remove, key}, _from, state) do
    delete(key)
    {:reply, :ok, state}
  end

  def handle_call({:forget, namespace}, _from, state) do
    for [kind, name] <- :ets.match(__MODULE__, {{:"$1", namespace, :"$2"}, :_}),
        do: delete({kind, namespace, name})

    {:reply, :ok, state}
  end

  defp make(key, create) do
    with {:ok, entry} <- create.() do
      put(key, entry)
      {:ok, entry}
    end
  end

  defp put({kind, namespace, name} = key, entry) do
    :ets.insert(__MODULE__, {key, entry})

    unless match?({:test, _reference}, namespace),
      do: :persistent_term.put(permanent(kind, namespace, name), entry)
  end

  defp delete({kind, namespace, name} = key) do
    :ets.delete(__MODULE__, key)
    :persistent_term.erase(permanent(kind, namespace, name))
  end
end
