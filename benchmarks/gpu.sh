#!/usr/bin/env bash
# Everything that waits for a CUDA GPU, piece by piece, from the root of a checkout with the [test] extra installed:
#   bash benchmarks/gpu.sh FOLDER [PIECE...]
# Pieces, in order of worth (seconds on an H200, ~ where estimated; the time after which each is stopped):
#   tests      37 (100)  tests/test_gpu.py
#   steps     ~90 (120)  what a training step costs: benchmarks/step_time.py
#   screen   ~120 (200)  recipes against each other at 20 s each: benchmarks/screen.py
#   speed10   ~75 (110)  what 10 seconds of training buy, beside lab three, whose samples take a minute to judge
#   unet      115 (200)  mnist-unet trained for 90 s and judged
#   dit       110 (200)  mnist-dit trained for 90 s and judged
#   sweep      45 (200)  both by guidance scale, and the U-Net by solvers
#   speed30  ~160 (200)  30 seconds of training, with the baseline on resident data
#   notebooks ~200 (300) lessons 07 and 06 in the gpu profile
#   compile    55 (120)  torch.compile: benchmarks/step_time.py --compile
# A piece that fails or is stopped does not stop the rest; the end of log.txt says what became of each. FOLDER gets
# log.txt, results.tar.gz and, once they are made, unet.tar, dit.tar and notebooks.tar.gz, renewed after every piece.
# Weights, cards and tables are also written over those in labkit/assets. GPU_SH_TINY=1 makes every number tiny and needs
# no GPU: a rehearsal, whose weights are worth nothing, so run it in a clone. PYTHON names the interpreter (python3).
set -uo pipefail
out=${1:?"say where the results go: bash benchmarks/gpu.sh FOLDER [PIECE...]"}
shift
[ $# -gt 0 ] || set -- tests steps screen speed10 unet dit sweep speed30 notebooks compile
python=${PYTHON:-python3} tiny=${GPU_SH_TINY:-} work=$(mktemp -d) summary=()
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$out" "$work/json" "$work/notebooks"
exec > >(tee -a "$out/log.txt") 2>&1
tee=$!

say() { [ -n "$tiny" ] && echo "$2" || echo "$1"; } # say WHOLE TINY: the one or the other number
lk() { "$python" -m labkit "$@"; }

tests() { "$python" -m pytest tests/test_gpu.py -v -n 0 -p no:cacheprovider; }
steps() { # shellcheck disable=SC2046
  "$python" benchmarks/step_time.py --batches $(say "128 512 2048" 4) --seconds "$(say 2 0.05)" --json "$work/json/steps.json"
}
compile() { # shellcheck disable=SC2046
  "$python" benchmarks/step_time.py --compile --batches $(say 512 4) --seconds "$(say 2 0.05)" --json "$work/json/compile.json"
}
screen() { # shellcheck disable=SC2046
  "$python" benchmarks/screen.py $(say "wide-512-muon wide-512 small-512" cpu-muon-28) --seconds "$(say 20 1)" --samples "$(say 10000 10)" --json "$work/json/screen.json"
}
train() { # NAME LR
  if [ -n "$tiny" ]; then
    lk retrain "$1" --seconds 2 --batch-size 8 --lr "$2" && "$python" -c "
from labkit.course.commands.measure import headlines
print(headlines('$1', n=20, steps=1).details['measured'])"
  else
    lk retrain "$1" --seconds 90 --batch-size 512 --lr "$2" && lk measure "$1"
  fi
}
unet() { train mnist-unet 6e-3; }
dit() { train mnist-dit 2e-3; }
speed() { # SECONDS [OPTION...]
  "$python" benchmarks/speed_to_quality.py --seconds "$(say "$1" 2)" --samples "$(say 10000 10)" \
    --baseline-samples "$(say 2000 10)" --json "$work/json/speed$1.json" "${@:2}"
}
speed10() { speed 10 --only labkit --only lab3; }
speed30() { speed 30; }
sweep() {
  for name in mnist-unet mnist-dit; do
    if [ -n "$tiny" ]; then
      "$python" benchmarks/guidance_table.py "$name" --samples 20 --steps 1 --draws 2 --scales 1 3 --other-scales 3 || return
    else
      "$python" benchmarks/guidance_table.py "$name" || return
    fi
  done
  [ -n "$tiny" ] || "$python" benchmarks/last_step.py mnist-unet
}
notebooks() { # 07 first: it is the shorter one. The kernel is this very interpreter
  "$python" -m ipykernel install --prefix "$work/kernel" --name python3 > "$work/kernel.txt" 2>&1 || { cat "$work/kernel.txt"; return 1; }
  JUPYTER_PATH="$work/kernel/share/jupyter${JUPYTER_PATH:+:$JUPYTER_PATH}" LABKIT_PROFILE=$(say gpu fast) \
    PYDEVD_DISABLE_FILE_VALIDATION=1 "$python" - "$work/notebooks" notebooks/07_*.ipynb notebooks/06_*.ipynb << 'CODE'
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

failed = False
for lesson in map(Path, sys.argv[2:]):
    began, notebook = time.perf_counter(), nbformat.read(lesson, as_version=4)
    kernel = notebook.metadata.kernelspec
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", store_widget_state=False, record_timing=False)
    try:
        client.execute(cwd="notebooks")
    except Exception as error:
        failed = True
        print(f"{lesson}: {error}")
    notebook.metadata.kernelspec = kernel
    nbformat.write(notebook, Path(sys.argv[1]) / lesson.name)
    last = [o.get("text", "") for c in notebook.cells if c.cell_type == "code" for o in c.outputs if o.output_type == "stream"]
    print(f"{lesson}: {time.perf_counter() - began:.0f} s\n{last[-1] if last else ''}", flush=True)
sys.exit(failed)
CODE
}

pack() { # each archive is whole before it takes the place of the one before
  local assets=labkit/assets
  tar czf "$work/a" -C "$work" json -C "$PWD/$assets" $(cd $assets && ls -- *.json *.csv) && mv "$work/a" "$out/results.tar.gz"
  for name in unet dit; do
    [ "$assets/mnist-$name.safetensors" -nt "$work/started" ] || continue # what shipped is no result
    tar cf "$work/a" -C $assets "mnist-$name.safetensors" "mnist-$name.safetensors.json" && mv "$work/a" "$out/$name.tar"
  done
  [ -z "$(ls "$work/notebooks")" ] || { tar czf "$work/a" -C "$work" notebooks && mv "$work/a" "$out/notebooks.tar.gz"; }
}

declare -A limit=([tests]=100 [steps]=120 [screen]=200 [unet]=200 [speed10]=110 [speed30]=200 [dit]=200 [sweep]=200 [notebooks]=300
  [compile]=120)
piece() { # runs in a shell of its own, which timeout can stop with all that it started
  local began=$SECONDS code
  export python tiny work out
  export -f say lk train speed "$1"
  echo "=== $1 ($(date +%T), at most ${limit[$1]} s)"
  timeout -k 10 "${limit[$1]}" bash -c "$1"
  code=$?
  [ $code -eq 124 ] && echo "$1 was stopped after ${limit[$1]} s"
  [ $code -eq 0 ] || echo "$1 FAILED with exit code $code; on with the rest"
  summary+=("$(printf '%-10s exit %3d  %4d s' "$1" $code $((SECONDS - began)))")
  pack
}

touch "$work/started"
date
nvidia-smi 2> /dev/null | head -20
"$python" -c 'import sys, torch; print(sys.version, torch.__version__, torch.cuda.is_available())'
if [ -z "$tiny" ]; then
  "$python" -c 'import torch; assert torch.cuda.is_available(), "torch sees no CUDA device"' || exit 1
fi
for name in "$@"; do
  if [ -n "${limit[$name]:-}" ]; then piece "$name"; else summary+=("$name: no piece is called so"); fi
done
echo "=== what became of each"
printf '%s\n' "${summary[@]}"
rm -rf "$work"
exec >&- 2>&-
wait $tee
