"""Conversations made on demand: turn taking, voices, rooms, noise and channels, exactly known."""
