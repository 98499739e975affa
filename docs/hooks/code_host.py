"""Pages are written as a code host shows them; this is what the site needs to show the same.

A page says ``../configs/demo.yaml`` or ``../CHANGELOG.md``. The site holds copies of those files at its own top, so
there the two dots go. A link to any other file above ``docs/`` fails the strict build. In tables, code hosts want the
bars within code escaped; here they are bars as they stand.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code_of_conduct.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
_LINK = re.compile(r"\]\((?P<up>(?:\.\./)+)(?P<path>[^)#\s]+)")
_LINK_DOWN = re.compile(r"\]\(docs/")
_CODE_IN_A_TABLE = re.compile(r"(?m)^\|.*`.*\|$")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages and the configs."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Turns links out of ``docs/`` into links within the site, and links into it on pages that come from above."""
    markdown = _CODE_IN_A_TABLE.sub(lambda row: re.sub(r"`[^`]*`", _bars, row[0]), markdown)
    depth = page.file.src_uri.count("/")
    if page.file.src_uri in PAGES.values():
        for source, target in PAGES.items():
            markdown = markdown.replace(f"]({source})", f"]({target})")
        return _LINK_DOWN.sub("](", markdown)

    def within(match: re.Match[str]) -> str:
        up = match["up"].count("../")
        target = PAGES.get(match["path"], match["path"])
        if up != depth + 1 or files.get_file_from_path(target) is None:
            return match[0]
        return f"]({'../' * depth}{target}"

    return _LINK.sub(within, markdown)


def _bars(code: re.Match[str]) -> str:
    return code[0].replace("\\|", "|")
