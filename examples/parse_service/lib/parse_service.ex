defmodule ParseService do
  @moduledoc """
  Parses Elixir sources for users of organisations, behind limits for each of them and for all, a breaker, and a pool of
  parser processes.

      iex> ParseService.parse(%{user: "ann", organisation: "acme"}, "1 + 1")
      {:ok, {:+, [line: 1], [1, 1]}}
  """

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure
  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter

  @type who :: %{user: term(), organisation: term()}

  @doc "Gives the parser its breaker and its pool; once, when the application starts."
  @spec protect() :: :ok | {:error, Error.t()}
  def protect,
    do:
      Infrastructure.configure_protection(:parser, circuit_breaker: %{}, connection_pool: :parsers)

  @doc """
  The syntax tree of `source`. A source that does not parse is its author's mistake, not the service's failure: the breaker
  does not hear of it. A larger source costs more: one token for each 64 KiB begun.
  """
  @spec parse(who(), String.t()) :: {:ok, Macro.t()} | {:error, {:syntax, term()} | Error.t()}
  def parse(who, source) do
    with :ok <- TokenBucketLimiter.check_hierarchy(:parse, who, cost: cost(source)),
         {:ok, parsed} <-
           Infrastructure.execute_protected(:parser, [timeout: 5_000], &parsed(&1, source)),
         do: parsed
  end

  defp cost(source), do: div(byte_size(source), 65_536) + 1

  defp parsed(parser, source) do
    case ParseService.Parser.parse(parser, source) do
      {:ok, tree} -> {:ok, {:ok, tree}}
      {:error, reason} -> {:ok, {:error, {:syntax, reason}}}
    end
  end

  @doc "Parses the sources of the installed Elixir, as a user who keeps to the limits: waits where they say so."
  @spec warm_up() :: %{parsed: non_neg_integer(), failed: non_neg_integer()}
  def warm_up do
    for {_name, read} <- ParseService.Installed.sources(),
        source = read.(),
        reduce: %{parsed: 0, failed: 0} do
      counts ->
        case patiently(%{user: :warm_up, organisation: :warm_up}, source) do
          {:ok, _tree} -> Map.update!(counts, :parsed, &(&1 + 1))
          {:error, _reason} -> Map.update!(counts, :failed, &(&1 + 1))
        end
    end
  end

  defp patiently(who, source) do
    case parse(who, source) do
      {:error, %Error{error_type: :rate_limited, context: %{retry_after_ms: ms}}} ->
        Process.sleep(ms)
        patiently(who, source)

      result ->
        result
    end
  end
end
