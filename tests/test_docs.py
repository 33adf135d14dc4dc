"""The pages that are made from code and YAML: every option has a meaning, and links that lead nowhere are found."""

from pathlib import Path

from rlrep.settings import groups
from scripts import docs_pages

FEWEST = 0.98
"""Share of options that have a meaning; a new one gets a docstring, a comment in its file, or a line in the words."""


def test_options_have_meanings_and_no_word_is_of_one_that_is_gone() -> None:
    choices = ((group, name) for group in docs_pages.GROUPS for name in groups.names(group))
    rows = [line for choice in choices for line in docs_pages.choice(*choice) if line.startswith("| `")]
    blank = {row.split("`")[1] for row in rows if not row.rsplit("|", 2)[1].strip()}
    assert len(rows) > 2000 and len(blank) <= (1 - FEWEST) * len(rows), sorted(blank)
    assert set(docs_pages.WORDS) <= {row.split("`")[1].rpartition(".")[2] for row in rows}


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "there is.html").write_text("")
    links = ("there%20is.html#part", "#here", "https://example.org", "gone.html?x=1", "../gone.png", "there is.html")
    (tmp_path / "page.html").write_text("".join(f'<a class="x" href="{link}">x</a>' for link in links[:4]))
    (tmp_path / "other.html").write_text(f"<img alt=x src={links[4]}><script src=./none.js></script>")
    assert list(docs_pages.dead(tmp_path / "page.html")) == ["gone.html?x=1"]
    assert list(docs_pages.dead(tmp_path / "other.html")) == ["../gone.png", "./none.js"]
