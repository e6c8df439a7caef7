/* Frames for a Linux router in a network namespace: 8192 a sample by sendmmsg() on a packet socket, past the queueing
 * discipline. The kernel forwards each before the call returns, on the core that sends.
 *
 * flood INTERFACE STATION 4|6 ADDRESSES
 * "forward FLOWS BATCH CPUS SAMPLES" asks for nanoseconds a frame, sending included. "send ..." asks the same of frames that
 * the router's interface receives and throws away, of a type that nobody takes (IEEE 802's first local experimental one):
 * what sending alone costs. */
#define _GNU_SOURCE
#include "peer.h"

#include <net/if.h>
#include <netinet/if_ether.h>
#include <netpacket/packet.h>
#include <sys/socket.h>

enum { PACKETS = 8192, BURST = 64, FRAME = 60 };

static union address *destinations;
static size_t destination_count, flows, next;
static int family, sock;
static uint8_t station[6], own[6];

static uint16_t checksum(const uint8_t *header)
{
    uint32_t sum = 0;
    for (unsigned i = 0; i < 20; i += 2)
        sum += header[i] << 8 | header[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    return ~(sum + (sum >> 16));
}

static void fill(uint8_t *frame, int forward, const union address *to)
{
    memset(frame, 0, FRAME);
    memcpy(frame, station, 6);
    memcpy(frame + 6, own, 6);
    uint16_t type = htons(!forward ? 0x88b5 : family == 6 ? ETH_P_IPV6 : ETH_P_IP);
    memcpy(frame + 12, &type, 2);
    if (family == 6) {
        static const uint8_t head[24] = { 0x60, 0, 0, 0, 0, 6, 59, 64, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1,
                                          0,    0, 0, 0, 0, 0, 0,  2 };
        memcpy(frame + 14, head, sizeof(head));
        memcpy(frame + 38, to->v6, sizeof(to->v6));
        return;
    }
    static const uint8_t head[16] = { 0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2 };
    uint32_t destination = htonl(to->v4);
    memcpy(frame + 14, head, sizeof(head));
    memcpy(frame + 30, &destination, sizeof(destination));
    uint16_t sum = htons(checksum(frame + 14));
    memcpy(frame + 24, &sum, sizeof(sum));
}

static double sample(int forward, unsigned batch)
{
    static uint8_t frames[PACKETS][FRAME];
    static struct iovec parts[PACKETS];
    static struct mmsghdr messages[PACKETS];
    for (unsigned i = 0; i < PACKETS; i++) {
        next = next + 1 < flows ? next + 1 : 0;
        fill(frames[i], forward, &destinations[next]);
        parts[i] = (struct iovec){ frames[i], FRAME };
        messages[i].msg_hdr = (struct msghdr){ .msg_iov = &parts[i], .msg_iovlen = 1 };
    }
    double start = now();
    for (unsigned i = 0; i < PACKETS;) {
        unsigned left = PACKETS - i;
        int sent = sendmmsg(sock, messages + i, left < batch ? left : batch, 0);
        if (sent <= 0)
            fail("flood", "a frame was not sent");
        i += sent;
    }
    return (now() - start) / PACKETS;
}

static void serve(char *request)
{
    char what[8];
    unsigned batch, cpus, samples;
    if (sscanf(request, "%7s %zu %u %u %u", what, &flows, &batch, &cpus, &samples) != 5 || flows == 0 ||
        flows > destination_count || batch == 0 || batch > BURST || cpus != 1)
        fail("flood cannot do", request);
    for (; samples > 0; samples--)
        printf("%.3f ", sample(strcmp(what, "forward") == 0, batch));
}

int main(int argc, char **argv)
{
    unsigned mac[6];
    if (argc != 5 || sscanf(argv[2], "%x:%x:%x:%x:%x:%x", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6)
        fail("use", "flood INTERFACE STATION 4|6 ADDRESSES");
    for (unsigned i = 0; i < 6; i++)
        station[i] = mac[i];
    own[0] = 2;
    own[5] = 9;
    family = atoi(argv[3]);
    destinations = read_addresses(family, argv[4], &destination_count);
    struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(argv[1]) };
    int bypass = 1;
    /* Protocol 0: it receives nothing. */
    sock = socket(AF_PACKET, SOCK_RAW, 0);
    if (sock < 0 || bind(sock, (struct sockaddr *)&at, sizeof(at)) ||
        setsockopt(sock, SOL_PACKET, PACKET_QDISC_BYPASS, &bypass, sizeof(bypass)))
        fail("no packet socket on", argv[1]);
    serve_requests(serve);
    return 0;
}
