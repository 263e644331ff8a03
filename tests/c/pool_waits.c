/* Waits for a connection: what ends them, creations that fail or are made side by side, a place in the queue that is kept between
 * slices and one that an event loop watches. No check depends on how long something takes, but that a wait ends at all. */
#include "pool.h"

#include <poll.h>
#include <signal.h>

static void a_return_ends_a_wait(void) {
    struct world world;
    escope_pool *pool = plain_pool(&world, 1, 0);
    struct caller first, second;
    escope_lease lease;
    void *connection;
    OK(escope_pool_checkout(pool, 0, &lease, &connection));
    start_waiting(&first, pool, UINT64_MAX);
    start_waiting(&second, pool, UINT64_MAX);
    OK(escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_GOOD));
    pthread_join(first.thread, NULL);
    CHECK(first.status == ESCOPE_STATUS_OK && first.connection == connection);
    OK(escope_pool_checkin(pool, &first.lease, ESCOPE_CONDITION_GOOD));
    pthread_join(second.thread, NULL);
    CHECK(second.status == ESCOPE_STATUS_OK && second.connection == connection && world.made == 1);
    OK(escope_pool_checkin(pool, &second.lease, ESCOPE_CONDITION_GOOD));
    escope_pool_free(pool);
    CHECK(world.destroyed == 1);
}

/* The waiter gets a new connection, and makes it itself: who returns a broken one does not pay for the next. */
static void a_broken_return_ends_a_wait(void) {
    struct world world;
    escope_pool *pool = plain_pool(&world, 1, 0);
    struct caller waiter;
    escope_lease lease;
    void *connection;
    OK(escope_pool_checkout(pool, 0, &lease, &connection));
    CHECK(pthread_equal(world.last_creator, pthread_self()));
    start_waiting(&waiter, pool, UINT64_MAX);
    OK(escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_BROKEN));
    pthread_join(waiter.thread, NULL);
    CHECK(waiter.status == ESCOPE_STATUS_OK && world.made == 2 && world.destroyed == 1);
    CHECK(!pthread_equal(world.last_creator, pthread_self()));
    OK(escope_pool_checkin(pool, &waiter.lease, ESCOPE_CONDITION_GOOD));
    escope_pool_free(pool);
    CHECK(world.destroyed == 2);
}

static void a_wait_times_out(void) {
    struct world world;
    escope_pool *pool = plain_pool(&world, 1, 0);
    escope_lease lease, none;
    void *connection, *nothing = NULL;
    OK(escope_pool_checkout(pool, 0, &lease, &connection));
    uint64_t start = escope_clock_now_ns();
    EXPECT(ESCOPE_STATUS_POOL_TIMEOUT, escope_pool_checkout(pool, 20 * MS, &none, &nothing));
    CHECK(escope_clock_now_ns() - start >= 20 * MS && nothing == NULL);
    EXPECT(ESCOPE_STATUS_POOL_TIMEOUT, escope_pool_checkout(pool, 1, &none, &nothing));
    CHECK(stats_of(pool).timed_out == 2);
    OK(escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_GOOD));
    OK(escope_pool_checkout(pool, UINT64_MAX - 1, &lease, &connection));
    OK(escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_GOOD));
    escope_pool_free(pool);
}

static void does_nothing(int signal) { (void)signal; }

static void a_signal_does_not_end_a_wait(void) {
    struct world world;
    escope_pool *pool = plain_pool(&world, 1, 0);
    struct caller waiter;
    escope_lease lease;
    void *connection;
    struct sigaction action = {.sa_handler = does_nothing};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    OK(escope_pool_checkout(pool, 0, &lease, &connection));
    start_waiting(&waiter, pool, MINUTE);
    for (int i = 0; i < 10; i++) {
        CHECK(pthread_kill(waiter.thread, SIGUSR1) == 0);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    CHECK(stats_of(pool).waiting == 1);
    OK(escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_GOOD));
    pthread_join(waiter.thread, NULL);
    CHECK(waiter.status == ESCOPE_STATUS_OK);
    OK(escope_pool_checkin(pool, &waiter.lease, ESCOPE_CONDITION_GOOD));
    escope_pool_free(pool);
}

static void a_failing_create_is_reported(void) {
    struct world world;
    escope_pool *pool = plain_pool(&world, 1, 0);
    escope_lease lease;
    void *connection = NULL;
    world.result = -42;
    EXPECT(ESCOPE_STATUS_CREATE_FAILED, escope_pool_checkout(pool, 0, &lease, &connection));
    CHECK(strcmp(last_error(), "`create` returned -42, allowed is 0 with a connection") == 0);
    world.result = 0;
    world.gives_null = 1;
    /* The pause after the failure is over before the minute, and the wait's own thread tries again. */
    EXPECT(ESCOPE_STATUS_CREATE_FAILED, escope_pool_checkout(pool, MINUTE, &lease, &connection));
    CHECK(strstr(last_error(), "`connection` is NULL") != NULL && connection == NULL);
    world.gives_null = 0;
    CHECK(stats_of(pool).failing == 2 && stats_of(pool).creating == 0);
    OK(escope_pool_checkout(pool, MINUTE, &lease, &connection));
    CHECK(stats_of(pool).failing == 0 && world.made == 1);
    OK(escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_GOOD));
    escope_pool_free(pool);
}

/* Two wait while the only connection comes back broken and cannot be made again: each is told, none is forgotten. */
static void waiters_learn_of_a_failing_create(void) {
    struct world world;
    escope_pool *pool = plain_pool(&world, 1, 0);
    struct caller waiters[2];
    escope_lease lease;
    void *connection;
    OK(escope_pool_checkout(pool, 0, &lease, &connection));
    start_waiting(&waiters[0], pool, UINT64_MAX);
    start_waiting(&waiters[1], pool, UINT64_MAX);
    world.result = 7;
    OK(escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_BROKEN));
    for (int i = 0; i < 2; i++) {
        pthread_join(waiters[i].thread, NULL);
        CHECK(waiters[i].status == ESCOPE_STATUS_CREATE_FAILED);
        CHECK(strstr(waiters[i].message, "`create` returned 7") != NULL);
    }
    escope_pool_free(pool);
    CHECK(world.made == 1 && world.destroyed == 1);
}

/* A pause holds the creations for three back. When it is over one is tried; the others must not be made by one thread in
 * turn, which would keep it beyond the end of its own wait. */
static void creations_run_side_by_side(void) {
    struct world world;
    escope_pool_options options = options_of(&world, 3, 0);
    escope_pool *pool;
    escope_lease lease;
    void *connection;
    struct caller waiters[3];
    options.create_backoff_ns = options.create_backoff_cap_ns = 500 * MS;
    OK(escope_pool_new(&options, &pool));
    world.result = 1;
    EXPECT(ESCOPE_STATUS_CREATE_FAILED, escope_pool_checkout(pool, 0, &lease, &connection));
    world.result = 0;
    world.meets = 1;
    for (int i = 0; i < 3; i++) {
        start_waiting(&waiters[i], pool, UINT64_MAX);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(waiters[i].thread, NULL);
        CHECK(waiters[i].status == ESCOPE_STATUS_OK);
    }
    /* Not before: a connection that comes back would serve one who waits, and who then makes none. */
    for (int i = 0; i < 3; i++) {
        OK(escope_pool_checkin(pool, &waiters[i].lease, ESCOPE_CONDITION_GOOD));
    }
    escope_pool_free(pool);
    CHECK(world.made == 3 && world.destroyed == 3);
}

/* No lock is held around a callback: it may look at the pool, and even close it. */
static void callbacks_may_call_the_pool(void) {
    struct world world;
    escope_pool *pool = plain_pool(&world, 1, 0);
    escope_lease lease;
    void *connection;
    world.reenters = pool;
    OK(escope_pool_checkout(pool, MINUTE, &lease, &connection));
    OK(escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_BROKEN));
    EXPECT(ESCOPE_STATUS_POOL_CLOSED, escope_pool_checkout(pool, MINUTE, &lease, &connection));
    CHECK(world.made == 1 && world.destroyed == 1);
    escope_pool_free(pool);
}

static void a_wait_in_slices_keeps_its_place(void) {
    struct world world;
    escope_pool *pool = plain_pool(&world, 1, 0);
    escope_lease lease, second;
    void *connection = NULL;
    escope_waiter *waiter = NULL, *behind = NULL;
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_pool_checkout_begin(pool, UINT64_MAX, &lease, &connection, &waiter));
    CHECK(world.made == 0 && waiter != NULL && connection == NULL);
    /* Slices that never sleep get the connection made all the same. */
    escope_status status = escope_waiter_wait(waiter, 0, &lease, &connection);
    for (int slices = 0; status == ESCOPE_STATUS_POOL_EXHAUSTED && slices < 100; slices++) {
        status = escope_waiter_wait(waiter, 0, &lease, &connection);
    }
    CHECK(status == ESCOPE_STATUS_OK && world.made == 1);
    INVALID("`waiter` is one whose wait has ended", escope_waiter_wait(waiter, 0, &second, &connection));
    escope_waiter_free(waiter);

    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_pool_checkout_begin(pool, MS, &second, &connection, &waiter));
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_pool_checkout_begin(pool, MINUTE, &second, &connection, &behind));
    EXPECT(ESCOPE_STATUS_POOL_TIMEOUT, escope_waiter_wait(waiter, MINUTE, &second, &connection));
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_waiter_wait(behind, MS, &second, &connection));
    OK(escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_GOOD));
    OK(escope_waiter_wait(behind, UINT64_MAX, &second, &connection));
    OK(escope_pool_checkin(pool, &second, ESCOPE_CONDITION_GOOD));
    escope_waiter_free(waiter);
    escope_waiter_free(behind);

    /* One is free: no place is given. */
    waiter = NULL;
    OK(escope_pool_checkout_begin(pool, MINUTE, &lease, &connection, &waiter));
    CHECK(waiter == NULL);
    OK(escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_BROKEN));

    world.result = 5;
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_pool_checkout_begin(pool, MINUTE, &lease, &connection, &waiter));
    EXPECT(ESCOPE_STATUS_CREATE_FAILED, escope_waiter_wait(waiter, MINUTE, &lease, &connection));
    CHECK(strstr(last_error(), "`create` returned 5") != NULL);
    escope_waiter_free(waiter);
    escope_pool_free(pool);
    CHECK(world.made == world.destroyed);
}

static void the_queue_has_a_bound(void) {
    struct world world;
    escope_pool_options options = options_of(&world, 1, 0);
    escope_pool *pool;
    escope_lease lease, none;
    void *connection;
    struct caller waiter;
    options.max_waiters = 1;
    OK(escope_pool_new(&options, &pool));
    OK(escope_pool_checkout(pool, 0, &lease, &connection));
    start_waiting(&waiter, pool, UINT64_MAX);
    EXPECT(ESCOPE_STATUS_QUEUE_FULL, escope_pool_checkout(pool, MINUTE, &none, &connection));
    OK(escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_GOOD));
    pthread_join(waiter.thread, NULL);
    OK(escope_pool_checkin(pool, &waiter.lease, ESCOPE_CONDITION_GOOD));
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
    waiter = (struct caller){.pool = pool, .timeout_ns = MINUTE};
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

int main(void) {
    a_return_ends_a_wait();
    a_broken_return_ends_a_wait();
    a_wait_times_out();
    a_signal_does_not_end_a_wait();
    a_failing_create_is_reported();
    waiters_learn_of_a_failing_create();
    creations_run_side_by_side();
    callbacks_may_call_the_pool();
    a_wait_in_slices_keeps_its_place();
    the_queue_has_a_bound();
    waits_that_take_too_long_are_shed();
    a_failed_creation_is_tried_again();
    an_event_loop_waits_by_a_descriptor();
    return 0;
}
