/* Replays tests/vectors/PRIMITIVE.json through the C ABI: vectors DIRECTORY [PRIMITIVE...]
 *
 * Prints `vectors PRIMITIVE c: N replayed, M failed` for each and fails if one failed or there was none. */
#include "check.h"
#include "json.h"

struct step {
    const struct json *vector, *op, *expect;
    size_t number;
    int failed;
};

static void differs(struct step *step, const char *what, uint64_t got, uint64_t expected) {
    fprintf(stderr, "%s, operation %zu: %s is %" PRIu64 ", expected %" PRIu64 "\n", json_text(step->vector, "name"),
            step->number, what, got, expected);
    step->failed = 1;
}

static void expect_number(struct step *step, const struct json *expect, const char *name, uint64_t got) {
    const struct json *expected = json_find(expect, name);
    if (expected != NULL && expected->kind == JSON_NULL) {
        if (got != UINT64_MAX) {
            differs(step, name, got, UINT64_MAX);
        }
    } else if (got != json_number(expect, name)) {
        differs(step, name, got, json_number(expect, name));
    }
}

static const char *status_word(escope_status status) {
    switch (status) {
    case ESCOPE_STATUS_OK: return "ok";
    case ESCOPE_STATUS_CIRCUIT_OPEN: return "circuit_open";
    case ESCOPE_STATUS_HALF_OPEN_FULL: return "half_open_full";
    case ESCOPE_STATUS_RATE_LIMITED: return "rate_limited";
    case ESCOPE_STATUS_NEVER: return "never";
    case ESCOPE_STATUS_TABLE_FULL: return "table_full";
    case ESCOPE_STATUS_POOL_EXHAUSTED: return "pool_exhausted";
    case ESCOPE_STATUS_POOL_CLOSED: return "pool_closed";
    case ESCOPE_STATUS_STALE: return "stale";
    case ESCOPE_STATUS_EXPIRED: return "expired";
    case ESCOPE_STATUS_ALREADY_DONE: return "already_done";
    case ESCOPE_STATUS_STALE_LEASE: return "stale_lease";
    default: return escope_status_str(status);
    }
}

static void expect_word(struct step *step, const struct json *expect, const char *name, const char *got) {
    const char *expected = json_text(expect, name);
    /* The limiter's verdict has a word of its own for OK. */
    if (strcmp(expected, got) != 0 && !(strcmp(expected, "allowed") == 0 && strcmp(got, "ok") == 0)) {
        fprintf(stderr, "%s, operation %zu: %s is %s, expected %s\n", json_text(step->vector, "name"), step->number,
                name, got, expected);
        step->failed = 1;
    }
}

/* The number that a word has in C. */
static int32_t number_of(const char *word, const char *const words[], int32_t count) {
    for (int32_t number = 0; number < count; number++) {
        if (words[number] != NULL && strcmp(words[number], word) == 0) {
            return number;
        }
    }
    fprintf(stderr, "unknown word %s\n", word);
    exit(2);
}

static const char *const phases[] = {"closed", "open", "half_open"};
static const char *const causes[] = {NULL,           "failure_threshold", "open_elapsed", "probes_succeeded",
                                     "probes_failed", "probe_expired",     "reset"};
static const char *const outcomes[] = {"success", "failure", "ignored"};

static void expect_events(struct step *step, const escope_events *events) {
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
        expect_word(step, event, "cause", causes[events->items[i].cause]);
    }
}

static void breaker_step(struct step *step, escope_breaker *breaker, escope_permit *permits) {
    const char *op = json_text(step->op, "op");
    uint64_t now_ns = json_number(step->op, "now_ns");
    escope_events events;
    if (strcmp(op, "acquire") == 0) {
        escope_permit permit;
        uint64_t retry_after_ns;
        escope_status status = escope_breaker_acquire_at(breaker, &permit, &retry_after_ns, &events, now_ns);
        expect_word(step, step->expect, "verdict", status_word(status));
        if (status >= 0) {
            expect_number(step, step->expect, "retry_after_ns", retry_after_ns);
            expect_events(step, &events);
        }
        if (status == ESCOPE_STATUS_OK && !step->failed) {
            permits[json_number(step->op, "permit")] = permit;
        }
    } else if (strcmp(op, "record") == 0) {
        /* A copy, for the vectors ask what the breaker itself says to a second record of a probe. */
        escope_permit permit = permits[json_number(step->op, "permit")];
        int32_t outcome = number_of(json_text(step->op, "outcome"), outcomes, 3);
        escope_status status = escope_breaker_record_at(breaker, &permit, outcome, &events, now_ns);
        expect_word(step, step->expect, "verdict", status_word(status));
        if (status >= 0) {
            expect_events(step, &events);
        }
    } else if (strcmp(op, "reset") == 0) {
        OK(escope_breaker_reset_at(breaker, &events, now_ns));
        expect_events(step, &events);
    } else if (strcmp(op, "state") == 0) {
        escope_breaker_stats stats = {.struct_size = sizeof stats};
        OK(escope_breaker_snapshot_at(breaker, &stats, now_ns));
        expect_word(step, step->expect, "phase", phases[stats.phase]);
        expect_number(step, step->expect, "generation", stats.generation);
        expect_number(step, step->expect, "consecutive_failures", stats.consecutive_failures);
        expect_number(step, step->expect, "live_probes", stats.live_probes);
    } else {
        fprintf(stderr, "unknown operation %s\n", op);
        exit(2);
    }
}

static int replay_breaker(const struct json *vector) {
    const struct json *config = json_member(vector, "config", JSON_OBJECT);
    const struct json *ops = json_member(vector, "ops", JSON_LIST);
    escope_breaker_options options;
    escope_breaker *breaker;
    OK(escope_breaker_options_init(&options, sizeof options));
    options.failure_threshold = (uint32_t)json_number(config, "failure_threshold");
    options.half_open_permits = (uint32_t)json_number(config, "half_open_permits");
    options.successes_to_close = (uint32_t)json_number(config, "successes_to_close");
    options.open_for_ns = json_number(config, "open_for_ns");
    options.probe_lease_ns = json_number(config, "probe_lease_ns");
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

static int replay_limiter(const struct json *vector) {
    const struct json *terms = json_member(vector, "rule", JSON_OBJECT);
    const struct json *ops = json_member(vector, "ops", JSON_LIST);
    escope_rule rule = {json_number(terms, "tokens"), json_number(terms, "period_ns"), json_number(terms, "burst")};
    escope_limiter_options options;
    escope_limiter *limiter;
    OK(escope_limiter_options_init(&options, sizeof options));
    options.max_keys = json_number(vector, "max_keys");
    OK(escope_limiter_new(&options, &limiter));

    struct step step = {.vector = vector};
    for (; step.number < ops->count && !step.failed; step.number++) {
        step.op = &ops->items[step.number];
        const char *op = json_text(step.op, "op");
        const struct json *key = json_member(step.op, "key", JSON_STRING);
        uint64_t now_ns = json_number(step.op, "now_ns");
        escope_decision decision;
        escope_status status;
        if (strcmp(op, "reset") == 0) {
            OK(escope_limiter_reset(limiter, key->text, key->length));
            continue;
        }
        if (strcmp(op, "check") == 0) {
            uint64_t cost = json_number(step.op, "cost");
            status = escope_limiter_check_at(limiter, key->text, key->length, &rule, cost, &decision, now_ns);
        } else if (strcmp(op, "peek") == 0) {
            status = escope_limiter_peek_at(limiter, key->text, key->length, &rule, &decision, now_ns);
        } else {
            fprintf(stderr, "unknown operation %s\n", op);
            exit(2);
        }
        step.expect = json_member(step.op, "expect", JSON_OBJECT);
        expect_word(&step, step.expect, "verdict", status_word(status));
        if (status >= 0) {
            expect_number(&step, step.expect, "remaining", decision.remaining);
            expect_number(&step, step.expect, "limit", decision.limit);
            expect_number(&step, step.expect, "retry_after_ns", decision.retry_after_ns);
            expect_number(&step, step.expect, "reset_after_ns", decision.reset_after_ns);
        }
    }
    escope_limiter_free(limiter);
    return step.failed;
}

/* Connections are their numbers, from 1; which of them an operation destroyed is kept as a set. */
enum { MOST_CONNECTIONS = 1024 };

struct numbered {
    uintptr_t made;
    char destroyed[MOST_CONNECTIONS];
    size_t destroyed_count;
};

static int32_t make_numbered(void *userdata, uint64_t deadline_ns, void **connection) {
    struct numbered *numbered = userdata;
    (void)deadline_ns;
    CHECK(numbered->made + 1 < MOST_CONNECTIONS);
    *connection = (void *)++numbered->made;
    return 0;
}

static void destroy_numbered(void *userdata, void *connection) {
    struct numbered *numbered = userdata;
    numbered->destroyed[(uintptr_t)connection] = 1;
    numbered->destroyed_count++;
}

static void expect_destroyed(struct step *step, struct numbered *numbered) {
    const struct json *expected = json_find(step->expect, "destroyed");
    size_t count = expected == NULL ? 0 : expected->count;
    if (numbered->destroyed_count != count) {
        differs(step, "the number destroyed", numbered->destroyed_count, count);
    }
    for (size_t i = 0; i < count; i++) {
        if (expected->items[i].number >= MOST_CONNECTIONS || !numbered->destroyed[expected->items[i].number]) {
            differs(step, "destroyed", 0, expected->items[i].number);
        }
    }
    memset(numbered->destroyed, 0, sizeof numbered->destroyed);
    numbered->destroyed_count = 0;
}

static int replay_pool(const struct json *vector) {
    const struct json *config = json_member(vector, "config", JSON_OBJECT);
    const struct json *ops = json_member(vector, "ops", JSON_LIST);
    static const char *const orders[] = {"lifo", "fifo"}, *const conditions[] = {"good", "broken"};
    struct numbered numbered = {0};
    escope_pool_options options;
    escope_pool *pool;
    OK(escope_pool_options_init(&options, sizeof options));
    options.create = make_numbered;
    options.destroy = destroy_numbered;
    options.userdata = &numbered;
    options.size = (uint32_t)json_number(config, "size");
    options.max_overflow = (uint32_t)json_number(config, "max_overflow");
    options.order = number_of(json_text(config, "order"), orders, 2);
    options.overflow_ttl_ns = json_number(config, "overflow_ttl_ns");
    OK(escope_pool_new(&options, &pool));

    /* Leases are numbered in the order of their grant. */
    escope_lease *leases = calloc(ops->count, sizeof *leases);
    char *on_loan = calloc(ops->count, 1);
    size_t granted = 0;
    CHECK(leases != NULL && on_loan != NULL);
    struct step step = {.vector = vector};
    for (; step.number < ops->count && !step.failed; step.number++) {
        step.op = &ops->items[step.number];
        step.expect = json_member(step.op, "expect", JSON_OBJECT);
        const char *op = json_text(step.op, "op");
        escope_status status;
        if (strcmp(op, "checkout") == 0) {
            void *connection;
            status = escope_pool_checkout(pool, 0, &leases[granted], &connection);
            if (status == ESCOPE_STATUS_OK) {
                on_loan[granted++] = 1;
                expect_number(&step, step.expect, "connection", (uintptr_t)connection);
            }
        } else if (strcmp(op, "checkin") == 0) {
            size_t lease = (size_t)json_number(step.op, "lease");
            CHECK(lease < granted);
            status = escope_pool_checkin(pool, &leases[lease], number_of(json_text(step.op, "condition"), conditions, 2));
            on_loan[lease] = on_loan[lease] && status != ESCOPE_STATUS_OK;
        } else {
            CHECK(strcmp(op, "close") == 0);
            status = escope_pool_close(pool);
        }
        expect_word(&step, step.expect, "verdict", status_word(status));
        expect_destroyed(&step, &numbered);
        escope_pool_stats stats = {.struct_size = sizeof stats};
        OK(escope_pool_snapshot(pool, &stats));
        expect_number(&step, step.expect, "idle", stats.idle);
        expect_number(&step, step.expect, "leased", stats.leased);
        expect_number(&step, step.expect, "overflow", stats.overflow);
        expect_number(&step, step.expect, "waiting", stats.waiting);
    }
    for (size_t lease = 0; lease < granted; lease++) {
        if (on_loan[lease]) {
            OK(escope_pool_checkin(pool, &leases[lease], ESCOPE_CONDITION_GOOD));
        }
    }
    escope_pool_free(pool);
    free(leases);
    free(on_loan);
    return step.failed;
}

static const struct {
    const char *name;
    int (*replay)(const struct json *vector);
} primitives[] = {{"breaker", replay_breaker}, {"limiter", replay_limiter}, {"pool", replay_pool}};

enum { PRIMITIVES = sizeof primitives / sizeof primitives[0] };

static int replay_file(const char *directory, int primitive) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.json", directory, primitives[primitive].name);
    struct json file = json_file(path);
    const struct json *vectors = json_member(&file, "vectors", JSON_LIST);
    size_t failed = 0;
    for (size_t i = 0; i < vectors->count; i++) {
        failed += (size_t)primitives[primitive].replay(&vectors->items[i]);
    }
    printf("vectors %s c: %zu replayed, %zu failed\n", primitives[primitive].name, vectors->count, failed);
    int bad = failed > 0 || vectors->count == 0;
    json_free(&file);
    return bad;
}

int main(int count, char **arguments) {
    if (count < 2) {
        fprintf(stderr, "usage: %s DIRECTORY [PRIMITIVE...]\n", arguments[0]);
        return 2;
    }
    int bad = 0;
    for (int primitive = 0; primitive < PRIMITIVES; primitive++) {
        int wanted = count == 2;
        for (int i = 2; i < count; i++) {
            wanted |= strcmp(arguments[i], primitives[primitive].name) == 0;
        }
        if (wanted) {
            bad |= replay_file(arguments[1], primitive);
        }
    }
    return bad;
}
