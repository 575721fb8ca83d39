"""What the user knows of the number of speakers."""

from __future__ import annotations

from dataclasses import dataclass

from fluidaudio_cli.errors import UsageError


@dataclass(frozen=True)
class SpeakerBounds:
    """How many speakers a recording has, as far as the user knows; ``None`` where unknown."""

    exactly: int | None = None
    at_least: int | None = None
    at_most: int | None = None

    def __post_init__(self) -> None:
        """Refuse bounds that no recording can meet."""
        for name, value in (
            ("--num-speakers", self.exactly),
            ("--min-speakers", self.at_least),
            ("--max-speakers", self.at_most),
        ):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}", "give a whole number of at least 1")
        if self.exactly is not None and not (self.at_least is None and self.at_most is None):
            raise UsageError(
                "--num-speakers excludes --min-speakers and --max-speakers", "give one of them"
            )
        if self.at_least and self.at_most and self.at_least > self.at_most:
            raise UsageError(
                f"--min-speakers {self.at_least} is more than --max-speakers {self.at_most}",
                "swap them",
            )

    @property
    def fewest(self) -> int:
        """The least number of speakers allowed."""
        return self.exactly or self.at_least or 1

    @property
    def most(self) -> int | None:
        """The greatest number allowed, if there is one."""
        return self.exactly or self.at_most
