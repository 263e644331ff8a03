/* A breaker for tests, and a call of it that fails. */
#ifndef ESCOPE_TEST_BREAKER_H
#define ESCOPE_TEST_BREAKER_H

#include "check.h"

static inline escope_breaker_options default_options(void) {
    escope_breaker_options options;
    OK(escope_breaker_options_init(&options, sizeof options));
    return options;
}

static inline escope_breaker *breaker_of(const escope_breaker_options *options) {
    escope_breaker *breaker = NULL;
    OK(escope_breaker_new(options, &breaker));
    return breaker;
}

static inline escope_breaker *breaker_with(uint32_t threshold, uint32_t permits, uint64_t open_for_ns) {
    escope_breaker_options options = default_options();
    options.failure_threshold = threshold;
    options.half_open_permits = permits;
    options.open_for_ns = open_for_ns;
    options.probe_lease_ns = 50;
    return breaker_of(&options);
}

static inline escope_breaker_stats stats_at(escope_breaker *breaker, uint64_t now_ns) {
    escope_breaker_stats stats = {.struct_size = sizeof stats};
    OK(escope_breaker_snapshot_at(breaker, &stats, now_ns));
    CHECK(stats.struct_size == sizeof stats && stats.reserved == 0);
    return stats;
}

/* Makes a call that ends so, at once. */
static inline void call_at(escope_breaker *breaker, int32_t outcome, escope_events *events, uint64_t now_ns) {
    escope_permit permit;
    OK(escope_breaker_acquire_at(breaker, &permit, NULL, NULL, now_ns));
    OK(escope_breaker_record_at(breaker, &permit, outcome, events, now_ns));
}

static inline void fail_at(escope_breaker *breaker, escope_events *events, uint64_t now_ns) {
    call_at(breaker, ESCOPE_OUTCOME_FAILURE, events, now_ns);
}

#endif
