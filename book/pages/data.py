"""The data cards: embedded tasks, rendered world, backbones, published numbers, shipped records, measured costs.

Everything is read from the registries and from the files themselves, so that a card cannot describe other data than
those that are here. What needs telling in words (splits, attribution, what was tuned) is in ``data/*/README.md``.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from book.pages.claims import escaped
from petl_core.data.embedded import COUNTS, SIZE, WORLD, WORLD_COUNTS, EmbeddedTask, embedded_names, embedded_tasks
from petl_core.methods import get
from petl_core.models import catalogue
from petl_core.models import weights as backbones
from petl_core.models.text_tower import load_text_tower, text_file
from petl_core.study.plan import PARTS
from petl_core.study.profiles import profile
from petl_core.utils import DATA, EMBEDDED, PUBLISHED, UserError
from petl_guide.facts import Facts
from petl_guide.results import SHIPPED, Results, open_real, short
from petl_guide.verdict import NOT_RUN

PUBLISHED_FILES = {  # what a row is; the columns are described in data/published/README.md
    "vtab1k_final.csv": "final run with ViT-B/16 on VTAB-1K",
    "vtab1k_tuning.csv.gz": "tuning run on the 19 tasks",
    "manyshot_final.csv": "final run of the sweep over sizes, on CIFAR-100, RESISC45 and CLEVR-distance",
    "manyshot_tuning.csv.gz": "tuning run of that sweep",
    "clip_imagenet.csv": "CLIP ViT-B/16 tuned on ImageNet by one method, with its accuracy under four shifts",
    "clip_tuning.csv": "tuning run of CLIP",
    "clip_interpolation.csv": "weight-space ensemble of a tuned and the zero-shot CLIP",
}
OTHER_VARIANTS = {"full_high_lr": "full_low_lr"}  # those that do not begin with the name of their part
PHOTOGRAPHS = {  # what the runs of profile "real" were made on; test images are at most 2,000 of each set
    "caltech101": "photographs of things {cite:p}`feifei2006caltech`",
    "cifar10": "small photographs {cite:p}`krizhevsky2009cifar`, from a copy that went through JPEG",
    "eurosat": "satellite images {cite:p}`helber2019eurosat`",
    "pneumoniamnist": "chest X-rays of MedMNIST {cite:p}`yang2023medmnist`",
    "coil20_azimuth": "from which side a thing is seen, in bins of 30 degrees, made of COIL-20 {cite:p}`nene1996coil`",
    "sign_digits": "hands that sign digits {cite:p}`mavi2020signs`",
    "photo": "PACS {cite:p}`li2017pacs` in files of 96 pixels, learned from its photographs, evaluated on its art, "
    "cartoons and sketches too",
}
WEIGHTS = "pre-trained on ImageNet-21k and tuned on ImageNet-1k {cite:p}`steiner2022augreg`, head left out"


def _megabytes(*paths: Path) -> str:
    return f"{sum(path.stat().st_size for path in paths) / 1e6:.2g} MB"


def tasks() -> str:
    """A card for each embedded task: what is asked, sizes, source, licence, classes."""
    found, group = [], ""
    for task in (embedded_tasks()[name] for name in embedded_names()):
        if task.group != group:
            group = task.group
            found.append(f"### {group.capitalize()} tasks")
        found.append(_task(task))
    return "\n\n".join(found)


def _task(task: EmbeddedTask) -> str:
    sizes = f"{COUNTS['train']:,} + {COUNTS['val']:,} training and {COUNTS['test']:,} test images"
    return "\n".join(
        [
            f"**{task.name}** ({len(task.classes)} classes). {escaped(task.description)}",
            "",
            f"- *Images:* {sizes}, {SIZE} × {SIZE} pixels, {task.colour}; {_megabytes(EMBEDDED / f'{task.name}.npz')}",
            f"- *Made from:* {escaped(task.source)}",
            f"- *Licence:* {escaped(task.licence)}",
            f"- *Classes:* {escaped(', '.join(task.classes))}",
        ]
    )


def rendered_world() -> str:
    """The card of the rendered world."""
    world = embedded_tasks()[WORLD]
    splits = ", ".join(f"`{part}` {count:,}" for part, count in WORLD_COUNTS.items())
    words = load_text_tower(text_file("mini_clip")).config.words
    return "\n".join(
        [
            f"**{WORLD}** ({len(world.classes)} classes). What is drawn, in one of several styles.",
            "",
            f"- *Images:* {splits}; {SIZE} × {SIZE} pixels; {_megabytes(EMBEDDED / f'{WORLD}.npz')}",
            "- *Shifts:* `v2` a new sample, `renditions` other styles, `sketch` line drawings, `hard` pictures that "
            "another model gets wrong",
            f"- *Captions:* over {len(words)} words",
            "- *Licence:* MIT, as this project",
            f"- *Classes:* {', '.join(world.classes)}",
            f"- *Digest:* `{world.digests[WORLD]}`",
        ]
    )


def embedded_backbones() -> str:
    """The cards of ``mini`` and ``mini_clip``: shape, training, result, digest."""
    return "\n\n".join(_backbone(name) for name in backbones.EMBEDDED_NAMES)


def _backbone(name: str) -> str:
    config, files = backbones.config_of(name), sorted(EMBEDDED.glob(f"{name}*.safetensors"))
    if name == "mini":
        files = [path for path in files if "clip" not in path.name]
    lines = (EMBEDDED / f"{name}_log.jsonl").read_text(encoding="utf-8").splitlines()
    head, *rest = (json.loads(line) for line in lines)
    epochs = [entry for entry in rest if "train_loss" in entry]  # the others say where it was resumed
    recipe, last, hours = head["recipe"], epochs[-1], sum(epoch["seconds"] for epoch in epochs) / 3600
    how, result = (
        f"contrastive, on {recipe['images']:,} captioned pictures of the rendered world, from `{recipe['start']}`",
        f"{last['val_accuracy']:.1f} % zero-shot on {recipe['held']:,} held-out pictures of all styles",
    ) if "images" in recipe else (
        "supervised, on Tiny-ImageNet {cite:p}`le2015tiny` at 32 pixels",
        f"{last['val_accuracy']:.1f} % on its validation images",
    )  # fmt: skip
    command = f"python -m petl_make {name.replace('_', '-')} --help"
    return "\n".join(
        [
            f"**{name}**. A ViT of width {config.width}, depth {config.depth}, {config.heads} heads, patches of "
            f"{config.patch_size} pixels; {get('full').count(config):,} parameters without a head.",
            "",
            f"- *Pre-training:* {how}; {len(epochs)} epochs, {hours:.1f} hours on {head['threads']} core(s), "
            f"torch {head['torch'].partition('+')[0]}",
            f"- *Result:* {result}",
            f"- *Files* in `data/embedded`: {', '.join(f'`{path.name}`' for path in files)} ({_megabytes(*files)}), "
            f"with the log `{name}_log.jsonl`, one line an epoch",
            f"- *Digest of the weights:* `{backbones.digest(name)}`",
            f"- *How it was made:* `{command}`",
        ]
    )


def timm_backbones() -> str:
    """Which of timm's ViTs can be a backbone: each kind and what it needs; then why the others cannot, by name."""
    rows = catalogue.rows()
    kinds: dict[str, list[catalogue.Row]] = {}
    reasons: dict[str, list[catalogue.Row]] = {}
    for row in rows:
        (kinds.setdefault(row.kind, []) if row.taken else reasons.setdefault(row.lacks, [])).append(row)
    table = [f"{sum(row.taken for row in rows)} of {len(rows)} names are taken.", ""]
    table += ["| kind | names | such as | what it has beyond the textbook's ViT | licences |", "|---|---|---|---|---|"]
    for kind, alike in kinds.items():
        shown = next(row for row in alike if row.name in catalogue.EXAMPLES)
        licences = ", ".join(sorted({part for row in alike for part in row.licences.split(", ") if part}))
        table.append(f"| {kind} | {len(alike)} | `{shown.name}` | {shown.needs or 'nothing'} | {licences} |")
    table += ["", "The others are refused. What they have, and our ViT does not:", ""]
    table += [f"- {lacks}: {', '.join(f'`{row.name}`' for row in alike)}" for lacks, alike in sorted(reasons.items())]
    return "\n".join(table)


def published_numbers() -> str:
    """Files and rows of the study's published numbers."""
    here = {path.name for path in PUBLISHED.glob("*.csv*")}
    if here != set(PUBLISHED_FILES):
        odd = ", ".join(sorted(here ^ set(PUBLISHED_FILES)))
        raise UserError(f"the files of data/published and of book/pages/data.py differ: {odd}")
    return "\n".join(
        f"- `{name}`: {_rows(PUBLISHED / name):,} rows; each a {what}" for name, what in PUBLISHED_FILES.items()
    )


def _rows(path: Path) -> int:
    content = path.read_bytes()
    return len((gzip.decompress(content) if path.suffix == ".gz" else content).splitlines()) - 1  # without the header


def made_from(facts: Facts) -> str:
    """Which runs the book's numbers come from; for another profile than the shipped one, also what it cannot give."""
    results = facts.results
    plan, count = results.profile, results.table["digest"].nunique()
    shipped = "the runs on photographs (profile real) and the measured costs"
    if results.shipped:
        return f"All numbers in this book come from shipped files: {count:,} runs of profile {plan.name}, {shipped}."
    whole = profile(SHIPPED)
    lacking = dict.fromkeys(part.name for part in whole.parts if part.name not in {its.name for its in plan.parts})
    not_run = [number for number, verdict in facts.ours.items() if verdict.verdict == NOT_RUN]
    text = (
        f"The numbers in this book were computed by {count:,} runs of profile {plan.name}: {len(plan.methods)} of "
        f"{len(whole.methods)} methods, {len(plan.tasks)} of {len(whole.tasks)} tasks."
    )
    if lacking:
        text += f" It has no runs of the parts {', '.join(lacking)} of profile {SHIPPED}."
    if not_run:
        text += f" They cannot decide {', '.join(not_run)}, which are called not run."
    return f"{text} Not computed anew are {shipped}: what is said of those comes from the shipped files."


def records(facts: Facts) -> str:
    """How many runs there are, of which parts of the study, how long they took and on what."""
    return _records(facts.results)


def records_on_photographs() -> str:
    """The same of the profile "real", with the images and weights that were used, which are not shipped."""
    results = open_real()
    records = results.records
    found: dict[str, tuple[dict[str, Any], int]] = {}
    for digest in records.digests():
        record = records.get(digest)
        found.setdefault(short(record["spec"]["task"]), (record["spec"], record["classes"]))
    lines = []
    for name, about in PHOTOGRAPHS.items():
        spec, classes = found[name]
        lines.append(
            f"- **{escaped(name)}**: {about}; {classes} classes, at {spec['image_size']} pixels; "
            f"digest `{spec['task_digest']}`"
        )
    lines.append(f"- **{results.profile.backbone}**: {WEIGHTS}; digest `{spec['weights']}`")
    return "\n".join([_records(results), "", "What they were run on:", "", *lines])


def _records(results: Results) -> str:
    records = results.records
    every = [records.get(digest) for digest in records.digests()]
    stages = Counter(record["stage"] for record in every)
    hours = sum(record["seconds"] for record in every) / 3600
    files = records.root.glob("*" if records.pack is not None else "*/*")  # packed, or a folder for each record
    size = _megabytes(*(path for path in files if path.is_file()))
    lines = [
        f"{len(every):,} runs of profile {results.profile.name} ({stages['trial']:,} trials, "
        f"{stages['final']:,} final runs), {hours:.1f} hours of one core in all; {size}. "
        "Final runs by part of the study (a run may serve several):",
        "",
        *(f"- **{name}** ({count:,}): {escaped(PARTS[name].about)}" for name, count in of_parts(every).items()),
        "",
        "Where they were run:",
        "",
        *(f"- {count:,} runs: {escaped(text)}" for text, count in _environments(every)),
    ]
    return "\n".join(lines)


def of_parts(every: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Final runs by part of the study."""
    found = dict.fromkeys(PARTS, 0)
    for record in every:
        if record["stage"] == "final":
            for name in {part_of(variant) for variant in record["variants"]}:
                found[name] += 1
    return {name: count for name, count in found.items() if count}


def part_of(variant: str) -> str:
    """The part of the study that makes a variant of final runs. ``UserError`` if there is none."""
    for name in sorted(PARTS, key=len, reverse=True):
        if variant == name or variant.startswith(f"{name}_"):
            return name
    if variant in OTHER_VARIANTS:
        return OTHER_VARIANTS[variant]
    raise UserError(f"the variant '{variant}' belongs to no part of the study; the parts are: {', '.join(PARTS)}")


def _environments(every: Iterable[dict[str, Any]]) -> list[tuple[str, int]]:
    """Hardware and versions as text, the commonest first."""
    return Counter(_environment(record["environment"]) for record in every).most_common()


def _environment(said: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {its}" for name, its in said["versions"].items() if name != "petl_core")
    threads = f"{said['threads']} thread{'' if said['threads'] == 1 else 's'}"
    return f"{said['device_name']}, {threads}, {said['system']}; {versions}"


def measured_costs(folder: Path = DATA / "costs") -> str:
    """The files of memory and time, with what was measured and where."""
    lines = []
    for path in sorted(folder.glob("*.json")):
        file = json.loads(path.read_text(encoding="utf-8"))
        said = file["settings"]
        lines.append(
            f"- `{path.name}`: {len(file['methods'])} methods on `{said['backbone']}`, batch "
            f"{said['batch']}, {said['rounds']} rounds of {said['steps']} step(s), {said['precision']}, on "
            f"{escaped(_environment(file['environment']))}"
        )
    return "\n".join(lines)
