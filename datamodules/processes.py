"""Work for several processes, which goes on where one of them is killed by what it works on."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import Generic, TypeVar

from datamodules.errors import InputError

Job = TypeVar("Job")
Result = TypeVar("Result")

ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals that ask a program to stop: ctrl-C, what schedulers send before they take a machine away, and what they can
be told to send before time is up."""

_UNGUARDED = 'put what it does below `if __name__ == "__main__":`, or each of them would do it again.'
_IN_FLIGHT_PER_WORKER = 4
_TOO_FEW_CHUNKS = 4


def available_cores() -> int:
    """The number of cores that this process may use, which a cluster's scheduler may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ignore(*signals: signal.Signals) -> None:
    """Leaves signals, which a terminal or a scheduler sends to all processes, to the main one."""
    for one in signals:
        signal.signal(one, signal.SIG_IGN)


def refuse_to_begin_again() -> None:
    """Ends a process that runs the user's script again, instead of what it was started for.

    Processes import the script that starts them, as far as ``if __name__ == "__main__":`` lets them; without, each
    would wait for what its parent holds, and the parent for them.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(f"{sys.argv[0]}: {_UNGUARDED}")


def work_off(
    work: Callable[[Job], Result],
    chunks: Iterable[Sequence[Job]],
    crashed: Callable[[Job], Result],
    workers: int | None = None,
) -> Iterator[list[Result]]:
    """Does jobs in several processes; yields each chunk's results, in order, as they come.

    Only a few chunks a worker are on their way at any time, however many there are. Few chunks are worked off in this
    process, since others would take longer to start.

    Args:
        work: What is done; processes must be able to import it.
        chunks: Jobs that go to a process together; may be a generator, which is drawn from in this process.
        crashed: Gives the result of a job that kills its process.
        workers: Number of processes, None is one for each core that this process may use; with one, the work is done
            here.

    Raises:
        InputError: Processes cannot even start.
    """
    workers = workers or available_cores()
    chunks = iter(chunks)
    head = list(islice(chunks, _TOO_FEW_CHUNKS))
    if workers == 1 or len(head) < _TOO_FEW_CHUNKS:
        for chunk in chain(head, chunks):
            yield _do(work, chunk)
        return
    pool = _Pool(work, crashed, workers)
    pending: deque[tuple[Sequence[Job], Future[list[Result]]]] = deque()
    try:
        for chunk in chain(head, chunks):
            pending.append((chunk, pool.submit(chunk)))
            if len(pending) >= workers * _IN_FLIGHT_PER_WORKER:
                yield pool.collect(*pending.popleft())
        while pending:
            yield pool.collect(*pending.popleft())
    finally:
        pool.close()


def _do(work: Callable[[Job], Result], chunk: Sequence[Job]) -> list[Result]:
    return [work(job) for job in chunk]


class _Pool(Generic[Job, Result]):
    """A process pool that outlives its processes."""

    def __init__(self, work: Callable[[Job], Result], crashed: Callable[[Job], Result], workers: int) -> None:
        self.work, self.crashed, self.workers = work, crashed, workers
        self.pool = _start(workers)
        self.single: ProcessPoolExecutor | None = None

    def submit(self, chunk: Sequence[Job]) -> Future[list[Result]]:
        try:
            return self.pool.submit(_do, self.work, chunk)
        except BrokenProcessPool:  # by an earlier chunk
            self.pool.shutdown(wait=False)
            self.pool = _start(self.workers)
            return self.pool.submit(_do, self.work, chunk)

    def collect(self, chunk: Sequence[Job], future: Future[list[Result]]) -> list[Result]:
        try:
            return future.result()
        except BrokenProcessPool:  # one of the jobs on their way is to blame
            return [self._alone(job) for job in chunk]

    def _alone(self, job: Job) -> Result:
        """Does a job of a chunk that broke the pool, so that only the culprit breaks its process."""
        if self.single is None:
            self.single = _start(1)
            try:
                self.single.submit(int).result()
            except BrokenProcessPool as error:  # not the job but the process is to blame
                raise InputError("the processes that are to help do not start", f"In a script: {_UNGUARDED}") from error
        try:
            return self.single.submit(self.work, job).result()
        except BrokenProcessPool:
            self.single.shutdown(wait=False)
            self.single = None
            return self.crashed(job)

    def close(self) -> None:
        for pool in (self.pool, self.single):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)


def _start(workers: int) -> ProcessPoolExecutor:
    # Forking a process that runs torch's threads can hang; a spawned one has nothing of its parent.
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin)


def _begin() -> None:
    # An interrupt is the parent's business; a dozen tracebacks would bury its message. The pool itself sends SIGTERM.
    ignore(signal.SIGINT, signal.SIGUSR1)
    # They are as many as the cores; it counts if torch is imported, which it is not yet.
    os.environ["OMP_NUM_THREADS"] = "1"
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A parent that is killed tells nobody, and a process that waits for its next chunk would wait for ever.
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
