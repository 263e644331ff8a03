defmodule ElixirScope.Foundation.Contracts.Configurable do
  @moduledoc "What a holder of the configuration can do."

  alias ElixirScope.Foundation.Error
  alias ElixirScope.Foundation.Types
  alias ElixirScope.Foundation.Types.Config

  @typedoc "The service's own, or the infrastructure's in front of it."
  @type error :: Types.Error.t() | Error.t()
  @type path :: [atom()]

  @callback get() :: {:ok, Config.t()} | {:error, error()}
  @callback get(path()) :: {:ok, term()} | {:error, error()}
  @callback update(path(), term()) :: :ok | {:error, error()}
  @callback validate(Config.t()) :: :ok | {:error, error()}
  @callback updatable_paths() :: [path()]
  @callback reset() :: :ok | {:error, error()}
  @callback available?() :: boolean()
end
