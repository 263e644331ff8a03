defmodule ElixirScope.Foundation.Contracts.Configurable do
  @moduledoc "What a holder of the configuration can do."

  alias ElixirScope.Foundation.Types.{Config, Error}

  @type path :: [atom()]

  @callback get() :: {:ok, Config.t()} | {:error, Error.t()}
  @callback get(path()) :: {:ok, term()} | {:error, Error.t()}
  @callback update(path(), term()) :: :ok | {:error, Error.t()}
  @callback validate(Config.t()) :: :ok | {:error, Error.t()}
  @callback updatable_paths() :: [path()]
  @callback reset() :: :ok | {:error, Error.t()}
  @callback available?() :: boolean()
end
