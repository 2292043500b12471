"""Maniple for Python: tasks, actors and objects on a laptop, a Slurm allocation or a YARN application.

    import maniple

    @maniple.remote
    def square(x):
        return x * x

    print(maniple.get([square.remote(i) for i in range(4)]))

Names and semantics are Ray's; what differs is in the guide. The package also carries the ``maniple`` command.
Everything is loaded on first use: programs that the command runs need nothing from here.
"""

_PLACES = {
    "_api": ("get", "get_range", "concat", "cached", "put", "wait", "kill", "cancel", "get_actor", "remote", "nodes", "cluster_resources", "available_resources", "get_gpu_ids"),
    "_timeline": ("timeline",),
    "_init": ("init", "shutdown", "is_initialized"),
    "actor": ("method", "ActorClass", "ActorHandle"),
    "remote_function": ("RemoteFunction",),
    "runtime_context": ("get_runtime_context",),
    "_core.references": ("ObjectRef",),
    "_core.streams": ("ObjectRefGenerator", "DynamicObjectRefGenerator"),
    "_binary": ("find_binary",),
}
_HOME = {name: module for module, names in _PLACES.items() for name in names}
_MODULES = ("exceptions", "util", "actor", "runtime_context", "runtime_env", "remote_function", "dag", "experimental")

__all__ = sorted([*_HOME, *_MODULES, "__version__"])


def __getattr__(name):
    from importlib import import_module

    if name == "__version__":
        value = _version()
    elif name in _HOME:
        value = getattr(import_module("maniple." + _HOME[name]), name)
    elif name in _MODULES:
        value = import_module("maniple." + name)
    else:
        raise AttributeError(f"module 'maniple' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})


def _version():
    try:
        from maniple._version import VERSION  # which a wheel has: to ask importlib.metadata loads fifty modules, which each worker would carry

        return VERSION
    except ImportError:  # a source tree that is not installed
        return "0+unknown"
