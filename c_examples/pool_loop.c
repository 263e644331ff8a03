/* An event loop of one thread whose jobs wait for connections without stopping it: each waits for a descriptor.
 *
 *     cc pool_loop.c $(pkg-config --cflags --libs elixirscope) -o pool_loop && ./pool_loop [jobs]
 *
 * The connections are stand-ins for those of a client that does not block: an answer comes when a timer says so, and a
 * third of the jobs have no patience to wait for their turn. */
#define _GNU_SOURCE

#include <elixirscope.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { CONNECTIONS = 3, EVENTS = 16 };

static const uint64_t MS = UINT64_C(1000000);

/* A connection answers a question after a while: then its descriptor is readable. */
struct connection {
    int answer;
};

/* A job waits for a connection, then for the answer. */
struct job {
    int number;
    uint64_t patience_ns;
    escope_waiter *waiter; /* while it waits for a connection */
    int descriptor;
    escope_lease lease;
    struct connection *connection;
};

struct loop {
    int epoll;
    escope_pool *pool;
    int open, busy, most_busy, served, late, failed;
};

static int32_t open_connection(void *userdata, uint64_t deadline_ns, void **connection) {
    (void)userdata;
    (void)deadline_ns;
    struct connection *made = malloc(sizeof *made);
    if (made == NULL || (made->answer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)) < 0) {
        free(made);
        return 1;
    }
    *connection = made;
    return 0;
}

static void close_connection(void *userdata, void *connection) {
    (void)userdata;
    close(((struct connection *)connection)->answer);
    free(connection);
}

static void watch(struct loop *loop, int descriptor, struct job *job) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = job};
    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, descriptor, &event) != 0) {
        perror("epoll_ctl");
        exit(1);
    }
}

static void forget(struct loop *loop, int descriptor) {
    epoll_ctl(loop->epoll, EPOLL_CTL_DEL, descriptor, NULL);
}

/* What the pool said to a job that asked for a connection, now or before. */
static void go_on(struct loop *loop, struct job *job, escope_status status) {
    char message[257] = "";
    switch (status) {
    case ESCOPE_STATUS_OK:
        loop->busy++;
        loop->most_busy = loop->busy > loop->most_busy ? loop->busy : loop->most_busy;
        timerfd_settime(job->connection->answer, 0, &(struct itimerspec){.it_value.tv_nsec = 2 * (long)MS}, NULL);
        watch(loop, job->connection->answer, job);
        break;
    case ESCOPE_STATUS_POOL_EXHAUSTED:
        /* None is free yet. The loop calls when there is something to do for this wait. */
        if (escope_waiter_descriptor(job->waiter, &job->descriptor) == ESCOPE_STATUS_OK) {
            watch(loop, job->descriptor, job);
            return;
        }
        loop->failed++;
        loop->open--;
        break;
    default:
        escope_last_error(message, sizeof message, NULL);
        if (status == ESCOPE_STATUS_POOL_TIMEOUT) {
            loop->late++;
        } else {
            fprintf(stderr, "job %d: %s %s\n", job->number, escope_status_str(status), status < 0 ? message : "");
            loop->failed++;
        }
        loop->open--;
    }
    escope_waiter_free(job->waiter);
    job->waiter = NULL;
}

static void begin(struct loop *loop, struct job *job) {
    void *connection = NULL;
    loop->open++;
    escope_status status = escope_pool_checkout_begin(loop->pool, job->patience_ns, &job->lease, &connection, &job->waiter);
    job->connection = connection;
    go_on(loop, job, status);
}

static void wake(struct loop *loop, struct job *job) {
    if (job->waiter != NULL) {
        void *connection = NULL;
        /* Out of the loop before the wait may end, which closes the descriptor. */
        forget(loop, job->descriptor);
        escope_status status = escope_waiter_wait(job->waiter, 0, &job->lease, &connection);
        job->connection = connection;
        go_on(loop, job, status);
        return;
    }
    uint64_t expirations;
    int good = read(job->connection->answer, &expirations, sizeof expirations) == sizeof expirations;
    forget(loop, job->connection->answer);
    loop->busy--;
    loop->open--;
    loop->served += good;
    loop->failed += !good;
    /* Whoever waits for longest gets it: its descriptor is readable from now on. */
    escope_status status = escope_pool_checkin(loop->pool, &job->lease, good ? ESCOPE_CONDITION_GOOD : ESCOPE_CONDITION_BROKEN);
    loop->failed += status != ESCOPE_STATUS_OK;
}

static int turn(struct loop *loop) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(loop->epoll, events, EVENTS, -1);
    if (count < 0 && errno != EINTR) {
        perror("epoll_wait");
        return -1;
    }
    for (int i = 0; i < count; i++) {
        wake(loop, events[i].data.ptr);
    }
    return 0;
}

int main(int count, char **arguments) {
    int jobs = count > 1 ? (int)strtol(arguments[1], NULL, 10) : 60;
    if (jobs < 1) {
        fprintf(stderr, "usage: %s [jobs], 1 or more\n", arguments[0]);
        return 2;
    }
    struct loop loop = {.epoll = epoll_create1(EPOLL_CLOEXEC)};
    escope_pool_options options;
    escope_status status = escope_pool_options_init(&options, sizeof options);
    options.create = open_connection;
    options.destroy = close_connection;
    options.size = CONNECTIONS;
    options.max_overflow = 0;
    if (status == ESCOPE_STATUS_OK) {
        status = escope_pool_new(&options, &loop.pool);
    }
    struct job *all = calloc((size_t)jobs, sizeof *all);
    if (status != ESCOPE_STATUS_OK || loop.epoll < 0 || all == NULL) {
        fprintf(stderr, "no pool, no loop or no memory: %s\n", escope_status_str(status));
        return 1;
    }
    for (int i = 0; i < jobs; i++) {
        all[i] = (struct job){.number = i, .patience_ns = i % 3 == 2 ? MS : 60000 * MS};
        begin(&loop, &all[i]);
    }
    int turns = 0;
    while (loop.open > 0 && turn(&loop) == 0) {
        turns++;
    }
    escope_pool_stats stats = {.struct_size = sizeof stats};
    if (escope_pool_snapshot(loop.pool, &stats) == ESCOPE_STATUS_OK) {
        printf("%d jobs in %d turns: %d served, %d too late, at most %d at a time; %" PRIu64 " connections\n", jobs, turns,
               loop.served, loop.late, loop.most_busy, stats.created);
    }
    escope_pool_free(loop.pool);
    free(all);
    close(loop.epoll);
    return loop.failed == 0 && loop.open == 0 && loop.served + loop.late == jobs ? 0 : 1;
}
