"""`strait plot`: figures of run and sweep directories. Exit codes: 0 done, 1 failed, 2 the input is wrong, 130 interrupted."""

import argparse
import sys
from pathlib import Path

from .files import InputError
from .report import FORMATS, write_report
from .sweep import load_sweep


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("strait plot", description="Figures of run and sweep directories, with their numbers.")
    parser.add_argument("directories", nargs="+", metavar="DIR", help="run or sweep directory; several are drawn as one comparison")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to (default: DIR/plots, or plots for several)")
    parser.add_argument("--format", choices=FORMATS, default="svg", help="default: svg")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parsed(arguments)
    directories = options.directories
    out = options.out or (Path(directories[0], "plots") if len(directories) == 1 else Path("plots"))
    try:
        sweep = load_sweep(*directories)
        report = write_report(sweep, out, options.format, ", ".join(Path(d).resolve().name for d in directories))
    except InputError as error:
        print(f"strait plot: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"strait plot: {error.filename or out}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    for drawn in report.drawn:
        print(f"{drawn.name + '.' + options.format:26} {drawn.title}")
    for name, reason in report.missing:
        print(f"{name:26} not drawn: {reason}")
    for note in sweep.notes:
        print(note)
    print(out / "index.html")
    return 0 if report.drawn else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
