"""Remote functions: what @maniple.remote makes of a function."""

from __future__ import annotations

import inspect
from functools import update_wrapper
from typing import Any, Callable, Dict, Optional, Tuple

from maniple import _options
from maniple._core import session as _session
from maniple._core import wire
from maniple._later import Later, later
from maniple._signature import Signature


class RemoteFunction(Later):
    """A function that runs as a task: `f.remote(...)` gives a reference to its result at once.

    `f.options(...)` gives it with other options for some calls.
    """

    def __init__(self, function: Callable[..., Any], options: Dict[str, Any]):
        _options.check("remote functions", _options.TASK, options)
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise ValueError(f"{function.__name__} is an async def, which a task can't be: wrap it with asyncio.run, or make it a method of an actor")
        self._is_generator = inspect.isgeneratorfunction(function)
        self._name = f"{function.__module__}.{function.__qualname__}"
        _options.check_returns(options.get("num_returns"), self._is_generator, self._name)
        self._function, self._options = function, options
        self._signature = Signature(function)
        self._default = _Call(self, options)
        self._code: Any = None
        self._pickled_for: Any = None
        self.remote, self.bind = self._default.remote, self._default.bind
        update_wrapper(self, function)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"remote functions are not called directly: write {self._function.__name__}.remote() in place of {self._function.__name__}()")

    def options(self, **options: Any) -> "_Call":
        """The function with these options over those of the decorator. Raises ValueError or TypeError for wrong ones."""
        _options.check("remote functions", _options.TASK, options, before=self._options)
        _options.check_returns(options.get("num_returns"), self._is_generator, self._name)
        merged = {**self._options, **options}
        if self._options.get("runtime_env") and options.get("runtime_env"):
            merged["runtime_env"] = _options.environment_of(self._options["runtime_env"], options["runtime_env"])
        return _Call(self, merged)

    def code(self, session: Any) -> Any:
        """The function as it is sent: pickled at its first call in each session, since what it captured may be of another."""
        if self._pickled_for is not session:
            from maniple._core.code import Code

            code = Code(self._function, self._name)
            session.refuse_foreign(code.pinned, session.strict)
            self._code, self._pickled_for = code, session
        return self._code

    def __reduce__(self) -> Any:
        return later, (RemoteFunction, self._function, _session.portable(self._options))


class _Call:
    """A remote function with all options settled."""

    def __init__(self, function: RemoteFunction, options: Dict[str, Any]):
        self._function, self._options = function, {"max_retries": _options.TASK["max_retries"].default, **options}
        self._returns = _options.returns_of(options.get("num_returns"), function._is_generator, options.get("_generator_backpressure_num_objects"))
        self._retry_types: Optional[Tuple[type, ...]] = None
        retry = options.get("retry_exceptions")
        if retry and not isinstance(retry, bool):
            self._retry_types = tuple(retry)
        self._signature = function._signature
        self._known: Any = None  # the session to which code and shape were said
        self._code: Any = None
        self._said: Any = None  # its shape,
        self._shape, self._head = 0, b""  # and the number of that

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Submits a task. Gives its reference; a list for num_returns over 1, None for 0, a generator for a stream.

        Waits only while this process has used up its credit. Raises TypeError for arguments that the function does not take, or that can't be sent.
        """
        session = _session._session or _session.current()
        if session is not self._known:
            self._introduce(session)
        self._signature.check(self._function._name, args, kwargs)
        if self._retry_types is not None:
            kwargs = {**kwargs, RETRY_TYPES: self._retry_types}
        return session.submit(self._code, self._shape, self._returns, args, kwargs, self._head)

    def fulfil(self, session: Any, key: bytes, *args: Any) -> None:
        """Submits the task that gives an object to which this process has references already."""
        self._introduce(session)
        session.fulfil(key, self._code, self._shape, args)

    def _introduce(self, session: Any) -> None:
        """Says code and shape to the agent."""
        shape = _options.shape_of(self._options, 1, session.environment(self._options.get("runtime_env")))
        if self._returns & wire.STREAM and self._returns != wire.DYNAMIC:
            shape.update(returns_stream=True, backpressure=self._returns & ~wire.STREAM)
        self._code = self._function.code(session)
        session.define(self._code)
        self._said = session.shape(shape)
        self._shape = self._said.number
        self._head = session.head(self._code, self._shape, self._returns)
        self._known = session

    def bind(self, /, *args: Any, **kwargs: Any) -> Any:
        """A node of a graph (maniple.dag), which submits a task when the graph is executed."""
        from maniple.dag import FunctionNode

        self._signature.check(self._function._name, args, kwargs)
        return FunctionNode(self.remote, args, kwargs)


# A keyword argument that no user has: the exception types after which the worker lets the agent try again.
RETRY_TYPES = "__maniple_retry__"
