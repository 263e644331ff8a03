/* Replays tests/vectors/PRIMITIVE.json through the C ABI: vectors DIRECTORY [PRIMITIVE...]
 *
 * Prints `vectors PRIMITIVE c: N replayed, M failed` for each and fails if one failed or there was none. */
#include "replay_breaker.h"
#include "replay_limiter.h"
#include "replay_pool.h"

static const struct {
    const char *name;
    int (*replay)(const struct json *vector);
} primitives[] = {
    {"breaker", replay_breaker},
    {"limiter", replay_limiter},
    {"pool", replay_pool},
    {"pool_full", replay_pool_full},
};

enum { PRIMITIVES = sizeof primitives / sizeof primitives[0] };

static int replay_file(const char *directory, const char *name, int (*replay)(const struct json *vector)) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.json", directory, name);
    struct json file = json_file(path);
    const struct json *vectors = json_member(&file, "vectors", JSON_LIST);
    size_t failed = 0;
    for (size_t i = 0; i < vectors->count; i++) {
        failed += (size_t)replay(&vectors->items[i]);
    }
    printf("vectors %s c: %zu replayed, %zu failed\n", name, vectors->count, failed);
    int bad = failed > 0 || vectors->count == 0;
    json_free(&file);
    return bad;
}

int main(int count, char **arguments) {
    if (count < 2) {
        fprintf(stderr, "usage: %s DIRECTORY [PRIMITIVE...]\n", arguments[0]);
        return 2;
    }
    int bad = 0;
    for (int primitive = 0; primitive < PRIMITIVES; primitive++) {
        int wanted = count == 2;
        for (int i = 2; i < count; i++) {
            wanted |= strcmp(arguments[i], primitives[primitive].name) == 0;
        }
        if (wanted) {
            bad |= replay_file(arguments[1], primitives[primitive].name, primitives[primitive].replay);
        }
    }
    return bad;
}
