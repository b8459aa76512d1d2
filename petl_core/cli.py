"""The command line, ``python -m petl_core``: list, run, study and compare.

Bad input ends with one message on stderr and exit code 2; runs that failed, or records that differ, with exit code 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from petl_core.training.recipe import CHOICES
from petl_core.utils import UserError

if TYPE_CHECKING:
    from petl_core.study.profiles import Profile
    from petl_core.study.records import Records

LOGITS_OF = ("tuned", "more_seeds")  # variants whose predictions are packed; analyses of predictions read these
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
  torchrun --nproc-per-node 2 -m petl_core run lora digits     two processes share each batch: two GPUs, or two cores
"""
STUDY_EXAMPLES = """examples:
  python -m petl_core study --profile quick --workers 2            tune and train into runs/; start it again to resume
  python -m petl_core study --profile laptop --part tuned          one part of the study (see list)
  python -m petl_core study --profile quick --compare data/results      and compare with the shipped records
  python -m petl_core study --profile laptop --results runs --pack results     write the records compactly
  python -m petl_core study --profile laptop --reuse data/results    only what was not shipped
  python -m petl_core study --profile gpu --plan --measure           how many runs, hours and gigabytes
  python -m petl_core study --profile full --executor ray --gpus-per-run 0.25    on the Ray cluster of this machine

Stop it whenever you like (Ctrl-C, or by force): finished runs are kept and are not run again.
"""
COMPARE_EXAMPLES = """examples:
  python -m petl_core compare my_images --budget 10m --out my_comparison     report, figure and the model to ship
  python -m petl_core compare my_images --backbone vit_base_patch16_224 --methods linear lora ssf --budget 1h30m
  python -m petl_core compare digits --budget 5m            an embedded task

my_images holds a folder for each class, or train/ and test/ with a folder for each class in both. The same command with
the same --out goes on from where it was stopped.
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
    try:
        if moved := MOVED.get(" ".join(arguments[:2])) or MOVED.get(" ".join(arguments[:1])):
            raise UserError(f"'{' '.join(arguments[:2])}' has moved: {moved}")
        options = _parser().parse_args(arguments)
        return options.function(options)
    except UserError as error:
        print(f"petl_core: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\npetl_core: stopped; finished runs are kept", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    style: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(
        prog="python -m petl_core",
        description="Parameter-efficient fine-tuning of Vision Transformers: train, tune and compare.",
        epilog=EXAMPLES,
        **style,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="what there is", description="Methods, backbones, tasks and profiles.")
    listing.add_argument("what", nargs="?", choices=["methods", "backbones", "tasks", "profiles"], help="default: all")
    listing.set_defaults(function=_list)

    run = commands.add_parser(
        "run",
        help="train one method on one task",
        description="Train one method on one task and print accuracy, time and size.",
        epilog=RUN_EXAMPLES,
        **style,
    )
    run.add_argument("method", help="a method, or several joined by + (see: list methods)")
    run.add_argument(
        "task", help="an embedded task, world, folder:PATH, shift:FOLDER/DOMAIN, vtab:FOLDER/NAME or vtab1k/NAME"
    )
    run.add_argument("--backbone", default="mini", help="mini, mini_clip or a timm ViT name (default: mini)")
    run.add_argument("--weights", metavar="FILE", help="weights of the backbone; 'none' for random ones")
    run.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="hyper-parameters, such as rank=4")
    run.add_argument("--head", default="new", help="new, zero_shot (mini_clip on world, CLIP on ImageNet), or a file")
    run.add_argument("--image-size", type=int, help="side of the images in pixels (default: the backbone's)")
    for name, kind, text in (
        ("lr", float, "base learning rate"),
        ("epochs", int, "passes over the training images"),
        ("batch-size", int, "images in a step"),
        ("weight-decay", float, "AdamW's weight decay"),
        ("drop-path", float, "stochastic depth in the last block"),
    ):
        run.add_argument(f"--{name}", type=kind, help=text)
    run.add_argument("--flip", action="store_true", help="mirror half of the training images")
    run.add_argument("--normalise", choices=["backbone", "imagenet", "none"], help="of images (default: backbone)")
    for name, text in (
        ("augment", "change of the training images"),
        ("precision", "of the arithmetic; auto is bf16 on CUDA"),
        ("compile", "with torch.compile; auto for long runs on CUDA"),
    ):
        run.add_argument(f"--{name}", choices=CHOICES[name], help=f"{text} (default: {CHOICES[name][0]})")
    run.add_argument("--checkpointing", action="store_true", help="less memory, a third more work; equal results")
    run.add_argument("--seed", type=int, default=0, help="fixes everything random (default: 0)")
    run.add_argument("--train-on", default="train1000", metavar="SPLIT", help="default: train1000")
    run.add_argument("--evaluate-on", default="test", metavar="SPLIT", help="default: test")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    run.add_argument("--save", metavar="FILE", help="write what was trained to this .safetensors file")
    run.set_defaults(function=_run)

    study = commands.add_parser(
        "study",
        help="tune and train many methods on many tasks, resumable",
        description="Run a profile of the study: equal tuning trials for each method, then final runs with seeds.",
        epilog=STUDY_EXAMPLES,
        **style,
    )
    study.add_argument("--profile", default="quick", help="smoke, quick, laptop, ... (default: quick; see: list)")
    study.add_argument("--backbone", help="another one than the profile's: a name, or a file of save_backbone")
    study.add_argument("--results", default="runs", metavar="DIR", help="where records are kept (default: runs)")
    study.add_argument("--part", nargs="+", metavar="NAME", help="only these parts (default: all of the profile)")
    study.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core; 0: none extra)")
    study.add_argument("--device", help="cpu, cuda or mps (default: the profile's)")
    study.add_argument("--reuse", metavar="DIR", help="first take over what is wanted from the packed records in DIR")
    study.add_argument("--plan", action="store_true", help="only count what there is to do, and how long it takes")
    study.add_argument("--measure", action="store_true", help="time each kind of run first, for the hours of the plan")
    study.add_argument("--yes", action="store_true", help="start also what is estimated to take more than a day")
    study.add_argument(
        "--executor", choices=["local", "ray"], default="local", help="this machine, or a Ray cluster (default: local)"
    )
    study.add_argument("--address", help="of Ray: auto, local, HOST:PORT or ray://HOST:PORT (default: auto)")
    study.add_argument("--gpus-per-run", type=float, metavar="X", help="with Ray, such as 0.25 (default: 1)")
    study.add_argument(
        "--pack", metavar="DIR", help="afterwards write the records compactly to DIR (with the logits of tuned runs)"
    )
    study.add_argument(
        "--no-logits", nargs="*", metavar="TASK", help="with --pack: leave out the logits of these tasks, or of all"
    )
    study.add_argument("--compare", metavar="DIR", help="afterwards compare the records with those in DIR")
    study.set_defaults(function=_study)

    compare = commands.add_parser(
        "compare",
        help="which method for your own images, within a time",
        description="Compare methods on a folder of images: equal trials, chosen on validation, seeds, tested once.",
        epilog=COMPARE_EXAMPLES,
        **style,
    )
    compare.add_argument("images", metavar="FOLDER", help="a folder with one sub-folder for each class, or a task")
    compare.add_argument("--methods", nargs="+", metavar="NAME", help="default: both baselines and one of each family")
    compare.add_argument("--backbone", default="mini", help="mini, mini_clip or a timm ViT name (default: mini)")
    compare.add_argument("--budget", default="10m", metavar="TIME", help="such as 90s, 10m or 1h30m (default: 10m)")
    compare.add_argument("--out", metavar="DIR", help="for records, report.md, table.csv, figure.png and the model")
    for option, text in (
        ("trials", "of each method"),
        ("steps", "of a final run"),
        ("seeds", "final runs of each method"),
        ("image-size", "side of the images in pixels (default: the backbone's)"),
        ("workers", "processes on a CPU (default: one per core)"),
    ):
        compare.add_argument(f"--{option}", type=int, metavar="N", help=text)
    compare.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    compare.set_defaults(function=_compare)

    return parser


def _list(options: argparse.Namespace) -> int:
    from petl_core import methods
    from petl_core.data import embedded_names
    from petl_core.data.embedded import SHIFTS, WORLD
    from petl_core.data.task import GROUPS
    from petl_core.study import plan as study
    from petl_core.study.profiles import profile, profile_names

    if options.what in (None, "methods"):
        print("methods (name, size, paper)")
        for name in methods.names():
            cls = methods.registry[name]
            print(f"  {name:<18}{cls.size_field or '-':<14}{cls.paper}")
    if options.what in (None, "backbones"):
        print("backbones\n  mini, mini_clip    embedded, offline\n  any ViT of timm    such as vit_base_patch16_224")
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
        for name, part in study.PARTS.items():
            print(f"  {name:<18}{part.about}")
    return 0


def _run(options: argparse.Namespace) -> int:
    from petl_core.study.execute import device_called
    from petl_core.training.distributed import joined

    with joined(device_called(options.device)) as device:
        return _run_on(device, options)


def _run_on(device: str, options: argparse.Namespace) -> int:
    """Train on this device, as one of the processes that torchrun started or alone; the first of them reports."""
    from petl_core.data import WORLD, embedded_names, load_task
    from petl_core.models.adapters import save_adapter
    from petl_core.models.build import create_model
    from petl_core.models.weights import config_of
    from petl_core.training.distributed import team
    from petl_core.training.train import Recipe, train

    fields = ("lr", "epochs", "batch_size", "weight_decay", "drop_path", "normalise", "augment", "precision", "compile")
    given = {field: getattr(options, field) for field in fields if getattr(options, field) is not None}
    recipe = Recipe(**given, flip=options.flip, checkpointing=options.checkpointing)
    if options.save:
        _check_target(Path(options.save))
    size = options.image_size
    if size is None and options.task not in (*embedded_names(), WORLD):
        size = config_of(options.backbone).image_size
    task = load_task(options.task, size=size)
    hyper = dict(setting(text) for text in options.set)
    source = {None: True, "none": False}.get(options.weights, options.weights)
    made = {"num_classes": task.num_classes, "image_size": task.image_size, "seed": options.seed, "head": options.head}
    made |= hyper
    try:
        model = create_model(options.backbone, options.method, pretrained=source, **made).to(device)
    except ValueError as error:  # a method or hyper-parameter that does not exist or cannot be
        raise UserError(str(error)) from error
    splits = {"train_on": options.train_on, "evaluate_on": options.evaluate_on}
    first = team().rank == 0
    run = train(model, task, recipe, seed=options.seed, progress=first and sys.stderr.isatty(), **splits)
    if not first:
        return int(run.diverged)
    name = f"{options.method} on {task.name}"
    if run.diverged:
        print(f"{name}: diverged (the loss is no longer finite) after {run.steps} steps; try a smaller --lr")
        return 1
    where = f"{team().size} processes, {device.partition(':')[0]}" if team().size > 1 else device
    print(f"{name}: {run.accuracy:.2f} % on {options.evaluate_on} ({len(run.labels)} images)")
    print(f"trained {run.params:,} parameters besides the head, {run.steps} steps, {run.seconds:.1f} s on {where}")
    if options.save:
        save_adapter(model, options.save)
        print(f"saved {options.save} ({Path(options.save).stat().st_size / 2**20:.2f} MB)")
    return 0


def _study(options: argparse.Namespace) -> int:
    from petl_core.study import plan as study
    from petl_core.study.agreement import compare
    from petl_core.study.execute import device_called
    from petl_core.study.packs import pack
    from petl_core.study.records import Records

    profile = study.profile(options.profile)
    for name in options.part or ():
        profile.part(name)  # an error before anything is begun
    if unknown := set(options.no_logits or ()) - profile.all_tasks():
        known = ", ".join(sorted(profile.all_tasks()))
        raise UserError(f"--no-logits {min(unknown)}: profile '{profile.name}' has the tasks {known}")
    if options.backbone:
        profile = dataclasses.replace(profile, backbone=options.backbone)
    records = Records(options.results)
    if not options.plan:
        for message in records.clean():
            print(message, file=sys.stderr)
    if options.compare and not Records(options.compare).digests():
        raise UserError(f"there are no records in {options.compare} to compare with; give --compare another folder")
    shipped = Records(options.reuse) if options.reuse else None
    if shipped is not None and not shipped.digests():
        raise UserError(f"there are no records in {options.reuse} to reuse; give --reuse another folder")
    if options.executor != "ray":
        for name in ("address", "gpus_per_run"):
            if getattr(options, name) is not None:
                raise UserError(f"--{name.replace('_', '-')} is for --executor ray; add that or leave it out")
    if not _may_start(options, profile, records):
        return 0
    executor, device = None, options.device or profile.device
    if options.executor == "ray":
        from petl_core.study.ray_executor import RayExecutor

        executor = RayExecutor(records, options.address or "auto", device, options.gpus_per_run, options.workers)
    else:
        device_called(device)
    given = (options.workers, options.part, options.device)
    outcome = study.run_study(profile, records, *given, reuse=shipped, executor=executor)
    print(outcome.report())
    if options.pack:
        plan = study.plan_trials(profile, options.part) + study.plan_finals(profile, records, options.part)
        digests = {p.spec.digest for p in plan if records.has(p.spec)}
        place = pack(records, options.pack, digests, functools.partial(_keep_logits, options.no_logits))
        print(f"packed {len(digests)} records into {place}")
    different = 0
    if options.compare:
        comparison = compare(records, Records(options.compare))
        print(comparison.report(records))
        different = len(comparison.outside)
    return 1 if outcome.failures or different else 0


def _keep_logits(left_out: Sequence[str] | None, record: dict[str, Any]) -> bool:
    """Are the logits of a record packed? ``left_out``: the tasks whose are not, [] for all tasks, None for none."""
    wanted = left_out is None or (bool(left_out) and record["spec"]["task"] not in left_out)
    return wanted and bool(set(LOGITS_OF) & set(record["variants"]))


def _may_start(options: argparse.Namespace, profile: Profile, records: Records) -> bool:
    """Print the plan if asked; say no after --plan, and unless agreed to what takes more than a day or nobody knows."""
    from petl_core.study import estimate
    from petl_core.study.execute import default_workers, device_called

    device = options.device or profile.device
    workers = options.workers or (default_workers() if device == "cpu" else 1)
    rates = estimate.find_rates(records.root, device)
    large = profile.device != "cpu"
    if not (options.plan or options.measure or rates or large):
        return True  # nothing is known about the time, and the profiles for a CPU are short
    plan = estimate.forecast(profile, records, options.part)
    if options.plan:
        print(plan.text())
    if options.measure:
        device_called(device)
        records.check_writable()
        rates |= estimate.measure({estimate.cell_of(spec) for spec in plan.todo}, device, workers)
        estimate.save_rates(records.root, device, workers, rates)
    found = estimate.estimate(plan.todo, rates)
    if options.plan or options.measure:
        print(estimate.describe(found, workers, device))
    if options.plan:
        return False
    if options.yes or not ((large and found.unknown) or found.wall(workers) > estimate.DAY):
        return True
    why = estimate.describe(found, workers, device)
    if not sys.stdin.isatty():
        raise UserError(f"{len(plan.todo):,} runs are to be done; {why}. Add --yes to start them")
    return input(f"{len(plan.todo):,} runs; {why}. Start? [y/N] ").strip().lower() in ("y", "yes")


def _compare(options: argparse.Namespace) -> int:
    from petl_core.compare import METHODS, compare

    out = Path(options.out) if options.out else None
    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"--out got '{out}', which is a file; name a folder")
    same = {name: getattr(options, name) for name in ("trials", "steps", "seeds", "image_size", "workers", "device")}
    results = out / "records" if out else None
    report = compare(
        options.images, options.methods or METHODS, options.backbone, options.budget, results=results, **same
    )
    print(report)
    if out is not None:
        written = report.write(out)
        if report.recommended:
            written.append(report.save_best(out / "model.safetensors"))
        print(f"wrote {', '.join(path.name for path in written)} to {out}")
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
