# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 9 · What it costs
#
# **Question.** These methods are called *efficient*: they train a hundredth of the parameters, or less. Efficient in what? The study leaves memory
# and time out, and users of PEFT libraries ask again and again why training is neither smaller nor faster
# ([vpt#34](https://github.com/KMnP/vpt/issues/34), [peft#960](https://github.com/huggingface/peft/issues/960)).
#
# **Claim** (ours). The number of trained parameters decides how large the *file* is. It does not decide how much memory and time training takes: few
# trained parameters do not mean proportionally little of either.
#
# **What would refute it.** Over the PEFT methods, memory or time of a training step grows like the number of trained parameters: in logarithms, with
# a slope nearer to 1 than to 0.
#
# **Controls.** *Positive*: the size of the file must have slope 1, or the measure finds nothing. *Negative*: a merged model must cost exactly what the plain
# model does. *Noise*: full fine-tuning is timed against itself.
#
# You need: chapters 1 and 2. Time: 65 minutes with the exercises.

# %% tags=["parameters"]
import os

PROFILE = os.environ.get("PETL_PROFILE", "laptop")
RESULTS = os.environ.get("PETL_RESULTS", "shipped")
RUNS = os.environ.get("PETL_RUNS", "")

# %%
import inspect
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Code, Markdown, display

import petl_core as pc
from petl_core.models.weights import config_of
from petl_core.utils import DATA
from petl_guide import accuracy
from petl_guide import costs as analysis
from petl_guide import runs as select
from petl_guide.exercises import check, is_right
from petl_guide.figures import costs as cost_figures
from petl_guide.figures.style import GREY, INK, WIDTH, applied, look, show, title
from petl_guide.figures.tables import names, table
from petl_guide.results import open_results
from petl_make import costs

results = open_results(PROFILE, RESULTS, RUNS, parts=["tuned"])
plan = results.profile
results.note()

# %% [markdown]
# The accuracies of this chapter (section 9.8) are those of that note. The costs come from elsewhere: measured with `petl_make.costs` on random weights, because no
# cost depends on the values of weights, so that the shape of ViT-B/16 can be measured without having it.

# %%
SHIPPED, SHAPE = DATA / "costs", "vit_base_patch16_224"
if RESULTS == "shipped":
    found, origin = analysis.read(SHIPPED / f"{SHAPE}-cpu.json"), analysis.digest(SHIPPED / f"{SHAPE}-cpu.json")
else:
    settings = costs.Settings(plan.backbone, batch=32, classes=10, steps=3)
    found, origin = costs.measure_all(plan.methods, settings, separate=not results.smoke), "measured by this notebook"
cost, config = analysis.table(found), config_of(found["settings"]["backbone"])
B, backbone = found["settings"]["batch"], found["settings"]["backbone"]
share, machine = analysis.shares(cost), found["environment"]
Markdown(
    f"Costs: the shape of `{backbone}`, batches of {B}, {len(cost)} methods at their default sizes, {found['settings']['precision']}, on one "
    f"{machine['device_name']} ({machine['device']}, threads: {machine['threads']}), torch {machine['versions']['torch']}; file {origin}."
)

# %% [markdown]
# ## 9.1 What a training step must hold
#
# Four things lie in memory at the top of a training step:
#
# | | of which parameters | bytes each (float32) |
# |---|---|---|
# | weights | all | 4 |
# | gradients | those that train | 4 |
# | AdamW's state, two moments | those that train | 8 |
# | saved activations | **none**: they grow with images, tokens, depth and width | 4 |
#
# Training fewer parameters makes the second and the third small. The first stays. What of the fourth?
#
# An operation saves what its derivative needs. A linear layer y = W x needs x for the gradient of W, and W (which is there anyway) for the gradient of x. So
# *freezing W saves x*. But a nonlinear operation needs its input to send gradient through, whether anything in it trains or not: LayerNorm, attention, GELU.
#
# Per token and block, with width D, H heads and a hidden layer of 4 D:

# %%
rows = [
    ("LN1: input, mean, deviation", "D + 2", "D + 2"),
    ("qkv: its input", "D", "–"),
    ("attention: q, k, v, output, one number per head", "4 D + H", "4 D + H"),
    ("proj: its input (the attention output, there already)", "0", "–"),
    ("LN2: input, mean, deviation", "D + 2", "D + 2"),
    ("fc1: its input", "D", "–"),
    ("GELU: its input", "4 D", "4 D"),
    ("fc2: its input", "4 D", "–"),
    ("together", "16 D + H + 4", "10 D + H + 4"),
]
table(pd.DataFrame(rows, columns=["saved", "all of it trains", "gradient only passes through"]))

# %% [markdown]
# That can be checked exactly. PyTorch tells a hook about every tensor that it saves; each storage is counted once.

# %%
Code(inspect.getsource(costs.saving) + "\n\n" + inspect.getsource(costs.saved_activations), language="python")

# %%
mini = config_of("mini")
D, H, N, L = mini.width, mini.heads, 1 + mini.grid**2, mini.depth
trains, passes, top = 16 * D + H + 4, 10 * D + H + 4, 2 * D + 2  # top: the last LayerNorm and its output
images = torch.randn(8, 3, mini.image_size, mini.image_size, generator=torch.Generator().manual_seed(0))


def saved(method: str, images: torch.Tensor = images, **hyper) -> int:
    """Bytes saved by a forward pass of a method on mini."""
    return costs.saved_activations(
        pc.create_model("mini", method, num_classes=10, pretrained=False, **hyper).train(), images
    )


by_hand = {"full": L * trains + top, "bitfit": L * passes + top, "layernorm": L * passes + top, "linear": D}
rows = [(m, 4 * len(images) * N * numbers, saved(m)) for m, numbers in by_hand.items()]
assert all(formula == counted for _, formula, counted in rows)
table(
    pd.DataFrame(rows, columns=["method", "by the formula", "counted"]),
    caption=f"Bytes saved for {len(images)} images on mini",
)

# %%
Markdown(
    f"Equal to the byte. BitFit trains {100 * pc.methods.get('bitfit').count(mini) / pc.methods.get('full').count(mini):.1f} % of what full fine-tuning trains and saves "
    f"**{100 * by_hand['bitfit'] / by_hand['full']:.0f} %** of its activations. However few parameters a method trains, if gradient has to pass the whole frozen network "
    f"the ratio cannot fall below about 10/16 of full fine-tuning's."
)

# %% [markdown]
# ## 9.2 Where does the gradient stop?
#
# Gradient flows from the loss down to the *lowest* thing that trains, and no further. Below it, nothing is saved. So it matters less how much is trained than *how
# deep*. Train one block, each in turn: always the same number of parameters.

# %%
one_block = [saved("selective", part="block", index=(index,)) for index in range(L)]
expected = [4 * len(images) * N * (trains + (L - 1 - index) * passes + top) for index in range(L)]
assert one_block == expected
counts = {pc.methods.get("selective", part="block", index=(i,)).count(mini) for i in range(L)}
assert len(counts) == 1
ladder = pd.DataFrame(
    {"trained block": range(L), "trained parameters": counts.pop(), "saved MB": np.array(one_block) / 1e6}
)
table(ladder, {"saved MB": "{:.2f}"}, "One block of mini, each in turn")

# %%
spread = max(one_block) / min(one_block)
deepest = 1 + (config.depth - 1) * (10 * config.width + config.heads + 4) / (16 * config.width + config.heads + 4)
Markdown(
    f"Equal parameters, {spread:.1f} times the activations between the last block and the first; by the same formula {deepest:.1f} times on `{backbone}` with its {config.depth} blocks "
    "(the final LayerNorm left out)."
)

# %% [markdown]
# Now methods that are small *and* sit everywhere, against two that keep gradient out of the backbone:

# %%
shown = ("linear", "vqt", "vpt_shallow", "bitfit", "lora", "ssf", "full")
live = pd.DataFrame(
    [(m, pc.methods.get(m).count(mini), saved(m) / 1e6, 100 * saved(m) / saved("full")) for m in shown],
    columns=["method", "trained parameters", "saved MB", "% of full"],
)
table(live, {"saved MB": "{:.2f}", "% of full": "{:.0f}"}, f"Saved for {len(images)} images on mini")

# %%
by_name = live.set_index("method")["% of full"]
Markdown(
    f"- **Linear probing** saves next to nothing ({by_name['linear']:.1f} %): no gradient enters the backbone. The trainer goes further and passes each image through the backbone once.\n"
    f"- **VQT** trains tokens in every block, yet saves {by_name['vqt']:.0f} %: its queries read the backbone and nothing flows back through the other tokens. But they read keys and values, "
    "which must be kept.\n"
    f"- **VPT-Shallow** trains a few tokens below everything, and pays for the whole depth: {by_name['vpt_shallow']:.0f} %.\n"
    f"- **SSF** saves {by_name['ssf']:.0f} %: the gradient of a scale needs what was scaled, at every operation. Fewer parameters, *more* activations."
)

# %% [markdown]
# ## 9.3 Every method, exactly
#
# The four parts for each method, in the file of costs. They are equal on every machine, which the tests use.

# %%
exact = cost.sort_values("parameters")
columns = ["method", "parameters", "file", "weights", "activations", "gradients", "optimiser", "memory"]
table(
    exact[columns],
    {c: "{:,.2f}" if c == "file" else "{:,.0f}" for c in columns[2:]},
    f"Trained parameters; the rest in MB. File without the head ({cost['head'].iloc[0]:.2f} MB), batch {B}, {backbone}",
)

# %%
over = (cost["peak"] / cost["memory"] - 1).dropna()
heavy, light = cost.loc[cost["memory"].idxmax()], cost.loc[cost["memory"].idxmin()]
show(
    cost_figures.memory(
        cost,
        f"Training memory at batch {B}: from {light['memory']:,.0f} MB ({title(light['method'])}) to {heavy['memory']:,.0f} MB ({title(heavy['method'])})",
    ),
    "A bar for each method made of weights, saved activations, gradients and optimiser state, with the measured peak as a line.",
)

# %%
Markdown(
    "Nothing was measured in a process of its own here (profile smoke)."
    if over.empty
    else f"The line is what the process really took, measured by the operating system: {100 * over.min():.0f} to {100 * over.max():.0f} % more than the sum (median {100 * over.median():.0f} %). "
    "The difference is what is alive for a moment only, the allocator's slack, and libraries; a peak below the sum means that not all of it was alive at once."
)

# %% [markdown]
# ### The batch decides
#
# Weights, gradients and optimiser state do not depend on the batch, and activations grow in proportion to it. So the exact numbers give any batch size. First,
# is "in proportion" true?

# %%
small, large = (saved("lora", images[:n]) for n in (2, 8))
assert large == 4 * small
fixed = cost["memory"] - cost["activations"]
full = cost["method"] == "full"
batches = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256])
curves = {}
for place, method in cost["method"].items():
    whole = fixed[full].item() + batches * cost.loc[full, "activations"].item() / B
    curves[method] = 100 * (fixed[place] + batches * cost.loc[place, "activations"] / B) / whole
STUDY = 64  # images in a batch of the study
at_study = {m: curve[batches == STUDY].item() for m, curve in curves.items()}
drawn = [m for m in ("linear", "vqt", "selective", "bitfit", "lora", "ssf", "houlsby_adapter") if m in curves]

# %%
with applied():
    fig, ax = plt.subplots(figsize=(WIDTH, 3.2))
    for method in drawn:
        ax.plot(
            batches, curves[method], color=look(method).colour, marker=look(method).marker, ms=4, label=title(method)
        )
    ax.axhline(100, color=GREY, lw=1, ls=":")
    ax.axvline(STUDY, color=INK, lw=0.8, ls="--")
    ax.set_xscale("log", base=2)
    ax.set_xticks(batches, [str(b) for b in batches])
    ax.set(xlabel="images in a batch (dashed: the study's)", ylabel="training memory (% of full)", ylim=(0, None))
    ax.set_title(
        f"BitFit needs {curves['bitfit'][0]:.0f} % of full fine-tuning's memory for one image, {curves['bitfit'][-1]:.0f} % for {batches[-1]}"
    )
    fig.legend(loc="outside lower center", ncols=7)
show(fig, "Training memory as a share of full fine-tuning against the batch size, one line for each of some methods.")

# %%
whole = (fixed[full].item() + STUDY * cost.loc[full, "activations"].item() / B) / 1e3
Markdown(
    f"At {STUDY} images full fine-tuning needs {whole:.1f} GB, and "
    + ", ".join(f"{title(m)} {at_study[m]:.0f} %" for m in drawn)
    + " of it. Small batches are where PEFT saves memory; there, the optimiser's state is most of what there is."
)

# %% [markdown]
# ## 9.4 Parameters, file, memory and time at once
#
# Each method as shares of full fine-tuning, on a logarithmic axis. If cost followed parameters, the marks of a row would lie together.

# %% tags=["signature"]
peft = select.peft(cost["method"])
at_64 = share.assign(memory=share["method"].map(at_study))  # the study's batch, not the one measured
of_peft = at_64[at_64["method"].isin(peft)]
low, high = of_peft[["parameters", "memory", "step"]].min(), of_peft[["parameters", "memory", "step"]].max()
show(
    cost_figures.shares(
        at_64,
        f"PEFT: {low['parameters']:.2g}–{high['parameters']:.2g} % of the parameters, {low['memory']:.0f}–{high['memory']:.0f} % of the memory at batch {STUDY}, {low['step']:.0f}–{high['step']:.0f} % of the time",
    ),
    "For each method four marks on a logarithmic axis: trained parameters, file, training memory and step time as shares of full fine-tuning.",
)

# %% [markdown]
# ## 9.5 Time of a step
#
# Backward does two things in each linear layer: the gradient of the input, and that of the weights. Each is as much work as going forward. Freezing the weights spares
# the second: of three parts, two are left. So by counting operations a step of a method whose gradient goes to the bottom cannot be much faster than two thirds of full
# fine-tuning's, and what a method adds comes on top. (VQT and Selective stop the gradient early, and can be faster.)
#
# Times are measured in rounds: the method, full fine-tuning, the method … and the ratio within each round is taken, because the machine may be busier in one minute than in the next.

# %%
times = cost.sort_values("step_ratio")[["method", "step", "step_ratio", "step_low", "step_high"]].copy()
times["operations"] = (cost["flops"] / cost.loc[full, "flops"].item())[times.index]
times.columns = ["method", "seconds", "ratio to full", "lowest", "highest", "operations"]
form = "{:.3f}" if times["seconds"].max() < 1 else "{:.1f}"
table(
    times,
    {c: form if c == "seconds" else "{:.2f}" for c in times.columns[1:]},
    f"One step of {B} images: median of {found['settings']['rounds']} rounds; operations as a share of full's",
)

# %%
own = times.set_index("method").loc["full"]
through = [m for m in peft if m not in ("vqt", "selective")]
ratios = times.set_index("method").loc[through, "ratio to full"]
slow = list(ratios.index[ratios > own["highest"]])
Markdown(
    f"**Noise control**: full fine-tuning against itself, {own['ratio to full']:.2f} (rounds {own['lowest']:.2f} to {own['highest']:.2f}); differences of that size mean nothing here. "
    f"The {len(through)} methods through which gradient goes to the bottom take {ratios.min():.2f} to {ratios.max():.2f} of the time (median {ratios.median():.2f}) and "
    f"{times.set_index('method').loc[through, 'operations'].min():.2f} to {times.set_index('method').loc[through, 'operations'].max():.2f} of the operations. "
    f"Slower than full fine-tuning beyond the noise: {names(slow)}."
    + (
        " Small operations are quick to count and slow to run: each reads and writes a whole activation."
        if slow
        else ""
    )
)

# %% [markdown]
# ## 9.6 Inference, and merging
#
# After training, what is added either stays, as extra work for every image, or is folded into the weights. Operations and weights of a merged model are compared with those of the plain
# backbone *exactly*: that is the negative control.

# %%
infer = analysis.inference(found)
table(infer, "{:.2f}", "Inference against the plain backbone: median ratio of rounds")

# %%
merged = infer.loc[infer["merged = plain"] != "cannot merge"]
stays, differ = infer.drop(merged.index), merged.loc[merged["more operations (%)"] > 0, "method"].tolist()
assert (merged["merged = plain"] == "exactly").all() and differ
Markdown(
    f"**The control behaves**: all {len(merged)} merged models have exactly the operations and the weights of the plain one. It can fail: before merging, {names(differ)} have more operations. "
    + (
        ""
        if stays.empty
        else f"Not mergeable: {names(stays['method'].tolist())}; attached, these take {stays['time, attached'].min():.2f} to {stays['time, attached'].max():.2f} of the plain time. "
    )
    + f"Merged models range over {merged['time, merged'].min():.2f} to {merged['time, merged'].max():.2f}: what is not 1 there is the noise of timing."
)

# %% [markdown]
# Merging has a price too: a merged model is a whole backbone again. For twenty tasks one keeps twenty backbones, or one backbone and twenty small files, attached.

# %%
plain_mb = found["methods"][0]["plain_weights"] / 1e6
sizes = cost.set_index("method")[["file", "head"]].sum(axis=1)
keep = pd.DataFrame({"method": ["lora", "bitfit"], "one task": [sizes["lora"], sizes["bitfit"]]})
keep["20 tasks, files"] = plain_mb + 20 * keep["one task"]
keep["20 tasks, merged"] = 20 * plain_mb
table(keep, "{:,.1f}", f"MB on disk; the backbone has {plain_mb:,.0f}")

# %% [markdown]
# ## 9.7 The claim, judged
#
# Elasticity: by how many per cent a cost grows when the trained parameters grow by one per cent, over the PEFT methods (slope of logarithms, interval of the regression). 1 is proportional, 0 is no relation; the
# rule takes the side of one half on which the whole interval lies.

# %%
verdicts = analysis.verdicts(share)
forms = dict.fromkeys(verdicts.columns[1:4], "{:.2f}") | dict.fromkeys(verdicts.columns[4:6], "{:.1f}")
table(verdicts, forms, f"Shares in % of full fine-tuning's; {len(peft)} PEFT methods, batch {B}")

# %%
judged = verdicts.set_index("cost")
Markdown(
    f"Training memory: **{judged.loc['training memory', 'verdict']}** (elasticity {judged.loc['training memory', 'elasticity']:.2f}); time of a step: **{judged.loc['time of a step', 'verdict']}** "
    f"({judged.loc['time of a step', 'elasticity']:.2f}). The positive control, the file: {judged.loc['file, head apart', 'elasticity']:.2f}, {judged.loc['file, head apart', 'verdict']}. "
    "The methods are not a random sample of anything, so the interval says how well a line fits, no more."
)

# %% [markdown]
# ## 9.8 Accuracy for the price
#
# **Two experiments in one picture.** Up: mean test accuracy of the tuned methods on the small tasks, with `mini`. Across: costs on the shape named above, at default sizes. What one would like, both from ViT-B/16,
# this chapter does not have. So read it as: *if* the order of methods carried over. The line joins the methods that no other beats in both.

# %%
tuned = select.runs(results.table, "tuned")
scores = accuracy.by_group(tuned)
scores = scores[scores["group"] == accuracy.MEAN].set_index("method")["mean"]
both = cost[cost["method"].isin(scores.index)].copy()
both["accuracy"] = both["method"].map(scores)
ratio = both["merged_ratio"].notna()
both["deployed"] = both["unmerged_ratio"].where(~ratio, 1.0)  # a merged model is the plain one, exactly
both["train"] = 100 * both["step_ratio"]
both["memory_share"] = both["method"].map(at_study)
panels = {
    "parameters": ("trained parameters (0 at the left edge)", True),
    "memory_share": (f"training memory, batch {STUDY} (% of full)", False),
    "train": ("time of a training step (% of full)", False),
    "deployed": ("inference time, merged where possible (plain: 1)", False),
}
fronts = {c: both["method"].iloc[accuracy.pareto(both["accuracy"].tolist(), both[c].tolist())].tolist() for c in panels}
everywhere = [m for m in both["method"] if m != analysis.REFERENCE and all(m in front for front in fronts.values())]
show(
    cost_figures.accuracy_against(
        both, panels, f"Unbeaten by all four prices, besides full fine-tuning: {names(everywhere)}"
    ),
    "Four panels of accuracy against trained parameters, training memory, step time and inference time, a mark for each method.",
)

# %%
Markdown(
    "Unbeaten: "
    + "; ".join(f"by {label.split('(')[0].strip()}: {names(fronts[c])}" for c, (label, _) in panels.items())
    + ". Which price counts depends on who pays: files for a server with many users, memory for one small GPU, inference for a phone. Differences of a point of accuracy between neighbours are within the noise of chapter 4."
)

# %% [markdown]
# ## 9.9 The same on a GPU
#
# A GPU does small operations in parallel and trains in bfloat16, so ratios of time differ there; the exact columns differ only through the number format.

# %%
gpu = SHIPPED / f"{SHAPE}-cuda.json"
command = f"python -m petl_make costs --backbone {SHAPE} --device cuda --precision bf16 --batch {STUDY} --rounds 10 --steps 5 --out data/costs/{gpu.name}"
if gpu.exists():
    there = analysis.read(gpu)
    columns = ["method", "memory", "peak", "step", "step_ratio", "unmerged_ratio", "merged_ratio"]
    display(
        table(
            analysis.table(there)[columns].sort_values("step_ratio"),
            "{:,.2f}",
            f"{there['environment']['device_name']}, batch {there['settings']['batch']}; MB, seconds, ratios; file {analysis.digest(gpu)}",
        )
    )
Markdown(
    ""
    if gpu.exists()
    else f"**Not measured**: no GPU was at hand when this was made, and there is no table to show. On a machine with one, this makes it (then execute the chapter again):\n\n```\n{command}\n```"
)

# %% [markdown]
# ## Exercises
#
# **Exercise 1** (●○○ easy, 5 minutes). How many megabytes (10⁶ bytes, float32) does LoRA of rank 16 on ViT-B/16 add to the file, besides the head and the header?

# %%
answer_1 = None  # MB

# %%
vit_b = config_of("vit_base_patch16_224")
truth_1 = 4 * pc.methods.get("lora", rank=16).count(vit_b) / 1e6
check(answer_1, lambda v: abs(v - truth_1) < 0.005, "4 D r L numbers of 4 bytes")

# %% tags=["hide-cell", "solution"]
solution_1 = 4 * (4 * 768 * 16 * 12) / 1e6
assert is_right(solution_1, lambda v: abs(v - truth_1) < 0.005)
Markdown(f"4 · (4 · 768 · 16 · 12) bytes = **{solution_1:.2f} MB**.")

# %% [markdown]
# **Exercise 2** (●●○ medium, 10 minutes). Full fine-tuning of ViT-B/16 (85.8 million parameters without the head, 197 tokens): from how many images in a batch on do the saved
# activations of the blocks take more memory than weights, gradients and optimiser state together?

# %%
answer_2 = None  # a whole number

# %%
per_image = 4 * 197 * 12 * (16 * 768 + 12 + 4)
truth_2 = math.ceil(16 * pc.methods.get("full").count(vit_b) / per_image)
check(
    answer_2,
    lambda v: v == truth_2,
    "16 bytes for each parameter against 4 · N · L · (16 D + H + 4) bytes for each image",
)

# %% tags=["hide-cell", "solution"]
solution_2 = next(n for n in range(1, 1000) if n * 4 * 197 * 12 * 12304 > 16 * 85_798_656)
assert is_right(solution_2, lambda v: v == truth_2)
Markdown(f"Each image takes {per_image / 1e6:.0f} MB, the rest {16 * 85.8:.0f} MB: from **{solution_2}** images on.")

# %% [markdown]
# **Exercise 3** (●●○ medium, 10 minutes). A colleague freezes the lower half of ViT-B/16's blocks and puts LoRA only into the upper six. By which factor do the saved activations of the blocks shrink,
# compared with LoRA everywhere? (Take LoRA's own as nothing.)

# %%
answer_3 = None  # a factor above 1


# %%
def right_3(v) -> bool:
    return abs(v - 12 / 6) < 0.01


check(answer_3, right_3, "nothing is saved below the lowest trained place; all blocks above it save equally much")

# %% tags=["hide-cell", "solution"]
upper = [
    saved("selective", part="proj", index=tuple(range(start, L))) - 4 * len(images) * N * top for start in (0, L // 2)
]
solution_3 = round(upper[0] / upper[1])
assert is_right(solution_3, right_3) and not is_right(1, right_3)
Markdown(
    f"**{solution_3}**. On mini, training `proj` in the upper half of the blocks instead of all measures {upper[0] / upper[1]:.2f}: a little more, because the attention below the lowest trained place is not saved either, "
    f"and half of {L} blocks is few. LoRA in the *lower* half would have as few parameters and save as many activations as everywhere."
)

# %% [markdown]
# **Exercise 4** (●●● hard, 20 minutes). Write `predict(index, batch)`: the bytes that mini saves for a batch if the blocks in the tuple `index` are trained (`selective`, `part="block"`). It is checked against the hook.

# %%
answer_4 = None  # def answer_4(index, batch): ...


# %%
def right_4(predict) -> bool:
    cases = [((L - 1,), 1), ((0,), 2), ((1, 2), 3), ((0, L - 1), 2), (tuple(range(L)), 1)]
    return all(predict(index, n) == saved("selective", images[:n], part="block", index=index) for index, n in cases)


check(
    answer_4,
    right_4,
    "trained blocks save 16 D + H + 4 for each token, frozen ones above the lowest trained one 10 D + H + 4, the top 2 D + 2",
)


# %% tags=["hide-cell", "solution"]
def solution_4(index: tuple[int, ...], batch: int) -> int:
    above = [trains if block in index else passes for block in range(min(index), L)]
    return 4 * batch * N * (sum(above) + top)


assert is_right(solution_4, right_4)
assert not is_right(lambda index, batch: 4 * batch * N * (len(index) * trains + top), right_4)
Markdown("Right for every choice of blocks and batch, to the byte. Counting the trained blocks only is not.")

# %% [markdown]
# ## Common mistakes
#
# - **A hundredth of the parameters, so a hundredth of the memory.** VPT's authors answer that it needs about as much as full fine-tuning
#   ([vpt#34](https://github.com/KMnP/vpt/issues/34)), and others that gradient still has to pass almost all layers ([adapt-image-models#27](https://github.com/taoyang1122/adapt-image-models/issues/27)). *Notice:* the
#   measured peak hardly falls. *Do:* add up the four parts of section 9.1 before buying anything.
# - **Few parameters, so fast.** LoRA took 29 hours where full fine-tuning took 30.5 ([peft#664](https://github.com/huggingface/peft/issues/664)); the question keeps coming
#   back ([vpt#48](https://github.com/KMnP/vpt/issues/48)). *Notice:* time some steps of each, in turns. *Do:* expect two thirds at best, and more where a method adds work.
# - **Memory at one batch, one length.** A LoRA took *more* memory than full fine-tuning of the same model, on long sequences
#   ([peft#1514](https://github.com/huggingface/peft/issues/1514)). *Notice:* a figure without its batch. *Do:* say batch and tokens; section 9.3 works for any.
#
# ## Limits
#
# - Times are one machine's, one thread's, small batches, float32; others differ, and a GPU differs more (section 9.9).
# - Methods at their default sizes. A LoRA of rank 256 is another method in this respect.
# - No gradient checkpointing, no compiled kernels, no quantised weights: each changes the balance, for full fine-tuning too.
# - The number of steps to a given accuracy is not in here: a method that needs twice the epochs costs twice the time.
# - Accuracy and cost in section 9.8 are from different backbones.

# %%
Markdown(
    f"""## Summary in five lines

1. PEFT trains {low["parameters"]:.2g} to {high["parameters"]:.2g} % of the parameters; files shrink in proportion (elasticity {judged.loc["file, head apart", "elasticity"]:.2f}).
2. That training memory does not is {judged.loc["training memory", "verdict"]} (elasticity {judged.loc["training memory", "elasticity"]:.2f}): {low["memory"]:.0f} to {high["memory"]:.0f} % of full's at batch {STUDY}, BitFit {at_study["bitfit"]:.0f} %; less at smaller batches.
3. What counts is how deep gradient must go: one trained block costs {spread:.1f} times more at the bottom of mini than at the top.
4. A step takes {low["step"]:.0f} to {high["step"]:.0f} % of the time of full fine-tuning's; that it does not follow the parameters is {judged.loc["time of a step", "verdict"]} (elasticity {judged.loc["time of a step", "elasticity"]:.2f}).
5. Merged, {len(merged)} of {len(cost)} methods add exactly nothing to inference; the others stay attached."""
)
