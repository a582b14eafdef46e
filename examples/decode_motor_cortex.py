"""A GRU decodes force from the spikes of motor cortex, and holds it at fixed points.

Trains a causal decoder and compares it with ridge regression on smoothed spikes by cross-validation. Then loads the
checkpoint and finds the fixed points of the network at the mean input of each target direction: where the decoded force
settles while the neurons keep firing at their mean rates of the hold.
"""

import dataclasses
from pathlib import Path

import _common as common
import tyro


@dataclasses.dataclass
class Settings:
    data: str = "adan_day0.h5"
    """HDF5 file of the recording: a path, or a name in the folder of data ($CTD_DATA)."""
    out: Path = Path("results/decode_motor_cortex")
    """Folder for results, figures and checkpoints; a run that was interrupted continues."""
    lag: int = 1
    """Force at the start of bin t is decoded from spikes up to bin t − lag. 1 is causal: bin t only begins there."""
    hold_start: float = 0.5
    """Time after the event [s] from which inputs are averaged for the fixed points."""
    hidden_size: int = 64
    """Units of the GRU."""
    num_steps: int = 1_000
    """Training steps of each network."""
    seed: int = 0
    """Seed of everything random."""
    quick: bool = False
    """A short run of the same code: fewer steps, one fold."""


def main(settings: Settings) -> dict[str, float]:
    import jax
    import numpy as np
    import optax

    from ctd_models import GRUCell, Trainer, load_checkpoint
    from ctd_models.analysis.decoding import fit_smoothed_decoder
    from ctd_models.analysis.metrics import r2_score
    from ctd_models.configuration import deterministic
    from ctd_models.data import TEST, TRAIN, VALIDATION, load_recording
    from ctd_models.models.decoder import Decoder, with_statistics
    from ctd_models.plots.decoding import plot_decoding, plot_scores
    from ctd_models.tasks import Trials
    from ctd_models.training import mean_squared_error

    common.remember(settings)
    num_steps = 200 if settings.quick else settings.num_steps
    recording = load_recording(common.find_data(settings.data), {"force": 2}, require=("condition", "target_xy"))
    spikes, force = recording.spikes, recording.behavior["force"]
    train, validation, test = (recording.part(number) for number in (TRAIN, VALIDATION, TEST))
    key, rng = jax.random.key(settings.seed), np.random.default_rng(settings.seed)

    # Spikes up to bin t − lag tell the force at the start of bin t, from the fifth bin on (earlier ones lack a past)
    lag, first = settings.lag, max(4, settings.lag)
    mask = np.tile(np.arange(lag, spikes.shape[1])[:, None] >= first, (len(spikes), 1, 1))
    trials = Trials(spikes[:, : mask.shape[1]].astype(np.float32), force[:, lag:].astype(np.float32), mask)

    # A GRU with dropout, the best on validation trials
    model = Decoder(GRUCell(settings.hidden_size), 2, input_dropout=0.5, output_dropout=0.3)
    rate = optax.warmup_cosine_decay_schedule(0.0, 0.01, num_steps // 20, num_steps)
    optimizer, batch_size = optax.adamw(rate, weight_decay=0.01), min(32, len(train), len(validation))
    trainer = Trainer(model, mean_squared_error(model), optimizer, batch_size, validate_every=50)
    initialize, run = jax.jit(model.init), jax.jit(deterministic(model).apply)

    def decode(train, validation, checkpoints):
        """Force of all trials, by the GRU and by ridge regression on smoothed spikes (which is not causal)."""
        data, checks = (Trials(*(array[chosen] for array in trials)) for chosen in (train, validation))
        start = with_statistics(initialize(key, data.inputs[:1]), data.inputs, data.targets)
        trainer.fit(data, num_steps, key, checkpoint_dir=checkpoints, variables=start, validation=checks)
        outputs = run(load_checkpoint(checkpoints, "best")[1], trials.inputs).outputs
        baseline = fit_smoothed_decoder(spikes, force, train, validation, first_bin=first)
        return np.asarray(outputs)[:, first - lag :], baseline.predict(spikes)

    # The split of the file. Spikes of other trials tell what the network knows without those of the trial.
    measured = force[:, first:]
    decoded, smoothed = decode(train, validation, settings.out / "checkpoints")
    results = {
        "test_r2_force": r2_score(measured[test], decoded[test]),
        "baseline_r2_smoothed": r2_score(measured[test], smoothed[test]),
        "control_r2_spikes_of_other_trials": r2_score(measured[test], decoded[rng.permutation(test)]),
    }

    # Cross-validation: each fold is the test set once, validation trials are drawn from the others
    fold = np.arange(len(force)) % 5 if recording.fold is None else recording.fold
    size = len(fold) - np.bincount(fold).max() - len(validation)  # the same for all folds, so that nothing recompiles
    scores = {"GRU, causal": [], "smoothed spikes": []}
    for k in np.unique(fold)[: 1 if settings.quick else None]:
        others = rng.permutation(np.flatnonzero(fold != k))
        predictions = decode(others[:size], others[size:], settings.out / "cross_validation" / f"fold_{k}")
        for values, prediction in zip(scores.values(), predictions, strict=True):
            values.append(r2_score(measured[fold == k], prediction[fold == k]))
    for name, values in zip(("cv_r2", "cv_baseline_r2"), scores.values(), strict=True):
        results |= {f"{name}_mean": np.mean(values), f"{name}_sd": np.std(values)}
        results |= {f"{name}_fold_{k}": value for k, value in enumerate(values)}

    results |= fixed_points_of_hold(recording, trials.inputs, settings)
    shown = measured[test], decoded[test], recording.time_s[first:], recording.condition[test]
    figure = plot_decoding(*shown, recording.target_xy[test], f"force ({recording.units['force']})")
    common.save_figure(figure, settings.out, "decoded_force")
    common.save_figure(plot_scores(scores, "R² of force in the held-out fold").figure, settings.out, "cross_validation")
    common.write_results(settings.out, results)
    return results


def fixed_points_of_hold(recording, inputs, settings) -> dict[str, float]:
    """Fixed points at each direction's mean input during the hold, and the force that is read out there."""
    import numpy as np

    from ctd_models import load_checkpoint, step_function
    from ctd_models.analysis import find_fixed_points, linearize
    from ctd_models.analysis.conditions import condition_candidates, condition_means
    from ctd_models.analysis.metrics import angle_between
    from ctd_models.analysis.orbits.simulation import settle
    from ctd_models.configuration import deterministic
    from ctd_models.plots.decoding import plot_readouts_and_modes

    model, variables = load_checkpoint(settings.out / "checkpoints", "best")
    model, rng = deterministic(model), np.random.default_rng(settings.seed)
    hold = recording.time_s[: inputs.shape[1]] >= settings.hold_start
    states = np.asarray(model.apply(variables, inputs).states)
    candidates = condition_candidates(states[:, hold], inputs[:, hold], recording.condition, 64, rng)
    F = step_function(model, variables)
    settled = settle(F, candidates.states, candidates.inputs, 10_000)  # some of the points attract very slowly
    starts, held = np.concatenate([candidates.states, settled]), np.tile(candidates.inputs, (2, 1))
    points = linearize(F, find_fixed_points(F, starts, held, bounds=(-1, 1)), dt=recording.bin_width_s)
    points.save(settings.out / "fixed_points.h5")
    direction = np.tile(candidates.conditions, 2)[points.candidate_indices]
    _, forces = model.apply(variables, points.states, points.inputs, method="step")
    results, errors = {"num_fixed_points": len(points), "num_stable_fixed_points": points.is_stable.sum()}, []
    for k, target in zip(*condition_means(recording.target_xy, recording.condition), strict=True):
        stable = np.flatnonzero((direction == k) & points.is_stable)
        results[f"direction_{k}_fixed_points"], results[f"direction_{k}_stable"] = sum(direction == k), len(stable)
        if len(stable):  # the one that most states of the hold lead to
            errors.append(angle_between(forces[stable[points.hits[stable].argmax()]], target))
            results[f"direction_{k}_angle_error_deg"] = errors[-1]
    results |= {"angle_error_deg_mean": np.mean(errors), "angle_error_deg_max": np.max(errors)} if errors else {}
    targets = recording.condition, recording.target_xy
    figure = plot_readouts_and_modes(points, forces, direction, *targets, f"force ({recording.units['force']})")
    common.save_figure(figure, settings.out, "fixed_points")
    return results


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
