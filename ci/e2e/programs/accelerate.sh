#!/bin/bash
# `accelerate launch` on CPUs starts one process; one launch per rank takes rank and address from the launcher.
exec accelerate launch --cpu --num_machines="$WORLD_SIZE" --machine_rank="$RANK" --num_processes="$WORLD_SIZE" \
  --main_process_ip="$MASTER_ADDR" --main_process_port="$MASTER_PORT" --mixed_precision=no --dynamo_backend=no \
  --num_cpu_threads_per_process=1 "$(dirname "$0")/accelerated.py"
