"""What the numeric fixtures compute, by subject; needs the extra ``[convert]`` to import."""
