"""How many parameters each method trains on ViT-B/16, CLIP's ViT-B/16 and DINOv2's ViT-B/14: the study's numbers,
our formula and the modules themselves agree. Nothing is computed: the models live on torch's "meta" device."""

import pytest

from petl_core import methods
from petl_core.methods import meta_count
from petl_core.vit import ViT, ViTConfig

CONFIGS = {
    "sup21k": ViTConfig(),
    "clip": ViTConfig(pre_norm=True, quick_gelu=True, norm_eps=1e-5),
    "dinov2": ViTConfig(patch_size=14, layer_scale=True),
}

SIZES = {  # method, its size -> number of parameters without the head, on ViT-B/16
    "vpt_shallow": {5: 3_840, 10: 7_680, 50: 38_400, 100: 76_800, 200: 153_600},
    "vpt_deep": {5: 46_080, 10: 92_160, 50: 460_800, 100: 921_600, 200: 1_843_200},
    "vqt": {10: 92_281},
    "lora": {1: 36_864, 2: 73_728, 4: 147_456, 8: 294_912, 16: 589_824, 32: 1_179_648, 64: 2_359_296}
    | {128: 4_718_592, 256: 9_437_184},
    "adaptformer": {4: 82_992, 16: 304_320, 32: 599_424, 64: 1_189_632},
    "pfeiffer_adapter": {8: 156_768, 32: 599_424, 64: 1_189_632},
    "houlsby_adapter": {1: 55_320, 2: 92_208, 4: 165_984, 8: 313_536, 16: 608_640, 32: 1_198_848, 64: 2_379_264}
    | {128: 4_740_096, 256: 9_461_760},
    "repadapter": {8: 239_808, 16: 461_184, 32: 903_936},
    "convpass": {8: 327_552, 16: 664_320, 32: 1_420_800},
    "fact_tt": {8: 21_504, 16: 61_440, 32: 196_608},
    "fact_tk": {1: 1_681, 2: 3_368, 4: 6_784, 8: 13_952, 16: 30_976, 32: 86_528, 64: 369_664}
    | {128: 2_312_192, 256: 17_207_296},
}

FIXED = [  # backbone, method, hyper-parameters, number
    ("sup21k", "linear", {}, 0),
    ("sup21k", "full", {}, 85_798_656),
    ("clip", "full", {}, 85_799_424),
    ("dinov2", "full", {}, 85_724_928),
    ("sup21k", "bitfit", {}, 102_912),
    ("clip", "bitfit", {}, 102_912),
    ("dinov2", "bitfit", {}, 102_912),
    ("sup21k", "layernorm", {}, 38_400),
    ("clip", "layernorm", {}, 39_936),
    ("dinov2", "layernorm", {}, 38_400),
    ("sup21k", "difffit", {}, 140_544),
    ("clip", "difffit", {}, 141_312),
    ("dinov2", "difffit", {}, 140_544),
    ("sup21k", "ssf", {}, 205_824),
    ("clip", "ssf", {}, 205_824),
    ("sup21k", "selective", {"part": "qkv"}, 1_771_776),
    ("sup21k", "selective", {"part": "proj"}, 590_592),
    ("sup21k", "selective", {"part": "attention"}, 2_362_368),
    ("sup21k", "selective", {"part": "attention", "index": (9, 10, 11)}, 3 * 2_362_368),
    ("sup21k", "selective", {"part": "fc1"}, 2_362_368),
    ("sup21k", "selective", {"part": "fc2"}, 2_360_064),
    ("sup21k", "selective", {"part": "mlp"}, 4_722_432),
    ("sup21k", "selective", {"part": "mlp", "index": (10, 11)}, 2 * 4_722_432),
    ("sup21k", "selective", {"part": "block"}, 7_087_872),
    ("dinov2", "selective", {"part": "block"}, 7_087_872 + 2 * 768),
    ("sup21k", "selective", {"part": "block", "index": (1, -11, 0)}, 2 * 7_087_872),  # -11 is block 1 again
]
SIZED = [(name, size, number) for name, table in SIZES.items() for size, number in table.items()]


@pytest.mark.parametrize(("backbone", "name", "hyper", "number"), FIXED)
def test_counts_without_a_size(backbone, name, hyper, number):
    method = methods.get(name, **hyper)
    assert method.count(CONFIGS[backbone]) == meta_count(method, CONFIGS[backbone]) == number


@pytest.mark.parametrize(("name", "size", "number"), SIZED)
def test_counts_of_every_published_size(name, size, number):
    field = methods.registry[name].size_field
    method = methods.get(name, **{field: size})
    assert method.count(CONFIGS["sup21k"]) == meta_count(method, CONFIGS["sup21k"]) == number


def test_every_method_has_a_number_here():
    assert sorted({*SIZES, *(name for _, name, _, _ in FIXED)}) == methods.names()


@pytest.mark.parametrize("name", ["fact_tt", "fact_tk"])
def test_fact_counts_its_squares_or_says_that_there_are_none(name):
    method = methods.get(name, rank=3)
    wide = ViTConfig(32, 8, 24, 3, 2, mlp_ratio=2.0)
    assert method.count(wide) == sum(p.numel() for p in method.attach(ViT(wide, 3)).parameters())
    odd = ViTConfig(32, 8, 24, 3, 2, mlp_ratio=2.5)
    with pytest.raises(ValueError, match="hidden layer of 60 is not a multiple of the width, 24"):
        method.attach(ViT(odd, 3))
