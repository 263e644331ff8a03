defmodule ElixirScope.Compat.Fuse.Table do
  @moduledoc false
  # The fuses by name, where a crash of the process that installs them does not reach.
  #
  # What an ask needs is in `:persistent_term`: reading it costs no copy and takes no lock. All else is in a table that
  # belongs to the supervisor, and so is what an ask needs of a fuse of a test, since each erased persistent term makes the VM
  # scan every process.

  alias ElixirScope.Compat.Fuse
  alias ElixirScope.Foundation.Infrastructure.Names

  @tag :elixir_scope_fuse

  @typedoc """
  `past`: breakers that it had before and whose counters are still its own. `up`: what it is told as while it is whole.
  `told`: what was told last. `sequence`: of the last change that was told. `heals`: whether it heals by a timer.
  """
  @type fuse :: %{
          name: Fuse.name(),
          id: pos_integer(),
          breaker: reference(),
          past: [reference()],
          plugin: module() | nil,
          up: Fuse.Options.up(),
          told: Fuse.Options.up() | :blown,
          sequence: non_neg_integer(),
          heals: boolean()
        }

  @spec create() :: :ok
  def create do
    # Those of a supervisor that was killed have no fuse in the table any more.
    forget_all()
    :ets.new(__MODULE__, [:named_table, :public, :set, read_concurrency: true])
    :ok
  end

  @doc "Breaker and plugin of a fuse."
  @spec find(Fuse.name()) :: {breaker :: reference(), plugin :: module() | nil} | nil
  def find({{:test, reference}, _term} = name) when is_reference(reference) do
    with %{breaker: breaker, plugin: plugin} <- fetch(name), do: {breaker, plugin}
  end

  def find(name), do: :persistent_term.get({@tag, name}, nil)

  @doc "The namespace that a name of a test belongs to."
  @spec namespace(Fuse.name()) :: Names.namespace()
  def namespace({{:test, reference} = namespace, _term}) when is_reference(reference),
    do: namespace

  def namespace(_name), do: :production

  @spec fetch(Fuse.name()) :: fuse() | nil
  def fetch(name) do
    get({:fuse, name})
  rescue
    # The application does not run, so there is no fuse.
    ArgumentError -> nil
  end

  @spec list() :: [fuse()]
  def list, do: List.flatten(:ets.match(__MODULE__, {{:fuse, :_}, :"$1"}))

  @spec put(fuse()) :: :ok
  def put(%{name: name} = fuse) do
    :ets.insert(__MODULE__, {{:fuse, name}, fuse})

    if namespace(name) == :production,
      do: :persistent_term.put({@tag, name}, {fuse.breaker, fuse.plugin})

    :ok
  end

  @spec delete(Fuse.name()) :: :ok
  def delete(name) do
    if namespace(name) == :production, do: :persistent_term.erase({@tag, name})
    :ets.delete(__MODULE__, {:fuse, name})
    :ok
  end

  @doc "Forgets what an ask finds: when the application stops."
  @spec forget_all() :: :ok
  def forget_all do
    for {{@tag, _name} = key, _entry} <- :persistent_term.get(), do: :persistent_term.erase(key)
    :ok
  end

  # Counters of a fuse that was removed.

  @doc "They mean nothing while the name is installed again."
  @spec counters(Fuse.name()) :: keyword(non_neg_integer()) | nil
  def counters(name), do: get({:counters, name})

  @spec put_counters(Fuse.name(), keyword(non_neg_integer())) :: :ok
  def put_counters(name, counters) do
    :ets.insert(__MODULE__, {{:counters, name}, counters})
    :ok
  end

  @spec forget_counters({:test, reference()}) :: :ok
  def forget_counters(namespace) do
    :ets.match_delete(__MODULE__, {{:counters, {namespace, :_}}, :_})
    :ok
  end

  # How many clean samples in a row a fuse has had whose alarm is set.

  @spec alarm(Fuse.name()) :: non_neg_integer() | nil
  def alarm(name), do: get({:alarm, name})

  @spec put_alarm(Fuse.name(), non_neg_integer()) :: :ok
  def put_alarm(name, clean_samples) do
    :ets.insert(__MODULE__, {{:alarm, name}, clean_samples})
    :ok
  end

  @doc "Forgets an alarm; false if there was none."
  @spec take_alarm(Fuse.name()) :: boolean()
  def take_alarm(name), do: :ets.take(__MODULE__, {:alarm, name}) != []

  @spec alarms() :: [Fuse.name()]
  def alarms, do: Enum.map(:ets.match(__MODULE__, {{:alarm, :"$1"}, :_}), &hd/1)

  defp get(key) do
    case :ets.lookup(__MODULE__, key) do
      [{_key, value}] -> value
      [] -> nil
    end
  end
end
