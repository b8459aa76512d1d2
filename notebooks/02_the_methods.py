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
# # 2 · The methods, each derived and attached
#
# **Question.** Many papers propose ways to tune a Vision Transformer with few parameters. What does each really
# change, how many numbers is that, and what remains of it when training is over?
#
# **Claim.** All of them are one idea with different answers to three questions: *where* is something added, of *which
# form*, and *how does it start*? From the answers follow the number of parameters, whether training begins at the
# pre-trained function, and whether the addition can be folded away afterwards.
#
# **What would refute it.** A method whose counted parameters differ from the formula derived here; one that promises to
# start at the pre-trained function and does not; one that claims to merge and gives other logits merged. Every method
# below is put to these three tests where it is introduced, and the chapter stops with an error if one fails.
#
# **Control.** The same methods with an initialisation that does *not* start at the pre-trained function. The test of the
# start has to report them.
#
# You need: chapter 1 (the sites). Time: 90 minutes with the exercises.

# %% tags=["parameters"]
import os

PROFILE = os.environ.get("PETL_PROFILE", "laptop")
RESULTS = os.environ.get("PETL_RESULTS", "shipped")
RUNS = os.environ.get("PETL_RUNS", "")

# %%
import inspect

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Code, Markdown, display
from matplotlib.lines import Line2D

import petl_core as pc
from petl_core.vit import ViTConfig
from petl_guide import anatomy
from petl_guide import examine as measure
from petl_guide.exercises import check, is_right
from petl_guide.figures import style
from petl_guide.figures.tables import table
from petl_guide.interactive import explorer

style.apply()
SMOKE = PROFILE == "smoke"
task = pc.load_task("digits")
mini = pc.create_model("mini", "linear", num_classes=task.num_classes).eval()
mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (mini.config.mean, mini.config.std))
x = (task.split("val200")[0][:32] / 255 - mean) / std  # the images on which promises are measured
D, L = mini.config.width, mini.config.depth
FAMILIES = style.FAMILIES
methods = sorted(
    (pc.methods.get(n) for n in pc.methods.names()), key=lambda m: (list(FAMILIES).index(m.family), m.name)
)
colours = {m.name: style.look(m.name).colour for m in methods}

# %% [markdown]
# ## 2.1 One picture, one idea
#
# Everything below is written on one picture, the block of chapter 1. With $X$ the tokens that enter it,
#
# $$ X' = X + \mathrm{Attn}(Z_1), \quad X'' = X' + \mathrm{MLP}(Z_2), \qquad Z_1 = \mathrm{LN}_1 X,\quad
# Z_2 = \mathrm{LN}_2 X', \qquad X, X', X'', Z_1, Z_2 \in \mathbb{R}^{N\times D}. $$
#
# Inside are four linear maps $y = Wx + b$, applied to each token: $W_{qkv} \in \mathbb{R}^{3D\times D}$ and
# $W_{proj} \in \mathbb{R}^{D\times D}$ in the attention, $W_{fc1} \in \mathbb{R}^{4D\times D}$ and
# $W_{fc2} \in \mathbb{R}^{D\times 4D}$ in the MLP. Let $f_W$ be any operation of the frozen model, on one token. A method
# replaces it by
#
# $$ h = f_{W}(x) + \Delta_\theta(x), \qquad W \text{ fixed},\; \theta \text{ small and trained}, \qquad
# x \in \mathbb{R}^{D_{in}},\; h \in \mathbb{R}^{D_{out}}, $$
#
# and $\Delta_\theta$ is either a change of $W$ itself (then it can be *merged*: after training it is just another $W$) or a
# new function (then it stays, and costs time at every image). If $\Delta_\theta = 0$ at the start, tuning begins exactly at
# the pre-trained function, and the first gradient step improves on it instead of repairing it.
#
# Sizes: D width, L depth, N tokens, C classes, r rank or bottleneck, P prompts, T queries. $s \in \mathbb{R}$ is a fixed
# scale. The head ($C \times D$) trains with every method and is never counted.
#
# Where do the methods attach? The picture is drawn by letting each of them attach itself to a small ViT and looking at
# what changed, so it cannot disagree with the code.

# %%
title = "A method is a choice of places: discs edit what passes, squares train what is there"
fig = anatomy.attachments_figure(methods, colours, title)
style.show(fig, "The ViT block with its sites; below, one line per method with marks under the places where it acts")

# %% [markdown]
# And these are the tests. `examine` builds the method on `mini`, counts, compares the untrained start with the plain
# model, then *disturbs everything trainable* (merging zeros would prove nothing) and compares merged with unmerged.

# %%
Code(inspect.getsource(measure.examine), language="python")

# %%
examined = {}


def look(*names: str) -> None:
    """Show each method's own source and the outcome of its three tests; stop the chapter if one fails."""
    for name in names:
        display(Code(measure.extract(pc.methods.get(name)), language="python"))
        examined[name] = measure.examine(name, x)
        assert examined[name].kept, examined[name].text()
        display(Markdown(examined[name].text()))


# %% [markdown]
# ## 2.2 Selective methods: train some of what is there
#
# Nothing is added; the question is only which of the existing parameters may move. Merging is trivial, because the
# tuned model *is* a plain ViT.
#
# **Linear** probing (no one's invention; an early study is [Razavian et al., 2014](https://arxiv.org/abs/1403.6382)) trains no backbone parameter at all, $\Delta = 0$: the class
# features f stay those of the pre-training, and the head learns to read them,
#
# $$ \ell = W_{head} f + b_{head}, \qquad f \in \mathbb{R}^{D} \text{ as it was},\; W_{head} \in \mathbb{R}^{C\times D},\;
# b_{head}, \ell \in \mathbb{R}^{C}. $$
#
# Everything else must beat it to be worth the trouble. Count: $0$.
#
# **Full** fine-tuning ([Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929)) trains everything,
#
# $$ W \leftarrow W + \Delta W, \quad b \leftarrow b + \Delta b \quad \text{everywhere}, \qquad
# \Delta W \in \mathbb{R}^{D_{out}\times D_{in}},\; \Delta b \in \mathbb{R}^{D_{out}}: $$
#
# $L(12D^2+13D)$ numbers in the blocks plus patch embedding, positions, class token and the last norm. It can reach any
# function a PEFT method can reach through weights. If it does worse with little data, the reason is optimisation or
# over-fitting, not capacity; chapter 4 tunes it as carefully as the others.

# %%
look("linear", "full")

# %% [markdown]
# **BitFit** ([Ben Zaken et al., 2022](https://arxiv.org/abs/2106.10199)) keeps of that only $\Delta b$, for every bias:
#
# $$ y = Wx + (b + \Delta b), \qquad y, b, \Delta b \in \mathbb{R}^{D_{out}}. $$
#
# A bias shifts a layer's output by the same vector whatever the image; through the next nonlinearity that still reweights
# features. Count: per block $3D + D + 4D + D$ in linear layers and $2D$ in LayerNorms, plus patch embedding and last norm:
# $11DL + 2D$.
#
# **LayerNorm** tuning ([Basu et al., 2024](https://arxiv.org/abs/2304.01917)) trains scale and shift of all $2L+1$ LayerNorms,
#
# $$ \mathrm{LN}(x) = (w + \Delta w) \odot \frac{x-\mu}{\sqrt{\sigma^2+\epsilon}} + (b + \Delta b), \qquad
# x, w, b, \Delta w, \Delta b \in \mathbb{R}^{D},\; \mu, \sigma \in \mathbb{R}. $$
#
# Count: $2D(2L+1)$. It overlaps BitFit in the norms' biases and adds a gain for each channel.

# %%
look("bitfit", "layernorm")

# %% [markdown]
# **Selective** tuning ([Touvron et al., 2022](https://arxiv.org/abs/2203.09795)) unfreezes whole layers of chosen blocks l,
#
# $$ W_k \leftarrow W_k + \Delta W_k \quad \text{for the chosen } k, l, \qquad
# \Delta W_k \in \mathbb{R}^{D_{out}\times D_{in}}: $$
#
# attention ($4D^2+4D$ each block), MLP ($8D^2+5D$) or the whole block ($12D^2+13D$). Blocks are chosen by exact index. The
# released code matched names by substring, so that asking for block 1 of 12 also unfroze blocks 10 and 11; the exact set is
# part of our tests.

# %%
look("selective")

# %% [markdown]
# ## 2.3 Affine methods: rescale what passes
#
# (The figures count them as selective: a per-channel gain and shift is what a bias or a LayerNorm already is.)
#
# **SSF** ([Lian et al., 2022](https://arxiv.org/abs/2210.08823)) gives *every* operation, not only the LayerNorms, a scale $\gamma$ and a shift
# $\beta$ on its output y:
#
# $$ y \leftarrow \gamma \odot y + \beta, \qquad y, \gamma, \beta \in \mathbb{R}^{D_{out}}. $$
#
# Widths per block: LN1 D, qkv 3D, proj D, LN2 D, fc1 4D, fc2 D, together 11D; plus patch embedding and last norm: count
# $2(11DL + 2D)$. It merges into the operation before it: $W' = \mathrm{diag}(\gamma)W$, $b' = \gamma \odot b + \beta$. The paper
# draws $\gamma \sim N(1, 0.02^2)$ and $\beta \sim N(0, 0.02^2)$, so the start is *near* the pre-trained function, not at it: the
# method promises nothing and the test reports the gap (the largest of all features, which have a deviation of about one).

# %%
look("ssf")

# %% [markdown]
# **DiffFit** ([Xie et al., 2023](https://arxiv.org/abs/2304.06648)) trains biases and norms as BitFit and LayerNorm do, and scales only two
# outputs in each block, those of the branches:
#
# $$ X' = X + \gamma_1 \odot \mathrm{Attn}(Z_1), \quad X'' = X' + \gamma_2 \odot \mathrm{MLP}(Z_2), \qquad
# \gamma_1, \gamma_2 \in \mathbb{R}^{D} \text{ for each token alike}, $$
#
# starting at one. Count: BitFit, plus the norms' scales $D(2L+1)$, plus $2DL$ gains. A gain folds into the rows of proj or fc2.

# %%
look("difffit")

# %% [markdown]
# ## 2.4 Low-rank methods: a thin matrix beside a thick one
#
# **LoRA** ([Hu et al., 2022](https://arxiv.org/abs/2106.09685)). Full fine-tuning adds some $\Delta W$ to $W_{qkv}$, which has $3D^2$ entries. LoRA's
# guess is that a $\Delta W$ of low rank suffices, the product of a thin matrix and a flat one:
#
# $$ \Delta W = s\,B A, \qquad \Delta W \in \mathbb{R}^{3D\times D},\; A \in \mathbb{R}^{r \times D},\; B \in \mathbb{R}^{3D \times r}. $$
#
# Count: $rD + 3Dr = 4Dr$ per block, $4DrL$ in all. $A$ starts random and $B$ at zero: then $\Delta W = 0$, yet the
# gradient of $B$ is not zero, because $A$ is not. Merge: add $sBA$ to the weight. The released code's model constructor
# redraws *every* linear layer after the method has initialised itself, B included (section 2.8).

# %%
look("lora")

# %% [markdown]
# FacT ([Jie and Deng, 2023](https://arxiv.org/abs/2212.03145)) goes on: the updates of different layers may have directions in common. So all
# layers share one $U$ and one $V$, and each D × D piece i of each layer (q, k, v, proj, four of fc1, four of fc2: $12$ per block)
# has only a core $S_i$ in between. **FacT-TT** (tensor train) keeps each core as it is:
#
# $$ \Delta W_i = s\,V S_i U, \qquad \Delta W_i \in \mathbb{R}^{D\times D},\; U \in \mathbb{R}^{r\times D},\; V \in \mathbb{R}^{D\times r},\;
# S_i \in \mathbb{R}^{r\times r}. $$
#
# Count: $2Dr + 12Lr^2$. **FacT-TK** (Tucker) makes even the cores a mixture of r shared ones,
#
# $$ S_i = \sum_{k=1}^{r} M_{ki}\, G_k, \qquad G_k \in \mathbb{R}^{r\times r},\; M \in \mathbb{R}^{r \times 12L}. $$
#
# Count: $2Dr + 12Lr + r^3$. For small r it is smaller than any other low-rank method here; the $r^3$ takes over soon. In both, $V$ starts at zero,
# and both merge as LoRA does.

# %%
look("fact_tt", "fact_tk")

# %% [markdown]
# ### Is the update that tuning learns of low rank?
#
# Low-rank methods stand on that guess, so look. Train LoRA and full fine-tuning on the same task, take
# $\Delta W = W_{tuned} - W_{pre}$ of every matrix, and keep only its k largest singular directions. If full
# fine-tuning's accuracy needs all of them, the guess is wrong for this task; the control is k = 0, which must fall
# back to what the tuned head makes of the untuned features.

# %%
tuned, curves = {}, {}
ranks = (0, 1, 2, 4, 8, 16, 32, D)
for name, lr in (("lora", 3e-3), ("full", 1e-3)):
    tuned[name] = pc.create_model("mini", name, num_classes=task.num_classes)
    recipe = pc.Recipe(lr=lr, epochs=1 if SMOKE else 6, batch_size=32)
    run = pc.train(tuned[name], task, recipe, max_train=64 if SMOKE else None)
    learned = explorer.update_explorer(tuned[name], task, ranks)
    curves[style.title(name)] = [learned.answer(rank=k).values["accuracy (%)"] for k in ranks]
    print(f"{name}: {run.accuracy:.1f} % on all {len(run.labels)} test images")
kept = pd.DataFrame(curves, index=[f"{k} directions" for k in ranks]).T
table(kept.reset_index(names="trained with"), "{:.1f}", "Accuracy (%) on 500 test images, by directions kept")

# %%
fig, ax = plt.subplots(figsize=(style.WIDTH, 3.2))
for name in tuned:
    look_ = style.look(name)
    ax.plot(range(len(ranks)), curves[look_.title], marker=look_.marker, color=look_.colour, label=look_.title)
ax.set_xticks(range(len(ranks)), [*ranks[:-1], f"all {D}"])
ax.set_xlabel("singular directions kept of each matrix's update")
ax.set_ylabel("accuracy on 500 test images (%)")
enough = {n: next(k for k, v in zip(ranks, c, strict=True) if v >= c[-1] - 1) for n, c in curves.items()}
ax.set_title(
    f"Within a point of their whole update's accuracy: LoRA with {enough['LoRA']} directions, full with {enough['Full']} of {D}"
)
ax.legend()
style.show(fig, "Accuracy against singular directions kept of the update, a line for LoRA and one for full fine-tuning")

# %%
whole = explorer.LearnedUpdate(tuned["full"])
energy = [
    (s.square().cumsum(0) / s.square().sum())[7].item()
    for s in (whole.spectrum(f"blocks.{i}.attn.qkv.weight") for i in range(L))
]
Markdown(
    f"By energy the 8 leading of {D} directions of full fine-tuning's qkv updates hold {100 * min(energy):.0f} to "
    f"{100 * max(energy):.0f} % of the squared norm, so the update is {'nearly' if min(energy) > 0.9 else 'not'} of rank 8. "
    f"By accuracy, {enough['Full']} directions reach the whole update's {curves['Full'][-1]:.1f} % less a point; without "
    f"any update the same head gets {curves['Full'][0]:.1f} %." + (" (Smoke profile: meaningless.)" if SMOKE else "")
)

# %% [markdown]
# Play with it: how many directions, and how strongly? Scale 0 is the untuned backbone; a scale above 1 overshoots.

# %%
knobs = explorer.update_explorer(tuned["lora"], task, (0, 1, 2, 4, 8), images=300)
some = table(knobs.static({"rank": 1}, {"rank": 8, "scale": 0.0}, {"rank": 8, "scale": 4.0}))
alt = "Accuracy against the scale of LoRA's learned update, a line for each number of directions kept."
display(knobs.offline("updates", some, alt))
knobs.widget()

# %% [markdown]
# ## 2.5 Adapters: a small network on the way
#
# An adapter is a bottleneck MLP that reads a token u,
#
# $$ g(u) = s\,\big(W_{up}\,\mathrm{ReLU}(W_{down}\,u + b_{down}) + b_{up}\big), \qquad u, b_{up} \in \mathbb{R}^{D},\;
# W_{down} \in \mathbb{R}^{r\times D},\; b_{down} \in \mathbb{R}^{r},\; W_{up} \in \mathbb{R}^{D\times r}: $$
#
# $2Dr + r + D$ numbers. With $W_{up} = 0$ and $b_{up} = 0$ it starts as zero. The ReLU between the two matrices is what
# forbids merging: no single matrix does the same. The family differs in *where* g sits on the picture.
#
# **Houlsby adapter** ([Houlsby et al., 2019](https://arxiv.org/abs/1902.00751)): after attention *and* after the MLP,
#
# $$ X' = X + Y_1 + g_1(Y_1), \quad X'' = X' + Y_2 + g_2(Y_2), \qquad Y_1 = \mathrm{Attn}(Z_1),\; Y_2 = \mathrm{MLP}(Z_2), \qquad
# Y_1, Y_2 \in \mathbb{R}^{N\times D}. $$
#
# Count: $2L(2Dr + r + D)$. Its paper starts near zero; the study means a random start, ours is $W_{up} = 0$.
#
# **Pfeiffer adapter** ([Pfeiffer et al., 2021](https://arxiv.org/abs/2005.00247)): only after the MLP,
#
# $$ X'' = X' + Y_2 + g(Y_2), \qquad Y_2 = \mathrm{MLP}(Z_2) \in \mathbb{R}^{N\times D}: $$
#
# half the parameters, $L(2Dr + r + D)$, and about half the added time.

# %%
look("houlsby_adapter", "pfeiffer_adapter")

# %% [markdown]
# **AdaptFormer** ([Chen et al., 2022](https://arxiv.org/abs/2205.13535)): beside the MLP instead of after it, reading the tokens before LN2
# (the paper's equation 2 has LN(X'); its authors say that their code, which reads X' as here and in the study, is right: [AdaptFormer#9](https://github.com/ShoufaChen/AdaptFormer/issues/9)),
#
# $$ X'' = X' + \mathrm{MLP}(Z_2) + g(X'), \qquad X', Z_2 \in \mathbb{R}^{N\times D}. $$
#
# Count as Pfeiffer's. Because its input is not normalised, the scale s matters more than elsewhere.

# %%
look("adaptformer")

# %% [markdown]
# **ConvPass** ([Jie and Deng, 2024](https://arxiv.org/abs/2207.07039)) puts a 3 × 3 convolution $K *$ over the patch grid into the bottleneck, beside
# attention and MLP, which brings back the locality a ViT lacks:
#
# $$ X' = X + \mathrm{Attn}(Z_1) + c_1(Z_1), \qquad c(z) = s\,\big(W_{up}\,q(K * q(W_{down}\,z + b_{down}) + b_K) + b_{up}\big), $$
#
# and $c_2(Z_2)$ beside the MLP in the same way, with $z, b_{up} \in \mathbb{R}^{D}$, $W_{down} \in \mathbb{R}^{r\times D}$,
# $K \in \mathbb{R}^{r\times r\times 3\times 3}$, $b_{down}, b_K \in \mathbb{R}^{r}$, $W_{up} \in \mathbb{R}^{D\times r}$ and $q$ CLIP's GELU.
# Count: $2L(2Dr + 9r^2 + 2r + D)$. It needs a square grid: the class token is convolved alone, so only the kernel's centre acts
# on it.

# %%
look("convpass")

# %% [markdown]
# **RepAdapter** ([Luo et al., 2023](https://arxiv.org/abs/2302.08106)) drops the nonlinearity, and thereby can merge. Before qkv and before fc1
# each normalised token z becomes
#
# $$ z + s\,\big(B(Az + a) + b\big), \qquad z, b \in \mathbb{R}^{D},\; A \in \mathbb{R}^{r\times D},\; a \in \mathbb{R}^{r},\;
# B \in \mathbb{R}^{D\times r} \text{ in } G = 2 \text{ blocks}. $$
#
# What follows is $Wz + b_W$, so $W' = W(I + sBA)$ and $b_W' = b_W + sW(Ba + b)$. Count: $2L(Dr + r + Dr/G + D)$.

# %%
look("repadapter")

# %% [markdown]
# ## 2.6 Prompts: more tokens
#
# Nothing inside the blocks changes; extra learned tokens take part in the attention. They cannot merge: they are input,
# and they lengthen the sequence for every image.
#
# **VPT-Shallow** ([Jia et al., 2022](https://arxiv.org/abs/2203.12119)): P tokens enter before block 0 and stay to the end,
#
# $$ X_0 \leftarrow [X_0;\, E] \in \mathbb{R}^{(N+P)\times D}, \qquad X_0 \in \mathbb{R}^{N\times D},\; E \in \mathbb{R}^{P\times D}. $$
#
# Count: $PD$. It never starts at the pre-trained function: P strangers join every softmax. The released code dropped them again
# after block 0; ours keeps them, as in the paper. (They stand behind the patches; attention knows no order, so that changes
# nothing.)
#
# **VPT-Deep**: fresh prompts before every block l, the previous ones discarded after it,
#
# $$ [X_{l+1};\, \cdot\,] = \mathrm{Block}_l([X_l;\, E_l]), \qquad X_l \in \mathbb{R}^{N\times D},\; E_l \in \mathbb{R}^{P\times D}. $$
#
# Count: $LPD$.

# %%
look("vpt_shallow", "vpt_deep")

# %%
lengths = {}
for name in ("linear", "vpt_shallow", "vpt_deep", "vqt"):
    net = pc.create_model("mini", name, num_classes=10).eval()
    lengths[name] = [next(s.y[1] for s in measure.trace(net, x[:1], i) if s.site == "norm1") for i in range(L)]
pd.DataFrame(lengths, index=[f"tokens in block {i}" for i in range(L)]).T

# %% [markdown]
# **VQT** ([Tu et al., 2023](https://arxiv.org/abs/2212.03220)) adds tokens that only *ask*: T queries per block attend to the keys and values of the
# ordinary tokens (here for one head), but offer none themselves,
#
# $$ U_l = Q_l + \mathrm{softmax}\!\Big(\frac{(\mathrm{LN}_1 Q_l)\,W_q^\top K^\top}{\sqrt{D}}\Big) V\, W_{proj}^\top, \qquad
# O_l = U_l + \mathrm{MLP}(\mathrm{LN}_2 U_l), $$
#
# with $Q_l, U_l, O_l \in \mathbb{R}^{T\times D}$, $K, V \in \mathbb{R}^{N\times D}$, $W_q, W_{proj} \in \mathbb{R}^{D\times D}$. So the
# backbone's own tokens never notice them (the table above shows no extra token in its stream), and stay equal bit by bit. What
# the queries gathered goes to the head through learned weights over all rows $o_j$ of the $O_l$ and the class token,
#
# $$ f = \sum_{j=0}^{LT} w_j\, \frac{o_j}{\lVert o_j\rVert}, \qquad f, o_j \in \mathbb{R}^{D},\; w \in \mathbb{R}^{LT+1}. $$
#
# Count: $LTD + LT + 1$. In the released code the queries' outputs are thrown away and they receive no gradient at all; the cell
# below checks both halves of what is meant.

# %%
look("vqt")

# %%
net = pc.create_model("mini", "vqt", num_classes=10).eval()
stream = {}
for key, each in (("plain", mini), ("vqt", net)):
    with measure.edit_at(each, "norm", lambda y, x, key=key: stream.__setitem__(key, y) or y):
        each(x)
net(x).logsumexp(1).sum().backward()
gradients = {n: p.grad.abs().max().item() for n, p in net.named_parameters() if n.startswith("methods.")}
Markdown(
    f"Backbone tokens bit-equal to the plain model's: **{torch.equal(stream['vqt'], stream['plain'])}**. "
    f"Smallest of the {len(gradients)} tensors' largest gradients: **{min(gradients.values()):.1e}** (zero would mean: never trains)."
)

# %% [markdown]
# ## 2.7 All of them, on two backbones
#
# Every number is computed now: ViT-B/16 by attaching the method to a model without weights (the `meta` device) and
# counting; the tests on `mini`.

# %%
rows = []
for m in methods:
    if m.name not in examined:
        examined[m.name] = measure.examine(m.name, x)
    e = examined[m.name]
    big = pc.methods.get(m.name)
    assert measure.meta_count(big, ViTConfig()) == big.count(ViTConfig()), m.name
    rows.append(
        {
            "method": m.title,
            "family": m.family,
            "size": f"{m.size_field} {getattr(m, m.size_field)}" if m.size_field else "–",
            "ViT-B/16": big.count(ViTConfig()),
            "mini": pc.methods.get(m.name).count(mini.config),
            "start gap": e.start_gap,
            "merge gap": e.merge_gap,
            "source": m.paper,
        }
    )
overview = pd.DataFrame(rows)
table(overview, {"start gap": "{:.0e}", "merge gap": "{:.0e}"}, "– in the last but one column: does not merge, stays")

# %%
broken = [e.method for e in examined.values() if not e.kept]
assert not broken
at_start = sum(e.start_gap < 1e-5 for e in examined.values())
merges = sum(e.merge_gap is not None for e in examined.values())
Markdown(
    f"**{len(examined)} methods, {len(broken)} broken promises.** {at_start} start exactly at the pre-trained function, "
    f"{merges} merge (largest gap {max(e.merge_gap for e in examined.values() if e.merge_gap is not None):.0e}); the other "
    f"{len(examined) - merges} stay in the model and cost time at every image."
)

# %% [markdown]
# ### How small is small?
#
# The same count at the default size (dot) and over sizes from 2 to 64 (line).

# %% tags=["signature"]
config, total = ViTConfig(), pc.methods.get("full").count(ViTConfig())
ranked = sorted((m for m in methods if m.count(config)), key=lambda m: m.count(config))
fig, ax = plt.subplots(figsize=(style.WIDTH, 0.3 * len(ranked) + 1.2))
for y, m in enumerate(ranked):
    colour, merged = colours[m.name], examined[m.name].merge_gap is not None
    if m.size_field:
        ends = [pc.methods.get(m.name, **{m.size_field: s}).count(config) for s in (2, 64)]
        ax.plot(ends, [y, y], color=colour, lw=3, alpha=0.3, solid_capstyle="round")
    ax.plot(m.count(config), y, "o", ms=9, color=colour, mfc=colour if merged else "white", mew=2)
    share = 100 * m.count(config) / total
    ax.text(
        m.count(config) * 1.25,
        y + 0.3,
        f"{share:.0f} %" if share > 10 else f"{share:.2g} %",
        fontsize=7,
        color=colour,
        va="center",
    )
ax.set_yticks(range(len(ranked)), [m.title for m in ranked])
ax.set_xscale("log")
ax.set_xlabel("trained parameters of ViT-B/16, head not counted\n(number: % of the backbone; line: sizes 2 to 64)")
few = 2  # per cent
below = sum(100 * m.count(config) < few * total for m in ranked)
ax.set_title(f"{below} of {len(ranked)} methods train less than {few} % of ViT-B/16 at their default size")
handles = [
    Line2D([], [], marker="o", ls="", color=c, label=f) for f, c in FAMILIES.items() if f in set(overview.family)
]
handles += [
    Line2D([], [], marker="o", ls="", color="k", label="merges"),
    Line2D([], [], marker="o", ls="", color="k", mfc="w", label="stays"),
]
ax.legend(handles=handles, loc="lower right")
style.show(
    fig, f"Trained parameters of {len(ranked)} methods on ViT-B/16 on a logarithmic axis, smallest {ranked[0].title}"
)

# %%
config_names = {"ViT-B/16": ViTConfig(), "mini": mini.config, "ViT-Ti/16": ViTConfig(width=192, heads=3)}
counter = explorer.count_explorer(config_names)
some = table(counter.static({"method": "fact_tk", "size": 16}, {"backbone": "mini", "method": "bitfit"}))
display(counter.offline("counts", some, "Bars: trained parameters of every method on ViT-B/16, LoRA marked."))
counter.widget()

# %% [markdown]
# ## 2.8 The negative control: a start that is not the pre-trained function
#
# In the study's released code, the constructor of the model ends with a routine that redraws all linear layers, and so
# overwrites every zero the methods had set. `init="released"` reproduces that. If our test of the start is worth
# anything, it must report these.

# %%
control = []
for m in methods:
    if "released" in inspect.getsource(type(m)) and hasattr(m, "init"):
        wrong = measure.examine(m.name, x, init="released")
        control.append({"method": m.title, "intended": examined[m.name].start_gap, "released": wrong.start_gap})
control = pd.DataFrame(control)
caught = control[(control.intended < 1e-5) & (control.released > 1e-3)]
assert len(caught) and "LoRA" in set(caught.method)
display(table(control, {"intended": "{:.1e}", "released": "{:.1e}"}, "Largest change of a feature at the start"))
Markdown(
    f"**{len(caught)} methods that start at the pre-trained function no longer do with the released initialisation** "
    f"(largest change of a feature: {caught.released.max():.2f} for {caught.loc[caught.released.idxmax(), 'method']}). "
    "The consequence in the study: adapter variants that differ only in how they begin were, in fact, the same method."
)

# %% [markdown]
# ## Exercises
#
# **Exercise 1** (●○○ easy, 5 minutes). What is the largest LoRA rank on ViT-B/16 that trains fewer parameters than SSF?

# %%
answer_1 = None  # a whole number

# %%
budget = pc.methods.get("ssf").count(ViTConfig())
truth_1 = max(r for r in range(1, 65) if pc.methods.get("lora", rank=r).count(ViTConfig()) < budget)
check(answer_1, lambda a: a == truth_1, "SSF has 2 (11 D L + 2 D) numbers, LoRA 4 D r L; divide")

# %% tags=["hide-cell", "solution"]
solution_1 = (2 * (11 * 768 * 12 + 2 * 768) - 1) // (4 * 768 * 12)
assert is_right(solution_1, lambda a: a == truth_1)
Markdown(f"SSF trains {budget:,}; LoRA {4 * 768 * 12:,} per rank: **rank {solution_1}**.")

# %% [markdown]
# **Exercise 2** (●●○ medium, 15 minutes). Someone wants to be extra careful and sets *both* matrices of an adapter, and both
# biases, to zero. Which of the four tensors (`down.weight`, `down.bias`, `up.weight`, `up.bias`) can ever change? Work
# it out with the chain rule through $W_{up}\,\mathrm{ReLU}(W_{down}u + b_{down}) + b_{up}$ before you run anything.

# %%
answer_2 = None  # a set, for example {"up.weight", "up.bias"}

# %%
net = pc.create_model("mini", "pfeiffer_adapter", num_classes=task.num_classes)
with torch.no_grad():
    for name, parameter in net.named_parameters():
        if name.startswith("methods."):
            parameter.zero_()
pc.train(net, task, pc.Recipe(lr=1e-2, epochs=1, batch_size=32, weight_decay=0.0), max_train=64)
moved = {}
for name, parameter in net.named_parameters():
    if name.startswith("methods."):
        kind = ".".join(name.split(".")[-2:])
        moved[kind] = max(moved.get(kind, 0.0), parameter.abs().max().item())
truth_2 = {kind for kind, size in moved.items() if size > 0}
check(answer_2, lambda a: set(a) == truth_2, "ReLU(0) = 0 and, in torch, ReLU'(0) = 0; what multiplies each gradient?")

# %% tags=["hide-cell", "solution"]
assert is_right({"up.bias"}, lambda a: set(a) == truth_2), moved
Markdown(
    "The gradient of W_up is (output gradient) × ReLU(...)ᵀ = 0; that of W_down and b_down carries a factor W_up = 0 (and "
    "ReLU'(0) = 0). Only the up bias has a path: "
    + ", ".join(f"`{kind}` moved by {size:.1e}" for kind, size in moved.items())
    + ". One zero matrix is a safe start; with two only the second one's bias can move."
)

# %% [markdown]
# **Exercise 3** (●●○ medium, 15 minutes). Merge SSF by hand. Write `fold(weight, bias, scale, shift)` for a linear layer
# $y = Wx + b$ followed by $s \odot y + t$; return the new weight and bias.

# %%
answer_3 = None  # def answer_3(weight, bias, scale, shift): ...


# %%
def right_3(fold) -> bool:
    g = torch.Generator().manual_seed(3)
    W, b, s, t, u = (torch.randn(*shape, generator=g) for shape in ((6, 4), (6,), (6,), (6,), (5, 4)))
    weight, bias = fold(W.clone(), b.clone(), s, t)
    return torch.allclose(u @ weight.T + bias, s * (u @ W.T + b) + t, atol=1e-5)


check(answer_3, right_3, "s multiplies rows of W, because rows are outputs; do not forget that it also meets b")


# %% tags=["hide-cell", "solution"]
def solution_3(weight, bias, scale, shift):
    return scale[:, None] * weight, scale * bias + shift


assert is_right(solution_3, right_3)
assert not is_right(lambda W, b, s, t: (s[:, None] * W, b + t), right_3)  # the common slip is caught
Markdown("s·(Wx + b) + t = (diag(s)W)x + (s·b + t). Scaling the weight and forgetting the bias is the common slip.")

# %% [markdown]
# **Exercise 4** (●●● hard, 20 minutes). Two LoRAs of rank 4 were trained for two tasks on the same backbone, and someone
# adds both merged updates to one weight. Which rank can the sum have *at most*, and how many parameters would one LoRA
# need to represent it exactly, on ViT-B/16? Answer `(rank, parameters)`.

# %%
answer_4 = None  # for example (4, 147456)

# %%
g = torch.Generator().manual_seed(4)
pair = sum(torch.randn(192, 4, generator=g) @ torch.randn(4, 64, generator=g) for _ in range(2))
truth_4 = (int(torch.linalg.matrix_rank(pair)), pc.methods.get("lora", rank=8).count(ViTConfig()))
check(answer_4, lambda a: tuple(a) == truth_4, "stack the two B's side by side and the two A's on top of each other")

# %% tags=["hide-cell", "solution"]
assert is_right((8, 4 * 768 * 8 * 12), lambda a: tuple(a) == truth_4)
Markdown(f"[B₁ B₂][A₁; A₂] has inner width 8: rank at most {truth_4[0]}, {truth_4[1]:,} parameters.")

# %% [markdown]
# ## Common mistakes
#
# - **Comparing counts that count different things.** A table said 0.33 million parameters for an adapter whose formula gives
#   0.157; its authors corrected it ([NOAH#1](https://github.com/ZhangYuanhan-AI/NOAH/issues/1)). *Notice:* count what trains, and work the formula out. *Do:* say what is
#   counted. Here the head never is, and the formula stands in the method's file.
# - **One fixed scale for every task.** Which s was used, and for which task? It is asked of RepAdapter again and again
#   ([RepAdapter#9](https://github.com/luogen1996/RepAdapter/issues/9), [RepAdapter#11](https://github.com/luogen1996/RepAdapter/issues/11)); s multiplies the step of everything behind it. *Notice:* the loss hardly
#   moves, or jumps. *Do:* tune s, or say what it was.
# - **A size that was tuned for each task, quoted as one.** The number of parameters was a hyper-parameter, chosen on each data set
#   ([SPT#1](https://github.com/ziplab/SPT/issues/1)). *Notice:* one count in a table of many tasks. *Do:* report the size of each, or fix it.
# - **Far below the linear probe, and no error.** LoRA, run as its repository says, ended near 9 % on CIFAR-100
#   ([NOAH#26](https://github.com/ZhangYuanhan-AI/NOAH/issues/26)). *Notice:* compare with the probe, which LoRA contains. *Do:* before tuning anything, check that the
#   pre-trained weights were loaded (the start gap above) and that the trained tensors have gradient.
# - **Fused qkv.** A LoRA meant for q and v only, attached to one fused layer, is another method
#   ([peft#1705](https://github.com/huggingface/peft/issues/1705)). *Notice:* its count, $4Dr$ here. *Do:* say which rows the update reaches.
#
# ## Limits
#
# Promises were measured on `mini`, with images of 32 px; the contract tests do the same on other shapes. Equal parameter counts
# are not equal cost: prompts lengthen the sequence, adapters add steps (chapter 9). And nothing here says which
# method is better: that needs tuning, seeds and intervals (chapters 3 and 4). The rank experiment is one task, one seed.

# %%
Markdown(
    f"""## Summary in five lines

1. Every method is h + Δ(x): a place, a form, a start. Changes of weights merge ({merges} of {len(examined)}), new functions stay.
2. All {len(examined)} counted sizes equal their formulas, on ViT-B/16 and on `mini`; {below} of {len(ranked)} stay below {few} % of ViT-B/16.
3. {at_start} methods start exactly at the pre-trained function; {", ".join(e.method for e in examined.values() if not e.promises_start)} do not promise it.
4. Re-initialising behind a method's back undoes that for {len(caught)} of them, and the test notices.
5. One zero matrix makes a safe start; with two zero matrices no matrix ever moves.

Next: chapter 3, the tasks and the rules under which the methods are compared."""
)
