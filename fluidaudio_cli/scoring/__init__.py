"""Annotation files (RTTM, UEM, lab) and the scores computed from them."""
