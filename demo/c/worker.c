/* The demo's C program: four threads store their events through one breaker, one limiter and one pool.
 *
 * worker DIRECTORY DATABASE: reads DIRECTORY/events.txt, says it is ready, waits for `start SPAN_MS`, and spreads its
 * work over that span. A client that fell behind hurries to catch up and is then slowed down by its limit. What it
 * prints is described in harness/worker.py; at the end DIRECTORY holds limiter.txt and inside.txt. */
#include <elixirscope.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "events.h"
#include "journal.h"
#include "store.h"

enum { CLIENTS = 4, POOL_SIZE = 2, POOL_OVERFLOW = 2 };

#define MILLISECOND UINT64_C(1000000)
#define SECOND (1000 * MILLISECOND)
#define OPEN_FOR (2 * SECOND)
#define OVERFLOW_TTL SECOND
#define CHECKOUT_TIMEOUT SECOND
/* How long an attempt tries on a locked database, and how often at least a refused client asks again. */
#define ATTEMPT (250 * MILLISECOND)
#define ASK_AGAIN (100 * MILLISECOND)
#define SAMPLE (100 * MILLISECOND)
/* Wide enough for a client's pace, so that only one that catches up meets it. */
static const escope_rule RULE = {.tokens = 150, .period_ns = SECOND, .burst = 30};

static const char *const PHASES[] = {"closed", "open", "half_open"};

typedef struct worker {
    const char *directory;
    const char *database;
    event_list events;
    escope_breaker *breaker;
    escope_limiter *limiter;
    escope_pool *pool;
    uint64_t began_ns, span_ns;
    journal journals[CLIENTS];
    atomic_long open_connections;
} worker;

typedef struct client {
    worker *worker;
    int index;
    char name[16];
} client;

static void require(escope_status status, const char *what) {
    if (status == ESCOPE_STATUS_OK)
        return;
    char text[256];
    escope_last_error(text, sizeof text, NULL);
    fprintf(stderr, "%s: %s: %s\n", what, escope_status_str(status), text);
    exit(EXIT_FAILURE);
}

static void publish(const escope_events *events) {
    for (uint32_t i = 0; i < events->count; i++) {
        const escope_event *event = &events->items[i];
        /* Those of levels have a sequence of their own; nothing here follows from a level. */
        if (event->cause == ESCOPE_CAUSE_LEVEL_CHANGED) {
            continue;
        }
        printf("{\"type\":\"transition\",\"at\":%" PRIu64 ",\"sequence\":%" PRIu32
               ",\"from\":\"%s\",\"to\":\"%s\",\"cause\":\"%s\"}\n",
               event->at_ns, event->sequence, PHASES[event->from], PHASES[event->to],
               escope_breaker_cause_str(event->cause));
    }
}

static int32_t pool_create(void *userdata, uint64_t deadline_ns, void **connection) {
    (void)deadline_ns; /* opening a local file does not wait */
    worker *worker = userdata;
    *connection = store_open(worker->database);
    if (!*connection)
        return -1;
    atomic_fetch_add(&worker->open_connections, 1);
    return 0;
}

static void pool_destroy(void *userdata, void *connection) {
    worker *worker = userdata;
    store_close(connection);
    atomic_fetch_sub(&worker->open_connections, 1);
}

/* One attempt: limiter, breaker, pool, database. Gives how long to wait before the next, or 0 once stored. */
static uint64_t attempt(client *self, const event *event, int *in_doubt) {
    worker *worker = self->worker;
    journal *journal = &worker->journals[self->index];
    escope_decision decision;
    escope_permit permit;
    escope_events events;
    escope_lease lease;
    void *connection;
    uint64_t retry_after_ns;
    inside spent = {0, 0};

    uint64_t now = clock_now_ns();
    escope_status status = escope_limiter_check_at(worker->limiter, self->name, strlen(self->name), &RULE, 1,
                                                   &decision, now);
    spent.guard_ns = clock_now_ns() - now;
    journal_limiter(journal, now, status == ESCOPE_STATUS_OK);
    if (status == ESCOPE_STATUS_RATE_LIMITED)
        return decision.retry_after_ns;
    require(status, "limiter check");

    now = clock_now_ns();
    status = escope_breaker_acquire(worker->breaker, &permit, &retry_after_ns, &events);
    spent.guard_ns += clock_now_ns() - now;
    if (status >= 0)
        publish(&events);
    if (status == ESCOPE_STATUS_CIRCUIT_OPEN || status == ESCOPE_STATUS_HALF_OPEN_FULL)
        return retry_after_ns > 0 && retry_after_ns < ASK_AGAIN ? retry_after_ns : ASK_AGAIN;
    require(status, "breaker acquire");

    now = clock_now_ns();
    status = escope_pool_checkout(worker->pool, CHECKOUT_TIMEOUT, &lease, &connection);
    spent.pool_ns = clock_now_ns() - now;
    stored outcome = STORE_BUSY;
    if (status == ESCOPE_STATUS_OK) {
        if (*in_doubt)
            atomic_fetch_add(&journal->lookups, 1);
        outcome = store_event(connection, event, self->name, *in_doubt, clock_now_ns() + ATTEMPT);
        now = clock_now_ns();
        status = escope_pool_checkin(worker->pool, &lease,
                                     outcome == STORE_FAILED ? ESCOPE_CONDITION_BROKEN : ESCOPE_CONDITION_GOOD);
        spent.pool_ns += clock_now_ns() - now;
        require(status, "pool check-in");
    } else if (status != ESCOPE_STATUS_POOL_TIMEOUT && status != ESCOPE_STATUS_CREATE_FAILED) {
        require(status, "pool check-out");
    }

    int succeeded = outcome == STORED || outcome == FOUND;
    now = clock_now_ns();
    status = escope_breaker_record(worker->breaker, &permit,
                                   succeeded ? ESCOPE_OUTCOME_SUCCESS : ESCOPE_OUTCOME_FAILURE, &events);
    spent.guard_ns += clock_now_ns() - now;
    /* A result of an earlier generation counts for nothing: the breaker opened while the attempt ran. */
    if (status != ESCOPE_STATUS_STALE)
        require(status, "breaker record");
    publish(&events);

    if (!succeeded) {
        *in_doubt |= outcome == STORE_FAILED;
        atomic_fetch_add(&journal->failed, 1);
        return MILLISECOND;
    }
    if (outcome == FOUND)
        atomic_fetch_add(&journal->found, 1);
    journal_inside(journal, spent);
    return 0;
}

static void *run_client(void *argument) {
    client *self = argument;
    worker *worker = self->worker;
    for (size_t i = (size_t)self->index; i < worker->events.count; i += CLIENTS) {
        clock_sleep_until_ns(worker->began_ns + worker->span_ns / worker->events.count * i);
        int in_doubt = 0;
        uint64_t wait_ns;
        while ((wait_ns = attempt(self, &worker->events.items[i], &in_doubt)) > 0)
            clock_sleep_ns(wait_ns);
        atomic_fetch_add(&worker->journals[self->index].done, 1);
    }
    return NULL;
}

typedef struct totals {
    unsigned long done, failed, lookups, found;
    escope_breaker_stats breaker;
    escope_limiter_stats limiter;
    escope_pool_stats pool;
} totals;

static totals take_totals(worker *worker) {
    totals now = {.breaker.struct_size = sizeof now.breaker,
                  .limiter.struct_size = sizeof now.limiter,
                  .pool.struct_size = sizeof now.pool};
    for (int i = 0; i < CLIENTS; i++) {
        now.done += atomic_load(&worker->journals[i].done);
        now.failed += atomic_load(&worker->journals[i].failed);
        now.lookups += atomic_load(&worker->journals[i].lookups);
        now.found += atomic_load(&worker->journals[i].found);
    }
    require(escope_breaker_snapshot(worker->breaker, &now.breaker), "breaker snapshot");
    require(escope_limiter_snapshot(worker->limiter, &now.limiter), "limiter snapshot");
    require(escope_pool_snapshot(worker->pool, &now.pool), "pool snapshot");
    return now;
}

static uint64_t rejected(const totals *of) {
    return of->breaker.rejected_open + of->breaker.rejected_half_open;
}

static unsigned long print_sample(worker *worker) {
    totals now = take_totals(worker);
    printf("{\"type\":\"sample\",\"at\":%" PRIu64 ",\"done\":%lu,\"state\":\"%s\",\"admitted\":%" PRIu64
           ",\"limited\":%" PRIu64 ",\"rejected\":%" PRIu64 ",\"in_use\":%" PRIu32 ",\"overflow\":%" PRIu32
           ",\"waiting\":%" PRIu32 "}\n",
           clock_now_ns(), now.done, PHASES[now.breaker.phase], now.breaker.admitted, now.limiter.limited,
           rejected(&now), now.pool.leased, now.pool.overflow, now.pool.waiting);
    return now.done;
}

/* Closes the pool first: a connection that is open afterwards has leaked. */
static void print_final(worker *worker) {
    totals end = take_totals(worker);
    escope_pool_free(worker->pool);
    printf("{\"type\":\"final\",\"done\":%lu,\"failed\":%lu,\"lookups\":%lu,\"found\":%lu,\"admitted\":%" PRIu64
           ",\"limited\":%" PRIu64 ",\"rejected\":%" PRIu64 ",\"checkouts\":%" PRIu64 ",\"created\":%" PRIu64
           ",\"leased\":%" PRIu32 ",\"left_open\":%ld}\n",
           end.done, end.failed, end.lookups, end.found, end.breaker.admitted, end.limiter.limited, rejected(&end),
           end.pool.granted, end.pool.created, end.pool.leased, atomic_load(&worker->open_connections));
}

static FILE *open_record(const char *directory, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    if (!file) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    return file;
}

static void write_records(const worker *worker, const client *clients) {
    FILE *calls = open_record(worker->directory, "limiter.txt");
    FILE *insides = open_record(worker->directory, "inside.txt");
    for (int i = 0; i < CLIENTS; i++) {
        const journal *journal = &worker->journals[i];
        for (size_t k = 0; k < journal->calls_count; k++) {
            uint64_t at = journal->calls[k].at_ns;
            fprintf(calls, "%s %" PRIu64 " %" PRIu64 " %" PRIu64 " 1 %" PRIu64 " %" PRIu64 " %d\n",
                    clients[i].name, RULE.tokens, RULE.period_ns, RULE.burst, at, at, journal->calls[k].admitted);
        }
        for (size_t k = 0; k < journal->insides_count; k++)
            fprintf(insides, "%" PRIu64 " %" PRIu64 "\n", journal->insides[k].guard_ns,
                    journal->insides[k].pool_ns);
    }
    if (fclose(calls) != 0 || fclose(insides) != 0) {
        perror(worker->directory);
        exit(EXIT_FAILURE);
    }
}

static void build(worker *worker) {
    escope_breaker_options breaker;
    require(escope_breaker_options_init(&breaker, sizeof breaker), "breaker options");
    breaker.open_for_ns = OPEN_FOR;
    require(escope_breaker_new(&breaker, &worker->breaker), "breaker");

    require(escope_limiter_new(NULL, &worker->limiter), "limiter");

    escope_pool_options pool;
    require(escope_pool_options_init(&pool, sizeof pool), "pool options");
    pool.size = POOL_SIZE;
    pool.max_overflow = POOL_OVERFLOW;
    pool.overflow_ttl_ns = OVERFLOW_TTL;
    pool.create = pool_create;
    pool.destroy = pool_destroy;
    pool.userdata = worker;
    require(escope_pool_new(&pool, &worker->pool), "pool");
}

static void await_start(worker *worker) {
    char command[64];
    unsigned long span_ms;
    puts("{\"type\":\"ready\"}");
    if (!fgets(command, sizeof command, stdin) || sscanf(command, "start %lu", &span_ms) != 1) {
        fputs("expected `start SPAN_MS`\n", stderr);
        exit(EXIT_FAILURE);
    }
    worker->span_ns = span_ms * MILLISECOND;
    worker->began_ns = clock_now_ns();
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fputs("usage: worker DIRECTORY DATABASE\n", stderr);
        return 64;
    }
    static worker worker;
    worker.directory = argv[1];
    worker.database = argv[2];
    char path[4096];
    snprintf(path, sizeof path, "%s/events.txt", worker.directory);
    if (events_read(path, &worker.events) != 0)
        return EXIT_FAILURE;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    build(&worker);
    await_start(&worker);

    client clients[CLIENTS];
    pthread_t threads[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (client){.worker = &worker, .index = i};
        snprintf(clients[i].name, sizeof clients[i].name, "c-%d", i);
        if (pthread_create(&threads[i], NULL, run_client, &clients[i]) != 0) {
            perror("pthread_create");
            return EXIT_FAILURE;
        }
    }
    while (print_sample(&worker) < worker.events.count)
        clock_sleep_ns(SAMPLE);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    write_records(&worker, clients);
    print_final(&worker);

    for (int i = 0; i < CLIENTS; i++)
        journal_free(&worker.journals[i]);
    escope_limiter_free(worker.limiter);
    escope_breaker_free(worker.breaker);
    events_free(&worker.events);
    return EXIT_SUCCESS;
}
