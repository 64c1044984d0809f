"""The encoder's step in masked pre-training by MinkowskiEngine and by the default backend, side by side on a CPU.

    python benchmarks/minkowski_step.py --sizes T B

For an environment that has MinkowskiEngine, in which little else of what this package needs may be installable; so it
imports the networks only. Forward and backward at 1×128³, 60 % masked, with the coordinate maps made anew for each mask
as in training. Prints JSON and writes it to benchmarks/results/minkowski_step.json.
"""

import argparse
import json
import platform
import statistics
import subprocess
import time
from pathlib import Path

import MinkowskiEngine
import torch

from adnext_plugin.networks.families.adnext import ADNeXtEncoder
from adnext_plugin.pretraining.masked_autoencoder.sparse.gathered import encode_gathered
from adnext_plugin.pretraining.masked_autoencoder.sparse.minkowski import encode_minkowski
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_patches import VisiblePatches
from adnext_plugin.pretraining.masks import draw_visible

SIZES = {"T": ((2, 2, 6, 2), (16, 32, 64, 128)), "B": ((3, 3, 27, 3), (64, 128, 256, 512))}
WAYS = ("halo", "halo", "scatter", "scatter")
RESULT = Path(__file__).parent / "results" / "minkowski_step.json"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    rows = []
    for size in arguments.sizes:
        torch.manual_seed(0)
        encoder = ADNeXtEncoder(1, *SIZES[size]).train()
        images, seconds, features = torch.randn(1, 1, 128, 128, 128), {"gathered": [], "minkowski": []}, {}
        for repeat in range(arguments.repeats + 1):
            patches = VisiblePatches(draw_visible((4, 4, 4), 0.6, [(repeat,)]), torch.device("cpu"))
            for name in seconds:
                encoder.zero_grad(set_to_none=True)
                started = time.perf_counter()
                if name == "gathered":
                    features[name] = encode_gathered(encoder, images, patches, WAYS)
                else:
                    features[name] = encode_minkowski(encoder, images, patches)
                features[name].sum().backward()
                if repeat:  # the first is the warm-up
                    seconds[name].append(time.perf_counter() - started)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        difference = (features["gathered"] - features["minkowski"]).abs().max() / features["gathered"].abs().max()
        rows.append(
            {
                "size": size,
                "median_seconds": medians,
                "all_seconds": seconds,
                "speed_up_of_gathered": medians["minkowski"] / medians["gathered"],
                "largest_relative_difference_of_features": difference.item(),
            }
        )
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    made_by = {
        "commit": commit.stdout.strip(),
        "device": platform.machine(),
        "torch": torch.__version__,
        "minkowski_engine": MinkowskiEngine.__version__,
    }
    report = {"made_by": made_by, "threads": torch.get_num_threads(), "rows": rows}
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
