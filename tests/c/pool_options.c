/* What a pool can be told beyond its size: orders, resets and tests of connections, ages, leaks, resizing, eviction, draining.
 * Times are as short as they get, or awaited: no check depends on how long something takes, but that a wait ends at all. */
#define _GNU_SOURCE
#include "pool.h"

#include <unistd.h>

static void connections_go_out_in_order(void) {
    const int32_t orders[] = {ESCOPE_ORDER_LIFO, ESCOPE_ORDER_FIFO, ESCOPE_ORDER_ROUND_ROBIN,
                              ESCOPE_ORDER_LEAST_USED};
    /* After both were returned, the first one first, and then twice one after the other. */
    const int expected[][2] = {{1, 1}, {0, 1}, {0, 1}, {0, 1}};
    for (int order = 0; order < 4; order++) {
        struct world world;
        escope_pool_options options = options_of(&world, 2, 0);
        options.order = orders[order];
        escope_pool *pool = pool_of(&options);
        escope_lease first, second;
        void *connections[] = {lend(pool, &first), lend(pool, &second)};
        give_back(pool, &first);
        give_back(pool, &second);
        for (int turn = 0; turn < 2; turn++) {
            CHECK(lend(pool, &first) == connections[expected[order][turn]]);
            give_back(pool, &first);
        }
        escope_pool_free(pool);
    }
}

static void what_comes_back_is_reset_and_tested(void) {
    struct world world;
    escope_pool_options options = options_of(&world, 1, 0);
    escope_lease lease;
    options.reset = reset;
    options.check = check;
    options.health = ESCOPE_HEALTH_PASSIVE;
    options.return_limit_ns = MINUTE;
    escope_pool *pool = pool_of(&options);
    void *connection = lend(pool, &lease);
    CHECK(world.resets == 0 && world.checks == 0);
    give_back(pool, &lease);
    CHECK(world.resets == 1 && world.checks == 1 && world.deadline_ns > 0 && world.deadline_ns < UINT64_MAX);
    CHECK(lend(pool, &lease) == connection);
    world.reset_fails = 1;
    give_back(pool, &lease);
    CHECK(world.checks == 1 && world.destroyed == 1 && stats_of(pool).checks_failed == 1);
    world.reset_fails = 0;
    world.check_fails = -1;
    lend(pool, &lease);
    give_back(pool, &lease);
    CHECK(world.made == 2 && world.destroyed == 2 && stats_of(pool).checks_passed == 1);
    escope_pool_free(pool);
}

static void what_was_idle_for_long_is_tested_before_it_is_lent(void) {
    struct world world;
    escope_pool_options options = options_of(&world, 2, 0);
    escope_lease lease;
    escope_waiter *waiter = NULL;
    void *connection = NULL;
    options.check = check;
    options.pre_ping_after_ns = 0;
    escope_pool *pool = pool_of(&options);
    void *first = lend(pool, &lease);
    CHECK(world.checks == 0);
    give_back(pool, &lease);
    CHECK(lend(pool, &lease) == first && world.checks == 1);
    give_back(pool, &lease);
    world.check_fails = 1;
    lend(pool, &lease);
    CHECK(world.checks == 2 && world.made == 2 && world.destroyed == 1);
    give_back(pool, &lease);
    /* Nothing to lend, nothing to wait for and nobody to make one. */
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_pool_checkout_begin(pool, MINUTE, &lease, &connection, &waiter));
    CHECK(world.destroyed == 2 && stats_of(pool).pre_pings == 3);
    escope_waiter_free(waiter);
    escope_pool_free(pool);
}

static void idle_connections_are_tested(void) {
    for (int round = 0; round < 2; round++) {
        struct world world;
        escope_pool_options options = options_of(&world, 1, 0);
        escope_lease lease;
        options.check = check;
        if (round == 0) {
            options.keepalive_ns = 1;
        } else {
            options.health = ESCOPE_HEALTH_ACTIVE;
            options.health_interval_ns = 1;
        }
        escope_pool *pool = pool_of(&options);
        lend(pool, &lease);
        give_back(pool, &lease);
        MAINTAINED(pool, world.checks > 1);
        CHECK(world.destroyed == 0);
        world.check_fails = 1;
        MAINTAINED(pool, world.destroyed > 0);
        escope_pool_free(pool);
    }
}

static void *return_it(void *argument) {
    void **both = argument;
    give_back(both[0], both[1]);
    return NULL;
}

static void no_connection_is_destroyed_under_its_tester(void) {
    struct world world;
    escope_pool_options options = options_of(&world, 1, 0);
    escope_lease lease, other;
    pthread_t thread;
    options.check = check;
    options.health = ESCOPE_HEALTH_PASSIVE;
    options.return_limit_ns = 1;
    escope_pool *pool = pool_of(&options);
    void *both[] = {pool, &lease};
    lend(pool, &lease);
    world.hold = 1;
    CHECK(pthread_create(&thread, NULL, return_it, both) == 0);
    while (!world.held) {
        a_moment();
    }
    MAINTAINED(pool, stats_of(pool).checks_failed == 1);
    CHECK(world.destroyed == 0 && stats_of(pool).closing == 1);
    world.hold = 0;
    pthread_join(thread, NULL);
    CHECK(world.destroyed == 1 && stats_of(pool).closing == 0);
    lend(pool, &other);
    CHECK(world.made == 2);
    OK(escope_pool_checkin(pool, &other, ESCOPE_CONDITION_BROKEN));
    escope_pool_free(pool);
}

static void a_lease_that_lasts_is_told_once(void) {
    struct world world;
    escope_pool_options options = options_of(&world, 1, 0);
    escope_lease lease;
    options.leaked = leaked;
    options.leak_after_ns = 1;
    escope_pool *pool = pool_of(&options);
    uint64_t before = escope_clock_now_ns();
    void *connection = lend(pool, &lease);
    MAINTAINED(pool, world.told > 0);
    for (int turn = 0; turn < 3; turn++) {
        OK(escope_pool_maintain(pool, NULL));
    }
    CHECK(world.told == 1 && world.leak.connection == connection && world.leak.holder == (uint64_t)gettid());
    CHECK(world.leak.since_ns >= before && world.leak.since_ns <= escope_clock_now_ns());
    give_back(pool, &lease);
    CHECK(stats_of(pool).leaks == 1 && stats_of(pool).use_ns > 0);
    escope_pool_free(pool);
}

/* Of a leak's holder nothing is lost by what somebody else does with an old copy of a lease. */
static void a_stale_check_in_leaves_the_name_of_the_holder(void) {
    struct world world;
    escope_pool_options options = options_of(&world, 1, 0);
    escope_lease old, lease;
    options.leaked = leaked;
    options.leak_after_ns = 1;
    escope_pool *pool = pool_of(&options);
    lend(pool, &old);
    give_back(pool, &old);
    lend(pool, &lease);
    EXPECT(ESCOPE_STATUS_STALE_LEASE, escope_pool_checkin(pool, &old, ESCOPE_CONDITION_GOOD));
    MAINTAINED(pool, world.told > 0);
    CHECK(world.told == 1 && world.leak.holder == (uint64_t)gettid());
    give_back(pool, &lease);
    escope_pool_free(pool);
}

static void connections_have_ages(void) {
    struct world world;
    escope_pool_options options = options_of(&world, 3, 0);
    escope_lease lease;
    options.min_idle = 2;
    escope_pool *pool = pool_of(&options);
    OK(escope_pool_maintain(pool, NULL));
    CHECK(world.made == 2 && stats_of(pool).idle == 2);
    escope_pool_free(pool);

    options = options_of(&world, 3, 0);
    options.idle_timeout_ns = 1;
    pool = pool_of(&options);
    lend(pool, &lease);
    give_back(pool, &lease);
    MAINTAINED(pool, world.destroyed == 1);
    escope_pool_free(pool);

    options = options_of(&world, 3, 0);
    options.max_lifetime_ns = 1;
    pool = pool_of(&options);
    lend(pool, &lease);
    CHECK(world.destroyed == 0);
    give_back(pool, &lease);
    CHECK(world.destroyed == 1);
    escope_pool_free(pool);
}

static void a_pool_is_resized_and_its_connections_replaced(void) {
    struct world world;
    escope_pool_options options = options_of(&world, 1, 0);
    escope_lease leases[2];
    void *connection;
    options.max_slots = 2;
    escope_pool *pool = pool_of(&options);
    lend(pool, &leases[0]);
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_pool_checkout(pool, 0, &leases[1], &connection));
    OK(escope_pool_resize(pool, 2, 0));
    lend(pool, &leases[1]);
    INVALID("`size` is 3", escope_pool_resize(pool, 3, 0));
    OK(escope_pool_resize(pool, 1, 0));
    CHECK(stats_of(pool).capacity == 1 && world.destroyed == 0);
    give_back(pool, &leases[0]);
    give_back(pool, &leases[1]);
    CHECK(world.destroyed == 1 && stats_of(pool).idle == 1);
    OK(escope_pool_evict(pool, 0));
    CHECK(world.destroyed == 2);
    lend(pool, &leases[0]);
    OK(escope_pool_evict(pool, 0));
    CHECK(world.destroyed == 2);
    give_back(pool, &leases[0]);
    CHECK(world.destroyed == 3);
    escope_pool_free(pool);
}

static void *drain(void *argument) {
    struct caller *caller = argument;
    caller->status = escope_pool_drain(caller->pool, UINT64_MAX);
    return NULL;
}

static void a_drained_pool_serves_who_waits(void) {
    struct world world;
    escope_pool_options options = options_of(&world, 1, 0);
    escope_lease lease;
    void *connection;
    escope_pool *pool = pool_of(&options);
    struct caller waiter, drainer = {.pool = pool, .status = -1};
    lend(pool, &lease);
    start_waiting(&waiter, pool, MINUTE);
    EXPECT(ESCOPE_STATUS_POOL_TIMEOUT, escope_pool_drain(pool, 0));
    EXPECT(ESCOPE_STATUS_POOL_CLOSED, escope_pool_checkout(pool, 0, &lease, &connection));
    CHECK(stats_of(pool).phase == ESCOPE_POOL_DRAINING && stats_of(pool).waiting == 1);
    CHECK(pthread_create(&drainer.thread, NULL, drain, &drainer) == 0);
    give_back(pool, &lease);
    pthread_join(waiter.thread, NULL);
    give_back(pool, &waiter.lease);
    pthread_join(drainer.thread, NULL);
    CHECK(waiter.status == ESCOPE_STATUS_OK && drainer.status == ESCOPE_STATUS_OK && world.destroyed == 1);
    CHECK(stats_of(pool).phase == ESCOPE_POOL_CLOSED);
    OK(escope_pool_drain(pool, 0));
    escope_pool_free(pool);
}

int main(void) {
    connections_go_out_in_order();
    what_comes_back_is_reset_and_tested();
    what_was_idle_for_long_is_tested_before_it_is_lent();
    idle_connections_are_tested();
    no_connection_is_destroyed_under_its_tester();
    a_lease_that_lasts_is_told_once();
    a_stale_check_in_leaves_the_name_of_the_holder();
    connections_have_ages();
    a_pool_is_resized_and_its_connections_replaced();
    a_drained_pool_serves_who_waits();
    return 0;
}
