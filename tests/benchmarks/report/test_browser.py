"""The pages in a real browser, from disk: what is clicked happens, nothing is fetched, and the console stays empty."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; on Debian: apt-get install chromium"),
]

DARK, LIGHT, PHONE = "dark", "light", {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright.sync_playwright() as running:
        # No sandbox: it needs rights that containers do not give, and the pages are our own.
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, whole_site):
    """Return a function that opens a page; in the end nothing may have gone wrong or been fetched from elsewhere."""
    contexts, wrong = [], []

    def opened(path: str, *, scheme: str = LIGHT, size=None):
        context = browser.new_context(color_scheme=scheme, viewport=size or {"width": 1280, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: None if is_local(request.url) else wrong.append(request.url))
        page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
        show(page, whole_site / path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def is_local(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:"))


def show(page, path: Path) -> None:
    page.goto(path.as_uri())
    if page.locator("[data-chart]").count():
        page.wait_for_selector("html[data-drawn]")


def names(page) -> list[str]:
    return page.locator("#leaderboard tbody tr:visible").evaluate_all("rows => rows.map(row => row.dataset.id)")


def marks(page, chart: str, kind: str) -> int:
    return page.locator(f"[data-chart={chart}] svg .mark-{kind} path[aria-roledescription]").count()


def test_a_click_on_a_heading_sorts(open_page):
    page = open_page("benchmarks/tiny.html")
    before = names(page)
    heading = page.locator("#leaderboard th", has_text="accuracy")
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert names(page) == ["joint", "replay+src", "naive+src", "replay", "naive", "ewc"]  # what has no number is last
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert names(page) == ["naive", "replay", "naive+src", "replay+src", "joint", "ewc"]
    page.locator("#leaderboard th", has_text="kept").locator("button").click()
    assert heading.get_attribute("aria-sort") == "none"
    assert names(page)[:3] == ["replay+src", "replay", "naive+src"]
    page.locator("#leaderboard th", has_text="kept").locator("button").click(click_count=2)
    assert names(page) == before


def test_the_keyboard_sorts_and_skips(open_page):
    page = open_page("benchmarks/tiny.html")
    page.keyboard.press("Tab")
    skip = page.locator("a.skip")
    assert skip.evaluate("link => link === document.activeElement")
    assert skip.bounding_box()["y"] >= 0  # it comes into sight
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    button = page.locator("#leaderboard th button", has_text="strategy")
    button.focus()
    assert (
        button.evaluate("button => button.matches(':focus-visible') && getComputedStyle(button).outlineWidth") == "2px"
    )
    page.keyboard.press("Enter")
    assert names(page) == ["ewc", "joint", "naive", "naive+src", "replay", "replay+src"]


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({"sleeps": "on"}, ["naive+src", "replay+src"]),
        ({"stores": "no"}, ["naive", "ewc", "naive+src"]),
        ({"stores": "yes", "sleeps": "off"}, ["replay", "joint"]),
    ],
)
def test_filters_leave_what_is_asked(open_page, asked, shown):
    page = open_page("benchmarks/tiny.html")
    assert len(names(page)) == 6
    for name, value in asked.items():
        page.locator(f"input[name={name}][value={value}]").check()
    assert names(page) == shown
    assert page.locator("form output").inner_text() == f"{len(shown)} of 6 rows"
    done = [name for name in shown if name != "ewc"]  # nothing of it is done, so it has no point
    first = "document.querySelector('[data-chart=time] svg .mark-symbol').querySelectorAll('path').length"
    page.wait_for_function(f"{first} === {len(done)}", timeout=5000)


def test_words_find_benchmarks(open_page):
    page = open_page("index.html")
    page.locator("input[type=search]").fill("digits ICARL")
    lines = page.locator("tbody tr:visible th")
    assert lines.all_inner_texts() == ["ways"]
    assert page.locator("section[id^=in-]:visible").count() == 1


def test_charts_are_drawn(open_page):
    page = open_page("benchmarks/tiny.html")
    assert marks(page, "stored", "symbol") == 4 + 1  # joint keeps no number of bytes; one has a ring around it
    assert marks(page, "time", "symbol") == 5 + 1
    assert page.locator("[data-chart=seen] svg .mark-line path").count() >= 5  # four strategies, and the chosen again
    assert marks(page, "phases", "symbol") == 2 + 4  # T1, S1: one experience, T2, S2: two


def test_another_strategy_can_be_looked_at(open_page):
    page = open_page("benchmarks/tiny.html")
    visible = page.locator("[data-panel]:visible h3")
    assert visible.all_inner_texts() == ["naive+src"]
    page.locator("[data-chooser]").select_option("replay")
    assert visible.all_inner_texts() == ["replay"]
    ticks = (
        "[...document.querySelectorAll('[data-chart=phases] .role-axis-label text')].map(t => t.textContent).join(' ')"
    )
    page.wait_for_function(f"{ticks}.startsWith('T1 T2 ')", timeout=5000)  # no sleep any more
    page.locator("#row-naive a[data-choose]").click()
    assert visible.all_inner_texts() == ["naive"]
    assert page.locator("[data-chooser]").input_value() == "naive"


def test_every_page_opens(open_page, whole_site):
    page = open_page("index.html")
    pages = sorted(whole_site.rglob("*.html"))
    for path in pages:
        show(page, path)
        assert page.locator("h1").inner_text()
        assert page.locator("[data-chart] svg").count() == page.locator("[data-chart]").count()


@pytest.mark.parametrize("path", ["index.html", "benchmarks/tiny.html", "benchmarks/ways.html"])
def test_a_phone_scrolls_tables_not_the_page(open_page, path):
    page = open_page(path, size=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert not page.locator("nav.all > details").evaluate("details => details.open")


def brightness(page, selector: str, what: str) -> float:
    colour = page.locator(selector).first.evaluate(f"element => getComputedStyle(element).{what}")
    return sum(float(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")[:3]) / 3


@pytest.mark.parametrize(("scheme", "is_dark"), [(LIGHT, False), (DARK, True)])
def test_pages_and_charts_are_dark_where_the_reader_is(open_page, scheme, is_dark):
    page = open_page("benchmarks/tiny.html", scheme=scheme)
    assert (brightness(page, "body", "backgroundColor") < 60) == is_dark
    assert (brightness(page, "body", "color") > 200) == is_dark
    assert (brightness(page, "[data-chart=stored] .mark-text.role-mark text", "fill") > 150) == is_dark


def luminance(rgb) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_text_stands_out_from_its_ground(open_page, scheme):
    page = open_page("benchmarks/tiny.html", scheme=scheme)
    style = "getComputedStyle(document.documentElement).getPropertyValue('--NAME').trim()"

    def colour(name: str) -> list[int]:
        text = page.evaluate(style.replace("NAME", name))
        return [int(text[i : i + 2], 16) for i in (1, 3, 5)]

    def contrast(one, other) -> float:
        high, low = sorted((luminance(one), luminance(other)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    paper, accent = colour("paper"), [int(c) for c in page.evaluate(style.replace("NAME", "accent-rgb")).split()]
    fullest = [0.62 * a + 0.38 * p for a, p in zip(accent, paper, strict=True)]  # a cell of 100 %
    for name, ground in {"ink": paper, "quiet": paper, "accent": paper}.items():
        assert contrast(colour(name), ground) >= 4.5, name
    assert contrast(colour("ink"), fullest) >= 4.5
    assert contrast(colour("quiet"), colour("raised")) >= 4.5
    assert contrast(colour("plain"), paper) >= 3.0  # lines and marks
