"""Reads the files of run and sweep directories, finished or still being written. A CSV file grows row by row, so its last
line may be torn: what follows the last line break is left out. The columns are those of docs/metrics.md."""

import io
import json
from pathlib import Path

import pandas


class InputError(Exception):
    """A file or a directory that cannot be used; the text says which, what was found and what is allowed."""


STEP_PARTS = ["compute_s", "codec_s", "host_s", "serialisation_s", "propagation_s", "window_s", "queue_s", "recovery_s"]
COLUMNS = {
    "steps.csv": ["step", "tokens", "loss", "grad_norm", "learning_rate", "time_s", "step_s", *STEP_PARTS,
                  "bytes_forward", "bytes_backward", "bytes_sync"],
    "evals.csv": ["step", "tokens", "time_s", "validation_loss", "perplexity"],
    "ranks.csv": ["step", "rank", "compute_s", "codec_s", "waiting_s", "idle_s", "bytes_sent", "bytes_received"],
    "links.csv": ["step", "from", "to", "bytes", "busy_s", "utilisation"],
    "messages.csv": ["step", "from", "to", "kind", "microbatch", "bytes", "sent_s", "delivered_s", "bound_by"],
    "diagnostics.csv": ["step", "boundary", "name", "value"],
}
TEXT_COLUMNS = {"from", "to", "kind", "bound_by", "name"}  # links end at ranks and at "core"
WHOLE_COLUMNS = {"step", "tokens", "rank", "microbatch", "bytes", "boundary", "bytes_forward", "bytes_backward", "bytes_sync",
                 "bytes_sent", "bytes_received"}


def read_whole_lines(path: Path) -> str:
    """The file's text up to its last line break; empty where there is no file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    try:
        return data[:data.rfind(b"\n") + 1].decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8 text") from error


def read_trace(path: Path) -> pandas.DataFrame:
    """A trace file with the columns of docs/metrics.md; no rows where there is no file yet."""
    expected = COLUMNS[path.name]
    text = read_whole_lines(path)
    if not text:
        return pandas.DataFrame({name: pandas.Series(dtype=_type_of(name)) for name in expected})
    header = text.split("\n", 1)[0].split(",")
    missing = [name for name in expected if name not in header]
    if missing:
        raise InputError(f"{path}: column {missing[0]} is missing; found: {','.join(header)}")
    try:
        # By way of text: Python reads the nearest double, the parser of older pandas a neighbour now and then.
        rows = pandas.read_csv(io.StringIO(text), dtype="str", keep_default_na=False)
        return rows.astype({name: _type_of(name) for name in header if name in expected})
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: {error}") from error


def _type_of(column: str) -> str:
    if column in TEXT_COLUMNS:
        return "str"
    return "int64" if column in WHOLE_COLUMNS else "float64"


def read_rows(path: Path) -> pandas.DataFrame:
    """A table whose columns are not known beforehand (runs.csv), all cells as text."""
    text = read_whole_lines(path)
    if not text:
        return pandas.DataFrame()
    try:
        return pandas.read_csv(io.StringIO(text), dtype="str", keep_default_na=False)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def read_json(path: Path):
    """The document in a JSON file; an empty one where there is no file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: line {error.lineno}: {error.msg}") from error
