"""LFADS finds the Lorenz system behind the spikes of neurons that it drives, its fixed points included.

Makes spikes or reads a simulation, trains LFADS without inputs, compares inferred rates and factors with the truth on
unseen trials, and finds the fixed points of the generator beside those of the Lorenz system.
"""

import dataclasses
from pathlib import Path

import tyro


@dataclasses.dataclass
class Settings:
    data: str | None = None
    """HDF5 file of a simulation with true rates: a path, or a name in the folder of data ($CTD_DATA), such as lorenz.h5 or
    chaotic_g1p5.h5. None: new spikes of the Lorenz system, a tenth of them for validation and a tenth to report on."""
    out: Path = Path("results/lfads_lorenz")
    """Folder for results, figures, data, posteriors and checkpoints; a run that was interrupted continues."""
    num_steps: int = 9_000
    """Training steps."""
    learning_rate: float = 5e-3
    """Peak of the cosine schedule."""
    batch_size: int = 64
    """Trials in a batch."""
    clip: float = 10.0
    """Largest norm of a gradient."""
    kl_ramp: int = 500
    """Steps in which the weight of the divergence rises from 0 to `kl_weight`."""
    kl_weight: float = 1.0
    """Final weight of the divergence; 1 makes the loss the negative ELBO."""
    coordinated_dropout: float = 0.3
    """Probability that a spike count is hidden from the encoder; only hidden ones are reconstructed. 0: none."""
    dropout: float = 0.0
    """Probability of dropout in encoder and generator."""
    encoder_size: int = 64
    """Units of each direction of the encoder."""
    generator_size: int = 64
    """Units of the generator."""
    code_size: int | None = None
    """Dimensions of the code of the initial condition; None: those of the generator."""
    num_factors: int = 8
    """Factors."""
    num_samples: int = 50
    """Samples of the posterior for averages and bounds."""
    num_candidates: int = 1_000
    """States to search for fixed points from."""
    seed: int = 0
    """Seed of everything random."""
    quick: bool = False
    """A short run of the same code: fewer steps, samples and candidates."""


def main(settings: Settings) -> dict[str, float]:
    import _common as common
    import _lfads as lfads
    import _lorenz as lorenz
    import jax
    import numpy as np
    import optax

    from ctd_models import LFADS, load_checkpoint
    from ctd_models.analysis import bits_per_spike, cycle_consistency, latent_r2, rate_r2, state_r2
    from ctd_models.data import CoordinatedDropout, load_spike_trials
    from ctd_models.models.lfads import Encoder, Gaussian, Generator, factor_map, infer
    from ctd_models.training import elbo

    if settings.quick:
        settings = common.shortened(settings, num_steps=200, num_samples=5, num_candidates=100)
    path = settings.out / "lorenz.h5" if settings.data is None else common.find_data(settings.data)
    common.remember(settings)
    data_key, train_key, sample_key, bound_key = jax.random.split(jax.random.key(settings.seed), 4)

    # Data: reported are test trials or, in a file without them, those that also choose the checkpoint by their likelihood
    if settings.data is None and not path.exists():
        lorenz.write_data(path, data_key)
    dataset = load_spike_trials(path, heldout=(), behavior=())
    if dataset.rates_unit != "spikes/bin" or dataset.validation is None:
        raise SystemExit(f"{path} must hold true rates and validation trials; see lfads_neural_data.py for recordings")
    part = "test" if dataset.test else "validation"
    trials, dt = dataset.parts[part], dataset.bin_width_s

    # Train
    prior, sizes = Gaussian(variance=0.1), (settings.generator_size, settings.num_factors)
    generator = Generator(*sizes, prior, code_size=settings.code_size, dropout=settings.dropout)
    encoder = Encoder(settings.encoder_size, dropout=settings.dropout)
    model = LFADS(trials.targets.shape[2], encoder, generator)
    kl_weight = optax.linear_schedule(0.0, settings.kl_weight, min(settings.kl_ramp, settings.num_steps // 2))
    loss = elbo(model, kl_weight=kl_weight, augmentations=(CoordinatedDropout(settings.coordinated_dropout),))
    options = {name: getattr(settings, name) for name in ("learning_rate", "batch_size", "clip")}
    steps, folder = settings.num_steps, settings.out / "checkpoints"
    result = lfads.train(loss, dataset.train, dataset.validation, steps, train_key, folder, **options)
    times = common.training_times(result, settings.out)

    # Load, infer, and compare with the truth
    model, variables = load_checkpoint(folder, "best")
    inferred = {name: infer(model, variables, dataset.parts[name], progress=False) for name in ("train", part)}
    average = infer(model, variables, trials, num_samples=settings.num_samples, key=sample_key, progress=False)
    for name in inferred:
        data = dataset.parts[name], dataset.trial_indices[name]
        lfads.write_posterior(settings.out / f"posterior_{name}.h5", model, variables, *data)
    rates, mean = dataset.rates[part], inferred[part]
    varying = np.ptp(rates, axis=(0, 1)) > 0  # no R² where a rate is constant
    every = jax.tree.map(lambda *values: np.concatenate(values), *inferred.values())
    seen = np.arange(len(every.rates)) < len(inferred["train"].rates)
    results = {
        "num_trials": len(rates),
        "rate_r2": rate_r2(rates[..., varying], mean.rates[..., varying]),
        "rate_r2_samples": rate_r2(rates[..., varying], average.rates[..., varying]),
        "bits_per_spike": bits_per_spike(trials.targets, mean.rates),
        "bits_per_spike_true_rates": bits_per_spike(trials.targets, rates, minimum_rate=1e-9),
        "cycle_consistency": cycle_consistency(every.rates, every.factors, seen),
        **lfads.bounds(model, variables, trials, bound_key, settings.num_samples),
    }

    # The generator as a dynamical system: its fixed points, and those of the system behind the data
    start = mean.generator_states, None, dt, settings.num_candidates, settings.seed
    fixed = lfads.generator_points(model, variables, *start)
    fixed.save(settings.out / "fixed_points.h5")
    print(fixed)
    results |= {"num_fixed_points": len(fixed), "num_stable_fixed_points": fixed.is_stable.sum()}
    factors = factor_map(model, variables)
    draw(settings.out, dt, result, trials, rates, mean, fixed, factors)
    if dataset.latents:
        latents = np.concatenate([dataset.latents[name] for name in inferred])
        recovered = every.factors, latents, seen
        results |= {"latent_r2": latent_r2(*recovered), "state_r2": state_r2(*recovered)}
        fitted = every.factors[seen], latents[seen]
        results |= lorenz.compare_points(path, fixed, factors(fixed.states), *fitted, settings.out)
    common.write_results(settings.out, results | times)
    return results


def draw(out, dt, result, trials, rates, mean, fixed, factors) -> None:
    import _common as common

    from ctd_models.plots.factors import plot_factors, plot_generator_points
    from ctd_models.plots.lfads import plot_elbo, plot_inferred_rates

    common.save_figure(plot_elbo(result.history, best_step=result.best_step), out, "elbo")
    common.save_figure(plot_inferred_rates(trials.targets[0], mean.rates[0], rates[0], bin_width_s=dt), out, "rates")
    common.save_figure(plot_factors(mean.factors), out, "factors")
    if len(fixed):
        common.save_figure(plot_generator_points(fixed, factors, mean.factors), out, "fixed_points")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
