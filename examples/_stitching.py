"""Sessions of the stitching example: reading or simulating them, and where their read-ins begin."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _common as common
import _neural_data as neural

if TYPE_CHECKING:
    import numpy as np

    from ctd_models.data import SpikeDataset, SpikeTrials


def load(settings: Any) -> dict[str, "SpikeDataset"]:
    """Name → session, each with validation trials."""
    from ctd_models.data import load_sessions

    if settings.simulate:
        paths = [settings.out / "lorenz_sessions.h5"]
        if not paths[0].exists():
            write_lorenz(paths[0], settings.seed)
    else:
        paths = [common.find_data(name) for name in settings.data]
    sessions = load_sessions(paths if len(paths) > 1 else paths[0], bin_width_s=settings.bin_width_s)
    if len(sessions) < 2:
        raise SystemExit(
            f"{paths[0]} is one session: give several files, or one with sessions in its groups or with pseudo-sessions"
        )
    if any(data.bin_width_s is None for data in sessions.values()):
        raise SystemExit("the files do not tell how wide bins are: give --bin-width-s")
    kept = list(sessions)[:2] if settings.quick else list(sessions)
    return {name: neural.with_validation(sessions[name], settings.seed) for name in kept}


def write_lorenz(path: Path, seed: int, num_sessions: int = 5, num_neurons: int = 20, trials_per_condition: int = 3):
    """Sessions with neurons of their own that see the same trajectories of the Lorenz system, in groups of one file.

    Of three trials of each condition one is to train, one to validate, one to test on: too few for a session alone.
    """
    import h5py
    import jax
    import numpy as np

    from ctd_models.tasks import LorenzSpikes

    system, key = LorenzSpikes(num_neurons=num_neurons), jax.random.key(seed)
    sample = jax.jit(lambda key, condition_key: system.sample(key, trials_per_condition, condition_key=condition_key))
    with h5py.File(path, "w") as file:
        file.attrs["bin_width_s"] = system.bin_width_s
        for number in range(num_sessions):
            trials = sample(jax.random.fold_in(key, number), key)
            group = file.create_group(f"session_{number}")
            group["spikes"], group["condition"] = np.asarray(trials.spikes, np.uint8), trials.condition
            group["latents"] = trials.latents[::trials_per_condition]
            group["split"] = (np.arange(len(trials.spikes)) % 3).astype(np.int8)


class Sessions:
    """Sessions and all their trials in one set of arrays, part after part and session after session."""

    def __init__(self, sessions: Mapping[str, "SpikeDataset"]):
        from ctd_models.data import stitch_sessions

        self.sessions, self.data = sessions, stitch_sessions(sessions)
        self.trials, self.places, _ = neural.in_one(self.data)

    @property
    def part(self) -> str:
        """The part to report on: "test", or "validation" where a session has no test trials."""
        return "test" if all(data.test for data in self.sessions.values()) else "validation"

    def known(self, field: str) -> "np.ndarray | None":
        """What is known of all trials, such as their conditions; None: nothing."""
        import numpy as np

        of_parts = getattr(self.data, field)
        return np.concatenate([of_parts[part] for part in self.places]) if of_parts else None

    def own_trials(self, name: str) -> "SpikeTrials":
        """All trials of a session, with its own neurons."""
        return neural.in_one(self.sessions[name])[0]

    def each(self, features: Callable[[str], Any]) -> "np.ndarray":
        """Features [trials of a session, time, F] of each session, in the places of its trials."""
        import numpy as np

        found = [features(name) for name in self.sessions]
        every = np.zeros((len(self.trials.inputs), *found[0].shape[1:]))
        for number, values in enumerate(found):
            every[self.trials.sessions == number] = values
        return every

    def gpfa(self, num_factors: int) -> "np.ndarray | None":
        """Factors of GPFA, fitted to each session; None where its libraries are not installed."""
        from ctd_models.analysis import GPFA

        def factors(name):
            own = self.sessions[name]
            baseline = GPFA(num_factors).fit(own.train.inputs, own.bin_width_s)
            return baseline.factors(self.own_trials(name).inputs)

        try:
            return self.each(factors)
        except ImportError as error:
            print(f"GPFA is left out: {error}")
            return None

    def stitched(self, names: Sequence[str], part: str) -> "SpikeTrials":
        """Trials of some of the sessions."""
        from ctd_models.data import stitch_sessions

        return stitch_sessions({name: self.sessions[name] for name in names}).parts[part]

    def weights(self, names: Sequence[str], num_components: int, width: float) -> list[Any]:
        """Read-ins by principal-component regression; of averages over all trials where conditions are unknown."""
        from ctd_models.analysis import principal_component_weights

        trained = [self.sessions[name] for name in names]
        spikes = [own.train.inputs for own in trained]
        conditions = [own.conditions["train"] for own in trained] if self.data.conditions else None
        most = sum(s.shape[2] for s in spikes) if conditions else spikes[0].shape[1] - 1
        return principal_component_weights(spikes, conditions, min(num_components, most), width=width)

    def later_weights(self, model: Any, variables: Any, before: Sequence[str], last: str, width: float) -> Any:
        """The read-in of one more session: regression on what the trained read-ins make of the others."""
        import numpy as np

        from ctd_models.analysis import regression_weights

        trials, own = self.stitched(before, "train"), self.sessions[last]
        read = model.apply(variables, trials.inputs, trials.sessions, method=lambda m, x, s: m.read_in(x, s))
        if not self.data.conditions:
            return regression_weights(own.train.inputs, None, read, None, width=width)
        conditions = np.concatenate([self.sessions[name].conditions["train"] for name in before])
        return regression_weights(own.train.inputs, own.conditions["train"], read, conditions, width=width)
