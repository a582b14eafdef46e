"""LFADS infers the noise that drives an integrator, and its rates on single trials, from spikes alone.

Trains LFADS with a controller on the spikes of a vanilla RNN that integrates white noise (the data set of the LFADS
tutorials), compares inferred rates and inputs with the true ones on held-out trials, and finds the slow points of the
generator without input: the line attractor of the integrator, found again.
"""

import dataclasses
from pathlib import Path

import tyro


@dataclasses.dataclass
class Settings:
    data: str = "integrator.h5"
    """HDF5 file as examples/integrator_rnn.py writes it: a path, or a name in the folder of data ($CTD_DATA)."""
    out: Path = Path("results/lfads_integrator")
    """Folder for results, figures, the posterior and checkpoints; a run that was interrupted continues."""
    num_steps: int = 5_000
    """Training steps."""
    learning_rate: float = 8e-3
    """Peak of the cosine schedule."""
    batch_size: int = 128
    """Trials in a batch."""
    kl_ramp: int = 500
    """Steps in which the weight of the divergences rises from 0 to 1."""
    hidden_size: int = 64
    """Units of each direction of the encoder, of the controller and of the generator."""
    code_size: int = 16
    """Dimensions of the code of the initial condition."""
    num_factors: int = 32
    """Factors."""
    num_reported: int = 1_000
    """First held-out trials, on which everything is reported; the others decide about the checkpoint."""
    num_samples: int = 50
    """Samples of the posterior for averages and bounds."""
    max_rate_hz: float = 80.0
    """Rate of a unit of the integrator at activity 1 [Hz]; it is 0 at −1."""
    slowness: float = 0.1
    """A state is slow if a step without input moves it by less than this share of a typical step in a trial."""
    num_candidates: int = 1_000
    """States to search for slow points from."""
    seed: int = 0
    """Seed of everything random."""
    quick: bool = False
    """A short run of the same code: fewer steps, samples and candidates."""


def main(settings: Settings) -> dict[str, float]:
    import _common as common
    import _integrator as integrator
    import _lfads as lfads
    import jax
    import numpy as np
    import optax

    from ctd_models import LFADS, load_checkpoint, step_function
    from ctd_models.data import load_spike_trials
    from ctd_models.models.lfads import AutoregressivePrior, Controller, Encoder, Gaussian, Generator, factor_map, infer
    from ctd_models.training import elbo

    if settings.quick:
        settings = common.shortened(settings, num_steps=250, num_samples=5, num_candidates=100)
    try:
        path = common.find_data(settings.data)
    except FileNotFoundError as error:
        make = "make one by: python examples/integrator_rnn.py --out DIR, and give --data DIR/integrator.h5"
        raise SystemExit(f"{error}; {make}") from None
    common.remember(settings)
    train_key, sample_key, bound_key = jax.random.split(jax.random.key(settings.seed), 3)

    # Data: of the held-out trials the first are reported, the others choose the checkpoint
    dataset = load_spike_trials(path, behavior=["inputs"])
    if dataset.validation is None:
        raise SystemExit(f"{path} has no held-out trials (split 1)")
    count, dt = min(settings.num_reported, len(dataset.validation.targets) // 2), dataset.bin_width_s
    trials, others = dataset.validation.take(slice(count)), dataset.validation.take(slice(count, None))
    indices = dataset.trial_indices["validation"][:count]
    inputs = dataset.behavior["validation"]["inputs"][:count]
    rates = integrator.true_rates(path, indices, inputs, settings.max_rate_hz, dt)

    # Train
    size = settings.hidden_size
    model = LFADS(
        num_neurons=rates.shape[2],
        encoder=Encoder(size),
        generator=Generator(size, settings.num_factors, Gaussian(variance=0.1), code_size=settings.code_size),
        controller=Controller(size, inputs.shape[2], AutoregressivePrior(tau=1.0, noise_variance=0.1)),
    )
    loss = elbo(model, kl_weight=optax.linear_schedule(0.0, 1.0, min(settings.kl_ramp, settings.num_steps // 2)))
    options = {"learning_rate": settings.learning_rate, "batch_size": settings.batch_size}
    folder = settings.out / "checkpoints"
    result = lfads.train(loss, dataset.train, others, settings.num_steps, train_key, folder, **options)
    times = common.training_times(result, settings.out)

    # Load, infer from the spikes of the reported trials, and compare with the truth
    model, variables = load_checkpoint(folder, "best")
    mean = infer(model, variables, trials, progress=False)
    average = infer(model, variables, trials, num_samples=settings.num_samples, key=sample_key, progress=False)
    lfads.write_posterior(settings.out / "posterior.h5", model, variables, trials, indices)
    results = {"num_trials": count, **scores(rates, inputs, mean)}
    results |= {f"{name}_samples": value for name, value in scores(rates, inputs, average).items()}
    results |= lfads.bounds(model, variables, trials, bound_key, settings.num_samples)

    # The generator without input: fixed points, and the line of slow ones
    states, silence, factors = mean.generator_states, np.zeros(inputs.shape[2]), factor_map(model, variables)
    search = model, variables, states, silence, dt, settings.num_candidates, settings.seed
    fixed, slow = lfads.generator_points(*search), lfads.generator_points(*search, settings.slowness)
    slow.save(settings.out / "slow_points.h5")
    print(fixed, slow, sep="\n")
    results |= {"num_fixed_points": len(fixed), "num_stable_fixed_points": fixed.is_stable.sum()}
    results |= {"num_slow_points": len(slow), "slow_tolerance": slow.tolerance}
    F = step_function(model, variables, part="generator")
    results |= integrator.line_numbers(F, slow, states, silence, factors)
    draw(settings.out, dt, result, trials, rates, inputs, mean, slow, factors)
    common.write_results(settings.out, results | times)
    return results


def scores(rates, inputs, posterior) -> dict[str, float]:
    """Squared correlation over the bins of a trial, averaged over trials and units; R² of the rates over all trials."""
    import numpy as np

    from ctd_models.analysis import r2_score, squared_correlation

    return {
        "rate_r2": np.nanmean(squared_correlation(rates, posterior.rates)),
        "input_r2": np.nanmean(squared_correlation(inputs, posterior.inferred_inputs)),
        "rate_r2_pooled": r2_score(rates, posterior.rates),
    }


def draw(out, dt, result, trials, rates, inputs, mean, slow, factors) -> None:
    import _common as common

    from ctd_models.plots.factors import plot_generator_points
    from ctd_models.plots.lfads import plot_elbo, plot_inferred_inputs, plot_inferred_rates

    common.save_figure(plot_elbo(result.history, best_step=result.best_step), out, "elbo")
    common.save_figure(plot_inferred_rates(trials.targets[0], mean.rates[0], rates[0], bin_width_s=dt), out, "rates")
    figure = plot_inferred_inputs(mean.inferred_inputs, inputs, bin_width_s=dt, stds=mean.inferred_input_stds)
    common.save_figure(figure, out, "inputs")
    if len(slow):
        common.save_figure(plot_generator_points(slow, factors, mean.factors), out, "slow_points")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
