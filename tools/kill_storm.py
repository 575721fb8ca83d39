"""kill -9 at random moments, many processes at once, full and read-only disks."""
