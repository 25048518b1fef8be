"""Tables of made-up studies, cell by cell."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.study import statistics
from experiments.study.plan import ON_ONE_THREAD, Run, Study
from experiments.study.record import Record
from experiments.study.statistics import holm, of_classes, permutation_p
from experiments.study.table import PACKAGES, Table, latex, markdown
from experiments.study.tables import (
    commands,
    compare,
    curve_table,
    dimension_table,
    fold_table,
    main_table,
    provenance,
    recall_table,
    tables,
    write_tables,
)
from experiments.study.tables import (
    tested as grouped,
)
from tests.study.records import CLASSES, make_records, make_study

STUDY = make_study(folds=2)
RECORDS = make_records(STUDY)
FOUND = grouped(STUDY, RECORDS)
EXPERIMENT = "ravdess_cat"
MAKEFILE = Path(__file__).parents[2] / "Makefile"


def column(table: Table | None, name: str) -> list[str]:
    assert table
    return [row[table.header.index(name)] for row in table.rows]


def table_of(study: Study, records: list[Record]) -> Table:
    return main_table(study, grouped(study, records), EXPERIMENT)


def of_system(name: str) -> list[Record]:
    return [record for record in RECORDS if record.system == name]


def test_main_table_has_a_row_for_each_system_in_the_order_of_the_study() -> None:
    table = table_of(STUDY, RECORDS[::-1])
    assert column(table, "system") == ["full AAE", "single-task CNN", "autoencoder", "eGeMAPSv02 + linear SVM"]
    assert column(table, "runs") == ["6/6", "6/6", "6/6", "2/2"]
    assert column(table, "parameters") == ["800,000", "800,000", "800,000", "704"]
    seconds = np.median([record.train_seconds for record in of_system("full")])
    assert column(table, "seconds per run") == [f"{seconds:.0f}", *column(table, "seconds per run")[1:3], "3"]


def test_main_table_scores_are_those_of_the_pooled_test_sets() -> None:
    table = main_table(STUDY, FOUND, EXPERIMENT)
    scores = []
    for seed in STUDY.seeds:
        matrices = [m for one in of_system("full") if one.seed == seed for m in one.confusion_by_speaker.values()]
        total = np.sum(matrices, axis=0)
        scores.append((total.diagonal() / total.sum(axis=1)).mean())
    assert column(table, "UAR")[0] == f"{np.mean(scores):.3f}"
    assert column(table, "std")[0] == f"{np.std(scores, ddof=1):.3f}"
    assert column(table, "std")[3] == "–"
    low, high = statistics.interval(of_classes(of_system("full")))
    assert column(table, "95 % interval")[0] == f"[{low:.3f}, {high:.3f}]"


def test_gains_are_over_the_reference_and_their_ps_one_family() -> None:
    table = main_table(STUDY, FOUND, EXPERIMENT)
    reference = of_classes(of_system("single_task"))
    ps = holm([permutation_p(of_classes(of_system(one)), reference) for one in ("full", "autoencoder", "egemaps_svm")])
    expected = [f"{p:.3f}" if p >= 0.001 else "<0.001" for p in ps]
    assert column(table, "p") == [expected[0], "–", *expected[1:]]
    gains, scores = column(table, "gain"), [float(score) for score in column(table, "UAR")]
    assert gains[1] == "–"
    assert gains[0].startswith("+")
    assert gains[3].startswith("−")
    gain, low, high = (float(number) for number in re.findall(r"[-+][\d.]+", gains[3].replace("−", "-")))
    assert gain == pytest.approx(scores[3] - scores[1], abs=0.0011)
    assert low < gain < high


def test_per_speaker_normalisation_is_a_column_and_never_a_row() -> None:
    score = statistics.by_seed(of_classes(of_system("egemaps_svm_per_speaker")))[0]
    assert column(main_table(STUDY, FOUND, EXPERIMENT), "per-speaker normalisation") == ["–", "–", "–", f"{score:.3f}"]
    without = make_study(["full", "single_task"], folds=2)
    assert "per-speaker normalisation" not in table_of(without, RECORDS).header
    found = FOUND
    for table in (recall_table(found, EXPERIMENT), fold_table(found, EXPERIMENT)):
        assert column(table, "system").count("eGeMAPSv02 + linear SVM") == 1


def test_a_system_is_scored_on_complete_seeds_only() -> None:
    def lacking(*missing: tuple[int, int]) -> Table:
        kept = [one for one in RECORDS if one.system != "full" or (one.fold, one.seed) not in missing]
        return table_of(STUDY, kept)

    two_left = lacking((1, 2))
    assert column(two_left, "runs")[0] == "5/6"
    complete = statistics.by_seed(of_classes([one for one in of_system("full") if one.seed < 2]))
    assert column(two_left, "UAR")[0] == f"{complete.mean():.3f}"
    none_left = lacking((1, 0), (0, 1), (1, 2))
    assert none_left.rows[0][:6] == ["full AAE", *["–"] * 5]
    assert column(none_left, "runs")[0] == "3/6"
    assert column(table_of(STUDY, []), "runs") == ["0/6", "0/6", "0/6", "0/2"]


def test_runs_that_a_study_does_not_ask_for_are_left_out() -> None:
    more = make_records(make_study(folds=2, seeds=(0, 1, 2, 3)), rng_seed=1)
    extra = [record for record in more if record.seed == 3]
    assert extra
    assert table_of(STUDY, [*RECORDS, *extra]) == main_table(STUDY, FOUND, EXPERIMENT)


def test_systems_tested_on_other_speakers_have_no_gain() -> None:
    fewer = make_study(folds=2)
    fewer.systems["autoencoder"].folds = [0]
    table = table_of(fewer, RECORDS)
    assert column(table, "gain")[2] == column(table, "p")[2] == "–"
    assert column(table, "UAR")[2] != "–"
    one, other = of_classes(of_system("full")), of_classes(of_system("single_task"))
    assert compare([(one, None), (None, other)]) == [None, None]
    assert compare([(one, other), (None, None)])[0] == compare([(one, other)])[0]


def test_each_experiment_has_tables_of_its_own() -> None:
    study = make_study(["full", "single_task"], folds=1, seeds=(0,), experiments=["ravdess_cat", "nemo_cat"])
    titles = [table.title for table in tables(study, make_records(study))]
    assert titles == [
        *(f"{name}: {what}" for name in study.experiments for what in ("systems", "recall by class", "folds")),
        "provenance",
    ]


def test_recalls_are_means_over_seeds() -> None:
    table = recall_table(FOUND, EXPERIMENT)
    pooled = [
        np.sum([m for one in of_system("full") if one.seed == seed for m in one.confusion_by_speaker.values()], axis=0)
        for seed in STUDY.seeds
    ]
    expected = np.mean([total[2, 2] / total[2].sum() for total in pooled])
    assert table
    assert table.header == ["system", *CLASSES]
    assert column(table, "happy")[0] == f"{expected:.3f}"


def test_folds_show_test_and_development() -> None:
    table = fold_table(FOUND, EXPERIMENT)
    records = [record for record in of_system("full") if record.fold == 1]
    test = np.mean([statistics.uar(np.sum(list(one.confusion_by_speaker.values()), axis=0)) for one in records])
    development = np.mean([one.development for one in records])
    assert column(table, "fold 1")[0] == f"{test:.3f} ({development:.3f})"
    lacking = [one for one in RECORDS if one.system != "autoencoder" or one.fold == 0]
    assert column(fold_table(grouped(STUDY, lacking), EXPERIMENT), "fold 1")[2] == "–"


def test_dimensions_are_scored_by_ccc() -> None:
    study = make_study(["full", "single_task"], folds=2, seeds=(0, 1))
    found = grouped(study, make_records(study, dimensions=True))
    table = dimension_table(found, EXPERIMENT)
    assert table
    assert table.header == ["system", "activation", "valence", "dominance"]
    mean = np.mean([float(cell) for cell in table.rows[0][1:]])
    assert float(column(main_table(study, found, EXPERIMENT), "mean CCC")[0]) == pytest.approx(mean, abs=0.0011)
    assert recall_table(found, EXPERIMENT) is None
    assert dimension_table(FOUND, EXPERIMENT) is None


def test_a_curve_has_a_row_for_each_point() -> None:
    study = make_study(["full", "single_task", "autoencoder"], folds=2, curve=True)
    study.curves["quota"].seeds = {1: [0]}
    records = make_records(study)
    lacking = [one for one in records if one.system != "autoencoder" or one.point == {"data.quota": 8}]
    table = curve_table(study, grouped(study, lacking), EXPERIMENT, "quota")
    assert column(table, "labelled utterances in a batch") == ["8", "16"]
    full, single = column(table, "full AAE"), column(table, "single-task CNN")
    assert re.fullmatch(r"0\.\d{3} ± 0\.\d{3} \(3\)", full[0])
    assert re.fullmatch(r"0\.\d{3} \(1\)", full[1])
    assert column(table, "autoencoder")[1] == "0/2 runs"
    gains = [float(one[:5]) - float(other[:5]) for one, other in zip(full, single, strict=True)]
    assert [float(gain.split()[0]) for gain in column(table, "gain")] == pytest.approx(gains, abs=0.0011)
    at = {
        (one.system, one.point["data.quota"]): [two for two in records if two.key[1:3] == one.key[1:3]]
        for one in records
    }
    ps = [permutation_p(of_classes(at["full", q]), of_classes(at["single_task", q])) for q in (8, 16)]
    assert column(table, "p") == [f"{p:.3f}" if p >= 0.001 else "<0.001" for p in holm(ps)]
    assert [one.title for one in tables(study, records)] == [
        f"{EXPERIMENT}: {study.curves['quota'].label}",
        "provenance",
    ]


def test_a_curve_without_main_or_reference_has_no_gains() -> None:
    study = make_study(["full", "single_task"], folds=1, curve=True)
    study.systems["single_task"].curves = []
    found = grouped(study, make_records(study))
    table = curve_table(study, found, EXPERIMENT, "quota")
    assert table
    assert table.header == ["labelled utterances in a batch", "full AAE"]
    study.systems["full"].experiments = ["nemo_cat"]
    assert curve_table(study, found, EXPERIMENT, "quota") is None


def test_provenance_tells_outdated_systems() -> None:
    odd = replace(RECORDS[0], settings="0" * 16, commit="", device="NVIDIA H100", train_seconds=7200.0)
    known = provenance(grouped(STUDY, [odd, *RECORDS[1:]]))
    assert known["full"].outdated
    assert "0" * 16 in known["full"].settings
    assert len(known["full"].settings) == 2
    assert known["full"].devices == ["NVIDIA H100", "cpu"]
    hours = 2 + sum(record.train_seconds for record in of_system("full")[1:]) / 3600
    assert known["full"].hours == pytest.approx(hours)
    assert not known["single_task"].outdated
    *_, table = tables(STUDY, [odd, *RECORDS[1:]])
    assert table.rows[0][0] == "full AAE (outdated)"
    assert table.rows[0][2] == "unknown, 0414629c5a"
    assert table_of(STUDY, [odd, *RECORDS[1:]]).rows[0][0] == "full AAE (outdated)"
    stale = [replace(record, settings="0" * 16) for record in RECORDS]
    assert all(one.outdated for one in provenance(grouped(STUDY, stale)).values())


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_commands_give_the_settings_as_they_are(tmp_path: Path) -> None:
    study = make_study(["full", "single_task"], curve=True)
    study.systems["full"].settings = {
        "data.auxiliary": [{"corpus": "librispeech", "role": "speaker", "quota": 8}],
        "run": "it's $HOME `x` a\\b *",
    }
    (every, study_line), *lines = commands(study)
    assert (every, study_line) == ("all that is missing", "make study STUDY=made_up")
    line = dict(lines)["full AAE, ravdess_cat, labelled utterances in a batch 16"]
    kept = [one for one in MAKEFILE.read_text().splitlines() if re.match(r"SHELL|\.SHELLFLAGS|ARGUMENTS", one)]
    assert len(kept) == 3
    (tmp_path / "Makefile").write_text("\n".join([*kept, "train:", '\t@printf "%s\\n" "$(EXP)" $(ARGUMENTS)', ""]))
    filled = line.replace("<fold>", "3").replace("<seed>", "1")
    # As typed in a shell, and not as called by the make that may run this test.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    answer = subprocess.run(
        ["bash", "-c", filled], cwd=tmp_path, env=outside, capture_output=True, text=True, check=True
    )
    run = Run(study.name, EXPERIMENT, "full", {"data.quota": 16}, 3, 1, study.systems["full"])
    assert answer.stdout.splitlines() == [EXPERIMENT, *run.settings, ON_ONE_THREAD]


def test_systems_on_features_have_no_training_to_repeat() -> None:
    assert [what for what, _ in commands(STUDY)] == [
        "all that is missing",
        "full AAE, ravdess_cat",
        "single-task CNN, ravdess_cat",
        "autoencoder, ravdess_cat",
    ]


def test_markdown() -> None:
    table = Table("what", ["a", "b"], [["x|y", "1"]], "How.")
    assert markdown(table) == "## what\n\n| a | b |\n| --- | --- |\n| x\\|y | 1 |\n\nHow.\n"
    assert markdown(Table("what", ["a"], [])) == "## what\n\n| a |\n| --- |\n"


def test_latex_is_escaped() -> None:
    text = latex(Table("iemocap_cat: 5 %", ["a", "b"], [["x_1 & {y}", "−0.1 ± 0.2"], ["–", "<0.001"]], "^~\\"), "one")
    assert r"\caption{iemocap\_cat: 5 \%. \textasciicircum{}\textasciitilde{}\textbackslash{}}" in text
    assert r"\label{tab:one-iemocap-cat-5}" in text
    assert r"\begin{tabular}{lr}" in text
    assert r"    x\_1 \& \{y\} & $-$0.1 $\pm$ 0.2 \\" in text
    assert r"    -- & $<$0.001 \\" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]


def test_latex_breaks_what_is_long() -> None:
    name = "full semi-supervised multi-task AAE"
    text = latex(Table("what", ["system", "seconds per run", "UAR"], [[name, "517", "0.643"], ["[x]", "1", "0.5"]]))
    assert r"\begin{tabular}{>{\raggedright\arraybackslash}p{13em}rr}" in text
    assert r"    system & \shortstack[r]{seconds\\per run} & UAR \\" in text
    assert r"    {}[x] & 1 & 0.5 \\" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not installed")
def test_latex_fits_the_page(tmp_path: Path) -> None:
    write_tables(STUDY, RECORDS, tmp_path)
    wide = Table("[50 %] so_far", ["[system]", *["* wide {column}"] * 30], [["*", *["0.123 & \\ ^ ~ # $"] * 30]])
    paper = [r"\documentclass{article}", PACKAGES.removeprefix("% In the preamble: "), r"\begin{document}"]
    paper += [r"\input{tables.tex}", latex(wide), r"\end{document}"]
    (tmp_path / "paper.tex").write_text("\n".join(paper), encoding="ascii")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert "Overfull" not in done.stdout


def test_tables_are_written(tmp_path: Path) -> None:
    folder = tmp_path / "docs" / "made_up"
    write_tables(STUDY, RECORDS, folder)
    expected = tables(STUDY, RECORDS)
    page = (folder / "tables.md").read_text(encoding="utf-8")
    assert page.startswith("# A made-up study\n\n## ravdess_cat: systems\n")
    assert all(markdown(table) in page for table in expected)
    assert all(line in page for _, line in commands(STUDY))
    text = (folder / "tables.tex").read_text(encoding="utf-8")
    assert text.count(r"\begin{table*}") == text.count(r"\end{table*}") == len(expected)
    assert text.startswith(PACKAGES)
    assert text.isascii()
    assert sorted(path.name for path in folder.iterdir()) == ["tables.md", "tables.tex"]
