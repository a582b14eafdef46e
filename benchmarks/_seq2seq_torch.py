"""A recurrent encoder and decoder with additive attention in plain PyTorch, the form that benchmarks/seq2seq.py compares.

PyTorch's own bidirectional GRU reads the packed sequences; its GRU cell answers in a loop, and all that does not depend on
the state (embedding, keys, the read-out) is done for all steps at once.
"""

from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

START = 1


class TorchSeq2Seq(nn.Module):
    """`Seq2Seq` of `BitTokens` with `AdditiveAttention`; `forward` gives the mean cross-entropy of the right answers."""

    def __init__(self, num_bits: int, size: int):
        super().__init__()
        half, embedded = size // 2, num_bits + 2
        self.encoder = nn.GRU(embedded, half, bidirectional=True, batch_first=True)
        self.bridge = nn.Linear(size, size)
        self.of_query, self.of_key = nn.Linear(size, half, bias=False), nn.Linear(size, half)
        self.combine = nn.Linear(half, 1, bias=False)
        self.decoder = nn.GRUCell(embedded + size, size)
        self.readout = nn.Linear(2 * size, num_bits + 1)
        symbols = torch.arange(2**num_bits)[:, None] >> torch.arange(num_bits) & 1
        table = torch.zeros(3 + 2**num_bits, embedded)
        table[3:, :num_bits], table[1, num_bits], table[2, num_bits + 1] = symbols.float(), 1.0, 1.0
        self.register_buffer("table", table)
        self.register_buffer("symbols", symbols.float())

    def forward(self, inputs, input_lengths, targets, target_lengths):
        """Tokens [B, S] and [B, T] with their lengths [B]."""
        packed = pack_padded_sequence(self.table[inputs], input_lengths, batch_first=True, enforce_sorted=False)
        outputs, ends = self.encoder(packed)
        values, _ = pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])
        state = torch.tanh(self.bridge(torch.cat([ends[0], ends[1]], dim=1)))
        keys, outside = self.of_key(values), torch.arange(inputs.shape[1]) >= input_lengths[:, None]
        start = torch.full_like(targets[:, :1], START)
        last = self.table[torch.cat([start, targets[:, :-1]], dim=1)]
        features = []
        for step in last.unbind(dim=1):
            scores = self.combine(torch.tanh(self.of_query(state)[:, None] + keys))[..., 0]
            weights = torch.softmax(scores.masked_fill(outside, torch.finfo(scores.dtype).min), dim=1)
            context = torch.bmm(weights[:, None], values)[:, 0]
            state = self.decoder(torch.cat([step, context], dim=1), state)
            features.append(torch.cat([state, context], dim=1))
        out = self.readout(torch.stack(features, dim=1))
        bits, end = out[..., :-1], out[..., -1:]
        symbols = bits @ self.symbols.T - nn.functional.softplus(bits).sum(dim=-1, keepdim=True)
        never = torch.full((*end.shape[:-1], 2), -1e9)
        logits = torch.cat([never, end, symbols], dim=-1)
        counts = torch.arange(targets.shape[1]) < target_lengths[:, None]
        return nn.functional.cross_entropy(logits[counts], targets[counts])


def trainer(num_bits: int, size: int, batch: Any, steps: int, threads: int):
    """A function that takes `steps` training steps: forward, backward and Adam."""
    torch.set_num_threads(threads)
    model = TorchSeq2Seq(num_bits, size)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batch = [torch.tensor(part).long() for part in batch]

    def train():
        for _ in range(steps):
            optimizer.zero_grad()
            loss = model(*batch)
            loss.backward()
            optimizer.step()
        return loss.item()

    return train
