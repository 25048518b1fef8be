"""The report of a study: what it shows, that it needs nothing beside itself, and how it looks in a browser."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from experiments.config import load
from experiments.study.figures import Estimate, Line, curves, forest, svg
from experiments.study.plan import Study
from experiments.study.record import Record
from experiments.study.report import write_report
from experiments.study.tables import tables
from tests.study.records import make_records, make_study

CHROMIUM = shutil.which("chromium")
SYSTEMS = ("full", "single_task", "egemaps_svm", "egemaps_svm_per_speaker")


@pytest.fixture(autouse=True, scope="module")
def _read_each_configuration_once() -> Iterator[None]:
    """Most of a page's time goes into configurations, and these tests write many pages of the same."""
    known = cache(load)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.study.plan.load", lambda name, settings: known(name, tuple(settings)))
        yield


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(SYSTEMS, folds=2, seeds=(0, 1))


@pytest.fixture(scope="module")
def records(study: Study) -> list[Record]:
    return make_records(study)


@pytest.fixture(scope="module")
def page(study: Study, records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> "Page":
    """Of a finished study whose run folders are gone."""
    return write(study, records, tmp_path_factory.mktemp("page"))


class Page(HTMLParser):
    """What stands in a page: its text, the attributes of its elements, and elements that are not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = ""
        self.attributes: list[tuple[str, str, str]] = []
        self.cells: list[list[str]] = []
        self.open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in {"meta", "img"}:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in {"th", "td"}:
            self.cells[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if {"th", "td"} & set(self.open):
            self.cells[-1][-1] += data


def write(study: Study, records: list[Record], tmp_path: Path) -> Page:
    path = write_report(study, records, tmp_path / "runs", tmp_path / "report")
    assert path == tmp_path / "report/report.html"
    page = Page(path)
    assert not page.open
    return page


def run_folder(tmp_path: Path, name: str, licence: str = "CC BY 4.0") -> Path:
    """A folder as a run leaves it, with a figure of two by two pixels."""
    folder = tmp_path / "runs/ravdess_cat" / name
    (folder / "figures").mkdir(parents=True)
    mpl.image.imsave(folder / "figures/latent_codes.png", np.eye(2))
    speakers = {"total": 24, "female": 11, "male": 13, "unknown": 0}
    corpus = {"utterances": 1440, "hours": 1.5, "speech_hours": 0.85, "speakers": speakers, "faults": {"count": 7}}
    side = {"utterances": 235, "speakers": ["1", "2", "3"]}
    split = {"train": {"utterances": 967, "speakers": ["9"]}, "development": side, "test": side}
    report = {"corpora": {"ravdess": {**corpus, "licence": licence}}, "split": split}
    (folder / "data_report.json").write_text(json.dumps(report))
    return folder


def texts(figure: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", figure)


@pytest.fixture(scope="module")
def with_runs(study: Study, records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Of a study that has a run folder."""
    folder = tmp_path_factory.mktemp("with_runs")
    run_folder(folder, "full-fold0-seed0")
    return write(study, records, folder)


def test_shows_every_table_in_full(study: Study, records: list[Record], page: Page) -> None:
    for table in tables(study, records):
        assert table.title in page.text
        assert table.note in page.text
        for row in (table.header, *table.rows):
            assert row in page.cells


def test_finding_is_that_of_the_main_table(study: Study, records: list[Record], page: Page) -> None:
    main, *_ = tables(study, records)
    full, single = (dict(zip(main.header, row, strict=True)) for row in main.rows[:2])
    finding = page.text[: page.text.index("Systems")]
    for row in (full, single):
        assert f"{row['system']} {row['UAR']} ± {row['std']}, 95 % interval {row['95 % interval']}" in finding
    assert f"gain {full['gain']}, p" in finding
    assert full["p"].lstrip("<") in finding


def test_p_is_written_with_its_sign(study: Study, tmp_path: Path) -> None:
    alike = make_records(study, accuracy=dict.fromkeys(SYSTEMS, 0.5))
    assert re.search(r"p = [01]\.\d{3}\.", write(study, alike, tmp_path).text)
    study = make_study(SYSTEMS)
    assert "p < 0.001." in write(study, make_records(study), tmp_path).text


def test_confusions_of_main_and_reference_are_pooled(study: Study, records: list[Record], page: Page) -> None:
    heads = [number for number, row in enumerate(page.cells) if row[0] == "truth \\ predicted"]
    assert len(heads) == 2
    for head, system in zip(heads, ("full", "single_task"), strict=True):
        matrices = [
            one for record in records if record.system == system for one in record.confusion_by_speaker.values()
        ]
        counts = np.sum(matrices, axis=0)
        shown = np.array([row[1:] for row in page.cells[head + 1 : head + 1 + len(counts)]], dtype=float)
        assert shown[:, -1] == pytest.approx(counts.sum(axis=1))
        assert shown[:, :-1] == pytest.approx(100 * counts / counts.sum(axis=1, keepdims=True), abs=0.5)


def test_class_without_test_utterances_has_no_percentages(tmp_path: Path) -> None:
    study = make_study(["full", "single_task"], folds=1, seeds=[0])
    records = []
    for record in make_records(study, classes=["happy", "sad"]):
        matrices = {speaker: [rows[0], [0, 0]] for speaker, rows in record.confusion_by_speaker.items()}
        records.append(replace(record, confusion_by_speaker=matrices))
    page = write(study, records, tmp_path)
    assert ["sad", "–", "–", "0"] in page.cells
    assert not re.search(r"\bnan\b", page.text)


def test_needs_nothing_beside_itself(with_runs: Page) -> None:
    references = [
        value
        for _, name, value in with_runs.attributes
        if name in {"src", "srcset", "href", "xlink:href", "poster", "data"}
    ]
    assert references
    assert all(value.startswith(("#", "data:image/")) for value in references)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", with_runs.source))
    assert "@import" not in with_runs.source
    assert "<script" not in with_runs.source
    assert len(with_runs.source) < 3_000_000


def test_is_accessible(with_runs: Page) -> None:
    ids = [value for _, name, value in with_runs.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for _, name, value in with_runs.attributes if name in {"href", "xlink:href"}} <= set(ids)
    assert with_runs.source.count("<table") == with_runs.source.count("<caption>")
    assert not re.search(r"<th(?! scope=| *ead)[ >]", with_runs.source)
    assert all('alt="' in image for image in re.findall(r"<img[^>]*>", with_runs.source))
    assert all('role="img" aria-label="' in figure for figure in re.findall(r"<svg[^>]*>", with_runs.source))


def test_text_is_escaped(tmp_path: Path) -> None:
    evil = '<b onclick="x">&amp;</b> $x$'
    study = make_study(["full", "single_task"], folds=1)
    study.title = study.systems["full"].label = evil
    records = [replace(one, commit=evil, device=evil) for one in make_records(study, classes=[evil, "sad"])]
    run_folder(tmp_path, "full-fold0-seed0", licence=evil)
    page = write(study, records, tmp_path)
    assert not [tag for tag, _, _ in page.attributes if tag == "b"]
    assert "<b" not in page.source.replace("<body", "").replace("<br", "")
    assert page.text.count(evil) > 8


def test_run_folders_that_are_gone(page: Page) -> None:
    assert re.search(r"None of the 4 run folders is in \S*/runs/ravdess_cat:", page.text)
    assert "<img" not in page.source


def test_run_folders(study: Study, records: list[Record], tmp_path: Path) -> None:
    run_folder(tmp_path, "full-fold0-seed1")
    shutil.rmtree(run_folder(tmp_path, "full-fold1-seed0") / "figures")
    run_folder(tmp_path, "single_task-fold0-seed0")
    page = write(study, records, tmp_path)
    assert "Run folders that are there: 2 of 4." in page.text
    assert page.source.count("<img") == 1
    assert "Latent codes of development and test utterances, full-fold0-seed1" in page.text
    assert ["ravdess", "1,440", "1.50", "0.85", "24", "11", "13", "7", "CC BY 4.0"] in page.cells
    for fold, seed in ((0, 1), (1, 0)):
        assert [f"full-fold{fold}-seed{seed}", "967", "1", "235", "3", "235", "3"] in page.cells


def test_run_folders_without_what_is_looked_for(study: Study, records: list[Record], tmp_path: Path) -> None:
    (tmp_path / "runs/ravdess_cat/full-fold0-seed0").mkdir(parents=True)
    page = write(study, records, tmp_path)
    assert "Run folders that are there: 1 of 4." in page.text
    assert "No run folder has a figure of latent codes." in page.text
    assert "No run folder has a data report." in page.text


def test_unfinished_study(study: Study, records: list[Record], page: Page, tmp_path: Path) -> None:
    assert "12 of 12 runs are done." in page.text

    page = write(study, [], tmp_path)
    assert "0 of 12 runs are done" in page.text
    assert "full AAE has no seed yet whose folds are all done" in page.text
    assert "<svg" not in page.source

    some = [record for record in records if record.system == "full"][:3]
    page = write(study, some, tmp_path)
    assert "3 of 12 runs are done; what is shown is of those" in page.text
    assert "single-task CNN has no seed yet whose folds are all done; no gain can be told yet" in page.text
    assert page.source.count("<svg") == 1


def test_curves(tmp_path: Path) -> None:
    study = make_study(["full", "single_task"], folds=2, seeds=(0, 1), curve=True)
    records = make_records(study)[:-1]
    curve, *_ = tables(study, records)
    page = write(study, records, tmp_path)
    for row in curve.rows:
        assert row in page.cells
        assert f"ravdess_cat, UAR at {curve.header[0]} = {row[0]}: full AAE {row[1]}; " in page.text
        assert f"; single-task CNN {row[2]}; {f'gain {row[3]}, p ' if row[3] != '–' else 'no gain'}" in page.text
    (figure,) = re.findall(r"<svg.*?</svg>", page.source)
    assert {"full AAE", "single-task CNN", "8", "16", curve.header[0], "UAR, ravdess_cat"} <= set(texts(figure))


def test_dimensions_and_several_experiments(tmp_path: Path) -> None:
    study = make_study(["full", "single_task"], folds=1, experiments=["iemocap_dim", "improv_dim"])
    page = write(study, make_records(study, dimensions=True), tmp_path)
    for experiment in study.experiments:
        assert f"{experiment}, mean CCC: full AAE" in page.text
        assert f"{experiment}: CCC by dimension" in page.text
    assert "predicted" not in page.text


def test_what_cannot_be_relied_on_is_flagged(study: Study, records: list[Record], page: Page, tmp_path: Path) -> None:
    assert 'class="flag"' not in page.source
    assert "left out: " not in page.text
    records = [replace(records[0], settings="0" * 16), *records[1:], replace(records[0], seed=77)]
    page = write(study, records, tmp_path)
    assert "Outdated: runs of full AAE were made with other settings" in page.text
    assert "Records of runs that the study does not ask for, which are left out: 1." in page.text


def test_forest_draws_what_it_is_given() -> None:
    systems: list[Line] = [
        ("one", [Estimate(0.7, 0.6, 0.75, (0.68, 0.72)), None]),
        ("two", [Estimate(0.5, 0.4, 0.6, (0.5,))] * 2),
    ]
    figure = forest(systems, ["plain", "normalised"], "UAR", reference=0.5)
    drawn = [line.get_xdata() for line in figure.axes[0].lines]
    for values in ([0.6, 0.75], [0.68, 0.72], [0.7], [0.4, 0.6], [0.5, 0.5]):
        assert any(np.array_equal(line, values) for line in drawn)
    assert {"one", "two", "plain", "normalised", "UAR"} <= set(texts(svg(figure, "f", "")))


def test_curves_leave_gaps() -> None:
    lines: list[Line] = [
        ("one", [Estimate(0.7, 0.6, 0.8, (0.7,)), None, Estimate(0.9, 0.8, 1.0, (0.9,))]),
        ("two", [None] * 3),
    ]
    figure = curves(lines, ["1", "2", "4"], "share", "UAR")
    line, *_ = figure.axes[0].lines
    np.testing.assert_equal(np.asarray(line.get_ydata()), [0.7, np.nan, 0.9])


def test_svg_takes_the_colours_of_the_page_and_has_ids_of_its_own() -> None:
    def drawn(name: str) -> str:
        return svg(forest([("a", [Estimate(0.5, 0.4, 0.6, (0.5,))])], ["all"], "UAR"), name, 'alt "text"')

    first = drawn("first")
    assert first == drawn("first")
    assert "currentColor" in first
    assert "#010203" not in first
    assert first.startswith('<svg role="img" aria-label="alt &quot;text&quot;"')
    ids = re.findall(r'\bid="([^"]*)"', first)
    assert ids
    assert all(one.startswith("first-") for one in ids)
    assert {one.rstrip(')"') for one in re.findall(r'(?:url\(#|href="#)([^)"]*)', first)} <= set(ids)


def test_style_of_other_figures_stays_as_it_is() -> None:
    before = dict(mpl.rcParams)
    forest([("a", [Estimate(0.5, 0.4, 0.6, (0.5,))])], ["all"], "UAR")
    svg(Figure(), "f", "")
    assert dict(mpl.rcParams) == before


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_in_a_browser(study: Study, records: list[Record], tmp_path: Path) -> None:
    path = write_report(study, records, tmp_path / "runs", tmp_path)
    shot = tmp_path / "page.png"

    def browse(*arguments: str) -> str:
        command = [
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
            f"--user-data-dir={tmp_path / 'browser'}",
            *arguments,
            path.as_uri(),
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    browse(f"--screenshot={shot}", "--window-size=900,1400")
    image = imread(shot)
    assert image.shape[:2] == (1400, 900)
    colours, counts = np.unique((image[..., :3].reshape(-1, 3) * 255).astype(int), axis=0, return_counts=True)
    assert len(colours) > 50
    assert counts.max() < 0.98 * counts.sum()

    tree = browse("--dump-dom")
    for table in tables(study, records):
        assert all(f">{cell.replace('<', '&lt;')}<" in tree for row in table.rows for cell in row if cell)
