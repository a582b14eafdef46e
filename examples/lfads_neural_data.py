"""LFADS of a recording: rates of single trials, behaviour decoded from factors, and neurons that were never read.

Two models are trained alike. One reads all neurons; behaviour is decoded from its factors, and its generator's fixed points
are found. The other reads the held-in neurons and predicts the held-out ones, where the file names some. Whatever is
chosen is chosen on validation trials; test trials are scored once.
"""

import dataclasses
from pathlib import Path

import _common as common
import tyro


@dataclasses.dataclass
class Settings:
    data: str = "adan_day0.h5"
    """HDF5 file in a layout of `load_spike_trials`: a path, or a name in the folder of data ($CTD_DATA)."""
    out: Path = Path("results/lfads_neural_data")
    """Folder for results, figures, posteriors and checkpoints; a run that was interrupted continues."""
    bin_width_s: float | None = None
    """Width of a bin [s], where the file does not tell."""
    hidden_size: int = 64
    """Units of the generator, the controller and each direction of the encoder."""
    num_factors: int = 64
    """Factors."""
    num_inputs: int = 4
    """Inferred inputs."""
    dropout: float = 0.05
    """Dropout in all parts of the models."""
    coordinated_dropout: float = 0.3
    """Share of the counts that is hidden and to be reconstructed, in the model for decoding."""
    cosmoothing_coordinated_dropout: float = 0.1
    """The same of the model for co-smoothing."""
    kl_weight: float = 1.0
    """Weight of both divergences after the ramp; 1: the loss is the negative ELBO."""
    kl_ramp: int = 500
    """Steps in which this weight rises from 0, at most half of all."""
    learning_rate: float = 4e-3
    """Of Adam in the beginning; it falls to 0 along a cosine."""
    batch_size: int = 64
    """Trials in a batch, at most all training trials."""
    num_steps: int = 1_000
    """Training steps of each model."""
    first_bin: int = 4
    """Behaviour is decoded from this bin on, at lags up to it (at most 4)."""
    num_candidates: int = 500
    """States to search for fixed points of the generator from."""
    seed: int = 0
    """Seed of everything random."""
    quick: bool = False
    """A short run of the same code: fewer steps and candidates."""


def main(settings: Settings) -> dict[str, float]:
    import _neural_data as neural
    import _neural_scores as scoring

    common.remember(settings)
    if settings.quick:
        settings = common.shortened(settings, num_steps=60, num_candidates=64)
    data, heldout = neural.load(common.find_data(settings.data), settings.bin_width_s, settings.seed)
    fit, bounds = train(data, "decoding", settings.coordinated_dropout, settings)
    results, scores, decoded = scoring.decode(fit, settings.first_bin)
    psths = scoring.match_psths(fit)
    results |= bounds if psths is None else {"psth_r2": psths[0], **bounds}
    results |= scoring.fixed_points(fit, settings.num_candidates, settings.seed, settings.out)
    scoring.draw(fit, scores, decoded, psths, settings.out)
    if heldout is not None:
        fit, bounds = train(heldout, "cosmoothing", settings.cosmoothing_coordinated_dropout, settings)
        results |= scoring.predict_heldout(fit) | {f"cosmoothing_{name}": value for name, value in bounds.items()}
    common.write_results(settings.out, results)
    return results


def train(data, name, coordinated_dropout, settings):
    """Trains a model, and infers all trials by the best one on validation trials."""
    import _lfads as lfads
    import _neural_data as neural
    import jax
    import optax

    from ctd_models import LFADS, load_checkpoint
    from ctd_models.data import CoordinatedDropout
    from ctd_models.models.lfads import AutoregressivePrior, Controller, Encoder, Gaussian, Generator, infer
    from ctd_models.plots.lfads import plot_elbo, plot_inferred_rates
    from ctd_models.training import elbo

    (_, time, read), (_, steps, neurons) = data.train.inputs.shape, data.train.targets.shape
    size, dropout, external = settings.hidden_size, settings.dropout, data.train.external_inputs
    model = LFADS(
        neurons,
        Encoder(size, dropout=dropout),
        Generator(size, settings.num_factors, Gaussian(variance=0.1), dropout=dropout),
        Controller(size, settings.num_inputs, AutoregressivePrior(tau=10.0, noise_variance=0.1), dropout=dropout),
        num_input_neurons=read,
        num_forward_bins=steps - time,
        num_external_inputs=0 if external is None else external.shape[2],
    )
    ramp = optax.linear_schedule(0.0, settings.kl_weight, min(settings.kl_ramp, settings.num_steps // 2))
    loss = elbo(model, kl_weight=ramp, augmentations=(CoordinatedDropout(coordinated_dropout),))
    train_key, sample_key = jax.random.split(jax.random.key(settings.seed))
    num_steps, out = settings.num_steps, settings.out / name
    options = {"learning_rate": settings.learning_rate, "batch_size": min(settings.batch_size, len(data.train.inputs))}
    options["num_validations"] = max(1, min(50, num_steps // 20))
    result = lfads.train(loss, data.train, data.validation, num_steps, train_key, out / "checkpoints", **options)
    model, variables = load_checkpoint(out / "checkpoints", "best")

    trials, places, numbers = neural.in_one(data)
    lfads.write_posterior(out / "posterior.h5", model, variables, trials, numbers)
    posterior = infer(model, variables, trials, progress=False)
    fit = neural.Fit(model, variables, data, trials, places, posterior)
    terms = jax.jit(lambda variables, trials, key: loss(variables, trials, {"sample": key}, 0, training=False)[1])
    bound = terms(variables, data.parts[fit.part], sample_key)
    figure = plot_inferred_rates(
        *(values[places[fit.part][0]] for values in (trials.targets, posterior.rates)),
        heldout=range(read, neurons),
        bin_width_s=data.bin_width_s,
        start_s=fit.start_s,
    )
    common.save_figure(figure, settings.out, f"{name}_rates")
    common.save_figure(plot_elbo(result.history, best_step=result.best_step), settings.out, f"{name}_elbo")
    return fit, {"elbo": bound["elbo"], "nll": bound["nll"], **common.training_times(result, out)}


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
