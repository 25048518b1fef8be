"""The runs of a study: which are made, what is kept of them, and what happens to those that fail."""

import json
import shutil
import signal
import subprocess
import threading
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
import yaml  # type: ignore[import-untyped]
from rich.console import Console

from datamodules.errors import InputError
from experiments.claims import take
from experiments.config import load_run
from experiments.study import running
from experiments.study.__main__ import main
from experiments.study.plan import CurvePlan, Run, SystemPlan
from experiments.study.plan import runs as runs_of
from experiments.study.progress import Counts, View, clock, standing
from experiments.study.record import RECORDS, read_records, settings_hash
from experiments.study.running import choose, tasks
from tests import runs
from tests.study.fake import EXPERIMENT, FULL, SINGLE, SINGLE_TASK, TAUGHT, Fake, make_study, taught_study, wait_for
from tests.study.runs import write_run

pytestmark = pytest.mark.usefixtures("quick")


def test_runs_are_made_in_order_and_only_once(fake: Fake) -> None:
    wanted = fake.tasks(make_study())
    assert fake.runner(wanted).run() == 0
    assert fake.made == [*FULL, *SINGLE_TASK]
    assert {record.key for record in fake.records()} == {task.key for task in wanted}
    assert {record.settings for record in fake.records()} == {task.settings for task in wanted}
    lines = fake.printed().splitlines()
    assert lines[0] == f"started {FULL[0]}"
    assert lines[1].startswith(f"done {FULL[0]}: development 0.500, 0:00:0")
    assert len(lines) == 8
    assert fake.runner(wanted).run() == 0
    assert len(fake.made) == 4


def test_teachers_are_made_first(fake: Fake) -> None:
    wanted = fake.tasks(taught_study(), systems="taught,full")
    assert fake.runner(wanted, jobs=2).run() == 0
    assert fake.made == [SINGLE_TASK[0], FULL[0], TAUGHT]
    assert "error" not in fake.printed()
    assert fake.runner(wanted).run() == 0
    assert len(fake.made) == 3


def test_a_teacher_of_whom_only_the_record_is_there_is_made_again(fake: Fake) -> None:
    study = taught_study()
    [teacher] = fake.tasks(study, systems="single_task")
    assert fake.runner([teacher]).run() == 0
    shutil.rmtree(teacher.folder)
    assert fake.runner(fake.tasks(study, systems="taught")).run() == 0
    assert fake.made == [SINGLE_TASK[0], SINGLE_TASK[0], TAUGHT]
    shutil.rmtree(teacher.folder)
    assert fake.runner(fake.tasks(study)).run() == 0
    assert fake.made[3:] == FULL[:1], "who is taught already needs no teacher"


def test_who_is_taught_by_a_failed_run_is_not_made(fake: Fake) -> None:
    fake.script[SINGLE_TASK[0]] = "raise SystemExit(1)"
    assert fake.runner(fake.tasks(taught_study())).run() == 1
    assert fake.made == [SINGLE_TASK[0], FULL[0]]
    assert f"{TAUGHT} is not made: a run that is to teach it failed" in fake.printed()


def test_another_teacher_makes_another_system(fake: Fake) -> None:
    study = taught_study()
    assert fake.runner(fake.tasks(study, systems="taught")).run() == 0
    study.systems["single_task"].settings = SINGLE | {"data.quota": 16}
    assert fake.runner(fake.tasks(study, systems="taught")).run() == 0
    assert fake.made == [SINGLE_TASK[0], TAUGHT] * 2


def test_several_are_made_at_once(fake: Fake) -> None:
    wanted = fake.tasks(make_study())
    for own, other in (("a", "b"), ("b", "a")):
        fake.script[FULL["ab".index(own)]] = (
            f"from pathlib import Path; import time; Path({str(fake.folder / own)!r}).touch()\n"
            f"while not Path({str(fake.folder / other)!r}).exists(): time.sleep(0.01)"
        )
    assert fake.runner(wanted[:2], jobs=2).run() == 1  # they met, and left no results
    assert fake.printed().count("FAILED") == 2


def test_what_an_interrupted_run_left_is_made_anew(fake: Fake) -> None:
    first, *_ = wanted = fake.tasks(make_study())
    first.folder.mkdir(parents=True)
    (first.folder / "metrics.csv").write_text("")
    assert fake.runner(wanted).run() == 0
    assert not (first.folder / "metrics.csv").exists()
    assert len(fake.records()) == 4


def test_a_finished_run_is_recorded_without_running(fake: Fake) -> None:
    first, *_ = wanted = fake.tasks(make_study(), systems="full", folds="0")
    settled = replace(first.config, trainer=replace(first.config.trainer, precision="bf16-mixed", threads=3))
    write_run(first.folder, settled, uar=0.625)
    assert fake.runner(wanted).run() == 0
    assert (fake.made, [record.development for record in fake.records()]) == ([], [0.625])


def test_runs_with_other_settings_are_made_anew_and_kept_until_then(fake: Fake) -> None:
    (old,) = fake.tasks(make_study(full=SystemPlan(settings={"trainer.epochs": 3})), systems="full", folds="0")
    assert fake.runner([old]).run() == 0
    (new,) = fake.tasks(make_study(), systems="full", folds="0")
    assert (new.folder, new.settings == old.settings) == (old.folder, False)
    fake.script[FULL[0]] = "raise SystemExit(1)"
    assert fake.runner([new]).run() == 1
    assert [record.settings for record in fake.records()] == [old.settings]
    assert len(list(new.folder.parent.glob("full-fold0-seed0-of-*/results.json"))) == 1
    fake.script.clear()
    assert fake.runner([new]).run() == 0
    assert [record.settings for record in fake.records()] == [new.settings]


def test_another_study_s_runs_are_taken_over(fake: Fake) -> None:
    assert fake.runner(fake.tasks(make_study(), systems="full")).run() == 0
    other = replace(make_study(all=SystemPlan(curves=["quota"])), name="other", folds=[0, 1, 2])
    quota = Run("", EXPERIMENT, "", {}, 0, 0, SystemPlan()).config().data.quota
    other.curves["quota"] = CurvePlan(points=[{"data.quota": quota}])
    wanted = fake.tasks(other, systems="all")
    fake.made.clear()
    assert fake.runner(wanted).run() == 0
    assert fake.made == [f"{EXPERIMENT}/all-quota={quota}-fold2-seed0"]
    assert {(record.study, record.system, record.fold) for record in fake.records("other")} == {
        ("other", "all", fold) for fold in (0, 1, 2)
    }
    assert {record.key for record in fake.records("other")} == {task.key for task in wanted}


def test_systems_on_features_are_other_runs_than_the_network(fake: Fake) -> None:
    config = next(runs_of(make_study())).config()
    plans = [
        SystemPlan(),
        SystemPlan(features="eGeMAPSv02"),
        SystemPlan(features="ComParE_2016"),
        SystemPlan(features="eGeMAPSv02", per_speaker="svm"),
    ]
    assert len({settings_hash(config, one.arguments) for one in plans}) == 4


def test_a_folder_of_other_features_is_not_recorded(fake: Fake) -> None:
    (task,) = fake.tasks(make_study(full=SystemPlan(features="eGeMAPSv02")), systems="full", folds="0")
    start = "python -m experiments.study.baselines ravdess_cat features="
    write_run(task.folder, task.config, command=f"{start}ComParE_2016 seed=0")
    assert task.record() is None
    shutil.rmtree(task.folder)
    write_run(task.folder, task.config, command=f"{start}eGeMAPSv02 per_speaker=true")
    assert task.record() is None
    shutil.rmtree(task.folder)
    write_run(task.folder, task.config, command=f"{start}eGeMAPSv02 seed=0")
    record = task.record()
    assert record is not None
    assert record.settings == task.settings


def test_a_run_that_fails_does_not_stop_the_others(fake: Fake) -> None:
    fake.script[FULL[1]] = "print('what happened'); raise SystemExit(1)"
    wanted = fake.tasks(make_study())
    second = wanted[1]
    assert fake.runner(wanted).run() == 1
    assert len(fake.made) == 4
    assert {record.key for record in fake.records()} == {task.key for task in wanted} - {second.key}
    lines = fake.printed().splitlines()
    told = lines.index(f"FAILED {FULL[1]}: exit code 1, {second.log}")
    assert lines[told + 1] == "  what happened"
    assert lines[-2:] == ["1 runs failed:", f"  {second.name}: {second.log}"]
    assert second.log.read_text() == "what happened\n"


def test_bad_input_stops_the_experiment_and_is_told_once(fake: Fake) -> None:
    study = make_study()
    study.experiments.append("ravdess_single_task")
    for name in FULL:
        fake.script[name] = "import time; time.sleep(.3); print('error: no corpora'); raise SystemExit(2)"
    assert fake.runner(fake.tasks(study), jobs=2).run() == 1
    assert fake.made[:2] == FULL
    assert not set(fake.made) & set(SINGLE_TASK)
    assert {record.experiment for record in fake.records()} == {"ravdess_single_task"}
    assert len(fake.records()) == 4
    lines = fake.printed().splitlines()
    assert lines.count("  error: no corpora") == lines.count(f"No more runs of {EXPERIMENT} are started.") == 1
    assert lines[-1] == "2 runs were not started; the same command goes on."


def test_two_commands_share_the_work(fake: Fake) -> None:
    wanted = fake.tasks(make_study())
    runners = [fake.runner(wanted, jobs=2) for _ in range(2)]
    threads = [threading.Thread(target=runner.run) for runner in runners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fake.made) == sorted([*FULL, *SINGLE_TASK])
    assert len(fake.records()) == 4
    assert [runner.done for runner in runners] == [4, 4]


def test_a_run_keeps_its_claim_when_the_command_is_killed(fake: Fake) -> None:
    fake.script[FULL[0]] = f"open({str(fake.folder / 'up')!r}, 'w'); import time; time.sleep(60)"
    (task,) = fake.tasks(make_study(), systems="full", folds="0")
    runner = fake.runner([task])
    runner._start()
    (one,) = runner.running
    wait_for(fake.folder / "up")
    one.claim.close()  # as when the command dies
    claim = fake.folder / "runs" / ".claims" / "-".join(map(str, task.identity))
    assert take(claim) is None
    one.process.kill()
    one.process.wait()
    held = take(claim)
    assert held is not None
    held.close()


def test_no_run_is_started_that_would_end_too_late(fake: Fake) -> None:
    wanted = fake.tasks(make_study())
    assert fake.runner(wanted[:1]).run() == 0
    assert fake.runner(wanted, minutes=1).run() == 0  # runs of 61.3 s, as the first one's record says
    assert fake.made == FULL[:1]
    assert fake.printed() == "3 runs were not started; the same command goes on.\n"
    assert fake.runner(wanted, minutes=1.5).run() == 0
    assert len(fake.made) == 4


def test_filters_choose_runs() -> None:
    study = make_study()
    found = [(run.system, run.fold) for run in choose(study, {"systems": "full,single_task", "folds": "1"})]
    assert found == [("full", 1), ("single_task", 1)]
    assert len(choose(study, {"systems": "", "seeds": "0"})) == 4


@pytest.mark.parametrize(
    ("name", "value", "known"),
    [
        ("systems", "full,foo", "full, single_task"),
        ("folds", "2", "0, 1"),
        ("seeds", "1", "0"),
        ("experiments", "demo", EXPERIMENT),
    ],
)
def test_a_filter_of_what_there_is_not_is_told(name: str, value: str, known: str) -> None:
    with pytest.raises(InputError, match=f"{name}={value}: the study mine has no") as told:
        choose(make_study(), {name: value})
    assert told.value.remedy == f"There are: {known}."


def test_numbers_choose_runs_by_their_place() -> None:
    study = make_study()
    everything = choose(study, {})
    assert choose(study, {"numbers": "3,1"}) == [everything[1], everything[3]]
    assert choose(study, {"numbers": "1,2,3", "systems": "full"}) == [everything[1]]
    for value in ("4", "-1", "all", "01"):
        with pytest.raises(InputError, match=f"numbers=0,{value}: the study mine has no run {value}") as told:
            choose(study, {"numbers": f"0,{value}"})
        assert told.value.remedy == "There are: 0 to 3."


def test_one_run_of_a_study_makes_no_tables(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    systems = {"full": {"settings": {"data.auxiliary": []}}, "single_task": {"settings": SINGLE}}
    study = {"experiments": [EXPERIMENT], "folds": [0, 1], "title": "A study", "systems": systems}
    (fake.folder / "mine.yaml").write_text(yaml.safe_dump(study))
    places = [f"output={fake.folder / 'runs'}", f"records={fake.folder / 'docs'}"]
    before = signal.getsignal(signal.SIGTERM)
    assert main(["run", str(fake.folder / "mine.yaml"), "numbers=2", *places]) == 0
    assert fake.made == SINGLE_TASK[:1]
    assert [file.name for file in (fake.folder / "docs" / "mine").glob("[!.]*")] == [RECORDS]
    assert capsys.readouterr().out == ""
    assert signal.getsignal(signal.SIGTERM) == before


def test_filters_that_leave_nothing_are_told() -> None:
    study = make_study(full=SystemPlan(folds=[5]))
    with pytest.raises(InputError, match="the study mine has no run with systems=full folds=0"):
        choose(study, {"systems": "full", "folds": "0"})


def test_settings_may_tell_where_and_not_what(tmp_path: Path) -> None:
    chosen = choose(make_study(), {})
    for task in tasks(chosen, tmp_path, ["data.root=/corpora", "trainer.accelerator=cpu", "wandb.enabled=false"]):
        assert (task.config.data.root, task.config.split.fold) == ("/corpora", task.run.fold)
    with pytest.raises(InputError, match=r"^trainer\.epochs=3 would change what full of the study mine is"):
        tasks(chosen, tmp_path, ["data.root=/corpora", "trainer.epochs=3"])
    with pytest.raises(InputError, match=r"there is no setting 'data\.rot'"):
        tasks(chosen, tmp_path, ["data.rot=/corpora"])


@pytest.mark.parametrize("setting", ["seed=3", "split.fold=1", "run=mine", "experiment=mine"])
def test_what_is_the_runner_s_own_is_refused(setting: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{setting}: .* differs from run to run"):
        tasks(choose(make_study(), {}), tmp_path, [setting])


def test_a_run_is_a_command_that_anyone_can_repeat(tmp_path: Path) -> None:
    plans = {"svm": SystemPlan(features="eGeMAPSv02", per_speaker="other")}
    wanted = tasks(choose(make_study(**plans), {"folds": "1"}), tmp_path / "mine", [])
    full, single, svm = (running.command(task, ["trainer.threads=2"])[1:] for task in wanted)
    where = [
        "wandb.group=mine",
        "wandb.tags=[{}]",
        "trainer.threads=2",
        "run={}-fold1-seed0",
        f"output={tmp_path}/mine",
    ]
    assert full == [
        "-m",
        "experiments",
        "train",
        EXPERIMENT,
        "resume=auto",
        "split.fold=1",
        "seed=0",
        *[s.format("full") for s in where],
    ]
    assert single[5:7] == ["data.auxiliary=[]", "model.decoder.weight=0"]
    module = ["-m", "experiments.study.baselines", EXPERIMENT, "features=eGeMAPSv02", "per_speaker=true"]
    assert svm[:7] == [*module, "split.fold=1", "seed=0"]


def test_figures_do_not_depend_on_the_cores_of_the_machine(fake: Fake) -> None:
    wanted = fake.tasks(make_study())
    assert [fake.runner(wanted, jobs=jobs).extra for jobs in (1, 9)] == [["trainer.threads=1"]] * 2


def test_the_log_tells_how_far_a_run_is(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Reading\n")
    assert standing(log) == ""
    with log.open("a") as stream:
        stream.write("x" * 10_000 + "\nEpoch 0/2: loss 4.000, dev/uar 0.250, best 0.250 (epoch 0), 1.0 s\n")
        stream.write("Epoch 1/2: loss 4.000, dev/ccc -0.250, best -0.125 (epoch 0), 1.0 s\nEpoch 2/")
    assert standing(log) == "epoch 2 of 3, best -0.125"


def test_a_terminal_gets_a_table_and_a_file_does_not(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Epoch 1/2: loss 4.000, dev/uar 0.250, best 0.250 (epoch 1), 1.0 s\n")
    shown = []
    for terminal in (True, False):
        console = Console(file=StringIO(), width=120, force_terminal=terminal)
        with View(console) as view:
            view.started("a")
            view.show(Counts(1, 1, 2, 0), [("a [b]", log, 65)], 3725)
        assert isinstance(console.file, StringIO)
        shown.append(console.file.getvalue())
    assert "1 done, 1 running, 2 to do, 0 failed; about 1:02:05 left" in shown[0]
    assert "a [b]  epoch 2 of 3, best 0.250  0:01:05" in shown[0]
    assert "started" not in shown[0]
    assert shown[1] == "started a\n"
    assert clock(59.6) == "0:01:00"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "ravdess", "jobs=0"], "jobs is '0'"),
        (["run", "ravdess", "time=soon"], "time is 'soon'"),
        (["run", "ravdes"], "unknown study 'ravdes'"),
        (["report", "ravdess", "jobs=2"], "a report knows no jobs=2"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_told(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert f"error: {told}" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["study", "report"])
def test_make_tells_that_the_study_is_missing(target: str) -> None:
    done = subprocess.run(["make", target], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "STUDY is missing: give STUDY=<study>, one of: " in done.stderr
    assert "ravdess" in done.stderr
    assert "systems" not in done.stderr


def test_a_study_goes_from_corpora_to_tables(
    corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = (setting.partition("=") for setting in runs.SMALL if not setting.startswith("data.corpora"))
    small = {key: yaml.safe_load(value) for key, _, value in pairs} | {"data.auxiliary": []}
    systems = {"full": {"settings": small}, "single_task": {"settings": small}}
    study = {"experiments": [EXPERIMENT], "folds": [0], "title": "A study", "systems": systems}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study))
    places = [f"data.root={corpora}", f"data.cache={corpora / 'cache'}", f"output={tmp_path / 'runs'}"]
    folder = tmp_path / "docs" / "mine"
    chosen = ["systems=full", f"records={folder.parent}"]
    command = ["run", str(tmp_path / "mine.yaml"), *chosen, "wandb.enabled=false", *places]
    report = ["report", str(tmp_path / "mine.yaml"), f"records={folder.parent}", f"output={tmp_path / 'runs'}"]
    assert main(report) == 2
    assert "holds no records of runs" in capsys.readouterr().err

    assert main(command) == 0
    printed = capsys.readouterr()
    assert f"done {EXPERIMENT}/full-fold0-seed0: development 0." in printed.err
    assert "full semi-supervised multi-task AAE" in printed.out
    assert printed.out.splitlines()[-1] == str(folder)
    assert {"records.jsonl", "tables.md", "tables.tex"} <= {file.name for file in folder.iterdir()}

    (record,) = read_records(folder / RECORDS)
    run = tmp_path / f"runs/mine/{EXPERIMENT}/full-fold0-seed0"
    results = json.loads((run / "results.json").read_text())
    assert (record.development, record.best_epoch) == (results["dev"]["uar"], 0)
    assert record.device == f"cpu ({torch.backends.cpu.get_cpu_capability()}, {load_run(run).trainer.precision})"
    summed = sum(map(sum_of, record.confusion_by_speaker.values()))
    assert summed == sum_of(results["test"]["confusion"]) > 0

    # What is in the run folders needs no run, though the machine has settled the precision there.
    (folder / RECORDS).unlink()
    monkeypatch.setattr(running, "command", None)
    assert main(command) == 0
    assert read_records(folder / RECORDS) == [record]

    capsys.readouterr()
    assert main(report) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "report.html")
    assert (folder / "report.html").exists()


def sum_of(confusion: list[list[int]]) -> int:
    return sum(map(sum, confusion))
