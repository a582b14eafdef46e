"""Recordings, simulations and texts: reading the layouts in use, binning, cutting, changing at random, writing.

Knows NumPy, h5py and JAX, and nothing else of the package.
"""

from ctd_models.data.augmentations import (
    CoordinatedDropout,
    SelectiveBackprop,
    SpikeJitter,
    TemporalShift,
    augment,
    held_out_mask,
    hold_out_samples,
    mask_missing,
)
from ctd_models.data.binning import bin_spike_times, rebin
from ctd_models.data.grasp import GraspData, load_grasp
from ctd_models.data.hdf5 import read_datasets, write_datasets
from ctd_models.data.layouts import load_spike_trials
from ctd_models.data.nwb import load_nwb
from ctd_models.data.recordings import TEST, TRAIN, VALIDATION, Recording, load_recording
from ctd_models.data.segments import Segments, cut_segments, merge_segments
from ctd_models.data.sessions import load_sessions
from ctd_models.data.spike_dataset import SpikeDataset
from ctd_models.data.spike_trials import SpikeTrials
from ctd_models.data.stitching import session_neurons, stitch_sessions, stitch_trials
from ctd_models.data.streaming import write_chunks
from ctd_models.data.text import LabelledText, Vocabulary, last_word, load_labelled_text, tokenize

__all__ = [
    "TEST",
    "TRAIN",
    "VALIDATION",
    "CoordinatedDropout",
    "GraspData",
    "LabelledText",
    "Recording",
    "Segments",
    "SelectiveBackprop",
    "SpikeDataset",
    "SpikeJitter",
    "SpikeTrials",
    "TemporalShift",
    "Vocabulary",
    "augment",
    "bin_spike_times",
    "cut_segments",
    "held_out_mask",
    "hold_out_samples",
    "last_word",
    "load_grasp",
    "load_labelled_text",
    "load_nwb",
    "load_recording",
    "load_sessions",
    "load_spike_trials",
    "mask_missing",
    "merge_segments",
    "read_datasets",
    "rebin",
    "session_neurons",
    "stitch_sessions",
    "stitch_trials",
    "tokenize",
    "write_chunks",
    "write_datasets",
]
