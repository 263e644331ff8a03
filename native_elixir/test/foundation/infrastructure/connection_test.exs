defmodule ElixirScope.Foundation.Infrastructure.ConnectionTest do
  use ExUnit.Case, async: true

  doctest ElixirScope.Foundation.Infrastructure.Connection
end
