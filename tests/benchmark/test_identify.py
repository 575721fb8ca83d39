"""``benchmark --identify``: figures of trials by hand, and a small run of the real thing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarking import cell
from scipy.special import logit

from fluidaudio_cli.benchmark import identify, trials
from fluidaudio_cli.benchmark.identify import Piece, VoiceFolder
from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.results import IdentificationRecord, read_result
from fluidaudio_cli.cli.process import run
from fluidaudio_cli.report.identify import det_figure
from fluidaudio_cli.simulate.bundled import bundled_voices

RECORD = IdentificationRecord(
    voices=4,
    same_odds=(3.0, 2.0, 1.0, -1.0),
    same_rates=(0.001, 0.004, 0.02, 0.2),
    stranger_odds=(1.5, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0),
    stranger_rates=(0.009, 0.04, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8),
    unheard=1,
)


def test_figures_of_trials_by_hand() -> None:
    assert trials.false_accepts(RECORD, 0.01) == 1 / 8
    assert trials.false_accepts(RECORD, 0.05) == 2 / 8
    assert trials.false_rejects(RECORD, 0.01) == 3 / 5
    assert trials.false_rejects(RECORD, 0.05) == 2 / 5
    accepts, rejects = trials.error_curve(RECORD)
    assert (accepts[0], rejects[0]) == (1.0, 1 / 5)
    assert (accepts[-1], rejects[-1]) == (0.0, 1.0)
    # At -2 two of eight are accepted and the unheard one of five is missed: nothing is nearer.
    assert trials.equal_error_rate(RECORD) == pytest.approx((2 / 8 + 1 / 5) / 2)
    # Above 1.5 three are missed and nobody is accepted.
    assert trials.min_dcf(RECORD) == pytest.approx(3 / 5)
    measured = cell("fast").model_copy(update={"identification": RECORD})
    percents = {"eer": 22.5, "false_accept_1": 12.5, "false_accept_5": 25.0, "false_reject_5": 40.0}
    assert {name: METRICS[name].samples(measured)[0] for name in percents} == pytest.approx(
        percents
    )


def test_cllr_is_nothing_for_certainty_and_one_for_knowing_nothing() -> None:
    certain = {"same_odds": (40.0,), "stranger_odds": (-40.0,)}
    sure = RECORD.model_copy(update={**certain, "unheard": 0})
    assert trials.cllr(sure) == pytest.approx(0.0, abs=1e-12)
    # Of one of the two tests of one person nothing is known.
    assert trials.cllr(RECORD.model_copy(update=certain)) == pytest.approx(1 / 4)
    nobody = RECORD.model_copy(update={"stranger_odds": (), "stranger_rates": ()})
    assert np.isnan([trials.cllr(nobody), trials.false_accepts(nobody, 0.01)]).all()
    blind = RECORD.model_copy(update={"same_odds": (0.0,), "stranger_odds": (0.0,)})
    assert trials.cllr(blind) == pytest.approx(1.0)


def test_expected_and_observed_weigh_both_kinds_alike() -> None:
    even = RECORD.model_copy(update={"same_odds": (0.1,) * 2, "stranger_odds": (0.1,) * 50})
    ((said, observed, count),) = trials.expected_and_observed(even)
    assert said == pytest.approx(0.525, abs=1e-3)
    assert observed == pytest.approx(0.5)
    assert count == 52


def test_expected_and_observed_by_hand() -> None:
    def odds(*probabilities: float) -> tuple[float, ...]:
        return tuple(logit(probabilities).tolist())

    update = {"same_odds": odds(0.95, 0.3), "stranger_odds": odds(0.02, 0.04, 0.3, 0.6)}
    found = trials.expected_and_observed(RECORD.model_copy(update=update))
    # A test of one person weighs a quarter, one of two an eighth.
    expected = [(0.03, 0.0, 2), (0.3, 2 / 3, 2), (0.6, 0.0, 1), (0.95, 1.0, 1)]
    assert [pytest.approx(each) for each in expected] == found


def test_the_least_cost_weighs_a_false_accept_99_times() -> None:
    update = {"same_odds": (5.0, 1.0), "stranger_odds": (2.0, *[-5.0] * 199), "unheard": 0}
    assert trials.min_dcf(RECORD.model_copy(update=update)) == pytest.approx(99 / 200)


@pytest.mark.parametrize("through", ["", "noise=0", "room=0.5", "band=4000"])
def test_pieces_share_no_audio_and_sound_the_same_each_time(through: str) -> None:
    recorded = np.random.default_rng(0).normal(size=10 * 16_000).astype(np.float32)
    piece = Piece(3, 2.0, at_end=True, through=through)
    first = piece.samples(recorded)
    assert first.shape == (32_000,)
    assert np.array_equal(first, piece.samples(recorded))
    changed = recorded.copy()
    changed[: 8 * 16_000] = 0.0
    assert np.array_equal(first, piece.samples(changed))
    assert np.sqrt(np.mean(first.astype(np.float64) ** 2)) == pytest.approx(10**-1.3, rel=1e-3)
    start = Piece(3, 2.0, at_end=False, through=through)
    later = np.append(recorded[: 2 * 16_000], changed[2 * 16_000 :] + 1.0)
    assert np.array_equal(start.samples(recorded), start.samples(later))
    assert not np.array_equal(start.samples(recorded), first)


@pytest.mark.parametrize("snr", [0, 10, 20])
def test_noise_is_as_loud_as_asked(snr: int) -> None:
    recorded = np.random.default_rng(0).normal(size=5 * 16_000).astype(np.float32)
    heard = Piece(3, 5.0, at_end=True, through=f"noise={snr}").samples(recorded)
    voice = recorded * (heard @ recorded) / (recorded @ recorded)
    assert 20 * np.log10(np.std(voice) / np.std(heard - voice)) == pytest.approx(snr, abs=0.2)


def test_a_run_in_every_format_with_gates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(identify, "SECONDS", (2, 30))
    monkeypatch.setattr(identify, "THROUGH", ())
    monkeypatch.setattr(identify, "BOTH", ("band=4000",))
    monkeypatch.setattr(identify, "_ALL_SECONDS", 2)
    gates = tmp_path / "gates.yaml"
    gates.write_text(
        "schema: fluidaudio.gates/1\ngates:\n"
        '  - {study: identify, condition: "enrol=2 test=2", metric: eer, at_most: 5, unit: "%"}\n'
        '  - {study: identify, condition: "enrol=2 test=2", metric: cllr, at_most: 0, unit: bits}\n'
    )
    files = [tmp_path / f"r.{kind}" for kind in ("json", "csv", "md", "html", "xml")]
    outputs = [part for file in files for part in ("-o", str(file))]
    arguments = ["benchmark", "--identify", "--max-files", "8", "--performance-mode", "fast"]
    code = run([*arguments, "--gate", str(gates), *outputs])
    out, err = capsys.readouterr()
    assert code == 1
    assert "1 of 2 gates failed: any dataset fast/enrol=2 test=2 cllr" in err
    assert "Identification" in out
    result = read_result(files[0])
    by_name = {cell.cell.condition: cell for cell in result.cells}
    assert by_name["enrol=2 test=30"].unavailable == (
        "0 of 8 voices have 32 s of audio, and 8 are needed"
    )
    found = by_name["enrol=2 test=2"].identification
    assert found is not None
    assert (len(found.same_odds) + found.unheard, len(found.stranger_odds)) == (8, 56)
    assert trials.equal_error_rate(found) < 0.05
    both = by_name["enrol=2 band=4000 test=2 band=4000"].identification
    assert both is not None
    # Strangers on two telephones are no more alike than others.
    assert trials.false_accepts(both, 0.05) < 0.1
    assert both.stranger_odds != found.stranger_odds
    assert result.dataset.uris[:2] == ("libri-1334-m", "libri-1578-f")
    rows = files[1].read_text(encoding="utf-8").splitlines()
    assert sum(",eer,%," in row for row in rows) == 2
    assert "| FA at 1 % |" in files[2].read_text(encoding="utf-8")
    assert "FA at 1 %" in files[3].read_text(encoding="utf-8")
    # What is perfectly told apart has no curve; with an error on either side it has.
    assert det_figure(result) is None
    cell = by_name["enrol=2 test=2"].model_copy(update={"identification": RECORD})
    figure = det_figure(result.model_copy(update={"cells": (cell,)}))
    assert figure is not None
    (curve,) = figure["data"]
    assert [0.25, 0.2] in curve["customdata"]
    assert json.loads(files[0].read_text())["plan"]["studies"][0]["name"] == "identify"


def test_too_few_voices_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["benchmark", "--identify", "--max-files", "3"]) == 2
    assert f"3 voices of {bundled_voices()}: give 8 or more" in capsys.readouterr().err


def test_the_fingerprint_is_of_names_and_content(tmp_path: Path) -> None:
    first = VoiceFolder.of(bundled_voices(), 2)
    assert [item.uri for item in first.items] == ["libri-1334-m", "libri-1578-f"]
    for item in first.items:
        (tmp_path / item.audio.name).write_bytes(item.audio.read_bytes())
    assert VoiceFolder.of(tmp_path).fingerprint == first.fingerprint
    (tmp_path / first.items[0].audio.name).write_bytes(first.items[1].audio.read_bytes())
    assert VoiceFolder.of(tmp_path).fingerprint != first.fingerprint
