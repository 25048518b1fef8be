"""The command line: ``python -m experiments <command>``; ``--help`` tells which there are."""

import argparse
import sys
from pathlib import Path

from callbacks.interruption import Interruption
from datamodules.errors import InputError
from experiments.commands import finish, own_settings
from experiments.config import Config, load, load_run
from experiments.hush import hush
from experiments.importing import importing
from experiments.resuming import unfinished
from experiments.sweep import member


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns its exit code: 0, or 2 where the input cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments", description="Speech emotion recognition experiments."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("train", "train, choose the epoch on development data, test once"),
        ("manifest", "read and check the corpora of an experiment"),
        ("pack", "pack the corpora of an experiment into few large files: pack=<folder>"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("experiment", help="name of an experiment, or a YAML file")
        command.add_argument("settings", nargs="*", help="key=value")
    for name, what, run, settings in (
        ("resume", "go on with a run that was interrupted", "run folder", "key=value"),
        ("evaluate", "score the best checkpoint of a run again", "run folder", "key=value"),
        ("novelty", "let an older run tell how far speech is from what it was trained on", "run folder", "key=value"),
        (
            "predict",
            "apply a run's model to recordings",
            "run folder, a checkpoint in one, or an exported folder",
            "audio=<file, folder or table> out=<csv, jsonl or parquet>",
        ),
        (
            "app",
            "try a model on speech that is recorded or uploaded, on a page of this machine",
            "run folder, a checkpoint in one, or an exported folder",
            "port=<number>",
        ),
        (
            "export",
            "share the best checkpoint of a run: weights, ONNX graph, model card",
            "run folder",
            "out=<folder>, records=<folder of the studies' records>",
        ),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("run", type=Path, help=run)
        command.add_argument("settings", nargs="*", help=settings)
    command = commands.add_parser("compare", help="tell what of runs is the same, and how far apart the rest is")
    command.add_argument("run", type=Path, help="run folder")
    command.add_argument("settings", nargs="+", metavar="other", help="run folder")
    command = commands.add_parser("data", help="download a corpus from its owners")
    command.add_argument("corpus", help="name of the corpus")
    command.add_argument("settings", nargs="*", help="data.root=<folder>")
    given, rest = parser.parse_known_args(arguments)

    return finish(lambda: _run(given, [*given.settings, *rest]))


def _run(given: argparse.Namespace, settings: list[str]) -> None:
    hush()
    if given.command == "data":
        from experiments.data import data

        data(given.corpus, settings)
        return
    if given.command == "pack":
        from experiments.pack import pack

        pack(given.experiment, settings)
        return
    if given.command == "predict":
        from experiments.predict.command import predict

        predict(given.run, settings)
        return
    if given.command == "app":
        from experiments.app.command import app

        app(given.run, settings)
        return
    if given.command == "compare":
        with importing():
            from experiments.comparison import print_comparison

        print_comparison(given.run, list(map(Path, settings)))
        return
    if given.command == "export":
        own, others = own_settings(settings, {"out": str(given.run / "export"), "records": "docs/studies"})
        if others:
            raise InputError(f"export has no setting {others[0]!r}", "Give out=<folder>, records=<folder>, or neither.")
        with importing():
            from experiments.export.writing import export

        export(given.run, Path(own["out"]), Path(own["records"]))
        return
    # The configuration is read before anything heavy is imported: what is wrong with it is told at once.
    if given.command == "evaluate":
        config = load_run(given.run, settings)
        with importing():
            from experiments.run import evaluate

        evaluate(config, given.run)
        return
    if given.command == "novelty":
        config = load_run(given.run, settings)
        with importing():
            from experiments.run import make_novelty

        make_novelty(config, given.run)
        return
    if given.command == "resume":
        _train(load_run(given.run, settings), given.run)
        return
    own, settings = own_settings(settings, {"resume": ""})
    if own["resume"] not in ("", "auto"):
        raise InputError(f"resume={own['resume']}", "Give resume=auto, or `make resume RUN=<run folder>`.")
    if given.command == "train" and (trial := member.run_id()):
        # W&B's sweep may hand the same trial out again, where it was interrupted.
        own["resume"], settings = "auto", [f"run={trial}", *settings]
    config = load(given.experiment, settings)
    if given.command == "train":
        folder = unfinished(config) if own["resume"] else None
        _train(load_run(folder) if folder else config, folder)
    else:
        with importing():
            from experiments.manifest import manifest

        manifest(config)


def _train(config: Config, resume: Path | None) -> None:
    if resume and (resume / "results.json").exists():
        print(f"{resume} has ended: nothing is left to do.\n{resume}", flush=True)
        return
    interruption = Interruption()
    with interruption.listening():
        with importing(with_wandb=config.wandb.enabled):
            from experiments.run import train

        train(config, resume=resume, interruption=interruption)


if __name__ == "__main__":
    sys.exit(main())
