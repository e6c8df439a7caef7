/* Packet filters by Linux, as it compiles classic BPF: a filter on a datagram socket that refuses every packet, and how long
 * sending to it takes. There is no way to have the kernel run a classic program in a loop, so `cargo bench -p weir-bpf` asks
 * for the same program once and many times over in one filter; what a run more takes is the difference.
 *
 * Says "ready", then reads a request a line, "SENDS FRAME COUNT CODE JT JF K CODE JT JF K ...", the frame in hexadecimal
 * digits, and answers each with nanoseconds a send. */
#define _GNU_SOURCE
#include "peer.h"

#include <errno.h>
#include <linux/filter.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sock_filter program[BPF_MAXINSNS];
static uint8_t frame[65536];

static size_t parse_frame(const char *digits)
{
    size_t len = 0;
    unsigned byte;
    for (; sscanf(digits, "%2x", &byte) == 1 && len < sizeof(frame); digits += 2)
        frame[len++] = byte;
    return len;
}

static void answer(char *line)
{
    char *save, *word = strtok_r(line, " \n", &save);
    long sends = atol(word ? word : "");
    char *digits = strtok_r(NULL, " \n", &save);
    char *count = strtok_r(NULL, " \n", &save);
    struct sock_fprog filter = { .len = atoi(count ? count : ""), .filter = program };
    for (unsigned i = 0; i < filter.len * 4u; i++) {
        word = strtok_r(NULL, " \n", &save);
        if (!word)
            fail("request", "too short");
        uint32_t value = strtoul(word, NULL, 0);
        struct sock_filter *one = &program[i / 4];
        switch (i % 4) {
        case 0: one->code = value; break;
        case 1: one->jt = value; break;
        case 2: one->jf = value; break;
        default: one->k = value;
        }
    }
    size_t len = parse_frame(digits ? digits : "");
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) || setsockopt(pair[1], SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)))
        fail("socket with a filter", strerror(errno));
    double start = 0;
    /* The first tenth warms up. */
    for (long i = -sends / 10; i < sends; i++) {
        if (i == 0)
            start = now();
        if (send(pair[0], frame, len, MSG_DONTWAIT) != (ssize_t)len)
            fail("send", strerror(errno));
    }
    printf("%.3f\n", (now() - start) / sends);
    char byte;
    if (recv(pair[1], &byte, 1, MSG_DONTWAIT) >= 0)
        fail("the filter", "let a packet pass");
    close(pair[0]);
    close(pair[1]);
}

int main(int argc, char **argv)
{
    cpu_set_t core;
    CPU_ZERO(&core);
    CPU_SET(argc > 1 ? atoi(argv[1]) : 0, &core);
    if (sched_setaffinity(0, sizeof(core), &core))
        fail("core", strerror(errno));
    puts("ready");
    fflush(stdout);
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        answer(line);
        fflush(stdout);
    }
    return 0;
}
