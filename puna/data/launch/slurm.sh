#!/bin/bash
# One array job a step: shard i of @SHARDS@; each step waits until every shard of the one before has succeeded.
# Start it with: bash THIS_FILE. Options of sbatch (partition, time, memory) go into SBATCH_OPTIONS.
set -euo pipefail
after=""
for step in @STEPS@; do
  job=$(sbatch --parsable ${SBATCH_OPTIONS:-} $after --job-name="puna-$step" --array=0-@LAST@ --cpus-per-task=1 \
    --mem=2G --requeue --wrap "puna data run '@RECIPE@' --out '@OUT@' --step '$step' --shard \$SLURM_ARRAY_TASK_ID/@SHARDS@")
  echo "$step: job $job"
  after="--dependency=afterok:$job"
done
