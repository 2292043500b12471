/* A job that is only a frame: a Submit or Call without references, read where it lies. See _execute.Job. */
#define _GNU_SOURCE
#include "_fast_python.h"

#include <structmember.h>

typedef struct {
    PyObject_HEAD
    PyObject *task, *parent, *payload, *refs, *deps, *dep_keys, *kept, *interrupt, *gate;
    unsigned long long function, deadline, trace;
    unsigned job, attempt, shape, returns, method, format, kind, wanted;
    char behind, cancelled, started;
} JobObject;

PyTypeObject *JobType;

PyObject *job_of(const Frame *f) {
    JobObject *j = (JobObject *)((allocfunc)PyType_GetSlot(JobType, Py_tp_alloc))(JobType, 0);
    if (!j) return NULL;
    const uint8_t *p = f->bytes, *at = f->kind == MANIPLE_CALL ? p + AT(call, job) : p + AT(submit, job);
    j->kind = f->kind;
    j->job = get32(at), j->attempt = get32(at + 4), j->deadline = get64(at + 8), j->trace = get64(at + 16);
    if (f->kind == MANIPLE_CALL) {
        j->method = get32(p + AT(call, method)), j->returns = get32(p + AT(call, returns)), j->shape = get32(p + AT(call, shape)), j->format = get32(p + AT(call, format));
    } else {
        j->function = get64(p + AT(submit, function));
        j->shape = get32(p + AT(submit, shape)), j->returns = get32(p + AT(submit, returns)), j->format = get32(p + AT(submit, format));
    }
    j->task = PyBytes_FromStringAndSize((const char *)p, TASK_SIZE);
    j->parent = PyBytes_FromStringAndSize((const char *)p + AT(submit, parent), TASK_SIZE);
    j->payload = PyBytes_FromStringAndSize((const char *)p + f->body, (Py_ssize_t)(f->length - f->body));
    j->refs = PyTuple_New(0), j->deps = PyTuple_New(0), j->dep_keys = PyTuple_New(0), j->kept = PyTuple_New(0);
    Py_INCREF(Py_None), Py_INCREF(Py_None);
    j->interrupt = j->gate = Py_None;
    if (!j->task || !j->parent || !j->payload || !j->refs || !j->deps || !j->dep_keys || !j->kept) Py_CLEAR(j);
    return (PyObject *)j;
}

static void job_dealloc(PyObject *self) {
    JobObject *j = (JobObject *)self;
    PyObject *all[] = {j->task, j->parent, j->payload, j->refs, j->deps, j->dep_keys, j->kept, j->interrupt, j->gate};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) Py_XDECREF(all[i]);
    free_object(self);
}

/* Its frame: the same fields. */
static PyObject *job_frame(PyObject *self, void *unused) {
    (void)unused;
    Py_INCREF(self);
    return self;
}

#define OBJECT(name) {#name, T_OBJECT_EX, offsetof(JobObject, name), 0, NULL}
#define NUMBER(name) {#name, T_UINT, offsetof(JobObject, name), 0, NULL}
#define LONG(name) {#name, T_ULONGLONG, offsetof(JobObject, name), 0, NULL}
#define FLAG(name) {#name, T_BOOL, offsetof(JobObject, name), 0, NULL}

static PyMemberDef job_members[] = {
    OBJECT(task), OBJECT(parent), OBJECT(payload), OBJECT(refs), OBJECT(deps), OBJECT(dep_keys), OBJECT(kept), OBJECT(interrupt), OBJECT(gate),
    LONG(function), LONG(deadline), LONG(trace), NUMBER(job), NUMBER(attempt), NUMBER(shape), NUMBER(returns), NUMBER(method), NUMBER(format), NUMBER(kind),
    NUMBER(wanted), FLAG(behind), FLAG(cancelled), FLAG(started), {NULL, 0, 0, 0, NULL},
};
static PyGetSetDef job_properties[] = {{"frame", job_frame, NULL, NULL, NULL}, {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot job_slots[] = {{Py_tp_dealloc, job_dealloc}, {Py_tp_members, job_members}, {Py_tp_getset, job_properties}, {0, NULL}};
static PyType_Spec job_spec = {"maniple._core._fast.Job", sizeof(JobObject), 0, Py_TPFLAGS_DEFAULT, job_slots};

int add_job(PyObject *module) {
    JobType = (PyTypeObject *)PyType_FromSpec(&job_spec);
    if (!JobType) return -1;
    Py_INCREF(JobType);
    return PyModule_AddObject(module, "Job", (PyObject *)JobType);
}
