/* What the replays of all primitives share: an operation of a vector, and what is expected of it. */
#ifndef ESCOPE_TEST_REPLAY_H
#define ESCOPE_TEST_REPLAY_H

#include "check.h"
#include "json.h"

struct step {
    const struct json *vector, *op, *expect;
    size_t number;
    int failed;
};

static inline void differs(struct step *step, const char *what, uint64_t got, uint64_t expected) {
    fprintf(stderr, "%s, operation %zu: %s is %" PRIu64 ", expected %" PRIu64 "\n", json_text(step->vector, "name"),
            step->number, what, got, expected);
    step->failed = 1;
}

static inline void expect_number(struct step *step, const struct json *expect, const char *name, uint64_t got) {
    const struct json *expected = json_find(expect, name);
    if (expected != NULL && expected->kind == JSON_NULL) {
        if (got != UINT64_MAX) {
            differs(step, name, got, UINT64_MAX);
        }
    } else if (got != json_number(expect, name)) {
        differs(step, name, got, json_number(expect, name));
    }
}

static inline const char *status_word(escope_status status) {
    switch (status) {
    case ESCOPE_STATUS_OK: return "ok";
    case ESCOPE_STATUS_CIRCUIT_OPEN: return "circuit_open";
    case ESCOPE_STATUS_HALF_OPEN_FULL: return "half_open_full";
    case ESCOPE_STATUS_RATE_LIMITED: return "rate_limited";
    case ESCOPE_STATUS_NEVER: return "never";
    case ESCOPE_STATUS_TABLE_FULL: return "table_full";
    case ESCOPE_STATUS_POOL_EXHAUSTED: return "pool_exhausted";
    case ESCOPE_STATUS_POOL_CLOSED: return "pool_closed";
    case ESCOPE_STATUS_STALE: return "stale";
    case ESCOPE_STATUS_EXPIRED: return "expired";
    case ESCOPE_STATUS_FORCED_OPEN: return "forced_open";
    case ESCOPE_STATUS_SERVICE_DEGRADED: return "service_degraded";
    case ESCOPE_STATUS_TOO_LATE: return "too_late";
    case ESCOPE_STATUS_FORFEITED: return "forfeited";
    case ESCOPE_STATUS_CHANGE_TOO_SOON: return "change_too_soon";
    case ESCOPE_STATUS_BAD_RECEIPT: return "bad_receipt";
    case ESCOPE_STATUS_ALREADY_DONE: return "already_done";
    case ESCOPE_STATUS_STALE_LEASE: return "stale_lease";
    case ESCOPE_STATUS_PERMIT_NOT_FOUND: return "permit_not_found";
    default: return escope_status_str(status);
    }
}

static inline void expect_word(struct step *step, const struct json *expect, const char *name, const char *got) {
    const struct json *member = json_find(expect, name);
    const char *expected = member != NULL && member->kind == JSON_NULL ? "none" : json_text(expect, name);
    /* The limiter's verdict has a word of its own for OK. */
    if (strcmp(expected, got) != 0 && !(strcmp(expected, "allowed") == 0 && strcmp(got, "ok") == 0)) {
        fprintf(stderr, "%s, operation %zu: %s is %s, expected %s\n", json_text(step->vector, "name"), step->number,
                name, got, expected);
        step->failed = 1;
    }
}

/* The number that a word has in C. */
static inline int32_t number_of(const char *word, const char *const words[], int32_t count) {
    for (int32_t number = 0; number < count; number++) {
        if (words[number] != NULL && strcmp(words[number], word) == 0) {
            return number;
        }
    }
    fprintf(stderr, "unknown word %s\n", word);
    exit(2);
}

#endif
