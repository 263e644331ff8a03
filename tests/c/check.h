/* Checks for the C tests: a failed one says where and what the library said, and ends the program. */
#ifndef ESCOPE_TEST_CHECK_H
#define ESCOPE_TEST_CHECK_H

#include <elixirscope.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline const char *last_error(void) {
    static _Thread_local char text[257];
    text[0] = 0;
    escope_last_error(text, sizeof text, NULL);
    return text;
}

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: not so: %s (last error: %s)\n", __FILE__, __LINE__, #condition,          \
                    last_error());                                                                           \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

/* The call returns this status. */
#define EXPECT(status, call)                                                                                 \
    do {                                                                                                     \
        escope_status got_ = (call);                                                                         \
        if (got_ != (status)) {                                                                              \
            fprintf(stderr, "%s:%d: %s is %d (%s; last error: %s), expected %s\n", __FILE__, __LINE__,       \
                    #call, (int)got_, escope_status_str(got_), last_error(), #status);                       \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#define OK(call) EXPECT(ESCOPE_STATUS_OK, call)

/* The call is refused as invalid, and the message has this text in it. */
#define INVALID(text, call)                                                                                  \
    do {                                                                                                     \
        EXPECT(ESCOPE_STATUS_INVALID_ARGUMENT, call);                                                        \
        if (strstr(last_error(), text) == NULL) {                                                            \
            fprintf(stderr, "%s:%d: %s says \"%s\", expected \"%s\"\n", __FILE__, __LINE__, #call,           \
                    last_error(), text);                                                                     \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#endif
