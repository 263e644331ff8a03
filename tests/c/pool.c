/* The pool through its C ABI: hand-over between threads, time-outs, callbacks that fail, leases that are not live,
 * fork, and everything else that a caller can get wrong. Connections are blocks of memory, so that valgrind sees
 * one that is lost. No check depends on how long something takes, but that a wait ends at all. */
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const uint64_t MS = UINT64_C(1000000), MINUTE = UINT64_C(60000000000);

/* What the callbacks do and have done. */
struct world {
    atomic_int made, destroyed, result, gives_null, meets, meeting;
    escope_pool *reenters;
    _Atomic uint64_t deadline_ns;
    pthread_t last_creator;
};

static int32_t make(void *userdata, uint64_t deadline_ns, void **connection) {
    struct world *world = userdata;
    world->deadline_ns = deadline_ns;
    int result = world->result;
    if (result != 0 || world->gives_null) {
        if (result != 0) {
            *connection = world; /* nobody may take this for a connection */
        }
        return result;
    }
    if (world->meets && world->made > 0) {
        /* Returns once two are in here. */
        world->meeting++;
        for (int waits = 0; world->meeting < 2; waits++) {
            CHECK(waits < 50000);
            nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
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

static void unmake(void *userdata, void *connection) {
    struct world *world = userdata;
    CHECK(connection != NULL);
    if (world->reenters != NULL) {
        OK(escope_pool_close(world->reenters));
    }
    world->destroyed++;
    free(connection);
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

static escope_pool *pool_of(struct world *world, uint32_t size, uint32_t max_overflow) {
    escope_pool_options options = options_of(world, size, max_overflow);
    escope_pool *pool = NULL;
    OK(escope_pool_new(&options, &pool));
    return pool;
}

static escope_pool_stats stats_of(escope_pool *pool) {
    escope_pool_stats stats;
    OK(escope_pool_stats_init(&stats, sizeof stats));
    OK(escope_pool_snapshot(pool, &stats));
    CHECK(stats.requests == stats.granted + stats.timed_out + stats.cancelled + stats.exhausted + stats.queue_full +
                                stats.closed + stats.shed + stats.create_failed + stats.waiting);
    CHECK(stats.granted == stats.returned + stats.broken + stats.leased);
    return stats;
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

static void *call(void *argument) {
    struct caller *caller = argument;
    caller->status = escope_pool_checkout(caller->pool, caller->timeout_ns, &caller->lease, &caller->connection);
    strcpy(caller->message, last_error());
    return NULL;
}

/* Starts a thread and returns once it waits. */
static void start_waiting(struct caller *caller, escope_pool *pool, uint64_t timeout_ns) {
    uint32_t before = stats_of(pool).waiting;
    *caller = (struct caller){.pool = pool, .timeout_ns = timeout_ns};
    CHECK(pthread_create(&caller->thread, NULL, call, caller) == 0);
    while (stats_of(pool).waiting == before) {
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
}

static void lends_reuses_and_destroys(void) {
    struct world world;
    escope_pool *pool = pool_of(&world, 1, 1);
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

static void a_return_ends_a_wait(void) {
    struct world world;
    escope_pool *pool = pool_of(&world, 1, 0);
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
    escope_pool *pool = pool_of(&world, 1, 0);
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
    escope_pool *pool = pool_of(&world, 1, 0);
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
    escope_pool *pool = pool_of(&world, 1, 0);
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
    escope_pool *pool = pool_of(&world, 1, 0);
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
    escope_pool *pool = pool_of(&world, 1, 0);
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
    escope_pool *pool = pool_of(&world, 1, 0);
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
    escope_pool *pool = pool_of(&world, 1, 0);
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

static void only_live_leases_come_back(void) {
    struct world world, elsewhere;
    escope_pool *pool = pool_of(&world, 1, 0), *other = pool_of(&elsewhere, 1, 0);
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
    escope_pool *pool = pool_of(&world, 2, 0);
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

static void null_is_refused_by_name(void) {
    struct world world;
    escope_pool *pool = pool_of(&world, 1, 0);
    escope_lease lease;
    void *connection;
    escope_pool_stats stats = {.struct_size = sizeof stats};
    INVALID("`out` is NULL", escope_pool_new(NULL, NULL));
    INVALID("`options` is NULL", escope_pool_options_init(NULL, sizeof(escope_pool_options)));
    INVALID("`stats` is NULL", escope_pool_stats_init(NULL, sizeof stats));
    INVALID("`pool` is NULL", escope_pool_checkout(NULL, 0, &lease, &connection));
    INVALID("`lease` is NULL", escope_pool_checkout(pool, 0, NULL, &connection));
    INVALID("`connection` is NULL", escope_pool_checkout(pool, 0, &lease, NULL));
    INVALID("`pool` is NULL", escope_pool_checkin(NULL, &lease, 0));
    INVALID("`lease` is NULL", escope_pool_checkin(pool, NULL, 0));
    INVALID("`pool` is NULL", escope_pool_close(NULL));
    INVALID("`pool` is NULL", escope_pool_maintain(NULL, NULL));
    INVALID("`next_deadline_ns` is 0x", escope_pool_maintain(pool, (uint64_t *)(uintptr_t)4));
    INVALID("`pool` is NULL", escope_pool_snapshot(NULL, &stats));
    INVALID("`stats` is NULL", escope_pool_snapshot(pool, NULL));
    stats.struct_size = 0;
    INVALID("`struct_size` is 0", escope_pool_snapshot(pool, &stats));
    stats.struct_size = 4097;
    INVALID("`struct_size` is 4097", escope_pool_snapshot(pool, &stats));
    escope_waiter *waiter = NULL;
    INVALID("`pool` is NULL", escope_pool_checkout_begin(NULL, 1, &lease, &connection, &waiter));
    INVALID("`lease` is NULL", escope_pool_checkout_begin(pool, 1, NULL, &connection, &waiter));
    INVALID("`connection` is NULL", escope_pool_checkout_begin(pool, 1, &lease, NULL, &waiter));
    INVALID("`waiter` is NULL", escope_pool_checkout_begin(pool, 1, &lease, &connection, NULL));
    INVALID("`timeout_ns` is 0", escope_pool_checkout_begin(pool, 0, &lease, &connection, &waiter));
    INVALID("`waiter` is NULL", escope_waiter_wait(NULL, 1, &lease, &connection));
    CHECK(waiter == NULL && stats_of(pool).requests == 0);
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_pool_checkout_begin(pool, 1, &lease, &connection, &waiter));
    INVALID("`lease` is NULL", escope_waiter_wait(waiter, 1, NULL, &connection));
    INVALID("`connection` is NULL", escope_waiter_wait(waiter, 1, &lease, NULL));
    escope_waiter_free(waiter);
    escope_waiter_free(NULL);
    CHECK(world.made == 0 && escope_pool_ref(NULL) == NULL);
    escope_pool_free(NULL);
    escope_pool_free(pool);
}

static void options_are_checked(void) {
    struct world world;
    escope_pool_options options;
    escope_pool *pool = NULL;
#define REFUSED(text, field, value)                                                                          \
    options = options_of(&world, 1, 1);                                                                      \
    options.field = (value);                                                                                 \
    INVALID(text, escope_pool_new(&options, &pool));                                                         \
    CHECK(pool == NULL)
    REFUSED("`create` is NULL", create, NULL);
    REFUSED("`destroy` is NULL", destroy, NULL);
    REFUSED("`order` is 4", order, 4);
    REFUSED("`order` is -1", order, -1);
    REFUSED("`size` is 4294967295", size, UINT32_MAX);
    REFUSED("`max_overflow` is 4294967295", max_overflow, UINT32_MAX);
    REFUSED("`max_waiters` is 0", max_waiters, 0);
    REFUSED("`max_waiters` is 4294967295", max_waiters, UINT32_MAX);
    REFUSED("`create_backoff_ns` is 0", create_backoff_ns, 0);
    REFUSED("`create_backoff_cap_ns` is 0", create_backoff_cap_ns, 0);
    REFUSED("`struct_size` is 0", struct_size, 0);
    REFUSED("`struct_size` is 215", struct_size, sizeof options - 1);
    REFUSED("`struct_size` is 18446744073709551615", struct_size, SIZE_MAX);
#undef REFUSED
    INVALID("`size` is 215", escope_pool_options_init(&options, sizeof options - 1));
    INVALID("`size` is 4097", escope_pool_options_init(&options, 4097));
    struct {
        escope_pool_options known;
        uint64_t newer;
    } grown = {options_of(&world, 1, 0), 0};
    grown.known.struct_size = sizeof grown;
    OK(escope_pool_new(&grown.known, &pool));
    escope_pool_free(pool);
    pool = NULL;
    grown.newer = 1;
    INVALID("non-zero byte at offset 216", escope_pool_new(&grown.known, &pool));
    CHECK(pool == NULL);
    options = options_of(&world, 0, 0);
    INVALID("`size` is 0", escope_pool_new(&options, &pool));
    INVALID("`create` is NULL", escope_pool_new(NULL, &pool));
}

/* The child may not touch the parent's connections: every call is refused, _free destroys nothing. */
static void a_forked_child_has_no_pool(void) {
    struct world world;
    escope_pool *pool = pool_of(&world, 2, 0);
    escope_lease lease, idle;
    void *connection;
    static void *parents[2]; /* the child leaves them alone on purpose, so they are no leak of its */
    OK(escope_pool_checkout(pool, 0, &lease, &parents[0]));
    OK(escope_pool_checkout(pool, 0, &idle, &parents[1]));
    escope_waiter *waiter = NULL;
    escope_lease third;
    EXPECT(ESCOPE_STATUS_POOL_EXHAUSTED, escope_pool_checkout_begin(pool, UINT64_MAX, &third, &connection, &waiter));
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        escope_pool_stats stats = {.struct_size = sizeof stats};
        EXPECT(ESCOPE_STATUS_FORKED, escope_pool_checkout(pool, MINUTE, &idle, &connection));
        CHECK(strstr(last_error(), "parent process") != NULL);
        EXPECT(ESCOPE_STATUS_FORKED, escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_GOOD));
        EXPECT(ESCOPE_STATUS_FORKED, escope_pool_snapshot(pool, &stats));
        EXPECT(ESCOPE_STATUS_FORKED, escope_pool_maintain(pool, NULL));
        EXPECT(ESCOPE_STATUS_FORKED, escope_pool_close(pool));
        EXPECT(ESCOPE_STATUS_FORKED, escope_pool_checkout_begin(pool, 1, &idle, &connection, &waiter));
        EXPECT(ESCOPE_STATUS_FORKED, escope_waiter_wait(waiter, MINUTE, &idle, &connection));
        escope_pool_free(pool);
        /* The place knows by itself that it is the parent's: its pool's memory is gone here. */
        EXPECT(ESCOPE_STATUS_FORKED, escope_waiter_wait(waiter, MINUTE, &idle, &connection));
        escope_waiter_free(waiter);
        CHECK(world.destroyed == 0);

        struct world own;
        escope_pool *mine = pool_of(&own, 1, 0);
        OK(escope_pool_checkout(mine, 0, &lease, &connection));
        OK(escope_pool_checkin(mine, &lease, ESCOPE_CONDITION_GOOD));
        escope_pool_free(mine);
        CHECK(own.destroyed == 1);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    OK(escope_pool_checkin(pool, &idle, ESCOPE_CONDITION_GOOD));
    OK(escope_waiter_wait(waiter, MINUTE, &third, &connection));
    CHECK(connection == parents[1]);
    escope_waiter_free(waiter);
    OK(escope_pool_checkin(pool, &third, ESCOPE_CONDITION_GOOD));
    OK(escope_pool_checkin(pool, &lease, ESCOPE_CONDITION_GOOD));
    CHECK(stats_of(pool).idle == 2);
    escope_pool_free(pool);
    CHECK(world.destroyed == 2);
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
    escope_pool *pool = pool_of(&world, 1, 1);
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
    a_return_ends_a_wait();
    a_broken_return_ends_a_wait();
    a_wait_times_out();
    a_signal_does_not_end_a_wait();
    a_failing_create_is_reported();
    waiters_learn_of_a_failing_create();
    creations_run_side_by_side();
    callbacks_may_call_the_pool();
    a_wait_in_slices_keeps_its_place();
    only_live_leases_come_back();
    closing_ends_waits_and_takes_returns();
    the_queue_has_a_bound();
    surplus_ends_when_its_time_has_come();
    null_is_refused_by_name();
    options_are_checked();
    a_forked_child_has_no_pool();
    nothing_is_lost_between_threads();
    return 0;
}
