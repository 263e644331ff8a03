defmodule ElixirScope.Foundation.Infrastructure.ConnectionPool.Lease do
  @moduledoc """
  The exclusive right to one connection, as a value that may travel.

  `ConnectionPool.checkout_lease/2` gives one; whoever holds it may give the connection back with
  `ConnectionPool.checkin/2`. It still ends when the process that checked it out dies. A lease that ended is
  known by its epoch: giving it back again changes nothing.
  """

  alias ElixirScope.Foundation.Infrastructure.ConnectionPool

  @enforce_keys [:handle, :slot, :epoch, :connection]
  defstruct [:handle, :slot, :epoch, :connection, :since]

  @type t :: %__MODULE__{
          handle: ConnectionPool.handle(),
          slot: non_neg_integer(),
          epoch: non_neg_integer(),
          connection: ConnectionPool.connection(),
          since: integer() | nil
        }
end
