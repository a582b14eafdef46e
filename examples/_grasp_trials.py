"""The trials of examples/modular_grasp.py: simulated, or those of a file."""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from ctd_models.tasks import Trials

LABELS = ("hold cue", "muscle length [a.u.]")


class Problem(NamedTuple):
    """What networks are trained and asked about."""

    training: Any
    """A task, or arrays."""
    validation: Any
    """The same, of other trials."""
    test: "Trials"
    """Fresh trials."""
    unseen: "Trials | None"
    """Trials with objects that training never showed."""
    aligned: "Trials"
    """Trials whose epochs are at the same times, several of each object: what is asked about activity; all of a file."""
    objects: "np.ndarray"
    """The object of each aligned trial."""
    epochs: dict[str, slice]
    """Name → steps of the aligned trials."""
    recordings: dict[str, "np.ndarray"]
    """`recorded_` and the name → activity of neurons in the aligned trials."""
    dt: float
    """Length of a step [s]."""
    labels: tuple[str, str]
    """Names of the last input and of the outputs, with their unit."""


def simulated(settings: Any) -> Problem:
    """Trials of `DelayedGrasp`; one size of each shape is kept from training."""
    import dataclasses

    import jax
    import numpy as np

    from ctd_models.tasks import DelayedGrasp

    everything = DelayedGrasp(dt=settings.dt)
    count = everything.num_sizes
    kept = [shape * count + count // 2 - shape % 2 for shape in range(everything.num_shapes)]
    trained = [number for number in range(everything.num_objects) if number not in kept]
    task, others = (dataclasses.replace(everything, objects=tuple(shown)) for shown in (trained, kept))
    objects, memory_steps = np.repeat(task.objects, 12), task.memory_range[1]

    @jax.jit  # all with one number of trials, for which a network is compiled once
    def make(key):
        keys = jax.random.split(key, 3)
        fresh = [each.sample(key, len(objects)) for each, key in ((task, keys[0]), (others, keys[1]))]
        return *fresh, task.trials(keys[2], objects, memory_steps)

    test, unseen, aligned = make(jax.random.key(settings.seed + 1))
    return Problem(task, task, test, unseen, aligned, objects, task.epochs(memory_steps), {}, task.dt, LABELS)


def recorded(settings: Any) -> Problem:
    """Trials of a file; without a split in it, 70 % train and 15 % validate.

    Kinematics are centred and divided by one number, which leaves the normalised error as it is.
    """
    import _common as common
    import numpy as np

    from ctd_models.data import TEST, TRAIN, VALIDATION, load_grasp
    from ctd_models.tasks import Trials

    data = load_grasp(common.find_data(settings.data))
    if len(np.unique(data.object)) < 3:
        raise SystemExit(f"{settings.data} has {len(np.unique(data.object))} objects: their comparison needs 3 or more")
    order = np.random.default_rng(settings.seed).permutation(len(data.inputs))
    parts = np.split(order, [round(0.7 * len(order)), round(0.85 * len(order))])
    if data.split is not None:
        parts = [data.part(number) for number in (TRAIN, VALIDATION, TEST)]
    counted = data.kinematics[parts[0]][data.mask[parts[0]] > 0]
    kinematics = (data.kinematics - counted.mean(axis=0)) / counted.std(axis=0).max()
    arrays = [np.asarray(values, np.float32) for values in (data.inputs, kinematics, data.mask[..., None])]
    train, validation, test = (Trials(*(values[part] for values in arrays)) for part in parts)
    return Problem(
        training=train._asdict(),
        validation=validation._asdict(),
        test=test,
        unseen=None,
        aligned=Trials(*arrays),
        objects=data.object,
        epochs={"trial": slice(0, arrays[0].shape[1])},
        recordings={f"recorded_{name}": values for name, values in data.recordings.items()},
        dt=data.bin_width_s or settings.dt,
        labels=("last input", "kinematics [scaled]"),
    )
