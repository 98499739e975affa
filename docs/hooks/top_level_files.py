"""Files above ``docs/`` that pages link to, in the site too.

A page says ``../configs/demo.yaml`` or ``../CHANGELOG.md``, which a code host resolves by itself. The site holds copies
at its own top, so there the two dots go. A link to any other file above ``docs/`` fails the strict build.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
_LINK = re.compile(r"\]\((?P<up>(?:\.\./)+)(?P<path>[^)#\s]+)")
_LINK_DOWN = re.compile(r"\]\(docs/")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages and the configs."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Turns links out of ``docs/`` into links within the site, and links into it on pages that come from above."""
    depth = page.file.src_uri.count("/")
    if page.file.src_uri in PAGES.values():
        return _LINK_DOWN.sub("](", markdown)

    def within(match: re.Match[str]) -> str:
        up = match["up"].count("../")
        target = PAGES.get(match["path"], match["path"])
        if up != depth + 1 or files.get_file_from_path(target) is None:
            return match[0]
        return f"]({'../' * depth}{target}"

    return _LINK.sub(within, markdown)
