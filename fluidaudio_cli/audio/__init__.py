"""Decode and resample any recording as a stream, in bounded memory."""
