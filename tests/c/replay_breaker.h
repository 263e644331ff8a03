/* Replays the vectors of the breaker. */
#ifndef ESCOPE_TEST_REPLAY_BREAKER_H
#define ESCOPE_TEST_REPLAY_BREAKER_H

#include "replay.h"

#include <stddef.h>

static const char *const phases[] = {"closed", "open", "half_open"};
static const char *const modes[] = {"auto", "forced_open", "forced_closed", "metrics_only"};
static const char *const levels[] = {"none", "light", "medium", "heavy", "exceeded"};
static const char *const outcomes[] = {"success", "failure", "ignored", "slow", "cancelled"};
static const char *const policies[] = {"consecutive_failures", "failures_in_period", "rate_count", "rate_time"};

/* The options whose names and numbers are those of a vector's configuration. */
#define OPTION(field) {#field, offsetof(escope_breaker_options, field), sizeof((escope_breaker_options *)0)->field}
static const struct {
    const char *name;
    size_t offset, size;
} numbers[] = {
    OPTION(period_ns), OPTION(slow_call_ns), OPTION(open_for_ns), OPTION(max_open_ns), OPTION(seed),
    OPTION(probe_lease_ns), OPTION(half_open_limit_ns), OPTION(ramp_ns), OPTION(failure_threshold),
    OPTION(tolerated_failures), OPTION(window_size), OPTION(buckets), OPTION(min_calls),
    OPTION(failure_rate_bp), OPTION(slow_call_rate_bp), OPTION(weight_success), OPTION(weight_failure),
    OPTION(weight_slow), OPTION(weight_ignored), OPTION(weight_cancelled), OPTION(backoff_percent),
    OPTION(jitter_bp), OPTION(skip_half_open), OPTION(half_open_permits), OPTION(successes_to_close),
    OPTION(release_expired_probes), OPTION(close_at_half_open_limit), OPTION(max_ignored_probes),
    OPTION(ramp_from_bp), OPTION(level_light_bp), OPTION(level_medium_bp), OPTION(level_heavy_bp),
    OPTION(admit_bp), OPTION(admit_light_bp), OPTION(admit_medium_bp), OPTION(admit_heavy_bp),
    OPTION(probe_capacity), OPTION(window_capacity),
};
#undef OPTION

static inline void set_number(escope_breaker_options *options, const struct json *member) {
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(numbers[i].name, member->name) == 0) {
            char *field = (char *)options + numbers[i].offset;
            uint32_t narrow = (uint32_t)member->number;
            CHECK(member->kind == JSON_NUMBER && (numbers[i].size == 8 || narrow == member->number));
            memcpy(field, numbers[i].size == 8 ? (const void *)&member->number : &narrow, numbers[i].size);
            return;
        }
    }
    fprintf(stderr, "unknown option %s\n", member->name);
    exit(2);
}

/* The options of a configuration, which names its policy and what is not as it is by default. */
static inline escope_breaker_options options_of(const struct json *config) {
    escope_breaker_options options;
    OK(escope_breaker_options_init(&options, sizeof options));
    /* Levels admit what the vector says, and everything where it says nothing. */
    options.strategy = ESCOPE_STRATEGY_GRADUAL_DEGRADATION;
    options.admit_bp = options.admit_light_bp = options.admit_medium_bp = options.admit_heavy_bp = 10000;
    for (size_t i = 0; i < config->count; i++) {
        if (strcmp(config->items[i].name, "policy") == 0) {
            options.policy = number_of(json_text(config, "policy"), policies, 4);
        } else {
            set_number(&options, &config->items[i]);
        }
    }
    return options;
}

static inline void expect_events(struct step *step, const escope_events *events) {
    const struct json *expected = json_member(step->expect, "events", JSON_LIST);
    if (events->count != expected->count) {
        differs(step, "the number of events", events->count, expected->count);
        return;
    }
    for (uint32_t i = 0; i < events->count; i++) {
        const struct json *event = &expected->items[i];
        expect_number(step, event, "sequence", events->items[i].sequence);
        expect_number(step, event, "generation", events->items[i].generation);
        expect_number(step, event, "at_ns", events->items[i].at_ns);
        expect_word(step, event, "from", phases[events->items[i].from]);
        expect_word(step, event, "to", phases[events->items[i].to]);
        expect_word(step, event, "from_level", levels[events->items[i].from_level]);
        expect_word(step, event, "to_level", levels[events->items[i].to_level]);
        expect_word(step, event, "mode", modes[events->items[i].mode]);
        expect_word(step, event, "cause", escope_breaker_cause_str(events->items[i].cause));
    }
}

static inline void expect_state(struct step *step, const escope_breaker_stats *stats) {
    expect_word(step, step->expect, "phase", phases[stats->phase]);
    expect_word(step, step->expect, "mode", modes[stats->mode]);
    expect_word(step, step->expect, "level", levels[stats->level]);
    expect_word(step, step->expect, "last_cause", escope_breaker_cause_str(stats->last_cause));
    expect_number(step, step->expect, "generation", stats->generation);
    expect_number(step, step->expect, "opens", stats->opens);
    expect_number(step, step->expect, "live_probes", stats->live_probes);
    expect_number(step, step->expect, "failures", stats->failures);
    expect_number(step, step->expect, "window_calls", stats->window_calls);
    expect_number(step, step->expect, "slow_calls", stats->slow_calls);
    expect_number(step, step->expect, "failure_rate_bp", stats->failure_rate_bp);
    expect_number(step, step->expect, "slow_call_rate_bp", stats->slow_call_rate_bp);
    expect_number(step, step->expect, "retry_after_ns", stats->retry_after_ns);
}

/* An operation that gives a verdict. */
static inline void call_step(struct step *step, escope_breaker *breaker, escope_permit *permits) {
    const char *op = json_text(step->op, "op");
    uint64_t now_ns = json_number(step->op, "now_ns"), retry_after_ns = 0;
    escope_permit permit;
    escope_events events;
    escope_status status;
    if (strcmp(op, "acquire") == 0) {
        status = escope_breaker_acquire_at(breaker, &permit, &retry_after_ns, &events, now_ns);
    } else if (strcmp(op, "ask") == 0) {
        status = escope_breaker_ask_at(breaker, &retry_after_ns, &events, now_ns);
    } else {
        int32_t outcome = number_of(json_text(step->op, "outcome"), outcomes, 5);
        if (strcmp(op, "report") == 0) {
            status = escope_breaker_report_at(breaker, outcome, &events, now_ns);
        } else {
            /* A copy, for the vectors ask what the breaker itself says to a second record of a probe. */
            permit = permits[json_number(step->op, "permit")];
            status = escope_breaker_record_at(breaker, &permit, outcome, &events, now_ns);
        }
    }
    expect_word(step, step->expect, "verdict", status_word(status));
    if (status >= 0) {
        expect_events(step, &events);
    }
    if (status >= 0 && (strcmp(op, "acquire") == 0 || strcmp(op, "ask") == 0)) {
        expect_number(step, step->expect, "retry_after_ns", retry_after_ns);
    }
    if (strcmp(op, "acquire") == 0 && status == ESCOPE_STATUS_OK && !step->failed) {
        permits[json_number(step->op, "permit")] = permit;
    }
}

static inline void breaker_step(struct step *step, escope_breaker *breaker, escope_permit *permits) {
    const char *op = json_text(step->op, "op");
    uint64_t now_ns = json_number(step->op, "now_ns");
    escope_events events;
    if (strcmp(op, "acquire") == 0 || strcmp(op, "ask") == 0 || strcmp(op, "record") == 0 ||
        strcmp(op, "report") == 0) {
        call_step(step, breaker, permits);
        return;
    }
    if (strcmp(op, "state") == 0) {
        escope_breaker_stats stats = {.struct_size = sizeof stats};
        OK(escope_breaker_snapshot_at(breaker, &stats, now_ns));
        expect_state(step, &stats);
        return;
    }
    if (strcmp(op, "settle") == 0) {
        OK(escope_breaker_settle_at(breaker, &events, now_ns));
    } else if (strcmp(op, "reset") == 0) {
        OK(escope_breaker_reset_at(breaker, &events, now_ns));
    } else if (strcmp(op, "set_mode") == 0) {
        int32_t mode = number_of(json_text(step->op, "mode"), modes, 4);
        OK(escope_breaker_set_mode_at(breaker, mode, &events, now_ns));
    } else if (strcmp(op, "reconfigure") == 0 || strcmp(op, "reinstall") == 0) {
        escope_breaker_options options = options_of(json_member(step->op, "config", JSON_OBJECT));
        OK(strcmp(op, "reinstall") == 0 ? escope_breaker_reinstall_at(breaker, &options, &events, now_ns)
                                        : escope_breaker_reconfigure_at(breaker, &options, &events, now_ns));
    } else {
        fprintf(stderr, "unknown operation %s\n", op);
        exit(2);
    }
    expect_events(step, &events);
}

static inline int replay_breaker(const struct json *vector) {
    const struct json *ops = json_member(vector, "ops", JSON_LIST);
    escope_breaker_options options = options_of(json_member(vector, "config", JSON_OBJECT));
    escope_breaker *breaker;
    OK(escope_breaker_new(&options, &breaker));

    /* Permits are numbered in the order of their grant, so there are no more than operations. */
    escope_permit *permits = calloc(ops->count, sizeof *permits);
    CHECK(permits != NULL);
    struct step step = {.vector = vector};
    for (; step.number < ops->count && !step.failed; step.number++) {
        step.op = &ops->items[step.number];
        step.expect = json_member(step.op, "expect", JSON_OBJECT);
        breaker_step(&step, breaker, permits);
    }
    free(permits);
    escope_breaker_free(breaker);
    return step.failed;
}

#endif
