/* wire.c's server and client over TLS, for the rows of TLS.

     wire_tls serve CERTIFICATE KEY        echoes on a free port of 127.0.0.1, and prints the port
     wire_tls load PORT CONNECTIONS SIZE   has a conversation on each connection: SIZE bytes out, SIZE bytes back

   `load` answers to its stdin as wire's does. The certificate is not looked at. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 256

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

/* --- the server: reads through memory, writes through memory, one call of the kernel each */

struct peer {
    int fd;
    SSL *ssl;
    BIO *in, *out;
    int waiting; /* for the kernel to take more */
};

static void leave(struct peer *peer) {
    close(peer->fd);
    SSL_free(peer->ssl);
    free(peer);
}

static int flush(int poll, struct peer *peer) {
    char *data;
    long length = BIO_get_mem_data(peer->out, &data);
    ssize_t sent = length > 0 ? send(peer->fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
    for (long left = sent; left > 0;)
        left -= BIO_read(peer->out, buffer, left > (long)sizeof buffer ? (int)sizeof buffer : (int)left);
    int waiting = sent < length;
    if (waiting != peer->waiting) {
        struct epoll_event event = {.events = waiting ? EPOLLOUT : EPOLLIN, .data.ptr = peer};
        check(epoll_ctl(poll, EPOLL_CTL_MOD, peer->fd, &event) == 0, "epoll_ctl");
        peer->waiting = waiting;
    }
    return 0;
}

static int echo(int poll, struct peer *peer) {
    ssize_t got = recv(peer->fd, buffer, 256 * 1024, MSG_DONTWAIT);
    if (got <= 0)
        return -1;
    BIO_write(peer->in, buffer, (int)got);
    size_t length = 0;
    int count;
    while ((count = SSL_read(peer->ssl, buffer + length, (int)(sizeof buffer - length))) > 0)
        length += count;
    if (SSL_get_error(peer->ssl, count) != SSL_ERROR_WANT_READ)
        return -1;
    if (length > 0 && SSL_write(peer->ssl, buffer, (int)length) <= 0)
        return -1;
    return flush(poll, peer);
}

static void serve(const char *certificate, const char *key) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    check(SSL_CTX_use_certificate_chain_file(context, certificate) == 1, "certificate");
    check(SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1, "key");
    int server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
    check(bind(server, (struct sockaddr *)&address, size) == 0, "bind");
    check(listen(server, 1024) == 0, "listen");
    getsockname(server, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    watch(poll, server, EPOLLIN, NULL);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            if (peer == NULL) {
                int fd = accept4(server, NULL, NULL, 0);
                if (fd >= 0) {
                    check((peer = calloc(1, sizeof *peer)) != NULL, "calloc");
                    *peer = (struct peer){
                        fd, SSL_new(context), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()), 0};
                    SSL_set_bio(peer->ssl, peer->in, peer->out);
                    SSL_set_accept_state(peer->ssl);
                    no_delay(fd);
                    watch(poll, fd, EPOLLIN, peer);
                }
            } else if ((events[i].events & EPOLLOUT ? flush : echo)(poll, peer) < 0) {
                leave(peer);
            }
        }
    }
}

/* --- the client */

struct talk {
    SSL *ssl;
    size_t unsent, unheard; /* of the message that is under way */
    long long began;
};

static const char *message;
static size_t message_size;

/* Send what there is left to send, as far as the kernel takes it. */
static void speak(struct talk *talk) {
    while (talk->unsent > 0) {
        int sent = SSL_write(talk->ssl, message + message_size - talk->unsent, (int)talk->unsent);
        if (sent <= 0) {
            int why = SSL_get_error(talk->ssl, sent);
            check(why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ, "SSL_write");
            return;
        }
        talk->unsent -= sent;
    }
}

static void begin(struct talk *talk) {
    talk->unsent = talk->unheard = message_size;
    talk->began = now();
    speak(talk);
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
            int got;
            while ((got = SSL_read(talk->ssl, buffer, sizeof buffer)) > 0) {
                check((size_t)got <= talk->unheard, "more than was asked for");
                if ((talk->unheard -= got) == 0) {
                    latencies[ended++] = now() - talk->began;
                    if (begun < count) {
                        begun++;
                        begin(talk);
                    }
                }
            }
            check(SSL_get_error(talk->ssl, got) == SSL_ERROR_WANT_READ, "SSL_read");
        }
    }
}

static void load(int port, int connections, const char *size) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    struct talk *talks = calloc(connections, sizeof *talks);
    int poll = epoll_create1(0);
    message_size = strtoul(size, NULL, 10);
    message = memset(malloc(message_size), 'x', message_size);
    for (int i = 0; i < connections; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        check(connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
        no_delay(fd);
        talks[i].ssl = SSL_new(context);
        SSL_set_fd(talks[i].ssl, fd);
        check(SSL_connect(talks[i].ssl) == 1, "SSL_connect");
        check(fcntl(fd, F_SETFL, O_NONBLOCK) == 0, "fcntl");
        watch(poll, fd, EPOLLIN | EPOLLOUT | EPOLLET, &talks[i]);
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
    if (argc == 4 && strcmp(argv[1], "serve") == 0)
        serve(argv[2], argv[3]);
    if (argc == 5 && strcmp(argv[1], "load") == 0) {
        load(atoi(argv[2]), atoi(argv[3]), argv[4]);
        return 0;
    }
    fprintf(stderr, "usage: wire_tls serve CERTIFICATE KEY | wire_tls load PORT CONNECTIONS SIZE\n");
    return 2;
}
