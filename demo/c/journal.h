/* What one client records: every verdict of the limiter with its time, and the time spent inside the library.
 *
 * A journal belongs to one thread until that has ended. `done`, `failed` and the rest are atomics, for the sampler. */
#ifndef DEMO_JOURNAL_H
#define DEMO_JOURNAL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct limiter_call {
    uint64_t at_ns;
    int admitted;
} limiter_call;

typedef struct inside {
    uint64_t guard_ns; /* limiter and breaker */
    uint64_t pool_ns;
} inside;

typedef struct journal {
    limiter_call *calls;
    size_t calls_count, calls_capacity;
    inside *insides;
    size_t insides_count, insides_capacity;
    atomic_ulong done, failed, lookups, found;
} journal;

/* Both end the process when there is no memory: a run with a hole in its records proves nothing. */
void journal_limiter(journal *journal, uint64_t at_ns, int admitted);
void journal_inside(journal *journal, inside spent);
void journal_free(journal *journal);

#endif
