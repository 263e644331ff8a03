/* A pool in a forked child. */
#include "pool.h"

#include <sys/wait.h>
#include <unistd.h>

/* The child may not touch the parent's connections: every call is refused, _free destroys nothing. */
static void a_forked_child_has_no_pool(void) {
    struct world world;
    escope_pool *pool = plain_pool(&world, 2, 0);
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
        escope_pool *mine = plain_pool(&own, 1, 0);
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

int main(void) {
    a_forked_child_has_no_pool();
    return 0;
}
