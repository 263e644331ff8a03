/* The events that this worker is to store, read from records `<seq> <bytes>\n<body>\n`. */
#ifndef DEMO_EVENTS_H
#define DEMO_EVENTS_H

#include <stddef.h>

typedef struct event {
    long long seq;
    const char *body; /* points into the list's memory; not terminated */
    int length;
} event;

typedef struct event_list {
    event *items;
    size_t count;
    char *memory;
} event_list;

/* Reads a whole file; on failure explains on standard error and returns -1. */
int events_read(const char *path, event_list *out);
void events_free(event_list *list);

#endif
