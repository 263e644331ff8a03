/* CLOCK_MONOTONIC in nanoseconds, and sleeping by it. */
#ifndef DEMO_CLOCK_H
#define DEMO_CLOCK_H

#include <errno.h>
#include <stdint.h>
#include <time.h>

static inline uint64_t clock_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void clock_sleep_until_ns(uint64_t instant_ns) {
    struct timespec until = {(time_t)(instant_ns / 1000000000u), (long)(instant_ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

static inline void clock_sleep_ns(uint64_t duration_ns) {
    clock_sleep_until_ns(clock_now_ns() + duration_ns);
}

#endif
