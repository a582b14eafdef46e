"""LFADS in plain PyTorch, with the layers, states and distributions that lfads-torch has (separate encoders, controller).

lfads-torch: Sedler & Pandarinath (2023, arXiv:2309.01230). Left out are its loggers, metrics, data loaders and frozen
biases of zero. Its
divergence of the inferred inputs is the difference of log densities at a new sample of their posterior.
"""

from typing import Any

import torch
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn.functional import linear, normalize, pad, poisson_nll_loss

CLIP = 5.0
MIN_CODE_VARIANCE = 1e-4


class GRUCell(nn.Module):
    """One step of a GRU that multiplies the state by its reset gate before the product; gates: reset, update."""

    def __init__(self, inputs: int, size: int):
        super().__init__()
        self.input_weight = nn.Parameter(torch.randn(3 * size, inputs) / inputs**0.5)
        self.recurrent_weight = nn.Parameter(torch.randn(3 * size, size) / size**0.5)
        self.bias = nn.Parameter(torch.cat([torch.ones(2 * size), torch.zeros(size)]))

    def forward(self, x, h):
        size = h.shape[1]
        x_reset, x_update, x_new = (x @ self.input_weight.T + self.bias).chunk(3, dim=1)
        gates, new = self.recurrent_weight.split([2 * size, size])
        h_reset, h_update = (h @ gates.T).chunk(2, dim=1)
        reset, update = torch.sigmoid(x_reset + h_reset), torch.sigmoid(x_update + h_update)
        candidate = torch.tanh(x_new + (reset * h) @ new.T)
        return torch.clamp(update * h + (1 - update) * candidate, -CLIP, CLIP)


class BidirectionalGRU(nn.Module):
    """Two GRUs over time with learned states before the first step."""

    def __init__(self, inputs: int, size: int):
        super().__init__()
        self.cells = nn.ModuleList([GRUCell(inputs, size), GRUCell(inputs, size)])
        self.start = nn.Parameter(torch.zeros(2, 1, size))

    def forward(self, x):
        forward, end = self.run(0, x)
        backward, start = self.run(1, x.flip(1))
        return torch.cat([forward, backward.flip(1)], dim=2), torch.cat([end, start], dim=1)

    def run(self, i, x):
        h, states = self.start[i].tile(x.shape[0], 1), []
        for step in x.transpose(0, 1):
            h = self.cells[i](step, h)
            states.append(h)
        return torch.stack(states, dim=1), h


def posterior(mean, std, noise, dims=1):
    """N(mean, std²) and a sample of it."""
    q = Independent(Normal(mean, std), dims)
    return q, q.rsample() if noise is None else mean + std * noise


class TorchLFADS(nn.Module):
    """The model; `forward` gives its loss, with the true weight of the divergences. Fields of `shape`: see lfads.py."""

    def __init__(self, s: Any):
        super().__init__()
        self.shape = s
        self.code_encoder = BidirectionalGRU(s.num_read, s.encoder_size)
        self.controller_encoder = BidirectionalGRU(s.num_read, s.controller_encoder_size)
        self.code_head = nn.Linear(2 * s.encoder_size, 2 * s.generator_size)
        self.initial_map = nn.Linear(s.generator_size, s.generator_size)
        self.controller = GRUCell(2 * s.controller_encoder_size + s.num_factors, s.controller_size)
        self.controller_start = nn.Parameter(torch.zeros(1, s.controller_size))
        self.input_head = nn.Linear(s.controller_size, 2 * s.num_inputs)
        self.generator = GRUCell(s.num_inputs, s.generator_size)
        self.factor_map = nn.Linear(s.generator_size, s.num_factors, bias=False)
        self.read_out = nn.Linear(s.num_factors, s.num_neurons)
        self.code_prior_mean = nn.Parameter(torch.zeros(s.generator_size))
        self.log_tau = nn.Parameter(torch.full((s.num_inputs,), 10.0).log())
        self.log_noise_variance = nn.Parameter(torch.full((s.num_inputs,), 0.1).log())
        self.drop = nn.Dropout(s.dropout)

    def factors(self, state):
        return linear(self.drop(state), normalize(self.factor_map.weight, dim=1))

    def forward(self, spikes, targets, noise=None):
        """Mean over trials of −ELBO; `noise` [B, C], [T', B, U], [B, T', U] of code, inputs and divergence: else drawn."""
        s, batch = self.shape, spikes.shape[0]
        code_noise, input_noise, divergence_noise = noise or (None, [None] * s.num_steps, None)
        if s.coordinated_dropout:
            keep = torch.bernoulli(torch.full_like(spikes, 1 - s.coordinated_dropout))
            spikes = spikes * keep / (1 - s.coordinated_dropout)
        read = self.drop(spikes)
        summary = self.code_encoder(read)[1]
        code_mean, log_variance = self.code_head(self.drop(summary)).chunk(2, dim=1)
        code_std = torch.sqrt(log_variance.exp() + MIN_CODE_VARIANCE)
        q, code = posterior(code_mean, code_std, code_noise)
        kl_code = kl_divergence(q, Independent(Normal(self.code_prior_mean, 0.1**0.5), 1))

        features, _ = self.controller_encoder(read)
        forward, backward = features.chunk(2, dim=2)
        forward = pad(forward, (0, 0, s.lag, 0))[:, : s.num_time]
        features = torch.cat([forward, pad(backward, (0, 0, 0, s.lag))[:, s.lag :]], dim=2)
        features = pad(features, (0, 0, 0, s.num_steps - s.num_time))

        g = self.initial_map(self.drop(code))
        none = torch.zeros(batch, s.num_inputs)
        hidden = torch.cat([g, self.controller_start.tile(batch, 1), none, none + 1, none, self.factors(g)], dim=1)
        sizes, over_time = [s.generator_size, s.controller_size, *[s.num_inputs] * 3, s.num_factors], []
        for step, noise_now in zip(features.transpose(0, 1), input_noise, strict=True):
            g, c, _, _, _, factors = hidden.split(sizes, dim=1)
            c = self.controller(self.drop(torch.cat([step, factors], dim=1)), c)
            mean, log_variance = self.input_head(c).chunk(2, dim=1)
            std = torch.sqrt(log_variance.exp())
            _, drawn = posterior(mean, std, noise_now)
            g = self.generator(drawn, g)
            hidden = torch.cat([g, c, mean, std, drawn, self.factors(g)], dim=1)
            over_time.append(hidden)
        _, _, means, stds, _, factors = torch.stack(over_time, dim=1).split(sizes, dim=2)
        q, sample = posterior(means, stds, divergence_noise, dims=2)
        kl_inputs = q.log_prob(sample) - self.log_prior(sample)

        nll = poisson_nll_loss(self.read_out(factors), targets, full=True, reduction="none")
        if s.coordinated_dropout:
            counted = pad(1 - keep, (0, s.num_neurons - s.num_read, 0, s.num_steps - s.num_time), value=1.0)
            nll = nll * counted + (nll * (1 - counted)).detach()
        return (nll.sum((1, 2)) + kl_code + kl_inputs).mean()

    def log_prior(self, sample):
        phi = torch.exp(-1 / self.log_tau.exp())
        means = phi * sample.roll(1, dims=1)
        stds = torch.ones_like(means) * (0.5 * self.log_noise_variance).exp()
        means[:, 0] = 0
        stds[:, 0] = (0.5 * (self.log_noise_variance - torch.log(1 - phi**2))).exp()
        return Independent(Normal(means, stds), 2).log_prob(sample)


def trainer(shape: Any, spikes: Any, targets: Any, steps: int, threads: int):
    """A function that takes `steps` training steps: forward, backward and Adam."""
    torch.set_num_threads(threads)
    model = TorchLFADS(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    spikes, targets = torch.as_tensor(spikes), torch.as_tensor(targets)

    def train():
        for _ in range(steps):
            optimizer.zero_grad()
            loss = model(spikes, targets)
            loss.backward()
            optimizer.step()
        return loss.item()

    return train
