defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Worker do
  @moduledoc false
  # Who makes, tests, resets and closes a pool's connections: a module, or functions given one by one.

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Infrastructure.Connection
  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.Config

  @functions [close: 1, reset: 1, ping: 1]
  @keys [:worker, :create | Keyword.keys(@functions)]

  @doc "The options that say who it is."
  @spec keys() :: [atom()]
  def keys, do: @keys

  @doc "The worker that these options name."
  @spec new(keyword()) :: {:ok, Connection.t()} | {:error, Error.t()}
  def new(options) do
    case Keyword.pop(options, :worker) do
      {nil, []} ->
        Config.invalid(:worker, nil, "a module, {module, arg}, or functions from create: on")

      {nil, functions} ->
        of_functions(functions)

      {{module, arg}, []} when is_atom(module) ->
        of_module(module, arg)

      {module, []} when is_atom(module) ->
        of_module(module, [])

      {worker, _} ->
        allowed = "a module or {module, arg}, and then none of #{names(@keys -- [:worker])}"
        Config.invalid(:worker, worker, allowed)
    end
  end

  defp of_functions(functions) do
    create = functions[:create]

    cond do
      not is_function(create, 0) ->
        Config.invalid(:create, create, "a function of no argument")

      wrong = Enum.find(@functions, &wrong?(&1, functions)) ->
        {key, _arity} = wrong
        Config.invalid(key, functions[key], "a function of one argument")

      true ->
        close = functions[:close] || fn _connection -> :ok end

        {:ok,
         %{
           create: create,
           close: fn connection, _reason -> close.(connection) end,
           reset: functions[:reset],
           ping: functions[:ping]
         }}
    end
  end

  defp wrong?({key, arity}, functions) do
    function = functions[key]
    function != nil and not is_function(function, arity)
  end

  defp of_module(module, arg) do
    with {:module, ^module} <- Code.ensure_loaded(module),
         true <- function_exported?(module, :connect, 1),
         true <- function_exported?(module, :disconnect, 2) do
      with :ok <- check_argument(module, arg), do: {:ok, Connection.of_module(module, arg)}
    else
      _ -> Config.invalid(:worker, module, "a module that exports connect/1 and disconnect/2")
    end
  end

  defp check_argument(module, arg) do
    if function_exported?(module, :check_argument, 1), do: module.check_argument(arg), else: :ok
  end

  defp names(keys), do: Enum.map_join(keys, ", ", &inspect/1)
end
