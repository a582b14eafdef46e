"""LFADS finds the contexts of a contextual integrator without labels, and uses them where they are given.

Spikes come from a vanilla RNN that integrates the one of two noise inputs that the context names. LFADS is trained on them
with different priors of its latent code (of the initial condition and of a static inferred bias): one Gaussian; mixtures
of two and of four, whose components become the contexts; and a Gaussian for each context, where it is told.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro


@dataclasses.dataclass
class Settings:
    out: Path = Path("results/lfads_contextual")
    """Folder for results, figures, data, posteriors and checkpoints; a run that was interrupted continues."""
    priors: list[Literal["gaussian", "mixture", "class", "mixture4"]] = dataclasses.field(
        default_factory=lambda: ["gaussian", "mixture", "class", "mixture4"]
    )
    """Priors to train with: one Gaussian, mixtures of two and of four, a Gaussian for each context."""
    num_trials: int = 5_000
    """Trials of the integrator: of ten, eight to train, one to choose the checkpoint, one to report on."""
    num_steps: int = 1_000
    """Training steps of each LFADS."""
    integrator_steps: int = 1_500
    """Training steps of the integrator."""
    learning_rate: float = 4e-3
    """Peak of the cosine schedule."""
    hidden_size: int = 48
    """Units of each direction of the encoder, of the controller and of the generator."""
    code_size: int = 8
    """Dimensions of the code of the initial condition."""
    bias_size: int = 4
    """Dimensions of the static inferred bias."""
    num_samples: int = 20
    """Samples of the posterior for the bounds."""
    seed: int = 0
    """Seed of everything random."""
    quick: bool = False
    """A short run of the same code: fewer steps, trials and samples, and the first three priors only."""


def main(settings: Settings) -> dict[str, float]:
    import _common as common
    import _contextual as contextual
    import _contextual_figures as figures
    import _lfads as lfads
    import h5py
    import jax
    import numpy as np
    import optax

    from ctd_models import load_checkpoint
    from ctd_models.analysis import rate_r2
    from ctd_models.data import load_spike_trials
    from ctd_models.models.lfads import infer
    from ctd_models.training import elbo

    if settings.quick:
        short = {"num_trials": 1_500, "num_steps": 150, "integrator_steps": 400, "num_samples": 5}
        settings = common.shortened(settings, **short)
        settings = dataclasses.replace(settings, priors=settings.priors[:3])
    common.remember(settings)
    data_key, train_key, bound_key = jax.random.split(jax.random.key(settings.seed), 3)

    # Data
    path = settings.out / "contextual.h5"
    if not path.exists():
        contextual.write_data(path, data_key, settings.num_trials, settings.integrator_steps)
    dataset = load_spike_trials(path, labels=True)
    context, rates, inputs = dataset.conditions["test"], dataset.rates["test"], dataset.behavior["test"]["inputs"]
    varying = np.ptp(rates, axis=(0, 1)) > 0  # no R² where a rate is constant
    with h5py.File(path) as file:
        results = {"num_trials": len(context), "integrator_error": float(file.attrs["network_error"])}

    codes, priors, responsibilities = {}, {}, {}
    for name in settings.priors:
        # Train; only the class-conditional model is told the contexts
        parts = dataset.parts
        if name != "class":
            parts = {part: trials._replace(labels=None) for part, trials in parts.items()}
        model = build(settings, name, rates.shape[2])
        loss = elbo(model, kl_weight=optax.linear_schedule(0.0, 1.0, settings.num_steps // 4))
        data, folder = (parts["train"], parts["validation"]), settings.out / name
        options = {"learning_rate": settings.learning_rate, "batch_size": 128}
        result = lfads.train(loss, *data, settings.num_steps, train_key, folder / "checkpoints", **options)

        # Load, infer, and compare with the truth
        model, variables = load_checkpoint(folder / "checkpoints", "best")
        trials, indices = parts["test"], dataset.trial_indices["test"]
        mean = infer(model, variables, trials, progress=False)
        lfads.write_posterior(folder / "posterior.h5", model, variables, trials, indices)
        bounds = lfads.bounds(model, variables, trials, bound_key, settings.num_samples)
        scores = {"rate_r2": rate_r2(rates[..., varying], mean.rates[..., varying])}
        scores |= contextual.input_scores(mean.inferred_input_means, inputs, context)
        scores |= {term: bounds[term] for term in ("elbo", "nll", "kl_code", "kl_inputs", "iwae")}
        scores |= common.training_times(result, folder)
        results |= {f"{score}_{name}": value for score, value in scores.items()}
        draw(folder, dataset.bin_width_s, result, trials, rates, inputs, context, mean)

        # Which component does each trial belong to, and is it its context?
        codes[name], priors[name] = mean.code_means, variables["params"]["generator"]["prior"]
        if name == "gaussian":
            results |= contextual.kmeans_scores(mean.code_means, context, settings.seed)
        elif name != "class":
            prior = model.generator.prior.bind({"params": priors[name]})
            responsibilities[name] = np.asarray(prior.responsibilities(mean.code_means))
            results |= contextual.mixture_scores(name, responsibilities[name], context)
    common.save_figure(figures.plot_codes(codes, priors, context), settings.out, "code")
    if responsibilities:
        figure = figures.plot_responsibilities(responsibilities, context)
        common.save_figure(figure, settings.out, "responsibilities")
    common.write_results(settings.out, results)
    return results


def build(settings: Settings, name: str, num_units: int):
    """The LFADS with the prior of that name."""
    from ctd_models import LFADS
    from ctd_models.models import lfads

    classes = 2 if name == "class" else 0
    of_code = {"mixture": lfads.Mixture(2), "mixture4": lfads.Mixture(4), "class": lfads.ClassConditional(2)}
    of_inputs = lfads.ClassConditional(2) if classes else lfads.AutoregressivePrior(tau=1.0, noise_variance=0.1)
    size, sizes = settings.hidden_size, {"code_size": settings.code_size, "bias_size": settings.bias_size}
    generator = lfads.Generator(size, 16, of_code.get(name, lfads.Gaussian()), **sizes)
    controller = lfads.Controller(size, 2, of_inputs)
    return LFADS(num_units, lfads.Encoder(size), generator, controller, num_classes=classes)


def draw(out, dt, result, trials, rates, inputs, context, mean) -> None:
    import _common as common
    import numpy as np

    from ctd_models.plots.factors import plot_factors
    from ctd_models.plots.lfads import plot_elbo, plot_inferred_inputs, plot_inferred_rates

    common.save_figure(plot_elbo(result.history, best_step=result.best_step), out, "elbo")
    common.save_figure(plot_inferred_rates(trials.targets[0], mean.rates[0], rates[0], bin_width_s=dt), out, "rates")
    common.save_figure(plot_factors(mean.factors, context, label="context"), out, "factors")
    relevant = np.take_along_axis(inputs, context[:, None, None], axis=2)
    shown = {"bin_width_s": dt, "stds": mean.inferred_input_stds}
    common.save_figure(plot_inferred_inputs(mean.inferred_input_means, relevant, **shown), out, "inputs")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
