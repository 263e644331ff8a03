defmodule ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Hierarchy do
  @moduledoc false
  # Levels, such as user, organisation and global, as members of a group.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.Config
  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.{Decision, GroupDecision}

  # The level that all subjects share.
  @shared :global

  @type levels :: [{atom(), term()}]

  @doc "The levels of a configured name, or those that are given."
  @spec levels(atom() | levels() | term()) :: {:ok, levels()} | {:error, Error.t()}
  def levels(name) when is_atom(name) and not is_nil(name) do
    with {:ok, levels} <- Config.hierarchy(name), do: levels(levels)
  end

  def levels([_ | _] = levels) do
    if Keyword.keyword?(levels) and Enum.uniq(Keyword.keys(levels)) == Keyword.keys(levels),
      do: {:ok, levels},
      else: refuse(levels)
  end

  def levels(other), do: refuse(other)

  defp refuse(levels) do
    allowed =
      "a name in `hierarchies` of `rate_limiting`, or a keyword list of distinct levels with their rules: " <>
        inspect(Config.hierarchy_names())

    {:error, Error.refused(:hierarchy, levels, allowed)}
  end

  @doc "A charge for each level: who of it is debited, by what."
  @spec charges(levels(), term(), non_neg_integer()) :: {:ok, [tuple()]} | {:error, Error.t()}
  def charges(levels, subjects, cost) do
    cond do
      not (is_map(subjects) or Keyword.keyword?(subjects)) ->
        {:error, Error.refused(:subjects, subjects, "a map or a keyword list")}

      (lacking = lacking(levels, Map.new(subjects))) != nil ->
        allowed = "a map with the level #{inspect(lacking)}"
        {:error, Error.refused(:subjects, subjects, allowed)}

      true ->
        subjects = Map.new(subjects)
        {:ok, for({level, rule} <- levels, do: {{level, subjects[level]}, rule, cost})}
    end
  end

  # A level whose subject was forgotten would count everybody in one bucket.
  defp lacking(levels, subjects) do
    Enum.find_value(levels, fn {level, _rule} ->
      if level != @shared and not is_map_key(subjects, level), do: level
    end)
  end

  @doc "The answer to the whole: which levels refuse, and when to come back."
  @spec answer(GroupDecision.t(), levels()) :: :ok | {:error, Error.t()}
  def answer(%{verdict: :allowed}, _levels), do: :ok

  def answer(group, levels) do
    blocked =
      for index <- group.blocked do
        {elem(Enum.at(levels, index), 0), Enum.at(group.decisions, index)}
      end

    # The one that has the caller wait longest; an atom is after any number.
    {level, _decision} =
      Enum.max_by(blocked, fn {_level, decision} -> decision.retry_after_ns end)

    context = %{
      level: level,
      blocked: Map.new(blocked, fn {level, one} -> {level, Decision.retry_after_ms(one)} end),
      retry_after_ms: Decision.ms(group.retry_after_ns)
    }

    message = "Level #{inspect(level)} refuses: #{Error.new(group.verdict).message}"
    Error.error_result(group.verdict, message, context: context)
  end
end
