#include "store.h"

#include <sqlite3.h>
#include <stdlib.h>

#include "clock.h"

/* Pause between two tries on a locked database: long enough not to hammer it, short against a deadline. */
enum { PAUSE_NS = 1000000, JITTER_NS = 2000000 };

enum { BEGIN, COMMIT, ROLLBACK, LOOK_UP, INSERT, STATEMENTS };

static const char *const SQL[STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [LOOK_UP] = "SELECT 1 FROM events WHERE seq = ?1",
    [INSERT] = "INSERT INTO events (seq, language, client, body) VALUES (?1, 'c', ?2, ?3)",
};

struct connection {
    sqlite3 *db;
    sqlite3_stmt *statements[STATEMENTS];
    unsigned seed;
};

connection *store_open(const char *path) {
    connection *made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    made->seed = (unsigned)clock_now_ns();
    int result = sqlite3_open_v2(path, &made->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_busy_timeout(made->db, 0);
    if (result == SQLITE_OK)
        result = sqlite3_exec(made->db, "PRAGMA synchronous = OFF", NULL, NULL, NULL);
    for (int i = 0; i < STATEMENTS && result == SQLITE_OK; i++)
        result = sqlite3_prepare_v3(made->db, SQL[i], -1, SQLITE_PREPARE_PERSISTENT, &made->statements[i], NULL);
    if (result != SQLITE_OK) {
        store_close(made);
        return NULL;
    }
    return made;
}

void store_close(connection *connection) {
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(connection->statements[i]);
    sqlite3_close(connection->db);
    free(connection);
}

static int run(connection *connection, int which) {
    int result = sqlite3_step(connection->statements[which]);
    sqlite3_reset(connection->statements[which]);
    return result;
}

static int look_up(connection *connection, const event *event) {
    sqlite3_bind_int64(connection->statements[LOOK_UP], 1, event->seq);
    return run(connection, LOOK_UP);
}

static int insert(connection *connection, const event *event, const char *client) {
    sqlite3_stmt *statement = connection->statements[INSERT];
    sqlite3_bind_int64(statement, 1, event->seq);
    sqlite3_bind_text(statement, 2, client, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, 3, event->body, event->length, SQLITE_STATIC);
    int result = run(connection, INSERT);
    sqlite3_clear_bindings(statement);
    return result;
}

/* The write lock is taken first, so that a locked database is noticed before anything is written. */
static int begin(connection *connection, uint64_t deadline_ns) {
    for (;;) {
        int result = run(connection, BEGIN);
        if (result != SQLITE_BUSY || clock_now_ns() >= deadline_ns)
            return result;
        clock_sleep_ns(PAUSE_NS + (uint64_t)rand_r(&connection->seed) % JITTER_NS);
    }
}

stored store_event(connection *connection, const event *event, const char *client, int in_doubt,
                   uint64_t deadline_ns) {
    int result = begin(connection, deadline_ns);
    if (result != SQLITE_DONE)
        return result == SQLITE_BUSY ? STORE_BUSY : STORE_FAILED;
    stored outcome = STORED;
    if (in_doubt) {
        result = look_up(connection, event);
        if (result == SQLITE_ROW)
            outcome = FOUND;
        else if (result != SQLITE_DONE)
            goto failed;
    }
    if (outcome == STORED && insert(connection, event, client) != SQLITE_DONE)
        goto failed;
    if (run(connection, COMMIT) != SQLITE_DONE)
        goto failed;
    return outcome;

failed:
    run(connection, ROLLBACK);
    return STORE_FAILED;
}
