/* A pool of database connections: eight threads write into one database through at most three connections.
 *
 *     cc pool.c $(pkg-config --cflags --libs elixirscope sqlite3) -pthread -o pool && ./pool [database [rows]]
 *
 * The database is a file of SQLite's; or PostgreSQL's by libpq, if it is named as libpq names one, by `name=value` or
 * postgresql://, and the program was compiled with it: -DWITH_LIBPQ $(pkg-config --cflags --libs libpq).
 *
 * A server may go away and come back. A connection that it takes along is destroyed, and the row is written again. */
#define _POSIX_C_SOURCE 200809L

#include <elixirscope.h>

#include <inttypes.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef WITH_LIBPQ
#include <libpq-fe.h>
#endif

enum { THREADS = 8, CONNECTIONS = 3, TRIES = 40 };

static const uint64_t SECOND = UINT64_C(1000000000), MS = UINT64_C(1000000);

static const char TABLE[] =
    "CREATE TABLE IF NOT EXISTS visits (thread INTEGER, number INTEGER, PRIMARY KEY (thread, number))";

/* What became of a statement. */
enum result { DONE, WRONG, GONE };

/* A kind of database: the pool's callbacks, and how to run a statement, which may ask for one number. A connection is used
 * by whichever thread needs it, one thread at a time. */
struct driver {
    escope_pool_create_fn open;
    escope_pool_destroy_fn close;
    escope_pool_check_fn reset, check;
    enum result (*execute)(void *connection, const char *statement, long *number);
};

struct database {
    const char *name;
    const struct driver *driver;
    escope_pool *pool;
    /* Since it could be opened once, it is worth waiting for. */
    atomic_int was_open;
};

static int sqlite_row(void *number, int columns, char **values, char **names) {
    (void)columns;
    (void)names;
    *(long *)number = strtol(values[0], NULL, 10);
    return 0;
}

static enum result sqlite_execute(void *connection, const char *statement, long *number) {
    if (sqlite3_exec(connection, statement, number == NULL ? NULL : sqlite_row, number, NULL) == SQLITE_OK) {
        return DONE;
    }
    fprintf(stderr, "%s: %s\n", statement, sqlite3_errmsg(connection));
    return WRONG;
}

static int32_t sqlite_open(void *userdata, uint64_t deadline_ns, void **connection) {
    struct database *database = userdata;
    sqlite3 *db = NULL;
    (void)deadline_ns; /* opening a local file does not wait */
    int code = sqlite3_open_v2(database->name, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_busy_timeout(db, 10000);
    }
    if (code != SQLITE_OK) {
        fprintf(stderr, "open: %s\n", db == NULL ? "out of memory" : sqlite3_errmsg(db));
        sqlite3_close(db);
        return code;
    }
    database->was_open = 1;
    *connection = db;
    return 0;
}

static void sqlite_close(void *userdata, void *connection) {
    (void)userdata;
    sqlite3_close(connection);
}

/* What a holder began and did not end is undone. */
static int32_t sqlite_reset(void *userdata, void *connection, uint64_t deadline_ns) {
    (void)userdata;
    (void)deadline_ns;
    return sqlite3_get_autocommit(connection) ? 0 : sqlite3_exec(connection, "ROLLBACK", NULL, NULL, NULL);
}

static const struct driver sqlite = {sqlite_open, sqlite_close, sqlite_reset, NULL, sqlite_execute};

#ifdef WITH_LIBPQ
static enum result pq_execute(void *connection, const char *statement, long *number) {
    PGresult *result = PQexec(connection, statement);
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_TUPLES_OK && number != NULL && PQntuples(result) == 1) {
        *number = strtol(PQgetvalue(result, 0, 0), NULL, 10);
    }
    /* What the server finds wrong has a code; one of class 57P says that the server itself is about to go. */
    const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    int is_gone = PQstatus(connection) != CONNECTION_OK || code == NULL || strncmp(code, "57P", 3) == 0;
    PQclear(result);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
        return DONE;
    }
    fprintf(stderr, "%s: %s", statement, PQerrorMessage(connection));
    return is_gone ? GONE : WRONG;
}

static int32_t pq_open(void *userdata, uint64_t deadline_ns, void **connection) {
    struct database *database = userdata;
    uint64_t now_ns = escope_clock_now_ns();
    uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    /* libpq counts whole seconds, from 2 on; 0 would be for ever. */
    char seconds[24];
    snprintf(seconds, sizeof seconds, "%" PRIu64, left_ns < 2 * SECOND ? 2 : left_ns > 10 * SECOND ? 10 : left_ns / SECOND);
    const char *const names[] = {"dbname", "connect_timeout", NULL}, *const values[] = {database->name, seconds, NULL};
    PGconn *db = PQconnectdbParams(names, values, 1);
    if (PQstatus(db) == CONNECTION_OK) {
        database->was_open = 1;
        *connection = db;
        return 0;
    }
    fprintf(stderr, "open: %s", PQerrorMessage(db));
    PQfinish(db);
    return 1;
}

static void pq_close(void *userdata, void *connection) {
    (void)userdata;
    PQfinish(connection);
}

static int32_t pq_reset(void *userdata, void *connection, uint64_t deadline_ns) {
    (void)userdata;
    (void)deadline_ns;
    /* DISCARD ALL may not stand in a transaction. */
    int is_idle = PQtransactionStatus(connection) == PQTRANS_IDLE;
    return (!is_idle && pq_execute(connection, "ROLLBACK", NULL) != DONE) ||
           pq_execute(connection, "DISCARD ALL", NULL) != DONE;
}

static int32_t pq_check(void *userdata, void *connection, uint64_t deadline_ns) {
    (void)userdata;
    (void)deadline_ns;
    return pq_execute(connection, "SELECT 1", NULL) != DONE;
}

static const struct driver pq = {pq_open, pq_close, pq_reset, pq_check, pq_execute};
#endif

static int names_a_server(const char *name) {
    return strchr(name, '=') != NULL || strncmp(name, "postgresql://", 13) == 0 || strncmp(name, "postgres://", 11) == 0;
}

static void explain(escope_status status, const char *what) {
    char message[257] = "";
    escope_last_error(message, sizeof message, NULL);
    fprintf(stderr, "%s: %s %s\n", what, escope_status_str(status), status < 0 ? message : "");
}

/* Runs one statement, which may be run twice, on some connection of the pool, again if that went away meanwhile. */
static int run(struct database *database, const char *statement, long *number) {
    for (int tries = 0; tries < TRIES; tries++) {
        escope_lease lease;
        void *connection;
        escope_status status = escope_pool_checkout(database->pool, 5 * SECOND, &lease, &connection);
        if (status != ESCOPE_STATUS_OK) {
            explain(status, "check-out");
            int may_pass = status == ESCOPE_STATUS_CREATE_FAILED || status == ESCOPE_STATUS_POOL_TIMEOUT;
            if (may_pass && database->was_open) {
                continue; /* the pool makes the pauses */
            }
            return -1;
        }
        enum result result = database->driver->execute(connection, statement, number);
        status = escope_pool_checkin(database->pool, &lease, result == GONE ? ESCOPE_CONDITION_BROKEN : ESCOPE_CONDITION_GOOD);
        if (status != ESCOPE_STATUS_OK) {
            explain(status, "check-in");
            return -1;
        }
        if (result != GONE) {
            return result == DONE ? 0 : -1;
        }
    }
    return -1;
}

struct writer {
    struct database *database;
    int number, rows, failures;
    pthread_t thread;
};

static void *write_rows(void *argument) {
    struct writer *writer = argument;
    for (int row = 0; row < writer->rows && writer->failures == 0; row++) {
        char statement[120];
        snprintf(statement, sizeof statement, "INSERT INTO visits VALUES (%d, %d) ON CONFLICT DO NOTHING", writer->number, row);
        writer->failures += run(writer->database, statement, NULL) != 0;
    }
    return NULL;
}

static int use_pool(struct database *database, int rows) {
    escope_pool_options options;
    escope_status status = escope_pool_options_init(&options, sizeof options);
    options.create = database->driver->open;
    options.destroy = database->driver->close;
    options.reset = database->driver->reset;
    options.check = database->driver->check;
    options.userdata = database;
    options.size = CONNECTIONS - 1;
    options.max_overflow = 1;
    options.overflow_ttl_ns = SECOND;
    options.create_backoff_ns = 50 * MS;
    options.create_backoff_cap_ns = SECOND;
    if (options.check != NULL) {
        /* One that was idle for so long may have lost its server. */
        options.pre_ping_after_ns = SECOND;
        options.pre_ping_limit_ns = SECOND;
    }
    if (status == ESCOPE_STATUS_OK) {
        status = escope_pool_new(&options, &database->pool);
    }
    if (status != ESCOPE_STATUS_OK) {
        explain(status, "pool");
        return -1;
    }

    struct writer writers[THREADS];
    int failures = run(database, TABLE, NULL) != 0, started = 0;
    while (failures == 0 && started < THREADS) {
        writers[started] = (struct writer){.database = database, .number = started, .rows = rows};
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

    long written = 0;
    if (failures == 0) {
        failures += run(database, "SELECT count(*) FROM visits", &written) != 0;
    }
    escope_pool_stats stats;
    escope_pool_stats_init(&stats, sizeof stats);
    if (escope_pool_snapshot(database->pool, &stats) == ESCOPE_STATUS_OK) {
        printf("%ld rows by %d threads; %" PRIu64 " check-outs over %" PRIu64 " connections, %" PRIu64 " broken, %" PRIu32
               " idle\n",
               written, started, stats.granted, stats.created, stats.broken, stats.idle);
    }
    escope_pool_free(database->pool);
    return failures == 0 && written >= (long)THREADS * rows ? 0 : -1;
}

int main(int count, char **arguments) {
    char temporary[] = "/tmp/escope-pool-XXXXXX";
    struct database database = {.name = count > 1 ? arguments[1] : temporary, .driver = &sqlite};
    int rows = count > 2 ? (int)strtol(arguments[2], NULL, 10) : 50;
    if (count > 1 && names_a_server(arguments[1])) {
#ifdef WITH_LIBPQ
        database.driver = &pq;
#else
        fprintf(stderr, "%s: compiled without libpq, allowed is a file\n", arguments[1]);
        return 2;
#endif
    }
    if (count <= 1) {
        int fd = mkstemp(temporary);
        if (fd < 0) {
            perror(temporary);
            return 1;
        }
        close(fd);
    }
    int result = use_pool(&database, rows);
    if (count <= 1) {
        unlink(temporary);
    }
    return result == 0 ? 0 : 1;
}
