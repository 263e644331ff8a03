defmodule ElixirScope.Foundation.Error.Catalogue do
  @moduledoc """
  Every error of the infrastructure: its number, how bad it is, where it belongs and what it says.

  Numbers are forever. 1xxx is configuration, 2xxx the system, 25xx its protection (breakers, rate limits
  and pools), 3xxx data, 4xxx the outside world. Each status of the native core has the entry of the same
  name, see `ElixirScope.Foundation.Error`.
  """

  @type severity :: :low | :medium | :high | :critical
  @type entry :: %{
          code: pos_integer(),
          severity: severity(),
          category: atom(),
          subcategory: atom(),
          message: String.t()
        }

  @unknown %{
    code: 9999,
    severity: :medium,
    category: :unknown,
    subcategory: :unknown,
    message: "Unknown error"
  }

  @rows [
    {1101, :invalid_config_structure, :high, :config, :structure,
     "The configuration's structure is invalid"},
    {1102, :missing_required_field, :high, :config, :structure, "A required field is missing"},
    {1201, :invalid_config_value, :medium, :config, :validation,
     "A configuration value is invalid"},
    {1202, :constraint_violation, :medium, :config, :validation,
     "A configuration constraint is violated"},
    {1203, :range_error, :low, :config, :validation, "A configuration value is out of range"},
    {1301, :config_not_found, :high, :config, :access, "The configuration was not found"},
    {1401, :config_update_forbidden, :medium, :config, :runtime,
     "The configuration may not be changed at run time"},
    {2101, :initialization_failed, :critical, :system, :initialization, "Initialization failed"},
    {2102, :service_unavailable, :high, :system, :initialization, "The service is not available"},
    {2201, :resource_exhausted, :high, :system, :resources, "A resource is exhausted"},
    {2301, :dependency_failed, :high, :system, :dependencies, "A dependency failed"},
    {2401, :internal_error, :critical, :system, :runtime, "Internal error"},
    {2501, :circuit_open, :medium, :system, :protection, "The circuit breaker is open"},
    {2502, :rate_limited, :medium, :system, :protection, "The rate limit is used up for now"},
    {2503, :pool_timeout, :medium, :system, :protection,
     "No connection became free within the time-out"},
    {2504, :pool_exhausted, :medium, :system, :protection,
     "No connection is free and the call does not wait"},
    {2505, :pool_not_found, :medium, :system, :protection, "There is no pool of this name"},
    {2506, :half_open_full, :medium, :system, :protection,
     "The circuit breaker is half-open and all its probes are taken"},
    {2507, :never, :medium, :system, :protection,
     "The cost is above the burst, so the call can never be admitted"},
    {2508, :table_full, :medium, :system, :protection,
     "The limiter's table has no place for a new key"},
    {2509, :pool_closed, :medium, :system, :protection, "The pool is closed"},
    {2510, :queue_full, :medium, :system, :protection,
     "Too many callers wait for a connection already"},
    {2511, :stale, :medium, :system, :protection,
     "The permit belongs to an earlier generation of the breaker; it changed nothing"},
    {2512, :expired, :medium, :system, :protection,
     "The probe's lease had run out; it was already counted as a failure"},
    {2513, :already_done, :medium, :system, :protection, "The permit or receipt was used before"},
    {2514, :stale_lease, :medium, :system, :protection,
     "The lease was returned before, or belongs to another pool or process"},
    {2515, :create_failed, :medium, :system, :protection, "A connection could not be made"},
    {2516, :circuit_breaker_not_found, :medium, :system, :protection,
     "There is no circuit breaker of this name"},
    {2517, :protected_operation_failed, :medium, :system, :protection,
     "The protected operation failed"},
    {2518, :invalid_argument, :medium, :system, :protection, "An argument is invalid"},
    {2519, :out_of_memory, :critical, :system, :protection, "There is not enough memory"},
    {2520, :panic, :critical, :system, :protection,
     "The native library failed internally; the object stays usable"},
    {2521, :unsupported, :critical, :system, :protection,
     "This machine has no lock-free 128-bit atomic"},
    {2522, :forked, :critical, :system, :protection, "The pool belongs to the parent process"},
    {2523, :forced_open, :medium, :system, :protection,
     "Somebody has forced the circuit breaker open"},
    {2524, :service_degraded, :medium, :system, :protection,
     "The circuit breaker admits only a share of the calls for now"},
    {2525, :fault_injected, :medium, :system, :protection,
     "The call was chosen to fail by fault injection"},
    {2526, :permit_not_found, :medium, :system, :protection,
     "The breaker never granted such a permit"},
    {2527, :fault_injection_disabled, :medium, :system, :protection,
     "Fault injection is not built in: the library of MIX_ENV=prod does not hold it"},
    {2528, :too_late, :low, :system, :protection,
     "The time of the reservation has come, so it cannot be cancelled"},
    {2529, :forfeited, :low, :system, :protection,
     "Nothing was given back, for later reservations rely on it"},
    {2530, :change_too_soon, :low, :system, :protection,
     "Keys may still owe from the rule that was in force four changes before"},
    {2531, :bad_receipt, :medium, :system, :protection, "This is no receipt of this limiter"},
    {2532, :bad_snapshot, :high, :system, :protection,
     "The file holds no snapshot of a limiter, or a damaged one"},
    {2533, :io_failed, :medium, :system, :protection, "A file could not be read or written"},
    {2534, :shed, :medium, :system, :protection,
     "The wait for a connection was ended early because all waits had become too long"},
    {3101, :serialization_failed, :medium, :data, :serialization, "Serialization failed"},
    {3102, :deserialization_failed, :medium, :data, :serialization, "Deserialization failed"},
    {3201, :type_mismatch, :low, :data, :validation, "The type does not match"},
    {3202, :format_error, :low, :data, :validation, "The format is invalid"},
    {3203, :validation_failed, :medium, :data, :validation, "Validation failed"},
    {3204, :invalid_input, :low, :data, :validation, "The input is invalid"},
    {3301, :data_corruption, :critical, :data, :corruption, "Data is corrupt"},
    {3401, :data_not_found, :low, :data, :not_found, "The data was not found"},
    {4101, :network_error, :medium, :external, :network, "The network failed"},
    {4201, :external_service_error, :medium, :external, :service, "An external service failed"},
    {4301, :timeout, :medium, :external, :timeout, "The operation took too long"},
    {4401, :authentication_failed, :high, :external, :auth, "Authentication failed"}
  ]

  @entries Map.new(@rows, fn {code, type, severity, category, subcategory, message} ->
             {type,
              %{
                code: code,
                severity: severity,
                category: category,
                subcategory: subcategory,
                message: message
              }}
           end)

  @doc """
  The entry of an error type; of any other atom, the unknown error's.

      iex> ElixirScope.Foundation.Error.Catalogue.fetch(:circuit_open).code
      2501
      iex> ElixirScope.Foundation.Error.Catalogue.fetch(:no_such_type).code
      9999
  """
  @spec fetch(atom()) :: entry()
  def fetch(error_type), do: Map.get(@entries, error_type, @unknown)

  @doc "Every error type, in the order of the numbers."
  @spec types() :: [atom()]
  def types, do: Enum.map(@rows, &elem(&1, 1))
end
