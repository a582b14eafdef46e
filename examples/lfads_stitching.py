"""LFADS of several recording sessions with different neurons around one generator, against models of single sessions.

Behaviour is decoded linearly from smoothed spikes, from GPFA, and from the factors of single-session models by a decoder for
each session; and from the factors of the stitched model by ONE decoder for all sessions, by decoders that have never seen
the session, and by decoders of one session on another. The stitched model begins with read-ins by principal-component
regression and, for comparison, at random. A model without the last session, to which it is added afterwards with the shared
part frozen, shows what a new day needs. Whatever is chosen is chosen on validation trials; test trials are scored once.
"""

import dataclasses
from pathlib import Path

import _common as common
import tyro


@dataclasses.dataclass
class Settings:
    data: tuple[str, ...] = ("adan_day0.h5",)
    """HDF5 files, a session each; or one file with a session in each of its groups, or with pseudo-sessions (see
    `load_sessions`): paths, or names in the folder of data ($CTD_DATA)."""
    simulate: bool = False
    """In place of data, five sessions of 20 neurons each that see one Lorenz system; the latents are decoded."""
    out: Path = Path("results/lfads_stitching")
    """Folder for results, figures and checkpoints; a run that was interrupted continues."""
    bin_width_s: float | None = None
    """Width of a bin [s], where the files do not tell."""
    num_components: int = 24
    """Dimensions that the read-ins share, at most what the sessions' averages allow."""
    width: float = 1.0
    """Standard deviation of the Gaussian that smooths averages for the regression [bins]."""
    frozen_read_in: bool = False
    """Keep read-ins as the regression made them."""
    hidden_size: int = 96
    """Units of the generator, the controller and each direction of the encoder."""
    num_factors: int = 64
    """Factors."""
    num_inputs: int = 4
    """Inferred inputs; 0: an autonomous generator."""
    dropout: float = 0.05
    """Dropout in all parts of the models."""
    coordinated_dropout: float = 0.1
    """Share of the counts that is hidden and to be reconstructed."""
    kl_weight: float = 1.0
    """Weight of both divergences after the ramp; 1: the loss is the negative ELBO."""
    kl_ramp: int = 500
    """Steps in which this weight rises from 0, at most half of all."""
    learning_rate: float = 4e-3
    """Of Adam in the beginning; it falls to 0 along a cosine."""
    batch_size: int = 48
    """Trials in a batch, of all sessions together, at most all training trials."""
    num_steps: int = 1_500
    """Training steps of each model."""
    added_steps: int = 300
    """Training steps of the maps of the last session when it is added to a model of the others; 0: leave this out."""
    gpfa_factors: int = 8
    """Factors of GPFA, which needs the extra `baselines`."""
    first_bin: int = 4
    """Behaviour is decoded from this bin on, at lags up to it (at most 4)."""
    num_resamples: int = 1_000
    """Times that test trials are drawn again, for intervals."""
    seed: int = 0
    """Seed of everything random."""
    quick: bool = False
    """A short run of the same code: two sessions, fewer steps, no session is added."""


def main(settings: Settings) -> dict[str, float]:
    import _stitching as stitching
    import _stitching_models as models
    import _stitching_scores as scoring

    if settings.num_components < 1 or settings.num_steps < 1:
        raise SystemExit("--num-components and --num-steps must be at least 1")
    given = settings
    if settings.quick:
        settings = common.shortened(settings, num_steps=60, added_steps=0, num_resamples=100)
    if settings.simulate:
        sizes = {"hidden_size": 64, "num_inputs": 0, "num_components": 4, "num_factors": 8, "width": 2.0}
        settings = common.shortened(settings, **sizes, coordinated_dropout=0.3, num_steps=3_000)
    sessions = stitching.load(settings)
    common.remember(given)
    data = stitching.Sessions(sessions)

    factors = {"smoothed spikes": data.trials.inputs}
    if (found := data.gpfa(settings.gpfa_factors)) is not None:
        factors["GPFA"] = found
    factors["LFADS, one session"] = data.each(lambda name: models.single(data, name, settings))
    trained, times = models.stitched(data, list(sessions), settings)
    factors["random read-ins"] = scoring.infer_all(*trained["random"], data)
    factors["stitched LFADS"] = scoring.infer_all(*trained["stitched"], data)
    if settings.added_steps:
        factors["session added"] = scoring.infer_all(*models.add_last(data, settings), data)

    results, scores, transfer = scoring.decode(data, factors, settings)
    results |= scoring.decode_latents(data, factors, settings)
    scoring.draw(data, factors["stitched LFADS"], scores, transfer, settings.out)
    common.write_results(settings.out, results | times)
    return results


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
