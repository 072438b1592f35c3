#!/bin/bash
# The tiny model on one GPU, from nothing: scripts/train_on_gpu.sh OUT [--tiny-steps]
#
# Trains the six recipes, exports the model and evaluates it; all of it lies in OUT afterwards: runs/, model/ with its card, JSON of
# the VAE's ceiling and of the evaluation, minutes of each recipe, train.log. Needs an environment with this package and torch for CUDA
# (pip install -e ".[train]"), and no network. Killed, the same command goes on. `--recipes gpu` has larger batches and fewer steps than
# the recipes for a CPU (instructx_core/training/recipes/sized.py): another model than that of the CPU, meant to be as good. That it ends
# within ten minutes on an H100-class card with 16 cores is an estimate: it has not run on a GPU yet.
# --tiny-steps: a rehearsal of four steps a recipe on whatever device is there; its model is worth nothing.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 OUT [--tiny-steps]" >&2; exit 2; }
out=$1 rehearsal=${2:-}
python=${PYTHON:-python}
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$out"
case $rehearsal in
    "") options=(--device cuda --recipes gpu) samples=(--images 20 --clips 4) ;;
    --tiny-steps) options=(--rehearse) samples=(--images 1 --clips 1 --tasks color) ;;
    *) echo "unknown option $rehearsal" >&2; exit 2 ;;
esac
workers=${WORKERS:-$(nproc)}
started=$SECONDS
"$python" -m instructx_core train tiny "${options[@]}" --workers "$workers" --output "$out/runs" --to "$out/model" \
    --hardware "${HARDWARE:-one GPU}" 2>&1 | tee -a "$out/train.log"
cp "$out/runs/minutes.json" "$out/minutes.json"
echo "trained: $((SECONDS - started)) seconds"
"$python" "$here/benchmarks/ceiling.py" --world world --run "$out/runs/tiny_vae" "${samples[@]}" --json "$out/ceiling.json"
echo "all: $((SECONDS - started)) seconds"
