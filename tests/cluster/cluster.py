"""A SLURM cluster of this machine alone: its own daemons, in a folder of its own."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
"""Daemons stand where an ordinary user's shell does not look."""

NODES = ("one", "two")
IDLE = "\n".join(["idle"] * 4)  # each in both partitions
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
# After so many seconds a job that was queued again may start: the least that SLURM takes.
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
MpiDefault=none
ReturnToService=2
MinJobAge=3600
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# More processors than there are: jobs of these tests share them.
SlurmdParameters=config_overrides
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 Gres=gpu:1
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} CPUs=8 Gres=gpu:1
PartitionName=low Nodes=one,two Default=YES PriorityTier=1 GraceTime=60
PartitionName=high Nodes=one,two PriorityTier=10 PreemptMode=OFF
"""


def missing() -> list[str]:
    """SLURM's programs that are not here."""
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


class Cluster:
    """Two nodes and two partitions: jobs in ``high`` preempt those in ``low``, the default.

    Args:
        folder: For all that the daemons write; its path must be short, since it is a socket's, too.

    Attributes:
        environment: Of commands that are to find this cluster and no other.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PATH": PATH,
            "SLURM_CONF": str(folder / "slurm.conf"),
            # Its nodes have names that no network knows.
            "MASTER_ADDR": "127.0.0.1",
            "GLOO_SOCKET_IFNAME": "lo",
        }
        self._daemons = ExitStack()

    def __enter__(self) -> "Cluster":
        try:
            self._begin()
        except BaseException:
            self._daemons.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with self._daemons:
            self.ask("scancel", "--user", str(os.getuid()))
            wait_until(lambda: not self.ask("squeue", "--noheader"), 60)

    def _begin(self) -> None:
        munge = self.folder / "munge"
        munge.mkdir()
        (self.folder / "state").mkdir()
        for folder in (self.folder, munge):
            folder.chmod(0o711)  # its socket must be open to all
        key = munge / "key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        user = pwd.getpwuid(os.getuid()).pw_name
        host = socket.gethostname().partition(".")[0]
        text = CONFIGURATION.format(folder=self.folder, host=host, user=user, ports=_free_ports(4))
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "gres.conf").write_text("NodeName=one,two Name=gpu File=/dev/null\n")
        places = [f"--{name}={munge / name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
        self._start("munged", "--foreground", f"--key-file={key}", *places)
        wait_until((munge / "socket").exists, 20, self.log)
        self._start("slurmctld", "-D", "-c")
        for node in NODES:
            self._start("slurmd", "-D", "-N", node)
        wait_until(lambda: self.ask("sinfo", "--noheader", "--Node", "--format=%T", check=False) == IDLE, 60, self.log)

    def log(self) -> str:
        """The last that the daemons told."""
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def _start(self, *words: str) -> None:
        with (self.folder / "log").open("ab") as log:
            daemon = subprocess.Popen(
                words,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # they live until the jobs are ended, whoever is told to end here
            )
        self._daemons.callback(daemon.wait, 30)
        self._daemons.callback(daemon.terminate)

    def ask(self, *words: str, check: bool = True, cwd: Path | None = None) -> str:
        """Calls a program, and returns what it prints."""
        done = subprocess.run(words, env=self.environment, cwd=cwd, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def job(self, job: str) -> dict[str, str]:
        """What the controller knows of a job."""
        words = self.ask("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def jobs(self) -> list[str]:
        """The queue."""
        return self.ask("squeue", "--format=%i %j %T %r").splitlines()

    def wait(self, job: str, states: Sequence[str], seconds: float = 240) -> dict[str, str]:
        """Waits until a job is in one of some states."""
        wait_until(lambda: self.job(job)["JobState"] in states, seconds, lambda: str(self.job(job)))
        return self.job(job)


def wait_until(condition: Callable[[], bool], seconds: float, otherwise: Callable[[], str] = str) -> None:
    """Waits until something is true."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, otherwise()
        time.sleep(0.2)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
