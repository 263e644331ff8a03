/* Functions of the C signatures that the Python package calls, which do nothing: the floor of a ctypes call. */
#include <stdint.h>

int32_t floor_breaker(const void *breaker, void *permit, uint64_t *retry_after_ns, void *events) {
    (void)breaker, (void)permit, (void)retry_after_ns, (void)events;
    return 0;
}

int32_t floor_limiter(const void *limiter, const void *key, uint64_t key_len, const void *rule, uint64_t cost,
                      void *decision) {
    (void)limiter, (void)key, (void)key_len, (void)rule, (void)cost, (void)decision;
    return 0;
}

int32_t floor_pool(const void *pool, uint64_t timeout_ns, void *lease, void **connection) {
    (void)pool, (void)timeout_ns, (void)lease, (void)connection;
    return 0;
}
