/* Threads that are killed at any moment while they check out, connections that are processes and are killed as well, and
 * children that are forked meanwhile: pool_kill [CHECK-OUTS [SEED]].
 *
 * A life is a thread of its own that checks out once. Of ten lives three are cancelled: as they wait, as they talk with
 * their connection, as they return it. POSIX lets a cancelled thread run its clean-up handlers, and what it held is given
 * back there, as broken, since it may be in the middle of an answer. Callbacks are the pool's and must return, so they do
 * not let themselves be cancelled; the library's own waits are no cancellation points.
 *
 * In the end: every life was answered, nothing is on loan, as many connections live as the pool says, and none was ever
 * held by two: each carries the name of its holder. */
#define _GNU_SOURCE
#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 4, OVERFLOW = 3, RUNNERS = 16, MOST_FDS = 256 };

static const uint64_t MS = UINT64_C(1000000), MINUTE = UINT64_C(60000000000);

/* A process that answers each byte with the next. */
struct connection {
    pid_t process;
    int socket;
    unsigned char asked;
    atomic_uint_fast64_t holder;
    struct connection *next;
};

static escope_pool *pool;
/* Connections that live, for the one who kills them; also held while a process is made, so that none gets the sockets
 * of another that is being made. */
static pthread_mutex_t register_lock = PTHREAD_MUTEX_INITIALIZER;
static struct connection *alive;
static atomic_uint_fast64_t lives, killed, answered[8], shot, forked, stop;
static uint64_t most_lives, seed;

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void pause_ns(uint64_t ns) {
    nanosleep(&(struct timespec){.tv_nsec = (long)ns}, NULL);
}

static _Noreturn void answer(int socket) {
    unsigned char byte;
    for (int fd = 3; fd < MOST_FDS; fd++) {
        if (fd != socket) {
            close(fd);
        }
    }
    while (read(socket, &byte, 1) == 1) {
        byte++;
        if (write(socket, &byte, 1) != 1) {
            break;
        }
    }
    _exit(0);
}

/* 1 if the connection answers as it should, 0 if it is gone. A wrong answer is one to another holder's question. */
static int asks(struct connection *connection) {
    unsigned char byte = ++connection->asked;
    if (send(connection->socket, &byte, 1, MSG_NOSIGNAL) != 1 || recv(connection->socket, &byte, 1, 0) != 1) {
        return 0;
    }
    CHECK(byte == (unsigned char)(connection->asked + 1));
    return 1;
}

static int32_t make(void *userdata, uint64_t deadline_ns, void **connection) {
    static atomic_uint_fast64_t calls;
    int before, sockets[2];
    (void)userdata;
    (void)deadline_ns;
    if (++calls % 200 == 0) {
        return 3;
    }
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    struct connection *made = calloc(1, sizeof *made);
    CHECK(made != NULL);
    pthread_mutex_lock(&register_lock);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0 && sockets[0] < MOST_FDS && sockets[1] < MOST_FDS);
    made->process = fork();
    if (made->process == 0) {
        answer(sockets[1]);
    }
    CHECK(made->process > 0);
    close(sockets[1]);
    made->socket = sockets[0];
    made->next = alive;
    alive = made;
    pthread_mutex_unlock(&register_lock);
    *connection = made;
    pthread_setcancelstate(before, NULL);
    return 0;
}

static void unmake(void *userdata, void *connection) {
    struct connection *gone = connection, **place = &alive;
    int before;
    (void)userdata;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    CHECK(gone->holder == 0);
    pthread_mutex_lock(&register_lock);
    while (*place != gone) {
        CHECK(*place != NULL);
        place = &(*place)->next;
    }
    *place = gone->next;
    pthread_mutex_unlock(&register_lock);
    kill(gone->process, SIGKILL);
    CHECK(waitpid(gone->process, NULL, 0) == gone->process);
    close(gone->socket);
    free(gone);
    pthread_setcancelstate(before, NULL);
}

static int32_t check(void *userdata, void *connection, uint64_t deadline_ns) {
    int before;
    (void)userdata;
    (void)deadline_ns;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    int answers = asks(connection);
    pthread_setcancelstate(before, NULL);
    return !answers;
}

/* What one life has that must be given back if it ends early. */
struct life {
    uint64_t number, random;
    escope_waiter *waiter;
    escope_lease lease;
    struct connection *connection;
};

static void release(struct life *life, int32_t condition) {
    uint_fast64_t me = life->number;
    CHECK(atomic_compare_exchange_strong(&life->connection->holder, &me, 0));
    life->connection = NULL;
    OK(escope_pool_checkin(pool, &life->lease, condition));
}

static void last_will(void *argument) {
    struct life *life = argument;
    if (life->connection != NULL) {
        release(life, ESCOPE_CONDITION_BROKEN);
    }
    escope_waiter_free(life->waiter);
    killed++;
}

/* A check-out in slices, with cancellation points in between; some give up. */
static escope_status in_slices(struct life *life, void **connection) {
    escope_status status = escope_pool_checkout_begin(pool, MINUTE, &life->lease, connection, &life->waiter);
    if (status != ESCOPE_STATUS_POOL_EXHAUSTED) {
        return status;
    }
    do {
        pthread_testcancel();
        if (next_random(&life->random) % 64 == 0) {
            break;
        }
        status = escope_waiter_wait(life->waiter, next_random(&life->random) % MS, &life->lease, connection);
    } while (status == ESCOPE_STATUS_POOL_EXHAUSTED);
    escope_waiter_free(life->waiter);
    life->waiter = NULL;
    return status;
}

static void *live(void *argument) {
    struct life *life = argument;
    void *lent = NULL;
    uint64_t chance = next_random(&life->random);
    uint64_t timeout_ns = chance % 3 == 0 ? 0 : chance % 5 == 0 ? MS : MINUTE;
    escope_status status;
    pthread_cleanup_push(last_will, life);
    status = chance % 2 == 0 ? in_slices(life, &lent)
                             : escope_pool_checkout(pool, timeout_ns, &life->lease, &lent);
    CHECK(status >= 0 || status == ESCOPE_STATUS_CREATE_FAILED);
    if (status == ESCOPE_STATUS_OK) {
        /* No cancellation point since the check-out returned. */
        uint_fast64_t nobody = 0;
        life->connection = lent;
        CHECK(atomic_compare_exchange_strong(&life->connection->holder, &nobody, life->number));
        int good = asks(life->connection);
        if (chance % 7 == 0) {
            pause_ns(chance % (MS / 4));
        }
        CHECK(life->connection->holder == life->number);
        escope_lease copy = life->lease;
        release(life, good ? ESCOPE_CONDITION_GOOD : ESCOPE_CONDITION_BROKEN);
        if (chance % 11 == 0) {
            EXPECT(ESCOPE_STATUS_STALE_LEASE, escope_pool_checkin(pool, &copy, ESCOPE_CONDITION_BROKEN));
        }
    }
    pthread_testcancel();
    pthread_cleanup_pop(0);
    answered[status == ESCOPE_STATUS_OK ? 0 : 1]++;
    return NULL;
}

static void *run(void *argument) {
    uint64_t random = seed * 2654435761U + (uintptr_t)argument + 1;
    for (uint64_t number = ++lives; number <= most_lives; number = ++lives) {
        struct life life = {.number = number, .random = next_random(&random)};
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, live, &life) == 0);
        if (next_random(&random) % 10 < 3) {
            if (next_random(&random) % 2 == 0) {
                pause_ns(next_random(&random) % (MS / 2));
            }
            /* It may have ended already: until it is joined its name is good. */
            pthread_cancel(thread);
        }
        pthread_join(thread, NULL);
    }
    return NULL;
}

/* Kills connections, idle and on loan. */
static void *shoot(void *unused) {
    uint64_t random = seed + 77;
    (void)unused;
    while (!stop) {
        pause_ns(2 * MS);
        pthread_mutex_lock(&register_lock);
        struct connection *target = alive;
        for (uint64_t steps = next_random(&random) % (SIZE + OVERFLOW); target != NULL && steps > 0; steps--) {
            target = target->next;
        }
        if (target != NULL) {
            /* It is not waited for before it has left the register. */
            kill(target->process, SIGKILL);
            shot++;
        }
        pthread_mutex_unlock(&register_lock);
    }
    return NULL;
}

/* Lets a child's copy of the pool go. The address sanitizer's allocator does not get over a fork as glibc's does: a lock that
 * another thread held stays held in the child. There the child leaves the copy alone; pool_fork.c frees one under it. */
static void let_copy_go(escope_pool *copy) {
#ifdef __SANITIZE_ADDRESS__
    (void)copy;
#else
    escope_pool_free(copy);
#endif
}

/* Forks children, to whom the pool is closed; keeps the pool. */
static void *fork_children(void *unused) {
    (void)unused;
    while (!stop) {
        int status;
        pause_ns(20 * MS);
        OK(escope_pool_maintain(pool, NULL));
        pid_t child = fork();
        if (child == 0) {
            escope_lease lease;
            void *connection;
            if (escope_pool_checkout(pool, MINUTE, &lease, &connection) != ESCOPE_STATUS_FORKED) {
                _exit(1);
            }
            let_copy_go(pool);
            _exit(0);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
        forked++;
    }
    return NULL;
}

static escope_pool_stats stats_of_now(void) {
    escope_pool_stats stats;
    OK(escope_pool_stats_init(&stats, sizeof stats));
    OK(escope_pool_snapshot(pool, &stats));
    return stats;
}

int main(int count, char **arguments) {
    pthread_t runners[RUNNERS], shooter, forker;
    escope_pool_options options;
    most_lives = count > 1 ? strtoull(arguments[1], NULL, 10) : 3000;
    seed = count > 2 ? strtoull(arguments[2], NULL, 10) : escope_clock_now_ns();
    CHECK(most_lives > 0);
    printf("pool_kill: %" PRIu64 " %" PRIu64 "\n", most_lives, seed);
    fflush(stdout);
    OK(escope_pool_options_init(&options, sizeof options));
    options.create = make;
    options.destroy = unmake;
    options.check = check;
    options.pre_ping_after_ns = MS;
    options.size = SIZE;
    options.max_overflow = OVERFLOW;
    options.overflow_ttl_ns = 5 * MS;
    options.create_backoff_ns = MS;
    options.create_backoff_cap_ns = 2 * MS;
    OK(escope_pool_new(&options, &pool));
    CHECK(pthread_create(&shooter, NULL, shoot, NULL) == 0);
    CHECK(pthread_create(&forker, NULL, fork_children, NULL) == 0);
    for (uintptr_t i = 0; i < RUNNERS; i++) {
        CHECK(pthread_create(&runners[i], NULL, run, (void *)i) == 0);
    }
    for (int i = 0; i < RUNNERS; i++) {
        pthread_join(runners[i], NULL);
    }
    stop = 1;
    pthread_join(shooter, NULL);
    pthread_join(forker, NULL);

    escope_pool_stats stats = stats_of_now();
    CHECK(killed + answered[0] + answered[1] == most_lives);
    CHECK(stats.leased == 0 && stats.waiting == 0 && stats.closing == 0 && stats.checking == 0);
    CHECK(stats.granted == stats.returned + stats.broken);
    CHECK(stats.requests == stats.granted + stats.timed_out + stats.cancelled + stats.exhausted + stats.queue_full +
                                stats.closed + stats.shed + stats.create_failed);
    uint64_t living = 0;
    for (struct connection *connection = alive; connection != NULL; connection = connection->next) {
        CHECK(connection->holder == 0);
        living++;
    }
    CHECK(living == stats.idle && living == stats.created - stats.destroyed);

    /* The pool is as good as new: all that it may have can be had at once, and they work. */
    escope_lease leases[SIZE + OVERFLOW];
    for (int i = 0; i < SIZE + OVERFLOW; i++) {
        void *connection;
        escope_status status;
        while ((status = escope_pool_checkout(pool, MINUTE, &leases[i], &connection)) == ESCOPE_STATUS_CREATE_FAILED) {
        }
        OK(status);
        if (!asks(connection)) {
            OK(escope_pool_checkin(pool, &leases[i--], ESCOPE_CONDITION_BROKEN));
        }
    }
    CHECK(stats_of_now().leased == SIZE + OVERFLOW);
    for (int i = 0; i < SIZE + OVERFLOW; i++) {
        OK(escope_pool_checkin(pool, &leases[i], ESCOPE_CONDITION_GOOD));
    }
    escope_pool_free(pool);
    CHECK(alive == NULL && waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
    printf("pool_kill: %" PRIu64 " check-outs, %" PRIuFAST64 " killed, %" PRIuFAST64 " served, %" PRIu64
           " connections, %" PRIuFAST64 " of them killed, %" PRIuFAST64 " children\n",
           most_lives, killed, answered[0], stats.created, shot, forked);
    /* A run that kills nobody shows nothing. */
    CHECK(killed > most_lives / 20 && killed < most_lives / 2 && answered[0] > most_lives / 4 && shot > 0);
    return 0;
}
