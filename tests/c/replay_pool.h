/* Replays the vectors of the pool: pool.json with the calls that read the machine's clock, pool_full.json at given times. */
#ifndef ESCOPE_TEST_REPLAY_POOL_H
#define ESCOPE_TEST_REPLAY_POOL_H

#include "replay.h"

/* Connections are their numbers, from 1. Which of them an operation created, tested and destroyed is counted for each. */
enum { MOST_CONNECTIONS = 1024 };

struct deeds {
    unsigned char times[MOST_CONNECTIONS];
    size_t count;
};

struct world {
    uintptr_t made;
    char spoilt[MOST_CONNECTIONS];
    struct deeds created, checked, destroyed;
};

static void done(struct deeds *deeds, uintptr_t connection) {
    deeds->times[connection]++;
    deeds->count++;
}

static int32_t make_numbered(void *userdata, uint64_t deadline_ns, void **connection) {
    struct world *world = userdata;
    (void)deadline_ns;
    CHECK(world->made + 1 < MOST_CONNECTIONS);
    *connection = (void *)++world->made;
    done(&world->created, world->made);
    return 0;
}

static int32_t check_numbered(void *userdata, void *connection, uint64_t deadline_ns) {
    struct world *world = userdata;
    (void)deadline_ns;
    done(&world->checked, (uintptr_t)connection);
    return world->spoilt[(uintptr_t)connection];
}

static void destroy_numbered(void *userdata, void *connection) {
    struct world *world = userdata;
    done(&world->destroyed, (uintptr_t)connection);
}

static void expect_deeds(struct step *step, const char *name, struct deeds *deeds) {
    const struct json *expected = json_find(step->expect, name);
    size_t count = expected == NULL ? 0 : expected->count;
    if (deeds->count != count) {
        differs(step, name, deeds->count, count);
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t connection = expected->items[i].number;
        if (connection >= MOST_CONNECTIONS || deeds->times[connection]-- == 0) {
            differs(step, name, 0, connection);
        }
    }
    memset(deeds, 0, sizeof *deeds);
}

static escope_pool_options numbered_options(struct world *world, const struct json *config) {
    static const char *const orders[] = {"lifo", "fifo", "round_robin", "least_used"};
    escope_pool_options options;
    OK(escope_pool_options_init(&options, sizeof options));
    options.create = make_numbered;
    options.destroy = destroy_numbered;
    options.check = check_numbered;
    options.userdata = world;
    options.size = (uint32_t)json_number(config, "size");
    options.max_overflow = (uint32_t)json_number(config, "max_overflow");
    options.order = number_of(json_text(config, "order"), orders, 4);
    options.overflow_ttl_ns = json_number(config, "overflow_ttl_ns");
    return options;
}

static int32_t condition_of(const struct json *op) {
    static const char *const conditions[] = {"good", "broken"};
    return number_of(json_text(op, "condition"), conditions, 2);
}

/* A pool whose leases are numbered in the order of their grant, and what it takes to end them. */
struct lending {
    escope_pool *pool;
    escope_lease *leases;
    char *on_loan;
    size_t granted;
};

static struct lending lending_of(const escope_pool_options *options, size_t most) {
    struct lending lending = {.leases = calloc(most, sizeof(escope_lease)), .on_loan = calloc(most, 1)};
    CHECK(lending.leases != NULL && lending.on_loan != NULL);
    OK(escope_pool_new(options, &lending.pool));
    return lending;
}

static void lent(struct step *step, struct lending *lending, escope_status status, void *connection) {
    if (status == ESCOPE_STATUS_OK) {
        lending->on_loan[lending->granted++] = 1;
        expect_number(step, step->expect, "connection", (uintptr_t)connection);
    }
}

static size_t lease_of(const struct lending *lending, const struct json *op) {
    size_t lease = (size_t)json_number(op, "lease");
    CHECK(lease < lending->granted);
    return lease;
}

static void expect_counts(struct step *step, const struct lending *lending) {
    escope_pool_stats stats = {.struct_size = sizeof stats};
    OK(escope_pool_snapshot(lending->pool, &stats));
    expect_number(step, step->expect, "idle", stats.idle);
    expect_number(step, step->expect, "leased", stats.leased);
    expect_number(step, step->expect, "overflow", stats.overflow);
    if (json_find(step->expect, "waiting") != NULL) {
        expect_number(step, step->expect, "waiting", stats.waiting);
    }
}

static void end_lending(struct lending *lending) {
    for (size_t lease = 0; lease < lending->granted; lease++) {
        if (lending->on_loan[lease]) {
            OK(escope_pool_checkin(lending->pool, &lending->leases[lease], ESCOPE_CONDITION_GOOD));
        }
    }
    escope_pool_free(lending->pool);
    free(lending->leases);
    free(lending->on_loan);
}

static int replay_pool(const struct json *vector) {
    const struct json *ops = json_member(vector, "ops", JSON_LIST);
    struct world world = {0};
    escope_pool_options options = numbered_options(&world, json_member(vector, "config", JSON_OBJECT));
    struct lending lending = lending_of(&options, ops->count);
    struct step step = {.vector = vector};
    for (; step.number < ops->count && !step.failed; step.number++) {
        step.op = &ops->items[step.number];
        step.expect = json_member(step.op, "expect", JSON_OBJECT);
        const char *op = json_text(step.op, "op");
        escope_status status;
        if (strcmp(op, "checkout") == 0) {
            void *connection;
            status = escope_pool_checkout(lending.pool, 0, &lending.leases[lending.granted], &connection);
            lent(&step, &lending, status, connection);
        } else if (strcmp(op, "checkin") == 0) {
            size_t lease = lease_of(&lending, step.op);
            status = escope_pool_checkin(lending.pool, &lending.leases[lease], condition_of(step.op));
            lending.on_loan[lease] = lending.on_loan[lease] && status != ESCOPE_STATUS_OK;
        } else {
            CHECK(strcmp(op, "close") == 0);
            status = escope_pool_close(lending.pool);
        }
        expect_word(&step, step.expect, "verdict", status_word(status));
        expect_deeds(&step, "destroyed", &world.destroyed);
        expect_counts(&step, &lending);
    }
    end_lending(&lending);
    return step.failed;
}

/* Does what an operation left to do. */
static void settle_at(struct world *world, escope_pool *pool, uint64_t now_ns) {
    size_t before, after = 0;
    do {
        before = after;
        OK(escope_pool_maintain_at(pool, NULL, now_ns));
        after = world->created.count + world->checked.count + world->destroyed.count;
    } while (after != before);
}

static int replay_pool_full(const struct json *vector) {
    static const char *const healths[] = {"off", "passive", "active", "mixed"};
    const struct json *config = json_member(vector, "config", JSON_OBJECT);
    const struct json *ops = json_member(vector, "ops", JSON_LIST);
    struct world world = {0};
    escope_pool_options options = numbered_options(&world, config);
    options.max_slots = (uint32_t)json_number(config, "max_slots");
    options.min_idle = (uint32_t)json_number(config, "min_idle");
    options.max_concurrent_creates = (uint32_t)json_number(config, "max_concurrent_creates");
    options.health = number_of(json_text(config, "health"), healths, 4);
    options.health_interval_ns = json_number(config, "health_interval_ns");
    options.idle_timeout_ns = json_number(config, "idle_timeout_ns");
    options.max_lifetime_ns = json_number(config, "max_lifetime_ns");
    options.keepalive_ns = json_number(config, "keepalive_ns");
    options.pre_ping_after_ns = json_find(config, "pre_ping_after_ns")->kind == JSON_NULL
                                    ? UINT64_MAX
                                    : json_number(config, "pre_ping_after_ns");
    struct lending lending = lending_of(&options, ops->count);
    struct step step = {.vector = vector};
    for (; step.number < ops->count && !step.failed; step.number++) {
        step.op = &ops->items[step.number];
        step.expect = json_member(step.op, "expect", JSON_OBJECT);
        const char *op = json_text(step.op, "op");
        uint64_t now_ns = json_number(step.op, "now_ns");
        escope_status status = ESCOPE_STATUS_OK;
        if (strcmp(op, "checkout") == 0) {
            void *connection;
            status = escope_pool_checkout_at(lending.pool, &lending.leases[lending.granted], &connection, now_ns);
            lent(&step, &lending, status, connection);
        } else if (strcmp(op, "checkin") == 0) {
            size_t lease = lease_of(&lending, step.op);
            status = escope_pool_checkin_at(lending.pool, &lending.leases[lease], condition_of(step.op), now_ns);
            lending.on_loan[lease] = lending.on_loan[lease] && status != ESCOPE_STATUS_OK;
        } else if (strcmp(op, "resize") == 0) {
            status = escope_pool_resize_at(lending.pool, (uint32_t)json_number(step.op, "size"),
                                           (uint32_t)json_number(step.op, "max_overflow"), now_ns);
        } else if (strcmp(op, "spoil") == 0) {
            uint64_t connection = json_number(step.op, "connection");
            CHECK(connection <= world.made);
            world.spoilt[connection] = 1;
        } else if (strcmp(op, "evict") == 0) {
            status = escope_pool_evict_at(lending.pool, 0, now_ns);
        } else if (strcmp(op, "drain") == 0) {
            status = escope_pool_drain_at(lending.pool, now_ns);
            /* It says whether anything is left, which the vector's counts say. */
            status = status == ESCOPE_STATUS_POOL_TIMEOUT ? ESCOPE_STATUS_OK : status;
        } else if (strcmp(op, "close") == 0) {
            status = escope_pool_close_at(lending.pool, now_ns);
        } else {
            CHECK(strcmp(op, "maintain") == 0);
        }
        settle_at(&world, lending.pool, now_ns);
        expect_word(&step, step.expect, "verdict", status_word(status));
        expect_deeds(&step, "created", &world.created);
        expect_deeds(&step, "checked", &world.checked);
        expect_deeds(&step, "destroyed", &world.destroyed);
        expect_counts(&step, &lending);
    }
    end_lending(&lending);
    return step.failed;
}

#endif
