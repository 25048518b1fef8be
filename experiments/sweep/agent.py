"""An agent that makes the trials of a search here, one after the other, each in a process of its own."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

from optuna.trial import TrialState

from callbacks.interruption import AGAIN, Interrupted, Interruption
from datamodules.errors import InputError, explained
from datamodules.processes import ASKED
from experiments import claims
from experiments.commands import BAD_INPUT
from experiments.files import read_scores
from experiments.study.progress import Counts, View, clock
from experiments.study.running import LAST_LINES
from experiments.sweep.search import Search, Trial

TICK_S = 0.5
GRACE_S = 60.0
"""How long a trial that is to stop may take to save and to end."""
FIRST = 3
"""The sweep ends when so many trials, its first, could not use their input: what others would say, too."""
INTERRUPTIONS = 5
"""A trial has failed when it was ended so often by somebody else than its agent."""


class Agent:
    """Makes trials until there are enough.

    Args:
        search: The trials.
        count: How many there are to be in all; without, as many as the sweep says.
        view: Shows how far it is.
        ended: Called when a trial has ended.
        interruption: Hears signals. They are only looked at: to break off might spoil the journal.
    """

    def __init__(
        self,
        search: Search,
        count: int | None,
        view: View,
        ended: Callable[[Search], None],
        interruption: Interruption,
    ) -> None:
        self.search = search
        self.count = count
        self.view = view
        self.ended = ended
        self.interruption = interruption

    def run(self) -> None:
        """Makes the trials.

        Raises:
            InputError: None of the first trials could use its input.
            Interrupted: A signal asked to stop; the trial that was being made goes on the next time.
        """
        with self.view, self.interruption.kept():
            while not self.interruption.signum and (trial := self.search.next(self.count)):
                try:
                    self._make(trial)
                finally:
                    claims.release(trial.claim)
            if self.interruption.signum:
                raise Interrupted(self.interruption.signum, "Stopped: what was begun goes on by the same command.")

    def _make(self, trial: Trial) -> None:
        notes = self.search.trials[trial.number].user_attrs
        if "stopped" in notes:  # it was, but the agent was killed before it could end it
            self._conclude(trial, 0, notes["stopped"])
            return
        self.view.say(f"{trial.name}: {', '.join(_settings(trial))}")
        begun = time.monotonic()
        process = self._launch(trial)
        self._judged = -1
        epoch = None
        try:
            while not self._over(process) and (epoch := self._judge(trial)) is None:
                self._show(trial, time.monotonic() - begun)
                time.sleep(TICK_S)
        finally:
            _stop(process)
        self.search.note(trial, {"seconds": round(notes.get("seconds", 0.0) + time.monotonic() - begun, 1)})
        epoch = self._judge(trial) if epoch is None else epoch
        if not self.interruption.signum or epoch is not None or (trial.folder / "results.json").exists():
            self._conclude(trial, process.returncode, epoch)

    def _over(self, process: subprocess.Popen[bytes]) -> bool:
        return process.poll() is not None or self.interruption.signum != 0

    def _launch(self, trial: Trial) -> subprocess.Popen[bytes]:
        sweep = self.search.sweep
        own = [f"run={trial.folder.name}", f"output={self.search.folder}", "resume=auto", f"wandb.group={sweep.name}"]
        with explained(str(trial.log), trial.folder.parent, "output"):
            trial.folder.parent.mkdir(parents=True, exist_ok=True)
            if trial.folder.exists() and not (trial.folder / "config.yaml").exists():
                shutil.rmtree(trial.folder)  # it was killed before there was anything to go on with
            with trial.log.open("ab") as log:
                return subprocess.Popen(
                    [*sweep.words(trial.values), *own],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                    # Should we be killed, the trial goes on, and so does the claim.
                    pass_fds=(trial.claim.fileno(),),
                )

    def _judge(self, trial: Trial) -> int | None:
        found = read_scores(trial.folder, self.search.sweep.metric)
        new = {epoch: score for epoch, score in found.items() if epoch > self._judged}
        self._judged = max(new, default=self._judged)
        return self.search.judge(trial, new) if new else None

    def _conclude(self, trial: Trial, code: int, stopped: int | None) -> None:
        """Notes how a trial ended.

        Args:
            trial: It.
            code: Exit code of its process.
            stopped: The epoch after which it was to stop; what came later does not count.
        """
        found = read_scores(trial.folder, self.search.sweep.metric)
        counted = {epoch: score for epoch, score in found.items() if stopped is None or epoch <= stopped}
        notes: dict[str, float | int | str] = {"epochs": len(counted)}
        if counted:
            notes |= {"objective": max(counted.values()), "best_epoch": max(counted, key=lambda epoch: counted[epoch])}
        if stopped is not None:
            self._end(trial, TrialState.PRUNED, notes, f"stopped {trial.name} after epoch {stopped}")
        elif code == 0 and counted and (trial.folder / "results.json").exists():
            self._end(trial, TrialState.COMPLETE, notes, f"done {trial.name}")
        elif (trial.folder / "results.json").exists() or not self._interrupted(trial, code):
            self._fail(trial, code, notes)

    def _end(self, trial: Trial, state: TrialState, notes: dict[str, float | int | str], what: str) -> None:
        self.search.end(trial, state, notes)
        self.ended(self.search)
        seconds = clock(self.search.trials[trial.number].user_attrs.get("seconds", 0))
        score = f"{self.search.sweep.metric} {notes['objective']:.3f} (epoch {notes['best_epoch']})"
        self.view.say(f"{what}: {score}, {seconds}")

    def _interrupted(self, trial: Trial, code: int) -> bool:
        """Whether somebody else ended the process, which then goes on."""
        if code not in (AGAIN, *(-number for number in ASKED)):
            return False
        times: int = self.search.trials[trial.number].user_attrs.get("interruptions", 0) + 1
        self.search.note(trial, {"interruptions": times})
        self.view.say(f"{trial.name} was interrupted")
        return times < INTERRUPTIONS

    def _fail(self, trial: Trial, code: int, notes: dict[str, float | int | str]) -> None:
        lines = trial.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        self.search.end(trial, TrialState.FAIL, notes | {"exit_code": code})
        self.ended(self.search)
        self.view.say(f"FAILED {trial.name}: exit code {code}, {trial.log}")
        self.view.say("\n".join(f"  {line}" for line in lines))
        ended = [one for one in self.search.trials if one.state.is_finished()]
        if len(ended) >= FIRST and all(one.user_attrs.get("exit_code") == BAD_INPUT for one in ended):
            raise InputError(
                f"none of the first {len(ended)} trials could use its input",
                f"Correct what the last one says, and begin anew without {self.search.folder}.",
            )

    def _show(self, trial: Trial, seconds: float) -> None:
        states = [one.state for one in self.search.trials]
        running = states.count(TrialState.RUNNING)
        failed = states.count(TrialState.FAIL)
        to_do = max(0, int(self.search.total(self.count)) - len(states))
        counts = Counts(len(states) - running - failed, running, to_do, failed)
        self.view.show(counts, [(trial.name, trial.log, seconds)], None)


def _settings(trial: Trial) -> list[str]:
    return [f"{'.'.join(path)}={value}" for path, value in trial.values.items()]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a trial: it is asked to save and to stop, and then killed; with it goes all that it started."""
    try:
        # The process alone, for it knows how to end its own: without its readers it could not end well.
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    finally:  # who asks again does not want to wait
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
