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

static Seen see(Link *l, const uint8_t *key, bool take, PyObject **gate) {
    Seen seen = {.found = false};
    if (link_inert(l)) return seen;
    hold(l);
    Entry *e = link_find(l, key);
    if (e) {
        seen = (Seen){.found = true, .here = e->state == HERE, .flags = e->flags, .format = e->format};
        if (seen.here) seen.payload = PyBytes_FromStringAndSize((const char *)entry_bytes(e), e->size);
        if (take && gate && e->gate) {
            *gate = (PyObject *)((char *)e->gate - offsetof(GateObject, gate));
            Py_INCREF(*gate);
        }
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
        Seen seen = see(link_of(entries_of(self)->link), (const uint8_t *)PyBytes_AsString(key), take, NULL);
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
    if (PyBytes_Check(key) && PyBytes_Size(key) == KEY_SIZE) seen = see(link_of(entries_of(self)->link), (const uint8_t *)PyBytes_AsString(key), true, NULL);
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

/* From here on Python manages the object. Gives the gate that waits for it, or None. */
static PyObject *py_adopt(PyObject *self, PyObject *key) {
    const uint8_t *p = bytes_of(key, KEY_SIZE, "a key");
    if (!p) return NULL;
    PyObject *gate = NULL;
    Seen seen = see(link_of(entries_of(self)->link), p, true, &gate);
    if (!seen.found) Py_RETURN_NONE;
    PyObject *object = object_of(seen);
    if (!object || PyDict_SetItem(entries_of(self)->others, key, object)) Py_CLEAR(gate);
    Py_XDECREF(object);
    if (PyErr_Occurred()) return NULL;
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
        Entry *e = key ? link_find(l, key) : NULL;
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
    PyObject *made = missing ? PyObject_CallFunction((PyObject *)GateType, "iii", INT32_MAX, 0, 1) : PyList_New(count);
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

static PyMethodDef entries_methods[] = {
    {"get", py_get, METH_VARARGS, NULL}, {"pop", py_pop, METH_VARARGS, NULL}, {"setdefault", py_setdefault, METH_VARARGS, NULL}, {"adopt", py_adopt, METH_O, NULL},
    {"fetch", py_fetch, METH_O, NULL}, {"register", py_register, METH_VARARGS, NULL}, {"unregister", py_unregister, METH_VARARGS, NULL}, {"close", py_close, METH_NOARGS, NULL},
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
