"""Pages hold the numbers of the records, lead to each other, and survive names that mean harm."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from bs4 import BeautifulSoup, Tag

from benchmarks.records.record import read_record
from benchmarks.report import report
from benchmarks.report.rows import Benchmark
from benchmarks.report.runs import Run
from lab_samples import CONFIG, FAILED, finished
from report_samples import diverged, runs_of, write_runs
from src_plugin.errors import ConfigError, SRCError


def soup_of(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def cells_of(row: Tag) -> list[str]:
    return [" ".join(cell.get_text(" ").split()) for cell in row.find_all(["th", "td"])]


@pytest.fixture(scope="module")
def tiny(site):
    return soup_of(site / "benchmarks" / "tiny.html")


@pytest.fixture(scope="module")
def rows(tiny):
    return {row["data-id"]: row for row in tiny.select("#leaderboard tbody tr")}


def test_a_row_has_the_numbers_of_the_records(rows):
    cells = cells_of(rows["naive+src"])
    assert cells[0] == "naive+src auto"
    assert cells[1] == "60.0 ± 2.0"
    assert cells[3:6] == ["6", "+40.0 ± 0.7", "0.031"]
    assert cells[6:9] == ["40.0", "600 B", "no"]  # forgets: 100 at first, 60 in the end
    assert cells[-1] == "0 1 2 3 4 5"


def test_cells_sort_by_their_numbers(rows):
    values = {name: row.find_all("td")[0]["data-value"] for name, row in rows.items()}
    assert float(values["naive"]) == pytest.approx(0.2)
    assert float(values["joint"]) == pytest.approx(0.9)
    assert values["ewc"] == ""


def test_rows_are_in_the_order_of_all_tables(rows):
    assert next(iter(rows)) == "naive"
    assert list(rows)[-1] == "joint"


def test_rows_say_what_filters_ask(rows):
    asked = {name: (row["data-stores"], row["data-sleeps"]) for name, row in rows.items()}
    assert asked["naive"] == ("no", "off")
    assert asked["naive+src"] == ("no", "on")
    assert asked["replay+src"] == ("yes", "on")


def test_what_is_lost_or_too_small_is_said(rows):
    assert "1 diverged" in cells_of(rows["ewc"])
    assert "n too small" in cells_of(rows["replay+src"])
    assert cells_of(rows["joint"])[7] == "all images"


def test_headings_that_sort_are_buttons(tiny):
    headings = tiny.select("#leaderboard th[aria-sort]")
    assert len(headings) > 8
    assert all(heading["aria-sort"] == "none" and heading.button["type"] == "button" for heading in headings)


def test_matrices_before_and_after_sleep_are_heat_maps(tiny):
    panel = tiny.select_one('[data-panel="naive+src"]')
    before, after = panel.select("table.matrix")
    assert [cells_of(row)[1:] for row in before.select("tbody tr")] == [["100.0", "0.0"], ["0.0", "75.0"]]
    assert [cells_of(row)[1:] for row in after.select("tbody tr")] == [["100.0", "0.0"], ["60.0", "60.0"]]
    assert after.select("td")[2]["style"] == "--v:0.600"
    assert len(tiny.select('[data-panel="naive"] table.matrix')) == 1


def test_charts_have_their_data(tiny):
    data = json.loads(tiny.select_one("#data").string)
    points = {point["id"]: point for point in data["rows"]}
    assert (points["naive+src"]["mean"], points["naive+src"]["kept"]) == (60.0, 600)
    assert (points["naive+src"]["base_mean"], points["naive+src"]["base_kept"]) == (20.0, 0)
    assert points["joint"]["kept"] is None
    assert "ewc" not in points
    seen = [point for point in data["seen"] if point["id"] == "naive+src"]
    assert [(point["experience"], point["mean"]) for point in seen] == [(1, 100.0), (2, 60.0)]
    phases = [(p["phase"], p["experience"], p["mean"]) for p in data["phases"] if p["id"] == "naive+src"]
    assert phases == [
        ("T1", 0, 50.0), ("T1", 1, 100.0), ("S1", 0, 50.0), ("S1", 1, 100.0),
        ("T2", 0, 37.5), ("T2", 1, 0.0), ("T2", 2, 75.0), ("S2", 0, 60.0), ("S2", 1, 60.0), ("S2", 2, 60.0),
    ]  # fmt: skip


def test_the_overview_has_a_section_per_family_and_a_line_per_benchmark(site):
    index = soup_of(site / "index.html")
    assert [heading.get_text() for heading in index.select("main > section[id^=in-] h2")] == [
        "Suites",
        "Tables of strategies",
        "Regimes",
    ]
    (line,) = (row for row in index.select("tbody tr") if row.th.get_text() == "tiny")
    cells = cells_of(line)
    assert cells[1:4] == ["digits", "2", "20"]  # data, experiences, runs
    assert cells[5:] == ["20.0 ± 1.4", "60.0 ± 2.0", "+40.0 ± 0.7", "0.031", "90.0"]
    assert "Tadros T, Krishnan G" in index.get_text()


def test_published_numbers_have_their_columns_where_there_are_any(site, tiny):
    page = soup_of(site / "benchmarks" / "table1_mnist_paper.html")
    rows = {row["data-id"]: cells_of(row) for row in page.select("#leaderboard tbody tr")}
    assert "yes" in rows["naive"]
    assert "48.5 ± 5.0" in rows["naive+src"]
    assert "published" in rows["naive+src"]
    assert "published" in page.select_one("#leaderboard thead").get_text()
    assert "published" not in tiny.select_one("#leaderboard thead").get_text()


def test_a_published_number_is_said_to_be_of_something_else_or_of_too_few_runs(make):
    site = make(
        *runs_of("naive", (0.19, 0.20, 0.21), config_name="table1_cifar10_imagenet"),
        *runs_of("joint", (0.87, 0.88), config_name="table1_mnist_paper"),
    )
    assert "not judged: other features" in cells_of(
        soup_of(site / "benchmarks" / "table1_cifar10_imagenet.html").select_one("#row-naive")
    )
    assert "too few runs" in cells_of(soup_of(site / "benchmarks" / "table1_mnist_paper.html").select_one("#row-joint"))


def test_every_link_leads_somewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) == 1 + 3 + 27
    for page in pages:
        soup = soup_of(page)
        ids = {tag["id"] for tag in soup.select("[id]")}
        for tag, key in [
            *((a, "href") for a in soup.select("a, link")),
            *((s, "src") for s in soup.select("script[src]")),
        ]:
            if tag[key].startswith(("https://doi.org/", "data:")):
                continue
            path, _, anchor = tag[key].partition("#")
            target = page.parent / unquote(path) if path else page
            assert target.is_file(), f"{page}: {tag[key]}"
            assert not anchor or anchor in (ids if not path else {t["id"] for t in soup_of(target).select("[id]")})


def test_nothing_is_fetched_from_elsewhere(site):
    for page in [*site.rglob("*.html"), site / "assets" / "style.css", site / "assets" / "page.js"]:
        text = page.read_text(encoding="utf-8")
        assert "http://" not in text
        assert text.count("https://") == text.count("https://doi.org/")


def test_a_run_has_its_page_and_its_record(site):
    (copy,) = (site / "records" / "tiny" / "naive+src").glob("seed3-*.json")
    record = read_record(copy)
    page = soup_of(site / "runs" / "tiny" / "naive+src" / f"{copy.stem}.html")
    facts = {dt.get_text(): dt.find_next("dd").get_text() for dt in page.select("dl.facts dt")}
    assert facts["final accuracy"] == "61.0 % of 20 test images of all classes"
    assert (facts["kept"], facts["provenance"]) == ("600 B", "self-reported")
    assert facts["torch"] == record.versions["torch"]
    sleep = cells_of(page.select("#sleeps tbody tr")[1])
    assert sleep[2:] == ["4 / 1.2 / 0.25", "5 / 25", "100 → 90 → 50 → 40 (50)", "0.61", "800", "0.25"]
    assert "preset: auto" in page.select_one("#config pre").get_text()
    assert len(page.select("table.matrix")) == 2


def test_a_lost_run_says_why(site):
    (path,) = (site / "runs" / "tiny" / "ewc").glob("*.html")
    page = soup_of(path)
    assert page.select_one("#error pre").get_text() == "loss is <nan>"
    assert "average over experiences" not in page.get_text()  # the end that it is about was not reached


def test_names_that_mean_harm_stay_text_and_inside_the_folder(make, tmp_path):
    name = "../../<script>alert(1)</script>"
    config = {**CONFIG, "strategy": name}
    records = runs_of("naive", (0.2, 0.3))
    bad = [r.model_copy(update={"config_name": name, "strategy": name, "config": config}) for r in records]
    # Written where a submitted file might lie: its place says nothing of what it holds.
    for record in bad:
        path = tmp_path / "records" / "in" / f"seed{record.seed}-{record.hash}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record.model_dump_json(by_alias=True), encoding="utf-8")
    site = make(*runs_of("naive", (0.2,)))
    assert {path.name for path in tmp_path.iterdir()} == {"records", "site"}
    for page in site.rglob("*.html"):
        assert "<script>alert" not in page.read_text(encoding="utf-8")
    assert sum(1 for _ in site.rglob("seed*.html")) == 3


def test_long_names_break_at_underscores(make):
    records = [r.model_copy(update={"config_name": "a_long_name"}) for r in runs_of("naive", (0.2,))]
    site = make(*records)
    (page,) = (site / "benchmarks").glob("a_long_name*.html")
    assert "<h1>a_<wbr>long_<wbr>name</h1>" in page.read_text(encoding="utf-8")
    assert "a_<wbr>long_<wbr>name</a></th>" in (site / "index.html").read_text(encoding="utf-8")


def test_a_folder_with_nothing_but_lost_runs_has_a_page(make):
    site = make(diverged("naive", 0))
    page = soup_of(site / "benchmarks" / "tiny.html")
    assert not page.select("[data-chart], #data")
    assert "1 diverged" in page.select_one("#leaderboard").get_text()


LOST = {**FAILED, "class_order": [], "experiences": [], "n_test": [], "status": "skipped"}
"""What a run leaves that has not met its stream."""


def facts_of(page: BeautifulSoup) -> dict[str, str]:
    return {dt.get_text(): dt.find_next("dd").get_text() for dt in page.select("dl.facts dt")}


def test_runs_that_were_skipped_are_no_order_of_classes_and_no_run_of_the_overview(make):
    # The first record in the order of files is a skipped one, and the only order is that of the two that are done.
    site = make(finished("agem", 0, 0.0, **LOST), *runs_of("naive", (0.2, 0.3)))
    page = soup_of(site / "benchmarks" / "tiny.html")
    assert facts_of(page)["stream"] == "2 classes in 2 experiences: 0 | 1"
    assert facts_of(page)["measured on"] == "20 test images"
    (skipped,) = page.select("#row-agem td.records a")
    assert (skipped["class"], skipped["aria-label"]) == (["lost"], "agem, seed 0, skipped")
    assert not page.select("#row-naive td.records a.lost")
    (line,) = soup_of(site / "index.html").select("main > section tbody tr")
    assert cells_of(line)[2:4] == ["2", "2 1 skipped"]  # experiences; runs, and below, smaller, what is lost
    assert line.select("td")[2]["data-value"] == "2"


def test_a_benchmark_of_which_nothing_ran_shows_what_its_config_says(make):
    config = {**CONFIG, "stream": {"dataset": "image_folder", "folder": ["/far/photos.zip"], "n_experiences": 5}}
    site = make(finished("naive", 0, 0.0, **{**LOST, "status": "failed"}, config={**config, "strategy": "naive"}))
    facts = facts_of(soup_of(site / "benchmarks" / "tiny.html"))
    assert facts["stream"] == "5 experiences by its config; no run has got as far as its classes"
    assert facts["data"] == "photos"
    assert "measured on" not in facts
    (line,) = soup_of(site / "index.html").select("main > section tbody tr")
    assert cells_of(line)[1:3] == ["photos", "5"]
    (run,) = (site / "runs" / "tiny" / "naive").glob("*.html")
    assert "class order" not in facts_of(soup_of(run))


STREAMS = {
    "classes": ({"classes_per_experience": [2, 2, 6]}, 3),
    "labels": ({"experiences": [[0], [1]]}, 2),
    "permutations": ({"permutations": 4}, 4),
    "other sets": ({"then": ["mnist"]}, 2),
    "the first of them": ({"n_experiences": 5, "first": 3}, 3),
    "nothing": ({}, None),
}


@pytest.mark.parametrize(("stream", "n"), STREAMS.values(), ids=STREAMS)
def test_experiences_are_counted_by_the_config_where_nothing_ran(stream, n):
    record = finished("naive", 0, 0.0, **LOST, config={**CONFIG, "stream": {"dataset": "digits", **stream}})
    assert Benchmark("tiny", "tiny", "", (), (Run(record, Path("x.json"), ""),)).n_experiences == n


def test_the_same_records_make_the_same_pages(make):
    def content(site):
        return {path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()}

    records = runs_of("naive", (0.2, 0.3, 0.25))
    assert content(make(*records)) == content(make(*records))


def test_an_earlier_report_is_replaced_as_a_whole(make, tmp_path):
    site = make(*runs_of("naive", (0.2,)))
    (old,) = (site / "runs" / "tiny" / "naive").iterdir()
    for path in (tmp_path / "records").rglob("*.json"):
        path.unlink()
    make(*runs_of("joint", (0.9,)))
    assert not old.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"records", "site"}


def test_what_is_no_report_is_not_replaced(tmp_path, console):
    write_runs(tmp_path / "records", {"": runs_of("naive", (0.2,))})
    mine = tmp_path / "mine" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("keep me", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"holds other files, .* name a new or an empty folder"):
        report([tmp_path / "records"], out=mine.parent, console=console)
    with pytest.raises(ConfigError, match="is a file; name a new folder"):
        report([tmp_path / "records"], out=mine, console=console)
    with pytest.raises(ConfigError, match="would read twice; name a folder outside"):
        report([tmp_path / "records"], out=tmp_path / "records" / "site", console=console)
    assert mine.read_text(encoding="utf-8") == "keep me"


def test_a_package_that_is_missing_is_named(tmp_path, console, monkeypatch):
    for name in ("benchmarks.report.page", "benchmarks.report.charts"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(SRCError, match="needs altair, which is not installed: pip install altair"):
        report([tmp_path], out=tmp_path.with_name("site"), console=console)


def test_a_report_that_fails_leaves_the_old_one(make, tmp_path, console, monkeypatch):
    site = make(*runs_of("naive", (0.2,)))
    monkeypatch.setattr("benchmarks.report.page.write_pages", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report([tmp_path / "records"], out=site, console=console)
    assert (site / "index.html").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"records", "site"}
