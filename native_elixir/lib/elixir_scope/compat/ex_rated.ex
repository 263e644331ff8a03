defmodule ElixirScope.Compat.ExRated do
  @moduledoc """
  The functions of ex_rated 2.1: `alias ElixirScope.Compat.ExRated`.

      iex> alias ElixirScope.Compat.ExRated
      iex> for _ <- 1..3, do: ExRated.check_rate("a doctest", 86_400_000, 2)
      [{:ok, 1}, {:ok, 2}, {:error, 2}]
      iex> {3, 0, ms, created, updated} = ExRated.inspect_bucket("a doctest", 86_400_000, 2)
      iex> ms in 1..86_400_000 and created <= updated
      true
      iex> ExRated.delete_bucket("a doctest")
      :ok
      iex> {0, 2, _ms, nil, nil} = ExRated.inspect_bucket("a doctest", 86_400_000, 2)

  These are **fixed windows** of `scale` milliseconds from the beginning of 1970, counted by the wall clock, as in ex_rated: two
  windows that meet can see twice the limit within a moment. Denied calls count too, and the limit comes with each call: three
  calls under a limit of 2 are `{:ok, 4}` under a limit of 10 afterwards. Ids are any term; `1` and `1.0` are the same. For a
  bucket that refills evenly there is `ElixirScope.Foundation.Infrastructure.TokenBucketLimiter`.

  The application starts one server, and its table. A call is one atomic update of the table by the caller; the
  server only drops what is over and keeps the file.

  | in ex_rated | here |
  | --- | --- |
  | application `ex_rated`: `timeout`, `cleanup_rate`, `persistent`, `ets_table_name` | `config :elixir_scope, :ex_rated`, the same keys and defaults, and `file`; read when the application starts |
  | server `:ex_rated` | `ElixirScope.Compat.ExRated` |
  | table `:ex_rated_buckets` | `:elixir_scope_ex_rated_buckets`, so that both may run while you change over |

  ## Differences

  | | ex_rated | here |
  | --- | --- | --- |
  | D1 | the first calls of an id at the same time are admitted beyond the limit | one atomic update: never |
  | D2 | a clean-up in the middle of a call raises `badarg` in the caller | never |
  | D3 | `delete_bucket/1` is `:error` where an old window was left | `:ok` if anything was deleted |
  | D4 | only some orders of start arguments are taken, others crash | any order; an unknown one or a bad value is told by `ArgumentError` |
  | D5 | with `timeout` below `scale` a bucket is forgotten inside its window | a window is dropped when it is over, and not before; `timeout` is taken and changes nothing |
  | D6 | rows of windows that are over stay for `timeout` | dropped with the next clean-up |
  | D7 | `persistent`: written at a clean stop only, so a crash loses all | also with each clean-up, replaced as a whole: a crash of the VM loses at most `cleanup_rate` milliseconds |
  | D8 | a crash of the server loses every bucket | the table outlives it |
  | D9 | a damaged file is repaired as far as it goes, or stops the server | refused, kept beside as `FILE.damaged`, told as event `[:ex_rated, :file_refused]` behind the telemetry prefix; the server starts empty. `:file_not_written` tells of a write that failed |
  | D10 | a limit below 1, but for 0, admits the first call of each window | `{:error, limit}` always, and nothing is counted |
  | D11 | a scale of 0 raises `ArithmeticError`, a negative one or none counts anyhow | `ArgumentError` that says what is allowed |
  | D12 | two scales of one id may meet in one bucket | never |
  | D13 | `inspect_bucket/3` and `delete_bucket/1` are calls of the one server | read and delete the table directly, also while the server is down |
  | D14 | a second server cannot start | `{:error, {:already_started, pid}}` under the same name; under another one it shares the table |
  | D15 | a file named after the table in the current directory, in DETS | `file`, by default the table's name and `.escope` there |

  An id `{{:test, reference}, term}` belongs to a test: it reads the `ManualClock` of the namespace `{:test, reference}` if there is
  one, and is deleted by `ProcessRegistry.cleanup_test_namespace/1`.
  """

  alias ElixirScope.Compat.ExRated.{Buckets, Server}

  @type id :: term()
  @type count :: pos_integer()

  @doc """
  Counts a call of `id` in the present window of `scale` milliseconds: `{:ok, count}`, or `{:error, limit}` if the count is
  above `limit`.
  """
  @spec check_rate(id(), scale :: number(), limit :: number()) ::
          {:ok, count()} | {:error, number()}
  def check_rate(id, scale, limit)
      when is_number(scale) and scale > 0 and is_number(limit) and limit >= 1 do
    count = Buckets.count(id, scale)
    if count <= limit, do: {:ok, count}, else: {:error, limit}
  end

  def check_rate(_id, scale, limit) when is_number(scale) and scale > 0 and is_number(limit),
    do: {:error, limit}

  def check_rate(_id, scale, limit), do: refuse(scale, limit)

  @doc """
  The present window of `id`: `{count, remaining, ms_to_next_bucket, created_at, updated_at}`, with times in milliseconds since
  1970; `{0, limit, ms_to_next_bucket, nil, nil}` where nothing was counted.
  """
  @spec inspect_bucket(id(), scale :: number(), limit :: number()) ::
          {non_neg_integer(), number(), number(), integer() | nil, integer() | nil}
  def inspect_bucket(id, scale, limit) when is_number(scale) and scale > 0 and is_number(limit) do
    {row, ms_to_next} = Buckets.look(id, scale)

    case row do
      nil -> {0, limit, ms_to_next, nil, nil}
      {count, created, updated} -> {count, max(limit - count, 0), ms_to_next, created, updated}
    end
  end

  def inspect_bucket(_id, scale, limit), do: refuse(scale, limit)

  @doc "Deletes the counts of `id`, of all scales. `:error` if there are none."
  @spec delete_bucket(id()) :: :ok | :error
  def delete_bucket(id), do: if(Buckets.delete(id) > 0, do: :ok, else: :error)

  @doc """
  Starts a server. `args`: `:timeout`, `:cleanup_rate` and `:persistent`, over what is configured; `opts` are those of
  `GenServer.start_link/3`. The application has started one already, under the name of this module.
  """
  @spec start_link(keyword(), GenServer.options()) :: GenServer.on_start()
  def start_link(args \\ [], opts \\ []),
    do: GenServer.start_link(Server, Server.settings!(args), opts)

  @doc "The child specification of a server, from `[args, opts]` of `start_link/2`."
  @spec child_spec([keyword()]) :: Supervisor.child_spec()
  def child_spec([args, opts]),
    do: %{id: __MODULE__, start: {__MODULE__, :start_link, [args, opts]}}

  @doc "Stops a server, which keeps its file first. The counts stay."
  @spec stop(GenServer.server()) :: :ok
  def stop(server), do: GenServer.call(server, :stop)

  @spec refuse(term(), term()) :: no_return()
  defp refuse(scale, _limit) when not (is_number(scale) and scale > 0) do
    raise ArgumentError,
          "scale is #{inspect(scale)}, allowed is a positive number of milliseconds"
  end

  defp refuse(_scale, limit),
    do: raise(ArgumentError, "limit is #{inspect(limit)}, allowed is a number")
end
