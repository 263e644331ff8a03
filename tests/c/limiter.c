/* The limiter through its C ABI: exact admissions at explicit times, and everything that a caller can get wrong. */
#include "check.h"

static const uint64_t SECOND = UINT64_C(1000000000);

static escope_limiter *limiter_of(uint64_t max_keys) {
    escope_limiter_options options;
    escope_limiter *limiter = NULL;
    OK(escope_limiter_options_init(&options, sizeof options));
    options.max_keys = max_keys;
    options.secret = (const uint8_t *)"0123456789abcdef";
    options.secret_len = 16;
    OK(escope_limiter_new(&options, &limiter));
    return limiter;
}

static void admits_exactly_the_burst_then_the_rate(void) {
    escope_limiter *limiter = limiter_of(100);
    escope_rule rule = {.tokens = 10, .period_ns = 60 * SECOND, .burst = 10};
    escope_decision decision;
    for (uint64_t call = 0; call < 10; call++) {
        OK(escope_limiter_check_at(limiter, "user", 4, &rule, 1, &decision, 1000));
        CHECK(decision.remaining == 9 - call && decision.limit == 10 && decision.retry_after_ns == 0);
    }
    EXPECT(ESCOPE_STATUS_RATE_LIMITED, escope_limiter_check_at(limiter, "user", 4, &rule, 1, &decision, 1000));
    CHECK(decision.remaining == 0 && decision.retry_after_ns == 6 * SECOND);
    CHECK(decision.reset_after_ns == 60 * SECOND);
    EXPECT(ESCOPE_STATUS_RATE_LIMITED, escope_limiter_peek_at(limiter, "user", 4, &rule, &decision, 1000));
    EXPECT(ESCOPE_STATUS_RATE_LIMITED,
           escope_limiter_check_at(limiter, "user", 4, &rule, 1, NULL, 1000 + 6 * SECOND - 1));
    OK(escope_limiter_check_at(limiter, "user", 4, &rule, 1, NULL, 1000 + 6 * SECOND));
    EXPECT(ESCOPE_STATUS_NEVER, escope_limiter_check_at(limiter, "user", 4, &rule, 11, &decision, 1000));
    CHECK(decision.retry_after_ns == UINT64_MAX);

    /* Another key has a bucket of its own, and a reset fills one. */
    OK(escope_limiter_check_at(limiter, "other", 5, &rule, 10, NULL, 1000));
    OK(escope_limiter_reset(limiter, "other", 5));
    OK(escope_limiter_check_at(limiter, "other", 5, &rule, 10, NULL, 1000));
    OK(escope_limiter_reset(limiter, "unknown", 7));

    escope_limiter_stats stats;
    OK(escope_limiter_stats_init(&stats, sizeof stats));
    OK(escope_limiter_snapshot(limiter, &stats));
    CHECK(stats.allowed == 13 && stats.limited == 2 && stats.never == 1 && stats.table_full == 0);
    CHECK(stats.capacity >= 100 && stats.bytes > 0);
    escope_limiter_free(limiter);
}

static void the_clock_variants_work(void) {
    escope_limiter *limiter = limiter_of(1);
    escope_rule rule = {1, 3600 * SECOND, 1};
    escope_decision decision;
    OK(escope_limiter_peek(limiter, "k", 1, &rule, &decision));
    OK(escope_limiter_check(limiter, "k", 1, &rule, 1, NULL));
    EXPECT(ESCOPE_STATUS_RATE_LIMITED, escope_limiter_check(limiter, "k", 1, &rule, 1, &decision));
    CHECK(decision.retry_after_ns > 3500 * SECOND && decision.retry_after_ns <= 3600 * SECOND);
    escope_limiter_free(limiter);
}

static void a_full_table_says_so(void) {
    escope_limiter *limiter = limiter_of(1);
    escope_rule rule = {1, 3600 * SECOND, 1};
    escope_decision decision;
    escope_status status = ESCOPE_STATUS_OK;
    for (uint64_t key = 0; key < 100000 && status == ESCOPE_STATUS_OK; key++) {
        status = escope_limiter_check_at(limiter, &key, sizeof key, &rule, 1, &decision, 0);
    }
    CHECK(status == ESCOPE_STATUS_TABLE_FULL);
    escope_limiter_free(limiter);
}

static void keys_may_be_empty_but_not_missing(void) {
    escope_limiter *limiter = limiter_of(10);
    escope_rule rule = {1, SECOND, 1};
    OK(escope_limiter_check_at(limiter, NULL, 0, &rule, 1, NULL, 0));
    EXPECT(ESCOPE_STATUS_RATE_LIMITED, escope_limiter_check_at(limiter, "", 0, &rule, 1, NULL, 0));
    INVALID("`key` is NULL with a length of 3", escope_limiter_check_at(limiter, NULL, 3, &rule, 1, NULL, 0));
    INVALID("`key` is 18446744073709551615 bytes long", escope_limiter_check(limiter, "k", SIZE_MAX, &rule, 1, NULL));
    INVALID("`key` is NULL with a length of 1", escope_limiter_reset(limiter, NULL, 1));
    escope_limiter_free(limiter);
}

static void null_is_refused_by_name(void) {
    escope_limiter *limiter = limiter_of(10);
    escope_rule rule = {1, SECOND, 1};
    escope_limiter_stats stats = {.struct_size = sizeof stats};
    INVALID("`out` is NULL", escope_limiter_new(NULL, NULL));
    INVALID("`options` is NULL", escope_limiter_options_init(NULL, sizeof(escope_limiter_options)));
    INVALID("`stats` is NULL", escope_limiter_stats_init(NULL, sizeof stats));
    INVALID("`limiter` is NULL", escope_limiter_check(NULL, "k", 1, &rule, 1, NULL));
    INVALID("`rule` is NULL", escope_limiter_check(limiter, "k", 1, NULL, 1, NULL));
    INVALID("`decision` is 0x", escope_limiter_check(limiter, "k", 1, &rule, 1, (escope_decision *)(uintptr_t)2));
    INVALID("`limiter` is NULL", escope_limiter_peek(NULL, "k", 1, &rule, NULL));
    INVALID("`rule` is NULL", escope_limiter_peek(limiter, "k", 1, NULL, NULL));
    INVALID("`limiter` is NULL", escope_limiter_reset(NULL, "k", 1));
    INVALID("`limiter` is NULL", escope_limiter_snapshot(NULL, &stats));
    INVALID("`stats` is NULL", escope_limiter_snapshot(limiter, NULL));
    stats.struct_size = 3;
    INVALID("`struct_size` is 3", escope_limiter_snapshot(limiter, &stats));
    CHECK(escope_limiter_ref(NULL) == NULL);
    escope_limiter_free(NULL);
    escope_limiter_free(limiter);
}

static void rules_are_checked(void) {
    escope_limiter *limiter = limiter_of(10);
    escope_decision decision = {.remaining = 1, .reset_after_ns = 4};
#define REFUSED(text, ...)                                                                                   \
    do {                                                                                                     \
        escope_rule rule = {__VA_ARGS__};                                                                    \
        INVALID(text, escope_limiter_check_at(limiter, "k", 1, &rule, 1, &decision, 0));                     \
        CHECK(decision.remaining == 1 && decision.reset_after_ns == 4);                                      \
    } while (0)
    REFUSED("`tokens` is 0", 0, SECOND, 1);
    REFUSED("`tokens` is 18446744073709551615", UINT64_MAX, SECOND, 1);
    REFUSED("`period_ns` is 0", 1, 0, 1);
    REFUSED("`period_ns` is 18446744073709551615", 1, UINT64_MAX, 1);
    REFUSED("`burst` is 18446744073709551615", 1, SECOND, UINT64_MAX);
#undef REFUSED
    escope_rule blocked = {1, SECOND, 0};
    EXPECT(ESCOPE_STATUS_NEVER, escope_limiter_check_at(limiter, "k", 1, &blocked, 1, NULL, 0));
    escope_limiter_free(limiter);
}

static void options_are_checked(void) {
    escope_limiter *limiter = NULL;
    escope_limiter_options options;
#define REFUSED(text, field, value)                                                                          \
    OK(escope_limiter_options_init(&options, sizeof options));                                               \
    options.field = (value);                                                                                 \
    INVALID(text, escope_limiter_new(&options, &limiter));                                                   \
    CHECK(limiter == NULL)
    REFUSED("`max_keys` is 0", max_keys, 0);
    REFUSED("`max_keys` is 18446744073709551615", max_keys, UINT64_MAX);
    REFUSED("`secret_len` is 0", secret, (const uint8_t *)"short");
    REFUSED("`secret_len` is 5", secret_len, 5);
    REFUSED("`secret` is NULL", secret_len, 16);
    REFUSED("`struct_size` is 39", struct_size, sizeof options - 1);
    REFUSED("`struct_size` is 4097", struct_size, 4097);
#undef REFUSED
    OK(escope_limiter_new(NULL, &limiter));
    escope_limiter_free(escope_limiter_ref(limiter));
    escope_limiter_free(limiter);
}

static void any_time_is_taken(void) {
    escope_limiter *limiter = limiter_of(10);
    escope_rule rule = {1, SECOND, 2};
    const uint64_t times[] = {UINT64_MAX, 0, UINT64_MAX - 1, UINT64_C(1) << 63, 1};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        escope_status status = escope_limiter_check_at(limiter, "k", 1, &rule, 1, NULL, times[i]);
        CHECK(status == ESCOPE_STATUS_OK || status == ESCOPE_STATUS_RATE_LIMITED);
    }
    EXPECT(ESCOPE_STATUS_NEVER, escope_limiter_check_at(limiter, "k", 1, &rule, UINT64_MAX, NULL, 0));
    escope_limiter_free(limiter);
}

int main(void) {
    admits_exactly_the_burst_then_the_rate();
    the_clock_variants_work();
    a_full_table_says_so();
    keys_may_be_empty_but_not_missing();
    null_is_refused_by_name();
    rules_are_checked();
    options_are_checked();
    any_time_is_taken();
    return 0;
}
