#!/bin/sh
# An ordinary program that knows of no library: leaves a file per process that says who it was.
# Usage: plain.sh FOLDER [EXIT-CODE]
id=${RANK:-driver}
env | grep -E '^(RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|NODE_RANK|MASTER_ADDR|MASTER_PORT|OMP_NUM_THREADS|CUDA_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES|SLURM_.*|PMI.*|SRUN_.*|MANIPLE_.*|GREETING)=' | sort > "$1/env.$id"
echo "$(hostname) $(pwd)" > "$1/where.$id"
echo "plain $id on $(hostname)"
exit "${2:-0}"
