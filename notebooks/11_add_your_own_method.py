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
# # 11 · Add your own method
#
# **Question.** What does it take to add a method, and how do you know that it is right?
#
# **Claim.** A method is one file. It says what it changes and where, and everything else (training, counting, saving, merging, tables) works without a second edit. Whether
# the file is *right* can be found out before anything is trained.
#
# **What would refute it.** The new method needs a change somewhere else; or a file with a fault keeps every rule of the contract.
#
# **Control.** The same file with one fault at a time. Each fault must be found, by the rule that is about it.
#
# You need: chapters 1 and 2. Time: 70 minutes with the exercises.

# %% tags=["parameters"]
import os

PROFILE = os.environ.get("PETL_PROFILE", "laptop")

# %%
import ast
import dataclasses
import inspect
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Code, Markdown

import petl_core as pc
from petl_core import contract, methods
from petl_core.models.weights import config_of
from petl_core.study.profiles import profile
from petl_core.utils import UserError
from petl_guide import examine as measure
from petl_guide import notebooks
from petl_guide.exercises import check, is_right
from petl_guide.figures.style import GREY, INK, WIDTH, applied, look, show, title
from petl_guide.figures.tables import points, table
from petl_guide.results import SMOKE

plan, smoke = profile(PROFILE), PROFILE == "smoke"
folder = Path(tempfile.mkdtemp())  # for files that this chapter writes; nothing else is touched
known = methods.names()
Markdown(
    (f"{SMOKE}\n\n" if smoke else "")
    + f"Profile **{plan.name}**: everything is computed here. The registry has {len(known)} methods."
)

# %% [markdown]
# ## 11.1 The idea: rescale what attention and the MLP pass on
#
# (IA)³, “infused adapter by inhibiting and amplifying inner activations” ([Liu et al., 2022](https://arxiv.org/abs/2205.05638)), was made for language models and is not in the study. Three vectors in each
# block multiply, channel by channel:
#
# - keys: $k \leftarrow l_k \odot k$, so $q\cdot k$ becomes $\sum_c l_{k,c}\, q_c k_c$: which channels decide who attends to whom;
# - values: $v \leftarrow l_v \odot v$: what is passed on;
# - hidden units: $h \leftarrow l_h \odot \mathrm{act}(W_1 z + b_1)$: which units speak.
#
# All start at one, which changes nothing. With $l_k, l_v \in \mathbb{R}^D$ and $l_h \in \mathbb{R}^{4D}$ that is $6D$ numbers in a block.
#
# Where does that attach? A site hands an edit what went into an operation and what came out. `qkv` and `act` are what is needed:

# %%
mini = config_of("mini")
D, hidden, L = mini.width, mini.hidden, mini.depth
vit = pc.create_model("mini", "linear", num_classes=10).eval()
images = torch.randn(4, 3, mini.image_size, mini.image_size, generator=torch.Generator().manual_seed(0))
steps = [s for s in measure.trace(vit, images) if s.site in ("qkv", "heads", "fc1", "act", "fc2")]
table(
    pd.DataFrame(
        [(s.site, str(s.x), str(s.y)) for s in steps], columns=["site", "x, what went in", "y, what came out"]
    ),
    caption=f"Some sites of a block of mini, {len(images)} images: D = {D}, 3 D = {3 * D}, 4 D = {hidden}",
)

# %% [markdown]
# By hand first, without any file: a block of `mini`, and edits that are plain functions.

# %%
l_kv, l_h = torch.ones(2 * D), torch.ones(hidden)
block = vit.blocks[0]
with torch.no_grad():
    before = vit(images)
    block.attn.sites["qkv"].append(lambda y, x: torch.cat([y[..., :D], y[..., D:] * l_kv], dim=-1))
    block.mlp.sites["act"].append(lambda y, x: y * l_h)
    ones = (vit(images) - before).abs().max().item()
    l_kv[:D] = 2.0  # louder keys: sharper attention
    louder = (vit(images) - before).abs().max().item()
    block.attn.sites["qkv"].clear()
    block.mlp.sites["act"].clear()
assert ones == 0.0 and louder > 0
Markdown(
    f"With ones, logits change by {ones:g}; with keys doubled in one block, by up to {louder:.2f}. Afterwards the lists are emptied: the ViT never knew."
)

# %% [markdown]
# ## 11.2 The file
#
# A method is a file with four parts. This one is `notebooks/ia3.py`, beside this notebook: an ordinary file outside the package. Copy it to start yours.
#
# **Part 1, what it is**: the docstring. A reader finds paper, formula, sites, count and merging there, and the contract looks whether they are there.

# %%
SOURCE = (notebooks.FOLDER / "ia3.py").read_text(encoding="utf-8")
tree = ast.parse(SOURCE)


def part(name: str) -> str:
    """The source of a class of the file, or of one of its functions ("IA3.merge")."""
    node = tree
    for piece in name.split("."):
        node = next(n for n in node.body if getattr(n, "name", None) == piece)
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return "\n".join(SOURCE.splitlines()[first - 1 : node.end_lineno]).strip()


Markdown(f"```text\n{ast.get_docstring(tree)}\n```")

# %% [markdown]
# **Part 2, the edit**: a module that is called with `y`, what came out of the operation, and `x`, what went in. `alpha` is there so that the weight-space ensembles of the study work: at 0 the edit must do nothing.

# %%
Code(part("Rescale"), language="python")

# %% [markdown]
# **Part 3, the class**: a frozen dataclass; its fields would be the hyper-parameters. `attach` builds the modules, hangs them at the sites, and returns the owner of all of them. `count` is the formula.

# %%
Code(part("IA3").split("    def merge")[0], language="python")

# %% [markdown]
# **Part 4, merging.** A scale after a linear map is a scale of its rows: $l \odot (W x + b) = (\mathrm{diag}(l) W)\, x + l \odot b$. So $l_k, l_v$ go into the rows of the qkv weight from D on, and its bias. A scale after the
# *activation* cannot go backwards through GELU, but forwards: $W_2 (l_h \odot h) = (W_2\, \mathrm{diag}(l_h))\, h$, the columns of fc2.

# %%
Code(part("IA3.merge"), language="python")

# %% [markdown]
# ## 11.3 Load it, and it is one like the others

# %%
name = methods.load(notebooks.FOLDER / "ia3.py")
listed = pd.DataFrame(
    [
        (n, methods.registry[n].family, methods.registry[n].size_field or "–", methods.registry[n].paper)
        for n in methods.names()
    ],
    columns=["name", "family", "size", "paper"],
)
assert set(methods.names()) - set(known) == {name}
table(listed, caption=f"The registry after load('ia3.py'): {len(listed)} methods")

# %%
shapes = {"mini": mini, "ViT-B/16": config_of("vit_base_patch16_224")}
beside = ["ia3", "bitfit", "ssf", "lora", "full"]
counts = pd.DataFrame({"method": beside} | {s: [methods.get(m).count(c) for m in beside] for s, c in shapes.items()})
model = pc.create_model("mini", "ia3", num_classes=10)
assert pc.count_trainable(model) == methods.get("ia3").count(mini) == 6 * D * L
table(counts, caption="Trainable parameters without the head")

# %%
b16 = counts.set_index("method")["ViT-B/16"]
Markdown(
    f"On ViT-B/16 (IA)³ trains {b16['ia3']:,} numbers, {100 * b16['ia3'] / b16['full']:.3f} % of the backbone: {b16['bitfit'] / b16['ia3']:.1f} times fewer than BitFit, {b16['lora'] / b16['ia3']:.1f} times fewer than LoRA of rank 8."
)

# %% [markdown]
# ## 11.4 The contract
#
# Every method of the registry keeps the same rules, and the test suite tries them on three small backbones. The same functions can be called on your file. On the command line:
#
# ```
# python -m petl_guide check-method notebooks/ia3.py
# ```

# %%
variants = tuple(contract.VARIANTS)[: 1 if smoke else None]
outcomes = contract.check(methods.get("ia3"), slow=not smoke, variants=variants)
assert all(o.kept for o in outcomes)
table(
    pd.DataFrame(
        [(o.rule, o.about, "kept" if o.kept else "BROKEN") for o in outcomes], columns=["rule", "what it asks", "ia3"]
    )
)

# %% [markdown]
# A rule is a few lines. This is the one about the start:

# %%
Code(inspect.getsource(contract.start), language="python")

# %% [markdown]
# ## 11.5 The control: faults that must be found
#
# One change each, of the kind that one makes at midnight. None of these files raises an error; all of them train.

# %%
FAULTS = {
    "random start": ("torch.ones(width)", "torch.randn(width)"),
    "count for 4 D only": ("(2 * config.width + config.hidden)", "6 * config.width"),
    "bias not merged": ("            qkv.bias[D:] *= keys_values.factor()\n", ""),
    "no gradient": ("self.factor().to", "self.factor().detach().to"),
    "alpha forgotten": ("scaled * self.factor()", "scaled * self.scale"),
    "edit is a closure": ('sites["act"].append(pair[1])', 'sites["act"].append(lambda y, x, edit=pair[1]: edit(y, x))'),
}
FAULTS = dict(list(FAULTS.items())[: 2 if smoke else None])
found = {"as it is": outcomes}
for fault, (right, wrong) in FAULTS.items():
    assert right in SOURCE
    path = folder / f"{fault.replace(' ', '_')}.py"
    path.write_text(SOURCE.replace(right, wrong).replace('"ia3"', '"ia3_wrong"'), encoding="utf-8")
    with methods.loaded(path) as wrong_name:
        found[fault] = contract.check(methods.get(wrong_name), slow=False, variants=variants)

# %% tags=["signature"]
rules = [o.rule for o in found["as it is"] if o.rule not in contract.SLOW]
kept = np.array([[next(o.kept for o in of if o.rule == rule) for rule in rules] for of in found.values()])
caught = int((~kept[1:]).any(axis=1).sum())
with applied():
    fig, ax = plt.subplots(figsize=(WIDTH, 1.3 + 0.32 * len(found)))
    ax.imshow(~kept, cmap="OrRd", vmin=0, vmax=1.6, aspect="auto")
    for (i, j), ok in np.ndenumerate(kept):
        ax.text(j, i, "·" if ok else "✗", ha="center", va="center", color=GREY if ok else INK)
    ax.set_yticks(range(len(found)), list(found))
    ax.set_xticks(
        range(len(rules)), [r.replace("_", " ") for r in rules], rotation=40, ha="right", rotation_mode="anchor"
    )
    ax.tick_params(length=0)
    ax.set(xlabel="rule of the contract (✗: broken)", ylabel="file")
    ax.spines[:].set_visible(False)
    ax.set_title(
        f"{caught} of {len(FAULTS)} faults are found; the right file breaks {int((~kept[0]).sum())} of {len(rules)} rules"
    )
show(
    fig,
    "Matrix of files against rules: a cross where a rule is broken. The right file has none, each faulty file at least one.",
)

# %%
assert kept[0].all()
if not smoke:  # one backbone only there
    assert caught == len(FAULTS)
first = {fault: next((o for o in of if not o.kept), None) for fault, of in found.items()}
table(
    pd.DataFrame(
        [(f, o.rule, o.message) for f, o in first.items() if o], columns=["fault", "first rule broken", "what it says"]
    )
)

# %% [markdown]
# Note which fault needs the strange backbone: the formula that takes the hidden layer to be 4 D is right on every ViT that most of us have. The contract also counts on a shape where it is not.
#
# ### What loading refuses

# %%
refused = []
for what, (right, wrong) in {
    "no @register": (part("IA3").split("\n")[0], ""),
    "a name that is taken": ('"ia3"', '"lora"'),
    "a misspelled import": ("import torch\n", "import torhc\n"),
}.items():
    path = folder / "mine.py"
    path.write_text(SOURCE.replace(right, wrong), encoding="utf-8")
    try:
        methods.load(path)
    except UserError as error:
        refused.append((what, str(error).replace(str(path), "mine.py").split(" and petl_core_outside")[0]))
assert len(refused) == 3 and len(methods.names()) == len(known) + 1  # and the registry is as it was
table(pd.DataFrame(refused, columns=["a file with", "the error"]))

# %% [markdown]
# ## 11.6 Train it
#
# Beside BitFit and LoRA, on one embedded task, the same short recipe for all, several seeds. Nothing is tuned, so this asks whether the method *learns*, not which is best; for that the study's protocol is there (section 11.8).

# %%
TASK, RATE = ("photo_scenes" if smoke else "land_cover"), 1e-2
task = pc.load_task(TASK)
recipe = dataclasses.replace(plan.final, epochs=1 if smoke else 3, lr=RATE)
rows, models = [], {}
for method in ("linear", "ia3", "bitfit", "lora"):
    for seed in plan.seeds:
        net = pc.create_model("mini", method, num_classes=task.num_classes, seed=seed)
        run = pc.train(net, task, recipe, seed=seed, max_train=plan.max_train, max_evaluate=plan.max_evaluate)
        rows.append((method, seed, run.params, run.history[0]["loss"], run.history[-1]["loss"], run.test_accuracy))
        models[method] = net
runs = pd.DataFrame(rows, columns=["method", "seed", "parameters", "first loss", "last loss", "accuracy"])
means = runs.groupby("method", sort=False)[["parameters", "first loss", "last loss", "accuracy"]].mean().reset_index()
means["sd over seeds"] = runs.groupby("method", sort=False)["accuracy"].std().to_numpy()
table(
    means,
    {"first loss": "{:.3f}", "last loss": "{:.3f}", "accuracy": "{:.1f}", "sd over seeds": "{:.1f}"},
    f"{TASK}, {recipe.epochs} epochs, rate {RATE:g}, {len(plan.seeds)} seeds",
)

# %%
by_seed = runs.pivot(index="seed", columns="method", values="accuracy")
learned = by_seed["ia3"] - by_seed["linear"]
with applied():
    fig, ax = plt.subplots(figsize=(WIDTH, 2.1))
    for y, method in enumerate(means["method"]):
        ax.plot(by_seed[method], [y] * len(by_seed), look(method).marker, color=look(method).colour, ms=7, mec="white")
    ax.set_yticks(range(len(means)), [title(m) for m in means["method"]])
    ax.set_ylim(-0.6, len(means) - 0.4)
    ax.set_xlabel("test accuracy (%), one mark for each seed")
    ax.set_title(f"{title('ia3')} is {points(learned.mean())} from linear probing on {TASK.replace('_', ' ')}")
show(fig, "Test accuracy of linear probing, the new method, BitFit and LoRA, a mark for each seed.")

# %%
Markdown(
    f"{title('ia3')} against linear probing, seed by seed: "
    + ", ".join(f"{d:+.1f}" for d in learned)
    + f" points. With {int(means.set_index('method').loc['ia3', 'parameters']):,} parameters; against BitFit "
    f"({int(means.set_index('method').loc['bitfit', 'parameters']):,}): {points((by_seed['ia3'] - by_seed['bitfit']).mean())}; against LoRA ({int(means.set_index('method').loc['lora', 'parameters']):,}): {points((by_seed['ia3'] - by_seed['lora']).mean())}. "
    "One task, one learning rate, so no more than that."
)

# %% [markdown]
# ### What did it learn?
#
# Factors have a meaning that the entries of a LoRA have not: 1 is “leave it”. How far did they move?

# %%
factors = [(i, "keys, values", p[0].scale.detach()) for i, p in enumerate(models["ia3"].methods["ia3"])]
factors += [(i, "hidden units", p[1].scale.detach()) for i, p in enumerate(models["ia3"].methods["ia3"])]
moved = pd.DataFrame(
    [(i, what, (f - 1).abs().mean().item(), f.min().item(), f.max().item()) for i, what, f in factors],
    columns=["block", "what", "mean |factor − 1|", "least", "largest"],
)
table(
    moved.sort_values(["what", "block"]),
    dict.fromkeys(("mean |factor − 1|", "least", "largest"), "{:.3f}"),
    "Learned factors, last seed",
)

# %% [markdown]
# ## 11.7 Save, load, merge
#
# All of it works on the new method because nothing of it knows any method by name. One thing to remember: whoever loads the file of the adapter must have loaded the file of the *method* before.

# %%
tuned = models["ia3"].eval()
path = pc.save_adapter(tuned, folder / "ia3.safetensors")
again, merged = pc.load_adapter(path).eval(), pc.merge(tuned)
with torch.no_grad():
    gaps = {
        "loaded again": (again(images) - tuned(images)).abs().max().item(),
        "merged": (merged(images) - tuned(images)).abs().max().item(),
    }
assert gaps["loaded again"] == 0.0 and gaps["merged"] < 1e-4 and not len(merged.methods)
with methods.loaded(notebooks.FOLDER / "ia3.py"):
    del methods.registry["ia3"]  # as in a process that has not loaded the method
    try:
        pc.load_adapter(path)
    except UserError as error:
        message = str(error).split("cannot be rebuilt")[1].split("Known")[0]
Markdown(
    f"The file has {path.stat().st_size / 1e3:.1f} kB with the head. Logits of the model from the file differ by {gaps['loaded again']:g}, of the merged one by {gaps['merged']:.0e} (rounding). Without the method: *… cannot be rebuilt{message}*"
)

# %% [markdown]
# ## 11.8 Into the study
#
# A file outside the package is for trying. A study is started by a command of its own, and a command knows the package's methods only. So for a whole study put the file where the others are; that is the one edit:
#
# ```
# cp notebooks/ia3.py petl_core/methods/ia3.py
# python -m petl_core run ia3 land_cover --lr 1e-2
# python -m petl_core study --profile laptop --part tuned     # with equal trials, seeds, resumable
# ```
#
# The profile “laptop” covers all methods of the registry, so it then has new runs to do; the others are there already. The test suite asks for two lines about a new method: its name in
# `tests/core/methods/test_methods.py`, and a number of parameters in `tests/core/methods/test_methods_counts.py` beside it, computed by other means than your formula.
#
# ## Exercises
#
# **Exercise 1** (●○○ easy, 5 minutes). A variant scales the queries too. How many parameters does it have on ViT-B/16?

# %%
answer_1 = None  # a whole number

# %%
truth_1 = 12 * (3 * 768 + 3072)
check(answer_1, lambda v: v == truth_1, "three vectors of D and one of 4 D in each of 12 blocks")

# %% tags=["hide-cell", "solution"]
solution_1 = b16["ia3"] + 12 * 768
assert is_right(solution_1, lambda v: v == truth_1)
Markdown(
    f"12 · (3 · 768 + 3072) = **{solution_1:,}**. It is a waste: q · (l ⊙ k) = (l ⊙ q) · k, so scaling both is scaling one by the product."
)

# %% [markdown]
# **Exercise 2** (●●○ medium, 10 minutes). A *head-wise* variant has one factor for each head instead of each channel, for keys and for values, and none for hidden units. Write its count as a function of a `ViTConfig`.

# %%
answer_2 = None  # def answer_2(config): ...


# %%
def right_2(count) -> bool:
    return all(count(c) == 2 * c.heads * c.depth for c in (*shapes.values(), *contract.VARIANTS.values()))


check(answer_2, right_2, "config has depth, heads, width and hidden; two factors for each head of each block")


# %% tags=["hide-cell", "solution"]
def solution_2(config) -> int:
    return config.depth * 2 * config.heads


assert is_right(solution_2, right_2) and not is_right(lambda c: c.depth * 2 * c.width, right_2)
Markdown(f"2 H L, on ViT-B/16 **{solution_2(shapes['ViT-B/16'])}** numbers.")

# %% [markdown]
# **Exercise 3** (●●○ medium, 10 minutes). Someone scales what *enters* the MLP: z ← l ⊙ LN2(x), with l of length D. Into which existing parameters can l be folded, so that nothing is left? Give two names of the ViT.

# %%
answer_3 = None  # ("...", "...") such as ("attn.proj.weight", "attn.proj.bias")


# %%
def right_3(pair) -> bool:
    """Either into LN2's own weight and bias; the columns of fc1 alone would do too, but that is one name."""
    return set(pair) == {"norm2.weight", "norm2.bias"}


check(answer_3, right_3, "a LayerNorm ends with a scale and a shift for each channel: w ⊙ norm(x) + b")

# %% tags=["hide-cell", "solution"]
solution_3 = ("norm2.weight", "norm2.bias")
assert is_right(solution_3, right_3) and not is_right(("mlp.fc1.weight", "mlp.fc1.bias"), right_3)
with torch.no_grad():
    factor, x = torch.rand(D) + 0.5, torch.randn(5, D)
    inside = torch.nn.functional.layer_norm(
        x, (D,), factor * block.norm2.weight, factor * block.norm2.bias, mini.norm_eps
    )
    assert torch.allclose(inside, factor * block.norm2(x), atol=1e-5)
Markdown(
    "l ⊙ (w ⊙ norm(x) + b) = (l ⊙ w) ⊙ norm(x) + l ⊙ b: **norm2.weight and norm2.bias**. So it is a part of what tuning LayerNorms can do already."
)

# %% [markdown]
# **Exercise 4** (●●● hard, 25 minutes). Copy `ia3.py`, give it another name, and let it scale the output of the attention's projection as well (site `proj`, D channels). It must keep the contract, merging included. The answer is the path of your file.

# %%
answer_4 = None  # "my_method.py"


# %%
def right_4(path) -> bool:
    with methods.loaded(path) as mine:
        method = methods.get(mine)
        wanted = all(method.count(c) == c.depth * (3 * c.width + c.hidden) for c in contract.VARIANTS.values())
        return wanted and all(o.kept for o in contract.check(method, slow=False, variants=variants))


check(
    answer_4,
    right_4,
    "a third Rescale(D); its factor goes into the rows of attn.proj and its bias; python -m petl_guide check-method says what is wrong",
)

# %% tags=["hide-cell", "solution"]
STEPS = [
    ('"ia3"', '"ia3_proj"'),
    ("Rescale(hidden)])", "Rescale(hidden), Rescale(D)])"),
    (
        '            block.mlp.sites["act"]',
        '            block.attn.sites["proj"].append(pair[2])\n            block.mlp.sites["act"]',
    ),
    ("(2 * config.width +", "(3 * config.width +"),
    ("(keys_values, hidden) in", "(keys_values, hidden, output) in"),
    (
        "            block.mlp.fc2",
        "            block.attn.proj.weight *= output.factor()[:, None]\n            block.attn.proj.bias *= output.factor()\n            block.mlp.fc2",
    ),
]
text = SOURCE
for old, new in STEPS:
    assert old in text
    text = text.replace(old, new)
solution_4 = folder / "ia3_proj.py"
solution_4.write_text(text, encoding="utf-8")
assert is_right(solution_4, right_4) and not is_right(notebooks.FOLDER / "ia3.py", right_4)
Markdown(
    "".join(f"\n- `{old.strip()}` → `{new.strip()}`" for old, new in STEPS)
    .replace("`", "``")
    .replace("\n            ", "; ")
)

# %% [markdown]
# ## Common mistakes
#
# - **A closure as an edit.** It works until the model is copied, for merging or an ensemble: the copy's closure still reads the
#   original's parameters ([gpytorch#1360](https://github.com/cornellius-gp/gpytorch/issues/1360)). *Notice:* change the copy, and its output stays. *Do:* make the edit a module; the rule *copies*
#   finds what is left.
# - **Measuring a merge on an untrained model.** Where the addition is still zero, every merge is right, also one that merges nothing
#   ([peft#2322](https://github.com/huggingface/peft/issues/2322)). *Notice:* the gap is exactly zero. *Do:* disturb everything trainable first, as the contract does.
# - **A count for another placement.** A table's number belonged to adapters in both places, the method had them in one
#   ([NOAH#1](https://github.com/ZhangYuanhan-AI/NOAH/issues/1)). *Notice:* formula and count differ. *Do:* write the formula into the file, and count on a shape where 4 D and the hidden
#   layer are not the same.
#
# ## Limits
#
# - The contract says that a file does what it says, not that the method is any good.
# - The wrong files of section 11.5 are the faults that we thought of.
# - Edits act on one ViT's sites. A method that needs another place (between the softmax and the values, say) has to extend `vit.py` first.
# - Section 11.6 is one task, one rate and few epochs.

# %%
methods.registry.pop("ia3")  # leave the registry as it was
assert methods.names() == known
Markdown(
    f"""## Summary in five lines

1. A method is one file: docstring, edit, class with its count, merge; `methods.load("file.py")` makes it one like the others.
2. (IA)³ scales keys, values and hidden units: {b16["ia3"]:,} parameters on ViT-B/16, identity at the start, merged exactly.
3. It keeps {sum(o.kept for o in outcomes)} of {len(outcomes)} rules of the contract; of {len(FAULTS)} files with one fault, {caught} were found out.
4. Trained beside others on {TASK.replace("_", " ")}, it is {points(learned.mean())} from linear probing, {points((by_seed["ia3"] - by_seed["lora"]).mean())} from LoRA.
5. For a study with equal trials, the file goes to `petl_core/methods/`, and nowhere else."""
)
