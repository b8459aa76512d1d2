"""The comparison of fresh records with shipped ones of the same digest."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass, field

from petl_core.study.records import Records


@dataclass
class Comparison:
    """Fresh records against shipped ones of the same digest."""

    identical: list[str] = field(default_factory=list)  # accuracy and logits, to the bit
    within: list[str] = field(default_factory=list)  # accuracy inside the seed interval
    outside: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)  # fresh records that were not shipped
    differences: dict[str, float] = field(default_factory=dict)  # fresh - shipped accuracy, points, where not identical
    halves: dict[str, float] = field(default_factory=dict)  # half-width of the interval, points

    def report(self, fresh: Records | None = None) -> str:
        """Readable lines; with ``fresh`` each record outside its interval is described."""
        total = len(self.identical) + len(self.within) + len(self.outside)
        lines = [
            f"{total} records compared: {len(self.identical)} agree to the bit, {len(self.within)} more lie within "
            f"the interval of seeds, {len(self.outside)} do not; {len(self.unknown)} were not shipped"
        ]
        for digest in self.outside:
            label = ""
            if fresh is not None:
                record = fresh.get(digest)
                spec = record["spec"]
                label = f" {spec['method']} on {spec['task']}, seed {spec['seed']}, {record['stage']}"
            gap, half = self.differences[digest], self.halves[digest]
            lines.append(f"OUTSIDE {digest}{label}: {gap:+.2f} points, interval +-{half:.2f}")
        return "\n".join(lines)


def compare(fresh: Records, shipped: Records) -> Comparison:
    """Compare every fresh record with the shipped record of the same digest.

    The interval of seeds is 1.96 sqrt(2) s around the shipped accuracy: s is the standard deviation between seeds of
    the shipped final runs of that task, pooled over configurations (of all tasks where a task has no repeated runs).
    Trials, which have one seed and 200 images, add the sampling variance p (1 - p) / n of their accuracy.
    """
    deviations = _seed_deviations(shipped)
    result = Comparison()
    for digest in fresh.digests():
        if not shipped.has(digest):
            result.unknown.append(digest)
            continue
        ours, theirs = fresh.get(digest), shipped.get(digest)
        a, b = ours["metrics"]["accuracy"], theirs["metrics"]["accuracy"]
        if a == b and ours["logits_sha256"] == theirs["logits_sha256"]:
            result.identical.append(digest)
            continue
        variance = deviations.get(ours["spec"]["task"], deviations.get("", 0.0)) ** 2
        if ours["stage"] == "trial" and b is not None:
            variance += b * (100.0 - b) / 200
        half = 1.96 * math.sqrt(2.0 * variance)
        difference = math.inf if (a is None) != (b is None) else 0.0 if a is None else a - b
        result.differences[digest], result.halves[digest] = difference, half
        (result.within if abs(difference) <= half else result.outside).append(digest)
    return result


def _seed_deviations(records: Records) -> dict[str, float]:
    """Standard deviation between seeds by task, pooled over configurations; key "" pools over all tasks."""
    groups: dict[tuple[str, str], list[float]] = {}
    for digest in records.digests():
        record = records.get(digest)
        if record["stage"] == "final" and record["metrics"]["accuracy"] is not None:
            spec = {key: value for key, value in record["spec"].items() if key != "seed"}
            key = (spec["task"], json.dumps(spec, sort_keys=True))
            groups.setdefault(key, []).append(record["metrics"]["accuracy"])
    pooled: dict[str, list[float]] = {}
    for (task, _), values in groups.items():
        if len(values) > 1:
            for name in (task, ""):
                pooled.setdefault(name, []).append(statistics.variance(values))
    return {task: math.sqrt(statistics.fmean(variances)) for task, variances in pooled.items()}
