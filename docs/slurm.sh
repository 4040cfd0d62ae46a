#!/usr/bin/env bash
# A SLURM job array: each task computes its shard of an experiment, and requeues itself when its time is up or it is
# preempted. Submit it from the folder that holds the results:
#
#     sbatch --array=0-7 docs/slurm.sh 8 pairwise --scale cifar10
#
#SBATCH --job-name=ablation
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120

shard="$SLURM_ARRAY_TASK_ID/$1" # keep the number of shards when you submit some of them again
shift

again() {
  kill -TERM "$run" && wait "$run"
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
  exit 0
}
trap again TERM

ablation run "$@" --shard "$shard" &
run=$!
wait "$run"
