/* Generated from src/capi by `make header`. Do not edit. SPDX-License-Identifier: Apache-2.0 */

/*
 * elixirscope: circuit breaker, token-bucket rate limiter and connection pool.
 *
 * THE MODEL. Three kinds of opaque objects, each shared by all threads of a process: an escope_breaker says
 * whether a call may be made and learns how calls end; an escope_limiter says whether a key may do something
 * now; an escope_pool lends connections. Breaker and limiter never block and never lock. The library keeps
 * state per process, starts no thread, logs nothing and installs no signal handler.
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
 * object after that is undefined. _free(NULL) does nothing. Permits and leases are plain values in the
 * caller's memory: nothing to free.
 *
 * STRUCTS THAT GROW start with struct_size. Options: call _init(&options, sizeof options), change what you need; what
 * the library does not know must be zero. Statistics: set struct_size or call _init, then read.
 *
 * THREADS. Every function may be called from any thread at any time, but _free only when no other call relies
 * on the same reference. Only what says "may block" blocks: escope_pool_checkout, and what runs the
 * callbacks of a pool. A signal never ends a wait and no function fails with EINTR. Functions marked
 * async-signal-safe, and no others, may be called in a signal handler.
 *
 * PROCESSES. Each process has its own objects. After fork() the child has copies of breakers and limiters as they
 * were, and may use them. A pool's connections stay the parent's: in the child every call on it returns
 * ESCOPE_STATUS_FORKED, but escope_pool_free, which drops the child's copy without calling `destroy`.
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
    /** Too many callers wait for a connection already. */
    ESCOPE_STATUS_QUEUE_FULL = 9,
    /** The permit belongs to an earlier generation of the breaker; it changed nothing. */
    ESCOPE_STATUS_STALE = 10,
    /** The probe's lease had run out; it was already counted as a failure. */
    ESCOPE_STATUS_EXPIRED = 11,
    /** An argument is invalid. */
    ESCOPE_STATUS_INVALID_ARGUMENT = -1,
    /** The permit was recorded before. */
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

/* -- Circuit breaker ------------------------------------------------------------------------------------- */

/** The call succeeded. */
#define ESCOPE_OUTCOME_SUCCESS 0

/** The call failed. */
#define ESCOPE_OUTCOME_FAILURE 1

/** The call says nothing about the health of what it called, such as a refused argument. */
#define ESCOPE_OUTCOME_IGNORED 2

/** Calls pass, failures are counted. */
#define ESCOPE_PHASE_CLOSED 0

/** Calls are refused. */
#define ESCOPE_PHASE_OPEN 1

/** A few calls pass as probes. */
#define ESCOPE_PHASE_HALF_OPEN 2

/** So many failures in a row that the breaker opened. */
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

/** A circuit breaker. Opaque; shared by any number of threads. */
typedef struct escope_breaker escope_breaker;

/** How a breaker behaves. Set it up with escope_breaker_options_init, then change what you need. */
typedef struct escope_breaker_options {
    /** Size of this struct as the program was compiled. */
    size_t struct_size;
    /** How long an open breaker refuses every call, in nanoseconds. Default 30 s. */
    uint64_t open_for_ns;
    /** How long a probe may take before it counts as failed, in nanoseconds. Default 60 s. */
    uint64_t probe_lease_ns;
    /** Failures in a row that open the breaker. Default 5. */
    uint32_t failure_threshold;
    /** Probes that a half-open breaker admits, 1 to 64. Default 1. */
    uint32_t half_open_permits;
    /** Successful probes that close the breaker, 1 to `half_open_permits`. Default 1. */
    uint32_t successes_to_close;
    /** Must be 0. */
    uint32_t reserved;
} escope_breaker_options;

/**
 * The right to make one call, in the caller's memory. Its fields are private to the library; do not copy
 * the struct, for a copy is a second permit that only a half-open breaker would notice.
 */
typedef struct escope_permit {
    /** Private. */
    uint64_t private_breaker;
    /** Private. */
    uint32_t private_generation;
    /** Private. */
    uint32_t private_slot;
    /** Private. */
    uint32_t private_epoch;
    /** Private. */
    uint32_t private_reserved[2];
    /** Private; an atomic. */
    uint32_t private_state;
} escope_permit;

/** A change of a breaker's phase. A reset of a closed breaker is an event from closed to closed. */
typedef struct escope_event {
    /** Time of the call that caused it. */
    uint64_t at_ns;
    /** 1 for a breaker's first event, then one more each, without gaps. */
    uint32_t sequence;
    /** Generation that the breaker entered. */
    uint32_t generation;
    /** ESCOPE_PHASE_* before. */
    int32_t from;
    /** ESCOPE_PHASE_* after. */
    int32_t to;
    /** ESCOPE_CAUSE_*. */
    int32_t cause;
    /** 0. */
    uint32_t reserved;
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

/** What a breaker has seen so far, and where it stands. */
typedef struct escope_breaker_stats {
    /** Size of this struct as the program was compiled; set it before the call. */
    size_t struct_size;
    /** Nanoseconds until an acquire may be admitted; 0 if it may be now. */
    uint64_t retry_after_ns;
    /** Calls admitted, probes among them. */
    uint64_t admitted;
    /** Outcomes recorded as success. */
    uint64_t succeeded;
    /** Outcomes recorded as failure. */
    uint64_t failed;
    /** Outcomes recorded as ignored. */
    uint64_t ignored;
    /** Calls refused because the breaker was open. */
    uint64_t rejected_open;
    /** Calls refused because all probes were taken. */
    uint64_t rejected_half_open;
    /** Records whose permit was of an earlier generation. */
    uint64_t stale;
    /** Records of probes whose lease had run out. */
    uint64_t expired;
    /** ESCOPE_PHASE_*. */
    int32_t phase;
    /** Number of transitions so far, modulo 2^32. */
    uint32_t generation;
    /** Failures in a row. */
    uint32_t consecutive_failures;
    /** Times the breaker opened since it was last closed. */
    uint32_t opens;
    /** Probes that are admitted and not yet recorded. */
    uint32_t live_probes;
    /** 0. */
    uint32_t reserved;
} escope_breaker_stats;

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
escope_status escope_breaker_new(const struct escope_breaker_options *options,
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

/**
 * Asks whether a call may be made now.
 *
 * Ownership: `permit` is the caller's memory, 32 bytes; it may move to another thread, and it may be dropped
 * without a record (a dropped probe counts as failed when its lease ends).
 *
 * @param breaker        the breaker.
 * @param permit         receives the permit on OK, to be given to escope_breaker_record once.
 * @param retry_after_ns receives, on a refusal, the time until a call may pass, else 0; may be NULL.
 * @param events         receives the events the call caused, on OK and on a refusal; may be NULL.
 * @return OK: make the call; CIRCUIT_OPEN, HALF_OPEN_FULL: do not; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_acquire(struct escope_breaker *breaker,
                                     struct escope_permit *permit,
                                     uint64_t *retry_after_ns,
                                     struct escope_events *events);

/**
 * escope_breaker_acquire at a given time.
 *
 * @param breaker        the breaker.
 * @param permit         receives the permit on OK.
 * @param retry_after_ns receives, on a refusal, the time until a call may pass, else 0; may be NULL.
 * @param events         receives the events the call caused, on OK and on a refusal; may be NULL.
 * @param now_ns         the time; one that goes back is never more generous.
 * @return as escope_breaker_acquire.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_acquire_at(struct escope_breaker *breaker,
                                        struct escope_permit *permit,
                                        uint64_t *retry_after_ns,
                                        struct escope_events *events,
                                        uint64_t now_ns);

/**
 * Says how the call of a permit ended.
 *
 * Ownership: uses the permit up, on every result but INVALID_ARGUMENT; its memory stays the caller's.
 *
 * @param breaker the breaker that gave the permit.
 * @param permit  the permit.
 * @param outcome ESCOPE_OUTCOME_SUCCESS, _FAILURE or _IGNORED.
 * @param events  receives the events the call caused, on OK and on a refusal; may be NULL.
 * @return OK; STALE: the breaker has changed since, nothing was counted; EXPIRED: the probe's lease had run out and
 *         it counted as failed already; ALREADY_DONE: recorded before, by another thread perhaps;
 *         INVALID_ARGUMENT: not a permit, a permit of another breaker, no such outcome.
 *
 * Thread safety: any thread, concurrently; of several records of one permit one counts. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_record(struct escope_breaker *breaker,
                                    struct escope_permit *permit,
                                    int32_t outcome,
                                    struct escope_events *events);

/**
 * escope_breaker_record at a given time.
 *
 * @param breaker the breaker that gave the permit.
 * @param permit  the permit.
 * @param outcome ESCOPE_OUTCOME_SUCCESS, _FAILURE or _IGNORED.
 * @param events  receives the events the call caused, on OK and on a refusal; may be NULL.
 * @param now_ns  the time.
 * @return as escope_breaker_record.
 *
 * Thread safety: any thread, concurrently; of several records of one permit one counts. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_record_at(struct escope_breaker *breaker,
                                       struct escope_permit *permit,
                                       int32_t outcome,
                                       struct escope_events *events,
                                       uint64_t now_ns);

/**
 * Closes a breaker and forgets its failures. Permits given out before become stale.
 *
 * Ownership: takes nothing.
 *
 * @param breaker the breaker.
 * @param events  receives the event; may be NULL.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_reset(struct escope_breaker *breaker, struct escope_events *events);

/**
 * escope_breaker_reset at a given time.
 *
 * @param breaker the breaker.
 * @param events  receives the event; may be NULL.
 * @param now_ns  the time.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_reset_at(struct escope_breaker *breaker,
                                      struct escope_events *events,
                                      uint64_t now_ns);

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
 * exact while no call is under way.
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
escope_status escope_breaker_snapshot(const struct escope_breaker *breaker,
                                      struct escope_breaker_stats *stats);

/**
 * escope_breaker_snapshot at a given time.
 *
 * @param breaker the breaker.
 * @param stats   receives the numbers; escope_breaker_stats_init sets it up.
 * @param now_ns  the time.
 * @return OK; INVALID_ARGUMENT.
 *
 * Thread safety: any thread, concurrently. Never blocks.
 * Since: 0.1.0
 */
escope_status escope_breaker_snapshot_at(const struct escope_breaker *breaker,
                                         struct escope_breaker_stats *stats,
                                         uint64_t now_ns);

#ifdef __cplusplus
}
#endif

#endif /* ELIXIRSCOPE_H */
