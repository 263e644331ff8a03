/* A small HTTP server that limits its clients: so many requests for each user, named by the header X-User, and for all
 * together. A refused request gets 429 and is told when to come back. It ends at SIGINT or SIGTERM.
 *
 *     cc limiter.c $(pkg-config --cflags --libs elixirscope) -o limiter
 *     ./limiter 8080 &
 *     for i in $(seq 12); do curl -si -H 'X-User: ann' http://localhost:8080/ | head -n 4; done */
#define _GNU_SOURCE /* strcasestr */

#include <elixirscope.h>

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { WORKERS = 4, MOST_USER = 64 };

static escope_limiter *limiter;
static escope_limit *for_user, *for_all;
static int listener;

static void require(escope_status status, const char *what) {
    if (status < 0) {
        char message[257] = "";
        escope_last_error(message, sizeof message, NULL);
        fprintf(stderr, "%s: %s %s\n", what, escope_status_str(status), message);
        exit(1);
    }
}

static void require_posix(int result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

/* Takes a token of the user and one of everybody, or none of both. `told` is what the client is told: its own bucket when it
 * was admitted, else the one that refuses. */
static escope_status admit(const char *user, escope_decision *told) {
    /* A key belongs to one limit, so its name is a part of the key. */
    char key[sizeof "user:" + MOST_USER];
    int length = snprintf(key, sizeof key, "user:%s", user);
    const escope_charge charges[] = {
        {.key = key, .key_len = (size_t)length, .limit = for_user, .cost = 1},
        {.key = "all", .key_len = 3, .limit = for_all, .cost = 1},
    };
    escope_decision decisions[2];
    size_t refused;
    escope_status status = escope_limiter_check_many(limiter, charges, 2, decisions, &refused, NULL);
    require(status, "check");
    *told = decisions[refused < 2 ? refused : 0];
    return status;
}

/* Reads a request up to the empty line; 0 if there is none. */
static int read_head(int client, char *head, size_t size) {
    size_t length = 0;
    while (length < size - 1) {
        ssize_t got = recv(client, head + length, size - 1 - length, 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return 0;
        }
        length += (size_t)got;
        head[length] = 0;
        if (strstr(head, "\r\n\r\n") != NULL) {
            return 1;
        }
    }
    return 0;
}

static void user_of(const char *head, char user[MOST_USER]) {
    const char *field = strcasestr(head, "\r\nX-User:");
    snprintf(user, MOST_USER, "nobody");
    if (field != NULL) {
        sscanf(field + strlen("\r\nX-User:"), " %63[^\r\n]", user);
    }
}

static void answer(int client) {
    char head[4096], user[MOST_USER], reply[1024];
    char policy[ESCOPE_FIELD_SIZE], limit[ESCOPE_FIELD_SIZE], retry[ESCOPE_FIELD_SIZE];
    if (!read_head(client, head, sizeof head)) {
        return;
    }
    user_of(head, user);
    escope_rule rule;
    escope_decision told;
    escope_status status = admit(user, &told);
    require(escope_limit_rule(for_user, &rule), "rule");
    require(escope_rule_render_policy(&rule, "user", policy, sizeof policy, NULL), "policy");
    require(escope_decision_render_limit(&told, "user", limit, sizeof limit, NULL), "limit");
    require(escope_decision_render_retry_after(&told, retry, sizeof retry, NULL), "retry-after");
    int length = snprintf(reply, sizeof reply,
                          "HTTP/1.1 %s\r\nRateLimit-Policy: %s\r\nRateLimit: %s\r\n%s%s%s"
                          "Content-Length: 0\r\nConnection: close\r\n\r\n",
                          status == ESCOPE_STATUS_OK ? "200 OK" : "429 Too Many Requests", policy, limit,
                          *retry ? "Retry-After: " : "", retry, *retry ? "\r\n" : "");
    for (int sent = 0; sent < length;) {
        ssize_t more = send(client, reply + sent, (size_t)(length - sent), MSG_NOSIGNAL);
        if (more < 0 && errno != EINTR) {
            return;
        }
        sent += more > 0 ? (int)more : 0;
    }
}

/* Answers one client after the other, until nobody listens any more. */
static void *work(void *unused) {
    (void)unused;
    const struct timeval patience = {.tv_sec = 5};
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client >= 0) {
            setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
            setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
            answer(client);
            close(client);
        } else if (errno == EINVAL || errno == EBADF) {
            return NULL;
        }
    }
}

static void listen_at(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t size = sizeof address;
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    require_posix(listener, "socket");
    require_posix(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), "reuse");
    require_posix(bind(listener, (struct sockaddr *)&address, size), "bind");
    require_posix(listen(listener, 128), "listen");
    require_posix(getsockname(listener, (struct sockaddr *)&address, &size), "port");
    printf("listening at port %d\n", ntohs(address.sin_port));
    fflush(stdout);
}

int main(int count, char **arguments) {
    const uint64_t minute_ns = UINT64_C(60000000000);
    const escope_rule ten_a_minute = {.tokens = 10, .period_ns = minute_ns, .burst = 10};
    const escope_rule hundred_a_minute = {.tokens = 100, .period_ns = minute_ns, .burst = 100};
    require(escope_limiter_new(NULL, &limiter), "limiter");
    require(escope_limiter_define(limiter, "user", &ten_a_minute, 0, &for_user), "user");
    require(escope_limiter_define(limiter, "all", &hundred_a_minute, 0, &for_all), "all");

    /* Blocked before the workers begin, so that the signals come to the wait below. */
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &ends, NULL);
    listen_at((uint16_t)(count > 1 ? atoi(arguments[1]) : 0));
    pthread_t workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        if (pthread_create(&workers[i], NULL, work, NULL) != 0) {
            fputs("no thread\n", stderr);
            return 1;
        }
    }
    int signal_number;
    sigwait(&ends, &signal_number);
    shutdown(listener, SHUT_RDWR);
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(workers[i], NULL);
    }
    close(listener);

    escope_limiter_stats stats;
    require(escope_limiter_stats_init(&stats, sizeof stats), "stats");
    require(escope_limiter_snapshot(limiter, &stats), "snapshot");
    printf("%" PRIu64 " admitted, %" PRIu64 " refused\n", stats.allowed, stats.limited);
    escope_limit_free(for_user);
    escope_limit_free(for_all);
    escope_limiter_free(limiter);
    return 0;
}
