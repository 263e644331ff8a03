defmodule ElixirScope.Foundation.Infrastructure.ManualClock do
  @moduledoc """
  A clock that stands still until a test moves it.

  Objects that are created in a test's namespace after `install/2` read this clock instead of the machine's:

      iex> alias ElixirScope.Foundation.Infrastructure.ManualClock
      iex> namespace = {:test, make_ref()}
      iex> :ok = ManualClock.install(namespace)
      iex> ManualClock.advance(namespace, 1_500)
      :ok
      iex> ManualClock.now_ns(namespace)
      1_500_000_000
  """

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{Names, Native}

  @type namespace :: {:test, reference()}

  @doc "Gives a namespace a clock that reads `now_ns`; keeps the one that it has."
  @spec install(namespace(), non_neg_integer()) :: :ok | {:error, Error.t()}
  def install({:test, _reference} = namespace, now_ns \\ 0) do
    create = fn -> {:ok, Native.clock_new(now_ns)} end
    with {:ok, _clock} <- Names.ensure(:clock, namespace, :clock, create), do: :ok
  end

  @doc "Moves the clock forward."
  @spec advance(namespace(), non_neg_integer()) :: :ok
  def advance(namespace, ms), do: set_ns(namespace, now_ns(namespace) + ms * 1_000_000)

  @doc "Sets the clock, backwards too."
  @spec set_ns(namespace(), non_neg_integer()) :: :ok
  def set_ns(namespace, now_ns), do: Native.clock_set(clock(namespace), now_ns)

  @doc "What the objects of this namespace read."
  @spec now_ns(Names.namespace()) :: non_neg_integer()
  def now_ns(namespace), do: Native.clock_now(clock(namespace))

  @doc false
  @spec clock(Names.namespace()) :: :monotonic | reference()
  def clock({:test, _reference} = namespace),
    do: Names.lookup(:clock, namespace, :clock) || :monotonic

  def clock(_namespace), do: :monotonic
end
