"""The program behind `maniple demo`: data-parallel training on every rank, with numpy alone.

It learns to read noisy, shifted pictures of the ten digits. Each rank has its own share of the
pictures; the ranks average their gradients at every step, by torch.distributed where torch can be
imported, else over a plain TCP connection to rank 0. Its only interface to what started it is the
environment: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.
"""

import os
import socket
import struct
import sys
import time

try:
    import numpy as np
except ImportError:
    sys.exit(f"maniple demo needs numpy, which {sys.executable} does not have: run `{sys.executable} -m pip install numpy`, "
             "or name another Python with --python")

# Rows of the glyphs, five pixels each, most significant bit on the left.
GLYPHS = {
    0: (14, 17, 19, 21, 25, 17, 14), 1: (4, 12, 4, 4, 4, 4, 14), 2: (14, 17, 1, 6, 8, 16, 31),
    3: (14, 17, 1, 6, 1, 17, 14), 4: (2, 6, 10, 18, 31, 2, 2), 5: (31, 16, 30, 1, 1, 17, 14),
    6: (6, 8, 16, 30, 17, 17, 14), 7: (31, 1, 2, 4, 8, 8, 8), 8: (14, 17, 17, 14, 17, 17, 14),
    9: (14, 17, 17, 15, 1, 2, 12),
}
SIDE = 12


def pictures(count, seed):
    """count pictures (count, SIDE*SIDE) with values about 0..1, and their labels (count,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    images = np.zeros((count, SIDE, SIDE))
    glyphs = np.array([[[row >> (4 - x) & 1 for x in range(5)] for row in GLYPHS[d]] for d in range(10)], float)
    for image, label in zip(images, labels):
        y, x = rng.integers(2, 4), rng.integers(2, 6)
        image[y:y + 7, x:x + 5] = glyphs[label] * rng.uniform(0.6, 1)
    images += rng.normal(0, 0.15, images.shape)
    return images.reshape(count, -1), labels


class Star:
    """Averages vectors of equal length over all ranks: each sends to rank 0, which answers all."""

    def __init__(self, rank, world, address, port, patience=60):
        self.rank, self.world, self.peers = rank, world, []
        if world == 1:
            return
        if rank == 0:
            server = socket.socket()
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("0.0.0.0", port))
            server.listen(world)
            server.settimeout(patience)
            for _ in range(world - 1):
                peer, _ = server.accept()
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.peers.append(peer)
            server.close()
            return
        end = time.time() + patience
        while True:
            try:
                peer = socket.create_connection((address, port), timeout=patience)
                break
            except OSError:
                if time.time() > end:
                    raise
                time.sleep(0.02)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peers.append(peer)

    def mean(self, vector):
        if self.world == 1:
            return vector
        if self.rank:
            self._send(self.peers[0], vector)
            return self._receive(self.peers[0])
        total = vector.copy()
        for peer in self.peers:
            total += self._receive(peer)
        total /= self.world
        for peer in self.peers:
            self._send(peer, total)
        return total

    def close(self):
        for peer in self.peers:
            peer.close()

    @staticmethod
    def _send(peer, vector):
        data = vector.astype("<f8").tobytes()
        peer.sendall(struct.pack("<Q", len(data)) + data)

    @staticmethod
    def _receive(peer):
        def exactly(size):
            parts = bytearray()
            while len(parts) < size:
                part = peer.recv(size - len(parts))
                if not part:
                    raise ConnectionError("a rank closed its connection")
                parts += part
            return bytes(parts)
        (size,) = struct.unpack("<Q", exactly(8))
        return np.frombuffer(exactly(size), "<f8")


class Torch:
    """The same by torch.distributed."""

    def __init__(self, rank, world, torch):
        self.torch, self.world = torch, world
        torch.distributed.init_process_group("gloo", rank=rank, world_size=world)

    def mean(self, vector):
        tensor = self.torch.from_numpy(vector.copy())
        self.torch.distributed.all_reduce(tensor)
        return tensor.numpy() / self.world

    def close(self):
        """A rank that leaves while another still talks to it can abort in torch's threads."""
        self.torch.distributed.barrier()
        self.torch.distributed.destroy_process_group()


class Network:
    """Two dense layers with a rectifier between; all parameters in one vector."""

    def __init__(self, hidden=64, seed=0):
        rng = np.random.default_rng(seed)
        self.shapes = [(SIDE * SIDE, hidden), (hidden,), (hidden, 10), (10,)]
        self.parameters = np.concatenate([rng.normal(0, (2 / s[0]) ** 0.5 if len(s) == 2 else 0, s).ravel() for s in self.shapes])

    def parts(self, vector):
        start = 0
        for shape in self.shapes:
            size = int(np.prod(shape))
            yield vector[start:start + size].reshape(shape)
            start += size

    def logits(self, images):
        w1, b1, w2, b2 = self.parts(self.parameters)
        hidden = np.maximum(images @ w1 + b1, 0)
        return hidden, hidden @ w2 + b2

    def gradient(self, images, labels):
        """Mean cross entropy of the batch and its gradient as one vector."""
        _, _, w2, _ = self.parts(self.parameters)
        hidden, logits = self.logits(images)
        logits = logits - logits.max(1, keepdims=True)
        chance = np.exp(logits)
        chance /= chance.sum(1, keepdims=True)
        rows = np.arange(len(labels))
        loss = -np.log(chance[rows, labels] + 1e-12).mean()
        chance[rows, labels] -= 1
        chance /= len(labels)
        back = (chance @ w2.T) * (hidden > 0)
        return loss, np.concatenate([g.ravel() for g in (images.T @ back, back.sum(0), hidden.T @ chance, chance.sum(0))])


def ranks():
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if os.environ.get("MANIPLE_DEMO_TORCH", "1") != "0":
        try:
            import torch
            import torch.distributed
            return rank, world, Torch(rank, world, torch), f"torch {torch.__version__}"
        except ImportError:
            pass
    address, port = os.environ.get("MASTER_ADDR", "127.0.0.1"), int(os.environ.get("MASTER_PORT", 0))
    return rank, world, Star(rank, world, address, port), f"numpy {np.__version__}"


def main(epochs=8, steps=60, batch=64):
    start = time.time()
    rank, world, group, by = ranks()
    images, labels = pictures(steps * batch, seed=1000 + rank)
    held, held_labels = pictures(1000, seed=7)
    network = Network()
    velocity = np.zeros_like(network.parameters)
    print(f"rank {rank} of {world} on {socket.gethostname()}, {by}", flush=True)
    for epoch in range(1, epochs + 1):
        order = np.random.default_rng(epoch).permutation(len(labels)).reshape(steps, batch)
        losses = []
        for rows in order:
            loss, gradient = network.gradient(images[rows], labels[rows])
            both = group.mean(np.append(gradient, loss))
            velocity = 0.9 * velocity - 0.1 * both[:-1]
            network.parameters += velocity
            losses.append(both[-1])
        if rank == 0:
            right = (network.logits(held)[1].argmax(1) == held_labels).mean()
            print(f"epoch {epoch}/{epochs}  loss {np.mean(losses):.3f}  held-out accuracy {right:.3f}", flush=True)
    group.close()
    if rank == 0:
        print(f"{world} rank{'s' * (world > 1)} trained on {world * steps * batch} pictures in {time.time() - start:.1f} s", flush=True)
        if right < 0.9:
            sys.exit("the network did not learn: accuracy under 0.9")


if __name__ == "__main__":
    main()
