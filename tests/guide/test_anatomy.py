"""The chapters' pictures, measurements and explorers: right about the code, and callable without a browser."""

import matplotlib
import pytest
import torch
from torch import nn

import petl_core as pc
from petl_core.methods import Method
from petl_core.vit import ATTENTION_SITES, BLOCK_SITES, MLP_SITES, MODEL_SITES, ViT, ViTConfig
from petl_guide import anatomy
from petl_guide import examine as measure
from petl_guide.exercises import check, is_right
from petl_guide.figures.idea import idea_figure
from petl_guide.interactive import explorer

matplotlib.use("Agg")

TINY = ViTConfig(image_size=16, patch_size=8, width=16, depth=2, heads=2)
SITES = {*MODEL_SITES, *BLOCK_SITES, *ATTENTION_SITES, *MLP_SITES}


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def vit() -> ViT:
    torch.manual_seed(0)
    return ViT(TINY, num_classes=3).eval()


def texts(figure) -> set[str]:
    return {text.get_text() for ax in figure.axes for text in ax.texts}


def test_the_drawing_has_every_site_once_and_in_the_order_of_the_model(vit):
    drawn = [station.name for station in anatomy.STATIONS if station.kind == "site"]
    assert sorted(drawn) == sorted(SITES)
    at = anatomy.positions()
    assert len(at) == len(anatomy.STATIONS) and at == sorted(set(at))
    assert [step.site for step in measure.trace(vit, torch.randn(1, 3, 16, 16))] == drawn


def test_trace_reports_shapes_and_leaves_no_edit_behind(vit):
    shapes = {step.site: step.y for step in measure.trace(vit, torch.randn(2, 3, 16, 16), block=1)}
    assert shapes["qkv"] == (2, 5, 48) and shapes["act"] == (2, 5, 64) and shapes["features"] == (2, 16)
    assert not any(anatomy.site_list(vit, site, 1) for site in SITES)


def test_unknown_site_names_the_allowed_ones(vit):
    with pytest.raises(ValueError, match=r"unknown site 'kqv'.*qkv"):
        anatomy.site_list(vit, "kqv")


@pytest.mark.parametrize("part", ["patch_embed", "embed", "norm1", "qkv", "proj", "norm2", "fc1", "fc2", "norm"])
def test_every_parameter_belongs_to_a_box_of_the_drawing(vit, part):
    boxes = {station.name for station in anatomy.STATIONS if station.kind == "box"}
    assert part in {anatomy.part_of(name) for name, _ in vit.named_parameters()} <= boxes


@pytest.mark.parametrize("name", pc.methods.names())
def test_attachment_agrees_with_what_the_method_adds_and_trains(name):
    where = anatomy.attachment(pc.methods.get(name))
    assert set(where.sites) <= SITES
    if name == "linear":
        assert not where.sites and not where.trained
    else:
        assert where.sites or where.trained
    assert all(1 <= count <= anatomy.SMALL.depth for count in where.sites.values())


def test_attachments_of_methods_whose_places_are_known():
    assert dict(anatomy.attachment(pc.methods.get("lora")).sites) == {"qkv": 12}
    assert anatomy.attachment(pc.methods.get("bitfit")).trained["fc1"] == "bias"
    assert anatomy.attachment(pc.methods.get("full")).trained["fc1"] == "all"


class Own(Method):
    """A reader's method: it shows up in the pictures without being registered."""

    name, title, family, paper = "own", "My own", "adapter", "nobody"

    def attach(self, vit):
        vit.blocks[0].sites["branch1"].append(lambda y, x: y)
        return nn.Identity()

    def count(self, config):
        return 0


def test_figures_show_methods_that_are_not_registered_and_count_their_marks():
    figure = anatomy.attachments_figure([Own(), pc.methods.get("lora")], {"own": "red", "lora": "blue"})
    assert {"My own", "LoRA"} <= texts(figure)
    discs = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [line.get_color() for line in discs] == ["red", "blue"]


def test_sites_figure_colours_only_what_is_marked():
    figure = anatomy.sites_figure({"qkv": "#ff0000"})
    red = [text.get_text() for text in figure.axes[0].texts if text.get_color() == "#ff0000"]
    assert red == ["qkv"]
    assert texts(figure) >= SITES


def test_idea_figure_prints_its_counts_and_needs_three():
    titles = [
        ax.get_title(loc=side) for ax in idea_figure({"a": 0, "b": 1234, "c": 9}).axes for side in ("left", "center")
    ]
    assert any("1,234" in title for title in titles)
    with pytest.raises(ValueError, match="three columns"):
        idea_figure({"a": 1})


def test_edit_at_acts_inside_and_is_gone_after_an_exception(vit):
    batch = torch.randn(2, 3, 16, 16)
    before = vit(batch)
    with measure.edit_at(vit, "branch2", lambda y, x: 2 * y, blocks=[1]):
        assert not torch.allclose(vit(batch), before)
        assert not vit.blocks[0].sites["branch2"]
    with pytest.raises(RuntimeError), measure.edit_at(vit, "norm", lambda y, x: y):
        raise RuntimeError
    assert torch.equal(vit(batch), before)


@pytest.mark.parametrize("name", pc.methods.names())
def test_every_method_keeps_its_promises_and_its_source_can_be_shown(name, images):
    result = measure.examine(name, images, pretrained=False)
    assert result.kept, result.text()
    method = pc.methods.get(name)
    assert measure.meta_count(method, anatomy.SMALL) == method.count(anatomy.SMALL)
    source = measure.extract(method)
    assert "NotImplementedError" not in source
    assert ("def " in source) == (name != "linear")


def test_examine_notices_a_start_that_is_not_the_pretrained_function(images):
    wrong = measure.examine("lora", images, pretrained=False, init="released")
    right = measure.examine("lora", images, pretrained=False)
    assert wrong.start_gap > 1e-4 > right.start_gap == 0


def test_a_broken_promise_is_reported():
    broken = measure.Examination("m", 10, 11, 0.0, True, None, "because")
    assert not broken.kept and "BROKEN" in broken.text()


def test_exercise_check_tells_right_wrong_and_unanswered_apart():
    assert "Not answered" in check(None, bool, "").data
    assert is_right(3, lambda a: a == 3) and not is_right(4, lambda a: a == 3)
    assert "TypeError" in check("x", lambda a: a + 1 == 2, "use a number").data


def test_site_explorer_answers_its_default_and_two_other_sites(vit):
    sites = explorer.site_explorer(vit, torch.randn(1, 3, 16, 16))
    assert sites.answer().values["y"] == (1, 5, 48)
    assert "LoRA" in sites.answer().values["methods"]
    assert sites.answer(site="patches").values["parameters before it"] == 3 * 64 * 16 + 16
    assert sites.answer(site="fc1").figure().axes
    with pytest.raises(ValueError, match="not on offer"):
        sites.answer(site="nowhere")
    assert len(sites.static({"site": "fc1"})) == 2


def test_count_explorer_answers_with_the_formula():
    counts = explorer.count_explorer({"ViT-B/16": ViTConfig(), "tiny": TINY})
    assert counts.answer().values["trained"] == 294_912
    assert counts.answer(method="lora", size=1).values["trained"] == 36_864
    assert counts.answer(backbone="tiny", method="full").values["% of backbone"] == pytest.approx(100)
    with pytest.raises(ValueError, match="no control 'colour'"):
        counts.answer(colour="red")


@pytest.mark.parametrize("name", ["lora", "full"])
def test_update_explorer_keeps_directions_and_scales_them(name):
    task = pc.load_task("digits")
    tuned = pc.create_model("mini", name, num_classes=10, pretrained=False)
    measure.shake(tuned, std=0.05)
    learned = explorer.LearnedUpdate(tuned)
    batch = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected, start = tuned.eval()(batch), pc.interpolate(tuned, 0.0).eval()(batch)
        assert torch.allclose(learned.apply(None, 1.0)(batch), expected, atol=1e-4)
        assert torch.allclose(learned.apply(None, 0.0)(batch), start, atol=1e-5)
    knobs = explorer.update_explorer(tuned, task, (0, 1, 8), images=50)
    full, one, none = knobs.answer(), knobs.answer(rank=1), knobs.answer(rank=0)
    size = "‖ΔW‖ / ‖W‖"
    assert full.values[size] > one.values[size] > none.values[size] == 0
    assert knobs.answer(scale=2.0).values[size] == pytest.approx(2 * full.values[size])


def test_widgets_have_one_control_per_choice_and_can_be_built_without_a_browser(vit):
    for made in (explorer.site_explorer(vit, torch.randn(1, 3, 16, 16)), explorer.count_explorer({"tiny": TINY})):
        row = made.widget().children[0]
        assert [control.description for control in row.children] == list(made.controls)
        assert [control.value for control in row.children] == [made.default[key] for key in made.controls]
