"""The only package that knows Rich: results as tables, progress as bars."""
