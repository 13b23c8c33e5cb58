#!/usr/bin/env python3
"""Does what docs/adding_a_codec.md says, as far as it is code: writes the files that the page shows, and a copy of engine/codec/method.cpp
with the two lines of the registry. Usage: adding_a_codec.py SOURCE_DIRECTORY OUTPUT_DIRECTORY"""
import pathlib
import re
import sys

REGISTRY = "engine/codec/method.cpp"


def blocks(page):
    """Path and content of every block of C++ that a line ending in `PATH`: announces."""
    return re.findall(r"`([\w/]+\.(?:h|cpp))`:\n\n```cpp\n(.*?)```", page, re.DOTALL)


def registered(registry, lines):
    """The registry with the lines in it: an #include before the first of its kind, entries before the first entry."""
    places = {"#include": '#include "engine/codec/', "    {": "    {\""}
    for line in lines.splitlines(keepends=True):
        for start, place in places.items():
            if line.startswith(start):
                position = registry.index(place, registry.index("kMethods") if start == "    {" else registry.index("method.h") + 10)
                registry = registry[:position] + line + registry[position:]
    return registry


def main():
    source, output = map(pathlib.Path, sys.argv[1:])
    files = dict(blocks((source / "docs/adding_a_codec.md").read_text()))
    changed = registered((source / REGISTRY).read_text(), files.pop(REGISTRY))
    for path, content in {**files, REGISTRY: changed}.items():
        if path != REGISTRY and (source / path).exists():
            sys.exit(f"docs/adding_a_codec.md: {path} exists; the page must add a method that is not there")
        file = output / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text() != content:
            file.write_text(content)
        else:
            file.touch()


if __name__ == "__main__":
    main()
