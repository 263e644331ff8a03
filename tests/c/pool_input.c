/* What a caller can get wrong with a pool. */
#include "pool.h"

static void null_is_refused_by_name(void) {
    struct world world;
    escope_pool *pool = plain_pool(&world, 1, 0);
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

/* One option is not valid; `world`, `options` and `pool` are the test's. */
#define REFUSED(text, field, value)                                                                          \
    options = options_of(&world, 1, 1);                                                                      \
    options.field = (value);                                                                                 \
    INVALID(text, escope_pool_new(&options, &pool));                                                         \
    CHECK(pool == NULL)

static void options_are_checked(void) {
    struct world world;
    escope_pool_options options;
    escope_pool *pool = NULL;
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

static void what_is_asked_for_needs_its_callback(void) {
    struct world world;
    escope_pool_options options;
    escope_pool *pool = NULL;
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
}

int main(void) {
    null_is_refused_by_name();
    options_are_checked();
    what_is_asked_for_needs_its_callback();
    return 0;
}
