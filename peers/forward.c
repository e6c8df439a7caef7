/* Forwarding with DPDK, the work that netstack/benches/host measures: verify the header, look the destination up in
 * rte_fib's DIR-24-8 or rte_fib6's trie, count the TTL down, correct the checksum, address the frame, gather a burst, as
 * for one port. Packets are mbufs in memory; no port, no generator.
 *
 * forward [EAL options] -- 4|6 ROUTES ADDRESSES [lpm]
 * "forward FLOWS BATCH CPUS SAMPLES" asks for nanoseconds a packet: of the first FLOWS addresses in turn, in bursts of BATCH, by
 * one lcore or by two at once, each with its own packets. Hops are 1 to 64. */
#include "peer.h"

#include <stdbool.h>

#include <rte_byteorder.h>
#include <rte_eal.h>
#include <rte_ether.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_ip.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_lpm.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>

/* AHEAD was tried: 0 to 8, three is the quickest; so was writing both stations at once, which is slower. */
enum { PACKETS = 8192, BURST = 64, HOPS = 65, FRAME = 60, AHEAD = 3, CPUS = 2 };

struct adjacency {
    struct rte_ether_addr dst, src;
};

/* What an lcore has to itself. */
struct worker {
    struct rte_mbuf *packets[PACKETS], *sent[PACKETS];
    unsigned sent_len, dropped, burst;
    size_t next;
    double start, end;
} __rte_cache_aligned;

static struct adjacency adjacencies[HOPS];
static struct worker workers[CPUS];
static struct rte_fib *fib;
static struct rte_fib6 *fib6;
static struct rte_lpm *lpm;
static union address *destinations;
static size_t destination_count, flows;
static unsigned cpus, waiting;

static inline void prefetch(struct rte_mbuf **burst, unsigned i, unsigned n)
{
    if (i < n)
        rte_prefetch0(rte_pktmbuf_mtod(burst[i], void *));
}

static inline void depart(struct worker *w, struct rte_mbuf *packet, struct rte_ether_hdr *ether, uint64_t hop)
{
    ether->dst_addr = adjacencies[hop].dst;
    ether->src_addr = adjacencies[hop].src;
    w->sent[w->sent_len++] = packet;
}

__attribute__((noinline)) static void forward4(struct worker *w, struct rte_mbuf **burst, unsigned count)
{
    uint32_t addresses[BURST];
    uint64_t hops[BURST];
    struct rte_mbuf *good[BURST];
    unsigned n = 0;

    for (unsigned i = 0; i < AHEAD; i++)
        prefetch(burst, i, count);
    for (unsigned i = 0; i < count; i++) {
        prefetch(burst, i + AHEAD, count);
        struct rte_ether_hdr *ether = rte_pktmbuf_mtod(burst[i], struct rte_ether_hdr *);
        struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(ether + 1);
        if (ether->ether_type != RTE_BE16(RTE_ETHER_TYPE_IPV4) || ip->version_ihl != RTE_IPV4_VHL_DEF ||
            rte_pktmbuf_data_len(burst[i]) < sizeof(*ether) + rte_be_to_cpu_16(ip->total_length) ||
            rte_raw_cksum(ip, sizeof(*ip)) != 0xffff || ip->time_to_live <= 1) {
            w->dropped++;
            continue;
        }
        addresses[n] = rte_be_to_cpu_32(ip->dst_addr);
        good[n++] = burst[i];
    }
    if (lpm) {
        uint32_t next_hops[BURST];
        rte_lpm_lookup_bulk(lpm, addresses, next_hops, n);
        for (unsigned i = 0; i < n; i++)
            hops[i] = next_hops[i] & RTE_LPM_LOOKUP_SUCCESS ? next_hops[i] & 0xffffff : 0;
    } else {
        rte_fib_lookup_bulk(fib, addresses, hops, n);
    }
    for (unsigned i = 0; i < n; i++) {
        if (hops[i] == 0 || hops[i] >= HOPS) {
            w->dropped++;
            continue;
        }
        struct rte_ether_hdr *ether = rte_pktmbuf_mtod(good[i], struct rte_ether_hdr *);
        struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(ether + 1);
        ip->time_to_live--;
        /* One less in the high byte of a word is one more in its complement. */
        uint32_t sum = ip->hdr_checksum + (uint32_t)RTE_BE16(0x0100);
        ip->hdr_checksum = (uint16_t)(sum + (sum >> 16));
        depart(w, good[i], ether, hops[i]);
    }
}

__attribute__((noinline)) static void forward6(struct worker *w, struct rte_mbuf **burst, unsigned count)
{
    uint8_t addresses[BURST][RTE_FIB6_IPV6_ADDR_SIZE];
    uint64_t hops[BURST];
    struct rte_mbuf *good[BURST];
    unsigned n = 0;

    for (unsigned i = 0; i < AHEAD; i++)
        prefetch(burst, i, count);
    for (unsigned i = 0; i < count; i++) {
        prefetch(burst, i + AHEAD, count);
        struct rte_ether_hdr *ether = rte_pktmbuf_mtod(burst[i], struct rte_ether_hdr *);
        struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(ether + 1);
        if (ether->ether_type != RTE_BE16(RTE_ETHER_TYPE_IPV6) || *(uint8_t *)ip >> 4 != 6 ||
            rte_pktmbuf_data_len(burst[i]) < sizeof(*ether) + sizeof(*ip) + rte_be_to_cpu_16(ip->payload_len) ||
            ip->hop_limits <= 1) {
            w->dropped++;
            continue;
        }
        memcpy(addresses[n], ip->dst_addr, sizeof(addresses[n]));
        good[n++] = burst[i];
    }
    rte_fib6_lookup_bulk(fib6, addresses, hops, n);
    for (unsigned i = 0; i < n; i++) {
        if (hops[i] == 0 || hops[i] >= HOPS) {
            w->dropped++;
            continue;
        }
        struct rte_ether_hdr *ether = rte_pktmbuf_mtod(good[i], struct rte_ether_hdr *);
        ((struct rte_ipv6_hdr *)(ether + 1))->hop_limits--;
        depart(w, good[i], ether, hops[i]);
    }
}

static void fill(uint8_t *frame, const union address *to)
{
    static const uint8_t ether[14] = { 0x52, 0x54, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0 };
    memcpy(frame, ether, sizeof(ether));
    if (fib6) {
        static const uint8_t head[24] = { 0x60, 0, 0, 0, 0, 6, 59, 64, 0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0,
                                          0,    0, 0, 0, 0, 0,  0,  2 };
        frame[12] = 0x86;
        frame[13] = 0xdd;
        memcpy(frame + 14, head, sizeof(head));
        memcpy(frame + 38, to->v6, sizeof(to->v6));
        return;
    }
    static const uint8_t head[20] = { 0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2 };
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + 14);
    memcpy(ip, head, sizeof(head));
    ip->dst_addr = rte_cpu_to_be_32(to->v4);
    ip->hdr_checksum = rte_ipv4_cksum(ip);
}

/* A sample of one worker. Those of several begin together. */
static int sample(void *argument)
{
    struct worker *w = argument;
    for (unsigned i = 0; i < PACKETS; i++) {
        w->next = w->next + 1 < flows ? w->next + 1 : 0;
        fill(rte_pktmbuf_mtod(w->packets[i], uint8_t *), &destinations[w->next]);
    }
    w->sent_len = w->dropped = 0;
    __atomic_sub_fetch(&waiting, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&waiting, __ATOMIC_ACQUIRE) != 0)
        rte_pause();
    void (*forward)(struct worker *, struct rte_mbuf **, unsigned) = fib6 ? forward6 : forward4;
    w->start = now();
    for (unsigned i = 0; i < PACKETS; i += w->burst)
        forward(w, w->packets + i, w->burst);
    w->end = now();
    return 0;
}

static void check(const struct worker *w)
{
    if (w->dropped || w->sent_len != PACKETS)
        fail("forward", "a packet was not forwarded");
    const uint8_t *frame = rte_pktmbuf_mtod(w->sent[0], uint8_t *);
    if (frame[fib6 ? 21 : 22] != 63 || (!fib6 && rte_raw_cksum(frame + 14, 20) != 0xffff))
        fail("forward", "the header is wrong");
}

static void serve(char *request)
{
    unsigned batch, samples;
    if (sscanf(request, "forward %zu %u %u %u", &flows, &batch, &cpus, &samples) != 4 || flows == 0 ||
        flows > destination_count || batch == 0 || batch > BURST || PACKETS % batch != 0 || cpus == 0 ||
        cpus > rte_lcore_count())
        fail("forward cannot do", request);
    for (unsigned s = 0; s < samples; s++) {
        __atomic_store_n(&waiting, cpus, __ATOMIC_RELEASE);
        for (unsigned i = 0; i < cpus; i++)
            workers[i].burst = batch;
        if (cpus == 2)
            rte_eal_remote_launch(sample, &workers[1], rte_get_next_lcore(-1, 1, 0));
        sample(&workers[0]);
        rte_eal_mp_wait_lcore();
        double start = workers[0].start, end = workers[0].end;
        for (unsigned i = 0; i < cpus; i++) {
            check(&workers[i]);
            start = RTE_MIN(start, workers[i].start);
            end = RTE_MAX(end, workers[i].end);
        }
        printf("%.3f ", (end - start) / (PACKETS * cpus));
    }
}

static void make_table(int family, const char *file, bool with_lpm)
{
    size_t count;
    struct route *routes = read_routes(family, file, &count);
    struct rte_fib_conf conf = { .type = RTE_FIB_DIR24_8, .max_routes = 1 << 21 };
    conf.dir24_8.nh_sz = RTE_FIB_DIR24_8_2B;
    conf.dir24_8.num_tbl8 = 1 << 14;
    struct rte_fib6_conf conf6 = { .type = RTE_FIB6_TRIE, .max_routes = 1 << 21 };
    conf6.trie.nh_sz = RTE_FIB6_TRIE_4B;
    conf6.trie.num_tbl8 = 1 << 19;
    struct rte_lpm_config lpm_conf = { .max_rules = 1 << 21, .number_tbl8s = 1 << 15 };
    if (family == 6)
        fib6 = rte_fib6_create("table", SOCKET_ID_ANY, &conf6);
    else if (with_lpm)
        lpm = rte_lpm_create("table", SOCKET_ID_ANY, &lpm_conf);
    else
        fib = rte_fib_create("table", SOCKET_ID_ANY, &conf);
    if (!fib && !fib6 && !lpm)
        fail("no memory for", "a table");
    for (size_t i = 0; i < count; i++) {
        const struct route *r = &routes[i];
        int wrong = fib6 ? rte_fib6_add(fib6, r->to.v6, r->len, r->hop)
                    : lpm ? rte_lpm_add(lpm, r->to.v4, r->len, r->hop)
                          : rte_fib_add(fib, r->to.v4, r->len, r->hop);
        if (wrong)
            fail("a route does not fit, of", file);
    }
    free(routes);
}

int main(int argc, char **argv)
{
    int used = rte_eal_init(argc, argv);
    if (used < 0 || argc - used < 4)
        fail("use", "forward [EAL options] -- 4|6 ROUTES ADDRESSES [lpm]");
    int family = atoi(argv[used + 1]);
    make_table(family, argv[used + 2], argc - used > 4);
    destinations = read_addresses(family, argv[used + 3], &destination_count);
    for (unsigned i = 0; i < HOPS; i++) {
        adjacencies[i].dst = (struct rte_ether_addr){ { 2, 0, 0, 0, 1, i } };
        adjacencies[i].src = (struct rte_ether_addr){ { 0x52, 0x54, 0, 0, 0, 2 } };
    }
    struct rte_mempool *pool = rte_pktmbuf_pool_create("packets", CPUS * PACKETS, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
                                                       SOCKET_ID_ANY);
    for (unsigned cpu = 0; cpu < rte_lcore_count() && cpu < CPUS; cpu++) {
        struct worker *w = &workers[cpu];
        if (!pool || rte_pktmbuf_alloc_bulk(pool, w->packets, PACKETS))
            fail("no memory for", "packets");
        for (unsigned i = 0; i < PACKETS; i++)
            memset(rte_pktmbuf_append(w->packets[i], FRAME), 0, FRAME);
        w->next = destination_count / CPUS * cpu;
    }
    serve_requests(serve);
    return 0;
}
