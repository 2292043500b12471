"""A program as sites want them: when it is told to end it saves, and the next time it goes on from there.

Usage: resumes.py FOLDER   counts until FOLDER/go exists; a save takes two seconds, as a checkpoint does.

As programs do, it leaves something behind when it is told to end: a process in a session of its own that heeds no signal.
"""

import os
import signal
import subprocess
import sys
import time

folder, rank = sys.argv[1], os.environ.get("RANK", "driver")
checkpoint = os.path.join(folder, "checkpoint." + rank)
told = []
quiet = subprocess.DEVNULL
deaf = subprocess.Popen(["sh", "-c", "trap '' TERM INT HUP; while :; do sleep 1; done"], start_new_session=True, stdin=quiet, stdout=quiet, stderr=quiet)
signal.signal(signal.SIGTERM, lambda *_: told.append(time.time()))

try:
    with open(checkpoint) as f:
        step = int(f.read())
except FileNotFoundError:
    step = 0
print(f"from step {step}, start {os.environ.get('SLURM_RESTART_COUNT', '0')}", flush=True)
with open(os.path.join(folder, "ready." + rank), "w") as f:
    f.write(f"{os.getpid()}\n")

while not told and not os.path.exists(os.path.join(folder, "go")):
    step += 1
    time.sleep(0.05)
if told:
    until = time.time() + 2
    while time.time() < until:  # other signals may come meanwhile
        time.sleep(0.05)
    with open(checkpoint + ".new", "w") as f:
        f.write(str(step))
    os.rename(checkpoint + ".new", checkpoint)
    print(f"saved step {step}", flush=True)
    sys.exit(3)
deaf.kill()
print(f"done at step {step}", flush=True)
