#!/bin/bash
# The tiny model on one GPU, from nothing: scripts/train_on_gpu.sh OUT [--tiny-steps]
#
# Trains the six recipes, exports the model and evaluates it. OUT holds all of it then: runs/, model/ with its card, evaluation.json,
# ceiling.json (of the VAE), minutes.json (of each recipe), train.log. Needs this package and a torch for CUDA in the environment of
# $PYTHON (default: python), and no network. Killed, the same command goes on.
#
# `--recipes gpu` has larger batches, fewer steps and smaller pools than the recipes for a CPU, so it makes another model
# (instructx_core/training/recipes/sized.py). Training is meant to end within ten minutes on an H100-class card with 16 cores, which draw
# the samples in $WORKERS processes (default: one a core). That is an estimate: it has not run on a GPU yet.
#
# --tiny-steps: a rehearsal of four steps a recipe on whatever device is there. Its model is worth nothing.
set -euo pipefail
usage="usage: $0 OUT [--tiny-steps]"
[ $# -ge 1 ] && [ $# -le 2 ] || { echo "$usage" >&2; exit 2; }
out=$1
case ${2:-} in
    "") options=(--device cuda --recipes gpu) ceiling=(--images 20 --clips 4) evaluation=() ;;
    --tiny-steps)
        options=(--rehearse) ceiling=(--tasks color --images 1 --clips 1)
        evaluation=(--groups images --images 12 --clips 0 --steps 1) ;;
    *) echo "$usage" >&2; exit 2 ;;
esac
python=${PYTHON:-python}
here=$(cd "$(dirname "$0")/.." && pwd)
runs=$out/runs model=$out/model hardware=${HARDWARE:-one GPU}
mkdir -p "$out"
export OPENBLAS_NUM_THREADS=1  # of each worker: there is one a core
train() { "$python" -m instructx_core train "$@" --output "$runs" --to "$model" --hardware "$hardware"; }

train tiny "${options[@]}" --workers "${WORKERS:-$(nproc)}" 2>&1 | tee -a "$out/train.log"
cp "$runs/minutes.json" "$out/minutes.json"
"$python" "$here/benchmarks/ceiling.py" --world world --run "$runs/tiny_vae" "${ceiling[@]}" --json "$out/ceiling.json"
"$python" -m instructx_core eval world --model "$model" "${evaluation[@]}" --json "$out/evaluation.json" --resume
train card --evaluation "$out/evaluation.json"
cat "$out/minutes.json"
