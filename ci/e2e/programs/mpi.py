"""A program that uses MPI where it finds itself: alone in a rank, or one of mpirun's."""

import os
import socket

from mpi4py import MPI

world = MPI.COMM_WORLD
total = world.allreduce(world.rank)
print(f"mpi {world.rank} of {world.size}, rank {os.environ.get('RANK', '-')} of {os.environ.get('WORLD_SIZE', '-')} on {socket.gethostname()}, sum {total}", flush=True)
