defmodule ElixirScope.Foundation.Infrastructure.Names do
  @moduledoc """
  Finds native objects by kind, namespace and name.

  A namespace is `:production`, which is the application's, or `{:test, reference}` for a test that shall not see any
  other. There is no third one: a misspelt namespace would quietly be a place of its own, with breakers and
  limits that nobody else shares.

  A name is there to find a handle, and that must cost next to nothing: the application's objects are read
  from `:persistent_term`, without a copy and without a lock. Writing there is expensive, so the many short-lived
  namespaces of tests live in a table.

  Creation goes through one process, so that a name has one object even when many callers need it first at the
  same moment. The objects outlive that process: the table belongs to the supervisor.
  """
  use GenServer

  alias ElixirScope.Foundation.Error

  # Every rate limit without a namespace looks for this object, and an atom is found in a quarter of the time that
  # a tuple takes.
  @usual_limiter Module.concat(__MODULE__, UsualLimiter)

  @type kind :: :breaker | :limiter | :clock | :protection
  @type namespace :: :production | {:test, reference()}
  @type name :: atom()
  @type entry :: term()

  # What a name of this kind is called where it is an argument.
  @arguments %{breaker: :service, limiter: :name, clock: :name, protection: :key}
  @kinds Map.keys(@arguments)

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

  def lookup(kind, :production, name),
    do: :persistent_term.get(permanent(kind, name), nil)

  def lookup(_kind, _no_namespace, _name), do: nil

  @doc "The entry of a name; `create` makes it if there is none."
  @spec ensure(kind(), namespace(), name(), (() -> {:ok, entry()} | {:error, Error.t()})) ::
          {:ok, entry()} | {:error, Error.t()}
  def ensure(kind, namespace, name, create) do
    with :ok <- check(kind, namespace, name), do: call({:ensure, {kind, namespace, name}, create})
  end

  @doc "Gives a name a new object, whatever it had before."
  @spec replace(kind(), namespace(), name(), (() -> {:ok, entry()} | {:error, Error.t()})) ::
          {:ok, entry()} | {:error, Error.t()}
  def replace(kind, namespace, name, create) do
    with :ok <- check(kind, namespace, name),
         do: call({:replace, {kind, namespace, name}, create})
  end

  @doc "Gives a name another entry, made of the one that it has; nil if it has none."
  @spec update(kind(), namespace(), name(), (entry() -> {:ok, entry()} | {:error, Error.t()})) ::
          {:ok, entry()} | {:error, Error.t()} | nil
  def update(kind, namespace, name, change), do: call({:update, {kind, namespace, name}, change})

  @doc "Does so for every name of a kind."
  @spec update_all(kind(), (entry() -> entry())) :: :ok | {:error, Error.t()}
  def update_all(kind, change), do: call({:update_all, kind, change})

  @doc "Forgets a name. What `last` returns is of the moment before, with nothing made or forgotten in between."
  @spec remove(kind(), namespace(), name(), (() -> last)) :: {:ok, last} | {:error, Error.t()}
        when last: term()
  def remove(kind, namespace, name, last \\ fn -> :ok end),
    do: call({:remove, {kind, namespace, name}, last})

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

  defp permanent(:limiter, :default), do: @usual_limiter
  # Two atoms are hashed in half the time that a longer key takes.
  for kind <- @kinds,
      do: defp(permanent(unquote(kind), name), do: {unquote(:"elixir_scope_#{kind}"), name})

  defp permanent?({tag, _name}), do: tag in unquote(Enum.map(@kinds, &:"elixir_scope_#{&1}"))
  defp permanent?(key), do: key == @usual_limiter

  @doc "Whether this is a namespace: `:production`, or `{:test, reference}`."
  @spec check(term()) :: :ok | {:error, Error.t()}
  def check(:production), do: :ok
  def check({:test, reference}) when is_reference(reference), do: :ok

  def check(namespace),
    do: {:error, Error.refused(:namespace, namespace, ":production or {:test, reference}")}

  defp check(kind, namespace, name) do
    if is_atom(name) and not is_nil(name),
      do: check(namespace),
      else: {:error, Error.refused(@arguments[kind], name, "an atom")}
  end

  @doc false
  @spec not_running(term()) :: Error.t()
  def not_running(reason) do
    message = "The application :elixir_scope_foundation is not running"
    Error.new(:service_unavailable, message, context: %{reason: reason})
  end

  defp call(request) do
    with {:raised, kind, reason, stacktrace} <- GenServer.call(__MODULE__, request, :infinity),
         do: :erlang.raise(kind, reason, stacktrace)
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

  def handle_call({:update, {kind, namespace, name} = key, change}, _from, state) do
    case lookup(kind, namespace, name) do
      nil -> {:reply, nil, state}
      entry -> {:reply, make(key, fn -> change.(entry) end), state}
    end
  end

  def handle_call({:update_all, kind, change}, _from, state) do
    for [namespace, name, entry] <- :ets.match(__MODULE__, {{kind, :"$1", :"$2"}, :"$3"}),
        do: put({kind, namespace, name}, change.(entry))

    {:reply, :ok, state}
  end

  def handle_call({:remove, key, last}, _from, state) do
    last = last.()
    delete(key)
    {:reply, {:ok, last}, state}
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
  catch
    # Whoever asked for it gets to know; everybody else still needs this process.
    kind, reason -> {:raised, kind, reason, __STACKTRACE__}
  end

  defp put({kind, namespace, name} = key, entry) do
    :ets.insert(__MODULE__, {key, entry})
    if namespace == :production, do: :persistent_term.put(permanent(kind, name), entry)
  end

  defp delete({kind, namespace, name} = key) do
    :ets.delete(__MODULE__, key)
    if namespace == :production, do: :persistent_term.erase(permanent(kind, name))
  end
end
