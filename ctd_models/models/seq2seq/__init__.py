"""Sequence to sequence: codes, encoders, attention, decoders, search."""

from ctd_models.models.seq2seq.attention import AdditiveAttention, DotAttention, GeneralAttention
from ctd_models.models.seq2seq.codes import BitTokens, Signals, Tokens
from ctd_models.models.seq2seq.layers import Encoded, RecurrentDecoder, RecurrentEncoder
from ctd_models.models.seq2seq.model import Answers, Memory, Seq2Seq
from ctd_models.models.seq2seq.search import Decoded, beam_search, free_run, greedy
from ctd_models.models.seq2seq.transformer import TransformerSeq2Seq

__all__ = [
    "AdditiveAttention",
    "Answers",
    "BitTokens",
    "Decoded",
    "DotAttention",
    "Encoded",
    "GeneralAttention",
    "Memory",
    "RecurrentDecoder",
    "RecurrentEncoder",
    "Seq2Seq",
    "Signals",
    "Tokens",
    "TransformerSeq2Seq",
    "beam_search",
    "free_run",
    "greedy",
]
