"""Modules to JSON and back."""

import dataclasses
import json
import sys
import types

import flax.linen as nn
import jax.numpy as jnp
import pytest

from ctd_models import GRU, ContinuousRNNCell, RecurrentNetwork, VanillaRNN, VanillaRNNCell
from ctd_models.configuration import Configurable, deterministic, from_config, to_config
from ctd_models.models import Identity, Orthogonal


class Mixed(nn.Module):
    cells: tuple[nn.Module, ...]
    options: dict[str, float]
    activation: object = nn.relu
    dtype: object = jnp.float32


@pytest.mark.parametrize(
    "model",
    [
        VanillaRNN(8, 1, recurrent_init=Orthogonal(0.9)),
        GRU(8, 2, update_bias=1.0),
        RecurrentNetwork(nn.OptimizedLSTMCell(8), 1),
        RecurrentNetwork(nn.GRUCell(8, activation_fn=nn.relu), 1),
        RecurrentNetwork(ContinuousRNNCell(8, noise=0.1, recurrent_init=Identity()), 3),
        Mixed(cells=(VanillaRNNCell(3), nn.SimpleCell(4)), options={"a": 1.5}, dtype=jnp.float16),
    ],
    ids=lambda m: type(m).__name__,
)
def test_round_trip(model):
    text = json.dumps(to_config(model), allow_nan=False)
    assert from_config(json.loads(text)) == model


def test_every_field_is_written():
    """A later change of a default must not change what an old checkpoint means."""
    for model in (VanillaRNN(8, 1), GRU(8, 1), RecurrentNetwork(VanillaRNNCell(8), 1), ContinuousRNNCell(8)):
        fields = {f.name for f in dataclasses.fields(model) if f.init} - {"parent", "name"}
        assert set(to_config(model)["fields"]) == fields


def test_what_json_cannot_hold_is_named():
    with pytest.raises(TypeError, match=r"model\.activation holds <function"):
        to_config(Mixed(cells=(), options={}, activation=lambda x: x))
    with pytest.raises(TypeError, match=r"model\.options\['a'\] is nan"):
        to_config(Mixed(cells=(), options={"a": float("nan")}))


def test_only_imported_classes_are_rebuilt():
    with pytest.raises(ValueError, match="'system' of module 'os' is not registered"):
        from_config({"class": "os:system", "fields": {}})
    with pytest.raises(ValueError, match=r"VanillaRNNCell has the fields .* holds \['feature'\]"):
        from_config({"class": "ctd_models.models.cells:VanillaRNNCell", "fields": {"feature": 3}})


def test_a_class_written_in_main_is_found_in_its_module_and_the_reverse():
    module = types.ModuleType("lab_models")
    sys.modules["lab_models"] = module
    exec("import flax.linen as nn\nclass LabNet(nn.Module):\n    size: int = 3\n", module.__dict__)
    config = to_config(module.LabNet(5))
    assert config["class"] == "lab_models:LabNet"
    assert from_config({**config, "class": "__main__:LabNet"}) == module.LabNet(5)
    with pytest.raises(ValueError, match="not registered"):
        from_config({**config, "class": "another_lab:LabNet"})
    main = types.ModuleType("__main__")
    exec("import flax.linen as nn\nclass ScriptNet(nn.Module):\n    size: int = 3\n", main.__dict__)
    assert from_config({"class": "scripts.train:ScriptNet", "fields": {"size": 4}}) == main.ScriptNet(4)


def test_a_library_class_never_stands_in_for_a_users():
    with pytest.raises(ValueError, match="'VanillaRNNCell' of module '__main__' is not registered"):
        from_config({"class": "__main__:VanillaRNNCell", "fields": {"features": 3}})
    module = types.ModuleType("their_models")
    exec("from ctd_models import VanillaRNNCell as Base\nclass VanillaRNNCell(Base): pass\n", module.__dict__)
    assert type(from_config({"class": "__main__:VanillaRNNCell", "fields": {"features": 3}})) is module.VanillaRNNCell


def test_the_latest_definition_of_a_class_counts():
    source = "import flax.linen as nn\nclass Redefined(nn.Module):\n    size: int = {}\n"
    notebook = types.ModuleType("notebook")
    exec(source.format(1), notebook.__dict__)
    exec(source.format(2), notebook.__dict__)
    assert type(from_config({"class": "notebook:Redefined", "fields": {}})) is notebook.Redefined


def test_configurable_dataclasses_register_themselves():
    @dataclasses.dataclass(frozen=True)
    class Prior(Configurable):
        tau: float = 1.0

    assert from_config(to_config(Prior(2.0))) == Prior(2.0)


def test_deterministic_reaches_modules_in_fields():
    noisy = ContinuousRNNCell(8, noise=0.1)
    network = RecurrentNetwork(noisy, 1)
    assert deterministic(network).cell.deterministic
    assert not network.cell.deterministic
    nested = deterministic(Mixed(cells=(noisy, noisy), options={}))
    assert [cell.deterministic for cell in nested.cells] == [True, True]
