"""Checks that every relative link of the documentation leads to a file, and every #anchor to a heading of it.

Use: markdown_links.py [SOURCE_TREE]. Prints one line for every broken link; exit code 1 if there is any.
"""

import re
import sys
from pathlib import Path

LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as code hosts make them: lower case, spaces to hyphens, punctuation dropped."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])
    pages = [*root.glob("*.md"), *(page for top in ("docs", "tests", "analysis", "scenarios") for page in (root / top).rglob("*.md"))]
    links = broken = 0
    for page in sorted(pages):
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for target in LINK.findall(text):
            if re.match(r"[a-z]+:", target):
                continue
            links += 1
            path, _, anchor = target.partition("#")
            file = (page.parent / path) if path else page
            if not file.exists():
                reason = "no such file"
            elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
                reason = "no such heading"
            else:
                continue
            broken += 1
            print(f"{page.relative_to(root)}: {target}: {reason}")
    print(f"{links} links in {len(pages)} pages, {broken} broken")
    return 1 if broken or not links else 0


if __name__ == "__main__":
    sys.exit(main())
