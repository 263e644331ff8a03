defmodule ElixirScope.Compat.Fuse do
  @moduledoc """
  The functions of fuse 2.5 over the native circuit breaker: `alias ElixirScope.Compat.Fuse`, and `Fuse.` in the place
  of `:fuse.`.

      iex> alias ElixirScope.Compat.Fuse
      iex> Fuse.install(:database, {{:standard, 2, 10_000}, {:reset, 60_000}})
      :ok
      iex> Fuse.ask(:database, :sync)
      :ok
      iex> for _ <- 1..3, do: Fuse.melt(:database)
      [:ok, :ok, :ok]
      iex> Fuse.ask(:database, :sync)
      :blown
      iex> Fuse.remove(:database)
      :ok

  `{:standard, max_r, max_t}` tolerates `max_r` melts within `max_t` milliseconds; the next one blows the fuse, which
  heals `ms` milliseconds later by `{:reset, ms}`. `{:fault_injection, rate, max_r, max_t}` also answers `blown` to the share
  `rate` of all asks while the fuse is whole. Names are any term.

  | in fuse | here |
  | --- | --- |
  | `fuse_event`: `add_handler/2`, `delete_handler/2` | `ElixirScope.Compat.Fuse.Event` |
  | `fuse_stats_ets:counters/1` | `ElixirScope.Compat.Fuse.Stats` |
  | `fuse_stats_plugin`, a behaviour | `ElixirScope.Compat.Fuse.StatsPlugin` |
  | `fuse_monitor`: alarms `{name, :fuse_blown}` | `ElixirScope.Compat.Fuse.Monitor` |
  | application `fuse`: `stats_plugin`, `monitor` | `config :elixir_scope, :fuse`, the same keys, and `monitor_interval` |

  No process stands in the way of `ask/2`, `run/3`, `melt/1` and `reset/1`: each is a look-up and a native call. A process
  installs and removes, and tells what changed. Install and remove fuses when an application starts and stops, not
  with each request: finding one costs next to nothing because adding and removing one costs more.

  ## Differences

  F1 to F13 are defects and traps of fuse 2.5.

  | | fuse | here |
  | --- | --- | --- |
  | F1, F2 | a timer of an earlier life heals the fuse | the core heals by its own deadline; a timer only asks it to look |
  | F3 | a melt, or a disable, of a blown fuse tells `blown` again | `{name, :blown}` once, when the answer changes |
  | F4 | a melt costs as much as there were melts in `max_t`; one process for all | the last `max_r + 1` matter; the caller melts |
  | F5 | one bad option, plugin or handler takes all fuses down | refused at `install/2`; a plugin that fails loses its count only |
  | F6 | the alarm of a removed fuse stays | cleared when it is removed |
  | F7 | `max_t` 0 is taken and never blows | `badarg` |
  | F8 | asks that `fault_injection` turned down are not counted | counted as `blown` |
  | F9 | all traffic at once after a fixed time | that is what `{:reset, ms}` says; `{:probe, ms, options}` is below |
  | F10 | a melt of a call from before the blow counts after the heal | `run/3`: dropped. `melt/1` names no call and counts when it comes |
  | F11 | an exception in `run/3` does not melt | it melts, and goes on to the caller |
  | F12 | states that were found wrong one by one | one machine, model-checked in the core |
  | F13 | counting attempts opens the fuse within a call's own retries | `run/3` counts a call once |
  | `max_r` | any | 65,535 at most, else `badarg` |
  | `max_t`, `ms` | any, 2^70 crashes later | 146 years at most, else `badarg` |
  | `rate` | by chance | exactly: of any `n` asks in a row `n * rate` rounded up or down; in steps of 0.0001 |
  | `reset/1` and so on, events | told before the call returns | soon after; `Event.sync/0` waits for them |
  | when it heals | when the timer fires | on time, by whoever asks first; the timer tells of it |
  | `:async_dirty` | may see what was | as exact as `:sync` |
  | crash of its process | every fuse is gone | nothing is lost |

  `{:probe, ms}` or `{:probe, ms, options}` in the place of `{:reset, ms}` is for those who call `run/3`: after `ms` one
  run is let through, and its result heals the fuse or blows it anew; until then every ask is answered `blown`. Of
  `options`, `backoff: 2.0` doubles the time with each blow in a row, `max_reset_timeout: ms` bounds that, and `jitter: 0.2`
  spreads it by up to a fifth to either side.

  A name `{{:test, reference}, term}` belongs to a test: such a fuse is removed by
  `ProcessRegistry.cleanup_test_namespace/1`, and reads the namespace's `ManualClock` if there is one. With such a clock
  no timer runs, and the next ask or melt finds the fuse healed.
  """

  alias ElixirScope.Compat.Fuse.{Options, Server, Stats, Table}
  alias ElixirScope.Foundation.Infrastructure.Native

  @type name :: term()
  @type context :: :sync | :async_dirty
  @type strategy ::
          {:standard, max_r :: non_neg_integer(), max_t :: pos_integer()}
          | {:fault_injection, rate :: float(), max_r :: pos_integer(), max_t :: pos_integer()}
  @type refresh ::
          {:reset, ms :: non_neg_integer()}
          | {:probe, ms :: non_neg_integer()}
          | {:probe, ms :: non_neg_integer(), keyword()}
  @type options :: {strategy(), refresh()}

  # Outcomes and modes by the core's numbers.
  @success 0
  @failure 1
  @ignored 2
  @auto 0
  @forced_open 1

  defguardp is_context(context) when context == :sync or context == :async_dirty

  @doc """
  Installs a fuse, or installs it anew: whole, without melts, with these options. One that is disabled stays so.
  Options that are none raise `badarg`.

      iex> try do
      ...>   ElixirScope.Compat.Fuse.install(:database, {{:standard, 2, 0}, {:reset, 60_000}})
      ...> rescue
      ...>   error in ArgumentError -> error.message =~ "max_t is 0, allowed is 1 to 2^62 - 1 nanoseconds"
      ...> end
      true
  """
  @spec install(name(), options()) :: :ok
  def install(name, options) do
    with {:ok, up, native} <- Options.parse(options),
         :ok <- Server.install(name, up, native) do
      :ok
    else
      {:error, cause} ->
        info = [error_info: %{module: __MODULE__, cause: cause}]
        :erlang.error(:badarg, [name, options], info)
    end
  end

  @doc false
  @spec format_error(term(), Exception.stacktrace()) :: %{pos_integer() => binary()}
  def format_error(_reason, [{_module, _function, _arguments, info} | _callers]),
    do: %{2 => info[:error_info].cause}

  @doc "Whether the fuse is whole. Both contexts read the same word."
  @spec ask(name(), context()) :: :ok | :blown | {:error, :not_found}
  def ask(name, context) when is_context(context) do
    case Table.find(name) do
      {breaker, nil} ->
        if Native.breaker_ask(breaker) == :ok, do: :ok, else: :blown

      {breaker, plugin} ->
        answer = if Native.breaker_ask(breaker) == :ok, do: :ok, else: :blown
        Stats.count(plugin, name, answer)
        answer

      nil ->
        {:error, :not_found}
    end
  end

  @doc "Counts a failure. An unknown name is no error."
  @spec melt(name()) :: :ok
  def melt(name) do
    with {breaker, plugin} <- Table.find(name) do
      Native.breaker_report(breaker, @failure)
      Stats.count(plugin, name, :melt)
    end

    :ok
  end

  @doc """
  Runs `fun` in the caller if the fuse is whole. `{:ok, result}` and `{:melt, result}` both give `{:ok, result}`; the
  latter melts, and so does an exception, a throw or an exit, which goes on to the caller.

      iex> alias ElixirScope.Compat.Fuse
      iex> Fuse.install(:search, {{:standard, 0, 10_000}, {:reset, 60_000}})
      iex> Fuse.run(:search, fn -> {:melt, :timeout} end, :sync)
      {:ok, :timeout}
      iex> Fuse.run(:search, fn -> {:ok, :found} end, :sync)
      :blown
      iex> Fuse.remove(:search)
      :ok
  """
  @spec run(name(), (() -> {:ok, result} | {:melt, result}), context()) ::
          {:ok, result} | :blown | {:error, :not_found}
        when result: term()
  def run(name, fun, context) when is_context(context) and is_function(fun, 0) do
    case Table.find(name) do
      {breaker, plugin} -> run(name, fun, breaker, plugin)
      nil -> {:error, :not_found}
    end
  end

  defp run(name, fun, breaker, plugin) do
    case Native.breaker_acquire(breaker) do
      {_reason, _retry_after_ns} ->
        Stats.count(plugin, name, :blown)
        :blown

      permit ->
        Stats.count(plugin, name, :ok)
        guard(name, fun, breaker, permit, plugin)
    end
  end

  defp guard(name, fun, breaker, permit, plugin) do
    fun.()
  catch
    kind, reason ->
      record(breaker, permit, @failure)
      Stats.count(plugin, name, :melt)
      :erlang.raise(kind, reason, __STACKTRACE__)
  else
    {:ok, result} ->
      record(breaker, permit, @success)
      {:ok, result}

    {:melt, result} ->
      record(breaker, permit, @failure)
      Stats.count(plugin, name, :melt)
      {:ok, result}

    # Not what `fun` may return, and no word about what the fuse guards.
    other ->
      record(breaker, permit, @ignored)
      :erlang.error({:case_clause, other})
  end

  defp record(breaker, permit, outcome) when is_integer(permit),
    do: Native.breaker_record(breaker, permit, outcome)

  defp record(_breaker, permit, outcome), do: Native.permit_record(permit, outcome)

  @doc "Makes the fuse whole and forgets its melts. One that is disabled stays so."
  @spec reset(name()) :: :ok | {:error, :not_found}
  def reset(name) do
    case Table.find(name) do
      {breaker, _plugin} -> Native.breaker_reset(breaker)
      nil -> {:error, :not_found}
    end
  end

  @doc "Removes the fuse. Its counters stay readable until the name is installed again."
  @spec remove(name()) :: :ok | {:error, :not_found}
  def remove(name), do: Server.remove(name)

  @doc "Blows the fuse until `circuit_enable/1`, whatever comes: time, `reset/1` and `install/2` do not heal it."
  @spec circuit_disable(name()) :: :ok | {:error, :not_found}
  def circuit_disable(name), do: Server.set_mode(name, @forced_open)

  @doc "Ends `circuit_disable/1`: the fuse is whole and without melts. One that was not disabled stays as it is."
  @spec circuit_enable(name()) :: :ok | {:error, :not_found}
  def circuit_enable(name), do: Server.set_mode(name, @auto)
end
