/* IPv4 forwarding with DPDK, the work that netstack/benches/peer.rs measures: verify the header, look the destination
 * up in rte_fib's DIR-24-8, count the TTL down, correct the checksum, address the frame, gather a burst, as for one port.
 * Packets are mbufs in memory; no port, no generator.
 *
 * forward [EAL options] -- ROUTES ADDRESSES
 * prints nanoseconds a packet, quickest and median sample. Lines of ROUTES: "192.0.2.0/24 7", hops 1 to 64. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_byteorder.h>
#include <rte_eal.h>
#include <rte_ether.h>
#include <rte_fib.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>

enum { PACKETS = 8192, SAMPLES = 256, BURST = 64, HOPS = 65, FRAME = 60, AHEAD = 4 };

struct adjacency {
    struct rte_ether_addr dst, src;
};

static struct adjacency adjacencies[HOPS];
static struct rte_mbuf *packets[PACKETS], *sent[PACKETS];
static unsigned sent_len, dropped;

static void forward(struct rte_fib *fib, struct rte_mbuf **burst)
{
    uint32_t destinations[BURST];
    uint64_t hops[BURST];
    struct rte_mbuf *good[BURST];
    unsigned n = 0;

    for (unsigned i = 0; i < AHEAD; i++)
        rte_prefetch0(rte_pktmbuf_mtod(burst[i], void *));
    for (unsigned i = 0; i < BURST; i++) {
        if (i + AHEAD < BURST)
            rte_prefetch0(rte_pktmbuf_mtod(burst[i + AHEAD], void *));
        struct rte_ether_hdr *ether = rte_pktmbuf_mtod(burst[i], struct rte_ether_hdr *);
        struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(ether + 1);
        if (ether->ether_type != RTE_BE16(RTE_ETHER_TYPE_IPV4) || ip->version_ihl != RTE_IPV4_VHL_DEF ||
            rte_pktmbuf_data_len(burst[i]) < sizeof(*ether) + rte_be_to_cpu_16(ip->total_length) ||
            rte_raw_cksum(ip, sizeof(*ip)) != 0xffff || ip->time_to_live <= 1) {
            dropped++;
            continue;
        }
        destinations[n] = rte_be_to_cpu_32(ip->dst_addr);
        good[n++] = burst[i];
    }
    rte_fib_lookup_bulk(fib, destinations, hops, n);
    for (unsigned i = 0; i < n; i++) {
        if (hops[i] == 0 || hops[i] >= HOPS) {
            dropped++;
            continue;
        }
        const struct adjacency *adjacency = &adjacencies[hops[i]];
        struct rte_ether_hdr *ether = rte_pktmbuf_mtod(good[i], struct rte_ether_hdr *);
        struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(ether + 1);
        ip->time_to_live--;
        /* One less in the high byte of a word is one more in its complement. */
        uint32_t sum = ip->hdr_checksum + (uint32_t)RTE_BE16(0x0100);
        ip->hdr_checksum = (uint16_t)(sum + (sum >> 16));
        ether->dst_addr = adjacency->dst;
        ether->src_addr = adjacency->src;
        sent[sent_len++] = good[i];
    }
}

static void fill(uint8_t *frame, uint32_t destination)
{
    static const uint8_t head[34] = { 0x52, 0x54, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17,
                                      0, 0, 10, 0, 0, 2 };
    memcpy(frame, head, sizeof(head));
    memcpy(frame + 30, &destination, 4);
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + 14);
    ip->hdr_checksum = rte_ipv4_cksum(ip);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fail(const char *what)
{
    fprintf(stderr, "forward: %s\n", what);
    exit(1);
}

static struct rte_fib *table(const char *file)
{
    struct rte_fib_conf conf = { .type = RTE_FIB_DIR24_8, .max_routes = 1 << 21 };
    conf.dir24_8.nh_sz = RTE_FIB_DIR24_8_4B;
    conf.dir24_8.num_tbl8 = 1 << 15;
    struct rte_fib *fib = rte_fib_create("table", SOCKET_ID_ANY, &conf);
    FILE *routes = fopen(file, "r");
    if (!fib || !routes)
        fail("no table, or no file of routes");
    char address[16];
    unsigned len, hop;
    while (fscanf(routes, "%15[0-9.]/%u %u\n", address, &len, &hop) == 3) {
        struct in_addr network;
        if (!inet_aton(address, &network) || rte_fib_add(fib, ntohl(network.s_addr), len, hop))
            fail("a route does not fit");
    }
    fclose(routes);
    return fib;
}

static uint32_t *addresses(const char *file, unsigned *count)
{
    uint32_t *all = malloc(sizeof(*all) << 20);
    FILE *lines = fopen(file, "r");
    char address[16];
    *count = 0;
    while (lines && all && *count < 1 << 20 && fscanf(lines, "%15s\n", address) == 1)
    {
        if (!inet_aton(address, (struct in_addr *)&all[*count]))
            fail("not an address");
        (*count)++;
    }
    if (*count == 0)
        fail("no addresses");
    fclose(lines);
    return all;
}

int main(int argc, char **argv)
{
    int used = rte_eal_init(argc, argv);
    if (used < 0 || argc - used < 3)
        fail("use: forward [EAL options] -- ROUTES ADDRESSES");
    struct rte_fib *fib = table(argv[used + 1]);
    unsigned count, next = 0;
    uint32_t *destinations = addresses(argv[used + 2], &count);
    struct rte_mempool *pool =
        rte_pktmbuf_pool_create("packets", PACKETS, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    if (!pool || rte_pktmbuf_alloc_bulk(pool, packets, PACKETS))
        fail("no memory for packets");
    for (unsigned i = 0; i < HOPS; i++) {
        adjacencies[i].dst = (struct rte_ether_addr){ { 2, 0, 0, 0, 1, i } };
        adjacencies[i].src = (struct rte_ether_addr){ { 0x52, 0x54, 0, 0, 0, 2 } };
    }
    for (unsigned i = 0; i < PACKETS; i++)
        memset(rte_pktmbuf_append(packets[i], FRAME), 0, FRAME);

    static double samples[SAMPLES];
    for (unsigned s = 0; s < SAMPLES; s++) {
        for (unsigned i = 0; i < PACKETS; i++)
            fill(rte_pktmbuf_mtod(packets[i], uint8_t *), destinations[next++ % count]);
        sent_len = 0;
        double start = now();
        for (unsigned i = 0; i < PACKETS; i += BURST)
            forward(fib, packets + i);
        samples[s] = (now() - start) / PACKETS;
        if (dropped || sent_len != PACKETS)
            fail("a packet was not forwarded");
        struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(sent[0], struct rte_ipv4_hdr *, 14);
        if (ip->time_to_live != 63 || rte_raw_cksum(ip, sizeof(*ip)) != 0xffff)
            fail("the header is wrong");
    }
    qsort(samples, SAMPLES, sizeof(*samples), ascending);
    printf("%.2f %.2f\n", samples[0], samples[SAMPLES / 2]);
    return 0;
}
