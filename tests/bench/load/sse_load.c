/* Many clients of server-sent events in one thread: they connect, count what they get and how old it is, and remember
 * the newest quote of each symbol, or whether its ticks came without a gap.
 *
 *   sse_load HOST PORT PATHS HEADERS VALUES [name=number ...]
 *
 * PATHS    file with one request target per line; each line is one client
 * HEADERS  file with header lines that every request carries (a bearer token)
 * VALUES   file that is written at the end: "client symbol volume price" per line, price in 1e-4 USD; of streams of
 *          every tick the sequence number instead of the volume
 *
 *   slow=P         percent of the clients that take 4 KiB every 250 ms only
 *   reconnect=P    percent of the clients that close and come back with Last-Event-ID, per second
 *   pending=N      connections that are being opened at the same time
 *   source=N       second octet of the source addresses 127.N.0.1 and following, 8,000 clients each
 *   snapshots=0|1  whether a client counts as there only once it has got a first event
 *
 * Commands on stdin, one per line; each is answered by one line of JSON:
 *   open    make all connections; answered once all are there, or were refused
 *   mark    counters so far; latencies and the longest silence begin anew
 *   settle  nobody is slow or leaves any more; answered once nothing came for half a second; writes VALUES and ends
 * The end of stdin ends the program.
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Thousands of clients are thousands of machines, none of which interrupts the server's core. One process that waits for
 * the next byte of any of them would be woken by nearly every write of the server, at the server's cost; so this one
 * looks every millisecond, whoever serves it. */
enum { REST_NS = 1000000 };
enum { READ_BYTES = 262144, SLOW_BYTES = 4096, SLOW_RCVBUF = 8192, SLOW_EVERY_MS = 250 };
enum { SYMBOLS_MAX = 8192, LINE_MAX_BYTES = 1 << 20, SEEN_BYTES = 640, PER_SOURCE = 8000 };
/* Latencies are counted in slots of 0.1 ms up to 20 s. */
enum { SLOT_NS = 100000, SLOTS = 200000 };
enum { QUIET_MS = 500, SETTLE_MS = 30000, RETRY_MS = 200 };

enum phase { IDLE, CONNECTING, HEAD, SIZE, BODY, BODY_END, PLAIN };

struct client {
    int fd;
    enum phase phase;
    const char *path;
    size_t left; /* bytes of the chunk that are still to come */
    char *rest;  /* a line that began in earlier bytes */
    uint32_t rest_len, rest_cap;
    char id[160], next_id[160], event[16]; /* an id counts once its event is complete */
    uint8_t slow, there, again;
    int64_t due_ms; /* when to connect again */
    uint32_t *volume, *price;
};

struct symbol {
    char name[16];
    uint32_t len;
    uint32_t volume, price; /* what the frame below says */
    int64_t time_ns;
    uint32_t seen_len;
    char seen[SEEN_BYTES];
};

static struct client *clients;
static int total, there_count, opening, opened_at, waiting;
static struct symbol *symbols;
static int symbol_count, slot_of[SYMBOLS_MAX * 2];
static uint32_t *latencies;
static uint64_t events, bytes, reads_done, specials, resets, pings, gaps, repeats, reconnects, lost, slow_lost, refused, failed, malformed;
static int64_t longest_ns;
static int statuses[600];
static char *headers;
static struct sockaddr_in server;
static int epoll_fd, slow_percent, pending_max = 64, source = 1, want_snapshots = 1, settled;
static double reconnect_percent;
static char buffer[READ_BYTES];
static int64_t now_wall_ns, last_data_ms;

static int64_t clock_ns(clockid_t which) {
    struct timespec at;
    clock_gettime(which, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static int64_t now_ms(void) { return clock_ns(CLOCK_MONOTONIC) / 1000000; }

static void die(const char *what) {
    fprintf(stderr, "sse_load: %s: %s\n", what, strerror(errno));
    exit(2);
}

static char *file_text(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *text = malloc(size + 1);
    if (fread(text, 1, size, file) != (size_t)size) die(path);
    text[size] = 0;
    fclose(file);
    return text;
}

/* -- quotes ------------------------------------------------------------------------------------------------------- */

static int symbol_number(const char *name, size_t len) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < len; i++) hash = (hash ^ (unsigned char)name[i]) * 16777619u;
    for (uint32_t at = hash & (SYMBOLS_MAX * 2 - 1);; at = (at + 1) & (SYMBOLS_MAX * 2 - 1)) {
        int number = slot_of[at] - 1;
        if (number < 0) {
            if (symbol_count == SYMBOLS_MAX || len >= sizeof symbols[0].name) return -1;
            slot_of[at] = ++symbol_count;
            struct symbol *made = &symbols[symbol_count - 1];
            memcpy(made->name, name, len);
            made->len = len;
            return symbol_count - 1;
        }
        if (symbols[number].len == len && !memcmp(symbols[number].name, name, len)) return number;
    }
}

static int64_t days_since_1970(int year, int month, int day) {
    year -= month <= 2;
    int64_t era = year / 400;
    int of_era = year - era * 400, of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + (of_era * 365 + of_era / 4 - of_era / 100 + of_year) - 719468;
}

static int two(const char *at) { return (at[0] - '0') * 10 + at[1] - '0'; }

/* 2026-01-31T12:34:56.123456789Z with any number of decimals */
static int64_t iso_ns(const char *at) {
    int64_t seconds = days_since_1970(two(at) * 100 + two(at + 2), two(at + 5), two(at + 8)) * 86400;
    seconds += two(at + 11) * 3600 + two(at + 14) * 60 + two(at + 17);
    int64_t nanos = 0, unit = 100000000;
    if (at[19] == '.')
        for (at += 20; *at >= '0' && *at <= '9'; at++, unit /= 10) nanos += (*at - '0') * unit;
    return seconds * 1000000000LL + nanos;
}

static uint32_t decimal_e4(const char *at) {
    uint64_t value = 0;
    int decimals = -1;
    for (; (*at >= '0' && *at <= '9') || *at == '.'; at++) {
        if (*at == '.') decimals = 0;
        else if (decimals < 4) {
            value = value * 10 + (*at - '0');
            if (decimals >= 0) decimals++;
        }
    }
    for (decimals = decimals < 0 ? 0 : decimals; decimals < 4; decimals++) value *= 10;
    return value;
}

static const char *field(const char *line, size_t len, const char *name) {
    const char *at = memmem(line, len, name, strlen(name));
    return at ? at + strlen(name) : NULL;
}

/* The same bytes come to many clients: they are read once and compared afterwards. `line` ends with a line break. */
static void quote(struct client *to, const char *line, size_t len, int is_tick) {
    static const char head[] = "{\"symbol\":\"";
    if (len < 64 || memcmp(line, head, sizeof head - 1)) { specials++; return; }
    const char *name = line + sizeof head - 1, *end = memchr(name, '"', 20);
    int number = end ? symbol_number(name, end - name) : -1;
    if (number < 0) { malformed++; return; }
    struct symbol *of = &symbols[number];
    if (of->seen_len != len || memcmp(of->seen, line, len)) {
        const char *volume = field(line, len, is_tick ? "\"sequence\":" : "\"volume\":"), *price = field(line, len, "\"price\":");
        const char *time = field(line, len, "\"time\":\"");
        if (!volume || !price) { malformed++; return; }
        of->volume = strtoul(volume, NULL, 10);
        of->price = decimal_e4(price);
        of->time_ns = time ? iso_ns(time) : 0;
        of->seen_len = len <= SEEN_BYTES ? len : 0;
        memcpy(of->seen, line, of->seen_len);
    }
    events++;
    uint32_t before = to->volume[number];
    if (is_tick && before && of->volume != before + 1) {
        if (of->volume > before) gaps++;
        else repeats++;
    }
    to->volume[number] = of->volume;
    to->price[number] = of->price;
    if (of->time_ns) {
        int64_t age = now_wall_ns - of->time_ns;
        if (age > longest_ns) longest_ns = age;
        latencies[age < 0 ? 0 : age / SLOT_NS < SLOTS ? age / SLOT_NS : SLOTS - 1]++;
    }
}

/* -- the answer: head, chunks, lines ------------------------------------------------------------------------------ */

static void there(struct client *c) {
    if (c->there) return;
    c->there = 1;
    there_count++;
}

/* The ticks up to `to` will not come; what follows one that is not known is no gap. */
static void reset(struct client *c, const char *at, size_t len) {
    const char *name = field(at, len, "\"symbol\":\""), *end = name ? memchr(name, '"', 20) : NULL;
    const char *to = field(at, len, "\"to\":");
    int number = end ? symbol_number(name, end - name) : -1;
    resets++;
    if (number < 0 || !to) malformed++;
    else c->volume[number] = strtoul(to, NULL, 10);
}

static void line(struct client *c, const char *at, size_t len) {
    if (len && at[len - 1] == '\r') len--;
    if (!len) {
        if (c->next_id[0]) strcpy(c->id, c->next_id);
        c->next_id[0] = c->event[0] = 0;
        return;
    }
    if (at[0] == ':') { pings++; return; }
    if (len > 6 && !memcmp(at, "data: ", 6)) {
        int is_tick = !strcmp(c->event, "tick");
        if (is_tick || !c->event[0]) {
            quote(c, at + 6, len - 6, is_tick);
            there(c);
        } else if (!strcmp(c->event, "reset")) reset(c, at + 6, len - 6);
        else specials++;
    } else if (len > 4 && len - 4 < sizeof c->id && !memcmp(at, "id: ", 4)) {
        memcpy(c->next_id, at + 4, len - 4);
        c->next_id[len - 4] = 0;
    } else if (len > 7 && len - 7 < sizeof c->event && !memcmp(at, "event: ", 7)) {
        memcpy(c->event, at + 7, len - 7);
        c->event[len - 7] = 0;
    }
}

static void keep(struct client *c, const char *at, size_t len) {
    if (c->rest_len + len > LINE_MAX_BYTES) { malformed++; return; }
    if (c->rest_len + len > c->rest_cap) {
        c->rest_cap = (c->rest_len + len) * 2;
        if (!(c->rest = realloc(c->rest, c->rest_cap))) die("memory");
    }
    memcpy(c->rest + c->rest_len, at, len);
    c->rest_len += len;
}

static void lines(struct client *c, const char *at, size_t len) {
    const char *end = at + len, *stop;
    if (c->rest_len && (stop = memchr(at, '\n', len))) {
        keep(c, at, stop - at);
        line(c, c->rest, c->rest_len);
        c->rest_len = 0;
        at = stop + 1;
    }
    if (!c->rest_len)
        for (; (stop = memchr(at, '\n', end - at)); at = stop + 1) line(c, at, stop - at);
    if (at < end) keep(c, at, end - at);
}

/* Returns the bytes of the head that are in `at`, 0 when it goes on. */
static size_t head(struct client *c, const char *at, size_t len) {
    size_t before = c->rest_len;
    keep(c, at, len);
    char *stop = memmem(c->rest, c->rest_len, "\r\n\r\n", 4);
    if (!stop) return 0;
    size_t used = stop + 4 - c->rest - before;
    int status = c->rest_len > 12 ? atoi(c->rest + 9) : 0;
    statuses[status > 0 && status < 600 ? status : 0]++;
    *stop = 0;
    c->phase = strcasestr(c->rest, "transfer-encoding: chunked") ? SIZE : PLAIN;
    c->left = c->rest_len = 0;
    if (status != 200) { refused++; return SIZE_MAX; }
    if (!want_snapshots) there(c);
    return used;
}

/* Returns 0 when the answer is over. */
static int body(struct client *c, const char *at, size_t len) {
    const char *end = at + len;
    while (at < end) {
        if (c->phase == SIZE) {
            char digit = *at++;
            if (digit == '\n') {
                if (!c->left) return 0;
                c->phase = BODY;
            } else if (digit != '\r') c->left = c->left * 16 + (digit <= '9' ? digit - '0' : (digit | 32) - 'a' + 10);
        } else if (c->phase == BODY_END) {
            if (*at++ == '\n') c->phase = SIZE;
        } else {
            size_t take = c->phase == PLAIN || (size_t)(end - at) < c->left ? (size_t)(end - at) : c->left;
            lines(c, at, take);
            at += take;
            if (c->phase == BODY && !(c->left -= take)) c->phase = BODY_END;
        }
    }
    return 1;
}

/* -- connections -------------------------------------------------------------------------------------------------- */

static void watch(struct client *c, int how, uint32_t what) {
    struct epoll_event event = {.events = what, .data.ptr = c};
    if (epoll_ctl(epoll_fd, how, c->fd, &event)) die("epoll_ctl");
}

static void close_client(struct client *c) {
    if (c->phase == CONNECTING || c->phase == HEAD) opening--;
    close(c->fd);
    c->fd = -1;
    c->phase = IDLE;
    c->rest_len = 0;
    c->next_id[0] = c->event[0] = 0;
}

static void come_back(struct client *c, int64_t due_ms) {
    c->again = 1;
    c->due_ms = due_ms;
    waiting++;
}

/* It comes back, as a browser would. */
static void ended(struct client *c, uint64_t *why) {
    (*why)++;
    close_client(c);
    come_back(c, now_ms() + RETRY_MS);
}

static void open_client(struct client *c) {
    int number = c - clients, yes = 1, small = SLOW_RCVBUF;
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(0x7f000001 | source << 16 | (number / PER_SOURCE) << 8);
    if ((c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)) < 0) die("socket");
    if (c->slow) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) die("bind");
    c->phase = CONNECTING;
    opening++;
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS) die("connect");
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void ask(struct client *c) {
    char request[32768], resume[200] = "";
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) { ended(c, &failed); return; }
    if (c->again && c->id[0]) snprintf(resume, sizeof resume, "Last-Event-ID: %s\r\n", c->id);
    int len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n%s%s\r\n",
                       c->path, headers, resume);
    if (write(c->fd, request, len) != len) { ended(c, &failed); return; }
    c->phase = HEAD;
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

static void receive(struct client *c, size_t most) {
    ssize_t got = read(c->fd, buffer, most);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) { ended(c, c->slow ? &slow_lost : &lost); return; }
    now_wall_ns = clock_ns(CLOCK_REALTIME);
    last_data_ms = now_wall_ns / 1000000;
    bytes += got;
    reads_done++;
    size_t used = 0;
    if (c->phase == HEAD) {
        used = head(c, buffer, got);
        if (used == SIZE_MAX) {
            opening--;
            close_client(c);
            there(c);
            return;
        }
        if (!used) return;
        opening--;
        if (c->slow && !settled) watch(c, EPOLL_CTL_DEL, 0);
    }
    if (!body(c, buffer + used, got - used)) ended(c, &lost);
}

/* -- what happens when -------------------------------------------------------------------------------------------- */

static void open_more(int64_t ms) {
    for (; opened_at < total && opening < pending_max; opened_at++) open_client(&clients[opened_at]);
    for (int i = 0; waiting && i < opened_at && opening < pending_max; i++)
        if (clients[i].fd < 0 && clients[i].again && clients[i].due_ms <= ms) {
            waiting--;
            open_client(&clients[i]);
        }
}

static void take_slowly(void) {
    for (int i = 0; i < opened_at; i++)
        if (clients[i].slow && clients[i].fd >= 0 && clients[i].phase > HEAD) receive(&clients[i], SLOW_BYTES);
}

static void some_leave(double seconds) {
    static double owed;
    for (owed += total * reconnect_percent / 100 * seconds; owed >= 1; owed--) {
        struct client *c = &clients[rand() % total];
        if (c->fd < 0 || c->phase <= HEAD || (c->slow && !settled)) continue;
        reconnects++;
        close_client(c);
        come_back(c, 0);
    }
}

static double percentile_ms(uint64_t count, double percent) {
    uint64_t rank = count * percent / 100, sum = 0;
    for (int slot = 0; slot < SLOTS; slot++)
        if ((sum += latencies[slot]) > rank) return (slot + 1) * (SLOT_NS / 1e6);
    return 0;
}

static void report(void) {
    uint64_t count = 0;
    int open_now = 0, first = 1;
    struct rusage used;
    for (int slot = 0; slot < SLOTS; slot++) count += latencies[slot];
    for (int i = 0; i < total; i++) open_now += clients[i].fd >= 0 && clients[i].phase > HEAD;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"at_ns\":%lld,\"cpu_s\":%.3f,\"clients\":%d,\"open\":%d,\"there\":%d,\"events\":%llu,\"bytes\":%llu,"
           "\"reads\":%llu,\"p50_ms\":%.1f,\"p99_ms\":%.1f,\"max_ms\":%.1f,\"pings\":%llu,\"specials\":%llu,\"resets\":%llu,\"gaps\":%llu,\"repeats\":%llu,"
           "\"reconnects\":%llu,\"lost\":%llu,\"slow_lost\":%llu,\"refused\":%llu,\"failed\":%llu,\"malformed\":%llu,\"statuses\":{",
           (long long)clock_ns(CLOCK_REALTIME),
           used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6, total,
           open_now, there_count, (unsigned long long)events, (unsigned long long)bytes, (unsigned long long)reads_done,
           percentile_ms(count, 50), percentile_ms(count, 99), longest_ns / 1e6, (unsigned long long)pings,
           (unsigned long long)specials, (unsigned long long)resets, (unsigned long long)gaps, (unsigned long long)repeats, (unsigned long long)reconnects,
           (unsigned long long)lost, (unsigned long long)slow_lost, (unsigned long long)refused, (unsigned long long)failed,
           (unsigned long long)malformed);
    for (int status = 0; status < 600; status++)
        if (statuses[status]) printf("%s\"%d\":%d", first ? "" : ",", status, statuses[status]), first = 0;
    printf("}}\n");
    fflush(stdout);
    memset(latencies, 0, SLOTS * sizeof *latencies);
    longest_ns = 0;
}

static void settle(void) {
    settled = 1;
    reconnect_percent = 0;
    for (int i = 0; i < opened_at; i++)
        if (clients[i].slow && clients[i].fd >= 0 && clients[i].phase > HEAD)
            watch(&clients[i], EPOLL_CTL_ADD, EPOLLIN);
}

static void write_values(const char *path) {
    FILE *file = fopen(path, "w");
    if (!file) die(path);
    for (int i = 0; i < total; i++)
        for (int number = 0; number < symbol_count; number++)
            if (clients[i].price[number] || clients[i].volume[number])
                fprintf(file, "%d %.*s %u %u\n", i, (int)symbols[number].len, symbols[number].name,
                        clients[i].volume[number], clients[i].price[number]);
    if (fclose(file)) die(path);
}

static void configure(int count, char **words) {
    for (int i = 0; i < count; i++) {
        char *value = strchr(words[i], '=');
        if (!value) { fprintf(stderr, "sse_load: %s is not name=number\n", words[i]); exit(2); }
        *value++ = 0;
        if (!strcmp(words[i], "slow")) slow_percent = atoi(value);
        else if (!strcmp(words[i], "reconnect")) reconnect_percent = atof(value);
        else if (!strcmp(words[i], "pending")) pending_max = atoi(value);
        else if (!strcmp(words[i], "source")) source = atoi(value);
        else if (!strcmp(words[i], "snapshots")) want_snapshots = atoi(value);
        else { fprintf(stderr, "sse_load: unknown option %s\n", words[i]); exit(2); }
    }
}

static void make_clients(char *paths) {
    for (char *at = paths; *at; at++) total += *at == '\n';
    clients = calloc(total ? total : 1, sizeof *clients);
    symbols = calloc(SYMBOLS_MAX, sizeof *symbols);
    latencies = calloc(SLOTS, sizeof *latencies);
    /* Zero pages cost nothing until a client gets that symbol. */
    uint32_t *values = calloc(total ? total : 1, 2 * SYMBOLS_MAX * sizeof *values);
    if (!clients || !symbols || !latencies || !values) die("memory");
    for (int i = 0; i < total; i++) {
        clients[i].path = strsep(&paths, "\n");
        clients[i].fd = -1;
        clients[i].slow = i % 100 < slow_percent;
        clients[i].volume = values + (size_t)i * 2 * SYMBOLS_MAX;
        clients[i].price = clients[i].volume + SYMBOLS_MAX;
    }
}

/* Returns the command's first letter, 'x' at the end of stdin, 0 when there is none. */
static int command(void) {
    char word[64];
    ssize_t got = read(STDIN_FILENO, word, sizeof word);
    return got <= 0 ? 'x' : word[0];
}

static void rest(void) {
    struct timespec pause = {.tv_nsec = REST_NS};
    nanosleep(&pause, NULL);
}

int main(int count, char **words) {
    if (count < 6) { fprintf(stderr, "usage: sse_load HOST PORT PATHS HEADERS VALUES [name=number ...]\n"); return 2; }
    configure(count - 6, words + 6);
    server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(words[2]))};
    inet_pton(AF_INET, words[1], &server.sin_addr);
    make_clients(file_text(words[3]));
    headers = file_text(words[4]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll_fd = epoll_create1(0);
    struct epoll_event ready[512], input = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &input);
    int started = 0, starting = 0;
    int64_t slow_ms = 0, tick_ms = now_ms(), settle_ms = 0;
    for (;;) {
        rest();
        int found = epoll_wait(epoll_fd, ready, 512, 20);
        if (found < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < found; i++) {
            struct client *c = ready[i].data.ptr;
            if (c) {
                if (c->phase == CONNECTING) ask(c);
                else if (c->fd >= 0) receive(c, READ_BYTES);
                continue;
            }
            switch (command()) {
                case 'o': started = starting = 1; break;
                case 'm': report(); break;
                case 's':
                    settle();
                    settle_ms = now_ms();
                    last_data_ms = clock_ns(CLOCK_REALTIME) / 1000000;
                    break;
                case 'x': return 0;
            }
        }
        int64_t ms = now_ms();
        if (started && (opened_at < total || ms != tick_ms)) open_more(ms);
        if (starting && there_count == total) { starting = 0; report(); }
        if (!starting && !settled && reconnect_percent > 0) some_leave((ms - tick_ms) / 1000.0);
        tick_ms = ms;
        if (slow_percent && !settled && ms - slow_ms >= SLOW_EVERY_MS) { slow_ms = ms; take_slowly(); }
        if (settled && (ms - settle_ms > SETTLE_MS ||
                        (!opening && clock_ns(CLOCK_REALTIME) / 1000000 - last_data_ms > QUIET_MS))) {
            write_values(words[5]);
            report();
            return 0;
        }
    }
}
