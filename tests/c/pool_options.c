/* What a pool can be told beyond its size, through the C ABI: orders, resets and tests of connections, ages, leaks, shedding,
 * resizing, eviction, draining, and the descriptor for an event loop. Times are as short as they get, or awaited: no check
 * depends on how long something takes, but that a wait ends at all. */
#define _GNU_SOURCE
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

static const uint64_t MS = UINT64_C(1000000), MINUTE = UINT64_C(60000000000);

/* What the callbacks do and have done. */
struct world {
    atomic_int made, destroyed, resets, checks, told;
    atomic_int create_fails, reset_fails, check_fails;
    /* A check that is held stays in its callback. */
    atomic_int hold, held;
    _Atomic uint64_t deadline_ns;
    escope_leak leak;
};

static int32_t make(void *userdata, uint64_t deadline_ns, void **connection) {
    struct world *world = userdata;
    (void)deadline_ns;
    if (world->create_fails > 0) {
        world->create_fails--;
        return 5;
    }
    world->made++;
    *connection = malloc(8);
    return 0;
}

static void unmake(void *userdata, void *connection) {
    struct world *world = userdata;
    world->destroyed++;
    free(connection);
}

static int32_t reset(void *userdata, void *connection, uint64_t deadline_ns) {
    struct world *world = userdata;
    CHECK(connection != NULL);
    world->deadline_ns = deadline_ns;
    world->resets++;
    return world->reset_fails;
}

static int32_t check(void *userdata, void *connection, uint64_t deadline_ns) {
    struct world *world = userdata;
    world->deadline_ns = deadline_ns;
    world->checks++;
    while (world->hold) {
        world->held = 1;
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    memset(connection, 1, 8); /* memory that valgrind knows to be gone if it is */
    return world->check_fails;
}

static void leaked(void *userdata, const escope_leak *leak) {
    struct world *world = userdata;
    world->leak = *leak;
    world->told++;
}

static escope_pool_options options_of(struct world *world, uint32_t size, uint32_t max_overflow) {
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

static escope_pool *pool_of(const escope_pool_options *options) {
    escope_pool *pool = NULL;
    OK(escope_pool_new(options, &pool));
    return pool;
}

static escope_pool_stats stats_of(escope_pool *pool) {
    escope_pool_stats stats;
    OK(escope_pool_stats_init(&stats, sizeof stats));
    OK(escope_pool_snapshot(pool, &stats));
    return stats;
}

static void *lend(escope_pool *pool, escope_lease *lease) {
    void *connection = NULL;
    OK(escope_pool_checkout(pool, MINUTE, lease, &connection));
    return connection;
}

static void give_back(escope_pool *pool, const escope_lease *lease) {
    OK(escope_pool_checkin(pool, lease, ESCOPE_CONDITION_GOOD));
}

/* Calls maintain until something is so. */
#define MAINTAINED(pool, condition)                                                                          \
    for (int turns = 0; !(condition); turns++) {                                                             \
        CHECK(turns < 50000);                                                                                \
        OK(escope_pool_maintain(pool, NULL));                                                                \
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);                                              \
    }

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
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
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

/* A thread that waits, and returns what it gets. */
struct caller {
    escope_pool *pool;
    escope_status status;
    pthread_t thread;
};

static void *call(void *argument) {
    struct caller *caller = argument;
    escope_lease lease;
    void *connection;
    caller->status = escope_pool_checkout(caller->pool, MINUTE, &lease, &connection);
    if (caller->status == ESCOPE_STATUS_OK) {
        give_back(caller->pool, &lease);
    }
    return NULL;
}

static void start_waiting(struct caller *caller, escope_pool *pool) {
    *caller = (struct caller){.pool = pool};
    CHECK(pthread_create(&caller->thread, NULL, call, caller) == 0);
    while (stats_of(pool).waiting == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
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
    start_waiting(&waiter, pool);
    EXPECT(ESCOPE_STATUS_POOL_TIMEOUT, escope_pool_drain(pool, 0));
    EXPECT(ESCOPE_STATUS_POOL_CLOSED, escope_pool_checkout(pool, 0, &lease, &connection));
    CHECK(stats_of(pool).phase == ESCOPE_POOL_DRAINING && stats_of(pool).waiting == 1);
    CHECK(pthread_create(&drainer.thread, NULL, drain, &drainer) == 0);
    give_back(pool, &lease);
    pthread_join(waiter.thread, NULL);
    pthread_join(drainer.thread, NULL);
    CHECK(waiter.status == ESCOPE_STATUS_OK && drainer.status == ESCOPE_STATUS_OK && world.destroyed == 1);
    CHECK(stats_of(pool).phase == ESCOPE_POOL_CLOSED);
    OK(escope_pool_drain(pool, 0));
    escope_pool_free(pool);
}

static void waits_that_take_too_long_are_shed(void) {
    struct world world;
    escope_pool_options options = options_of(&world, 1, 0);
    escope_lease lease;
    struct caller waiter;
    options.min_idle = 1; /* else the wait for the first connection would be too long as well */
    options.queue_target_ns = 1;
    options.queue_interval_ns = 1;
    escope_pool *pool = pool_of(&options);
    OK(escope_pool_maintain(pool, NULL));
    lend(pool, &lease);
    waiter = (struct caller){.pool = pool};
    CHECK(pthread_create(&waiter.thread, NULL, call, &waiter) == 0);
    MAINTAINED(pool, stats_of(pool).shed == 1);
    pthread_join(waiter.thread, NULL);
    CHECK(waiter.status == ESCOPE_STATUS_SHED);
    give_back(pool, &lease);
    escope_pool_free(pool);
}

static void a_failed_creation_is_tried_again(void) {
    struct world world;
    escope_pool_options options = options_of(&world, 1, 0);
    escope_lease lease;
    options.create_failure = ESCOPE_CREATE_FAILURE_RETRY;
    escope_pool *pool = pool_of(&options);
    world.create_fails = 3;
    lend(pool, &lease);
    CHECK(world.made == 1 && stats_of(pool).create_errors == 3);
    give_back(pool, &lease);
    escope_pool_free(pool);
}

static int readable(int descriptor, int timeout_ms) {
    struct pollfd one = {.fd = descriptor, .events = POLLIN};
    int count = poll(&one, 1, timeout_ms);
    CHECK(count >= 0);
    return count == 1;
}

static void an_event_loop_waits_by_a_descriptor(void) {
    struct world world;
    escope_pool_options options = options_of(&world, 1, 0);
    escope_lease held, lease;
    escope_waiter *waiter = NULL;
    void *connection = NULL;
    int descriptor = -1, again = -1;
    escope_pool *pool = pool_of(&options);

    /* Nobody has made a connection yet: this waiter is to do it. */
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_pool_checkout_begin(pool, MINUTE, &held, &connection, &waiter));
    INVALID("`descriptor` is NULL", escope_waiter_descriptor(waiter, NULL));
    INVALID("`waiter` is NULL", escope_waiter_descriptor(NULL, &descriptor));
    OK(escope_waiter_descriptor(waiter, &descriptor));
    OK(escope_waiter_descriptor(waiter, &again));
    CHECK(descriptor >= 0 && descriptor == again && readable(descriptor, -1));
    OK(escope_waiter_wait(waiter, 0, &held, &connection));
    INVALID("whose wait has ended", escope_waiter_descriptor(waiter, &descriptor));
    escope_waiter_free(waiter);

    /* It is on loan: nothing to do until it comes back. */
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_pool_checkout_begin(pool, MINUTE, &lease, &connection, &waiter));
    OK(escope_waiter_descriptor(waiter, &descriptor));
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_waiter_wait(waiter, 0, &lease, &connection));
    CHECK(!readable(descriptor, 0));
    give_back(pool, &held);
    CHECK(readable(descriptor, -1));
    OK(escope_waiter_wait(waiter, 0, &held, &connection));
    escope_waiter_free(waiter);

    /* What has to be made anew is this waiter's business, which sleeps in its loop. */
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_pool_checkout_begin(pool, MINUTE, &lease, &connection, &waiter));
    OK(escope_waiter_descriptor(waiter, &descriptor));
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_waiter_wait(waiter, 0, &lease, &connection));
    OK(escope_pool_checkin(pool, &held, ESCOPE_CONDITION_BROKEN));
    CHECK(readable(descriptor, -1));
    OK(escope_waiter_wait(waiter, 0, &held, &connection));
    CHECK(world.made == 2);
    escope_waiter_free(waiter);

    /* The end of the time is told as well. */
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_pool_checkout_begin(pool, MS, &lease, &connection, &waiter));
    OK(escope_waiter_descriptor(waiter, &descriptor));
    escope_status status = ESCOPE_STATUS_POOL_EXHAUSTED;
    while (status == ESCOPE_STATUS_POOL_EXHAUSTED) {
        CHECK(readable(descriptor, -1));
        status = escope_waiter_wait(waiter, 0, &lease, &connection);
    }
    CHECK(status == ESCOPE_STATUS_POOL_TIMEOUT);
    escope_waiter_free(waiter);
    give_back(pool, &held);
    escope_pool_free(pool);
}

static void what_is_asked_for_needs_its_callback(void) {
    struct world world;
    escope_pool_options options;
    escope_pool *pool = NULL;
#define REFUSED(text, field, value)                                                                          \
    options = options_of(&world, 1, 1);                                                                      \
    options.field = (value);                                                                                 \
    INVALID(text, escope_pool_new(&options, &pool));                                                         \
    CHECK(pool == NULL)
    REFUSED("`check` is NULL", health, ESCOPE_HEALTH_PASSIVE);
    REFUSED("`check` is NULL", keepalive_ns, 1);
    REFUSED("`check` is NULL", pre_ping_after_ns, 0);
    REFUSED("`leaked` is NULL", leak_after_ns, 1);
    REFUSED("`health` is 4", health, 4);
    REFUSED("`health_interval_ns` is 0", health, ESCOPE_HEALTH_ACTIVE);
    REFUSED("`create_failure` is 2", create_failure, 2);
    REFUSED("`measure` is 2", measure, 2);
    REFUSED("`min_idle` is 2", min_idle, 2);
    REFUSED("`max_slots` is 1", max_slots, 1);
    REFUSED("`max_lifetime_jitter_ns` is 1", max_lifetime_jitter_ns, 1);
    REFUSED("`max_concurrent_creates` is 0", max_concurrent_creates, 0);
#undef REFUSED
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
    waits_that_take_too_long_are_shed();
    a_failed_creation_is_tried_again();
    an_event_loop_waits_by_a_descriptor();
    what_is_asked_for_needs_its_callback();
    return 0;
}
