"""Checks who includes whom: kernels <- engine <- sim/cli -> sim, from the include lines of every source file.

Use: include_rules.py [SOURCE_TREE]. Prints one line for every forbidden include; exit code 1 if there is any. Before it looks
at the tree, it checks itself on lines whose verdict is known.
"""

import re
import sys
from pathlib import Path

SUFFIXES = {".h", ".hpp", ".cpp", ".cu", ".cuh", ".inc"}
INCLUDE = re.compile(r'^\s*#\s*(?:include|import)\s*([<"])([^">]+)[">]', re.MULTILINE)
GENERATED = {"strait_version.h"}

# Folder of the including file (the longest that fits) -> folders whose files it may include.
MAY_INCLUDE = {
    "kernels": ["kernels"],
    "engine": ["engine", "kernels", "sim/record"],
    "sim": ["sim"],
    "sim/record": ["sim/record"],
    "sim/cli": ["sim", "engine", "kernels"],
    "tests": ["kernels", "engine", "sim", "tests"],
}
# Parts that only some may reach: ns-3, and what is linked with it, stay out of `strait`; the command line is nobody's library.
ONLY_FROM = {
    "ns3": ["sim/network/packet"],
    "sim/network/packet": ["sim/network/packet", "sim/cli/strait_sim_main.cpp", "tests/packet", "tests/bench/network"],
    "sim/cli": ["sim/cli", "tests/cli"],
}


def below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def complaint(source: str, quote: str, included: str) -> str | None:
    """Why `source` may not include `included`, both as paths from the root; None where it may."""
    for part, allowed in ONLY_FROM.items():
        if below(included, part) and not any(below(source, folder) for folder in allowed):
            return f"only {', '.join(allowed)} may include {part}/"
    if included in GENERATED:
        return None
    if not any(below(included, folder) for folder in ("kernels", "engine", "sim", "tests")):
        return "a quoted include is a path from the root of the tree" if quote == '"' and included.partition("/")[0] != "ns3" else None
    folder = max((folder for folder in MAY_INCLUDE if below(source, folder)), key=len)
    if any(below(included, target) for target in MAY_INCLUDE[folder]):
        return None
    return f"{folder}/ may include only {', '.join(MAY_INCLUDE[folder])}"


def check_itself() -> None:
    allowed = [
        ("kernels/cpu/attention.cpp", '"', "kernels/backend.h"),
        ("kernels/cpu/matmul.cpp", "<", "dnnl.hpp"),
        ("engine/recorder.h", '"', "sim/record/log.h"),
        ("sim/network/packet/tcp.cpp", '"', "ns3/tcp-cubic.h"),
        ("sim/cli/run_engine.cpp", '"', "engine/nn/stage.h"),
        ("sim/cli/strait_sim_main.cpp", '"', "sim/network/packet/packet.h"),
        ("sim/trace/summary.cpp", '"', "strait_version.h"),
    ]
    forbidden = [
        ("kernels/cpu/attention.cpp", '"', "engine/message.h"),
        ("kernels/backend.h", '"', "sim/record/units.h"),
        ("engine/recorder.h", '"', "sim/network/network.h"),
        ("engine/recorder.h", "<", "sim/executor/executor.h"),
        ("sim/record/log.h", '"', "sim/network/network.h"),
        ("sim/executor/executor.cpp", '"', "engine/message.h"),
        ("sim/scenario/scenario.cpp", '"', "kernels/tensor.h"),
        ("sim/network/fluid.cpp", "<", "ns3/core-module.h"),
        ("sim/scenario/scenario.cpp", '"', "sim/network/packet/packet.h"),
        ("sim/cli/run_engine.cpp", '"', "sim/network/packet/packet.h"),
        ("sim/trace/summary.cpp", '"', "sim/cli/table.h"),
        ("engine/nn/stage.cpp", '"', "block.h"),
        ("tests/sim/fluid_test.cpp", "<", "ns3/core-module.h"),
    ]
    for line in allowed:
        assert complaint(*line) is None, f"should be allowed: {line}"
    for line in forbidden:
        assert complaint(*line), f"should be forbidden: {line}"
    found = INCLUDE.findall('// #include "a.h"\n#  include <b>\n #include "c/d.h" // e\n#include_next <f>\n')
    assert found == [("<", "b"), ('"', "c/d.h")], found


def main() -> int:
    check_itself()
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])
    files = [path for top in ("kernels", "engine", "sim", "tests") for path in sorted((root / top).rglob("*")) if path.suffix in SUFFIXES]
    includes = complaints = 0
    for path in files:
        source = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8")
        for match in INCLUDE.finditer(text):
            includes += 1
            reason = complaint(source, match[1], match[2])
            if reason:
                complaints += 1
                print(f"{source}:{text.count(chr(10), 0, match.start()) + 1}: {match[2]}: {reason}")
    print(f"{includes} include lines in {len(files)} files, {complaints} forbidden")
    return 1 if complaints or not includes else 0


if __name__ == "__main__":
    sys.exit(main())
