/* A circuit breaker around HTTP requests: fetches the URLs that it reads, one a line, all from one server. While the
 * server is down or answers with errors, requests are refused at once, and one now and then finds out whether it is
 * well again.
 *
 *     cc breaker_http.c $(pkg-config --cflags --libs elixirscope libcurl) -o breaker_http
 *     yes http://localhost:8000/ | head -n 20 | ./breaker_http */
#define _POSIX_C_SOURCE 200809L

#include <curl/curl.h>
#include <elixirscope.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void require(escope_status status, const char *what) {
    if (status < 0) {
        char message[257] = "";
        escope_last_error(message, sizeof message, NULL);
        fprintf(stderr, "%s: %s %s\n", what, escope_status_str(status), message);
        exit(1);
    }
}

static size_t discard(char *data, size_t size, size_t count, void *userdata) {
    (void)data;
    (void)userdata;
    return size * count;
}

/* What a request says about the server. A page that does not exist says nothing: the fault is the caller's. */
static int32_t outcome_of(CURLcode result, long code) {
    if (result == CURLE_URL_MALFORMAT || result == CURLE_UNSUPPORTED_PROTOCOL) {
        return ESCOPE_OUTCOME_IGNORED;
    }
    if (result != CURLE_OK || code >= 500) {
        return ESCOPE_OUTCOME_FAILURE;
    }
    return code >= 400 ? ESCOPE_OUTCOME_IGNORED : ESCOPE_OUTCOME_SUCCESS;
}

static void print_events(const escope_events *events) {
    static const char *const phases[] = {"closed", "open", "half-open"};
    for (uint32_t i = 0; i < events->count; i++) {
        const escope_event *event = &events->items[i];
        /* Changes of the level are events too; this program does not act on them. */
        if (event->cause != ESCOPE_CAUSE_LEVEL_CHANGED) {
            const char *cause = escope_breaker_cause_str(event->cause);
            printf("breaker: %s -> %s (%s)\n", phases[event->from], phases[event->to], cause);
        }
    }
}

static void fetch(escope_breaker *breaker, CURL *curl, const char *url) {
    escope_permit permit;
    escope_events events;
    uint64_t retry_after_ns;
    escope_status status = escope_breaker_acquire(breaker, &permit, &retry_after_ns, &events);
    require(status, "acquire");
    print_events(&events);
    if (status != ESCOPE_STATUS_OK) {
        printf("refused for %" PRIu64 " ms: %s\n", retry_after_ns / 1000000 + 1, escope_status_str(status));
        return;
    }

    long code = 0;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    CURLcode result = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    if (result == CURLE_OK) {
        printf("answered %ld\n", code);
    } else {
        printf("failed: %s\n", curl_easy_strerror(result));
    }
    /* The result of a call that outlasted a change of the breaker is refused; nothing is left to do about that. */
    require(escope_breaker_record(breaker, &permit, outcome_of(result, code), &events), "record");
    print_events(&events);
}

int main(void) {
    escope_breaker_options options;
    escope_breaker *breaker;
    require(escope_breaker_options_init(&options, sizeof options), "options");
    /* Opens when half of the last 20 requests failed, or took longer than 2 s, and there were 4 at least. */
    options.policy = ESCOPE_POLICY_RATE_COUNT;
    options.window_size = 20;
    options.min_calls = 4;
    options.failure_rate_bp = 5000;
    options.slow_call_ns = 2000000000;
    options.slow_call_rate_bp = 5000;
    /* For half a second, and for twice as long each time that the server is still not well, up to 30 s. */
    options.open_for_ns = 500000000;
    options.backoff_percent = 200;
    options.max_open_ns = 30000000000;
    /* Two requests have to succeed then; one that never ends counts as failed. */
    options.half_open_permits = options.successes_to_close = 2;
    options.probe_lease_ns = 10000000000;
    require(escope_breaker_new(&options, &breaker), "breaker");

    curl_global_init(CURL_GLOBAL_DEFAULT);
    CURL *curl = curl_easy_init();
    if (curl == NULL) {
        fputs("no memory for a request\n", stderr);
        return 1;
    }
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, 5000L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, discard);

    char url[4096];
    while (fgets(url, sizeof url, stdin) != NULL) {
        url[strcspn(url, "\r\n")] = 0;
        fetch(breaker, curl, url);
        fflush(stdout);
    }

    escope_breaker_stats stats;
    require(escope_breaker_stats_init(&stats, sizeof stats), "stats");
    require(escope_breaker_snapshot(breaker, &stats), "snapshot");
    printf("%" PRIu64 " requests made, %" PRIu64 " refused\n", stats.admitted,
           stats.rejected_open + stats.rejected_half_open);
    curl_easy_cleanup(curl);
    curl_global_cleanup();
    escope_breaker_free(breaker);
    return 0;
}
