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
# # 1 · A Vision Transformer and its sites
#
# **Question.** What happens to an image between its pixels and the logits, and at which places can a fine-tuning
# method act?
#
# **Claim.** A Vision Transformer is five small operations (a linear map of patches, LayerNorm, attention, MLP, addition), repeated. A list of named places between them, the *sites*,
# is enough to express every method of this guide without editing the model.
#
# **What would refute it.** (a) An image for which the model built here and timm's give different logits from the same
# weights. (b) A method of the registry that works neither through the sites nor by training existing parameters.
# (c) An edit at a site that does not reach the logits. All three are checked below, by cells that would fail.
#
# **Control.** A model with one detail wrong must not pass the comparison with timm, and an edit that changes nothing must
# change no logit.
#
# You need: what a matrix product and a softmax are. Time: 60 minutes with the exercises.

# %% tags=["parameters"]
import os

PROFILE = os.environ.get("PETL_PROFILE", "laptop")
RESULTS = os.environ.get("PETL_RESULTS", "shipped")
RUNS = os.environ.get("PETL_RUNS", "")

# %%
import inspect
import math

import matplotlib.pyplot as plt
import pandas as pd
import timm
import torch
import torch.nn.functional as F
from IPython.display import Code, Markdown, display

import petl_core as pc
from petl_core import vit as vit_source
from petl_core.vit import ViT, ViTConfig
from petl_guide import anatomy
from petl_guide import examine as measure
from petl_guide.exercises import check, is_right
from petl_guide.figures import style
from petl_guide.figures.tables import table
from petl_guide.interactive import explorer

torch.set_grad_enabled(False)  # this chapter trains nothing
style.apply()
ATTENTION, MLP = style.GROUPS["specialised"], style.GROUPS["structured"]  # colours that no method has

# %% [markdown]
# ## 1.1 An image becomes tokens
#
# The example is a photograph from the embedded suite, 32 pixels wide, and the backbone is `mini`, a small ViT that was
# trained on Tiny-ImageNet and travels with this repository. Everything below also holds for ViT-B/16; only the numbers
# in its configuration differ.

# %%
task = pc.load_task("photo_scenes")
images, labels, ids = task.split("test")
model = pc.create_model("mini", "linear", num_classes=task.num_classes).eval()
config = model.config
D, H, L, p = config.width, config.heads, config.depth, config.patch_size
Markdown(
    f"`mini` sees images of {config.image_size} px in patches of {p} px, with width D = {D}, H = {H} heads and "
    f"L = {L} blocks: {sum(q.numel() for n, q in model.named_parameters() if not n.startswith('head')):,} parameters."
)

# %% [markdown]
# Images are stored as bytes. Before the model sees them, each colour is shifted and scaled with the mean and deviation
# *of the images the backbone was trained on*. Feeding [0, 1] pixels instead is one of the commonest reasons why two
# papers' numbers differ; chapter 3 measures it.

# %%
mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (config.mean, config.std))
x = (images[:256] / 255 - mean) / std  # (B, 3, 32, 32)
B = len(x)
print("bytes", tuple(images.shape), images.dtype, "-> normalised", tuple(x.shape), f"mean {x.mean():+.2f}")

# %% [markdown]
# **Patches.** Cut each image into a grid of squares, write each square's $3p^2$ numbers in a row, and multiply by one
# matrix:
#
# $$ e_i = W_\text{patch}\,v_i + b_\text{patch} \in \mathbb{R}^{D}, \qquad v_i \in \mathbb{R}^{3p^2},\;
# W_\text{patch} \in \mathbb{R}^{D\times 3p^2},\; b_\text{patch} \in \mathbb{R}^{D}, $$
#
# with $v_i$ the numbers of patch i. A convolution whose stride equals its kernel is the same operation; that is how the model (and timm) write it.

# %%
squares = F.unfold(x, kernel_size=p, stride=p).transpose(1, 2)  # (B, patches, 3 p p)
W, b = model.patch_embed.proj.weight.flatten(1), model.patch_embed.proj.bias  # (D, 3 p p), (D,)
patches = squares @ W.T + b
assert torch.allclose(patches, model.patch_embed(x), atol=1e-4)
print("squares", tuple(squares.shape), "-> patch embeddings", tuple(patches.shape))

# %%
shown = int(images[:B].float().std(dim=(1, 2, 3)).argmax())  # the one with most contrast
fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.3))
axes[0].imshow(images[shown].permute(1, 2, 0))
axes[0].set_title(f"one image, “{task.classes[labels[shown]]}”")
tiles = images[shown].unfold(1, p, p).unfold(2, p, p)  # (3, grid, grid, p, p)
framed = F.pad(tiles, (1, 1, 1, 1), value=255).permute(0, 1, 3, 2, 4).flatten(3).flatten(1, 2)  # white frames
axes[1].imshow(framed.permute(1, 2, 0))
axes[1].set_title(f"as the model gets it: {config.grid**2} patches")
for ax in axes:
    ax.axis("off")
style.show(fig, "An image and its patches")

# %% [markdown]
# **Class token and position.** The patches say nothing about where they were. So a learned vector is added to each,
# and one more learned token, the *class token*, goes in front: the head will read only that one.
#
# $$ X_0 = [\,c;\; e_1;\dots;e_{N-1}\,] + P, \qquad c \in \mathbb{R}^{D},\; X_0, P \in \mathbb{R}^{N\times D}. $$

# %%
tokens = torch.cat([model.cls_token.expand(B, -1, -1), patches], dim=1) + model.pos_embed
N = tokens.shape[1]
print(f"tokens {tuple(tokens.shape)}: N = 1 + {config.grid}² = {N}")

# %% [markdown]
# Did training give the position vectors any geometry? For each place, the next figure shows how similar (cosine) its
# position vector is to those of all other places. With random vectors every map would be pale except for one cell.

# %%
position = F.normalize(model.pos_embed[0, 1:] - model.pos_embed[0, 1:].mean(0), dim=1).unflatten(0, (config.grid, -1))
similarity = torch.einsum("ijd,kld->ijkl", position, position)
mirrored = (position * position.flip(1)).sum(-1).mean().item()  # left and right exchanged
upended = (position * position.flip(0)).sum(-1).mean().item()  # top and bottom exchanged
fig, axes = plt.subplots(config.grid, config.grid, figsize=(4.6, 4.2))
for i in range(config.grid):
    for j in range(config.grid):
        picture = axes[i, j].imshow(similarity[i, j], vmin=-1, vmax=1, cmap="RdBu_r")
        axes[i, j].plot(j, i, "k.", ms=5)
        axes[i, j].set(xticks=[], yticks=[])
fig.suptitle("How similar each place's position vector (dot) is to all others")
fig.colorbar(picture, ax=axes, shrink=0.7, label="cosine similarity")
style.show(fig, "For each patch, the cosine similarity of its position vector to all others")

# %%
told_apart = (
    "tells top from bottom much better than left from right" if mirrored > upended + 0.2 else "treats both axes alike"
)
Markdown(
    f"A place resembles its left-right mirror image with cosine {mirrored:.2f}, its top-bottom one with {upended:.2f}: "
    f"this backbone {told_apart}. It was trained on images flipped left to right at random, and never upside down."
)

# %% [markdown]
# ## 1.2 One block by hand
#
# **LayerNorm** makes the D numbers of each token, a row x of $X_0$, have mean 0 and deviation 1, then scales and shifts
# each channel:
#
# $$ \mathrm{LN}(x) = w \odot \frac{x-\mu}{\sqrt{\sigma^2+\epsilon}} + b, \qquad x, w, b \in \mathbb{R}^{D},\;
# \mu, \sigma \in \mathbb{R} \text{ its mean and deviation}. $$
#
# The $\epsilon$ is 10⁻⁶ in these models, not torch's
# default 10⁻⁵; forgetting that costs equality with timm, as section 1.5 shows.

# %%
block = model.blocks[0]
mu, var = tokens.mean(-1, keepdim=True), tokens.var(-1, keepdim=True, unbiased=False)
z = (tokens - mu) / torch.sqrt(var + config.norm_eps) * block.norm1.weight + block.norm1.bias
assert torch.allclose(z, block.norm1(tokens), atol=1e-5)
print("LN1", tuple(z.shape))

# %% [markdown]
# **Attention.** One fused linear layer makes queries, keys and values of all tokens from the normalised ones,
# $Z = \mathrm{LN}_1(X) \in \mathbb{R}^{N\times D}$:
#
# $$ [Q, K, V] = Z W_{qkv}^\top + b_{qkv}, \qquad Q, K, V \in \mathbb{R}^{N\times D},\;
# W_{qkv} \in \mathbb{R}^{3D\times D},\; b_{qkv} \in \mathbb{R}^{3D}. $$
#
# Their columns are cut into H heads, $Q_h, K_h, V_h \in \mathbb{R}^{N\times D/H}$. In every head each token asks all
# tokens, and takes the mean of their values, weighted by similarity; the last matrix mixes the heads:
#
# $$ A_h = \mathrm{softmax}\!\Big(\frac{Q_hK_h^\top}{\sqrt{D/H}}\Big) \in \mathbb{R}^{N\times N}, \qquad
# Y = \big[A_1V_1,\dots,A_HV_H\big]\,W_{proj}^\top + b_{proj} \in \mathbb{R}^{N\times D},\qquad
# W_{proj} \in \mathbb{R}^{D\times D},\; b_{proj} \in \mathbb{R}^{D}. $$
#
# Tokens exchange information here and nowhere else.


# %%
def attention_weights(attn: torch.nn.Module, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (B, H, N, N) and values (B, H, N, D/H), from LN1's output (B, N, D)."""
    q, k, v = attn.qkv(z).reshape(*z.shape[:2], 3, H, D // H).permute(2, 0, 3, 1, 4)
    return (q @ k.transpose(-1, -2) / math.sqrt(D // H)).softmax(-1), v


A, v = attention_weights(block.attn, z)
Y = block.attn.proj((A @ v).transpose(1, 2).reshape(B, N, D))
assert torch.allclose(Y, block.attn(z), atol=1e-4)
print("weights", tuple(A.shape), "each row sums to", round(A.sum(-1).mean().item(), 4), "-> output", tuple(Y.shape))

# %% [markdown]
# **MLP and residuals.** The branch's result is *added* to the tokens, $\mathrm{Attn}(\mathrm{LN}_1 X) = Y$; then each token,
# alone, passes two linear layers with a GELU between, and that is added too:
#
# $$ X' = X + Y, \qquad X'' = X' + \mathrm{GELU}(\mathrm{LN}_2(X')\,W_1^\top + b_1)\,W_2^\top + b_2, \qquad
# X, X', X'' \in \mathbb{R}^{N\times D}, $$
#
# with $W_1 \in \mathbb{R}^{4D\times D}$, $b_1 \in \mathbb{R}^{4D}$, $W_2 \in \mathbb{R}^{D\times 4D}$, $b_2 \in \mathbb{R}^{D}$.
# The residual path runs from the first block to the last without any matrix on it. Small changes to a branch are
# therefore small changes to the whole: the reason why adding a little to a frozen model works at all.

# %%
after_attention = tokens + Y
hidden = F.gelu(block.mlp.fc1(block.norm2(after_attention)))  # (B, N, 4D)
after_block = after_attention + block.mlp.fc2(hidden)
assert torch.allclose(after_block, block(tokens), atol=1e-4)
print("hidden", tuple(hidden.shape), "-> after block 0", tuple(after_block.shape))

# %% [markdown]
# **To the logits.** L blocks make $X_L \in \mathbb{R}^{N\times D}$ of $X_0$; then a last LayerNorm, the class token's row, and
# one linear layer, for C classes:
#
# $$ f = \mathrm{LN}(X_L)_0 \in \mathbb{R}^{D}, \qquad \ell = W_{head} f + b_{head} \in \mathbb{R}^{C}, \qquad
# W_{head} \in \mathbb{R}^{C\times D},\; b_{head} \in \mathbb{R}^{C}. $$

# %%
stream = tokens
for each in model.blocks:
    stream = each(stream)
features = model.norm(stream)[:, 0]  # (B, D)
logits = model.head(features)  # (B, C)
assert torch.allclose(logits, model(x), atol=1e-4)
features = model.forward_features(x)  # the same by the model, for exact comparisons below
print("features", tuple(features.shape), "-> logits", tuple(logits.shape))

# %% [markdown]
# The cells above *are* the model. Here is the file's own version of a block, as it runs; the calls of `apply` are what
# the next section is about.

# %%
Code(inspect.getsource(vit_source.Block.forward), language="python")

# %% [markdown]
# ## 1.3 What the attention looks at
#
# Each row shows one photograph and, for every block, where its class token looks (mean over heads, class token's own
# share left out). All maps have one scale: black is nothing, the middle is uniform attention, white twice that or more.

# %%
chosen = [int((labels[:B] == c).nonzero()[0]) for c in labels[:B].unique()[:4]]
maps, stream = [], tokens
for each in model.blocks:
    weights, _ = attention_weights(each.attn, each.norm1(stream))
    maps.append(weights[chosen, :, 0, 1:].mean(1).reshape(-1, config.grid, config.grid))
    stream = each(stream)
fig, axes = plt.subplots(len(chosen), L + 1, figsize=(1.5 * (L + 1), 1.55 * len(chosen)))
for row, index in enumerate(chosen):
    axes[row, 0].imshow(images[index].permute(1, 2, 0))
    axes[row, 0].set_ylabel(task.classes[labels[index]], fontsize=9)
    for column in range(L):
        axes[row, column + 1].imshow(images[index].permute(1, 2, 0))
        share = maps[column][row] / maps[column][row].mean()  # 1: uniform
        axes[row, column + 1].imshow(share, cmap="magma", alpha=0.65, extent=(0, 31, 31, 0), vmin=0, vmax=2)
        axes[0, column + 1].set_title(f"block {column}", fontsize=9)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
fig.suptitle("Where the class token looks, block by block (bright: much)")
style.show(fig, "Attention of the class token over the patches, per block, for four photographs")

# %%
shares = [m.flatten(1) / m.flatten(1).sum(1, keepdim=True) for m in maps]
perplexity = [(-(s * s.log()).sum(1)).exp().mean().item() for s in shares]
Markdown(
    "Effective number of patches looked at (exponential of the entropy; "
    f"{config.grid**2} would be uniform): "
    + ", ".join(f"block {i}: {v:.1f}" for i, v in enumerate(perplexity))
    + ". So the mean over heads is close to uniform; single heads may be sharper."
)

# %% [markdown]
# ## 1.4 The sites
#
# After each operation the model calls the *edits* kept for that place: `y = edit(y, x)`, with `x` what went into the
# operation and `y` what came out. In a plain model all lists are empty, and a method appends to them. This is the whole
# mechanism:

# %%
Code(inspect.getsource(vit_source.apply), language="python")

# %%
of_model, in_block = vit_source.MODEL_SITES, vit_source.BLOCK_SITES + vit_source.ATTENTION_SITES + vit_source.MLP_SITES
fig = anatomy.sites_figure(
    title=f"{len(of_model)} sites of the model, {len(in_block)} in every block (LS: LayerScale, DP: drop path)"
)
style.show(fig, "The block as a wire with boxes for operations and dots for the sites, each with its name")

# %% [markdown]
# An edit that only looks is an instrument. `measure.trace` puts one at every site and lets the images pass, so this
# table is measured, not written. It also tells you what a method has to work with at each place.

# %%
meaning = {}
for line in inspect.getdoc(vit_source).splitlines():
    cells = [part.strip() for part in line.split("  ") if part.strip()]
    if line.startswith("``") and len(cells) == 3:  # a row of the table in the file's docstring
        meaning |= dict.fromkeys(cells[0].replace("`", "").split(", "), cells[2])
steps = measure.trace(model, x[:1])
assert {s.site for s in steps} == {*of_model, *in_block}
pd.DataFrame([{"site": s.site, "x": s.x, "y": s.y, "y is": meaning[s.site]} for s in steps])

# %% [markdown]
# **An edit that acts.** Append a function to one site and the logits change; take it away and they are back, to the
# bit. This one adds a tenth of its own input to block 0's attention branch. It knows nothing of the model, and the
# model nothing of it.

# %%
before = model(x[:8])
edits = model.blocks[0].sites["branch1"]
edits.append(lambda y, x: y + 0.1 * x)
during = model(x[:8])
edits.pop()
restored = model(x[:8])
assert torch.equal(before, restored) and not torch.allclose(before, during)
Markdown(
    f"Largest change of a logit with the edit: **{(during - before).abs().max():.3f}** "
    f"(the logits have deviation {before.std():.3f}); after removing it: **{(restored - before).abs().max():.0f}**."
)

# %% [markdown]
# **Does every site reach the logits?** If one did not, no method could use it (refutation c). Nudge each site's `y` by
# 5 % of its size in a random direction, in all blocks, and see how far the features move.


# %%
def nudge(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    return y + 0.05 * y.norm(dim=-1, keepdim=True) * F.normalize(noise, dim=-1)


plain = model.forward_features(x[:64])
moved = {}
for step in steps:
    with measure.edit_at(model, step.site, nudge):
        moved[step.site] = ((model.forward_features(x[:64]) - plain).norm() / plain.norm()).item() * 100
assert min(moved.values()) > 0
fig, ax = plt.subplots(figsize=(style.WIDTH, 3))
ax.bar(list(moved), list(moved.values()), color=style.GREY)
ax.margins(x=0.01)
ax.tick_params(axis="x", rotation=60)
ax.set_ylabel("change of the features (%)")
ax.set_title("Every site reaches the features: effect of a 5 % nudge at one site, in all blocks")
style.show(fig, "Bars: change of the features for a nudge at each site")

# %% [markdown]
# ### Which branches does this backbone rely on?
#
# The same tool answers a real question. Replace one branch of one block by zero at `residual1` or `residual2`, and
# measure how far the class features move, in per cent of their length. Leaving a whole branch out is *not* a small change
# of a branch: in a deep ViT a single one can be missed, in a model of a few blocks none may be. The control: an edit that
# returns `y` unchanged, whose bar must be exactly zero.

# %%
effect = {}
for site in ("residual1", "residual2"):
    for i in range(L):
        with measure.edit_at(model, site, lambda y, x: torch.zeros_like(y), blocks=[i]):
            without = model.forward_features(x)
        effect[site, i] = 100 * ((without - features).norm(dim=1) / features.norm(dim=1)).mean().item()
with measure.edit_at(model, "residual1", lambda y, x: y):
    control = (model.forward_features(x) - features).norm().item()
assert control == 0
worst, least = max(effect, key=effect.get), min(effect, key=effect.get)
label = {"residual1": "attention", "residual2": "MLP"}
Markdown(
    f"The control moves the features by {control:.0f}. The branch missed most is the **{label[worst[0]]} of block "
    f"{worst[1]}** ({effect[worst]:.0f} %), the one missed least the {label[least[0]]} of block {least[1]} "
    f"({effect[least]:.0f} %), over {B} test images. With {L} blocks, no branch can be left out without a large change."
)

# %% tags=["signature"]
fig, ax = plt.subplots(figsize=(7, 3.2))
for offset, site, colour in ((-0.2, "residual1", ATTENTION), (0.2, "residual2", MLP)):
    ax.bar([i + offset for i in range(L)], [effect[site, i] for i in range(L)], 0.38, color=colour, label=label[site])
ax.set_xticks(range(L), [f"block {i}" for i in range(L)])
ax.set_ylabel("change of the class features\nwithout the branch (%)")
ax.set_title(
    f"Leaving out one branch of mini changes its class features by {effect[least]:.0f} to {effect[worst]:.0f} %",
)
ax.legend()
style.show(fig, "Bars: change of the features without each branch of each block")

# %% [markdown]
# Twice L numbers from one line of edit each, on a model whose source was not touched.
#
# ## 1.5 Is it really the same model as timm's?
#
# The parameter names are timm's, so its weights load unchanged. Take timm's `vit_tiny_patch16_224` with random weights
# at 64 px (no download), copy the state dict, compare the logits. The random LayerNorms are disturbed first, otherwise
# a wrong norm could hide behind weights of one and biases of zero.

# %%
torch.manual_seed(0)
theirs = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=64, num_classes=10).eval()
for parameter in theirs.parameters():
    if parameter.ndim == 1:
        parameter += 0.1 * torch.randn_like(parameter)
ours = ViT(ViTConfig(image_size=64, patch_size=16, width=192, depth=12, heads=3), num_classes=10).eval()
ours.load_state_dict(theirs.state_dict())
batch = torch.randn(4, 3, 64, 64)
difference = (ours(batch) - theirs(batch)).abs().max().item()
assert difference < 1e-5
Markdown(f"Largest difference of a logit: **{difference:.1e}** (logits up to {theirs(batch).abs().max():.2f}).")

# %% [markdown]
# A comparison that cannot fail proves nothing. The control: the same weights in a model with two details wrong, one at
# a time. Both must be caught.

# %%
wrong = {"LayerNorm with eps 1e-5": {"norm_eps": 1e-5}, "CLIP's QuickGELU": {"quick_gelu": True}}
caught = {}
for name, change in wrong.items():
    other = ViT(ViTConfig(image_size=64, patch_size=16, width=192, depth=12, heads=3, **change), num_classes=10).eval()
    other.load_state_dict(theirs.state_dict())
    caught[name] = (other(batch) - theirs(batch)).abs().max().item()
assert min(caught.values()) > 1e-5
Markdown("\n".join(f"- {name}: difference {value:.1e}" for name, value in caught.items()))

# %% [markdown]
# ## 1.6 Where the parameters are
#
# Per block: $3D^2+3D$ in qkv, $D^2+D$ in proj, $4D^2+4D$ in fc1, $4D^2+D$ in fc2, and $4D$ in two LayerNorms, together
# $12D^2+13D$. Models without weights live on torch's `meta` device, so ViT-B/16 costs nothing to count.

# %%
with torch.device("meta"):
    base = ViT(ViTConfig(), num_classes=1)
rows = []
for label_, net in (("mini", model), ("ViT-B/16", base)):
    parts: dict[str, int] = {}
    for name, parameter in net.named_parameters():
        if not name.startswith("head"):
            key = anatomy.part_of(name)
            parts[key] = parts.get(key, 0) + parameter.numel()
    assert sum(parts.values()) - parts["patch_embed"] - parts["embed"] - parts["norm"] == net.config.depth * (
        12 * net.config.width**2 + 13 * net.config.width
    )
    rows.append({"backbone": label_, **parts, "all": sum(parts.values())})
counts = pd.DataFrame(rows).set_index("backbone")
table(counts.reset_index())

# %%
share = 100 * counts.drop(columns="all").div(counts["all"], axis=0)
fig, ax = plt.subplots(figsize=(style.WIDTH, 2.4))
share.plot.barh(stacked=True, ax=ax, color=[*style.FAMILIES.values(), *style.GROUPS.values()], width=0.6)
ax.set_xlabel("share of the backbone's parameters (%)")
ax.set_ylabel("")
mlp_share = share.loc["ViT-B/16", ["fc1", "fc2"]].sum()
ax.set_title(f"The MLP holds {mlp_share:.0f} % of ViT-B/16; biases and norms are slivers")
fig.legend(*ax.get_legend_handles_labels(), ncol=9, fontsize=7.5, loc="outside lower center")
ax.get_legend().remove()
style.show(fig, "Stacked bars: share of parameters by operation, for mini and ViT-B/16")

# %% [markdown]
# ## 1.7 Explore
#
# Choose a site, and see what passes there and which methods act there.

# %%
sites = explorer.site_explorer(model, x[:1])
some = table(sites.static({"site": "tokens"}, {"site": "residual2"}))
display(sites.offline("sites", some, "Operations and sites of a ViT from images to logits; the site qkv is marked."))
sites.widget()

# %% [markdown]
# And refutation (b): does every registered method act through sites or by training parameters that exist?

# %%
acts = {name: anatomy.attachment(pc.methods.get(name)) for name in pc.methods.names()}
silent = [name for name, where in acts.items() if not where.sites and not where.trained]
assert set(silent) <= {"linear"}
through = sum(bool(where.sites) for where in acts.values())
Markdown(
    f"Of {len(acts)} registered methods, {through} edit sites, {len(acts) - through - len(silent)} only train existing "
    f"parameters, and {', '.join(silent) or 'none'} does neither (it trains the head alone). None needed a change of `vit.py`."
)

# %% [markdown]
# ## Exercises
#
# **Exercise 1** (●○○ easy, 5 minutes). `mini` is used at 48 px instead of 32. How many tokens N are there, and how many
# numbers does the position embedding hold? Answer with a pair `(N, numbers)`.

# %%
answer_1 = None  # for example (17, 2176)

# %%
truth_1 = (1 + (48 // p) ** 2, (1 + (48 // p) ** 2) * D)
check(answer_1, lambda a: tuple(a) == truth_1, "the patches form a square grid of 48 / p a side; add the class token")

# %% tags=["hide-cell", "solution"]
larger = ViT(ViTConfig(48, p, D, L, H), num_classes=2)
solution_1 = (larger.pos_embed.shape[1], larger.pos_embed.numel())
assert is_right(solution_1, lambda a: tuple(a) == truth_1)
Markdown(
    f"N = 1 + ({48 // p})² = {solution_1[0]}, times D = {D}: {solution_1[1]:,} numbers, read off a model built at 48 px."
)

# %% [markdown]
# **Exercise 2** (●●○ medium, 10 minutes). Write an edit for the site `heads` that switches off attention head 0, and only it.
# At that site y holds the heads side by side, (B, N, D), each D/H wide.

# %%
answer_2 = None  # def answer_2(y, x): ...


# %%
def right_2(edit) -> bool:
    y = torch.randn(2, 5, D)
    out = edit(y.clone(), torch.zeros(2, 5, 3 * D))
    return bool((out[..., : D // H] == 0).all()) and torch.equal(out[..., D // H :], y[..., D // H :])


check(answer_2, right_2, "the first D // H channels belong to head 0; leave the others as they are")


# %% tags=["hide-cell", "solution"]
def solution_2(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros_like(y[..., : D // H]), y[..., D // H :]], dim=-1)


assert is_right(solution_2, right_2)
with measure.edit_at(model, "heads", solution_2, blocks=[L - 1]):
    off = (model.forward_features(x) - features).norm() / features.norm()
Markdown(f"Without head 0 of the last block the features move by {100 * off:.1f} %.")

# %% [markdown]
# **Exercise 3** (●●○ medium, 10 minutes). Attention and MLP treat tokens as a *set*. Predict first, then measure: if the
# patches are shuffled and the position embedding is zero, do the class features change? And with the real position
# embedding? Answer with a pair of truth values: (changes without position, changes with it).

# %%
answer_3 = None  # for example (True, True)

# %%
shuffle = torch.randperm(N - 1, generator=torch.Generator().manual_seed(1))
kept = model.pos_embed.clone()
gaps = {}
for name, position_embedding in (("without", torch.zeros_like(kept)), ("with", kept)):
    model.pos_embed.copy_(position_embedding)
    straight = model.forward_features(x)
    with measure.edit_at(model, "patches", lambda y, x: y[:, shuffle]):
        gaps[name] = ((model.forward_features(x) - straight).norm() / straight.norm()).item()
model.pos_embed.copy_(kept)
truth_3 = (gaps["without"] > 1e-4, gaps["with"] > 1e-4)
check(answer_3, lambda a: tuple(a) == truth_3, "nothing in a block depends on a token's index")

# %% tags=["hide-cell", "solution"]
assert is_right((False, True), lambda a: tuple(a) == truth_3)
Markdown(
    f"Without position the features of shuffled images differ by {100 * gaps['without']:.5f} %, rounding only; "
    f"with it by {100 * gaps['with']:.0f} %. All the model knows of geometry is in that one table (and inside the patches)."
)

# %% [markdown]
# **Exercise 4** (●●● hard, 10 minutes). Without running it: how many parameters does a block of width 768 have, LayerScale
# not included? Then: which fraction of them are biases (LayerNorm biases included)? Answer (count, fraction).

# %%
answer_4 = None  # for example (7_000_000, 0.01)

# %%
one = dict(base.blocks[0].named_parameters())
truth_4 = (sum(q.numel() for q in one.values()), sum(q.numel() for n, q in one.items() if "bias" in n))
right_4 = lambda a: a[0] == truth_4[0] and abs(a[1] - truth_4[1] / truth_4[0]) < 1e-5  # noqa: E731
check(answer_4, right_4, "12 D² + 13 D in all; the biases are 3D + D + 4D + D in linear layers and 2D in norms")

# %% tags=["hide-cell", "solution"]
solution_4 = (12 * 768**2 + 13 * 768, 11 * 768 / (12 * 768**2 + 13 * 768))
assert is_right(solution_4, right_4)
Markdown(
    f"12·768² + 13·768 = {solution_4[0]:,}, of which 11·768 are biases: {100 * solution_4[1]:.2f} %. "
    "BitFit (next chapter) trains exactly those."
)

# %% [markdown]
# ## Common mistakes
#
# - **Looking for `q_proj` in a fused model.** timm keeps queries, keys and values in one `qkv` layer, so a tool that finds
#   layers by name attaches nowhere, or to all three at once ([peft#691](https://github.com/huggingface/peft/issues/691), [peft#1705](https://github.com/huggingface/peft/issues/1705)).
#   *Notice:* zero trained parameters, or three times the expected number. *Do:* print the names and shapes of what trains.
# - **Normalised or not.** The same data, fed with and without mean and deviation, gives two tables that are compared with each
#   other ([PETL-ViT#14](https://github.com/JieShibo/PETL-ViT/issues/14)). *Notice:* mean and deviation of a batch, as in section 1.1. *Do:* feed what the backbone
#   was trained on; its `mean` and `std` travel in its configuration here.
# - **Waiting for attention maps.** They are asked for in every ViT repository ([vit-pytorch#82](https://github.com/lucidrains/vit-pytorch/issues/82)), and a fused kernel,
#   `scaled_dot_product_attention`, never forms them. *Notice:* a hook on the softmax is never called. *Do:* compute them from
#   the same queries and keys, as section 1.3 does.
# - **A head that comes back random.** Only “the adapter” was saved, not the classifier ([peft#577](https://github.com/huggingface/peft/issues/577)). *Notice:* accuracy
#   at chance after loading. *Do:* keep the head with what was trained, as `save_adapter` does.
#
# ## Limits
#
# The sites cover 208 of timm's ViTs: the supervised ones, CLIP's, DINOv2's and DINOv3's, SigLIP's, EVA-02's. Hierarchical
# transformers, stems of convolutions and norms behind a branch are refused with a message that names them. Attention maps show
# where information was taken from, not what caused a decision; and `mini` has a grid of a few patches a side, so its maps are
# coarse.

# %%
Markdown(
    f"""## Summary in five lines

1. An image of {config.image_size} px becomes {N} tokens of width {D}; {L} blocks keep that shape; the head reads one token.
2. Attention mixes tokens, the MLP works on each alone, and both only *add* to the residual stream.
3. {len(steps)} sites with one rule, `y = edit(y, x)`, carry all {len(acts)} methods; the model's file names none of them.
4. With the same weights, timm and this model differ by {difference:.0e}; two deliberate mistakes are caught.
5. {mlp_share:.0f} % of ViT-B/16 is MLP and {100 * solution_4[1]:.2f} % of a block is biases: methods choose very different places.

Next: chapter 2 derives each method and attaches it here."""
)
