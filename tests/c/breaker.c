/* The breaker through its C ABI, at explicit times: each policy, what is gradual, and what somebody in charge may do. */
#include "breaker.h"

#include <sys/wait.h>
#include <unistd.h>

static int is_event(const escope_event *event, int32_t from, int32_t to, int32_t cause, uint64_t at_ns) {
    return event->from == from && event->to == to && event->cause == cause && event->at_ns == at_ns &&
           event->reserved == 0;
}

static void opens_and_recovers(void) {
    escope_breaker *breaker = breaker_with(2, 1, 100);
    escope_events events;
    escope_permit permit;
    uint64_t retry_after_ns = 7;

    fail_at(breaker, &events, 10);
    CHECK(events.count == 1 && events.items[0].cause == ESCOPE_CAUSE_LEVEL_CHANGED);
    fail_at(breaker, &events, 20);
    CHECK(events.count == 1 && events.reserved == 0);
    CHECK(events.items[0].sequence == 1 && events.items[0].generation == 2);
    CHECK(is_event(&events.items[0], ESCOPE_PHASE_CLOSED, ESCOPE_PHASE_OPEN, ESCOPE_CAUSE_FAILURE_THRESHOLD, 20));

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

    escope_breaker_stats stats = stats_at(breaker, 140);
    CHECK(stats.phase == ESCOPE_PHASE_CLOSED && stats.mode == ESCOPE_MODE_AUTO && stats.level == ESCOPE_LEVEL_NONE);
    CHECK(stats.last_cause == ESCOPE_CAUSE_PROBES_SUCCEEDED && stats.last_change_ns == 140 && stats.opens == 0);
    CHECK(stats.admitted == 3 && stats.failed == 2 && stats.succeeded == 1);
    CHECK(stats.rejected_open == 1 && stats.rejected_half_open == 1 && stats.generation == events.items[0].generation);
    escope_breaker_free(breaker);
}

static void late_results_are_refusals(void) {
    escope_breaker *breaker = breaker_with(1, 2, 100);
    escope_permit early, probe;
    OK(escope_breaker_acquire_at(breaker, &early, NULL, NULL, 0));
    fail_at(breaker, NULL, 0);
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

/* Two failures within 100 are tolerated; one exactly so old does not count. */
static void failures_in_a_period(void) {
    escope_breaker_options options = default_options();
    options.policy = ESCOPE_POLICY_FAILURES_IN_PERIOD;
    options.tolerated_failures = 2;
    options.period_ns = 100;
    escope_breaker *breaker = breaker_of(&options);
    fail_at(breaker, NULL, 0);
    fail_at(breaker, NULL, 50);
    fail_at(breaker, NULL, 100);
    CHECK(stats_at(breaker, 100).phase == ESCOPE_PHASE_CLOSED && stats_at(breaker, 100).failures == 2);
    fail_at(breaker, NULL, 149);
    CHECK(stats_at(breaker, 149).phase == ESCOPE_PHASE_OPEN);
    CHECK(stats_at(breaker, 149).last_cause == ESCOPE_CAUSE_FAILURE_THRESHOLD);
    escope_breaker_free(breaker);
}

static void a_rate_of_the_last_calls(void) {
    escope_breaker_options options = default_options();
    options.policy = ESCOPE_POLICY_RATE_COUNT;
    options.window_size = 10;
    options.min_calls = 4;
    options.failure_rate_bp = 5000;
    escope_breaker *breaker = breaker_of(&options);
    escope_events events;
    call_at(breaker, ESCOPE_OUTCOME_SUCCESS, NULL, 1);
    call_at(breaker, ESCOPE_OUTCOME_IGNORED, NULL, 2);
    call_at(breaker, ESCOPE_OUTCOME_CANCELLED, NULL, 3);
    call_at(breaker, ESCOPE_OUTCOME_SUCCESS, NULL, 4);
    fail_at(breaker, NULL, 5);
    escope_breaker_stats stats = stats_at(breaker, 5);
    CHECK(stats.window_calls == 3 && stats.failures == 1 && stats.failure_rate_bp == 3333);
    CHECK(stats.ignored == 1 && stats.cancelled == 1 && stats.succeeded == 2 && stats.failed == 1);
    fail_at(breaker, &events, 6);
    CHECK(is_event(&events.items[events.count - 1], ESCOPE_PHASE_CLOSED, ESCOPE_PHASE_OPEN, ESCOPE_CAUSE_FAILURE_RATE, 6));
    escope_breaker_free(breaker);
}

/* A call that is measured carries its start in the permit, and is slow beyond, not at, the limit. */
static void slow_calls_within_a_time(void) {
    const uint64_t second = 1000000000;
    escope_breaker_options options = default_options();
    options.policy = ESCOPE_POLICY_RATE_TIME;
    options.period_ns = 10 * second;
    options.buckets = 10;
    options.min_calls = 2;
    options.slow_call_ns = 100;
    options.slow_call_rate_bp = 6000;
    escope_breaker *breaker = breaker_of(&options);
    escope_permit first, second_call;
    OK(escope_breaker_acquire_at(breaker, &first, NULL, NULL, second));
    OK(escope_breaker_acquire_at(breaker, &second_call, NULL, NULL, second));
    OK(escope_breaker_record_at(breaker, &first, ESCOPE_OUTCOME_SUCCESS, NULL, second + 100));
    OK(escope_breaker_record_at(breaker, &second_call, ESCOPE_OUTCOME_SUCCESS, NULL, second + 101));
    escope_breaker_stats stats = stats_at(breaker, second + 101);
    CHECK(stats.slow_calls == 1 && stats.slow_call_rate_bp == 5000 && stats.phase == ESCOPE_PHASE_CLOSED);
    /* That the program itself calls slow. */
    call_at(breaker, ESCOPE_OUTCOME_SLOW, NULL, second + 102);
    CHECK(stats_at(breaker, second + 102).last_cause == ESCOPE_CAUSE_SLOW_CALL_RATE);
    escope_breaker_free(breaker);
}

static void asks_without_a_permit(void) {
    escope_breaker *breaker = breaker_with(1, 1, 100);
    uint64_t retry_after_ns = 7;
    escope_events events;
    escope_permit probe;
    OK(escope_breaker_ask(breaker, &retry_after_ns, NULL));
    CHECK(retry_after_ns == 0);
    OK(escope_breaker_report_at(breaker, ESCOPE_OUTCOME_FAILURE, NULL, 0));
    EXPECT(ESCOPE_STATUS_CIRCUIT_OPEN, escope_breaker_ask_at(breaker, &retry_after_ns, &events, 40));
    CHECK(retry_after_ns == 60 && events.count == 0);
    /* The time is over, and only an acquire may begin the round. */
    EXPECT(ESCOPE_STATUS_CIRCUIT_OPEN, escope_breaker_ask_at(breaker, NULL, NULL, 100));
    OK(escope_breaker_acquire_at(breaker, &probe, NULL, NULL, 100));
    EXPECT(ESCOPE_STATUS_HALF_OPEN_FULL, escope_breaker_ask_at(breaker, &retry_after_ns, NULL, 101));
    OK(escope_breaker_record_at(breaker, &probe, ESCOPE_OUTCOME_SUCCESS, NULL, 102));
    OK(escope_breaker_ask_at(breaker, NULL, NULL, 103));
    OK(escope_breaker_set_mode_at(breaker, ESCOPE_MODE_FORCED_OPEN, NULL, 104));
    EXPECT(ESCOPE_STATUS_FORCED_OPEN, escope_breaker_ask(breaker, &retry_after_ns, NULL));
    CHECK(retry_after_ns == UINT64_MAX);
    escope_breaker_stats stats = stats_at(breaker, 104);
    CHECK(stats.admitted == 3 && stats.cancelled == 2 && stats.succeeded == 1);
    CHECK(stats.rejected_open == 2 && stats.rejected_half_open == 1 && stats.rejected_forced_open == 1);
    escope_breaker_free(breaker);
}

static void reports_without_a_permit(void) {
    escope_breaker *breaker = breaker_with(2, 1, 100);
    escope_events events;
    OK(escope_breaker_report_at(breaker, ESCOPE_OUTCOME_FAILURE, &events, 1));
    CHECK(events.count == 1 && events.items[0].cause == ESCOPE_CAUSE_LEVEL_CHANGED);
    OK(escope_breaker_report_at(breaker, ESCOPE_OUTCOME_FAILURE, &events, 2));
    CHECK(is_event(&events.items[0], ESCOPE_PHASE_CLOSED, ESCOPE_PHASE_OPEN, ESCOPE_CAUSE_FAILURE_THRESHOLD, 2));
    EXPECT(ESCOPE_STATUS_STALE, escope_breaker_report_at(breaker, ESCOPE_OUTCOME_FAILURE, &events, 3));
    CHECK(events.count == 0 && stats_at(breaker, 3).reported == 3);
    OK(escope_breaker_reset(breaker, NULL));
    OK(escope_breaker_report(breaker, ESCOPE_OUTCOME_SUCCESS, NULL));
    escope_breaker_free(breaker);
}

/* Failures climb the levels, each of which is told once, and a success leads back. */
static void levels_are_told(void) {
    escope_breaker *breaker = breaker_with(5, 1, 100);
    static const uint8_t levels[] = {ESCOPE_LEVEL_NONE, ESCOPE_LEVEL_NONE, ESCOPE_LEVEL_LIGHT, ESCOPE_LEVEL_MEDIUM,
                                     ESCOPE_LEVEL_HEAVY};
    escope_events events;
    uint32_t told = 0;
    for (uint64_t failures = 1; failures <= 4; failures++) {
        fail_at(breaker, &events, failures);
        CHECK(events.count == (levels[failures] != levels[failures - 1]));
        if (events.count == 1) {
            const escope_event *event = &events.items[0];
            CHECK(is_event(event, ESCOPE_PHASE_CLOSED, ESCOPE_PHASE_CLOSED, ESCOPE_CAUSE_LEVEL_CHANGED, failures));
            CHECK(event->from_level == levels[failures - 1] && event->to_level == levels[failures]);
            CHECK(event->sequence == ++told && event->generation == 1 && event->mode == ESCOPE_MODE_AUTO);
        }
        CHECK(stats_at(breaker, failures).level == levels[failures]);
    }
    call_at(breaker, ESCOPE_OUTCOME_SUCCESS, &events, 5);
    CHECK(events.count == 1 && events.items[0].sequence == ++told);
    CHECK(events.items[0].from_level == ESCOPE_LEVEL_HEAVY && events.items[0].to_level == ESCOPE_LEVEL_NONE);
    escope_breaker_free(breaker);
}

/* At level light four calls of five are admitted, by count and not by chance. */
static void degradation_sheds(void) {
    escope_breaker_options options = default_options();
    options.strategy = ESCOPE_STRATEGY_GRADUAL_DEGRADATION;
    escope_breaker *breaker = breaker_of(&options);
    OK(escope_breaker_report_at(breaker, ESCOPE_OUTCOME_FAILURE, NULL, 1));
    OK(escope_breaker_report_at(breaker, ESCOPE_OUTCOME_FAILURE, NULL, 1));
    int admitted = 0;
    for (int call = 0; call < 100; call++) {
        escope_permit permit;
        uint64_t retry_after_ns;
        escope_status status = escope_breaker_acquire_at(breaker, &permit, &retry_after_ns, NULL, 2);
        CHECK(status == ESCOPE_STATUS_OK || (status == ESCOPE_STATUS_SERVICE_DEGRADED && retry_after_ns > 0));
        admitted += status == ESCOPE_STATUS_OK;
    }
    CHECK(admitted == 80 && stats_at(breaker, 2).rejected_degraded == 20);
    escope_breaker_free(breaker);
}

static void somebody_in_charge(void) {
    escope_breaker *breaker = breaker_with(1, 1, 100);
    escope_permit before, permit;
    escope_events events;
    uint64_t retry_after_ns;
    OK(escope_breaker_acquire_at(breaker, &before, NULL, NULL, 0));
    OK(escope_breaker_set_mode_at(breaker, ESCOPE_MODE_FORCED_OPEN, &events, 10));
    CHECK(is_event(&events.items[0], ESCOPE_PHASE_CLOSED, ESCOPE_PHASE_OPEN, ESCOPE_CAUSE_MODE_CHANGED, 10));
    CHECK(events.count == 1 && events.items[0].mode == ESCOPE_MODE_FORCED_OPEN);
    OK(escope_breaker_set_mode_at(breaker, ESCOPE_MODE_FORCED_OPEN, &events, 11));
    CHECK(events.count == 0);
    EXPECT(ESCOPE_STATUS_FORCED_OPEN,
           escope_breaker_acquire_at(breaker, &permit, &retry_after_ns, NULL, UINT64_MAX));
    CHECK(retry_after_ns == UINT64_MAX && stats_at(breaker, 12).retry_after_ns == UINT64_MAX);
    EXPECT(ESCOPE_STATUS_STALE, escope_breaker_record_at(breaker, &before, ESCOPE_OUTCOME_SUCCESS, NULL, 12));
    OK(escope_breaker_reset_at(breaker, &events, 13));
    CHECK(events.count == 0 && stats_at(breaker, 13).rejected_forced_open == 1);

    OK(escope_breaker_set_mode_at(breaker, ESCOPE_MODE_FORCED_CLOSED, NULL, 20));
    fail_at(breaker, &events, 21);
    CHECK(events.count == 0 && stats_at(breaker, 21).phase == ESCOPE_PHASE_CLOSED);

    OK(escope_breaker_set_mode_at(breaker, ESCOPE_MODE_METRICS_ONLY, NULL, 30));
    fail_at(breaker, &events, 31);
    CHECK(is_event(&events.items[0], ESCOPE_PHASE_CLOSED, ESCOPE_PHASE_CLOSED, ESCOPE_CAUSE_WOULD_OPEN, 31));
    CHECK(events.items[0].to_level == ESCOPE_LEVEL_EXCEEDED && events.items[0].mode == ESCOPE_MODE_METRICS_ONLY);
    CHECK(stats_at(breaker, 31).mode == ESCOPE_MODE_METRICS_ONLY);
    fail_at(breaker, &events, 32);
    CHECK(events.count == 0);

    OK(escope_breaker_set_mode(breaker, ESCOPE_MODE_AUTO, NULL));
    fail_at(breaker, NULL, 40);
    CHECK(stats_at(breaker, 40).phase == ESCOPE_PHASE_OPEN);
    escope_breaker_free(breaker);
}

/* The open time doubles with each failed round up to its cap, and a time that is over is settled without a call. */
static void the_open_time_grows(void) {
    escope_breaker_options options = default_options();
    options.failure_threshold = 1;
    options.open_for_ns = 100;
    options.backoff_percent = 200;
    options.max_open_ns = 300;
    options.probe_lease_ns = 10;
    escope_breaker *breaker = breaker_of(&options);
    escope_permit permit;
    escope_events events;
    static const uint64_t times[] = {100, 200, 300, 300};
    uint64_t now_ns = 0;
    fail_at(breaker, NULL, now_ns);
    for (uint32_t opens = 1; opens <= 4; opens++) {
        CHECK(stats_at(breaker, now_ns).opens == opens && stats_at(breaker, now_ns).retry_after_ns == times[opens - 1]);
        now_ns += times[opens - 1];
        OK(escope_breaker_acquire_at(breaker, &permit, NULL, NULL, now_ns));
        OK(escope_breaker_settle_at(breaker, &events, now_ns + 9));
        CHECK(events.count == 0);
        /* The probe is lost; its end is dated when its lease was over. */
        now_ns += 10;
        OK(escope_breaker_settle_at(breaker, &events, now_ns + 5));
        CHECK(events.count == 1);
        CHECK(is_event(&events.items[0], ESCOPE_PHASE_HALF_OPEN, ESCOPE_PHASE_OPEN, ESCOPE_CAUSE_PROBE_EXPIRED, now_ns));
    }
    OK(escope_breaker_settle(breaker, NULL));
    escope_breaker_free(breaker);
}

static void options_change_while_it_runs(void) {
    escope_breaker_options options = default_options();
    options.window_capacity = 20;
    escope_breaker *breaker = breaker_of(&options);
    escope_events events;
    for (uint64_t failures = 0; failures < 4; failures++) {
        fail_at(breaker, NULL, failures);
    }
    /* The failures so far stay, and count toward the new threshold. */
    options.failure_threshold = 10;
    OK(escope_breaker_reconfigure_at(breaker, &options, &events, 10));
    CHECK(stats_at(breaker, 10).failures == 4 && stats_at(breaker, 10).generation == 1);
    CHECK(events.count == 1 && events.items[0].to_level == ESCOPE_LEVEL_LIGHT);

    options.policy = ESCOPE_POLICY_RATE_COUNT;
    options.window_size = options.min_calls = 20;
    OK(escope_breaker_reconfigure_at(breaker, &options, NULL, 11));
    CHECK(stats_at(breaker, 11).failures == 0 && stats_at(breaker, 11).window_calls == 0);
    fail_at(breaker, NULL, 12);
    CHECK(stats_at(breaker, 12).window_calls == 1);

    /* More than the memory that was taken at the creation. */
    options.window_size = 40;
    options.window_capacity = 0;
    INVALID("`policy` is 40", escope_breaker_reconfigure_at(breaker, &options, &events, 13));
    options.window_size = 20;
    options.half_open_permits = 9;
    INVALID("`half_open_permits` is 9", escope_breaker_reinstall_at(breaker, &options, &events, 13));
    CHECK(stats_at(breaker, 13).window_calls == 1 && stats_at(breaker, 13).generation == 1);

    options.half_open_permits = 2;
    OK(escope_breaker_reinstall_at(breaker, &options, &events, 14));
    CHECK(is_event(&events.items[0], ESCOPE_PHASE_CLOSED, ESCOPE_PHASE_CLOSED, ESCOPE_CAUSE_REINSTALLED, 14));
    CHECK(events.count == 1 && stats_at(breaker, 14).window_calls == 0);
    OK(escope_breaker_reconfigure(breaker, &options, NULL));
    OK(escope_breaker_reinstall(breaker, &options, NULL));
    escope_breaker_free(breaker);
}

/* Fewer permits than were given out: a new round, in which the old ones decide nothing. */
static void a_round_begins_anew_with_other_permits(void) {
    escope_breaker_options options = default_options();
    options.failure_threshold = 1;
    options.open_for_ns = 100;
    options.half_open_permits = options.successes_to_close = 2;
    escope_breaker *breaker = breaker_of(&options);
    escope_events events;
    escope_permit old;
    fail_at(breaker, NULL, 0);
    OK(escope_breaker_acquire_at(breaker, &old, NULL, NULL, 100));
    options.half_open_permits = options.successes_to_close = 1;
    OK(escope_breaker_reconfigure_at(breaker, &options, &events, 101));
    CHECK(is_event(&events.items[0], ESCOPE_PHASE_HALF_OPEN, ESCOPE_PHASE_HALF_OPEN, ESCOPE_CAUSE_RECONFIGURED, 101));
    EXPECT(ESCOPE_STATUS_STALE, escope_breaker_record_at(breaker, &old, ESCOPE_OUTCOME_SUCCESS, NULL, 102));
    call_at(breaker, ESCOPE_OUTCOME_SUCCESS, NULL, 103);
    CHECK(stats_at(breaker, 103).phase == ESCOPE_PHASE_CLOSED);
    escope_breaker_free(breaker);
}

static void references_are_counted(void) {
    escope_breaker *breaker = breaker_with(1, 1, 100);
    escope_breaker *mine = escope_breaker_ref(breaker);
    CHECK(mine == breaker);
    escope_breaker_free(breaker);
    fail_at(mine, NULL, 0);
    escope_breaker_free(mine);
}

/* A child has a copy as it was; neither sees what the other does from then on. */
static void a_forked_child_has_a_copy(void) {
    escope_breaker *breaker = breaker_with(2, 1, 100);
    escope_events events;
    escope_permit permit;
    fail_at(breaker, NULL, 0);
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
    CHECK(stats_at(breaker, 0).phase == ESCOPE_PHASE_CLOSED && stats_at(breaker, 0).failures == 1);
    OK(escope_breaker_record_at(breaker, &permit, ESCOPE_OUTCOME_SUCCESS, NULL, 0));
    escope_breaker_free(breaker);
}

int main(void) {
    opens_and_recovers();
    late_results_are_refusals();
    failures_in_a_period();
    a_rate_of_the_last_calls();
    slow_calls_within_a_time();
    asks_without_a_permit();
    reports_without_a_permit();
    levels_are_told();
    degradation_sheds();
    somebody_in_charge();
    the_open_time_grows();
    options_change_while_it_runs();
    a_round_begins_anew_with_other_permits();
    references_are_counted();
    a_forked_child_has_a_copy();
    return 0;
}
