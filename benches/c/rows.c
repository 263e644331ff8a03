/* C's side of the rows that compare it with Rust, as a program would have it: linked to the installed library. */
#include <elixirscope.h>
#include <stddef.h>

static escope_breaker *breaker;
static escope_limiter *limiter;

/* Makes what the rows use; 0 if that went well. */
int32_t escope_rows_begin(void) {
    escope_status status = escope_breaker_new(NULL, &breaker);
    return status == ESCOPE_STATUS_OK ? escope_limiter_new(NULL, &limiter) : status;
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
