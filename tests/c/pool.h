/* Connections for the tests of the pool: blocks of memory, so that valgrind sees one that is lost and one that is used too late.
 * What the callbacks do, and have done, stands in a struct world. */
#ifndef ESCOPE_TEST_POOL_H
#define ESCOPE_TEST_POOL_H

#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

static const uint64_t MS = UINT64_C(1000000), MINUTE = UINT64_C(60000000000);

struct world {
    atomic_int made, destroyed, resets, checks, told;
    /* What they return: `create_fails` counts the creations that fail, `result` and `gives_null` are for all. */
    atomic_int create_fails, result, gives_null, reset_fails, check_fails;
    /* Creations after the first wait until two run. */
    atomic_int meets, meeting;
    /* A check that is held stays in its callback. */
    atomic_int hold, held;
    /* Creations look at this pool, and destructions close it. */
    escope_pool *reenters;
    _Atomic uint64_t deadline_ns;
    pthread_t last_creator;
    escope_leak leak;
};

static inline void a_moment(void) {
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

static inline int32_t make(void *userdata, uint64_t deadline_ns, void **connection) {
    struct world *world = userdata;
    world->deadline_ns = deadline_ns;
    if (world->create_fails > 0) {
        world->create_fails--;
        return 5;
    }
    int result = world->result;
    if (result != 0 || world->gives_null) {
        if (result != 0) {
            *connection = world; /* nobody may take this for a connection */
        }
        return result;
    }
    if (world->meets && world->made > 0) {
        world->meeting++;
        for (int waits = 0; world->meeting < 2; waits++) {
            CHECK(waits < 50000);
            a_moment();
        }
    }
    if (world->reenters != NULL) {
        escope_pool_stats stats = {.struct_size = sizeof stats};
        OK(escope_pool_snapshot(world->reenters, &stats));
        CHECK(stats.creating == 1);
        OK(escope_pool_maintain(world->reenters, NULL));
    }
    world->last_creator = pthread_self();
    world->made++;
    *connection = malloc(8);
    return 0;
}

static inline void unmake(void *userdata, void *connection) {
    struct world *world = userdata;
    CHECK(connection != NULL);
    if (world->reenters != NULL) {
        OK(escope_pool_close(world->reenters));
    }
    world->destroyed++;
    free(connection);
}

static inline int32_t reset(void *userdata, void *connection, uint64_t deadline_ns) {
    struct world *world = userdata;
    CHECK(connection != NULL);
    world->deadline_ns = deadline_ns;
    world->resets++;
    return world->reset_fails;
}

static inline int32_t check(void *userdata, void *connection, uint64_t deadline_ns) {
    struct world *world = userdata;
    world->deadline_ns = deadline_ns;
    world->checks++;
    while (world->hold) {
        world->held = 1;
        a_moment();
    }
    memset(connection, 1, 8); /* memory that valgrind knows to be gone if it is */
    return world->check_fails;
}

static inline void leaked(void *userdata, const escope_leak *leak) {
    struct world *world = userdata;
    world->leak = *leak;
    world->told++;
}

static inline escope_pool_options options_of(struct world *world, uint32_t size, uint32_t max_overflow) {
    escope_pool_options options;
    OK(escope_pool_options_init(&options, sizeof options));
    memset(world, 0, sizeof *world);
    options.create = make;
    options.destroy = unmake;
    options.userdata = world;
    options.size = size;
    options.max_overflow = max_overflow;
    options.create_backoff_ns = MS;
    options.create_backoff_cap_ns = MS;
    return options;
}

static inline escope_pool *pool_of(const escope_pool_options *options) {
    escope_pool *pool = NULL;
    OK(escope_pool_new(options, &pool));
    return pool;
}

static inline escope_pool *plain_pool(struct world *world, uint32_t size, uint32_t max_overflow) {
    escope_pool_options options = options_of(world, size, max_overflow);
    return pool_of(&options);
}

/* P25: the numbers reconcile, whenever one looks. */
static inline escope_pool_stats stats_of(const escope_pool *pool) {
    escope_pool_stats stats;
    OK(escope_pool_stats_init(&stats, sizeof stats));
    OK(escope_pool_snapshot(pool, &stats));
    CHECK(stats.requests == stats.granted + stats.timed_out + stats.cancelled + stats.exhausted + stats.queue_full +
                                stats.closed + stats.shed + stats.create_failed + stats.waiting);
    CHECK(stats.granted == stats.returned + stats.broken + stats.leased);
    return stats;
}

static inline void *lend(escope_pool *pool, escope_lease *lease) {
    void *connection = NULL;
    OK(escope_pool_checkout(pool, MINUTE, lease, &connection));
    return connection;
}

static inline void give_back(escope_pool *pool, const escope_lease *lease) {
    OK(escope_pool_checkin(pool, lease, ESCOPE_CONDITION_GOOD));
}

/* Calls maintain until something is so. */
#define MAINTAINED(pool, condition)                                                                          \
    for (int turns = 0; !(condition); turns++) {                                                             \
        CHECK(turns < 50000);                                                                                \
        OK(escope_pool_maintain(pool, NULL));                                                                \
        a_moment();                                                                                          \
    }

/* A thread that checks out once. */
struct caller {
    escope_pool *pool;
    uint64_t timeout_ns;
    escope_lease lease;
    void *connection;
    escope_status status;
    char message[257];
    pthread_t thread;
};

static inline void *call(void *argument) {
    struct caller *caller = argument;
    caller->status = escope_pool_checkout(caller->pool, caller->timeout_ns, &caller->lease, &caller->connection);
    strcpy(caller->message, last_error());
    return NULL;
}

/* Starts a thread and returns once it waits. */
static inline void start_waiting(struct caller *caller, escope_pool *pool, uint64_t timeout_ns) {
    uint32_t before = stats_of(pool).waiting;
    *caller = (struct caller){.pool = pool, .timeout_ns = timeout_ns};
    CHECK(pthread_create(&caller->thread, NULL, call, caller) == 0);
    while (stats_of(pool).waiting == before) {
        a_moment();
    }
}

#endif
