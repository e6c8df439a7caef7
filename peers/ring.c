/* DPDK's ring between one producer and one consumer, 32 elements at a time.
 *
 * ring [EAL options]
 * "single SAMPLES": one core enqueues and dequeues in turn. "pair SAMPLES": two lcores, one each. Both in nanoseconds an
 * element. */
#include "peer.h"

#include <rte_eal.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_ring.h>

enum { BULK = 32, SIZE = 1024, SINGLE = 1 << 16, PAIR = 1 << 20 };

static struct rte_ring *ring;
static unsigned waiting;

static void begin(void)
{
    __atomic_sub_fetch(&waiting, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&waiting, __ATOMIC_ACQUIRE) != 0)
        rte_pause();
}

static inline void check(void *const *words, uintptr_t first)
{
    for (unsigned i = 0; i < BULK; i++)
        if ((uintptr_t)words[i] != first + i)
            fail("ring", "an element is out of order");
}

static inline void number(void **words, uintptr_t first)
{
    for (unsigned i = 0; i < BULK; i++)
        words[i] = (void *)(first + i);
}

static double single(void)
{
    void *words[BULK];
    double start = now();
    for (uintptr_t n = 0; n < SINGLE; n += BULK) {
        number(words, n);
        if (rte_ring_sp_enqueue_bulk(ring, words, BULK, NULL) != BULK)
            fail("ring", "full");
        if (rte_ring_sc_dequeue_bulk(ring, words, BULK, NULL) != BULK)
            fail("ring", "empty");
        check(words, n);
    }
    return (now() - start) / SINGLE;
}

static int produce(void *unused)
{
    void *words[BULK];
    (void)unused;
    begin();
    for (uintptr_t n = 0; n < PAIR; n += BULK) {
        number(words, n);
        while (rte_ring_sp_enqueue_bulk(ring, words, BULK, NULL) == 0)
            rte_pause();
    }
    return 0;
}

static double pair(void)
{
    void *words[BULK];
    __atomic_store_n(&waiting, 2, __ATOMIC_RELEASE);
    rte_eal_remote_launch(produce, NULL, rte_get_next_lcore(-1, 1, 0));
    begin();
    double start = now();
    for (uintptr_t n = 0; n < PAIR; n += BULK) {
        while (rte_ring_sc_dequeue_bulk(ring, words, BULK, NULL) == 0)
            rte_pause();
        check(words, n);
    }
    double took = now() - start;
    rte_eal_mp_wait_lcore();
    return took / PAIR;
}

static void serve(char *request)
{
    unsigned samples;
    int two = sscanf(request, "pair %u", &samples) == 1 && rte_lcore_count() == 2;
    if (!two && sscanf(request, "single %u", &samples) != 1)
        fail("ring cannot do", request);
    for (; samples > 0; samples--)
        printf("%.3f ", two ? pair() : single());
}

int main(int argc, char **argv)
{
    if (rte_eal_init(argc, argv) < 0)
        fail("use", "ring [EAL options]");
    ring = rte_ring_create("ring", SIZE, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    if (!ring)
        fail("no memory for", "a ring");
    serve_requests(serve);
    return 0;
}
