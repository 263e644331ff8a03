defmodule ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Admin do
  @moduledoc false
  # What is for whoever is in charge of a limiter: its making, its limits, its file, its counts.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.{Names, Native}
  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.{Handle, Rules}

  @spec reset(term(), keyword()) :: {:ok, boolean()} | {:error, Error.t()}
  def reset(key, opts) do
    with :ok <- Rules.options(opts, [:limit]),
         {:ok, handle} <- Handle.fetch(opts),
         {:ok, limit} <- limit_of(handle, opts[:limit]) do
      case Rules.fit(key, &Native.limiter_reset(handle.native, &1, limit)) do
        {:error, reason} -> {:error, Rules.refused(reason, key, nil)}
        known -> {:ok, known}
      end
    end
  end

  defp limit_of(_handle, nil), do: {:ok, nil}
  defp limit_of(handle, name) when is_atom(name), do: Handle.limit(handle, name)
  defp limit_of(_handle, name), do: {:error, Error.refused(:limit, name, "the name of a limit")}

  @spec put_limit(term(), term(), keyword()) :: :ok | {:error, Error.t()}
  def put_limit(name, rule, opts) when is_atom(name) and not is_nil(name) do
    with :ok <- Rules.options(opts, [:strategy, :max_wait_ms, :max_wait_ns]),
         {:ok, strategy} <- Rules.strategy(Keyword.get(opts, :strategy, :as_is)),
         {:ok, max_wait_ns} <- Rules.max_wait(opts),
         {:ok, _numbers} <- Rules.numbers(rule),
         {:ok, handle} <- Handle.fetch(opts),
         do: Handle.put_limit(handle, name, rule, strategy, max_wait_ns)
  end

  def put_limit(name, _rule, _opts), do: {:error, Error.refused(:name, name, "an atom")}

  @spec limits(keyword()) :: {:ok, %{atom() => map()}} | {:error, Error.t()}
  def limits(opts) do
    with :ok <- Rules.options(opts, []),
         {:ok, handle} <- Handle.fetch(opts),
         do: {:ok, Map.new(handle.limits, fn {name, limit} -> {name, rule_of(limit.native)} end)}
  end

  defp rule_of(limit) do
    {{tokens, period_ns, burst}, _max_wait_ns} = Native.limit_rule(limit)
    %{tokens: tokens, period_ns: period_ns, burst: burst}
  end

  @spec save(term(), keyword()) :: :ok | {:error, Error.t()}
  def save(path, opts) do
    with :ok <- Rules.options(opts, []),
         :ok <- Rules.text(:path, path),
         {:ok, handle} <- Handle.fetch(opts) do
      with {:error, {reason, message}} <-
             Native.limiter_save(handle.native, path, System.os_time(:nanosecond)),
           do: {:error, Handle.file_error(reason, path, message)}
    end
  end

  @spec load(term(), keyword()) :: :ok | {:error, Error.t()}
  def load(path, opts) do
    with :ok <- Rules.options(opts, []),
         :ok <- Rules.text(:path, path) do
      namespace = Keyword.get(opts, :namespace, :production)
      name = Keyword.get(opts, :limiter, :default)
      old = fn -> is_atom(name) && Names.lookup(:limiter, namespace, name) end
      create = fn -> Handle.load(namespace, name, path, old.() || nil) end
      with {:ok, _handle} <- Names.replace(:limiter, namespace, name, create), do: :ok
    end
  end

  @spec configure(term(), term(), term()) :: :ok | {:error, Error.t()}
  def configure(namespace, name, options) do
    create = fn -> Handle.create(namespace, name, options) end
    with {:ok, _handle} <- Names.replace(:limiter, namespace, name, create), do: :ok
  end

  @spec stats(term(), term()) :: {:ok, map()} | {:error, Error.t()}
  def stats(namespace, name) do
    with {:ok, %{native: native}} <- Handle.fetch(namespace, name) do
      {:ok, Map.put(Native.limiter_stats(native), :live_keys, Native.limiter_live_keys(native))}
    end
  end
end
