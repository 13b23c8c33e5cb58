"""Writes small valid inputs for every fuzz target, and a dictionary of the scenario's words.

Use: seeds.py OUTPUT_FOLDER. Afterwards OUTPUT_FOLDER/TARGET/ holds the seeds of a target, OUTPUT_FOLDER/scenario.dict the words.
"""

import json
import struct
import sys
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def put(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


# ---- scenarios --------------------------------------------------------------------------------------------------------------------

def is_sweep(path: Path) -> bool:
    return '"axes"' in path.read_text(encoding="utf-8")


def documents(sweeps: bool) -> list[Path]:
    files = [p for p in sorted((ROOT / "scenarios").rglob("*.json")) if "schema" not in p.parts]
    return [p for p in files if is_sweep(p) == sweeps]


def scenarios(out: Path) -> None:
    for path in documents(sweeps=False):
        put(out / "scenario", path.stem, path.read_bytes())
    base = {"model": {"preset": "llama-1m"}, "data": {"corpus": "austen"}, "training": {"steps": 1}}
    put(out / "scenario", "small", json.dumps(base).encode())
    overrides = ["network.preset=home-80m", "training.steps=3", "devices.ranks.0.slowdown=2", "compression.pipeline.rank=4"]
    put(out / "scenario", "overrides", b"\0".join([json.dumps(base).encode(), *(o.encode() for o in overrides)]))


def sweeps(out: Path) -> None:
    for path in documents(sweeps=True):
        put(out / "sweep", path.stem, path.read_bytes())
    base = {"model": {"preset": "llama-1m"}, "training": {"steps": 1}, "devices": {"backend": "meta"}, "network": {"model": "fluid"}}
    small = {"base": base,
             "axes": {"network.links.bandwidth": ["80Mbps", "1Gbps"],
                      "method": [{"label": "none", "set": {"compression.pipeline.method": "none"}},
                                 {"label": "4", "set": {"compression.pipeline": {"method": "subspace", "rank": 4}}}],
                      "seed": [1, 2]},
             "zip": [["method", "seed"]], "exclude": [{"seed": 2}]}
    put(out / "sweep", "small", json.dumps(small).encode())


def words(schema, found: set) -> set:
    if isinstance(schema, dict):
        found.update(schema.get("properties", {}))
        found.update(v for v in schema.get("enum", []) if isinstance(v, str))
        if isinstance(schema.get("const"), str):
            found.add(schema["const"])
        for value in schema.values():
            words(value, found)
    elif isinstance(schema, list):
        for value in schema:
            words(value, found)
    return found


def dictionary(out: Path) -> None:
    found = {"80Mbps", "25ms", "64KiB", "null", "true", "1e999", "-0", "//", "/*", "*/"}
    for schema in sorted((ROOT / "scenarios" / "schema").glob("*.json")):
        words(json.loads(schema.read_text(encoding="utf-8")), found)
    put(out, "scenario.dict", "".join(f'"{w}"\n' for w in sorted(found) if w.isprintable() and '"' not in w and "\\" not in w).encode())


# ---- records (docs/record_format.md) ----------------------------------------------------------------------------------------------

def uint(n: int) -> bytes:
    out = b""
    while n >= 0x80:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def integer(n: int) -> bytes:
    return uint(2 * n if n >= 0 else -2 * n - 1)


def string(s: str) -> bytes:
    return uint(len(s)) + s.encode()


def items(*parts: bytes) -> bytes:
    return uint(len(parts)) + b"".join(parts)


def crc(b: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(b))


def record(*frames: tuple[int, bytes]) -> bytes:
    head = b"\x93STRAIT\n" + struct.pack("<I", 1)
    out = head + crc(head)
    for index, (kind, payload) in enumerate(frames):
        head = struct.pack("<BBHIII", kind, 0, 0, index, len(payload), len(payload)) + crc(payload)
        out += head + crc(head) + payload
    return out


def records(out: Path) -> None:
    ranks = [b"".join(map(uint, (stage, 0, 0))) + string("layer") + uint(1000) + uint(0) * 3 for stage in (0, 1)]
    header = (1, string("seeds") + string("cpu") + string("fp32") + string("") + uint(1) + uint(2) + uint(1) + uint(1) + b"\0"
              + items(string("matmul")) + items(*ranks))
    ops = items(uint(0) + b"\1" + uint(2_000_000) + uint(8_000))
    compute, send, receive = b"\0\0\0\0" + integer(0) + uint(0), b"\0\1" + uint(0) + uint(1) + b"\0" + integer(0), b"\0\2" + uint(0) + uint(0)
    signal, wait = b"\1\3" + uint(7), b"\0\4" + uint(7)  # of another queue, and of this one
    plain = (2, uint(0) + items(ops) + items(items(compute, send), items(receive, compute)))
    both = (2, uint(1) + items(ops) + items(items(signal, wait, compute, send), items(receive)))

    def step(number: int, slot: int, *changes: tuple[int, int]) -> tuple[int, bytes]:
        return (3, uint(slot) + uint(number) + uint(512) + struct.pack("<ddd", 5.5, 1.0, 1e-3)
                + items(*(uint(skip) + integer(difference) for skip, difference in changes)))

    first = step(1, 0, (0, 2_000_000), (0, 4_000), (1, 32_000), (0, 3_000_000))
    evaluation, footer = (4, uint(2) + uint(1024) + struct.pack("<d", 5.3)), (6, uint(2) + struct.pack("<d", 0.1) + string("") + string(""))
    diagnostic = (5, uint(1) + uint(0) + string("rms") + struct.pack("<d", 0.5))
    whole = record(header, plain, first, diagnostic, step(2, 0, (4, -500_000)), evaluation, footer)
    queues = record(header, plain, first, both, step(2, 1, (1, 9_000)), step(3, 0))
    for choice in range(4):
        put(out / "record", f"whole{choice}", bytes([choice]) + whole)
        put(out / "record", f"queues{choice}", bytes([choice]) + queues)
    # Times beyond 2^63 ns: eight messages of 2^48 bytes a step, one behind the other.
    sends = [b"\0\1" + uint(n) + uint(1) + b"\0" + integer(0) for n in range(8)]
    receives = [b"\0\2" + uint(0) + uint(n) for n in range(8)]
    wide = (2, uint(0) + items(ops) + items(items(*sends), items(*receives)))
    steps = [step(1, 0, (0, 1 << 48), *[(2, 1 << 48)] * 7)] + [step(n, 0) for n in range(2, 101)]
    for choice in range(1, 4, 2):
        put(out / "record", f"huge{choice}", bytes([choice]) + record(header, wide, *steps))
    # The same by computing: 1,100 entries of up to 2^53 ns.
    slow = items(uint(0) + b"\0" + uint(0) + uint(4_300_000_000_000_000_000))
    long = (2, uint(0) + items(slow) + items(items(*[compute] * 1100), items()))
    put(out / "record", "long", b"\1" + record(header, long, step(1, 0)))
    put(out / "record", "torn", b"\0" + whole[:-7])


# ---- tensors and tokens -----------------------------------------------------------------------------------------------------------

def tensors(out: Path) -> None:
    def file(header: dict, data: bytes) -> bytes:
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data
    for dtype, width in (("F32", 4), ("BF16", 2), ("I64", 8), ("U8", 1), ("F16", 2), ("BOOL", 1)):
        header = {"__metadata__": {"format": "pt"}, "a.weight": {"dtype": dtype, "shape": [2, 3], "data_offsets": [0, 6 * width]},
                  "empty": {"dtype": dtype, "shape": [0], "data_offsets": [6 * width, 6 * width]}}
        put(out / "safetensors", dtype, file(header, bytes(range(6 * width))))
    put(out / "safetensors", "none", file({}, b""))


def shards(out: Path) -> None:
    tokens = list(range(40))
    for choice in range(4):
        header = struct.pack("<7i", 20240520, 1, len(tokens), 64, 5, 6, 1) + bytes(4 * 249)
        put(out / "shard", f"v1-{choice}", bytes([choice, 6]) + header + struct.pack(f"<{len(tokens)}H", *tokens))
        header = struct.pack("<7i", 20240801, 7, len(tokens), 64, 5, 6, 1) + bytes(4 * 249)
        put(out / "shard", f"v7-{choice}", bytes([choice, 6]) + header + struct.pack(f"<{len(tokens)}I", *tokens))
        put(out / "shard", f"plain-{choice}", bytes([choice, 200]) + struct.pack(f"<{len(tokens)}H", *tokens))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for make in (scenarios, sweeps, dictionary, records, tensors, shards):
        make(folder)
