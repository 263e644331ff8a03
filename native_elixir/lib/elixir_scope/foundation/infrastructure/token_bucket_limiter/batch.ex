defmodule ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Batch do
  @moduledoc false
  # A native call takes as many members of a list as it has time for, and hands back the rest and the time that it read.

  alias ElixirScope.Foundation.Infrastructure.Native
  alias ElixirScope.Foundation.Infrastructure.TokenBucketLimiter.Rules

  @typep native_result :: term()

  @doc "Checks keys by one measure. Answers like `check_rate_limit` in the order of the keys, and whether all are `:ok`."
  @spec keys(reference(), [term()], term(), non_neg_integer(), term()) ::
          {:ok, [native_result()], boolean()} | {:error, term()}
  def keys(native, keys, measure, cost, rule) do
    run = &Native.limiter_check_each(native, &1, measure, cost, &2)

    told = fn
      refused, key when tuple_size(refused) == 2 -> Rules.answer(refused, key, rule, cost)
      plain, _key -> plain
    end

    # Nearly always one call admits all.
    case run.(keys, nil) do
      {answers, :allowed, [], _now, :ok} ->
        {:ok, answers, true}

      first ->
        with {:ok, answers} <- go_on(first, keys, run, &Rules.written/1, told, []),
             do: {:ok, answers, false}
    end
  end

  @doc "Checks members `{key, measure, cost}`: native decisions in their order, or `{:error, reason}`."
  @spec charges(reference(), [{term(), term(), non_neg_integer()}]) ::
          {:ok, [native_result()]} | {:error, term()}
  def charges(native, charges) do
    written = fn {key, measure, cost} -> {Rules.written(key), measure, cost} end
    run = &Native.limiter_check_batch(native, &1, &2)
    loop(charges, nil, run, written, fn result, _charge -> result end, [])
  end

  defp loop(members, now, run, written, told, done),
    do: go_on(run.(members, now), members, run, written, told, done)

  defp go_on(native, members, run, written, told, done) do
    case native do
      {:error, refusal} ->
        {:error, refusal}

      {results, common, rest, now, stopped} ->
        results = if common == :raw, do: Enum.zip_with(results, members, told), else: results
        done = [results | done]

        case {stopped, rest} do
          {:ok, []} ->
            {:ok, done |> Enum.reverse() |> concat()}

          {:ok, rest} ->
            loop(rest, now, run, written, told, done)

          {:key_opaque, [opaque | rest]} ->
            result =
              case run.([written.(opaque)], now) do
                {[result], _common, [], _now, :ok} -> result
                {[], _common, _long, _now, unfit} -> {:error, unfit}
              end

            loop(rest, now, run, written, told, [[told.(result, opaque)] | done])

          {:key_too_large, [long | rest]} ->
            refused = told.({:error, :key_too_large}, long)
            loop(rest, now, run, written, told, [[refused] | done])
        end
    end
  end

  defp concat([results]), do: results
  defp concat(chunks), do: Enum.concat(chunks)
end
