#!/usr/bin/env bash
# Everything that waits for a CUDA GPU, in one go, from the root of a checkout with the package and its [test] extra installed:
#   bash benchmarks/gpu.sh FOLDER
# leaves in FOLDER: the report of the GPU tests, the speed-to-quality table with its baselines, weights retrained with more
# steps and judged, and the lessons that use a GPU executed in the gpu profile. Copy weights, tables and notebooks over those
# that ship; but section 7 of lesson 07 speaks of patch sizes on a CPU, so write it anew before you replace that table.
set -euo pipefail
out=${1:?"say where the results go: bash benchmarks/gpu.sh FOLDER"}
mkdir -p "$out"
python -c 'import torch; assert torch.cuda.is_available(), "torch sees no CUDA device"'

nvidia-smi > "$out/machine.txt"
python -m pytest tests/test_gpu.py -v 2>&1 | tee "$out/tests.txt"
python benchmarks/speed_to_quality.py --seconds 60 --samples 10000 --baseline-samples 10000 \
  --json "$out/speed_to_quality.json" 2>&1 | tee "$out/speed_to_quality.txt"
python -m labkit retrain mnist-unet --steps 60000 --checkpoint "$out/mnist-unet.pt" 2>&1 | tee "$out/retrain.txt"
python -m labkit measure mnist-unet 2>&1 | tee "$out/measure.txt"
python -m labkit sweep mnist-unet 2>&1 | tee "$out/sweep.txt"
python -m labkit retrain mnist-dit --steps 60000 --checkpoint "$out/mnist-dit.pt" 2>&1 | tee -a "$out/retrain.txt"
python -m labkit measure mnist-dit 2>&1 | tee -a "$out/measure.txt"
cp labkit/assets/mnist-{unet,dit}* "$out"
LABKIT_PROFILE=gpu python -m jupyter nbconvert --to notebook --execute --output-dir "$out" \
  --ExecutePreprocessor.store_widget_state=False --ExecutePreprocessor.record_timing=False notebooks/0[4567]_*.ipynb
python -m labkit patches --seconds 60 --n 2000 2>&1 | tee "$out/patches.txt"
cp labkit/assets/mnist-dit-patches.csv* "$out"
