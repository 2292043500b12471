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
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

OLD_NAME(pthread_create);
OLD_NAME(pthread_detach);
OLD_NAME(pthread_sigmask);
OLD_NAME(pthread_mutex_timedlock);
OLD_NAME(pthread_mutex_trylock);

enum {
    FLUSH_AFTER = 1,          /* milliseconds that a frame nobody waits for may stay here */
    PATIENCE = 20,            /* such, without a frame, after which the next one has to wake the writer */
    LOOK_AFTER = 250,         /* milliseconds after which dropped references are looked for though nothing was sent */
    QUEUED_MAX = 64 << 20,    /* bytes that may wait for Python, beside one frame */
    KEPT = 1 << 20,           /* bytes of a buffer that is kept when it is empty */
    GATHER = 200,             /* microseconds that results may gather while nobody waits for few of them */
    PARKED = 60000,           /* milliseconds that the reading thread sleeps while it is not to read, unless it is woken */
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

/* This process has closed the descriptor, as os.closerange() does: the reader, which waits at what it was, hears of nothing. */
static void lost(Link *l) {
    pthread_mutex_lock(&l->lock);
    if (!l->closed) strcpy(l->why, "this process has closed its connection to the agent, as by os.closerange(): close only what you have opened");
    l->closed = true;
    pthread_mutex_unlock(&l->lock);
    link_shut(l);
}

int link_flush(Link *l, int milliseconds) {
    if (pthread_mutex_trylock(&l->writing)) {
        if (!milliseconds) return 1;
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += milliseconds * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        if (pthread_mutex_timedlock(&l->writing, &until)) return 1;
    }
    int state = 0;
    bool gone = false;
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
            l->direct.fresh = 0;
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
            if (!milliseconds || poll(&p, 1, milliseconds) <= 0) {
                state = 1;
                break;
            }
        } else if (errno != EINTR) { /* the reader tells of it */
            gone = errno == EBADF || errno == ENOTSOCK;
            l->written = l->block.size = 0;
            state = -1;
            break;
        }
    }
    pthread_mutex_unlock(&l->writing);
    if (gone) lost(l);
    return state;
}

static void stir_writer(Link *l) {
    atomic_store(&l->pulse, 1);
    wake(&l->pulse);
}

/* The threads and waiters. */

static void give_lead(Link *l, int to) {
    l->lead = to;
    l->leads++;
}

static void ended(Link *l) {
    atomic_fetch_sub(&l->threads, 1), wake(&l->threads);
    link_drop(l);
}

/* Whatever the interpreter does: a worker does not outlive its agent. */
static void outlive(Link *l) {
    for (int i = 0; i < LAST_WORDS / 10 && l->fate; i++) usleep(10000);
    if (l->fate) _exit(1);
}

static void *write_on(void *argument) {
    Link *l = argument;
    unsigned leads = 0; /* when it looked last */
    int quiet = 0;
    for (;;) {
        pthread_mutex_lock(&l->lock);
        bool some = l->out.size || l->drops || l->unwritten, offered = l->lead == OFFERED, back = offered && l->leads == leads;
        if (back) give_lead(l, BY_THREAD);
        leads = l->leads;
        bool sleeps = l->asleep = !some && !offered && quiet >= PATIENCE && !l->closed;
        bool closed = l->closed;
        pthread_mutex_unlock(&l->lock);
        if (back) wake(&l->lead);
        if (closed) break;
        if (some) {
            quiet = 0;
            link_flush(l, FLUSH_AFTER);
        } else {
            quiet++;
        }
        if (!atomic_exchange(&l->pulse, 0)) nap(&l->pulse, 0, sleeps ? LOOK_AFTER : FLUSH_AFTER);
    }
    outlive(l);
    ended(l);
    return NULL;
}

/* Reading. */

static bool fails(Link *l, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool fails(Link *l, const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    vsnprintf(l->in.why, sizeof l->in.why, format, rest);
    va_end(rest);
    return false;
}

/* Some bytes, and the descriptors that come with them. 0: the end, -1: in.why says, -2: there is nothing, with MSG_DONTWAIT. */
static ssize_t receive(Link *l, uint8_t *to, size_t size, int flags) {
    Incoming *in = &l->in;
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(FDS * sizeof(int))];
    } more;
    struct iovec v = {to, size};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &more, .msg_controllen = sizeof more};
    ssize_t n;
    do n = recvmsg(l->fd, &m, MSG_CMSG_CLOEXEC | flags);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) return -2;
    if (n < 0) {
        fails(l, "the connection to the agent broke: %s", strerror(errno));
        return -1;
    }
    bool cut = m.msg_flags & MSG_CTRUNC, full = false;
    int before = in->fd_count;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        int got[FDS], count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        if (count > FDS) count = FDS;
        memcpy(got, CMSG_DATA(c), (size_t)count * sizeof(int));
        for (int i = 0; i < count; i++) {
            if (in->fd_count < FDS) {
                in->fds[in->fd_count++] = got[i];
            } else {
                close(got[i]);
                full = true;
            }
        }
    }
    if (cut && in->fd_count == before) in->lost++;
    else full |= cut;
    if (full) {
        fails(l, "the agent sent what can't be read: more descriptors at once than may be");
        return -1;
    }
    return n;
}

/* Hands frames to Python. */
static void queue(Link *l, Frame *f) {
    if (l->taking) link_untake(l);
    *l->last = f;
    l->last = &f->next;
    l->queued += f->length + sizeof *f;
}

/* One whole frame; its bytes are the link's to copy, or f is, if it is not NULL. */
static bool whole(Link *l, Frame *f, uint16_t kind, uint64_t corr, const uint8_t *bytes, uint32_t length, uint32_t body, int fd) {
    if (kind == MANIPLE_LINE && body == SIZE(line) && (fd >= 0 || l->worker)) {
        if (fd >= 0) direct_open(l, bytes, fd);
        else direct_end(l, bytes);
        free(f);
        return true;
    }
    if (fd < 0) {
        bool behind = l->first || l->busy;
        if ((!behind && link_handle(l, kind, bytes, length, body)) || link_overtakes(l, kind, bytes, body)) {
            free(f);
            return true;
        }
    }
    if (!f) f = frame_of(kind, corr, bytes, length, body, fd);
    if (!f) return fails(l, "there is no memory for a frame of %u bytes", length);
    queue(l, f);
    return true;
}

static bool read_large(Link *l, Frame *f, size_t have) {
    while (have < f->length) {
        ssize_t n = receive(l, f->bytes + have, f->length - have, 0);
        if (n < 0) return false;
        if (n == 0) return fails(l, "the agent sent what can't be read: it ended inside a frame");
        have += (size_t)n;
    }
    return true;
}

static bool parse_header(Link *l, const uint8_t *p) {
    uint32_t length = get32(p), body = get32(p + 4), kind = p[8] | (uint32_t)p[9] << 8;
    if (body <= length && length <= MANIPLE_MAX_MESSAGE && !(p[11] & ~MANIPLE_FLAG_DESCRIPTOR) && kind && p[10] <= 3) return true;
    char hex[2 * HEADER_SIZE + 1];
    for (int i = 0; i < HEADER_SIZE; i++) snprintf(hex + 2 * i, 3, "%02x", p[i]);
    return fails(l, "the agent sent what can't be read: header %s", hex);
}

/* Takes the frames out that are whole. */
static bool parse(Link *l) {
    Incoming *in = &l->in;
    const uint8_t *p = in->buffer;
    size_t size = in->have;
    bool good = true;
    pthread_mutex_lock(&l->lock);
    l->nearest = INT32_MAX;
    l->told = 0, l->slept = atomic_load(&l->hasty);
    in->place = 0;
    for (int some = 0; good && size >= HEADER_SIZE; some++) {
        if (!(good = parse_header(l, p))) break;
        uint32_t length = get32(p), body = get32(p + 4);
        if (size - HEADER_SIZE < length) break;
        if (!some) in->place = get32(p + 12);
        int fd = -1;
        bool skips = false;
        if (p[11] && !in->fd_count && in->lost && body == length) {
            in->lost--;
            if (!(skips = (p[8] | p[9] << 8) == MANIPLE_LINE)) { /* whose other end sees that it is not taken */
                good = fails(l, "this process may open no more files (ulimit -n), and the agent sent it one");
                break;
            }
        } else if (p[11]) {
            if (!in->fd_count || body != length) {
                good = fails(l, "the agent sent what can't be read: a frame whose descriptor did not come");
                break;
            }
            fd = in->fds[0];
            memmove(in->fds, in->fds + 1, (size_t)--in->fd_count * sizeof(int));
        }
        good = skips || whole(l, NULL, (uint16_t)(p[8] | p[9] << 8), get64(p + 24), p + HEADER_SIZE, length, body, fd);
        p += HEADER_SIZE + length, size -= HEADER_SIZE + length;
        if (some % 32 == 31) { /* let others in */
            pthread_mutex_unlock(&l->lock);
            pthread_mutex_lock(&l->lock);
        }
    }
    bool stir = link_stirs(l);
    l->told += stir;
    pthread_mutex_unlock(&l->lock);
    if (stir) wake(&l->work);
    in->have = size;
    memmove(in->buffer, p, size);
    return good;
}

/* Reads once. false: nothing more can be read. */
static bool read_some(Link *l, int flags) {
    Incoming *in = &l->in;
    ssize_t n = in->over ? 0 : receive(l, in->buffer + in->have, CHUNK - in->have, flags);
    if (n == -2) return true;
    if (n > 0) in->have += in->got = (size_t)n;
    if (n > 0 && l->worker && l->direct.fd >= 0) { /* what was written there was written before what the agent knows of */
        pthread_mutex_lock(&l->lock);
        direct_pull(l, true);
        pthread_mutex_unlock(&l->lock);
    }
    in->over = n <= 0 || !parse(l);
    return !in->over;
}

void link_early(Link *l) {
    Incoming *in = &l->in;
    ssize_t there = recv(l->fd, in->buffer, CHUNK, MSG_PEEK | MSG_DONTWAIT);
    size_t have = there < 0 ? 0 : (size_t)there, taken = 0;
    while (have - taken >= HEADER_SIZE) {
        const uint8_t *p = in->buffer + taken;
        if (p[11] || have - taken - HEADER_SIZE < get32(p)) break;
        taken += HEADER_SIZE + get32(p);
    }
    if (!taken) return;
    ssize_t n = recv(l->fd, in->buffer, taken, MSG_DONTWAIT);
    in->have = n < 0 ? 0 : (size_t)n;
    in->over = !parse(l);
}

/* A frame has begun that the buffer is too small for. */
static bool larger(const Link *l) { return l->in.have >= HEADER_SIZE && get32(l->in.buffer) > CHUNK - HEADER_SIZE; }

/* Reads the rest of such a frame, into a place of its own. */
static bool read_larger(Link *l) {
    Incoming *in = &l->in;
    const uint8_t *p = in->buffer;
    if (!parse_header(l, p)) return false;
    uint32_t length = get32(p);
    Frame *f = frame_of((uint16_t)(p[8] | p[9] << 8), get64(p + 24), NULL, length, get32(p + 4), -1);
    if (!f) return fails(l, "there is no memory for a frame of %u bytes", length);
    memcpy(f->bytes, p + HEADER_SIZE, in->have - HEADER_SIZE);
    bool good = !p[11] || fails(l, "the agent sent what can't be read: a frame of that length with a descriptor");
    if (!good || !read_large(l, f, in->have - HEADER_SIZE)) {
        free(f);
        return false;
    }
    in->have = 0;
    pthread_mutex_lock(&l->lock);
    l->nearest = INT32_MAX;
    l->told = 0, l->slept = atomic_load(&l->hasty);
    good = whole(l, f, f->kind, f->corr, f->bytes, f->length, f->body, -1);
    bool stir = link_stirs(l);
    l->told += stir;
    pthread_mutex_unlock(&l->lock);
    if (stir) wake(&l->work);
    return good;
}

/* Recalls that were answered without Python. */
static void answer_recalls(Link *l) {
    pthread_mutex_lock(&l->lock);
    bool some = l->worker && l->out.size;
    pthread_mutex_unlock(&l->lock);
    if (some) link_flush(l, FLUSH_AFTER);
}

static bool crowded(Link *l, int *room) {
    pthread_mutex_lock(&l->lock);
    bool is = l->queued > QUEUED_MAX && !l->closed;
    *room = atomic_load(&l->room);
    pthread_mutex_unlock(&l->lock);
    return is;
}

/* Lets more come before the next read while nobody waits for few results: a read that brings more costs less. */
static void gather(Link *l) {
    pthread_mutex_lock(&l->lock);
    bool calm = !l->worker && !l->first && !l->busy && l->nearest > FEW && l->in.got < CHUNK / 2;
    pthread_mutex_unlock(&l->lock);
    if (!calm || atomic_load(&l->hasty)) return;
    atomic_store(&l->hurry, 1);
    if (!atomic_load(&l->hasty)) nap_micro(&l->hurry, 1, GATHER);
    atomic_store(&l->hurry, 0);
}

bool link_lead(Link *l) {
    if (l->lead != OFFERED || l->closed || l->bell < 0) return false;
    give_lead(l, BY_WAITER);
    return true;
}

void link_ring(Link *l) {
    uint64_t one = 1;
    if (atomic_exchange(&l->polls, 0) && write(l->bell, &one, sizeof one) < 0) return; /* it rings already */
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Reads a direct line. false: nobody else will be seen to be there. */
static bool read_direct(Link *l) {
    pthread_mutex_lock(&l->lock);
    l->told = 0, l->slept = atomic_load(&l->hasty);
    direct_pull(l, false);
    bool stir = link_stirs(l), lost = !l->worker && l->direct.out && !l->direct.taken;
    l->told += stir;
    pthread_mutex_unlock(&l->lock);
    if (stir) wake(&l->work);
    return !lost;
}

void link_read(Link *l, atomic_int *word, int was, int milliseconds) {
    struct pollfd p[] = {{.fd = l->fd, .events = POLLIN}, {.fd = l->bell, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    int64_t end = now() + milliseconds;
    bool back = false;
    int room;
    for (int left = milliseconds; !back && left >= 0; left = (int)(end - now())) {
        atomic_store(&l->polls, 1);
        p[2].fd = l->direct.fd, p[2].revents = 0;
        int n = atomic_load(word) == was ? link_wait(l, p, p[2].fd < 0 ? 2 : 3, left) : 0;
        atomic_store(&l->polls, 0);
        if (n <= 0) break;
        uint64_t rung;
        if (p[1].revents && read(l->bell, &rung, sizeof rung) < 0) p[1].revents = 0;
        if (p[2].revents && !read_direct(l)) break;
        if (!p[0].revents) continue;
        back = !read_some(l, MSG_DONTWAIT) || larger(l) || crowded(l, &room);
        if (!back && atomic_load(word) == was) gather(l);
        answer_recalls(l);
    }
    pthread_mutex_lock(&l->lock);
    back = back || l->closed || atomic_load(&l->hasty) || l->idle == SLEEPS;
    give_lead(l, back ? BY_THREAD : OFFERED);
    bool stir = l->asleep;
    l->asleep = false;
    pthread_mutex_unlock(&l->lock);
    if (back) wake(&l->lead);
    if (stir) stir_writer(l);
}

/* Waits until the thread is to read. */
static bool lead_is_back(Link *l) {
    for (;;) {
        pthread_mutex_lock(&l->lock);
        int lead = l->lead;
        bool closed = l->closed;
        pthread_mutex_unlock(&l->lock);
        if (lead == BY_THREAD || closed) return !closed;
        nap(&l->lead, lead, PARKED);
    }
}

/* Reads once, the direct line as well. false: nothing more can be read. */
static bool read_next(Link *l) {
    if (larger(l)) return read_larger(l); /* it may have begun in a waiter's hands */
    if (l->direct.fd < 0) return read_some(l, 0);
    struct pollfd p[] = {{.fd = l->fd, .events = POLLIN}, {.fd = l->direct.fd, .events = POLLIN}};
    if (poll(p, 2, -1) <= 0) return true;
    if (p[1].revents) read_direct(l);
    return !p[0].revents || read_some(l, MSG_DONTWAIT);
}

static void read_all(Link *l) {
    while (lead_is_back(l)) {
        if (!read_next(l)) return;
        pthread_mutex_lock(&l->lock);
        bool offers = l->told && l->told >= l->slept && l->idle != SLEEPS && !larger(l), stir = offers && l->asleep;
        if (offers) give_lead(l, OFFERED);
        if (stir) l->asleep = false;
        pthread_mutex_unlock(&l->lock);
        if (stir) stir_writer(l);
        gather(l);
        answer_recalls(l);
        for (int room; crowded(l, &room);) nap(&l->room, room, LOOK_AFTER);
    }
}

static void *read_on(void *argument) {
    Link *l = argument;
    read_all(l);
    pthread_mutex_lock(&l->lock);
    memcpy(l->why, l->in.why, sizeof l->why);
    l->closed = true;
    direct_close(l);
    pthread_mutex_unlock(&l->lock);
    link_shut(l);
    outlive(l);
    ended(l);
    return NULL;
}

void link_shut(Link *l) {
    shutdown(l->fd, SHUT_RDWR);
    pthread_mutex_lock(&l->lock);
    if (l->lead == OFFERED) give_lead(l, BY_THREAD); /* a waiter sees the end by itself */
    pthread_mutex_unlock(&l->lock);
    wake(&l->lead);
    atomic_fetch_add(&l->arrivals, 1), wake(&l->arrivals);
    atomic_fetch_add(&l->room, 1), wake(&l->room);
    atomic_fetch_add(&l->credit, 1), wake(&l->credit);
    stir_writer(l);
}

int link_start(Link *l) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the interpreter's threads */
    l->generation = link_generation(); /* it may have been made before a fork, for the child */
    if (l->bell < 0) l->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
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
