/* Replays tests/vectors/PRIMITIVE.json through the C ABI: vectors DIRECTORY [PRIMITIVE...]
 *
 * Prints `vectors PRIMITIVE c: N replayed, M failed` for each and fails if one failed or there was none. */
#include "replay_breaker.h"
#include "replay_limiter.h"

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
} primitives[] = {
    {"breaker", replay_breaker},
    {"limiter", replay_limiter},
    {"pool", replay_pool},
};

enum { PRIMITIVES = sizeof primitives / sizeof primitives[0] };

static int replay_file(const char *directory, const char *name, int (*replay)(const struct json *vector)) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.json", directory, name);
    struct json file = json_file(path);
    const struct json *vectors = json_member(&file, "vectors", JSON_LIST);
    size_t failed = 0;
    for (size_t i = 0; i < vectors->count; i++) {
        failed += (size_t)replay(&vectors->items[i]);
    }
    printf("vectors %s c: %zu replayed, %zu failed\n", name, vectors->count, failed);
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
            bad |= replay_file(arguments[1], primitives[primitive].name, primitives[primitive].replay);
        }
    }
    return bad;
}
