/* Direct lines: a call and its result without the agent between (ADR 0035).
 *
 * One call is on a line at a time, and its caller waits for it. Whoever has something else to say to the agent meanwhile tells it of the call
 * first: the worker before its own first frame or when the line ends, and the driver when it stops waiting, after DIRECT_WAIT at the latest. The
 * driver shuts the line before it does, and reads what is there: so it has the result, or the worker will see that it can't send it, and gives it
 * to the agent.
 */
#define _GNU_SOURCE
#include "_fast.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TAKEN_SIZE = HEADER_SIZE };

static bool whole_sent(Link *l, const uint8_t *bytes, size_t size) {
    return send(l->direct.fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size;
}

void direct_close(Link *l) {
    Direct *d = &l->direct;
    if (d->fd >= 0) {
        shutdown(d->fd, SHUT_RDWR); /* a fork's child may have it, too */
        close(d->fd);
    }
    d->fd = -1;
    d->have = 0;
    d->fresh = 0;
}

void direct_open(Link *l, const uint8_t *bytes, int fd) {
    Direct *d = &l->direct;
    if (d->out || (l->worker && d->fd >= 0)) {
        close(fd); /* the other end sees that it is not taken */
        return;
    }
    direct_close(l);
    memcpy(d->actor, bytes + AT(line, actor), TASK_SIZE);
    d->caller = get32(bytes + AT(line, caller)), d->incarnation = get32(bytes + AT(line, incarnation));
    d->shape = get32(bytes + AT(line, shape)), d->worker_shape = get32(bytes + AT(line, worker_shape));
    d->fd = fd;
    d->number++, d->taken = d->waits = false;
    direct_fence(l);
    uint8_t taken[TAKEN_SIZE] = {0};
    taken[8] = MANIPLE_LINE, taken[10] = maniple_class_of(MANIPLE_LINE);
    if (l->worker && !whole_sent(l, taken, sizeof taken)) direct_close(l);
}

/* Credit. */

static void give_back(Link *l, int64_t bytes, int64_t records) {
    l->credit_bytes += bytes, l->credit_records += records;
    atomic_fetch_add(&l->credit, 1);
    if (atomic_load(&l->hasty)) wake(&l->credit);
}

/* The call has its outcome, or is the agent's. */
void direct_over(Link *l) {
    l->direct.out = false;
    if (!l->worker) give_back(l, DIRECT_MOST, 0); /* of its result */
}

/* What comes. */

static bool call_came(Link *l, const uint8_t *bytes, uint32_t length, uint32_t body) {
    Direct *d = &l->direct;
    if (!l->worker || d->waits || !link_is_work(MANIPLE_CALL, bytes, body)) return false;
    if (memcmp(bytes + AT(call, actor), d->actor, TASK_SIZE) || get32(bytes + AT(call, shape)) != d->shape || get32(bytes + AT(call, returns)) != 1) return false;
    if (memcmp(bytes, l->prefix, 4) || get32(bytes + 4) != d->caller || get32(bytes + AT(call, attempt)) || get64(bytes + AT(call, deadline))) return false;
    Frame *f = frame_of(MANIPLE_CALL, 0, bytes, length, body, -1);
    if (!f) return false;
    put32(f->bytes + AT(call, shape), d->worker_shape);
    f->behind = l->items || l->runs, f->direct = d->number, f->shape = d->shape;
    if (!link_push(l, (Item){f, NULL})) return d->waits = true;
    frame_free(f);
    return false;
}

static bool result_came(Link *l, const uint8_t *bytes, uint32_t length, uint32_t body) {
    Direct *d = &l->direct;
    if (l->worker || !d->out || body != SIZE(result) || memcmp(bytes, d->call + HEADER_SIZE, TASK_SIZE)) return false;
    Entry *e = link_find(l, bytes);
    if (!e || e->state != AWAITED || get32(bytes + AT(result, flags)) != MANIPLE_RESULT_FLAG_LAST) return false;
    int64_t call = (int64_t)(get32(d->call) - get32(d->call + 4)), size = length - body;
    if (!link_result(l, bytes, length, body)) return false; /* which says that it has come */
    give_back(l, call - size, 0);
    memcpy(d->own[d->owns].key, bytes, KEY_SIZE);
    d->own[d->owns++].size = (uint32_t)size;
    return true;
}

static bool came(Link *l, const uint8_t *p, uint32_t length, uint32_t body) {
    if (l->worker) l->in.place = get32(p + 12);
    switch (p[8] | p[9] << 8) {
    case MANIPLE_CALL:
        return call_came(l, p + HEADER_SIZE, length, body);
    case MANIPLE_RESULT:
        return result_came(l, p + HEADER_SIZE, length, body);
    case MANIPLE_LINE:
        return !l->worker && !l->direct.taken && (l->direct.taken = true);
    }
    return false;
}

static bool parse(Link *l) {
    Direct *d = &l->direct;
    size_t at = 0;
    while (d->have - at >= HEADER_SIZE) {
        uint32_t length = get32(d->in + at), body = get32(d->in + at + 4);
        if (length > DIRECT_MOST - HEADER_SIZE || body > length || d->in[at + 11]) return false;
        if (d->have - at - HEADER_SIZE < length) break;
        if (!came(l, d->in + at, length, body)) return false;
        at += HEADER_SIZE + length;
    }
    d->have -= at;
    memmove(d->in, d->in + at, d->have);
    return true;
}

static void ended(Link *l);

void direct_pull(Link *l, bool all) {
    Direct *d = &l->direct;
    while (d->fd >= 0) {
        ssize_t n = recv(d->fd, d->in + d->have, sizeof d->in - d->have, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n > 0) d->have += (size_t)n;
        if (n <= 0 || !parse(l)) {
            if (l->worker) ended(l);
            else if (d->out) d->taken = false; /* who waits tells of it */
            else direct_close(l);
            return;
        }
        if (!all) return;
    }
}

/* A driver. */

void direct_fence(Link *l) {
    l->direct.clean = false;
    memset(l->direct.last, 0, TASK_SIZE);
}

void direct_before(Link *l, const uint8_t *frame, bool call) {
    const uint8_t *body = frame + HEADER_SIZE, *deps = body + (call ? AT(call, deps) : AT(submit, deps)), *refs = body + (call ? AT(call, refs) : AT(submit, refs));
    if (l->direct.out || l->direct.owns == DIRECT_KEPT || get32(deps) || get32(refs)) direct_tell(l);
}

void direct_called(Link *l, size_t before) {
    Direct *d = &l->direct;
    d->fresh = 0;
    if (l->worker || d->fd < 0) return;
    const uint8_t *frame = l->out.bytes + before, *body = frame + HEADER_SIZE;
    if (memcmp(body + AT(call, actor), d->actor, TASK_SIZE)) return;
    size_t size = l->out.size - before;
    if (!d->taken) direct_pull(l, false);
    bool fits = !before && d->taken && d->clean && d->owns < DIRECT_KEPT && size <= DIRECT_MOST && l->credit_bytes >= DIRECT_MOST && get32(body + AT(call, shape)) == d->shape &&
                link_is_work(MANIPLE_CALL, body, get32(frame + 4)) && !get64(body + AT(call, deadline));
    d->fresh = fits ? size : 0;
    d->clean = false;
    memcpy(d->last, body, TASK_SIZE);
}

void direct_settled(Link *l, const uint8_t *key, bool failed) {
    Direct *d = &l->direct;
    if (d->fd < 0 && !d->out) return;
    if (!failed && !memcmp(key, d->last, TASK_SIZE)) d->clean = true;
    if (d->out && !l->worker && !memcmp(key, d->call + HEADER_SIZE, TASK_SIZE)) direct_over(l);
}

bool direct_send(Link *l, const Gate *g) {
    Direct *d = &l->direct;
    if (d->fd < 0 || d->out || !d->fresh || l->out.size != d->fresh || l->closed || l->lead != OFFERED || l->bell < 0) return false;
    uint8_t key[KEY_SIZE] = {0};
    memcpy(key, d->last, TASK_SIZE);
    const Entry *e = link_find(l, key);
    if (!e || e->state != AWAITED || e->gate != g || atomic_load(&g->missing) != 1 || memcmp(l->out.bytes + HEADER_SIZE, key, TASK_SIZE)) return false;
    memcpy(d->call, l->out.bytes, d->size = d->fresh);
    l->in.place = (uint32_t)sched_getcpu() + 1; /* the worker comes here, and this thread stays: both would swap if each went to the other */
    put32(l->out.bytes + 12, l->in.place);
    if (!whole_sent(l, l->out.bytes, d->size)) {
        put32(l->out.bytes + 12, 0);
        direct_close(l); /* of a part nothing comes: it is no whole frame */
        return false;
    }
    l->out.size = 0, l->frames = 0;
    d->fresh = 0;
    d->out = true;
    link_release_dropped(l); /* by the way, and in no hurry */
    give_back(l, -DIRECT_MOST, 0);
    return link_lead(l);
}

bool direct_dropped(Link *l, const uint8_t *key) {
    Direct *d = &l->direct;
    for (int i = 0; i < d->owns; i++) {
        if (memcmp(key, d->own[i].key, KEY_SIZE)) continue;
        give_back(l, d->own[i].size, 1);
        d->own[i] = d->own[--d->owns];
        return true;
    }
    return false;
}

/* Puts the results that the agent does not know, and that somebody here has. */
static void put_own(Link *l) {
    Direct *d = &l->direct;
    if (d->owns) link_release_dropped(l);
    while (d->owns) {
        const uint8_t *key = d->own[--d->owns].key;
        Entry *e = link_find(l, key);
        if (!e) {
            give_back(l, d->own[d->owns].size, 1);
            continue;
        }
        uint8_t head[HEADER_SIZE + SIZE(put)] = {0};
        put32(head, SIZE(put) + e->size), put32(head + 4, SIZE(put)), head[8] = MANIPLE_PUT, head[10] = MANIPLE_CLASS_CALLS;
        memcpy(head + HEADER_SIZE, key, KEY_SIZE);
        put32(head + HEADER_SIZE + AT(put, format), e->format);
        if (!link_put(l, head, sizeof head) && !link_put(l, entry_bytes(e), e->size)) link_sent(l);
    }
}

/* A worker. */

/* Makes a call the one that is told of. */
static void note(Link *l, const Frame *f) {
    Direct *d = &l->direct;
    memset(d->call, 0, HEADER_SIZE);
    put32(d->call, f->length), put32(d->call + 4, f->body);
    memcpy(d->call + HEADER_SIZE, f->bytes, f->length);
    put32(d->call + HEADER_SIZE + AT(call, shape), f->shape);
    d->size = HEADER_SIZE + f->length, d->of = f->direct;
    d->out = true;
}

void direct_begun(Link *l, const Frame *f) {
    if (l->direct.number == f->direct) l->direct.waits = false;
    note(l, f);
}

/* The line is over: the agent has to know of its calls, whoever else may tell, as their caller may be gone. */
static void ended(Link *l) {
    Direct *d = &l->direct;
    direct_close(l);
    direct_tell(l);
    for (size_t i = 0; d->waits && i < l->items; i++) {
        const Frame *f = l->inbox[(l->item_at + i) & (l->item_room - 1)].frame;
        if (!f || f->direct != d->number) continue;
        note(l, f);
        put32(d->call + HEADER_SIZE + AT(call, attempt), 1);
        direct_tell(l);
    }
    d->waits = false;
}

void direct_end(Link *l, const uint8_t *bytes) {
    if (l->direct.fd >= 0) {
        shutdown(l->direct.fd, SHUT_RDWR); /* a call that its driver sends from here on goes by the agent */
        direct_pull(l, true);
    }
    uint8_t answer[HEADER_SIZE + SIZE(line)] = {0};
    put32(answer, SIZE(line)), put32(answer + 4, SIZE(line)), answer[8] = MANIPLE_LINE, answer[10] = maniple_class_of(MANIPLE_LINE);
    memcpy(answer + HEADER_SIZE, bytes, SIZE(line));
    if (!link_put(l, answer, sizeof answer)) link_sent(l);
}

bool direct_answer(Link *l, const uint8_t *task, const uint8_t *frame, const uint8_t *payload, size_t size) {
    Direct *d = &l->direct;
    if (!l->worker || !d->out || memcmp(task, d->call + HEADER_SIZE, TASK_SIZE)) return false;
    const uint8_t *body = frame + HEADER_SIZE;
    uint8_t whole[DIRECT_MOST];
    size_t head = HEADER_SIZE + SIZE(result), all = head + size;
    if (d->fd >= 0 && d->of == d->number && all <= sizeof whole && get32(body + AT(result, flags)) == MANIPLE_RESULT_FLAG_LAST && !get32(body + TASK_SIZE) && !get32(body + AT(result, attempt))) {
        memcpy(whole, frame, head);
        memcpy(whole + head, payload, size);
        put32(whole + 12, (uint32_t)sched_getcpu() + 1);
        if (whole_sent(l, whole, all)) {
            direct_over(l);
            return true;
        }
        ended(l);
    }
    direct_tell(l);
    return false;
}

/* Both. */

void direct_tell(Link *l) {
    Direct *d = &l->direct;
    put_own(l);
    if (!d->out) return;
    if (!l->worker && d->fd >= 0) {
        shutdown(d->fd, SHUT_RDWR);
        direct_pull(l, true);
        direct_close(l);
        if (!d->out) { /* it had come */
            put_own(l);
            return;
        }
    }
    uint8_t *body = d->call + HEADER_SIZE;
    d->call[8] = MANIPLE_TOLD, d->call[10] = maniple_class_of(MANIPLE_TOLD);
    put32(body + AT(told, incarnation), d->incarnation);
    if (!link_put(l, d->call, d->size)) link_sent(l);
    direct_over(l);
}
