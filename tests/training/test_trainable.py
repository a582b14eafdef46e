"""Training a subset of the parameters."""

import jax
import numpy as np
import optax
import pytest

from ctd_models import Trainer, VanillaRNN
from ctd_models.tasks import Integration
from ctd_models.training import mean_squared_error

TASK = Integration(num_steps=4)
MODEL = VanillaRNN(5, 1)
KEY = jax.random.key(0)
START = MODEL.init(jax.random.key(1), TASK.sample(KEY, 1).inputs)
ALL = {"cell/bias", "cell/input_kernel", "cell/recurrent_kernel", "initial_state", "readout/bias", "readout/kernel"}


def flat(variables):
    return {"/".join(k.key for k in path): np.asarray(v) for path, v in jax.tree_util.tree_leaves_with_path(variables)}


TRAINER = Trainer(MODEL, mean_squared_error(MODEL), optax.adamw(1e-2), batch_size=8, progress=False)


def fit(trainable):
    return TRAINER.fit(TASK, 3, KEY, variables=START, trainable=trainable)


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [
        (None, ALL),
        ("readout", {"readout/bias", "readout/kernel"}),
        (["readout/kernel", "cell/bias"], {"readout/kernel", "cell/bias"}),
        ("*/bias", {"readout/bias", "cell/bias"}),
        (lambda name, value: value.ndim == 2, {"cell/input_kernel", "cell/recurrent_kernel", "readout/kernel"}),
        (
            jax.tree.map(lambda p: p.ndim == 2, START["params"]),
            {"cell/input_kernel", "cell/recurrent_kernel", "readout/kernel"},
        ),
    ],
    ids=["all", "module", "names", "pattern", "function", "mask"],
)
def test_only_the_selected_parameters_move(trainable, expected):
    """Weight decay included: frozen parameters stay bit for bit, and the optimizer keeps no state for them."""
    result = fit(trainable)
    before, after = flat(START["params"]), flat(result.variables["params"])
    assert {name for name in before if (before[name] != after[name]).any()} == expected
    moments = optax.tree.get(result.state.optimizer_state, "mu")
    assert set(flat(moments)) == expected


def test_what_matches_nothing_is_named():
    with pytest.raises(ValueError, match=r"trainable=\['redout'\] matches none of the parameters \['cell/bias'"):
        fit("redout")
    with pytest.raises(ValueError, match="selects none"):
        fit(lambda name, value: False)
    with pytest.raises(ValueError, match="structure of the parameters"):
        fit({"readout": True})
