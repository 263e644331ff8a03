/* Versions, status texts and the last error. */
#include "check.h"

static void versions_agree(void) {
    CHECK(escope_version_number() == ESCOPE_VERSION_NUMBER);
    CHECK(ESCOPE_VERSION_NUMBER ==
          ESCOPE_VERSION_MAJOR * 10000 + ESCOPE_VERSION_MINOR * 100 + ESCOPE_VERSION_PATCH);
    CHECK(strcmp(escope_version_string(), ESCOPE_VERSION_STRING) == 0);
    CHECK(escope_abi_version() == ESCOPE_ABI_VERSION);
}

static void every_number_has_a_text(void) {
    for (int64_t status = -20; status <= 20; status++) {
        CHECK(strlen(escope_status_str((escope_status)status)) > 0);
    }
    CHECK(strcmp(escope_status_str(ESCOPE_STATUS_CIRCUIT_OPEN), "The circuit breaker is open.") == 0);
    CHECK(strstr(escope_status_str(INT32_MIN), "no status") != NULL);
}

static void the_last_error_is_copied_and_cut(void) {
    char text[257], small[5] = "....";
    size_t length = 99;
    OK(escope_last_error(text, sizeof text, &length));
    CHECK(length == 0 && text[0] == 0);

    EXPECT(ESCOPE_STATUS_INVALID_ARGUMENT, escope_breaker_new(NULL, NULL));
    OK(escope_last_error(text, sizeof text, &length));
    CHECK(strcmp(text, "`out` is NULL, allowed is a valid pointer") == 0);
    CHECK(length == strlen(text));
    OK(escope_last_error(small, sizeof small, &length));
    CHECK(strcmp(small, "`out") == 0 && length == strlen(text));
    OK(escope_last_error(small, 1, NULL));
    CHECK(small[0] == 0);
    OK(escope_last_error(NULL, 0, &length));
    CHECK(length == strlen(text));
    OK(escope_last_error(NULL, 0, NULL));

    INVALID("`buffer` is NULL with a capacity of 7", escope_last_error(NULL, 7, NULL));
    INVALID("`length` is 0x", escope_last_error(NULL, 0, (size_t *)(uintptr_t)1));
}

static void the_clock_goes_forward(void) {
    uint64_t before = escope_clock_now_ns();
    CHECK(escope_clock_now_ns() >= before);
}

int main(void) {
    versions_agree();
    the_last_error_is_copied_and_cut();
    every_number_has_a_text();
    the_clock_goes_forward();
    return 0;
}
