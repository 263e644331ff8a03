/* C's side of the rows that compare it with Rust, as a program would have it: linked to the installed library. */
#include <elixirscope.h>
#include <stddef.h>

static escope_breaker *breaker;
static escope_limiter *limiter;
static escope_pool *pool;

static const uint64_t SECOND = UINT64_C(1000000000);

/* The connection is a number, as in the pool's row of Rust. */
static int32_t make_number(void *number, uint64_t deadline_ns, void **connection) {
    (void)deadline_ns;
    *connection = number;
    return 0;
}

static void drop_number(void *number, void *connection) {
    (void)number;
    (void)connection;
}

/* Makes what the rows use; 0 if that went well. */
int32_t escope_rows_begin(void) {
    static uint64_t number = 1;
    escope_pool_options options;
    escope_status status = escope_breaker_new(NULL, &breaker);
    if (status == ESCOPE_STATUS_OK) {
        status = escope_limiter_new(NULL, &limiter);
    }
    if (status == ESCOPE_STATUS_OK) {
        status = escope_pool_options_init(&options, sizeof options);
    }
    if (status != ESCOPE_STATUS_OK) {
        return status;
    }
    options.size = 10;
    options.create = make_number;
    options.destroy = drop_number;
    options.userdata = &number;
    return escope_pool_new(&options, &pool);
}

/* Asks and records so many times; how many calls were admitted and counted. */
uint64_t escope_rows_breaker(uint64_t repeats) {
    uint64_t admitted = 0;
    for (uint64_t turn = 0; turn < repeats; turn++) {
        escope_permit permit;
        if (escope_breaker_acquire(breaker, &permit, NULL, NULL) == ESCOPE_STATUS_OK &&
            escope_breaker_record(breaker, &permit, ESCOPE_OUTCOME_SUCCESS, NULL) == ESCOPE_STATUS_OK) {
            admitted++;
        }
    }
    return admitted;
}

/* Checks one key so many times; how many checks were admitted and said what remains. */
uint64_t escope_rows_limiter(uint64_t repeats) {
    const escope_rule rule = {UINT64_C(1000000000), UINT64_C(1000000000), UINT64_C(4000000000)};
    uint64_t admitted = 0;
    for (uint64_t turn = 0; turn < repeats; turn++) {
        escope_decision decision;
        if (escope_limiter_check(limiter, "user:0", 6, &rule, 1, &decision) == ESCOPE_STATUS_OK &&
            decision.remaining > 0) {
            admitted++;
        }
    }
    return admitted;
}

/* Checks a connection out and back in so many times; how often that went well. */
uint64_t escope_rows_pool(uint64_t repeats) {
    uint64_t granted = 0;
    for (uint64_t turn = 0; turn < repeats; turn++) {
        escope_lease lease;
        void *connection;
        if (escope_pool_checkout(pool, SECOND, &lease, &connection) == ESCOPE_STATUS_OK && *(uint64_t *)connection == 1 &&
            escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_GOOD) == ESCOPE_STATUS_OK) {
            granted++;
        }
    }
    return granted;
}
