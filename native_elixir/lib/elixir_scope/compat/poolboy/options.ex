defmodule ElixirScope.Compat.Poolboy.Options do
  @moduledoc false
  # Reads the options of poolboy, as forgiving as poolboy is: what is none is passed over.

  alias ElixirScope.Foundation.Infrastructure.ConnectionPool.Config

  @doc "The pool's configuration and the options that register its process."
  @spec parse(term(), term()) :: {:ok, Config.t(), GenServer.options()} | {:error, term()}
  def parse(pool_args, worker_args) do
    case fetch(pool_args, :worker_module) do
      module when is_atom(module) and not is_nil(module) ->
        {:ok, config(pool_args, module, worker_args), name(fetch(pool_args, :name))}

      other ->
        {:error, {:noproc, {:worker_module, other}}}
    end
  end

  defp config(pool_args, module, worker_args) do
    %Config{
      worker: fn -> worker(module, worker_args) end,
      size: count(fetch(pool_args, :size), 5),
      max_overflow: count(fetch(pool_args, :max_overflow), 10),
      strategy: if(fetch(pool_args, :strategy) == :fifo, do: :fifo, else: :lifo),
      # Leased workers end at once with their pool.
      drain: 0
    }
  end

  # In the pool's process: a supervisor is the parent of the workers, so that they end as their kind does, and ends with
  # the pool.
  defp worker(module, worker_args) do
    {:ok, supervisor} = DynamicSupervisor.start_link(strategy: :one_for_one, max_restarts: 0)

    child = %{
      id: module,
      start: {module, :start_link, [worker_args]},
      restart: :temporary,
      shutdown: 5_000
    }

    %{
      create: fn -> start(supervisor, child) end,
      close: fn worker, _reason -> DynamicSupervisor.terminate_child(supervisor, worker) end,
      reset: nil,
      ping: nil
    }
  end

  defp start(supervisor, child) do
    case DynamicSupervisor.start_child(supervisor, child) do
      {:ok, worker} -> {:ok, worker}
      {:ok, worker, _info} -> {:ok, worker}
      :ignore -> {:error, :ignore}
      {:error, reason} -> {:error, reason}
    end
  end

  defp fetch(options, key) when is_list(options) do
    case List.keyfind(options, key, 0) do
      {_, value} -> value
      nil -> nil
    end
  end

  defp fetch(_options, _key), do: nil

  defp count(number, _default) when is_integer(number), do: max(number, 0)
  defp count(_other, default), do: default

  defp name({:local, name}) when is_atom(name), do: [name: name]
  defp name({:global, _} = name), do: [name: name]
  defp name({:via, _, _} = name), do: [name: name]
  defp name(_), do: []
end
