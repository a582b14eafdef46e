"""Sequences and their answers, against Python's own lists."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.tasks import Addition, CopySequence, ReverseSequence, SortSequence, TwoBoxes, length_mask

KEY = jax.random.key(0)


def words(tokens, lengths):
    return [list(map(int, row[:length])) for row, length in zip(np.asarray(tokens), np.asarray(lengths), strict=True)]


@pytest.mark.parametrize(
    ("kind", "answer"), [(CopySequence, list), (ReverseSequence, lambda s: s[::-1]), (SortSequence, sorted)]
)
def test_answers_to_symbols(kind, answer):
    task = kind(num_symbols=12, shortest=2, longest=6, size=9)
    pairs = jax.jit(task.sample, static_argnums=1)(KEY, 300)
    assert pairs.inputs.shape == (300, 9) and pairs.targets.shape == (300, 10) and task.vocabulary_size == 15
    given, answers = words(pairs.inputs, pairs.input_lengths), words(pairs.targets, pairs.target_lengths)
    assert all(said == [*answer(symbols), 2] for symbols, said in zip(given, answers, strict=True))
    assert {len(symbols) for symbols in given} == {2, 3, 4, 5, 6}
    assert {token for symbols in given for token in symbols} == set(range(3, 15))
    assert not np.where(length_mask(pairs.input_lengths, 9), 0, pairs.inputs).any()
    assert not np.where(length_mask(pairs.target_lengths, 10), 0, pairs.targets).any()


def test_sums_in_digits():
    task = Addition(num_digits=3, size=4)
    pairs = jax.jit(task.sample, static_argnums=1)(KEY, 500)
    assert pairs.inputs.shape == (500, 9) and pairs.targets.shape == (500, 6)

    def read(tokens):
        return "".join("0123456789+"[token - 3] for token in tokens)

    texts = [read(row) for row in words(pairs.inputs, pairs.input_lengths)]
    answers = words(pairs.targets, pairs.target_lengths)
    assert all(row[-1] == 2 for row in answers)
    numbers = [text.split("+") for text in texts]
    assert all(str(int(a)) == a and str(int(b)) == b for a, b in numbers)  # no zeros in front
    assert all(str(int(a) + int(b)) == read(row[:-1]) for (a, b), row in zip(numbers, answers, strict=True))
    digits = np.array([len(a) for a, _ in numbers])
    np.testing.assert_allclose([(digits == k).mean() for k in (1, 2, 3)], 1 / 3, atol=0.07)
    edges = task.pairs(np.array([0, 9999, 1000]), np.array([0, 9999, 9]))
    assert [read(row[:-1]) for row in words(edges.targets, edges.target_lengths)] == ["0", "19998", "1009"]


def test_two_boxes_change_places_where_the_higher_one_comes_first():
    task = TwoBoxes(num_steps=40, widths=(3, 8))
    pairs = jax.jit(task.sample, static_argnums=1)(KEY, 200)
    for given, wanted in zip(np.asarray(pairs.inputs[..., 0]), np.asarray(pairs.targets[..., 0]), strict=True):
        heights, counts = np.unique(given[given > 0], return_counts=True)  # rising
        assert len(heights) == 2 and counts.min() >= 3 and counts.max() <= 8 and heights[0] >= 0.2 and heights[1] <= 1
        np.testing.assert_array_equal(np.unique(wanted[wanted > 0], return_counts=True)[1], counts)
        starts = np.flatnonzero((given > 0) & (np.r_[0, given[:-1]] != given))
        order = [given[place] for place in starts]
        np.testing.assert_array_equal(wanted[starts], sorted(order))
        ends = [place + counts[k] for k, place in enumerate(starts)]
        assert all(
            (wanted[place:end] == heights[k]).all() for k, (place, end) in enumerate(zip(starts, ends, strict=True))
        )
    assert (np.asarray(pairs.inputs) != np.asarray(pairs.targets)).any(axis=(1, 2)).mean() == pytest.approx(
        0.5, abs=0.1
    )


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: CopySequence(num_symbols=1), "num_symbols must be at least 2"),
        (lambda: CopySequence(shortest=0), "1 ≤ shortest ≤ longest"),
        (lambda: CopySequence(size=10), "longest sequence, 20 symbols"),
        (lambda: CopySequence(longest=4).pairs(jnp.zeros((2, 5), int), jnp.ones(2, int)), "symbols .B, 4."),
        (lambda: CopySequence(longest=4).pairs(jnp.zeros((2, 4), int), jnp.array([1, 0])), "lengths .* got 0 at index"),
        (
            lambda: SortSequence(5, longest=2).pairs(jnp.full((1, 2), 5), jnp.ones(1, int)),
            "symbols must lie in 0 … 4, got 5",
        ),
        (lambda: Addition(num_digits=0), "1 ≤ fewest_digits"),
        (lambda: Addition(num_digits=3, size=2), "size must lie in 3"),
        (lambda: Addition().pairs(np.array([1000]), np.array([1])), "first must lie in 0 … 999, got 1000 at index"),
        (lambda: Addition().pairs(np.ones(2), np.ones(2)), "whole numbers"),
        (lambda: TwoBoxes(num_steps=30), "do not fit into 30"),
        (lambda: TwoBoxes(widths=(0, 3)), "widths must be two positive"),
        (lambda: TwoBoxes(heights=(1.0, 0.5)), "heights must be two positive"),
    ],
)
def test_bad_arguments(act, message):
    with pytest.raises(ValueError, match=message):
        act()
