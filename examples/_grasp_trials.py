"""The trials of examples/modular_grasp.py: simulated, or those of a file."""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from ctd_models.tasks import Trials


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
    """Trials whose epochs are at the same times, several of each object."""
    objects: "np.ndarray"
    """The object of each aligned trial."""
    epochs: dict[str, slice]
    """Name → steps of the aligned trials."""
    recordings: dict[str, "np.ndarray"]
    """Name → activity of neurons in the aligned trials."""
    dt: float
    """Length of a step [s]."""


def simulated(settings: Any) -> Problem:
    """Trials of `DelayedGrasp`; one size of each shape is kept from training."""
    import jax
    import numpy as np

    from ctd_models.tasks import DelayedGrasp

    everything = DelayedGrasp()
    count = everything.num_sizes
    unseen = [shape * count + count // 2 - shape % 2 for shape in range(everything.num_shapes)]
    task = DelayedGrasp(objects=tuple(sorted(set(range(everything.num_objects)) - set(unseen))))
    keys = jax.random.split(jax.random.key(settings.seed + 1), 3)
    memory_steps = task.memory_range[1]
    objects = np.repeat(task.objects, 8)
    return Problem(
        training=task,
        validation=task,
        test=jax.jit(task.sample, static_argnums=1)(keys[0], 1_000),
        unseen=DelayedGrasp(objects=tuple(unseen)).sample(keys[1], 500),
        aligned=task.trials(keys[2], objects, memory_steps),
        objects=objects,
        epochs=task.epochs(memory_steps),
        recordings={},
        dt=task.dt,
    )


def recorded(settings: Any) -> Problem:
    """Trials of a file; without a split in it, 70 % train and 15 % validate.

    Kinematics are centred and divided by one number, which leaves the normalised error as it is.
    """
    import _common as common
    import numpy as np

    from ctd_models.data import TEST, TRAIN, VALIDATION, load_grasp
    from ctd_models.tasks import Trials

    data = load_grasp(common.find_data(settings.data))
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
        aligned=test,
        objects=data.object[parts[2]],
        epochs={"trial": slice(0, arrays[0].shape[1])},
        recordings={name: values[parts[2]] for name, values in data.recordings.items()},
        dt=data.bin_width_s or 0.02,
    )
