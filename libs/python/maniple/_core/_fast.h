/* The part of a connection that needs no interpreter: sockets, buffers, the table of own results, the inbox.
 *
 * A Link is shared by its Python object, by each reference that was made on it and by two threads; the last one
 * frees it. One mutex guards it; nobody waits with it held, nor for the interpreter's lock. The threads, and a waiter
 * that reads in the place of one (link_read), never touch a Python object. In a child made by fork a Link is inert: see link_inert.
 */
#ifndef MANIPLE_FAST_H
#define MANIPLE_FAST_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frames.h" /* transport/wire: generated, as the Python modules are */

#define AT(kind, field) offsetof(struct maniple_##kind, field)
#define SIZE(kind) sizeof(struct maniple_##kind)

enum { TASK_SIZE = SIZE(task_id), KEY_SIZE = TASK_SIZE + 4, HEADER_SIZE = MANIPLE_HEADER_SIZE };
enum {
    FEW = 64, /* of results: who waits for no more is in haste */
    HEAP = 1024, /* dropped references: so many are not left until something is sent */
    FDS = 16, /* descriptors that may come with one read */
    CHUNK = 64 << 10, /* bytes read at once */
};

/* Waits until enough has arrived. Many threads may tell it, one waits. */
typedef struct {
    atomic_int missing;
    atomic_int word; /* 0 shut, 1 open, 2 shut and somebody sleeps, 3 shut and who waits reads a link */
    bool early;      /* a failure opens it */
    int want;        /* a Want: what of the objects */
    bool hasty;      /* who waits for little sleeps; the link's lock guards it */
    struct Link *link; /* where something tells it; NULL: nowhere */
} Gate;

void gate_open(Gate *);
/* One of those it waits for has come; how many have not. Who waits may be gone with it afterwards. */
int gate_arrived(Gate *, bool failed);
/* true: open. Sleeps at most so many milliseconds, or until a signal comes. hasty: for little, from its link. */
bool gate_sleep(Gate *, bool hasty, int milliseconds);
/* The same for the result of a call that goes by a direct line, for as long as it may. false: it is the agent's now, or was not sent there. */
bool gate_direct(Gate *);

/* What is known of a result of a task that this process submitted. While it is awaited, size is how many the task has,
 * 0: one. */
typedef struct {
    uint8_t key[KEY_SIZE];
    uint8_t state; /* EMPTY, AWAITED, HERE */
    uint8_t flags;
    uint16_t format;
    uint32_t size;
    union {
        uint8_t small[16];
        uint8_t *large;
    } bytes;
    Gate *gate; /* borrowed: whoever waits takes it back before it goes */
} Entry;

enum { EMPTY, AWAITED, HERE };

static inline const uint8_t *entry_bytes(const Entry *e) { return e->size <= sizeof e->bytes.small ? e->bytes.small : e->bytes.large; }

/* A frame that Python has to look at. */
typedef struct Frame {
    struct Frame *next;
    uint64_t corr;
    uint32_t length, body;
    uint16_t kind;
    int fd; /* that came along, else -1 */
    bool behind;
    uint32_t direct, shape; /* of a call that came on a direct line: which line that was, and the caller's number of its shape */
    uint8_t bytes[];
} Frame;

/* A place in the inbox: work as a frame, or whatever Python put there. */
typedef struct {
    Frame *frame;
    void *object;
} Item;

typedef struct {
    uint8_t size; /* 20: an object; 16: a stream */
    uint8_t key[KEY_SIZE];
} Dropped;

typedef struct {
    uint8_t *bytes;
    size_t size, room;
} Buffer;

/* What has been read and not been given out. */
typedef struct {
    uint8_t *buffer;
    size_t have, got; /* bytes; of the last read */
    int fds[FDS];     /* for frames that name them */
    int fd_count;
    int lost; /* descriptors that did not come, as this process may have no more */
    bool over;
    atomic_uint place; /* 1 + the processor that the last read named; 0: none */
    char why[160];
} Incoming;

struct pollfd;

enum {
    DIRECT_MOST = 4 << 10, /* bytes of a frame on a direct line */
    DIRECT_WAIT = 10,      /* milliseconds after which a call there is the agent's */
    DIRECT_KEPT = 16,      /* results that the agent need not know */
};

/* A direct line: a pair of sockets between a driver and the worker of an actor that it calls one by one. See _fast_direct.c. */
typedef struct {
    atomic_int fd;                           /* -1: there is none */
    uint8_t actor[TASK_SIZE];
    uint32_t caller, incarnation, shape, worker_shape;
    uint32_t number;                         /* of lines that there were */
    size_t have;                             /* bytes of in */
    uint8_t in[DIRECT_MOST];                 /* what has been read and is no whole frame */
    bool out;                                /* a driver: a call is there and has no result; a worker: it runs, and the agent does not know */
    size_t size;                             /* bytes of call */
    uint8_t call[DIRECT_MOST];               /* that one, as its caller made it */

    /* Of a worker. */
    bool waits;  /* a call has come by the line and has not begun */
    uint32_t of; /* the number of the line that the call came by which runs */

    /* Of a driver. */
    bool taken;              /* the worker has said that it takes the line */
    bool clean;              /* the last call to the actor has its result, and nothing was said since: one on the line overtakes nothing */
    uint8_t last[TASK_SIZE]; /* that call; zero: something was said since */
    atomic_size_t fresh;     /* bytes of the link's out that are a call for the line, and all that is there; 0: none */
    struct {
        uint8_t key[KEY_SIZE];
        uint32_t size;       /* bytes of credit that are kept for it, with one record */
    } own[DIRECT_KEPT];      /* results that came by the line, and of which the agent does not know */
    int owns;
} Direct;

typedef struct Link {
    atomic_int shares;
    unsigned generation; /* of forks */
    int fd;
    bool worker;           /* it is given work */
    atomic_bool fate;      /* the process ends when the connection does */
    uint32_t inline_limit; /* larger results are for Python */

    pthread_mutex_t lock; /* guards what follows */
    bool closed;
    char why[160];

    Buffer out;       /* frames not yet taken by a write */
    int frames;       /* how many */
    bool unwritten;   /* a write has not taken all that it took out */
    bool asleep;      /* the writer waits for somebody to stir it */
    atomic_int pulse; /* what the writer sleeps on */

    Frame *first, **last; /* for Python, in order */
    size_t queued;        /* bytes of them */
    bool busy;            /* Python has some in hand: what comes goes behind them */
    bool taking;          /* somebody waits for them */
    atomic_int arrivals;  /* what that one sleeps on */
    atomic_int room;      /* what the reader sleeps on */

    atomic_int lead;      /* who reads; what the reading thread sleeps on while it does not */
    unsigned leads;       /* changes of that */
    Incoming in;          /* of whoever reads */
    atomic_int polls;     /* a waiter reads, and may sleep */
    int bell;             /* ends that sleep */
    atomic_bool alone;    /* no other thread runs users' code while that one sleeps */
    Direct direct;

    int nearest;          /* of what was told by the last read: what the gate still waits for that waits for the least */
    int told;             /* how many it told of those who slept */
    int slept;            /* how many that were */
    atomic_int hasty;     /* how many sleep who wait for little: the reader does not let results gather meanwhile */
    atomic_int hurry;     /* what it sleeps on while it does */

    Entry *table;
    size_t slots, entries;

    Dropped *dropped, *others; /* by references that went; those of them that Python knows of */
    size_t drops, drop_room, other, other_room;
    bool look;            /* Python is to see to those now: somebody is about to wait */

    int64_t credit_bytes, credit_records, enough;
    atomic_int credit; /* changes with every grant */
    uint8_t prefix[8]; /* agent and process */

    Item *inbox; /* a ring */
    size_t items, item_at, item_room;
    int idle;        /* how somebody waits for work */
    atomic_int work; /* what that one sleeps on */
    uint8_t (*running)[TASK_SIZE];
    size_t runs, run_room;

    pthread_mutex_t writing; /* guards what is being written; taken before lock */
    Buffer block;
    size_t written;
    pthread_t reader, writer;
    atomic_int threads; /* that still run */
} Link;

/* Who reads. A thread does, which wakes who waits. Who waits again and again reads himself, which saves that: the
 * thread offers it when it has told somebody, and the writing one takes back what nobody has taken up for a while. */
enum { BY_THREAD, OFFERED, BY_WAITER };

enum { SLEEPS = 1, READS }; /* who waits for work */

Link *link_new(int fd, uint32_t agent, uint32_t process, int64_t bytes, int64_t records, uint32_t inline_limit, bool worker);
/* Starts the threads; from here on the descriptor is the link's. An errno. */
int link_start(Link *);
/* Takes what has come before a link is started, but for what begins with a descriptor, which this process is not to have. */
void link_early(Link *);
void link_share(Link *);
void link_drop(Link *);
/* This process is a fork's child and the link its parent's: nothing in it may be touched. */
unsigned link_generation(void);
bool link_inert(const Link *);
void link_shut(Link *);

/* All of these with the lock held. 0, or -1 without memory. */
int link_put(Link *, const uint8_t *, size_t);
void link_sent(Link *);
void link_release_dropped(Link *);
/* Wakes who takes what is for Python. */
void link_untake(Link *);
/* Says that an object is held here no more, and how often it had been delivered. */
int link_release(Link *, const uint8_t *key, uint32_t deliveries);
int link_drop_key(Link *, const uint8_t *key, size_t size);
Entry *link_find(Link *, const uint8_t *key);
/* Room for so many more, so that the table is made once. */
int link_room(Link *, size_t more);
Entry *link_add(Link *, const uint8_t *key);
void link_remove(Link *, Entry *);
/* A job without references, which needs no Python until it begins. */
bool link_is_work(uint16_t kind, const uint8_t *bytes, uint32_t body);
bool link_handle(Link *, uint16_t kind, const uint8_t *bytes, uint32_t length, uint32_t body);
/* The reader's: a recall overtakes what waits for Python. */
bool link_overtakes(Link *, uint16_t kind, const uint8_t *bytes, uint32_t body);
void link_grant(Link *, int64_t bytes, int64_t records);
int link_push(Link *, Item);
/* Somebody waits for work and there is some: if true, wake him, without the lock. */
bool link_stirs(Link *);
/* true: from here on the caller reads, and calls link_read. */
bool link_lead(Link *);
int link_begun(Link *, const uint8_t *task);
void link_ended(Link *, const uint8_t *task);
void link_started(Link *, const uint8_t *task);
Frame *link_withdraw(Link *, const uint8_t *task);
/* A result for the table. false: Python has to look at it. */
bool link_result(Link *, const uint8_t *bytes, uint32_t length, uint32_t body);

/* Of direct lines, with the lock held, too. What came by a Line; the descriptor is theirs. */
void direct_open(Link *, const uint8_t *bytes, int fd);
/* The agent wants a worker to end its line: it answers by the same when it has told of what is there. */
void direct_end(Link *, const uint8_t *bytes);
/* Reads what is there: once, or all until nothing is. */
void direct_pull(Link *, bool all);
/* A task or call is about to be sent, whose frame this is but for its payload. */
void direct_before(Link *, const uint8_t *frame, bool call);
/* A driver has put a call of so many bytes behind that many others into out. */
void direct_called(Link *, size_t before);
/* A driver has said something else to the agent, which has to know it before the next call begins: that goes there, too. */
void direct_fence(Link *);
/* A result of this process's own has come. */
void direct_settled(Link *, const uint8_t *key, bool failed);
/* Sends the call that is fresh, if it is all that the gate waits for, and takes the lead for who waits there. */
bool direct_send(Link *, const Gate *);
/* A worker: the result of the call that runs, a whole frame. false: it is for the agent, who knows of the call now. */
bool direct_answer(Link *, const uint8_t *task, const uint8_t *frame, const uint8_t *payload, size_t size);
/* A worker begins with a call that came on a line. */
void direct_begun(Link *, const Frame *);
/* The agent has to know of what this process has by the line: before anything else is said to it. */
void direct_tell(Link *);
/* It has its result by the agent. */
void direct_over(Link *);
/* Whether a reference to what the agent does not know was dropped. */
bool direct_dropped(Link *, const uint8_t *key);
void direct_close(Link *);

/* Reads until the word is not what it was, for so many milliseconds at most, or until a signal comes. */
void link_read(Link *, atomic_int *word, int was, int milliseconds);
/* Its sleep: until there is something to read or the bell rings, for so long at most; near the agent while that says
 * where it is, so that its word wakes no idle processor, and it is alone: nobody shall see that it is near. */
int link_wait(Link *, struct pollfd *, int count, int milliseconds);
/* Ends the sleep of who does. */
void link_ring(Link *);
/* Writes what was sent. 0: all, 1: not all yet (a full socket, a signal, another writer), -1: the socket is shut. */
int link_flush(Link *, int milliseconds);
/* Somebody sleeps who waits for little, from here to link_calm. */
void link_haste(Link *);
void link_calm(Link *);
/* Sleeps until the word is not what it was; a signal ends it, too. */
void nap(atomic_int *word, int was, int milliseconds);
void nap_micro(atomic_int *word, int was, int microseconds);
void wake(atomic_int *word);
/* The frame as one that waits for Python. NULL: no memory. */
Frame *frame_of(uint16_t kind, uint64_t corr, const uint8_t *bytes, uint32_t length, uint32_t body, int fd);
void frame_free(Frame *);
void fast_setup(void);

/* glibc gave these new names when it moved them; under the old ones the module runs on clusters of 2014, too. */
#if defined(__GLIBC__) && defined(__x86_64__)
#define OLD_NAME(f) __asm__(".symver " #f "," #f "@GLIBC_2.2.5")
#else
#define OLD_NAME(f) struct none
#endif

static inline uint32_t get32(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }
static inline uint64_t get64(const uint8_t *p) { return (uint64_t)get32(p) | (uint64_t)get32(p + 4) << 32; }
static inline void put32(uint8_t *p, uint32_t v) { p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8), p[2] = (uint8_t)(v >> 16), p[3] = (uint8_t)(v >> 24); }
static inline void put64(uint8_t *p, uint64_t v) { put32(p, (uint32_t)v), put32(p + 4, (uint32_t)(v >> 32)); }

#endif
