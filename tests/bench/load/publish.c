/* Publishes quotes to channels of one symbol each, by HTTP POST over one pipelined connection.
 *
 *   publish HOST PORT TARGET SYMBOLS SECONDS [name=number ...]
 *
 * TARGET   request target; the symbol is put behind it
 * SYMBOLS  file with one symbol per line; they take turns, and each turn adds 1 to a symbol's volume
 *
 *   rate=N    messages per second; 0 sends as soon as earlier ones were answered
 *   window=N  messages on their way at most
 *   lines=N   quotes in one message, for a publisher that collects before it sends
 *   first=N   volume of the first quote of each symbol
 *
 * Prints one line of JSON at the end: messages sent and answered, and seconds taken.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SYMBOLS_MAX = 8192, QUOTE_BYTES = 512, OUT_BYTES = 1 << 20, ANSWER_S = 10 };

static char *symbols[SYMBOLS_MAX];
static int symbol_count, window = 16, lines = 1, first = 1;
static double rate;
static char out[OUT_BYTES], in[65536];
static size_t out_len, out_sent;

static int64_t clock_ns(clockid_t which) {
    struct timespec at;
    clock_gettime(which, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "publish: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* As long as a quote of ours, with the same fields. */
static int quote(char *at, const char *symbol, int volume) {
    int64_t now = clock_ns(CLOCK_REALTIME);
    time_t seconds = now / 1000000000;
    struct tm utc;
    char date[24];
    gmtime_r(&seconds, &utc);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
    int nanos = now % 1000000000, cents = 10000 + volume % 1000;
    return snprintf(at, QUOTE_BYTES,
                    "{\"symbol\":\"%s\",\"name\":\"Bench %s\",\"price\":%d.%02d,\"size\":1,\"bid\":null,\"bidSize\":null,"
                    "\"ask\":null,\"askSize\":null,\"open\":100.01,\"high\":109.99,\"low\":100.01,\"previousClose\":100.00,"
                    "\"change\":0.01,\"changePercent\":0.01,\"volume\":%d,\"time\":\"%s.%09dZ\",\"receivedAt\":\"%s.%03dZ\","
                    "\"stale\":false}",
                    symbol, symbol, cents / 100, cents % 100, volume, date, nanos, date, nanos / 1000000);
}

static void post(const char *target, long number) {
    static char body[QUOTE_BYTES * 1024];
    const char *symbol = symbols[number % symbol_count];
    int len = 0, turn = number / symbol_count * lines;
    for (int i = 0; i < lines; i++) {
        if (i) body[len++] = '\n';
        len += quote(body + len, symbol, first + turn + i);
    }
    out_len += snprintf(out + out_len, OUT_BYTES - out_len,
                        "POST %s%s HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n", target, symbol, len);
    if (out_len + len > OUT_BYTES) { errno = ENOBUFS; die("a message is too large"); }
    memcpy(out + out_len, body, len);
    out_len += len;
}

static void flush(int fd) {
    ssize_t done = send(fd, out + out_sent, out_len - out_sent, MSG_NOSIGNAL);
    if (done < 0 && errno != EAGAIN) die("send");
    if (done > 0) out_sent += done;
    if (out_sent == out_len) out_sent = out_len = 0;
}

/* How many answers began in what came. One that is no success ends the program. */
static long answers(int fd) {
    static const char start[] = "HTTP/1.1 ";
    static size_t kept;
    long found = 0;
    for (;;) {
        ssize_t got = recv(fd, in + kept, sizeof in - kept, 0);
        if (got < 0 && errno == EAGAIN) return found;
        if (got <= 0) die("the server closed the connection");
        char *at = in, *end = in + kept + got, *next;
        while ((next = memmem(at, end - at, start, sizeof start - 1)) && next + sizeof start - 1 < end) {
            at = next + sizeof start - 1;
            if (*at != '2') { fprintf(stderr, "publish: refused: %.60s\n", next); exit(3); }
            found++;
        }
        kept = next ? end - next : end - at < (long)sizeof start - 2 ? end - at : (long)sizeof start - 2;
        memmove(in, end - kept, kept);
    }
}

static int connected(const char *host, const char *port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    inet_pton(AF_INET, host, &to.sin_addr);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void read_symbols(const char *path) {
    char text[64];
    FILE *file = fopen(path, "r");
    if (!file) die(path);
    while (symbol_count < SYMBOLS_MAX && fscanf(file, "%63s", text) == 1) symbols[symbol_count++] = strdup(text);
    fclose(file);
}

int main(int count, char **words) {
    if (count < 6) { fprintf(stderr, "usage: publish HOST PORT TARGET SYMBOLS SECONDS [name=number ...]\n"); return 2; }
    for (int i = 6; i < count; i++) {
        if (!strncmp(words[i], "rate=", 5)) rate = atof(words[i] + 5);
        else if (!strncmp(words[i], "window=", 7)) window = atoi(words[i] + 7);
        else if (!strncmp(words[i], "lines=", 6)) lines = atoi(words[i] + 6);
        else if (!strncmp(words[i], "first=", 6)) first = atoi(words[i] + 6);
        else { fprintf(stderr, "publish: unknown option %s\n", words[i]); return 2; }
    }
    read_symbols(words[4]);
    int fd = connected(words[1], words[2]);
    long sent = 0, answered = 0;
    int64_t begun = clock_ns(CLOCK_MONOTONIC), until = begun + atof(words[5]) * 1e9, now = begun;
    while (now < until || (answered < sent && now < until + ANSWER_S * 1000000000LL)) {
        long due = now >= until ? sent : rate > 0 ? (long)((now - begun) / 1e9 * rate) + 1 : sent + window;
        while (sent < due && sent - answered < window && out_len < OUT_BYTES / 2) post(words[3], sent++);
        if (out_len) flush(fd);
        struct pollfd ready = {.fd = fd, .events = POLLIN | (out_len ? POLLOUT : 0)};
        poll(&ready, 1, 1);
        if (ready.revents & POLLIN) answered += answers(fd);
        now = clock_ns(CLOCK_MONOTONIC);
    }
    printf("{\"sent\":%ld,\"answered\":%ld,\"seconds\":%.3f}\n", sent, answered, (now - begun) / 1e9);
    return 0;
}
