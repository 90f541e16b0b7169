"""The report in a real browser: it opens from disk, works by mouse and by keyboard, and stays silent."""

import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import numpy as np
import pytest

from browser import Browser, chromium
from example_results import results
from sdssl_bench.records.store import ResultStore
from sdssl_bench.reports import page
from sdssl_bench.reports.page_data import collect
from sdssl_bench.rounding import percent
from stored_results import knn_layer, store

pytestmark = pytest.mark.skipif(chromium() is None, reason="needs Chromium")

HOSTILE = "</script><script>window.owned = 1</script><img src=x onerror='window.owned = 2'>"
BOARD = "[...document.querySelectorAll('#board tbody tr')]"
NAMES = f"{BOARD}.map(r => r.querySelector('th').textContent)"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four encoders, one of them hostile, on five benchmarks; t-SNE, CKA and a picture."""
    root = results(tmp_path_factory.mktemp("results"))
    right, target = np.arange(400) % 3 > 0, np.arange(400) % 10
    hostile = {"model__name": HOSTILE, "model__weights_sha256": "d" * 64}
    layers = {layer: knn_layer(right, target) for layer in (1, 3)}
    store(root, layers, dataset__name="imagenet", **hostile)
    points = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    items = {"tsne/points": points, "tsne/target": np.arange(20) % 2}
    described = {
        layer: (
            {
                "uniformity": -float(layer),
                **{f"cka/layer{n:02d}": 0.5 + 0.1 * n for n in (1, 2, 3)},
            },
            items,
        )
        for layer in (1, 2, 3)
    }
    store(root, described, task="analysis", ranked=False, headline="uniformity",
          protocol__id="analysis/house", **hostile)  # fmt: skip
    data = collect(ResultStore(root))
    source = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    data["pictures"] = [
        {
            "kind": "strip",
            "caption": HOSTILE,
            "width": 1,
            "height": 1,
            "original": "",
            "source": source,
        }
    ]
    path = root / "report" / "index.html"
    path.parent.mkdir()
    path.write_bytes(page.render(data).content)
    return path.as_uri()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture
def browser(started: Browser, address: str) -> Iterator[Browser]:
    """A freshly opened page; whatever a test does, nothing may complain and nothing may be fetched."""
    started.events.clear()
    started.open(address)
    yield started
    assert started.complaints() == []
    assert started.requests() == [address]
    assert "[object" not in started.run("document.body.innerText")
    assert started.run("window.owned") is None


def click(browser: Browser, selector: str) -> None:
    browser.run(f"document.querySelector({selector!r}).click()")


def sort_column(browser: Browser, place: int) -> str:
    selector = f"#board thead th:nth-child({place}) button"
    click(browser, selector)
    found: str = browser.run(
        f"document.querySelector('#board thead th:nth-child({place})').getAttribute('aria-sort')"
    )
    return found


def values(browser: Browser, place: int) -> list[float | None]:
    code = f"{BOARD}.map(r => r.children[{place - 1}].querySelector('.v')?.textContent ?? null)"
    return [None if v is None else float(v) for v in browser.run(code)]


def test_the_page_shows_every_section_and_hostile_names_as_text(browser: Browser) -> None:
    titles = browser.run("[...document.querySelectorAll('h2')].map(h => h.textContent)")
    assert titles == [
        "Leaderboard", "Layer curves", "Alignment, uniformity, rank", "CKA between layers",
        "t-SNE maps", "Strips", "Cost",
    ]  # fmt: skip
    assert HOSTILE in browser.run("document.querySelector('#filters').textContent")
    assert browser.run("document.querySelectorAll('script').length") == 2
    assert browser.run("document.querySelectorAll('img').length") == 1


def test_the_page_rounds_as_tables_do(browser: Browser) -> None:
    counts = [(right, n) for n in (400, 800, 2000) for right in range(n + 1)]
    fractions = [right / n for right, n in counts] + [-0.0005, -0.00049, -1.0]
    script = (resources.files("sdssl_bench.reports") / "templates" / "base.js").read_text()
    source = script[script.index("function percent(") : script.index("function plain(")]
    found = browser.run(f"(() => {{ {source} return {fractions}.map(percent); }})()")
    assert found == [percent(value) for value in fractions]


def test_columns_sort_both_ways_and_holes_stay_last(browser: Browser) -> None:
    click(browser, "#swap")  # encoders in rows
    head = browser.run(
        "[...document.querySelectorAll('#board thead th button')].map(b => b.dataset.sort)"
    )
    place = head.index("davis davis") + 1
    assert sort_column(browser, place) == "descending"
    down = values(browser, place)
    assert down[2:] == [None, None]
    assert down[0] > down[1]
    assert sort_column(browser, place) == "ascending"
    up = values(browser, place)
    assert (up[:2], up[2:]) == (down[:2][::-1], [None, None])
    assert sort_column(browser, 1) == "ascending"
    names = browser.run(NAMES)
    assert names == sorted(names, key=str.lower)


def test_filters_take_rows_and_curves_away_and_bring_them_back(browser: Browser) -> None:
    def shown() -> tuple[int, int]:
        panels = browser.run("document.querySelectorAll('#curves .panel').length")
        return len(browser.run(NAMES)), panels

    assert shown() == (5, 5)
    click(browser, "#filters [data-value=knn]")
    assert shown() == (4, 4)
    assert browser.run("document.querySelector('#filters [data-value=knn]').ariaPressed") == "false"
    click(browser, "#filters [data-value=knn]")
    click(browser, "#filters summary")
    browser.run("document.querySelector('#search').focus()")
    browser.call("Input.insertText", text="DAVIS sd_moco")
    assert shown() == (1, 1)
    assert browser.run("document.querySelectorAll('#board .cell').length") == 1
    browser.run(
        "(s => { s.value = 'no such thing'; s.dispatchEvent(new Event('input')); })"
        "(document.querySelector('#search'))"
    )
    assert shown() == (0, 0)
    assert "Nothing fits" in browser.run("document.querySelector('#board-note').textContent")


def test_an_encoder_is_toggled_in_all_curves(browser: Browser) -> None:
    lines = "document.querySelectorAll('#curves .plot .line').length"
    before = browser.run(lines)
    of_dino = browser.run("document.querySelectorAll('#curves .plot g.k1 .line').length")
    assert of_dino == 3
    click(browser, "#filters [data-value='1']")
    assert browser.run(lines) == before - of_dino


def test_a_gap_between_layers_is_a_gap_in_the_curve(browser: Browser) -> None:
    # The hostile encoder has layers 1 and 3 of 3: two runs of one point each, no line between.
    paths = browser.run(
        "[...document.querySelectorAll('#curves .plot g.k0 .line')].map(p => p.getAttribute('d'))"
    )
    assert len(paths) == 2
    assert all("L" not in path for path in paths)


def test_the_best_view_says_selected_on_test_and_shows_the_last_layer(browser: Browser) -> None:
    click(browser, "[data-value=best]")
    assert "selected on test" in browser.run("document.querySelector('#board-note').textContent")
    texts = browser.run(
        "[...document.querySelectorAll('#board .cell .sub')].map(e => e.textContent)"
    )
    assert texts
    assert all(re.fullmatch(r"at \d+, last [\d.]+", text) for text in texts)


def test_layers_chosen_on_validation_are_shown_where_there_is_one(browser: Browser) -> None:
    click(browser, "[data-value=val]")
    rows = browser.run(f"{BOARD}.map(r => [r.innerText, r.querySelectorAll('.v').length])")
    with_value = [text for text, count in rows if count]
    assert len(with_value) == 1
    assert "linear" in with_value[0]
    assert "at 1, last" in with_value[0]


def test_only_what_is_first_beyond_doubt_is_bold_and_ties_are_ties(browser: Browser) -> None:
    rows = browser.run(
        f"{BOARD}.map(r => [r.querySelector('.lead')?.textContent ?? '', r.querySelectorAll('.first').length,"
        "[...r.querySelectorAll('.cell')].map(c => c.ariaLabel).join()])"
    )
    assert {lead.split(":")[0] for lead, _, _ in rows} == {"leads", "tie"}
    for lead, bold, spoken in rows:
        text, _, names = lead.partition(": ")
        assert bold == spoken.count("certainly best") == (text == "leads")
        assert spoken.count("tied for best") == (len(names.split(", ")) if text == "tie" else 0)
    assert "rank" not in browser.run("document.querySelector('#board').innerText")


def test_the_verdict_is_there_before_any_script_and_first_on_the_page(browser: Browser) -> None:
    place = "document.querySelector('{}').getBoundingClientRect().top"
    tops = [browser.run(place.format(one)) for one in ("#verdict .line", "#board", "#curves .plot")]
    assert tops == sorted(tops)
    assert tops[1] < 900
    assert browser.run("document.querySelector('#verdict .line').textContent").endswith(".")


def test_the_keyboard_sorts_opens_and_closes(browser: Browser) -> None:
    browser.run("document.querySelector('#board thead th:nth-child(2) button').focus()")
    browser.press("Enter")
    sort = "document.querySelector('#board thead th:nth-child(2)').getAttribute('aria-sort')"
    assert browser.run(sort) == "descending"
    browser.press(" ")  # the focus stays on the header that was drawn anew
    assert browser.run(sort) == "ascending"
    for _ in range(12):
        browser.press("Tab")
        if browser.run("document.activeElement.className") == "cell":
            break
    assert browser.run("document.activeElement.className") == "cell"
    browser.press("Enter")
    assert browser.run("document.querySelector('#details').open") is True
    text = browser.run("document.querySelector('#details').textContent")
    for word in ("Protocol", "fingerprint", "f" * 64, "weights sha256", "commit", "packages"):
        assert word in text
    browser.press("Escape")
    assert browser.run("document.querySelector('#details').open") is False
    assert browser.run("document.activeElement.className") == "cell"


def test_arrow_keys_read_a_curve(browser: Browser) -> None:
    browser.run("document.querySelector('#curves .plot').focus()")
    read = "document.querySelector('#curves .readout').textContent"
    browser.press("ArrowRight")
    assert "layer 1," in browser.run(read)
    browser.press("ArrowRight")
    assert "layer 2," in browser.run(read)
    assert "layer 2," in browser.run("document.querySelector('#status').textContent")
    browser.press("Escape")
    assert "layer 2," not in browser.run(read)


def centre(browser: Browser, element: str) -> tuple[float, float]:
    x, y = browser.run(
        f"(e => {{ e.closest('.panel').scrollIntoView({{block: 'center', behavior: 'instant'}}); "
        f"const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})({element})"
    )
    return x, y


def test_the_pointer_reads_a_curve(browser: Browser) -> None:
    browser.move(*centre(browser, "document.querySelector('#curves .plot')"))
    assert "layer 2," in browser.run("document.querySelector('#curves .readout').textContent")
    browser.move(0, 0)
    assert "layer 2," not in browser.run("document.querySelector('#curves .readout').textContent")


def test_the_pointer_reads_the_cell_of_a_matrix_between_its_labels(browser: Browser) -> None:
    labels = "[...document.querySelectorAll('#cka .heat text')]"
    _, y = centre(browser, f"{labels}.find(t => t.textContent === '3')")  # a row
    x, _ = centre(browser, f"{labels}.filter(t => t.textContent === '1')[1]")  # a column
    browser.move(x, y)
    readout = browser.run("document.querySelector('#cka .readout').textContent")
    assert readout == "layers 3 and 1: 0.600"
    colour = browser.run(f"document.elementFromPoint({x}, {y}).getAttribute('fill')")
    assert colour == browser.run(
        "document.querySelectorAll('#cka .heat rect')[6].getAttribute('fill')"
    )
    # Layer 1 at the bottom, as in the paper.
    assert y < centre(browser, f"{labels}.find(t => t.textContent === '1')")[1]


@pytest.mark.parametrize("width", [1280, 390])
def test_titles_and_legends_of_curves_are_whole(browser: Browser, width: int) -> None:
    browser.resize(width, 900, phone=width < 500)
    try:
        cards = browser.run(
            "[...document.querySelectorAll('#curves .panel')].map(c => ({"
            "title: c.querySelector('h3').offsetWidth, room: c.querySelector('.plot').clientWidth,"
            "names: [...c.querySelectorAll('.readout .name')]"
            ".map(n => [n.textContent, n.scrollWidth - n.clientWidth]) }))"
        )
    finally:
        browser.resize(1280, 900)
    labels = browser.run(
        "[...document.querySelectorAll('#filters .chip .swatch + span')].map(e => e.textContent)"
    )
    assert len(cards) == 5
    for card in cards:
        assert card["title"] == card["room"]  # a line of its own
        names = [name for name, _ in card["names"]]
        assert len(set(names)) == len(names) >= 2
        assert set(names) <= set(labels)
        assert all(hidden <= 0 for _, hidden in card["names"])


def test_bands_that_overlap_differ_in_colour_and_in_hatching(browser: Browser) -> None:
    looks = browser.run(
        "[...document.querySelectorAll('#curves .panel')].map(c => "
        "[...c.querySelectorAll('.hatch')].map(b => {"
        "const p = document.querySelector(b.getAttribute('fill').slice(4, -1));"
        "return [p.getAttribute('patternTransform'), getComputedStyle(p.firstChild).stroke]; }))"
    )
    assert any(len(bands) > 1 for bands in looks)
    for bands in looks:
        for part in zip(*bands, strict=True):
            assert len(set(part)) == len(bands)


def test_another_metric_is_drawn_and_kept(browser: Browser) -> None:
    first = "document.querySelector('#curves .panel:nth-child(3) select')"
    before = browser.run(f"{first}.closest('.panel').querySelector('.line').getAttribute('d')")
    browser.run(
        f"(s => {{ s.value = 'k20/top5'; s.dispatchEvent(new Event('change')); }})({first})"
    )
    after = browser.run(f"{first}.closest('.panel').querySelector('.line').getAttribute('d')")
    assert before != after
    click(browser, "#curves [data-value=false]")
    assert browser.run(f"{first}.value") == "k20/top5"


def copied(browser: Browser, label: str) -> str:
    """What a copy button puts on the clipboard, which a page in a test may not touch."""
    browser.run("navigator.clipboard.writeText = async (text) => { window.copied = text; }, 1")
    browser.run(
        f"[...document.querySelectorAll('button')].find(b => b.textContent === '{label}').click()"
    )
    text: str = browser.run("new Promise(done => setTimeout(() => done(window.copied), 50))")
    return text


def test_the_leaderboard_is_copied_as_csv_and_latex(browser: Browser) -> None:
    import csv
    import io

    rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(copied(browser, "Copy CSV"))))
    assert len(rows) == browser.run("document.querySelectorAll('#board .cell').length")
    assert HOSTILE in {row["encoder"] for row in rows}
    assert all(row["layer"] == "3" for row in rows)
    latex = copied(browser, "Copy LaTeX")
    assert latex.count("\\toprule") == latex.count("\\bottomrule") == 1
    lines = [line for line in latex.splitlines() if line.endswith("\\\\")]
    assert len(lines) == 1 + 5
    assert len({line.count(" & ") for line in lines}) == 1
    assert "sd\\_mocov3\\_vit\\_s16" in latex
    assert "--" in latex  # holes


def test_without_a_clipboard_the_text_is_shown(browser: Browser) -> None:
    browser.run(
        "navigator.clipboard.writeText = async () => { throw new Error('no'); },"
        "document.execCommand = () => false, 1"
    )
    click(browser, "#leaderboard .below button:nth-child(2)")
    shown = "document.querySelector('#details pre')?.textContent ?? ''"
    browser.run("new Promise(done => setTimeout(done, 50))")
    assert "encoder,benchmark" in browser.run(shown)


def contrast(browser: Browser, selector: str) -> float:
    """Of an element's text against the page behind it (WCAG 2)."""
    code = (
        "(e => { const rgb = (c) => c.match(/[\\d.]+/g).slice(0, 3).map(Number); let b = e;"
        "while (getComputedStyle(b).backgroundColor === 'rgba(0, 0, 0, 0)') b = b.parentElement;"
        "return [rgb(getComputedStyle(e).color), rgb(getComputedStyle(b).backgroundColor)]; })"
        f"(document.querySelector('{selector}'))"
    )

    def luminance(rgb: list[float]) -> float:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in (v / 255 for v in rgb)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted(map(luminance, browser.run(code)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_are_readable_in_both_themes(browser: Browser, scheme: str) -> None:
    browser.prefer(scheme)
    for selector in (
        "h1",
        ".line",
        "#board .v",
        "#board .ci",
        "#board .lead",
        "nav a",
        ".chip",
        ".note",
        "#theme",
    ):
        assert contrast(browser, selector) >= 4.5, selector
    page_colour = "getComputedStyle(document.body).backgroundColor"
    system = browser.run(page_colour)
    while browser.run("document.querySelector('#theme').textContent") != (
        "Theme: light" if scheme == "dark" else "Theme: dark"
    ):
        click(browser, "#theme")
    assert browser.run(page_colour) != system
    for selector in ("h1", ".line", "#board .ci"):
        assert contrast(browser, selector) >= 4.5, selector


BROKEN = """(() => {
  const root = document.querySelector('dialog[open]') || document.body;
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const broken = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (!node.parentElement.checkVisibility() || node.parentElement.closest('script, style')) continue;
    for (const word of node.data.matchAll(/[\\p{L}\\p{N}]+/gu)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map((r) => r.top)).size > 1) broken.push(word[0]);
    }
  }
  return broken;
})()"""
"""Words of which a part stands on another line."""


@pytest.mark.parametrize("width", [1400, 390, 360])
def test_no_word_is_broken_inside(browser: Browser, width: int) -> None:
    browser.resize(width, 800, phone=width < 500)
    try:
        assert browser.run("document.querySelectorAll('#board tr').length") > 4
        assert browser.run(BROKEN) == []
        click(browser, "#board .cell")
        assert browser.run(BROKEN) == []
    finally:
        browser.resize(1280, 900)


def test_nothing_scrolls_sideways_on_a_phone(browser: Browser) -> None:
    browser.resize(360, 740, phone=True)
    try:
        assert browser.run("document.documentElement.scrollWidth") <= 360
        click(browser, "#board .cell")
        assert (
            browser.run("document.querySelector('#details').getBoundingClientRect().width") <= 360
        )
        assert browser.run(
            "document.querySelector('#details > div').scrollWidth"
            " <= document.querySelector('#details').clientWidth"
        )
    finally:
        browser.resize(1280, 900)
