#include "journal.h"

#include <stdlib.h>

static void *grown(void *items, size_t count, size_t *capacity, size_t item_size) {
    if (count < *capacity)
        return items;
    *capacity = *capacity ? *capacity * 2 : 1024;
    void *larger = realloc(items, *capacity * item_size);
    if (!larger) {
        fprintf(stderr, "out of memory at %zu records\n", count);
        exit(EXIT_FAILURE);
    }
    return larger;
}

void journal_limiter(journal *journal, uint64_t at_ns, int admitted) {
    journal->calls =
        grown(journal->calls, journal->calls_count, &journal->calls_capacity, sizeof *journal->calls);
    journal->calls[journal->calls_count++] = (limiter_call){at_ns, admitted};
}

void journal_inside(journal *journal, inside spent) {
    journal->insides =
        grown(journal->insides, journal->insides_count, &journal->insides_capacity, sizeof *journal->insides);
    journal->insides[journal->insides_count++] = spent;
}

void journal_free(journal *journal) {
    free(journal->calls);
    free(journal->insides);
}
