"""The command line, ``python -m petl_core``: list, run, study, compare, predict and export.

Bad input ends with one message on stderr and exit code 2; runs that failed, or records that differ, with exit code 1.
Arguments are looked at before torch is imported.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from petl_core.data.decode import RESIZES
from petl_core.training.recipe import CHOICES, Recipe
from petl_core.utils import UserError, exit_code, write_atomic

RECIPE = {  # options of ``run`` that are fields of the recipe, with what they are
    "lr": "base learning rate",
    "epochs": "passes over the training images",
    "batch_size": "images in a step",
    "weight_decay": "AdamW's weight decay",
    "drop_path": "stochastic depth in the last block",
    "normalise": "of images, with whose mean and deviation",
    "augment": "change of the training images",
    "precision": "of the arithmetic; auto is bf16 on CUDA",
    "compile": "with torch.compile; auto for long runs on CUDA",
    "flip": "mirror half of the training images",
    "checkpointing": "less memory, a third more work; equal results",
}
COMPARE = {  # whole numbers that ``compare`` takes
    "trials": "of each method",
    "epochs": "of a final run",
    "seeds": "final runs of each method",
    "image_size": "side of the images in pixels (default: the backbone's)",
    "workers": "processes on a CPU (default: one per core)",
}
EXAMPLES = """examples:
  python -m petl_core list                        what there is: methods, backbones, tasks, profiles
  python -m petl_core run lora digits             train LoRA on the embedded digits, print the test accuracy
  python -m petl_core study --profile smoke       a study of a few seconds, into runs/
  python -m petl_core COMMAND --help              more about one command
"""
RUN_EXAMPLES = """examples:
  python -m petl_core run lora digits --set rank=4 --lr 3e-3
  python -m petl_core run bitfit folder:my_images --backbone vit_tiny_patch16_224 --image-size 64 --epochs 10
  python -m petl_core run lora digits --save digits_lora.safetensors     keep what was trained
  python -m petl_core run linear digits --evaluate-on val200 --train-on train800     leave the test images alone
"""
STUDY_EXAMPLES = """examples:
  python -m petl_core study --profile quick --workers 2            tune and train into runs/; start it again to resume
  python -m petl_core study --profile laptop --part tuned          one part of the study (see list)
  python -m petl_core study --profile laptop16 --part tuned --task digits count      some tasks of a part
  python -m petl_core study --profile quick --compare data/results      and compare with the shipped records
  python -m petl_core study --profile laptop --results runs --pack results     write the records compactly
  python -m petl_core study --profile gpu --plan --measure           how many runs, hours and gigabytes
  python -m petl_core study --profile full --executor ray --gpus-per-run 0.25    on the Ray cluster of this machine

Stop it whenever you like (Ctrl-C, or by force): finished runs are kept and are not run again.
"""
COMPARE_EXAMPLES = """examples:
  python -m petl_core compare my_images --look              what is in the folder, and what is wrong with it
  python -m petl_core compare my_images --budget 10m --out my_comparison     report, figure and the model to ship
  python -m petl_core compare my_images/labels.csv --group "patient\\d+"      a list; each patient on one side
  python -m petl_core compare my_images --backbone vit_base_patch16_224 --methods linear lora ssf --budget 1h30m
  python -m petl_core compare digits --budget 5m            an embedded task

my_images holds a folder for each class, or train/ and test/ (and val/) with a folder for each class. A list has a line
for each picture, with the columns path and label. The same command with the same --out goes on from where it stopped.
"""
PREDICT_EXAMPLES = """examples:
  python -m petl_core predict model.safetensors new_images              a line for each image: path, class, probability
  python -m petl_core predict model.safetensors new_images --csv answers.csv --top 3

Images are prepared as those of the training were. One that cannot be read is named, and the exit code is then 1.
"""
EXPORT_EXAMPLES = """examples:
  python -m petl_core export model.safetensors model.onnx        any method; needs onnx, onnxscript and onnxruntime
  python -m petl_core export model.safetensors timm.safetensors      timm's names, for methods that merge
  python -m petl_core export model.safetensors adapter --format peft      LoRA, for peft.PeftModel.from_pretrained

Each export is tried against the model before it is written, with a model card beside it.
"""
MOVED = {  # commands that once were here
    "claims": "python -m petl_guide claims",
    "check-method": "python -m petl_guide check-method",
    "data check-vtab": "python -m petl_make check-vtab",
    "data prepare-vtab": "python -m petl_make vtab",
    "data build-suite": "python -m petl_make suite",
    "data build-world": "python -m petl_make world",
    "data pretrain-mini": "python -m petl_make mini",
    "data pretrain-mini-clip": "python -m petl_make mini-clip",
    "data zero-shot-head": "python -m petl_make zero-shot",
    "data": "python -m petl_make",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, do, and return the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)

    def act() -> int:
        for words in (2, 1):
            if moved := MOVED.get(" ".join(arguments[:words])):
                raise UserError(f"'{' '.join(arguments[:words])}' has moved: {moved}")
        options = parser().parse_args(arguments)
        return options.function(options)

    return exit_code("petl_core", act, "stopped; finished runs are kept")


def parser() -> argparse.ArgumentParser:
    """Each command: its name, what it is for, examples, what adds its options, what does it."""
    whole = argparse.ArgumentParser(
        prog="python -m petl_core",
        description="Parameter-efficient fine-tuning of Vision Transformers: train, tune and compare.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    table: list[tuple[str, str, str, Callable[[argparse.ArgumentParser], None], Callable[..., int]]] = [
        ("list", "what there is: methods, backbones, tasks and profiles", "", _list_options, _list),
        ("run", "train one method on one task, print accuracy, time and size", RUN_EXAMPLES, _run_options, _run),
        ("study", "tune and train many methods on many tasks, resumable", STUDY_EXAMPLES, _study_options, _study),
        ("compare", "which method for your own images, within a time", COMPARE_EXAMPLES, _compare_options, _compare),
        ("predict", "what a saved model says of new images", PREDICT_EXAMPLES, _predict_options, _predict),
        ("export", "a saved model for ONNX, timm or Hugging Face peft", EXPORT_EXAMPLES, _export_options, _export),
    ]
    for name, about, examples, add_options, function in table:
        command = commands.add_parser(
            name,
            help=about,
            description=f"{about[0].upper()}{about[1:]}.",
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_options(command)
        command.set_defaults(function=function)
    return whole


def _list_options(add: argparse.ArgumentParser) -> None:
    add.add_argument("what", nargs="?", choices=["methods", "backbones", "tasks", "profiles"], help="default: all")


def _run_options(add: argparse.ArgumentParser) -> None:
    add.add_argument("method", help="a method, or several joined by + (see: list methods)")
    add.add_argument("task", help="an embedded task, folder:PATH, shift:FOLDER/DOMAIN, vtab:FOLDER/NAME or vtab1k/NAME")
    add.add_argument("--backbone", default="mini", help="mini, mini_clip or a timm ViT name (default: mini)")
    add.add_argument("--weights", metavar="FILE", help="weights of the backbone; 'none' for random ones")
    add.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="hyper-parameters, such as rank=4")
    add.add_argument("--head", default="new", help="new, zero_shot (mini_clip on world, CLIP on ImageNet), or a file")
    add.add_argument("--image-size", type=int, help="side of the images in pixels (default: the backbone's)")
    for name, text in RECIPE.items():
        option, default = f"--{name.replace('_', '-')}", getattr(Recipe(), name)
        if default is False:
            add.add_argument(option, action="store_true", help=text)
        else:
            add.add_argument(option, type=type(default), default=default, choices=CHOICES.get(name), help=text)
    add.add_argument("--seed", type=int, default=0, help="fixes everything random (default: 0)")
    add.add_argument("--train-on", default="train1000", metavar="SPLIT", help="default: train1000")
    add.add_argument("--evaluate-on", default="test", metavar="SPLIT", help="default: test")
    add.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    add.add_argument("--save", metavar="FILE", help="write what was trained to this .safetensors file")


def _study_options(add: argparse.ArgumentParser) -> None:
    add.add_argument("--profile", default="quick", help="smoke, quick, laptop, ... (default: quick; see: list)")
    add.add_argument("--backbone", help="another one than the profile's: a name, or a file of save_backbone")
    add.add_argument("--results", default="runs", metavar="DIR", help="where records are kept (default: runs)")
    add.add_argument("--part", nargs="+", metavar="NAME", help="only these parts (default: all of the profile)")
    add.add_argument("--task", nargs="+", metavar="NAME", help="only these tasks (default: all of the profile)")
    add.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core; 0: none extra)")
    add.add_argument("--device", help="cpu, cuda or mps (default: the profile's)")
    add.add_argument("--plan", action="store_true", help="only count what there is to do, and how long it takes")
    add.add_argument("--measure", action="store_true", help="time each kind of run first, for the hours of the plan")
    add.add_argument("--yes", action="store_true", help="start also what is estimated to take more than a day")
    add.add_argument("--executor", choices=["local", "ray"], default="local", help="this machine, or a Ray cluster")
    add.add_argument("--address", help="of Ray: auto, local, HOST:PORT or ray://HOST:PORT (default: auto)")
    add.add_argument("--gpus-per-run", type=float, metavar="X", help="with Ray, such as 0.25 (default: 1)")
    add.add_argument("--pack", metavar="DIR", help="afterwards write the records, with logits of tuned runs, to DIR")
    add.add_argument("--no-logits", nargs="*", metavar="TASK", help="with --pack: without those of these tasks, or all")
    add.add_argument("--compare", metavar="DIR", help="afterwards compare the records with those in DIR")


def _compare_options(add: argparse.ArgumentParser) -> None:
    add.add_argument("images", metavar="FOLDER", help="a folder with one sub-folder for each class, a list, or a task")
    add.add_argument("--look", action="store_true", help="only say what is in FOLDER; exit code 2 if it cannot be used")
    add.add_argument("--all", action="store_true", help="with --look: list every file of each finding")
    add.add_argument("--resize", choices=RESIZES, help="how squares are made (default: what suits the pictures)")
    add.add_argument("--group", metavar="PATTERN", help="keep files whose names share what it finds on one side")
    add.add_argument("--strict", action="store_true", help="refuse a folder with any file that cannot be read")
    add.add_argument("--methods", nargs="+", metavar="NAME", help="default: both baselines and one of each family")
    add.add_argument("--backbone", default="mini", help="mini, mini_clip or a timm ViT name (default: mini)")
    add.add_argument("--budget", default="10m", metavar="TIME", help="such as 90s, 10m or 1h30m (default: 10m)")
    add.add_argument("--out", metavar="DIR", help="for records, report.html, table.csv, figure.png and the model")
    for name, text in COMPARE.items():
        add.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help=text)
    add.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")


def _list(options: argparse.Namespace) -> int:
    from petl_core import methods
    from petl_core.data.embedded import SHIFTS, WORLD, embedded_names
    from petl_core.data.task import GROUPS
    from petl_core.study.parts import PARTS
    from petl_core.study.profiles import profile, profile_names

    if options.what in (None, "methods"):
        print("methods (name, size, paper)")
        for name in methods.names():
            cls = methods.registry[name]
            print(f"  {name:<18}{cls.size_field or '-':<14}{cls.paper}")
    if options.what in (None, "backbones"):
        from petl_core.models.catalogue import listing

        print(listing())
    if options.what in (None, "tasks"):
        print("tasks")
        for group in GROUPS:
            if names := embedded_names(group):
                print(f"  {group:<18}{', '.join(names)}")
        print(f"  {WORLD:<18}rendered, for robustness; further splits: {', '.join(SHIFTS)}")
        print("  your own          folder:PATH, vtab:FOLDER/NAME, shift:FOLDER/DOMAIN (as written, or below PETL_DATA)")
        print("  below PETL_DATA   vtab1k/NAME, real/{cifar100,resisc45,clevr_dist}@N, imagenet/100shot-seed0")
    if options.what in (None, "profiles"):
        print("profiles (of study)")
        for name in profile_names():
            chosen = profile(name)
            size = f"{len(chosen.tasks)} tasks, {len(chosen.methods)} methods, {chosen.trials} trials, "
            print(f"  {name:<18}{chosen.about}\n{'':<20}{size}{len(chosen.seeds)} seeds")
            print(f"{'':<20}parts: {', '.join(part.name for part in chosen.parts)}")
        print("parts (of a study)")
        for name, part in PARTS.items():
            print(f"  {name:<18}{part.about}")
    return 0


def _run(options: argparse.Namespace) -> int:
    if options.save:
        _check_target(Path(options.save))
    hyper = dict(setting(text) for text in options.set)

    from petl_core.data.embedded import WORLD, embedded_names
    from petl_core.data.load import load_task
    from petl_core.models.adapters import save_adapter
    from petl_core.models.build import create_model
    from petl_core.models.weights import config_of
    from petl_core.study.execute import device_called
    from petl_core.training.train import train

    device = device_called(options.device)
    recipe = Recipe(**{name: getattr(options, name) for name in RECIPE})
    size = options.image_size
    if size is None and options.task not in (*embedded_names(), WORLD):
        size = config_of(options.backbone).image_size
    task = load_task(options.task, size=size)
    source = {None: True, "none": False}.get(options.weights, options.weights)
    made = {"num_classes": task.num_classes, "image_size": task.image_size, "seed": options.seed, "head": options.head}
    try:
        model = create_model(options.backbone, options.method, pretrained=source, **(made | hyper)).to(device)
    except ValueError as error:  # a method or hyper-parameter that does not exist or cannot be
        raise UserError(str(error)) from error
    splits = {"train_on": options.train_on, "evaluate_on": options.evaluate_on}
    run = train(model, task, recipe, seed=options.seed, progress=sys.stderr.isatty(), **splits)
    name = f"{options.method} on {task.name}"
    if run.diverged:
        print(f"{name}: diverged (the loss is no longer finite) after {run.steps} steps; try a smaller --lr")
        return 1
    print(f"{name}: {run.accuracy:.2f} % on {options.evaluate_on} ({len(run.labels)} images)")
    print(f"trained {run.params:,} parameters besides the head, {run.steps} steps, {run.seconds:.1f} s on {device}")
    if options.save:
        save_adapter(model, options.save, task.notes | {"normalise": recipe.normalise})
        print(f"saved {options.save} ({Path(options.save).stat().st_size / 2**20:.2f} MB)")
    return 0


def _study(options: argparse.Namespace) -> int:
    from petl_core.study.command import study

    return study(options)


def _compare(options: argparse.Namespace) -> int:
    out = Path(options.out) if options.out else None
    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"--out got '{out}', which is a file; name a folder")

    from petl_core.compare import METHODS, compare

    own = {name: getattr(options, name) for name in ("resize", "group", "strict")}
    if options.look:
        from petl_core.compare.look import look

        card = look(options.images, options.backbone, options.image_size, **own)
        print(card.text(everything=options.all))
        return 2 if card.refused else 0
    given = {name: getattr(options, name) for name in (*COMPARE, "device")} | own
    results = out / "records" if out else None
    chosen = options.methods or METHODS
    report = compare(options.images, chosen, options.backbone, options.budget, results=results, **given)
    print(report)
    if out is not None:
        written = report.write(out)
        if report.recommended:
            written.append(report.save_best(out / "model.safetensors"))
        print(f"wrote {', '.join(path.name for path in written)} to {out}")
    return 0


def _predict_options(add: argparse.ArgumentParser) -> None:
    add.add_argument("model", metavar="MODEL", help="a .safetensors file of compare or run")
    add.add_argument("images", metavar="IMAGES", nargs="+", help="a folder of images, or files")
    add.add_argument("--csv", metavar="FILE", help="write the answers to FILE instead of printing them")
    add.add_argument("--top", type=int, default=1, metavar="K", help="the K likeliest classes (default: 1)")


def _predict(options: argparse.Namespace) -> int:
    if options.csv and not Path(options.csv).parent.is_dir():
        raise UserError(f"--csv got '{options.csv}', but there is no folder {Path(options.csv).parent}; make it first")

    from petl_core.compare.predict import predict

    images = options.images[0] if len(options.images) == 1 else options.images
    answers = predict(options.model, images, options.top, progress=sys.stderr.isatty())
    if options.csv:
        write_atomic(Path(options.csv), answers.to_csv(index=False).encode())
        print(f"wrote {len(answers):,} answers to {options.csv}")
    else:
        print(answers.to_string(index=False, float_format=lambda v: f"{v:.3f}", na_rep=""))
    return 1 if (answers["problem"] != "").any() else 0


def _export_options(add: argparse.ArgumentParser) -> None:
    add.add_argument("model", metavar="MODEL", help="a .safetensors file of compare or run")
    add.add_argument("path", metavar="PATH", help="model.onnx, a .safetensors file for timm, or a folder for peft")
    add.add_argument("--format", choices=["onnx", "timm", "peft"], help="default: by the name of PATH")


def _export(options: argparse.Namespace) -> int:
    from petl_core.models.adapters import load_adapter
    from petl_core.models.export import export

    print(f"wrote {export(load_adapter(options.model), options.path, options.format)} and its model card")
    return 0


def setting(text: str) -> tuple[str, Any]:
    """A name and its value from "NAME=VALUE": a number, true or false, several of these with commas, or text."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise UserError(f"--set got '{text}'; write NAME=VALUE, for example rank=4")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            pass
    if "," in value:
        return name, tuple(setting(f"{name}={part}")[1] for part in value.split(",") if part)
    return name, {"true": True, "false": False}.get(value.lower(), value)


def _check_target(path: Path) -> None:
    """Find out before training that the file cannot be written afterwards."""
    if path.suffix != ".safetensors":
        raise UserError(f"--save got '{path}'; the file's name must end in .safetensors")
    if not path.parent.is_dir():
        raise UserError(f"--save got '{path}', but there is no folder {path.parent}; make it first")
