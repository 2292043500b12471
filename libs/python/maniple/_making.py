"""Makes what a runtime_env says is to be installed on this node, and goes on as the template of the workers that have it.

    python -m maniple._making

The agent starts it with the driver's Python in place of a template. MANIPLE_INSTALL says what (as _requirements has it), and MANIPLE_ENVIRONMENTS
is the directory where this user's environments are on this node. Each is made once for its content: where it is to stay, because paths are
written into it, and under a lock. What pip and others say goes to standard error, which the agent takes for the progress until the template
attaches, and whose end says what failed.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import site
import stat
import subprocess
import sys
import time
from hashlib import sha256
from importlib.util import find_spec
from types import FrameType
from typing import Any, Callable, Dict, Iterator, List, NoReturn, Optional, Sequence, Tuple

from maniple import _container, _requirements
from maniple._container import Failed

BOUND = 10 << 30  # bytes of environments that stay though nobody uses them
_AGAIN = 0.05  # seconds between two looks at a lock that others have
_FORMAT = 1  # of what is made here: with another one all are made anew
_TEMPLATE = ["-m", "maniple._template"]
_OFFLINE = ("no matching distribution", "could not find a version", "name resolution", "newconnectionerror", "failed to fetch", "condahttperror", "connection refused", "network is unreachable", "timed out")


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


_PYTHON = re.compile(r"(\S*::)?python\s*([=<>!~]|\s|$)")  # of what conda is to install


class Place:
    """An environment on this node: a directory that its content names, and a file beside it that has its size once it is whole. Who makes, uses or removes
    it has the lock of that file. The lock goes with the processes that have it, which are a template and its workers: so what is locked by nobody
    is used by nobody, and what is not whole then is what a killed one left."""

    def __init__(self, under: str, name: str):
        self.path = os.path.join(under, name)
        self._file, self._lock = self.path + ".json", -1

    def use(self, make: Callable[[str], None]) -> bool:
        """Has it made if it is not there, and keeps it from being removed while this process and its children live. True: it was made now.

        It never waits inside the kernel for a lock: who wants to make it would wait there for all who use what another one made meanwhile."""
        made = waited = False
        while True:
            if self._take(fcntl.LOCK_EX) and self._size() is None:
                self._make(make)
                made = True
            if self._take(fcntl.LOCK_SH) and self._size() is not None:
                os.utime(self._lock)
                os.set_inheritable(self._lock, True)
                return made
            if not waited:
                say("another process of yours on this node makes it or removes it, which is waited for")
                waited = True
            if self._lock >= 0:
                fcntl.flock(self._lock, fcntl.LOCK_UN)  # or two who look keep each other from making it
            time.sleep(_AGAIN)

    def _make(self, make: Callable[[str], None]) -> None:
        temporary = self.path + ".tmp"
        os.ftruncate(self._lock, 0)
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            os.mkdir(temporary, 0o700)
            os.environ["TMPDIR"] = temporary  # the driver's may be another node's
            make(self.path)
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            os.unlink(self._file)
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        os.pwrite(self._lock, json.dumps({"size": _size(self.path)}).encode(), 0)

    def _take(self, kind: int) -> bool:
        """Takes the lock. False: others have it, or its file was removed meanwhile."""
        if self._lock < 0:
            self._lock = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if self._mine():
            return True
        os.close(self._lock)
        self._lock = -1
        return False

    def _mine(self) -> bool:
        """Whether the file of the lock is still the one beside the directory."""
        there = _stat(self._file)
        return there is not None and there.st_ino == os.fstat(self._lock).st_ino

    def _size(self) -> Optional[int]:
        """Of a whole one; None: it is not."""
        try:
            return int(json.loads(os.pread(self._lock, 1 << 10, 0))["size"]) if os.path.isdir(self.path) else None
        except (ValueError, KeyError, TypeError):
            return None

    def remove(self) -> bool:
        """Removes it, unless somebody uses it."""
        try:
            self._lock = os.open(self._file, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # it is gone
            return False
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._mine():  # it was removed meanwhile, and may be made again
                return False
            os.ftruncate(self._lock, 0)  # half of it, if this ends here, is none
            for path in (self.path, self.path + ".tmp"):
                shutil.rmtree(path, ignore_errors=True)
            os.unlink(self._file)
            return True
        except OSError:  # it is used
            return False
        finally:
            os.close(self._lock)
            self._lock = -1


def evict(under: str, bound: int = BOUND) -> None:
    """Removes what is not whole, and of what nobody uses what was used longest ago, until the rest is within the bound."""
    there: List[Tuple[float, int, str]] = []
    for name in os.listdir(under):
        path = os.path.join(under, name)
        at = _stat(path)
        if name.endswith(".json") and at is not None:
            try:
                with open(path, encoding="utf-8") as f:
                    size = int(json.load(f)["size"])
            except (OSError, ValueError, KeyError, TypeError):
                size = -1
            there.append((at.st_mtime if size >= 0 else 0.0, size, name[: -len(".json")]))
    total = sum(max(size, 0) for _, size, _ in there)
    for _, size, name in sorted(there):
        if (size < 0 or total > bound) and Place(under, name).remove():
            total -= max(size, 0)


def _stat(path: str) -> Optional[os.stat_result]:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _size(path: str) -> int:
    total = 0
    for parent, directories, files in os.walk(path):
        for name in (*directories, *files):
            at = _stat(os.path.join(parent, name))
            total += at.st_blocks * 512 if at is not None else 0
    return total


def private(path: str) -> None:
    """Makes a directory that only this user has. Raises Failed if it is somebody else's, or open to others."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    at = os.lstat(path)
    if not stat.S_ISDIR(at.st_mode) or at.st_uid != os.getuid() or at.st_mode & 0o077:
        raise Failed(f"{path}, where environments are kept, is not a directory of your own that is closed to others: remove it, or set TMPDIR to a directory of your own")


def run(argv: List[str], what: str) -> None:
    """Runs a program, and says what it says. Raises Failed."""
    try:
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=_clean()) as process:
            try:
                lines = list(_spoken(process))
            except BaseException:
                process.kill()
                raise
    except OSError as e:
        raise Failed(f"{argv[0]} can't be run: {e.strerror}") from e
    if process.returncode:
        how = f"was killed by signal {-process.returncode}" if process.returncode < 0 else f"failed with exit code {process.returncode}"
        text = "\n".join(lines).lower()
        advice = ""
        if any(word in text for word in _OFFLINE):
            advice = f"; where nodes have no internet, put what is needed on a path that all nodes have, and say so: {_ELSEWHERE.get(what, 'name a channel there')}"
        raise Failed(f"{what} {how}{advice}")


_ELSEWHERE = {"pip": 'pip_install_options=["--no-index", "--find-links", DIRECTORY]', "uv": 'uv_pip_install_options=["--no-index", "--find-links", DIRECTORY]'}


def _spoken(process: "subprocess.Popen[str]") -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        line = line.rstrip()
        if line:
            say(line)
            yield line


def _clean() -> Dict[str, str]:
    """The environment for installers. A pip.conf that installs into the user's home would not install here."""
    return {**{k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV")}, "PIP_USER": "0", "PIP_PROGRESS_BAR": "off", "PYTHONUNBUFFERED": "1"}


def _indexes(options: Sequence[str]) -> Tuple[List[str], List[str]]:
    """Options that name an index, as lines of a file of requirements: there may be a password in one, and everybody on a node reads a command's words. And the others."""
    lines, others, words = [], [], iter(options)
    for word in words:
        name, _, value = word.partition("=")
        if name in ("-i", "--index-url", "--extra-index-url"):
            lines.append(f"{name} {value or next(words, '')}\n")
        else:
            others.append(word)
    return lines, others


def with_packages(kind: str, given: Dict[str, Any], path: str) -> None:
    """Makes a virtual environment over the driver's Python: what that has is there, too, unless other versions are asked for."""
    import venv

    venv.EnvBuilder(with_pip=False, symlinks=True).create(path)
    python = os.path.join(path, "bin", "python")
    own = [d for d in (*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])) if os.path.isdir(d)]
    with open(os.path.join(_site_packages(path), "maniple_driver.pth"), "w", encoding="utf-8") as f:
        f.writelines(f"import site; site.addsitedir({d!r})\n" for d in own)
    wanted, index = os.path.join(path, "requirements.txt"), os.path.join(path, "index.txt")
    lines, options = _indexes(given.get(f"{'' if kind == 'pip' else 'uv_'}pip_install_options") or (["--disable-pip-version-check", "--no-cache-dir"] if kind == "pip" else ["--no-cache"]))
    with open(wanted, "w", encoding="utf-8") as f:
        f.writelines([*lines, *(line + "\n" for line in given["packages"])])
    with open(index, "w", encoding="utf-8") as f:
        f.writelines(lines)
    version, check = given.get(f"{kind}_version"), given.get(f"{kind}_check")
    if kind == "pip":
        pip = _pip(python, path)
        if version:
            run([*pip, "install", *options, "-r", index, "pip" + version], "pip")
        run([*pip, "install", *options, "-r", wanted], "pip")
    else:
        uv = shutil.which("uv")
        beside = os.path.join(os.path.dirname(sys.executable), "uv")
        if version or not (uv or os.access(beside, os.X_OK)):  # as Ray does
            run([*_pip(python, path), "install", "--ignore-installed", "--disable-pip-version-check", "--no-cache-dir", *(o for o in options if o not in ("--no-cache", "-n")), "-r", index, "uv" + (version or "")], "pip")
            uv = os.path.join(path, "bin", "uv")
        run([uv or beside, "pip", "install", "--python", python, *options, "-r", wanted], "uv")
    if check:
        run([*_pip(python, path), "check"], "pip check")


def _site_packages(path: str) -> str:
    return os.path.join(path, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")


def _pip(python: str, path: str) -> List[str]:
    """pip in an environment: the driver's own, or the one that Python carries."""
    if find_spec("pip") is None and not os.path.isdir(os.path.join(_site_packages(path), "pip")):
        run([python, "-m", "ensurepip", "--default-pip"], "ensurepip, since the driver's Python has no pip,")
    return [python, "-m", "pip"]


def _conda() -> str:
    for name in (os.environ.get("CONDA_EXE"), "mamba", "conda", os.environ.get("MAMBA_EXE"), "micromamba"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise Failed("neither conda, mamba nor micromamba is on PATH: load the site's module before the driver starts, or install micromamba, which is one file")


def conda_environment(given: Dict[str, Any], path: str) -> None:
    """Makes an environment of conda from a file's text, or from what such a file has."""
    conda, file = _conda(), os.path.join(os.path.dirname(path), os.path.basename(path) + ".tmp", _requirements.YAML)
    text = given.get(_requirements.YAML)
    if text is None:
        needs = list(given.get("dependencies") or ())
        if not any(isinstance(n, str) and _PYTHON.match(n) for n in needs):
            needs.insert(0, f"python={sys.version_info[0]}.{sys.version_info[1]}")
        text = json.dumps({**given, "dependencies": needs})  # which is YAML
    with open(file, "w", encoding="utf-8") as f:
        f.write(text)
    words = ["create", "-y"] if os.path.basename(conda).startswith("micromamba") else ["env", "create"]
    run([conda, *words, "-p", path, "-f", file], os.path.basename(conda))


def conda_directory(name: str) -> str:
    """Where an environment of conda is that has a name, or is a directory."""
    if os.path.isabs(name):
        return name
    conda = _conda()
    try:
        done = subprocess.run([conda, "env", "list", "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        there = [str(path) for path in json.loads(done.stdout)["envs"]]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise Failed(f"{conda} does not say which environments there are ({type(e).__name__}: {e}): give the environment's directory") from e
    for path in there:
        if os.path.basename(path) == name or name in ("base", "root") and os.path.isdir(os.path.join(path, "envs")):
            return path
    raise Failed(f"conda knows no environment {name!r} on this node; it knows {', '.join(there) or 'none'}")


def _identity(word: str, deep: bool) -> Any:
    """What tells a file or a directory that a requirement names from another, or from what it was before; None: it names none. deep: a directory is told by all that is in it; else nobody looks into it."""
    path = os.path.realpath(word if os.path.exists(word) else word.partition("[")[0])
    if not word or not os.path.exists(path) or os.path.isdir(path) and not deep:
        return None
    times = [os.stat(path).st_mtime_ns]
    if os.path.isdir(path):
        for under, _, names in os.walk(path):
            times += [at.st_mtime_ns for at in (_stat(os.path.join(under, name)) for name in (".", *names)) if at is not None]
    return [path, os.stat(path).st_size, max(times), len(times)]


def content(install: Dict[str, Any]) -> str:
    """The name of an environment: by what is asked for, and what it is made over. A file that is named is another one when it was written again."""
    given = install.get("pip") or install.get("uv") or {}
    options = [*(given.get("pip_install_options") or ()), *(given.get("uv_pip_install_options") or ())]
    files: List[Any] = []
    for line in [*(given.get("packages") or ()), *options]:
        option, name = _requirements.split(line)
        deep = line not in options and option not in ("-f", "--find-links")
        files += [_identity(re.sub(r"^(@ *)?(file://)?", "", word.strip()), deep) for word in (line, name)]
    return sha256(json.dumps([_FORMAT, install, files, sys.executable, sys.prefix, sys.version], sort_keys=True).encode()).hexdigest()[:32]


def program(install: Dict[str, Any], under: str) -> Tuple[List[str], Dict[str, str]]:
    """The command and the environment of the template, once all is there for it. Raises Failed, and OSError."""
    kind = next(iter(install))
    given, env = install[kind], {k: v for k, v in os.environ.items() if k not in ("MANIPLE_INSTALL", "MANIPLE_ENVIRONMENTS", "PYTHONHOME")}
    env["MANIPLE_PYTHON"] = "%d.%d" % sys.version_info[:2]
    if kind not in _requirements.FIELDS or len(install) != 1:
        raise Failed(f"{', '.join(install)} is nothing that can be installed here")
    if kind == "container":
        return _container.command(given, under, _container.sdk(under), env, _TEMPLATE), env
    if kind == "conda" and isinstance(given, str):
        path = conda_directory(given)
    else:
        place = Place(under, content(install))
        if place.use(lambda path: conda_environment(given, path) if kind == "conda" else with_packages(kind, given, path)):
            evict(under)
        path = place.path
    before, python = os.path.join(path, "bin"), os.path.join(path, "bin", "python")
    if not os.access(python, os.X_OK):
        raise Failed(f"{path} has no Python: name python={env['MANIPLE_PYTHON']} among what it has")
    env["PATH"] = os.pathsep.join([before, env.get("PATH") or os.defpath])
    if kind == "conda":
        env["CONDA_PREFIX"], env["CONDA_DEFAULT_ENV"] = path, given if isinstance(given, str) else path
        _container.isolate(env, _container.sdk(under))
    else:
        env["VIRTUAL_ENV"] = path
    return [python, *_TEMPLATE], env


def _terminated(signum: int, frame: Optional[FrameType]) -> NoReturn:
    raise SystemExit("it was told to end")


def main() -> NoReturn:
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's is for the driver
    try:
        install, under = json.loads(os.environ["MANIPLE_INSTALL"]), os.environ["MANIPLE_ENVIRONMENTS"]
        private(under)
        argv, env = program(install, under)
    except KeyError as e:
        sys.exit(f"maniple: this is started by an agent: {e} is not set")
    except Failed as e:
        sys.exit(str(e))
    except OSError as e:
        sys.exit(f"{e}: free some space, or set TMPDIR to another local directory")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, env)
    except OSError as e:
        sys.exit(f"{argv[0]} can't be run: {e.strerror}")


if __name__ == "__main__":
    from maniple._making import main as _main

    _main()
