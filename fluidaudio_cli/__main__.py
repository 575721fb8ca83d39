"""``python -m fluidaudio_cli``."""

from fluidaudio_cli.cli.process import main

if __name__ == "__main__":
    main()
