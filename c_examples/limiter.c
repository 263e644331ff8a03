/* A rate limit a key: 10 updates a minute for each user named on standard input, one name a line.
 *
 *     cc limiter.c $(pkg-config --cflags --libs elixirscope) -o limiter
 *     yes ann | head -n 25 | ./limiter */
#include <elixirscope.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    const escope_rule ten_a_minute = {.tokens = 10, .period_ns = UINT64_C(60000000000), .burst = 10};
    escope_limiter *limiter;
    escope_status status = escope_limiter_new(NULL, &limiter);
    if (status != ESCOPE_STATUS_OK) {
        fprintf(stderr, "%s\n", escope_status_str(status));
        return 1;
    }

    char user[256];
    uint64_t admitted = 0, limited = 0;
    while (fgets(user, sizeof user, stdin) != NULL) {
        size_t length = strcspn(user, "\n");
        escope_decision decision;
        status = escope_limiter_check(limiter, user, length, &ten_a_minute, 1, &decision);
        if (status == ESCOPE_STATUS_OK) {
            admitted++;
            printf("%.*s: admitted, %" PRIu64 " left\n", (int)length, user, decision.remaining);
        } else if (status > 0) {
            limited++;
            printf("%.*s: %s Again in %" PRIu64 " ms.\n", (int)length, user, escope_status_str(status),
                   (decision.retry_after_ns + 999999) / 1000000);
        } else {
            char message[257] = "";
            escope_last_error(message, sizeof message, NULL);
            fprintf(stderr, "%s\n", message);
            escope_limiter_free(limiter);
            return 1;
        }
    }
    printf("%" PRIu64 " admitted, %" PRIu64 " refused\n", admitted, limited);
    escope_limiter_free(limiter);
    return 0;
}
