"""Other diarization programs, run on the same files to compare speed and error with ours."""
