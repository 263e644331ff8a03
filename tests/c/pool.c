/* The pool through its C ABI: what is lent, comes back and ends, and leases that are not live. No check depends on how long
 * something takes, but that a wait ends at all. */
#include "pool.h"

static void lends_reuses_and_destroys(void) {
    struct world world;
    escope_pool *pool = plain_pool(&world, 1, 1);
    escope_lease first, second, third;
    void *a = NULL, *b = NULL, *again = NULL;
    OK(escope_pool_checkout(pool, 0, &first, &a));
    OK(escope_pool_checkout(pool, MINUTE, &second, &b));
    CHECK(a != NULL && b != NULL && a != b && world.made == 2);
    CHECK(world.deadline_ns != UINT64_MAX);
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_pool_checkout(pool, 0, &third, &again));
    CHECK(again == NULL);
    OK(escope_pool_checkin(pool, &second, ESCOPE_CONDITION_GOOD));
    CHECK(stats_of(pool).overflow == 0);
    OK(escope_pool_checkin(pool, &first, ESCOPE_CONDITION_GOOD));
    CHECK(world.destroyed == 1);
    OK(escope_pool_checkout(pool, 0, &third, &again));
    CHECK(world.made == 2);
    OK(escope_pool_checkin(pool, &third, ESCOPE_CONDITION_BROKEN));
    CHECK(world.destroyed == 2);
    escope_pool_stats stats = stats_of(pool);
    CHECK(stats.leased == 0 && stats.idle == 0 && stats.created == 2 && stats.destroyed == 2);
    CHECK(stats.size == 1 && stats.capacity == 2 && stats.next_deadline_ns == UINT64_MAX);
    escope_pool_free(pool);
}

static void only_live_leases_come_back(void) {
    struct world world, elsewhere;
    escope_pool *pool = plain_pool(&world, 1, 0), *other = plain_pool(&elsewhere, 1, 0);
    escope_lease lease, copy, zeros, foreign;
    void *connection;
    memset(&zeros, 0, sizeof zeros);
    OK(escope_pool_checkout(pool, 0, &lease, &connection));
    OK(escope_pool_checkout(other, 0, &foreign, &connection));
    copy = lease;
    EXPECT(ESCOPE_STATUS_STALE_LEASE, escope_pool_checkin(pool, &foreign, ESCOPE_CONDITION_GOOD));
    CHECK(strstr(last_error(), "`lease` is of pool") != NULL);
    EXPECT(ESCOPE_STATUS_STALE_LEASE, escope_pool_checkin(pool, &zeros, ESCOPE_CONDITION_GOOD));
    INVALID("`condition` is 2", escope_pool_checkin(pool, &lease, 2));
    INVALID("`condition` is -1", escope_pool_checkin(pool, &lease, -1));
    OK(escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_GOOD));
    EXPECT(ESCOPE_STATUS_STALE_LEASE, escope_pool_checkin(pool, &copy, ESCOPE_CONDITION_GOOD));

    /* The old lease does not end the next holder's. */
    OK(escope_pool_checkout(pool, 0, &lease, &connection));
    EXPECT(ESCOPE_STATUS_STALE_LEASE, escope_pool_checkin(pool, &copy, ESCOPE_CONDITION_BROKEN));
    CHECK(stats_of(pool).leased == 1);
    lease.private_slot += 1000;
    EXPECT(ESCOPE_STATUS_STALE_LEASE, escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_GOOD));
    lease.private_slot -= 1000;
    OK(escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_GOOD));
    OK(escope_pool_checkin(other, &foreign, ESCOPE_CONDITION_GOOD));
    escope_pool_free(pool);
    escope_pool_free(other);
}

static void closing_ends_waits_and_takes_returns(void) {
    struct world world;
    escope_pool *pool = plain_pool(&world, 2, 0);
    struct caller waiter;
    escope_lease lease, second;
    void *connection;
    OK(escope_pool_checkout(pool, 0, &lease, &connection));
    OK(escope_pool_checkout(pool, 0, &second, &connection));
    start_waiting(&waiter, pool, UINT64_MAX);
    OK(escope_pool_close(pool));
    pthread_join(waiter.thread, NULL);
    CHECK(waiter.status == ESCOPE_STATUS_POOL_CLOSED);
    OK(escope_pool_close(pool));
    EXPECT(ESCOPE_STATUS_POOL_CLOSED, escope_pool_checkout(pool, MINUTE, &waiter.lease, &connection));
    CHECK(stats_of(pool).phase == ESCOPE_POOL_DRAINING && world.destroyed == 0);
    OK(escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_GOOD));
    CHECK(world.destroyed == 1);

    /* Freed with a connection on loan: it may still come back, and takes the pool with it. */
    CHECK(escope_pool_ref(pool) == pool);
    escope_pool_free(pool);
    escope_pool_free(pool);
    CHECK(world.destroyed == 1);
    OK(escope_pool_checkin(pool, &second, ESCOPE_CONDITION_BROKEN));
    CHECK(world.destroyed == 2);
}

static void surplus_ends_when_its_time_has_come(void) {
    struct world world;
    escope_pool_options options = options_of(&world, 1, 1);
    escope_pool *pool;
    escope_lease a, b;
    void *connection;
    uint64_t next_deadline_ns = 0;
    options.overflow_ttl_ns = 5 * MS;
    options.order = ESCOPE_ORDER_FIFO;
    OK(escope_pool_new(&options, &pool));
    OK(escope_pool_checkout(pool, 0, &a, &connection));
    OK(escope_pool_checkout(pool, 0, &b, &connection));
    OK(escope_pool_maintain(pool, &next_deadline_ns));
    CHECK(next_deadline_ns == UINT64_MAX);
    OK(escope_pool_checkin(pool, &a, ESCOPE_CONDITION_GOOD));
    OK(escope_pool_checkin(pool, &b, ESCOPE_CONDITION_GOOD));
    while (stats_of(pool).overflow > 0) {
        OK(escope_pool_maintain(pool, &next_deadline_ns));
        CHECK(next_deadline_ns == UINT64_MAX || stats_of(pool).overflow == 1);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    OK(escope_pool_maintain(pool, NULL));
    CHECK(world.destroyed == 1 && stats_of(pool).idle == 1);
    escope_pool_free(pool);
}

enum { WORKERS = 6, TURNS = 400 };

static void *works(void *argument) {
    struct caller *worker = argument;
    unsigned seed = (unsigned)(uintptr_t)worker;
    for (int turn = 0; turn < TURNS; turn++) {
        escope_lease lease;
        void *connection = NULL;
        seed = seed * 1103515245 + 12345;
        uint64_t timeout_ns = seed >> 20 & 3 ? MINUTE : (seed >> 22 & 1 ? 0 : 20000);
        escope_status status = escope_pool_checkout(worker->pool, timeout_ns, &lease, &connection);
        if (status == ESCOPE_STATUS_OK) {
            /* Nobody else writes here, or a race detector and this check see it. */
            unsigned char *mine = connection;
            *mine = (unsigned char)turn;
            CHECK(*mine == (unsigned char)turn);
            OK(escope_pool_checkin(worker->pool, &lease,
                                   seed >> 24 & 7 ? ESCOPE_CONDITION_GOOD : ESCOPE_CONDITION_BROKEN));
        } else {
            CHECK(status == ESCOPE_STATUS_POOL_TIMEOUT || status == ESCOPE_STATUS_POOL_EXHAUSTED);
            CHECK(timeout_ns != MINUTE);
        }
    }
    return NULL;
}

static void nothing_is_lost_between_threads(void) {
    struct world world;
    escope_pool *pool = plain_pool(&world, 1, 1);
    struct caller workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (struct caller){.pool = pool};
        CHECK(pthread_create(&workers[i].thread, NULL, works, &workers[i]) == 0);
    }
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    OK(escope_pool_maintain(pool, NULL));
    escope_pool_stats stats = stats_of(pool);
    CHECK(stats.requests >= WORKERS * TURNS && stats.leased == 0 && stats.waiting == 0 && stats.creating == 0);
    escope_pool_free(pool);
    CHECK(world.made == world.destroyed);
}

int main(void) {
    lends_reuses_and_destroys();
    only_live_leases_come_back();
    closing_ends_waits_and_takes_returns();
    surplus_ends_when_its_time_has_come();
    nothing_is_lost_between_threads();
    return 0;
}
