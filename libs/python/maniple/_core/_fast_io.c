/* The two threads of a Link, and its socket. */
#define _GNU_SOURCE
#include "_fast.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

OLD_NAME(pthread_create);
OLD_NAME(pthread_detach);
OLD_NAME(pthread_sigmask);
OLD_NAME(pthread_mutex_timedlock);
OLD_NAME(pthread_mutex_trylock);

enum {
    CHUNK = 64 << 10,         /* bytes read at once */
    FDS = 16,                 /* descriptors that may come with one read */
    FLUSH_AFTER = 1,          /* milliseconds that a frame nobody waits for may stay here */
    PATIENCE = 20,            /* such, without a frame, after which the next one has to wake the writer */
    LOOK_AFTER = 250,         /* milliseconds after which dropped references are looked for though nothing was sent */
    QUEUED_MAX = 64 << 20,    /* bytes that may wait for Python, beside one frame */
    KEPT = 1 << 20,           /* bytes of a buffer that is kept when it is empty */
    GATHER = 200,             /* microseconds that results may gather while nobody waits for few of them */
    LAST_WORDS = 1000,        /* milliseconds that a worker has for an orderly end when its agent is gone */
};

/* Writing. */

static void shrink(Buffer *b) {
    b->size = 0;
    if (b->room > KEPT) {
        free(b->bytes);
        *b = (Buffer){0};
    }
}

int link_flush(Link *l, int milliseconds) {
    if (pthread_mutex_trylock(&l->writing)) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += milliseconds * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        if (pthread_mutex_timedlock(&l->writing, &until)) return 1;
    }
    int state = 0;
    for (;;) {
        if (l->written == l->block.size) {
            l->written = 0;
            shrink(&l->block);
            pthread_mutex_lock(&l->lock);
            link_release_dropped(l);
            Buffer filled = l->out;
            l->out = l->block;
            l->block = filled;
            l->frames = 0;
            l->unwritten = l->block.size;
            bool closed = l->closed;
            pthread_mutex_unlock(&l->lock);
            if (closed) l->block.size = 0, state = -1;
            if (!l->block.size) break;
        }
        ssize_t n = send(l->fd, l->block.bytes + l->written, l->block.size - l->written, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) {
            l->written += (size_t)n;
        } else if (errno == EAGAIN) {
            struct pollfd p = {.fd = l->fd, .events = POLLOUT};
            if (poll(&p, 1, milliseconds) <= 0) {
                state = 1;
                break;
            }
        } else if (errno != EINTR) { /* the reader tells of it */
            l->written = l->block.size = 0;
            state = -1;
            break;
        }
    }
    pthread_mutex_unlock(&l->writing);
    return state;
}

static void ended(Link *l) {
    atomic_fetch_sub(&l->threads, 1), wake(&l->threads);
    link_drop(l);
}

static void *write_on(void *argument) {
    Link *l = argument;
    int quiet = 0;
    for (;;) {
        pthread_mutex_lock(&l->lock);
        bool some = l->out.size || l->drops;
        bool sleeps = l->asleep = !some && quiet >= PATIENCE && !l->closed;
        bool closed = l->closed;
        pthread_mutex_unlock(&l->lock);
        if (closed) break;
        if (some) {
            quiet = 0;
            link_flush(l, FLUSH_AFTER);
        } else {
            quiet++;
        }
        if (!atomic_exchange(&l->pulse, 0)) nap(&l->pulse, 0, sleeps ? LOOK_AFTER : FLUSH_AFTER);
    }
    ended(l);
    return NULL;
}

/* Reading. */

typedef struct {
    int fds[FDS];
    int count;
} Files;

static bool fails(char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool fails(char *why, const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    vsnprintf(why, sizeof((Link *)0)->why, format, rest);
    va_end(rest);
    return false;
}

/* Some bytes, and the descriptors that come with them. 0: the end, -1: why says. */
static ssize_t receive(Link *l, uint8_t *to, size_t size, Files *files, char *why) {
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(FDS * sizeof(int))];
    } more;
    struct iovec v = {to, size};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &more, .msg_controllen = sizeof more};
    ssize_t n;
    do n = recvmsg(l->fd, &m, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        fails(why, "the connection to the agent broke: %s", strerror(errno));
        return -1;
    }
    bool full = m.msg_flags & MSG_CTRUNC;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        int got[FDS], count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        if (count > FDS) count = FDS;
        memcpy(got, CMSG_DATA(c), (size_t)count * sizeof(int));
        for (int i = 0; i < count; i++) {
            if (files->count < FDS) {
                files->fds[files->count++] = got[i];
            } else {
                close(got[i]);
                full = true;
            }
        }
    }
    if (full) {
        fails(why, "the agent sent what can't be read: more descriptors at once than may be");
        return -1;
    }
    return n;
}

/* Hands frames to Python. */
static void queue(Link *l, Frame *f) {
    if (l->taking) {
        l->taking = false;
        atomic_fetch_add(&l->arrivals, 1), wake(&l->arrivals);
    }
    *l->last = f;
    l->last = &f->next;
    l->queued += f->length + sizeof *f;
}

/* One whole frame; its bytes are the link's to copy, or f is, if it is not NULL. */
static bool whole(Link *l, Frame *f, uint16_t kind, uint64_t corr, const uint8_t *bytes, uint32_t length, uint32_t body, int fd, char *why) {
    if (fd < 0) {
        bool behind = l->first || l->busy;
        if ((!behind && link_handle(l, kind, bytes, length, body)) || link_overtakes(l, kind, bytes, body)) {
            free(f);
            return true;
        }
    }
    if (!f) f = frame_of(kind, corr, bytes, length, body, fd);
    if (!f) return fails(why, "there is no memory for a frame of %u bytes", length);
    queue(l, f);
    return true;
}

static bool read_large(Link *l, Frame *f, size_t have, Files *files, char *why) {
    while (have < f->length) {
        ssize_t n = receive(l, f->bytes + have, f->length - have, files, why);
        if (n < 0) return false;
        if (n == 0) return fails(why, "the agent sent what can't be read: it ended inside a frame");
        have += (size_t)n;
    }
    return true;
}

static bool parse_header(const uint8_t *p, char *why) {
    uint32_t length = get32(p), body = get32(p + 4), kind = p[8] | (uint32_t)p[9] << 8;
    if (body <= length && length <= MANIPLE_MAX_MESSAGE && !(p[11] & ~MANIPLE_FLAG_DESCRIPTOR) && kind && p[10] <= 3) return true;
    char hex[2 * HEADER_SIZE + 1];
    for (int i = 0; i < HEADER_SIZE; i++) snprintf(hex + 2 * i, 3, "%02x", p[i]);
    return fails(why, "the agent sent what can't be read: header %s", hex);
}

/* Frames out of the first bytes of buffer; how many it took. */
static bool parse(Link *l, const uint8_t *buffer, size_t size, size_t *took, Files *files, char *why) {
    const uint8_t *p = buffer;
    bool good = true;
    pthread_mutex_lock(&l->lock);
    l->nearest = INT32_MAX;
    for (int some = 0; good && size >= HEADER_SIZE; some++) {
        if (!(good = parse_header(p, why))) break;
        uint32_t length = get32(p), body = get32(p + 4);
        if (size - HEADER_SIZE < length) break;
        int fd = -1;
        if (p[11]) {
            if (!files->count || body != length) {
                good = fails(why, "the agent sent what can't be read: a frame whose descriptor did not come");
                break;
            }
            fd = files->fds[0];
            memmove(files->fds, files->fds + 1, (size_t)--files->count * sizeof(int));
        }
        good = whole(l, NULL, (uint16_t)(p[8] | p[9] << 8), get64(p + 24), p + HEADER_SIZE, length, body, fd, why);
        p += HEADER_SIZE + length, size -= HEADER_SIZE + length;
        if (some % 32 == 31) { /* let others in */
            pthread_mutex_unlock(&l->lock);
            pthread_mutex_lock(&l->lock);
        }
    }
    bool stir = link_stirs(l);
    pthread_mutex_unlock(&l->lock);
    if (stir) wake(&l->work);
    *took = (size_t)(p - buffer);
    return good;
}

static void read_all(Link *l, uint8_t *buffer, Files *files, char *why) {
    size_t have = 0;
    for (;;) {
        ssize_t n = receive(l, buffer + have, CHUNK - have, files, why);
        if (n <= 0) return;
        have += (size_t)n;
        size_t took;
        if (!parse(l, buffer, have, &took, files, why)) return;
        have -= took;
        memmove(buffer, buffer + took, have);
        if (have >= HEADER_SIZE && get32(buffer) > CHUNK - HEADER_SIZE) {
            if (!parse_header(buffer, why)) return;
            uint32_t length = get32(buffer);
            Frame *f = frame_of((uint16_t)(buffer[8] | buffer[9] << 8), get64(buffer + 24), NULL, length, get32(buffer + 4), -1);
            if (!f) {
                fails(why, "there is no memory for a frame of %u bytes", length);
                return;
            }
            memcpy(f->bytes, buffer + HEADER_SIZE, have - HEADER_SIZE);
            bool good = !buffer[11] || fails(why, "the agent sent what can't be read: a frame of that length with a descriptor");
            if (!good || !read_large(l, f, have - HEADER_SIZE, files, why)) {
                free(f);
                return;
            }
            pthread_mutex_lock(&l->lock);
            good = whole(l, f, f->kind, f->corr, f->bytes, f->length, f->body, -1, why);
            bool stir = link_stirs(l);
            pthread_mutex_unlock(&l->lock);
            if (stir) wake(&l->work);
            if (!good) return;
            have = 0;
        }
        pthread_mutex_lock(&l->lock);
        bool calm = !l->worker && !l->first && !l->busy && l->nearest > FEW && n < CHUNK / 2;
        bool recalls = l->worker && l->out.size, crowded = l->queued > QUEUED_MAX, closed = l->closed;
        int room = atomic_load(&l->room);
        pthread_mutex_unlock(&l->lock);
        if (calm && !atomic_load(&l->hasty)) { /* a read that brings more costs less */
            atomic_store(&l->hurry, 1);
            if (!atomic_load(&l->hasty)) nap_micro(&l->hurry, 1, GATHER);
            atomic_store(&l->hurry, 0);
        }
        if (recalls) link_flush(l, FLUSH_AFTER);
        while (crowded && !closed) {
            nap(&l->room, room, LOOK_AFTER);
            pthread_mutex_lock(&l->lock);
            crowded = l->queued > QUEUED_MAX, closed = l->closed, room = atomic_load(&l->room);
            pthread_mutex_unlock(&l->lock);
        }
    }
}

static void *read_on(void *argument) {
    Link *l = argument;
    Files files = {.count = 0};
    char why[sizeof l->why] = "the agent closed the connection";
    uint8_t *buffer = malloc(CHUNK);
    if (buffer) read_all(l, buffer, &files, why);
    else fails(why, "there is no memory for a buffer");
    free(buffer);
    while (files.count) close(files.fds[--files.count]);
    pthread_mutex_lock(&l->lock);
    memcpy(l->why, why, sizeof why);
    l->closed = true;
    pthread_mutex_unlock(&l->lock);
    link_shut(l);
    if (l->fate) { /* whatever the interpreter does: a worker does not outlive its agent */
        for (int i = 0; i < LAST_WORDS / 10 && l->fate; i++) usleep(10000);
        if (l->fate) _exit(1);
    }
    ended(l);
    return NULL;
}

void link_shut(Link *l) {
    shutdown(l->fd, SHUT_RDWR);
    atomic_fetch_add(&l->arrivals, 1), wake(&l->arrivals);
    atomic_fetch_add(&l->room, 1), wake(&l->room);
    atomic_fetch_add(&l->credit, 1), wake(&l->credit);
    atomic_store(&l->pulse, 1), wake(&l->pulse);
}

int link_start(Link *l) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the interpreter's threads */
    link_share(l), link_share(l);
    l->threads = 2;
    int error = pthread_create(&l->reader, NULL, read_on, l);
    if (error) {
        ended(l);
    } else {
        pthread_detach(l->reader);
        error = pthread_create(&l->writer, NULL, write_on, l);
        if (!error) pthread_detach(l->writer);
    }
    if (error) {
        pthread_mutex_lock(&l->lock);
        l->closed = true;
        pthread_mutex_unlock(&l->lock);
        link_shut(l);
        ended(l);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}
