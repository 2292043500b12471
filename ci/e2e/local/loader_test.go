//go:build e2e

package local

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// loads is a driver whose actor trains, as far as its data is concerned: torch's DataLoader forks workers inside of it, while it holds
// references, views of shared memory and a connection to its agent.
const loads = `
import os, sys, time
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
import maniple

class Rows(Dataset):
    def __init__(self, table):
        self.table = table
    def __len__(self):
        return len(self.table)
    def __getitem__(self, i):
        return torch.from_numpy(np.array(self.table[i])), os.getpid()

@maniple.remote
class Trainer:
    def __init__(self, table, refs):
        self.table, self.refs, self.seen = table, refs, maniple.get(refs[0])
    def epoch(self):
        total, pids = 0.0, set()
        for rows, pid in DataLoader(Rows(self.table), batch_size=64, num_workers=4, multiprocessing_context="fork"):
            total += float(rows.sum())
            pids.update(pid.tolist())
        assert len(pids) == 4 and os.getpid() not in pids, pids
        return total
    def rest(self):
        return [int(x.sum()) for x in maniple.get(self.refs)], float(self.table.sum()), int(self.seen.sum())

@maniple.remote(num_cpus=0)
class Newborn:
    def modules(self):
        return [name for name in ("numpy", "torch") if name in sys.modules]

maniple.init(num_cpus=2)
table = np.arange(2000 * 500, dtype=np.float64).reshape(2000, 500)
refs = [maniple.put(np.full(300_000, i)) for i in range(3)]
trainer = Trainer.remote(maniple.put(table), refs)
for _ in range(3):
    assert maniple.get(trainer.epoch.remote(), timeout=60) == table.sum()
del refs
assert maniple.get(trainer.rest.remote(), timeout=60) == ([0, 300_000, 600_000], table.sum(), 0)

# This driver has numpy and torch: so have its workers from their birth, as soon as there is a process to fork them from.
end = time.monotonic() + 90
while True:
    actor = Newborn.remote()
    modules = maniple.get(actor.modules.remote(), timeout=60)
    maniple.kill(actor)
    if modules == ["numpy", "torch"]:
        break
    assert time.monotonic() < end, modules
    time.sleep(0.2)
maniple.shutdown()
print("all is well", flush=True)
`

func TestLoaderInAnActor(t *testing.T) {
	w := newWorld(t)
	env := append([]string{}, w.env...)
	env = append(env, "PYTHONPATH="+filepath.Join(top, "libs/python"), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	p := w.launch("", env, torch(t), "-c", loads)
	if code := p.code(4 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.nothingLeft()
}
