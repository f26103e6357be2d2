/* The other end of the server rows: a client that is never the bottleneck, and a server that is the limit.

     wire serve                            echoes on a free port of 127.0.0.1, and prints the port
     wire serve PATH                       echoes on a Unix socket that it makes there, and prints the path
     wire load PORT CONNECTIONS SIZE       has a conversation on each connection: SIZE bytes out, SIZE bytes back
     wire load PATH CONNECTIONS SIZE       the same over Unix sockets; a path begins with a slash
     wire load PORT CONNECTIONS http       the same with GET / and its answer
     wire load PORT CONNECTIONS udpSIZE    the same with datagrams
     wire load PORT CONNECTIONS fileSIZE   one byte out, SIZE bytes back
     wire load PORT CONNECTIONS lines      the same with a thousand lines of 16 bytes, of which one comes back

   What is sent is at once a line and a frame: four bytes that tell how many follow, and a newline at the end.

   `load` prints "ready" when every connection has been answered once. Then each line on stdin with a number N has
   it exchange N messages more, and print a line of JSON: how many, and their latencies in nanoseconds. One thread
   around epoll in both cases. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 256

static const char REQUEST[] = "GET / HTTP/1.1\r\nHost: here\r\nAccept: */*\r\n\r\n";
enum { LINE = 16, LINES = 1000 };
static char buffer[1 << 20];

static void check(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static void watch(int poll, int fd, uint32_t events, void *pointer) {
    struct epoll_event event = {.events = events, .data.ptr = pointer};
    check(epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

static void no_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* --- the server */

struct peer {
    int fd;
    char *unsent; /* what the kernel did not take, and how much of it */
    size_t length;
};

static void change(int poll, struct peer *peer, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = peer};
    check(epoll_ctl(poll, EPOLL_CTL_MOD, peer->fd, &event) == 0, "epoll_ctl");
}

static void leave(struct peer *peer) {
    close(peer->fd);
    free(peer->unsent);
    free(peer);
}

/* Send; what does not go is kept, and nothing is read until it has gone. */
static int echo(int poll, struct peer *peer, const char *data, size_t length) {
    ssize_t sent = send(peer->fd, data, length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
        return -1;
    size_t done = sent < 0 ? 0 : (size_t)sent;
    if (peer->length == 0 && done < length) {
        check((peer->unsent = malloc(length - done)) != NULL, "malloc");
        memcpy(peer->unsent, data + done, peer->length = length - done);
        change(poll, peer, EPOLLOUT);
    } else if (peer->length != 0) {
        memmove(peer->unsent, peer->unsent + done, peer->length -= done);
        if (peer->length == 0) {
            free(peer->unsent);
            peer->unsent = NULL;
            change(poll, peer, EPOLLIN);
        }
    }
    return 0;
}

static struct sockaddr_un path_address(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    return address;
}

/* A socket that listens on a free port of 127.0.0.1, or on a path, once it has printed which. */
static int listening(const char *path) {
    int fd = socket(path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (path) {
        struct sockaddr_un address = path_address(path);
        check(bind(fd, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    } else {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        check(bind(fd, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    }
    check(listen(fd, 1024) == 0, "listen");
    if (path) {
        printf("%s\n", path);
    } else {
        struct sockaddr_in address;
        socklen_t size = sizeof address;
        getsockname(fd, (struct sockaddr *)&address, &size);
        printf("%d\n", ntohs(address.sin_port));
    }
    fflush(stdout);
    return fd;
}

static void serve(const char *path) {
    int server = listening(path), poll = epoll_create1(0);
    watch(poll, server, EPOLLIN, NULL);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            if (peer == NULL) {
                int fd = accept4(server, NULL, NULL, SOCK_NONBLOCK);
                if (fd >= 0) {
                    check((peer = calloc(1, sizeof *peer)) != NULL, "calloc");
                    peer->fd = fd;
                    if (!path)
                        no_delay(fd);
                    watch(poll, fd, EPOLLIN, peer);
                }
            } else if (events[i].events & EPOLLOUT) {
                if (echo(poll, peer, peer->unsent, peer->length) < 0)
                    leave(peer);
            } else {
                ssize_t got = recv(peer->fd, buffer, sizeof buffer, 0);
                if (got <= 0 ? got == 0 || errno != EAGAIN : echo(poll, peer, buffer, got) < 0)
                    leave(peer);
            }
        }
    }
}

/* --- the client */

struct talk {
    int fd;
    size_t unsent, unheard; /* of the message that is under way */
    long long began;
};

static const char *message;
static size_t message_size, answer_size;

/* Send what there is left to send; 0 if the kernel takes no more for now. */
static int speak(struct talk *talk) {
    while (talk->unsent > 0) {
        ssize_t sent = send(talk->fd, message + message_size - talk->unsent, talk->unsent, MSG_NOSIGNAL);
        if (sent < 0) {
            check(errno == EAGAIN, "send");
            return 0;
        }
        talk->unsent -= sent;
    }
    return 1;
}

static void begin(struct talk *talk) {
    talk->unsent = message_size;
    talk->unheard = answer_size;
    talk->began = now();
    speak(talk);
}

/* The length of the first answer to a request, which that of all others is. */
static size_t measure(int fd) {
    size_t got = 0;
    check(send(fd, message, message_size, 0) == (ssize_t)message_size, "send");
    for (;;) {
        ssize_t more = recv(fd, buffer + got, sizeof buffer - 1 - got, 0);
        check(more > 0, "recv");
        buffer[got += more] = 0;
        char *end = strstr(buffer, "\r\n\r\n");
        if (end == NULL)
            continue;
        char *length = strcasestr(buffer, "\r\ncontent-length:");
        check(length != NULL, "no content-length");
        size_t whole = end + 4 - buffer + strtoul(length + 17, NULL, 10);
        if (got >= whole)
            return whole;
    }
}

static int ascending(const void *a, const void *b) {
    long long x = *(const long long *)a, y = *(const long long *)b;
    return (x > y) - (x < y);
}

/* Exchange messages on all connections at once; note how long each took. */
static void converse(int poll, struct talk *talks, int connections, long count, long long *latencies) {
    long begun = 0, ended = 0;
    for (int i = 0; i < connections && begun < count; i++, begun++)
        begin(&talks[i]);
    while (ended < count) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(poll, events, EVENTS, 30000);
        check(ready > 0, "no answer");
        for (int i = 0; i < ready; i++) {
            struct talk *talk = events[i].data.ptr;
            speak(talk);
            ssize_t got;
            while (talk->unheard > 0 && (got = recv(talk->fd, buffer, sizeof buffer, 0)) > 0) {
                check((size_t)got <= talk->unheard, "more than was asked for");
                if ((talk->unheard -= got) == 0) {
                    latencies[ended++] = now() - talk->began;
                    if (begun < count) {
                        begun++;
                        begin(talk);
                    }
                    break;
                }
            }
        }
    }
}

/* A frame, and a line. */
static const char *frame(size_t size) {
    char *made = memset(malloc(size), 'x', size);
    uint32_t length = htonl(size - sizeof length);
    if (size > sizeof length) {
        memcpy(made, &length, sizeof length);
        made[size - 1] = '\n';
    }
    return made;
}

static const char *short_lines(void) {
    char *made = memset(malloc(LINE * LINES), 'x', LINE * LINES);
    for (int i = 1; i <= LINES; i++)
        made[i * LINE - 1] = '\n';
    return made;
}

/* A new socket that is connected to a port of 127.0.0.1, or to a path. */
static int connected(const char *place, int kind) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(atoi(place)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un path = path_address(place);
    int local = *place == '/', fd = socket(local ? AF_UNIX : AF_INET, kind, 0);
    if (local)
        check(connect(fd, (struct sockaddr *)&path, sizeof path) == 0, "connect");
    else
        check(connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    return fd;
}

static void load(const char *place, int connections, const char *size) {
    struct talk *talks = calloc(connections, sizeof *talks);
    int poll = epoll_create1(0), http = strcmp(size, "http") == 0, lines = strcmp(size, "lines") == 0;
    int udp = strncmp(size, "udp", 3) == 0, file = strncmp(size, "file", 4) == 0;
    answer_size = http ? sizeof REQUEST - 1 : lines ? LINE : strtoul(size + 3 * udp + 4 * file, NULL, 10);
    message_size = file ? 1 : lines ? LINE * LINES : http ? sizeof REQUEST - 1 : answer_size;
    message = http ? REQUEST : lines ? short_lines() : frame(message_size);
    for (int i = 0; i < connections; i++) {
        talks[i].fd = connected(place, udp ? SOCK_DGRAM : SOCK_STREAM);
        if (!udp && *place != '/')
            no_delay(talks[i].fd);
        if (http)
            answer_size = measure(talks[i].fd);
        check(fcntl(talks[i].fd, F_SETFL, O_NONBLOCK) == 0, "fcntl");
        watch(poll, talks[i].fd, EPOLLIN | EPOLLOUT | EPOLLET, &talks[i]);
    }
    long long *latencies = malloc(sizeof *latencies * connections);
    converse(poll, talks, connections, connections, latencies);
    printf("ready\n");
    fflush(stdout);
    for (long count; scanf("%ld", &count) == 1;) {
        latencies = realloc(latencies, sizeof *latencies * count);
        converse(poll, talks, connections, count, latencies);
        qsort(latencies, count, sizeof *latencies, ascending);
        printf("{\"messages\": %ld, \"p50\": %lld, \"p99\": %lld}\n", count, latencies[count / 2],
               latencies[count * 99 / 100]);
        fflush(stdout);
    }
}

int main(int argc, char **argv) {
    if ((argc == 2 || argc == 3) && strcmp(argv[1], "serve") == 0)
        serve(argv[2]);
    if (argc == 5 && strcmp(argv[1], "load") == 0) {
        load(argv[2], atoi(argv[3]), argv[4]);
        return 0;
    }
    fprintf(stderr, "usage: wire serve [PATH] | wire load PORT|PATH CONNECTIONS SIZE|http|lines|udpSIZE|fileSIZE\n");
    return 2;
}
