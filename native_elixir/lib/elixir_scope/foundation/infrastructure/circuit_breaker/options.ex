defmodule ElixirScope.Foundation.Infrastructure.CircuitBreaker.Options do
  @moduledoc """
  What a circuit breaker may be told, and how its options become the native core's.

  Times are milliseconds, or `{n, :nanosecond}`; shares are numbers from 0.0 to 1.0, in steps of 0.0001. What a value
  may be is the core's business: here only shapes are checked, and an unknown option is refused, because a
  misspelt one would silently leave a service unprotected.

  | option | default | meaning |
  | --- | --- | --- |
  | `policy` | `:consecutive_failures` | when it opens: see below |
  | `weights` | `%{failure: 1}`, others 0 | how many failures a `:success`, `:failure`, `:slow`, `:ignored`, `:cancelled` counts as |
  | `slow_call` | 0, not measured | a call that takes longer is slow |
  | `reset_timeout` | 30,000 | how long it stays open before a probe |
  | `backoff` | 1.0 | growth of that time with each re-opening, or 1.2 to 100.0 |
  | `max_reset_timeout` | 0, no cap | up to where it grows |
  | `jitter`, `seed` | 0.0, 0 | spread of that time to either side; equal seeds spread alike |
  | `skip_half_open` | `false` | close when that time is over, without probes |
  | `half_open_permits` | 1 | probes of a half-open round |
  | `successes_to_close` | 1 | how many of them close it |
  | `probe_lease` | 60,000 | how long a probe may stay without a result |
  | `release_expired_probes` | `false` | such a probe gives its place back instead of counting as failed |
  | `half_open_limit` | 0, none | a round without a verdict ends after this |
  | `close_at_half_open_limit` | `false` | and then closes instead of opening |
  | `max_ignored_probes` | 0, any | the so-manyth ignored probe of a round opens again |
  | `ramp`, `ramp_from` | 0, 0.1 | after probes have closed it, admit a share that grows over this time, from this share on |
  | `levels` | `%{light: 0.4, medium: 0.6, heavy: 0.8}` | used shares of what the policy tolerates from which on it is degraded |
  | `strategy` | `:fail_fast` | `:gradual_degradation` sheds calls while it is degraded |
  | `admit` | `%{none: 1.0, light: 0.8, medium: 0.5, heavy: 0.2}` | shares of calls that `:gradual_degradation` admits |
  | `probe_capacity`, `window_capacity` | by need | what a later `CircuitBreaker.reconfigure/3` may ask for |
  | `call_timeout` | 5,000 | limit of a call, which then has a process of its own; `:infinity` for none |
  | `classify`, `failure?`, `ignore` | | what counts as a failure: see `CircuitBreaker.execute/4` |

  Each policy has options of its own:

  | policy | options |
  | --- | --- |
  | `:consecutive_failures` | `failure_threshold` (5): opens at so many failures in a row |
  | `:failures_in_period` | `tolerated_failures` (4), `period` (60,000): opens at the first failure beyond those within that time |
  | `:rate` | `window_size` (the last so many calls) or `period` with `buckets` (10); `min_calls` (10); `failure_rate` (0.5); `slow_call_rate` (1.0) |

  An option of another policy or strategy than the breaker's is refused. A layer of options that names a policy or a
  strategy replaces the one of the layer below with all of its options; groups (`weights`, `levels`, `admit`) are merged
  entry by entry.
  """

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.CircuitBreaker.Classifier
  alias ElixirScope.Foundation.Infrastructure.Native

  @typedoc "Milliseconds, or a number with its unit."
  @type duration :: non_neg_integer() | {non_neg_integer(), :nanosecond}
  @typedoc "Options that were given, translated: core field to what it is and was."
  @type layer :: %{optional(atom()) => {term(), term()}}
  @type settings :: %{
          core: map(),
          call_timeout: timeout(),
          classifier: Classifier.t(),
          layer: layer()
        }

  # option => {field of the core, kind}, or a group of those.
  @options %{
    policy: {:policy, {:one_of, [:consecutive_failures, :failures_in_period, :rate]}},
    failure_threshold: {:failure_threshold, :count},
    tolerated_failures: {:tolerated_failures, :count},
    period: {:period_ns, :duration},
    window_size: {:window_size, :count},
    buckets: {:buckets, :count},
    min_calls: {:min_calls, :count},
    failure_rate: {:failure_rate_bp, :share},
    slow_call_rate: {:slow_call_rate_bp, :share},
    weights: %{
      success: {:weight_success, :count},
      failure: {:weight_failure, :count},
      slow: {:weight_slow, :count},
      ignored: {:weight_ignored, :count},
      cancelled: {:weight_cancelled, :count}
    },
    slow_call: {:slow_call_ns, :duration},
    reset_timeout: {:open_for_ns, :duration},
    backoff: {:backoff_percent, :factor},
    max_reset_timeout: {:max_open_ns, :duration},
    jitter: {:jitter_bp, :share},
    seed: {:seed, :count},
    skip_half_open: {:skip_half_open, :flag},
    half_open_permits: {:half_open_permits, :count},
    successes_to_close: {:successes_to_close, :count},
    probe_lease: {:probe_lease_ns, :duration},
    release_expired_probes: {:release_expired_probes, :flag},
    half_open_limit: {:half_open_limit_ns, :duration},
    close_at_half_open_limit: {:close_at_half_open_limit, :flag},
    max_ignored_probes: {:max_ignored_probes, :count},
    ramp: {:ramp_ns, :duration},
    ramp_from: {:ramp_from_bp, :share},
    levels: %{
      light: {:level_light_bp, :share},
      medium: {:level_medium_bp, :share},
      heavy: {:level_heavy_bp, :share}
    },
    strategy: {:strategy, {:one_of, [:fail_fast, :gradual_degradation]}},
    admit: %{
      none: {:admit_bp, :share},
      light: {:admit_light_bp, :share},
      medium: {:admit_medium_bp, :share},
      heavy: {:admit_heavy_bp, :share}
    },
    probe_capacity: {:probe_capacity, :count},
    window_capacity: {:window_capacity, :count},
    call_timeout: {:call_timeout, :timeout},
    classify: {:classify, :function},
    failure?: {:failure?, :reasons},
    ignore: {:ignore, :reasons}
  }

  @faults %{
    failure_rate: {:failure_bp, :share},
    delay_rate: {:delay_bp, :share},
    delay: {:delay_ns, :duration},
    seed: {:seed, :count}
  }

  @edge [:call_timeout, :classify, :failure?, :ignore]
  @call_timeout 5_000
  @largest 0xFFFF_FFFF_FFFF_FFFF

  @policies %{
    consecutive_failures: [:failure_threshold],
    failures_in_period: [:tolerated_failures, :period_ns],
    rate: [
      :window_size,
      :period_ns,
      :buckets,
      :min_calls,
      :failure_rate_bp,
      :slow_call_rate_bp
    ]
  }
  @strategies %{
    fail_fast: [],
    gradual_degradation: [:admit_bp, :admit_light_bp, :admit_medium_bp, :admit_heavy_bp]
  }
  @policy_fields @policies |> Map.values() |> List.flatten() |> Enum.uniq()
  @strategy_fields @strategies |> Map.values() |> List.flatten()

  # Field of the core => {what it is called here, kind}.
  @fields Map.new(
            Enum.flat_map(Map.to_list(@faults) ++ Map.to_list(@options), fn
              {option, {field, kind}} ->
                [{field, {Atom.to_string(option), kind}}]

              {option, group} ->
                for {entry, {field, kind}} <- group, do: {field, {"#{option}: #{entry}", kind}}
            end)
          )

  @doc "Translates one layer of options."
  @spec layer(term()) :: {:ok, layer()} | {:error, Error.t()}
  def layer(options),
    do: translate(options, @options, "circuit breaker option", "circuit breaker options")

  @doc "What a call may be told: the options of this layer that are not the core's."
  @spec call(term()) :: {:ok, layer()} | {:error, Error.t()}
  def call(options),
    do: translate(options, Map.take(@options, @edge), "option of a call", "options of a call")

  @doc "The faults of `CircuitBreaker.inject_faults/3`; what is absent is 0."
  @spec faults(term()) :: {:ok, map(), layer()} | {:error, Error.t()}
  def faults(options) do
    with {:ok, layer} <- translate(options, @faults, "fault option", "fault options") do
      none = %{failure_bp: 0, delay_bp: 0, delay_ns: 0, seed: 0}
      {:ok, Map.merge(none, Map.new(layer, fn {field, {value, _}} -> {field, value} end)), layer}
    end
  end

  @doc "One layer over another."
  @spec over(layer(), layer()) :: layer()
  def over(upper, lower) do
    lower = if is_map_key(upper, :policy), do: Map.drop(lower, @policy_fields), else: lower
    lower = if is_map_key(upper, :strategy), do: Map.drop(lower, @strategy_fields), else: lower
    lower = if Classifier.given?(upper), do: Classifier.drop(lower), else: lower
    Map.merge(lower, upper)
  end

  @doc "What a breaker is made from."
  @spec settings(layer()) :: {:ok, settings()} | {:error, Error.t()}
  def settings(layer) do
    with {:ok, policy} <- chosen(:policy, :consecutive_failures, @policies, layer),
         {:ok, _strategy} <- chosen(:strategy, :fail_fast, @strategies, layer),
         {:ok, policy} <- policy(policy, layer),
         {:ok, classifier} <- Classifier.new(edge(layer)) do
      given = for {field, {value, _given}} <- layer, field not in @edge, do: {field, value}
      core = Native.breaker_defaults() |> Map.merge(Map.new(given)) |> Map.put(:policy, policy)
      {call_timeout, _given} = Map.get(layer, :call_timeout, {@call_timeout, nil})
      {:ok, %{core: core, call_timeout: call_timeout, classifier: classifier, layer: layer}}
    end
  end

  @doc "The options of a layer that are not the core's."
  @spec edge(layer()) :: map()
  def edge(layer),
    do: for({field, {value, _}} <- Map.take(layer, @edge), into: %{}, do: {field, value})

  @doc "The error of a refusal of the core, in the words of the options."
  @spec refused({String.t(), non_neg_integer(), String.t()}, layer()) :: Error.t()
  def refused({argument, value, allowed}, layer) do
    field = String.to_existing_atom(argument)
    {name, kind} = Map.fetch!(@fields, field)
    allowed = allowed(allowed, kind)

    {given, allowed} =
      case layer do
        %{^field => {_value, given}} -> {given, allowed}
        _default -> {default(kind, value), allowed <> "; it has its default"}
      end

    Error.refused(name, given, allowed, :invalid_config_value)
  end

  defp default(:share, value), do: value / 10_000
  defp default(_count, value), do: value

  # What is allowed, in the names and units of the options.
  defp allowed(text, kind) do
    text = Regex.replace(~r/[a-z]+(?:_[a-z]+)+/, text, &option_name/1)

    case kind do
      :share -> text |> String.replace(" basis points", "") |> scaled(10_000)
      :factor -> scaled(text, 100)
      :duration -> in_milliseconds(text)
      _other -> text
    end
  end

  defp option_name(word) do
    case Enum.find(@fields, fn {field, _} -> Atom.to_string(field) == word end) do
      {_field, {name, _kind}} -> name
      nil -> word
    end
  end

  defp scaled(text, unit),
    do: Regex.replace(~r/\b\d+\b/, text, &decimal(String.to_integer(&1) / unit))

  defp decimal(number), do: :erlang.float_to_binary(number, [:compact, decimals: 4])

  defp in_milliseconds(text) do
    text
    |> String.replace("2^62 - 1", "#{div(2 ** 62 - 1, 1_000_000)} milliseconds")
    |> String.replace(~r/^1 to/, "1 nanosecond to")
    |> String.replace("1000000 for", "1 millisecond for")
  end

  # What a layer chooses, if all that it says belongs to that.
  defp chosen(option, default, choices, layer) do
    {choice, _given} = Map.get(layer, option, {default, nil})
    fields = for {_choice, fields} <- choices, field <- fields, do: field

    case Enum.find(fields, &(is_map_key(layer, &1) and &1 not in choices[choice])) do
      nil -> {:ok, choice}
      field -> misplaced(field, layer, option, choice, choices)
    end
  end

  defp misplaced(field, layer, option, choice, choices) do
    {name, _kind} = @fields[field]
    {_value, given} = layer[field]
    theirs = for {other, fields} <- choices, field in fields, do: inspect(other)

    allowed =
      "an option of #{option} #{Enum.join(theirs, " or ")}; the #{option} is #{inspect(choice)}"

    invalid(name, given, allowed)
  end

  defp policy(:rate, layer) do
    case layer do
      %{window_size: {_, given}, period_ns: _} ->
        invalid(
          "window_size",
          given,
          "absent where period is given: the window is one or the other"
        )

      %{window_size: {_, given}, buckets: _} ->
        invalid("window_size", given, "absent where buckets is given, which belongs to period")

      %{period_ns: _} ->
        {:ok, :rate_time}

      %{window_size: _} ->
        {:ok, :rate_count}

      _neither ->
        invalid(
          "policy",
          :rate,
          ":rate with window_size or period, which say which results it looks at"
        )
    end
  end

  defp policy(name, _layer), do: {:ok, name}

  defp translate(options, table, one, all) do
    if (is_map(options) and not is_struct(options)) or Keyword.keyword?(options) do
      Enum.reduce_while(options, {:ok, %{}}, fn {option, value}, {:ok, layer} ->
        case translated(table[option], option, value, table, one) do
          {:ok, fields} -> {:cont, {:ok, Map.merge(layer, fields)}}
          error -> {:halt, error}
        end
      end)
    else
      invalid(all, options, "a map or a keyword list")
    end
  end

  defp translated(nil, option, _value, table, one) do
    allowed = table |> Map.keys() |> Enum.sort() |> Enum.map_join(", ", &inspect/1)
    invalid(one, option, "one of " <> allowed)
  end

  defp translated(group, option, value, _table, _one) when is_map(group),
    do: translate(value, group, "entry of #{option}", Atom.to_string(option))

  defp translated({field, kind}, _option, value, _table, _one) do
    case encode(kind, value) do
      {:ok, encoded} -> {:ok, %{field => {encoded, value}}}
      {:error, allowed} -> invalid(elem(@fields[field], 0), value, allowed)
    end
  end

  # What does not fit in a word is too large for the core as well, which says so.
  defp encode(:count, n) when is_integer(n) and n >= 0, do: {:ok, min(n, @largest)}
  defp encode(:count, _n), do: {:error, "a non-negative integer"}
  defp encode(:duration, {n, :nanosecond}) when is_integer(n) and n >= 0, do: encode(:count, n)
  defp encode(:duration, ms) when is_integer(ms) and ms >= 0, do: encode(:count, ms * 1_000_000)
  defp encode(:duration, _ms), do: {:error, "non-negative milliseconds, or {n, :nanosecond}"}
  defp encode(:share, share), do: scale(share, 10_000, "a number from 0.0 to 1.0")
  defp encode(:factor, factor), do: scale(factor, 100, "1.0, or 1.2 to 100.0")
  defp encode(:flag, flag) when is_boolean(flag), do: {:ok, flag}
  defp encode(:flag, _flag), do: {:error, "true or false"}
  defp encode(:timeout, :infinity), do: {:ok, :infinity}
  defp encode(:timeout, ms) when is_integer(ms) and ms > 0 and ms <= 0xFFFF_FFFF, do: {:ok, ms}
  defp encode(:timeout, _ms), do: {:error, "1 to 2^32 - 1 milliseconds, or :infinity"}
  defp encode(:function, fun) when is_function(fun, 1), do: {:ok, fun}
  defp encode(:function, _fun), do: {:error, "a function of the result"}
  defp encode(:reasons, fun) when is_function(fun, 1), do: {:ok, fun}

  defp encode(:reasons, list) do
    if is_list(list) and not List.improper?(list) and Enum.all?(list, &is_atom/1),
      do: {:ok, list},
      else: {:error, "a list of error types and exception modules, or a function of the reason"}
  end

  defp encode({:one_of, names}, name) do
    if name in names,
      do: {:ok, name},
      else: {:error, Enum.map_join(names, ", ", &inspect/1)}
  end

  # A number that large is out of every range, and a larger one may not be one any more once it is multiplied.
  defp scale(number, unit, _allowed) when is_number(number) and number >= 0,
    do: {:ok, round(min(number, 1_000_000) * unit)}

  defp scale(_number, _unit, allowed), do: {:error, allowed}

  defp invalid(argument, value, allowed),
    do: {:error, Error.refused(argument, value, allowed, :invalid_config_value)}
end
