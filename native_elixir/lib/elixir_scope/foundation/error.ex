defmodule ElixirScope.Foundation.Error do
  @moduledoc """
  What went wrong, with enough beside it to decide what to do.

  An error is a value: functions return `{:error, %Error{}}`. Match on `error_type`; the number, the
  severity and the advice come from `ElixirScope.Foundation.Error.Catalogue`. A refusal of a breaker, a
  limiter or a pool carries `retry_after_ms` in its context where the time is known.

      iex> error = ElixirScope.Foundation.Error.new(:circuit_open, nil, context: %{retry_after_ms: 250})
      iex> {error.code, error.severity, error.context.retry_after_ms}
      {2501, :medium, 250}
  """

  import Kernel, except: [to_string: 1]

  alias ElixirScope.Foundation.Error.Catalogue
  alias ElixirScope.Foundation.Infrastructure.Telemetry
  alias ElixirScope.Foundation.Services.TelemetryService

  @enforce_keys [:code, :error_type, :message, :severity]
  defstruct [
    :code,
    :error_type,
    :message,
    :severity,
    :correlation_id,
    :timestamp,
    :stacktrace,
    :category,
    :subcategory,
    :retry_strategy,
    context: %{},
    recovery_actions: []
  ]

  @type severity :: Catalogue.severity()
  @type retry_strategy :: :no_retry | :immediate | :fixed_delay | :exponential_backoff
  @type frame :: %{module: module(), function: atom(), arity: arity(), file: term(), line: term()}
  @type t :: %__MODULE__{
          code: pos_integer(),
          error_type: atom(),
          message: String.t(),
          severity: severity(),
          context: map(),
          correlation_id: String.t() | nil,
          timestamp: DateTime.t() | nil,
          stacktrace: [frame() | String.t()] | nil,
          category: atom(),
          subcategory: atom(),
          retry_strategy: retry_strategy(),
          recovery_actions: [String.t()]
        }

  @stack_depth 10
  @longest_integer 2 ** 256
  @longest_delay_ms 30_000
  @delay_ms 1_000
  # The same call would end the same way.
  @final [:invalid_config_value, :invalid_argument, :never, :stale, :expired, :already_done] ++
           [:stale_lease, :pool_closed, :permit_not_found, :fault_injection_disabled] ++
           [:too_late, :forfeited, :bad_receipt, :bad_snapshot]
  # 2^5 seconds is already above the longest delay.
  @largest_exponent 5

  @doc """
  An error of the catalogue. Options: `:context` (map), `:correlation_id`, `:stacktrace` (as `__STACKTRACE__`
  gives it).
  """
  @spec new(atom(), String.t() | nil, keyword()) :: t()
  def new(error_type, message \\ nil, opts \\ []) do
    entry = Catalogue.fetch(error_type)
    context = Keyword.get(opts, :context, %{})

    %__MODULE__{
      code: entry.code,
      error_type: error_type,
      message: message || entry.message,
      severity: entry.severity,
      context: context,
      correlation_id: Keyword.get(opts, :correlation_id),
      timestamp: DateTime.utc_now(),
      stacktrace: frames(Keyword.get(opts, :stacktrace)),
      category: entry.category,
      subcategory: entry.subcategory,
      retry_strategy: retry_strategy(error_type, entry.severity),
      recovery_actions: recovery_actions(error_type, context)
    }
  end

  @doc "`{:error, new(...)}`."
  @spec error_result(atom(), String.t() | nil, keyword()) :: {:error, t()}
  def error_result(error_type, message \\ nil, opts \\ []),
    do: {:error, new(error_type, message, opts)}

  @doc """
  The error of an argument that is refused: names it, shows its value and says what is allowed.

      iex> ElixirScope.Foundation.Error.refused(:limit, 0, "a positive integer").message
      "`limit` is 0, allowed is a positive integer"
  """
  @spec refused(atom() | String.t(), term(), String.t(), atom()) :: t()
  def refused(argument, value, allowed, error_type \\ :invalid_argument) do
    new(error_type, "`#{argument}` is #{shown(value)}, allowed is #{allowed}",
      context: %{argument: argument, value: value, allowed: allowed}
    )
  end

  # Writing an integer out takes time with the square of its length.
  defp shown(value) when is_integer(value) and abs(value) >= @longest_integer,
    do: "an integer of more than 256 bits"

  defp shown(value), do: inspect(value, limit: 10, printable_limit: 100)

  @doc """
  Gives an error result the context of the caller: an `%Error{}` keeps its type, any other reason becomes an
  error of type `error_type` with the reason as `original_reason`. Other results pass.

      iex> {:error, error} = ElixirScope.Foundation.Error.wrap_error({:error, :enoent}, :config_not_found, "No file")
      iex> {error.error_type, error.context.original_reason}
      {:config_not_found, :enoent}
      iex> ElixirScope.Foundation.Error.wrap_error({:ok, 1}, :config_not_found)
      {:ok, 1}
  """
  @spec wrap_error(result, atom(), String.t() | nil, keyword()) :: result | {:error, t()}
        when result: term()
  def wrap_error(result, error_type, message \\ nil, opts \\ [])

  def wrap_error({:error, %__MODULE__{} = error}, error_type, message, opts) do
    wrapper = %{
      wrapped_by: error_type,
      wrapper_message: message,
      wrapper_context: Keyword.get(opts, :context, %{})
    }

    {:error, %{error | context: Map.merge(error.context, wrapper)}}
  end

  def wrap_error({:error, reason}, error_type, message, opts) do
    context = opts |> Keyword.get(:context, %{}) |> Map.put(:original_reason, reason)
    error_result(error_type, message, Keyword.put(opts, :context, context))
  end

  def wrap_error(result, _error_type, _message, _opts), do: result

  @doc "Whether trying again may help."
  @spec is_retryable?(t()) :: boolean()
  def is_retryable?(%__MODULE__{retry_strategy: strategy}), do: strategy != :no_retry

  @doc """
  How long to wait before try number `attempt` (from 0), in milliseconds; `:infinity` means never.

      iex> error = ElixirScope.Foundation.Error.new(:timeout)
      iex> Enum.map([0, 1, 2, 9], &ElixirScope.Foundation.Error.retry_delay(error, &1))
      [1000, 2000, 4000, 30000]
  """
  @spec retry_delay(t(), non_neg_integer()) :: non_neg_integer() | :infinity
  def retry_delay(%__MODULE__{retry_strategy: strategy}, attempt) do
    case strategy do
      :exponential_backoff ->
        min(@delay_ms * 2 ** min(attempt, @largest_exponent), @longest_delay_ms)

      :fixed_delay ->
        @delay_ms

      :immediate ->
        0

      :no_retry ->
        :infinity
    end
  end

  @doc "Whether somebody should be told."
  @spec should_escalate?(t()) :: boolean()
  def should_escalate?(%__MODULE__{severity: severity}), do: severity in [:high, :critical]

  @doc """
  Counts the error as `[:foundation, :errors, category, subcategory]`, in the TelemetryService and where `:telemetry` is
  loaded.
  """
  @spec collect_error_metrics(t()) :: :ok
  def collect_error_metrics(%__MODULE__{} = error) do
    name = [:foundation, :errors, error.category, error.subcategory]
    metadata = %{error_type: error.error_type, code: error.code, severity: error.severity}
    TelemetryService.emit_counter(name, metadata)
    Telemetry.emit(name, %{counter: 1}, metadata)
  end

  @doc """
  One line for a log.

      iex> ElixirScope.Foundation.Error.to_string(ElixirScope.Foundation.Error.new(:timeout, "Too slow"))
      "[4301:timeout] Too slow | Severity: medium"
  """
  @spec to_string(t()) :: String.t()
  def to_string(%__MODULE__{} = error) do
    context = if error.context == %{}, do: "", else: " | Context: #{inspect(error.context)}"
    "[#{error.code}:#{error.error_type}] #{error.message}#{context} | Severity: #{error.severity}"
  end

  defp retry_strategy(type, _severity) when type in [:timeout, :network_error],
    do: :exponential_backoff

  defp retry_strategy(:external_service_error, _severity), do: :fixed_delay
  defp retry_strategy(_type, :critical), do: :no_retry
  defp retry_strategy(_type, :high), do: :immediate
  defp retry_strategy(type, _severity) when type in @final, do: :no_retry
  defp retry_strategy(_type, _severity), do: :fixed_delay

  defp recovery_actions(error_type, %{operation: operation}),
    do: actions(error_type) ++ ["Review #{operation_name(operation)} implementation"]

  defp recovery_actions(error_type, _context), do: actions(error_type)

  defp operation_name(operation) when is_atom(operation) or is_binary(operation), do: operation
  defp operation_name(operation), do: inspect(operation)

  defp actions(:invalid_config_value),
    do: ["Check configuration format", "Validate against schema"]

  defp actions(:invalid_argument), do: ["Correct the argument that the message names"]
  defp actions(:never), do: ["Lower the cost", "Raise the limit"]

  defp actions(:pool_not_found),
    do: ["Check the pool's name", "Configure or start the pool"]

  defp actions(:service_unavailable),
    do: ["Check service health", "Verify network connectivity"]

  defp actions(:resource_exhausted), do: ["Check memory usage", "Scale resources if needed"]
  defp actions(:timeout), do: ["Increase timeout value", "Check network latency"]

  defp actions(type) when type in [:circuit_open, :half_open_full, :service_degraded],
    do: ["Wait for retry_after_ms", "Check service health"]

  defp actions(:forced_open), do: ["Ask who forced it open", "CircuitBreaker.auto/2 releases it"]

  defp actions(:change_too_soon), do: ["Wait for retry_after_ms"]

  defp actions(type) when type in [:rate_limited, :table_full],
    do: ["Wait for retry_after_ms", "Spread the calls over time"]

  defp actions(type) when type in [:pool_timeout, :pool_exhausted, :queue_full, :shed],
    do: ["Return connections sooner", "Increase the pool's size or max_overflow"]

  defp actions(_type),
    do: ["Check logs for details", "Review error context", "Contact support if needed"]

  defp frames(nil), do: nil
  defp frames(stacktrace), do: stacktrace |> Enum.take(@stack_depth) |> Enum.map(&frame/1)

  defp frame({module, function, arity, location}) when is_list(location) do
    %{
      module: module,
      function: function,
      arity: if(is_list(arity), do: length(arity), else: arity),
      file: Keyword.get(location, :file),
      line: Keyword.get(location, :line)
    }
  end

  defp frame(other), do: inspect(other)
end
