/* Forwarding with DPDK, the work that netstack/benches/host measures: verify the header, look the destination up in
 * rte_fib's DIR-24-8 or rte_fib6's trie, count the TTL down, correct the checksum, address the frame, gather a burst, as
 * for one port. Packets are mbufs in memory; no port, no generator.
 *
 * forward [EAL options] -- 4|6 ROUTES ADDRESSES [lpm|checked]
 * With "checked" it does what a router has to do beside that, as Weir does: takes only frames for the port's own station that
 * come neither from a group nor from itself, drops martian addresses and sources that are its own (RFC 1812 section 5.3.7,
 * RFC 4291 section 2.5), heeds the MTU of the next hop's port, and counts packets and bytes of both ports a burst.
 * "forward FLOWS BATCH CPUS SAMPLES" asks for nanoseconds a packet: of the first FLOWS addresses in turn, in bursts of BATCH, by
 * one lcore or by two at once, each with its own packets. Hops are 1 to 64. */
#include "peer.h"

#include <immintrin.h>
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
    uint32_t longest;
};

/* Of one lcore. */
struct counters {
    uint64_t packets, bytes;
};

/* What an lcore has to itself. */
struct worker {
    struct rte_mbuf *packets[PACKETS], *sent[PACKETS];
    unsigned sent_len, dropped, burst;
    size_t next;
    double start, end;
    struct counters received, transmitted;
} __rte_cache_aligned;

static struct adjacency adjacencies[HOPS];
static struct worker workers[CPUS];
static struct rte_fib *fib;
static struct rte_fib6 *fib6;
static struct rte_lpm *lpm;
static union address *destinations;
static size_t destination_count, flows;
static unsigned cpus, waiting;
static bool checked;

/* The station address of the port that packets come in by. */
static const uint8_t station[6] = { 0x52, 0x54, 0, 0, 0, 1 };
/* The router's addresses, those of networks and broadcasts among them. */
static const char *const own_text[2][6] = {
    { "10.0.0.1", "10.0.0.0", "10.0.0.255", "192.0.2.1", "192.0.2.0", "192.0.2.255" },
    { "2001:db8:0:1::1", "2001:db8:0:1::", "2001:db8:0:2::1", "2001:db8:0:2::" },
};
/* Its own addresses as on the wire; whether there is one with this hash; first bytes of addresses that may be special. */
static uint8_t own[6][16], own_filter[2048], special[256];
static unsigned own_count;
/* The first 16 bytes of a frame that may pass, and which bits of them count. */
static __m128i head, head_mask;

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

static inline uint16_t load16(const uint8_t *at) { uint16_t value; memcpy(&value, at, sizeof(value)); return value; }
static inline uint32_t load32(const uint8_t *at) { uint32_t value; memcpy(&value, at, sizeof(value)); return value; }
static inline uint64_t load64(const uint8_t *at) { uint64_t value; memcpy(&value, at, sizeof(value)); return value; }

static inline unsigned hash4(const uint8_t *address) { return load32(address) * 0x9e3779b9u >> 21; }

static inline unsigned hash6(const uint8_t *address)
{
    return (load64(address) * 0x9e3779b97f4a7c15u ^ load64(address + 8)) * 0x9e3779b97f4a7c15u >> 53;
}

/* What the filter may be wrong about. */
__attribute__((noinline, cold)) static bool is_own(const uint8_t *address, size_t len)
{
    for (unsigned i = 0; i < own_count; i++)
        if (memcmp(own[i], address, len) == 0)
            return true;
    return false;
}

/* What the tables of first bytes may be wrong about. */
__attribute__((noinline, cold)) static bool is_martian(const uint8_t *address)
{
    if (fib6) {
        static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff }, none[15];
        return address[0] == 0xff || (address[0] == 0xfe && (address[1] & 0xc0) == 0x80) ||
               memcmp(address, mapped, sizeof(mapped)) == 0 ||
               (memcmp(address, none, sizeof(none)) == 0 && address[15] <= 1);
    }
    return address[0] != 169 || address[1] == 254;
}

/* Whether a frame's stations, its type and the first byte behind it are right. */
static inline bool is_for_us(const uint8_t *frame)
{
    __m128i differs = _mm_and_si128(_mm_xor_si128(_mm_loadu_si128((const __m128i *)frame), head), head_mask);
    return _mm_testz_si128(differs, differs) &&
           (likely(load32(frame + 8) != load32(station + 2)) || load16(frame + 6) != load16(station));
}

static inline bool may_pass(const uint8_t *from, const uint8_t *to, unsigned hash, size_t len)
{
    if (unlikely(special[*from] | special[*to]) &&
        ((special[*from] && is_martian(from)) || (special[*to] && is_martian(to))))
        return false;
    return likely(!own_filter[hash]) || !is_own(from, len);
}

static inline bool passes4(const uint8_t *frame, uint32_t len)
{
    if (len < 34 || !is_for_us(frame) || len < 14u + rte_be_to_cpu_16(load16(frame + 16)) ||
        rte_be_to_cpu_16(load16(frame + 16)) < 20 || frame[22] <= 1)
        return false;
    /* One's complement addition, 64 bits at a time; 2^16 is 1 modulo 65535. */
    unsigned long long sum;
    unsigned char carry = _addcarry_u64(0, load64(frame + 18), load64(frame + 26), &sum);
    carry = _addcarry_u64(carry, sum, load32(frame + 14), &sum);
    return (sum + carry) % 0xffff == 0 && may_pass(frame + 26, frame + 30, hash4(frame + 26), 4);
}

static inline bool passes6(const uint8_t *frame, uint32_t len)
{
    return len >= 54u + rte_be_to_cpu_16(load16(frame + 18)) && is_for_us(frame) && frame[21] > 1 &&
           may_pass(frame + 22, frame + 38, hash6(frame + 22), 16);
}

static inline void count(struct counters *counters, uint64_t packets, uint64_t bytes)
{
    counters->packets += packets;
    counters->bytes += bytes;
}

/* All that is not the same for both families is decided when this is compiled. */
static inline __attribute__((always_inline)) void forward_checked(struct worker *w, struct rte_mbuf **burst,
                                                                  unsigned burst_len, const bool six)
{
    uint32_t addresses4[BURST];
    uint8_t addresses6[BURST][RTE_FIB6_IPV6_ADDR_SIZE];
    uint64_t hops[BURST], bytes = 0, sent_bytes = 0;
    struct rte_mbuf *good[BURST];
    unsigned n = 0, before = w->sent_len;

    for (unsigned i = 0; i < AHEAD; i++)
        prefetch(burst, i, burst_len);
    for (unsigned i = 0; i < burst_len; i++) {
        prefetch(burst, i + AHEAD, burst_len);
        const uint8_t *frame = rte_pktmbuf_mtod(burst[i], uint8_t *);
        uint32_t len = rte_pktmbuf_data_len(burst[i]);
        bytes += len;
        if (unlikely(six ? !passes6(frame, len) : !passes4(frame, len))) {
            w->dropped++;
            continue;
        }
        if (six)
            memcpy(addresses6[n], frame + 38, sizeof(addresses6[n]));
        else
            addresses4[n] = rte_be_to_cpu_32(load32(frame + 30));
        good[n++] = burst[i];
    }
    count(&w->received, burst_len, bytes);
    if (six)
        rte_fib6_lookup_bulk(fib6, addresses6, hops, n);
    else
        rte_fib_lookup_bulk(fib, addresses4, hops, n);
    for (unsigned i = 0; i < n; i++) {
        uint32_t len = rte_pktmbuf_data_len(good[i]);
        if (unlikely(hops[i] == 0 || hops[i] >= HOPS || len > adjacencies[hops[i]].longest)) {
            w->dropped++;
            continue;
        }
        uint8_t *frame = rte_pktmbuf_mtod(good[i], uint8_t *);
        if (six) {
            frame[21]--;
        } else {
            frame[22]--;
            uint32_t sum = load16(frame + 24) + (uint32_t)RTE_BE16(0x0100);
            *(unaligned_uint16_t *)(frame + 24) = (uint16_t)(sum + (sum >> 16));
        }
        sent_bytes += len;
        depart(w, good[i], (struct rte_ether_hdr *)frame, hops[i]);
    }
    count(&w->transmitted, w->sent_len - before, sent_bytes);
}

__attribute__((noinline)) static void checked4(struct worker *w, struct rte_mbuf **burst, unsigned burst_len)
{
    forward_checked(w, burst, burst_len, false);
}

__attribute__((noinline)) static void checked6(struct worker *w, struct rte_mbuf **burst, unsigned burst_len)
{
    forward_checked(w, burst, burst_len, true);
}

static void prepare_checks(void)
{
    uint8_t value[16] = { 0 }, mask[16] = { 0 };
    memcpy(value, station, sizeof(station));
    memset(mask, 0xff, sizeof(station));
    mask[6] = 1;
    mask[12] = mask[13] = 0xff;
    memcpy(value + 12, fib6 ? (uint8_t[]){ 0x86, 0xdd, 0x60 } : (uint8_t[]){ 8, 0, 0x45 }, 3);
    mask[14] = fib6 ? 0xf0 : 0xff;
    memcpy(&head, value, sizeof(head));
    memcpy(&head_mask, mask, sizeof(mask));
    for (unsigned first = 0; first < 256; first++)
        special[first] = fib6 ? first == 0 || first >= 0xfe
                              : first == 0 || first == 127 || first == 169 || first >= 224;
    for (; own_count < 6 && own_text[fib6 != NULL][own_count]; own_count++) {
        inet_pton(fib6 ? AF_INET6 : AF_INET, own_text[fib6 != NULL][own_count], own[own_count]);
        own_filter[fib6 ? hash6(own[own_count]) : hash4(own[own_count])] = 1;
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
    void (*forward)(struct worker *, struct rte_mbuf **, unsigned) =
        checked ? (fib6 ? checked6 : checked4) : (fib6 ? forward6 : forward4);
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

/* Each of these makes a frame one to be dropped. */
static void prove_checks(struct worker *w)
{
    static const struct {
        uint8_t at4, at6, len, bytes[4];
    } faults[] = {
        { 0, 0, 1, { 0x54 } },       { 6, 6, 1, { 3 } },          { 6, 6, 2, { 0x52, 0x54 } },
        { 12, 12, 1, { 9 } },        { 14, 14, 1, { 0x55 } },     { 16, 18, 2, { 0xff, 0xff } },
        { 22, 21, 1, { 1 } },        { 26, 22, 1, { 0xff } },     { 30, 38, 1, { 0xff } },
    };
    struct rte_mbuf *packet = w->packets[0];
    uint8_t *frame = rte_pktmbuf_mtod(packet, uint8_t *);
    void (*forward)(struct worker *, struct rte_mbuf **, unsigned) = fib6 ? checked6 : checked4;
    for (unsigned i = 0; i <= RTE_DIM(faults) + 1; i++) {
        fill(frame, &destinations[0]);
        uint8_t *header = frame + 14;
        if (i == RTE_DIM(faults))
            memcpy(frame + (fib6 ? 22 : 26), own[0], fib6 ? 16 : 4);
        else if (i < RTE_DIM(faults))
            memcpy(frame + (fib6 ? faults[i].at6 : faults[i].at4), faults[i].bytes, faults[i].len);
        if (i == 2)
            memcpy(frame + 6, station, sizeof(station));
        if (!fib6) {
            memset(header + 10, 0, 2);
            uint16_t sum = rte_ipv4_cksum((struct rte_ipv4_hdr *)header);
            memcpy(header + 10, &sum, sizeof(sum));
        }
        w->dropped = w->sent_len = 0;
        forward(w, &packet, 1);
        if (w->dropped != (i <= RTE_DIM(faults)))
            fail("forward checked", i <= RTE_DIM(faults) ? "a frame passed that must not" : "a good frame was dropped");
    }
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
        fail("use", "forward [EAL options] -- 4|6 ROUTES ADDRESSES [lpm|checked]");
    int family = atoi(argv[used + 1]);
    const char *mode = argc - used > 4 ? argv[used + 4] : "";
    checked = strcmp(mode, "checked") == 0;
    make_table(family, argv[used + 2], strcmp(mode, "lpm") == 0);
    prepare_checks();
    destinations = read_addresses(family, argv[used + 3], &destination_count);
    for (unsigned i = 0; i < HOPS; i++) {
        adjacencies[i].dst = (struct rte_ether_addr){ { 2, 0, 0, 0, 1, i } };
        adjacencies[i].src = (struct rte_ether_addr){ { 0x52, 0x54, 0, 0, 0, 2 } };
        adjacencies[i].longest = RTE_ETHER_MAX_LEN - RTE_ETHER_CRC_LEN;
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
    if (checked)
        prove_checks(&workers[0]);
    serve_requests(serve);
    return 0;
}
