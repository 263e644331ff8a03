defmodule ElixirScope.Foundation.MemoryCheck do
  @moduledoc """
  Whether memory stays flat while something goes on.

  Each sample is taken after a garbage collection of every process, so that it counts what is kept and not what
  happens to lie about. The trend is the median of the slopes between all pairs of samples (Theil and Sen): up to
  a quarter of the samples may lie anywhere without moving it much.
  """

  @doc "Bytes: what the VM has allocated, and what the operating system has given it, native memory included."
  @spec sample() :: %{vm: pos_integer(), resident: pos_integer()}
  def sample do
    Enum.each(Process.list(), &:erlang.garbage_collect/1)
    %{vm: :erlang.memory(:total), resident: resident()}
  end

  defp resident do
    [_, kilobytes] = Regex.run(~r/^VmRSS:\s+(\d+) kB$/m, File.read!("/proc/self/status"))
    String.to_integer(kilobytes) * 1_024
  end

  @doc """
  By which share of its median the trend of evenly spaced samples rises from the first to the last.

      iex> alias ElixirScope.Foundation.MemoryCheck
      iex> MemoryCheck.growth([100, 110, 90, 100, 500, 100])
      0.0
      iex> MemoryCheck.growth([90, 95, 100, 105, 110])
      0.2
  """
  @spec growth([number(), ...]) :: float()
  def growth(samples) do
    numbered = Enum.with_index(samples)

    slopes =
      for {later, j} <- numbered, {earlier, i} <- numbered, i < j, do: (later - earlier) / (j - i)

    median(slopes) * (length(samples) - 1) / median(samples)
  end

  defp median(values) do
    sorted = Enum.sort(values)
    middle = div(length(sorted), 2)

    if rem(length(sorted), 2) == 1,
      do: Enum.at(sorted, middle),
      else: (Enum.at(sorted, middle - 1) + Enum.at(sorted, middle)) / 2
  end
end
