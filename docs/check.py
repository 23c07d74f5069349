"""Check the Markdown pages of this repository, the written ones too, or print a command that the README promises.

    python docs/check.py                          every problem, one a line; exit status 1 if there is one
    python docs/check.py --command test-command   the commands of the block behind <!-- test-command -->

Whoever runs what the README promises prints it with ``--command`` instead of repeating it, so the two cannot differ.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

COMMANDS = ("demo-command", "test-command")

_SKIPPED = {"build", "dist", "node_modules", "typings"}
_FENCE = re.compile(r"^(```+|~~~+)[^\n]*\n(.*?)^\1[ \t]*$\n?", re.MULTILINE | re.DOTALL)
_OPEN_FENCE = re.compile(r"^(?:```|~~~)", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_INLINE_CODE = re.compile(r"(`+).+?\1")
_LINK = re.compile(r"\]\(([^()\s]+)(?: +\"[^\"]*\")?\)")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


class Missing(Exception):  # noqa: N818 - named after what happened, as in the rest of the project
    """The README does not hold the command that was asked for."""


def pages(root: Path) -> list[Path]:
    """Return the Markdown files under ``root`` that are the project's own."""
    found = [path for path in root.rglob("*.md") if path.is_file()]
    return sorted(path for path in found if not _is_foreign(path.relative_to(root)))


def command(root: Path, name: str) -> str:
    """Return the commands of the one fenced block that follows ``<!-- name -->`` in the README.

    Raises:
        Missing: the marker is not there exactly once, or no block follows it.
    """
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    marker = f"<!-- {name} -->"
    if text.count(marker) != 1:
        raise Missing(f"README.md: holds {marker} {text.count(marker)} times instead of once")
    block = _FENCE.match(text.split(marker)[1].lstrip())
    if block is None or not block[2].strip():
        raise Missing(f"README.md: no fenced block with a command follows {marker}")
    return block[2]


def problems(root: Path) -> Iterator[str]:
    """Yield what is wrong with the pages, each with the page it is on."""
    for name in COMMANDS:
        try:
            command(root, name)
        except Missing as missing:
            yield str(missing)
    linked = {root / "README.md"}
    for page in pages(root):
        prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
        if _OPEN_FENCE.search(prose):
            yield f"{page.relative_to(root)}: a fenced block is not closed"
        for link in _LINK.findall(_INLINE_CODE.sub("", prose)):
            if _ELSEWHERE.match(link):
                continue
            target, fault = _resolve(page, link)
            linked.add(target)
            if fault:
                yield f"{page.relative_to(root)}: {link} {fault}"
    for page in pages(root):
        if page.parent == root / "docs" and page not in linked:
            yield f"{page.relative_to(root)}: no page links to it"
    yield from _reference_problems(root)


def _reference_problems(root: Path) -> Iterator[str]:
    """Yield what is wrong with the page that is written from the commands, where there is one."""
    script = root / "docs" / "reference.py"
    if script.is_file():
        done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
        if done.returncode:
            yield done.stdout.strip() or f"docs/reference.py: {done.stderr.strip()}"


def _resolve(page: Path, link: str) -> tuple[Path, str]:
    """Return the file that a relative link leads to, and what is wrong with the link."""
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return target, "leads nowhere"
    if anchor and target.suffix == ".md" and anchor not in _anchors(target.read_text(encoding="utf-8")):
        return target, "names a heading that is not there"
    return target, ""


def _anchors(text: str) -> set[str]:
    """Return the anchors that the usual Markdown hosts give to a page's headings."""
    anchors: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = sum(known == slug or re.fullmatch(re.escape(slug) + r"-\d+", known) is not None for known in anchors)
        anchors.add(f"{slug}-{count}" if count else slug)
    return anchors


def _is_foreign(path: Path) -> bool:
    return any(part in _SKIPPED or part.startswith(".") for part in path.parts)


def main() -> int:
    """Run as the module's docstring says, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the repository")
    parser.add_argument("--command", choices=COMMANDS, help="print this command and check nothing")
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    if arguments.command:
        try:
            print(command(root, arguments.command), end="")
        except Missing as missing:
            print(missing, file=sys.stderr)
            return 1
        return 0
    found = list(problems(root))
    print("\n".join([*found, f"{len(pages(root))} pages, {len(found)} problems"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
