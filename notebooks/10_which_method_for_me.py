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
# # 10 · Which method for me?
#
# **Question.** You have a folder of images, some labels, one machine and an afternoon. Which method, which size, which learning
# rate, and how sure can you be that another choice would not have been better?
#
# **Two answers.** A guide, computed from this repository's records, with the study's advice beside it. And a tool, `pc.compare`, that
# asks your own images: the same first look at each method within a time budget, seeds, one look at the test images.
#
# **What would refute it.** A row of the guide whose interval lies on the other side of the study's advice is marked “disagrees”; one
# whose runs do not exist says “not run”.
#
# **Control.** For the tool: images in class folders drawn by lot. It must then recommend nothing.
#
# You need: chapter 4 (tuning, intervals). Time: 70 minutes with the exercises.

# %% tags=["parameters"]
import os

PROFILE = os.environ.get("PETL_PROFILE", "laptop")
RESULTS = os.environ.get("PETL_RESULTS", "shipped")
RUNS = os.environ.get("PETL_RUNS", "")

# %%
import inspect
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from IPython.display import Code, Markdown, display

import petl_core as pc
from petl_core.compare import METHODS, compare, contest
from petl_core.compare import standing as paired
from petl_core.data.decode import decode_images
from petl_core.study import budget
from petl_core.study.predictions import Predictions
from petl_core.study.profiles import profile
from petl_core.study.statistics import interval
from petl_core.training.train import predict
from petl_guide import guide, picks
from petl_guide import runs as select
from petl_guide.chooser import agreement_figure, method_chooser
from petl_guide.exercises import check, is_right
from petl_guide.figures import own_images
from petl_guide.figures.own_images import comparison_table
from petl_guide.figures.style import show, title
from petl_guide.figures.tables import names, points, table
from petl_guide.results import open_results

plan = profile(PROFILE)
results = open_results(PROFILE, RESULTS, RUNS, parts=guide.parts_of(plan))
results.note()

# %% [markdown]
# ## 10.1 The guide
#
# Each row is a situation. What is recommended follows from records of this profile; “evidence” is the effect that decides, with
# its interval, and “runs” counts the records behind it. The study's advice is in our words. *Agrees*, *disagrees*, *depends on the task*, *open* and
# *not run* are the verdicts of the claims ledger (chapter 12) or of the same rules.

# %%
found = guide.findings(results)
decisions = guide.decision_table(found)
table(decisions, {"runs": "{:.0f}"}, f"Profile {plan.name}, backbone {plan.backbone}")

# %% tags=["signature"]
asked = int((~decisions["the study's advice"].str.startswith("none")).sum())
counts = decisions.loc[~decisions["the study's advice"].str.startswith("none"), "ours"].value_counts()
message = (
    f"Of {asked} pieces of advice our records confirm {counts.get('agrees', 0)}, contradict {counts.get('disagrees', 0)}, "
    f"leave {counts.get('open', 0)} open; {counts.get('not run', 0)} not run"
)
show(
    agreement_figure(found, message),
    "A row for each situation: a mark and a word for agreement with the study's advice, and what is recommended here.",
)

# %% [markdown]
# Read it with two reservations. A recommendation is the answer to *our* tasks (32-pixel images, a backbone of under a million
# parameters); a contradiction here does not refute the study on ViT-B/16, it says that the advice does not hold everywhere. And
# “open” is not “no”: the interval contains both answers.

# %%
missing = {s.name: found[s.name].verdict.reason for s in guide.SITUATIONS if found[s.name].agreement == "not run"}
lines = [
    f"- *{name}* (chapter {s.chapter}): {missing[s.name]}"
    for s in guide.SITUATIONS
    for name in [s.name]
    if name in missing
]
Markdown("**Not run at this profile**\n\n" + "\n".join(lines) if lines else "Every row has its runs.")

# %% [markdown]
# ## 10.2 Near or far?
#
# Two rows depend on how far a task is from the pre-training. Distance is measured here by what full fine-tuning gains over a linear
# probe on the frozen features: where that is little, the features are good already. (Without runs of full fine-tuning: by the error
# that the probe leaves.)

# %%
runs = picks.tuned_runs(results)
far = picks.distances(runs)
kinds = picks.kind_of_task(runs)
groups = dict(zip(runs["task"], runs["group"], strict=True))
side = {task: kind for kind in (picks.NEAR, picks.FAR) for task in kinds.get(kind, [])}
shown = pd.DataFrame({"task": far.index, "group": [groups[t] for t in far.index], "distance": far.to_numpy()})
table(
    shown.assign(half=[side.get(t, "middle") for t in far.index]),
    {"distance": "{:.1f}"},
    "Distance in points of accuracy",
)

# %%
lines = []
for kind in (picks.NEAR, picks.FAR):
    part = runs[runs["task"].isin(kinds.get(kind, []))]
    if part["task"].nunique() > 1 and len(select.peft(dict.fromkeys(part["method"]))) > 1:
        gain = interval(picks.size_pays(part).to_numpy())
        lines.append(
            f"On the {gain.n} tasks of the {kind} half the larger half of the PEFT methods is {points(gain.mean, gain.low, gain.high)} from the smaller half."
        )
Markdown(" ".join(lines) or "At this profile there are too few tasks or methods for this.")

# %% [markdown]
# A recommendation from a handful of tasks may rest on one of them. So leave out each task in turn, and recommend again:

# %%
lines = []
for kind in (picks.NEAR, picks.FAR):
    part = runs[runs["task"].isin(kinds.get(kind, []))]
    if part["task"].nunique() > 1:
        first = picks.recommended(part, kind).method
        others = {method: tasks for method, tasks in picks.without_one(part, kind).items() if method != first}
        said = "; ".join(
            f"without {' or '.join(t.replace('_', ' ') for t in tasks)} {title(m)}" for m, tasks in others.items()
        )
        lines.append(f"- *{kind}*: {title(first)}; {said or 'the same without any one task'}.")
Markdown("\n".join(lines) or "At this profile there are too few tasks for this.")

# %% [markdown]
# You can measure the distance of your own task: `pc.compare` runs both baselines. If full fine-tuning is far ahead of linear, read
# the row “far”.
#
# ## 10.3 Choose
#
# The same records, for your constraints: the kind of task, what matters (*accuracy*: the highest mean; *size*: the fewest parameters
# within `give_up` points of the best; *merging*: the same among methods that fold into a plain ViT), and a limit on trained
# parameters. Every answer names the records behind it.

# %%
chooser = method_chooser(results)
some = [{"matters": "accuracy"}, {"matters": "merging"}, {"parameters": "3,000"}, {"give_up": 5.0}]
some += [{"task": kind} for kind in (picks.NEAR, picks.FAR) if kind in kinds]
forms = {"accuracy (%)": "{:.1f}", "trained": "{:,.0f}", **dict.fromkeys(("to the best", "from", "to"), "{:+.1f}")}
alt = "Test accuracy against trained parameters of every method; the one that fits the constraints is ringed."
display(chooser.offline("choices", table(chooser.static(*some), forms), alt))
chooser.widget()

# %%
default = chooser.answer()
Markdown(default.text)

# %%
show(default.figure(), "Test accuracy of each method against its trained parameters; the picked one is ringed.")

# %% [markdown]
# The rule behind it is short. Note what it does *not* do: the best of many methods on these test images is a little lucky, so its
# lead is a little too large. The interval is over tasks, because yours will be another one.

# %%
Code(inspect.getsource(picks.pick), language="python")

# %% [markdown]
# ## 10.4 Your own images
#
# One sub-folder for each class is all it needs. Here a folder is written from an embedded task, as PNG files, as if you had taken
# the pictures.

# %%
smoke = PROFILE == "smoke"
source = pc.load_task("photo_scenes")
place = tempfile.TemporaryDirectory()
folder = Path(place.name) / "my_images"
written = own_images.write_folder(source, folder, each=12 if smoke else 60, classes=3 if smoke else None)
tree = "\n".join(f"my_images/{p.name}/  {len(list(p.glob('*.png')))} images" for p in sorted(folder.iterdir()))
Markdown(f"{written} images:\n\n```\n{tree}\n```")

# %% [markdown]
# One call. `budget="10m"` would be enough: it times each method on *these* images, gives every method the same first look, and then
# spends the time on those that can still win. Here trials, epochs and seeds are given instead, so that this page shows the same on
# every machine, and the messages are left out.

# %%
chosen = ["linear", "bitfit"] if smoke else ["linear", "bitfit", "ssf", "lora", "full"]
size = {"trials": 2, "epochs": 2, "seeds": 2} if smoke else {"trials": 3, "epochs": 8, "seeds": 3}
report = pc.compare(folder, methods=chosen, backbone="mini", budget="20m", progress=False, **size)
comparison_table(report)

# %%
Markdown("\n".join(f"- {line}" for line in report.notes) + f"\n\n**{report.recommendation}**")

# %%
show(report.figure(), f"Test accuracy of each method against what it trains. {report.recommendation}")

# %% [markdown]
# ### How to read it
#
# - **Accuracy** is the mean over seeds, *low* and *high* the interval of the mean of very many seeds; one more seed may lie outside.
# - **Difference** compares with the best *on the same test images*. Two methods that are right on the same images differ by little
#   luck, so this interval is narrower than two separate ones would suggest. It holds for all pairs at once (section 10.6).
# - **As good** means: behind any other method by less than 2 points, at 95 %. **Worse** means: clearly behind the best. **Cannot
#   tell** is what lies between, and it is an honest answer: more test images or more seeds would tell.
# - **Behind on validation** is a method that was so far behind after its trials that its time went to the others.
# - **Setting** was chosen on validation images, after the same first look for everybody.
# - The **recommendation** is the smallest of those that are as good as any.

# %%
lead = report.table.set_index("method")
unclear = list(report.table.loc[report.table["verdict"] == "cannot tell", "method"])
text = f"Best: {title(report.best)}, {lead.loc[report.best, 'accuracy']:.1f} %; as good as any: {names(report.level) or 'none for sure'}."
if unclear:
    text += f" Nobody can tell yet: {names(unclear)}."
Markdown(text + f" Always the same answer would give {report.standing.constant:.1f} %.")

# %% [markdown]
# Is yours near or far? The report has both baselines, so:

# %%
text = "This comparison has only one of the baselines."
if {"linear", "full"} <= set(lead.index):
    reach = lead.loc["full", "accuracy"] - lead.loc["linear", "accuracy"]
    nearer = ", ".join(t.replace("_", " ") for t in far.index[(far - reach).abs().argsort()[:2]])
    text = (
        f"Full fine-tuning gains {reach:+.1f} points over linear here: as far as {nearer} in the table of section 10.2."
    )
Markdown(text)

# %% [markdown]
# ### Ship it
#
# `save_best` trains the recommended setting once more with the first seed, checks that its test predictions are those of the record,
# and writes what was trained, with the class names. The backbone is not in the file. A second file, `model-all.safetensors`, holds a
# model that was trained in the same way on *all* images, the test images too. It should be a little better, and nobody can test it.

# %%
kept = report.recommended or report.best  # at smoke nothing is learned, so nothing is recommended
path = report.save_best(Path(place.name) / "model.safetensors", kept)
model = pc.load_adapter(path)
notes = model.notes
Markdown(
    f"`model.safetensors`: {path.stat().st_size / 1e3:.0f} kB, {title(kept)}, {notes['setting']}, {notes['test_accuracy']:.1f} % on {notes['test_images']} test "
    f"images; the same predictions as the record: {'yes' if notes['same_predictions_as_record'] else 'no'}."
)

# %%
task = pc.load_task(f"folder:{folder}", size=model.config.image_size)
_, _, ids = task.split("test")
picked = [ids[i] for i in np.linspace(0, len(ids) - 1, 6).round().astype(int)]
images = torch.from_numpy(decode_images([folder / name for name in picked], task.image_size, task.preparation))
logits = predict(model, images)
said = [notes["classes"][i] for i in logits.argmax(1).tolist()]
truth = [name.split("/")[0] for name in picked]
right = sum(a == b for a, b in zip(said, truth, strict=True))
show(
    own_images.answers(images, said, truth, f"The saved model on six test images: {right} right"),
    f"Six test images with the saved model's answers; {right} are right.",
)

# %% [markdown]
# The same from the command line, with everything in one folder, to be stopped and started again as you like:
#
# ```
# python -m petl_core compare my_images --budget 10m --out my_comparison
# python -m petl_core compare my_images --backbone vit_base_patch16_224 --methods linear lora ssf --budget 1h30m
# ```
#
# ## 10.5 What a budget buys
#
# A run is as long as the study's protocol has it where the time allows it. Where it does not, all runs are shorter, and the report
# says how long they were. With the speeds that the shipped records were made at (one process), for a task of 800 + 200 images and the
# default methods:

# %%
tuned_epochs = plan.final.epochs
pace = guide.speeds(runs, tuned_epochs)
pace = {m: pace[m] for m in METHODS if m in pace}
sizes = {"train800": 800, "val200": 200, "train1000": 1000, "test": 1000}
needed = {epochs: contest.needed(epochs, pace, sizes, 1) for epochs in contest.lengths(1000)}
rows = [(epochs, budget.clock(seconds)) for epochs, seconds in needed.items()]
table(
    pd.DataFrame(rows, columns=["epochs of a run", "least time"]), caption=f"{len(pace)} methods: {names(list(pace))}"
)

# %% [markdown]
# What is left above the least time buys further trials of the methods that can still win, then longer runs of the best, then seeds.
#
# Why those default methods? Both baselines, because without them “it works” means nothing; and one of each kind that is cheap to
# run: biases, scale and shift, low rank, adapter. Prompts make each step longer. Add others with `methods=`.

# %%
Code(inspect.getsource(compare), language="python")

# %% [markdown]
# ## 10.6 Several looks at the same images
#
# With six methods there are $6 \cdot 5 / 2$ pairs. If every pair has its own 95 % interval, noise alone names a loser often. Here are
# comparisons of six methods that all guess, on 300 images with two seeds each:

# %%
repeats = 5 if smoke else 60
labels = np.arange(300) % 2
alone = together = 0
for number in range(repeats):
    random = np.random.default_rng(number)
    correct = random.random((12, 300)) < 0.5
    frame = pd.DataFrame({"method": np.repeat(list("abcdef"), 2), "seed": [0, 1] * 6, "digest": map(str, range(12))})
    logits = np.eye(2, dtype=np.float32)[np.where(correct, labels, 1 - labels)]
    part = Predictions("guessing", frame, logits, labels, tuple(map(str, range(300))))
    mean = 100 * correct.reshape(6, 2, 300).mean(axis=1)
    gaps = mean[mean.mean(axis=1).argmax()] - mean
    alone += bool((gaps.mean(axis=1) > 1.96 * gaps.std(axis=1, ddof=1) / np.sqrt(300)).any())
    together += bool((paired.standing(part, 0, draws=300).table["high"] < 0).any())
Markdown(
    f"Of {repeats} comparisons in which nothing differs, intervals for single pairs name a loser in **{100 * alone / repeats:.0f} %**, those of the report in "
    f"**{100 * together / repeats:.0f} %**."
)

# %% [markdown]
# ## 10.7 The negative control: labels drawn by lot
#
# The same images, each in a class folder drawn by lot. There is nothing to learn, so a tool that still recommends something would
# recommend something to anybody.

# %%
nonsense = Path(place.name) / "shuffled"
own_images.write_folder(source, nonsense, each=12 if smoke else 60, classes=3 if smoke else None, shuffle=True)
few = {"trials": 2, "epochs": 2 if smoke else 6, "seeds": 2}
control = pc.compare(nonsense, methods=chosen[:3], backbone="mini", budget="20m", progress=False, **few)
comparison_table(control)

# %%
behaves = control.recommended is None
Markdown(f"{'The control behaves' if behaves else '**The control fails**'}: {control.recommendation}")

# %%
chance = [report.standing.over_constant, control.standing.over_constant]
Markdown(
    "The best method minus always the same answer: "
    f"{points(*chance[0])} with the true labels, {points(*chance[1])} with those drawn by lot."
)

# %% [markdown]
# ## Exercises
#
# **Exercise 1** (●○○ easy, 5 minutes). A report has: A best; B −0.4 [−1.9, +1.1]; C −2.8 [−4.4, −1.2]; D −1.6 [−3.3, +0.1]. Trained
# parameters: A 80,000; B 12,000; C 900; D 3,000. Which is recommended, and how many points might it cost at most?

# %%
answer_1 = None  # ("X", points)

# %%
reported = pd.DataFrame(
    {
        "difference": [0, -0.4, -2.8, -1.6],
        "low": [0, -1.9, -4.4, -3.3],
        "high": [0, 1.1, -1.2, 0.1],
        "params": [80_000, 12_000, 900, 3_000],
    },
    index=list("ABCD"),
)
level = reported[reported["low"] > -2]  # at most two points behind
truth_1 = (level["params"].idxmin(), -level.loc[level["params"].idxmin(), "low"])
check(
    answer_1,
    lambda v: v[0] == truth_1[0] and abs(v[1] - truth_1[1]) < 0.01,
    "whose interval stays above -2? Who of these is smallest?",
)

# %% tags=["hide-cell", "solution"]
solution_1 = ("B", 1.9)
assert is_right(solution_1, lambda v: v[0] == truth_1[0] and abs(v[1] - truth_1[1]) < 0.01)
Markdown(
    "**B**: its interval stays above −2, so it costs **1.9 points** at most. Of D nobody can tell yet, and C is clearly worse; more test images may let D in."
)

# %% [markdown]
# **Exercise 2** (●●○ medium, 10 minutes). Two methods differ by 1 point: one alone is right on 6 % of the images, the other alone on 5 %. About how many test images
# are needed until the 95 % interval of one such paired difference excludes zero? And if you had computed the two accuracies (80 and 81 %) on
# *different* images?

# %%
answer_2 = None  # (paired, separate)

# %%
truth_2 = ((1.96 / 0.01) ** 2 * (0.11 - 0.01**2), (1.96 / 0.01) ** 2 * (0.80 * 0.20 + 0.81 * 0.19))
check(
    answer_2,
    lambda v: all(abs(x / y - 1) < 0.05 for x, y in zip(v, truth_2, strict=True)),
    "the variance of a difference of 0/1 values on one image is (0.06 + 0.05) − 0.01²; of two separate ones p(1 − p) + q(1 − q)",
)

# %% tags=["hide-cell", "solution"]
random = np.random.default_rng(0)
draws = random.choice([1.0, -1.0, 0.0], p=[0.06, 0.05, 0.89], size=400_000)
solution_2 = (1.96**2 * draws.var() / 0.01**2, (1.96 / 0.01) ** 2 * (0.16 + 0.1539))
assert is_right(solution_2, lambda v: all(abs(x / y - 1) < 0.05 for x, y in zip(v, truth_2, strict=True)))
Markdown(
    f"About **{truth_2[0]:,.0f}** paired, **{truth_2[1]:,.0f}** separate: pairing is worth {truth_2[1] / truth_2[0]:.1f} times the images."
)

# %% [markdown]
# **Exercise 3** (●●○ medium, 15 minutes). Write `answer_3(table, give_up)`: of the rows of `report.table`, the smallest method whose interval
# does not reach below `-give_up` (“at most so many points can be lost”). The best method always qualifies.

# %%
answer_3 = None  # def answer_3(table, give_up): ...


# %%
def right_3(function) -> bool:
    made = pd.DataFrame({"method": list("ABCD"), "params": [80, 12, 1, 3], "from": [np.nan, -1.9, -4.4, -3.3]})
    return [function(made, g) for g in (0.5, 2.0, 3.5, 5.0)] == ["A", "B", "D", "C"]


check(answer_3, right_3, "the best method's interval is NaN; fill it with 0 before comparing")


# %% tags=["hide-cell", "solution"]
def solution_3(frame: pd.DataFrame, give_up: float) -> str:
    tested = frame.dropna(subset="params")
    fits = tested[tested["from"].fillna(0.0) >= -give_up]
    return fits.loc[fits["params"].idxmin(), "method"]


assert is_right(solution_3, right_3) and not is_right(lambda frame, give_up: frame["method"].iloc[0], right_3)
Markdown(
    f"On the report above, ready to lose 3 points at most: **{title(solution_3(report.table, 3.0))}**. With fewer test images the answer grows."
)

# %% [markdown]
# **Exercise 4** (●●● hard, 15 minutes). You pick the best of k equally good methods by their measured accuracy on n = 200 test images and report that
# accuracy. By how many points is it too high, for k = 6 and a true accuracy of 70 %? (Independent images for each; the real case is milder.)

# %%
answer_4 = None  # points

# %%
from petl_guide.low_shot.tuning import noise_maximum, select_on_noise

truth_4 = noise_maximum(70, 200, 6) - 70
check(
    answer_4, lambda v: abs(v - truth_4) < 0.3, "simulate: the largest of six binomial counts of 200, in %, minus 70 %"
)

# %% tags=["hide-cell", "solution"]
solution_4 = select_on_noise(70, 200, 6, repeats=20_000).mean() - 70
assert is_right(solution_4, lambda v: abs(v - truth_4) < 0.3)
Markdown(
    f"**{truth_4:.1f} points** (simulated {solution_4:.1f}). So choose settings on validation images, and read the best method's test accuracy with this in mind."
)

# %% [markdown]
# ## Common mistakes
#
# - **One method on one's own images, and no baseline.** Sixty per cent on two classes: is the method bad, the setting, or the data
#   ([vpt#62](https://github.com/KMnP/vpt/issues/62))? *Notice:* nothing stands beside the number. *Do:* run a linear probe and full fine-tuning with it, and look at what
#   always the same answer would give.
# - **Choosing by the images that are reported.** Training on everything and reporting the best test result leaves nothing to judge by
#   ([RepAdapter#13](https://github.com/luogen1996/RepAdapter/issues/13)). *Notice:* there is no validation split. *Do:* put test images aside first; looked at twice, they are validation images.
# - **Answers in another order than the folders.** The model is good and every single answer looks wrong, because classes are numbered in
#   the order of sorted folder names ([deit#130](https://github.com/facebookresearch/deit/issues/130)). *Notice:* try some images of known class. *Do:* ship the class names with the model,
#   as `save_best` does.
# - **Shipping without the head.** It is random again in what is loaded ([peft#577](https://github.com/huggingface/peft/issues/577)). *Notice:* predictions of the loaded file differ from those of the record. *Do:* compare
#   them, as section 10.4 does.
#
# ## Limits
#
# - The guide's rows rest on small images and one small backbone, and the best of many methods is a little lucky.
# - Near and far are halves of this suite, measured with the same runs.
# - `compare` resizes to a square and trains without augmentation beyond drop path; where flips or crops are safe for your classes, they may help all methods.
# - From 2,000 images on, 1,000 images of a plain folder, or a tenth of them, are kept for testing. Make `train/` and `test/` folders to split it yourself.
# - The interval of the difference covers test images and seeds, not the choice of the validation images.

# %%
place.cleanup()

# %%
agreeing = [s.name for s in guide.SITUATIONS if found[s.name].agreement == "agrees"]
Markdown(
    f"""## Summary in five lines

1. Of {asked} pieces of the study's advice our records confirm {counts.get("agrees", 0)}, contradict {counts.get("disagrees", 0)} and leave {counts.get("open", 0)} open; {counts.get("not run", 0)} are not run.
2. Confirmed: {"; ".join(agreeing) or "nothing at this profile"}.
3. On your own images `pc.compare` gives everybody the same first look within a budget; here {title(report.best)} was best, and {len(report.level)} of {len(report.table)} methods are as good as any.
4. Its recommendation: {title(report.recommended) if report.recommended else "none"}; the file to ship has {len(notes["classes"])} class names in it.
5. With labels drawn by lot it recommends {"nothing" if behaves else "something, which is a fault"}."""
)
