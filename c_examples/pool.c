/* A pool of SQLite connections: eight threads write into one database through at most three connections.
 *
 *     cc pool.c $(pkg-config --cflags --libs elixirscope sqlite3) -pthread -o pool && ./pool [database] */
#define _POSIX_C_SOURCE 200809L

#include <elixirscope.h>

#include <inttypes.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { THREADS = 8, ROWS = 50 };

static const uint64_t SECOND = UINT64_C(1000000000);

struct database {
    const char *path;
    escope_pool *pool;
};

/* The pool's callbacks. A connection is opened and closed by whichever thread needs it, one thread at a time. */
static int32_t open_connection(void *userdata, uint64_t deadline_ns, void **connection) {
    struct database *database = userdata;
    sqlite3 *db = NULL;
    (void)deadline_ns; /* opening a local file does not wait */
    int code = sqlite3_open_v2(database->path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_busy_timeout(db, 10000);
    }
    if (code == SQLITE_OK) {
        code = sqlite3_exec(db, "CREATE TABLE IF NOT EXISTS rows(thread INTEGER, number INTEGER)", NULL, NULL, NULL);
    }
    if (code != SQLITE_OK) {
        fprintf(stderr, "open: %s\n", db == NULL ? "out of memory" : sqlite3_errmsg(db));
        sqlite3_close(db);
        return code;
    }
    *connection = db;
    return 0;
}

static void close_connection(void *userdata, void *connection) {
    (void)userdata;
    sqlite3_close(connection);
}

static int explain(escope_status status, const char *what) {
    char message[257] = "";
    escope_last_error(message, sizeof message, NULL);
    fprintf(stderr, "%s: %s %s\n", what, escope_status_str(status), status < 0 ? message : "");
    return -1;
}

/* Runs one statement on a connection of the pool. A connection that fails is not lent again. */
static int run(escope_pool *pool, const char *statement, int (*row)(void *, int, char **, char **), void *argument) {
    escope_lease lease;
    void *connection;
    escope_status status = escope_pool_checkout(pool, 5 * SECOND, &lease, &connection);
    if (status != ESCOPE_STATUS_OK) {
        return explain(status, "check-out");
    }
    int code = sqlite3_exec(connection, statement, row, argument, NULL);
    if (code != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", statement, sqlite3_errmsg(connection));
    }
    status = escope_pool_checkin(pool, &lease, code == SQLITE_OK ? ESCOPE_CONDITION_GOOD : ESCOPE_CONDITION_BROKEN);
    if (status != ESCOPE_STATUS_OK) {
        return explain(status, "check-in");
    }
    return code == SQLITE_OK ? 0 : -1;
}

struct writer {
    struct database *database;
    int number;
    pthread_t thread;
    int failures;
};

static void *write_rows(void *argument) {
    struct writer *writer = argument;
    for (int row = 0; row < ROWS && writer->failures == 0; row++) {
        char statement[100];
        snprintf(statement, sizeof statement, "INSERT INTO rows VALUES (%d, %d)", writer->number, row);
        writer->failures += run(writer->database->pool, statement, NULL, NULL) != 0;
    }
    return NULL;
}

static int keep_number(void *argument, int columns, char **values, char **names) {
    (void)columns;
    (void)names;
    *(long *)argument = strtol(values[0], NULL, 10);
    return 0;
}

static int use_pool(struct database *database) {
    escope_pool_options options;
    escope_status status = escope_pool_options_init(&options, sizeof options);
    options.create = open_connection;
    options.destroy = close_connection;
    options.userdata = database;
    options.size = 2;
    options.max_overflow = 1;
    options.overflow_ttl_ns = SECOND;
    if (status == ESCOPE_STATUS_OK) {
        status = escope_pool_new(&options, &database->pool);
    }
    if (status != ESCOPE_STATUS_OK) {
        return explain(status, "pool");
    }

    struct writer writers[THREADS];
    int failures = 0, started = 0;
    while (started < THREADS) {
        writers[started] = (struct writer){.database = database, .number = started};
        if (pthread_create(&writers[started].thread, NULL, write_rows, &writers[started]) != 0) {
            fprintf(stderr, "thread %d does not start\n", started);
            failures++;
            break;
        }
        started++;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(writers[i].thread, NULL);
        failures += writers[i].failures;
    }

    long rows = 0;
    failures += run(database->pool, "SELECT count(*) FROM rows", keep_number, &rows) != 0;
    escope_pool_stats stats;
    escope_pool_stats_init(&stats, sizeof stats);
    if (escope_pool_snapshot(database->pool, &stats) == ESCOPE_STATUS_OK) {
        printf("%ld rows by %d threads; %" PRIu64 " check-outs over %" PRIu64 " connections, %" PRIu32 " idle\n", rows,
               started, stats.granted, stats.created, stats.idle);
    }
    escope_pool_free(database->pool);
    return failures == 0 && rows >= THREADS * ROWS ? 0 : -1;
}

int main(int count, char **arguments) {
    char temporary[] = "/tmp/escope-pool-XXXXXX";
    struct database database = {.path = count > 1 ? arguments[1] : temporary};
    if (count <= 1) {
        int fd = mkstemp(temporary);
        if (fd < 0) {
            perror(temporary);
            return 1;
        }
        close(fd);
    }
    int result = use_pool(&database);
    if (count <= 1) {
        unlink(temporary);
    }
    return result == 0 ? 0 : 1;
}
