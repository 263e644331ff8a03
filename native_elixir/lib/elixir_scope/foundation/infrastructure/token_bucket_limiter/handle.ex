defmodule ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Handle do
  @moduledoc false
  # A limiter as its name finds it: the native object, the limits with names that it has so far, and which of its calls
  # become events. Limits are made at their first use, from the configuration.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{Config, ManualClock, Names, Native}
  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Rules

  # One call of so many becomes an event, none where it is nil.
  @enforce_keys [:native, :namespace, :name, :allowed_events, :denied_events]
  defstruct @enforce_keys ++ [limits: %{}]

  # `configured` is what `default_limits` said when the limit was made or changed last.
  @type limit :: %{native: reference(), configured: term()}
  @type t :: %__MODULE__{
          native: reference(),
          namespace: Names.namespace(),
          name: atom(),
          allowed_events: pos_integer() | nil,
          denied_events: pos_integer() | nil,
          limits: %{atom() => limit()}
        }

  @largest 0xFFFF_FFFF_FFFF_FFFF

  @spec fetch(keyword()) :: {:ok, t()} | {:error, Error.t()}
  def fetch(opts) do
    namespace = Keyword.get(opts, :namespace, :production)
    fetch(namespace, Keyword.get(opts, :limiter, :default))
  end

  @spec fetch(Names.namespace(), atom()) :: {:ok, t()} | {:error, Error.t()}
  def fetch(namespace, name) do
    case is_atom(name) && Names.lookup(:limiter, namespace, name) do
      %__MODULE__{} = handle -> {:ok, handle}
      _none -> Names.ensure(:limiter, namespace, name, fn -> create(namespace, name, []) end)
    end
  end

  @spec create(Names.namespace(), atom(), keyword() | map()) :: {:ok, t()} | {:error, Error.t()}
  def create(namespace, name, options) do
    with {:ok, config} <- Config.limiter(name, options) do
      clock = ManualClock.clock(namespace)
      max_keys = min(config.max_keys, @largest)

      case Native.limiter_new(max_keys, config.full_policy, waiting(config), clock) do
        {:ok, native} ->
          {:ok, new(native, namespace, name, config)}

        {:error, {_argument, _value, allowed}} ->
          {:error, Error.refused(:max_keys, config.max_keys, allowed, :invalid_config_value)}
      end
    end
  end

  @doc "The limiter of a file, with the limits of `old` as they are now."
  @spec load(Names.namespace(), atom(), Path.t(), t() | nil) :: {:ok, t()} | {:error, Error.t()}
  def load(namespace, name, path, old) do
    with {:ok, config} <- Config.limiter(name, []) do
      clock = ManualClock.clock(namespace)
      wall_ns = System.os_time(:nanosecond)

      case Native.limiter_load(path, config.full_policy, waiting(config), clock, wall_ns) do
        {:ok, native} ->
          # Restored keys owe time; a limit that has changed before would read them as of an earlier rule.
          limits = Map.new((old && old.limits) || %{}, &renewed/1)
          {:ok, %{new(native, namespace, name, config) | limits: limits}}

        {:error, {reason, message}} ->
          {:error, file_error(reason, path, message)}
      end
    end
  end

  @spec file_error(atom(), Path.t(), String.t()) :: Error.t()
  def file_error(reason, path, message),
    do: Error.new(reason, "#{path}: #{message}", context: %{path: path})

  @doc "The limit of this name as the native library takes it."
  @spec limit(t(), atom()) :: {:ok, reference()} | {:error, Error.t()}
  def limit(%__MODULE__{limits: limits} = handle, name) do
    case limits do
      %{^name => %{native: native}} ->
        {:ok, native}

      _not_yet ->
        with {:ok, rule} when not is_nil(rule) <- Config.default_limit(name),
             {:ok, handle} <- update(handle, &with_limit(&1, name, rule)) do
          {:ok, handle.limits[name].native}
        else
          {:ok, nil} -> {:error, unknown_limit(handle, name)}
          error -> error
        end
    end
  end

  @doc "The same; where `default_limits` says another rule than when it was asked last, the limit changes to that."
  @spec limit(t(), atom(), term()) :: {:ok, reference()} | {:error, Error.t()}
  def limit(%__MODULE__{limits: limits} = handle, name, configured) do
    case limits do
      %{^name => %{native: native, configured: ^configured}} ->
        {:ok, native}

      _other ->
        with {:ok, handle} <- update(handle, &follow(&1, name, configured)),
             do: {:ok, handle.limits[name].native}
    end
  end

  @doc "Makes a limit, or changes the one that there is."
  @spec put_limit(t(), atom(), term(), non_neg_integer(), non_neg_integer() | nil) ::
          :ok | {:error, Error.t()}
  def put_limit(handle, name, rule, strategy, max_wait_ns) do
    put = fn handle ->
      case handle.limits do
        %{^name => %{native: native}} ->
          with :ok <- same_wait(native, max_wait_ns),
               :ok <- change(handle, native, rule, strategy),
               do: {:ok, handle}

        _none ->
          with_limit(handle, name, rule, max_wait_ns, configured(name))
      end
    end

    with {:ok, _handle} <- update(handle, put), do: :ok
  end

  defp configured(name) do
    case Config.default_limit(name) do
      {:ok, rule} -> rule
      _unreadable -> nil
    end
  end

  defp new(native, namespace, name, config) do
    %__MODULE__{
      native: native,
      namespace: namespace,
      name: name,
      allowed_events: config.events.request_allowed,
      denied_events: config.events.request_denied
    }
  end

  defp waiting(config), do: min(config.max_waiting, @largest)

  # In the process of the names, where no other change comes between.
  defp update(handle, change) do
    case Names.update(:limiter, handle.namespace, handle.name, change) do
      nil -> {:error, Error.refused(:limiter, handle.name, "a limiter that was not removed")}
      result -> result
    end
  end

  defp follow(handle, name, configured) do
    case handle.limits do
      %{^name => %{configured: ^configured}} ->
        {:ok, handle}

      %{^name => %{native: native}} ->
        with :ok <- change(handle, native, configured, Rules.strategy_number(:as_is)),
             do: {:ok, put_in(handle.limits[name].configured, configured)}

      _none ->
        with_limit(handle, name, configured)
    end
  end

  defp with_limit(handle, name, rule, max_wait_ns \\ nil, configured \\ nil) do
    case handle.limits do
      %{^name => _another_was_first} ->
        {:ok, handle}

      _none ->
        with {:ok, numbers} <- Rules.numbers(rule),
             {:ok, native} <- new_limit(name, rule, numbers, max_wait_ns) do
          limit = %{native: native, configured: configured || rule}
          {:ok, %{handle | limits: Map.put(handle.limits, name, limit)}}
        end
    end
  end

  # Without one that is given, a reservation waits for one period at most.
  defp new_limit(name, rule, {_tokens, period_ns, _burst} = numbers, max_wait_ns) do
    with {:error, refusal} <-
           Native.limit_new(Atom.to_string(name), numbers, max_wait_ns || period_ns),
         do: {:error, Rules.refused(refusal, nil, rule)}
  end

  defp change(handle, native, rule, strategy) do
    with {:ok, numbers} <- Rules.numbers(rule) do
      case Native.limit_change(handle.native, native, numbers, strategy) do
        :ok -> :ok
        {:error, refusal} -> {:error, Rules.refused(refusal, nil, rule)}
        {:change_too_soon, ns} -> {:error, Rules.too_soon(ns)}
      end
    end
  end

  defp same_wait(_native, nil), do: :ok

  defp same_wait(native, max_wait_ns) do
    case Native.limit_rule(native) do
      {_rule, ^max_wait_ns} ->
        :ok

      {_rule, made_with} ->
        {:error, Error.refused(:max_wait_ns, max_wait_ns, "#{made_with}, as the limit was made")}
    end
  end

  defp renewed({name, %{native: native} = limit}) do
    {rule, max_wait_ns} = Native.limit_rule(native)
    {:ok, native} = Native.limit_new(Atom.to_string(name), rule, max_wait_ns)
    {name, %{limit | native: native}}
  end

  defp unknown_limit(handle, name) do
    known = Enum.uniq(Map.keys(handle.limits) ++ Config.default_limit_names())

    allowed =
      "a name in `default_limits` of `config :elixir_scope, :infrastructure, rate_limiting: ...`, " <>
        "or of put_limit/3: #{inspect(Enum.sort(known))}"

    Error.refused(:rule, name, allowed)
  end
end
