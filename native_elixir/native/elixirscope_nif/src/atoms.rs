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
    key_opaque,

    // The pool: messages to its process, ends of waits, refusals.
    escope_pool,
    create,
    destroy,
    maintain,
    wait,
    cancelled,
    ended,
    none,
    nil,
    infinity,
    pool_exhausted,
    pool_timeout,
    pool_closed,
    queue_full,
    create_failed,
    stale_lease,
}
