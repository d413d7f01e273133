#!/bin/bash
# One array job a step: shard i of @SHARDS@; each step waits until every shard of the one before has succeeded.
# Start it with: bash THIS_FILE. Options of sbatch (partition, time, memory) go into SBATCH_OPTIONS. After a failure
# start it again: what is done stays done. Keys of an object store come from the environment, which sbatch passes on.
set -euo pipefail
export PUNA_RECIPE=@RECIPE@ PUNA_OUT=@OUT@
after=""
for step in @STEPS@; do
  job=$(sbatch --parsable ${SBATCH_OPTIONS:-} $after --job-name="puna-$step" --array=0-@LAST@ --cpus-per-task=1 \
    --mem=4G --requeue --kill-on-invalid-dep=yes --export="ALL,PUNA_STEP=$step" \
    --wrap 'exec puna data run "$PUNA_RECIPE" --out "$PUNA_OUT" --runner inline --step "$PUNA_STEP" --shard "$SLURM_ARRAY_TASK_ID/@SHARDS@"')
  echo "$step: job $job"
  after="--dependency=afterok:${job%%;*}"
done
