"""Clock, memory, power, bandwidth, environment, statistics: how things are measured, not what."""
