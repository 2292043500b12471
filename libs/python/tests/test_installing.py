"""What a runtime_env has installed: what is checked and sent, and what a node makes of it."""

import fcntl
import json
import os
import stat
import subprocess
import sys
import threading
import zipfile

import pytest

from maniple import _container, _making, _options, _requirements, runtime_env


def wheel(directory, version):
    path = directory / f"tiny-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as w:
        info = f"tiny-{version}.dist-info/"
        w.writestr("tiny.py", f"VERSION = {version!r}")
        w.writestr(info + "METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
        w.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        w.writestr(info + "RECORD", "")
    return path


def program(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


@pytest.fixture
def bin(tmp_path, monkeypatch):
    """A directory in front of PATH for programs that stand in for those of a site."""
    d = tmp_path / "bin"
    d.mkdir()
    monkeypatch.setenv("PATH", f"{d}:/usr/bin:/bin")
    for name in ("CONDA_EXE", "MAMBA_EXE"):
        monkeypatch.delenv(name, raising=False)
    return d


@pytest.fixture
def under(tmp_path):
    path = str(tmp_path / ".environments")
    _making.private(path)
    return path


def made(under, install, code):
    """Has it made by a process as an agent starts it, with code in place of the template. What that prints, and what was said."""
    start = f"from maniple import _making; _making._TEMPLATE = ['-c', {code!r}]; _making.main()"
    env = {**os.environ, "MANIPLE_INSTALL": json.dumps(install), "MANIPLE_ENVIRONMENTS": under, "PYTHONPATH": os.path.dirname(os.path.dirname(_making.__file__))}
    done = subprocess.run([sys.executable, "-c", start], env=env, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "env, why",
    [
        ({"pip": ["x"], "conda": "y"}, "pip and conda of a runtime_env can't be had together"), ({"uv": ["x"], "image_uri": "y"}, "uv and image_uri"), ({"pip": 3}, "list of requirements"),
        ({"pip": "nowhere.txt"}, "nowhere.txt, which is not there"), ({"pip": ["a\nb"]}, "list of requirements"), ({"pip": {"package": ["a"]}}, "has no 'package'; it has packages"),
        ({"pip": {"packages": "a"}}, "packages of pip is a list of texts"), ({"pip": {"pip_check": True}}, "needs 'packages'"), ({"uv": {"packages": ["a"], "uv_version": 1}}, "uv_version of uv is a str"),
        ({"conda": ["x"]}, "environment's name"), ({"conda": "nowhere.yml"}, "nowhere.yml, which is not there"), ({"conda": {"x": {1, 2}}}, "can't be written"), ({"container": "x"}, "a dict with an image"),
        ({"container": {"run_options": []}}, "needs 'image'"), ({"image_uri": ["x"]}, "is a text"),
    ],
)  # fmt: skip
def test_wrong_ones(env, why):
    assert why in runtime_env.check(env)


def test_what_agents_are_sent(tmp_path):
    (tmp_path / "more.txt").write_text("b")
    (tmp_path / "r.txt").write_text(f"# what it needs\na==1 ; python_version > '3'\n\n-r more.txt\n--find-links={tmp_path}\n--pre\n")
    (tmp_path / "e.yml").write_text("dependencies: [a]")
    as_sent = {
        "a list": ({"pip": ["a"]}, {"pip": {"packages": ["a"]}}), "a tuple": ({"uv": ("a",)}, {"uv": {"packages": ["a"]}}),
        "a dict": ({"pip": {"packages": ["a"], "pip_check": False, "pip_version": "==23"}}, {"pip": {"packages": ["a"], "pip_version": "==23"}}),
        "a file": ({"pip": str(tmp_path / "r.txt")}, {"pip": {"packages": ["a==1 ; python_version > '3'", f"-r {tmp_path}/more.txt", f"--find-links={tmp_path}", "--pre"]}}),
        "a name": ({"conda": "base"}, {"conda": "base"}), "a conda file": ({"conda": tmp_path / "e.yml"}, {"conda": {"environment.yml": "dependencies: [a]"}}),
        "a dict of conda's": ({"conda": {"dependencies": ["a"]}}, {"conda": {"dependencies": ["a"]}}), "an image": ({"image_uri": "x.sif"}, {"container": {"image": "x.sif"}}),
        "nothing": ({"pip": []}, {}),
    }  # fmt: skip
    for name, (given, want) in as_sent.items():
        assert runtime_env.check(given) is None and runtime_env.plain(given) == want == runtime_env.plain(want), name


def test_what_a_child_has_in_place_of_its_parents():
    parent = {"pip": {"packages": ["a"]}, "env_vars": {"A": "1"}, "working_dir": "package:1"}
    assert _options.environment_of(parent, {"env_vars": {"B": "2"}})["pip"] == parent["pip"]
    for own in ({"pip": {"packages": ["b"]}}, {"conda": "x"}, {"container": {"image": "x"}}):
        merged = _options.environment_of(parent, own)
        assert {k: v for k, v in merged.items() if k in _requirements.KINDS} == own and merged["env_vars"] == {"A": "1"} and runtime_env.check(merged) is None


def test_packages_over_what_the_driver_has(tmp_path, under):
    wheel(tmp_path, "1.0")
    install = {"pip": {"packages": ["tiny"], "pip_check": True, "pip_install_options": ["--no-index", "--find-links", str(tmp_path)]}}
    code = "import os, sys, tiny, cloudpickle; assert not os.environ.get('TMPDIR', '').startswith(sys.prefix); print(tiny.VERSION, sys.prefix, os.environ['VIRTUAL_ENV'], os.environ['PATH'].split(':')[0], cloudpickle.__file__)"
    status, out, said = made(under, install, code)
    import cloudpickle

    version, prefix, environment, first, theirs = out.split()
    assert (status, version, theirs) == (0, "1.0", cloudpickle.__file__) and prefix == environment == first[: -len("/bin")] and prefix.startswith(under) and "Successfully installed tiny" in said
    at = os.stat(prefix + "/bin/python").st_ino, os.stat(prefix).st_mtime_ns
    assert made(under, install, code)[2] == "" and at == (os.stat(prefix + "/bin/python").st_ino, os.stat(prefix).st_mtime_ns)  # it is there
    os.truncate(prefix + ".json", 0)  # as if who made it had been killed
    status, out, said = made(under, install, code)
    assert status == 0 and out.split()[1] == prefix and "Successfully installed tiny" in said


def test_what_fails_says_why(tmp_path, under):
    status, out, said = made(under, {"pip": {"packages": ["tiny==7"], "pip_install_options": ["--no-index", "--find-links", str(tmp_path)]}}, "print('no')")
    assert (status, out) == (1, "") and "No matching distribution found for tiny==7" in said and said.endswith('pip failed with exit code 1; where nodes have no internet, put what is needed on a path that all nodes have, and say so: pip_install_options=["--no-index", "--find-links", DIRECTORY]\n')
    assert os.listdir(under) == []
    os.chmod(under, 0o755)
    assert "closed to others" in made(under, {"conda": "x"}, "")[2]
    os.chmod(under, 0o700)
    if os.getuid() == 0:
        os.chown(under, 1, 1)
        assert "a directory of your own" in made(under, {"conda": "x"}, "")[2]


def test_a_wheel_that_was_written_again_is_another(tmp_path):
    install = {"pip": {"packages": [str(wheel(tmp_path, "1.0"))]}}
    before = _making.content(install)
    assert before == _making.content(install)
    os.utime(install["pip"]["packages"][0], (1, 1))
    assert before != _making.content(install) != _making.content({"uv": install["pip"]})
    (tmp_path / "more.txt").write_text("a")
    install = {"pip": {"packages": [f"-r {tmp_path}/more.txt"]}}
    before = _making.content(install)
    (tmp_path / "more.txt").write_text("a==1")
    assert before != _making.content(install)


def test_a_directory_is_another_one_elsewhere_and_when_something_in_it_was_written(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "setup.py").write_text("")
    install, contents = {"pip": {"packages": ["."]}}, []
    for name in "ab":
        monkeypatch.chdir(tmp_path / name)
        contents.append(_making.content(install))
        os.utime("setup.py", (5, 1 << 33))
        contents.append(_making.content(install))
    assert len({*contents}) == 4
    there = f"tiny @ file://{wheel(tmp_path, '1.0')}"
    before = _making.content({"uv": {"packages": [there]}})
    os.utime(tmp_path / "tiny-1.0-py3-none-any.whl", (1, 1))
    assert before != _making.content({"uv": {"packages": [there]}})


def test_what_was_half_removed_is_not_whole(under, monkeypatch):
    monkeypatch.setenv("TMPDIR", under)  # which is set for what makes it, by the process that makes nothing else
    place = _making.Place(under, "x")
    assert place.use(os.mkdir) and place._size() is not None
    os.close(place._lock)

    def ends(*_, **__):
        raise SystemExit

    monkeypatch.setattr(_making.shutil, "rmtree", ends)
    with pytest.raises(SystemExit):
        _making.Place(under, "x").remove()
    with open(os.path.join(under, "x.json")) as f:
        assert f.read() == ""


def test_who_wants_to_make_it_too_has_what_another_made(under):
    """Also if that one uses it before this one comes to look again."""
    other = os.open(os.path.join(under, "x.json"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_SH)
    says = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_making, "say", says.append)

        def makes(seconds):
            assert seconds > 0
            os.mkdir(os.path.join(under, "x"))
            os.pwrite(other, b'{"size": 1}', 0)

        patch.setattr(_making.time, "sleep", makes)
        place = _making.Place(under, "x")
        user = threading.Thread(target=place.use, args=(os.mkdir,), daemon=True)  # none of this is made by it
        user.start()
        user.join(20)
        assert not user.is_alive()
    assert len(says) == 1 and "another process of yours on this node makes it" in says[0]
    os.close(place._lock)
    os.close(other)


def test_an_index_with_a_password_is_no_word_of_a_command():
    for option in ("-i", "--extra-index-url"):
        for given in ([option, "https://me:secret@host", "--pre"], ["--pre", option + "=https://me:secret@host"]):
            assert _making._indexes(given) == ([f"{option} https://me:secret@host\n"], ["--pre"])


def test_more_than_a_process_can_be_told(tmp_path):
    (tmp_path / "r.txt").write_text("a==1 --hash=sha256:0\n" * 10000)
    with pytest.raises(ValueError, match="pip of a runtime_env has .* put the file on a path"):
        runtime_env.plain({"pip": str(tmp_path / "r.txt")})


def test_what_nobody_uses_goes_first(under):
    def place(name, size, used, whole=True):
        os.mkdir(os.path.join(under, name))
        with open(os.path.join(under, name + ".json"), "w") as f:
            f.write(json.dumps({"size": size}) if whole else "")
        os.utime(f.name, (used, used))
        return f.name

    for name, size, used in (("old", 40, 1), ("held", 40, 2), ("older", 40, 0), ("new", 40, 9)):
        file = place(name, size, used)
        if name == "held":
            user = os.open(file, os.O_RDWR)
            fcntl.flock(user, fcntl.LOCK_SH)
    place("half", 0, 9, whole=False)
    _making.evict(under, 90)
    assert sorted(os.listdir(under)) == ["held", "held.json", "new", "new.json"]
    os.close(user)
    _making.evict(under, 0)
    assert os.listdir(under) == []


def test_what_is_made_again_is_not_removed(under, monkeypatch):
    """By one who found it when it was another."""
    file, lock = os.path.join(under, "a.json"), fcntl.flock
    os.mkdir(os.path.join(under, "a"))
    open(file, "w").close()

    def late(fd, kind):
        os.rename(file, file + ".before")
        open(file, "w").close()
        lock(fd, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    assert not _making.Place(under, "a").remove() and os.path.isdir(os.path.join(under, "a"))
    os.unlink(file)
    assert not _making.Place(under, "a").remove()


def test_what_a_worker_uses_stays(tmp_path, under):
    """As long as a template lives, or a process that it forked."""
    wheel(tmp_path, "1.0")
    code = "import os, sys, time\nif os.fork() == 0:\n    print(os.getpid(), flush=True)\n    sys.stdin.read()"
    env = {**os.environ, "MANIPLE_ENVIRONMENTS": under, "PYTHONPATH": os.path.dirname(os.path.dirname(_making.__file__))}
    env["MANIPLE_INSTALL"] = json.dumps({"pip": {"packages": ["tiny"], "pip_install_options": ["--no-index", "--find-links", str(tmp_path)]}})
    start = f"from maniple import _making; _making._TEMPLATE = ['-c', {code!r}]; _making.main()"
    with subprocess.Popen([sys.executable, "-c", start], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert int(process.stdout.readline()) != process.pid and process.wait() == 0
        before = sorted(os.listdir(under))
        _making.evict(under, 0)
        assert sorted(os.listdir(under)) == before and len(before) == 2
        process.stdin.close()
        assert process.stdout.read() == b""  # the child is over
    _making.evict(under, 0)
    assert os.listdir(under) == []


def test_two_make_it_once(tmp_path, under):
    """Agents of one user on a node may begin at the same moment."""
    wheel(tmp_path, "1.0")
    env = {**os.environ, "MANIPLE_ENVIRONMENTS": under, "PYTHONPATH": os.path.dirname(os.path.dirname(_making.__file__))}
    env["MANIPLE_INSTALL"] = json.dumps({"pip": {"packages": ["tiny"], "pip_install_options": ["--no-index", "--find-links", str(tmp_path)]}})
    start = "from maniple import _making; _making._TEMPLATE = ['-c', 'import tiny, sys; print(sys.prefix)']; _making.main()"
    both = [subprocess.Popen([sys.executable, "-c", start], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    (one, first), (two, second) = (process.communicate() for process in both)
    assert one == two != "" and (first + second).count("Successfully installed") == 1 and (first + second).count("another process of yours") <= 1


def test_uv(tmp_path, under, bin):
    wheel(tmp_path, "2.0")
    program(bin / "uv", 'test "$1 $2 $3" = "pip install --python" || exit 9\npython=$4; shift 4\nexec "$python" -m pip install --no-index "$@"\n')
    install = {"uv": {"packages": ["tiny"], "uv_pip_install_options": ["--find-links", str(tmp_path)]}}
    assert made(under, install, "import tiny; print(tiny.VERSION)")[:2] == (0, "2.0\n")


def test_conda(tmp_path, under, bin):
    """conda can't be had where this is tested: a program that makes a virtual environment at the place that it is told stands in for it."""
    status, _, said = made(under, {"conda": {"dependencies": ["a"]}}, "")
    assert status == 1 and "neither conda, mamba nor micromamba" in said
    known = tmp_path / "envs" / "mine"
    make = f'"{sys.executable}" -m venv --without-pip'
    program(bin / "conda", f'case "$1 $2" in\n"env list") echo \'{{"envs": ["{known}"]}}\';;\n"env create") {make} "$4" && cp "$6" "$4/seen";;\nesac\n')
    code = "import os, sys, json, maniple, cloudpickle; print(sys.prefix, os.environ['CONDA_PREFIX'], os.path.exists(sys.prefix + '/seen') and open(sys.prefix + '/seen').read())"
    status, out, said = made(under, {"conda": {"dependencies": ["a", {"pip": ["b"]}]}}, code)
    prefix, environment, text = out.split(" ", 2)
    python = "python=%d.%d" % sys.version_info[:2]
    assert status == 0 and prefix == environment and json.loads(text) == {"dependencies": [python, "a", {"pip": ["b"]}]}, said
    status, out, said = made(under, {"conda": {"environment.yml": "dependencies: [x]"}}, code)
    assert out.split(" ", 2)[2] == "dependencies: [x]\n", said
    assert "knows no environment 'mine'" not in made(under, {"conda": "mine"}, code)[2]
    assert f"{known} has no Python: name {python}" in made(under, {"conda": "mine"}, code)[2]
    subprocess.run(f"{make} {known}", shell=True, check=True)
    for name in ("mine", str(known)):
        assert made(under, {"conda": name}, code)[1].startswith(f"{known} {known}")
    assert f"knows no environment 'yours' on this node; it knows {known}" in made(under, {"conda": "yours"}, code)[2]


def test_containers(tmp_path, under, bin, monkeypatch):
    """apptainer can't be had where this is tested: a program that does the command in a directory of its own stands in for it."""
    install = {"container": {"image": "base.sif", "run_options": ["--cleanenv"]}}
    assert "neither apptainer nor singularity" in made(under, install, "")[2]
    program(bin / "apptainer", f'printf "%s\\n" "$@" > "{tmp_path}/argv"\nwhile [ "$1" != sh ]; do shift; done\nexec "$@"\n')
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("MANIPLE_ADDRESS", str(tmp_path / "run" / "agent.sock"))
    monkeypatch.setenv("PYTHONPATH", "/of/the/user")
    env = dict(os.environ)
    argv = _container.command(install["container"], under, _container.sdk(under), env, ["-c", "import maniple, cloudpickle; print('here')"])
    binds = argv[argv.index("--bind") + 1].split(",")
    assert argv[:2] == [str(bin / "apptainer"), "exec"] and argv[argv.index("--pwd") :][2:4] == ["--cleanenv", "docker://base.sif"]
    assert {str(tmp_path), str(tmp_path / "run"), "/dev/shm", os.getcwd(), os.path.dirname(os.path.realpath(_container.__file__))} <= set(binds)
    assert env["PYTHONNOUSERSITE"] == "1"
    user, own = env["PYTHONPATH"].split(os.pathsep)
    assert user == "/of/the/user" and sorted(os.listdir(own)) == ["cloudpickle", "maniple"] and stat.S_IMODE(os.stat(own).st_mode) == 0o700
    assert made(under, install, "import maniple, cloudpickle; print('here')")[:2] == (0, "here\n")
    (tmp_path / "base.sif").write_text("")
    monkeypatch.chdir(tmp_path)
    assert "base.sif" in _container.command(install["container"], under, own, dict(os.environ), [])
    with pytest.raises(_container.Failed, match="no path with a colon"):
        monkeypatch.setenv("TMPDIR", str(tmp_path / "a:b"))
        (tmp_path / "a:b").mkdir()
        _container.command(install["container"], under, own, dict(os.environ), [])


def test_another_python_is_refused():
    done = subprocess.run([sys.executable, "-m", "maniple._template"], capture_output=True, text=True, env={**os.environ, "MANIPLE_ADDRESS": "/nowhere", "MANIPLE_PYTHON": "2.7", "PYTHONPATH": os.path.dirname(os.path.dirname(_making.__file__))})
    assert done.returncode == 1 and "the driver's is 2.7" in done.stderr and "have python=2.7 there" in done.stderr
