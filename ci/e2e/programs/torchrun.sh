#!/bin/bash
# One torchrun per node, as people write it into their batch scripts: the launcher says who this node is.
exec torchrun --nnodes="$WORLD_SIZE" --node-rank="$RANK" --nproc-per-node="${PER_NODE:-2}" \
  --master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT" "$(dirname "$0")/elastic.py"
