/* Generated from src/capi by `make header`. Do not edit. SPDX-License-Identifier: Apache-2.0 */

/*
 * elixirscope: circuit breaker, token-bucket rate limiter and connection pool.
 *
 * THE MODEL. Three kinds of opaque objects, each shared by all threads of a process: an escope_breaker says
 * whether a call may be made and learns how calls end; an escope_limiter says whether a key may do something
 * now; an escope_pool lends connections. Breaker and limiter never block and never lock, but for calls that
 * change the options of one breaker, or define or change limits of one limiter, at the same time, and
 * escope_limiter_acquire. The library keeps state per process, starts no thread, logs nothing and installs no
 * signal handler.
 *
 * A BREAKER is closed, open or half-open (ESCOPE_PHASE_*). Closed, it admits calls and counts how they end; its policy
 * (ESCOPE_POLICY_*) says when it opens: at so many failures in a row, at more than some within a time, or when too large
 * a share of the last calls failed or was slow. Open, it refuses all calls for a time. Then a few probes decide
 * whether it closes. A probe is a lease: one that is not recorded in time counts as failed. Levels (ESCOPE_LEVEL_*) say
 * how much of what opens a closed breaker is used up; with the strategy GRADUAL_DEGRADATION it admits fewer calls as
 * they rise. Modes (ESCOPE_MODE_*) put somebody in charge: forced open, forced closed, or only telling what it would do.
 *
 * A LIMITER has a bucket of tokens for each key, in one table of fixed size. A check takes tokens if they are there; a
 * reservation takes them for later; both by a rule that comes with the call, or by a limit with a name (escope_limit), whose
 * rule may change while its keys live. A reservation leaves a receipt, good for one use: to cancel it, to refund
 * tokens, or to settle an estimate. Many keys are checked in one call, all or nothing.
 *
 * A POOL lends connections, which are pointers of the program's: its callbacks make, test and end them, in the threads that
 * call, and under no lock. A check-out takes an idle one, makes one, or waits in line for one, and gives a lease, which a
 * check-in ends; an event loop waits by a descriptor (escope_pool_checkout_begin). What time has made due is done by later
 * calls and by escope_pool_maintain.
 *
 * CODES. A function that can fail returns an escope_status. 0 is OK. A positive value is a refusal, a part of normal
 * life: open, limited, timed out. A negative value is misuse or failure, and escope_last_error has a sentence
 * that names the argument, its value and what is allowed. No argument but a dangling pointer crashes.
 *
 * RESULTS go to out-parameters. They are written on OK only, but those that describe a verdict (events,
 * retry_after_ns, an escope_decision) are written on a refusal as well: a refusal's details are there. On a
 * negative value nothing is written.
 *
 * OWNERSHIP. _new gives one reference, _ref adds one, _free gives one back; the last one ends the object. Using an
 * object after that is undefined. _free(NULL) does nothing. Permits, receipts and leases are plain values in the
 * caller's memory: nothing to free.
 *
 * STRUCTS THAT GROW start with struct_size. Options: call _init(&options, sizeof options), change what you need; what
 * the library does not know must be zero. Statistics: set struct_size or call _init, then read.
 *
 * THREADS. Every function may be called from any thread at any time, but _free only when no other call relies on
 * the same reference. Only what says "may block" blocks: escope_pool_checkout, escope_limiter_acquire, what runs the
 * callbacks of a pool, and what reads or writes a file; two calls that change one breaker's options or one limit, or that
 * look for the limits of one limiter, wait for each other. A signal never ends a wait and no
 * function fails with EINTR. Functions marked async-signal-safe, and no others, may be called in a signal handler.
 *
 * PROCESSES. Each process has its own objects. After fork() the child has copies of breakers and limiters as they
 * were, and may use them; what another thread was just changing (the options of a breaker, the rule of a limit, the names
 * of a limiter) cannot be changed there.
 * A pool's connections stay the parent's: in the child a call on it returns ESCOPE_STATUS_FORKED; escope_pool_free
 * drops the child's copy without calling `destroy`.
 *
 * TIME is nanoseconds of CLOCK_MONOTONIC in uint64_t (escope_clock_now_ns). An _at function takes it as an
 * argument; a time that goes back is never more generous.
 *
 * VERSIONS. While the version is 0.x, each minor version has an ABI and a SONAME of its own. Programs may compare
 * ESCOPE_ABI_VERSION with escope_abi_version().
 */

#ifndef ELIXIRSCOPE_H
#define ELIXIRSCOPE_H

#include <stddef.h>
#include <stdint.h>

#define ESCOPE_VERSION_MAJOR 0
#define ESCOPE_VERSION_MINOR 1
#define ESCOPE_VERSION_PATCH 0
#define ESCOPE_VERSION_NUMBER \
    (ESCOPE_VERSION_MAJOR * 10000 + ESCOPE_VERSION_MINOR * 100 + ESCOPE_VERSION_PATCH)
#define ESCOPE_VERSION_STRING "0.1.0"
/** Version of the ABI that this header describes. */
#define ESCOPE_ABI_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif

/* -- Status ---------------------------------------------------------------------------------------------- */

enum {
    /** The call did what it was asked to. */
    ESCOPE_STATUS_OK = 0,
    /** The circuit breaker is open. */
    ESCOPE_STATUS_CIRCUIT_OPEN = 1,
    /** The circuit breaker is half-open and all its probes are taken. */
    ESCOPE_STATUS_HALF_OPEN_FULL = 2,
    /** The rate limit is used up for now. */
    ESCOPE_STATUS_RATE_LIMITED = 3,
    /** The cost is above the burst, so the call can never be admitted. */
    ESCOPE_STATUS_NEVER = 4,
    /** The table has no place for a new key. */
    ESCOPE_STATUS_TABLE_FULL = 5,
    /** No connection became free within the time-out. */
    ESCOPE_STATUS_POOL_TIMEOUT = 6,
    /** No connection is free and the call does not wait. */
    ESCOPE_STATUS_POOL_EXHAUSTED = 7,
    /** The pool is closed. */
    ESCOPE_STATUS_POOL_CLOSED = 8,
    /** Too many callers wait already. */
    ESCOPE_STATUS_QUEUE_FULL = 9,
    /** The permit belongs to an earlier generation of the breaker; it changed nothing. */
    ESCOPE_STATUS_STALE = 10,
    /** The probe's lease had run out; it was already counted as a failure. */
    ESCOPE_STATUS_EXPIRED = 11,
    /** Somebody has forced the circuit breaker open. */
    ESCOPE_STATUS_FORCED_OPEN = 12,
    /** The circuit breaker admits only a share of the calls for now. */
    ESCOPE_STATUS_SERVICE_DEGRADED = 13,
    /** The call was chosen to fail by fault injection. */
    ESCOPE_STATUS_FAULT_INJECTED = 14,
    /** The time of the reservation has come, so it cannot be cancelled. */
    ESCOPE_STATUS_TOO_LATE = 15,
    /** Nothing was given back, for later reservations rely on it. */
    ESCOPE_STATUS_FORFEITED = 16,
    /** Keys may still owe from the rule that was in force four changes before. */
    ESCOPE_STATUS_CHANGE_TOO_SOON = 17,
    /** The wait for a connection was ended early because all waits had become too long. */
    ESCOPE_STATUS_SHED = 18,
    /** An argument is invalid. */
    ESCOPE_STATUS_INVALID_ARGUMENT = -1,
    /** The permit or receipt was used before. */
    ESCOPE_STATUS_ALREADY_DONE = -2,
    /** The lease was returned before, or belongs to another pool. */
    ESCOPE_STATUS_STALE_LEASE = -3,
    /** There is not enough memory. */
    ESCOPE_STATUS_OUT_OF_MEMORY = -4,
    /** The library failed internally; the object stays usable. */
    ESCOPE_STATUS_PANIC = -5,
    /** This machine has no lock-free 128-bit atomic. */
    ESCOPE_STATUS_UNSUPPORTED = -6,
    /** The callback that makes a connection failed. */
    ESCOPE_STATUS_CREATE_FAILED = -7,
    /** The pool belongs to the parent process. */
    ESCOPE_STATUS_FORKED = -8,
    /** The breaker never granted such a probe. */
    ESCOPE_STATUS_PERMIT_NOT_FOUND = -9,
    /** This is no receipt of this limiter. */
    ESCOPE_STATUS_BAD_RECEIPT = -10,
};

/** Code that a function returns: 0, a refusal above it, a failure below it. */
typedef int32_t escope_status;

/**
 * Gives a sentence for a status.
 *
 * Ownership: the text is static and belongs to the library; it is never NULL.
 *
 * @param status a status; an unknown number gives a text that says so.
 * @return the text, ending in NUL.
 *
 * Thread safety: any thread, concurrently; async-signal-safe. Never blocks.
 * Since: 0.1.0
 */
const char *escope_status_str(escope_status status);

/**
 * Copies the message of the calling thread's last failure.
 *
 * The message names the argument, its value and what is allowed. It stays until the next call on this
 * thread that returns a negative status; a success or a refusal leaves it. It is empty before the first.
 *
 * Ownership: `buffer` stays the caller's.
 *
 * @param buffer   receives the text, cut to `capacity - 1` bytes, and a NUL; may be NULL if `capacity` is 0.
 * @param capacity size of `buffer` in bytes.
 * @param length   receives the length of the whole text without NUL, at most 256; may be NULL.
 * @return OK; INVALID_ARGUMENT if `buffer` is NULL and `capacity` is not 0.
 *
 * Thread safety: any thread, concurrently; each thread sees its own message. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_last_error(char *buffer, size_t capacity, size_t *length);

/* -- Version and clock ----------------------------------------------------------------------------------- */

/**
 * Gives the version of the library that is running: major * 10000 + minor * 100 + patch.
 *
 * Compare it with ESCOPE_VERSION_NUMBER, the version of the header the program was compiled with.
 *
 * @return the number.
 *
 * Thread safety: any thread, concurrently; async-signal-safe. Never blocks.
 * Since: 0.1.0
 */
uint32_t escope_version_number(void);

/**
 * Gives the version of the library that is running as a text, such as "0.1.0".
 *
 * Ownership: the text is static and belongs to the library.
 *
 * @return the text, ending in NUL.
 *
 * Thread safety: any thread, concurrently; async-signal-safe. Never blocks.
 * Since: 0.1.0
 */
const char *escope_version_string(void);

/**
 * Gives the version of the ABI of the library that is running.
 *
 * A program works with the library if it equals the program's own ESCOPE_ABI_VERSION.
 *
 * @return the number.
 *
 * Thread safety: any thread, concurrently; async-signal-safe. Never blocks.
 * Since: 0.1.0
 */
uint32_t escope_abi_version(void);

/**
 * Reads the clock of all functions that take no time: nanoseconds of CLOCK_MONOTONIC.
 *
 * Feed the `_at` functions from it to use one reading for several calls, or to mix them with functions
 * that read the clock themselves.
 *
 * @return nanoseconds since an origin that all processes of the machine share.
 *
 * Thread safety: any thread, concurrently; async-signal-safe. Never blocks.
 * Since: 0.1.0
 */
uint64_t escope_clock_now_ns(void);

/* -- Circuit breaker: options ---------------------------------------------------------------------------- */

/** Opens at the `failure_threshold`th failure in a row. */
#define ESCOPE_POLICY_CONSECUTIVE_FAILURES 0

/** Opens at the first failure beyond `tolerated_failures` within `period_ns`; one exactly so old does not count. */
#define ESCOPE_POLICY_FAILURES_IN_PERIOD 1

/** Opens when of the last `window_size` results too large a share failed or was slow. */
#define ESCOPE_POLICY_RATE_COUNT 2

/** Opens when of the results within `period_ns` too large a share failed or was slow. */
#define ESCOPE_POLICY_RATE_TIME 3

/** A closed breaker admits every call whatever its level: the levels are only told. */
#define ESCOPE_STRATEGY_FAIL_FAST 0

/**
 * A closed breaker admits `admit_bp` of the calls, or at a level `admit_light_bp`, `_medium_bp` or `_heavy_bp`; the
 * others get SERVICE_DEGRADED.
 */
#define ESCOPE_STRATEGY_GRADUAL_DEGRADATION 1

/**
 * How a breaker behaves. Set it up with escope_breaker_options_init, then change what you need.
 *
 * Times are nanoseconds up to 2^62 - 1. Shares (`_bp`) are basis points: 10000 is all. A switch is 0 or 1.
 */
typedef struct escope_breaker_options {
    /** Size of this struct as the program was compiled. */
    size_t struct_size;
    /** How far a policy looks back in time, FAILURES_IN_PERIOD and RATE_TIME. Default 60 s. */
    uint64_t period_ns;
    /** A call that takes longer is slow; 0, the default, measures none. Measuring reads the clock twice a call. */
    uint64_t slow_call_ns;
    /** How long an open breaker refuses every call. Default 30 s. */
    uint64_t open_for_ns;
    /** The open time grows up to here, at least `open_for_ns`; 0, the default, for no cap of its own. */
    uint64_t max_open_ns;
    /** Where jitter comes from: breakers with the same seed and history open for the same times. Default 0. */
    uint64_t seed;
    /** How long a probe may stay without a result. Default 60 s. */
    uint64_t probe_lease_ns;
    /** A half-open round without a verdict ends so long after it began; 0, the default, for never. */
    uint64_t half_open_limit_ns;
    /**
     * After probes have closed the breaker, its admitted share grows linearly over this time; 0, the default, admits
     * all at once.
     */
    uint64_t ramp_ns;
    /** ESCOPE_POLICY_*: when a closed breaker opens. Default CONSECUTIVE_FAILURES. */
    int32_t policy;
    /** ESCOPE_STRATEGY_*: what the levels do. Default FAIL_FAST. */
    int32_t strategy;
    /** CONSECUTIVE_FAILURES: failures in a row that open, 1 to 536870911. Default 5. */
    uint32_t failure_threshold;
    /** FAILURES_IN_PERIOD: failures that do not open yet, 0 to 65535. Default 4. */
    uint32_t tolerated_failures;
    /** RATE_COUNT: results that are looked at, 1 to 65535. Default 100. */
    uint32_t window_size;
    /**
     * RATE_TIME: parts of the period, 1 to 256, of at least 1 ms each; results older by up to one part may count.
     * Default 10.
     */
    uint32_t buckets;
    /** RATE_*: with fewer results in the window the breaker never opens; 1 or more, up to `window_size`. Default 10. */
    uint32_t min_calls;
    /** RATE_*: share of failed calls that opens, 1 to 10000. Default 5000. */
    uint32_t failure_rate_bp;
    /** RATE_*: share of slow calls that opens, 1 to 10000; looked at if `slow_call_ns` is not 0. Default 10000. */
    uint32_t slow_call_rate_bp;
    /** How many failures a success counts as, 0 to 15. Default 0. */
    uint32_t weight_success;
    /** How many failures a failure counts as, 1 to 15. Default 1. */
    uint32_t weight_failure;
    /** How many failures a slow success counts as, 0 to 15. Default 0. */
    uint32_t weight_slow;
    /** How many failures an ignored result counts as, 0 to 15. Default 0. */
    uint32_t weight_ignored;
    /** How many failures a cancelled call counts as, 0 to 15. Default 0. */
    uint32_t weight_cancelled;
    /**
     * Growth of the open time with each re-opening since the breaker was last closed, in per cent: 100, the default,
     * for none, or 120 to 10000.
     */
    uint32_t backoff_percent;
    /** The open time is spread by up to this share to either side, 0, the default, to 9999. */
    uint32_t jitter_bp;
    /** Switch: an open breaker closes when its time is over, without probes. Default 0. */
    uint32_t skip_half_open;
    /** Probes that a half-open round admits, 1 to 64. Default 1. */
    uint32_t half_open_permits;
    /** Successful probes that close the breaker, 1 to `half_open_permits`. Default 1. */
    uint32_t successes_to_close;
    /** Switch: a probe whose lease is over gives its place back, instead of counting as failed. Default 0. */
    uint32_t release_expired_probes;
    /** Switch: a round that reaches `half_open_limit_ns` ends closed, instead of open. Default 0. */
    uint32_t close_at_half_open_limit;
    /** The so-manyth ignored probe of a round opens the breaker again; 0, the default, for never; up to 4095. */
    uint32_t max_ignored_probes;
    /** Share that is admitted when a ramp begins, 1 to 10000. Default 1000. */
    uint32_t ramp_from_bp;
    /** Used share of the trip budget from which on a closed breaker is degraded lightly, 1 to 10000. Default 4000. */
    uint32_t level_light_bp;
    /** The same for medium, `level_light_bp` or more. Default 6000. */
    uint32_t level_medium_bp;
    /** The same for heavy, `level_medium_bp` or more. Default 8000. */
    uint32_t level_heavy_bp;
    /** GRADUAL_DEGRADATION: share of calls admitted without degradation, 0 to 10000. Default 10000. */
    uint32_t admit_bp;
    /** GRADUAL_DEGRADATION: the same at level light. Default 8000. */
    uint32_t admit_light_bp;
    /** GRADUAL_DEGRADATION: the same at level medium. Default 5000. */
    uint32_t admit_medium_bp;
    /** GRADUAL_DEGRADATION: the same at level heavy. Default 2000. */
    uint32_t admit_heavy_bp;
    /**
     * Probes that escope_breaker_reconfigure may ask for later, up to 64; 0, the default, for `half_open_permits` and
     * at least 8. Fixed at creation.
     */
    uint32_t probe_capacity;
    /**
     * Results that escope_breaker_reconfigure may ask a window to hold later, up to 65536; 0, the default, for those
     * that the policy needs. Fixed at creation. Sixteen bytes each.
     */
    uint32_t window_capacity;
} escope_breaker_options;

/**
 * Fills breaker options with the defaults.
 *
 * Ownership: `options` stays the caller's.
 *
 * @param options the struct to fill.
 * @param size    `sizeof *options`.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_options_init(struct escope_breaker_options *options, size_t size);

/* -- Circuit breaker: permits ---------------------------------------------------------------------------- */

/** The call succeeded. */
#define ESCOPE_OUTCOME_SUCCESS 0

/** The call failed. */
#define ESCOPE_OUTCOME_FAILURE 1

/** The call says nothing about the health of what it called, such as a refused argument. */
#define ESCOPE_OUTCOME_IGNORED 2

/** The call succeeded, but took too long. With `slow_call_ns` the breaker finds that out by itself. */
#define ESCOPE_OUTCOME_SLOW 3

/** The call was given up before it could tell anything: like ignored, and counted apart. */
#define ESCOPE_OUTCOME_CANCELLED 4

/**
 * The right to make one call, in the caller's memory. Its fields are private to the library; do not copy
 * the struct, for a copy is a second permit that only a half-open breaker would notice.
 */
typedef struct escope_permit {
    /** Private. */
    uint64_t private_breaker;
    /** Private. */
    uint64_t private_started_ns;
    /** Private. */
    uint32_t private_generation;
    /** Private. */
    uint32_t private_slot;
    /** Private. */
    uint32_t private_epoch;
    /** Private; an atomic. */
    uint32_t private_state;
} escope_permit;

/* -- Circuit breaker: events ----------------------------------------------------------------------------- */

/** Calls pass, failures are counted. */
#define ESCOPE_PHASE_CLOSED 0

/** Calls are refused. */
#define ESCOPE_PHASE_OPEN 1

/** A few calls pass as probes. */
#define ESCOPE_PHASE_HALF_OPEN 2

/** Results decide. */
#define ESCOPE_MODE_AUTO 0

/** Every call is refused, whatever happens. */
#define ESCOPE_MODE_FORCED_OPEN 1

/** Every call is admitted and nothing is counted: switched off. */
#define ESCOPE_MODE_FORCED_CLOSED 2

/** Every call is admitted; results are counted, and events tell when the breaker would have opened. */
#define ESCOPE_MODE_METRICS_ONLY 3

/** A closed breaker has used little or nothing of its trip budget. */
#define ESCOPE_LEVEL_NONE 0

/** At least `level_light_bp` of it. */
#define ESCOPE_LEVEL_LIGHT 1

/** At least `level_medium_bp` of it. */
#define ESCOPE_LEVEL_MEDIUM 2

/** At least `level_heavy_bp` of it. */
#define ESCOPE_LEVEL_HEAVY 3

/** All of it: the breaker would be open, did its mode not forbid that. */
#define ESCOPE_LEVEL_EXCEEDED 4

/** The failures used up what the policy tolerates. */
#define ESCOPE_CAUSE_FAILURE_THRESHOLD 1

/** The open time elapsed; the first acquire after it lets probes in. */
#define ESCOPE_CAUSE_OPEN_ELAPSED 2

/** Enough probes succeeded. */
#define ESCOPE_CAUSE_PROBES_SUCCEEDED 3

/** Too many probes failed. */
#define ESCOPE_CAUSE_PROBES_FAILED 4

/** A probe was not recorded within its lease. */
#define ESCOPE_CAUSE_PROBE_EXPIRED 5

/** escope_breaker_reset was called. */
#define ESCOPE_CAUSE_RESET 6

/** Too large a share of the calls in the window failed. */
#define ESCOPE_CAUSE_FAILURE_RATE 7

/** Too large a share of the calls in the window was slow. */
#define ESCOPE_CAUSE_SLOW_CALL_RATE 8

/** `half_open_limit_ns` was over without a verdict. */
#define ESCOPE_CAUSE_HALF_OPEN_LIMIT 9

/** `max_ignored_probes` of a round were ignored. */
#define ESCOPE_CAUSE_PROBES_IGNORED 10

/** escope_breaker_set_mode was called. */
#define ESCOPE_CAUSE_MODE_CHANGED 11

/** escope_breaker_reconfigure started a new round of probes. */
#define ESCOPE_CAUSE_RECONFIGURED 12

/** escope_breaker_reinstall was called. */
#define ESCOPE_CAUSE_REINSTALLED 13

/** The used share of the trip budget passed a level, up or down. An event of levels. */
#define ESCOPE_CAUSE_LEVEL_CHANGED 14

/** The trip budget is used up, in METRICS_ONLY. An event of levels. */
#define ESCOPE_CAUSE_WOULD_OPEN 15

/**
 * A change of a breaker.
 *
 * There are two kinds, each with gapless sequence numbers of its own: those of levels (cause LEVEL_CHANGED or
 * WOULD_OPEN), which change nothing but the level, and all others, each of which begins a generation. A reset of a
 * closed breaker is an event from closed to closed.
 */
typedef struct escope_event {
    /** Time of the call that caused it, or the end of the lease or round that was over. */
    uint64_t at_ns;
    /** 1 for a breaker's first event of the kind, then one more each, without gaps. Wraps at 2^28, of levels at 2^32. */
    uint32_t sequence;
    /** Generation that began, or in which the level changed. */
    uint32_t generation;
    /** ESCOPE_PHASE_* before. */
    int32_t from;
    /** ESCOPE_PHASE_* after. */
    int32_t to;
    /** ESCOPE_CAUSE_*. */
    int32_t cause;
    /** ESCOPE_LEVEL_* before. */
    uint8_t from_level;
    /** ESCOPE_LEVEL_* after. */
    uint8_t to_level;
    /** ESCOPE_MODE_* after. */
    uint8_t mode;
    /** 0. */
    uint8_t reserved;
} escope_event;

/** The events that one call caused, oldest first. */
typedef struct escope_events {
    /** Number of valid items, 0 to 3; the others are left as they were. */
    uint32_t count;
    /** 0. */
    uint32_t reserved;
    /** The events. */
    struct escope_event items[3];
} escope_events;

/**
 * Gives the word for the cause of an event, such as "failure_rate", the same in every language.
 *
 * Ownership: the text is static and belongs to the library; it is never NULL.
 *
 * @param cause ESCOPE_CAUSE_*; 0 gives "none" and an unknown number "unknown".
 * @return the text, ending in NUL.
 *
 * Thread safety: any thread, concurrently; async-signal-safe. Never blocks.
 * Since: 0.1.0
 */
const char *escope_breaker_cause_str(int32_t cause);

/* -- Circuit breaker ------------------------------------------------------------------------------------- */

/** A circuit breaker. Opaque; shared by any number of threads. */
typedef struct escope_breaker escope_breaker;

/**
 * Makes a closed breaker.
 *
 * Ownership: `*out` is one reference, the caller's; give it back with escope_breaker_free. `options` stays
 * the caller's and is not needed after the call.
 *
 * @param options how it behaves; NULL for the defaults.
 * @param out     receives the breaker.
 * @return OK; INVALID_ARGUMENT naming the option; UNSUPPORTED on a machine without a lock-free 128-bit atomic.
 *
 * Thread safety: any thread, concurrently. Never blocks; allocates.
 * Since: 0.1.0
 */
escope_status escope_breaker_new(const escope_breaker_options *options,
                                 struct escope_breaker **out);

/**
 * Adds a reference.
 *
 * Ownership: the result is a reference of its own, to be given back with escope_breaker_free.
 *
 * @param breaker a breaker, or NULL.
 * @return `breaker`.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
struct escope_breaker *escope_breaker_ref(struct escope_breaker *breaker);

/**
 * Gives a reference back; the last one ends the breaker.
 *
 * Ownership: takes the caller's reference; using it afterwards is undefined. Permits are plain memory and
 * need no end.
 *
 * @param breaker a breaker; NULL does nothing.
 *
 * Thread safety: any thread, but not concurrently with a call that relies on the same reference. Never blocks.
 * Since: 0.1.0
 */
void escope_breaker_free(struct escope_breaker *breaker);

/* -- Circuit breaker: calls ------------------------------------------------------------------------------ */

/**
 * Asks whether a call may be made now.
 *
 * Ownership: `permit` is the caller's memory, 32 bytes; it may move to another thread, and it may be dropped
 * without a record (what becomes of a dropped probe `release_expired_probes` says when its lease ends).
 *
 * @param breaker        the breaker.
 * @param permit         receives the permit on OK, to be given to escope_breaker_record once.
 * @param retry_after_ns receives, on a refusal, the time until a call may pass, at least 1, or UINT64_MAX if only
 *                       another mode changes that; else 0; may be NULL.
 * @param events         receives the events the call caused, on OK and on a refusal; may be NULL.
 * @return OK: make the call; CIRCUIT_OPEN, HALF_OPEN_FULL, FORCED_OPEN, SERVICE_DEGRADED (a share of the calls is
 *         admitted): do not; FAULT_INJECTED, in a library with fault injection: do not, it counts as a failure already;
 *         INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks, but in a library with fault injection, where it may wait the
 * injected delay before it returns OK.
 * Since: 0.1.0
 */
escope_status escope_breaker_acquire(escope_breaker *breaker,
                                     escope_permit *permit,
                                     uint64_t *retry_after_ns,
                                     escope_events *events);

/**
 * escope_breaker_acquire at a given time.
 *
 * Ownership: as escope_breaker_acquire.
 *
 * @param breaker        the breaker.
 * @param permit         receives the permit on OK.
 * @param retry_after_ns receives, on a refusal, the time until a call may pass, else 0; may be NULL.
 * @param events         receives the events the call caused, on OK and on a refusal; may be NULL.
 * @param now_ns         the time; one that goes back is never more generous.
 * @return as escope_breaker_acquire.
 *
 * Thread safety: any thread, concurrently. Never blocks, with the exception of escope_breaker_acquire.
 * Since: 0.1.0
 */
escope_status escope_breaker_acquire_at(escope_breaker *breaker,
                                        escope_permit *permit,
                                        uint64_t *retry_after_ns,
                                        escope_events *events,
                                        uint64_t now_ns);

/**
 * Says how the call of a permit ended.
 *
 * Ownership: uses the permit up, on every result but INVALID_ARGUMENT; its memory stays the caller's.
 *
 * @param breaker the breaker that gave the permit.
 * @param permit  the permit.
 * @param outcome ESCOPE_OUTCOME_*.
 * @param events  receives the events the call caused, on OK and on a refusal; may be NULL.
 * @return OK; STALE: the breaker has changed since, nothing was counted; EXPIRED: the probe's lease had run out and
 *         what follows from that was counted already; ALREADY_DONE: recorded before, by another thread perhaps;
 *         PERMIT_NOT_FOUND: a probe with made-up fields; INVALID_ARGUMENT: not a permit, a permit of another breaker, no
 *         such outcome.
 *
 * Thread safety: any thread, concurrently; of several records of one permit one counts. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_record(escope_breaker *breaker,
                                    escope_permit *permit,
                                    int32_t outcome,
                                    escope_events *events);

/**
 * escope_breaker_record at a given time.
 *
 * Ownership: as escope_breaker_record.
 *
 * @param breaker the breaker that gave the permit.
 * @param permit  the permit.
 * @param outcome ESCOPE_OUTCOME_*.
 * @param events  receives the events the call caused, on OK and on a refusal; may be NULL.
 * @param now_ns  the time.
 * @return as escope_breaker_record.
 *
 * Thread safety: any thread, concurrently; of several records of one permit one counts. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_record_at(escope_breaker *breaker,
                                       escope_permit *permit,
                                       int32_t outcome,
                                       escope_events *events,
                                       uint64_t now_ns);

/**
 * Asks whether a call may be made, without a permit: for programs that cannot keep one and, if at all, say by
 * escope_breaker_report how the call went.
 *
 * Such a call is never a probe, so a breaker that wants probes refuses it until they have closed it. It counts as
 * admitted and cancelled, and meets no injected fault.
 *
 * Ownership: takes nothing.
 *
 * @param breaker        the breaker.
 * @param retry_after_ns receives, on a refusal, the least time until a call may pass, at least 1, or UINT64_MAX if only
 *                       another mode changes that; else 0; may be NULL.
 * @param events         receives the events the call caused, on OK and on a refusal; may be NULL.
 * @return OK: make the call; CIRCUIT_OPEN, HALF_OPEN_FULL, FORCED_OPEN, SERVICE_DEGRADED: do not; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_ask(escope_breaker *breaker,
                                 uint64_t *retry_after_ns,
                                 escope_events *events);

/**
 * escope_breaker_ask at a given time.
 *
 * Ownership: takes nothing.
 *
 * @param breaker        the breaker.
 * @param retry_after_ns receives, on a refusal, the least time until a call may pass, else 0; may be NULL.
 * @param events         receives the events the call caused, on OK and on a refusal; may be NULL.
 * @param now_ns         the time; one that goes back is never more generous.
 * @return as escope_breaker_ask.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_ask_at(escope_breaker *breaker,
                                    uint64_t *retry_after_ns,
                                    escope_events *events,
                                    uint64_t now_ns);

/**
 * Says how a call ended that had no permit, for programs that cannot ask first.
 *
 * It counts in the generation that is under way: a report is part of no round of probes, and `slow_call_ns` does
 * not measure it.
 *
 * Ownership: takes nothing.
 *
 * @param breaker the breaker.
 * @param outcome ESCOPE_OUTCOME_*.
 * @param events  receives the events the call caused, on OK and on a refusal; may be NULL.
 * @return OK; STALE: the breaker is not closed, nothing was counted; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_report(escope_breaker *breaker,
                                    int32_t outcome,
                                    escope_events *events);

/**
 * escope_breaker_report at a given time.
 *
 * Ownership: takes nothing.
 *
 * @param breaker the breaker.
 * @param outcome ESCOPE_OUTCOME_*.
 * @param events  receives the events the call caused, on OK and on a refusal; may be NULL.
 * @param now_ns  the time.
 * @return as escope_breaker_report.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_report_at(escope_breaker *breaker,
                                       int32_t outcome,
                                       escope_events *events,
                                       uint64_t now_ns);

/* -- Circuit breaker: in charge -------------------------------------------------------------------------- */

/**
 * Does what is due: ends leases and half-open rounds that are over, and closes an open breaker with
 * `skip_half_open`. Every other call does so too; this is for a program that wants to hear of it without one.
 *
 * Ownership: takes nothing.
 *
 * @param breaker the breaker.
 * @param events  receives the events the call caused; may be NULL.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_settle(escope_breaker *breaker, escope_events *events);

/**
 * escope_breaker_settle at a given time.
 *
 * Ownership: takes nothing.
 *
 * @param breaker the breaker.
 * @param events  receives the events the call caused; may be NULL.
 * @param now_ns  the time.
 * @return as escope_breaker_settle.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_settle_at(escope_breaker *breaker, escope_events *events, uint64_t now_ns);

/**
 * Closes a breaker and forgets its results. Permits given out before become stale. The mode stays, and a breaker
 * that is forced open stays so, without an event.
 *
 * Ownership: takes nothing.
 *
 * @param breaker the breaker.
 * @param events  receives the events the call caused; may be NULL.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_reset(escope_breaker *breaker,
                                   escope_events *events);

/**
 * escope_breaker_reset at a given time.
 *
 * Ownership: takes nothing.
 *
 * @param breaker the breaker.
 * @param events  receives the events the call caused; may be NULL.
 * @param now_ns  the time.
 * @return as escope_breaker_reset.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_reset_at(escope_breaker *breaker, escope_events *events, uint64_t now_ns);

/**
 * Puts somebody, or the results again, in charge.
 *
 * Another mode begins a generation: FORCED_OPEN open, the others closed and without results. The mode that the
 * breaker has already changes nothing.
 *
 * Ownership: takes nothing.
 *
 * @param breaker the breaker.
 * @param mode    ESCOPE_MODE_*.
 * @param events  receives the events the call caused; may be NULL.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_set_mode(escope_breaker *breaker,
                                      int32_t mode,
                                      escope_events *events);

/**
 * escope_breaker_set_mode at a given time.
 *
 * Ownership: takes nothing.
 *
 * @param breaker the breaker.
 * @param mode    ESCOPE_MODE_*.
 * @param events  receives the events the call caused; may be NULL.
 * @param now_ns  the time.
 * @return as escope_breaker_set_mode.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_set_mode_at(escope_breaker *breaker,
                                         int32_t mode,
                                         escope_events *events,
                                         uint64_t now_ns);

/**
 * Replaces the options and keeps the state.
 *
 * What stays: phase, open time, mode, and the results so far unless they are of another kind of policy, or of time
 * buckets of another length. A half-open breaker whose permits, successes, lease or limit change begins a new round.
 * The capacities stay those of the creation: their fields here are checked and have no effect.
 *
 * Ownership: `options` stays the caller's and is not needed after the call.
 *
 * @param breaker the breaker.
 * @param options all options, not only those that change.
 * @param events  receives the events the call caused; may be NULL.
 * @return OK; INVALID_ARGUMENT naming the option, or one that asks for more than the capacities; nothing
 *         was changed.
 *
 * Thread safety: any thread, concurrently. May block, for as long as another call changes this
 * breaker's options; so not in a signal handler.
 * Since: 0.1.0
 */
escope_status escope_breaker_reconfigure(escope_breaker *breaker,
                                         const escope_breaker_options *options,
                                         escope_events *events);

/**
 * escope_breaker_reconfigure at a given time.
 *
 * Ownership: `options` stays the caller's and is not needed after the call.
 *
 * @param breaker the breaker.
 * @param options all options, not only those that change.
 * @param events  receives the events the call caused; may be NULL.
 * @param now_ns  the time.
 * @return as escope_breaker_reconfigure.
 *
 * Thread safety: any thread, concurrently. May block, for as long as another call changes this
 * breaker's options; so not in a signal handler.
 * Since: 0.1.0
 */
escope_status escope_breaker_reconfigure_at(escope_breaker *breaker,
                                            const escope_breaker_options *options,
                                            escope_events *events,
                                            uint64_t now_ns);

/**
 * Replaces the options and begins anew: closed, without results, in the mode that the breaker has. One that is
 * forced open stays so. Permits given out before become stale.
 *
 * Ownership: `options` stays the caller's and is not needed after the call.
 *
 * @param breaker the breaker.
 * @param options all options, as for escope_breaker_reconfigure.
 * @param events  receives the events the call caused; may be NULL.
 * @return OK; INVALID_ARGUMENT as escope_breaker_reconfigure.
 *
 * Thread safety: any thread, concurrently. May block, for as long as another call changes this
 * breaker's options; so not in a signal handler.
 * Since: 0.1.0
 */
escope_status escope_breaker_reinstall(escope_breaker *breaker,
                                       const escope_breaker_options *options,
                                       escope_events *events);

/**
 * escope_breaker_reinstall at a given time.
 *
 * Ownership: `options` stays the caller's and is not needed after the call.
 *
 * @param breaker the breaker.
 * @param options all options, as for escope_breaker_reconfigure.
 * @param events  receives the events the call caused; may be NULL.
 * @param now_ns  the time.
 * @return as escope_breaker_reinstall.
 *
 * Thread safety: any thread, concurrently. May block, for as long as another call changes this
 * breaker's options; so not in a signal handler.
 * Since: 0.1.0
 */
escope_status escope_breaker_reinstall_at(escope_breaker *breaker,
                                          const escope_breaker_options *options,
                                          escope_events *events,
                                          uint64_t now_ns);

/* -- Circuit breaker: statistics ------------------------------------------------------------------------- */

/** Where a breaker stands, and what it has seen so far. */
typedef struct escope_breaker_stats {
    /** Size of this struct as the program was compiled; set it before the call. */
    size_t struct_size;
    /** Nanoseconds until an acquire may be admitted: 0 if it may be now, UINT64_MAX if only another mode can. */
    uint64_t retry_after_ns;
    /** When the generation began; 0 for the first. */
    uint64_t last_change_ns;
    /** Results in the window of a closed breaker, where its policy has one. */
    uint64_t window_calls;
    /** Failures that count toward a trip, by their weights: in a row, within the period, or in the window. */
    uint64_t failures;
    /** Slow results in the window. */
    uint64_t slow_calls;
    /** Calls admitted, probes among them. */
    uint64_t admitted;
    /** Outcomes recorded as success, slow ones among them. */
    uint64_t succeeded;
    /** Outcomes recorded as failure. */
    uint64_t failed;
    /** Outcomes recorded as ignored. */
    uint64_t ignored;
    /** Outcomes recorded as cancelled. */
    uint64_t cancelled;
    /** Records whose permit was of an earlier generation. */
    uint64_t stale;
    /** Records of probes whose lease had run out. */
    uint64_t expired;
    /** Outcomes reported without a permit. */
    uint64_t reported;
    /** Calls refused because the breaker was open. */
    uint64_t rejected_open;
    /** Calls refused because all probes were taken. */
    uint64_t rejected_half_open;
    /** Calls refused because the breaker was forced open. */
    uint64_t rejected_forced_open;
    /** Calls refused because the breaker was degraded or ramping up. */
    uint64_t rejected_degraded;
    /** Calls that were chosen to fail; 0 in a library without fault injection. */
    uint64_t injected;
    /** ESCOPE_PHASE_*. */
    int32_t phase;
    /** ESCOPE_MODE_*. */
    int32_t mode;
    /** ESCOPE_LEVEL_*: how much of its trip budget a closed breaker has used. */
    int32_t level;
    /** ESCOPE_CAUSE_*: why the generation began; 0 for the first. */
    int32_t last_cause;
    /** 1 at first; grows by one at each change but those of the level, modulo 2^28. */
    uint32_t generation;
    /** Times the breaker opened since it was last closed; stays at 255. */
    uint32_t opens;
    /** Probes that are admitted and not yet recorded. */
    uint32_t live_probes;
    /** Share of failures in the window, in basis points. */
    uint32_t failure_rate_bp;
    /** Share of slow calls in the window, in basis points. */
    uint32_t slow_call_rate_bp;
    /** 0. */
    uint32_t reserved;
} escope_breaker_stats;

/**
 * Sets a statistics struct to zero and to its size.
 *
 * Ownership: `stats` stays the caller's.
 *
 * @param stats the struct to set.
 * @param size  `sizeof *stats`.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_stats_init(struct escope_breaker_stats *stats, size_t size);

/**
 * Reads a breaker's state and counters without changing it.
 *
 * An open breaker whose time has passed still reads open: the next acquire changes it. The counters are
 * exact while no call is under way; then `admitted` minus `succeeded`, `failed`, `ignored`, `cancelled`, `stale` and
 * `expired` is the number of permits that were not recorded.
 *
 * Ownership: `stats` stays the caller's.
 *
 * @param breaker the breaker.
 * @param stats   receives the numbers; escope_breaker_stats_init sets it up.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_snapshot(const escope_breaker *breaker,
                                      struct escope_breaker_stats *stats);

/**
 * escope_breaker_snapshot at a given time.
 *
 * Ownership: `stats` stays the caller's.
 *
 * @param breaker the breaker.
 * @param stats   receives the numbers; escope_breaker_stats_init sets it up.
 * @param now_ns  the time.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_snapshot_at(const escope_breaker *breaker,
                                         struct escope_breaker_stats *stats,
                                         uint64_t now_ns);

/* -- Circuit breaker: fault injection -------------------------------------------------------------------- */

#if defined(ESCOPE_FAULT_INJECTION)
/**
 * Makes chosen calls of a closed breaker fail, or wait first; only in a library built with fault injection, and
 * declared only where the program defines ESCOPE_FAULT_INJECTION.
 *
 * A call that is chosen to fail gets FAULT_INJECTED from escope_breaker_acquire and counts as a failure. One that is
 * chosen to wait sleeps in escope_breaker_acquire, also when that is given a time. Which calls are chosen follows
 * from `seed` and from how many calls the breaker admitted since. Shares of 0 end it.
 *
 * Ownership: takes nothing.
 *
 * @param breaker    the breaker.
 * @param failure_bp share of calls that fail, in basis points, 0 to 10000.
 * @param delay_bp   share of the others that wait, in basis points, 0 to 10000.
 * @param delay_ns   how long they wait, up to 2^62 - 1 nanoseconds.
 * @param seed       equal seeds choose the same calls.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_inject_faults(escope_breaker *breaker,
                                           uint32_t failure_bp,
                                           uint32_t delay_bp,
                                           uint64_t delay_ns,
                                           uint64_t seed);
#endif

/* -- Rate limiter: options ------------------------------------------------------------------------------- */

/** A new key that finds no place is refused with TABLE_FULL. */
#define ESCOPE_FULL_DENY_NEW 0

/**
 * It takes the place of the key among those there that owes for the shortest time, whose debt is forgotten: that key may
 * be admitted so much more than its rule allows.
 */
#define ESCOPE_FULL_EVICT_MOST_FULL 1

/** It has a share of one bucket that all such keys have together. */
#define ESCOPE_FULL_OVERFLOW_KEY 2

/** How a limiter is made. Set it up with escope_limiter_options_init, then change what you need. */
typedef struct escope_limiter_options {
    /** Size of this struct as the program was compiled. */
    size_t struct_size;
    /** Keys that may owe tokens at the same time, 1 to 2^28; the table's memory is fixed. Default 65,536. */
    uint64_t max_keys;
    /** Secret of the key hash, 16 bytes, read during the call; NULL draws one. Default NULL. */
    const uint8_t *secret;
    /** 16, or 0 where `secret` is NULL. */
    size_t secret_len;
    /** ESCOPE_FULL_*: what a new key gets when all its places are taken by keys that owe tokens. Default DENY_NEW. */
    int32_t full_policy;
    /** Threads that may wait in escope_limiter_acquire at the same time. Default 1,024. */
    uint32_t max_waiting;
} escope_limiter_options;

/**
 * Fills limiter options with the defaults.
 *
 * Ownership: `options` stays the caller's.
 *
 * @param options the struct to fill.
 * @param size    `sizeof *options`.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_options_init(struct escope_limiter_options *options, size_t size);

/* -- Rate limiter: rules --------------------------------------------------------------------------------- */

/**
 * What is allowed: `tokens` every `period_ns`, and at most `burst` at once. The rate is exact, never rounded to a
 * faster one. With burst equal to tokens, one period may see up to twice as many: the burst and the refill.
 */
typedef struct escope_rule {
    /** Tokens that a period brings, 1 or more. */
    uint64_t tokens;
    /** Length of a period, 1 or more. */
    uint64_t period_ns;
    /** Tokens in a full bucket; 0 blocks everything. */
    uint64_t burst;
} escope_rule;

/* -- Rate limiter: decisions ----------------------------------------------------------------------------- */

/** What a check says. */
typedef struct escope_decision {
    /** The largest cost that would be admitted now, after this check. */
    uint64_t remaining;
    /** The rule's burst. */
    uint64_t limit;
    /** Time until the same check is admitted if nobody else comes; 0 when admitted, UINT64_MAX for NEVER. */
    uint64_t retry_after_ns;
    /** Time until all of the burst is available again. */
    uint64_t reset_after_ns;
    /** The verdict: OK, RATE_LIMITED, NEVER or TABLE_FULL. */
    escope_status status;
    /** 0. */
    uint32_t reserved;
} escope_decision;

/* -- Rate limiter ---------------------------------------------------------------------------------------- */

/** A table of token buckets, one a key. Opaque; shared by any number of threads. */
typedef struct escope_limiter escope_limiter;

/**
 * Makes a limiter in which every key has its full burst. All memory its keys will ever need is allocated here.
 *
 * Ownership: `*out` is one reference, the caller's; give it back with escope_limiter_free. `options` and the secret
 * stay the caller's and are not needed after the call.
 *
 * @param options how it is made; NULL for the defaults.
 * @param out     receives the limiter.
 * @return OK; INVALID_ARGUMENT naming the option; OUT_OF_MEMORY; UNSUPPORTED on a machine without a lock-free 128-bit
 *         atomic.
 *
 * Thread safety: any thread, concurrently. Never blocks; allocates.
 * Since: 0.1.0
 */
escope_status escope_limiter_new(const escope_limiter_options *options,
                                 struct escope_limiter **out);

/**
 * Adds a reference.
 *
 * Ownership: the result is a reference of its own, to be given back with escope_limiter_free.
 *
 * @param limiter a limiter, or NULL.
 * @return `limiter`.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
struct escope_limiter *escope_limiter_ref(struct escope_limiter *limiter);

/**
 * Gives a reference back; the last one ends the limiter.
 *
 * Ownership: takes the caller's reference; using it afterwards is undefined. Receipts are plain memory and need no end;
 * a limit with a name lives on while the program has a reference to it.
 *
 * @param limiter a limiter; NULL does nothing.
 *
 * Thread safety: any thread, but not concurrently with a call that relies on the same reference. Never blocks.
 * Since: 0.1.0
 */
void escope_limiter_free(struct escope_limiter *limiter);

/* -- Rate limiter: limits with a name -------------------------------------------------------------------- */

/** A key has as many tokens left as before the change, at most the new burst. */
#define ESCOPE_CHANGE_AS_IS 0

/** A key has the same share of the burst left. */
#define ESCOPE_CHANGE_PROPORTIONAL 1

/** A key has as many left as before, and what the burst has grown by. */
#define ESCOPE_CHANGE_ADDITIVE 2

/** A key has a full bucket. */
#define ESCOPE_CHANGE_RESET 3

/** A limit with a name. Opaque; shared by any number of threads. */
typedef struct escope_limit escope_limit;

/**
 * Defines a limit: a rule with a name, that many keys share and that may change while they live.
 *
 * Ownership: `name` and `rule` stay the caller's and are not needed after the call. `*out` is one reference, the
 * caller's; give it back with escope_limit_free. The limiter keeps one too.
 *
 * @param limiter     the limiter.
 * @param name        1 to 255 bytes, ending in NUL; a name that was defined before is refused.
 * @param rule        its rule; the burst is at most 2^32 - 1.
 * @param max_wait_ns longest wait of a reservation by this limit, up to 2^58 - 1.
 * @param out         receives the limit; may be NULL.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. May block, for as long as another call defines or looks up a limit of this
 * limiter; so not in a signal handler. Allocates.
 * Since: 0.1.0
 */
escope_status escope_limiter_define(escope_limiter *limiter,
                                    const char *name,
                                    const escope_rule *rule,
                                    uint64_t max_wait_ns,
                                    struct escope_limit **out);

/**
 * Finds a limit by its name.
 *
 * Ownership: `name` stays the caller's. `*out` is one reference, the caller's; give it back with escope_limit_free.
 *
 * @param limiter the limiter that it was defined for.
 * @param name    its name, ending in NUL.
 * @param out     receives the limit.
 * @return OK; INVALID_ARGUMENT, also if the limiter has no limit of this name.
 *
 * Thread safety: any thread, concurrently. May block, for as long as another call defines or looks up a limit of this
 * limiter; so not in a signal handler.
 * Since: 0.1.0
 */
escope_status escope_limiter_lookup(const escope_limiter *limiter,
                                    const char *name,
                                    struct escope_limit **out);

/**
 * Adds a reference.
 *
 * Ownership: the result is a reference of its own, to be given back with escope_limit_free.
 *
 * @param limit a limit, or NULL.
 * @return `limit`.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
struct escope_limit *escope_limit_ref(struct escope_limit *limit);

/**
 * Gives a reference back. The limiter's own goes with the limiter; the last one ends the limit.
 *
 * Ownership: takes the caller's reference; using it afterwards is undefined.
 *
 * @param limit a limit; NULL does nothing.
 *
 * Thread safety: any thread, but not concurrently with a call that relies on the same reference. Never blocks.
 * Since: 0.1.0
 */
void escope_limit_free(struct escope_limit *limit);

/**
 * Replaces a limit's rule. Keys that owe tokens are carried over when they are used next, with what they had left at
 * the time of the change.
 *
 * Ownership: `rule` stays the caller's and is not needed after the call.
 *
 * @param limit          the limit.
 * @param rule           the new rule; the burst is at most 2^32 - 1.
 * @param strategy       ESCOPE_CHANGE_*: what becomes of the tokens that a key has left.
 * @param retry_after_ns receives the time until the change is possible: 0, or what CHANGE_TOO_SOON waits for; may be NULL.
 * @return OK; CHANGE_TOO_SOON: keys may still owe from the rule that was in force four changes before; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. May block, for as long as another call changes this limit; so not in a
 * signal handler. Checks by the limit never wait.
 * Since: 0.1.0
 */
escope_status escope_limit_change(struct escope_limit *limit,
                                  const escope_rule *rule,
                                  int32_t strategy,
                                  uint64_t *retry_after_ns);

/**
 * escope_limit_change at a given time.
 *
 * Ownership: `rule` stays the caller's and is not needed after the call.
 *
 * @param limit          the limit.
 * @param rule           the new rule; the burst is at most 2^32 - 1.
 * @param strategy       ESCOPE_CHANGE_*: what becomes of the tokens that a key has left.
 * @param retry_after_ns receives the time until the change is possible: 0, or what CHANGE_TOO_SOON waits for; may be NULL.
 * @param now_ns         the time; one before the last change counts as that.
 * @return as escope_limit_change.
 *
 * Thread safety: any thread, concurrently. May block, for as long as another call changes this limit; so not in a
 * signal handler. Checks by the limit never wait.
 * Since: 0.1.0
 */
escope_status escope_limit_change_at(struct escope_limit *limit,
                                     const escope_rule *rule,
                                     int32_t strategy,
                                     uint64_t *retry_after_ns,
                                     uint64_t now_ns);

/**
 * Tells the rule of now, as it is applied: the one that was given, or the nearest slower one that the table can hold, by
 * less than 0.1 %.
 *
 * Ownership: `rule` stays the caller's.
 *
 * @param limit the limit.
 * @param rule  receives the rule.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limit_rule(const struct escope_limit *limit,
                                escope_rule *rule);

/* -- Rate limiter: checks -------------------------------------------------------------------------------- */

/**
 * Takes `cost` tokens from a key's bucket, if they are there.
 *
 * A key that was last checked under another rule keeps its debt as time. A refusal changes nothing.
 *
 * Ownership: all memory stays the caller's and is not needed after the call.
 *
 * @param limiter  the limiter.
 * @param key      bytes that name the key; may be NULL if `key_len` is 0.
 * @param key_len  their number.
 * @param rule     the rule.
 * @param cost     tokens to take; 0 takes none and is admitted where any cost could be.
 * @param decision receives the details, on OK and on a refusal; may be NULL.
 * @return OK: admitted; RATE_LIMITED; NEVER: `cost` is above the burst; TABLE_FULL: no place for a new key;
 *         INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_check(escope_limiter *limiter,
                                   const void *key,
                                   size_t key_len,
                                   const escope_rule *rule,
                                   uint64_t cost,
                                   escope_decision *decision);

/**
 * escope_limiter_check at a given time.
 *
 * Ownership: all memory stays the caller's and is not needed after the call.
 *
 * @param limiter  the limiter.
 * @param key      bytes that name the key; may be NULL if `key_len` is 0.
 * @param key_len  their number.
 * @param rule     the rule.
 * @param cost     tokens to take.
 * @param decision receives the details, on OK and on a refusal; may be NULL.
 * @param now_ns   the time; one that goes back is never more generous.
 * @return as escope_limiter_check.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_check_at(escope_limiter *limiter,
                                      const void *key,
                                      size_t key_len,
                                      const escope_rule *rule,
                                      uint64_t cost,
                                      escope_decision *decision,
                                      uint64_t now_ns);

/**
 * As escope_limiter_check, by a limit with a name, as its rule is now.
 *
 * A key that is measured by a limit must not be measured by a rule or by another limit as well: put the limit's
 * name into what the key is made of, such as "user:ann".
 *
 * Ownership: all memory stays the caller's and is not needed after the call.
 *
 * @param limiter  the limiter.
 * @param key      bytes that name the key; may be NULL if `key_len` is 0.
 * @param key_len  their number.
 * @param limit    the limit.
 * @param cost     tokens to take; 0 takes none and is admitted where any cost could be.
 * @param decision receives the details, on OK and on a refusal; may be NULL.
 * @return as escope_limiter_check.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_check_limit(escope_limiter *limiter,
                                         const void *key,
                                         size_t key_len,
                                         const escope_limit *limit,
                                         uint64_t cost,
                                         escope_decision *decision);

/**
 * escope_limiter_check_limit at a given time.
 *
 * Ownership: all memory stays the caller's and is not needed after the call.
 *
 * @param limiter  the limiter.
 * @param key      bytes that name the key; may be NULL if `key_len` is 0.
 * @param key_len  their number.
 * @param limit    the limit.
 * @param cost     tokens to take.
 * @param decision receives the details, on OK and on a refusal; may be NULL.
 * @param now_ns   the time.
 * @return as escope_limiter_check.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_check_limit_at(escope_limiter *limiter,
                                            const void *key,
                                            size_t key_len,
                                            const escope_limit *limit,
                                            uint64_t cost,
                                            escope_decision *decision,
                                            uint64_t now_ns);

/**
 * Says what a check of cost 1 would say, and takes nothing. Not counted.
 *
 * Ownership: all memory stays the caller's and is not needed after the call.
 *
 * @param limiter  the limiter.
 * @param key      bytes that name the key; may be NULL if `key_len` is 0.
 * @param key_len  their number.
 * @param rule     the rule.
 * @param decision receives the details, on OK and on a refusal; may be NULL.
 * @return as escope_limiter_check.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_peek(const escope_limiter *limiter,
                                  const void *key,
                                  size_t key_len,
                                  const escope_rule *rule,
                                  escope_decision *decision);

/**
 * escope_limiter_peek at a given time.
 *
 * Ownership: all memory stays the caller's and is not needed after the call.
 *
 * @param limiter  the limiter.
 * @param key      bytes that name the key; may be NULL if `key_len` is 0.
 * @param key_len  their number.
 * @param rule     the rule.
 * @param decision receives the details, on OK and on a refusal; may be NULL.
 * @param now_ns   the time.
 * @return as escope_limiter_check.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_peek_at(const escope_limiter *limiter,
                                     const void *key,
                                     size_t key_len,
                                     const escope_rule *rule,
                                     escope_decision *decision,
                                     uint64_t now_ns);

/**
 * As escope_limiter_peek, by a limit with a name, as its rule is now.
 *
 * Ownership: all memory stays the caller's and is not needed after the call.
 *
 * @param limiter  the limiter.
 * @param key      bytes that name the key; may be NULL if `key_len` is 0.
 * @param key_len  their number.
 * @param limit    the limit.
 * @param decision receives the details, on OK and on a refusal; may be NULL.
 * @return as escope_limiter_check.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_peek_limit(const escope_limiter *limiter,
                                        const void *key,
                                        size_t key_len,
                                        const escope_limit *limit,
                                        escope_decision *decision);

/**
 * escope_limiter_peek_limit at a given time.
 *
 * Ownership: all memory stays the caller's and is not needed after the call.
 *
 * @param limiter  the limiter.
 * @param key      bytes that name the key; may be NULL if `key_len` is 0.
 * @param key_len  their number.
 * @param limit    the limit.
 * @param decision receives the details, on OK and on a refusal; may be NULL.
 * @param now_ns   the time.
 * @return as escope_limiter_check.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_peek_limit_at(const escope_limiter *limiter,
                                           const void *key,
                                           size_t key_len,
                                           const escope_limit *limit,
                                           escope_decision *decision,
                                           uint64_t now_ns);

/**
 * Gives a key its full burst back, and forgets the reservations of it. A key that owes nothing stays as it is.
 *
 * Ownership: `key` stays the caller's.
 *
 * @param limiter the limiter.
 * @param key     bytes that name the key; may be NULL if `key_len` is 0.
 * @param key_len their number.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_reset(escope_limiter *limiter,
                                   const void *key,
                                   size_t key_len);

/* -- Rate limiter: many keys in one call ----------------------------------------------------------------- */

/** Most charges of escope_limiter_check_many. */
#define ESCOPE_MAX_GROUP 32

/** Whom to debit, by what, how much. Exactly one of `rule` and `limit` is not NULL. */
typedef struct escope_charge {
    /** Bytes that name the key; may be NULL if `key_len` is 0. */
    const void *key;
    /** Their number. */
    size_t key_len;
    /** By this rule; */
    const escope_rule *rule;
    /** or by this limit with a name. */
    const escope_limit *limit;
    /** Tokens to take. */
    uint64_t cost;
} escope_charge;

/**
 * Takes the tokens of all charges, or none: user, organisation and everybody in one call.
 *
 * Charges of one key are summed, and measured as the first of them. While a group is under way, another call may be refused
 * a token that the group then gives back; no call is ever admitted beyond what each key allows.
 *
 * Ownership: all memory stays the caller's and is not needed after the call.
 *
 * @param limiter        the limiter.
 * @param charges        whom to debit; NULL is allowed for none.
 * @param count          their number, 0 to ESCOPE_MAX_GROUP.
 * @param decisions      `count` places that receive what each key says by itself, on OK and on a refusal; those whose
 *                       status is not OK are to blame. May be NULL.
 * @param refused        receives the index of the first charge that is refused as the group is; `count` on OK. May be NULL.
 * @param retry_after_ns receives the time until the group is admitted if nobody else comes: 0 on OK, UINT64_MAX for
 *                       NEVER. May be NULL.
 * @return OK: all were taken; else nothing was, and the gravest refusal: NEVER, TABLE_FULL, RATE_LIMITED; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_check_many(escope_limiter *limiter,
                                        const struct escope_charge *charges,
                                        size_t count,
                                        escope_decision *decisions,
                                        size_t *refused,
                                        uint64_t *retry_after_ns);

/**
 * escope_limiter_check_many at a given time.
 *
 * Ownership: all memory stays the caller's and is not needed after the call.
 *
 * @param limiter        the limiter.
 * @param charges        whom to debit; NULL is allowed for none.
 * @param count          their number, 0 to ESCOPE_MAX_GROUP.
 * @param decisions      `count` places that receive what each key says by itself, on OK and on a refusal; those whose
 *                       status is not OK are to blame. May be NULL.
 * @param refused        receives the index of the first charge that is refused as the group is; `count` on OK. May be NULL.
 * @param retry_after_ns receives the time until the group is admitted if nobody else comes: 0 on OK, UINT64_MAX for
 *                       NEVER. May be NULL.
 * @param now_ns         the time.
 * @return as escope_limiter_check_many.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_check_many_at(escope_limiter *limiter,
                                           const struct escope_charge *charges,
                                           size_t count,
                                           escope_decision *decisions,
                                           size_t *refused,
                                           uint64_t *retry_after_ns,
                                           uint64_t now_ns);

/**
 * Checks each charge by itself, in order, as so many calls would at the same moment. A refusal does not stop the rest.
 *
 * Ownership: all memory stays the caller's and is not needed after the call.
 *
 * @param limiter   the limiter.
 * @param charges   whom to debit; NULL is allowed for none.
 * @param count     their number; any.
 * @param decisions `count` places that receive what each charge says, its status among it; may be NULL for none.
 * @param admitted  receives how many were admitted; may be NULL.
 * @return OK, whatever the single verdicts are; INVALID_ARGUMENT: nothing was taken.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_check_batch(escope_limiter *limiter,
                                         const struct escope_charge *charges,
                                         size_t count,
                                         escope_decision *decisions,
                                         size_t *admitted);

/**
 * escope_limiter_check_batch at a given time.
 *
 * Ownership: all memory stays the caller's and is not needed after the call.
 *
 * @param limiter   the limiter.
 * @param charges   whom to debit; NULL is allowed for none.
 * @param count     their number; any.
 * @param decisions `count` places that receive what each charge says, its status among it; may be NULL for none.
 * @param admitted  receives how many were admitted; may be NULL.
 * @param now_ns    the time.
 * @return as escope_limiter_check_batch.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_check_batch_at(escope_limiter *limiter,
                                            const struct escope_charge *charges,
                                            size_t count,
                                            escope_decision *decisions,
                                            size_t *admitted,
                                            uint64_t now_ns);

/* -- Rate limiter: receipts ------------------------------------------------------------------------------ */

/**
 * The means to give tokens back, in the caller's memory, good for one use. Its fields are private to the library; do not
 * copy the struct, for a copy is a second receipt for the same tokens.
 */
typedef struct escope_receipt {
    /** Private. */
    uint64_t private_key;
    /** Private. */
    uint64_t private_instant;
    /** Private. */
    uint64_t private_token;
    /** Private. */
    uint64_t private_full;
    /** Private. */
    uint64_t private_cost;
    /** Private. */
    uint32_t private_limiter;
    /** Private; an atomic. */
    uint32_t private_state;
} escope_receipt;

/**
 * Tells how many tokens a receipt stands for.
 *
 * Ownership: all memory stays the caller's.
 *
 * @param receipt a receipt that a reservation filled.
 * @param cost    receives the number: 0 if the receipt was used, and where there was nothing to give back: for a cost
 *                of zero, and for a key without a place that shares the overflow bucket.
 * @return OK; BAD_RECEIPT: the memory holds no receipt; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_receipt_cost(const struct escope_receipt *receipt,
                                  uint64_t *cost);

/* -- Rate limiter: reservations -------------------------------------------------------------------------- */

/**
 * Takes tokens now for use now or later: a place in the key's queue, first come, first served. With `max_wait_ns` 0 it is
 * a check that leaves a receipt.
 *
 * Ownership: all memory stays the caller's; `charge` is not needed after the call. `receipt` needs no end.
 *
 * @param limiter     the limiter.
 * @param charge      whom to debit, by what, how much.
 * @param max_wait_ns longest wait that is taken; 0 for none. A limit with a name may allow less.
 * @param receipt     receives the means to give tokens back, on OK; may be NULL.
 * @param wait_ns     receives the time until the tokens may be used, on OK: 0 for at once; may be NULL if `max_wait_ns`
 *                    is 0.
 * @param decision    receives the details, on OK and on a refusal; may be NULL. After a refusal `retry_after_ns` is the
 *                    time until a check is admitted, not until this reservation would be.
 * @return OK: taken, for use after `*wait_ns` and no earlier; RATE_LIMITED, NEVER, TABLE_FULL as
 *         escope_limiter_check, and nothing was taken; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_reserve(escope_limiter *limiter,
                                     const escope_charge *charge,
                                     uint64_t max_wait_ns,
                                     escope_receipt *receipt,
                                     uint64_t *wait_ns,
                                     escope_decision *decision);

/**
 * escope_limiter_reserve at a given time.
 *
 * Ownership: all memory stays the caller's; `charge` is not needed after the call. `receipt` needs no end.
 *
 * @param limiter     the limiter.
 * @param charge      whom to debit, by what, how much.
 * @param max_wait_ns longest wait that is taken; 0 for none. A limit with a name may allow less.
 * @param receipt     receives the means to give tokens back, on OK; may be NULL.
 * @param wait_ns     receives the time until the tokens may be used, on OK: 0 for at once; may be NULL if `max_wait_ns`
 *                    is 0.
 * @param decision    receives the details, on OK and on a refusal; may be NULL. After a refusal `retry_after_ns` is the
 *                    time until a check is admitted, not until this reservation would be.
 * @param now_ns      the time.
 * @return as escope_limiter_reserve.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_reserve_at(escope_limiter *limiter,
                                        const escope_charge *charge,
                                        uint64_t max_wait_ns,
                                        escope_receipt *receipt,
                                        uint64_t *wait_ns,
                                        escope_decision *decision,
                                        uint64_t now_ns);

/**
 * Takes a whole reservation back before its time has come. That counts only while nothing else was written to the
 * key since: later reservations keep their times, and rely on it.
 *
 * Ownership: all memory stays the caller's; the receipt is used up.
 *
 * @param limiter the limiter.
 * @param receipt the receipt.
 * @return OK; FORFEITED: others have used the key since, nothing changed; TOO_LATE: the time has come, nothing changed;
 *         ALREADY_DONE: the receipt was used before; BAD_RECEIPT: no receipt of this limiter, or one
 *         without tokens; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_cancel(escope_limiter *limiter,
                                    escope_receipt *receipt);

/**
 * escope_limiter_cancel at a given time.
 *
 * Ownership: all memory stays the caller's; the receipt is used up.
 *
 * @param limiter the limiter.
 * @param receipt the receipt.
 * @param now_ns  the time.
 * @return as escope_limiter_cancel.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_cancel_at(escope_limiter *limiter, escope_receipt *receipt, uint64_t now_ns);

/**
 * Gives tokens back that were taken and not used. That counts only while the key's balance is not negative: no
 * reservation waits.
 *
 * Ownership: all memory stays the caller's; the receipt is used up, but not by a negative status.
 *
 * @param limiter the limiter.
 * @param receipt the receipt.
 * @param amount  tokens to give back, at most what the receipt stands for (escope_receipt_cost).
 * @param limit   the limit that the tokens were taken by: they are worth what its rule of now says. NULL if they were
 *                taken by a rule.
 * @return OK; FORFEITED: reservations wait, nothing changed;
 *         ALREADY_DONE: the receipt was used before; BAD_RECEIPT: no receipt of this limiter, or one
 *         without tokens; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_refund(escope_limiter *limiter,
                                    escope_receipt *receipt,
                                    uint64_t amount,
                                    const escope_limit *limit);

/**
 * escope_limiter_refund at a given time.
 *
 * Ownership: all memory stays the caller's; the receipt is used up, but not by a negative status.
 *
 * @param limiter the limiter.
 * @param receipt the receipt.
 * @param amount  tokens to give back, at most what the receipt stands for (escope_receipt_cost).
 * @param limit   the limit that the tokens were taken by: they are worth what its rule of now says. NULL if they were
 *                taken by a rule.
 * @param now_ns  the time.
 * @return as escope_limiter_refund.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_refund_at(escope_limiter *limiter,
                                       escope_receipt *receipt,
                                       uint64_t amount,
                                       const escope_limit *limit,
                                       uint64_t now_ns);

/**
 * Replaces the estimate that a receipt stands for by what was used: the difference is given back as by
 * escope_limiter_refund, or taken without a test, so that the balance may become negative, by up to one full bucket.
 *
 * Ownership: all memory stays the caller's; the receipt is used up.
 *
 * @param limiter   the limiter.
 * @param receipt   the receipt.
 * @param actual    tokens that were used.
 * @param limit     as for escope_limiter_refund.
 * @param saturated receives 1 if the debt was cut at one full bucket below empty, else 0; may be NULL.
 * @return OK; FORFEITED: nothing changed, for reservations wait, or there is no place to write a debt to;
 *         ALREADY_DONE: the receipt was used before; BAD_RECEIPT: no receipt of this limiter, or one
 *         without tokens; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_settle(escope_limiter *limiter,
                                    escope_receipt *receipt,
                                    uint64_t actual,
                                    const escope_limit *limit,
                                    int32_t *saturated);

/**
 * escope_limiter_settle at a given time.
 *
 * Ownership: all memory stays the caller's; the receipt is used up.
 *
 * @param limiter   the limiter.
 * @param receipt   the receipt.
 * @param actual    tokens that were used.
 * @param limit     as for escope_limiter_refund.
 * @param saturated receives 1 if the debt was cut at one full bucket below empty, else 0; may be NULL.
 * @param now_ns    the time.
 * @return as escope_limiter_settle.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_settle_at(escope_limiter *limiter,
                                       escope_receipt *receipt,
                                       uint64_t actual,
                                       const escope_limit *limit,
                                       int32_t *saturated,
                                       uint64_t now_ns);

/* -- Rate limiter: waiting ------------------------------------------------------------------------------- */

/**
 * Takes tokens, and sleeps until they may be used: first come, first served. A wait that would take longer than
 * `timeout_ns` is refused at once, without a sleep and without taking anything.
 *
 * A program that wants to give up a wait before its time reserves (escope_limiter_reserve), sleeps by itself and cancels
 * (escope_limiter_cancel). A signal does not end the wait: handlers run, and the sleep goes on. The thread must not be
 * ended by pthread_cancel meanwhile.
 *
 * Ownership: all memory stays the caller's. The caller's reference to the limiter must live until the call returns.
 *
 * @param limiter    the limiter.
 * @param charge     whom to debit, by what, how much.
 * @param timeout_ns longest wait; 0 for none. A limit with a name may allow less.
 * @param receipt    receives the means to give tokens back, on OK; may be NULL.
 * @param decision   receives the details, on OK and on a refusal but QUEUE_FULL, as of the time before the sleep; may be
 *                   NULL.
 * @return OK: the tokens may be used now; RATE_LIMITED: the wait would be too long; NEVER, TABLE_FULL as
 *         escope_limiter_check; QUEUE_FULL: `max_waiting` threads wait for this limiter already; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. May block, for up to `timeout_ns`; so not in a signal handler.
 * Since: 0.1.0
 */
escope_status escope_limiter_acquire(escope_limiter *limiter,
                                     const escope_charge *charge,
                                     uint64_t timeout_ns,
                                     escope_receipt *receipt,
                                     escope_decision *decision);

/* -- Rate limiter: header fields ------------------------------------------------------------------------- */

/** Size of a buffer that holds any of these values, with its NUL. */
#define ESCOPE_FIELD_SIZE 192

/**
 * Writes the value of the header field `RateLimit-Policy`, such as `"api";q=10;w=60`.
 *
 * As in the IETF draft draft-ietf-httpapi-ratelimit-headers: the quota `q` of a window of `w` seconds, rounded up.
 *
 * Ownership: all memory stays the caller's.
 *
 * @param rule     the rule.
 * @param name     name of the policy: 1 to 64 printable ASCII characters, ending in NUL.
 * @param buffer   receives the text and a NUL.
 * @param capacity size of `buffer` in bytes; ESCOPE_FIELD_SIZE always suffices.
 * @param length   receives the length of the text without NUL; may be NULL.
 * @return OK; INVALID_ARGUMENT, also where the text does not fit.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_rule_render_policy(const escope_rule *rule,
                                        const char *name,
                                        char *buffer,
                                        size_t capacity,
                                        size_t *length);

/**
 * Writes the value of the header field `RateLimit`, such as `"api";r=9;t=6`: `r` tokens remain, and after `t` seconds,
 * rounded up, there are more: all, or, after a refusal, enough.
 *
 * Ownership: all memory stays the caller's.
 *
 * @param decision what a check said.
 * @param name     name of the policy, as for escope_rule_render_policy.
 * @param buffer   receives the text and a NUL.
 * @param capacity size of `buffer` in bytes; ESCOPE_FIELD_SIZE always suffices.
 * @param length   receives the length of the text without NUL; may be NULL.
 * @return OK; INVALID_ARGUMENT, also where the text does not fit.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_decision_render_limit(const escope_decision *decision,
                                           const char *name,
                                           char *buffer,
                                           size_t capacity,
                                           size_t *length);

/**
 * Writes the value of the header field `Retry-After` in seconds, rounded up, at least 1. Empty where there is none to send:
 * the check was admitted, or no wait helps.
 *
 * Ownership: all memory stays the caller's.
 *
 * @param decision what a check said.
 * @param buffer   receives the text and a NUL.
 * @param capacity size of `buffer` in bytes; ESCOPE_FIELD_SIZE always suffices.
 * @param length   receives the length of the text without NUL; may be NULL.
 * @return OK; INVALID_ARGUMENT, also where the text does not fit.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_decision_render_retry_after(const escope_decision *decision,
                                                 char *buffer,
                                                 size_t capacity,
                                                 size_t *length);

/* -- Rate limiter: statistics ---------------------------------------------------------------------------- */

/** What a limiter has done so far, and how big it is. */
typedef struct escope_limiter_stats {
    /** Size of this struct as the program was compiled; set it before the call. */
    size_t struct_size;
    /** Checks admitted; a reservation counts as one, and so does a group. */
    uint64_t allowed;
    /** Checks refused for now. */
    uint64_t limited;
    /** Checks whose cost is above the burst. */
    uint64_t never;
    /** Checks of a new key that found no place. */
    uint64_t table_full;
    /** Keys that lost their place while they owed tokens. */
    uint64_t evicted;
    /** Checks that were admitted by the overflow bucket. */
    uint64_t overflowed;
    /** Refunds, cancellations and settlements that gave nothing back. */
    uint64_t forfeited;
    /** Groups, among the refused, whose debits were given back: a member was used up in the middle of the call. */
    uint64_t rolled_back;
    /** Threads that wait in escope_limiter_acquire now. */
    uint64_t waiting;
    /** Keys that the table is meant for, at least `max_keys`. */
    uint64_t capacity;
    /** Bytes of memory in all. */
    uint64_t bytes;
} escope_limiter_stats;

/**
 * Sets a statistics struct to zero and to its size.
 *
 * Ownership: `stats` stays the caller's.
 *
 * @param stats the struct to set.
 * @param size  `sizeof *stats`.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_stats_init(struct escope_limiter_stats *stats, size_t size);

/**
 * Reads a limiter's counters and sizes. The counters are exact while no call is under way.
 *
 * Ownership: `stats` stays the caller's.
 *
 * @param limiter the limiter.
 * @param stats   receives the numbers; escope_limiter_stats_init sets it up.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_snapshot(const escope_limiter *limiter, struct escope_limiter_stats *stats);

/**
 * Counts the keys that owe tokens now. Reads the whole table.
 *
 * Ownership: `keys` stays the caller's.
 *
 * @param limiter the limiter.
 * @param keys    receives their number.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_live_keys(const escope_limiter *limiter, uint64_t *keys);

/**
 * escope_limiter_live_keys at a given time.
 *
 * Ownership: `keys` stays the caller's.
 *
 * @param limiter the limiter.
 * @param keys    receives their number.
 * @param now_ns  the time.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_limiter_live_keys_at(const escope_limiter *limiter, uint64_t *keys, uint64_t now_ns);

/* -- Rate limiter: in a file ----------------------------------------------------------------------------- */

/**
 * Writes what every key owes to a file, which is replaced as a whole: whenever the machine stops, the name stands for the
 * old content or for the new. Others may use the limiter meanwhile; each key is as of a moment during the call.
 *
 * The file holds the secret of the keys: only its owner may read it. Limits with a name are not in it. Its folder must be
 * one that the process may read and write.
 *
 * Ownership: all memory stays the caller's.
 *
 * @param limiter the limiter.
 * @param path    name of the file, ending in NUL.
 * @return OK: it will be there after a crash of the machine, too; INVALID_ARGUMENT: the file cannot be written, and why; it is
 *         as it was, unless escope_last_error says that it was replaced, where a disk failed at the very end.
 *
 * Thread safety: any thread, concurrently. May block, on the disk; so not in a signal handler.
 * Allocates.
 * Since: 0.1.0
 */
escope_status escope_limiter_save(const escope_limiter *limiter,
                                  const char *path);

/**
 * escope_limiter_save at a given time.
 *
 * Ownership: all memory stays the caller's.
 *
 * @param limiter the limiter.
 * @param path    name of the file, ending in NUL.
 * @param now_ns  the time.
 * @param wall_ns the same moment on the wall clock, since 1970.
 * @return as escope_limiter_save.
 *
 * Thread safety: any thread, concurrently. May block, on the disk; so not in a signal handler.
 * Allocates.
 * Since: 0.1.0
 */
escope_status escope_limiter_save_at(const escope_limiter *limiter,
                                     const char *path,
                                     uint64_t now_ns,
                                     uint64_t wall_ns);

/**
 * Makes a limiter of a file that escope_limiter_save wrote, as if it had gone on since. What has been paid back
 * meanwhile is taken from the wall clock; where that has gone back, nothing was.
 *
 * Ownership: `*out` is one reference, the caller's; give it back with escope_limiter_free. `path` and `options` stay
 * the caller's and are not needed after the call.
 *
 * @param path    name of the file, ending in NUL.
 * @param options how the limiter is made; NULL for the defaults. Secret and size are the file's, whatever it says here.
 * @param out     receives the limiter.
 * @return OK; INVALID_ARGUMENT: the file cannot be read, holds no limiter, was cut or damaged, and how; it stays as
 *         it is; OUT_OF_MEMORY; UNSUPPORTED as escope_limiter_new.
 *
 * Thread safety: any thread, concurrently. May block, on the disk; so not in a signal handler.
 * Allocates.
 * Since: 0.1.0
 */
escope_status escope_limiter_load(const char *path,
                                  const escope_limiter_options *options,
                                  escope_limiter **out);

/**
 * escope_limiter_load at a given time.
 *
 * Ownership: `*out` is one reference, the caller's; give it back with escope_limiter_free. `path` and `options` stay
 * the caller's and are not needed after the call.
 *
 * @param path    name of the file, ending in NUL.
 * @param options how the limiter is made; NULL for the defaults. Secret and size are the file's, whatever it says here.
 * @param out     receives the limiter.
 * @param now_ns  the time.
 * @param wall_ns the same moment on the wall clock, since 1970.
 * @return as escope_limiter_load.
 *
 * Thread safety: any thread, concurrently. May block, on the disk; so not in a signal handler.
 * Allocates.
 * Since: 0.1.0
 */
escope_status escope_limiter_load_at(const char *path,
                                     const escope_limiter_options *options,
                                     escope_limiter **out,
                                     uint64_t now_ns,
                                     uint64_t wall_ns);

/* -- Connection pool: callbacks -------------------------------------------------------------------------- */

/** A lease that lasts too long. */
typedef struct escope_leak {
    /** The connection on loan. It may be returned, and destroyed, while this is read: it is only good for its name. */
    void *connection;
    /** When it was lent, by the clock of escope_clock_now_ns. */
    uint64_t since_ns;
    /** Who checked it out: the number that gettid(2) gave in that thread. */
    uint64_t holder;
} escope_leak;

/**
 * Makes a connection. It may block; it should give up at `deadline_ns`, by the clock of escope_clock_now_ns
 * (UINT64_MAX: none). It writes the connection and returns 0, or returns another number; then what it wrote is
 * not looked at. Any thread may call it, several at the same time. It may call the pool, but not check out from it. It must
 * not throw, longjmp, or return in a process that it forked.
 */
typedef int32_t (*escope_pool_create_fn)(void *userdata, uint64_t deadline_ns, void **connection);

/**
 * Destroys a connection that nobody holds. It may block. Any thread may call it, several at the same time. It may
 * call the pool, but not check out from it. It must not throw, longjmp, or return in a process that it forked.
 */
typedef void (*escope_pool_destroy_fn)(void *userdata, void *connection);

/**
 * Tests or resets a connection that nobody holds: 0 if it is fit for use, any other number if it is to be destroyed. It may
 * block; it should give up at `deadline_ns`, by the clock of escope_clock_now_ns (UINT64_MAX: none). Any thread may call
 * it, several at the same time. It may call the pool, but not check out from it. It must not throw, longjmp, or return in
 * a process that it forked.
 */
typedef int32_t (*escope_pool_check_fn)(void *userdata, void *connection, uint64_t deadline_ns);

/**
 * Hears of a lease that lasts longer than `leak_after_ns`, once. `leak` is the library's and ends with the call. Any thread
 * may call it, several at the same time; it must not block for long. It may call the pool, but not check out from it. It
 * must not throw, longjmp, or return in a process that it forked.
 */
typedef void (*escope_pool_leaked_fn)(void *userdata, const struct escope_leak *leak);

/* -- Connection pool: options ---------------------------------------------------------------------------- */

/** The connection that was returned last goes out first. */
#define ESCOPE_ORDER_LIFO 0

/** The connection that was returned first goes out first. */
#define ESCOPE_ORDER_FIFO 1

/** Connections go out in turn, by the number of their slot. */
#define ESCOPE_ORDER_ROUND_ROBIN 2

/** The connection that was lent least often goes out first. */
#define ESCOPE_ORDER_LEAST_USED 3

/** Nothing is tested without anybody asking. */
#define ESCOPE_HEALTH_OFF 0

/** Connections are tested when they come back. */
#define ESCOPE_HEALTH_PASSIVE 1

/** All idle connections are tested once an interval. */
#define ESCOPE_HEALTH_ACTIVE 2

/**
 * Connections are tested when they come back; and of the idle ones, once an interval, the half that was longest neither
 * used nor tested.
 */
#define ESCOPE_HEALTH_MIXED 3

/** A failed creation ends the wait of the thread at the head of the queue, with CREATE_FAILED. */
#define ESCOPE_CREATE_FAILURE_FAIL_FAST 0

/** A failed creation is tried again; the wait goes on until its time is up. */
#define ESCOPE_CREATE_FAILURE_RETRY 1

/**
 * How a pool behaves. Set it up with escope_pool_options_init, then set at least `create` and `destroy`.
 *
 * Times are nanoseconds. What time asks for is done by threads that wait, and by escope_pool_maintain: a program whose
 * threads seldom wait calls that when its `next_deadline_ns` has come.
 */
typedef struct escope_pool_options {
    /** Size of this struct as the program was compiled. */
    size_t struct_size;
    /** Makes a connection; required. */
    escope_pool_create_fn create;
    /** Destroys a connection; required. */
    escope_pool_destroy_fn destroy;
    /** Brings a connection that comes back into its first state; NULL, the default, for none. */
    escope_pool_check_fn reset;
    /** Tests a connection; required by `health`, `keepalive_ns` and `pre_ping_after_ns`. NULL, the default, for none. */
    escope_pool_check_fn check;
    /** Hears of leases that last too long; required by `leak_after_ns`. NULL, the default, for none. */
    escope_pool_leaked_fn leaked;
    /** First argument of all of them; may be NULL. It must outlive the pool and the connections on loan. */
    void *userdata;
    /** How long a connection above `size` stays idle before it is destroyed; 0 destroys it on return. Default 0. */
    uint64_t overflow_ttl_ns;
    /**
     * How long a connection stays idle before it is destroyed, as long as more than `min_idle` are; 0, the default, for
     * ever.
     */
    uint64_t idle_timeout_ns;
    /** How old a connection gets: it is not lent at this age, and destroyed when nobody holds it; 0, the default, for ever. */
    uint64_t max_lifetime_ns;
    /** By how much, at random, a connection's life is shorter than that, up to `max_lifetime_ns`. Default 0. */
    uint64_t max_lifetime_jitter_ns;
    /** How long an idle connection is neither used nor tested before it is tested; 0, the default, for ever. */
    uint64_t keepalive_ns;
    /** Time between tests of idle connections; 1 or more with HEALTH_ACTIVE and HEALTH_MIXED. Default 0. */
    uint64_t health_interval_ns;
    /** Time limit of the test of an idle connection; 0, the default, for none. A test that overruns it has failed. */
    uint64_t check_limit_ns;
    /** Time limit of reset and test on return together; 0, the default, for none. */
    uint64_t return_limit_ns;
    /**
     * A connection that was neither used nor tested for longer than this is tested before it is lent; 0 tests every one
     * that was idle, UINT64_MAX, the default, none.
     */
    uint64_t pre_ping_after_ns;
    /** Time limit of that test; 0, the default, for none. */
    uint64_t pre_ping_limit_ns;
    /** How long a lease lasts before `leaked` hears of it, once; the lease goes on. 0, the default, for never. */
    uint64_t leak_after_ns;
    /** How long the head of the queue may have waited while all is well; see `queue_interval_ns`. Default 0. */
    uint64_t queue_target_ns;
    /**
     * When the head of the queue has been above `queue_target_ns` for this long, waits are ended with SHED; 0, the default,
     * for never. After CoDel (RFC 8289).
     */
    uint64_t queue_interval_ns;
    /** Pause after a failed creation, doubling with each further one; 1 or more. Default 100 ms. */
    uint64_t create_backoff_ns;
    /** Longest such pause. Default 10 s. */
    uint64_t create_backoff_cap_ns;
    /** Connections that are kept. Default 5. */
    uint32_t size;
    /** Connections above `size` that a burst may add; both together 1 to 65,536. Default 10. */
    uint32_t max_overflow;
    /** Most connections that escope_pool_resize may ask for, to 65,536; 0, the default, for `size` and `max_overflow`. */
    uint32_t max_slots;
    /** Connections that are idle or being made ahead of demand, up to `size`; escope_pool_maintain makes them. Default 0. */
    uint32_t min_idle;
    /** Connections that are made at a time; 1 or more. Default 65,536. */
    uint32_t max_concurrent_creates;
    /** Threads that may wait at a time, those that make a connection among them; 1 to 1,000,000. Default 10,000. */
    uint32_t max_waiters;
    /** ESCOPE_ORDER_*. Default LIFO. */
    int32_t order;
    /** ESCOPE_HEALTH_*. Default OFF. */
    int32_t health;
    /** ESCOPE_CREATE_FAILURE_*. Default FAIL_FAST. */
    int32_t create_failure;
    /** Switch: 1 keeps the times of use for the statistics, which costs a look at the clock with every call. Default 0. */
    uint32_t measure;
} escope_pool_options;

/**
 * Fills pool options with the defaults, without callbacks.
 *
 * Ownership: `options` stays the caller's.
 *
 * @param options the struct to fill.
 * @param size    `sizeof *options`.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_pool_options_init(struct escope_pool_options *options, size_t size);

/* -- Connection pool ------------------------------------------------------------------------------------- */

/** A connection pool. Opaque; shared by any number of threads of one process. */
typedef struct escope_pool escope_pool;

/**
 * Makes a pool without connections; they are made when somebody asks for one.
 *
 * Ownership: `*out` is one reference, the caller's; give it back with escope_pool_free. `options` stays the caller's
 * and is not needed after the call; its `userdata` is.
 *
 * @param options how it behaves; `create` and `destroy` must be set.
 * @param out     receives the pool.
 * @return OK; INVALID_ARGUMENT naming the option; OUT_OF_MEMORY.
 *
 * Thread safety: any thread, concurrently. Never blocks; allocates.
 * Since: 0.1.0
 */
escope_status escope_pool_new(const escope_pool_options *options,
                              struct escope_pool **out);

/**
 * Adds a reference.
 *
 * Ownership: the result is a reference of its own, to be given back with escope_pool_free.
 *
 * @param pool a pool, or NULL.
 * @return `pool`.
 *
 * Thread safety: any thread, concurrently; also in a forked child. Never blocks.
 * Since: 0.1.0
 */
struct escope_pool *escope_pool_ref(struct escope_pool *pool);

/**
 * Gives a reference back; the last one closes the pool.
 *
 * Connections on loan stay with their holders: after the last escope_pool_free the pool may be used for
 * escope_pool_checkin only, until the last of them is back; each is destroyed when it comes. The memory ends
 * with the last lease. In a forked child nothing is destroyed; the child's copy of the memory is dropped.
 *
 * Ownership: takes the caller's reference.
 *
 * @param pool a pool; NULL does nothing.
 *
 * Thread safety: any thread, but not concurrently with a call that relies on the same reference, a waiting
 * check-out among them: escope_pool_close ends those. May block: runs `destroy`.
 * Since: 0.1.0
 */
void escope_pool_free(struct escope_pool *pool);

/* -- Connection pool: check-out and check-in ------------------------------------------------------------- */

/** The connection is fit for the next holder. */
#define ESCOPE_CONDITION_GOOD 0

/** The connection is to be destroyed. */
#define ESCOPE_CONDITION_BROKEN 1

/**
 * The right to use one connection until it is checked in. A plain value; it may be copied, and a copy is the
 * same lease: of several check-ins the first one counts.
 */
typedef struct escope_lease {
    /** Private. */
    uint64_t private_pool;
    /** Private. */
    uint64_t private_epoch;
    /** Private. */
    uint32_t private_slot;
    /** Private. */
    uint32_t private_reserved;
} escope_lease;

/**
 * Lends a connection: a free one, else a new one, else the next that comes back.
 *
 * Threads are served in the order of their calls. Connections are made by the threads that wait, each with its own
 * deadline; one that is ready goes to the thread that has waited longest, whoever made it. A failed creation ends
 * that thread's wait and is followed by a pause, during which only returned connections are lent. `create` is not
 * interrupted: the call can overrun its time by what `create` takes beyond its deadline.
 *
 * A connection that was neither used nor tested for longer than `pre_ping_after_ns` is tested first; one that fails is
 * destroyed, and the call goes on with the next.
 *
 * Ownership: the connection is the caller's until escope_pool_checkin; it stays the pool's to destroy.
 *
 * @param pool       the pool.
 * @param timeout_ns longest wait; 0: take a free connection or one that is being made for this call, but do not wait
 *                   for one on loan; UINT64_MAX: for ever.
 * @param lease      receives the lease.
 * @param connection receives what `create` made.
 * @return OK; POOL_TIMEOUT; SHED: all waits had become too long; POOL_EXHAUSTED: the time-out is 0, no connection is free and none may be made now;
 *         QUEUE_FULL; POOL_CLOSED; CREATE_FAILED: the message has what `create` returned; FORKED; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently; not in a signal handler. May block. A signal does not end the wait.
 * Since: 0.1.0
 */
escope_status escope_pool_checkout(escope_pool *pool,
                                   uint64_t timeout_ns,
                                   struct escope_lease *lease,
                                   void **connection);

/**
 * escope_pool_checkout with the time-out 0, at a given time: for simulations and tests, which move their own clock.
 *
 * A pool that is called at given times is called so throughout: its connections and waits have ages by that clock.
 *
 * Ownership: as escope_pool_checkout.
 *
 * @param pool       the pool.
 * @param lease      receives the lease.
 * @param connection receives what `create` made.
 * @param now_ns     the time.
 * @return as escope_pool_checkout with the time-out 0.
 *
 * Thread safety: any thread, concurrently; not in a signal handler. May block: runs `create`, `check` and `destroy`.
 * Since: 0.1.0
 */
escope_status escope_pool_checkout_at(escope_pool *pool,
                                      struct escope_lease *lease,
                                      void **connection,
                                      uint64_t now_ns);

/**
 * Returns a connection.
 *
 * It is reset and tested, if the pool is set so. Then it goes to the thread that has waited longest; else it is kept, or
 * destroyed if it is broken, too old, above the pool's size or the pool is closed. What a broken one leaves room for is made by a waiting thread, not by this
 * one.
 *
 * Ownership: ends the lease; the connection must not be used any more. `lease` stays the caller's memory.
 *
 * @param pool      the pool.
 * @param lease     what escope_pool_checkout gave.
 * @param condition ESCOPE_CONDITION_GOOD or ESCOPE_CONDITION_BROKEN.
 * @return OK; STALE_LEASE: returned before, or another pool's, and nothing happened; FORKED; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, not only the one that checked out; concurrently. May block: runs `reset`, `check` and
 * `destroy`.
 * Since: 0.1.0
 */
escope_status escope_pool_checkin(escope_pool *pool,
                                  const struct escope_lease *lease,
                                  int32_t condition);

/**
 * escope_pool_checkin at a given time; see escope_pool_checkout_at.
 *
 * Ownership: as escope_pool_checkin.
 *
 * @param pool      the pool.
 * @param lease     what escope_pool_checkout gave.
 * @param condition ESCOPE_CONDITION_GOOD or ESCOPE_CONDITION_BROKEN.
 * @param now_ns    the time.
 * @return as escope_pool_checkin.
 *
 * Thread safety: any thread, not only the one that checked out; concurrently. May block: runs `reset`, `check` and
 * `destroy`.
 * Since: 0.1.0
 */
escope_status escope_pool_checkin_at(escope_pool *pool,
                                     const struct escope_lease *lease,
                                     int32_t condition,
                                     uint64_t now_ns);

/* -- Connection pool: waiting in slices or in an event loop ---------------------------------------------- */

/** A place in the queue of a pool. Opaque; belongs to one caller. */
typedef struct escope_waiter escope_waiter;

/**
 * Lends a free connection, or gives a place in the queue at once.
 *
 * It neither waits nor calls `create`; a connection that is to be tested before it is lent is tested. With POOL_EXHAUSTED `*waiter` is a place in the queue, in the order of
 * the calls of this function and of escope_pool_checkout; go on with escope_waiter_wait. With any other status
 * `waiter` is not written.
 *
 * Ownership: the connection is the caller's until escope_pool_checkin. The place is the caller's; give it back with
 * escope_waiter_free. It keeps the memory of the pool, not the pool: the last escope_pool_free ends the wait.
 *
 * @param pool       the pool.
 * @param timeout_ns longest wait from now on, over all slices, 1 or more; UINT64_MAX: for ever.
 * @param lease      receives the lease, if OK.
 * @param connection receives what `create` made, if OK.
 * @param waiter     receives the place, if POOL_EXHAUSTED.
 * @return OK; POOL_EXHAUSTED: none is free; QUEUE_FULL; POOL_CLOSED; FORKED; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently; not in a signal handler. May block: runs `check`, and `destroy` where a close
 * in another thread left more than it could carry at once.
 * Since: 0.1.0
 */
escope_status escope_pool_checkout_begin(escope_pool *pool,
                                         uint64_t timeout_ns,
                                         escope_lease *lease,
                                         void **connection,
                                         struct escope_waiter **waiter);

/**
 * escope_pool_checkout_begin at a given time; see escope_pool_checkout_at. Go on with escope_waiter_wait_at.
 *
 * Ownership: as escope_pool_checkout_begin. A place that was begun so is given up at the latest time that was given.
 *
 * @param pool       the pool.
 * @param timeout_ns longest wait from `now_ns` on, 1 or more; UINT64_MAX: for ever.
 * @param lease      receives the lease, if OK.
 * @param connection receives what `create` made, if OK.
 * @param waiter     receives the place, if POOL_EXHAUSTED.
 * @param now_ns     the time.
 * @return as escope_pool_checkout_begin.
 *
 * Thread safety: any thread, concurrently; not in a signal handler. May block: runs `check` and `destroy`.
 * Since: 0.1.0
 */
escope_status escope_pool_checkout_begin_at(escope_pool *pool,
                                            uint64_t timeout_ns,
                                            escope_lease *lease,
                                            void **connection,
                                            struct escope_waiter **waiter,
                                            uint64_t now_ns);

/**
 * Waits for a connection for a while.
 *
 * The thread that waits also runs `create` for connections that are to be made, which can make the slice longer. So does
 * one with a slice of 0: a program that only ever polls gets its connections made as well.
 *
 * Ownership: the place stays the caller's, to be freed, whatever the status.
 *
 * @param waiter     the place.
 * @param slice_ns   longest wait of this call; UINT64_MAX: until the time of the check-out is up.
 * @param lease      receives the lease, if OK.
 * @param connection receives what `create` made, if OK.
 * @return OK; POOL_EXHAUSTED: the slice is over and the place is kept; POOL_TIMEOUT: the time of the check-out is up;
 *         POOL_CLOSED; CREATE_FAILED: the message has what `create` returned; FORKED; INVALID_ARGUMENT: NULL, or
 *         the wait has ended before, or another thread is in this call.
 *
 * Thread safety: any thread, one at a time; not in a signal handler. May block. A signal does not end the slice.
 * Since: 0.1.0
 */
escope_status escope_waiter_wait(struct escope_waiter *waiter,
                                 uint64_t slice_ns,
                                 escope_lease *lease,
                                 void **connection);

/**
 * escope_waiter_wait with a slice of 0, at a given time; see escope_pool_checkout_at.
 *
 * Ownership: as escope_waiter_wait.
 *
 * @param waiter     the place.
 * @param lease      receives the lease, if OK.
 * @param connection receives what `create` made, if OK.
 * @param now_ns     the time.
 * @return as escope_waiter_wait.
 *
 * Thread safety: any thread, one at a time; not in a signal handler. May block: runs all callbacks.
 * Since: 0.1.0
 */
escope_status escope_waiter_wait_at(struct escope_waiter *waiter,
                                    escope_lease *lease,
                                    void **connection,
                                    uint64_t now_ns);

/**
 * Gives a descriptor for an event loop: readable when escope_waiter_wait should be called, with a slice of 0.
 *
 * It becomes readable when the wait has ended, when its time is up, and when there is a connection to make. It is so at
 * first, and again after each call of escope_waiter_wait with a slice that is not over yet. Wait for it with poll(2), epoll(7) or
 * select(2), level-triggered; neither read, nor write, nor close it.
 *
 * Ownership: the descriptor is the library's, and closed by the end of the wait or by escope_waiter_free, whichever comes first:
 * take it out of the event loop before either.
 *
 * @param waiter     the place.
 * @param descriptor receives the descriptor; the same in every call.
 * @return OK; FORKED; INVALID_ARGUMENT: NULL, or the wait has ended before, or another thread waits at the place;
 *         UNSUPPORTED: the system gave none, the message says why.
 *
 * Thread safety: any thread, one at a time; not in a signal handler. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_waiter_descriptor(struct escope_waiter *waiter,
                                       int *descriptor);

/**
 * Gives a place back. A wait that has not ended is given up, and what it was granted meanwhile goes to the next.
 *
 * In a forked child the place is the parent's: the child's copy stays as it is.
 *
 * @param waiter the place; NULL does nothing.
 *
 * Thread safety: any thread, once no other uses the place; not in a signal handler. May block: runs `destroy` on a connection
 * that it was granted and that nobody is to have any more.
 * Since: 0.1.0
 */
void escope_waiter_free(struct escope_waiter *waiter);

/* -- Connection pool: in charge -------------------------------------------------------------------------- */

/**
 * Closes a pool for good: waiting threads get POOL_CLOSED, free connections are destroyed, those on loan when
 * they come back. Closing again does nothing.
 *
 * Ownership: takes nothing; the pool is still to be freed.
 *
 * @param pool the pool.
 * @return OK; FORKED; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. May block: runs `destroy`.
 * Since: 0.1.0
 */
escope_status escope_pool_close(escope_pool *pool);

/**
 * escope_pool_close at a given time; see escope_pool_checkout_at.
 *
 * Ownership: takes nothing.
 *
 * @param pool   the pool.
 * @param now_ns the time.
 * @return as escope_pool_close.
 *
 * Thread safety: any thread, concurrently. May block: runs `destroy`.
 * Since: 0.1.0
 */
escope_status escope_pool_close_at(escope_pool *pool, uint64_t now_ns);

/**
 * Closes a pool to new callers and waits until it is empty: threads that wait are served, connections that come
 * back destroyed.
 *
 * If the time is up first, the pool stays as it is, closed to new callers: call it again, or escope_pool_close, which ends
 * the waits. No connection is ever destroyed while somebody holds it.
 *
 * Ownership: takes nothing; the pool is still to be freed.
 *
 * @param pool       the pool.
 * @param timeout_ns longest wait; 0: do not wait; UINT64_MAX: for ever.
 * @return OK: nothing is left; POOL_TIMEOUT; FORKED; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently; not in a signal handler. May block: waits, and runs `create` for those who
 * wait and `destroy`. A signal does not end the wait.
 * Since: 0.1.0
 */
escope_status escope_pool_drain(escope_pool *pool,
                                uint64_t timeout_ns);

/**
 * escope_pool_drain with the time-out 0, at a given time; see escope_pool_checkout_at.
 *
 * Ownership: takes nothing.
 *
 * @param pool   the pool.
 * @param now_ns the time.
 * @return as escope_pool_drain.
 *
 * Thread safety: any thread, concurrently. May block: runs `create` for those who wait, and `destroy`.
 * Since: 0.1.0
 */
escope_status escope_pool_drain_at(escope_pool *pool, uint64_t now_ns);

/**
 * Changes the size of a pool while it lives.
 *
 * A larger pool makes connections for those who wait. A smaller one destroys free connections above its capacity at once
 * and others when they come back, and lends none before.
 *
 * Ownership: takes nothing.
 *
 * @param pool         the pool.
 * @param size         connections that are kept.
 * @param max_overflow connections above them that a burst may add; both together 1 to `max_slots` of its options.
 * @return OK; FORKED; INVALID_ARGUMENT naming the argument.
 *
 * Thread safety: any thread, concurrently. May block: runs `destroy`.
 * Since: 0.1.0
 */
escope_status escope_pool_resize(escope_pool *pool,
                                 uint32_t size,
                                 uint32_t max_overflow);

/**
 * escope_pool_resize at a given time; see escope_pool_checkout_at.
 *
 * Ownership: takes nothing.
 *
 * @param pool         the pool.
 * @param size         connections that are kept.
 * @param max_overflow connections above them that a burst may add.
 * @param now_ns       the time.
 * @return as escope_pool_resize.
 *
 * Thread safety: any thread, concurrently. May block: runs `destroy`.
 * Since: 0.1.0
 */
escope_status escope_pool_resize_at(escope_pool *pool, uint32_t size, uint32_t max_overflow, uint64_t now_ns);

/**
 * Has every connection replaced that there is now, as after a password has changed: each is not lent any more from a random
 * instant on, and destroyed when nobody holds it.
 *
 * Ownership: takes nothing.
 *
 * @param pool      the pool.
 * @param spread_ns the instants lie within so much time, that not all are replaced at once; 0: now.
 * @return OK; FORKED; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. May block: runs `destroy`.
 * Since: 0.1.0
 */
escope_status escope_pool_evict(escope_pool *pool,
                                uint64_t spread_ns);

/**
 * escope_pool_evict at a given time; see escope_pool_checkout_at.
 *
 * Ownership: takes nothing.
 *
 * @param pool      the pool.
 * @param spread_ns the instants lie within so much time from `now_ns` on.
 * @param now_ns    the time.
 * @return as escope_pool_evict.
 *
 * Thread safety: any thread, concurrently. May block: runs `destroy`.
 * Since: 0.1.0
 */
escope_status escope_pool_evict_at(escope_pool *pool, uint64_t spread_ns, uint64_t now_ns);

/**
 * Does what time asks for: destroys connections that are surplus, idle or old, tests idle ones, tells of leaks, ends waits
 * that take too long, and makes connections that waiting threads are owed or that `min_idle` asks for.
 *
 * Calls and waiting threads do the same when they come by. A program that wants it done in time calls this once after the
 * pool was made and then at `next_deadline_ns`, from a timer or a thread of its own.
 *
 * Ownership: takes nothing.
 *
 * @param pool             the pool.
 * @param next_deadline_ns receives when to call it next, UINT64_MAX for not before the pool changes; may be NULL.
 * @return OK; FORKED; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. May block: runs all callbacks.
 * Since: 0.1.0
 */
escope_status escope_pool_maintain(escope_pool *pool,
                                   uint64_t *next_deadline_ns);

/**
 * escope_pool_maintain at a given time; see escope_pool_checkout_at.
 *
 * Ownership: takes nothing.
 *
 * @param pool             the pool.
 * @param next_deadline_ns receives when to call it next; may be NULL.
 * @param now_ns           the time.
 * @return as escope_pool_maintain.
 *
 * Thread safety: any thread, concurrently. May block: runs all callbacks.
 * Since: 0.1.0
 */
escope_status escope_pool_maintain_at(escope_pool *pool, uint64_t *next_deadline_ns, uint64_t now_ns);

/* -- Connection pool: statistics ------------------------------------------------------------------------- */

/** The pool takes check-outs. */
#define ESCOPE_POOL_RUNNING 0

/** The pool takes none, and connections or waiting threads are left. */
#define ESCOPE_POOL_DRAINING 1

/** The pool takes none, and nothing is left. */
#define ESCOPE_POOL_CLOSED 2

/**
 * A pool at one instant, and what it has done so far. The numbers reconcile:
 * `requests` is the sum of `granted`, `timed_out`, `cancelled`, `exhausted`, `queue_full`, `closed`, `shed`,
 * `create_failed` and `waiting`; `granted` is the sum of `returned`, `broken` and `leased`.
 */
typedef struct escope_pool_stats {
    /** Size of this struct as the program was compiled; set it before the call. */
    size_t struct_size;
    /** Check-outs asked for. */
    uint64_t requests;
    /** Connections lent. */
    uint64_t granted;
    /** Check-outs that ran out of time. */
    uint64_t timed_out;
    /** Check-outs that were given up. */
    uint64_t cancelled;
    /** Check-outs that did not wait and found nothing. */
    uint64_t exhausted;
    /** Check-outs that found too many waiting. */
    uint64_t queue_full;
    /** Check-outs that found the pool closed or were waiting when it was. */
    uint64_t closed;
    /** Check-outs that a failed creation ended. */
    uint64_t create_failed;
    /** Check-outs whose wait was ended because all waits had become too long. */
    uint64_t shed;
    /** Connections returned good. */
    uint64_t returned;
    /** Connections returned broken. */
    uint64_t broken;
    /** Connections made. */
    uint64_t created;
    /** Creations that failed. */
    uint64_t create_errors;
    /** Connections destroyed or being destroyed. */
    uint64_t destroyed;
    /** Resets and tests that connections passed. */
    uint64_t checks_passed;
    /** Resets and tests that connections failed, those that took too long among them. */
    uint64_t checks_failed;
    /** Connections that were tested before they were lent. */
    uint64_t pre_pings;
    /** Leases that lasted too long. */
    uint64_t leaks;
    /** Time that granted waits took, together. */
    uint64_t queue_ns;
    /** Time that the longest of them took. */
    uint64_t longest_queue_ns;
    /** Time that ended leases took, together; 0 without `measure` or `leak_after_ns`. */
    uint64_t use_ns;
    /** When escope_pool_maintain has something to do; UINT64_MAX for never. */
    uint64_t next_deadline_ns;
    /** Connections that are kept. */
    uint32_t size;
    /** Most connections: `size` and `max_overflow`. */
    uint32_t capacity;
    /** Free connections. */
    uint32_t idle;
    /** Connections on loan. */
    uint32_t leased;
    /** Connections being made. */
    uint32_t creating;
    /** Connections being reset or tested. */
    uint32_t checking;
    /** Connections being destroyed. */
    uint32_t closing;
    /** Threads waiting. */
    uint32_t waiting;
    /** Connections above `size`. */
    uint32_t overflow;
    /** Creations that failed in a row. */
    uint32_t failing;
    /** ESCOPE_POOL_*: where the pool is in its life. */
    int32_t phase;
    /** 0. */
    uint32_t reserved;
} escope_pool_stats;

/**
 * Sets a statistics struct to zero and to its size.
 *
 * Ownership: `stats` stays the caller's.
 *
 * @param stats the struct to set.
 * @param size  `sizeof *stats`.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_pool_stats_init(struct escope_pool_stats *stats, size_t size);

/**
 * Reads a pool's state and counters, all of one instant.
 *
 * Ownership: `stats` stays the caller's.
 *
 * @param pool  the pool.
 * @param stats receives the numbers; escope_pool_stats_init sets it up.
 * @return OK; FORKED; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. May block: runs `destroy` where a close in another thread left more
 * than it could carry at once.
 * Since: 0.1.0
 */
escope_status escope_pool_snapshot(const escope_pool *pool,
                                   struct escope_pool_stats *stats);

#ifdef __cplusplus
}
#endif

#endif /* ELIXIRSCOPE_H */
