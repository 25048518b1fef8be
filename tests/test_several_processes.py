"""A batch that several processes share gives the gradients, statistics and sums of one process that has it whole."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn

from callbacks.interference import compared
from datamodules.batch import LABELLED, SPEAKER, Batch
from lightning_modules import processes
from lightning_modules.draws import ALONE, Draws, Dropout, shared
from lightning_modules.losses import concordance_loss
from lightning_modules.means import EpochMeans
from lightning_modules.normalisation import BatchNorm
from lightning_modules.settings import AugmentationSettings, ConsistencySettings, HeadSettings
from tests import fakes, runs
from tests.small import batch, model, settings

WORLD = 4
"""Processes."""
SMALL = settings()
KINDS: dict[str, dict[str, Any]] = {
    "all heads, mixture prior": {},
    "mixup and speed": {"augmentation": AugmentationSettings(mixup=0.4, speed=0.1)},
    "noise for few": {"augmentation": AugmentationSettings(noise=0.1)},
    "variational": {"variational": 0.01},
    "one set of statistics": {"separate_statistics": False},
    "no decoder": {"decoder": replace(SMALL.decoder, weight=0.0)},
    "categorical code": {"categorical": 0.1},
    "gaussian prior": {"adversary": replace(SMALL.adversary, prior="gaussian")},
    "group normalisation": {"encoder": replace(SMALL.encoder, normalisation="group")},
    "weighted classes, augmentation head": {
        "heads": {
            "emotion": HeadSettings(class_weights=True, label_smoothing=0.1),
            "augmentation": HeadSettings(),
            "speaker": HeadSettings(margin=0.2, adversarial=True),
        }
    },
    "teacher": {"consistency": ConsistencySettings(weight=1.0)},
}


def whole_batch() -> Batch:
    """Eight labelled utterances, four of known speakers, four of unknown ones; labels are missing here and there."""
    whole = batch(8, 4, 4)
    whole.targets["emotion"][[1, 2, 6]] = -1
    whole.targets["dimensions"][[0, 1, 2], 1] = torch.nan
    whole.targets["gender"][[0, 3, 9]] = -1
    return whole


def part_of(whole: Batch, rank: int, world: int) -> Batch:
    """What one of several processes has of a batch."""
    places: list[int] = []
    start = 0
    for size in whole.sizes:
        share = size // world
        places += range(start + rank * share, start + (rank + 1) * share)
        start += size
    rows = torch.tensor(places)
    sizes = [size // world for size in whole.sizes]
    return Batch(
        waveform=whole.waveform[rows],
        length=whole.length[rows],
        row=whole.row[rows],
        sizes=(sizes[0], sizes[1], sizes[2]),
        targets={name: target[rows] for name, target in whole.targets.items()},
        places=tuple(places),
    )


def step(kind: str, given: Batch) -> dict[str, Tensor]:
    """Gradients of a step, the mean over the processes as DDP makes it, and what the step leaves in the model."""
    module = model(**KINDS[kind])
    module.strengths.noise = 0.3
    if kind == "teacher":
        module.learn_from(model(seed=3))
    module.on_train_batch_start(given, 0)
    loss = module.training_step(given, 0)["loss"]
    torch.autograd.backward(loss)
    found = {"loss": processes.mean(loss.detach())}
    for name, weight in module.named_parameters():
        # A softmax does not see it: what comes back is rounding.
        if name != "encoder.pool.score.2.bias":
            assert weight.grad is not None, name
            found[name] = processes.mean(weight.grad)
    found |= {name: value.clone() for name, value in module.named_buffers() if "running" in name}
    return found


def steps(rank: int, folder: Path) -> None:
    for kind in KINDS:
        found = step(kind, part_of(whole_batch(), rank, WORLD))
        torch.save(found, folder / f"{kind}-{rank}.pt")


def _begin(rank: int, works: dict[str, Callable[[int, Path], None]], folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=WORLD)
    for name, work in works.items():
        work(rank, folder / name)
    distributed.destroy_process_group()


def apart(one: Tensor, other: Tensor) -> float:
    """Distance of two tensors, relative to the first."""
    return float((one.double() - other.double()).norm() / one.double().norm().clamp(min=1e-12))


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What four processes left, by each work's name: to start them takes longer than what they do."""
    folder = tmp_path_factory.mktemp("four")
    works = {"steps": steps, "normalise": normalise_a_part, "correlate": correlate, "means": keep_means, "pull": pull}
    for name in works:
        (folder / name).mkdir()
    spawn(_begin, (works, folder), WORLD)  # type: ignore[no-untyped-call]
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_that_of_one_process(kind: str, four: Path) -> None:
    expected = step(kind, whole_batch())
    for rank in range(WORLD):
        found = torch.load(four / "steps" / f"{kind}-{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        # A thousandth of what a mistake does: float32 sums in another order, through a dozen layers.
        differing = {name: distance for name in found if (distance := apart(expected[name], found[name])) > 1e-4}
        assert not differing


def pulls(given: Batch) -> dict[str, Tensor]:
    module = model()
    module.on_train_batch_start(given, 0)
    return compared(module, module.losses(given))


def pull(rank: int, folder: Path) -> None:
    torch.save(pulls(part_of(whole_batch(), rank, WORLD)), folder / f"{rank}.pt")


def test_gradients_are_compared_for_the_whole_batch(four: Path) -> None:
    expected = pulls(whole_batch())
    assert {"gradients/speaker/cosine", "gradients/prior/ratio", "gradients/emotion/cosine"} <= expected.keys()
    for rank in range(WORLD):
        found = torch.load(four / "pull" / f"{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for name, value in found.items():
            assert value.item() == pytest.approx(expected[name].item(), abs=1e-4, rel=1e-3), name


def test_other_draws_and_other_statistics_would_be_seen() -> None:
    kind = "all heads, mixture prior"
    expected = step(kind, whole_batch())
    alone = step(kind, part_of(whole_batch(), 0, 2))
    assert apart(expected["encoder.project.weight"], alone["encoder.project.weight"]) > 0.1
    statistic = "encoder.blocks.0.layers.0.norm.running_mean"
    assert apart(expected[statistic], alone[statistic]) > 1e-3


def normalised(norm: nn.Module, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = norm(x)
    torch.autograd.backward(y, gradient)
    assert x.grad is not None
    return y.detach(), x.grad


def speech_like() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = 3 + torch.randn(8, 5, 6, 7, generator=generator) * torch.arange(1, 6)[:, None, None]
    return x.contiguous(memory_format=torch.channels_last), torch.randn(8, 5, 6, 7, generator=generator)


def part(rank: int) -> slice:
    """Two of eight."""
    return slice(2 * rank, 2 * rank + 2)


def normalise_a_part(rank: int, folder: Path) -> None:
    x, gradient = speech_like()
    norm = BatchNorm(5)
    of = part(rank)
    y, slope = normalised(norm, x[of], gradient[of])
    weights = [norm.weight.grad, norm.bias.grad]
    sums = [processes.mean(weight) * WORLD for weight in weights if weight is not None]
    norm.alone = True
    own = norm(x[of]).detach()
    norm.eval()
    torch.save([y, slope, *sums, own, norm(x[of]).detach(), norm.state_dict()], folder / f"{rank}.pt")


def test_batch_normalisation_of_all_processes(four: Path) -> None:
    x, gradient = speech_like()
    norm = nn.BatchNorm2d(5).double()
    y, slope = normalised(norm, x.double(), gradient.double())
    parts = [torch.load(four / "normalise" / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]
    torch.testing.assert_close(torch.cat([one[0] for one in parts]).double(), y, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat([one[1] for one in parts]).double(), slope, atol=1e-5, rtol=1e-5)
    assert norm.weight.grad is not None
    for rank, one in enumerate(parts):
        torch.testing.assert_close(one[2].double(), norm.weight.grad, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(one[3].double(), norm.bias.grad, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(one[4], nn.BatchNorm2d(5)(x[part(rank)]).detach())  # alone
        assert one[6]["num_batches_tracked"] == 2
    assert not torch.equal(parts[0][6]["running_mean"], parts[1][6]["running_mean"])  # the second time, each its own


def correlate(rank: int, folder: Path) -> None:
    prediction, target = ratings()
    mine = slice(rank, None, WORLD)
    own = prediction[mine].clone().requires_grad_()
    loss = concordance_loss(own, target[mine])
    torch.autograd.backward(loss)
    assert own.grad is not None
    torch.save([loss.detach(), own.grad / WORLD], folder / f"{rank}.pt")


def ratings() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    prediction, target = torch.rand(2, 12, 3, generator=generator)
    target[:5, 1] = torch.nan
    target[1:, 2] = torch.nan  # one rating is too few to correlate
    return prediction, target


def test_concordance_is_of_the_whole_batch_and_no_mean_over_processes(four: Path) -> None:
    prediction, target = ratings()
    prediction.requires_grad_()
    loss = concordance_loss(prediction, target)
    torch.autograd.backward(loss)
    assert prediction.grad is not None
    for rank in range(WORLD):
        found, slope = torch.load(four / "correlate" / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, loss.detach())
        torch.testing.assert_close(slope, prediction.grad[rank::WORLD])


def keep_means(rank: int, folder: Path) -> None:
    means = EpochMeans()
    means.add({"loss": torch.tensor(1.0 + rank)}, 4)
    state = means.state_dict()
    again = EpochMeans()
    again.load_state_dict(state)
    again.add({"loss": torch.tensor(10.0)}, 4)
    torch.save([state["sums"], again.state_dict()["sums"]], folder / f"{rank}.pt")


def test_a_checkpoint_holds_the_sums_of_every_process(four: Path) -> None:
    for rank in range(WORLD):
        kept, gone_on = torch.load(four / "means" / f"{rank}.pt", weights_only=True)
        assert kept.tolist() == [[4.0], [8.0], [12.0], [16.0]]
        assert gone_on.tolist() == [[44.0], [48.0], [52.0], [56.0]]


def test_one_process_draws_as_pytorch_does() -> None:
    x = torch.rand(6, 5) + 1
    torch.manual_seed(3)
    expected = nn.Dropout(0.3)(x), torch.randn_like(x)
    torch.manual_seed(3)
    assert torch.equal(Dropout(0.3)(x), expected[0])
    assert torch.equal(ALONE.normal_like(x), expected[1])
    assert shared((), torch.device("cpu")) is ALONE


def test_draws_for_parts_of_a_shared_batch() -> None:
    # The second of two processes: a labelled part of four, two of which are here, then two of speakers, one here.
    draws = Draws(2, (2, 3, 5), torch.tensor([2, 3, 5]))
    assert draws.rows(3) == 6
    assert draws.mine(torch.arange(6)).tolist() == [2, 3, 5]
    speakers = draws[2:]
    assert (speakers.rows(1), speakers.mine(torch.arange(2)).tolist()) == (2, [1])
    assert draws[:2].mine(torch.arange(4)).tolist() == [2, 3]
    assert draws.here([5, 0, 2]) == ([0, 2], [2, 0])
    torch.manual_seed(0)
    mine = draws.normal_like(torch.empty(3, 4))
    torch.manual_seed(0)
    assert torch.equal(mine, torch.randn(6, 4)[[2, 3, 5]])


def test_the_parts_of_this_test_are_those_of_a_batch() -> None:
    whole = whole_batch()
    parts = [part_of(whole, rank, 4) for rank in range(4)]
    assert sorted(place for part in parts for place in part.places) == list(range(16))
    assert {part.sizes for part in parts} == {(2, 1, 1)}
    assert whole.sizes[LABELLED] == 8
    assert whole.sizes[SPEAKER] == 4


FAILING = """
import sys
from lightning import Callback
from datamodules.errors import InputError
from experiments.commands import finish
from experiments.config import load
from experiments.run import train


class Failing(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_rank == int(sys.argv[1]) and trainer.global_step == 1:
            raise InputError("speech.wav: broken", "repair it")


if __name__ == "__main__":
    sys.exit(finish(lambda: train(load("ravdess_cat", sys.argv[2:]), [Failing()]) and None))
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_what_one_process_cannot_use_ends_all_with_its_message(rank: int, tmp_path: Path) -> None:
    fakes.ravdess(tmp_path / "ravdess", actors=6)
    fakes.librispeech(tmp_path / "LibriSpeech")
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    settings = [*runs.SMALL, *runs.places(tmp_path, tmp_path), "split.folds=3", "trainer.devices=2"]
    done = subprocess.run(
        [sys.executable, script, str(rank), *settings, "wandb.enabled=false"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: speech.wav: broken\n  repair it") == 1
    assert "Traceback" not in done.stderr
