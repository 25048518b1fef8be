"""What is queued on a cluster, with which command, and what is told before it is queued."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from experiments.config import load, save
from experiments.study.plan import read_study, runs
from experiments.study.running import choose, tasks
from experiments.submit import main
from tests import fakes
from tests.slurm import Sbatch, program, project
from tests.study.runs import write_run

TIME = "TIME=4:00:00"
GPU = ["--time=04:00:00", "--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=4", "--gres=gpu:1"]
ON_GPU = ["trainer.accelerator=gpu", "data.workers=3"]


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sbatch:
    """In a project's folder."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(project(tmp_path / "project"))
    found = Sbatch(tmp_path / "bin")
    monkeypatch.setenv("PATH", found.path)
    monkeypatch.delenv("SBATCH_ARGS", raising=False)
    return found


def test_a_training(sbatch: Sbatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["EXP=demo", TIME, "seed=1"]) == 0
    (call,) = sbatch.calls
    assert call[:7] == ["--parsable", "--job-name=demo", *GPU]
    settings = ["trainer.devices=1", "trainer.num_nodes=1", *ON_GPU, "seed=1"]
    assert call[7:] == ["experiments/slurm/train.sbatch", sys.executable, "demo", *settings]
    assert capsys.readouterr().out.splitlines() == [
        "job 101: demo, 1 × 1 GPU, at most 04:00:00",
        "  log: runs/slurm/demo-101.out",
        "  run folder: runs/demo/slurm-101",
        "  watch: squeue --job 101; tail -F runs/slurm/demo-101.out",
        "  cancel: scancel 101",
    ]
    assert Path("runs", "slurm").is_dir(), "SLURM does not make it"


def test_several_nodes_and_what_a_site_wants(sbatch: Sbatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_ARGS", "--partition=gpu --comment='for a paper' --gres=gpu:a100:4")
    assert main(["EXP=demo", "TIME=1-0", "NODES=2", "GPUS=4", "CPUS=12", "LEAD=300"]) == 0
    (call,) = sbatch.calls
    assert call[2:12] == [
        "--time=1-00:00:00",
        "--nodes=2",
        "--ntasks-per-node=4",
        "--cpus-per-task=12",
        "--gres=gpu:4",
        "--signal=B:USR1@300",
        "--partition=gpu",
        "--comment=for a paper",
        "--gres=gpu:a100:4",
        "experiments/slurm/train.sbatch",
    ]
    assert call[14:] == ["trainer.devices=4", "trainer.num_nodes=2", "trainer.accelerator=gpu", "data.workers=8"]


def test_on_cpus(sbatch: Sbatch) -> None:
    assert main(["EXP=demo", "TIME=90", "GPUS=0", "TASKS=2", "CPUS=3"]) == 0
    (call,) = sbatch.calls
    assert call[2:6] == ["--time=01:30:00", "--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=3"]
    assert call[6] == "experiments/slurm/train.sbatch"
    assert call[9:] == ["trainer.devices=2", "trainer.num_nodes=1", "trainer.accelerator=cpu"]


def test_arguments_go_through_make_and_sbatch_unharmed(sbatch: Sbatch, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    program(tmp_path / "bin" / "srun", f'printf "%s\\n" "$@" > {seen}')
    classes = "data.classes={neutral: [neutral], happy: [happiness]}"
    settings = [classes, "data.auxiliary=[]", "wandb.tags=[it's, $HOME, a*b]"]
    arguments = f"""'{classes}' data.auxiliary=[] "wandb.tags=[it's, \\$HOME, a*b]" """
    command = ["make", "submit", "EXP=demo", TIME, "GPUS=0", f"ARGS={arguments}", "SBATCH_ARGS=--comment='a b'"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (call,) = sbatch.calls
    assert call[6] == "--comment=a b"
    assert call[-3:] == settings
    # As SLURM calls it: elsewhere, under another name.
    copy = tmp_path / "slurm_script"
    copy.write_text(Path(call[7]).read_text())
    subprocess.run(["bash", copy, *call[8:]], env={**os.environ, "SLURM_JOB_ID": "101"}, check=True)
    words = seen.read_text().splitlines()[2:]
    assert words[1:6] == ["-m", "experiments", "train", "demo", "run=slurm-101"]
    assert words[-4:] == [*settings, "resume=auto"]


def test_a_run_of_a_name_has_one_job_at_a_time(sbatch: Sbatch, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["EXP=demo", TIME, "GPUS=0", "run=mine"]
    assert main(command) == 0
    (call,) = sbatch.calls
    assert call[1] == "--job-name=demo-mine"
    assert "--dependency=singleton" in call
    assert "run folder: runs/demo/mine" in capsys.readouterr().out

    folder = Path("runs", "demo", "mine")
    folder.mkdir(parents=True)
    config = load("demo", ["trainer.accelerator=cpu", "run=mine"])
    save(config, folder / "config.yaml")
    assert main(command) == 0, "it is there, and goes on"
    assert main([*command, "seed=1"]) == 2
    assert "runs/demo/mine is a run with other settings: seed" in capsys.readouterr().err
    (folder / "results.json").touch()
    assert main(command) == 2
    assert "run=mine: runs/demo/mine has ended" in capsys.readouterr().err
    assert len(sbatch.calls) == 2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ([TIME], "nothing is named that could be submitted"),
        (["EXP=demo", "STUDY=ravdess", TIME], "EXP=demo and STUDY=ravdess: only one can be submitted at a time"),
        (["EXP=demo"], "TIME is missing"),
        (["EXP=demo", "TIME=4h"], "TIME is '4h'"),
        (["EXP=demo", "TIME=1:2:3:4"], "TIME is '1:2:3:4'"),
        (["EXP=demo", "TIME=3"], "TIME=3 is 00:03:00, and a job is told to save 120 to 180 s before its end"),
        (["EXP=demo", "TIME=4:00"], None),
        (["EXP=demo", "TIME=10", "LEAD=541"], "TIME=10 is 00:10:00, and a job is told to save 541 to 601 s"),
        (["EXP=demo", TIME, "LEAD=soon"], "LEAD is 'soon'"),
        (["EXP=demo", TIME, "NODES=0"], "NODES is '0'"),
        (["EXP=demo", TIME, "GPUS=-1"], "GPUS is '-1'"),
        (["EXP=demo", TIME, "GPUS=2", "TASKS=4"], "TASKS is 4, and GPUS is 2"),
        (["EXP=demo", TIME, "AGENTS=2"], "AGENTS=2 is an option of SWEEP, and not of EXP"),
        (["EXP=dem", TIME], "unknown experiment 'dem'"),
        (["EXP=demo", TIME, "trainer.epoch=3"], "'trainer.epoch=3' on the command line: there is no setting"),
        (["EXP=demo", TIME, "trainer.devices=2"], "trainer.devices is 2, and GPUS is 1"),
        (["EXP=demo", TIME, "trainer.num_nodes=2"], "trainer.num_nodes is 2, and NODES is 1"),
        (["EXP=ravdess_cat", TIME, "data.root=/nowhere"], "2 corpora were not found:"),
        (["STUDY=ravdes", TIME], "unknown study 'ravdes'"),
        (["STUDY=ravdess", TIME, "NODES=2"], "NODES=2 is an option of EXP, and not of STUDY"),
        (["STUDY=ravdess", TIME, "GPUS=2"], "GPUS is 2"),
        (["STUDY=ravdess", TIME, "jobs=2"], "'jobs=2' on the command line: there is no setting 'jobs'"),
        (["STUDY=ravdess", TIME, "systems=full", "data.root=/nowhere"], "2 corpora were not found:"),
        (["SWEEP=mine", TIME, "AGENTS=0"], "AGENTS is '0'"),
        (["SWEEP=mine", TIME, "data.root=/corpora"], "an agent takes no data.root=/corpora"),
        (["SWEEP=demo", TIME], "SWEEP=demo has to be created first"),
        (["SWEEP=mine.yaml", TIME], "SWEEP=mine.yaml has to be created first"),
    ],
)
def test_what_is_wrong_is_told_before_it_is_queued(
    settings: list[str], told: str | None, sbatch: Sbatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(settings) == (2 if told else 0)
    errors = capsys.readouterr().err
    assert errors.startswith(f"error: {told}" if told else "")
    assert len(sbatch.calls) == (0 if told else 1)


def test_without_slurm(sbatch: Sbatch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["EXP=demo", TIME]) == 2
    message = capsys.readouterr().err
    assert "there is no sbatch on PATH" in message
    assert "or compute here: make train" in message


def test_elsewhere(sbatch: Sbatch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(sbatch.folder)
    assert main(["EXP=demo", TIME]) == 2
    assert f"experiments/slurm is not in {sbatch.folder}" in capsys.readouterr().err


def test_what_slurm_refuses_is_told(sbatch: Sbatch, capsys: pytest.CaptureFixture[str]) -> None:
    program(sbatch.folder / "sbatch", "echo 'sbatch: error: invalid partition specified: gpux' >&2; exit 1")
    assert main(["EXP=demo", TIME]) == 2
    message = capsys.readouterr().err
    assert "error: SLURM refuses the job: sbatch: error: invalid partition specified: gpux" in message
    assert "  sbatch --parsable --job-name=demo" in message


def test_options_that_cannot_be_read(
    sbatch: Sbatch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SBATCH_ARGS", "--comment='a b")
    assert main(["EXP=demo", TIME]) == 2
    assert 'SBATCH_ARGS is "--comment=\'a b": No closing quotation' in capsys.readouterr().err


def write_study(**systems: Any) -> list[str]:
    """A study of two folds, and the settings that let it be submitted."""
    fakes.ravdess(Path("corpora", "ravdess"), actors=1, statements=1)
    content = {"title": "A study", "experiments": ["ravdess_cat"], "folds": [0, 1], "systems": systems}
    Path("mine.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return ["STUDY=mine.yaml", TIME, "data.root=corpora", "records=records", "output=out"]


OWN: dict[str, Any] = {"settings": {"data.auxiliary": []}}


def test_of_a_study_the_missing_runs(sbatch: Sbatch, capsys: pytest.CaptureFixture[str]) -> None:
    command = write_study(full=OWN, single_task=OWN)
    assert main([*command, "AT_ONCE=3"]) == 0
    settings = [*ON_GPU, "data.root=corpora", "output=out", "records=records"]
    assert sbatch.calls[0] == [
        "--parsable",
        "--job-name=mine",
        *GPU,
        "--array=0-3%3",
        "experiments/slurm/study.sbatch",
        sys.executable,
        "mine.yaml",
        *settings,
    ]
    assert capsys.readouterr().out.splitlines() == [
        "mine: 0 of 4 runs are done",
        "job 101: mine, 1 × 1 GPU, at most 04:00:00",
        "  log: runs/slurm/mine-101_*.out",
        "  runs: numbers=0-3",
        "  tables: make report STUDY=mine.yaml",
        "  watch: squeue --job 101; tail -F runs/slurm/mine-101_*.out",
        "  cancel: scancel 101",
    ]

    study = read_study("mine.yaml")
    done = tasks(choose(study, {"numbers": "1"}), Path("out", "mine"), ["data.root=corpora"])
    write_run(done[0].folder, done[0].config)
    assert main([*command, "GPUS=0"]) == 0
    assert sbatch.calls[1][5:7] == ["--cpus-per-task=1", "--array=0,2-3"]
    assert main([*command, "systems=full"]) == 0
    assert [word for word in sbatch.calls[2] if word.startswith(("--array", "systems"))] == ["--array=0"]

    for task in tasks(choose(study, {"numbers": "0,2,3"}), Path("out", "mine"), ["data.root=corpora"]):
        write_run(task.folder, task.config)
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().out == "mine: 4 of 4 runs are done\n"
    assert len(sbatch.calls) == 3


def test_runs_that_are_taught_wait_for_those_that_teach(sbatch: Sbatch) -> None:
    taught = {"label": "taught", "settings": {**OWN["settings"], "model.consistency.weight": 1}, "teachers": ["full"]}
    command = write_study(full=OWN, taught=taught, single_task=OWN)
    assert main([*command, "systems=taught,single_task"]) == 0
    arrays = [[word for word in call if word.startswith(("--array", "--dep"))] for call in sbatch.calls]
    assert arrays == [["--array=0-1,4-5"], ["--array=2-3", "--dependency=afterany:101"]]
    assert [run.system for run in runs(read_study("mine.yaml"))] == ["full"] * 2 + ["taught"] * 2 + ["single_task"] * 2


def test_agents_of_a_sweep(sbatch: Sbatch) -> None:
    assert main(["SWEEP=me/ser-aae/abc", TIME, "AGENTS=4", "COUNT=5"]) == 0
    (call,) = sbatch.calls
    words = [sys.executable, "me/ser-aae/abc", "count=5"]
    assert call[7:] == ["--array=0-3", "experiments/slurm/sweep.sbatch", *words]


@pytest.mark.parametrize(
    ("given", "told"), [([TIME], "EXP, STUDY or SWEEP is missing: give EXP="), (["EXP=demo"], "TIME is missing: give")]
)
def test_make_tells_what_is_missing(given: list[str], told: str, sbatch: Sbatch) -> None:
    done = subprocess.run(["make", "submit", *given], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert told in done.stderr
    assert not sbatch.calls
