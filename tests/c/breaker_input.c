/* Everything that a caller of the breaker can get wrong. */
#include "breaker.h"

#include <pthread.h>

static void a_permit_is_used_once(void) {
    escope_breaker *breaker = breaker_with(1, 2, 100), *other = breaker_with(1, 1, 100);
    escope_permit permit, zeros, copy;
    memset(&zeros, 0, sizeof zeros);
    CHECK(sizeof permit == 32);

    INVALID("memory without a permit", escope_breaker_record(breaker, &zeros, 0, NULL));
    OK(escope_breaker_acquire(breaker, &permit, NULL, NULL));
    INVALID("a permit of breaker number", escope_breaker_record(other, &permit, 0, NULL));
    INVALID("`outcome` is 5", escope_breaker_record(breaker, &permit, 5, NULL));
    INVALID("`outcome` is -2147483648", escope_breaker_record(breaker, &permit, INT32_MIN, NULL));
    OK(escope_breaker_record(breaker, &permit, ESCOPE_OUTCOME_IGNORED, NULL));
    EXPECT(ESCOPE_STATUS_ALREADY_DONE, escope_breaker_record(breaker, &permit, 0, NULL));
    CHECK(strstr(last_error(), "recorded before") != NULL);

    /* A probe is guarded by its slot as well: a copied one counts once. */
    fail_at(breaker, NULL, 0);
    OK(escope_breaker_acquire_at(breaker, &permit, NULL, NULL, 100));
    memcpy(&copy, &permit, sizeof copy);
    OK(escope_breaker_record_at(breaker, &permit, ESCOPE_OUTCOME_IGNORED, NULL, 101));
    EXPECT(ESCOPE_STATUS_ALREADY_DONE,
           escope_breaker_record_at(breaker, &copy, ESCOPE_OUTCOME_FAILURE, NULL, 101));
    escope_breaker_free(other);
    escope_breaker_free(breaker);
}

/* Fields that no acquire wrote decide nothing, whatever they are. */
static void a_forged_permit_decides_nothing(void) {
    escope_breaker *breaker = breaker_with(1, 1, 100);
    escope_permit probe, forged;
    fail_at(breaker, NULL, 0);
    OK(escope_breaker_acquire_at(breaker, &probe, NULL, NULL, 100));

    forged = probe;
    forged.private_slot = 63;
    EXPECT(ESCOPE_STATUS_PERMIT_NOT_FOUND, escope_breaker_record_at(breaker, &forged, 0, NULL, 101));
    CHECK(strstr(last_error(), "`permit` is a probe that this breaker never granted") != NULL);
    EXPECT(ESCOPE_STATUS_ALREADY_DONE, escope_breaker_record_at(breaker, &forged, 0, NULL, 101));
    forged = probe;
    forged.private_epoch++;
    EXPECT(ESCOPE_STATUS_PERMIT_NOT_FOUND, escope_breaker_record_at(breaker, &forged, 0, NULL, 101));
    forged = probe;
    forged.private_generation += 7;
    CHECK(escope_breaker_record_at(breaker, &forged, 0, NULL, 101) != ESCOPE_STATUS_OK);
    forged = probe;
    forged.private_slot = UINT32_MAX;
    EXPECT(ESCOPE_STATUS_STALE, escope_breaker_record_at(breaker, &forged, 0, NULL, 101));

    CHECK(stats_at(breaker, 101).phase == ESCOPE_PHASE_HALF_OPEN);
    OK(escope_breaker_record_at(breaker, &probe, ESCOPE_OUTCOME_SUCCESS, NULL, 102));
    CHECK(stats_at(breaker, 102).phase == ESCOPE_PHASE_CLOSED);
    escope_breaker_free(breaker);
}

enum { RACERS = 4, ROUNDS = 300 };

struct race {
    escope_breaker *breaker;
    escope_permit permit;
    pthread_barrier_t start, end;
    int applied[RACERS];
};

struct racer {
    struct race *race;
    int number;
};

static void *records_each_round(void *argument) {
    struct racer *racer = argument;
    struct race *race = racer->race;
    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&race->start);
        escope_status status = escope_breaker_record(race->breaker, &race->permit, ESCOPE_OUTCOME_SUCCESS, NULL);
        race->applied[racer->number] = status == ESCOPE_STATUS_OK;
        CHECK(status == ESCOPE_STATUS_OK || status == ESCOPE_STATUS_ALREADY_DONE);
        pthread_barrier_wait(&race->end);
    }
    return NULL;
}

/* A permit of a closed breaker is guarded by its own state alone, a probe by its slot as well. */
static void of_racing_records_one_counts(int probes) {
    struct race race;
    struct racer racers[RACERS];
    pthread_t threads[RACERS];
    escope_breaker_options options = default_options();
    options.failure_threshold = 1;
    options.open_for_ns = 0; /* so the next acquire gets a probe */
    race.breaker = breaker_of(&options);
    pthread_barrier_init(&race.start, NULL, RACERS + 1);
    pthread_barrier_init(&race.end, NULL, RACERS + 1);
    for (int i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){&race, i};
        CHECK(pthread_create(&threads[i], NULL, records_each_round, &racers[i]) == 0);
    }
    for (int round = 0; round < ROUNDS; round++) {
        if (probes) {
            OK(escope_breaker_report(race.breaker, ESCOPE_OUTCOME_FAILURE, NULL));
        }
        OK(escope_breaker_acquire(race.breaker, &race.permit, NULL, NULL));
        pthread_barrier_wait(&race.start);
        pthread_barrier_wait(&race.end);
        int applied = 0;
        for (int i = 0; i < RACERS; i++) {
            applied += race.applied[i];
        }
        CHECK(applied == 1 && stats_at(race.breaker, 0).phase == ESCOPE_PHASE_CLOSED);
    }
    for (int i = 0; i < RACERS; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_barrier_destroy(&race.start);
    pthread_barrier_destroy(&race.end);
    escope_breaker_free(race.breaker);
}

/* Each function that takes a breaker, without one. */
static void a_missing_breaker_is_refused_by_name(void) {
    escope_breaker_options options = default_options();
    escope_breaker_stats stats = {.struct_size = sizeof stats};
    escope_permit permit = {0};
    INVALID("`breaker` is NULL", escope_breaker_acquire(NULL, &permit, NULL, NULL));
    INVALID("`breaker` is NULL", escope_breaker_acquire_at(NULL, &permit, NULL, NULL, 0));
    INVALID("`breaker` is NULL", escope_breaker_record(NULL, &permit, 0, NULL));
    INVALID("`breaker` is NULL", escope_breaker_record_at(NULL, &permit, 0, NULL, 0));
    INVALID("`breaker` is NULL", escope_breaker_report(NULL, 0, NULL));
    INVALID("`breaker` is NULL", escope_breaker_report_at(NULL, 0, NULL, 0));
    INVALID("`breaker` is NULL", escope_breaker_settle(NULL, NULL));
    INVALID("`breaker` is NULL", escope_breaker_settle_at(NULL, NULL, 0));
    INVALID("`breaker` is NULL", escope_breaker_reset(NULL, NULL));
    INVALID("`breaker` is NULL", escope_breaker_reset_at(NULL, NULL, 0));
    INVALID("`breaker` is NULL", escope_breaker_set_mode(NULL, 0, NULL));
    INVALID("`breaker` is NULL", escope_breaker_set_mode_at(NULL, 0, NULL, 0));
    INVALID("`breaker` is NULL", escope_breaker_reconfigure(NULL, &options, NULL));
    INVALID("`breaker` is NULL", escope_breaker_reconfigure_at(NULL, &options, NULL, 0));
    INVALID("`breaker` is NULL", escope_breaker_reinstall(NULL, &options, NULL));
    INVALID("`breaker` is NULL", escope_breaker_reinstall_at(NULL, &options, NULL, 0));
    INVALID("`breaker` is NULL", escope_breaker_snapshot(NULL, &stats));
    INVALID("`breaker` is NULL", escope_breaker_snapshot_at(NULL, &stats, 0));
    CHECK(escope_breaker_ref(NULL) == NULL);
    escope_breaker_free(NULL);
}

static void other_pointers_are_refused_by_name(void) {
    escope_breaker *breaker = breaker_with(1, 1, 100);
    escope_breaker_options options = default_options();
    escope_permit permit;
    escope_events *const odd = (escope_events *)(uintptr_t)1;
    INVALID("`out` is NULL", escope_breaker_new(NULL, NULL));
    INVALID("`options` is 0x", escope_breaker_new((escope_breaker_options *)(uintptr_t)1, &breaker));
    INVALID("`options` is NULL", escope_breaker_options_init(NULL, sizeof options));
    INVALID("`stats` is NULL", escope_breaker_stats_init(NULL, sizeof(escope_breaker_stats)));
    INVALID("`permit` is NULL", escope_breaker_acquire(breaker, NULL, NULL, NULL));
    INVALID("`retry_after_ns` is 0x", escope_breaker_acquire(breaker, &permit, (uint64_t *)(uintptr_t)1, NULL));
    INVALID("`permit` is NULL", escope_breaker_record(breaker, NULL, 0, NULL));
    INVALID("`permit` is 0x", escope_breaker_record(breaker, (escope_permit *)(uintptr_t)1, 0, NULL));
    INVALID("`stats` is NULL", escope_breaker_snapshot(breaker, NULL));
    INVALID("`options` is NULL", escope_breaker_reconfigure(breaker, NULL, NULL));
    INVALID("`options` is NULL", escope_breaker_reinstall(breaker, NULL, NULL));

    INVALID("`events` is 0x", escope_breaker_acquire(breaker, &permit, NULL, odd));
    OK(escope_breaker_acquire(breaker, &permit, NULL, NULL));
    INVALID("`events` is 0x", escope_breaker_record(breaker, &permit, 0, odd));
    INVALID("`events` is 0x", escope_breaker_report(breaker, 0, odd));
    INVALID("`events` is 0x", escope_breaker_settle(breaker, odd));
    INVALID("`events` is 0x", escope_breaker_reset(breaker, odd));
    INVALID("`events` is 0x", escope_breaker_set_mode(breaker, ESCOPE_MODE_FORCED_OPEN, odd));
    INVALID("`events` is 0x", escope_breaker_reconfigure(breaker, &options, odd));
    INVALID("`events` is 0x", escope_breaker_reinstall(breaker, &options, odd));
    /* None of them did anything: the permit is good for its one record. */
    OK(escope_breaker_record(breaker, &permit, ESCOPE_OUTCOME_SUCCESS, NULL));
    CHECK(stats_at(breaker, 0).generation == 1 && stats_at(breaker, 0).mode == ESCOPE_MODE_AUTO);
    escope_breaker_free(breaker);
}

static void unknown_numbers_are_refused(void) {
    escope_breaker *breaker = breaker_with(1, 1, 100);
    INVALID("`mode` is 4, allowed is 0 (auto), 1 (forced open)", escope_breaker_set_mode(breaker, 4, NULL));
    INVALID("`mode` is -1", escope_breaker_set_mode_at(breaker, -1, NULL, 0));
    INVALID("`outcome` is 5, allowed is 0 (success)", escope_breaker_report(breaker, 5, NULL));
    INVALID("`outcome` is 2147483647", escope_breaker_report_at(breaker, INT32_MAX, NULL, 0));
    CHECK(stats_at(breaker, 0).generation == 1 && stats_at(breaker, 0).reported == 0);

    CHECK(strcmp(escope_breaker_cause_str(ESCOPE_CAUSE_FAILURE_RATE), "failure_rate") == 0);
    CHECK(strcmp(escope_breaker_cause_str(ESCOPE_CAUSE_WOULD_OPEN), "would_open") == 0);
    CHECK(strcmp(escope_breaker_cause_str(0), "none") == 0);
    CHECK(strcmp(escope_breaker_cause_str(16), "unknown") == 0);
    CHECK(strcmp(escope_breaker_cause_str(INT32_MIN), "unknown") == 0);
    escope_breaker_free(breaker);
}

/* Refused at a creation, and by a breaker that runs, which stays as it was. */
static void refused(const char *text, const escope_breaker_options *options, escope_breaker *running) {
    escope_breaker *const untouched = (escope_breaker *)(uintptr_t)16;
    escope_breaker *breaker = untouched;
    INVALID(text, escope_breaker_new(options, &breaker));
    CHECK(breaker == untouched);
    INVALID(text, escope_breaker_reconfigure_at(running, options, NULL, 0));
    INVALID(text, escope_breaker_reinstall_at(running, options, NULL, 0));
    CHECK(stats_at(running, 0).generation == 1);
}

static void options_are_checked(void) {
    escope_breaker *running = breaker_with(1, 1, 100);
    escope_breaker_options options;
#define REFUSED_WITH(text, with, field, value)                                                               \
    options = default_options();                                                                             \
    with;                                                                                                    \
    options.field = (value);                                                                                 \
    refused(text, &options, running)
#define REFUSED(text, field, value) REFUSED_WITH(text, (void)0, field, value)
#define REFUSED_IN(in, text, field, value) REFUSED_WITH(text, options.policy = ESCOPE_POLICY_##in, field, value)

    REFUSED("`struct_size` is 0", struct_size, 0);
    REFUSED("`struct_size` is 199", struct_size, sizeof options - 1);
    REFUSED("`struct_size` is 18446744073709551615", struct_size, SIZE_MAX);
    REFUSED("`policy` is 4, allowed is 0 (consecutive failures)", policy, 4);
    REFUSED("`policy` is -1", policy, -1);
    REFUSED("`strategy` is 2, allowed is 0 (fail fast)", strategy, 2);
    REFUSED("`failure_threshold` is 0", failure_threshold, 0);
    REFUSED("`failure_threshold` is 4294967295", failure_threshold, UINT32_MAX);
    REFUSED_IN(FAILURES_IN_PERIOD, "`tolerated_failures` is 65536", tolerated_failures, 65536);
    REFUSED_IN(FAILURES_IN_PERIOD, "`period_ns` is 0", period_ns, 0);
    REFUSED_IN(FAILURES_IN_PERIOD, "`period_ns` is 4611686018427387904", period_ns, UINT64_C(1) << 62);
    REFUSED_IN(RATE_COUNT, "`window_size` is 0", window_size, 0);
    REFUSED_IN(RATE_COUNT, "`window_size` is 65536", window_size, 65536);
    REFUSED_IN(RATE_COUNT, "`min_calls` is 0", min_calls, 0);
    REFUSED_IN(RATE_COUNT, "`min_calls` is 101, allowed is 1 to window_size", min_calls, 101);
    REFUSED_IN(RATE_COUNT, "`failure_rate_bp` is 0", failure_rate_bp, 0);
    REFUSED_IN(RATE_COUNT, "`failure_rate_bp` is 10001", failure_rate_bp, 10001);
    REFUSED_IN(RATE_COUNT, "`slow_call_rate_bp` is 0", slow_call_rate_bp, 0);
    REFUSED_IN(RATE_TIME, "`buckets` is 0", buckets, 0);
    REFUSED_IN(RATE_TIME, "`buckets` is 257", buckets, 257);
    REFUSED_IN(RATE_TIME, "`period_ns` is 9999999", period_ns, 9999999);
    REFUSED_IN(RATE_TIME, "`period_ns` is 18446744073709551615", period_ns, UINT64_MAX);
    REFUSED_IN(RATE_TIME, "`min_calls` is 0", min_calls, 0);
    REFUSED("`weight_success` is 16", weight_success, 16);
    REFUSED("`weight_failure` is 0", weight_failure, 0);
    REFUSED("`weight_failure` is 256, allowed is 1 to 15", weight_failure, 256);
    REFUSED("`weight_slow` is 4294967295, allowed is 0 to 15", weight_slow, UINT32_MAX);
    REFUSED("`weight_ignored` is 257", weight_ignored, 257);
    REFUSED("`weight_cancelled` is 16", weight_cancelled, 16);
    REFUSED("`slow_call_ns` is 18446744073709551615", slow_call_ns, UINT64_MAX);
    REFUSED("`open_for_ns` is 18446744073709551615", open_for_ns, UINT64_MAX);
    REFUSED("`backoff_percent` is 0", backoff_percent, 0);
    REFUSED("`backoff_percent` is 119", backoff_percent, 119);
    REFUSED("`backoff_percent` is 10001", backoff_percent, 10001);
    REFUSED("`max_open_ns` is 1, allowed is 0, or open_for_ns to", max_open_ns, 1);
    REFUSED("`max_open_ns` is 18446744073709551615", max_open_ns, UINT64_MAX);
    REFUSED("`jitter_bp` is 10000", jitter_bp, 10000);
    REFUSED("`skip_half_open` is 2, allowed is 0 or 1", skip_half_open, 2);
    REFUSED("`half_open_permits` is 0", half_open_permits, 0);
    REFUSED("`half_open_permits` is 65", half_open_permits, 65);
    REFUSED("`successes_to_close` is 0", successes_to_close, 0);
    REFUSED("`successes_to_close` is 2", successes_to_close, 2);
    REFUSED("`probe_lease_ns` is 0", probe_lease_ns, 0);
    REFUSED("`probe_lease_ns` is 18446744073709551615", probe_lease_ns, UINT64_MAX);
    REFUSED("`release_expired_probes` is 2", release_expired_probes, 2);
    REFUSED("`half_open_limit_ns` is 18446744073709551615", half_open_limit_ns, UINT64_MAX);
    REFUSED("`close_at_half_open_limit` is 4294967295", close_at_half_open_limit, UINT32_MAX);
    REFUSED("`max_ignored_probes` is 4096", max_ignored_probes, 4096);
    REFUSED("`ramp_ns` is 18446744073709551615", ramp_ns, UINT64_MAX);
    REFUSED("`ramp_from_bp` is 0", ramp_from_bp, 0);
    REFUSED("`ramp_from_bp` is 10001", ramp_from_bp, 10001);
    REFUSED("`level_light_bp` is 0", level_light_bp, 0);
    REFUSED("`level_medium_bp` is 3999", level_medium_bp, 3999);
    REFUSED("`level_heavy_bp` is 10001", level_heavy_bp, 10001);
#define GRADUAL options.strategy = ESCOPE_STRATEGY_GRADUAL_DEGRADATION
    REFUSED_WITH("`admit_bp` is 10001", GRADUAL, admit_bp, 10001);
    REFUSED_WITH("`admit_light_bp` is 10001", GRADUAL, admit_light_bp, 10001);
    REFUSED_WITH("`admit_medium_bp` is 10001", GRADUAL, admit_medium_bp, 10001);
    REFUSED_WITH("`admit_heavy_bp` is 4294967295", GRADUAL, admit_heavy_bp, UINT32_MAX);
    REFUSED("`probe_capacity` is 65", probe_capacity, 65);
    REFUSED_WITH("`probe_capacity` is 1", options.half_open_permits = 2, probe_capacity, 1);
    REFUSED("`window_capacity` is 65537", window_capacity, 65537);
    REFUSED_IN(RATE_COUNT, "`window_capacity` is 99", window_capacity, 99);
#undef GRADUAL
#undef REFUSED_IN
#undef REFUSED
#undef REFUSED_WITH
    INVALID("`size` is 4", escope_breaker_options_init(&options, 4));
    INVALID("`size` is 5000", escope_breaker_options_init(&options, 5000));
    escope_breaker_free(running);
}

/* A program compiled with a newer header: more fields behind those that this library knows. */
static void structs_may_grow(void) {
    struct {
        escope_breaker_options known;
        uint64_t newer[2];
    } options;
    struct {
        escope_breaker_stats known;
        uint64_t newer[2];
    } stats;
    escope_breaker *breaker = NULL;
    memset(&options, 0xff, sizeof options);
    OK(escope_breaker_options_init(&options.known, sizeof options));
    CHECK(options.known.struct_size == sizeof options && options.newer[1] == 0);
    OK(escope_breaker_new(&options.known, &breaker));

    memset(&stats, 0xff, sizeof stats);
    stats.known.struct_size = sizeof stats;
    OK(escope_breaker_snapshot(breaker, &stats.known));
    CHECK(stats.known.struct_size == sizeof stats && stats.known.admitted == 0 && stats.newer[1] == 0);
    stats.known.struct_size = 8;
    INVALID("`struct_size` is 8", escope_breaker_snapshot(breaker, &stats.known));
    INVALID("`size` is 191", escope_breaker_stats_init(&stats.known, sizeof stats.known - 1));

    options.newer[1] = 1;
    INVALID("non-zero byte at offset 208", escope_breaker_reconfigure(breaker, &options.known, NULL));
    escope_breaker_free(breaker);
    breaker = NULL;
    INVALID("non-zero byte at offset 208", escope_breaker_new(&options.known, &breaker));
    CHECK(breaker == NULL);
}

/* Every call at the ends of time, in every phase, with the longest durations that there are. */
static void any_time_is_taken(void) {
    const uint64_t longest = (UINT64_C(1) << 62) - 1;
    static const uint64_t times[] = {0, 1, UINT64_MAX, UINT64_MAX - 1, 0, UINT64_C(1) << 63, 5};
    for (int32_t policy = ESCOPE_POLICY_CONSECUTIVE_FAILURES; policy <= ESCOPE_POLICY_RATE_TIME; policy++) {
        escope_breaker_options options = default_options();
        options.policy = policy;
        options.failure_threshold = options.min_calls = 1;
        options.tolerated_failures = 0;
        options.period_ns = options.open_for_ns = options.max_open_ns = longest;
        options.probe_lease_ns = options.half_open_limit_ns = options.ramp_ns = options.slow_call_ns = longest;
        options.backoff_percent = 10000;
        options.jitter_bp = 9999;
        options.seed = UINT64_MAX;
        escope_breaker *breaker = breaker_of(&options);
        for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
            escope_permit permit;
            uint64_t retry_after_ns;
            escope_status status = escope_breaker_acquire_at(breaker, &permit, &retry_after_ns, NULL, times[i]);
            CHECK(status >= 0 && (status == ESCOPE_STATUS_OK) == (retry_after_ns == 0));
            if (status == ESCOPE_STATUS_OK) {
                CHECK(escope_breaker_record_at(breaker, &permit, ESCOPE_OUTCOME_FAILURE, NULL, times[i]) >= 0);
            }
            CHECK(escope_breaker_report_at(breaker, ESCOPE_OUTCOME_SLOW, NULL, times[i]) >= 0);
            OK(escope_breaker_settle_at(breaker, NULL, times[i]));
            stats_at(breaker, times[i]);
        }
        OK(escope_breaker_reset_at(breaker, NULL, UINT64_MAX));
        OK(escope_breaker_reconfigure_at(breaker, &options, NULL, 0));
        OK(escope_breaker_reinstall_at(breaker, &options, NULL, UINT64_MAX));
        OK(escope_breaker_set_mode_at(breaker, ESCOPE_MODE_METRICS_ONLY, NULL, 0));
        escope_breaker_free(breaker);
    }
}

int main(void) {
    a_permit_is_used_once();
    a_forged_permit_decides_nothing();
    of_racing_records_one_counts(0);
    of_racing_records_one_counts(1);
    a_missing_breaker_is_refused_by_name();
    other_pointers_are_refused_by_name();
    unknown_numbers_are_refused();
    options_are_checked();
    structs_may_grow();
    any_time_is_taken();
    return 0;
}
