"""Actors: classes that live in a process of their own, and handles to call them by."""

from __future__ import annotations

import inspect
import json
from types import FunctionType
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from maniple import _options, exceptions
from maniple._core import session as _session
from maniple._core import wire
from maniple._core.references import ObjectRef
from maniple._core.table import PENDING
from maniple._later import Later, later
from maniple._signature import Signature
from maniple.remote_function import RETRY_TYPES

OPTIONS = "__maniple_options__"  # attribute of a method that has some
# Methods that every actor has.
READY, TERMINATE, CALL = "__ray_ready__", "__ray_terminate__", "__ray_call__"
# One more, and the group that it is in, of those with methods that have a tensor_transport: gives tensors to others, whatever else runs. The agents know it, too.
TENSORS = "__maniple_tensors__"
_NOT_CALLED = {READY, TERMINATE, CALL, TENSORS, "__init__", "__new__", "__init_subclass__", "__class_getitem__", "__ray_shutdown__"}
_ASYNC, _GENERATOR = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR, inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_MOST_GROUPS = 200  # that the agent takes
_GIVERS = 4  # others to which an actor gives tensors at a time
_HIDDEN = 24  # bit of a method's number above which its concurrency group is: 0 is the method's own


def method(*args: Any, **options: Any) -> Callable[[Any], Any]:
    """Decorator of a method with options: num_returns, max_task_retries, retry_exceptions, concurrency_group, ...

    Raises ValueError for an unknown option, or without any.
    """
    if args or not options:
        raise ValueError("@method needs options in parentheses, as in @method(num_returns=2)")
    _options.check("actor methods", _options.METHOD, options)

    def decorate(function: Any) -> Any:
        is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        _options.check_returns(options.get("num_returns"), is_generator, function.__qualname__)
        setattr(function, OPTIONS, options)
        return function

    return decorate


class ActorClass(Later):
    """What @maniple.remote makes of a class: `C.remote(...)` gives a handle to a new actor at once."""

    def __init__(self, cls: type, options: Dict[str, Any]):
        _options.check("actors", _options.ACTOR, options)
        self._class, self._options = cls, options
        self._name = f"{cls.__module__}.{cls.__qualname__}"
        self._methods = _methods(cls)
        self._groups = _groups(options.get("concurrency_groups"), self._methods)
        self._made_with = Signature(cls)
        self._signatures = {name: Signature(*of) for name, of in _callables(cls, self._methods)}
        self._code: Any = None
        self._pickled_for: Any = None
        self.__name__, self.__doc__, self.__module__ = cls.__name__, cls.__doc__, cls.__module__

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"actors are not made directly: write {self._class.__name__}.remote() in place of {self._class.__name__}()")

    def __mro_entries__(self, bases: Any) -> Any:
        raise TypeError(f"{self._class.__name__} is an actor class, which can't be inherited from: inherit from the plain class, and decorate each")

    def options(self, **options: Any) -> "_Creation":
        """The class with these options over those of the decorator. Raises ValueError or TypeError for wrong ones."""
        _options.check("actors", _options.ACTOR, options, before=self._options)
        return _Creation(self, {**self._options, **options})

    def remote(self, /, *args: Any, **kwargs: Any) -> "ActorHandle":
        """Makes an actor; its constructor runs later, with these arguments."""
        return _Creation(self, self._options).remote(*args, **kwargs)

    def bind(self, /, *args: Any, **kwargs: Any) -> Any:
        """A node of a graph (maniple.dag), which makes an actor when the graph is executed."""
        return _Creation(self, self._options).bind(*args, **kwargs)

    def code(self, session: Any) -> Any:
        """See RemoteFunction.code."""
        if self._pickled_for is not session:
            from maniple._core.code import Code

            code = Code(self._class, self._name, is_class=True)
            session.refuse_foreign(code.pinned, session.strict)
            self._code, self._pickled_for = code, session
        return self._code

    def __reduce__(self) -> Any:
        return later, (ActorClass, self._class, _session.portable(self._options))


class _Creation:
    """An actor class with all options settled."""

    def __init__(self, actor: ActorClass, options: Dict[str, Any]):
        self._actor, self._options = actor, options

    def bind(self, /, *args: Any, **kwargs: Any) -> Any:
        from maniple.dag import ClassNode

        self._actor._made_with.check(self._actor._class.__name__, args, kwargs)
        return ClassNode(self.remote, args, kwargs, [m["name"] for m in self._actor._methods])

    def remote(self, /, *args: Any, **kwargs: Any) -> "ActorHandle":
        session, o, actor = _session.current(), self._options, self._actor
        actor._made_with.check(actor._class.__name__, args, kwargs)
        name, namespace = o.get("name"), o.get("namespace")
        if name == "":
            raise ValueError("an actor's name can't be empty")
        if namespace == "":
            raise ValueError('"" is no namespace: leave it away for the job\'s own')
        if o.get("get_if_exists"):
            try:
                return find(session, name, namespace)
            except ValueError:
                pass
        code = actor.code(session)
        number = session.define(code)
        session.define_methods(number, [_spell(m) for m in actor._methods])
        shape = session.shape(_options.shape_of({"max_task_retries": 0, **o, "name": None}, None, session.environment(o.get("runtime_env"))))
        asynchronous = any(m["async"] for m in actor._methods)
        fields = {
            "function": number,
            "shape": shape.number,
            "max_restarts": o.get("max_restarts") or 0,
            "max_task_retries": o.get("max_task_retries") or 0,
            "name": name or "",
            "namespace_": namespace or session.namespace,
            "detached": o.get("lifetime") == "detached",
            "concurrency": o.get("max_concurrency") or (1000 if asynchronous else 1),
            "asynchronous": asynchronous,
            "groups": actor._groups,
            "max_pending": o.get("max_pending_calls") or -1,  # 0: no bound, as Ray has it
            "out_of_order": bool(o.get("allow_out_of_order_execution")),
        }
        task = session.mint()
        ref = session.create(task, code, fields, args, kwargs)
        handle = ActorHandle(
            ref, number, actor._name, tuple(actor._methods), tuple(g["name"] for g in actor._groups), fields["max_pending"], fields["max_task_retries"], actor._signatures
        )
        return _settle_name(session, handle, name, namespace, bool(o.get("get_if_exists"))) if name else handle


def _settle_name(session: Any, handle: "ActorHandle", name: str, namespace: Any, share: bool) -> "ActorHandle":
    """The actor that has the name now. share: it may be another, which was there first."""
    try:
        found = find(session, name, namespace)
    except ValueError:  # ours ended already: its calls say why
        return handle
    if found == handle:
        return handle
    if share:
        return found
    raise exceptions.ActorAlreadyExistsError(f"an actor {name!r} lives in the namespace {namespace or session.namespace!r}: take another name, or get that one with get_actor({name!r})")


def _methods(cls: type) -> "List[Dict[str, Any]]":
    """What handles have to know of each method; its number is its place here."""
    found: List[Dict[str, Any]] = [_method(READY, None), _method(TERMINATE, None), _method(CALL, None)]
    for name in sorted(_own(cls)):
        value = None if name in _NOT_CALLED else getattr(cls, name, None)
        if callable(value) and not isinstance(value, type):
            found.append(_method(name, value))
    if any(transport_of(m) for m in found):
        found.append({**_method(TENSORS, None), "options": {"concurrency_group": TENSORS}})
    return found


def transport_of(method: Dict[str, Any]) -> Optional[str]:
    """By what the tensors go that a method gives; None: they are part of its value."""
    transport = method["options"].get("tensor_transport")
    return None if transport is None or transport.lower() == "object_store" else str(transport.lower())


def _callables(cls: type, methods: Sequence[Dict[str, Any]]) -> "Iterator[Tuple[str, Tuple[Any, bool]]]":
    """Of each method of the user's: what is called, and whether self comes before its arguments."""
    for m in methods:
        value = inspect.getattr_static(cls, m["name"], None)
        if inspect.isfunction(value):
            yield m["name"], (value, True)
        elif isinstance(value, (staticmethod, classmethod)):
            yield m["name"], (getattr(cls, m["name"]), False)


def _own(cls: type) -> "set[str]":
    """Names that the user's classes define, not object."""
    return {name for base in cls.__mro__[:-1] for name in vars(base)}


def _method(name: str, value: Any) -> Dict[str, Any]:
    if value is None or type(value) is FunctionType and not value.__dict__:  # without asking inspect, which each new worker would pay for
        flags = 0 if value is None else value.__code__.co_flags
        is_async, is_generator = flags & _ASYNC != 0, flags & _GENERATOR != 0
    else:
        is_async = inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value)
        is_generator = inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(value)
    return {"name": name, "async": is_async, "generator": is_generator, "options": getattr(value, OPTIONS, {})}


def _groups(given: Any, methods: Sequence[Dict[str, Any]]) -> "List[Dict[str, Any]]":
    """The tables of concurrency groups. Raises ValueError for a method's group that is not defined."""
    sizes = {g["name"]: g["max_concurrency"] for g in given} if isinstance(given, (list, tuple)) else dict(given or {})
    if methods[-1]["name"] == TENSORS:
        sizes[TENSORS] = _GIVERS
    groups = []
    if len(sizes) > _MOST_GROUPS:
        raise ValueError(f"an actor has {_MOST_GROUPS} concurrency groups at most, not {len(sizes)}")
    for name, size in sizes.items():
        if not isinstance(name, str) or not isinstance(size, int) or not 1 <= size < 1 << 31:
            raise ValueError(f"the concurrency group {name!r} needs a text as its name and a size of at least 1, not {size!r}")
        groups.append({"name": name, "size": size, "methods": [_spell(m) for m in methods if m["options"].get("concurrency_group") == name]})
    for m in methods:
        group = m["options"].get("concurrency_group")
        if group is not None and group not in sizes:
            raise ValueError(f"{m['name']} is in the concurrency group {group}, which concurrency_groups does not have")
    return groups


def _spell(m: Dict[str, Any]) -> str:
    """A method in the table Methods: its name, and behind a tab what a handle has to know beside it."""
    more = {k: v for k, v in m["options"].items() if k in ("num_returns", "max_task_retries", "_generator_backpressure_num_objects", "concurrency_group")}
    if isinstance(m["options"].get("retry_exceptions"), bool):  # types go with a handle alone
        more["retry_exceptions"] = m["options"]["retry_exceptions"]
    if m["generator"]:
        more["generator"] = True
    return m["name"] + ("\t" + json.dumps(more, sort_keys=True) if more else "")


def _unspell(text: str) -> Dict[str, Any]:
    name, _, more = text.partition("\t")
    options = json.loads(more) if more else {}
    return {"name": name, "async": False, "generator": options.pop("generator", False), "options": options}


class ActorHandle:
    """Calls an actor: `handle.method.remote(...)`. While any process has a handle, the actor lives (unless it is detached)."""

    def __init__(
        self, ref: ObjectRef, function: int, class_name: str, methods: Tuple[Dict[str, Any], ...], groups: Tuple[str, ...] = (), max_pending: int = -1, max_task_retries: int = 0,
        signatures: "Optional[Mapping[str, Signature]]" = None,
    ):  # fmt: skip
        state = self.__dict__
        state["_ref"], state["_id"], state["_class_name"] = ref, ref.binary()[: wire.TASK_SIZE], class_name
        state["_parts"] = function, methods, groups, max_pending, max_task_retries
        state["_numbers"] = {m["name"]: i for i, m in enumerate(methods)}
        state["_target"] = _Target(ref, class_name, groups, max_pending, max_task_retries, signatures or {})

    def __getattr__(self, name: str) -> "ActorMethod":
        number = self.__dict__["_numbers"].get(name)
        if number is None:
            raise AttributeError(f"the actor class {self._class_name} has no method {name}")
        info = self._parts[1][number]
        made = ActorMethod(self._target, number, info, info["options"])
        self.__dict__[name] = made
        return made

    @property
    def _actor_id(self) -> str:
        return self._id.hex()

    def __reduce__(self) -> Any:
        return ActorHandle, (self._ref, self._parts[0], self._class_name, *self._parts[1:])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and bool(other._ref == self._ref)

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"Actor({self._class_name}, {self._id.hex()})"


class _Target:
    """What a handle and its methods share. A method keeps this and not the handle, which keeps the method: a handle that
    nobody has any more goes at once, and its actor with it, not when the garbage collector next looks for cycles.
    """

    __slots__ = ("ref", "id", "class_name", "groups", "max_pending", "max_task_retries", "signatures", "pending")

    def __init__(self, ref: ObjectRef, class_name: str, groups: Tuple[str, ...], max_pending: int, max_task_retries: int, signatures: "Mapping[str, Signature]"):
        self.ref, self.id, self.class_name, self.groups = ref, ref.binary()[: wire.TASK_SIZE], class_name, groups
        self.max_pending, self.max_task_retries, self.signatures = max_pending, max_task_retries, signatures
        self.pending: List[Any] = []  # references, held, or a call of which nobody wants the result would count as done; and streams

    def check(self, session: Any) -> None:
        """Raises ActorHandleNotFoundError if the handle is not of this session, where its ID may be another actor's."""
        if session.held.foreign((self.ref,), session.strict) is not None:
            raise exceptions.ActorHandleNotFoundError(
                f"the handle of the actor {self.class_name} {self.id.hex()} is of another session, from before a fork or a shutdown, and of no use in this one: "
                "make the actor again, or get it with get_actor() if it has a name and lives"
            )

    def count_pending(self, session: Any) -> None:
        """Raises PendingCallsLimitExceeded if this process has too many calls out."""
        entries = session.table.entries
        self.pending[:] = [call for call in self.pending if (entries.get(call.binary()) is PENDING if type(call) is ObjectRef else call.end is None)]
        if len(self.pending) >= self.max_pending:
            raise exceptions.PendingCallsLimitExceeded(f"{len(self.pending)} calls wait at the actor, as many as its max_pending_calls")


class ActorMethod:
    """A method of an actor: `.remote(...)` sends a call, `.options(...)` changes how."""

    def __init__(self, target: _Target, number: int, info: Dict[str, Any], options: Dict[str, Any]):
        groups = target.groups
        self._target, self._id, self._number, self._info, self._options = target, target.id, number, info, options
        self._returns = _options.returns_of(options.get("num_returns"), info["generator"], options.get("_generator_backpressure_num_objects"))
        self._limited = target.max_pending > 0
        self._told = 1 if self._limited and self._returns == 0 else self._returns  # a call that is counted says when it is done
        self._signature = target.signatures.get(info["name"])
        group = options.get("concurrency_group")
        self._method = number
        if group is not None and group != info["options"].get("concurrency_group"):
            if group not in groups:
                raise ValueError(f"the actor has no concurrency group {group}: {', '.join(groups) or 'it has none'}")
            self._method |= (groups.index(group) + 1) << _HIDDEN
        self._retries = options.get("max_task_retries")
        if self._retries is None:
            self._retries = target.max_task_retries
        self._retry = options.get("retry_exceptions") or False
        self._known: Any = None
        self._said: Any = None  # its shape,
        self._shape, self._head = 0, b""  # and the number of that

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"actor methods are not called directly: write .{self._info['name']}.remote() in place of .{self._info['name']}()")

    def options(self, **options: Any) -> "ActorMethod":
        """The method with other options: num_returns, concurrency_group, name, max_task_retries, retry_exceptions."""
        _options.check("actor methods", _options.METHOD, options)
        if "tensor_transport" in options:
            raise ValueError("tensor_transport can't be given in .options(): give it to @method, by which the actor keeps tensors from its beginning")
        _options.check_returns(options.get("num_returns"), self._info["generator"], self._info["name"])
        return ActorMethod(self._target, self._number, self._info, {**self._options, **options})

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Calls the method. Gives what RemoteFunction.remote gives. Calls of one process run in their order."""
        session = _session._session or _session.current()
        if session is not self._known:
            self._introduce(session)
        if self._signature is not None:
            self._signature.check(f"{self._target.class_name}.{self._info['name']}", args, kwargs)
        if self._limited:
            self._target.count_pending(session)
        if self._retry and not isinstance(self._retry, bool):
            kwargs = {**kwargs, RETRY_TYPES: tuple(self._retry)}
        made = session.call(self._id, self._method, self._shape, self._told, args, kwargs, self._head)
        if self._limited:
            self._target.pending.append(made if isinstance(made, ObjectRef) else made[0] if isinstance(made, list) else made._stream)
        return made if self._returns else None

    def bind(self, /, *args: Any, **kwargs: Any) -> Any:
        """A node of a graph (maniple.dag), which calls the method when the graph is executed."""
        from maniple.dag import FunctionNode

        return FunctionNode(self.remote, args, kwargs)

    def _introduce(self, session: Any) -> None:
        self._target.check(session)
        shape: Dict[str, Any] = {"retries": self._retries, "retry_exceptions": bool(self._retry), "bundle": -1, "name": self._options.get("name") or ""}
        if self._returns & wire.STREAM and self._returns != wire.DYNAMIC:
            shape.update(returns_stream=True, backpressure=self._returns & ~wire.STREAM)
        self._said = session.shape(shape)
        self._shape = self._said.number
        self._head = session.call_head(self._id, self._method, self._shape, self._told)
        self._known = session


def find(session: Any, name: Optional[str], namespace: Optional[str] = None) -> ActorHandle:
    """The handle of a named actor. Raises ValueError if there is none."""
    if not name:
        raise ValueError("get_actor needs a name")
    if namespace is not None and not (isinstance(namespace, str) and namespace):
        raise ValueError(f"a namespace is a text that is not empty, not {namespace!r}")
    namespace = namespace or session.namespace
    try:
        found = session.query("actor", f"{namespace}/{name}")["actor"]
        key = wire.key_of(wire.task_of_text(found["id"]), 0)
        methods = tuple(_unspell(m) for m in found["methods"])
        function, groups = int(found["function"]), tuple(g["name"] for g in found.get("groups") or ())
    except ValueError as e:
        raise ValueError(f"no actor {name!r} in the namespace {namespace!r}: it is not there yet, is dead, or has another namespace ({e})") from e
    except (KeyError, TypeError) as e:
        raise exceptions.SystemFault(f"the agent's answer about the actor {name} can't be read: {e!r}") from e
    ref = session.hold(key)
    return ActorHandle(ref, function, found.get("class") or name, methods, groups, found.get("max_pending", -1), found.get("max_task_retries", 0))


def exit_actor() -> None:
    """Ends the actor that this runs in, after the calls that have reached it; later ones fail. It is not restarted. Raises TypeError outside of one."""
    from maniple._core.context import running
    from maniple._execute import ActorExit

    task = running.get()
    if task is None or task.actor is None:
        raise TypeError("exit_actor() works only inside of an actor")
    raise ActorExit
