defmodule ParseService.Application do
  @moduledoc "The parsers' pool, and what `PARSE_SERVICE_WARM_UP=yes` asks for: parsing the sources of the installed Elixir once."
  use Application

  alias ElixirScope.Foundation.Infrastructure.ConnectionPool

  @impl true
  def start(_type, _args) do
    children =
      [
        {ConnectionPool,
         name: :parsers,
         size: System.schedulers_online(),
         max_overflow: 0,
         worker: ParseService.Parser}
      ] ++
        case System.get_env("PARSE_SERVICE_WARM_UP") do
          "yes" -> [{Task, &ParseService.warm_up/0}]
          _no -> []
        end

    with {:ok, pid} <-
           Supervisor.start_link(children, strategy: :one_for_one, name: ParseService.Supervisor),
         :ok <- ParseService.protect(),
         do: {:ok, pid}
  end
end
