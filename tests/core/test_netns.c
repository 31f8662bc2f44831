/* SPDX-License-Identifier: MIT
 * Network namespaces of the test's own: a TUN device whose packets a goroutine
 * answers by hand, and two namespaces, joined by a pair of virtual Ethernet
 * devices, that carry a TCP conversation. Skipped where that is not allowed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* -- rtnetlink ------------------------------------------------------------------------ */

typedef struct request {
    struct nlmsghdr h;
    union {
        struct ifinfomsg link;
        struct ifaddrmsg addr;
    } u;
    char room[512];
} request;

static void begin(request *r, int type, size_t size, int flags) {
    memset(r, 0, sizeof *r);
    r->h.nlmsg_len = (uint32_t)NLMSG_LENGTH(size);
    r->h.nlmsg_type = (uint16_t)type;
    r->h.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
}

static struct rtattr *add(request *r, int type, const void *data, size_t n) {
    struct rtattr *a = (struct rtattr *)(void *)((char *)r + NLMSG_ALIGN(r->h.nlmsg_len));
    a->rta_type = (uint16_t)type;
    a->rta_len = (uint16_t)RTA_LENGTH(n);
    if (n) memcpy(RTA_DATA(a), data, n);
    r->h.nlmsg_len = (uint32_t)(NLMSG_ALIGN(r->h.nlmsg_len) + RTA_ALIGN(a->rta_len));
    return a;
}

static void close_nest(request *r, struct rtattr *a) { a->rta_len = (uint16_t)((char *)r + r->h.nlmsg_len - (char *)a); }

/* The kernel's answer: 0 or -errno. */
static int ask(request *r) {
    struct {
        struct nlmsghdr  h;
        struct nlmsgerr e;
        char             room[512];
    } answer;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), rc = -EIO;
    if (fd < 0) return -errno;
    if (send(fd, r, r->h.nlmsg_len, 0) >= 0 && recv(fd, &answer, sizeof answer, 0) >= (ssize_t)sizeof answer.h)
        rc = answer.h.nlmsg_type == NLMSG_ERROR ? answer.e.error : -EIO;
    close(fd);
    return rc;
}

static int set_up(const char *name) {
    request r;
    begin(&r, RTM_NEWLINK, sizeof r.u.link, 0);
    r.u.link.ifi_index = (int)if_nametoindex(name);
    r.u.link.ifi_flags = r.u.link.ifi_change = IFF_UP;
    return ask(&r);
}

static int give_address(const char *name, const char *address) {
    request        r;
    struct in_addr ip;
    inet_pton(AF_INET, address, &ip);
    begin(&r, RTM_NEWADDR, sizeof r.u.addr, NLM_F_CREATE | NLM_F_REPLACE);
    r.u.addr = (struct ifaddrmsg){ .ifa_family = AF_INET, .ifa_prefixlen = 24, .ifa_index = if_nametoindex(name) };
    add(&r, IFA_LOCAL, &ip, sizeof ip);
    add(&r, IFA_ADDRESS, &ip, sizeof ip);
    return ask(&r);
}

/* Two devices, the second in the namespace of ns. */
static int make_veth(const char *here, const char *there, int ns) {
    request          r;
    struct ifinfomsg peer = { 0 };
    begin(&r, RTM_NEWLINK, sizeof r.u.link, NLM_F_CREATE | NLM_F_EXCL);
    add(&r, IFLA_IFNAME, here, strlen(here) + 1);
    struct rtattr *info = add(&r, IFLA_LINKINFO, NULL, 0);
    add(&r, IFLA_INFO_KIND, "veth", 4);
    struct rtattr *data = add(&r, IFLA_INFO_DATA, NULL, 0);
    struct rtattr *end = add(&r, VETH_INFO_PEER, &peer, sizeof peer);
    add(&r, IFLA_IFNAME, there, strlen(there) + 1);
    add(&r, IFLA_NET_NS_FD, &ns, sizeof ns);
    close_nest(&r, end);
    close_nest(&r, data);
    close_nest(&r, info);
    return ask(&r);
}

/* -- TUN --------------------------------------------------------------------------------- */

static struct {
    int tun, ping; /* < 0: could not be had */
} devices;

static void *open_tun(void *arg) {
    struct ifreq ifr = { .ifr_flags = IFF_TUN | IFF_NO_PI };
    devices.tun = devices.ping = -1;
    if (unshare(CLONE_NEWNET) != 0) return arg;
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0) return arg;
    strcpy(ifr.ifr_name, "tdl0");
    if (ioctl(fd, TUNSETIFF, &ifr) == 0 && set_up("tdl0") == 0 && give_address("tdl0", "10.77.0.1") == 0) {
        devices.tun = fd;
        devices.ping = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
    } else {
        close(fd);
    }
    return arg;
}

static uint16_t checksum(const void *data, size_t n) {
    const uint8_t *p = data;
    uint32_t       sum = 0;
    for (size_t i = 0; i + 1 < n; i += 2) sum += (uint32_t)(p[i] << 8 | p[i + 1]);
    if (n % 2) sum += (uint32_t)(p[n - 1] << 8);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

/* Answers each ICMP echo request on the device, as the host at its other end would. */
static void answer_pings(void *arg) {
    uint8_t packet[1600];
    int64_t n;
    while ((n = tdl_fd_read(arg, packet, sizeof packet)) > 0) {
        struct iphdr    ip;
        struct icmphdr icmp;
        memcpy(&ip, packet, sizeof ip);
        size_t head = (size_t)ip.ihl * 4;
        if (ip.version != 4 || ip.protocol != IPPROTO_ICMP || (size_t)n < head + sizeof icmp) continue;
        memcpy(&icmp, packet + head, sizeof icmp);
        if (icmp.type != ICMP_ECHO) continue;
        icmp.type = ICMP_ECHOREPLY;
        icmp.checksum = 0;
        memcpy(packet + head, &icmp, sizeof icmp);
        icmp.checksum = checksum(packet + head, (size_t)n - head);
        memcpy(packet + head, &icmp, sizeof icmp);
        uint32_t from = ip.saddr;
        ip.saddr = ip.daddr;
        ip.daddr = from;
        memcpy(packet, &ip, sizeof ip);
        CHECK_RC(tdl_fd_write(arg, packet, (size_t)n), n);
    }
    CHECK_RC(n, TDL_ECLOSED);
}

TEST_G(tun, "D35 a packet to a TUN device is read by a goroutine, which answers it") {
    pthread_t          thread;
    struct sockaddr_in to = { .sin_family = AF_INET };
    uint8_t            packet[256];
    tdl_fd            *tun = NULL, *ping = NULL;
    crew               c;
    REQUIRE(pthread_create(&thread, NULL, open_tun, NULL) == 0);
    pthread_join(thread, NULL);
    if (devices.ping < 0) {
        check_skip("no TUN device in a namespace of one's own");
        return;
    }
    CHECK_RC(tdl_fd_adopt(devices.tun, &tun), 0);
    CHECK_RC(tdl_fd_adopt(devices.ping, &ping), 0);
    inet_pton(AF_INET, "10.77.0.2", &to.sin_addr);
    CHECK_INT(connect(devices.ping, (struct sockaddr *)&to, sizeof to), 0);
    crew_open(&c);
    crew_go(&c, answer_pings, tun);
    tdl_fd_set_deadline(ping, tdl_now() + 10 * TDL_SECOND);
    for (uint16_t i = 1; i <= 20; i++) {
        struct icmphdr echo = { .type = ICMP_ECHO, .un.echo = { htons(4711), htons(i) } };
        memcpy(packet, &echo, sizeof echo);
        memset(packet + sizeof echo, i, 56);
        echo.checksum = checksum(packet, sizeof echo + 56);
        memcpy(packet, &echo, sizeof echo);
        CHECK_RC(tdl_fd_write(ping, packet, sizeof echo + 56), sizeof echo + 56);
        int64_t n = tdl_fd_read(ping, packet, sizeof packet);
        if (!CHECK_RC(n, 20 + sizeof echo + 56)) break;
        memcpy(&echo, packet + 20, sizeof echo);
        CHECK_INT(echo.type, ICMP_ECHOREPLY);
        CHECK_INT(ntohs(echo.un.echo.sequence), i);
        CHECK_INT(packet[20 + sizeof echo + 55], i);
    }
    CHECK_RC(tdl_fd_close(tun), 0);
    crew_close(&c);
    tdl_fd_free(tun);
    tdl_fd_free(ping);
}

/* -- TAP: a device of frames ------------------------------------------------------------------ */

static struct {
    int tap, ask; /* < 0: could not be had */
} tap_devices;

static void *open_tap(void *arg) {
    struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
    tap_devices.tap = tap_devices.ask = -1;
    if (unshare(CLONE_NEWNET) != 0) return arg;
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0) return arg;
    strcpy(ifr.ifr_name, "tdl1");
    if (ioctl(fd, TUNSETIFF, &ifr) == 0 && set_up("tdl1") == 0 && give_address("tdl1", "10.79.0.1") == 0) {
        tap_devices.tap = fd;
        tap_devices.ask = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    } else {
        close(fd);
    }
    return arg;
}

typedef struct frame {
    uint8_t to[6], from[6];
    uint8_t type[2]; /* 0x0806: ARP */
    uint8_t kinds[6], op[2];
    uint8_t from_hw[6], from_ip[4], to_hw[6], to_ip[4];
} frame;

/* The kernel asks who has the address: answered by hand, and then it sends what it
 * had for it. */
TEST_G(tap, "D35 a TAP device brings frames: a question of the kernel's is answered, and its datagram comes") {
    pthread_t          thread;
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(7777) };
    uint8_t            packet[1600];
    tdl_fd            *f = NULL;
    int                answered = 0, came = 0;
    REQUIRE(pthread_create(&thread, NULL, open_tap, NULL) == 0);
    pthread_join(thread, NULL);
    if (tap_devices.ask < 0) {
        check_skip("no TAP device in a namespace of one's own");
        return;
    }
    CHECK_RC(tdl_fd_adopt(tap_devices.tap, &f), 0);
    tdl_fd_set_deadline(f, tdl_now() + 15 * TDL_SECOND);
    inet_pton(AF_INET, "10.79.0.2", &to.sin_addr);
    CHECK_INT(sendto(tap_devices.ask, "over the wire", 13, 0, (struct sockaddr *)&to, sizeof to), 13);
    while (!came) {
        int64_t n = tdl_fd_read(f, packet, sizeof packet);
        frame   a;
        if (!CHECK(n > 14)) break;
        memcpy(&a, packet, sizeof a);
        if (n >= (int64_t)sizeof a && a.type[0] == 8 && a.type[1] == 6 && a.op[1] == 1 &&
            memcmp(a.to_ip, &to.sin_addr, 4) == 0) {
            static const uint8_t self[6] = { 2, 0, 0, 0, 0, 2 };
            frame                b = a;
            memcpy(b.to, a.from, 6);
            memcpy(b.from, self, 6);
            b.op[1] = 2; /* is at */
            memcpy(b.from_hw, self, 6);
            memcpy(b.from_ip, a.to_ip, 4);
            memcpy(b.to_hw, a.from_hw, 6);
            memcpy(b.to_ip, a.from_ip, 4);
            CHECK_RC(tdl_fd_write(f, &b, sizeof b), sizeof b);
            answered++;
        }
        if (n == 14 + 20 + 8 + 13 && packet[12] == 8 && packet[13] == 0) came = memcmp(packet + 42, "over the wire", 13) == 0;
    }
    CHECK(answered > 0);
    CHECK(came);
    tdl_fd_free(f);
    close(tap_devices.ask);
}

/* -- Two namespaces ---------------------------------------------------------------------------- */

static struct {
    int           ns; /* the first thread's namespace */
    int           ready;
    tdl_chan     *steps;
    tdl_listener *l;
} two;

static int own_namespace(void) {
    if (unshare(CLONE_NEWNET) != 0) return -1;
    return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

/* Waits for the device that the other makes, and listens behind it. */
static void *server(void *arg) {
    two.ns = own_namespace();
    send_int(two.steps, two.ns);
    if (two.ns < 0) return arg;
    if (recv_int(two.steps) == 0) {
        if (CHECK_INT(set_up("tdlb"), 0) && CHECK_INT(give_address("tdlb", "10.78.0.2"), 0))
            CHECK_RC(tdl_listen("tcp", "10.78.0.2:0", &two.l), 0);
        send_int(two.steps, two.l ? tdl_listener_port(two.l) : 0);
        tdl_conn *c = NULL;
        char      buf[100];
        int64_t   n;
        if (two.l) tdl_listener_set_deadline(two.l, tdl_now() + 10 * TDL_SECOND);
        if (two.l && CHECK_RC(tdl_listener_accept(two.l, &c), 0)) {
            tdl_conn_set_timeout(c, 10 * TDL_SECOND);
            while ((n = tdl_conn_read(c, buf, sizeof buf)) > 0) CHECK_RC(tdl_conn_write(c, buf, (size_t)n), n);
            CHECK_RC(n, 0);
        }
        tdl_conn_free(c);
        tdl_listener_free(two.l);
    }
    close(two.ns);
    return arg;
}

static void *client(void *arg) {
    int own = own_namespace(), there = (int)recv_int(two.steps);
    if (own < 0 || there < 0 || make_veth("tdla", "tdlb", there) != 0 || set_up("tdla") != 0 ||
        give_address("tdla", "10.78.0.1") != 0) {
        if (there >= 0) send_int(two.steps, 1);
        close(own);
        return arg;
    }
    two.ready = 1;
    send_int(two.steps, 0);
    char      address[ADDRESS_SIZE], text[ADDRESS_SIZE], block[100];
    tdl_conn *c = NULL;
    snprintf(address, sizeof address, "10.78.0.2:%d", (int)recv_int(two.steps));
    if (CHECK_RC(tdl_dial("tcp", address, 10 * TDL_SECOND, &c), 0)) {
        tdl_conn_set_timeout(c, 10 * TDL_SECOND);
        CHECK(tdl_conn_sockname(c, text, sizeof text) > 0 && strncmp(text, "10.78.0.1:", 10) == 0);
        for (int i = 0; i < 200; i++) {
            memset(block, i, sizeof block);
            CHECK_RC(tdl_conn_write(c, block, sizeof block), sizeof block);
            net_read_full(c, block, sizeof block);
            CHECK_INT((unsigned char)block[99], i);
        }
    }
    tdl_conn_free(c);
    close(own);
    return arg;
}

TEST(veth, "D2 two namespaces that are joined by a cable carry a TCP conversation") {
    pthread_t a, b;
    check_keeps_fds(); /* of the runtime that the threads start */
    two.ready = 0;
    two.l = NULL;
    two.steps = tdl_chan_new(0);
    REQUIRE(pthread_create(&a, NULL, server, NULL) == 0);
    REQUIRE(pthread_create(&b, NULL, client, NULL) == 0);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    tdl_chan_free(two.steps);
    if (!two.ready) check_skip("no network namespaces");
}
