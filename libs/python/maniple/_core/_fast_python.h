/* What the Python types share. */
#ifndef MANIPLE_FAST_PYTHON_H
#define MANIPLE_FAST_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_fast.h"

typedef struct {
    PyObject_HEAD
    Link *link;
} LinkObject;

typedef struct {
    PyObject_HEAD
    PyObject *weak;
    Link *link; /* NULL: nobody counts it */
    uint8_t key[KEY_SIZE];
} RefObject;

typedef struct {
    PyObject_HEAD
    Gate gate;
} GateObject;

extern PyObject *value_type, *reference_type, *pending, *loads, *nothing, *there; /* see setup in _fast.pyi */
extern PyTypeObject *RefType, *GateType;

static inline Link *link_of(PyObject *self) { return ((LinkObject *)self)->link; }
static inline void hold(Link *l) { pthread_mutex_lock(&l->lock); }
static inline void let_go(Link *l) { pthread_mutex_unlock(&l->lock); }

void free_object(PyObject *self);
/* link: who counts it; NULL: nobody. */
PyObject *ref_make(PyTypeObject *type, Link *link, const uint8_t *key);
Py_hash_t ref_hash(PyObject *ref);
/* Whether another link than this one counts a reference: what its key names here is another object, if any. */
static inline bool ref_foreign(PyObject *ref, const Link *l) { return ((RefObject *)ref)->link && ((RefObject *)ref)->link != l; }
/* Of a bytes object; size 0: any. NULL with an error. */
const uint8_t *bytes_of(PyObject *object, Py_ssize_t size, const char *what);
extern PyTypeObject *JobType;
/* A job that a frame in the inbox is. */
PyObject *job_of(const Frame *);
int add_job(PyObject *module);
int add_entries(PyObject *module);
extern PyMethodDef wire_functions[];
int add_slab(PyObject *module);
int add_fade(PyObject *module);
/* Has shared memory fade, until it is forgotten, before it is unmapped. */
void fade_note(char *at, size_t size);
void fade_forget(const char *at);

#endif
