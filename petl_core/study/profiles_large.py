"""The profiles gpu and full: the study at its own size, with ViT-B/16, CLIP and DINOv2 on real images at 224 pixels.

Final runs have the study's recipe (AdamW, batch 64, 100 epochs, a tenth of them warm-up, cosine) in bfloat16; they are
three seeds, chosen by our protocol. gpu is made to fit into about a day of a fast GPU: nine methods, four trials each
(the three rates of ``LRS`` and one other size) that are a fifth as long as a final run. full has all methods, the
study's amounts of data and sizes, the smaller parts of chapter 04 and, beside our protocol, the published one: its
unequal grids with trials as long as final runs, and the three seeds that its released code names. What gpu runs, full
runs too, with equal digests. How long either takes on your machine: ``study --profile gpu --plan --measure``.

The data are not here: VTAB-1K, CIFAR-100, RESISC45, CLEVR and ImageNet with its shifts are read from below PETL_DATA,
and ``petl_core.data`` says for each where to get it. The weights are downloaded when the study starts.
"""

from __future__ import annotations

from typing import Any

from petl_core import methods
from petl_core.data.vtab import VTAB_SIZES
from petl_core.study.profile import Amount, Part, Profile, Robustness
from petl_core.training.train import Recipe

BACKBONE = "vit_base_patch16_224.orig_in21k"  # ImageNet-21k as in the ViT paper, not AugReg's later weights
CLIP = "vit_base_patch16_clip_quickgelu_224.openai"
SECOND = "vit_base_patch14_dinov2.lvd142m"  # self-supervised; at 224 pixels it has 16 x 16 patches
VTAB = tuple(f"vtab1k/{name}" for name in VTAB_SIZES)
ONE_OF_EACH = (
    "vtab1k/cifar",
    "vtab1k/resisc45",
    "vtab1k/clevr_dist",
)  # of VTAB's groups
MANY = ("real/cifar100@10000", "real/resisc45@9000", "real/clevr_dist@10000")
WHOLE = ("real/cifar100@50000", "real/resisc45@25200", "real/clevr_dist@70000")
TWINS = ("real/cifar100@500", "real/resisc45@225")  # five images a class: features are good already; they must move
IMAGENET = ("imagenet/100shot-seed0",)  # with the further splits v2, r, a and sketch

FINAL = Recipe(epochs=100, batch_size=64, precision="bf16")
TUNE = Recipe(epochs=20, batch_size=64, precision="bf16")
PUBLISHED = Recipe(epochs=100, batch_size=64, final_lr=1e-5, normalise="none", precision="bf16")  # images in [0, 1]
CLIP_TUNE = Recipe(epochs=1, batch_size=256, weight_decay=5e-3, augment="clip", precision="bf16")
CLIP_FINAL = Recipe(
    epochs=5, batch_size=256, weight_decay=5e-3, augment="clip", precision="bf16"
)  # the study's: up to 100
LRS = {
    "full": (1e-4, 3e-4, 1e-5, 1e-3),
    "selective": (3e-4, 1e-4, 1e-3),
    "others": (1e-3, 1e-2, 3e-3),  # the two published ones first; the first won 173 of 304 published searches
}
CLIP_LRS, CLIP_FULL_LRS = (3e-4, 3e-5, 1e-3), (3e-5, 1e-5, 1e-4)  # 3e-5 is the published one; gpu has the first two
MANY_LRS = (*LRS["others"], 5e-4), LRS["full"]  # with the study's lower rate there
AMOUNTS = (Amount(1000, 100, *MANY_LRS), Amount(20_000, 20, *MANY_LRS), Amount(100_000, 40, *MANY_LRS))
SEEDS_OF_THE_CODE = (42, 210, 420)  # the released code runs the first and names the others in a comment
GPU_METHODS = ("linear", "full", "bitfit", "ssf", "lora", "adaptformer", "convpass", "repadapter", "vpt_deep")
NOT_PUBLISHED = ("selective", "vqt")  # no results of these were released

COMMON: dict[str, Any] = {
    "tune": TUNE,
    "final": FINAL,
    "drop_paths": (0.1, 0.0),  # the study's rate first
    "device": "cuda",
    "lrs": LRS,
    "published_sizes": True,
    "amounts": AMOUNTS,
    "augments": (("real/cifar100", "crop_flip"), ("real/resisc45", "crop_flip_vertical")),  # the study's
}


def gpu() -> Profile:
    """ViT-B/16 on VTAB-1K, many-shot sets and shifts of ImageNet, with a reduced, equal grid."""
    few, closer = ("linear", "full", "lora"), ("full", "bitfit", "lora")
    return Profile(
        "gpu",
        "ViT-B/16 and CLIP on VTAB-1K, many-shot sets and ImageNet's shifts, reduced grid (about a day on a fast GPU)",
        backbone=BACKBONE,
        tasks=VTAB,
        methods=GPU_METHODS,
        parts=(
            Part("tuned"),
            *(Part(name, closer, ONE_OF_EACH) for name in ("default", "trials", "best_on_test")),
            *(Part(name, tasks=ONE_OF_EACH) for name in ("full_low_lr", "bitfit")),
            Part("drop_path", closer[1:], ONE_OF_EACH),
            Part("many_shot", few, (*TWINS, *MANY)),
            Part("mechanism", few, TWINS),
            Part("robustness", few, IMAGENET, tune=CLIP_TUNE, final=CLIP_FINAL),
            Part("second_backbone", ("linear", "full", "bitfit", "lora"), ONE_OF_EACH, backbone=SECOND),
        ),
        sizes=(8, 64),
        shipped="gpu",
        robust=Robustness(CLIP, lrs=CLIP_LRS[:2], full_lrs=CLIP_FULL_LRS[:2]),
        **COMMON,
    )


def full() -> Profile:
    """gpu with all methods, data and sizes, and the published protocol beside ours."""
    everything = tuple(methods.names())
    closer = ("full", "bitfit", "lora", "ssf")
    swept = ("linear", *closer, "houlsby_adapter", "fact_tk")
    published = tuple(name for name in everything if name not in NOT_PUBLISHED)
    return Profile(
        "full",
        "all methods, amounts of data and sizes of the study, by our protocol and by the published one (a cluster)",
        backbone=BACKBONE,
        tasks=VTAB,
        methods=everything,
        parts=(
            Part("tuned"),
            *(Part(name, closer, ONE_OF_EACH) for name in ("default", "trials", "best_on_test", "more_seeds")),
            Part("full_low_lr"),
            Part("drop_path", closer[1:]),
            Part("bitfit"),
            Part("published", published, tune=PUBLISHED, final=PUBLISHED),
            Part("many_shot", swept, (*TWINS, *MANY, *WHOLE)),
            Part("mechanism", swept[:5], (*TWINS, *WHOLE[:2])),
            Part("robustness", published, IMAGENET, tune=CLIP_TUNE, final=CLIP_FINAL),
            Part("second_backbone", tasks=VTAB, backbone=SECOND),
        ),
        sizes=(1, 2, 4, 8, 16, 32, 64, 128, 256),
        shipped="full",
        robust=Robustness(CLIP, lrs=CLIP_LRS, full_lrs=CLIP_FULL_LRS),
        published_seeds=SEEDS_OF_THE_CODE,
        **COMMON,
    )
