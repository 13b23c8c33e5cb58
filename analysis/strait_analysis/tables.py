"""Numbers beside a figure: a CSV file with all digits, and a LaTeX table (booktabs) with those that a page has room for."""

import math

import pandas

from .quantities import number

# Column → its heading with the unit. Other columns are headed by their name.
HEADINGS = {
    "network": "network", "method": "method", "reference": "against", "seed": "seed", "point": "point", "status": "status",
    "target": "target loss", "time_s": "time (s)", "loss": "loss", "best_loss": "best loss", "lowest": "lowest", "highest": "highest",
    "n": "$n$", "unreached": "unreached", "reached": "reached", "tokens": "tokens", "step": "step", "steps": "steps",
    "wire_ratio": "wire ratio", "on_front": "Pareto", "step_s": "step (s)", "compute_s": "computing (s)", "codec_s": "coding (s)",
    "host_s": "host (s)", "serialisation_s": "serialisation (s)", "propagation_s": "propagation (s)", "window_s": "window (s)",
    "queue_s": "queue (s)", "recovery_s": "recovery (s)", "waiting_s": "waiting (s)", "idle_s": "idle (s)", "rank": "rank",
    "bytes_ratio": "bytes", "transfer_time_ratio": "transfer time", "step_time_ratio": "step time", "phase": "phase",
    "slices": "slices", "busy_s": "busy (s)", "quantity": "quantity", "compared": "compared by", "estimate": "estimate",
    "low": "low", "high": "high", "final_validation_loss": "validation loss", "mean_step_s": "mean step (s)",
    "tokens_per_s": "tokens/s",
}
ESCAPES = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
           "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "×": r"$\times$", "–": "--", "−": "$-$", "µ": r"\textmu{}"}


def csv_text(frame: pandas.DataFrame) -> str:
    """Every number in the shortest form that reads back as the same double; nan is an empty cell."""
    return frame.to_csv(index=False, lineterminator="\n")


def escaped(text: str) -> str:
    return "".join(ESCAPES.get(character, character) for character in text)


def cell(value) -> str:
    """A value for people: four digits, "yes", "--"."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if pandas.api.types.is_bool(value):
        return "yes" if value else "no"
    if pandas.api.types.is_integer(value):
        return str(value)
    return number(float(value), 4)


def latex_text(frame: pandas.DataFrame, caption: str) -> str:
    """A tabular environment; needs \\usepackage{booktabs}. Texts stand left, numbers right."""
    left = [frame[name].map(lambda value: isinstance(value, str)).any() for name in frame]
    heads = [HEADINGS.get(name) or escaped(name.replace("_", " ")) for name in frame]
    lines = [f"% {caption}", r"% Needs \usepackage{booktabs}.",
             rf"\begin{{tabular}}{{{''.join('l' if text else 'r' for text in left)}}}", r"\toprule", " & ".join(heads) + r" \\", r"\midrule"]
    lines += [" & ".join(escaped(cell(value)) for value in row) + r" \\" for row in frame.itertuples(index=False, name=None)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
