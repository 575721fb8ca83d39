"""Speaker diarization on Core ML model packages: run, score, profile and gate them anywhere."""

__version__ = "0.1.0"
