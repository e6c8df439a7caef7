/* DPDK's tables alone: rte_fib's DIR-24-8 and rte_fib6's trie, looked up in batches and changed.
 *
 * fib [EAL options] -- 4|6 ROUTES ADDRESSES
 * "first" asks for the first pass over all addresses, in batches of 64: one number, once. "lookup BATCH SAMPLES" goes on
 * through them, 8192 a sample. "update SAMPLES" deletes 64 routes and adds them again: two numbers a sample. All in
 * nanoseconds a look-up or change. */
#include "peer.h"

#include <rte_eal.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_memory.h>

enum { SAMPLE = 8192, BATCH = 64, CHANGES = 64 };

static struct rte_fib *fib;
static struct rte_fib6 *fib6;
static struct route *routes;
static size_t route_count, address_count, next;
static uint32_t *addresses4;
static uint8_t (*addresses6)[16];
static uint64_t state = 20261122, sum;

static double pass(size_t from, size_t count, unsigned batch)
{
    uint64_t hops[BATCH];
    double start = now();
    for (size_t i = from; i < from + count; i += batch) {
        if (fib6)
            rte_fib6_lookup_bulk(fib6, addresses6 + i, hops, batch);
        else
            rte_fib_lookup_bulk(fib, addresses4 + i, hops, batch);
        sum += hops[0];
    }
    return (now() - start) / count;
}

static void change(const struct route *r, int add)
{
    int wrong = fib6 ? add ? rte_fib6_add(fib6, r->to.v6, r->len, r->hop) : rte_fib6_delete(fib6, r->to.v6, r->len)
                : add ? rte_fib_add(fib, r->to.v4, r->len, r->hop)
                      : rte_fib_delete(fib, r->to.v4, r->len);
    if (wrong)
        fail("fib", "a route cannot be changed");
}

static void update(void)
{
    const struct route *chosen[CHANGES];
    for (unsigned i = 0; i < CHANGES; i++) {
        /* No route twice. */
        size_t share = route_count / CHANGES;
        chosen[i] = &routes[i * share + next_random(&state) % share];
    }
    for (int add = 0; add < 2; add++) {
        double start = now();
        for (unsigned i = 0; i < CHANGES; i++)
            change(chosen[i], add);
        printf("%.3f ", (now() - start) / CHANGES);
    }
}

static void serve(char *request)
{
    unsigned batch, samples;
    if (strcmp(request, "first\n") == 0) {
        printf("%.3f ", pass(0, address_count, BATCH));
    } else if (sscanf(request, "lookup %u %u", &batch, &samples) == 2 && batch > 0 && batch <= BATCH &&
               SAMPLE % batch == 0) {
        for (; samples > 0; samples--, next += SAMPLE) {
            next = next + SAMPLE <= address_count ? next : 0;
            printf("%.3f ", pass(next, SAMPLE, batch));
        }
    } else if (sscanf(request, "update %u", &samples) == 1 && route_count >= CHANGES) {
        for (; samples > 0; samples--)
            update();
    } else {
        fail("fib cannot do", request);
    }
}

int main(int argc, char **argv)
{
    int used = rte_eal_init(argc, argv);
    if (used < 0 || argc - used != 4)
        fail("use", "fib [EAL options] -- 4|6 ROUTES ADDRESSES");
    int family = atoi(argv[used + 1]);
    routes = read_routes(family, argv[used + 2], &route_count);
    union address *addresses = read_addresses(family, argv[used + 3], &address_count);
    struct rte_fib_conf conf = { .type = RTE_FIB_DIR24_8, .max_routes = 1 << 21 };
    conf.dir24_8.nh_sz = RTE_FIB_DIR24_8_2B;
    conf.dir24_8.num_tbl8 = 1 << 14;
    struct rte_fib6_conf conf6 = { .type = RTE_FIB6_TRIE, .max_routes = 1 << 21 };
    conf6.trie.nh_sz = RTE_FIB6_TRIE_4B;
    conf6.trie.num_tbl8 = 1 << 19;
    if (family == 6)
        fib6 = rte_fib6_create("table", SOCKET_ID_ANY, &conf6);
    else
        fib = rte_fib_create("table", SOCKET_ID_ANY, &conf);
    addresses4 = calloc(address_count, sizeof(*addresses4));
    addresses6 = calloc(address_count, sizeof(*addresses6));
    if ((!fib && !fib6) || !addresses4 || !addresses6)
        fail("no memory for", "a table");
    for (size_t i = 0; i < address_count; i++) {
        addresses4[i] = addresses[i].v4;
        memcpy(addresses6[i], addresses[i].v6, sizeof(*addresses6));
    }
    for (size_t i = 0; i < route_count; i++)
        change(&routes[i], 1);
    serve_requests(serve);
    /* What was found is used. */
    return sum == 0;
}
