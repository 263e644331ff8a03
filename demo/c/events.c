#include "events.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return NULL;
    }
    char *memory = NULL;
    size_t used = 0, capacity = 0;
    for (;;) {
        if (used + 1 >= capacity) {
            capacity = capacity ? capacity * 2 : 1 << 20;
            char *larger = realloc(memory, capacity);
            if (!larger) {
                fprintf(stderr, "%s: out of memory at %zu bytes\n", path, capacity);
                free(memory);
                fclose(file);
                return NULL;
            }
            memory = larger;
        }
        size_t got = fread(memory + used, 1, capacity - used - 1, file);
        used += got;
        if (got == 0)
            break;
    }
    fclose(file);
    memory[used] = '\0';
    *size = used;
    return memory;
}

static int append(event_list *list, size_t *capacity, event item) {
    if (list->count == *capacity) {
        *capacity = *capacity ? *capacity * 2 : 1024;
        event *larger = realloc(list->items, *capacity * sizeof *larger);
        if (!larger)
            return -1;
        list->items = larger;
    }
    list->items[list->count++] = item;
    return 0;
}

int events_read(const char *path, event_list *out) {
    size_t size = 0, capacity = 0;
    *out = (event_list){0};
    out->memory = read_file(path, &size);
    if (!out->memory)
        return -1;
    char *at = out->memory, *end = out->memory + size;
    while (at < end) {
        char *rest;
        long long seq = strtoll(at, &rest, 10);
        long length = strtol(rest, &rest, 10);
        if (*rest != '\n' || length < 0 || length > INT_MAX || end - rest < length + 2) {
            fprintf(stderr, "%s: no event at byte %td\n", path, at - out->memory);
            events_free(out);
            return -1;
        }
        if (append(out, &capacity, (event){seq, rest + 1, (int)length}) != 0) {
            fprintf(stderr, "%s: out of memory at %zu events\n", path, out->count);
            events_free(out);
            return -1;
        }
        at = rest + 1 + length + 1;
    }
    return 0;
}

void events_free(event_list *list) {
    free(list->items);
    free(list->memory);
    *list = (event_list){0};
}
