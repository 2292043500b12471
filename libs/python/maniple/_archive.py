"""Making packages: zip archives of directories and modules, named by the SHA-256 of their bytes. The same files make the same archive."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
import zipfile
from types import ModuleType
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Tuple

LIMIT = 500 << 20  # bytes of a package's files
_LARGE = 10 << 20  # a file from this size on is spoken of
_NEVER = ("__pycache__/", ".git/", ".venv/", "venv/")
_IGNORES = (".gitignore", ".rayignore")
_SPECIAL = re.compile(r"\*\*/|/\*\*$|\*+|\?|\[!?\]?[^\]]*\]|\\.")


class Archive(NamedTuple):
    """A package that was made, in a file of its own that put takes away."""

    hash: str
    path: str


class Rule:
    """A line of a .gitignore: what it is about, by a path from the directory of that file with / at a directory's end."""

    def __init__(self, line: str):
        self.keeps = line.startswith("!")
        line = line[1:] if self.keeps else line
        anchored = "/" in line.rstrip("/")
        body = line.lstrip("/").rstrip("/")
        out, at = "" if anchored else "(?:.*/)?", 0
        for found in _SPECIAL.finditer(body):
            out += re.escape(body[at : found.start()]) + _translated(found.group())
            at = found.end()
        self._pattern = re.compile(out + re.escape(body[at:]) + ("/" if line.endswith("/") else "/?"), re.DOTALL)

    def matches(self, path: str) -> bool:
        return self._pattern.fullmatch(path) is not None


def _translated(token: str) -> str:
    if token == "**/":
        return "(?:.*/)?"
    if token == "/**":
        return "/.+"
    if token[0] == "*":
        return "[^/]*"
    if token == "?":
        return "[^/]"
    if token[0] == "\\":
        return re.escape(token[1])
    return "[" + ("^" if token[1] == "!" else "") + token[1:-1].lstrip("!").replace("\\", "\\\\") + "]"


def rules(lines: Iterable[str]) -> List[Rule]:
    """The rules of a .gitignore's lines."""
    texts = (line.rstrip("\n").rstrip() for line in lines)
    return [Rule(text) for text in texts if text and not text.startswith("#")]


def _left_out(sets: Sequence[Tuple[str, Sequence[Rule]]], path: str) -> bool:
    """Whether a path is ignored. sets: rules with the directory that they count from; the last one that matches says it."""
    out = False
    for base, some in sets:
        if path.startswith(base):
            for rule in some:
                if rule.keeps == out and rule.matches(path[len(base) :]):
                    out = not out
    return out


def files(root: str, excludes: Sequence[str]) -> Iterator[Tuple[str, str]]:
    """What of a directory goes into its package: (path inside, path here), directories with / at their ends. Links are followed."""
    always = [("", rules(_NEVER)), ("", rules(excludes))]

    def walk(inside: str, here: str, above: Tuple[str, ...], known: List[Tuple[str, Sequence[Rule]]]) -> Iterator[Tuple[str, str]]:
        above = (*above, os.path.realpath(here))
        for name in _IGNORES:
            try:
                with open(os.path.join(here, name), encoding="utf-8", errors="replace") as f:
                    known = [*known, (inside, rules(f))]
            except OSError:  # there is none
                pass
        for name in sorted(os.listdir(here)):
            path, place = inside + name, os.path.join(here, name)
            is_directory = os.path.isdir(place)
            if is_directory:
                path += "/"
            round_again = is_directory and os.path.realpath(place) in above  # by a link
            if round_again or _left_out(known, path) or _left_out(always, path):
                continue
            if is_directory:
                yield path, place
                yield from walk(path, place, above, known)
            elif os.path.isfile(place):
                yield path, place

    yield from walk("", root, (), [])


def archive(what: str, members: Sequence[Tuple[str, str]]) -> Archive:
    """Makes an archive of files, as files() gives them. Raises ValueError if they are too many bytes, OSError if one can't be read."""
    sizes: Dict[str, int] = {}
    for inside, here in members:
        size = 0 if inside.endswith("/") else os.path.getsize(here)
        first = inside.partition("/")
        sizes[first[0] + first[1]] = sizes.get(first[0] + first[1], 0) + size
        if size > _LARGE:
            sys.stderr.write(f"maniple: {what} has {here} of {size >> 20} MiB, which goes to every node: leave it out by excludes if no task reads it\n")
    total = sum(sizes.values())
    if total > LIMIT:
        largest = ", ".join(f"{name} {size >> 20} MiB" for name, size in sorted(sizes.items(), key=lambda item: -item[1])[:3])
        raise ValueError(
            f"{what} has {total >> 20} MiB, and a package {LIMIT >> 20} MiB at most (largest: {largest}): "
            "leave out what tasks don't read by excludes or a .gitignore, and pass data by put() or a file system that the nodes share"
        )
    fd, path = tempfile.mkstemp(prefix="maniple-package-", suffix=".zip")
    try:
        with os.fdopen(fd, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
            for inside, here in members:
                _add(out, inside, here)
        return Archive(_sum(path), path)
    except BaseException:
        os.unlink(path)
        raise


def _add(out: zipfile.ZipFile, inside: str, here: str) -> None:
    info = zipfile.ZipInfo(inside, (1980, 1, 1, 0, 0, 0))
    info.create_system = 3
    if inside.endswith("/"):
        info.external_attr = (stat.S_IFDIR | 0o755) << 16 | 0x10
        out.writestr(info, b"")
        return
    with open(here, "rb") as file:
        runs = os.fstat(file.fileno()).st_mode & stat.S_IXUSR
        info.external_attr, info.compress_type = (stat.S_IFREG | (0o755 if runs else 0o644)) << 16, zipfile.ZIP_DEFLATED
        with out.open(info, "w", force_zip64=True) as into:
            shutil.copyfileobj(file, into, 1 << 20)


def _sum(path: str) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def of_directory(field: str, path: str, excludes: Sequence[str], under: str = "") -> Archive:
    """The package of a directory. under: the directory inside of the package in which its files are."""
    members = [(under + inside, here) for inside, here in files(path, excludes)]
    return archive(f"{field} {path}", members)


def of_archive(field: str, path: str) -> Archive:
    """The package that an archive is already: a wheel or a zip."""
    fd, copy = tempfile.mkstemp(prefix="maniple-package-", suffix=".zip")
    try:
        with os.fdopen(fd, "wb") as into, _opened(path) as had:
            shutil.copyfileobj(had, into, 1 << 20)
        _check(field, path, copy)
        return Archive(_sum(copy), copy)
    except BaseException:
        os.unlink(copy)
        raise


def _check(field: str, path: str, copy: str) -> None:
    """Raises ValueError if the copy of an archive is none, or too large."""
    if not zipfile.is_zipfile(copy):
        raise ValueError(f"{field} {path} is no zip archive")
    with zipfile.ZipFile(copy) as had:
        total = sum(info.file_size for info in had.infolist())
    if total > LIMIT:
        raise ValueError(f"{field} {path} has {total >> 20} MiB unpacked, and a package {LIMIT >> 20} MiB at most")


def _opened(path: str) -> Any:
    """An archive of this machine or on HDFS, to read."""
    if far(path):
        from maniple import fs

        return fs.open(path, "rb")
    return open(path, "rb")


def far(path: Any) -> bool:
    """It is on HDFS."""
    return isinstance(path, str) and path.startswith("hdfs://")


def of_working_dir(path: str, excludes: Sequence[str]) -> Archive:
    """The package of a working_dir: a directory or a zip, which may be on HDFS. Raises ValueError."""
    path = _local("working_dir", path, (".zip",))
    if os.path.isdir(path):
        return of_directory("working_dir", path, excludes)
    if path.endswith(".zip"):
        return of_archive("working_dir", path)
    raise ValueError(f"working_dir {path} is neither a directory nor a .zip")


def of_module(given: Any, excludes: Sequence[str]) -> Archive:
    """The package of one of py_modules: a directory that is imported by its name, a .py file, a wheel or zip (which may be on HDFS), or a module. Raises ValueError."""
    if isinstance(given, ModuleType):
        given = list(given.__path__)[0] if hasattr(given, "__path__") else given.__file__
    path = _local("py_modules", given, (".whl", ".zip"))
    if os.path.isdir(path):
        return of_directory("py_modules", path, excludes, os.path.basename(path) + "/")
    if path.endswith((".whl", ".zip")):
        return of_archive("py_modules", path)
    if path.endswith(".py"):
        return archive(f"py_modules {path}", [(os.path.basename(path), path)])
    raise ValueError(f"py_modules {path} is no directory, .py, .whl or .zip")


def _local(field: str, path: Any, archives: Tuple[str, ...]) -> str:
    """The path as this machine has it, or of one of the archives on HDFS."""
    if far(path):
        if not path.endswith(archives):
            raise ValueError(f"{field} {path}: of HDFS it is {' or '.join(archives)}; pack the directory")
        return path
    path = os.path.abspath(os.path.expanduser(os.fspath(path)))
    if not os.path.exists(path):
        raise ValueError(f"{field} {path} does not exist")
    return path
