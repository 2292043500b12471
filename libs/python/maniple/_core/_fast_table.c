/* Entries: a mapping of keys to what is known of objects. Results of one's own tasks are in the link, all else in a dict. */
#define _GNU_SOURCE
#include "_fast_python.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    PyObject_HEAD
    PyObject *link;
    PyObject *others;
} EntriesObject;

static inline EntriesObject *entries_of(PyObject *self) { return (EntriesObject *)self; }

static PyObject *entries_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"link", NULL};
    PyObject *link;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O", names, &link)) return NULL;
    PyObject *self = ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) return NULL;
    Py_INCREF(link);
    entries_of(self)->link = link;
    if (!(entries_of(self)->others = PyDict_New())) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}

static int entries_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(entries_of(self)->link);
    Py_VISIT(entries_of(self)->others);
    return 0;
}

static int entries_clear(PyObject *self) {
    Py_CLEAR(entries_of(self)->others);
    return 0;
}

static void entries_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    Py_CLEAR(entries_of(self)->others);
    Py_CLEAR(entries_of(self)->link);
    free_object(self);
}

/* An entry of the link, as Python sees it. Its bytes are copied with the lock held, the rest is made after. */
typedef struct {
    bool found, here;
    int flags, format;
    PyObject *payload;
} Seen;

static Seen see(Link *l, const uint8_t *key, bool take) {
    Seen seen = {.found = false};
    if (link_inert(l)) return seen;
    hold(l);
    if (take) direct_tell(l); /* who manages it from here on says of it what the agent has to know first */
    Entry *e = link_find(l, key);
    if (e) {
        seen = (Seen){.found = true, .here = e->state == HERE, .flags = e->flags, .format = e->format};
        if (seen.here) seen.payload = PyBytes_FromStringAndSize((const char *)entry_bytes(e), e->size);
        if (take && (!seen.here || seen.payload)) link_remove(l, e);
    }
    let_go(l);
    return seen;
}

static PyObject *object_of(Seen seen) {
    if (!seen.here) {
        Py_INCREF(pending);
        return pending;
    }
    return seen.payload ? PyObject_CallFunction(value_type, "ii()N", seen.flags, seen.format, seen.payload) : NULL;
}

/* A new reference; NULL without an error: it is not there. */
static PyObject *look(PyObject *self, PyObject *key, bool take) {
    if (PyBytes_Check(key) && PyBytes_Size(key) == KEY_SIZE) {
        Seen seen = see(link_of(entries_of(self)->link), (const uint8_t *)PyBytes_AsString(key), take);
        if (seen.found) return object_of(seen);
    }
    PyObject *found = PyDict_GetItemWithError(entries_of(self)->others, key);
    Py_XINCREF(found);
    if (found && take && PyDict_DelItem(entries_of(self)->others, key)) Py_CLEAR(found);
    return found;
}

static PyObject *or_default(PyObject *found, PyObject *fallback) {
    if (found || PyErr_Occurred()) return found;
    Py_INCREF(fallback);
    return fallback;
}

static PyObject *py_get(PyObject *self, PyObject *args) {
    PyObject *key, *fallback = Py_None;
    if (!PyArg_ParseTuple(args, "O|O", &key, &fallback)) return NULL;
    return or_default(look(self, key, false), fallback);
}

static PyObject *py_pop(PyObject *self, PyObject *args) {
    PyObject *key, *fallback;
    if (!PyArg_ParseTuple(args, "OO", &key, &fallback)) return NULL;
    return or_default(look(self, key, true), fallback);
}

static PyObject *entries_get(PyObject *self, PyObject *key) {
    PyObject *found = look(self, key, false);
    if (!found && !PyErr_Occurred()) PyErr_SetObject(PyExc_KeyError, key);
    return found;
}

static int entries_set(PyObject *self, PyObject *key, PyObject *value) {
    Seen seen = {.found = false};
    if (PyBytes_Check(key) && PyBytes_Size(key) == KEY_SIZE) seen = see(link_of(entries_of(self)->link), (const uint8_t *)PyBytes_AsString(key), true);
    Py_XDECREF(seen.payload);
    if (value) return PyDict_SetItem(entries_of(self)->others, key, value);
    return seen.found ? 0 : PyDict_DelItem(entries_of(self)->others, key);
}

static int entries_contains(PyObject *self, PyObject *key) {
    PyObject *found = look(self, key, false);
    if (!found) return PyErr_Occurred() ? -1 : 0;
    Py_DECREF(found);
    return 1;
}

static PyObject *py_setdefault(PyObject *self, PyObject *args) {
    PyObject *key, *value;
    if (!PyArg_ParseTuple(args, "OO", &key, &value)) return NULL;
    PyObject *found = look(self, key, false);
    if (found || PyErr_Occurred()) return found;
    if (PyDict_SetItem(entries_of(self)->others, key, value)) return NULL;
    Py_INCREF(value);
    return value;
}

static Py_ssize_t entries_length(PyObject *self) {
    Link *l = link_of(entries_of(self)->link);
    Py_ssize_t count = PyDict_Size(entries_of(self)->others);
    if (link_inert(l)) return count;
    hold(l);
    count += (Py_ssize_t)l->entries;
    let_go(l);
    return count;
}

/* Takes an entry out of the link that was seen as this. gate: who waits for it. false: it has come meanwhile. gone: it was let go of. */
static bool move(Link *l, const uint8_t *key, Seen seen, PyObject **gate, bool *gone) {
    hold(l);
    direct_tell(l);
    Entry *e = link_find(l, key);
    bool same = e && (e->state == HERE) == seen.here;
    if (same && e->gate) {
        *gate = (PyObject *)((char *)e->gate - offsetof(GateObject, gate));
        Py_INCREF(*gate);
    }
    if (same) link_remove(l, e);
    let_go(l);
    *gone = !e;
    return same || !e;
}

/* From here on Python manages the object. Gives the gate that waits for it, or None. Who looks meanwhile, with no lock, finds it: in the
 * dict before it leaves the link. */
static PyObject *py_adopt(PyObject *self, PyObject *key) {
    const uint8_t *p = bytes_of(key, KEY_SIZE, "a key");
    if (!p) return NULL;
    Link *l = link_of(entries_of(self)->link);
    PyObject *gate = NULL, *others = entries_of(self)->others;
    Seen seen;
    bool gone, put = false;
    do {
        seen = see(l, p, false);
        if (!seen.found) { /* it was let go of after it was seen the first time */
            if (put && PyDict_DelItem(others, key)) return NULL;
            Py_RETURN_NONE;
        }
        PyObject *object = object_of(seen);
        int failed = !object || PyDict_SetItem(others, key, object);
        Py_XDECREF(object);
        if (failed) return NULL;
        put = true;
    } while (!move(l, p, seen, &gate, &gone));
    if (gone && PyDict_DelItem(others, key)) return NULL;
    if (gate) return gate;
    Py_RETURN_NONE;
}

/* Lists and tuples of references or keys. */

static PyObject *item_of(PyObject *items, Py_ssize_t i) { return PyList_Check(items) ? PyList_GetItem(items, i) : PyTuple_GetItem(items, i); }

static Py_ssize_t count_of(PyObject *items) {
    if (PyList_Check(items)) return PyList_Size(items);
    return PyTuple_Size(items);
}

static const uint8_t *key_at(PyObject *items, Py_ssize_t i) {
    PyObject *item = item_of(items, i);
    if (item && PyObject_TypeCheck(item, RefType)) return ((RefObject *)item)->key;
    return item && PyBytes_Check(item) && PyBytes_Size(item) == KEY_SIZE ? (const uint8_t *)PyBytes_AsString(item) : NULL;
}

static bool foreign(PyObject *item, const Link *l) { return PyObject_TypeCheck(item, RefType) && ref_foreign(item, l); }

/* The first of a list or tuple of references that another link counts, or, strict, that nobody does; None: there is none. */
static PyObject *py_foreign(PyObject *self, PyObject *args) {
    PyObject *refs;
    int strict;
    if (!PyArg_ParseTuple(args, "Op", &refs, &strict)) return NULL;
    const Link *l = link_of(entries_of(self)->link);
    for (Py_ssize_t i = 0; i < count_of(refs); i++) {
        PyObject *ref = item_of(refs, i);
        if (!ref) return NULL;
        if (!PyObject_TypeCheck(ref, RefType) || (!foreign(ref, l) && (!strict || ((RefObject *)ref)->link))) continue;
        Py_INCREF(ref);
        return ref;
    }
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

/* A plain value: one that pickle alone can read. */
static bool plain(const Entry *e) {
    const uint8_t *p = entry_bytes(e);
    return !(e->flags & MANIPLE_RESULT_FLAG_ERROR) && e->format == MANIPLE_FORMAT_PICKLE5 && e->size >= 8 && get32(p) == e->size - 8 && get32(p + 4) == 0;
}

static Gate *told_by(PyObject *gate, Link *l) {
    Gate *g = &((GateObject *)gate)->gate;
    if (!g->link) {
        g->link = l;
        link_share(l);
    }
    return g;
}

static void unregister(Link *l, Gate *gate, PyObject *items, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++) {
        const uint8_t *key = key_at(items, i);
        Entry *e = key ? link_find(l, key) : NULL;
        if (e && e->gate == gate) e->gate = NULL;
    }
}

/* How many of them are awaited; -1: there is one that is not for here. With a gate it waits for those. */
static Py_ssize_t missing_of(Link *l, PyObject *refs, Py_ssize_t count, Gate *gate) {
    Py_ssize_t missing = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        const uint8_t *key = key_at(refs, i);
        Entry *e = key && !foreign(item_of(refs, i), l) ? link_find(l, key) : NULL;
        if (!e || (e->state == HERE && !plain(e)) || (e->state == AWAITED && gate && e->gate && e->gate != gate)) {
            if (gate) unregister(l, gate, refs, i);
            return -1;
        }
        if (e->state != AWAITED || (gate && e->gate == gate)) continue;
        missing++;
        if (gate) e->gate = gate;
    }
    return missing;
}

/* Copies what pickle has to read into list; with the lock held. */
static bool copy(Link *l, PyObject *refs, Py_ssize_t count, PyObject *list) {
    Py_ssize_t none = PyBytes_Size(nothing);
    const char *bytes = PyBytes_AsString(nothing);
    for (Py_ssize_t i = 0; i < count; i++) {
        Entry *e = link_find(l, key_at(refs, i));
        PyObject *made = Py_None;
        if (e->size == (uint32_t)none && !memcmp(entry_bytes(e), bytes, (size_t)none)) Py_INCREF(made);
        else made = PyBytes_FromStringAndSize((const char *)entry_bytes(e) + 8, (Py_ssize_t)e->size - 8);
        if (!made || PyList_SetItem(list, i, made)) return false;
    }
    return true;
}

static PyObject *unpickle(PyObject *list, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *meta = PyList_GetItem(list, i);
        if (meta == Py_None) continue;
        PyObject *value = PyObject_CallFunctionObjArgs(loads, meta, NULL);
        if (!value || PyList_SetItem(list, i, value)) {
            Py_DECREF(list);
            if (!PyErr_ExceptionMatches(PyExc_Exception)) return NULL;
            PyErr_Clear(); /* who reads it in Python has the words */
            Py_RETURN_NONE;
        }
    }
    return list;
}

/* The values as a list; a gate that waits for those that are missing; or None: not all of them are for here. */
static PyObject *py_fetch(PyObject *self, PyObject *refs) {
    Link *l = link_of(entries_of(self)->link);
    if ((!PyList_Check(refs) && !PyTuple_Check(refs)) || link_inert(l)) Py_RETURN_NONE;
    Py_ssize_t count = count_of(refs);
    hold(l);
    Py_ssize_t missing = missing_of(l, refs, count, NULL);
    bool closed = l->closed;
    let_go(l);
    if (missing < 0 || (missing && closed)) Py_RETURN_NONE;
    PyObject *made = missing ? PyObject_CallFunction((PyObject *)GateType, "iii", INT32_MAX, MANIPLE_WANT_VALUE, 1) : PyList_New(count);
    if (!made || count != count_of(refs)) {
        Py_XDECREF(made);
        if (PyErr_Occurred()) return NULL;
        Py_RETURN_NONE;
    }
    Gate *gate = missing ? told_by(made, l) : NULL;
    bool good = true;
    hold(l);
    missing = missing_of(l, refs, count, gate);
    if (missing >= 0 && gate) {
        atomic_store(&gate->missing, (int)missing);
        if (!missing) gate_open(gate);
    } else if (missing == 0) {
        good = copy(l, refs, count, made);
    }
    let_go(l);
    if (missing < 0 || (missing > 0 && !gate)) {
        Py_DECREF(made);
        Py_RETURN_NONE;
    }
    if (!good) {
        Py_DECREF(made);
        return NULL;
    }
    return gate ? made : unpickle(made, count);
}

/* Lets the gate wait for objects: gives those keys that Python has to see to. */
static PyObject *py_register(PyObject *self, PyObject *args) {
    PyObject *gate, *keys;
    Link *l = link_of(entries_of(self)->link);
    if (!PyArg_ParseTuple(args, "O!O!", GateType, &gate, &PyList_Type, &keys)) return NULL;
    Gate *g = told_by(gate, l);
    Py_ssize_t count = PyList_Size(keys);
    PyObject *rest = PyList_New(0);
    for (Py_ssize_t i = 0; rest && i < count && i < PyList_Size(keys); i++) {
        bool done = false;
        if (!link_inert(l)) {
            hold(l);
            const uint8_t *key = key_at(keys, i);
            Entry *e = key ? link_find(l, key) : NULL;
            if (e && e->state == HERE) done = true, gate_arrived(g, e->flags & MANIPLE_RESULT_FLAG_ERROR);
            else if (e && !e->gate) done = true, e->gate = g;
            let_go(l);
        }
        if (!done && PyList_Append(rest, PyList_GetItem(keys, i))) Py_CLEAR(rest);
    }
    return rest;
}

static PyObject *py_unregister(PyObject *self, PyObject *args) {
    PyObject *gate, *keys;
    Link *l = link_of(entries_of(self)->link);
    if (!PyArg_ParseTuple(args, "OO", &gate, &keys)) return NULL;
    if (!link_inert(l) && PyObject_TypeCheck(gate, GateType) && (PyList_Check(keys) || PyTuple_Check(keys))) {
        hold(l);
        unregister(l, &((GateObject *)gate)->gate, keys, count_of(keys));
        let_go(l);
    }
    Py_RETURN_NONE;
}

/* Nothing will come any more: opens all gates. */
static PyObject *py_close(PyObject *self, PyObject *unused) {
    (void)unused;
    Link *l = link_of(entries_of(self)->link);
    if (link_inert(l)) Py_RETURN_NONE;
    hold(l);
    l->closed = true;
    for (size_t i = 0; i < l->slots; i++) {
        if (l->table[i].state == EMPTY || !l->table[i].gate) continue;
        gate_open(l->table[i].gate);
        l->table[i].gate = NULL;
    }
    let_go(l);
    Py_RETURN_NONE;
}

/* Which results of a task are awaited, as keys. */
static PyObject *py_awaited(PyObject *self, PyObject *args) {
    Link *l = link_of(entries_of(self)->link);
    const char *task;
    Py_ssize_t size;
    unsigned count;
    if (!PyArg_ParseTuple(args, "y#I", &task, &size, &count)) return NULL;
    if (size != TASK_SIZE) return PyErr_Format(PyExc_ValueError, "a task has %d bytes, not %zd", TASK_SIZE, size);
    uint8_t key[KEY_SIZE];
    memcpy(key, task, TASK_SIZE);
    PyObject *list = PyList_New(0);
    for (unsigned i = 0; list && i < count; i++) {
        put32(key + TASK_SIZE, i);
        bool own = false, awaited = false;
        if (!link_inert(l)) {
            hold(l);
            Entry *e = link_find(l, key);
            own = e, awaited = e && e->state == AWAITED;
            let_go(l);
        }
        if (own && !awaited) continue;
        PyObject *name = PyBytes_FromStringAndSize((const char *)key, KEY_SIZE);
        if (name && !own) awaited = PyDict_GetItemWithError(entries_of(self)->others, name) == pending;
        if (!name || PyErr_Occurred() || (awaited && PyList_Append(list, name))) Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

/* Whether the object of a reference is there, or, here, at this node; -1: nobody knows of it, -2: an error. */
static int is_there(EntriesObject *entries, const uint8_t *key, bool here) {
    Link *l = link_of(entries->link);
    if (!link_inert(l)) {
        hold(l);
        Entry *e = link_find(l, key);
        int state = e ? e->state : EMPTY;
        let_go(l);
        if (state != EMPTY) return state == HERE;
    }
    PyObject *name = PyBytes_FromStringAndSize((const char *)key, KEY_SIZE);
    PyObject *entry = name ? PyDict_GetItemWithError(entries->others, name) : NULL;
    Py_XDECREF(name);
    if (!entry) return PyErr_Occurred() ? -2 : -1;
    Py_ssize_t states = PyTuple_Size(there), at = here ? states - 1 : 0; /* the last one is of what is here */
    while (at < states && entry != PyTuple_GetItem(there, at)) at++;
    return Py_TYPE(entry) != Py_TYPE(pending) || at < states;
}

/* Whether an object is among those that were seen, by number: open addressing, 1 + number in a slot. */
static bool again(uint32_t *slots, size_t mask, PyObject *refs, Py_ssize_t i) {
    const uint8_t *key = key_at(refs, i);
    for (size_t at = (size_t)ref_hash(item_of(refs, i)) & mask;; at = (at + 1) & mask) {
        if (!slots[at]) {
            slots[at] = (uint32_t)i + 1;
            return false;
        }
        if (!memcmp(key_at(refs, (Py_ssize_t)slots[at] - 1), key, KEY_SIZE)) return true;
    }
}

/* A byte for each of some references, 1: its object is there. None: not all are references, known and different. */
static PyObject *py_readiness(PyObject *self, PyObject *args) {
    PyObject *refs;
    int here;
    const Link *l = link_of(entries_of(self)->link);
    if (!PyArg_ParseTuple(args, "Op", &refs, &here)) return NULL;
    Py_ssize_t count = PyList_Check(refs) || PyTuple_Check(refs) ? count_of(refs) : 0;
    if (!count || count > INT32_MAX / 4) Py_RETURN_NONE;
    size_t room = 4;
    while (room < 2 * (size_t)count) room *= 2;
    uint32_t *slots = calloc(room, sizeof *slots);
    PyObject *made = slots ? PyBytes_FromStringAndSize(NULL, count) : PyErr_NoMemory();
    char *to = made ? PyBytes_AsString(made) : NULL;
    for (Py_ssize_t i = 0; made && i < count; i++) {
        PyObject *ref = item_of(refs, i);
        bool ours = (PyObject *)Py_TYPE(ref) == reference_type && !foreign(ref, l) && !again(slots, room - 1, refs, i);
        int state = !ours ? -1 : is_there(entries_of(self), ((RefObject *)ref)->key, here);
        if (state < 0) Py_CLEAR(made);
        else to[i] = (char)state;
    }
    free(slots);
    if (made || PyErr_Occurred()) return made;
    Py_RETURN_NONE;
}

/* References that came, each with a delivery counted; None for those that Python has to see to: they are known. */
static PyObject *py_delivered(PyObject *self, PyObject *args) {
    PyObject *payload, *deliveries, *remote;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "OnO!O", &payload, &count, &PyDict_Type, &deliveries, &remote)) return NULL;
    const uint8_t *p = bytes_of(payload, 0, NULL);
    if (!p) return NULL;
    if (count < 0 || count > PyBytes_Size(payload) / (Py_ssize_t)SIZE(object_id)) return PyErr_Format(PyExc_ValueError, "%zd references in %zd bytes", count, PyBytes_Size(payload));
    PyObject *one = PyLong_FromLong(1), *list = PyList_New(count);
    for (Py_ssize_t i = 0; list && i < count; i++, p += SIZE(object_id)) {
        PyObject *name = PyBytes_FromStringAndSize((const char *)p, KEY_SIZE), *ref = Py_None;
        int known = name ? entries_contains(self, name) : -1;
        if (!known) known = PyDict_Contains(deliveries, name);
        if (known > 0) Py_INCREF(ref);
        else if (known || PyDict_SetItem(entries_of(self)->others, name, remote) || PyDict_SetItem(deliveries, name, one)) ref = NULL;
        else ref = ref_make((PyTypeObject *)reference_type, link_of(entries_of(self)->link), p);
        Py_XDECREF(name);
        if (!ref || PyList_SetItem(list, i, ref)) Py_CLEAR(list);
    }
    Py_XDECREF(one);
    return list;
}

/* Whether somebody else counts a key: it is in one of these. -1: an error. */
static int counted(PyObject *name, PyObject *more, PyObject *promises, PyObject *seen, PyObject *sequences) {
    int found = PyDict_Contains(more, name);
    if (!found && PyDict_Size(promises)) found = PyDict_Contains(promises, name);
    if (!found && PyDict_Size(seen)) found = PyDict_Contains(seen, name);
    if (!found && PyDict_Size(sequences)) {
        PyObject *task = PyBytes_FromStringAndSize(PyBytes_AsString(name), TASK_SIZE);
        found = task ? PyDict_Contains(sequences, task) : -1;
        Py_XDECREF(task);
    }
    return found;
}

/* The deliveries of an object, which go with it. -1: an error. */
static long long taken(PyObject *deliveries, PyObject *name) {
    PyObject *count = PyDict_GetItemWithError(deliveries, name);
    if (!count) return PyErr_Occurred() ? -1 : 0;
    long long many = PyLong_AsLongLong(count);
    return many < 0 || PyDict_DelItem(deliveries, name) ? -1 : many;
}

/* Forgets what was dropped and tells the agent. Gives those keys that Python has to see to. */
static PyObject *py_release(PyObject *self, PyObject *args) {
    Link *l = link_of(entries_of(self)->link);
    PyObject *keys, *more, *deliveries, *promises, *seen, *sequences, *others = entries_of(self)->others;
    if (!PyArg_ParseTuple(args, "O!O!O!O!O!O!", &PyList_Type, &keys, &PyDict_Type, &more, &PyDict_Type, &deliveries, &PyDict_Type, &promises, &PyDict_Type, &seen, &PyDict_Type, &sequences))
        return NULL;
    bool some = false;
    PyObject *rest = PyList_New(0);
    for (Py_ssize_t i = 0; rest && i < PyList_Size(keys); i++) {
        PyObject *name = PyList_GetItem(keys, i);
        bool whole = PyBytes_Check(name) && PyBytes_Size(name) == KEY_SIZE;
        int elsewhere = whole ? counted(name, more, promises, seen, sequences) : 1;
        if (elsewhere) {
            if (elsewhere < 0 || PyList_Append(rest, name)) Py_CLEAR(rest);
            continue;
        }
        long long delivered = taken(deliveries, name);
        if (delivered >= 0 && PyDict_Contains(others, name) > 0) PyDict_DelItem(others, name);
        if (delivered < 0 || PyErr_Occurred()) {
            Py_CLEAR(rest);
            break;
        }
        if (link_inert(l)) continue;
        hold(l);
        if (!memcmp(PyBytes_AsString(name), l->direct.actor, TASK_SIZE)) direct_tell(l); /* its last call goes before */
        int failed = l->closed ? 0 : link_release(l, (const uint8_t *)PyBytes_AsString(name), (uint32_t)delivered);
        let_go(l);
        some = true;
        if (failed) {
            Py_CLEAR(rest);
            return PyErr_NoMemory();
        }
    }
    if (some && !link_inert(l)) { /* a writer that sleeps is to send it */
        hold(l);
        link_sent(l);
        l->frames--;
        let_go(l);
    }
    return rest;
}

static PyMethodDef entries_methods[] = {
    {"get", py_get, METH_VARARGS, NULL}, {"pop", py_pop, METH_VARARGS, NULL}, {"setdefault", py_setdefault, METH_VARARGS, NULL}, {"adopt", py_adopt, METH_O, NULL},
    {"fetch", py_fetch, METH_O, NULL}, {"register", py_register, METH_VARARGS, NULL}, {"unregister", py_unregister, METH_VARARGS, NULL}, {"close", py_close, METH_NOARGS, NULL},
    {"awaited", py_awaited, METH_VARARGS, NULL}, {"readiness", py_readiness, METH_VARARGS, NULL}, {"delivered", py_delivered, METH_VARARGS, NULL}, {"release", py_release, METH_VARARGS, NULL},
    {"foreign", py_foreign, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot entries_slots[] = {
    {Py_tp_new, entries_new}, {Py_tp_dealloc, entries_dealloc}, {Py_tp_traverse, entries_traverse}, {Py_tp_clear, entries_clear}, {Py_tp_methods, entries_methods},
    {Py_mp_subscript, entries_get}, {Py_mp_ass_subscript, entries_set}, {Py_mp_length, entries_length}, {Py_sq_contains, entries_contains}, {0, NULL},
};
static PyType_Spec entries_spec = {"maniple._core._fast.Entries", sizeof(EntriesObject), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, entries_slots};

int add_entries(PyObject *module) {
    PyObject *type = PyType_FromSpec(&entries_spec);
    return type ? PyModule_AddObject(module, "Entries", type) : -1;
}
