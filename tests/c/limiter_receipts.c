/* The limiter's receipts, groups, limits with names, waits, header fields and files through the C ABI: who gets what when
 * threads race, and everything that a caller can get wrong. What the operations answer is replayed by vectors.c. */
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

static const uint64_t SECOND = UINT64_C(1000000000);

static escope_limiter *limiter_with(uint32_t max_waiting) {
    escope_limiter_options options;
    escope_limiter *limiter = NULL;
    OK(escope_limiter_options_init(&options, sizeof options));
    options.max_keys = 100;
    options.max_waiting = max_waiting;
    OK(escope_limiter_new(&options, &limiter));
    return limiter;
}

static escope_charge by_rule(const char *key, const escope_rule *rule, uint64_t cost) {
    return (escope_charge){key, strlen(key), rule, NULL, cost};
}

static void receipts_are_good_for_one_use_at_their_own_limiter(void) {
    escope_limiter *limiter = limiter_with(1), *other = limiter_with(1);
    escope_rule rule = {1, SECOND, 4};
    escope_charge charge = by_rule("k", &rule, 3);
    escope_receipt receipt;
    escope_decision decision;
    uint64_t cost;
    OK(escope_limiter_reserve_at(limiter, &charge, 0, &receipt, NULL, &decision, 0));
    CHECK(decision.remaining == 1 && decision.status == ESCOPE_STATUS_OK);
    OK(escope_receipt_cost(&receipt, &cost));
    CHECK(cost == 3);
    EXPECT(ESCOPE_STATUS_BAD_RECEIPT, escope_limiter_refund_at(other, &receipt, 3, NULL, 0));
    CHECK(strstr(last_error(), "a receipt of limiter number") != NULL);
    INVALID("`amount` is 4", escope_limiter_refund_at(limiter, &receipt, 4, NULL, 0));
    OK(escope_limiter_refund_at(limiter, &receipt, 3, NULL, 0));
    EXPECT(ESCOPE_STATUS_ALREADY_DONE, escope_limiter_refund_at(limiter, &receipt, 3, NULL, 0));
    EXPECT(ESCOPE_STATUS_ALREADY_DONE, escope_limiter_cancel_at(limiter, &receipt, 0));
    EXPECT(ESCOPE_STATUS_ALREADY_DONE, escope_limiter_settle_at(limiter, &receipt, 9, NULL, NULL, 0));
    OK(escope_limiter_check_at(limiter, "k", 1, &rule, 4, NULL, 0));
    memset(&receipt, 0, sizeof receipt);
    EXPECT(ESCOPE_STATUS_BAD_RECEIPT, escope_limiter_cancel_at(limiter, &receipt, 0));
    EXPECT(ESCOPE_STATUS_BAD_RECEIPT, escope_receipt_cost(&receipt, &cost));
    INVALID("`receipt` is NULL", escope_limiter_cancel(limiter, NULL));
    escope_limiter_free(other);
    escope_limiter_free(limiter);
}

/* Eight threads use one receipt. */
enum { RACERS = 8, RACES = 500 };

struct race {
    escope_limiter *limiter;
    escope_receipt *receipts;
    pthread_barrier_t *start;
    size_t won;
};

static void *race(void *argument) {
    struct race *race = argument;
    for (size_t i = 0; i < RACES; i++) {
        pthread_barrier_wait(race->start);
        escope_status status = escope_limiter_refund_at(race->limiter, &race->receipts[i], 1, NULL, 0);
        CHECK(status == ESCOPE_STATUS_OK || status == ESCOPE_STATUS_ALREADY_DONE);
        race->won += status == ESCOPE_STATUS_OK;
    }
    return NULL;
}

static void of_racing_uses_one_counts(void) {
    static escope_receipt receipts[RACES];
    escope_limiter *limiter = limiter_with(1);
    escope_rule rule = {1, SECOND, RACES};
    escope_charge charge = by_rule("k", &rule, 1);
    for (size_t i = 0; i < RACES; i++) {
        OK(escope_limiter_reserve_at(limiter, &charge, 0, &receipts[i], NULL, NULL, 0));
    }
    pthread_barrier_t start;
    pthread_t threads[RACERS];
    struct race races[RACERS];
    size_t won = 0;
    pthread_barrier_init(&start, NULL, RACERS);
    for (size_t i = 0; i < RACERS; i++) {
        races[i] = (struct race){limiter, receipts, &start, 0};
        CHECK(pthread_create(&threads[i], NULL, race, &races[i]) == 0);
    }
    for (size_t i = 0; i < RACERS; i++) {
        pthread_join(threads[i], NULL);
        won += races[i].won;
    }
    pthread_barrier_destroy(&start);
    CHECK(won == RACES);
    escope_decision decision;
    OK(escope_limiter_peek_at(limiter, "k", 1, &rule, &decision, 0));
    CHECK(decision.remaining == RACES);
    escope_limiter_free(limiter);
}

static void groups_say_who_refuses(void) {
    escope_limiter *limiter = limiter_with(1);
    escope_rule five = {5, SECOND, 5}, two = {2, SECOND, 2};
    escope_charge charges[ESCOPE_MAX_GROUP + 1] = {by_rule("ann", &five, 1), by_rule("all", &two, 1)};
    escope_decision decisions[2];
    size_t refused;
    uint64_t retry_after_ns;
    for (int i = 0; i < 2; i++) {
        OK(escope_limiter_check_many_at(limiter, charges, 2, decisions, &refused, &retry_after_ns, 0));
        CHECK(refused == 2 && retry_after_ns == 0);
    }
    EXPECT(ESCOPE_STATUS_RATE_LIMITED,
           escope_limiter_check_many_at(limiter, charges, 2, decisions, &refused, &retry_after_ns, 0));
    CHECK(refused == 1 && retry_after_ns == SECOND / 2);
    CHECK(decisions[0].status == ESCOPE_STATUS_OK && decisions[1].status == ESCOPE_STATUS_RATE_LIMITED);
    OK(escope_limiter_peek_at(limiter, "ann", 3, &five, decisions, 0));
    CHECK(decisions[0].remaining == 3);

    OK(escope_limiter_check_many(limiter, NULL, 0, NULL, NULL, NULL));
    INVALID("`charges` is NULL", escope_limiter_check_many(limiter, NULL, 1, NULL, NULL, NULL));
    INVALID("`count` is 33, allowed is 0 to 32",
            escope_limiter_check_many(limiter, charges, ESCOPE_MAX_GROUP + 1, NULL, NULL, NULL));
    INVALID("`rule` is NULL, as is `limit`", escope_limiter_check_many(limiter, charges, 3, NULL, NULL, NULL));
    size_t admitted;
    INVALID("`decisions` is NULL", escope_limiter_check_batch(limiter, charges, 2, NULL, &admitted));
    OK(escope_limiter_check_batch_at(limiter, charges, 2, decisions, &admitted, 0));
    CHECK(admitted == 1 && decisions[0].remaining == 2 && decisions[1].status == ESCOPE_STATUS_RATE_LIMITED);
    escope_limiter_free(limiter);
}

static void limits_are_found_by_name_and_outlive_their_limiter(void) {
    escope_limiter *limiter = limiter_with(1);
    escope_rule slow = {1, SECOND, 4}, fast = {1, SECOND, 8}, now = {0};
    escope_limit *defined, *found, *none = NULL;
    escope_decision decision;
    uint64_t retry_after_ns = 1;
    OK(escope_limiter_define(limiter, "user", &slow, SECOND, &defined));
    OK(escope_limiter_lookup(limiter, "user", &found));
    CHECK(found == defined);
    INVALID("`name` is \"user\"", escope_limiter_define(limiter, "user", &slow, 0, &none));
    INVALID("`name` is 0 bytes long", escope_limiter_define(limiter, "", &slow, 0, &none));
    INVALID("`name` is NULL", escope_limiter_define(limiter, NULL, &slow, 0, &none));
    INVALID("`name` is \"nobody\", allowed is a limit that was defined",
            escope_limiter_lookup(limiter, "nobody", &none));
    INVALID("`max_wait_ns` is", escope_limiter_define(limiter, "long", &slow, UINT64_MAX, &none));
    CHECK(none == NULL);

    OK(escope_limiter_check_limit_at(limiter, "user:ann", 8, found, 3, &decision, 0));
    CHECK(decision.remaining == 1 && decision.limit == 4);
    INVALID("`strategy` is 4", escope_limit_change_at(found, &fast, 4, &retry_after_ns, 0));
    OK(escope_limit_change_at(found, &fast, ESCOPE_CHANGE_ADDITIVE, &retry_after_ns, 0));
    CHECK(retry_after_ns == 0);
    OK(escope_limiter_peek_limit_at(limiter, "user:ann", 8, found, &decision, 0));
    CHECK(decision.remaining == 5 && decision.limit == 8);
    for (int i = 0; i < 2; i++) {
        OK(escope_limit_change_at(found, &slow, ESCOPE_CHANGE_AS_IS, NULL, 0));
    }
    EXPECT(ESCOPE_STATUS_CHANGE_TOO_SOON,
           escope_limit_change_at(found, &fast, ESCOPE_CHANGE_RESET, &retry_after_ns, 0));
    /* Two full buckets and the longest wait. */
    CHECK(retry_after_ns == 9 * SECOND);
    OK(escope_limit_change_at(found, &fast, ESCOPE_CHANGE_RESET, &retry_after_ns, 9 * SECOND));

    escope_limit_free(defined);
    escope_limiter_free(limiter);
    OK(escope_limit_rule(found, &now));
    CHECK(now.burst == 8 && now.tokens == 1 && now.period_ns == SECOND);
    escope_limit_free(found);
    escope_limit_free(NULL);
}

/* A waiter sleeps for its turn; signals do not end it. */
struct waiter {
    escope_limiter *limiter;
    const escope_rule *rule;
    uint64_t granted_ns;
};

static void ignore(int number) { (void)number; }

static void *wait_for_a_token(void *argument) {
    struct waiter *waiter = argument;
    escope_charge charge = by_rule("k", waiter->rule, 1);
    escope_receipt receipt;
    OK(escope_limiter_acquire(waiter->limiter, &charge, 60 * SECOND, &receipt, NULL));
    waiter->granted_ns = escope_clock_now_ns();
    EXPECT(ESCOPE_STATUS_TOO_LATE, escope_limiter_cancel(waiter->limiter, &receipt));
    return NULL;
}

static escope_limiter_stats stats_of(const escope_limiter *limiter) {
    escope_limiter_stats stats = {.struct_size = sizeof stats};
    OK(escope_limiter_snapshot(limiter, &stats));
    return stats;
}

static void acquire_waits_for_its_turn(void) {
    enum { WAITERS = 3 };
    const uint64_t interval = SECOND / 5;
    escope_limiter *limiter = limiter_with(WAITERS);
    escope_rule rule = {1, interval, 1};
    escope_charge charge = by_rule("k", &rule, 1);
    struct sigaction action = {.sa_handler = ignore};
    sigaction(SIGUSR1, &action, NULL);
    pthread_t threads[WAITERS];
    struct waiter waiters[WAITERS];
    uint64_t began = escope_clock_now_ns();
    OK(escope_limiter_acquire(limiter, &charge, 0, NULL, NULL));
    for (size_t i = 0; i < WAITERS; i++) {
        waiters[i] = (struct waiter){limiter, &rule, 0};
        CHECK(pthread_create(&threads[i], NULL, wait_for_a_token, &waiters[i]) == 0);
    }
    for (size_t i = 0; i < WAITERS; i++) {
        pthread_kill(threads[i], SIGUSR1);
    }
    for (size_t i = 0; i < WAITERS; i++) {
        pthread_join(threads[i], NULL);
    }
    /* In some order, each came no earlier than its token. */
    for (size_t i = 0; i < WAITERS; i++) {
        size_t before = 0;
        for (size_t j = 0; j < WAITERS; j++) {
            before += waiters[j].granted_ns < waiters[i].granted_ns;
        }
        CHECK(waiters[i].granted_ns >= began + (before + 1) * interval);
    }
    CHECK(stats_of(limiter).waiting == 0);
    escope_limiter_free(limiter);
}

static void *wait_long(void *argument) {
    struct waiter *waiter = argument;
    escope_charge charge = by_rule("q", waiter->rule, 1);
    OK(escope_limiter_acquire(waiter->limiter, &charge, 60 * SECOND, NULL, NULL));
    return NULL;
}

static void the_queue_is_bounded_and_a_long_wait_is_refused_at_once(void) {
    escope_limiter *limiter = limiter_with(1);
    escope_rule rule = {1, 2 * SECOND, 1}, slow = {1, 3600 * SECOND, 1};
    escope_charge charge = by_rule("slow", &slow, 1);
    escope_decision decision;
    OK(escope_limiter_acquire(limiter, &charge, 0, NULL, NULL));
    EXPECT(ESCOPE_STATUS_RATE_LIMITED, escope_limiter_acquire(limiter, &charge, SECOND, NULL, &decision));
    CHECK(decision.retry_after_ns > SECOND && decision.remaining == 0);
    charge.cost = 2;
    EXPECT(ESCOPE_STATUS_NEVER, escope_limiter_acquire(limiter, &charge, SECOND, NULL, NULL));

    charge = by_rule("q", &rule, 1);
    OK(escope_limiter_acquire(limiter, &charge, 0, NULL, NULL));
    struct waiter waiter = {limiter, &rule, 0};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wait_long, &waiter) == 0);
    while (stats_of(limiter).allowed < 3) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    escope_status status = escope_limiter_acquire(limiter, &charge, SECOND / 1000, NULL, NULL);
    /* On a machine that stood still for two seconds, the other has its token by now. */
    CHECK(status == ESCOPE_STATUS_QUEUE_FULL || stats_of(limiter).waiting == 0);
    pthread_join(thread, NULL);
    /* Whoever finds tokens needs no place in the queue. */
    charge = by_rule("fresh", &rule, 1);
    OK(escope_limiter_acquire(limiter, &charge, SECOND, NULL, NULL));
    INVALID("`charge` is NULL", escope_limiter_acquire(limiter, NULL, 0, NULL, NULL));
    escope_limiter_free(limiter);
}

static void header_fields_are_whole_or_refused(void) {
    escope_rule rule = {10, 60 * SECOND, 10};
    escope_decision decision = {.remaining = 0, .retry_after_ns = 1, .reset_after_ns = 6 * SECOND, .status = 3};
    char text[ESCOPE_FIELD_SIZE], name[66];
    size_t length;
    OK(escope_rule_render_policy(&rule, "a\"p\\i", text, sizeof text, &length));
    CHECK(strcmp(text, "\"a\\\"p\\\\i\";q=10;w=60") == 0 && length == strlen(text));
    OK(escope_decision_render_limit(&decision, "api", text, sizeof text, NULL));
    CHECK(strcmp(text, "\"api\";r=0;t=1") == 0);
    OK(escope_decision_render_retry_after(&decision, text, 2, &length));
    CHECK(strcmp(text, "1") == 0 && length == 1);
    decision.status = ESCOPE_STATUS_OK;
    OK(escope_decision_render_retry_after(&decision, text, 1, &length));
    CHECK(strcmp(text, "") == 0 && length == 0);

    memset(name, '"', 65);
    name[64] = name[65] = 0;
    decision.remaining = decision.reset_after_ns = UINT64_MAX;
    OK(escope_decision_render_limit(&decision, name, text, sizeof text, &length));
    strcpy(text, "as it was");
    INVALID("`capacity` is 13, allowed is 16 or more", escope_rule_render_policy(&rule, "api", text, 13, &length));
    CHECK(strcmp(text, "as it was") == 0);
    INVALID("`buffer` is NULL", escope_rule_render_policy(&rule, "api", NULL, 0, NULL));
    INVALID("`policy_name` is 0", escope_rule_render_policy(&rule, "", text, sizeof text, NULL));
    INVALID("`name` is \"\\xff\"", escope_rule_render_policy(&rule, "\xff", text, sizeof text, NULL));
    decision.status = 99;
    INVALID("`decision.status` is 99", escope_decision_render_limit(&decision, "api", text, sizeof text, NULL));
}

/* Changes the byte at an offset of the file, or cuts the file there. */
static void damage(const char *path, long at, int cut) {
    CHECK(cut == 0 || truncate(path, at) == 0);
    FILE *file = fopen(path, "r+b");
    CHECK(file != NULL && (cut || (fseek(file, at, SEEK_SET) == 0 && fputc(0x5a, file) != EOF)));
    fclose(file);
}

static long size_of(const char *path) {
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL && fseek(file, 0, SEEK_END) == 0);
    long size = ftell(file);
    fclose(file);
    return size;
}

static void a_limiter_outlives_its_process_in_a_file(void) {
    char folder[] = "/tmp/escope-limiter-XXXXXX", path[64];
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/limits", folder);
    escope_limiter *limiter = limiter_with(1), *loaded = NULL;
    escope_rule rule = {1, SECOND, 10};
    escope_decision decision;
    uint64_t keys;
    OK(escope_limiter_check_at(limiter, "ann", 3, &rule, 10, NULL, 100 * SECOND));
    OK(escope_limiter_save_at(limiter, path, 100 * SECOND, 1000 * SECOND));
    /* Four seconds later by the wall clock, on a machine whose own clock has begun anew. */
    OK(escope_limiter_load_at(path, NULL, &loaded, SECOND, 1004 * SECOND));
    OK(escope_limiter_live_keys_at(loaded, &keys, SECOND));
    CHECK(keys == 1);
    OK(escope_limiter_peek_at(loaded, "ann", 3, &rule, &decision, SECOND));
    CHECK(decision.remaining == 4);
    escope_limiter_free(loaded);
    loaded = NULL;

    escope_rule slow = {1, 3600 * SECOND, 1};
    OK(escope_limiter_check(limiter, "bob", 3, &slow, 1, NULL));
    OK(escope_limiter_save(limiter, path));
    damage(path, 70, 0);
    long size = size_of(path);
    INVALID("checksum", escope_limiter_load(path, NULL, &loaded));
    damage(path, size - 3, 1);
    INVALID("bytes that should have", escope_limiter_load(path, NULL, &loaded));
    CHECK(size_of(path) == size - 3);
    damage(path, 0, 0);
    INVALID("not a snapshot", escope_limiter_load(path, NULL, &loaded));
    CHECK(unlink(path) == 0);
    INVALID("`path` is a file with this wrong", escope_limiter_load(path, NULL, &loaded));
    INVALID("`path` is a file with this wrong", escope_limiter_save(limiter, "/nowhere/at/all"));
    INVALID("`path` is NULL", escope_limiter_save(limiter, NULL));
    CHECK(loaded == NULL && rmdir(folder) == 0);
    escope_limiter_free(limiter);
}

int main(void) {
    receipts_are_good_for_one_use_at_their_own_limiter();
    of_racing_uses_one_counts();
    groups_say_who_refuses();
    limits_are_found_by_name_and_outlive_their_limiter();
    acquire_waits_for_its_turn();
    the_queue_is_bounded_and_a_long_wait_is_refused_at_once();
    header_fields_are_whole_or_refused();
    a_limiter_outlives_its_process_in_a_file();
    return 0;
}
