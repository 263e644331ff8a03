/* C's side of the rows that compare it with Rust, as a program would have it: linked to the installed library. */
#include <elixirscope.h>
#include <stddef.h>

static escope_breaker *breaker;

/* Makes what the rows use; 0 if that went well. */
int32_t escope_rows_begin(void) { return escope_breaker_new(NULL, &breaker); }

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
