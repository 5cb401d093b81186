#!/usr/bin/env bash
# Train the checkpoints that every later version reads, and embed their data: make.sh VERSION
# Run once by each version that changes what a checkpoint holds. The files are committed, and never made anew.
set -euo pipefail
cd "$(dirname "$0")"
mkdir "$1" && cd "$1"

aecli train digits --hidden-dims 16 --epochs 20 -o digits.safetensors -q
aecli train digits --recipe classic --hidden-dims 16 --latent-dim 4 --epochs 5 -o classic.safetensors -q
aecli train ../inputs/wine.csv --label target --categorical region --missing mean --hidden-dims 8 -o wine.safetensors -q
aecli train ../inputs/icons --hidden-dims 8 -o icons.safetensors -q
aecli train ../inputs/photos --image-size 8x6 --hidden-dims 8 -o photos.safetensors -q

for model in digits classic; do
    aecli reconstruct $model.safetensors digits -q | head -n 6 > $model-rebuilt.csv
    aecli embed $model.safetensors digits -q | head -n 101 > $model.csv
done
for data in wine.csv icons photos; do
    aecli embed "${data%.csv}.safetensors" "../inputs/$data" -q -o "${data%.csv}.csv"
    aecli reconstruct "${data%.csv}.safetensors" "../inputs/$data" -q -o "${data%.csv}-rebuilt.csv"
done

# A run that was stopped: what --resume finds beside a checkpoint that is to be.
aecli train digits --hidden-dims 4 --latent-dim 2 --epochs 2000 -o stopped.safetensors -q &
sleep 6
kill -INT $!
wait $! || test $? = 130
