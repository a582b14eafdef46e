"""Recordings and simulations in HDF5 files. Knows NumPy and h5py, and nothing else of the package."""

from ctd_models.data.hdf5 import read_datasets, write_datasets
from ctd_models.data.recordings import TEST, TRAIN, VALIDATION, Recording, load_recording
from ctd_models.data.spike_trials import SpikeTrials

__all__ = [
    "TEST",
    "TRAIN",
    "VALIDATION",
    "Recording",
    "SpikeTrials",
    "load_recording",
    "read_datasets",
    "write_datasets",
]
