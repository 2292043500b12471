/* What a Link knows, and what its frames do to that: the table, credit, the inbox. */
#define _GNU_SOURCE
#include "_fast.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

OLD_NAME(pthread_mutexattr_destroy);
OLD_NAME(pthread_mutexattr_init);
OLD_NAME(pthread_mutexattr_settype);

static atomic_uint generation;

static void forked(void) { atomic_fetch_add(&generation, 1); }

void fast_setup(void) {
    static bool once;
    if (!once) {
        once = true;
        pthread_atfork(NULL, NULL, forked);
    }
}

unsigned link_generation(void) { return atomic_load(&generation); }

bool link_inert(const Link *l) { return l->generation != atomic_load(&generation); }

/* Waiting. */

void nap_micro(atomic_int *word, int was, int microseconds) {
    struct timespec t = {microseconds / 1000000, (long)(microseconds % 1000000) * 1000};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, was, &t, NULL, 0);
}

void nap(atomic_int *word, int was, int milliseconds) { nap_micro(word, was, milliseconds * 1000); }

void wake(atomic_int *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0); }

void gate_open(Gate *g) {
    Link *l = g->link;
    int was = atomic_exchange(&g->word, 1); /* who waits may be gone with it from here on */
    if (was == 2) wake(&g->word);
    if (was == 3) link_ring(l);
}

int gate_arrived(Gate *g, bool failed) {
    bool early = failed && g->early;
    int left = atomic_fetch_sub(&g->missing, 1) - 1;
    if (left <= 0 || early) gate_open(g);
    return left;
}

/* false: it is open. */
static bool gate_shut(Gate *g, int how) {
    int was = atomic_load(&g->word);
    while (was != 1 && !atomic_compare_exchange_weak(&g->word, &was, how)) {
    }
    return was != 1;
}

bool gate_sleep(Gate *g, bool hasty, int milliseconds) {
    if (atomic_load(&g->word) == 1) return true;
    if (milliseconds <= 0) return false;
    Link *l = hasty ? g->link : NULL;
    bool reads = false;
    if (l) {
        pthread_mutex_lock(&l->lock);
        reads = link_lead(l);
        g->hasty = !reads;
        if (!reads) link_haste(l);
        pthread_mutex_unlock(&l->lock);
    }
    if (reads) {
        gate_shut(g, 3);
        link_read(l, &g->word, 3, milliseconds);
    } else {
        if (gate_shut(g, 2)) nap(&g->word, 2, milliseconds);
        if (l) link_calm(l);
    }
    return atomic_load(&g->word) == 1;
}

bool gate_direct(Gate *g) {
    Link *l = g->link;
    pthread_mutex_lock(&l->lock);
    bool sent = direct_send(l, g);
    if (sent) g->hasty = false;
    pthread_mutex_unlock(&l->lock);
    if (!sent) return false;
    gate_shut(g, 3);
    link_read(l, &g->word, 3, DIRECT_WAIT);
    pthread_mutex_lock(&l->lock);
    if (atomic_load(&g->word) != 1 || l->direct.out) direct_tell(l);
    pthread_mutex_unlock(&l->lock);
    return atomic_load(&g->word) == 1;
}

/* Growing things. */

static int grow(void *array, size_t *room, size_t need, size_t size) {
    void **at = array;
    if (need <= *room) return 0;
    size_t more = *room ? *room * 2 : 64;
    while (more < need) more *= 2;
    void *made = realloc(*at, more * size);
    if (!made) return -1;
    *at = made;
    *room = more;
    return 0;
}

int link_put(Link *l, const uint8_t *bytes, size_t size) {
    if (grow(&l->out.bytes, &l->out.room, l->out.size + size, 1)) return -1;
    memcpy(l->out.bytes + l->out.size, bytes, size);
    l->out.size += size;
    return 0;
}

static void stir(Link *l) {
    if (!l->asleep) return;
    l->asleep = false;
    atomic_store(&l->pulse, 1);
    wake(&l->pulse);
}

void link_sent(Link *l) {
    l->frames++;
    stir(l);
}

/* A frame whose body is one of the small structs. */
static int put_small(Link *l, uint16_t kind, const uint8_t *body, uint32_t size) {
    uint8_t head[HEADER_SIZE] = {0};
    put32(head, size);
    put32(head + 4, size);
    head[8] = (uint8_t)kind, head[9] = (uint8_t)(kind >> 8), head[10] = MANIPLE_CLASS_CALLS;
    if (grow(&l->out.bytes, &l->out.room, l->out.size + HEADER_SIZE + size, 1)) return -1;
    link_put(l, head, HEADER_SIZE);
    link_put(l, body, size);
    l->frames++;
    return 0;
}

Frame *frame_of(uint16_t kind, uint64_t corr, const uint8_t *bytes, uint32_t length, uint32_t body, int fd) {
    Frame *f = malloc(sizeof *f + length);
    if (!f) return NULL;
    *f = (Frame){.corr = corr, .length = length, .body = body, .kind = kind, .fd = fd};
    if (bytes) memcpy(f->bytes, bytes, length);
    return f;
}

void frame_free(Frame *f) {
    if (f && f->fd >= 0) close(f->fd);
    free(f);
}

/* The table: open addressing, and what is behind a gap moves up when something goes. */

static size_t home(const Link *l, const uint8_t *key) {
    uint64_t h = get64(key + 8) * 0x9E3779B97F4A7C15u ^ get64(key) * 0xC2B2AE3D27D4EB4Fu ^ get32(key + 16) * 0x165667B19E3779F9u;
    return (size_t)(h ^ h >> 29) & (l->slots - 1);
}

static int resize(Link *l, size_t slots) {
    Entry *old = l->table;
    size_t count = l->slots;
    Entry *made = calloc(slots, sizeof *made);
    if (!made) return -1;
    l->table = made;
    l->slots = slots;
    for (size_t i = 0; i < count; i++) {
        if (old[i].state == EMPTY) continue;
        size_t at = home(l, old[i].key);
        while (made[at].state != EMPTY) at = (at + 1) & (slots - 1);
        made[at] = old[i];
    }
    free(old);
    return 0;
}

Entry *link_find(Link *l, const uint8_t *key) {
    if (!l->slots) return NULL;
    for (size_t at = home(l, key);; at = (at + 1) & (l->slots - 1)) {
        Entry *e = &l->table[at];
        if (e->state == EMPTY) return NULL;
        if (!memcmp(e->key, key, KEY_SIZE)) return e;
    }
}

int link_room(Link *l, size_t more) {
    size_t slots = l->slots ? l->slots : 1024;
    while ((l->entries + more) * 3 > slots * 2) slots *= 2;
    return slots == l->slots ? 0 : resize(l, slots);
}

Entry *link_add(Link *l, const uint8_t *key) {
    if (link_room(l, 1)) return NULL;
    size_t at = home(l, key);
    while (l->table[at].state != EMPTY) at = (at + 1) & (l->slots - 1);
    Entry *e = &l->table[at];
    memset(e, 0, sizeof *e);
    memcpy(e->key, key, KEY_SIZE);
    e->state = AWAITED;
    l->entries++;
    return e;
}

void link_remove(Link *l, Entry *e) {
    if (e->state == HERE && e->size > sizeof e->bytes.small) free(e->bytes.large);
    size_t gap = (size_t)(e - l->table), at = gap, mask = l->slots - 1;
    for (;;) {
        l->table[gap].state = EMPTY;
        for (;;) {
            at = (at + 1) & mask;
            if (l->table[at].state == EMPTY) goto closed;
            size_t from = home(l, l->table[at].key);
            if (((at - from) & mask) >= ((at - gap) & mask)) break;
        }
        l->table[gap] = l->table[at];
        gap = at;
    }
closed:
    l->entries--;
    if (l->slots > 4096 && l->entries * 16 < l->slots) resize(l, l->slots / 4);
}

/* References. */

static int drop_into(Dropped **array, size_t *count, size_t *room, const uint8_t *key, size_t size) {
    if (grow(array, room, *count + 1, sizeof **array)) return -1;
    Dropped *d = &(*array)[(*count)++];
    d->size = (uint8_t)size;
    memcpy(d->key, key, size);
    return 0;
}

int link_release(Link *l, const uint8_t *key, uint32_t deliveries) {
    uint8_t body[SIZE(release)] = {0};
    memcpy(body, key, KEY_SIZE);
    put32(body + AT(release, deliveries), deliveries);
    return put_small(l, MANIPLE_RELEASE, body, sizeof body);
}

int link_drop_key(Link *l, const uint8_t *key, size_t size) {
    if (l->drops == HEAP) stir(l);
    return drop_into(&l->dropped, &l->drops, &l->drop_room, key, size);
}

void link_release_dropped(Link *l) {
    for (size_t i = 0; i < l->drops; i++) {
        const Dropped *d = &l->dropped[i];
        Entry *e = d->size == KEY_SIZE ? link_find(l, d->key) : NULL;
        if (!e) {
            drop_into(&l->others, &l->other, &l->other_room, d->key, d->size);
            continue;
        }
        link_remove(l, e);
        if (!direct_dropped(l, d->key) && !l->closed) link_release(l, d->key, 0);
    }
    l->drops = 0;
    if (l->other >= HEAP && l->taking) link_untake(l);
}

void link_untake(Link *l) {
    l->taking = false;
    atomic_fetch_add(&l->arrivals, 1), wake(&l->arrivals);
}

/* The inbox. */

int link_push(Link *l, Item item) {
    if (l->items == l->item_room) {
        size_t room = l->item_room ? l->item_room * 2 : 64;
        Item *made = malloc(room * sizeof *made);
        if (!made) return -1;
        for (size_t i = 0; i < l->items; i++) made[i] = l->inbox[(l->item_at + i) & (l->item_room - 1)];
        free(l->inbox);
        l->inbox = made, l->item_room = room, l->item_at = 0;
    }
    l->inbox[(l->item_at + l->items++) & (l->item_room - 1)] = item;
    return 0;
}

void link_haste(Link *l) {
    atomic_fetch_add(&l->hasty, 1);
    if (atomic_exchange(&l->hurry, 0)) wake(&l->hurry);
}

void link_calm(Link *l) { atomic_fetch_sub(&l->hasty, 1); }

bool link_stirs(Link *l) {
    if (!l->items || !l->idle) return false;
    bool sleeps = l->idle == SLEEPS;
    l->idle = 0;
    atomic_fetch_add(&l->work, 1);
    if (!sleeps) link_ring(l);
    return sleeps;
}

static bool runs(Link *l, const uint8_t *task, size_t *at) {
    for (*at = 0; *at < l->runs; ++*at)
        if (!memcmp(l->running[*at], task, TASK_SIZE)) return true;
    return false;
}

int link_begun(Link *l, const uint8_t *task) {
    size_t at;
    if (runs(l, task, &at)) return 0;
    if (grow(&l->running, &l->run_room, l->runs + 1, TASK_SIZE)) return -1;
    memcpy(l->running[l->runs++], task, TASK_SIZE);
    return 0;
}

void link_ended(Link *l, const uint8_t *task) {
    size_t at;
    if (runs(l, task, &at)) memmove(l->running[at], l->running[--l->runs], TASK_SIZE);
}

Frame *link_withdraw(Link *l, const uint8_t *task) {
    for (size_t i = 0; i < l->items; i++) {
        Item *item = &l->inbox[(l->item_at + i) & (l->item_room - 1)];
        Frame *f = item->frame;
        if (!f || memcmp(f->bytes, task, TASK_SIZE)) continue;
        for (size_t j = i; j + 1 < l->items; j++) l->inbox[(l->item_at + j) & (l->item_room - 1)] = l->inbox[(l->item_at + j + 1) & (l->item_room - 1)];
        l->items--;
        return f;
    }
    return NULL;
}

void link_started(Link *l, const uint8_t *task) { put_small(l, MANIPLE_STARTED, task, SIZE(started)); }

static void recalled(Link *l, const uint8_t *task, uint32_t started) {
    uint8_t body[SIZE(recalled)] = {0};
    memcpy(body, task, TASK_SIZE);
    put32(body + AT(recalled, started), started);
    put_small(l, MANIPLE_RECALLED, body, sizeof body);
}

/* Takes work out of what waits for Python. all: whichever is first. */
static Frame *withdraw_queued(Link *l, const uint8_t *task, bool all) {
    for (Frame **at = &l->first; *at; at = &(*at)->next) {
        Frame *f = *at;
        bool work = (f->kind == MANIPLE_SUBMIT && f->body == SIZE(submit)) || (f->kind == MANIPLE_CALL && f->body == SIZE(call));
        if (!work || (!all && memcmp(f->bytes, task, TASK_SIZE))) continue;
        *at = f->next;
        if (!f->next) l->last = at;
        l->queued -= f->length + sizeof *f;
        return f;
    }
    return NULL;
}

/* true: Python has nothing to add. */
static bool recall(Link *l, const uint8_t *task) {
    static const uint8_t all[TASK_SIZE];
    size_t at;
    if (memcmp(task, all, TASK_SIZE)) {
        Frame *f = link_withdraw(l, task);
        if (!f) f = withdraw_queued(l, task, false);
        if (f) recalled(l, task, 0);
        else if (runs(l, task, &at)) recalled(l, task, 1);
        else return false;
        frame_free(f);
        return true;
    }
    bool rest = l->busy;
    for (Frame *f; (f = withdraw_queued(l, task, true)); frame_free(f)) recalled(l, f->bytes, 0);
    for (size_t i = 0; i < l->items;) {
        Frame *f = l->inbox[(l->item_at + i) & (l->item_room - 1)].frame;
        if (!f || f->direct) { /* such a call the agent may not know */
            rest = true;
            i++;
            continue;
        }
        recalled(l, f->bytes, 0);
        frame_free(link_withdraw(l, f->bytes));
    }
    return !rest;
}

/* Frames that no interpreter is needed for. */

bool link_result(Link *l, const uint8_t *bytes, uint32_t length, uint32_t body) {
    uint32_t size = length - body;
    if (body != SIZE(result) || size > l->inline_limit || get32(bytes + AT(result, refs)) || get32(bytes + AT(result, format)) > UINT16_MAX) return false;
    uint32_t flags = get32(bytes + AT(result, flags));
    if (flags & MANIPLE_RESULT_FLAG_LOCATED || flags > UINT8_MAX) return false;
    Entry *e = link_find(l, bytes);
    if (!e || e->state != AWAITED) return false;
    bool last = flags & MANIPLE_RESULT_FLAG_LAST, many = e->size;
    if (many ? last && flags & MANIPLE_RESULT_FLAG_ERROR : !last) return false; /* an error is that of all which have not come */
    uint8_t *to = e->bytes.small;
    if (size > sizeof e->bytes.small && !(to = e->bytes.large = malloc(size))) return false;
    memcpy(to, bytes + body, size);
    e->size = size;
    e->flags = (uint8_t)flags;
    e->format = (uint16_t)get32(bytes + AT(result, format));
    e->state = HERE;
    direct_settled(l, bytes, flags & MANIPLE_RESULT_FLAG_ERROR);
    if (e->gate) {
        bool hasty = e->gate->hasty;
        int left = gate_arrived(e->gate, flags & MANIPLE_RESULT_FLAG_ERROR);
        if (left < l->nearest) l->nearest = left;
        if (left <= 0 && hasty) l->told++;
        e->gate = NULL;
    }
    return !(many && last); /* Python counts tasks of several results */
}

bool link_is_work(uint16_t kind, const uint8_t *bytes, uint32_t body) {
    if (kind == MANIPLE_SUBMIT && body == SIZE(submit)) return !get32(bytes + AT(submit, deps)) && !get32(bytes + AT(submit, refs)) && get32(bytes + AT(submit, format)) == MANIPLE_FORMAT_PICKLE5;
    if (kind == MANIPLE_CALL && body == SIZE(call)) return !get32(bytes + AT(call, deps)) && !get32(bytes + AT(call, refs)) && get32(bytes + AT(call, format)) == MANIPLE_FORMAT_PICKLE5;
    return false;
}

static bool given(Link *l, uint16_t kind, const uint8_t *bytes, uint32_t length, uint32_t body) {
    if (!link_is_work(kind, bytes, body)) return false;
    Frame *f = frame_of(kind, 0, bytes, length, body, -1);
    if (!f) return false;
    f->behind = l->items || l->runs;
    if (link_push(l, (Item){f, NULL})) {
        free(f);
        return false;
    }
    return true;
}

void link_grant(Link *l, int64_t bytes, int64_t records) {
    if (__builtin_add_overflow(l->credit_bytes, bytes, &l->credit_bytes)) l->credit_bytes = INT64_MAX;
    if (__builtin_add_overflow(l->credit_records, records, &l->credit_records)) l->credit_records = INT64_MAX;
    atomic_fetch_add(&l->credit, 1);
    wake(&l->credit);
}

bool link_handle(Link *l, uint16_t kind, const uint8_t *bytes, uint32_t length, uint32_t body) {
    switch (kind) {
    case MANIPLE_RESULT:
        return link_result(l, bytes, length, body);
    case MANIPLE_CREDIT:
        if (body != SIZE(credit)) return false;
        link_grant(l, (int64_t)get64(bytes), get32(bytes + AT(credit, records)));
        return true;
    case MANIPLE_SUBMIT:
    case MANIPLE_CALL:
        return l->worker && given(l, kind, bytes, length, body);
    }
    return false;
}

bool link_overtakes(Link *l, uint16_t kind, const uint8_t *bytes, uint32_t body) { return l->worker && kind == MANIPLE_RECALL && body == SIZE(recall) && recall(l, bytes); }

/* Life. */

Link *link_new(int fd, uint32_t agent, uint32_t process, int64_t bytes, int64_t records, uint32_t inline_limit, bool worker) {
    Link *l = calloc(1, sizeof *l);
    if (!l || !(l->in.buffer = malloc(CHUNK))) {
        free(l);
        return NULL;
    }
    l->shares = 1;
    l->generation = link_generation();
    l->fd = fd;
    l->worker = worker;
    l->inline_limit = inline_limit;
    l->credit_bytes = bytes, l->credit_records = records, l->enough = bytes - bytes / 8;
    l->credit = 1;
    l->last = &l->first;
    l->bell = -1; /* until it starts */
    l->direct.fd = -1;
    strcpy(l->in.why, "the agent closed the connection");
    put32(l->prefix, agent);
    put32(l->prefix + 4, process);
    pthread_mutexattr_t spins;
    pthread_mutexattr_init(&spins);
    pthread_mutexattr_settype(&spins, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&l->lock, &spins);
    pthread_mutexattr_destroy(&spins);
    pthread_mutex_init(&l->writing, NULL);
    return l;
}

void link_share(Link *l) { atomic_fetch_add(&l->shares, 1); }

void link_drop(Link *l) {
    if (atomic_fetch_sub(&l->shares, 1) != 1 || link_inert(l)) return;
    close(l->fd);
    if (l->bell >= 0) close(l->bell);
    direct_close(l);
    while (l->in.fd_count) close(l->in.fds[--l->in.fd_count]);
    for (Frame *f = l->first, *next; f; f = next) next = f->next, frame_free(f);
    for (size_t i = 0; i < l->items; i++) frame_free(l->inbox[(l->item_at + i) & (l->item_room - 1)].frame);
    for (size_t i = 0; i < l->slots; i++)
        if (l->table[i].state == HERE && l->table[i].size > sizeof l->table[i].bytes.small) free(l->table[i].bytes.large);
    free(l->table), free(l->out.bytes), free(l->block.bytes), free(l->dropped), free(l->others), free(l->inbox), free(l->running), free(l->in.buffer);
    pthread_mutex_destroy(&l->lock);
    pthread_mutex_destroy(&l->writing);
    free(l);
}
