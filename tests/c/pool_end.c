/* The end of a pool's memory: leases keep it, whatever order the program's last reference, the check-ins and
 * the places in the queue go in. Valgrind sees a use too late and a pool that nobody ended. */
#include "pool.h"

#include <sched.h>

enum { HOLDERS = 4 };

static atomic_int start;

struct holder {
    pthread_t thread;
    escope_pool *pool;
    escope_lease lease;
};

/* Has nothing but its lease. */
static void *gives_back(void *argument) {
    struct holder *holder = argument;
    while (!start) {
        sched_yield();
    }
    give_back(holder->pool, &holder->lease);
    return NULL;
}

static void whoever_is_last_ends_it(void) {
    for (int round = 0; round < 200; round++) {
        struct holder holders[HOLDERS];
        struct world world;
        escope_pool *pool = plain_pool(&world, HOLDERS, 0);
        start = 0;
        for (int i = 0; i < HOLDERS; i++) {
            holders[i].pool = pool;
            lend(pool, &holders[i].lease);
            CHECK(pthread_create(&holders[i].thread, NULL, gives_back, &holders[i]) == 0);
        }
        start = 1;
        escope_pool_free(pool);
        for (int i = 0; i < HOLDERS; i++) {
            pthread_join(holders[i].thread, NULL);
        }
        CHECK(world.made == HOLDERS && world.destroyed == HOLDERS);
    }
}

/* Lets a pool go, and leaves a place in its queue that was granted its one connection, which nobody looked for. */
static escope_waiter *granted_place(struct world *world, escope_pool **let_go) {
    escope_pool *pool = *let_go = plain_pool(world, 1, 0);
    escope_waiter *waiter;
    escope_lease lease, late;
    void *connection;
    lend(pool, &lease);
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_pool_checkout_begin(pool, UINT64_MAX, &late, &connection, &waiter));
    give_back(pool, &lease);
    escope_pool_free(pool);
    CHECK(world->made == 1 && world->destroyed == 0);
    return waiter;
}

static void a_grant_that_nobody_took_ends_it(void) {
    struct world world;
    escope_pool *pool;
    escope_waiter_free(granted_place(&world, &pool));
    CHECK(world.destroyed == 1);
}

static void a_grant_that_is_taken_late_ends_it(void) {
    struct world world;
    escope_pool *pool;
    escope_waiter *waiter = granted_place(&world, &pool);
    escope_lease lease;
    void *connection;
    OK(escope_waiter_wait(waiter, 0, &lease, &connection));
    escope_waiter_free(waiter);
    CHECK(world.destroyed == 0);
    give_back(pool, &lease);
    CHECK(world.destroyed == 1);
}

int main(void) {
    whoever_is_last_ends_it();
    a_grant_that_nobody_took_ends_it();
    a_grant_that_is_taken_late_ends_it();
    return 0;
}
