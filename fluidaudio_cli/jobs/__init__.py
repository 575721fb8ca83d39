"""Jobs: one function over many recordings, here or on a cluster, none lost (docs/jobs.md).

``Work`` is the function; ``Recordings`` says what is to be done and ``Manifest`` what is done;
a ``Pool`` of workers does it (``local``, ``cluster``), and ``run`` deals out.
"""
