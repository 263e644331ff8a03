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

  defguardp is_instant(ns) when is_integer(ns) and ns >= 0 and ns <= 0xFFFF_FFFF_FFFF_FFFF

  @doc "Gives a namespace a clock that reads `now_ns`; keeps the one that it has."
  @spec install(namespace(), non_neg_integer()) :: :ok | {:error, Error.t()}
  def install(namespace, now_ns \\ 0)

  def install({:test, _reference} = namespace, now_ns) when is_instant(now_ns) do
    create = fn -> {:ok, Native.clock_new(now_ns)} end
    with {:ok, _clock} <- Names.ensure(:clock, namespace, :clock, create), do: :ok
  end

  def install({:test, _reference}, now_ns), do: not_an_instant(now_ns)

  def install(namespace, _now_ns),
    do: {:error, Error.refused(:namespace, namespace, "{:test, reference}")}

  @doc "Moves the clock forward."
  @spec advance(namespace(), non_neg_integer()) :: :ok | {:error, Error.t()}
  def advance(namespace, ms) when is_integer(ms) and ms >= 0 do
    with {:ok, clock} <- installed(namespace),
         do: set(clock, Native.clock_now(clock) + ms * 1_000_000)
  end

  def advance(_namespace, ms),
    do: {:error, Error.refused(:ms, ms, "a non-negative integer")}

  @doc "Sets the clock, backwards too."
  @spec set_ns(namespace(), non_neg_integer()) :: :ok | {:error, Error.t()}
  def set_ns(namespace, now_ns) do
    with {:ok, clock} <- installed(namespace), do: set(clock, now_ns)
  end

  defp set(clock, now_ns) when is_instant(now_ns), do: Native.clock_set(clock, now_ns)
  defp set(_clock, now_ns), do: not_an_instant(now_ns)

  defp not_an_instant(now_ns),
    do: {:error, Error.refused(:now_ns, now_ns, "nanoseconds from 0 to 2^64 - 1")}

  defp installed(namespace) do
    case clock(namespace) do
      :monotonic ->
        allowed = "a namespace to which install/2 gave a clock"
        {:error, Error.refused(:namespace, namespace, allowed)}

      clock ->
        {:ok, clock}
    end
  end

  @doc "What the objects of this namespace read."
  @spec now_ns(Names.namespace()) :: non_neg_integer()
  def now_ns(namespace), do: Native.clock_now(clock(namespace))

  @doc false
  @spec clock(Names.namespace()) :: :monotonic | reference()
  def clock({:test, _reference} = namespace),
    do: Names.lookup(:clock, namespace, :clock) || :monotonic

  def clock(_namespace), do: :monotonic
end
