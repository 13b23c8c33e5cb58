"""Which learning rate each method trains with: of the rates that a sweep has tried, the one that ends with the lowest validation loss.

    python3 analysis/results/rates.py SWEEP_DIR [--write scenarios/sweeps/methods_small.json]

prints a table and, with --write, puts the rates into a sweep file that has one value of an axis on a line, as methods_small.json does:
each line that names a method and an optimizer gets that pair's rate; all else in the file, comments included, stays as it is. A method without
a pair of its own in SWEEP_DIR takes that of its kin (`KIN`). One rate serves all ratios of a method. With Muon, the rate is that of
Muon's matrices (`training.optimizer.muon.lr`); AdamW's, for the parameters that Muon does not move, stays that of the base."""

import argparse
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from strait_analysis.files import InputError  # noqa: E402
from strait_analysis.points import figures_of, points_of  # noqa: E402

RATE = {"adamw": "training.optimizer.lr", "muon": "training.optimizer.muon.lr"}  # optimizer → the field that a sweep of rates varies
KIN = {"cast": "quantize"}  # neither changes the model; both round what is sent


@dataclass(frozen=True)
class Tried:
    method: str  # of compression.pipeline
    optimizer: str
    losses: dict[float, float]  # rate → final validation loss, mean over seeds; nan: diverged, or failed

    @property
    def chosen(self) -> float:
        """The rate with the lowest loss; of equal ones the lowest. Raises InputError where no rate has a loss."""
        finite = {rate: loss for rate, loss in self.losses.items() if math.isfinite(loss)}
        if not finite:
            raise InputError(f"{self.method} with {self.optimizer}: no rate has a validation loss")
        return min(sorted(finite), key=finite.get)

    @property
    def remark(self) -> str:
        """Whether the best rate is the lowest or the highest that was tried, so that a better one may lie beyond."""
        ends = {min(self.losses): "the lowest tried", max(self.losses): "the highest tried"}
        return ends.get(self.chosen, "") if len(self.losses) > 1 else ""


def value_at(scenario: dict, path: str, default=None):
    """The value of a dotted path of a scenario."""
    for key in path.split("."):
        if not isinstance(scenario, dict) or key not in scenario:
            return default
        scenario = scenario[key]
    return scenario


def optimizer_of(scenario: dict) -> tuple[str, float]:
    """Its name, and the rate that belongs to it. Raises InputError where the scenario does not say."""
    name = value_at(scenario, "training.optimizer.name", "adamw")
    rate = value_at(scenario, RATE[name])
    if rate is None:
        raise InputError(f"{RATE[name]} is not set")
    return name, float(rate)


def tried_rates(directory) -> list[Tried]:
    """What a sweep over rates has found, in the order of its file. Raises InputError where a point of it is not finished."""
    found: dict[tuple[str, str], dict[float, list[float]]] = {}
    for point in points_of(directory):
        if point.status in ("unfinished", "not begun"):
            raise InputError(f"{directory}: {point.name} is {point.status}: rates are chosen when all are known")
        name, rate = optimizer_of(point.written)
        losses = found.setdefault((value_at(point.written, "compression.pipeline.method"), name), {})
        losses.setdefault(rate, []).append(figures_of(point)["final_validation_loss"])
    return [Tried(*pair, {rate: sum(values) / len(values) for rate, values in sorted(losses.items())}) for pair, losses in found.items()]


def with_rates(text: str, tried: list[Tried]) -> str:
    """The sweep file with the chosen rates. Raises InputError where a line has a rate that nothing was tried for."""
    chosen = {(t.method, t.optimizer): t.chosen for t in tried}
    lines = text.split("\n")
    for i, line in enumerate(lines):
        method = re.search(r'"compression\.pipeline\.method": "(\w+)"', line)
        optimizer = re.search(r'"training\.optimizer\.name": "(\w+)"', line)
        if not (method and optimizer):
            continue
        pairs = [(name, optimizer[1]) for name in (method[1], KIN.get(method[1])) if (name, optimizer[1]) in chosen]
        if not pairs:
            raise InputError(f"line {i + 1}: no rates of {method[1]} with {optimizer[1]} were tried")
        field = RATE[optimizer[1]]
        lines[i], written = re.subn(rf'("{re.escape(field)}": )[^,}}\s]+', rf"\g<1>{chosen[pairs[0]]:g}", line)
        if written != 1:
            raise InputError(f'line {i + 1}: "{field}" is there {written} times instead of once')
    return "\n".join(lines)


def table(tried: list[Tried]) -> list[list[str]]:
    """Rows of cells, the head first: a row a method and optimizer; the loss at each rate, the chosen one's in bold."""
    rows = [["method", "optimizer", "rate: validation loss", "chosen", ""]]
    for t in tried:
        losses = [f"{rate:g}: " + (f"{loss:.3f}" if math.isfinite(loss) else "diverged") for rate, loss in t.losses.items()]
        marked = [f"**{text}**" if rate == t.chosen else text for rate, text in zip(t.losses, losses)]
        rows.append([t.method, t.optimizer, ", ".join(marked), f"{t.chosen:g}", t.remark])
    return rows


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="The learning rate of each method, from a sweep over rates.")
    parser.add_argument("sweep", metavar="SWEEP_DIR")
    parser.add_argument("--write", metavar="SWEEP.json", type=Path, help="a sweep file that gets the rates")
    options = parser.parse_args(arguments)
    try:
        tried = tried_rates(options.sweep)
        for row in table(tried):
            print("  ".join([f"{row[0]:12}", f"{row[1]:9}", f"{row[2].replace('**', ''):48}", f"{row[3]:8}", row[4]]).rstrip())
        if options.write:
            options.write.write_text(with_rates(options.write.read_text(encoding="utf-8"), tried), encoding="utf-8")
    except (InputError, OSError) as error:
        print(f"rates.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
