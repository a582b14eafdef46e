import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ctd_models.data.augmentations import (
    CoordinatedDropout,
    SelectiveBackprop,
    SpikeJitter,
    TemporalShift,
    augment,
    held_out_mask,
    hold_out_samples,
    mask_missing,
)
from ctd_models.data.spike_trials import SpikeTrials

KEY, OTHER_KEY = (jax.random.key(seed, impl="unsafe_rbg") for seed in (0, 1))  # compiles faster than the default
TIME, STEPS, READ, NEURONS = 12, 16, 3, 5
ALL = (CoordinatedDropout(0.3, 0.2), SelectiveBackprop(0.5), TemporalShift(3), SpikeJitter(2))


def trials_of(targets, **given):
    """Trials whose inputs are the first neurons and bins of the targets, as floats."""
    targets = jnp.asarray(targets)
    return SpikeTrials(targets[:, :TIME, :READ].astype(jnp.float32), targets, **given)


def poisson_trials(num_trials=6, rate=0.8, **given):
    return trials_of(np.random.default_rng(0).poisson(rate, (num_trials, STEPS, NEURONS)), **given)


def full_mask(trials):
    return np.broadcast_to(1.0 if trials.mask is None else trials.mask, trials.targets.shape)


@functools.partial(jax.jit, static_argnums=0)
def apply(augmentation, key, trials):
    return augmentation(key, trials)


def over_keys(augmentation, trials, count=2000):
    return jax.jit(jax.vmap(lambda key: augmentation(key, trials)))(jax.random.split(KEY, count))


# what holds for all of them


@pytest.mark.parametrize("augmentation", [*ALL, TemporalShift(3, per_neuron=True)], ids=repr)
def test_the_key_decides_and_the_rest_is_left_alone(augmentation):
    trials = poisson_trials(labels=np.arange(6), lengths=np.asarray([16, 15, 12, 9, 4, 16]))
    found, again = apply(augmentation, KEY, trials), apply(augmentation, KEY, trials)
    jax.tree.map(np.testing.assert_array_equal, found, again)
    other = apply(augmentation, OTHER_KEY, trials)
    different = [(np.asarray(a) != np.asarray(b)).any() for a, b in zip(found, other, strict=True)]
    assert any(different)
    np.testing.assert_array_equal(found.labels, trials.labels)
    np.testing.assert_array_equal(found.lengths, trials.lengths)
    assert found.inputs.shape == trials.inputs.shape and found.targets.shape == trials.targets.shape
    assert found.targets.dtype == trials.targets.dtype


def test_compiled_is_eager():
    trials, key = poisson_trials(), jax.random.key(0)
    augmentation = SelectiveBackprop(0.5)
    jax.tree.map(np.testing.assert_array_equal, augmentation(key, trials), apply(augmentation, key, trials))


def test_each_augmentation_has_a_key_of_its_own():
    """Both shifts of the chain are seen, so that they are not the same twice: shifts of ±1 sum to ±1 too."""
    bins = np.broadcast_to(np.arange(1, STEPS + 1)[:, None], (1, STEPS, 1))
    trials = SpikeTrials(jnp.asarray(bins), jnp.asarray(bins))
    found = over_keys(lambda key, trials: augment((TemporalShift(1), TemporalShift(1)), key, trials), trials, 200)
    assert set(np.unique(8 - np.asarray(found.targets[:, 0, 7, 0]))) == {-2, -1, 0, 1, 2}


@pytest.mark.parametrize(
    "order",
    [
        ALL,
        ALL[::-1],
        pytest.param((ALL[2], ALL[0], ALL[3], ALL[1]), marks=pytest.mark.slow),
        pytest.param((ALL[3], ALL[0], ALL[2], ALL[1]), marks=pytest.mark.slow),
    ],
    ids=["forwards", "backwards", "shift first", "jitter first"],
)
def test_nothing_leaks(order):
    """Whatever is not to be seen may have any value: neither what is read nor what counts depends on it."""
    lengths = jnp.asarray([16, 15, 12, 9, 4, 16])
    original = poisson_trials(lengths=lengths)
    removed = np.asarray(held_out_mask(original, 0.3, KEY)) > 0
    padding = np.arange(STEPS)[None, :, None] >= np.asarray(lengths)[:, None, None]
    unread = np.ones(original.targets.shape, bool)
    unread[:, :TIME, :READ] = False

    @jax.jit
    def seen(targets):
        trials = hold_out_samples(trials_of(targets, lengths=lengths), 0.3, KEY)
        return augment(order, OTHER_KEY, trials)

    expected = seen(original.targets)
    mask = full_mask(expected)
    assert (mask > 0).any() and (mask[np.broadcast_to(padding, mask.shape)] == 0).all()
    changed = seen(jnp.where(removed | padding, original.targets + 3, original.targets))
    np.testing.assert_array_equal(full_mask(changed), mask)
    np.testing.assert_allclose(changed.targets * mask, expected.targets * mask, rtol=1e-6)
    padded = padding[:, :TIME]
    np.testing.assert_allclose(jnp.where(padded, 0, changed.inputs), jnp.where(padded, 0, expected.inputs), rtol=1e-6)
    changed = seen(jnp.where(unread, original.targets + 3, original.targets))
    np.testing.assert_allclose(changed.inputs, expected.inputs, rtol=1e-6)


# coordinated dropout


@pytest.mark.parametrize("num_initial", [0, 4])
def test_what_counts_is_what_is_hidden_in_every_bin(num_initial):
    """A network that copies its input has nothing to gain: the gradient of its gain is 0. With a mask that is shifted
    by the bins from which the initial condition is read, it is not."""
    trials = trials_of(1 + np.random.default_rng(0).poisson(1.0, (50, STEPS, NEURONS)))
    found = apply(CoordinatedDropout(0.4), KEY, trials)
    mask = np.asarray(found.mask)[:, :TIME, :READ]
    np.testing.assert_array_equal(mask > 0, np.asarray(found.inputs) == 0)
    later = slice(num_initial, None)

    def error(gain, mask):
        difference = gain * found.inputs[:, later] - found.targets[:, later][:, : TIME - num_initial, :READ]
        return (mask * difference**2).sum()

    assert jax.grad(error)(0.5, mask[:, later]) == 0
    if num_initial:
        assert abs(jax.grad(error)(0.5, mask[:, :-num_initial])) > 100


@pytest.mark.parametrize("pass_rate", [0.0, 0.25])
def test_coordinated_dropout_is_right_on_average(pass_rate):
    trials = poisson_trials(2, 2.0)
    found = over_keys(CoordinatedDropout(0.3, pass_rate), trials)
    counts = 0.3 + 0.7 * pass_rate
    error = 5 * np.sqrt((1 / counts - 1) / 2000)
    np.testing.assert_allclose(found.mask[..., :TIME, :READ].mean(axis=0), 1, atol=error)
    np.testing.assert_allclose(np.unique(found.mask[..., :TIME, :READ]), [0, 1 / counts], rtol=1e-6)
    assert (found.mask[:, :, TIME:] == 1).all() and (found.mask[..., READ:] == 1).all()
    error = 5 * np.sqrt(0.3 / 0.7 / 2000)
    np.testing.assert_allclose(found.inputs.mean(axis=0), trials.inputs, atol=error * float(trials.inputs.max()))
    read = trials.inputs > 0
    passed = (found.mask[:, :, :TIME, :READ] > 0) & (found.inputs > 0)
    np.testing.assert_allclose(passed[:, read].mean(), 0.7 * pass_rate, atol=0.01)


def test_inputs_of_the_initial_condition_stay_and_do_not_count():
    trials = poisson_trials(mask=jnp.full((1, 1, 1), 2.0))
    found = apply(CoordinatedDropout(0.4, 0.5, first_bin=4), KEY, trials)
    np.testing.assert_array_equal(found.inputs[:, :4], trials.inputs[:, :4])
    assert (found.mask[:, :4, :READ] == 0).all() and (found.mask[..., READ:] == 2).all()
    np.testing.assert_allclose(np.unique(found.mask[:, 4:TIME, :READ]), [0, 2 / 0.7], rtol=1e-6)
    assert (found.inputs[:, 4:] != trials.inputs[:, 4:]).any()


def test_without_dropout_nothing_is_done():
    trials = poisson_trials()
    assert CoordinatedDropout(0.0)(KEY, trials) is trials


@pytest.mark.parametrize("shape", [(6, STEPS, NEURONS), (1, STEPS, 1), (6, 1, 1), (1, 1, NEURONS)])
@pytest.mark.parametrize("augmentation", [CoordinatedDropout(0.4), SelectiveBackprop(0.5, "bin")], ids=repr)
def test_an_existing_mask_is_multiplied_and_padding_is_0(augmentation, shape):
    mask = jnp.asarray(np.random.default_rng(0).uniform(size=shape))
    lengths = np.asarray([16, 15, 12, 9, 4, 1])
    alone = full_mask(apply(augmentation, KEY, poisson_trials()))
    found = full_mask(apply(augmentation, KEY, poisson_trials(mask=mask, lengths=lengths)))
    real = np.arange(STEPS)[:, None] < lengths[:, None, None]
    np.testing.assert_allclose(found, alone * mask * real, rtol=1e-6)


# selective backpropagation


@pytest.mark.parametrize(("per", "axis"), [("sample", None), ("bin", 2), ("neuron", 1)])
def test_a_share_of_the_targets_counts(per, axis):
    trials = poisson_trials(2)
    found = over_keys(SelectiveBackprop(0.4, per), trials)
    mask = np.broadcast_to(found.mask, (2000, *trials.targets.shape))
    np.testing.assert_allclose(np.unique(mask), [0, 2.5])
    np.testing.assert_allclose(mask.mean(axis=0), 1, atol=5 * np.sqrt((2.5 - 1) / 2000))
    if axis is not None:
        assert (np.ptp(mask, axis=axis + 1) == 0).all()
    np.testing.assert_array_equal(found.inputs[0], trials.inputs)


def test_missing_values_do_not_count():
    values = np.random.default_rng(0).normal(size=(2, STEPS, NEURONS))
    values[0, 3, 1] = values[1, 14, 4] = np.nan
    found = mask_missing(trials_of(values, external_inputs=values[..., :1] * np.nan, mask=jnp.full((1, 1, 1), 2.0)))
    missing = np.isnan(values)
    np.testing.assert_array_equal(found.mask, np.where(missing, 0.0, 2.0))
    np.testing.assert_allclose(found.targets, np.where(missing, 0.0, values), rtol=1e-6)
    np.testing.assert_allclose(found.inputs, np.where(missing, 0.0, values)[:, :TIME, :READ], rtol=1e-6)
    assert (found.external_inputs == 0).all()


# temporal shift


@pytest.mark.parametrize("per_neuron", [False, True])
def test_every_value_moves_by_the_shift_of_its_trial(per_neuron):
    """Values tell the bin they come from, so that shifts can be read from them."""
    lengths = np.repeat([16, 13, 9], 50)
    bins = np.broadcast_to(np.arange(1, STEPS + 1)[:, None], (150, STEPS, NEURONS))
    mask, external = jnp.asarray(bins, jnp.float32), jnp.asarray(bins[..., :2], jnp.float32)
    trials = trials_of(bins, mask=mask, external_inputs=external, lengths=lengths)
    found = apply(TemporalShift(4, per_neuron), KEY, trials)
    end = lengths[:, None, None]
    now = np.arange(STEPS)[:, None]
    counted = np.asarray(found.mask) > 0
    shifts = np.where(counted, now + 1 - np.asarray(found.targets), 99)
    shifts = shifts.min(axis=1, keepdims=True)
    assert set(np.unique(shifts)) == set(range(-4, 5))
    assert (np.ptp(shifts, axis=2) > 0).any() == per_neuron
    source = now - shifts
    inside = (source >= 0) & (source < end) & (now < end)
    np.testing.assert_array_equal(counted, inside)
    np.testing.assert_array_equal(found.targets, np.where(inside, source + 1, np.where(now < end, 0, bins)))
    np.testing.assert_array_equal(found.mask, np.where(inside, source + 1, 0))
    source, inside, now = source[:, :TIME, :READ], inside[:, :TIME, :READ], now[:TIME]
    padding = np.where(now < end, 0, bins[:, :TIME, :READ])
    np.testing.assert_array_equal(found.inputs, np.where(inside & (source < TIME), source + 1, padding))
    if per_neuron:
        np.testing.assert_array_equal(found.external_inputs, trials.external_inputs)
    else:
        now = np.arange(STEPS)[:, None]
        moved = np.clip(now - shifts[..., :1], 0, end - 1) + 1
        np.testing.assert_array_equal(found.external_inputs, np.where(now < end, moved, now + 1) * np.ones(2))


def test_shifts_are_uniform():
    bins = np.broadcast_to(np.arange(1, STEPS + 1)[:, None], (1, STEPS, NEURONS))
    found = over_keys(TemporalShift(2), trials_of(bins))
    counts = np.bincount(8 - np.asarray(found.targets)[:, 0, 7, 0] + 2)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert len(counts) == 5


# jitter


def displacements(width, position, count=20_000):
    """Where a single spike of bin `position` of STEPS bins goes, as counts of the bins."""
    targets = jnp.zeros((count, STEPS, 1)).at[:, position].set(1)
    return np.asarray(apply(SpikeJitter(width), KEY, SpikeTrials(targets, targets)).targets.sum(axis=0))[:, 0]


@pytest.mark.parametrize(("width", "position"), [(3, 8), (3, 0), (3, 14), (40, 5)])
def test_a_spike_goes_anywhere_in_its_reach_reflected_at_the_ends(width, position):
    expected = np.zeros(STEPS)
    for move in range(-width, width + 1):
        place = position + move
        while not 0 <= place < STEPS:
            place = -1 - place if place < 0 else 2 * STEPS - 1 - place
        expected[place] += 20_000 / (2 * width + 1)
    found = displacements(width, position)
    np.testing.assert_array_equal(found[expected == 0], 0)
    assert stats.chisquare(found[expected > 0], expected[expected > 0]).pvalue > 1e-3


def test_spikes_of_a_bin_and_of_neurons_move_independently():
    targets = jnp.zeros((20_000, STEPS, 2)).at[:, 8].set(2)
    found = np.asarray(apply(SpikeJitter(1), KEY, SpikeTrials(targets, targets)).targets)
    pairs = {(0, 2): 1, (1, 1): 2, (2, 0): 1}  # (left, right) of both spikes, given that none stays
    for neuron in range(2):
        counts = [(found[:, [7, 9], neuron] == pair).all(axis=1).sum() for pair in pairs]
        expected = 20_000 / 9 * np.asarray([*pairs.values()])
        np.testing.assert_allclose(counts, expected, atol=5 * np.sqrt(20_000 / 4.5))
    left = (found[:, 7] == 2).mean(axis=0)
    both = (found[:, 7] == 2).all(axis=1).mean()
    np.testing.assert_allclose(both, left.prod(), atol=5 * np.sqrt(left.prod() / 20_000))


def test_a_constant_rate_stays_constant():
    trials = trials_of(np.ones((1, STEPS, NEURONS)), lengths=np.asarray([14]))
    mean = over_keys(SpikeJitter(5), trials).targets.mean(axis=0)
    np.testing.assert_allclose(mean, 1, atol=5 / np.sqrt(2000))


LENGTHS = np.asarray([16, 15, 12, 9, 4, 1])


def jittered(trials):
    """One program for all: the mask and the lengths are given where they change nothing."""
    mask = jnp.asarray(full_mask(trials), jnp.float32)
    inputs = jnp.asarray(trials.inputs, jnp.float32)
    lengths = np.full(6, STEPS) if trials.lengths is None else trials.lengths
    return apply(SpikeJitter(3, max_count=3), KEY, trials._replace(inputs=inputs, mask=mask, lengths=lengths))


@pytest.mark.parametrize("scale", [1.0, 1 / (1 - 0.3)])
@pytest.mark.parametrize("rate", [0.8, 3.0])
def test_counts_are_conserved_and_alike_in_inputs_and_targets(scale, rate):
    trials = poisson_trials(rate=rate, lengths=LENGTHS)
    trials = trials._replace(inputs=trials.inputs * scale)
    found = jittered(trials)
    assert (found.targets != trials.targets).mean() > 0.2
    np.testing.assert_array_equal(found.targets.sum(axis=1), trials.targets.sum(axis=1))
    np.testing.assert_allclose(found.inputs, found.targets[:, :TIME, :READ] * scale, rtol=1e-5)
    np.testing.assert_allclose(found.inputs.sum(axis=1), trials.inputs.sum(axis=1), rtol=1e-5)
    padding = np.broadcast_to(np.arange(STEPS)[:, None] >= LENGTHS[:, None, None], found.targets.shape)
    np.testing.assert_array_equal(found.targets[padding], trials.targets[padding])
    # spikes that are only to be predicted stay among these
    np.testing.assert_array_equal(found.targets[:, TIME:].sum(axis=1), trials.targets[:, TIME:].sum(axis=1))


def test_inputs_that_differ_from_the_targets_keep_their_sum():
    trials = poisson_trials(rate=1.5)
    inputs = np.random.default_rng(1).poisson(1.5, trials.inputs.shape)
    found = jittered(trials._replace(inputs=inputs))
    assert (found.inputs != inputs).any()
    np.testing.assert_allclose(found.inputs.sum(axis=1), inputs.sum(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(found.targets, jittered(trials).targets)


def test_spikes_above_the_bound_stay():
    targets = np.zeros((6, STEPS, NEURONS), np.int32)
    targets[:, 6] = 5
    assert jittered(trials_of(targets)).targets[:, 6].min() == 2
    assert SpikeJitter(2, max_count=3).share_at_rest(targets) == pytest.approx(0.4)
    assert SpikeJitter(2, max_count=5).share_at_rest(targets) == 0


def test_no_spike_enters_or_leaves_what_does_not_count():
    trials = poisson_trials(rate=1.5)
    mask = np.random.default_rng(0).integers(0, 2, trials.targets.shape)
    found = jittered(trials._replace(mask=mask))
    np.testing.assert_array_equal(found.targets[mask == 0], trials.targets[mask == 0])
    assert (found.targets != trials.targets).any()
    np.testing.assert_array_equal(found.targets.sum(axis=1), trials.targets.sum(axis=1))


# sample validation


def test_samples_are_held_out_once_and_can_be_scored():
    trials = poisson_trials(400, 2.0, lengths=np.tile([16, 10], 200))
    training = hold_out_samples(trials, 0.2, KEY)
    scored = np.asarray(held_out_mask(trials, 0.2, KEY))
    real = np.broadcast_to(np.arange(STEPS)[:, None] < np.asarray(trials.lengths)[:, None, None], scored.shape)
    np.testing.assert_array_equal(training.mask + scored, real)
    assert (scored[:, TIME:] == 0).all() and (scored[..., READ:] == 0).all()
    chance = scored[:, :10, :READ].mean()
    assert chance == pytest.approx(0.2, abs=5 * np.sqrt(0.16 / (400 * 30)))
    removed = scored[:, :TIME, :READ] > 0
    expected = np.where(removed, 0, trials.inputs / np.float32(0.8))
    np.testing.assert_allclose(training.inputs[:, :10], expected[:, :10], rtol=1e-6)
    np.testing.assert_array_equal(training.targets, trials.targets)
    assert (held_out_mask(trials, 0.2, OTHER_KEY) != scored).any()


def test_a_sample_held_out_is_never_a_target_of_coordinated_dropout():
    trials = poisson_trials(20)
    removed = np.asarray(held_out_mask(trials, 0.2, KEY)) > 0
    found = over_keys(CoordinatedDropout(0.5, 0.3), hold_out_samples(trials, 0.2, KEY), 50)
    assert (found.mask[:, removed] == 0).all()
    assert (found.inputs[:, removed[:, :TIME, :READ]] == 0).all()
    assert (found.mask[:, ~removed] > 0).any(axis=0).all()


# what is refused


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: CoordinatedDropout(1.0), ValueError, "rate must lie in 0 ≤ rate < 1, got 1.0"),
        (lambda: CoordinatedDropout(-0.1), ValueError, "got -0.1"),
        (lambda: CoordinatedDropout(float("nan")), ValueError, "got nan"),
        (lambda: CoordinatedDropout(0.3, 1.5), ValueError, "pass_rate must lie in .* got 1.5"),
        (lambda: SelectiveBackprop(0.0), ValueError, "keep_rate must lie in"),
        (lambda: SelectiveBackprop(0.5, "trial"), Exception, "trial"),
        (lambda: TemporalShift(-1), ValueError, "max_shift must be 0 or more, got -1"),
        (lambda: TemporalShift(1.5), Exception, r"1\.5"),
        (lambda: SpikeJitter(-1), ValueError, "width must be 0 or more"),
        (lambda: SpikeJitter(1, max_count=0), ValueError, "max_count must be 1 or more"),
        (lambda: SpikeJitter(2000), ValueError, "width must be at most 1000 bins"),
        (lambda: hold_out_samples(poisson_trials(), 0.0, KEY), ValueError, "rate must lie in 0 < rate < 1"),
        (lambda: held_out_mask(poisson_trials(), 1.0, KEY), ValueError, "rate must lie in 0 < rate < 1"),
        (lambda: TemporalShift(16)(KEY, poisson_trials()), ValueError, "trials have 16 bins"),
    ],
)
def test_bad_values_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("augmentation", ALL, ids=repr)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": np.zeros((6, STEPS + 1, READ))}, r"got inputs of shape \(6, 17, 3\)"),
        ({"inputs": np.zeros((6, STEPS, NEURONS + 1))}, r"got inputs of shape \(6, 16, 6\)"),
        ({"inputs": np.zeros((5, TIME, READ))}, r"got inputs of shape \(5, 12, 3\)"),
        ({"inputs": np.zeros((6, TIME))}, r"got inputs of shape \(6, 12\)"),
        ({"mask": np.ones((6, STEPS, 2))}, r"expected a mask of shape \(6, 16, 5\), .* got \(6, 16, 2\)"),
        ({"mask": np.ones((6, STEPS))}, "expected a mask"),
    ],
)
def test_trials_that_do_not_fit_are_refused(augmentation, change, message):
    with pytest.raises(ValueError, match=message):
        augmentation(KEY, poisson_trials()._replace(**change))
