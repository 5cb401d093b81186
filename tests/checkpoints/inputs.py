"""Write the inputs that the old checkpoints were trained on: python inputs.py FOLDER. Equal runs give equal bytes."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_wine


def main():
    folder = Path(sys.argv[1])
    rng = np.random.default_rng(0)
    wine = load_wine()
    lines = ["alcohol,malic_acid,region,tasted,organic,proline,target"]
    for i in rng.permutation(178)[:60].tolist():
        row = wine.data[i]
        cells = [
            f"{row[0]:g}",
            f"{row[1]:g}",
            ["Langhe", "Alba, south", "Roero"][i % 3],
            f"2024-0{1 + i % 9}-1{i % 10}",
        ]
        cells += [["true", "false"][i % 2], f"{row[12]:g}"]
        if i % 7 == 0:
            cells[i % 6] = ""
        lines.append(",".join(f'"{cell}"' if "," in cell else cell for cell in [*cells, str(wine.target[i])]))
    (folder / "wine.csv").write_text("\n".join(lines) + "\n")
    for name in ("icons", "photos"):
        (folder / name).mkdir()
    for i in range(20):
        pixels = rng.integers(0, 256, (6, 7, 4), dtype=np.uint8)
        pixels[:, : i % 7, 3] = 0  # the colour of an invisible pixel, which 0.1 learnt
        Image.fromarray(pixels).save(folder / "icons" / f"{i:02}.png")
        height, width = rng.integers(5, 14, 2).tolist()
        Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8)).save(folder / "photos" / f"{i:02}.png")


main()
