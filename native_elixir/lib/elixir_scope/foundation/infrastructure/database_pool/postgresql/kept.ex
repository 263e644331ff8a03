defmodule ElixirScope.Foundation.Infrastructure.DatabasePool.PostgreSQL.Kept do
  @moduledoc false
  # PostgreSQL connections that come back as they are, `reset: false`. One that has died is not lent again, whether its
  # pool has heard of that yet or not.

  @behaviour ElixirScope.Foundation.Infrastructure.Connection

  alias ElixirScope.Foundation.Infrastructure.DatabasePool.PostgreSQL

  @impl true
  defdelegate connect(argument), to: PostgreSQL

  @impl true
  defdelegate disconnect(connection, reason), to: PostgreSQL

  @impl true
  defdelegate ping(connection), to: PostgreSQL

  @impl true
  def reset({_, driver}), do: if(Process.alive?(driver), do: :ok, else: {:error, :closed})
end
