/* Clients of short answers over HTTP/1.1 in one thread: each has a connection of its own, waits for an answer before it
 * asks again, and goes through the requests in turn.
 *
 *   http_load HOST PORT CONNECTIONS WARM_S SECONDS REQUESTS
 *
 * REQUESTS  file with whole requests, heads only, one after the other
 *
 * Prints one line of JSON: answers and bytes within SECONDS, answers that were not 200, and percentiles in µs from the
 * request's write to the answer's last byte. Answers must have a Content-Length.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 18, REQUESTS_MAX = 4096, CONNECTIONS_MAX = 4096, FILE_BYTES_MAX = 1 << 22 };
/* Latencies are counted in slots of 1 µs up to 1 s. */
enum { SLOTS = 1000000 };

struct connection {
    int fd;
    uint32_t next;  /* the request that it sends */
    size_t filled;  /* bytes of an answer whose head is not whole yet */
    size_t left;    /* bytes of the body that are still to come */
    int in_body;
    int64_t sent_ns;
    char head[16384];
};

static struct connection connections[CONNECTIONS_MAX];
static struct { const char *at; size_t size; } requests[REQUESTS_MAX];
static uint32_t request_count;
static uint32_t slots[SLOTS + 1];
static uint64_t answers, bytes, others;
static int counting;
static char buffer[BUFFER_BYTES], file[FILE_BYTES_MAX];

static void die(const char *what) {
    fprintf(stderr, "http_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void ask(struct connection *c) {
    c->sent_ns = now_ns();
    size_t size = requests[c->next].size;
    if (send(c->fd, requests[c->next].at, size, MSG_NOSIGNAL) != (ssize_t)size)
        die("a request could not be sent as a whole");
    c->next = (c->next + 1) % request_count;
}

static void answered(struct connection *c) {
    if (counting) {
        int64_t us = (now_ns() - c->sent_ns) / 1000;
        slots[us < SLOTS ? us : SLOTS]++;
        answers++;
    }
    ask(c);
}

/* The head is whole: how long is the body? */
static size_t body_size(struct connection *c) {
    if (memcmp(c->head, "HTTP/1.1 200", 12) != 0)
        others++;
    char *line = strcasestr(c->head, "\r\ncontent-length:");
    if (line == NULL) {
        errno = EPROTO;
        die("an answer without Content-Length");
    }
    return strtoul(line + 17, NULL, 10);
}

static void take(struct connection *c, const char *data, size_t size) {
    if (counting)
        bytes += size;
    while (size > 0) {
        if (!c->in_body) {
            size_t room = sizeof c->head - 1 - c->filled, copied = size < room ? size : room;
            memcpy(c->head + c->filled, data, copied);
            c->head[c->filled + copied] = 0;
            char *end = strstr(c->filled > 3 ? c->head + c->filled - 3 : c->head, "\r\n\r\n");
            if (end == NULL) {
                c->filled += copied;
                if (copied == room) {
                    errno = EMSGSIZE;
                    die("the head of an answer");
                }
                return;
            }
            size_t of_head = (size_t)(end + 4 - c->head) - c->filled;
            end[2] = 0;
            c->left = body_size(c);
            c->filled = 0;
            c->in_body = 1;
            data += of_head;
            size -= of_head;
        }
        size_t part = size < c->left ? size : c->left;
        c->left -= part;
        data += part;
        size -= part;
        if (c->left > 0)
            return;
        c->in_body = 0;
        answered(c);
    }
    if (c->in_body && c->left == 0) {
        c->in_body = 0;
        answered(c);
    }
}

static void read_requests(const char *path) {
    int fd = open(path, O_RDONLY);
    ssize_t size = fd < 0 ? -1 : read(fd, file, sizeof file - 1);
    if (size <= 0)
        die(path);
    close(fd);
    file[size] = 0;
    for (char *at = file, *end; (end = strstr(at, "\r\n\r\n")) != NULL && request_count < REQUESTS_MAX; at = end + 4) {
        requests[request_count].at = at;
        requests[request_count++].size = (size_t)(end + 4 - at);
    }
    if (request_count == 0)
        die("no request");
}

static int64_t percentile_us(int per_mille) {
    uint64_t wanted = (answers * (uint64_t)per_mille + 999) / 1000, seen = 0;
    for (int us = 0; us <= SLOTS; us++)
        if ((seen += slots[us]) >= wanted && seen > 0)
            return us;
    return 0;
}

static void open_all(const char *host, int port, int count, int epoll) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1)
        die(host);
    for (int i = 0; i < count; i++) {
        struct connection *c = &connections[i];
        int on = 1;
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0)
            die("connect");
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        c->next = (uint32_t)i % request_count;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) != 0)
            die("epoll_ctl");
    }
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "http_load HOST PORT CONNECTIONS WARM_S SECONDS REQUESTS\n");
        return 2;
    }
    int count = atoi(argv[3]), epoll = epoll_create1(0);
    if (count < 1 || count > CONNECTIONS_MAX)
        die("CONNECTIONS");
    read_requests(argv[6]);
    open_all(argv[1], atoi(argv[2]), count, epoll);
    int64_t begins = now_ns() + (int64_t)(atof(argv[4]) * 1e9), ends = begins + (int64_t)(atof(argv[5]) * 1e9);
    for (int i = 0; i < count; i++)
        ask(&connections[i]);
    int64_t now;
    while ((now = now_ns()) < ends) {
        if (!counting && now >= begins) {
            counting = 1;
            printf("counting\n"); /* whoever started this looks at the server's clock now */
            fflush(stdout);
        }
        struct epoll_event ready[256];
        int found = epoll_wait(epoll, ready, 256, 100);
        for (int i = 0; i < found; i++) {
            struct connection *c = ready[i].data.ptr;
            ssize_t size = recv(c->fd, buffer, sizeof buffer, 0);
            if (size == 0 || (size < 0 && errno != EAGAIN))
                die("a connection ended");
            if (size > 0)
                take(c, buffer, (size_t)size);
        }
    }
    double seconds = (double)(now - begins) / 1e9;
    printf("{\"answers\":%lu,\"others\":%lu,\"bytes\":%lu,\"seconds\":%.6f,\"p50_us\":%ld,\"p99_us\":%ld}\n", answers, others,
           bytes, seconds, percentile_us(500), percentile_us(990));
    return 0;
}
