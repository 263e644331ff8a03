/* Faults on purpose: built and run only with a library that has them. */
#define ESCOPE_FAULT_INJECTION
#include "breaker.h"

/* How many of a hundred calls fail on purpose, each bit of `pattern` one of the first 64. */
static int injected(uint32_t failure_bp, uint64_t seed, uint64_t *pattern) {
    escope_breaker_options options = default_options();
    options.failure_threshold = 1000;
    escope_breaker *breaker = breaker_of(&options);
    int count = 0;
    *pattern = 0;
    OK(escope_breaker_inject_faults(breaker, failure_bp, 0, 0, seed));
    for (int call = 0; call < 100; call++) {
        escope_permit permit;
        uint64_t retry_after_ns;
        escope_status status = escope_breaker_acquire_at(breaker, &permit, &retry_after_ns, NULL, 1);
        if (status == ESCOPE_STATUS_FAULT_INJECTED) {
            CHECK(retry_after_ns > 0);
            *pattern |= call < 64 ? UINT64_C(1) << call : 0;
            count++;
        } else {
            OK(status);
            OK(escope_breaker_record_at(breaker, &permit, ESCOPE_OUTCOME_IGNORED, NULL, 1));
        }
    }
    escope_breaker_stats stats = stats_at(breaker, 1);
    CHECK(stats.injected == (uint64_t)count && stats.failures == (uint64_t)count);
    CHECK(stats.admitted + stats.injected == 100);
    escope_breaker_free(breaker);
    return count;
}

static void a_share_of_the_calls_fails(void) {
    uint64_t pattern, again, other;
    CHECK(injected(0, 1, &pattern) == 0 && injected(10000, 1, &pattern) == 100);
    int count = injected(3000, 1, &pattern);
    CHECK(count > 5 && count < 70);
    CHECK(injected(3000, 1, &again) == count && again == pattern);
    injected(3000, 2, &other);
    CHECK(other != pattern);
}

/* They count as failures, and end when the shares are 0 again. */
static void injected_failures_open(void) {
    escope_breaker *breaker = breaker_with(2, 1, 100);
    escope_permit permit;
    escope_events events;
    OK(escope_breaker_inject_faults(breaker, 10000, 0, 0, 0));
    EXPECT(ESCOPE_STATUS_FAULT_INJECTED, escope_breaker_acquire_at(breaker, &permit, NULL, NULL, 1));
    EXPECT(ESCOPE_STATUS_FAULT_INJECTED, escope_breaker_acquire_at(breaker, &permit, NULL, &events, 2));
    CHECK(events.count == 1 && events.items[0].to == ESCOPE_PHASE_OPEN && events.items[0].at_ns == 2);
    EXPECT(ESCOPE_STATUS_CIRCUIT_OPEN, escope_breaker_acquire_at(breaker, &permit, NULL, NULL, 3));
    /* A probe is no call of a closed breaker. */
    call_at(breaker, ESCOPE_OUTCOME_SUCCESS, NULL, 102);
    OK(escope_breaker_inject_faults(breaker, 0, 0, 0, 0));
    call_at(breaker, ESCOPE_OUTCOME_SUCCESS, NULL, 103);
    escope_breaker_free(breaker);
}

/* The delay is waited out before the call is admitted, so a measured call becomes slow by it. */
static void injected_delays_are_waited_out(void) {
    const uint64_t delay_ns = 20000000;
    escope_breaker_options options = default_options();
    options.policy = ESCOPE_POLICY_RATE_COUNT;
    options.slow_call_ns = delay_ns / 2;
    escope_breaker *breaker = breaker_of(&options);
    escope_permit permit;
    OK(escope_breaker_inject_faults(breaker, 0, 10000, delay_ns, 0));
    uint64_t before = escope_clock_now_ns();
    OK(escope_breaker_acquire(breaker, &permit, NULL, NULL));
    CHECK(escope_clock_now_ns() - before >= delay_ns);
    OK(escope_breaker_record(breaker, &permit, ESCOPE_OUTCOME_SUCCESS, NULL));
    CHECK(stats_at(breaker, escope_clock_now_ns()).slow_calls == 1);
    escope_breaker_free(breaker);
}

static void nonsense_is_refused(void) {
    escope_breaker *breaker = breaker_with(1, 1, 100);
    INVALID("`breaker` is NULL", escope_breaker_inject_faults(NULL, 0, 0, 0, 0));
    INVALID("`failure_bp` is 10001", escope_breaker_inject_faults(breaker, 10001, 0, 0, 0));
    INVALID("`delay_bp` is 4294967295", escope_breaker_inject_faults(breaker, 0, UINT32_MAX, 0, 0));
    INVALID("`delay_ns` is 18446744073709551615", escope_breaker_inject_faults(breaker, 0, 1, UINT64_MAX, 0));
    call_at(breaker, ESCOPE_OUTCOME_SUCCESS, NULL, 1);
    escope_breaker_free(breaker);
}

int main(void) {
    a_share_of_the_calls_fails();
    injected_failures_open();
    injected_delays_are_waited_out();
    nonsense_is_refused();
    return 0;
}
