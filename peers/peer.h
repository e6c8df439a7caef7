/* What the programs beside this file share: lists of routes and addresses, the clock, and samples on request.
 *
 * A program says "ready" once it is set up. Then it reads a request a line from its standard input, and answers each with
 * one line of samples, in nanoseconds, until the input ends. `lab bench-peers` asks two programs in turn. */
#ifndef WEIR_PEER_H
#define WEIR_PEER_H

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* An address: `v4` in host order, or `v6` as on the wire. */
union address {
    uint32_t v4;
    uint8_t v6[16];
};

struct route {
    union address to;
    uint32_t len, hop;
};

__attribute__((noreturn)) static inline void fail(const char *what, const char *which)
{
    fprintf(stderr, "%s: %s\n", what, which);
    exit(1);
}

static inline double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

/* Sebastiano Vigna's SplitMix64. */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static inline void parse(int family, const char *text, union address *address)
{
    if (inet_pton(family == 6 ? AF_INET6 : AF_INET, text, address) != 1)
        fail("not an address", text);
    if (family != 6)
        address->v4 = ntohl(address->v4);
}

static inline void *grown(void *all, size_t count, size_t size)
{
    /* A power of two: twice as many from here on. */
    if ((count & (count - 1)) != 0)
        return all;
    all = realloc(all, (count ? 2 * count : 1) * size);
    if (!all)
        fail("no memory for", "a list");
    return all;
}

/* Lines of "2001:db8::/32 7". */
static inline struct route *read_routes(int family, const char *file, size_t *count)
{
    struct route *all = NULL, one;
    FILE *lines = fopen(file, "r");
    char text[64];
    *count = 0;
    while (lines && fscanf(lines, " %63[^/]/%u %u", text, &one.len, &one.hop) == 3) {
        parse(family, text, &one.to);
        all = grown(all, *count, sizeof(one));
        all[(*count)++] = one;
    }
    if (*count == 0)
        fail("no routes in", file);
    fclose(lines);
    return all;
}

/* Lines of "2001:db8::1". */
static inline union address *read_addresses(int family, const char *file, size_t *count)
{
    union address *all = NULL, one;
    FILE *lines = fopen(file, "r");
    char text[64];
    *count = 0;
    while (lines && fscanf(lines, " %63s", text) == 1) {
        parse(family, text, &one);
        all = grown(all, *count, sizeof(one));
        all[(*count)++] = one;
    }
    if (*count == 0)
        fail("no addresses in", file);
    fclose(lines);
    return all;
}

/* Says that all is set up, then has `serve` answer each line. */
static inline void serve_requests(void (*serve)(char *request))
{
    char line[256];
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        serve(line);
        putchar('\n');
        fflush(stdout);
    }
}

#endif
