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
# # 7 · Why it works: capacity and regularisation
#
# **Question.** Why do methods that train so little do so well: because they can do much, or because they are held back?
#
# **Claim** (the study's fourth finding). PEFT works because it joins high capacity with an effective regulariser: it can fit what linear
# probing cannot, and it is held back from over-fitting as full fine-tuning is not.
#
# **What would refute it.** (a) PEFT does not fit the training images better than linear probing. (b) Its gap between training and test
# accuracy is no smaller than that of full fine-tuning. (c) Where PEFT is ahead, full fine-tuning that is held back *explicitly* does not catch
# up: then its advantage was not one of regularisation.
#
# **Control.** Two explicit regularisers of full fine-tuning, with as many trials as everything else. The study inferred the
# mechanism from accuracies; nobody regularised the method that was said to lack it.
#
# The claim explains an advantage of PEFT over full fine-tuning. Where no setting has one (section 7.4), this chapter cannot judge it,
# and what stands is what sections 7.2 and 7.3 measure.
#
# You need: chapters 2, 4 and 6. Time: 50 minutes with the exercises.

# %% tags=["parameters"]
import os

PROFILE = os.environ.get("PETL_PROFILE", "laptop")
RESULTS = os.environ.get("PETL_RESULTS", "shipped")
RUNS = os.environ.get("PETL_RUNS", "")

# %%
import inspect
import textwrap
from importlib import import_module

import numpy as np
import pandas as pd
import torch
from IPython.display import Code, Markdown, display

import petl_core as pc
from petl_core.study import measures
from petl_core.study.profile import HELD_BACK
from petl_guide import ledger, mechanism
from petl_guide.claims import table as claims
from petl_guide.exercises import check, is_right
from petl_guide.figures import sweep as sweep_figures
from petl_guide.figures.style import show
from petl_guide.figures.tables import direction, points, table
from petl_guide.results import open_results

results = open_results(PROFILE, RESULTS, RUNS, parts=["mechanism"])
plan = results.profile
results.note()

# %%
found = mechanism.runs(results.table, results.records)
means = mechanism.means(found)
tasks = {task: f"{task} ({group})" for task, group in zip(found["task"], found["group"], strict=True)}
amounts = sorted(set(found["images"]))
small = mechanism.small(found)
settings = means.groupby(mechanism.SETTING).ngroups
Markdown(
    f"{len(found)} runs: {', '.join(sweep_figures.kind_look(k)[2] for k in dict.fromkeys(found['kind']))}, on {settings} settings: {' and '.join(tasks)} with "
    f"{' and '.join(f'{n:,}' for n in amounts)} training images, {found['seed'].nunique()} seeds each."
)

# %% [markdown]
# ## 7.1 Two ways to hold full fine-tuning back
#
# A regulariser keeps the solution near something. PEFT is said to keep it near the pre-trained weights: a low-rank step, a narrow
# branch, a shift. Section 7.3 measures whether it does. Full fine-tuning can be told the same in two explicit ways.
#
# **L2-SP** ([Li et al., 2018](https://arxiv.org/abs/1802.01483)). After each step of rate η every weight is pulled back
# towards its pre-trained value w₀: w ← w + ηβ(w₀ − w). With β = 0 it is plain fine-tuning; as ηβ nears 1 nothing moves but the head.
# (Ordinary weight decay pulls towards zero instead, away from what a pre-trained weight knows.)
#
# **Layer-wise rates.** Block l of L learns at η·d^(L + 1 − l), the embeddings at η·d^(L + 1), the head at η. With d = 1 it is plain fine-tuning; as d nears 0 it
# is linear probing.

# %%
task = pc.load_task(next(iter(tasks)) if results.embedded else "orientation@100")
live = plan.backbone if results.embedded else "mini"  # what is run here is small
rows = []
for name, changes in {
    "plain": {},
    "L2-SP, weak": {"l2_sp": HELD_BACK["l2_sp"][0]},
    "L2-SP, strong": {"l2_sp": 1e9},
    "layer-wise rates": {"layer_decay": min(HELD_BACK["layer_decay"])},
}.items():
    model = pc.create_model(live, "full", num_classes=task.num_classes)
    recipe = pc.Recipe(lr=1e-3, epochs=1, batch_size=32, **changes)
    run = pc.train(model, task, recipe, max_train=64 if results.smoke else 256, max_evaluate=100)
    moved = measures.displacement(model, task, recipe, 100)
    rows.append((name, run.steps, *moved["weights"]))
blocks = [f"block {i + 1}" for i in range(len(rows[0]) - 2)]
table(
    pd.DataFrame(rows, columns=["", "steps", *blocks]),
    dict.fromkeys(blocks, "{:.4f}"),
    "Relative movement of the weights of each block after a few steps, live",
)

# %% [markdown]
# Both are a few lines of the trainer. The pull is applied after Adam's step, so that Adam's scaling does not undo it, as AdamW does with weight
# decay:

# %%
source = inspect.getsource(import_module("petl_core.training.train")).splitlines()
first = next(i for i, line in enumerate(source) if "optimiser.step()" in line)
Code(textwrap.dedent("\n".join(source[first : first + 3])), language="python")

# %% [markdown]
# Each way has two strengths and two learning rates, so as many trials as every method has:

# %%
picks = results.table[results.table["variant"].isin(mechanism.KINDS) & results.table["method"].eq("full")]
picks = picks.assign(kind=picks["variant"].map(lambda v: mechanism.KINDS[v] or "full")).drop_duplicates(
    ["task", "kind"]
)
table(
    picks[["task", "kind", "lr", "l2_sp", "layer_decay", "drop_path"]].sort_values(["task", "kind"]),
    dict.fromkeys(("lr", "l2_sp", "layer_decay", "drop_path"), "{:g}"),
    f"What validation chose for full fine-tuning (of {plan.trials} trials each)",
)

# %% [markdown]
# ## 7.2 Capacity: does it fit?
#
# Accuracy on the training images against accuracy on the test images. Linear probing cannot fit what its frozen features do not separate. The
# distance below the diagonal is over-fitting.

# %% tags=["signature"]
train = means.groupby("kind")["train"].mean()
spared = mechanism.train_gap(found)
word = direction(spared.low, spared.high, "larger than", "smaller than", "not clearly different from")
show(
    sweep_figures.setting_panels(
        means,
        ("train", "training accuracy (%)"),
        ("test", "test accuracy (%)"),
        f"The gap of PEFT between training and test is {word} that of full fine-tuning",
        tasks,
    ),
    "A panel for each task and number of images: test accuracy against training accuracy, a mark for each method and way of holding back.",
)

# %%
gaps = means.pivot(index=mechanism.SETTING, columns="kind", values="gap")
display(table(gaps.reset_index(), "{:.1f}", "Training minus test accuracy (points), mean over seeds"))
of_setting = means.pivot(index=mechanism.SETTING, columns="kind", values="train")
fits = of_setting[small].mean(axis=1) - of_setting["linear"]
hardest = of_setting["linear"].idxmin()  # where the probe can fit least
others = fits.drop(hardest)
rest = f", elsewhere {others.min():+.1f} to {others.max():+.1f}" if len(others) else ""
Markdown(
    f"Training accuracy of the PEFT methods minus that of linear probing: where the probe fits least ({hardest[0]}, {hardest[1]:,} images) {fits[hardest]:+.1f} points{rest}. On average "
    f"PEFT is {points(train[small].mean() - train['full'])} from full fine-tuning. Its gap between training and test, minus that of full fine-tuning: "
    f"**{points(spared.mean, spared.low, spared.high)}** (interval over {spared.n} seeds)."
)

# %% [markdown]
# ## 7.3 How far things move
#
# A regulariser in the sense of the claim keeps the model near its start. So measure: the class token that the head reads, before and after tuning,
# on test images, and the weights.

# %%
Code(inspect.getsource(measures.displacement), language="python")

# %%
moved = means.groupby("kind")["features"].mean()
ratio = moved[small].mean() / moved["full"]
show(
    sweep_figures.setting_panels(
        means,
        ("features", "how far the features move (relative to their length)"),
        ("test", "test accuracy (%)"),
        f"PEFT moves features {ratio:.2f} times as far as full fine-tuning does",
        tasks,
    ),
    "A panel for each task and number of images: test accuracy against the relative movement of the features that the head reads.",
)

# %%
weights = means.groupby("kind")["weights"].mean().dropna()
folded = [kind for kind in small if kind in weights]
of_weights = weights[folded].mean() / weights["full"]
of_features = moved[folded].mean() / moved["full"]
contrast = (
    "a large change of weights need not be a large change of features"
    if of_weights > of_features
    else "a small change of weights can be a large change of features"
)
Markdown(
    "Movement of features, mean of settings: "
    + ", ".join(f"{sweep_figures.kind_look(k)[2]} {v:.2f}" for k, v in moved.sort_values().items())
    + ". Of weights (relative, where a method can be folded into them): "
    + ", ".join(f"{sweep_figures.kind_look(k)[2]} {v:.3f}" for k, v in weights.sort_values().items())
    + f". Methods that can be folded move weights {of_weights:.2f} times and features {of_features:.2f} times as far as full fine-tuning: {contrast}. "
    "What is small about a low-rank method is the number of directions, not the length of the step."
)

# %% [markdown]
# ### Where in the network

# %%
show(
    sweep_figures.block_profile(found, "Movement of the class token from block to block", tasks),
    "Relative movement of the class token after each block and at the head, a line for each method, a panel for each task.",
)

# %% [markdown]
# **The negative control.** Linear probing trains nothing before the head, so by construction it cannot move a feature. The measurement has to say so,
# exactly:

# %%
still = found.loc[found["kind"] == "linear", ["features", "weights"]]
assert len(still) and (still == 0).all().all(), "the measurement reports movement where there is none"
Markdown(f"Largest movement over {len(still)} runs of linear probing: {still.max().max():g}. **The control behaves.**")

# %% [markdown]
# ## 7.4 Full fine-tuning, held back
#
# The question that decides. Where PEFT is ahead of full fine-tuning, does an explicit regulariser close the gap?

# %%
lead = mechanism.lead(found)
ahead = mechanism.ahead(found)
held = mechanism.held_back(found)
held = held.assign(kind=held["kind"].map(lambda k: sweep_figures.kind_look(k)[2]))
display(
    table(
        lead.rename("PEFT minus full").reset_index(),
        {"PEFT minus full": "{:+.1f}"},
        "Mean of the PEFT methods minus full fine-tuning (points)",
    )
)
display(
    table(
        held,
        dict.fromkeys(("difference", "low", "high"), "{:+.1f}") | {"features": "{:+.2f}"},
        "Held back minus plain full fine-tuning: test accuracy (points, interval over seeds), and movement of features",
    )
)
better = held.groupby("kind")["difference"].mean()
Markdown(
    f"PEFT is clearly ahead of full fine-tuning in **{len(ahead)} of {len(lead)}** settings"
    + (f" ({', '.join(f'{t} with {n:,} images' for t, n in ahead.index)})" if len(ahead) else "")
    + ". Holding back changes full fine-tuning by "
    + ", ".join(f"{value:+.1f} points ({kind.partition(' + ')[2]})" for kind, value in better.items())
    + " on average. Where it hardly changes how far the features move, nothing was held back, and it could not catch up."
)

# %% [markdown]
# ### Case 1 and case 2
#
# The study tells two cases apart by linear probing against full fine-tuning: (1) full is ahead, because features must move; (2) linear is ahead, because
# they are good and few images spoil them. Where do our settings lie, and what does PEFT do in each?

# %%
wide = means.pivot(index=mechanism.SETTING, columns="kind", values="test")
cases = pd.DataFrame(
    {
        "full minus linear": wide["full"] - wide["linear"],
        "PEFT minus linear": wide[small].mean(axis=1) - wide["linear"],
        "PEFT minus full": wide[small].mean(axis=1) - wide["full"],
    }
)
CASE = 3.0  # points by which one baseline must be ahead
cases.insert(
    0,
    "case",
    np.select(
        [cases["full minus linear"] > CASE, cases["full minus linear"] < -CASE],
        ["1: features must move", "2: features are good"],
        "neither: level",
    ),
)
display(table(cases.reset_index(), "{:+.1f}", "Test accuracy, differences in points"))
between = ((wide[small].mean(axis=1) - wide["linear"]) * (wide["full"] - wide[small].mean(axis=1)) > 0).sum()
Markdown(
    f"Case 2 occurs in {int((cases['full minus linear'] < -CASE).sum())} of {len(cases)} settings. In {between} of {len(cases)} PEFT lies between linear probing and full fine-tuning."
)

# %% [markdown]
# ## 7.5 The claim, judged
#
# In settings where the PEFT method that validation chooses is clearly ahead of full fine-tuning, by a point or more, the best way of holding back (within
# a point of PEFT, or ahead) supports the reading as a regulariser. With fewer than two such settings there is no advantage to explain.

# %%
verdict = claims.on_ours(claims.get("C10"), results)
Markdown(ledger.rows_of(results, "C10"))

# %% [markdown]
# ## Exercises
#
# **Exercise 1** (●○○ easy, 5 minutes). With L2-SP, η = 0.001 and β = 30, and no gradient: after how many steps is a weight's distance from its start halved?

# %%
answer_1 = None  # a whole number of steps

# %%
pull = 0.001 * 30
truth_1 = next(n for n in range(1, 1000) if (1 - pull) ** n <= 0.5)
check(answer_1, lambda v: v == truth_1, "each step multiplies the distance by 1 − ηβ")

# %% tags=["hide-cell", "solution"]
weight, steps = torch.tensor(1.0), 0
while weight > 0.5:
    weight, steps = torch.lerp(weight, torch.tensor(0.0), pull), steps + 1
assert is_right(steps, lambda v: v == truth_1)
Markdown(f"**{steps} steps**: (1 − {pull:g})ⁿ ≤ ½.")

# %% [markdown]
# **Exercise 2** (●●○ medium, 10 minutes). With layer-wise rates and d = 0.5, how many times smaller is the rate of the first block of ViT-B/16 (12 blocks) than that of the
# last block?

# %%
answer_2 = None  # a factor

# %%
check(answer_2, lambda v: v == 2**11, "block l has d^(L + 1 − l); take the ratio")

# %% tags=["hide-cell", "solution"]
solution_2 = 0.5 ** (13 - 12) / 0.5 ** (13 - 1)
assert is_right(solution_2, lambda v: v == 2**11)
Markdown(f"**{solution_2:,.0f} times**: with many blocks a d of one half freezes the first ones.")

# %% [markdown]
# **Exercise 3** (●●○ medium, 15 minutes). Write `answer_3(before, after)`: the smallest rank that holds 99 % of the squared singular values of the change of a weight
# matrix. What is it for a LoRA of rank 4?

# %%
answer_3 = None  # def answer_3(before, after): ...


# %%
def right_3(rank_of) -> bool:
    random = torch.Generator().manual_seed(0)
    base = torch.randn(32, 16, generator=random)
    exact = all(
        rank_of(
            base,
            base
            + torch.linalg.qr(torch.randn(32, r, generator=random))[0]
            @ torch.linalg.qr(torch.randn(16, r, generator=random))[0].T,
        )
        == r
        for r in (1, 4)
    )
    return exact and rank_of(base, base + torch.diag_embed(torch.ones(16), 0)[:16].repeat(2, 1)) == 16


check(answer_3, right_3, "torch.linalg.svdvals of the difference; cumulate the squares")


# %% tags=["hide-cell", "solution"]
def solution_3(before: torch.Tensor, after: torch.Tensor) -> int:
    squares = torch.linalg.svdvals(after - before).square()
    return int((squares.cumsum(0) / squares.sum() < 0.99).sum()) + 1


assert is_right(solution_3, right_3)
model = pc.create_model(live, "lora", num_classes=task.num_classes, rank=4)
before = pc.merge(model).blocks[0].attn.qkv.weight
pc.train(model, task, pc.Recipe(lr=1e-2, epochs=1, batch_size=32), max_train=128, max_evaluate=50)
rank = solution_3(before, pc.merge(model).blocks[0].attn.qkv.weight)
assert rank <= 4
Markdown(f"At most 4 by construction; here, after a few steps, **{rank}**.")

# %% [markdown]
# ## Common mistakes
#
# - **Full fine-tuning that nobody held back.** A pre-trained ViT fits 0.98 of its training images in no time and over-fits; such models need
#   much regularisation, is the answer ([pytorch-image-models#320](https://github.com/huggingface/pytorch-image-models/issues/320)). *Notice:* the gap between training and test accuracy. *Do:* give full
#   fine-tuning a regulariser of its own, tuned, before saying that PEFT is one.
# - **A rate that destroys the pre-training.** Trained with Adam at a rate of 1e-2, a pre-trained ViT answered all cat or all dog
#   ([vit-pytorch#34](https://github.com/lucidrains/vit-pytorch/issues/34)). *Notice:* one answer for all images, or features that move as far as in section 7.3 with accuracy falling.
#   *Do:* try rates down to small ones; what is then left of the advantage of PEFT is its own.
# - **Regularised because it is small.** Within one method, the number of parameters that is best differs from task to task
#   ([SPT#1](https://github.com/ziplab/SPT/issues/1)). *Notice:* accuracy that neither rises nor falls with the count. *Do:* measure what is held back; a count bounds nothing
#   by itself.
#
# ## Limits
#
# - Two tasks and two amounts of data; a backbone of 0.8 million parameters, whose full fine-tuning over-fits less than that of a large one.
# - Movement of features is measured at the class token; a method may move others.
# - Training accuracy is measured on batches as they were trained on, with dropout and drop path at work, so it is a little low.
# - A regulariser that helps does not prove that PEFT helps for the same reason; it only fails to refute it.

# %%
Markdown(
    f"""## Summary in five lines

1. Where linear probing fits least ({hardest[0]}, {hardest[1]:,} images), PEFT fits {fits[hardest]:+.1f} points more of the training images{rest}.
2. Their gap between training and test is {points(spared.mean, spared.low, spared.high)} from that of full fine-tuning.
3. They move features {ratio:.2f} times as far as full fine-tuning does, and weights {of_weights:.2f} times.
4. PEFT is clearly ahead of full fine-tuning in {len(ahead)} of {len(lead)} settings; holding full back changes it by {", ".join(f"{v:+.1f}" for v in better)} points.
5. As the explanation of an advantage the claim is {verdict.verdict} on ours."""
)
