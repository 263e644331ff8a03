/* Storing an event in SQLite. The library knows nothing of this: to the pool a connection is a pointer, to the
 * breaker an attempt is a success or a failure. */
#ifndef DEMO_STORE_H
#define DEMO_STORE_H

#include <stdint.h>

#include "events.h"

typedef struct connection connection;

typedef enum stored {
    STORED,       /* written now */
    FOUND,        /* an earlier attempt had written it */
    STORE_BUSY,   /* locked until the deadline; nothing was written */
    STORE_FAILED, /* anything else: unknown whether it was written, and the connection is not to be used again */
} stored;

/* NULL when the database cannot be opened. */
connection *store_open(const char *path);
void store_close(connection *connection);

/* One attempt, at most until `deadline_ns`. With `in_doubt` an earlier attempt may have written the event, so it is
 * looked for first, in the transaction that writes it. */
stored store_event(connection *connection, const event *event, const char *client, int in_doubt,
                   uint64_t deadline_ns);

#endif
