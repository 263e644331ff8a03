defmodule ElixirScope.Foundation.Infrastructure.DatabasePool.SQL do
  @moduledoc false
  # What a statement's text must be for either driver.

  alias ElixirScope.Foundation.Error

  @spec text(term()) :: {:ok, String.t()} | {:error, Error.t()}
  def text(sql) do
    text = IO.iodata_to_binary(sql)
    if String.valid?(text), do: {:ok, text}, else: refused(sql)
  rescue
    ArgumentError -> refused(sql)
  end

  defp refused(sql), do: {:error, Error.refused(:sql, sql, "a statement as a string in UTF-8")}
end
