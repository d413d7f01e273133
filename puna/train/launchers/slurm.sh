#!/bin/bash
# @NODES@ nodes of @GPUS@ GPUs train one model. Start it with: sbatch THIS_FILE. It is the same job when it is preempted or
# its time is up: two minutes before, every rank is told, finishes its step and saves, and the job queues again.
# What every node must see: the recipe, its shards and the run. A node that is lost ends the job's step, and the job
# queues again too.
#SBATCH --job-name=puna-train
#SBATCH --nodes=@NODES@
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=@GPUS@
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -uo pipefail
RECIPE=@RECIPE@ OUT=@OUT@
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4} PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1  # ranks that are started again must not read the addresses of those before
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=110  # seconds that torchrun leaves to ranks to save (from torch 2.12 on; 30 before)
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
turn=${SLURM_RESTART_COUNT:-0}
told=""
trap 'told=yes; kill -TERM "$ranks"' TERM  # srun hands it to torchrun, torchrun to the ranks
srun --kill-on-bad-exit=1 torchrun --nnodes @NODES@ --nproc-per-node @RANKS@ --max-restarts 3 \
  --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID.$turn" --rdzv-endpoint "$first:$((20000 + SLURM_JOB_ID % 40000))" \
  --log-dir "$OUT/ranks/$SLURM_JOB_ID.$turn" --tee 3 --local-ranks-filter 0 \
  -m puna.cli.main train "$RECIPE" --out "$OUT" &
ranks=$!
wait "$ranks"
code=$?
while kill -0 "$ranks" 2>/dev/null; do wait "$ranks"; code=$?; done  # a signal cuts `wait` short
if [ -n "$told" ] && [ "$code" -ne 0 ]; then
  exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
