"""Makes the generated part of docs/results/context.md, and its figure, from sweep directories.

    python3 analysis/results/context.py CONTEXT_SWEEP_DIR ABLATIONS_SWEEP_DIR [--page docs/results/context.md]

of scenarios/sweeps/context.json and mos_ablations.json. What stands between the markers BEGIN and END is replaced, all else of the page is
written by hand. The figure lies beside the page. The same directories give the same bytes.

All trainings of these sweeps begin uncompressed, so that figures of a whole run mix two kinds of steps. Bytes and steps are those of the end of a
training: its last step, and the mean of its last `LAST_STEPS`."""

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from entries import Entry, common_target, entries_of, network_of  # noqa: E402
from page import difference_text, loss_text, markdown, order_text, time_text, with_generated  # noqa: E402
from strait_analysis.files import InputError  # noqa: E402
from strait_analysis.layout import Sheet, log_ticks  # noqa: E402
from strait_analysis.points import points_of  # noqa: E402
from strait_analysis.quantities import duration, number, parse_bandwidth  # noqa: E402
from strait_analysis.report import image_bytes, write_file  # noqa: E402
from strait_analysis.style import COLUMN_MM, Look, styled  # noqa: E402

BEGIN = "<!-- generated: analysis/results/context.py -->"
PAGE = Path(__file__).resolve().parents[2] / "docs/results/context.md"
LAST_STEPS = 20


@dataclass
class Ending:
    """How the steps of an entry are at the end of its training."""
    bytes_forward: float
    bytes_backward: float
    step_s: dict[str, float]  # network → mean of the last steps, virtual seconds, of the first seed
    captured: dict[str, float]  # "k", "v" → share of the energy in the basis, mean over layers; empty where nothing says


def endings_of(directory) -> dict[str, Ending]:
    """Label → how its first seed's training ends. The bytes of a step depend on nothing but the method. Raises InputError where one failed: there is
    nothing then that its rows could say."""
    endings: dict[str, Ending] = {}
    for point in points_of(directory):
        if int(point.axes["seed"]) != 1:
            continue
        if point.run is None:
            raise InputError(f"{directory}: {point.name}: {point.status}")
        steps = point.run.steps
        found = endings.setdefault(point.method, Ending(steps["bytes_forward"].iloc[-1], steps["bytes_backward"].iloc[-1], {}, {}))
        found.step_s[network_of(point)] = float(steps["step_s"].iloc[-LAST_STEPS:].mean())
        found.captured = found.captured or _captured(point.run)
    return endings


def _captured(run) -> dict[str, float]:
    """Of the last step that was diagnosed."""
    if not (run.path / "diagnostics.csv").exists() or run.diagnostics.empty:
        return {}
    rows = run.diagnostics[run.diagnostics["step"] == run.diagnostics["step"].max()]
    means = {z: rows[rows["name"].str.endswith(f"{name}_captured")]["value"].mean() for z, name in (("k", "key"), ("v", "value"))}
    return {z: mean for z, mean in means.items() if math.isfinite(mean)}


def _ratio(plain: Ending, ending: Ending, field: str) -> str:
    return f"{number(getattr(plain, field) / getattr(ending, field))}×"


def loss_table(entries: list[Entry], endings: dict[str, Ending], plain: Ending) -> str:
    """Differences and bands are those to the first entry."""
    reference = entries[0]
    rows = [["keys and values", "forward", "backward", "loss", f"against {reference.label}", "bands"]]
    with_energy = any(endings[entry.label].captured for entry in entries)
    rows[0] += ["captured: keys", "values"] if with_energy else []
    for entry in entries:
        ending = endings[entry.label]
        rows.append([entry.label, _ratio(plain, ending, "bytes_forward"), _ratio(plain, ending, "bytes_backward"), loss_text(entry),
                     difference_text(entry, reference), "" if entry is reference else order_text(entry, reference)])
        if with_energy:
            rows[-1] += [f"{100 * ending.captured[z]:.1f} %" if z in ending.captured else "" for z in ("k", "v")]
    return markdown(rows)


def time_table(entries: list[Entry], endings: dict[str, Ending], networks: list[str], target: float) -> str:
    rows = [["keys and values", *(f"{network}: step" for network in networks), *(f"{network}: to {number(target)}" for network in networks)]]
    for entry in entries:
        rows.append([entry.label, *(duration(endings[entry.label].step_s[network]) for network in networks),
                     *(time_text(entry.times.get((network, target), [])) for network in networks)])
    return markdown(rows)


@styled
def step_over_bandwidth(entries: list[Entry], endings: dict[str, Ending], networks: list[str]):
    """A matplotlib figure: the step at the end of training over the bandwidth of a link, a line a method."""
    labels = [entry.label for entry in entries]
    look = Look(SimpleNamespace(palette=labels, has_plain=True))
    sheet = Sheet(COLUMN_MM, "Step at the end of training over the bandwidth of a link.", [look.entry(label) for label in labels],
                  panel_mm=58)
    axes = sheet.axes[0]
    rates = [parse_bandwidth(network) for network in networks]
    for label in labels:
        axes.plot(rates, [endings[label].step_s[network] for network in networks], **look.style(label))
    steps = [step for label in labels for step in endings[label].step_s.values()]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(rates, networks)
    axes.minorticks_off()
    low, high = min(steps) / 1.2, max(steps) * 1.2
    axes.set_ylim(low, high)
    log_ticks(axes.yaxis, low, high)
    axes.set_xlabel("bandwidth of a link")
    axes.set_ylabel("step (s, virtual)")
    return sheet.figure


def generated(entries: list[Entry], endings: dict[str, Ending], networks: list[str], parts: list[Entry], endings_of_parts: dict[str, Ending]) -> str:
    seeds, (tokens,), plain = max(len(entry.seeds) for entry in entries), entries[0].tokens, endings[entries[0].label]
    target = common_target(entries)
    return "\n\n".join([
        "## Loss at equal steps",
        f"After {tokens:,} tokens, of which every training has seen the first ones uncompressed. Mean of {seeds} seeds [lowest, highest]; differences are paired by seed, ± half of the 95 % "
        "Student t interval. Forward and backward: bytes of the uncompressed method's keys and values, and of their gradients (fp32), over this one's, at the end of the training.",
        "**lower**, **higher**: the bands do not touch. overlap: no order is claimed.",
        loss_table(entries, endings, plain),
        "## What a mixture of subspaces owes to its parts",
        loss_table(parts, endings_of_parts, plain),
        "## Virtual time over bandwidth",
        f"Steps at the end of training; times until the validation loss is {number(target)}, the lowest target that every uncompressed seed reached, which count the uncompressed steps at the beginning. "
        "– no seed got there.",
        time_table(entries, endings, networks, target),
        "![Step over bandwidth](context_step_vs_bandwidth.svg)",
    ])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Rewrites the generated part of docs/results/context.md.")
    parser.add_argument("context", metavar="CONTEXT_SWEEP_DIR", type=Path)
    parser.add_argument("ablations", metavar="ABLATIONS_SWEEP_DIR", type=Path)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    try:
        page = options.page.read_text(encoding="utf-8")
        entries, endings = entries_of(options.context), endings_of(options.context)
        networks = list(dict.fromkeys(network for entry in entries for network in entry.step_s))
        text = with_generated(page, generated(entries, endings, networks, entries_of(options.ablations), endings_of(options.ablations)), BEGIN)
        figure = options.page.parent / "context_step_vs_bandwidth.svg"
        write_file(figure, image_bytes(step_over_bandwidth(entries, endings, networks), "svg"))
        write_file(options.page, text.encode())
    except (InputError, OSError) as error:
        print(f"context.py: {error}", file=sys.stderr)
        return 2
    print(f"{options.page}\n{figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
