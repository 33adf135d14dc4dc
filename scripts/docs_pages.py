"""MkDocs hook: the pages that are made from code and YAML, and the files outside `docs/` that pages link to.

`reference/GROUP.md` lists every choice of a group with what its file says of it (paper, deviations) and its options;
`reference/commands.md` what `--help` prints. A choice whose file says nothing of itself stops the build.
"""

import json
import posixpath
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, get_args, get_type_hints
from urllib.parse import unquote

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from rlrep.settings import groups
from rlrep.settings.coerce import TARGET, find_target
from rlrep.settings.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
GROUPS = (*dict.fromkeys((*groups.GROUPS, *groups.FEDERATE_GROUPS)), "suite", "study")
COMMANDS = ("train", "bench", "report", "evaluate", "pretrain", "federate", "probe", "study", "hub")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")
WORDS: dict[str, str] = yaml.safe_load((ROOT / "scripts" / "option_words.yaml").read_text())
_REFERENCE = re.compile(r"""<(?:a|img|link|script|source)\b[^>]*?\b(?:href|src)=["']?([^"'\s>]+)""")
_SHOWN = {".csv", ".gif", ".html", ".ipynb", ".json", ".mp4", ".pdf", ".png", ".svg"}
"""Files that a browser shows as they are; any other is copied as a text."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Write out what the navigation abbreviates: `FOLDER/` for its pages, `reference/GROUP.md` for a page per group."""
    config.nav = [{title: expanded(content)} for part in config.nav or () for title, content in part.items()]
    return config


def expanded(content: str | list[Any]) -> str | list[Any]:
    """Return a part of the navigation: one page as it is, else the list of its pages."""
    return content if isinstance(content, str) and content.endswith(".md") else list(entries(content))


def entries(content: str | list[Any]) -> Iterator[Any]:
    """Yield the pages of a part of the navigation."""
    for entry in [content] if isinstance(content, str) else content:
        if entry == "reference/GROUP.md":
            yield from (f"reference/{group}.md" for group in GROUPS)
        elif isinstance(entry, str) and entry.endswith("/"):
            yield from sorted(f"{entry}{path.name}" for path in (ROOT / "docs" / entry).glob("*.md"))
        else:
            yield entry


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and CONTRIBUTING.md as one of them."""
    pages = {f"reference/{group}.md": group_page(group) for group in GROUPS}
    pages["reference/commands.md"] = commands_page()
    pages["contributing.md"] = (ROOT / "CONTRIBUTING.md").read_text()
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links out of `docs/` into links to copies in the site, and into plain text where they name a folder."""
    own = page.file.src_uri
    folder = "." if own == "contributing.md" else posixpath.join("docs", posixpath.dirname(own))

    def turned(match: re.Match[str]) -> str:
        mark, text, target, anchor = match.groups(default="")
        uri = address(posixpath.normpath(posixpath.join(folder, target)), config, files)
        return f"{mark}[{text}]({posixpath.relpath(uri, posixpath.dirname(own) or '.')}{anchor})" if uri else text

    return _LINK.sub(turned, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Raise PluginError naming the links of the built pages that lead to no file of the site."""
    site = Path(config.site_dir)
    pages = [page for page in site.rglob("*.html") if "files" not in page.relative_to(site).parts]
    broken = [f"{page.relative_to(site)}: {link}" for page in pages for link in dead(page)]
    if broken:
        raise PluginError(f"broken links: {'; '.join(broken[:10])}")


def dead(page: Path) -> Iterator[str]:
    """Yield the links of a built page that lead to no file, those to other sites aside."""
    for link in dict.fromkeys(_REFERENCE.findall(page.read_text())):
        path = unquote(link.partition("#")[0].partition("?")[0])
        outside = re.match(r"[a-z]+:|//|\$|/$", link) or page.name == "404.html"
        if path and not outside and not (page.parent / path).exists():
            yield link


def address(place: str, config: MkDocsConfig, files: Files) -> str | None:
    """Return where a file of the repository stands in the site, None if it is a folder that has no page."""
    if (ROOT / place).is_dir():
        place = f"{place}/README.md" if (ROOT / place / "README.md").exists() else ""
    if not place or place == "CONTRIBUTING.md" or place.startswith("docs/"):
        return "contributing.md" if place == "CONTRIBUTING.md" else place.removeprefix("docs/") or None
    uri = f"files/{place}" if Path(place).suffix in _SHOWN else f"files/{place}.txt"
    if files.get_file_from_path(uri) is None and (ROOT / place).exists():
        files.append(File.generated(config, uri, content=(ROOT / place).read_bytes()))
    return uri


def group_page(group: str) -> str:
    """Return the page of a config group: every choice, what its file says, its options."""
    return "\n".join([f"# {group}=", "", *(line for name in groups.names(group) for line in choice(group, name))])


def choice(group: str, name: str) -> Iterator[str]:
    """Yield the lines of one choice."""
    path = groups.ROOT / group / f"{name}.yaml"
    text = path.read_text()
    said = about(text)
    if not said:
        raise PluginError(f"{path}: begin it with a comment that says what it is, for the reference")
    yield from (f"## {name}", "", said, "", *options(group, name))
    yield from (f'??? note "configs/{group}/{name}.yaml"', "    ```yaml")
    yield from (f"    {line}" for line in text.rstrip().splitlines())
    yield from ("    ```", "")


def about(text: str) -> str:
    """Return the comment at the head of a file, in one paragraph."""
    lines = [line for line in text.splitlines() if not line.startswith("# @package")]
    return escaped(" ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines)))


def options(group: str, name: str) -> Iterator[str]:
    """Yield a table of the options of a component with their values, nothing for files that make none."""
    try:
        node = groups.node(group, name, group)
    except ConfigError:
        return
    kind = find_target(node[TARGET], group)
    said = remarks((groups.ROOT / group / f"{name}.yaml").read_text())
    rows = list(flat(node, f"aux.{name}" if group == "aux" else group, kind, said))
    yield from (f"`{node[TARGET]}`. {escaped((kind.__doc__ or '').partition(chr(10) * 2)[0])}", "")
    if rows:
        yield from ("| option | value | |", "| --- | --- | --- |")
        for key, value, meaning in rows:
            yield f"| `{key}` | `{value}` | {escaped(meaning)} |"
        yield ""


def meanings(kind: type) -> dict[str, str]:
    """Return what docstrings of a dataclass and its bases say of its fields, as `name: text` or `name, name: text`."""
    found: dict[str, str] = {}
    names = "|".join(field.name for field in fields(kind))
    for cls in reversed(kind.__mro__) if names else ():
        text = " ".join((cls.__doc__ or "").split()).partition(" Raises ")[0]
        pieces = re.split(rf"(?:^|\s)((?:{names})(?:, (?:{names}))*): ", text)
        for listed, meaning in zip(pieces[1::2], pieces[2::2], strict=True):
            found |= dict.fromkeys(listed.split(", "), meaning)
    return found


def remarks(text: str) -> dict[str, str]:
    """Return the comments behind the options of a YAML file."""
    return dict(re.findall(r"^ *(\w+): [^#\n{]*# (.*)$", text, re.MULTILINE))


def escaped(text: str) -> str:
    """Return words of a comment or docstring as Markdown that shows them as they are, code aside."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(re.sub(r"([<>*_])", r"\\\1", part) if n % 2 == 0 else part for n, part in enumerate(parts))


def flat(node: dict[str, Any], prefix: str, kind: type, said: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield the dotted options under a node, their values as one types them, and what they mean.

    kind: whose docstring speaks of them. said: by the comments of the file, which come first.
    """
    known = meanings(kind)
    for key, value in node.items():
        meaning = said.get(key) or known.get(key) or WORDS.get(key, "")
        if isinstance(value, dict):
            held = _parts(get_type_hints(kind).get(key))
            hints: list[type] = [each for each in held if isinstance(each, type) and is_dataclass(each)]
            inner = find_target(value[TARGET], prefix) if TARGET in value else next(iter(hints), kind)
            yield from ((f"{prefix}.{key}", value[TARGET].rpartition(".")[2], meaning),) if TARGET in value else ()
            yield from flat(value, f"{prefix}.{key}", inner, said)
        elif key != TARGET:
            yield f"{prefix}.{key}", value if isinstance(value, str) else json.dumps(value), meaning


def _parts(annotation: Any) -> tuple[Any, ...]:
    """Return what an annotation may be: the members of a union, or itself."""
    return get_args(annotation) or (annotation,)


def commands_page() -> str:
    """Return what every command says under `--help`."""
    parts = ["# Commands", ""]
    for command in COMMANDS:
        asked = [sys.executable, "-m", f"rlrep.{command}", "--help"]
        text = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        parts += [f"## rlrep.{command}", "", "```text", text.rstrip(), "```", ""]
    return "\n".join(parts)
