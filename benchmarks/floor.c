/* What protecting an RTP packet for many receivers and sending all copies with sendmmsg alone take. See floor.py.
 *
 *     floor LIBRARY STREAMS RECEIVERS_PER_STREAM PAYLOAD_BYTES SEND_CORE RECEIVE_CORE
 *
 * LIBRARY is a shared object that exports libsrtp: libsrtp2.so.1, or the extension module of pylibsrtp, which has a
 * libsrtp of its own linked in. Each stream sends one packet in 20 ms, the streams evenly out of step; every receiver has
 * an SRTP session with a key of its own (AEAD_AES_128_GCM) and a UDP socket on 127.0.0.1, which a child process waits
 * for with epoll and reads.
 *
 * Prints "ready"; then reads milliseconds from each line of standard input, sends for so long, and prints the datagrams
 * sent, those not taken, and CPU nanoseconds for copying and protecting and for sending. Ends with its standard input.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <sched.h>
#include <signal.h>
#include <srtp2/srtp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    HEADER_BYTES = 12,
    TAG_BYTES = 16,
    /* A multiple of a cache line, but not of a page: rows that are 2,048 bytes apart share few cache sets. */
    ROW_BYTES = 2048 + 64,
    MOST_MESSAGES = 1024,  /* UIO_MAXIOV */
    PACKET_NS = 20000000,
    TICKS_PER_PACKET = 960,
    BUFFER_BYTES = 4 << 20,
    EVENTS = 64
};

/* The extension module of pylibsrtp wants this one variable of Python's; its functions are never called here. */
char _Py_NoneStruct[64];

typedef struct {
    srtp_err_status_t (*init)(void);
    srtp_err_status_t (*create)(srtp_t *session, const srtp_policy_t *policy);
    srtp_err_status_t (*protect)(srtp_t session, void *packet, int *length);
    void (*set_gcm)(srtp_crypto_policy_t *policy);
    const char *(*version)(void);
} Library;

typedef struct {
    int count;
    uint16_t sequence;
    uint32_t timestamp;
    uint32_t ssrc;
    srtp_t *sessions;
    uint8_t *rows;
    struct iovec *vectors;
    struct sockaddr_in *addresses;
    struct mmsghdr *messages;
} Stream;

typedef struct {
    uint64_t sent;
    uint64_t untaken;
    uint64_t protect_ns;
    uint64_t send_ns;
} Result;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void *allocate(size_t count, size_t size) {
    void *memory = NULL;
    if (posix_memalign(&memory, 64, count * size) != 0) fail("memory");
    memset(memory, 0, count * size);
    return memory;
}

static void *symbol(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (found == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return found;
}

static Library load(const char *path) {
    void *opened = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (opened == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    Library library = {
        .init = symbol(opened, "srtp_init"),
        .create = symbol(opened, "srtp_create"),
        .protect = symbol(opened, "srtp_protect"),
        .set_gcm = symbol(opened, "srtp_crypto_policy_set_aes_gcm_128_16_auth"),
        .version = symbol(opened, "srtp_get_version_string"),
    };
    return library;
}

static void pin(int core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    if (sched_setaffinity(0, sizeof cores, &cores) != 0) fail("sched_setaffinity");
}

static uint64_t now_ns(clockid_t clock) {
    struct timespec at;
    clock_gettime(clock, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static void sleep_until(uint64_t at_ns) {
    struct timespec at = {.tv_sec = (time_t)(at_ns / 1000000000u), .tv_nsec = (long)(at_ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0) {
    }
}

static int open_socket(struct sockaddr_in *address) {
    int bytes = BUFFER_BYTES;
    socklen_t length = sizeof *address;
    int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (descriptor < 0) fail("socket");
    address->sin_family = AF_INET;
    address->sin_port = 0;
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    if (bind(descriptor, (struct sockaddr *)address, length) != 0) fail("bind");
    if (getsockname(descriptor, (struct sockaddr *)address, &length) != 0) fail("getsockname");
    return descriptor;
}

static srtp_t new_session(const Library *library) {
    uint8_t key[SRTP_AES_GCM_128_KEY_LEN_WSALT];
    srtp_policy_t policy;
    srtp_t session;
    memset(&policy, 0, sizeof policy);
    if (getrandom(key, sizeof key, 0) != (ssize_t)sizeof key) fail("getrandom");
    library->set_gcm(&policy.rtp);
    library->set_gcm(&policy.rtcp);
    policy.ssrc.type = ssrc_any_outbound;
    policy.key = key;
    policy.window_size = 1024;
    if (library->create(&session, &policy) != srtp_err_status_ok) {
        fprintf(stderr, "srtp_create failed\n");
        exit(1);
    }
    return session;
}

/* The receivers' side, in a process of its own until the parent ends. */
static void receive(int epoll, int core) {
    static uint8_t buffer[2048];
    struct epoll_event events[EVENTS];
    pin(core);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            while (recv(events[i].data.fd, buffer, sizeof buffer, 0) > 0) {
            }
        }
    }
}

static Stream new_stream(const Library *library, int count, int payload_bytes, uint32_t ssrc, int epoll) {
    Stream stream = {
        .count = count,
        .ssrc = ssrc,
        .sessions = allocate(count, sizeof *stream.sessions),
        .rows = allocate(count, ROW_BYTES),
        .vectors = allocate(count, sizeof *stream.vectors),
        .addresses = allocate(count, sizeof *stream.addresses),
        .messages = allocate(count, sizeof *stream.messages),
    };
    for (int i = 0; i < count; i++) {
        int receiver = open_socket(&stream.addresses[i]);
        struct epoll_event readable = {.events = EPOLLIN, .data.fd = receiver};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, receiver, &readable) != 0) fail("epoll_ctl");
        stream.sessions[i] = new_session(library);
        stream.vectors[i].iov_base = stream.rows + (size_t)i * ROW_BYTES;
        stream.vectors[i].iov_len = (size_t)(HEADER_BYTES + payload_bytes + TAG_BYTES);
        stream.messages[i].msg_hdr.msg_name = &stream.addresses[i];
        stream.messages[i].msg_hdr.msg_namelen = sizeof stream.addresses[i];
        stream.messages[i].msg_hdr.msg_iov = &stream.vectors[i];
        stream.messages[i].msg_hdr.msg_iovlen = 1;
    }
    return stream;
}

static void write_header(Stream *stream, uint8_t *packet) {
    uint16_t sequence = htons(stream->sequence++);
    uint32_t timestamp = htonl(stream->timestamp);
    uint32_t ssrc = htonl(stream->ssrc);
    stream->timestamp += TICKS_PER_PACKET;
    packet[0] = 0x80;
    packet[1] = 111;
    memcpy(packet + 2, &sequence, sizeof sequence);
    memcpy(packet + 4, &timestamp, sizeof timestamp);
    memcpy(packet + 8, &ssrc, sizeof ssrc);
}

static void protect_all(const Library *library, const Stream *stream, const uint8_t *packet, int packet_bytes) {
    for (int i = 0; i < stream->count; i++) {
        uint8_t *row = stream->rows + (size_t)i * ROW_BYTES;
        int length = packet_bytes;
        memcpy(row, packet, (size_t)packet_bytes);
        if (library->protect(stream->sessions[i], row, &length) != srtp_err_status_ok ||
            length != packet_bytes + TAG_BYTES) {
            fprintf(stderr, "srtp_protect failed\n");
            exit(1);
        }
    }
}

static void send_all(int descriptor, const Stream *stream, Result *result) {
    int start = 0;
    while (start < stream->count) {
        int count = stream->count - start < MOST_MESSAGES ? stream->count - start : MOST_MESSAGES;
        int sent = sendmmsg(descriptor, stream->messages + start, (unsigned)count, MSG_DONTWAIT);
        if (sent < 0) {
            result->untaken++;
            start++;
        } else {
            result->sent += (uint64_t)sent;
            start += sent;
        }
    }
}

static Result run(
    const Library *library, Stream *streams, int count, uint8_t *packet, int packet_bytes, int descriptor, uint64_t run_ns
) {
    Result result = {0};
    uint64_t interval_ns = PACKET_NS / (uint64_t)count;
    uint64_t at_ns = now_ns(CLOCK_MONOTONIC) + interval_ns;
    uint64_t end_ns = at_ns + run_ns;
    for (int turn = 0; at_ns < end_ns; turn = (turn + 1) % count, at_ns += interval_ns) {
        sleep_until(at_ns);
        uint64_t began_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID);
        write_header(&streams[turn], packet);
        protect_all(library, &streams[turn], packet, packet_bytes);
        uint64_t protected_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID);
        send_all(descriptor, &streams[turn], &result);
        result.protect_ns += protected_ns - began_ns;
        result.send_ns += now_ns(CLOCK_PROCESS_CPUTIME_ID) - protected_ns;
    }
    return result;
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "floor LIBRARY STREAMS RECEIVERS_PER_STREAM PAYLOAD_BYTES SEND_CORE RECEIVE_CORE\n");
        return 2;
    }
    Library library = load(argv[1]);
    int count = atoi(argv[2]), receivers = atoi(argv[3]), payload_bytes = atoi(argv[4]);
    int packet_bytes = HEADER_BYTES + payload_bytes;
    if (count < 1 || receivers < 1 || payload_bytes < 1 || packet_bytes + TAG_BYTES > 2048) return 2;
    if (library.init() != srtp_err_status_ok) {
        fprintf(stderr, "srtp_init failed\n");
        return 1;
    }
    pin(atoi(argv[5]));
    int epoll = epoll_create1(0);
    Stream *streams = allocate((size_t)count, sizeof *streams);
    for (int i = 0; i < count; i++)
        streams[i] = new_stream(&library, receivers, payload_bytes, (uint32_t)(i + 1), epoll);
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) return 0;
        receive(epoll, atoi(argv[6]));
    }
    struct sockaddr_in own;
    int descriptor = open_socket(&own);
    uint8_t *packet = allocate(1, (size_t)packet_bytes);
    if (getrandom(packet + HEADER_BYTES, (size_t)payload_bytes, 0) != payload_bytes) fail("getrandom");
    printf("ready %s\n", library.version());
    fflush(stdout);
    unsigned long milliseconds;
    while (scanf("%lu", &milliseconds) == 1) {
        Result result = run(&library, streams, count, packet, packet_bytes, descriptor, milliseconds * 1000000u);
        printf("%lu %lu %lu %lu\n", result.sent, result.untaken, result.protect_ns, result.send_ns);
        fflush(stdout);
    }
    kill(child, SIGKILL);
    return 0;
}
