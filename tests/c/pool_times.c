/* The pool at given times: nothing here takes the machine's time, and nothing waits. */
#include "pool.h"

static escope_pool_options timed_options(struct world *world) {
    escope_pool_options options = options_of(world, 1, 0);
    options.check = check;
    options.leaked = leaked;
    return options;
}

/* P07, P08, P09: each wait ends at its own time and not before, and who came first is served first. */
static void waits_end_in_order_and_on_time(void) {
    struct world world;
    escope_pool_options options = timed_options(&world);
    escope_pool *pool = pool_of(&options);
    escope_lease lease, next;
    escope_waiter *waiters[3];
    void *connection, *first;
    OK(escope_pool_checkout_at(pool, &lease, &first, 100));
    for (int i = 0; i < 3; i++) {
        EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED,
               escope_pool_checkout_begin_at(pool, 10, &next, &connection, &waiters[i], 100 + (uint64_t)i));
    }
    for (int i = 0; i < 3; i++) {
        EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_waiter_wait_at(waiters[i], &next, &connection, 109));
    }
    EXPECT(ESCOPE_STATUS_POOL_TIMEOUT, escope_waiter_wait_at(waiters[0], &next, &connection, 110));
    OK(escope_pool_checkin_at(pool, &lease, ESCOPE_CONDITION_GOOD, 110));
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_waiter_wait_at(waiters[2], &next, &connection, 110));
    OK(escope_waiter_wait_at(waiters[1], &next, &connection, 110));
    CHECK(connection == first && world.made == 1);
    EXPECT(ESCOPE_STATUS_POOL_TIMEOUT, escope_waiter_wait_at(waiters[2], &next, &connection, 112));
    for (int i = 0; i < 3; i++) {
        escope_waiter_free(waiters[i]);
    }
    OK(escope_pool_checkin_at(pool, &next, ESCOPE_CONDITION_GOOD, 112));
    escope_pool_stats stats = stats_of(pool);
    CHECK(stats.timed_out == 2 && stats.granted == 2 && stats.queue_ns == 9 && stats.longest_queue_ns == 9);
    escope_pool_free(pool);
}

/* A place that is given up is given up at its own time: by the machine's, the connection would be too old for the next. */
static void a_place_is_given_up_at_the_time_that_was_given(void) {
    struct world world;
    escope_pool_options options = timed_options(&world);
    options.max_lifetime_ns = 1000;
    escope_pool *pool = pool_of(&options);
    escope_lease lease;
    escope_waiter *waiter;
    void *connection;
    OK(escope_pool_checkout_at(pool, &lease, &connection, 1));
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED,
           escope_pool_checkout_begin_at(pool, UINT64_MAX, &lease, &connection, &waiter, 2));
    OK(escope_pool_checkin_at(pool, &lease, ESCOPE_CONDITION_GOOD, 3));
    escope_waiter_free(waiter);
    CHECK(world.destroyed == 0 && stats_of(pool).idle == 1);
    OK(escope_pool_maintain_at(pool, NULL, 1000));
    CHECK(world.destroyed == 0);
    OK(escope_pool_maintain_at(pool, NULL, 1001));
    CHECK(world.destroyed == 1);
    escope_pool_free(pool);
}

/* P16: after a failed creation there is none until the pause is over. */
static void creations_pause_after_a_failure(void) {
    struct world world;
    escope_pool_options options = timed_options(&world);
    options.create_backoff_ns = 100;
    escope_pool *pool = pool_of(&options);
    escope_lease lease;
    void *connection;
    world.result = 7;
    EXPECT(ESCOPE_STATUS_CREATE_FAILED, escope_pool_checkout_at(pool, &lease, &connection, 1000));
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_pool_checkout_at(pool, &lease, &connection, 1000));
    world.result = 0;
    uint64_t at_ns = 1000;
    while (escope_pool_checkout_at(pool, &lease, &connection, at_ns) != ESCOPE_STATUS_OK) {
        at_ns++;
    }
    /* The pause is longer at random, by a quarter at most. */
    CHECK(at_ns >= 1100 && at_ns <= 1125);
    OK(escope_pool_checkin_at(pool, &lease, ESCOPE_CONDITION_GOOD, at_ns));
    escope_pool_free(pool);
}

/* What callbacks and leak reports are told of time is of the given one. */
static void callbacks_hear_the_given_time(void) {
    struct world world;
    escope_pool_options options = timed_options(&world);
    options.pre_ping_after_ns = 5;
    options.pre_ping_limit_ns = 50;
    options.leak_after_ns = 7;
    escope_pool *pool = pool_of(&options);
    escope_lease lease;
    void *connection;
    uint64_t next_ns;
    OK(escope_pool_checkout_at(pool, &lease, &connection, 10));
    OK(escope_pool_checkin_at(pool, &lease, ESCOPE_CONDITION_GOOD, 11));
    OK(escope_pool_checkout_at(pool, &lease, &connection, 100));
    CHECK(world.checks == 1 && world.deadline_ns == 150);
    OK(escope_pool_maintain_at(pool, &next_ns, 106));
    CHECK(world.told == 0 && next_ns == 107);
    OK(escope_pool_maintain_at(pool, &next_ns, 107));
    CHECK(world.told == 1 && world.leak.since_ns == 100 && next_ns == UINT64_MAX);
    OK(escope_pool_checkin_at(pool, &lease, ESCOPE_CONDITION_GOOD, 110));
    CHECK(stats_of(pool).use_ns == 1 + 10);
    escope_pool_free(pool);
}

static void a_pool_is_changed_and_ended_at_given_times(void) {
    struct world world;
    escope_pool_options options = timed_options(&world);
    options.max_slots = 2;
    escope_pool *pool = pool_of(&options);
    escope_lease leases[2];
    void *connection;
    OK(escope_pool_checkout_at(pool, &leases[0], &connection, 1));
    OK(escope_pool_resize_at(pool, 2, 0, 2));
    OK(escope_pool_checkout_at(pool, &leases[1], &connection, 2));
    OK(escope_pool_evict_at(pool, 0, 3));
    OK(escope_pool_checkin_at(pool, &leases[0], ESCOPE_CONDITION_GOOD, 3));
    CHECK(world.destroyed == 1);
    EXPECT(ESCOPE_STATUS_POOL_TIMEOUT, escope_pool_drain_at(pool, 4));
    OK(escope_pool_checkin_at(pool, &leases[1], ESCOPE_CONDITION_GOOD, 5));
    OK(escope_pool_drain_at(pool, 6));
    EXPECT(ESCOPE_STATUS_POOL_CLOSED, escope_pool_checkout_at(pool, &leases[0], &connection, 7));
    OK(escope_pool_close_at(pool, 8));
    CHECK(world.destroyed == 2);
    escope_pool_free(pool);
}

static void nonsense_is_refused(void) {
    struct world world;
    escope_pool_options options = timed_options(&world);
    escope_pool *pool = pool_of(&options);
    escope_lease lease = {0};
    escope_waiter *waiter;
    void *connection;
    INVALID("`pool`", escope_pool_checkout_at(NULL, &lease, &connection, 1));
    INVALID("`lease`", escope_pool_checkout_at(pool, NULL, &connection, 1));
    INVALID("`connection`", escope_pool_checkout_at(pool, &lease, NULL, 1));
    INVALID("`waiter`", escope_pool_checkout_begin_at(pool, 1, &lease, &connection, NULL, 1));
    INVALID("`timeout_ns` is 0", escope_pool_checkout_begin_at(pool, 0, &lease, &connection, &waiter, 1));
    INVALID("`waiter`", escope_waiter_wait_at(NULL, &lease, &connection, 1));
    INVALID("`lease`", escope_pool_checkin_at(pool, NULL, ESCOPE_CONDITION_GOOD, 1));
    EXPECT(ESCOPE_STATUS_STALE_LEASE, escope_pool_checkin_at(pool, &lease, ESCOPE_CONDITION_GOOD, 1));
    INVALID("`condition` is 2", escope_pool_checkin_at(pool, &lease, 2, 1));
    INVALID("`pool`", escope_pool_maintain_at(NULL, NULL, 1));
    INVALID("`pool`", escope_pool_close_at(NULL, 1));
    INVALID("`pool`", escope_pool_drain_at(NULL, 1));
    INVALID("`pool`", escope_pool_evict_at(NULL, 0, 1));
    INVALID("`pool`", escope_pool_resize_at(NULL, 1, 0, 1));
    escope_pool_free(pool);
}

int main(void) {
    waits_end_in_order_and_on_time();
    a_place_is_given_up_at_the_time_that_was_given();
    creations_pause_after_a_failure();
    callbacks_hear_the_given_time();
    a_pool_is_changed_and_ended_at_given_times();
    nonsense_is_refused();
    return 0;
}
