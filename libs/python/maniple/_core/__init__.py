"""What every call of the package goes through: frames, one connection to the node's agent, values, references.

Nouns. A *session* is this process as the agent knows it; a *connection* its stream of frames; a *key* the
20 bytes that name an object (task and index, as on the wire); the *table* what is known here of each object.

Ownership. The reader thread of a connection owns what comes in and hands it to the session in batches; any
thread may send. The table has one lock. Nothing here blocks with it held. Where the C extension is used (``twin``)
a native thread reads, or whoever waits for little in its place, and settles what needs no Python; the rest a thread of
Python hands to the session. The lock of its table is its own and never waited with.

Guarantees.

- PY-1: waiting (for a value, for credit, for a full socket) ends within 0.3 s of a KeyboardInterrupt, and
  the stream of frames is whole after it.
- PY-2: ``__del__`` of a reference only appends to a queue.
- PY-3: after ``os.fork`` the child is disconnected: its references do nothing, what it has read stays
  readable, and its first call connects it as a process of its own.
- PY-4: when the connection ends, for whatever reason, everything that waits raises.
- PY-5: no frame of an agent makes this process hang or crash: what can't be read ends the connection.
- PY-6: a signal's handler, or a ``__del__``, may call whatever users call, also where it has interrupted just that: at any
  bytecode of a thread of the user's nothing is held that others need while it waits, and nothing is half done that others see.
- PY-7: what a signal's handler of the user's raises on a worker's main thread while none of their code runs, as torch's does when a process of
  a DataLoader is killed, ends neither the worker nor an actor, and is told.

Limits. A KeyboardInterrupt that comes while Python runs a ``__del__``, ours or another's, is printed and lost:
Python's rule. A ``__del__`` of the user's that Python runs on the thread which reads, or the one which writes, gets an error from what would wait. Values travel inside frames, at most 64 MiB each. A job with references in its
arguments is taken by Python, so its recall waits for the interpreter's lock.
"""
