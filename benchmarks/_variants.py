"""The ways to train a network that training.py compares."""

import dataclasses
from typing import Any

import _floors
import jax
import optax

from ctd_models import GRU, Trainer, VanillaRNN
from ctd_models.tasks import BinaryDecision, Integration
from ctd_models.training import mean_squared_error
from ctd_models.training.run import Run
from ctd_models.training.sources import as_source


@dataclasses.dataclass
class Variants:
    """One network with its task and loss, trained in several ways: each method returns a function to be timed."""

    settings: Any
    """Sizes, steps and seed: the settings of training.py."""
    name: str
    """"rnn" or "gru"."""

    def __post_init__(self):
        N, T, is_rnn = self.settings.hidden_size, self.settings.num_time_steps, self.name == "rnn"
        self.model = (VanillaRNN if is_rnn else GRU)(N, output_size=1)
        self.task = (Integration if is_rnn else BinaryDecision)(num_steps=T)
        self.loss = mean_squared_error(self.model, l2=1e-5)
        self.optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(1e-3))
        self.key = jax.random.key(self.settings.seed)
        self.products = _floors.rnn_products if is_rnn else _floors.gru_products
        self.shapes = {"recurrent": (N, N), "input": (1, N), "readout": (N, 1)}
        if not is_rnn:
            gates = {"gates_recurrent": (N, 2 * N), "gates_input": (1, 2 * N)}
            self.shapes = gates | {"candidate_recurrent": (N, N), "candidate_input": (1, N), "readout": (N, 1)}

    def trainer(self, loop):
        """(a) `n` steps of a fresh trainer's program, which goes on from where it was."""
        trainer = Trainer(self.model, self.loss, self.optimizer, batch_size=self.settings.batch_size, loop=loop)
        source = as_source(self.task, self.settings.batch_size)
        run = Run(trainer, source, None, self.settings.steps, self.key, None, None, ())
        state = run._begin()

        def train(n=self.settings.steps):
            nonlocal state
            state, metrics, finite = run._train(state, n)
            assert finite and len(metrics["loss"]) == n
            return state

        return train

    def floor(self):
        """(b) The matrix products alone."""
        inputs = self.task.sample(self.key, self.settings.batch_size).inputs
        return _floors.floor(self.products, self.shapes, inputs.swapaxes(0, 1), self.settings.steps)

    def python_loop(self):
        """(c) The loop that one would write by hand: jitted data and update; losses stay on the device until the end."""
        sample, batch_size = jax.jit(self.task.sample, static_argnums=1), self.settings.batch_size
        variables = jax.jit(self.model.init)(self.key, sample(self.key, batch_size).inputs)
        optimizer_state = self.optimizer.init(variables)
        key = self.key

        @jax.jit
        def update(variables, optimizer_state, batch):
            gradient_of_loss = jax.value_and_grad(self.loss, has_aux=True)
            (loss, _), gradient = gradient_of_loss(variables, batch, {}, 0, True)
            updates, optimizer_state = self.optimizer.update(gradient, optimizer_state, variables)
            return optax.apply_updates(variables, updates), optimizer_state, loss

        def train():
            nonlocal variables, optimizer_state, key
            losses = []
            for _ in range(self.settings.steps):
                key, batch_key = jax.random.split(key)
                batch = sample(batch_key, batch_size)
                variables, optimizer_state, loss = update(variables, optimizer_state, batch)
                losses.append(loss)
            return [float(loss) for loss in losses]

        return train
