"""Whether arguments fit a function, told where the call is made and not in the worker."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, Optional, Tuple


class Signature:
    """What a function takes. Nothing is checked of those that do not tell, as many of C do not."""

    __slots__ = ("_signature", "_least", "_most")

    def __init__(self, function: Callable[..., Any], bound: bool = False):
        """bound: the first argument (self) is given already."""
        self._signature: Optional[inspect.Signature] = None
        self._least, self._most = 0, 1 << 30  # so many arguments by place, and no others, fit
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            return
        parameters = list(signature.parameters.values())
        if bound and parameters and parameters[0].kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            parameters = parameters[1:]
        self._signature = inspect.Signature(parameters)
        placed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self._least = sum(p.default is p.empty for p in placed)
        if not any(p.kind is p.VAR_POSITIONAL for p in parameters):
            self._most = len(placed)
        if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
            self._most = -1  # by place alone nothing fits

    def check(self, name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> None:
        """Raises TypeError, as the call itself would."""
        if not kwargs and self._least <= len(args) <= self._most or self._signature is None:
            return
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as e:
            raise TypeError(f"{name}() does not take these arguments: {e}") from None
