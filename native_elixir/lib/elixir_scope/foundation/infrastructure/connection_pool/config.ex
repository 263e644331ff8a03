defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Config do
  @moduledoc false
  # Turns the options of a pool into checked values. An error names the option, its value and what is allowed;
  # nothing is skipped or rounded in silence.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.Worker

  @ms 1_000_000
  @max_u32 0xFFFF_FFFF
  # A millisecond count that still fits 64 bits as nanoseconds.
  @max_ms 18_446_744_073_000

  @enforce_keys [:worker]
  defstruct name: nil,
            namespace: :production,
            worker: nil,
            size: 5,
            max_overflow: 10,
            strategy: :lifo,
            timeout: 5_000,
            overflow_ttl: 0,
            max_waiters: 100_000,
            close_timeout: 5_000,
            drain: 1_000

  @type t :: %__MODULE__{
          name: atom(),
          namespace: :production | {:test, reference()},
          worker: Worker.t(),
          size: non_neg_integer(),
          max_overflow: non_neg_integer(),
          strategy: :lifo | :fifo,
          timeout: timeout(),
          overflow_ttl: non_neg_integer(),
          max_waiters: non_neg_integer(),
          close_timeout: non_neg_integer(),
          drain: non_neg_integer()
        }

  @worker_keys [:worker, :create, :close]
  @keys [
    :name,
    :namespace,
    :size,
    :max_overflow,
    :strategy,
    :timeout,
    :overflow_ttl,
    :max_waiters,
    :close_timeout,
    :drain
  ]

  @spec new(keyword() | map()) :: {:ok, t()} | {:error, Error.t()}
  def new(options) when is_map(options), do: options |> Map.to_list() |> new()

  def new(options) when is_list(options) do
    with :ok <- keyword(options),
         {:ok, worker} <- worker(Keyword.take(options, @worker_keys)) do
      options
      |> Keyword.drop(@worker_keys)
      |> Enum.reduce_while({:ok, %__MODULE__{worker: worker}}, fn {key, value}, {:ok, config} ->
        case check(key, value) do
          :ok -> {:cont, {:ok, Map.put(config, key, value)}}
          {:error, _} = error -> {:halt, error}
        end
      end)
    end
  end

  def new(options), do: invalid(:options, options, "a keyword list or a map")

  @doc "The integers of the native pool."
  @spec native(t()) :: tuple()
  def native(%__MODULE__{} = config) do
    {config.size, config.max_overflow, config.strategy == :fifo, config.max_waiters, config.overflow_ttl * @ms}
  end

  @doc "A wait in nanoseconds; `:infinity` is the largest 64-bit word."
  @spec timeout_ns(term()) :: {:ok, non_neg_integer()} | :error
  def timeout_ns(:infinity), do: {:ok, 0xFFFF_FFFF_FFFF_FFFF}
  def timeout_ns(ms) when is_integer(ms) and ms >= 0 and ms <= @max_ms, do: {:ok, ms * @ms}
  def timeout_ns(_), do: :error

  @doc "What `timeout_ns/1` accepts, in words."
  @spec timeout_range() :: String.t()
  def timeout_range, do: "milliseconds from 0 to #{@max_ms}, or :infinity"

  @doc "The error for an argument that is out of range."
  @spec invalid(atom(), term(), String.t()) :: {:error, Error.t()}
  def invalid(argument, value, allowed) do
    {:error,
     Error.new(:invalid_input, "#{argument} is #{inspect(value)}, allowed is #{allowed}",
       context: %{argument: argument, value: value, allowed: allowed}
     )}
  end

  defp keyword(options) do
    if Keyword.keyword?(options), do: :ok, else: invalid(:options, options, "a keyword list or a map")
  end

  defp worker(options) do
    case {options[:worker], options[:create], options[:close]} do
      {nil, create, nil} when is_function(create, 0) ->
        {:ok, %{create: create, close: fn _ -> :ok end}}

      {nil, create, close} when is_function(create, 0) and is_function(close, 1) ->
        {:ok, %{create: create, close: close}}

      {nil, nil, nil} ->
        invalid(:worker, nil, "a module, {module, arg}, or the functions create: and close:")

      {nil, create, nil} ->
        invalid(:create, create, "a function of no argument")

      {nil, create, _} when not is_function(create, 0) ->
        invalid(:create, create, "a function of no argument")

      {nil, _, close} ->
        invalid(:close, close, "a function of one argument")

      {{module, arg}, nil, nil} when is_atom(module) ->
        module_worker(module, arg)

      {module, nil, nil} when is_atom(module) ->
        module_worker(module, [])

      {worker, _, _} ->
        invalid(:worker, worker, "a module or {module, arg}, and then neither create: nor close:")
    end
  end

  defp module_worker(module, arg) do
    with {:module, ^module} <- Code.ensure_loaded(module),
         true <- function_exported?(module, :create_connection, 1),
         true <- function_exported?(module, :close_connection, 1) do
      {:ok, Worker.of_module(module, arg)}
    else
      _ -> invalid(:worker, module, "a module that exports create_connection/1 and close_connection/1")
    end
  end

  defp check(:name, name) when is_atom(name) and not is_nil(name), do: :ok
  defp check(:name, name), do: invalid(:name, name, "an atom")
  defp check(:namespace, :production), do: :ok
  defp check(:namespace, {:test, ref}) when is_reference(ref), do: :ok
  defp check(:namespace, other), do: invalid(:namespace, other, ":production or {:test, reference}")
  defp check(:strategy, order) when order in [:lifo, :fifo], do: :ok
  defp check(:strategy, order), do: invalid(:strategy, order, ":lifo or :fifo")

  defp check(:timeout, timeout) do
    case timeout_ns(timeout) do
      {:ok, _} -> :ok
      :error -> invalid(:timeout, timeout, timeout_range())
    end
  end

  defp check(key, value) when key in [:overflow_ttl, :close_timeout, :drain] do
    if is_integer(value) and value >= 0 and value <= @max_u32,
      do: :ok,
      else: invalid(key, value, "milliseconds from 0 to #{@max_u32}")
  end

  defp check(key, value) when key in [:size, :max_overflow, :max_waiters] do
    if is_integer(value) and value >= 0 and value <= @max_u32,
      do: :ok,
      else: invalid(key, value, "an integer from 0 to #{@max_u32}")
  end

  defp check(key, value) do
    allowed = Enum.map_join(@keys ++ @worker_keys, ", ", &inspect/1)
    invalid(key, value, "no such option; the options are #{allowed}")
  end
end
