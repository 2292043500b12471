"""The checks of check.sh: each prints what was seen as its last line, and raises if that is wrong. It has the package and its binaries from the wheel."""

import json
import os
import subprocess
import sys
import tempfile
import time

SIZE = 256 << 20  # bytes of a tensor
ON_GPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e", "programs", "on_gpus.py")


def output(*argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=80)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: exit code {done.returncode}")
    return done.stdout


def nvidia_smi(fields):
    return [line.split(", ") for line in output("nvidia-smi", "--query-gpu=" + fields, "--format=csv,noheader,nounits").strip().splitlines()]


def nvml():
    """What maniple-native is told by NVML is what nvidia-smi prints."""
    output("maniple", "up", "--cluster", "check")
    try:
        node = json.loads(output("maniple", "nodes", "--cluster", "check", "--json"))
    finally:
        output("maniple", "down", "--cluster", "check")
    (said,) = node["devices"]
    told = said.get("devices") or {}
    assert not said.get("error") and not told.get("error"), f"NVML was not had: {said}"
    got = [[g["id"], str(g["memory"] >> 20), told.get("driver")] for g in told.get("gpus") or []]
    want = nvidia_smi("uuid,memory.total,driver_version")
    assert got == want, f"NVML says {told}, nvidia-smi {want}"
    assert [d["id"] for d in node["nodes"][0]["devices"]] == [w[0] for w in want], "the ledger has other devices"
    print(f"{len(want)} GPU, {want[0][1]} MiB, {told['gpus'][0]['busy']}% busy: the same")


def halves():
    """Two groups with half a GPU each compute on one GPU at a time; a third waits for them, and says so."""
    import maniple
    from maniple.util.placement_group import placement_group
    from maniple.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    @maniple.remote(num_cpus=1, num_gpus=0.5)
    class Half:
        def run(self, seconds):
            import torch

            x, began = torch.randn(2048, 2048, device="cuda"), time.time()
            while time.time() < began + seconds:
                y = x @ x
                torch.cuda.synchronize()
            return os.environ["CUDA_VISIBLE_DEVICES"], began, time.time(), bool(y.isfinite().all())

    maniple.init()
    groups = [placement_group([{"CPU": 1, "GPU": 0.5}]) for _ in range(2)]
    for group in groups:
        assert group.wait(20), group.explain()
    halves = [Half.options(scheduling_strategy=PlacementGroupSchedulingStrategy(g, 0)).remote() for g in groups]
    maniple.get([h.__ray_ready__.remote() for h in halves])
    (gpu, began, over, finite), (other, began2, over2, finite2) = maniple.get([h.run.remote(5) for h in halves], timeout=60)
    assert finite and finite2 and gpu == other, f"the halves are of {gpu} and {other}"
    both = min(over, over2) - max(began, began2)
    assert both > 0, "they computed one after the other"
    if len(nvidia_smi("uuid")) == 1:
        third = placement_group([{"CPU": 1, "GPU": 0.5}])
        assert not third.wait(2) and "GPU" in str(third.explain()), third.explain()
    maniple.shutdown()
    print(f"{gpu}: {both:.1f} s of computing at a time")


def ddp():
    """A rank with a GPU of its own trains with DistributedDataParallel on NCCL."""
    with tempfile.TemporaryDirectory() as folder:
        output("maniple", "run", "-n", "1", "--gpus-per-task", "1", "-o", folder + "/%t", "--", sys.executable, ON_GPUS)
        with open(folder + "/0") as f:
            seen = json.loads(f.read().strip().splitlines()[-1])
    assert seen["visible"] == 1 and seen["last"] < seen["first"] / 2, seen
    print(f"loss {seen['first']:.3f}, after 50 steps {seen['last']:.3f}")


def tensors(device="cuda", transport="cuda_ipc", way="ipc"):
    """A tensor stays with its actor until another one on that GPU copies it there, and goes with its last reference."""
    import torch

    import maniple
    from maniple.experimental import wait_tensor_freed

    @maniple.remote(num_cpus=1, num_gpus=0.5 if device == "cuda" else 0)
    class Actor:
        @maniple.method(tensor_transport=transport)
        def make(self):
            self.tensor = torch.arange(SIZE // 4, device=device, dtype=torch.int32)
            return {"nested": [self.tensor, self.tensor[:8].clone()]}

        def write(self, value):
            value["nested"][0][0] = 7
            return bool(self.tensor[0] == 7)

        def read(self, value, first):
            tensor, part = value["nested"]
            assert tensor.device.type == device and int(tensor[0]) == first and torch.equal(tensor[1:], torch.arange(1, SIZE // 4, device=device, dtype=torch.int32)) and part.tolist() == list(range(8))

        def times(self, refs):
            out = []
            for ref in refs:
                began = time.monotonic()
                maniple.get(ref)
                out.append(time.monotonic() - began)
            return min(out)

        def ways(self):
            from maniple import _device

            return dict(_device.COUNTS)

        def freed(self):
            wait_tensor_freed(self.tensor, 20)

    maniple.init()
    maker, reader = Actor.remote(), Actor.remote()
    ref = maker.make.remote()
    maniple.get(reader.read.remote(ref, 0), timeout=60)
    assert maniple.get(maker.write.remote(ref)), "the maker has a copy"
    maniple.get(reader.read.remote(ref, 7), timeout=60)
    best = maniple.get(reader.times.remote([ref] * 5), timeout=60)
    assert maniple.get(reader.ways.remote()) == {way: 7}, maniple.get(reader.ways.remote())
    assert maniple.get(ref, _use_object_store=True)["nested"][0][5] == 5
    del ref
    maniple.get(maker.freed.remote(), timeout=30)
    maniple.shutdown()
    print(f"{SIZE >> 20} MiB in {best * 1e3:.1f} ms, {SIZE / best / 1e9:.1f} GB/s; freed with the last reference")


if __name__ == "__main__":
    {"nvml": nvml, "halves": halves, "ddp": ddp, "tensors": tensors}[sys.argv[1]]()
