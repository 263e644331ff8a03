defmodule ElixirScope.Foundation.Infrastructure.CircuitBreaker.Classifier do
  @moduledoc false
  # What an operation's end says about the guarded service. The core counts what this names.

  alias ElixirScope.Foundation.{Error, Types}

  @type ending :: term() | {:raise, Exception.t()} | {:throw, term()} | {:exit, term()}
  @type reasons :: [atom()] | (term() -> as_boolean(term()))
  @type t :: nil | {:classify, (ending() -> atom())} | {:reasons, reasons() | nil, reasons()}

  @outcomes %{success: 0, failure: 1, ignored: 2, slow: 3, cancelled: 4}
  @options [:classify, :failure?, :ignore]

  @spec outcomes() :: %{atom() => 0..4}
  def outcomes, do: @outcomes

  @doc "The number of an outcome, or nil."
  @spec number(term()) :: 0..4 | nil
  def number(outcome), do: @outcomes[outcome]

  @spec name(0..4) :: atom()
  for {name, number} <- @outcomes, do: def(name(unquote(number)), do: unquote(name))

  # The options belong together: a layer that has one of them says all that is to be said.
  @spec given?(map()) :: boolean()
  def given?(layer), do: Enum.any?(@options, &is_map_key(layer, &1))

  @spec drop(map()) :: map()
  def drop(layer), do: Map.drop(layer, @options)

  @spec new(map()) :: {:ok, t()} | {:error, Error.t()}
  def new(%{classify: _} = options)
      when is_map_key(options, :failure?) or is_map_key(options, :ignore) do
    allowed = "absent where failure? or ignore is given"
    {:error, Error.refused(:classify, options.classify, allowed, :invalid_config_value)}
  end

  def new(%{classify: fun}), do: {:ok, {:classify, fun}}

  def new(options) do
    if given?(options),
      do: {:ok, {:reasons, options[:failure?], Map.get(options, :ignore, [])}},
      else: {:ok, nil}
  end

  # The outcome's number, given the one that the result has without a classifier. Raises where the caller's code
  # does, or names no outcome.
  @spec outcome(t(), ending(), 0..4) :: 0..4
  def outcome({:classify, fun}, ending, _default) do
    named = fun.(ending)

    number(named) ||
      raise ArgumentError, "`classify` returned #{inspect(named)}, allowed is #{allowed()}"
  end

  def outcome({:reasons, _failures, _ignored}, _ending, 0), do: 0

  def outcome({:reasons, failures, ignored}, ending, _failed) do
    reason = reason(ending)

    cond do
      among?(reason, ignored) -> @outcomes.ignored
      is_nil(failures) or among?(reason, failures) -> @outcomes.failure
      true -> @outcomes.success
    end
  end

  @spec allowed() :: String.t()
  def allowed, do: ":success, :failure, :ignored, :slow or :cancelled"

  defp among?(reason, fun) when is_function(fun), do: fun.(reason)
  defp among?(reason, list), do: tag(reason) in list

  defp reason({:raise, exception}), do: exception
  defp reason({_error_throw_or_exit, reason}), do: reason
  defp reason(:error), do: :error
  defp reason(error) when is_tuple(error), do: error |> Tuple.delete_at(0)

  # The atom by which a reason is known: an error's type, an exception's module, the first word of a tuple.
  defp tag(%error{error_type: type}) when error in [Error, Types.Error], do: type
  defp tag(%module{}), do: module

  defp tag(reason) when is_tuple(reason) and tuple_size(reason) > 0,
    do: reason |> elem(0) |> tag()

  defp tag(reason), do: reason
end
