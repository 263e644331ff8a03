/* The end of a pool's memory: leases keep it, whatever order the program's last reference, the check-ins and
 * the places in the queue go in. Valgrind sees a use too late and a pool that nobody ended. */
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { HOLDERS = 4 };

static atomic_int alive, start;

static int32_t make(void *userdata, uint64_t deadline_ns, void **connection) {
    (void)userdata;
    (void)deadline_ns;
    alive++;
    *connection = malloc(8);
    return 0;
}

static void unmake(void *userdata, void *connection) {
    (void)userdata;
    alive--;
    free(connection);
}

static escope_pool *pool_of(uint32_t size) {
    escope_pool_options options;
    escope_pool *pool;
    OK(escope_pool_options_init(&options, sizeof options));
    options.size = size;
    options.max_overflow = 0;
    options.create = make;
    options.destroy = unmake;
    OK(escope_pool_new(&options, &pool));
    return pool;
}

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
    OK(escope_pool_checkin(holder->pool, &holder->lease, ESCOPE_CONDITION_GOOD));
    return NULL;
}

static void whoever_is_last_ends_it(void) {
    for (int round = 0; round < 200; round++) {
        struct holder holders[HOLDERS];
        escope_pool *pool = pool_of(HOLDERS);
        void *connection;
        start = 0;
        for (int i = 0; i < HOLDERS; i++) {
            holders[i].pool = pool;
            OK(escope_pool_checkout(pool, UINT64_MAX, &holders[i].lease, &connection));
            CHECK(pthread_create(&holders[i].thread, NULL, gives_back, &holders[i]) == 0);
        }
        start = 1;
        escope_pool_free(pool);
        for (int i = 0; i < HOLDERS; i++) {
            pthread_join(holders[i].thread, NULL);
        }
        CHECK(alive == 0);
    }
}

/* A place that was granted a connection, which nobody looked for before the pool was let go. */
static void a_grant_that_nobody_took_ends_it(void) {
    escope_pool *pool = pool_of(1);
    escope_waiter *waiter;
    escope_lease lease, late;
    void *connection;
    OK(escope_pool_checkout(pool, UINT64_MAX, &lease, &connection));
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_pool_checkout_begin(pool, UINT64_MAX, &late, &connection, &waiter));
    OK(escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_GOOD));
    escope_pool_free(pool);
    CHECK(alive == 1);
    escope_waiter_free(waiter);
    CHECK(alive == 0);
}

/* The same, but somebody takes it after all. */
static void a_grant_that_is_taken_late_ends_it(void) {
    escope_pool *pool = pool_of(1);
    escope_waiter *waiter;
    escope_lease lease, late;
    void *connection;
    OK(escope_pool_checkout(pool, UINT64_MAX, &lease, &connection));
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_pool_checkout_begin(pool, UINT64_MAX, &late, &connection, &waiter));
    OK(escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_GOOD));
    escope_pool_free(pool);
    OK(escope_waiter_wait(waiter, 0, &late, &connection));
    escope_waiter_free(waiter);
    CHECK(alive == 1);
    OK(escope_pool_checkin(pool, &late, ESCOPE_CONDITION_GOOD));
    CHECK(alive == 0);
}

int main(void) {
    whoever_is_last_ends_it();
    a_grant_that_nobody_took_ends_it();
    a_grant_that_is_taken_late_ends_it();
    return 0;
}
