//! Every atom that a NIF takes or returns, made once at load.

rustler::atoms! {
    ok,
    error,
    monotonic,

    // What a permit's record did, and why a call was rejected.
    applied,
    stale,
    expired,
    already_done,
    circuit_open,
    half_open_full,

    // Phases of a breaker and causes of their change.
    closed,
    open,
    half_open,
    failure_threshold,
    open_elapsed,
    probes_succeeded,
    probes_failed,
    probe_expired,
    reset,
    escope_breaker_event,

    // Verdicts of the limiter.
    allowed,
    rate_limited,
    never,
    table_full,
    key_too_large,
}
