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
# # 6 · Many images
#
# **Question.** With many labelled images, is it still enough to train a few per cent of the parameters?
#
# **Claim** (the study's third finding, [Mai et al., 2025](https://arxiv.org/abs/2409.16434)). With tens of thousands of training images too, where full fine-tuning
# should come into its own, methods that train 2 to 5 % of the parameters reach the same accuracy.
#
# **What would refute it.** Full fine-tuning, tuned with the same care and down to small learning rates, is clearly ahead of every
# small method once there are many images.
#
# **Control.** What is compared with full fine-tuning is chosen on validation images: the best of many settings *on the test images*
# is ahead of anything by luck alone. And the check must be able to fail: linear probing, put in the place of the small methods, must
# fall behind where features have to move.
#
# You need: chapters 2 and 4 (sizes of methods, tuning, seeds). Time: 45 minutes with the exercises.

# %% tags=["parameters"]
import os

PROFILE = os.environ.get("PETL_PROFILE", "laptop")
RESULTS = os.environ.get("PETL_RESULTS", "shipped")
RUNS = os.environ.get("PETL_RUNS", "")

# %%
import inspect

import numpy as np
import pandas as pd
from IPython.display import Code, Markdown, display

import petl_core as pc
from petl_core.data.embedded import parts_of_name
from petl_core.study import parts as study_parts
from petl_guide import ledger, published, sweep
from petl_guide.claims import table as claims
from petl_guide.exercises import check, is_right
from petl_guide.figures import sweep as sweep_figures
from petl_guide.figures.style import show, title
from petl_guide.figures.tables import direction, points, table
from petl_guide.results import open_results

results = open_results(PROFILE, RESULTS, RUNS, parts=["many_shot"])
plan = results.profile
results.note()

# %%
found = sweep.runs(results.table)
cells = sweep.cells(found)
tasks = {task: f"{task} ({group})" for task, group in zip(found["task"], found["group"], strict=True)}
parts = sweep.by_amount(found)
amounts, most = list(parts), list(parts)[-1]
top = parts[most]
Markdown(
    f"This chapter reads {len(found)} final runs: {len(cells)} cells of task, number of images, method and size, with {cells['n'].min()} seeds each, on "
    f"{' and '.join(tasks)}, with {', '.join(amounts)} training images."
)

# %% [markdown]
# ## 6.1 The same task with more images
#
# An embedded task has a thousand training images, [the study](https://arxiv.org/abs/2409.16434) goes up to 70,000. The same code draws more of the same kind: the name
# says how many, and the test images stay those of the thousand.

# %%
drawn = next(iter(tasks)) if results.embedded else "textures"
small, large = (pc.load_task(f"{drawn}@{n}") for n in (100, 200))
shared = set(small.split("train1000")[2]) <= set(large.split("train1000")[2]) | set(large.split("val200")[2])
same_test = small.split("test")[2] == large.split("test")[2]
Markdown(
    f"`{small.name}`: {len(small.splits['train1000'])} images for training and choosing, {len(small.splits['test']):,} for the test. Are its training images among those of "
    f"`{large.name}`? {'Yes' if shared else 'Not all'}. The same test images? {'Yes' if same_test else 'No'}."
)

# %% [markdown]
# Two tasks, because the answer depends on what the backbone already knows. On one, a linear classifier on frozen features is good already;
# on the other, features must move. How far apart linear probing and full fine-tuning are says which is which:

# %%
ends = cells[cells["method"].isin(["linear", "full"])].pivot(index=["task", "images"], columns="method", values="mean")
ends["full minus linear"] = ends["full"] - ends["linear"]
table(ends.reset_index(), "{:.1f}", "Test accuracy (%), mean over seeds")

# %% [markdown]
# ## 6.2 Equal trials at every size
#
# In chapter 4 the size was one of the things tuned. Here it is what we look at, so it is fixed, and each cell of task, number of images,
# method and size gets as many trials as the others with as many images. With more images fewer epochs are enough:

# %%
tried = results.table[results.table["variant"] == "many_shot_trial"]
tried = tried.assign(images=[parts_of_name(task)[1] for task in tried["task"]])
steps = pd.DataFrame({"trial": tried.groupby("images")["steps"].max(), "final": found.groupby("images")["steps"].max()})
budgets = [plan.at_amount(f"{next(iter(tasks))}@{n}" if n != 1000 else next(iter(tasks))) for n in steps.index]
length = 100 * steps["trial"] / steps["final"]
per_cell = tried.groupby(["images", "task", "method", "hyper"]).size().groupby("images").unique()
table(
    pd.DataFrame(
        {
            "training images": steps.index,
            "trials for a cell": [", ".join(map(str, sorted(per_cell[n]))) for n in steps.index],
            "epochs of a trial": [b.tune.epochs for b in budgets],
            "epochs of a final run": [b.final.epochs for b in budgets],
            "steps of a trial": steps["trial"].to_numpy(),
            "steps of a final run": steps["final"].to_numpy(),
        }
    )
)

# %%
knobs = {"lr": "learning rates", "drop_path": "drop path"}
varied = [text for key, text in knobs.items() if tried.groupby(["task", "method", "hyper"])[key].nunique().max() > 1]
Markdown(
    f"The trials of a cell go over {' and '.join(varied) or 'nothing'}. A trial learns from fewer images than the final run, because some are kept to "
    f"choose by, and may be shorter: it has {length.min():.0f} to {length.max():.0f} % of the steps, {length[max(top['images'])]:.0f} % with {max(top['images']):,} images."
)

# %%
rates = top.groupby("method")["lr"].agg(lambda s: ", ".join(f"{x:g}" for x in sorted(set(s))))
of_full = sorted(set(tried.loc[tried["method"] == "full", "lr"]))
picked = top.loc[top["method"] == "full", "lr"]
edge = {of_full[0]: "the smallest", of_full[-1]: "the largest"}.get(picked.min(), "inside")
display(table(rates.rename("chosen rates").reset_index(), caption=f"Learning rates chosen with {most} images"))
Markdown(
    f"Full fine-tuning was tried from {of_full[-1]:g} down to {of_full[0]:g}. In [the study](https://arxiv.org/abs/2409.16434) it had 5e-4 and 1e-3 only; here the "
    f"smallest rate chosen for it with {most} images is {picked.min():g}, {edge} of its grid."
)

# %% [markdown]
# The plan of the sweep is short:

# %%
Code(inspect.getsource(study_parts.sweep_trials), language="python")

# %% [markdown]
# ## 6.3 Accuracy against size

# %% tags=["signature"]
picks = sweep.chosen(found)
gaps = {n: sweep.gap(part) for n, part in parts.items()}
ahead = direction(
    gaps[most].low,
    gaps[most].high,
    "small methods are ahead of",
    "full fine-tuning is ahead of",
    "no clear difference to",
)
few = f"methods that train at most {sweep.SMALL:g} %"
message = {
    "small methods are ahead of": f"With {most} images, {few} are ahead of full fine-tuning",
    "full fine-tuning is ahead of": f"With {most} images, full fine-tuning is {-gaps[most].mean:.1f} points ahead of {few}",
    "no clear difference to": f"With {most} images, full fine-tuning and {few} are not clearly apart",
}[ahead]
show(
    sweep_figures.size_curves(cells, message, tasks),
    "Panels of test accuracy against the share of trained parameters: a row for each task, a column for each number of training images; "
    "lines for methods with a size, a dashed line for full fine-tuning, a dotted one for linear probing, an arrow with a number for a cell that collapsed.",
)

# %%
shown = picks.assign(full=[ends.loc[(p.task, p.images), "full"] for p in picks.itertuples()])
display(
    table(
        shown[["task", "images", "method", "size", "percent", "mean", "full"]],
        {"percent": "{:.2f}", "mean": "{:.1f}", "full": "{:.1f}"},
        f"What validation chooses among PEFT methods of at most {sweep.SMALL:g} % of the parameters, beside full fine-tuning (test accuracy, %)",
    )
)
Markdown(
    "Chosen small method minus full fine-tuning, mean of the tasks, with intervals over seeds: "
    + "; ".join(f"{n} images: **{points(g.mean, g.low, g.high)}**" for n, g in gaps.items())
    + f". Where trials have few of the steps of a final run ({length.min():.0f} % at least, section 6.2), validation chooses among settings that have hardly "
    "parted yet, so a large gap there may be one of the choice and not of size."
)

# %% [markdown]
# Three seeds make a wide t interval. Another one, as a check: draw seeds anew *within* each task, and take the mean of the tasks
# (a stratified bootstrap; [Agarwal et al., 2021](https://arxiv.org/abs/2108.13264)). With three seeds it is too narrow, so the truth lies between both.

# %%
both = {n: sweep.against_full(part, picks) for n, part in parts.items()}
kinds = {"t interval over seeds": sweep.over_seeds, "stratified bootstrap": sweep.over_tasks_and_seeds}
table(
    pd.DataFrame(
        [(n, *(str(kind(part)) for kind in kinds.values())) for n, part in both.items()],
        columns=["images", *kinds],
    ),
    caption="Chosen small method minus full fine-tuning (points), mean of the tasks",
)

# %% [markdown]
# ### How the difference goes with the number of images

# %%
small_cells = sweep.small_cells(cells)
best = sweep.best_cells(small_cells)
lines = {"chosen on validation": sweep.by_setting(found, picks), "best on test": sweep.by_setting(found, best)}
show(
    sweep_figures.gap_by_images(
        lines,
        "Chosen small methods minus full fine-tuning: "
        + ", ".join(f"{g.mean:+.1f} with {n}" for n, g in gaps.items())
        + " images",
        tasks,
    ),
    "Difference between small methods and full fine-tuning against the number of training images, a line for each task and way to choose.",
)

# %% [markdown]
# ### Do the chosen rates carry over?
#
# A rate that is good for a short run can be too high for a longer one: the run collapses. More images cannot make a method worse, so look
# for the cells that are more than five points *worse* than with the next smaller number of images:

# %%
collapsed = sweep.collapsed(cells)
display(
    table(
        collapsed[["task", "images", "method", "size", "lr", "fewer", "mean"]],
        {"lr": "{:g}", "fewer": "{:.1f}", "mean": "{:.1f}"},
        "Test accuracy (%) with a tenth of the images, and with these",
    )
    if len(collapsed)
    else Markdown("None at this profile.")
)
hit, could = (
    collapsed[collapsed["percent"] <= sweep.SMALL],
    int((cells["images"] > cells.groupby("task")["images"].transform("min")).sum()),
)
lesson = (
    f"Their trials had {length[collapsed['images']].min():.0f} % of the steps of the final run, or more: a rate belongs to a length of training, so tune at the length "
    "at which you train. What it means for the verdict is looked at below."
    if len(collapsed)
    else "The rates that the trials chose hold in the final runs."
)
Markdown(
    f"{len(collapsed)} of {could} cells collapse, {len(hit)} of them of at most {sweep.SMALL:g} % of the parameters. {lesson}"
)

# %% [markdown]
# ### Does size matter more with more images?
#
# Points of accuracy for ten times the size, fitted through the sizes of one method, with intervals over seeds, collapsed cells left out:

# %%
whole_cells = sweep.without(found, collapsed)
slopes = [sweep.slope(part).assign(images=n) for n, part in sweep.by_amount(whole_cells).items()]
slopes = pd.concat([part for part in slopes if len(part)], ignore_index=True) if any(map(len, slopes)) else None
if slopes is not None:
    display(
        table(
            slopes[["images", "task", "method", "slope", "low", "high"]],
            dict.fromkeys(("slope", "low", "high"), "{:+.1f}"),
            "Points for a tenfold size",
        )
    )
    means = slopes.groupby("images", sort=False)["slope"].mean()
    text = (
        "Mean over methods and tasks: " + ", ".join(f"{value:+.1f} with {n} images" for n, value in means.items()) + "."
    )
else:
    text = f"The profile {plan.name} has one size only; the profile laptop has more."
Markdown(text)

# %% [markdown]
# ## 6.4 The negative control: the check can fail
#
# The same comparison with linear probing in the place of the small methods. It trains nothing but the head, so where features must move it
# has to lose, and to lose more with more images. If it did not, the check would be worth nothing.

# %%
control = {n: sweep.gap(part, methods=["linear"]) for n, part in parts.items()}
fails = control[most].high < 0
Markdown(
    (
        "**Linear probing is clearly behind, so the control passes.** "
        if fails
        else "**The control fails: linear probing is not clearly behind.** "
    )
    + "Linear minus full: "
    + "; ".join(f"{n} images {points(g.mean, g.low, g.high)}" for n, g in control.items())
    + "."
)

# %% [markdown]
# ### What choosing on the test images would have shown
#
# Among many cells, the best one on the test images looks better than the one that validation chooses.

# %%
optimism = best.set_index(["task", "images"])["mean"] - picks.set_index(["task", "images"])["mean"]
at_best = sweep.best_on_test(top)
Markdown(
    f"Best of {small_cells.groupby(['task', 'images']).size().max()} small cells on test minus the one that validation chooses: {optimism.mean():+.1f} points on average, at most {optimism.max():+.1f} "
    f"({optimism.idxmax()[0]} with {optimism.idxmax()[1]:,} images); exercise 2 says how much of that luck alone would give. So the verdict is looked at both ways: with {most} images the cells that "
    f"are *best on the test images* are {points(at_best.mean, at_best.low, at_best.high)} from full fine-tuning."
)

# %% [markdown]
# ## 6.5 What was published
#
# CIFAR-100, RESISC45 and CLEVR-distance, at full size and (the first two) with five images a class, one seed each.

# %%
theirs = sweep.published_gaps()
table(
    theirs[
        ["task", "images", "full", "best", "best_on_test", "chosen", "chosen_on_val", "gap_best", "gap_chosen"]
    ].assign(best_on_test=theirs["best_on_test"].map(title), chosen_on_val=theirs["chosen_on_val"].map(title)),
    dict.fromkeys(("full", "best", "chosen"), "{:.1f}") | dict.fromkeys(("gap_best", "gap_chosen"), "{:+.1f}"),
    f"Published: small PEFT runs (at most {sweep.SMALL:g} %) against full fine-tuning, chosen on test and on validation",
)

# %%
whole = theirs[theirs["images"] > sweep.MANY]
their_trials = published.read("manyshot_tuning")
their_rates = sorted(set(their_trials.loc[their_trials["method"] == "full", "lr"]))
lost = whole.loc[whole["gap_best"].idxmax()]
Markdown(
    f"Of {published.read('manyshot').groupby(['task', 'train_images']).size().max()} settings of method and size, at full size the best small run is {points(whole['gap_best'].min())} to {points(whole['gap_best'].max())} from full fine-tuning, the one that validation chooses "
    f"{points(whole['gap_chosen'].min())} to {points(whole['gap_chosen'].max())}. The large gap, on {lost['task']}, is with a full fine-tuning that was tried at the rates "
    f"{' and '.join(f'{x:g}' for x in their_rates)} only, and the validation images of CLEVR lay within its training images. The verdict on the published numbers is therefore: "
    f"**{claims.on_published(claims.get('C9')).verdict}** (section 6.6)."
)

# %% [markdown]
# ## 6.6 The claim, judged
#
# Each task is judged for itself: the setting of at most 5 % that validation chooses against full fine-tuning, with the largest number of images, not
# worse by more than a point, over seeds and test images. A task counts only where linear probing in its place is clearly behind.

# %%
verdict = claims.on_ours(claims.get("C9"), results)
Markdown(ledger.rows_of(results, "C9"))

# %% [markdown]
# ## Exercises
#
# **Exercise 1** (●○○ easy, 5 minutes). LoRA of rank r on the fused qkv of a ViT of width D and depth L trains L·(D·r + r·3D) parameters. Which rank is the
# first with at least 2 % of the parameters of ViT-B/16 (85.8 million; D = 768, L = 12)?

# %%
answer_1 = None  # a whole number

# %%
truth_1 = int(np.ceil(0.02 * 85.8e6 / (12 * 4 * 768)))
check(answer_1, lambda v: v == truth_1, "a rank costs L · 4D parameters; divide")

# %% tags=["hide-cell", "solution"]
model = pc.create_model("vit_base_patch16_224", "lora", num_classes=10, pretrained=False, rank=8)
solution_1 = int(np.ceil(0.02 * 85.8e6 / (pc.count_trainable(model) / 8)))
assert is_right(solution_1, lambda v: v == truth_1)
Markdown(
    f"Rank 8 counts {pc.count_trainable(model):,}, so a rank costs {pc.count_trainable(model) // 8:,}, and 2 % need rank **{solution_1}**."
)

# %% [markdown]
# **Exercise 2** (●●○ medium, 10 minutes). Of twelve settings that are all equally good, each measured with a standard error of 0.7 points, how many points above
# their common accuracy is the best one expected to look? (Simulate.)

# %%
answer_2 = None  # points

# %%
truth_2 = 0.7 * np.random.default_rng(0).normal(size=(200_000, 12)).max(axis=1).mean()
check(answer_2, lambda v: abs(v - truth_2) < 0.05, "the mean of the maximum of twelve normal values, times 0.7")

# %% tags=["hide-cell", "solution"]
solution_2 = float(np.mean([np.random.default_rng(s).normal(scale=0.7, size=12).max() for s in range(20_000)]))
assert is_right(solution_2, lambda v: abs(v - truth_2) < 0.05)
Markdown(f"About **{solution_2:.2f} points**: for nothing but looking twelve times.")

# %% [markdown]
# **Exercise 3** (●●○ medium, 10 minutes). Using `cells`, find the smallest share of parameters (per cent) with which any PEFT method comes within one point of full
# fine-tuning's mean on the task `next(iter(tasks))` with the largest number of images. `None` if there is none is written as `float("inf")`.

# %%
answer_3 = None  # per cent


# %%
def smallest_share(frame: pd.DataFrame) -> float:
    part = frame[frame["task"] == next(iter(tasks))]
    part = part[part["images"] == part["images"].max()]
    level = part.loc[part["method"] == "full", "mean"].iloc[0] - 1
    near = part[~part["method"].isin(["full", "linear"]) & (part["mean"] >= level)]
    return float(near["percent"].min()) if len(near) else float("inf")


check(
    answer_3,
    lambda v: v == smallest_share(cells) or abs(v - smallest_share(cells)) < 0.01,
    "filter, then take the smallest `percent`",
)

# %% tags=["hide-cell", "solution"]
solution_3 = smallest_share(cells)
assert is_right(solution_3, lambda v: v == smallest_share(cells))
assert smallest_share(cells.assign(mean=np.where(cells["method"] == "full", 1000.0, cells["mean"]))) == float("inf")
Markdown(f"**{solution_3:.2f} %**." if np.isfinite(solution_3) else "None of them comes that near: **infinity**.")

# %% [markdown]
# ## Common mistakes
#
# - **One learning rate for all.** Small methods want larger rates than full fine-tuning, as maintainers answer when LoRA seems to
#   gain nothing ([peft#960](https://github.com/huggingface/peft/issues/960)). *Notice:* the chosen rate is the largest that was tried. *Do:* give each method its own grid; the
#   table of section 6.2 shows how far apart they end.
# - **As long as full fine-tuning, and no longer.** LoRA stayed 4 to 6 % behind after the same epochs, and the first advice was to train
#   longer ([peft#622](https://github.com/huggingface/peft/issues/622)). *Notice:* its training loss is still falling. *Do:* tune at the length at which you train, and say which
#   is held equal: epochs, steps or time.
# - **Two data sets of one name.** The CIFAR-100 of VTAB-1K has a thousand training images, the other one fifty times as many; tables of
#   both were compared ([PETL-ViT#16](https://github.com/JieShibo/PETL-ViT/issues/16)). *Notice:* ten points of difference for one method. *Do:* write the number of training
#   images beside each accuracy.
#
# ## Limits
#
# - Two tasks of small pictures; one backbone of 0.8 million parameters, a few per cent of which are few in absolute numbers.
# - Trials are shorter than the final runs they choose for (section 6.2 says by how much), for every method alike.
# - A rate at the edge of its grid may hold a method back; section 6.2 says where full fine-tuning's lies.
# - Intervals are over seeds with the tasks fixed: they say nothing about other tasks.

# %%
wide = slopes is not None
Markdown(
    f"""## Summary in five lines

1. The small method that validation chooses, minus full fine-tuning: {"; ".join(f"{n} images {points(g.mean, g.low, g.high)}" for n, g in gaps.items())}.
2. Trials had {length.min():.0f} to {length.max():.0f} % of a final run's steps; the shorter, the nearer the choice is to noise.
3. Linear probing, put through the same check, is {points(control[most].mean, control[most].low, control[most].high)}: the check can fail.
4. {"A tenfold size is worth " + ", ".join(f"{v:+.1f} points with {n} images" for n, v in means.items()) if wide else "Sizes are compared at the profile laptop"}.
5. The small cells that are best on the test images are {points(at_best.mean)} from full; {len(collapsed)} of {could} cells get worse with more images. The claim on ours: {verdict.verdict}."""
)
