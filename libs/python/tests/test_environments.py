"""Runtime environments: what is checked, what goes into packages, and what a worker makes of them."""

import os
import subprocess
import sys
import tempfile
import types
import zipfile

import pytest

import maniple
from maniple import _archive, _options, _packages, runtime_env
from maniple._core import session as _session
from maniple.exceptions import RuntimeEnvSetupError


def tree(root, files):
    """Files by their paths."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def names(made):
    with zipfile.ZipFile(made.path) as archive:
        return sorted(archive.namelist())


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory, monkeypatch):
    """Archives that nobody puts anywhere go with the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


@pytest.fixture
def packages(tmp_path):
    return _packages.Packages(str(tmp_path / "jobs" / "1"))


@pytest.mark.parametrize(
    "pattern, path, matches",
    [
        ("*.log", "a.log", True), ("*.log", "d/a.log", True), ("*.log", "a.log.txt", False), ("/a", "a", True), ("/a", "d/a", False), ("d/a", "d/a", True),
        ("d/a", "x/d/a", False), ("build/", "build/", True), ("build/", "build", False), ("build", "build/", True), ("**/a", "x/y/a", True), ("**/a", "a", True),
        ("d/**", "d/x/y", True), ("d/**", "d/", False), ("d/**/a", "d/a", True), ("d/**/a", "d/x/y/a", True), ("a?c", "abc", True), ("a?c", "a/c", False),
        ("[ab].py", "b.py", True), ("[!ab].py", "b.py", False), ("[a-c]x", "bx", True), (r"\*x", "*x", True), (r"\*x", "ax", False), ("a.c", "abc", False), ("x[", "x[", True),
    ],
)  # fmt: skip
def test_patterns(pattern, path, matches):
    assert _archive.Rule(pattern).matches(path) is matches


def test_what_is_left_out(tmp_path):
    empty = ("a.py", "b.log", "keep.log", "sub/c.py", "sub/c.tmp", "other/x.tmp", "data/big", "data/small", ".git/config", ".venv/x", "sub/__pycache__/x")
    ignores = {".gitignore": "# what is made\n*.log\n!keep.log\n", ".rayignore": "other\n", "sub/.gitignore": "*.tmp"}
    d = tree(tmp_path / "d", {**dict.fromkeys(empty, ""), **ignores})
    os.symlink(d, d / "sub" / "round")
    os.symlink(d / "a.py", d / "linked.py")
    os.mkfifo(d / "fifo")
    made = _archive.of_working_dir(str(d), ["data/b*", "/nothing"])
    assert names(made) == [".gitignore", ".rayignore", "a.py", "data/", "data/small", "keep.log", "linked.py", "sub/", "sub/.gitignore", "sub/c.py"]


def test_the_same_files_are_the_same_package(tmp_path):
    first, second = (tree(tmp_path / name, {"a.py": "1", "b/c": "2"}) for name in "xy")
    os.utime(second / "a.py", (0, 0))
    one = _archive.of_working_dir(str(first), [])
    assert one.hash == _archive.of_working_dir(second, []).hash
    (second / "a.py").chmod(0o755)
    assert one.hash != _archive.of_working_dir(str(second), []).hash


def test_a_package_has_a_limit(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(_archive, "LIMIT", 5 << 20)
    monkeypatch.setattr(_archive, "_LARGE", 3 << 20)
    tree(tmp_path, {"a": "", "data/b": ""})
    (tmp_path / "data" / "b").write_bytes(bytes(4 << 20))
    (tmp_path / "a").write_bytes(bytes(2 << 20))
    with pytest.raises(ValueError, match=r"6 MiB, and a package 5 MiB at most \(largest: data/ 4 MiB, a 2 MiB\): .*excludes"):
        _archive.of_working_dir(str(tmp_path), [])
    assert "data/b of 4 MiB" in capfd.readouterr().err
    assert names(_archive.of_working_dir(str(tmp_path), ["data"])) == ["a"]


def test_modules(tmp_path):
    pkg = tree(tmp_path / "pkg", {"m.py": "", "sub/n.py": ""})
    assert names(_archive.of_module(str(pkg), ["sub"])) == ["pkg/m.py"]
    assert names(_archive.of_module(pkg / "m.py", [])) == ["m.py"]
    module = types.ModuleType("m")
    module.__file__ = str(pkg / "m.py")
    assert names(_archive.of_module(module, [])) == ["m.py"]
    module.__path__ = [str(pkg)]
    assert names(_archive.of_module(module, [])) == ["pkg/m.py", "pkg/sub/", "pkg/sub/n.py"]
    with zipfile.ZipFile(tmp_path / "x-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("x.py", "X = 3")
    assert names(_archive.of_module(str(tmp_path / "x-1-py3-none-any.whl"), [])) == ["x.py"]
    for wrong, why in (("nowhere", "does not exist"), ("m.txt", "no directory, .py, .whl or .zip"), ("m.whl", "no zip archive")):
        tree(tmp_path, {"m.txt": "", "m.whl": ""})
        with pytest.raises(ValueError, match=why):
            _archive.of_module(str(tmp_path / wrong), [])


def test_packages_are_named_once(tmp_path, packages):
    d = tree(tmp_path / "d", {"a": "1"})
    env = {"working_dir": str(d), "py_modules": [str(d)], "excludes": ["x"], "env_vars": {"A": "1"}}
    settled = packages.settle(env)
    assert set(settled) == {"working_dir", "py_modules", "env_vars"} and settled["working_dir"].startswith(_packages.SCHEME)
    kept = sorted(os.listdir(tmp_path / "jobs" / "1"))
    assert kept == sorted(name[len(_packages.SCHEME) :] + ".zip" for name in (settled["working_dir"], *settled["py_modules"]))
    tree(d, {"a": "2"})  # a job sees the directory as it was
    assert packages.settle(env) == settled and packages.settle(settled) == settled
    assert _packages.Packages(str(tmp_path / "jobs" / "2")).settle(env) != settled
    with pytest.raises(RuntimeEnvSetupError, match="no directory for packages"):
        _packages.Packages("").settle(env)
    tree(tmp_path, {"file": ""})
    with pytest.raises(RuntimeEnvSetupError, match="could not be made"):
        _packages.Packages(str(tmp_path / "file" / "1")).settle(env)


@pytest.mark.parametrize("field", ["py_executable", "java_jars", "nsight", "mpi"])
def test_what_is_not_there_says_what_to_do(field):
    for use in (lambda env: maniple.init("local", runtime_env=env), lambda env: maniple.remote(runtime_env=env)(len), lambda env: maniple.runtime_env.RuntimeEnv(**env)):
        with pytest.raises(RuntimeEnvSetupError, match=f"no '{field}' here: .{{20}}"):
            use({field: ["x"]})


@pytest.mark.parametrize(
    "env, why",
    [
        ({"workdir": "x"}, "it has env_vars, working_dir"), ({"env_vars": {"A": 1}}, "dict of texts"), ({"working_dir": 3}, "is a path"), ({"py_modules": "x"}, "is a list"),
        ({"excludes": "*.log"}, "list of patterns"), ({"working_dir": "s3://x/y.zip"}, "fetch it before"), ({"py_modules": ["https://x/y.whl"]}, "fetch it before"),
        ({"config": {"timeout": 1}}, "it has setup_timeout_seconds"), ({"config": {"setup_timeout_seconds": 0}}, "above 0, or -1"), ({"config": 3}, "a dict or a RuntimeEnvConfig"), ([], "is a dict"),
    ],
)  # fmt: skip
def test_wrong_environments(env, why):
    assert why in runtime_env.check(env)


def test_equal_environments_have_equal_texts():
    env = runtime_env.RuntimeEnv(env_vars={"A": "1"}, config=runtime_env.RuntimeEnvConfig(eager_install=False))
    assert runtime_env.plain(env) == runtime_env.plain({"env_vars": {"A": "1"}, "working_dir": "", "pip": []}) == {"env_vars": {"A": "1"}}
    assert runtime_env.plain({"config": {"setup_timeout_seconds": -1}}) == {"config": {"setup_timeout_seconds": -1}}
    base = {"working_dir": "package:1", "env_vars": {"A": "1"}}
    assert _options.environment_of(base, {"working_dir": "package:2", "env_vars": {"B": "2"}}) == {"working_dir": "package:2", "env_vars": {"A": "1", "B": "2"}}


def test_a_worker_enters_its_environment(tmp_path):
    tree(tmp_path, {"1" * 64 + "/here.py": "X = 1", "2" * 64 + "/mine.py": "Y = 2"})
    env = {"working_dir": "package:" + "1" * 64, "py_modules": ["package:" + "2" * 64]}
    program = (
        "import os, subprocess, sys\nfrom maniple import _packages\n"
        f"_packages.enter({env!r}, {str(tmp_path)!r})\nimport here, mine\nassert os.path.exists('here.py')\n"
        "print(subprocess.check_output([sys.executable, '-c', 'import here, mine, json; print(here.X + mine.Y)'], text=True))"
    )
    top = os.path.dirname(os.path.dirname(maniple.__file__))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": top}, cwd=tmp_path)
    assert done.stdout.strip() == "3", done.stderr


def test_functions_travel_with_packages(tmp_path, driver):
    """What a function or class says of this process's directories, another one could not find."""
    session = _session.current()
    session.packages = _packages.Packages(str(tmp_path / "jobs"))
    d = tree(tmp_path / "d", {"a": "1"})
    function = maniple.remote(runtime_env={"working_dir": str(d)})(tree)
    made = function.__reduce__()[1][2]["runtime_env"]
    assert made == session.environment({"working_dir": str(d)}) and made["working_dir"].startswith(_packages.SCHEME)
    actor = maniple.remote(runtime_env={"py_modules": [str(d)]})(types.SimpleNamespace)
    assert actor.__reduce__()[1][2]["runtime_env"]["py_modules"][0].startswith(_packages.SCHEME)


def test_a_wrong_path_ends_init(agent, tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        maniple.init(agent.path, runtime_env={"working_dir": str(tmp_path / "nowhere")})
    assert not maniple.is_initialized()
