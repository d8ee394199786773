# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # gpsweep in five minutes
#
# A *Guided Perturbation* pushes the input of a trained network by ε along the network's own error signal,
# and predicts again: $z_\varepsilon = f(x + \varepsilon \cdot \mathrm{sign}(g))$. Does that help *your*
# network? For which ε? gpsweep answers with the whole curve, for little more than a forward pass a point.
#
# Everything here runs on a CPU from an empty folder; nothing is downloaded.

# %%
import subprocess
import sys

import matplotlib.pyplot as plt
import torch
from hydra import compose, initialize_config_dir

from gpsweep import results
from gpsweep.config import conf_folder, instance, register
from gpsweep.data.batch import collate
from gpsweep.engine import curve
from gpsweep.models.build import build
from gpsweep.tally import Tally

# %% [markdown]
# ## A network and a few images
#
# The configuration that the command uses is at hand in Python as well. The embedded default is a small
# segmentation network and scenes of handwritten digits, both part of the package.

# %%
register()
with initialize_config_dir(conf_folder(), version_base="1.3"):
    cfg = compose("config", ["data.limit=24"])

scenes = instance(cfg.data.source, "data.source")
net = build(cfg.model, classes=len(scenes.classes))
batch = collate([scenes[i] for i in range(len(scenes))])
print(tuple(batch["image"].shape), tuple(batch["target"].shape))

# %%
figure, axes = plt.subplots(2, 4, figsize=(10, 4), layout="constrained")
for i, (above, below) in enumerate(axes.T):
    above.imshow(batch["image"][i].permute(1, 2, 0) / 255)
    below.imshow(batch["target"][i], cmap="tab20", vmin=0, vmax=19)
for axis in axes.flat:
    axis.set_axis_off()

# %% [markdown]
# ## The engine: any `nn.Module`, a few lines
#
# `curve` takes a network, a batch and lists; the lists multiply. It yields each point with its logits. All ε
# share one forward and one backward pass. Here the network takes grey levels 0–255, so that is the unit of ε.

# %%
found = list(curve(net, batch["image"], eps=[-1, -0.5, 0, 0.5, 1], label=["argmax", "uniform"]))
for point, logits in found[:3]:
    print(point.label, point.eps, tuple(logits.shape))

# %% [markdown]
# Your own network serves as well as ours, with inner layers by their module paths. It needs evaluation mode,
# and nothing else.

# %%
mine = torch.nn.Sequential(
    torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(inplace=True), torch.nn.Conv2d(8, 5, 1)
).eval()
for point, logits in curve(mine, torch.rand(2, 3, 16, 16), eps=[0, 0.1], layer=["input", "1"]):
    print(point.layer, point.eps, logits.argmax(1).float().mean().item())

# %% [markdown]
# ## From logits to a curve
#
# A `Tally` turns predictions into integer counts per image and class: true positives, false positives and
# false negatives. Every score comes from sums of those.

# %%
tally = Tally(batch["target"], classes=len(scenes.classes), channels=found[0][1].shape[1])


def miou(predicted: torch.Tensor) -> float:
    """Mean IoU in % over the classes that occur."""
    counts = tally(predicted).sum(0)
    union = counts.sum(-1)
    return 100 * (counts[:, 0] / union)[union > 0].mean().item()


eps = [round(-1 + 0.1 * i, 1) for i in range(21)]
labels = ["argmax", "random_onehot", "uniform", "top2"]
scores: dict[str, list[float]] = {label: [] for label in labels}
for point, logits in curve(net, batch["image"], eps, labels, sample_ids=batch["ids"]):
    scores[point.label].append(miou(logits.argmax(1)))

# %%
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for label, values in scores.items():
    axis.plot(eps, values, label=label)
axis.axhline(scores["argmax"][eps.index(0)], color="grey", linewidth=0.8, linestyle="--")
axis.set(xlabel="ε, grey levels", ylabel="mIoU, %", title=f"{len(scenes)} scenes")
_ = axis.legend(frameon=False)

# %% [markdown]
# ## The command: the same with intervals, tables and a report
#
# In a terminal it is one line, and with other values for `model=` and `data=` it is your network and your
# images:
#
# ```
# python -m gpsweep -m 'eps=range(-1,1.1,0.1)' label=argmax,uniform data.limit=24
# ```

# %%
command = ["-m", "gpsweep", "-m", "eps=range(-1,1.1,0.1)", "label=argmax,uniform", "data.limit=24"]
done = subprocess.run(
    [sys.executable, *command, "hydra.sweep.dir=outputs/quickstart"], capture_output=True, text=True
)
print(done.stdout or done.stderr)

# %% [markdown]
# ## The results, labelled
#
# `results.load` takes a run's folder, a folder of runs, or several, and gives an `xarray.Dataset`.

# %%
results.load("outputs/quickstart")

# %%
run = results.load("outputs/quickstart").squeeze(drop=True)
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for label in run.label.values:
    line = run.sel(label=label)
    axis.fill_between(run.eps, line.delta_low, line.delta_high, alpha=0.15)
    line.delta.plot(ax=axis, label=str(label))
axis.axhline(0, color="grey", linewidth=0.8, linestyle="--")
axis.set(xlabel="ε, grey levels", ylabel="gain in mIoU, percentage points", title="")
_ = axis.legend(frameon=False)

# %% [markdown]
# The best ε of each label, and the class that gains most there:

# %%
for label in run.label.values:
    line = run.sel(label=label)
    best = line.sel(eps=line.score.idxmax("eps"))
    change = (best.iou - best.class_base).fillna(0)
    gains = change.idxmax("class").item()
    print(f"{label}: ε = {best.eps.item():g}, {best.delta.item():+.2f} points; most for class {gains}")

# %% [markdown]
# `outputs/quickstart` also holds `report.html`: the curves, the best points and the changes per class on one
# page that needs nothing else.
