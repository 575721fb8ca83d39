"""What runs: settled from what was asked, the machine and the tuning, or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fluidaudio_cli.diarization.modes import ModeConfig, SegmentationRules, load_mode
from fluidaudio_cli.diarization.plan import (
    EXACT_EMBEDDING,
    Asked,
    Machine,
    NetworkPlan,
    Plan,
    plan_of,
    resolve,
)
from fluidaudio_cli.diarization.tuning import NetworkTuning, Tuning
from fluidaudio_cli.errors import ExecutorUnavailableError, ModelFormatError, UsageError
from fluidaudio_cli.executors.base import Availability
from fluidaudio_cli.models.card import load_card

ABSENT = Availability(False, "not on this system", "use another")
ONNX = Availability(True, version="1", precisions=("fp32",), fastest="fp32")
BF16 = Availability(True, version="1", precisions=("fp32", "bf16"), fastest="fp32")
# Tiles make bf16 the fastest.
AMX = replace(BF16, fastest="bf16")
VNNI = replace(BF16, integers=True)
CORE_ML = Availability(True, version="1", precisions=("fp32", "fp16"))


def machine(openvino: Availability = BF16, coreml: Availability = ABSENT) -> Machine:
    return Machine(4, {"coreml": coreml, "openvino": openvino, "onnxruntime": ONNX})


def plan(
    mode: str | ModeConfig = "balanced",
    *,
    on: Machine | None = None,
    tuning: Tuning | None = None,
    **asked: Any,
) -> Plan:
    config = mode if isinstance(mode, ModeConfig) else load_mode(mode)
    return resolve(Asked(mode=config, card=load_card(), **asked), on or machine(), tuning)


def precisions(made: Plan) -> dict[str, str]:
    return {role: network.precision for role, network in made.networks.items()}


TUNED = Tuning(
    "openvino", "all", 2, NetworkTuning("bf16", 4), NetworkTuning("fp32", 32), "this machine"
)


def test_auto_takes_the_first_executor_present_and_its_fastest_precision() -> None:
    made = plan()
    assert (made.executor, made.threads, made.workers) == ("openvino", 4, 4)
    assert made.networks == {
        "segmentation": NetworkPlan(precision="fp32", batch=8),
        "fbank": NetworkPlan(precision="fp32", batch=8),
        "embedding": NetworkPlan(precision="fp32", batch=8),
    }
    # The card's filter bank goes no lower, whatever is fastest.
    bf16 = {"segmentation": "bf16", "fbank": "fp32", "embedding": "bf16"}
    assert precisions(plan(on=machine(AMX))) == bf16
    assert plan(on=machine(ABSENT)).executor == "onnxruntime"
    assert plan(on=machine(coreml=CORE_ML)).executor == "coreml"


def test_integers_are_taken_where_the_mode_wants_them_and_the_card_has_them() -> None:
    rules = replace(load_mode("turbo").embedding, narrow=True)
    insists = replace(load_mode("turbo"), embedding=rules)
    narrow = {role: network.variant for role, network in plan(insists).networks.items()}
    assert narrow == {"segmentation": "", "fbank": "", "embedding": "narrow"}
    small = replace(insists, segmentation=SegmentationRules(distilled=True))
    assert plan(small).networks["segmentation"].variant == "distilled"
    # A voice that is to be exact is embedded by the other network, in the same precision too.
    exact = replace(insists.embedding, exact_below_seconds=2.0)
    made = plan(replace(insists, embedding=exact))
    assert made.networks[EXACT_EMBEDDING] == NetworkPlan(precision="fp32", batch=2)
    card = load_card()
    assert card.embedding is not None
    without = replace(card, name="mine", embedding=replace(card.embedding, narrow_file=""))
    made = resolve(Asked(mode=insists, card=without), machine(), None)
    assert not made.networks["embedding"].variant
    assert made.notes == ("model card mine has no embedding.narrow_file: its usual network runs",)


def test_utterances_are_heard_apart_where_the_calibration_tells_them() -> None:
    balanced = load_mode("balanced")
    assert plan(balanced).mode.crops.utterances
    silent = replace(balanced, calibration=replace(balanced.calibration, utterance_cosine=0.0))
    assert not plan(silent).mode.crops.utterances


def test_integers_are_taken_where_they_are_faster_and_nobody_asked_for_a_precision() -> None:
    def variant(mode: str | ModeConfig, on: Availability = VNNI, **asked: Any) -> str:
        return plan(mode, on=machine(on), **asked).networks["embedding"].variant

    modes = ("turbo", "fast", "balanced", "accurate")
    assert [variant(mode) for mode in modes] == ["narrow"] * 4
    assert variant("reference") == ""
    assert variant("fast", executor="onnxruntime") == ""
    assert variant("fast", BF16) == ""
    assert variant("fast", precision="fp32") == ""
    assert variant("fast", low_latency=True) == ""
    assert variant("fast", tuning=TUNED) == ""
    exact = replace(load_mode("fast").execution, precision="fp32")
    assert variant(replace(load_mode("fast"), execution=exact)) == ""
    # Where the mode insists, whatever else is asked for.
    rules = replace(load_mode("turbo").embedding, narrow=True)
    insists = replace(load_mode("turbo"), embedding=rules)
    assert variant(insists, BF16, precision="fp32") == "narrow"
    card = load_card()
    assert card.embedding is not None
    without = replace(card, name="mine", embedding=replace(card.embedding, narrow_file=""))
    made = resolve(Asked(mode=load_mode("fast"), card=without), machine(VNNI), None)
    assert (made.networks["embedding"].variant, made.notes) == ("", ())


def test_a_precision_asked_for_holds_for_all_that_stand_it_and_the_rest_is_said() -> None:
    made = plan("accurate", precision="bf16")
    assert precisions(made) == {"segmentation": "bf16", "fbank": "fp32", "embedding": "bf16"}
    assert made.notes == (
        "fbank runs in fp32, the lowest its model card allows",
        "--precision bf16 holds for all voices: embedding.exact_below_seconds of the mode is "
        "left out",
    )
    assert plan("accurate", precision="fp32").notes == ()
    assert precisions(plan("accurate", on=machine(AMX)))[EXACT_EMBEDDING] == "fp32"
    assert EXACT_EMBEDDING not in plan("accurate").networks  # all is exact
    assert EXACT_EMBEDDING not in plan("accurate", on=machine(AMX), low_latency=True).networks


def test_no_kernel_in_integers_runs_what_the_card_wants_more_exact() -> None:
    card = load_card()
    assert card.segmentation is not None
    exact = replace(card, segmentation=replace(card.segmentation, lowest_precision="fp32"))
    made = resolve(Asked(mode=load_mode("turbo"), card=exact), machine(VNNI), None)
    assert made.options("segmentation").kernels == "auto"
    assert made.notes == (
        "no layer is computed in 8-bit integers: the model card allows nothing below fp32",
    )
    assert plan("turbo", on=machine(VNNI)).options("segmentation").kernels == "narrow"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_kernel_in_integers_runs_where_a_precision_is_asked_for(precision: str) -> None:
    made = plan("turbo", on=machine(VNNI), precision=precision)
    assert made.options("segmentation").kernels == "auto"
    assert f"no layer is computed in 8-bit integers: --precision asks for {precision}" in made.notes


def mode_with(section: str, **values: Any) -> ModeConfig:
    mode = load_mode("accurate")
    return replace(mode, **{section: replace(getattr(mode, section), **values)})


@pytest.mark.parametrize(
    ("mode", "asked", "tuning", "source"),
    [
        (load_mode("fast"), {"precision": "bf16"}, None, "--precision"),
        (mode_with("execution", precision="bf16"), {}, None, "the mode's execution.precision"),
        (
            mode_with("embedding", exact_precision="bf16"),
            {},
            None,
            "the mode's embedding.exact_precision",
        ),
        (load_mode("fast"), {}, replace(TUNED, executor="onnxruntime"), "the stored tuning"),
    ],
)
def test_a_precision_that_is_not_here_is_refused_in_any_key(
    mode: ModeConfig, asked: dict[str, Any], tuning: Tuning | None, source: str
) -> None:
    with pytest.raises(ExecutorUnavailableError) as refusal:
        plan(mode, on=machine(ABSENT), tuning=tuning, **asked)
    assert str(refusal.value) == (
        f"{source}: onnxruntime does not run bf16 on this processor: use fp32, or another "
        "--executor"
    )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"precision": "int4"}, "--precision int4 is not known: use auto, fp32, bf16, fp16"),
        ({"compute_units": "gpu"}, "--compute-units gpu is not known: use all, cpu-only"),
        ({"threads": 0}, "--threads is 0: give a whole number of 1 to 1024"),
        ({"threads": 1025}, "--threads is 1025: give a whole number of 1 to 1024"),
        ({"executor": "tensorrt"}, "there is no executor 'tensorrt': use auto, coreml"),
        (
            {"compute_units": "cpu-and-ne"},
            "--compute-units cpu-and-ne has no meaning for openvino, which runs on the CPU: "
            "leave it out, or use --executor coreml",
        ),
    ],
)
def test_what_nothing_can_honour_is_a_usage_error(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        plan(**asked)
    assert str(refusal.value).startswith(message)


def test_an_executor_that_is_not_here_is_named_with_those_that_are() -> None:
    with pytest.raises(ExecutorUnavailableError) as refusal:
        plan(executor="coreml")
    assert str(refusal.value) == (
        "executor coreml is not available: not on this system: use another "
        "(available here: openvino, onnxruntime)"
    )


def test_core_ml_runs_packages_as_they_were_built() -> None:
    made = plan("accurate", on=machine(coreml=CORE_ML), compute_units="cpu-and-ne")
    assert set(precisions(made).values()) == {"auto"}
    assert made.compute_units == "cpu-and-ne"
    (note,) = made.notes
    assert note.startswith("no voice is embedded more exactly than others: coreml runs each")


def test_a_tuning_is_followed_where_all_is_left_to_auto_and_nowhere_else() -> None:
    made = plan(tuning=TUNED)
    assert made.tuning == str(TUNED)
    # Also where another executor would be the first choice.
    slower = replace(TUNED, executor="onnxruntime", segmentation=NetworkTuning("fp32", 4))
    assert (made.executor, plan(tuning=slower).executor) == ("openvino", "onnxruntime")
    assert made.networks["segmentation"] == NetworkPlan(precision="bf16", batch=4)
    assert made.networks["embedding"] == NetworkPlan(precision="fp32", batch=32)
    assert (made.workers, made.mode.windows.batch, made.mode.embedding.batch) == (2, 4, 32)
    for other in (
        plan(tuning=TUNED, executor="openvino"),
        plan(tuning=TUNED, precision="fp32"),
        plan("reference", tuning=TUNED),
        plan(mode_with("execution", precision="fp32"), tuning=TUNED),
    ):
        assert other.tuning == ""
        assert other.networks["segmentation"].precision == "fp32"


def test_workers_share_the_processors() -> None:
    openvino = plan(threads=3).options("segmentation")
    assert (openvino.threads, openvino.streams, openvino.batch) == (3, 3, 8)
    # Sums of ONNX Runtime follow the threads of one inference: one for each.
    serial = plan("reference").options("segmentation")
    assert (serial.threads, serial.streams, serial.kernels) == (1, 1, "runtime")
    onnx = plan(executor="onnxruntime", threads=3)
    assert onnx.with_workers(2).options("embedding").threads == 2


@pytest.mark.parametrize(
    ("seconds", "workers"), [(None, 4), (1.0, 1), (40.0, 1), (50.0, 2), (3600.0, 4)]
)
def test_no_more_workers_than_batches_of_windows(seconds: float | None, workers: int) -> None:
    # A window every 5 s, by 8.
    assert plan(audio_seconds=seconds).workers == workers


def test_low_latency_is_one_window_on_all_processors() -> None:
    made = plan(low_latency=True)
    assert (made.workers, made.options("segmentation").batch) == (1, 1)
    assert made.options("segmentation").threads == 4


def test_a_plan_comes_back_from_json() -> None:
    tuning = replace(TUNED, embedding=NetworkTuning("bf16", 32))
    made = plan("accurate", tuning=tuning, audio_seconds=10.0).with_batches(2, 3)
    batches = {role: network.batch for role, network in made.networks.items()}
    assert batches == {"segmentation": 2, "fbank": 3, "embedding": 3, EXACT_EMBEDDING: 2}
    assert made.with_batches(1, 1).networks[EXACT_EMBEDDING].batch == 1
    content = json.loads(json.dumps(made.as_dict()))
    assert plan_of(content) == made
    content["networks"]["fbank"]["batch"] = "many"
    with pytest.raises(ModelFormatError, match=r"networks\.fbank\.batch is 'many'"):
        plan_of(content)
