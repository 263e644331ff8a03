defmodule ElixirScope.Compat.ExRated.Snapshot do
  @moduledoc false
  # Rows in a file: a magic, the MD5 of the rest, the rows as a term. The MD5 finds damage, not forgery. A file is replaced as a
  # whole, so whenever the machine stops there is the old one or the new one.

  @magic "ESCOPEX1"

  @spec read(Path.t()) :: {:ok, [tuple()]} | {:error, :damaged | File.posix()}
  def read(path) do
    with {:ok, bytes} <- File.read(path) do
      case bytes do
        <<@magic, checksum::binary-size(16), rows::binary>> -> rows(rows, checksum)
        _other -> {:error, :damaged}
      end
    end
  end

  defp rows(bytes, checksum) do
    if :erlang.md5(bytes) == checksum,
      do: {:ok, :erlang.binary_to_term(bytes)},
      else: {:error, :damaged}
  end

  @spec write(Path.t(), [tuple()]) :: :ok | {:error, File.posix()}
  def write(path, rows) do
    bytes = :erlang.term_to_binary(rows)
    beside = "#{path}.#{System.pid()}.#{System.unique_integer([:positive])}.tmp"

    with :ok <- File.write(beside, [@magic, :erlang.md5(bytes), bytes], [:sync]),
         :ok <- File.rename(beside, path) do
      :ok
    else
      error ->
        File.rm(beside)
        error
    end
  end

  @doc "Keeps a file that cannot be read out of the way of the next one."
  @spec keep_aside(Path.t()) :: :ok | {:error, File.posix()}
  def keep_aside(path), do: File.rename(path, path <> ".damaged")
end
