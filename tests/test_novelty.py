"""Novelty: the distance, the statistics, and their file."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from datamodules.errors import InputError
from experiments.novelty import FILE, MOST, SHRINKAGE, Novelty, evenly, fit, read, write

RNG = np.random.default_rng(0)
CENTRES = np.array([[0.0, 0, 0], [8, 0, 0]])


def codes(utterances: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    emotion = rng.integers(0, 2, utterances)
    return CENTRES[emotion] + rng.normal(0, [1, 0.2, 2], (utterances, 3)), emotion


def test_the_distance_is_mahalanobis_to_the_nearest_class() -> None:
    code, emotion = codes(500)
    found = fit(code, emotion, code)
    within = np.concatenate([code[emotion == one] - code[emotion == one].mean(axis=0) for one in (0, 1)])
    covariance = within.T @ within / len(within)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / 3 * np.eye(3)
    for one in (code[0], np.array([4.0, 1, -3])):
        apart = [one - code[emotion == index].mean(axis=0) for index in (0, 1)]
        expected = min(difference @ np.linalg.solve(covariance, difference) for difference in apart)
        assert found.distance(one[None])[0] == pytest.approx(expected)


def test_the_score_is_the_share_of_development_utterances_that_are_nearer() -> None:
    code, emotion = codes(500)
    found = fit(code, emotion, codes(300, seed=1)[0])
    fresh = found.score(codes(2000, seed=2)[0])
    assert 0.45 < fresh.mean() < 0.55
    assert found.score(np.array([[4.0, 0, 0], [0, 5, 0]])).tolist() == pytest.approx([1, 1], abs=0.02)
    assert found.score(CENTRES).max() < 0.02


def test_utterances_without_a_class_count_only_where_there_are_no_classes() -> None:
    code, emotion = codes(100)
    some = fit(np.concatenate([code, np.full((5, 3), 99.0)]), np.concatenate([emotion, np.full(5, -1)]), code)
    assert some.means == pytest.approx(fit(code, emotion, code).means)
    assert fit(code, np.full(100, -1), code).means == pytest.approx(code.mean(axis=0)[None])


def test_a_code_without_variance_in_a_direction_has_a_distance() -> None:
    code, emotion = codes(100)
    code[:, 1] = 3
    assert np.isfinite(fit(code, emotion, code).distance(code)).all()


def test_the_size_does_not_grow_with_the_data() -> None:
    assert evenly(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert evenly(10**9, 3).tolist() == [0, 500_000_000, 10**9 - 1]
    code, emotion = codes(200)
    assert len(fit(code, emotion, codes(5 * MOST)[0]).distances) == MOST


def test_what_is_written_is_read_and_damage_is_told(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    code, emotion = codes(50)
    found = fit(code, emotion, code)
    write(tmp_path, found)
    again = read(tmp_path)
    assert again is not None
    assert (again.score(code) == found.score(code)).all()
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path)
    for other in (
        {"means": found.means},
        {"means": found.means[:, :2].copy(), "precision": found.precision, "distances": found.distances},
        {"means": found.means, "precision": found.precision, "distances": np.empty(0)},
    ):
        save_file(other, tmp_path / FILE)
        with pytest.raises(InputError, match="cannot be read"):
            read(tmp_path)


def test_nothing_is_as_far_as_the_farthest_development_utterance() -> None:
    one = Novelty(np.zeros((1, 1)), np.eye(1), np.array([1.0, 4.0]))
    assert one.score(np.array([[0.5], [1.5], [3.0]])).tolist() == [0, 0.5, 1]
