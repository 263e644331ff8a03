defmodule ElixirScope.Foundation.Services.EventStore.Retention do
  @moduledoc false
  # How long an EventStore keeps events, by `config :elixir_scope, :storage`. In memory `hot` says it, by number and
  # age; with a database `warm` does, by the room that they take there. Always the oldest go first.

  alias ElixirScope.Foundation.Services.EventStore.Contents

  @enforce_keys [:persistence, :limits, :compression, :look_every]
  defstruct @enforce_keys

  @mebibyte 1_048_576
  # The longest timer.
  @longest 0xFFFFFFFF

  @type t :: %__MODULE__{
          persistence: :memory | :database,
          limits:
            %{max_events: pos_integer(), max_age_ms: pos_integer()} | %{max_bytes: pos_integer()},
          compression: :none | :zlib,
          look_every: pos_integer()
        }

  @doc "What a valid configuration says."
  @spec new(map()) :: t()
  def new(%{warm: %{enable: true} = warm} = storage) do
    %__MODULE__{
      persistence: :database,
      limits: %{max_bytes: warm.max_size_mb * @mebibyte},
      compression: compression(warm.compression),
      look_every: min(storage.hot.prune_interval, @longest)
    }
  end

  def new(%{hot: hot}) do
    %__MODULE__{
      persistence: :memory,
      limits: %{max_events: hot.max_events, max_age_ms: hot.max_age_seconds * 1_000},
      compression: :none,
      look_every: min(hot.prune_interval, @longest)
    }
  end

  # OTP 25 has zlib alone.
  defp compression(:none), do: :none
  defp compression(_gzip_or_zstd), do: :zlib

  @doc "The events that stay in memory; with a database that is decided there."
  @spec apply_to(t(), Contents.t(), integer()) :: Contents.t()
  def apply_to(%{limits: %{max_events: max_events, max_age_ms: max_age}}, contents, now),
    do: Contents.bound(contents, max_events, now - max_age)

  def apply_to(_database, contents, _now), do: contents

  @doc "Whether the database has more than it may keep."
  @spec over?(t(), Contents.t()) :: boolean()
  def over?(%{limits: %{max_bytes: max_bytes}}, contents), do: contents.bytes > max_bytes
  def over?(_memory, _contents), do: false
end
