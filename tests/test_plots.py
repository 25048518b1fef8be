"""The figures: what they show, and that a run writes them all."""

from pathlib import Path
from unittest.mock import create_autospec

import matplotlib as mpl
import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from callbacks import plots
from callbacks.evaluation import Predictions
from callbacks.figures import read_metrics, write_figures

CLASSES = ["anger", "neutral", "sadness"]
CONFUSION = np.array([[8, 2, 0], [1, 4, 5], [0, 0, 0]])


def titles(figure: Figure) -> str:
    return "\n".join([figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)])


def points(line: Line2D) -> NDArray[np.float64]:
    return np.stack([np.asarray(line.get_xdata()), np.asarray(line.get_ydata())], axis=1)


def legend(axes: Axes) -> list[str]:
    found = axes.get_legend()
    return [] if found is None else [text.get_text() for text in found.get_texts()]


def codes(n: int = 60) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    random = np.random.default_rng(0)
    group = np.arange(n) % 3
    return random.normal(size=(n, 16)) + random.normal(size=(3, 16))[group], group


def curves(epochs: int = 6) -> dict[str, NDArray[np.float64]]:
    """Columns as in metrics.csv: a row of losses and one of scores in each epoch, and an evaluation afterwards."""
    rows = []
    for epoch in range(epochs):
        rows += [{"epoch": epoch, "train/loss": 2.0 - 0.2 * epoch, "train/reconstruction": 1.0}]
        rows += [{"epoch": epoch, "dev/uar": 0.2 + 0.1 * epoch, "dev/recall/anger": 0.5}]
    rows += [{"epoch": epochs, "dev/uar": 0.9, "dev/recall/anger": 0.5}]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}


def predictions(rows: range, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    n = len(rows)
    return Predictions(
        row=np.array(rows),
        corpus=np.zeros(n, np.int64),
        speaker=np.full(n, -1),
        gender=np.full(n, -1),
        code=random.normal(size=(n, 8)).astype(np.float32),
        emotion_truth=random.integers(-1, 3, n),
        dimensions_truth=np.full((n, 3), np.nan, np.float32),
        probabilities=random.dirichlet(np.ones(3), n).astype(np.float32),
    )


def lookup(rows: NDArray[np.int64]) -> dict[str, list[str | None]]:
    speakers = [None if row % 5 == 0 else f"demo/{row % 5}" for row in rows]
    return {"id": [f"{row}.wav" for row in rows], "speaker": speakers, "corpus": ["demo"] * len(rows)}


def test_confusion_matrix_shows_shares_counts_and_uar() -> None:
    figure = plots.confusion_matrix(CONFUSION, CLASSES, title="test")
    axes = figure.axes[0]
    assert axes.get_title() == "test: UAR 0.600, accuracy 0.600"
    texts = {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert len(texts) == 6  # nothing in the row of a class without utterances
    assert texts[0, 0] == "0.80\n(8)"
    assert texts[1, 2] == "0.50\n(5)"
    assert [label.get_text() for label in axes.get_xticklabels()] == CLASSES
    assert [label.get_text().split("\n")[1] for label in axes.get_yticklabels()] == ["(n = 10)", "(n = 10)", "(n = 0)"]


def test_learning_curves_show_each_epoch_of_the_training_and_mark_the_best() -> None:
    figure = plots.learning_curves(curves(), best_epoch=4)
    left, right = figure.axes
    assert legend(left) == ["loss", "reconstruction", "best epoch: 4"]
    assert legend(right) == ["UAR", "best epoch: 4"]
    uar, mark = right.lines[:2]
    np.testing.assert_allclose(points(uar), [(epoch, 0.2 + 0.1 * epoch) for epoch in range(6)])
    np.testing.assert_allclose(points(mark), [(4, 0.6)])
    np.testing.assert_allclose(points(left.lines[0]), [(epoch, 2 - 0.2 * epoch) for epoch in range(6)])


def test_learning_curves_average_the_rows_of_an_epoch() -> None:
    metrics = {"epoch": np.array([0.0, 0, 1]), "train/loss": np.array([1.0, 3, -1])}
    figure = plots.learning_curves(metrics)
    np.testing.assert_allclose(points(figure.axes[0].lines[0]), [(0, 2), (1, -1)])
    assert figure.axes[0].get_yscale() == "linear"  # a logarithm would hide the negative loss


def test_gradients_show_angle_and_norm_of_each_loss() -> None:
    cosine, ratio = np.array([0.5, np.nan, -0.25]), np.array([0.1, np.nan, 2.0])
    metrics = {
        "epoch": np.arange(3.0),
        "train/speaker": np.ones(3),
        "gradients/speaker/cosine": cosine,
        "gradients/speaker/ratio": ratio,
        "gradients/prior/cosine": np.full(3, np.nan),
    }
    figure = plots.gradients(metrics, best_epoch=2)
    left, right = figure.axes
    assert legend(left) == legend(right) == ["speaker", "best epoch: 2"]
    np.testing.assert_allclose(points(left.lines[0]), [(0, 0.5), (2, -0.25)])
    np.testing.assert_allclose(points(right.lines[0]), [(0, 0.1), (2, 2.0)])


def test_principal_components_agree_with_a_reference() -> None:
    values, _ = codes()
    points, explained = plots.principal_components(values)
    reference = PCA(2, svd_solver="full").fit(values)
    np.testing.assert_allclose(explained, reference.explained_variance_ratio_)
    np.testing.assert_allclose(np.abs(points), np.abs(reference.transform(values)), atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 4), (5, 1), (4, 4)])
def test_principal_components_of_little_or_constant_data_are_finite(shape: tuple[int, int]) -> None:
    points, explained = plots.principal_components(np.ones(shape))
    assert points.shape == (shape[0], 2)
    assert not points.any()
    assert not explained.any()


def test_latent_codes_are_coloured_once_for_each_grouping() -> None:
    values, emotion = codes()
    speaker = np.arange(60) % 20 - 1
    groups = {"emotion": (emotion, CLASSES), "speaker": (speaker, [f"demo/{i:02d}" for i in range(19)])}
    figure = plots.latent_codes(values, groups)
    left, right = figure.axes
    assert titles(figure) == "Latent codes of 60 utterances\nby emotion\nby speaker"
    assert legend(left) == CLASSES
    assert legend(right) == ["19 groups", "unknown"]
    for axes in figure.axes:
        assert sum(len(np.asarray(dots.get_offsets())) for dots in axes.collections) == 60


def test_latent_codes_of_many_utterances_are_thinned_out() -> None:
    random = np.random.default_rng(0)
    figure = plots.latent_codes(random.normal(size=(6000, 4)), {"corpus": (np.arange(6000) % 2, ["a", "b"])})
    shown = [len(np.asarray(dots.get_offsets())) for dots in figure.axes[0].collections]
    assert sum(shown) == 5000
    assert min(shown) > 2300


def test_twelve_groups_look_different() -> None:
    values, _ = codes()
    figure = plots.latent_codes(values, {"speaker": (np.arange(60) % 12, [str(i) for i in range(12)])})
    looks = {
        (np.asarray(dots.get_facecolor()).tobytes(), np.asarray(dots.get_paths()[0].vertices).tobytes())
        for dots in figure.axes[0].collections
    }
    assert len(looks) == 12


def test_reconstructions_share_scale_and_axes() -> None:
    random = np.random.default_rng(0)
    originals = [random.normal(size=(40, frames)) for frames in (100, 150)]
    figure = plots.reconstructions(originals, [image / 2 for image in originals], seconds_per_frame=0.02)
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == 4
    assert len({image.get_clim() for image in images}) == 1
    assert sorted(tuple(image.get_extent()) for image in images) == [(0, 2, 0, 40)] * 2 + [(0, 3, 0, 40)] * 2
    np.testing.assert_array_equal(images[0].get_array(), originals[0])


def test_synthetic_speech_is_named_in_every_title() -> None:
    values, emotion = codes()
    image = np.random.default_rng(0).normal(size=(1, 20, 30))
    for synthetic in (False, True):
        figures = (
            plots.confusion_matrix(CONFUSION, CLASSES, synthetic=synthetic),
            plots.learning_curves(curves(), synthetic=synthetic),
            plots.latent_codes(values, {"emotion": (emotion, CLASSES)}, synthetic=synthetic),
            plots.gradients(curves(), synthetic=synthetic),
            plots.reconstructions(image, image, synthetic=synthetic),
        )
        assert ["synthetic speech" in titles(figure) for figure in figures] == [synthetic] * 5


def test_drawing_leaves_the_settings_of_matplotlib_alone() -> None:
    before = dict(mpl.rcParams)
    plots.confusion_matrix(CONFUSION, CLASSES)
    assert dict(mpl.rcParams) == before


def test_metrics_are_read_as_lightning_writes_them(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    logger.log_metrics({"train/loss": 1.5, "epoch": 0}, step=0)
    logger.log_metrics({"dev/uar": 0.25, "epoch": 0}, step=0)
    logger.save()
    metrics = read_metrics(tmp_path / "metrics.csv")
    assert set(metrics) == {"epoch", "step", "train/loss", "dev/uar"}
    np.testing.assert_array_equal(metrics["train/loss"], [1.5, np.nan])
    np.testing.assert_array_equal(metrics["dev/uar"], [np.nan, 0.25])


def test_a_run_writes_all_figures_the_same_each_time_and_sends_them(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(2, 20, 30))
    logger = CSVLogger(tmp_path, name="", version="")
    for i, (loss, score) in enumerate([(2.0, 0.3), (1.0, 0.5)]):
        logger.log_metrics({"train/loss": loss, "dev/uar": score, "epoch": i}, step=i)
        logger.log_metrics({"gradients/prior/cosine": 0.1, "gradients/prior/ratio": 0.2, "epoch": i}, step=i)
    logger.save()
    wandb = create_autospec(WandbLogger, instance=True)
    written = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        written += write_figures(
            folder,
            predictions={"dev": predictions(range(30)), "test": predictions(range(30, 70), seed=1)},
            classes=CLASSES,
            lookup=lookup,
            metrics_csv=tmp_path / "metrics.csv",
            best_epoch=1,
            reconstructions=(image, image / 2),
            synthetic=True,
            loggers=[logger, wandb],
        )
    names = ["confusion_dev", "confusion_test", "latent_codes", "learning_curves", "gradients", "reconstructions"]
    assert [path.stem for path in written] == names * 2
    for one, two in zip(written[:6], written[6:], strict=True):
        assert one.read_bytes() == two.read_bytes()
        pixels = imread(one)
        assert min(pixels.shape[:2]) > 500
        assert pixels[..., :3].std() > 0.05
    sent = [call.args for call in wandb.log_image.call_args_list[:6]]
    assert sent == [(f"figures/{path.stem}", [str(path)]) for path in written[:6]]


def test_a_run_without_emotions_decoder_or_metrics_writes_what_it_can(tmp_path: Path) -> None:
    of_test = predictions(range(10))
    without = Predictions(**{**vars(of_test), "probabilities": None, "emotion_truth": np.full(10, -1)})
    written = write_figures(tmp_path / "figures", predictions={"test": without}, classes=[], lookup=lookup)
    assert [path.name for path in written] == ["latent_codes.png"]
