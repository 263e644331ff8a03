/* Replays the vectors of the limiter; their operations are described in tests/vectors_limiter.rs. */
#ifndef ESCOPE_TEST_REPLAY_LIMITER_H
#define ESCOPE_TEST_REPLAY_LIMITER_H

#include "replay.h"

static const char *const full_policies[] = {"deny_new", "evict_most_full", "overflow_key"};
static const char *const strategies[] = {"as_is", "proportional", "additive", "reset"};

/* What an operation is made on. */
struct limiter_replay {
    escope_limiter *limiter;
    escope_rule rule; /* of the vector */
    escope_receipt *receipts;
    size_t receipt_count;
};

static inline escope_rule rule_of(const struct json *terms) {
    return (escope_rule){json_number(terms, "tokens"), json_number(terms, "period_ns"), json_number(terms, "burst")};
}

/* The rule that an operation brings, or the vector's. */
static inline escope_rule rule_for(const struct limiter_replay *replay, const struct json *op) {
    const struct json *own = json_find(op, "rule");
    return own == NULL ? replay->rule : rule_of(own);
}

/* The limit that an operation or a charge names, which its caller gives back; NULL if it names none. */
static inline escope_limit *limit_for(const struct limiter_replay *replay, const struct json *op) {
    escope_limit *limit = NULL;
    if (json_find(op, "limit") != NULL) {
        OK(escope_limiter_lookup(replay->limiter, json_text(op, "limit"), &limit));
    }
    return limit;
}

static inline escope_charge charge_of(const struct json *op, const escope_rule *rule, const escope_limit *limit) {
    const struct json *key = json_member(op, "key", JSON_STRING);
    return (escope_charge){key->text, key->length, limit == NULL ? rule : NULL, limit, json_number(op, "cost")};
}

static inline void expect_decision(struct step *step, escope_status status, const escope_decision *decision) {
    expect_word(step, step->expect, "verdict", status_word(status));
    CHECK(status < 0 || decision->status == status);
    expect_number(step, step->expect, "remaining", decision->remaining);
    expect_number(step, step->expect, "limit", decision->limit);
    expect_number(step, step->expect, "retry_after_ns", decision->retry_after_ns);
    expect_number(step, step->expect, "reset_after_ns", decision->reset_after_ns);
}

static inline void replay_check(struct step *step, const struct limiter_replay *replay, uint64_t now_ns) {
    const struct json *key = json_member(step->op, "key", JSON_STRING);
    escope_rule rule = rule_for(replay, step->op);
    escope_limit *limit = limit_for(replay, step->op);
    escope_limiter *limiter = replay->limiter;
    escope_decision decision;
    escope_status status;
    if (strcmp(json_text(step->op, "op"), "check") == 0) {
        uint64_t cost = json_number(step->op, "cost");
        status = limit == NULL
                     ? escope_limiter_check_at(limiter, key->text, key->length, &rule, cost, &decision, now_ns)
                     : escope_limiter_check_limit_at(limiter, key->text, key->length, limit, cost, &decision, now_ns);
    } else {
        status = limit == NULL ? escope_limiter_peek_at(limiter, key->text, key->length, &rule, &decision, now_ns)
                               : escope_limiter_peek_limit_at(limiter, key->text, key->length, limit, &decision, now_ns);
    }
    expect_decision(step, status, &decision);
    escope_limit_free(limit);
}

static inline void replay_reserve(struct step *step, struct limiter_replay *replay, uint64_t now_ns) {
    escope_rule rule = rule_for(replay, step->op);
    escope_limit *limit = limit_for(replay, step->op);
    escope_charge charge = charge_of(step->op, &rule, limit);
    escope_receipt *receipt = &replay->receipts[replay->receipt_count];
    escope_decision decision;
    uint64_t wait_ns = 0, cost = 0, number = UINT64_MAX;
    escope_status status = escope_limiter_reserve_at(replay->limiter, &charge, json_number(step->op, "max_wait_ns"),
                                                     receipt, &wait_ns, &decision, now_ns);
    expect_decision(step, status, &decision);
    expect_number(step, step->expect, "wait_ns", wait_ns);
    if (status == ESCOPE_STATUS_OK) {
        OK(escope_receipt_cost(receipt, &cost));
    }
    if (cost > 0) {
        CHECK(cost == charge.cost);
        number = replay->receipt_count++;
    }
    /* No receipt is null. */
    expect_number(step, step->expect, "receipt", number);
    escope_limit_free(limit);
}

/* A use of a receipt. */
static inline void replay_receipt(struct step *step, struct limiter_replay *replay, uint64_t now_ns) {
    const char *op = json_text(step->op, "op"), *word;
    size_t number = (size_t)json_number(step->op, "receipt");
    CHECK(number < replay->receipt_count);
    escope_receipt *receipt = &replay->receipts[number];
    escope_limit *limit = limit_for(replay, step->op);
    int32_t saturated = 0;
    escope_status status;
    if (strcmp(op, "cancel") == 0) {
        status = escope_limiter_cancel_at(replay->limiter, receipt, now_ns);
    } else if (strcmp(op, "refund") == 0) {
        uint64_t amount = json_number(step->op, "amount");
        status = escope_limiter_refund_at(replay->limiter, receipt, amount, limit, now_ns);
    } else {
        uint64_t actual = json_number(step->op, "actual");
        status = escope_limiter_settle_at(replay->limiter, receipt, actual, limit, &saturated, now_ns);
    }
    /* The vectors have one word for a receipt that was used and for none. */
    word = status == ESCOPE_STATUS_ALREADY_DONE ? "bad_receipt" : status_word(status);
    if (status == ESCOPE_STATUS_OK) {
        word = saturated ? "saturated" : "applied";
    }
    expect_word(step, step->op, "expect", word);
    escope_limit_free(limit);
}

static inline void replay_group(struct step *step, const struct limiter_replay *replay, uint64_t now_ns) {
    const struct json *list = json_member(step->op, "charges", JSON_LIST);
    const struct json *blocked = json_member(step->expect, "blocked", JSON_LIST);
    escope_charge charges[ESCOPE_MAX_GROUP] = {0};
    escope_decision decisions[ESCOPE_MAX_GROUP] = {0};
    size_t refused, at = 0;
    uint64_t retry_after_ns;
    CHECK(list->count <= ESCOPE_MAX_GROUP);
    for (size_t i = 0; i < list->count; i++) {
        charges[i] = charge_of(&list->items[i], &replay->rule, limit_for(replay, &list->items[i]));
    }
    escope_status status = escope_limiter_check_many_at(replay->limiter, charges, list->count, decisions, &refused,
                                                        &retry_after_ns, now_ns);
    expect_word(step, step->expect, "verdict", status_word(status));
    expect_number(step, step->expect, "retry_after_ns", retry_after_ns);
    CHECK(status == ESCOPE_STATUS_OK ? refused == list->count : decisions[refused].status == status);
    for (size_t i = 0; i < list->count; i++) {
        if (decisions[i].status != ESCOPE_STATUS_OK) {
            if (at == blocked->count || blocked->items[at].number != i) {
                differs(step, "an index that refuses", i, at < blocked->count ? blocked->items[at].number : 0);
            }
            at++;
        }
        escope_limit_free((escope_limit *)charges[i].limit);
    }
    if (at != blocked->count) {
        differs(step, "the number that refuse", at, blocked->count);
    }
}

static inline void replay_change(struct step *step, const struct limiter_replay *replay, uint64_t now_ns) {
    escope_rule rule = rule_for(replay, step->op);
    escope_limit *limit = limit_for(replay, step->op);
    int32_t strategy = number_of(json_text(step->op, "strategy"), strategies, 4);
    uint64_t retry_after_ns;
    escope_status status = escope_limit_change_at(limit, &rule, strategy, &retry_after_ns, now_ns);
    expect_word(step, step->expect, "verdict", status_word(status));
    if (status == ESCOPE_STATUS_CHANGE_TOO_SOON) {
        expect_number(step, step->expect, "retry_after_ns", retry_after_ns);
    } else {
        CHECK(retry_after_ns == 0);
    }
    escope_limit_free(limit);
}

static inline struct limiter_replay limiter_of_vector(const struct json *vector) {
    struct limiter_replay replay = {.rule = rule_of(json_member(vector, "rule", JSON_OBJECT))};
    const struct json *limits = json_find(vector, "limits");
    escope_limiter_options options;
    OK(escope_limiter_options_init(&options, sizeof options));
    options.max_keys = json_number(vector, "max_keys");
    if (json_find(vector, "full_policy") != NULL) {
        options.full_policy = number_of(json_text(vector, "full_policy"), full_policies, 3);
    }
    OK(escope_limiter_new(&options, &replay.limiter));
    for (size_t i = 0; limits != NULL && i < limits->count; i++) {
        escope_rule rule = rule_of(&limits->items[i]);
        uint64_t max_wait_ns = json_number(&limits->items[i], "max_wait_ns");
        OK(escope_limiter_define(replay.limiter, limits->items[i].name, &rule, max_wait_ns, NULL));
    }
    replay.receipts = calloc(json_member(vector, "ops", JSON_LIST)->count + 1, sizeof *replay.receipts);
    CHECK(replay.receipts != NULL);
    return replay;
}

static inline int replay_limiter(const struct json *vector) {
    struct limiter_replay replay = limiter_of_vector(vector);
    const struct json *ops = json_member(vector, "ops", JSON_LIST);
    struct step step = {.vector = vector};
    for (; step.number < ops->count && !step.failed; step.number++) {
        step.op = &ops->items[step.number];
        step.expect = json_find(step.op, "expect");
        const char *op = json_text(step.op, "op");
        uint64_t now_ns = json_number(step.op, "now_ns");
        if (strcmp(op, "check") == 0 || strcmp(op, "peek") == 0) {
            replay_check(&step, &replay, now_ns);
        } else if (strcmp(op, "reset") == 0) {
            const struct json *key = json_member(step.op, "key", JSON_STRING);
            OK(escope_limiter_reset(replay.limiter, key->text, key->length));
        } else if (strcmp(op, "reserve") == 0) {
            replay_reserve(&step, &replay, now_ns);
        } else if (strcmp(op, "cancel") == 0 || strcmp(op, "refund") == 0 || strcmp(op, "settle") == 0) {
            replay_receipt(&step, &replay, now_ns);
        } else if (strcmp(op, "check_many") == 0) {
            replay_group(&step, &replay, now_ns);
        } else if (strcmp(op, "change") == 0) {
            replay_change(&step, &replay, now_ns);
        } else {
            fprintf(stderr, "unknown operation %s\n", op);
            exit(2);
        }
    }
    escope_limiter_free(replay.limiter);
    free(replay.receipts);
    return step.failed;
}

#endif
