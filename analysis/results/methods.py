"""Makes the generated part of docs/results/methods.md, and its two figures, from sweep directories.

    python3 analysis/results/methods.py RATES_SWEEP_DIR SMALL_SWEEP_DIR [ABLATION_SWEEP_DIR...] [--page docs/results/methods.md]

RATES_SWEEP_DIR is that of scenarios/sweeps/methods_rates.json, SMALL_SWEEP_DIR that of methods_small.json; an ablation is a sweep over settings
of one method (mapl_vq.json, mapl_projector.json), which gets a table under the name of its sweep. What stands between the markers BEGIN and END
is replaced, all else of the page is written by hand. The figures lie beside the page. The same directories give the same bytes."""

import argparse
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import rates  # noqa: E402
from entries import Entry, common_target, entries_of, ratio_class  # noqa: E402
from method_figures import METHODS, OPTIMIZERS, loss_over_ratio, time_over_ratio  # noqa: E402
from page import difference_text, loss_text, markdown, order_text, time_text, with_generated  # noqa: E402
from strait_analysis.files import InputError, read_json  # noqa: E402
from strait_analysis.quantities import duration, number  # noqa: E402
from strait_analysis.report import image_bytes, write_file  # noqa: E402

BEGIN = "<!-- generated: analysis/results/methods.py -->"
PAGE = Path(__file__).resolve().parents[2] / "docs/results/methods.md"
# Which pairs of methods the page compares, at equal ratio (`none` with every one), and what is published of the first one's loss less the
# other's, in nats; empty: nothing that we know of. MAPL: arXiv 2606.05484 (150 M to 1 B parameters, Muon); SSN: 2506.01260; ResBM: 2604.11947.
COMPARISONS = [
    ("mapl", "none", "−0.05 to +0.05, 4× to 8× (MAPL)"),
    ("subspace", "none", "about equal, 100× (SSN); +0.25 to +0.40, 4× to 8× (MAPL)"),
    ("resbm", "none", "about equal, 128× (ResBM)"),
    ("mapl", "subspace", "−0.35 to −0.23, 4× to 8× (MAPL)"),
    ("resbm", "subspace", ""),
    ("resbm", "mapl", ""),
    ("mapl", "frozen", "−0.01, 4×, both with anchors (MAPL)"),
    ("frozen", "column_mask", ""),
    ("frozen", "topk", ""),
    ("frozen", "lowrank", ""),
    *((baseline, learned, "higher, 100× (SSN)" if (baseline, learned) == ("topk", "subspace") else "")
      for baseline in ("topk", "quantize") for learned in ("subspace", "resbm", "mapl")),
    ("mapl vq", "mapl", "+0.01 to +0.13, at twice the ratio (MAPL)"),
]


def plain_of(entries: list[Entry], optimizer: str) -> Entry | None:
    return next((entry for entry in entries if entry.method == "none" and entry.optimizer == optimizer), None)


def in_order(entries: list[Entry]) -> list[Entry]:
    """By the ratio that they are compared at, the measured one where there is none; then by method and optimizer."""
    classes = sorted({entry.ratio for entry in entries if math.isfinite(entry.ratio)})

    def key(entry: Entry) -> tuple:
        ratio = ratio_class(entry, classes)
        return (entry.wire_ratio if math.isnan(ratio) else ratio,
                METHODS.index(entry.method) if entry.method in METHODS else len(METHODS), list(OPTIMIZERS).index(entry.optimizer))
    return sorted(entries, key=key)


def loss_table(entries: list[Entry]) -> str:
    optimizers = [name for name in OPTIMIZERS if any(entry.optimizer == name for entry in entries)]
    rows = [["method", "setting", "wire ratio"]]
    for name in optimizers:
        rows[0] += [f"{OPTIMIZERS[name]}: loss", "against none"]
    ordered = in_order(entries)
    for method, setting in dict.fromkeys((entry.method, entry.setting) for entry in ordered):
        same = {entry.optimizer: entry for entry in ordered if (entry.method, entry.setting) == (method, setting)}
        row = [method, setting, f"{number(next(iter(same.values())).wire_ratio)}×"]
        for name in optimizers:
            row += [loss_text(same[name]), difference_text(same[name], plain_of(entries, name))] if name in same else ["", ""]
        rows.append(row)
    return markdown(rows, 2)


def order_table(entries: list[Entry]) -> str:
    """A row a pair of COMPARISONS, a column an optimizer and ratio."""
    classes = sorted({entry.ratio for entry in entries if math.isfinite(entry.ratio)})
    columns = [(optimizer, ratio) for optimizer in OPTIMIZERS for ratio in classes
               if any(entry.optimizer == optimizer and entry.ratio == ratio for entry in entries)]
    rows = [["loss of", "against", *(f"{OPTIMIZERS[optimizer]} {ratio:g}×" for optimizer, ratio in columns), "published"]]
    for method, other, published in COMPARISONS:
        cells = [_order_cell([_at(entries, name, *column, classes) for name in (method, other)]) for column in columns]
        if any(cells):
            rows.append([method, other, *cells, published])
    return markdown(rows, len(rows[0]))


def _at(entries: list[Entry], method: str, optimizer: str, ratio: float, classes: list[float]) -> list[Entry]:
    """The entries of a method that are compared at a ratio; that of `none` at every one."""
    return [entry for entry in entries if entry.method == method and entry.optimizer == optimizer
            and (method == "none" or ratio_class(entry, classes) == ratio)]


def _order_cell(sides: list[list[Entry]]) -> str:
    """ "**lower** −0.077 ± 0.066", for each two that there are."""
    first, second = sides
    return "; ".join(f"{order_text(entry, reference)} {difference_text(entry, reference)}" for entry in first for reference in second)


def time_tables(entries: list[Entry], networks: list[str], target: float) -> str:
    """Of the first network all targets that anything reached; of the others the step and the one target."""
    ordered = in_order(entries)
    first, *others = networks
    targets = sorted({t for entry in entries for (_, t), seconds in entry.times.items() if any(map(math.isfinite, seconds))}, reverse=True)
    head = ["method", "setting", "optimizer"]
    named = [[entry.method, entry.setting, OPTIMIZERS[entry.optimizer]] for entry in ordered]
    rows = [[*head, "mean step", *(f"to {number(t)}" for t in targets)]]
    rows += [[*names, duration(entry.step_s.get(first)), *(time_text(entry.times.get((first, t), [])) for t in targets)]
             for names, entry in zip(named, ordered)]
    parts = [f"`{first}`:", markdown(rows, 3)]
    if others:
        rows = [[*head, *(text for network in others for text in (f"{network}: mean step", f"to {number(target)}"))]]
        rows += [[*names, *(text for network in others
                            for text in (duration(entry.step_s.get(network)), time_text(entry.times.get((network, target), []))))]
                 for names, entry in zip(named, ordered)]
        parts += ["The other networks:", markdown(rows, 3)]
    return "\n\n".join(parts)


def ablation(directory: Path) -> str:
    """The table of a sweep over settings of one method; differences are to its first entry with the same optimizer."""
    entries = entries_of(directory)
    name = read_json(directory / "plan.json").get("name", directory.name)
    network = next(iter(entries[0].step_s))
    rows = [["setting", "optimizer", "wire ratio forward", "both ways", "loss", "difference", "bands", f"mean step, {network}"]]
    for entry in entries:
        reference = next(other for other in entries if other.optimizer == entry.optimizer)
        rows.append([entry.label, OPTIMIZERS[entry.optimizer], f"{number(entry.wire_ratio_forward)}×", f"{number(entry.wire_ratio)}×",
                     loss_text(entry), difference_text(entry, reference), "" if entry is reference else order_text(entry, reference),
                     duration(entry.step_s[network])])
    return f"### `{name}`\n\n{markdown(rows, 2)}\n\nDifferences and bands are those to the first row of the same optimizer."


def generated(tried: list[rates.Tried], entries: list[Entry], networks: list[str], target: float, ablations: list[Path]) -> str:
    seeds, (tokens,) = max(len(entry.seeds) for entry in entries), set.union(*(entry.tokens for entry in entries))
    parts = [
        "## Learning rates", markdown(rates.table(tried), 5),
        "## Loss at equal tokens",
        f"After {tokens:,} tokens. Mean of {seeds} seeds [lowest, highest]; differences are paired by seed, ± half of the 95 % Student t interval. Wire ratios are "
        "measured: both directions and all synchronisation.",
        loss_table(entries), "![Final validation loss over the measured wire ratio](methods_loss_vs_ratio.svg)",
        "## Which orders are clear",
        "**lower**, **higher**: the bands (lowest to highest of the seeds) do not touch. overlap: no order is claimed. Ratios are those asked for; "
        ""
        "what asks for none (int8, int4, vq) stands at the one that it measures, within a quarter. Empty: not in the sweep. Published: of far larger models (150 M parameters and more) and other "
        "data, by arXiv 2606.05484 (MAPL), 2506.01260 (SSN), 2604.11947 (ResBM).",
        order_table(entries),
        "## Virtual time to a loss",
        f"Means over the seeds that got there; – none did. A target counts at an evaluation. {number(target)} is the lowest that every seed without "
        "compression reached.",
        time_tables(entries, networks, target), f"![Virtual time to loss {number(target)} over the measured wire ratio](methods_time_to_target.svg)",
    ]
    if ablations:
        parts += ["## Ablations", *(ablation(directory) for directory in ablations)]
    return "\n\n".join(parts)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Rewrites the generated part of docs/results/methods.md.")
    parser.add_argument("rates", metavar="RATES_SWEEP_DIR", type=Path)
    parser.add_argument("small", metavar="SMALL_SWEEP_DIR", type=Path)
    parser.add_argument("ablations", metavar="ABLATION_SWEEP_DIR", type=Path, nargs="*")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    try:
        page = options.page.read_text(encoding="utf-8")
        entries = entries_of(options.small)
        networks, target = list(dict.fromkeys(network for entry in entries for network in entry.step_s)), common_target(entries)
        text = with_generated(page, generated(rates.tried_rates(options.rates), entries, networks, target, options.ablations), BEGIN)
        figures = {"methods_loss_vs_ratio.svg": loss_over_ratio(entries), "methods_time_to_target.svg": time_over_ratio(entries, target, networks)}
        for name, figure in figures.items():
            write_file(options.page.parent / name, image_bytes(figure, "svg"))
        write_file(options.page, text.encode())
    except (InputError, OSError) as error:
        print(f"methods.py: {error}", file=sys.stderr)
        return 2
    print("\n".join(str(path) for path in (options.page, *(options.page.parent / name for name in figures))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
