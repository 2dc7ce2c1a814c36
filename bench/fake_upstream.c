/* A provider without latency, for the bench: one thread, epoll, HTTP/1.1 with keep-alive.
 *
 *   fake_upstream PORT
 *
 * PORT 0 takes a free port; the port in use is printed on standard output when it listens.
 * A request is answered by what its body holds:
 *   no "stream": true    one chat completion in JSON, with usage; one of 1 MB when the body holds
 *                        the word LONG
 *   "stream": true       50 chunks, a usage chunk when "include_usage": true, then [DONE];
 *                        one write and one HTTP chunk an event, all at once ("burst"), or one
 *                        every 10 ms ("paced") when the body holds the word PACED, every 100 ms
 *                        when it holds SLOWLY
 * Bodies over 64 KiB are not searched, so that they cost the provider little: they get JSON.
 * Only 127.0.0.1 is served. Requests over 8 MiB are cut off.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    CHUNKS = 50,
    EVENTS = CHUNKS + 2, /* and the usage chunk, and [DONE] */
    PACE_US = 10000,
    SLOW_PACE_US = 100000,
    DESCRIPTORS_MAX = 16384,
    REQUEST_BYTES_MAX = 8 << 20,
    SEARCHED_BYTES_MAX = 1 << 16,
    LONG_CONTENT_BYTES = 1000000,
    BATCH = 256,
};

typedef struct {
    char *bytes;
    size_t length;
} text;

typedef struct {
    char *bytes;
    size_t length, room;
} buffer;

typedef struct {
    int fd;
    uint64_t serial;    /* tells this connection from a later one with the same descriptor */
    buffer in, out;
    bool writes_later;  /* epoll watches for room to write */
    bool closes;        /* after what is in `out` */
    bool with_usage;
    int next_event;     /* of the paced stream under way, -1 when there is none */
    struct clockwork *clockwork; /* that paces it */
} connection;

typedef struct {
    uint64_t due_us;
    uint64_t serial;
    int fd;
} tick;

static connection *connections[DESCRIPTORS_MAX];
static int poller;
static uint64_t serials;

/* Every tick of a clockwork lies its pace ahead of its making: a queue is always in order of time. */
typedef struct clockwork {
    uint64_t pace_us;
    tick *ticks;
    size_t first, count, room;
} clockwork;

static clockwork clockworks[] = {{.pace_us = PACE_US}, {.pace_us = SLOW_PACE_US}};
enum { PACED, SLOW, CLOCKWORKS };

static text completion, long_completion, stream_head, events[EVENTS];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void *checked(void *memory) {
    if (memory == NULL) die("memory");
    return memory;
}

static uint64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static text owned(const char *bytes, int length) {
    text made = {checked(malloc((size_t)length)), (size_t)length};
    memcpy(made.bytes, bytes, made.length);
    return made;
}

#define COMMON \
    "\"id\":\"chatcmpl-0123456789abcdef0123456789abc\",\"object\":\"chat.completion%s\"," \
    "\"created\":1767225600,\"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\"," \
    "\"system_fingerprint\":\"fp_0123456789\""
#define USAGE(completion_tokens, total) \
    "\"usage\":{\"prompt_tokens\":180,\"completion_tokens\":" completion_tokens \
    ",\"total_tokens\":" total \
    ",\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0}," \
    "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0}}"

static text completion_with(const char *content, const char *more_headers) {
    size_t room = strlen(content) + 4096;
    char *body = checked(malloc(room)), *whole = checked(malloc(room));
    int length = snprintf(
        body, room,
        "{" COMMON ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
        "\"%s\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":"
        "\"stop\"}]," USAGE("19", "199") "}",
        "", content);
    length = snprintf(
        whole, room,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        "X-Request-Id: req_0123456789\r\nOpenAI-Processing-Ms: 1\r\n%s\r\n%s",
        length, more_headers, body);
    text made = owned(whole, length);
    free(body);
    free(whole);
    return made;
}

static void prepare_completions(void) {
    static const char sentence[] =
        "Every crossing is noted once, priced from the book that was in force at the time, and "
        "kept.";
    completion = completion_with(sentence, "");
    char *content = checked(malloc(LONG_CONTENT_BYTES + 1));
    size_t length = 0, step = sizeof sentence - 1 + 2;
    while (length + step <= LONG_CONTENT_BYTES) {
        memcpy(content + length, sentence, step - 2);
        memcpy(content + length + step - 2, "\\n", 2);
        length += step;
    }
    content[length] = '\0';
    /* nginx does not buffer here, for streams' sake, and would copy this in small pieces. */
    long_completion = completion_with(content, "X-Accel-Buffering: yes\r\n");
    free(content);
}

static void prepare_event(int index, const char *document) {
    char framed[1200], whole[1300];
    bool is_last = index == EVENTS - 1;
    int length = snprintf(framed, sizeof framed, "data: %s\n\n", document);
    length = snprintf(whole, sizeof whole, "%x\r\n%s\r\n%s", (unsigned)length, framed,
                      is_last ? "0\r\n\r\n" : "");
    events[index] = owned(whole, length);
}

static void prepare_stream(void) {
    static const char head[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
        "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream_head = owned(head, (int)sizeof head - 1);
    char document[1024];
    for (int index = 0; index < CHUNKS; index++) {
        snprintf(document, sizeof document,
                 "{" COMMON ",\"choices\":[{\"index\":0,\"delta\":{%s\"content\":\" word%d\"},"
                 "\"logprobs\":null,\"finish_reason\":%s}]}",
                 ".chunk", index == 0 ? "\"role\":\"assistant\"," : "", index,
                 index == CHUNKS - 1 ? "\"stop\"" : "null");
        prepare_event(index, document);
    }
    snprintf(document, sizeof document, "{" COMMON ",\"choices\":[]," USAGE("50", "230") "}",
             ".chunk");
    prepare_event(CHUNKS, document);
    prepare_event(CHUNKS + 1, "[DONE]");
}

static void append(buffer *to, const char *bytes, size_t length) {
    if (to->length + length > to->room) {
        to->room = (to->length + length) * 2;
        to->bytes = checked(realloc(to->bytes, to->room));
    }
    memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
}

static void drop_front(buffer *from, size_t length) {
    from->length -= length;
    memmove(from->bytes, from->bytes + length, from->length);
}

static void watch(connection *c, bool for_writing) {
    if (c->writes_later == for_writing) return;
    struct epoll_event change = {.events = EPOLLIN | (for_writing ? EPOLLOUT : 0),
                                 .data.fd = c->fd};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &change) < 0) die("epoll_ctl");
    c->writes_later = for_writing;
}

/* The functions below answer false when the connection is of no more use. */

static bool flush(connection *c) {
    size_t sent = 0;
    while (sent < c->out.length) {
        ssize_t count = write(c->fd, c->out.bytes + sent, c->out.length - sent);
        if (count < 0 && errno != EAGAIN) return false;
        if (count < 0) break;
        sent += (size_t)count;
    }
    drop_front(&c->out, sent);
    watch(c, c->out.length > 0);
    return !(c->closes && c->out.length == 0);
}

static bool send_text(connection *c, const text *what) {
    size_t sent = 0;
    if (c->out.length == 0) {
        ssize_t count = write(c->fd, what->bytes, what->length);
        if (count < 0 && errno != EAGAIN) return false;
        if (count > 0) sent = (size_t)count;
    }
    if (sent < what->length) {
        append(&c->out, what->bytes + sent, what->length - sent);
        watch(c, true);
    }
    return true;
}

static void tick_later(connection *c) {
    clockwork *w = c->clockwork;
    if (w->count == w->room) {
        size_t room = w->room ? w->room * 2 : 1024;
        tick *moved = checked(malloc(room * sizeof *moved));
        for (size_t index = 0; index < w->count; index++)
            moved[index] = w->ticks[(w->first + index) % w->room];
        free(w->ticks);
        w->ticks = moved;
        w->first = 0;
        w->room = room;
    }
    tick made = {now_us() + w->pace_us, c->serial, c->fd};
    w->ticks[(w->first + w->count++) % w->room] = made;
}

static int event_after(const connection *c, int index) {
    return index + 1 == CHUNKS && !c->with_usage ? index + 2 : index + 1;
}

/* Whether the body has `"name": true`, blanks or none around the colon. */
static bool says_true(const char *body, size_t length, const char *quoted) {
    const char *end = body + length, *at = body;
    size_t name = strlen(quoted);
    while ((at = memmem(at, (size_t)(end - at), quoted, name)) != NULL) {
        at += name;
        const char *value = at;
        while (value < end && (*value == ' ' || *value == ':')) value++;
        if (value > at && end - value >= 4 && memcmp(value, "true", 4) == 0) return true;
    }
    return false;
}

static bool holds(const char *body, size_t length, const char *word) {
    return memmem(body, length, word, strlen(word)) != NULL;
}

static bool answer(connection *c, const char *body, size_t length) {
    if (length > SEARCHED_BYTES_MAX) return send_text(c, &completion);
    if (!says_true(body, length, "\"stream\""))
        return send_text(c, holds(body, length, "LONG") ? &long_completion : &completion);
    c->with_usage = says_true(body, length, "\"include_usage\"");
    if (!send_text(c, &stream_head)) return false;
    bool is_slow = holds(body, length, "SLOWLY");
    if (is_slow || holds(body, length, "PACED")) {
        c->clockwork = &clockworks[is_slow ? SLOW : PACED];
        c->next_event = 0;
        tick_later(c);
        return true;
    }
    for (int index = 0; index < EVENTS; index = event_after(c, index))
        if (!send_text(c, &events[index])) return false;
    return true;
}

/* The end of a chunked body that begins at `from`; 0 when it is not all there. */
static size_t chunked_end(const buffer *in, size_t from) {
    for (;;) {
        const char *line = in->bytes + from;
        const char *end = memmem(line, in->length - from, "\r\n", 2);
        if (end == NULL) return 0;
        size_t size = strtoul(line, NULL, 16);
        from = (size_t)(end - in->bytes) + 2 + size + 2;
        if (from > in->length) return 0;
        if (size == 0) return from;
    }
}

/* The end of the first request and where its body begins; 0 when it is not all there. */
static size_t request_end(connection *c, size_t *body) {
    char *end = memmem(c->in.bytes, c->in.length, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    *body = (size_t)(end - c->in.bytes) + 4;
    size_t length = 0;
    bool is_chunked = false;
    *end = '\0';
    for (char *line = strstr(c->in.bytes, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, "content-length:", 15) == 0) length = strtoul(line + 15, NULL, 10);
        if (strncasecmp(line, "transfer-encoding:", 18) == 0) is_chunked = true;
        if (strncasecmp(line, "connection: close", 17) == 0) c->closes = true;
    }
    *end = '\r';
    if (is_chunked) return chunked_end(&c->in, *body);
    return *body + length <= c->in.length ? *body + length : 0;
}

static bool serve(connection *c) {
    while (c->next_event < 0 && c->in.length > 0) {
        size_t body = 0, end = request_end(c, &body);
        if (end == 0) return c->in.length <= REQUEST_BYTES_MAX;
        bool is_well = answer(c, c->in.bytes + body, end - body);
        drop_front(&c->in, end);
        if (!is_well) return false;
    }
    return !(c->closes && c->next_event < 0 && c->out.length == 0);
}

static bool receive(connection *c) {
    char bytes[65536];
    ssize_t count = read(c->fd, bytes, sizeof bytes);
    if (count == 0 || (count < 0 && errno != EAGAIN)) return false;
    if (count < 0) return true;
    append(&c->in, bytes, (size_t)count);
    return serve(c);
}

static void end_connection(connection *c) {
    connections[c->fd] = NULL;
    close(c->fd);
    free(c->in.bytes);
    free(c->out.bytes);
    free(c);
}

static void accept_all(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
        if (fd < 0) return;
        if (fd >= DESCRIPTORS_MAX) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connection *c = checked(calloc(1, sizeof *c));
        c->fd = fd;
        c->serial = ++serials;
        c->next_event = -1;
        connections[fd] = c;
        struct epoll_event wanted = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &wanted) < 0) die("epoll_ctl");
    }
}

static void send_due_events(clockwork *w) {
    uint64_t now = now_us();
    while (w->count > 0 && w->ticks[w->first].due_us <= now) {
        tick due = w->ticks[w->first];
        w->first = (w->first + 1) % w->room;
        w->count--;
        connection *c = connections[due.fd];
        if (c == NULL || c->serial != due.serial) continue;
        int index = c->next_event;
        bool is_well = send_text(c, &events[index]);
        c->next_event = event_after(c, index);
        if (c->next_event < EVENTS) {
            tick_later(c);
        } else {
            c->next_event = -1;
            is_well = is_well && serve(c);
        }
        if (!is_well) end_connection(c);
    }
}

static int next_tick_ms(void) {
    uint64_t now = now_us(), soonest = UINT64_MAX;
    for (int index = 0; index < CLOCKWORKS; index++) {
        const clockwork *w = &clockworks[index];
        if (w->count > 0 && w->ticks[w->first].due_us < soonest)
            soonest = w->ticks[w->first].due_us;
    }
    if (soonest == UINT64_MAX) return -1;
    return soonest <= now ? 0 : (int)((soonest - now + 999) / 1000);
}

static int listen_on(uint16_t port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (listener < 0) die("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) < 0) die("bind");
    if (listen(listener, 4096) < 0) die("listen");
    if (getsockname(listener, (struct sockaddr *)&address, &size) < 0) die("getsockname");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: %s PORT\n", arguments[0]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    prepare_completions();
    prepare_stream();
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) die("epoll_create1");
    int listener = listen_on((uint16_t)atoi(arguments[1]));
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = listener}, ready[BATCH];
    if (epoll_ctl(poller, EPOLL_CTL_ADD, listener, &wanted) < 0) die("epoll_ctl");
    for (;;) {
        int number = epoll_wait(poller, ready, BATCH, next_tick_ms());
        if (number < 0 && errno != EINTR) die("epoll_wait");
        for (int index = 0; index < number; index++) {
            int fd = ready[index].data.fd;
            if (fd == listener) {
                accept_all(listener);
                continue;
            }
            connection *c = connections[fd];
            if (c == NULL) continue;
            bool is_well = true;
            if (ready[index].events & EPOLLOUT) is_well = flush(c);
            if (is_well && ready[index].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                is_well = receive(c);
            if (!is_well) end_connection(c);
        }
        for (int index = 0; index < CLOCKWORKS; index++) send_due_events(&clockworks[index]);
    }
}
