"""Measure speed, memory, energy and accuracy of the pipeline, and judge the figures."""
