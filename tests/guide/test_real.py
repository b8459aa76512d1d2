"""The profile "real": data and weights below PETL_DATA, a probe as head, three normalisations, shifts in folders."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import petl_core as pc
from petl_core.models.weights import save_backbone, weights_of
from petl_core.study import plan as study
from petl_core.study.profile import Part, Robustness
from petl_core.study.profiles import profile
from petl_core.study.records import Records
from petl_core.training import probe
from petl_core.training.train import Recipe, forward, predict
from petl_core.utils import UserError
from petl_guide import robust

DOMAINS = {"photo": 1.0, "dark": 0.4, "pale": 0.1}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder as PETL_DATA names one: weights of a timm ViT, a processed task, and one folder for each domain."""
    root = tmp_path_factory.mktemp("data")
    vit = pc.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=3, seed=1)
    save_backbone(vit, root / "vit_tiny_patch16_224.safetensors")
    task = pc.load_task("textures")
    task_folder = root / "vtab_processed" / "tiles"
    (task_folder / "images").mkdir(parents=True)
    lists = {"train800.txt": ("train800", 24), "val200.txt": ("val200", 12), "test.txt": ("test", 20)}
    for file, (split, count) in lists.items():
        images, labels, _ = task.split(split)
        few = [i for i in range(len(labels)) if labels[i] < 2][:count]
        lines = []
        for i in few:
            name = f"images/{split}_{i}.png"
            Image.fromarray(images[i].permute(1, 2, 0).numpy()).save(task_folder / name)
            lines.append(f"{name} {labels[i]}\n")
        (task_folder / file).write_text("".join(lines))
    images, labels, _ = task.split("train800")
    for domain, contrast in DOMAINS.items():
        for label in range(3):
            folder = root / "styles" / domain / f"class_{label}"
            folder.mkdir(parents=True)
            for i in np.flatnonzero(labels.numpy() == label)[:12]:
                pixels = 127 + contrast * (images[i].permute(1, 2, 0).numpy().astype(float) - 127)
                Image.fromarray(pixels.round().astype(np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture
def data(place, monkeypatch):
    monkeypatch.setenv("PETL_DATA", str(place))
    return place


def small():
    """The profile with our folders, at 32 px, of one seed and few steps."""
    tiny = Recipe(epochs=1, batch_size=16)
    return dataclasses.replace(
        profile("real"),
        tasks=("vtab:vtab_processed/tiles",),
        methods=("linear", "lora"),
        parts=(
            Part("normalise", ("lora",)),
            Part("robustness", ("linear", "full", "lora"), ("shift:styles/photo",)),
        ),
        trials=2,
        tune=tiny,
        final=tiny,
        image_size=32,
        robust=Robustness("vit_tiny_patch16_224", "probe", (1e-3,), (1e-4,), 32, 10),
    )


def test_weights_below_the_folder_are_found_by_timms_name(data, tmp_path, monkeypatch):
    assert weights_of("vit_tiny_patch16_224").where == str(data / "vit_tiny_patch16_224.safetensors")
    model = pc.create_model("vit_tiny_patch16_224", num_classes=2, image_size=32)
    assert model.spec.weights == pc.create_model("vit_tiny_patch16_224", num_classes=2).spec.weights != "random"
    monkeypatch.setenv("PETL_DATA", str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"PETL_DATA is '.*absent', which is not a folder"):
        weights_of("vit_tiny_patch16_224")


def test_a_task_below_the_folder_has_a_name_that_holds_no_path(data):
    assert pc.load_task("vtab:vtab_processed/tiles", size=32).name == "vtab:tiles"
    with pytest.raises(UserError, match=r"does not exist.*nor is it below PETL_DATA"):
        pc.load_task("vtab:vtab_processed/absent")


@pytest.mark.parametrize("name", ["vtab:vtab_processed/tiles", "shift:styles/photo"])  # two classes, three
def test_the_probe_is_scikit_learns(data, name):
    task = pc.load_task(name, size=32)
    model = pc.create_model("vit_tiny_patch16_224", "lora", num_classes=task.num_classes, image_size=32)
    probe.set_probe_head(model, task, Recipe(), "train1000")
    images, labels, _ = task.split("train1000")
    features = forward(model, model.forward_features, images, Recipe()).double().numpy()
    scale = StandardScaler().fit(features)
    fitted = LogisticRegression(C=probe.STRENGTH, max_iter=probe.ITERATIONS).fit(scale.transform(features), labels)
    test = task.split("test")[0]
    tested = forward(model, model.forward_features, test, Recipe()).double().numpy()
    wanted = fitted.predict_proba(scale.transform(tested))
    got = predict(model, test).softmax(1).numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-3)
    assert torch.equal(model.initial["head.weight"], model.head.weight)


def test_a_class_without_an_image_has_no_probe(data):
    task = pc.load_task("shift:styles/photo", size=32)
    absent = dataclasses.replace(task, splits={**task.splits, "train800": task.splits["train800"][:1]})
    model = pc.create_model("vit_tiny_patch16_224", num_classes=3, image_size=32)
    with pytest.raises(UserError, match="has no image in train800"):
        probe.set_probe_head(model, absent, Recipe(), "train800")


def test_the_parts_run_and_the_curves_start_at_the_probe(data, tmp_path):
    records = Records(tmp_path / "runs")
    outcome = study.run_study(small(), records, workers=0, progress=False)
    assert not outcome.failures
    table = records.table()
    assert {v for v in table["variant"] if v.startswith("normalise_") and not v.endswith("trial")} == {
        "normalise_backbone",
        "normalise_imagenet",
        "normalise_none",
    }
    for variant, rows in table[table["stage"] == "final"].groupby("variant"):
        if variant.startswith("normalise_"):
            assert set(rows["normalise"]) == {variant.removeprefix("normalise_")}
    found = robust.curves(table, records)
    assert robust.shifts(found) == ["dark", "pale"]
    task = pc.load_task("shift:styles/photo", size=32)
    model = pc.create_model("vit_tiny_patch16_224", num_classes=3, image_size=32)
    probe.set_probe_head(model, task, Recipe(), "train1000")
    images, labels, _ = task.split("dark")
    kept = torch.linspace(0, len(images) - 1, 10).round().long()  # as max_evaluate takes them
    right = predict(model, images[kept]).argmax(1).eq(labels[kept]).double().mean()
    assert robust.zero_shot(found)["dark"] == pytest.approx(100 * float(right))
