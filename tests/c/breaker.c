/* The breaker through its C ABI: a round trip at explicit times, and everything that a caller can get wrong. */
#include "check.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static escope_breaker *breaker_with(uint32_t threshold, uint32_t permits, uint64_t open_for_ns) {
    escope_breaker_options options;
    escope_breaker *breaker = NULL;
    OK(escope_breaker_options_init(&options, sizeof options));
    options.failure_threshold = threshold;
    options.half_open_permits = permits;
    options.open_for_ns = open_for_ns;
    options.probe_lease_ns = 50;
    OK(escope_breaker_new(&options, &breaker));
    return breaker;
}

static void fail_once(escope_breaker *breaker, escope_events *events, uint64_t now_ns) {
    escope_permit permit;
    OK(escope_breaker_acquire_at(breaker, &permit, NULL, NULL, now_ns));
    OK(escope_breaker_record_at(breaker, &permit, ESCOPE_OUTCOME_FAILURE, events, now_ns));
}

static void opens_and_recovers(void) {
    escope_breaker *breaker = breaker_with(2, 1, 100);
    escope_events events;
    escope_permit permit;
    uint64_t retry_after_ns = 7;

    fail_once(breaker, &events, 10);
    CHECK(events.count == 0);
    fail_once(breaker, &events, 20);
    CHECK(events.count == 1 && events.reserved == 0);
    CHECK(events.items[0].sequence == 1 && events.items[0].at_ns == 20);
    CHECK(events.items[0].from == ESCOPE_PHASE_CLOSED && events.items[0].to == ESCOPE_PHASE_OPEN);
    CHECK(events.items[0].cause == ESCOPE_CAUSE_FAILURE_THRESHOLD);

    EXPECT(ESCOPE_STATUS_CIRCUIT_OPEN, escope_breaker_acquire_at(breaker, &permit, &retry_after_ns, NULL, 60));
    CHECK(retry_after_ns == 60);
    OK(escope_breaker_acquire_at(breaker, &permit, &retry_after_ns, &events, 120));
    CHECK(retry_after_ns == 0);
    CHECK(events.count == 1 && events.items[0].cause == ESCOPE_CAUSE_OPEN_ELAPSED);

    escope_permit second;
    EXPECT(ESCOPE_STATUS_HALF_OPEN_FULL,
           escope_breaker_acquire_at(breaker, &second, &retry_after_ns, NULL, 130));
    CHECK(retry_after_ns == 40);
    OK(escope_breaker_record_at(breaker, &permit, ESCOPE_OUTCOME_SUCCESS, &events, 140));
    CHECK(events.count == 1 && events.items[0].sequence == 3);
    CHECK(events.items[0].to == ESCOPE_PHASE_CLOSED);

    escope_breaker_stats stats;
    OK(escope_breaker_stats_init(&stats, sizeof stats));
    OK(escope_breaker_snapshot_at(breaker, &stats, 140));
    CHECK(stats.struct_size == sizeof stats && stats.phase == ESCOPE_PHASE_CLOSED);
    CHECK(stats.admitted == 3 && stats.failed == 2 && stats.succeeded == 1);
    CHECK(stats.rejected_open == 1 && stats.rejected_half_open == 1 && stats.generation == events.items[0].generation);
    escope_breaker_free(breaker);
}

static void late_results_are_refusals(void) {
    escope_breaker *breaker = breaker_with(1, 2, 100);
    escope_permit early, probe;
    OK(escope_breaker_acquire_at(breaker, &early, NULL, NULL, 0));
    fail_once(breaker, NULL, 0);
    EXPECT(ESCOPE_STATUS_STALE, escope_breaker_record_at(breaker, &early, ESCOPE_OUTCOME_FAILURE, NULL, 1));
    EXPECT(ESCOPE_STATUS_ALREADY_DONE,
           escope_breaker_record_at(breaker, &early, ESCOPE_OUTCOME_FAILURE, NULL, 1));

    OK(escope_breaker_acquire_at(breaker, &probe, NULL, NULL, 100));
    EXPECT(ESCOPE_STATUS_EXPIRED, escope_breaker_record_at(breaker, &probe, ESCOPE_OUTCOME_SUCCESS, NULL, 150));

    escope_events events;
    OK(escope_breaker_reset_at(breaker, &events, 160));
    CHECK(events.count >= 1 && events.items[events.count - 1].cause == ESCOPE_CAUSE_RESET);
    OK(escope_breaker_reset(breaker, NULL));
    escope_breaker_free(breaker);
}

static void a_permit_is_used_once(void) {
    escope_breaker *breaker = breaker_with(1, 2, 100), *other = breaker_with(1, 1, 100);
    escope_permit permit, zeros, copy;
    memset(&zeros, 0, sizeof zeros);
    CHECK(sizeof permit == 32);

    INVALID("memory without a permit", escope_breaker_record(breaker, &zeros, 0, NULL));
    OK(escope_breaker_acquire(breaker, &permit, NULL, NULL));
    INVALID("a permit of breaker number", escope_breaker_record(other, &permit, 0, NULL));
    INVALID("`outcome` is 3", escope_breaker_record(breaker, &permit, 3, NULL));
    INVALID("`outcome` is -2147483648", escope_breaker_record(breaker, &permit, INT32_MIN, NULL));
    OK(escope_breaker_record(breaker, &permit, ESCOPE_OUTCOME_IGNORED, NULL));
    EXPECT(ESCOPE_STATUS_ALREADY_DONE, escope_breaker_record(breaker, &permit, 0, NULL));
    CHECK(strstr(last_error(), "recorded before") != NULL);

    /* A probe is guarded by its slot as well: a copied one counts once. */
    fail_once(breaker, NULL, 0);
    OK(escope_breaker_acquire_at(breaker, &permit, NULL, NULL, 100));
    memcpy(&copy, &permit, sizeof copy);
    OK(escope_breaker_record_at(breaker, &permit, ESCOPE_OUTCOME_IGNORED, NULL, 101));
    CHECK(escope_breaker_record_at(breaker, &copy, ESCOPE_OUTCOME_FAILURE, NULL, 101) != ESCOPE_STATUS_OK);
    escope_breaker_free(other);
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

static void of_racing_records_one_counts(void) {
    struct race race;
    struct racer racers[RACERS];
    pthread_t threads[RACERS];
    race.breaker = breaker_with(1, 1, 100);
    pthread_barrier_init(&race.start, NULL, RACERS + 1);
    pthread_barrier_init(&race.end, NULL, RACERS + 1);
    for (int i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){&race, i};
        CHECK(pthread_create(&threads[i], NULL, records_each_round, &racers[i]) == 0);
    }
    for (int round = 0; round < ROUNDS; round++) {
        OK(escope_breaker_acquire(race.breaker, &race.permit, NULL, NULL));
        pthread_barrier_wait(&race.start);
        pthread_barrier_wait(&race.end);
        int applied = 0;
        for (int i = 0; i < RACERS; i++) {
            applied += race.applied[i];
        }
        CHECK(applied == 1);
    }
    for (int i = 0; i < RACERS; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_barrier_destroy(&race.start);
    pthread_barrier_destroy(&race.end);
    escope_breaker_free(race.breaker);
}

static void null_is_refused_by_name(void) {
    escope_breaker *breaker = breaker_with(1, 1, 100);
    escope_permit permit;
    escope_breaker_stats stats = {.struct_size = sizeof stats};
    INVALID("`out` is NULL", escope_breaker_new(NULL, NULL));
    INVALID("`options` is NULL", escope_breaker_options_init(NULL, sizeof(escope_breaker_options)));
    INVALID("`stats` is NULL", escope_breaker_stats_init(NULL, sizeof stats));
    INVALID("`breaker` is NULL", escope_breaker_acquire(NULL, &permit, NULL, NULL));
    INVALID("`permit` is NULL", escope_breaker_acquire(breaker, NULL, NULL, NULL));
    INVALID("`retry_after_ns` is 0x", escope_breaker_acquire(breaker, &permit, (uint64_t *)(uintptr_t)1, NULL));
    INVALID("`events` is 0x", escope_breaker_acquire(breaker, &permit, NULL, (escope_events *)(uintptr_t)1));
    INVALID("`breaker` is NULL", escope_breaker_record(NULL, &permit, 0, NULL));
    INVALID("`permit` is NULL", escope_breaker_record(breaker, NULL, 0, NULL));
    INVALID("`breaker` is NULL", escope_breaker_reset(NULL, NULL));
    INVALID("`breaker` is NULL", escope_breaker_snapshot(NULL, &stats));
    INVALID("`stats` is NULL", escope_breaker_snapshot(breaker, NULL));
    CHECK(escope_breaker_ref(NULL) == NULL);
    escope_breaker_free(NULL);
    escope_breaker_free(breaker);
}

static void options_are_checked(void) {
    escope_breaker *const untouched = (escope_breaker *)(uintptr_t)16;
    escope_breaker *breaker = untouched;
    escope_breaker_options options;
#define REFUSED(text, field, value)                                                                          \
    OK(escope_breaker_options_init(&options, sizeof options));                                               \
    options.field = (value);                                                                                 \
    INVALID(text, escope_breaker_new(&options, &breaker));                                                   \
    CHECK(breaker == untouched)

    REFUSED("`failure_threshold` is 0", failure_threshold, 0);
    REFUSED("`failure_threshold` is 4294967295", failure_threshold, UINT32_MAX);
    REFUSED("`open_for_ns` is 18446744073709551615", open_for_ns, UINT64_MAX);
    REFUSED("`probe_lease_ns` is 0", probe_lease_ns, 0);
    REFUSED("`probe_lease_ns` is 18446744073709551615", probe_lease_ns, UINT64_MAX);
    REFUSED("`half_open_permits` is 0", half_open_permits, 0);
    REFUSED("`half_open_permits` is 65", half_open_permits, 65);
    REFUSED("`successes_to_close` is 2", successes_to_close, 2);
    REFUSED("`reserved` is 1", reserved, 1);
    REFUSED("`struct_size` is 0", struct_size, 0);
    REFUSED("`struct_size` is 39", struct_size, sizeof options - 1);
    REFUSED("`struct_size` is 18446744073709551615", struct_size, SIZE_MAX);
    INVALID("`size` is 4", escope_breaker_options_init(&options, 4));
    INVALID("`size` is 5000", escope_breaker_options_init(&options, 5000));
#undef REFUSED
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
    escope_breaker_free(breaker);

    options.newer[1] = 1;
    breaker = NULL;
    INVALID("non-zero byte at offset 48", escope_breaker_new(&options.known, &breaker));
    CHECK(breaker == NULL);
}

static void any_time_is_taken(void) {
    escope_breaker *breaker = breaker_with(1, 1, (UINT64_C(1) << 62) - 1);
    escope_permit permit;
    uint64_t retry_after_ns;
    fail_once(breaker, NULL, UINT64_MAX);
    EXPECT(ESCOPE_STATUS_CIRCUIT_OPEN, escope_breaker_acquire_at(breaker, &permit, &retry_after_ns, NULL, 0));
    CHECK(retry_after_ns > 0);
    escope_status status = escope_breaker_acquire_at(breaker, &permit, NULL, NULL, UINT64_MAX);
    CHECK(status == ESCOPE_STATUS_OK || status == ESCOPE_STATUS_CIRCUIT_OPEN);
    escope_breaker_free(breaker);
}

static void references_are_counted(void) {
    escope_breaker *breaker = breaker_with(1, 1, 100);
    escope_breaker *mine = escope_breaker_ref(breaker);
    CHECK(mine == breaker);
    escope_breaker_free(breaker);
    fail_once(mine, NULL, 0);
    escope_breaker_free(mine);
}

/* A child has a copy as it was; neither sees what the other does from then on. */
static void a_forked_child_has_a_copy(void) {
    escope_breaker *breaker = breaker_with(2, 1, 100);
    escope_events events;
    escope_permit permit;
    fail_once(breaker, NULL, 0);
    OK(escope_breaker_acquire_at(breaker, &permit, NULL, NULL, 0));
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        OK(escope_breaker_record_at(breaker, &permit, ESCOPE_OUTCOME_FAILURE, &events, 0));
        CHECK(events.count == 1);
        escope_breaker_free(breaker);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    escope_breaker_stats stats = {.struct_size = sizeof stats};
    OK(escope_breaker_snapshot_at(breaker, &stats, 0));
    CHECK(stats.phase == ESCOPE_PHASE_CLOSED && stats.consecutive_failures == 1);
    OK(escope_breaker_record_at(breaker, &permit, ESCOPE_OUTCOME_SUCCESS, NULL, 0));
    escope_breaker_free(breaker);
}

int main(void) {
    opens_and_recovers();
    late_results_are_refusals();
    a_permit_is_used_once();
    of_racing_records_one_counts();
    null_is_refused_by_name();
    options_are_checked();
    structs_may_grow();
    any_time_is_taken();
    references_are_counted();
    a_forked_child_has_a_copy();
    return 0;
}
