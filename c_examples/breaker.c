/* A circuit breaker around connect(): the server is down, the breaker opens and spares it, the server comes back, one
 * probe finds out and the breaker closes.
 *
 *     cc breaker.c $(pkg-config --cflags --libs elixirscope) -o breaker && ./breaker */
#define _POSIX_C_SOURCE 200809L

#include <elixirscope.h>

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void require(escope_status status, const char *what) {
    if (status != ESCOPE_STATUS_OK) {
        char message[257] = "";
        escope_last_error(message, sizeof message, NULL);
        fprintf(stderr, "%s: %s %s\n", what, escope_status_str(status), message);
        exit(1);
    }
}

/* The call that is guarded: 0 if the server answers. */
static int call_server(const struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) {
        return -1;
    }
    int result = connect(fd, (const struct sockaddr *)address, sizeof *address);
    close(fd);
    return result;
}

static void print_events(const escope_events *events) {
    static const char *const phases[] = {"closed", "open", "half-open"};
    for (uint32_t i = 0; i < events->count; i++) {
        const escope_event *event = &events->items[i];
        /* Changes of the level are events too; this program does not act on them. */
        if (event->cause != ESCOPE_CAUSE_LEVEL_CHANGED) {
            printf("  breaker: %s -> %s\n", phases[event->from], phases[event->to]);
        }
    }
}

/* Calls the server if the breaker admits it; 0 if the call was made and went well. */
static int guarded_call(escope_breaker *breaker, const struct sockaddr_in *address) {
    escope_permit permit;
    escope_events events;
    uint64_t retry_after_ns;
    escope_status status = escope_breaker_acquire(breaker, &permit, &retry_after_ns, &events);
    print_events(&events);
    if (status > 0) {
        printf("refused for %" PRIu64 " ms: %s\n", retry_after_ns / 1000000, escope_status_str(status));
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
        return -1;
    }
    require(status, "acquire");

    int result = call_server(address);
    printf("called: %s\n", result == 0 ? "answer" : "no answer");
    int32_t outcome = result == 0 ? ESCOPE_OUTCOME_SUCCESS : ESCOPE_OUTCOME_FAILURE;
    status = escope_breaker_record(breaker, &permit, outcome, &events);
    print_events(&events);
    if (status < 0) {
        require(status, "record");
    }
    return result;
}

int main(void) {
    /* A port that nobody listens on yet. */
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (server < 0 || bind(server, (struct sockaddr *)&address, sizeof address) != 0 ||
        getsockname(server, (struct sockaddr *)&address, &size) != 0) {
        perror("a local socket");
        return 1;
    }

    escope_breaker_options options;
    escope_breaker *breaker;
    require(escope_breaker_options_init(&options, sizeof options), "options");
    options.failure_threshold = 3;
    options.open_for_ns = 200000000; /* 200 ms */
    require(escope_breaker_new(&options, &breaker), "breaker");

    int refused = 0;
    while (guarded_call(breaker, &address) != 0) {
        escope_breaker_stats stats;
        require(escope_breaker_stats_init(&stats, sizeof stats), "stats");
        require(escope_breaker_snapshot(breaker, &stats), "snapshot");
        refused = stats.rejected_open > 0;
        if (stats.rejected_open == 1 && listen(server, 8) == 0) {
            puts("-- the server is back --");
        }
    }
    escope_breaker_free(breaker);
    close(server);
    return refused ? 0 : 1;
}
