"""``python -m fluidaudio_cli``."""

from fluidaudio_cli.cli.process import module

if __name__ == "__main__":
    module()
