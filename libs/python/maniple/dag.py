"""Graphs of tasks and actor calls that are bound before they run.

    with InputNode() as x:
        graph = add.bind(double.bind(x), Counter.bind(10).count.bind())
    maniple.get(graph.execute(3))

`bind` takes what `remote` takes, and nodes in the place of values, inside of lists, tuples and dicts too. Each `execute` runs every
node once, and makes its actors anew. What comes of it are references, as from `remote`.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple


class DAGNode:
    """Something that runs when the graph does, with what it is bound to."""

    def __init__(self, args: Sequence[Any] = (), kwargs: "Dict[str, Any] | None" = None):
        self._args, self._kwargs = tuple(args), dict(kwargs or {})

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the graph that ends here, once. args, kwargs: what its InputNode stands for. Raises TypeError if they do not fit."""
        order = _order(self)
        reads = [node for node in order if isinstance(node, InputNode)]
        if reads and not args and not kwargs:
            raise TypeError("the graph has an InputNode: execute() needs what it stands for")
        if not reads and (args or kwargs):
            raise TypeError("execute() was given arguments, and the graph has no InputNode that would take them")
        given, made = _Given(args, kwargs), {}  # type: Tuple[_Given, Dict[DAGNode, Any]]
        for node in order:
            made[node] = node._run(given, *_filled((node._args, node._kwargs), made))
        return made[self]

    def _needs(self) -> Iterator["DAGNode"]:
        return _nodes((self._args, self._kwargs))

    def _run(self, given: "_Given", args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
        raise NotImplementedError

    def __reduce__(self) -> Any:
        raise TypeError("a graph can't be sent to another process: execute it here, and pass its references on")


class _Given:
    """The arguments of execute."""

    def __init__(self, args: Tuple[Any, ...], kwargs: Dict[str, Any]):
        self.args, self.kwargs = args, kwargs

    def whole(self) -> Any:
        if len(self.args) == 1 and not self.kwargs:
            return self.args[0]
        return self

    def __getitem__(self, key: Any) -> Any:
        return self.args[key] if isinstance(key, int) else self.kwargs[key]


def _nodes(value: Any) -> Iterator[DAGNode]:
    """The nodes in a value."""
    if isinstance(value, DAGNode):
        yield value
    elif type(value) in (list, tuple, dict):
        for inner in value.values() if type(value) is dict else value:
            yield from _nodes(inner)


def _filled(value: Any, made: Dict[DAGNode, Any]) -> Any:
    """A value with what nodes gave in their place."""
    if isinstance(value, DAGNode):
        return made[value]
    if type(value) is dict:
        return {key: _filled(inner, made) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_filled(inner, made) for inner in value)
    return value


def _order(root: DAGNode) -> List[DAGNode]:
    """All nodes that root needs, and it, each behind those that it needs itself. Chains may be long, so nothing recurs."""
    order: Dict[DAGNode, None] = {}
    stack: List[Tuple[DAGNode, Iterator[DAGNode]]] = [(root, root._needs())]
    while stack:
        node, needs = stack[-1]
        after = next((need for need in needs if need not in order), None)
        if after is not None:
            stack.append((after, after._needs()))
        else:
            order[node] = None
            stack.pop()
    return list(order)


class FunctionNode(DAGNode):
    """A task: gives a reference to its result, or what else remote() gives."""

    def __init__(self, call: Callable[..., Any], args: Sequence[Any], kwargs: Dict[str, Any]):
        super().__init__(args, kwargs)
        self._call = call

    def _run(self, given: _Given, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
        return self._call(*args, **kwargs)


class ClassNode(FunctionNode):
    """An actor: its methods are bound by `node.method.bind(...)`, and it lives as long as their results are waited for."""

    def __init__(self, call: Callable[..., Any], args: Sequence[Any], kwargs: Dict[str, Any], methods: Sequence[str]):
        super().__init__(call, args, kwargs)
        self._methods = tuple(methods)

    def __getattr__(self, name: str) -> "_Method":
        if name.startswith("_") or name not in self._methods:
            raise AttributeError(f"the actor class has no method {name}")
        return _Method(self, name, {})


class _Method:
    """A method of an actor that is to be made."""

    def __init__(self, node: ClassNode, name: str, options: Dict[str, Any]):
        self._node, self._name, self._options = node, name, options

    def options(self, **options: Any) -> "_Method":
        return _Method(self._node, self._name, {**self._options, **options})

    def bind(self, *args: Any, **kwargs: Any) -> "ClassMethodNode":
        return ClassMethodNode(self._node, self._name, self._options, args, kwargs)


class ClassMethodNode(DAGNode):
    """A call of an actor's method. of: the ClassNode, or a handle to an actor that is there."""

    def __init__(self, of: Any, name: str, options: Dict[str, Any], args: Sequence[Any], kwargs: Dict[str, Any]):
        super().__init__((of, *args), kwargs)
        self._name, self._options = name, options

    def _run(self, given: _Given, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
        method = getattr(args[0], self._name)
        return (method.options(**self._options) if self._options else method).remote(*args[1:], **kwargs)


class InputNode(DAGNode):
    """What execute() is given: its argument, or, of several, `node[0]` and `node["name"]`, which are of a single one too. `with InputNode() as x` reads well."""

    def __enter__(self) -> "InputNode":
        return self

    def __exit__(self, *exc: Any) -> None:
        pass

    def __getitem__(self, key: Any) -> "InputAttributeNode":
        return InputAttributeNode(self, key, False)

    def __getattr__(self, name: str) -> "InputAttributeNode":
        if name.startswith("_"):
            raise AttributeError(name)
        return InputAttributeNode(self, name, True)

    def _run(self, given: _Given, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
        return given.whole()


class InputAttributeNode(DAGNode):
    """A part of the input: an argument by its place or name, or an item or attribute of the only argument."""

    def __init__(self, of: InputNode, key: Any, is_attribute: bool):
        super().__init__((of,))
        self._key, self._is_attribute = key, is_attribute

    def _run(self, given: _Given, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
        whole = args[0]
        try:
            if whole is not given and self._is_attribute:
                return getattr(whole, self._key)
            return whole[self._key]
        except (IndexError, KeyError, AttributeError, TypeError) as e:
            raise TypeError(f"execute() was not given {self._key!r}, which the graph takes from its InputNode ({e})") from e


class MultiOutputNode(DAGNode):
    """The end of a graph that gives several: execute() gives a list of what the nodes give."""

    def __init__(self, nodes: Sequence[DAGNode]):
        if not isinstance(nodes, (list, tuple)) or not nodes or not all(isinstance(node, DAGNode) for node in nodes):
            raise ValueError("a MultiOutputNode takes a list of nodes")
        super().__init__(nodes)

    def _run(self, given: _Given, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
        return list(args)
