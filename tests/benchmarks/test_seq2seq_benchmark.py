"""What benchmarks/seq2seq.py compares is one architecture, and it runs."""

import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

from ctd_models.tasks import CopySequence
from ctd_models.training import sequence_loss

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def test_the_model_in_pytorch_has_our_loss_for_the_same_weights(scripts, random_variables):
    torch = pytest.importorskip("torch")
    import _seq2seq_torch
    import seq2seq

    model = seq2seq.make_model(12, num_bits=3, cell=nn.GRUCell)
    pairs = CopySequence(num_symbols=8, longest=4).sample(jax.random.key(0), 9)
    variables = random_variables(model, *pairs[:3])
    ours, _ = sequence_loss(model)(variables, pairs, {}, 0, False)
    peer = _seq2seq_torch.TorchSeq2Seq(3, 12)
    named = {name: torch.tensor(np.array(value)) for name, value in as_torch(variables["params"]).items()}
    peer.load_state_dict(named, strict=False)
    assert {name for name, _ in peer.named_parameters()} == set(named)
    theirs = peer(*(torch.tensor(np.array(part)).long() for part in pairs))
    np.testing.assert_allclose(theirs.item(), ours, rtol=1e-5)


def as_torch(params):
    """Our parameters under PyTorch's names: gates are reset, update, new; only the last has a recurrent bias."""
    attention, bridge = params["attention"], params["decoder"]["bridges_0"]
    named = {"combine.weight": attention["v"][None]}
    named |= {"of_query.weight": attention["of_query"]["kernel"].T, "of_key.weight": attention["of_key"]["kernel"].T}
    named |= {
        "of_key.bias": attention["of_key"]["bias"],
        "bridge.weight": bridge["kernel"].T,
        "bridge.bias": bridge["bias"],
    }
    readout = params["target"]["readout"]
    named |= {"readout.weight": readout["kernel"].T, "readout.bias": readout["bias"]}
    encoder = params["encoder"]
    cells = {"encoder.{}_l0": encoder["forward_cells_0"], "encoder.{}_l0_reverse": encoder["backward_cells_0"]}
    for name, cell in (cells | {"decoder.{}": params["decoder"]["layers_0"]}).items():
        zeros = np.zeros_like(cell["ir"]["bias"])
        for part, gates in (("ih", "i"), ("hh", "h")):
            weight = np.concatenate([cell[f"{gates}{gate}"]["kernel"] for gate in "rzn"], axis=1).T
            biases = [cell[f"{gates}{gate}"].get("bias", zeros) for gate in "rzn"]
            named |= {name.format(f"weight_{part}"): weight, name.format(f"bias_{part}"): np.concatenate(biases)}
    return named


@pytest.mark.slow
def test_the_speed_is_measured():
    options = [
        "--hidden-size",
        "8",
        "--batch-size",
        "4",
        "--longest",
        "3",
        "--threads",
        "1",
        "--rounds",
        "2",
        "--steps",
        "2",
    ]
    command = [sys.executable, str(BENCHMARKS / "seq2seq.py"), *options]
    process = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert process.returncode == 0, process.stderr
    (line,) = (line for line in process.stdout.splitlines() if line.startswith("| 1 ") and "| Trainer, GRUCell" in line)
    assert float(line.split("|")[3].split()[0]) > 0
