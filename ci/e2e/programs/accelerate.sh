#!/bin/bash
# One `accelerate launch` per node, with the machines' number and rank from the launcher.
per=${PER_NODE:-1}
exec accelerate launch --cpu --num_machines="$WORLD_SIZE" --machine_rank="$RANK" --num_processes=$((WORLD_SIZE * per)) \
  --main_process_ip="$MASTER_ADDR" --main_process_port="$MASTER_PORT" --mixed_precision=no --dynamo_backend=no \
  --num_cpu_threads_per_process=1 "$(dirname "$0")/accelerated.py"
