defmodule ElixirScope.Foundation.ErrorContext do
  @moduledoc """
  What an operation was doing when it failed: its identity, the way that led there (breadcrumbs) and what was known.

      iex> alias ElixirScope.Foundation.ErrorContext
      iex> context = ErrorContext.new(MyApp.Billing, :charge, metadata: %{invoice: 7})
      iex> {:error, error} = ErrorContext.with_context(context, fn -> raise "no money" end)
      iex> {error.error_type, error.context.operation_context.metadata}
      {:internal_error, %{invoice: 7}}
      iex> ErrorContext.with_context(context, fn -> {:error, :as_it_is} end)
      {:error, :as_it_is}
  """

  alias ElixirScope.Foundation.{Error, Types, Utils}

  @key :error_context

  @enforce_keys [:operation_id, :module, :function, :correlation_id, :start_time]
  defstruct [
    :operation_id,
    :module,
    :function,
    :correlation_id,
    :start_time,
    metadata: %{},
    breadcrumbs: [],
    parent_context: nil
  ]

  @type breadcrumb :: %{module: module(), function: atom(), timestamp: integer(), metadata: map()}
  @type t :: %__MODULE__{
          operation_id: pos_integer(),
          module: module(),
          function: atom(),
          correlation_id: String.t(),
          start_time: integer(),
          metadata: map(),
          breadcrumbs: [breadcrumb()],
          parent_context: t() | nil
        }

  @doc "The context of an operation that starts now. Options: `:correlation_id`, `:metadata`, `:parent_context`."
  @spec new(module(), atom(), keyword()) :: t()
  def new(module, function, opts \\ []) do
    metadata = Keyword.get(opts, :metadata, %{})

    %__MODULE__{
      operation_id: Utils.generate_id(),
      module: module,
      function: function,
      correlation_id: Keyword.get_lazy(opts, :correlation_id, &Utils.generate_correlation_id/0),
      start_time: System.monotonic_time(:nanosecond),
      metadata: metadata,
      breadcrumbs: [breadcrumb(module, function, metadata)],
      parent_context: Keyword.get(opts, :parent_context)
    }
  end

  @doc "The context of a step of `parent`: its correlation id, its metadata and more, its breadcrumbs and one more."
  @spec child_context(t(), module(), atom(), map()) :: t()
  def child_context(%__MODULE__{} = parent, module, function, metadata \\ %{}) do
    child =
      new(module, function,
        correlation_id: parent.correlation_id,
        metadata: Map.merge(parent.metadata, metadata),
        parent_context: parent
      )

    %{child | breadcrumbs: parent.breadcrumbs ++ [breadcrumb(module, function, metadata)]}
  end

  @doc "The context with one more breadcrumb."
  @spec add_breadcrumb(t(), module(), atom(), map()) :: t()
  def add_breadcrumb(%__MODULE__{} = context, module, function, metadata \\ %{}),
    do: %{context | breadcrumbs: context.breadcrumbs ++ [breadcrumb(module, function, metadata)]}

  @doc "The context with more metadata."
  @spec add_metadata(t(), map()) :: t()
  def add_metadata(%__MODULE__{} = context, metadata),
    do: %{context | metadata: Map.merge(context.metadata, metadata)}

  @doc """
  Runs `fun` with the context as `get_current_context/0` and returns what it returns. An exception becomes
  `{:error, %Error{error_type: :internal_error}}` with the context in it.
  """
  @spec with_context(t(), (() -> result)) :: result | {:error, Error.t()} when result: term()
  def with_context(%__MODULE__{} = context, fun) when is_function(fun, 0) do
    outer = Process.put(@key, context)

    try do
      fun.()
    rescue
      exception ->
        error =
          Error.new(:internal_error, "The operation raised: " <> Exception.message(exception),
            context: %{exception: exception},
            correlation_id: context.correlation_id,
            stacktrace: __STACKTRACE__
          )

        {:error, enhance_error(error, context)}
    after
      if outer, do: Process.put(@key, outer), else: Process.delete(@key)
    end
  end

  @doc "The context of the operation that this process is in, or nil."
  @spec get_current_context() :: t() | nil
  def get_current_context, do: Process.get(@key)

  @doc "The error with the context as `operation_context`, and its correlation id unless it has one."
  @spec enhance_error(error, t()) :: error when error: Error.t() | Types.Error.t()
  def enhance_error(%module{} = error, %__MODULE__{} = context)
      when module in [Error, Types.Error] do
    operation = %{
      operation_id: context.operation_id,
      correlation_id: context.correlation_id,
      breadcrumbs: context.breadcrumbs,
      duration_ns: System.monotonic_time(:nanosecond) - context.start_time,
      metadata: context.metadata
    }

    %{
      error
      | context: Map.put(error.context, :operation_context, operation),
        correlation_id: error.correlation_id || context.correlation_id
    }
  end

  @doc """
  An error result with the context: an error record is enhanced, another reason becomes an error of type
  `:external_service_error` with it as `original_reason`. Other results pass.
  """
  @spec add_context(result, t(), map()) :: result | {:error, Error.t()} when result: term()
  def add_context(result, context, additional \\ %{})

  def add_context({:error, %module{} = error}, %__MODULE__{} = context, additional)
      when module in [Error, Types.Error],
      do:
        {:error, enhance_error(%{error | context: Map.merge(error.context, additional)}, context)}

  def add_context({:error, reason}, %__MODULE__{} = context, additional) do
    error =
      Error.new(:external_service_error, "The operation failed: #{inspect(reason)}",
        context: Map.put(additional, :original_reason, reason)
      )

    {:error, enhance_error(error, context)}
  end

  def add_context(result, %__MODULE__{}, _additional), do: result

  @doc """
  The way of an operation for people: `A.f (5ms ago) -> B.g (1ms ago)`.

      iex> ElixirScope.Foundation.ErrorContext.format_breadcrumbs([])
      ""
  """
  @spec format_breadcrumbs(t() | [breadcrumb()]) :: String.t()
  def format_breadcrumbs(%__MODULE__{breadcrumbs: breadcrumbs}),
    do: format_breadcrumbs(breadcrumbs)

  def format_breadcrumbs(breadcrumbs) when is_list(breadcrumbs) do
    now = Utils.monotonic_timestamp()

    Enum.map_join(breadcrumbs, " -> ", fn crumb ->
      "#{inspect(crumb.module)}.#{crumb.function} (#{now - crumb.timestamp}ms ago)"
    end)
  end

  @doc "How long the operation has been running, in milliseconds with fractions."
  @spec get_operation_duration(t()) :: float()
  def get_operation_duration(%__MODULE__{start_time: started}),
    do: (System.monotonic_time(:nanosecond) - started) / 1_000_000

  defp breadcrumb(module, function, metadata),
    do: %{
      module: module,
      function: function,
      timestamp: Utils.monotonic_timestamp(),
      metadata: metadata
    }
end
