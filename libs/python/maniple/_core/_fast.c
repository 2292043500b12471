/* The module maniple._core._fast: what _fast.pyi names, over the Link of _fast.h.
 *
 * The limited API of 3.9, so that one file serves every later Python. Nothing here runs Python code with the
 * link's lock held, nor allocates what the garbage collector counts: a collection drops references, and a drop
 * takes that lock.
 */
#define _GNU_SOURCE
#include "_fast_python.h"

#include <structmember.h>

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { INTERFACE = 12, SLICE = 100, FLUSH_AT = 64, BACKLOG = 4 << 20 };

PyObject *value_type, *pending, *loads, *nothing, *there;
static PyObject *dumps, *protocol;
PyTypeObject *RefType, *GateType;
PyObject *reference_type;
static PyObject *descriptor_type, *threads;
static PyTypeObject *LinkType;

void free_object(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *no_memory(int failed) {
    if (failed) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

const uint8_t *bytes_of(PyObject *object, Py_ssize_t size, const char *what) {
    char *p;
    Py_ssize_t n;
    if (PyBytes_AsStringAndSize(object, &p, &n)) return NULL;
    if (size && n != size) {
        PyErr_Format(PyExc_ValueError, "%s has %zd bytes, not %zd", what, size, n);
        return NULL;
    }
    return (const uint8_t *)p;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The deadline of a timeout in seconds, None for none: -1. */
static int deadline_of(PyObject *timeout, double *deadline) {
    *deadline = -1;
    if (timeout == Py_None) return 0;
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1 && PyErr_Occurred()) return -1;
    *deadline = now() + (seconds > 0 ? seconds : 0);
    return 0;
}

static int slice_of(double deadline) {
    double left = deadline < 0 ? 1 : deadline - now();
    return left <= 0 ? 0 : left * 1000 >= SLICE ? SLICE : (int)(left * 1000) + 1;
}

/* Whether this is the only thread that may run users' code. Python counts all but the main one, and the one that takes frames from the link is
 * ours. */
static bool only_one(void) {
    PyObject *others = PyObject_CallObject(threads, NULL);
    bool alone = others && PyLong_AsLong(others) == 1;
    Py_XDECREF(others);
    PyErr_Clear();
    return alone;
}

static void look_around(Link *l) { l->alone = l->in.place && only_one(); } /* before a wait, if who speaks has said where it is */

/* References. */

PyObject *ref_make(PyTypeObject *type, Link *l, const uint8_t *key) {
    PyObject *self = ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) return NULL;
    RefObject *ref = (RefObject *)self;
    memcpy(ref->key, key, KEY_SIZE);
    ref->link = l;
    if (l) link_share(l);
    return self;
}

static PyObject *ref_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"key", "drop", NULL};
    PyObject *key, *drop = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "S|O", names, &key, &drop)) return NULL;
    if (drop != Py_None && !PyObject_TypeCheck(drop, LinkType)) return PyErr_Format(PyExc_TypeError, "a link counts references");
    if (PyBytes_Size(key) != KEY_SIZE)
        return PyErr_Format(PyExc_ValueError, "an object's key has %d bytes, not %zd; references come from .remote() and put()", KEY_SIZE, PyBytes_Size(key));
    return ref_make(type, drop == Py_None ? NULL : link_of(drop), (const uint8_t *)PyBytes_AsString(key));
}

static void ref_dealloc(PyObject *self) {
    RefObject *ref = (RefObject *)self;
    Link *l = ref->link;
    if (ref->weak) PyObject_ClearWeakRefs(self);
    if (l && !link_inert(l)) {
        hold(l);
        link_drop_key(l, ref->key, KEY_SIZE);
        let_go(l);
    }
    if (l) link_drop(l);
    free_object(self);
}

static PyObject *ref_key(PyObject *self, void *unused) {
    (void)unused;
    return PyBytes_FromStringAndSize((const char *)((RefObject *)self)->key, KEY_SIZE);
}

static PyObject *ref_compare(PyObject *a, PyObject *b, int op) {
    if ((op != Py_EQ && op != Py_NE) || !PyObject_TypeCheck(b, RefType)) Py_RETURN_NOTIMPLEMENTED;
    bool same = !memcmp(((RefObject *)a)->key, ((RefObject *)b)->key, KEY_SIZE) && !(((RefObject *)a)->link && ref_foreign(b, ((RefObject *)a)->link));
    return PyBool_FromLong(same == (op == Py_EQ));
}

Py_hash_t ref_hash(PyObject *self) {
    const uint8_t *k = ((RefObject *)self)->key;
    uint64_t h = get64(k + 8) * 0x9E3779B97F4A7C15u ^ get64(k) ^ get32(k + 16) * 0x165667B19E3779F9u;
    h ^= h >> 31;
    return (Py_hash_t)h == -1 ? -2 : (Py_hash_t)h;
}

static PyGetSetDef ref_properties[] = {{"_key", ref_key, NULL, NULL, NULL}, {NULL, NULL, NULL, NULL, NULL}};
static PyMemberDef ref_members[] = {{"__weaklistoffset__", T_PYSSIZET, offsetof(RefObject, weak), READONLY, NULL}, {NULL, 0, 0, 0, NULL}};
static PyType_Slot ref_slots[] = {
    {Py_tp_new, ref_new}, {Py_tp_dealloc, ref_dealloc}, {Py_tp_getset, ref_properties}, {Py_tp_members, ref_members},
    {Py_tp_richcompare, ref_compare}, {Py_tp_hash, ref_hash}, {0, NULL},
};
static PyType_Spec ref_spec = {"maniple._core._fast.Ref", sizeof(RefObject), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, ref_slots};

/* Gates. */

static PyObject *gate_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"missing", "want", "early", NULL};
    int missing, want = MANIPLE_WANT_VALUE, early = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|ip", names, &missing, &want, &early)) return NULL;
    PyObject *self = ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) return NULL;
    Gate *g = &((GateObject *)self)->gate;
    g->missing = missing;
    g->early = early;
    g->want = want;
    return self;
}

/* An interrupt may have come before its waiter took it back from what it waits for. */
static void gate_dealloc(PyObject *self) {
    Gate *g = &((GateObject *)self)->gate;
    Link *l = g->link;
    if (l && !link_inert(l) && g->missing > 0) {
        hold(l);
        for (size_t i = 0; i < l->slots; i++)
            if (l->table[i].state != EMPTY && l->table[i].gate == g) l->table[i].gate = NULL;
        let_go(l);
    }
    if (l) link_drop(l);
    free_object(self);
}

static PyObject *py_arrived(PyObject *self, PyObject *args) {
    PyObject *key;
    int failed;
    if (!PyArg_ParseTuple(args, "Op", &key, &failed)) return NULL;
    gate_arrived(&((GateObject *)self)->gate, failed);
    Py_RETURN_NONE;
}

static PyObject *py_open(PyObject *self, PyObject *unused) {
    (void)unused;
    gate_open(&((GateObject *)self)->gate);
    Py_RETURN_NONE;
}

static PyObject *py_wait(PyObject *self, PyObject *args) {
    PyObject *timeout = Py_None;
    double deadline;
    Gate *g = &((GateObject *)self)->gate;
    if (!PyArg_ParseTuple(args, "|O", &timeout) || deadline_of(timeout, &deadline)) return NULL;
    for (;;) {
        bool hasty = g->link && !link_inert(g->link) && g->missing <= FEW;
        bool open = gate_sleep(g, hasty, 0);
        int slice = slice_of(deadline);
        if (!open && slice) {
            if (hasty) look_around(g->link);
            Py_BEGIN_ALLOW_THREADS
            open = gate_sleep(g, hasty, slice);
            Py_END_ALLOW_THREADS
        }
        if (PyErr_CheckSignals()) return NULL;
        if (open || !slice) return PyBool_FromLong(open);
    }
}

static PyObject *py_direct(PyObject *self, PyObject *unused) {
    (void)unused;
    Gate *g = &((GateObject *)self)->gate;
    Link *l = g->link;
    if (!l || link_inert(l) || !l->direct.fresh) Py_RETURN_FALSE;
    l->alone = only_one();
    if (!l->alone) Py_RETURN_FALSE;
    bool open;
    Py_BEGIN_ALLOW_THREADS
    open = gate_direct(g);
    Py_END_ALLOW_THREADS
    if (PyErr_CheckSignals()) return NULL;
    return PyBool_FromLong(open);
}

static PyObject *get_missing(PyObject *self, void *unused) {
    (void)unused;
    return PyLong_FromLong(atomic_load(&((GateObject *)self)->gate.missing));
}

static int set_missing(PyObject *self, PyObject *value, void *unused) {
    (void)unused;
    long missing = value ? PyLong_AsLong(value) : -1;
    if (missing == -1 && PyErr_Occurred()) return -1;
    atomic_store(&((GateObject *)self)->gate.missing, (int)missing);
    return 0;
}

static PyObject *get_want(PyObject *self, void *unused) {
    (void)unused;
    return PyLong_FromLong(((GateObject *)self)->gate.want);
}

static PyMethodDef gate_methods[] = {
    {"arrived", py_arrived, METH_VARARGS, NULL}, {"open", py_open, METH_NOARGS, NULL}, {"wait", py_wait, METH_VARARGS, NULL},
    {"direct", py_direct, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL},
};
static PyGetSetDef gate_properties[] = {{"missing", get_missing, set_missing, NULL, NULL}, {"want", get_want, NULL, NULL, NULL}, {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot gate_slots[] = {{Py_tp_new, gate_new}, {Py_tp_dealloc, gate_dealloc}, {Py_tp_methods, gate_methods}, {Py_tp_getset, gate_properties}, {0, NULL}};
static PyType_Spec gate_spec = {"maniple._core._fast.Gate", sizeof(GateObject), 0, Py_TPFLAGS_DEFAULT, gate_slots};

/* The link: its life. */

static PyObject *new_link(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"fd", "agent", "process", "credit_bytes", "credit_records", "inline_limit", "worker", NULL};
    int fd, worker;
    unsigned agent, process, limit;
    long long bytes, records;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iIILLIp", names, &fd, &agent, &process, &bytes, &records, &limit, &worker)) return NULL;
    PyObject *self = ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) return NULL;
    Link *l = ((LinkObject *)self)->link = link_new(fd, agent, process, bytes, records, limit, worker);
    if (!l) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return self;
}

static void link_dealloc(PyObject *self) {
    Link *l = link_of(self);
    if (l && !link_inert(l)) {
        bool some;
        do {
            hold(l);
            Item item = {NULL, NULL};
            if ((some = l->items)) {
                item = l->inbox[l->item_at];
                l->item_at = (l->item_at + 1) & (l->item_room - 1);
                l->items--;
            }
            l->closed = true;
            let_go(l);
            frame_free(item.frame);
            Py_XDECREF((PyObject *)item.object);
        } while (some);
        l->fate = false;
        link_shut(l);
    }
    if (l) link_drop(l);
    free_object(self);
}

static PyObject *py_start(PyObject *self, PyObject *unused) {
    (void)unused;
    int error = link_start(link_of(self));
    if (!error) Py_RETURN_NONE;
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *py_early(PyObject *self, PyObject *unused) {
    (void)unused;
    if (!link_inert(link_of(self))) link_early(link_of(self));
    Py_RETURN_NONE;
}

static PyObject *py_close(PyObject *self, PyObject *args) {
    double wait = 0;
    Link *l = link_of(self);
    if (!PyArg_ParseTuple(args, "|d", &wait)) return NULL;
    if (link_inert(l)) Py_RETURN_NONE;
    hold(l);
    l->closed = true;
    let_go(l);
    Py_BEGIN_ALLOW_THREADS
    link_shut(l);
    for (double until = now() + wait; l->threads > 0 && now() < until;) {
        int threads = l->threads;
        if (threads > 0) nap(&l->threads, threads, 50);
    }
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_forget(PyObject *self, PyObject *unused) {
    (void)unused;
    Link *l = link_of(self);
    if (!link_inert(l) && l->threads) Py_RETURN_NONE;
    close(l->fd);
    if (l->bell >= 0) close(l->bell);
    if (l->direct.fd >= 0) close(l->direct.fd);
    l->fd = l->bell = l->direct.fd = -1;
    Py_RETURN_NONE;
}

static PyObject *py_fate(PyObject *self, PyObject *on) {
    link_of(self)->fate = PyObject_IsTrue(on) == 1;
    Py_RETURN_NONE;
}

static PyObject *get_why(PyObject *self, void *unused) {
    (void)unused;
    return PyUnicode_DecodeUTF8(link_of(self)->why, (Py_ssize_t)strlen(link_of(self)->why), "replace");
}

static PyObject *get_closed(PyObject *self, void *unused) {
    (void)unused;
    Link *l = link_of(self);
    if (link_inert(l)) Py_RETURN_TRUE;
    hold(l);
    bool closed = l->closed;
    let_go(l);
    return PyBool_FromLong(closed);
}

/* What is sent. */

static PyObject *flush_all(Link *l) {
    hold(l);
    bool some = l->out.size || l->drops || l->unwritten, others = l->other;
    let_go(l);
    while (some) {
        int state;
        Py_BEGIN_ALLOW_THREADS
        state = link_flush(l, SLICE);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals()) return NULL;
        some = state > 0, others = true;
    }
    if (others) {
        hold(l);
        l->look = l->other;
        if (l->look && l->taking) link_untake(l);
        let_go(l);
    }
    Py_RETURN_NONE;
}

/* Writes what the socket takes. The rest is the writing thread's, and waited for only if it is a lot: the agent may be busy for a moment. */
static PyObject *write_on(Link *l) {
    int state;
    Py_BEGIN_ALLOW_THREADS
    state = link_flush(l, 0);
    Py_END_ALLOW_THREADS
    if (state <= 0) Py_RETURN_NONE;
    hold(l);
    bool much = l->out.size > BACKLOG;
    if (!much) l->frames = 0; /* so many more before the next look */
    let_go(l);
    return much ? flush_all(l) : no_memory(0);
}

static PyObject *py_flush(PyObject *self, PyObject *unused) {
    (void)unused;
    if (link_inert(link_of(self))) Py_RETURN_NONE;
    return flush_all(link_of(self));
}

static PyObject *put_frame(PyObject *self, PyObject *frame, bool now_and_then) {
    Link *l = link_of(self);
    const uint8_t *p = bytes_of(frame, 0, NULL);
    if (!p) return NULL;
    if (link_inert(l)) Py_RETURN_NONE;
    hold(l);
    direct_tell(l);
    direct_fence(l);
    int failed = l->closed ? 0 : link_put(l, p, (size_t)PyBytes_Size(frame));
    if (!failed && !l->closed) link_sent(l);
    bool full = l->frames >= FLUSH_AT;
    let_go(l);
    return full && now_and_then ? write_on(l) : no_memory(failed);
}

static PyObject *py_send(PyObject *self, PyObject *frame) { return put_frame(self, frame, true); }
static PyObject *py_enqueue(PyObject *self, PyObject *frame) { return put_frame(self, frame, false); }

static void mint(Link *l, uint8_t *task) {
    static _Atomic uint64_t minted; /* of all links: another cluster may give this process the same number again */
    memcpy(task, l->prefix, sizeof l->prefix);
    put64(task + sizeof l->prefix, atomic_fetch_add(&minted, 1) + 1);
}

static PyObject *py_mint(PyObject *self, PyObject *unused) {
    (void)unused;
    Link *l = link_of(self);
    uint8_t task[TASK_SIZE];
    if (link_inert(l)) memset(task, 0, sizeof task);
    else hold(l), mint(l, task), let_go(l);
    return PyBytes_FromStringAndSize((char *)task, TASK_SIZE);
}

static bool spend(Link *l, int64_t size) {
    if (l->closed || l->credit_records <= 0 || l->credit_bytes < (size < l->enough ? size : l->enough)) return false;
    l->credit_records--;
    l->credit_bytes -= size;
    return true;
}

static PyObject *py_spend(PyObject *self, PyObject *args) {
    long long size;
    Link *l = link_of(self);
    if (!PyArg_ParseTuple(args, "L", &size)) return NULL;
    if (link_inert(l)) return PyLong_FromLong(0);
    hold(l);
    bool spent = l->closed || spend(l, size);
    if (!spent) {
        direct_tell(l); /* it gives back what is kept for what it need not know */
        spent = spend(l, size);
    }
    int state = spent ? 0 : atomic_load(&l->credit);
    let_go(l);
    return PyLong_FromLong(state);
}

static PyObject *py_grant(PyObject *self, PyObject *args) {
    long long size, records;
    Link *l = link_of(self);
    if (!PyArg_ParseTuple(args, "LL", &size, &records)) return NULL;
    if (link_inert(l)) Py_RETURN_NONE;
    hold(l);
    link_grant(l, size, records);
    let_go(l);
    Py_RETURN_NONE;
}

static PyObject *py_credited(PyObject *self, PyObject *args) {
    int was;
    PyObject *timeout = Py_None;
    double deadline;
    Link *l = link_of(self);
    if (!PyArg_ParseTuple(args, "i|O", &was, &timeout) || deadline_of(timeout, &deadline)) return NULL;
    for (;;) {
        int slice = slice_of(deadline);
        if (atomic_load(&l->credit) != was || link_inert(l)) Py_RETURN_TRUE;
        if (!slice) Py_RETURN_FALSE;
        link_haste(l);
        Py_BEGIN_ALLOW_THREADS
        nap(&l->credit, was, slice);
        Py_END_ALLOW_THREADS
        link_calm(l);
        if (PyErr_CheckSignals()) return NULL;
    }
}

/* The next of itertools.count. */
static uint64_t number_of(PyObject *numbers) {
    PyObject *next = PyIter_Next(numbers);
    uint64_t number = next ? PyLong_AsUnsignedLongLong(next) : 0;
    Py_XDECREF(next);
    return number;
}

/* A task or call with one result: its reference, or None if there is no credit or no connection. numbers: of calls. */
static PyObject *send_task(Link *l, PyObject *frame, PyObject *payload, unsigned incarnation, PyObject *numbers) {
    const uint8_t *head = bytes_of(frame, HEADER_SIZE + (numbers ? SIZE(call) : SIZE(submit)), "a frame"), *rest = head ? bytes_of(payload, 0, NULL) : NULL;
    if (!rest) return NULL;
    size_t length = (size_t)PyBytes_Size(frame), size = (size_t)PyBytes_Size(payload);
    uint8_t key[KEY_SIZE] = {0};
    if (link_inert(l)) Py_RETURN_NONE;
    RefObject *ref = (RefObject *)ref_make((PyTypeObject *)reference_type, NULL, key);
    if (!ref) return NULL;
    hold(l);
    Entry *e = NULL;
    direct_before(l, head, numbers);
    if (spend(l, (int64_t)size)) {
        mint(l, key);
        size_t before = l->out.size;
        if (!link_put(l, head, length) && !link_put(l, rest, size) && (e = link_add(l, key))) {
            uint8_t *at = l->out.bytes + before;
            put32(at, (uint32_t)(length - HEADER_SIZE + size));
            memcpy(at + HEADER_SIZE, key, TASK_SIZE);
            if (numbers) {
                put64(at + HEADER_SIZE + AT(call, sequence), number_of(numbers));
                put32(at + HEADER_SIZE + AT(call, incarnation), incarnation);
            }
            link_sent(l);
            if (numbers) direct_called(l, before);
        } else {
            l->out.size = before;
            l->credit_records++, l->credit_bytes += (int64_t)size;
        }
    }
    bool full = l->frames >= FLUSH_AT;
    let_go(l);
    if (!e) {
        Py_DECREF(ref);
        Py_RETURN_NONE;
    }
    memcpy(ref->key, key, KEY_SIZE);
    ref->link = l;
    link_share(l);
    if (full) {
        PyObject *flushed = write_on(l);
        if (!flushed) {
            Py_DECREF(ref);
            return NULL;
        }
        Py_DECREF(flushed);
    }
    return (PyObject *)ref;
}

/* The references to the results of a task that gives several: they are awaited. */
static PyObject *py_expect(PyObject *self, PyObject *args) {
    Link *l = link_of(self);
    const char *task;
    Py_ssize_t size;
    unsigned count;
    if (!PyArg_ParseTuple(args, "y#I", &task, &size, &count)) return NULL;
    if (size != TASK_SIZE) return PyErr_Format(PyExc_ValueError, "a task has %d bytes, not %zd", TASK_SIZE, size);
    uint8_t key[KEY_SIZE];
    memcpy(key, task, TASK_SIZE);
    if (!link_inert(l)) {
        hold(l);
        int failed = link_room(l, count);
        let_go(l);
        if (failed) return PyErr_NoMemory();
    }
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (unsigned i = 0; list && i < count; i++) {
        put32(key + TASK_SIZE, i);
        PyObject *ref = ref_make((PyTypeObject *)reference_type, NULL, key);
        if (!ref || PyList_SetItem(list, (Py_ssize_t)i, ref)) {
            Py_CLEAR(list);
            break;
        }
        if (link_inert(l)) continue;
        hold(l);
        Entry *e = link_add(l, key);
        if (e) e->size = count;
        let_go(l);
        if (!e) {
            Py_CLEAR(list);
            return PyErr_NoMemory();
        }
        ((RefObject *)ref)->link = l;
        link_share(l);
    }
    return list;
}

static PyObject *py_submit(PyObject *self, PyObject *args) {
    PyObject *frame, *payload;
    if (!PyArg_ParseTuple(args, "SS", &frame, &payload)) return NULL;
    return send_task(link_of(self), frame, payload, 0, NULL);
}

static PyObject *py_call(PyObject *self, PyObject *args) {
    PyObject *frame, *payload, *numbers;
    unsigned incarnation;
    if (!PyArg_ParseTuple(args, "SSIO", &frame, &payload, &incarnation, &numbers)) return NULL;
    return PyIter_Check(numbers) ? send_task(link_of(self), frame, payload, incarnation, numbers) : PyErr_Format(PyExc_TypeError, "calls are numbered by an iterator");
}

static uint64_t nanoseconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* What the wall clock is ahead of the other one. Asking it costs as much as all else here, so it is asked every millisecond. */
static uint64_t ahead(uint64_t monotonic) {
    static uint64_t asked, known;
    if (monotonic - asked > 1000000) asked = monotonic, known = nanoseconds(CLOCK_REALTIME) - monotonic;
    return known;
}

/* The frame that tells how a task went, by Python's clock of that kind: when it began, had its arguments (0: it has none), was over. */
static void ran(uint8_t *frame, const uint8_t *task, uint64_t began, uint64_t read, uint64_t over, bool failed) {
    uint64_t now = nanoseconds(CLOCK_MONOTONIC);
    uint8_t *body = frame + HEADER_SIZE;
    put32(frame, SIZE(ran)), put32(frame + 4, SIZE(ran)), frame[8] = MANIPLE_RAN, frame[10] = MANIPLE_CLASS_CALLS;
    memcpy(body, task, TASK_SIZE);
    put64(body + AT(ran, began), began + ahead(now)), put64(body + AT(ran, read), read ? read - began : 0);
    put64(body + AT(ran, ran), over - began), put64(body + AT(ran, took), now - began), put32(body + AT(ran, failed), failed);
}

enum { RESULT_HEAD = HEADER_SIZE + SIZE(result), ENVELOPE = 8 /* of a value without buffers: its length, and none */ };

/* What comes before the bytes of a value in a Result. */
static void head_of_result(uint8_t *frame, const char *task, unsigned index, unsigned attempt, unsigned format, size_t size) {
    uint8_t *body = frame + HEADER_SIZE;
    memset(frame, 0, RESULT_HEAD);
    put32(frame, SIZE(result) + (uint32_t)size), put32(frame + 4, SIZE(result)), frame[8] = MANIPLE_RESULT, frame[10] = MANIPLE_CLASS_CALLS;
    memcpy(body, task, TASK_SIZE);
    put32(body + TASK_SIZE, index), put32(body + AT(result, attempt), attempt), put32(body + AT(result, format), format), put64(body + AT(result, size), size);
}

/* What a task gave: a Result without references. */
static PyObject *py_result(PyObject *self, PyObject *args) {
    Link *l = link_of(self);
    const char *task, *payload;
    Py_ssize_t task_size, size;
    unsigned index, attempt, flags, format;
    unsigned long long peak, cpu, began, read, over;
    if (!PyArg_ParseTuple(args, "y#IIIIy#K(KKKK)", &task, &task_size, &index, &attempt, &flags, &format, &payload, &size, &peak, &cpu, &began, &read, &over)) return NULL;
    if (task_size != TASK_SIZE) return PyErr_Format(PyExc_ValueError, "a task has %d bytes, not %zd", TASK_SIZE, task_size);
    if (link_inert(l)) Py_RETURN_NONE;
    uint8_t frame[RESULT_HEAD], *body = frame + HEADER_SIZE;
    head_of_result(frame, task, index, attempt, format, (size_t)size);
    put32(body + AT(result, flags), flags), put64(body + AT(result, peak_memory), peak), put64(body + AT(result, cpu_time), cpu);
    bool told = began && flags & MANIPLE_RESULT_FLAG_LAST;
    uint8_t how[HEADER_SIZE + SIZE(ran)] = {0};
    if (told) ran(how, (const uint8_t *)task, began, read, over, flags & MANIPLE_RESULT_FLAG_ERROR);
    hold(l);
    if (direct_answer(l, (const uint8_t *)task, frame, (const uint8_t *)payload, (size_t)size)) {
        let_go(l);
        Py_RETURN_NONE;
    }
    size_t before = l->out.size;
    int failed = l->closed ? 0 : (told && link_put(l, how, sizeof how)) || link_put(l, frame, sizeof frame) || link_put(l, (const uint8_t *)payload, (size_t)size);
    if (failed) l->out.size = before;
    else if (!l->closed) link_sent(l);
    bool full = l->frames >= FLUSH_AT;
    let_go(l);
    return full ? write_on(l) : no_memory(failed);
}

/* Nothing can go wrong with its bytes, and they are few. */
static bool is_plain(const Link *l, PyObject *value) {
    if (PyUnicode_CheckExact(value)) return PyUnicode_GetLength(value) < (Py_ssize_t)l->inline_limit / 8;
    int large = 0;
    if (PyLong_CheckExact(value)) PyLong_AsLongLongAndOverflow(value, &large);
    return !large && (PyLong_CheckExact(value) || PyFloat_CheckExact(value) || PyBool_Check(value));
}

/* What a task of several results gave, but for the last one, if all are plain. */
static PyObject *py_results(PyObject *self, PyObject *args) {
    Link *l = link_of(self);
    const char *task;
    Py_ssize_t task_size;
    unsigned attempt;
    PyObject *values;
    if (!PyArg_ParseTuple(args, "y#IO!", &task, &task_size, &attempt, &PyTuple_Type, &values)) return NULL;
    if (task_size != TASK_SIZE) return PyErr_Format(PyExc_ValueError, "a task has %d bytes, not %zd", TASK_SIZE, task_size);
    Py_ssize_t count = PyTuple_Size(values) - 1;
    for (Py_ssize_t i = 0; i < count; i++)
        if (!is_plain(l, PyTuple_GetItem(values, i))) Py_RETURN_FALSE;
    for (Py_ssize_t i = 0; i < count && !link_inert(l); i++) {
        PyObject *pickled = PyObject_CallFunctionObjArgs(dumps, PyTuple_GetItem(values, i), protocol, NULL);
        if (!pickled) return NULL;
        uint8_t frame[RESULT_HEAD + ENVELOPE];
        size_t size = (size_t)PyBytes_Size(pickled);
        head_of_result(frame, task, (unsigned)i, attempt, MANIPLE_FORMAT_PICKLE5, ENVELOPE + size);
        put64(frame + RESULT_HEAD, size);
        hold(l);
        direct_tell(l);
        size_t before = l->out.size;
        int failed = l->closed ? 0 : link_put(l, frame, sizeof frame) || link_put(l, bytes_of(pickled, 0, NULL), size);
        if (failed) l->out.size = before;
        else if (!l->closed) link_sent(l);
        bool full = l->frames >= FLUSH_AT;
        let_go(l);
        Py_DECREF(pickled);
        PyObject *done = full ? write_on(l) : no_memory(failed);
        if (!done) return NULL;
        Py_DECREF(done);
    }
    Py_RETURN_TRUE;
}

/* Dropped references. */

static PyObject *py_append(PyObject *self, PyObject *key) {
    Link *l = link_of(self);
    const uint8_t *p = bytes_of(key, 0, NULL);
    if (!p) return NULL;
    Py_ssize_t size = PyBytes_Size(key);
    if (size != KEY_SIZE && size != TASK_SIZE) return PyErr_Format(PyExc_ValueError, "a key of %zd bytes", size);
    if (link_inert(l)) Py_RETURN_NONE;
    hold(l);
    int failed = link_drop_key(l, p, (size_t)size);
    let_go(l);
    return no_memory(failed);
}

static PyObject *py_dropped(PyObject *self, PyObject *unused) {
    (void)unused;
    Link *l = link_of(self);
    if (link_inert(l)) return PyList_New(0);
    hold(l);
    link_release_dropped(l);
    size_t count = l->other;
    let_go(l);
    PyObject *keys = PyList_New((Py_ssize_t)count);
    if (!keys) return NULL;
    hold(l);
    bool good = l->other >= count; /* making the list may have dropped more */
    for (size_t i = 0; good && i < count; i++) {
        PyObject *key = PyBytes_FromStringAndSize((char *)l->others[i].key, l->others[i].size);
        good = key && !PyList_SetItem(keys, (Py_ssize_t)i, key);
    }
    if (good) {
        l->other -= count;
        memmove(l->others, l->others + count, l->other * sizeof *l->others);
    }
    let_go(l);
    if (good) return keys;
    Py_DECREF(keys);
    return PyErr_Occurred() ? NULL : PyList_New(0); /* another thread took them */
}

/* What comes. */

static PyObject *tuple_of(Frame *f) {
    PyObject *payload;
    if (f->fd >= 0) {
        payload = PyObject_CallFunction(descriptor_type, "i", f->fd);
        if (payload) f->fd = -1;
    } else {
        payload = PyBytes_FromStringAndSize((char *)f->bytes + f->body, (Py_ssize_t)(f->length - f->body));
    }
    return payload ? Py_BuildValue("(iKy#N)", (int)f->kind, (unsigned long long)f->corr, f->bytes, (Py_ssize_t)f->body, payload) : NULL;
}

/* A list of frames, empty after timeout seconds; None once the connection is over and all of them were taken. */
static PyObject *py_take(PyObject *self, PyObject *args) {
    Link *l = link_of(self);
    PyObject *timeout = Py_None;
    double deadline;
    if (!PyArg_ParseTuple(args, "|O", &timeout) || deadline_of(timeout, &deadline)) return NULL;
    if (link_inert(l)) Py_RETURN_NONE;
    Frame *got = NULL, **end = &got;
    bool closed, stir;
    for (;;) {
        hold(l);
        l->busy = false;
        Frame *f, *native = NULL;
        while ((f = l->first) && f->fd < 0 && link_handle(l, f->kind, f->bytes, f->length, f->body)) {
            l->queued -= f->length + sizeof *f;
            l->first = f->next;
            f->next = native, native = f;
        }
        for (int some = 0; l->first && some < 256; some++) {
            if (l->worker && link_is_work(l->first->kind, l->first->bytes, l->first->body)) break; /* its turn is when these are done */
            *end = l->first;
            end = &l->first->next;
            l->queued -= l->first->length + sizeof *l->first;
            l->first = l->first->next;
        }
        *end = NULL;
        if (!l->first) l->last = &l->first;
        l->busy = got;
        closed = l->closed;
        bool heap = l->other >= HEAP || l->look;
        l->look = false;
        l->taking = !got && !closed && !heap;
        int was = atomic_load(&l->arrivals);
        stir = link_stirs(l);
        let_go(l);
        for (; native; native = f) f = native->next, frame_free(native);
        if (stir) wake(&l->work);
        atomic_fetch_add(&l->room, 1), wake(&l->room);
        if (got || closed || heap) break;
        int slice = slice_of(deadline);
        if (!slice) break;
        Py_BEGIN_ALLOW_THREADS
        nap(&l->arrivals, was, slice < SLICE ? slice : 250);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals()) return NULL;
    }
    if (!got && closed) Py_RETURN_NONE;
    PyObject *list = PyList_New(0);
    for (Frame *f = got, *next; f; f = next) {
        next = f->next;
        PyObject *tuple = list ? tuple_of(f) : NULL;
        if (!tuple || PyList_Append(list, tuple)) Py_CLEAR(list);
        Py_XDECREF(tuple);
        frame_free(f);
    }
    return list;
}

/* The inbox. */

static PyObject *py_put(PyObject *self, PyObject *object) {
    Link *l = link_of(self);
    if (link_inert(l)) Py_RETURN_NONE;
    Py_INCREF(object);
    hold(l);
    int failed = link_push(l, (Item){NULL, object});
    bool stir = link_stirs(l);
    let_go(l);
    if (stir) wake(&l->work);
    if (failed) Py_DECREF(object);
    return no_memory(failed);
}

static PyObject *py_get(PyObject *self, PyObject *unused) {
    (void)unused;
    Link *l = link_of(self);
    for (;;) {
        Item item = {NULL, NULL};
        if (link_inert(l)) Py_RETURN_NONE; /* a fork's child that came back from its task: its parent has the inbox */
        hold(l);
        bool some = l->items, reads = false;
        int was = atomic_load(&l->work), failed = 0;
        if (some) {
            item = l->inbox[l->item_at];
            if (item.frame && !(failed = link_begun(l, item.frame->bytes)) && item.frame->behind && item.frame->kind == MANIPLE_SUBMIT) link_started(l, item.frame->bytes);
            if (!failed && item.frame && item.frame->direct) direct_begun(l, item.frame);
            if (!failed) l->item_at = (l->item_at + 1) & (l->item_room - 1), l->items--;
        } else {
            reads = link_lead(l);
            l->idle = reads ? READS : SLEEPS;
        }
        let_go(l);
        if (failed) return PyErr_NoMemory();
        if (some && !item.frame) return (PyObject *)item.object;
        if (some) {
            PyObject *work = job_of(item.frame);
            frame_free(item.frame);
            return work;
        }
        if (reads) look_around(l);
        Py_BEGIN_ALLOW_THREADS
        if (reads) link_read(l, &l->work, was, 10 * SLICE);
        else nap(&l->work, was, 10 * SLICE);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals()) return NULL;
    }
}

static PyObject *py_empty(PyObject *self, PyObject *unused) {
    (void)unused;
    if (link_inert(link_of(self))) Py_RETURN_TRUE;
    hold(link_of(self));
    bool some = link_of(self)->items;
    let_go(link_of(self));
    return PyBool_FromLong(!some);
}

static PyObject *py_begun(PyObject *self, PyObject *task) {
    const uint8_t *p = bytes_of(task, TASK_SIZE, "a task");
    if (!p) return NULL;
    if (link_inert(link_of(self))) Py_RETURN_NONE;
    hold(link_of(self));
    int failed = link_begun(link_of(self), p);
    let_go(link_of(self));
    return no_memory(failed);
}

static PyObject *py_ended(PyObject *self, PyObject *task) {
    const uint8_t *p = bytes_of(task, TASK_SIZE, "a task");
    if (!p) return NULL;
    if (link_inert(link_of(self))) Py_RETURN_TRUE;
    hold(link_of(self));
    link_ended(link_of(self), p);
    bool some = link_of(self)->items;
    let_go(link_of(self));
    return PyBool_FromLong(!some);
}

static PyObject *py_withdraw(PyObject *self, PyObject *task) {
    const uint8_t *p = bytes_of(task, TASK_SIZE, "a task");
    if (!p) return NULL;
    if (link_inert(link_of(self))) Py_RETURN_NONE;
    hold(link_of(self));
    Frame *f = link_withdraw(link_of(self), p);
    let_go(link_of(self));
    if (!f) Py_RETURN_NONE;
    PyObject *work = job_of(f);
    frame_free(f);
    return work;
}

static PyMethodDef link_methods[] = {
    {"start", py_start, METH_NOARGS, NULL}, {"early", py_early, METH_NOARGS, NULL}, {"close", py_close, METH_VARARGS, NULL}, {"forget", py_forget, METH_NOARGS, NULL}, {"fate", py_fate, METH_O, NULL},
    {"send", py_send, METH_O, NULL}, {"enqueue", py_enqueue, METH_O, NULL}, {"flush", py_flush, METH_NOARGS, NULL}, {"mint", py_mint, METH_NOARGS, NULL},
    {"spend", py_spend, METH_VARARGS, NULL}, {"credited", py_credited, METH_VARARGS, NULL}, {"grant", py_grant, METH_VARARGS, NULL}, {"submit", py_submit, METH_VARARGS, NULL}, {"expect", py_expect, METH_VARARGS, NULL},
    {"call", py_call, METH_VARARGS, NULL}, {"result", py_result, METH_VARARGS, NULL}, {"results", py_results, METH_VARARGS, NULL}, {"append", py_append, METH_O, NULL}, {"dropped", py_dropped, METH_NOARGS, NULL}, {"take", py_take, METH_VARARGS, NULL},
    {"put", py_put, METH_O, NULL}, {"get", py_get, METH_NOARGS, NULL}, {"empty", py_empty, METH_NOARGS, NULL}, {"begun", py_begun, METH_O, NULL},
    {"ended", py_ended, METH_O, NULL}, {"withdraw", py_withdraw, METH_O, NULL}, {NULL, NULL, 0, NULL},
};
static PyGetSetDef link_properties[] = {{"why", get_why, NULL, NULL, NULL}, {"closed", get_closed, NULL, NULL, NULL}, {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot link_slots[] = {{Py_tp_new, new_link}, {Py_tp_dealloc, link_dealloc}, {Py_tp_methods, link_methods}, {Py_tp_getset, link_properties}, {0, NULL}};
static PyType_Spec link_spec = {"maniple._core._fast.Link", sizeof(LinkObject), 0, Py_TPFLAGS_DEFAULT, link_slots};

/* The module. */

static PyObject *setup(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *reference, *descriptor, *value, *state, *ready, *load, *dump, *none, *count;
    if (!PyArg_ParseTuple(args, "OOOOO!OOSO", &reference, &descriptor, &value, &state, &PyTuple_Type, &ready, &load, &dump, &none, &count)) return NULL;
    PyObject **to[] = {&reference_type, &descriptor_type, &value_type, &pending, &there, &loads, &dumps, &nothing, &threads};
    PyObject *from[] = {reference, descriptor, value, state, ready, load, dump, none, count};
    for (size_t i = 0; i < sizeof to / sizeof *to; i++) {
        Py_INCREF(from[i]);
        Py_XDECREF(*to[i]);
        *to[i] = from[i];
    }
    if (!protocol && !(protocol = PyLong_FromLong(5))) return NULL;
    Py_RETURN_NONE;
}

static PyObject *heads(PyObject *module, PyObject *refs) {
    (void)module;
    PyObject *list = PySequence_List(refs);
    Py_ssize_t count = list ? PyList_Size(list) : 0;
    PyObject *made = list ? PyBytes_FromStringAndSize(NULL, count * SIZE(object_id)) : NULL;
    char *p = made ? PyBytes_AsString(made) : NULL;
    for (Py_ssize_t i = 0; made && i < count; i++, p += SIZE(object_id)) {
        PyObject *ref = PyList_GetItem(list, i);
        if (!PyObject_TypeCheck(ref, RefType)) {
            Py_CLEAR(made);
            PyErr_Format(PyExc_TypeError, "a reference is wanted, not a %R", Py_TYPE(ref));
            break;
        }
        memset(p, 0, SIZE(object_id));
        memcpy(p, ((RefObject *)ref)->key, KEY_SIZE);
    }
    Py_XDECREF(list);
    return made;
}

/* Python's own fork, several times: what is to be done before and after is done once. */
static PyObject *forks(PyObject *module, PyObject *given) {
    (void)module;
    enum { MOST = 64 };
    pid_t made[MOST];
    long count = PyLong_AsLong(given), done = 0;
    if (count < 1 || count > MOST) return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "%ld forks at once", count);
    PyOS_BeforeFork();
    while (done < count && (made[done] = fork()) > 0) done++;
    if (done < count && made[done] == 0) {
        PyOS_AfterFork_Child();
        return PyLong_FromLong(done);
    }
    int error = errno;
    PyOS_AfterFork_Parent();
    errno = error;
    if (!done) return PyErr_SetFromErrno(PyExc_OSError);
    PyObject *list = PyList_New(done);
    for (long i = 0; list && i < done; i++) {
        PyObject *pid = PyLong_FromLong(made[i]);
        if (!pid) Py_CLEAR(list);
        else PyList_SetItem(list, i, pid);
    }
    return list;
}

static PyMethodDef functions[] = {{"forks", forks, METH_O, NULL}, {"setup", setup, METH_VARARGS, NULL}, {"heads", heads, METH_O, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_fast", "See _fast.pyi.", -1, functions, NULL, NULL, NULL, NULL};

static int add_type(PyObject *module, const char *name, PyType_Spec *spec, PyTypeObject **type) {
    *type = (PyTypeObject *)PyType_FromSpec(spec);
    if (!*type) return -1;
    Py_INCREF(*type);
    return PyModule_AddObject(module, name, (PyObject *)*type);
}

PyMODINIT_FUNC PyInit__fast(void);
PyMODINIT_FUNC PyInit__fast(void) {
    fast_setup();
    PyObject *module = PyModule_Create(&definition);
    if (!module) return NULL;
    if (add_type(module, "Link", &link_spec, &LinkType) || add_type(module, "Ref", &ref_spec, &RefType) || add_type(module, "Gate", &gate_spec, &GateType) ||
        add_job(module) || add_entries(module) || add_slab(module) || add_fade(module) || PyModule_AddFunctions(module, wire_functions) || PyModule_AddIntConstant(module, "INTERFACE", INTERFACE)) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
