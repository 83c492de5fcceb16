"""The page of one training run: from what its log and its run.json say to the data that `page` shows.

Plain data in, plain data out. A run need not be finished, and what its log does not say is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bothways.report.judgement_page import said as metric_name
from bothways.report.page import percent
from bothways.report.run_charts import bars, curves, levels, scores, title_of

Line = Mapping[str, Any]

_RIGHT = {
    "rtd": "of the tokens of held-out text are rightly called original or replaced",
    "mlm": "of the masked tokens of held-out text are guessed right",
    "nsp": "of held-out pairs are rightly called neighbours or not",
    "sop": "of held-out pairs are rightly called in order or swapped",
}

_TAUGHT = {"distil", "minilm", "tinybert"}
_OF_TEACHERS = ("start_from_teacher", "temperature", "soft_targets")
"""Settings that say nothing of a run without a teacher."""


def run_page(
    folder: str, run: Line, lines: Sequence[Line], *, ending: str | None = None, made: str = ""
) -> dict[str, Any]:
    """The data of the page.

    Args:
        folder: The run's folder, as it is to be typed.
        run: What its run.json says; may be empty.
        lines: Its log; at least one line on a step or an evaluation.
        ending: Why it ended before its last step, in a sentence; None if it did not.
        made: When the page was made, as text.
    """
    steps, evaluations, insights = (_of(lines, event) for event in ("step", "evaluation", "insight"))
    begun, corpus = (next(iter(_of(lines, event)), {}) for event in ("run", "corpus"))
    tuning = str(run.get("command", "")).startswith("finetune")
    reachable = levels(corpus, insights)
    last, taken = steps[-1] if steps else {}, max(int(line["step"]) for line in lines)
    return {
        "title": _title(run, begun, tuning),
        "summary": _summary(run, begun, reachable, evaluations, taken, ending),
        "seconds": last.get("seconds"),
        "machine": machine_line(run["machine"]) if run.get("machine") else None,
        "made": made,
        "facts": _facts(begun, steps, evaluations, taken),
        "corpus": _corpus(corpus, begun),
        "curves": {"charts": curves(steps, evaluations, reachable), "note": _CURVES_NOTE},
        "bars": {"charts": bars(insights), "note": _BARS_NOTE} if insights else None,
        "samples": _samples(insights),
        "results": _results(steps, evaluations, insights),
        "settings": _settings(run, begun),
        "next": _next(folder, run, tuning),
    }


_CURVES_NOTE = (
    "Held-out texts are never trained on. The pale line behind a blue one is what was logged, the blue one its running "
    "mean. Gradients are measured before they are clipped."
)
_BARS_NOTE = (
    "Rare tokens and long words are learned last. Below each group stands how many held-out places it has; few places "
    "say little."
)


def machine_line(machine: Line) -> str:
    """A machine, as run.json describes it, in one line."""
    precision = (machine.get("precision") or {}).get("name", "float32")
    devices = machine.get("gpus") or [machine["processor"]["name"]]
    return f"{', '.join(devices)}, {machine['threads']['allowed']} threads, {precision}, torch {machine['torch']}"


def _of(lines: Sequence[Line], event: str) -> list[Line]:
    return [line for line in lines if line["event"] == event]


def _title(run: Line, begun: Line, tuning: bool) -> str:
    what = f"Fine-tuning: {run['command'].partition(' ')[2]}" if tuning else "Pre-training"
    return f"{what} of {begun['model']}" if begun.get("model") else what


def _summary(
    run: Line, begun: Line, reachable: Line, evaluations: Sequence[Line], taken: int, ending: str | None
) -> str:
    sentences = []
    measured = evaluations[-1] if evaluations else {}
    kind = next((kind for kind in _RIGHT if f"accuracy.{kind}" in measured), None)
    if kind is not None:
        accuracy = f"{percent(measured[f'accuracy.{kind}'])} {_RIGHT[kind]}"
        how, value = reachable.get(f"accuracy.{kind}", ("", 0.0))
        without = f"; {how} it would be {percent(value)}" if how else ""
        sentences.append(f"After {measured['step']:,} steps {accuracy}{without}.")
    elif "accuracy" in measured:
        sentences.append(f"After {measured['step']:,} steps the accuracy on the dev set is {measured['accuracy']:.1%}.")
    if ending:
        sentences.append(ending)
    if run.get("results") is None:
        of = f" of {begun['steps']:,}" if "steps" in begun else ""
        sentences.append(f"The run is not finished: this is its state after step {taken:,}{of}.")
    return " ".join(sentences)


def _facts(begun: Line, steps: Sequence[Line], evaluations: Sequence[Line], taken: int) -> list[dict[str, str]]:
    facts = [("steps", f"{taken:,}")]
    if begun.get("parameters"):
        kept = sum(count for part, count in begun["parameters"].items() if part != "generator")
        facts.insert(0, ("parameters", f"{kept:,}"))
    if steps and "tokens" in steps[-1]:
        facts.append(("tokens seen", f"{steps[-1]['tokens']:,}"))
    measured = evaluations[-1] if evaluations else {}
    for name in ("accuracy.rtd", "accuracy.mlm", "accuracy"):
        if measured.get(name) is not None:
            what = f"{title_of(name.partition('.')[2], steps).lower()} right" if "." in name else "accuracy"
            facts.append((what, f"{measured[name]:.1%}"))
            break
    return [{"name": name, "value": value} for name, value in facts]


def _corpus(corpus: Line, begun: Line) -> dict[str, Any] | None:
    kept = {name: corpus[name] for name in ("documents", "sentences", "tokens") if name in corpus}
    if "vocabulary" in corpus:
        kept["tokens_in_the_vocabulary"] = corpus["vocabulary"]
    if "tokens_per_word" in corpus:
        kept["tokens_a_word"] = round(corpus["tokens_per_word"], 2)
    if "examples" in begun:
        kept |= {"sequences_to_train_on": begun["examples"], "sequences_held_out": begun["held_out"]}
    return kept or None


def _samples(insights: Sequence[Line]) -> dict[str, Any] | None:
    """The same texts early, in the middle and late."""
    told = [line for line in insights if line.get("samples")]
    if not told:
        return None
    chosen = [told[place] for place in dict.fromkeys((0, len(told) // 2, len(told) - 1))]
    texts = []
    for number, sample in enumerate(chosen[-1]["samples"]):
        then = [line["samples"][number]["masked"] for line in chosen]
        masked = [
            {"right": place["right"], "guesses": [one[where]["guesses"] for one in then]}
            for where, place in enumerate(sample["masked"])
        ]
        texts.append({"text": sample["text"], "masked": masked})
    return {"steps": [line["step"] for line in chosen], "texts": texts}


def _results(steps: Sequence[Line], evaluations: Sequence[Line], insights: Sequence[Line]) -> list[dict[str, str]]:
    """The last evaluation, name by name."""
    rows = []
    measured, metrics = evaluations[-1] if evaluations else {}, scores(evaluations)
    for name, value in measured.items():
        if name in ("event", "step") or not isinstance(value, int | float):
            continue
        what, _, kind = name.partition(".")
        said = f"{title_of(kind, steps)}: {'guessed right' if what == 'accuracy' else what}"
        said = metric_name(name) if name in metrics else said
        rows.append((said, f"{value:.1%}" if what == "accuracy" else f"{value:.3f}"))
    for name, what in (("original", "Original tokens called so"), ("replaced", "Replaced tokens called so")):
        part = insights[-1].get(name) if insights else None
        if part and part["count"]:
            rows.append((what, f"{part['right'] / part['count']:.1%}"))
    return [{"name": name, "value": value} for name, value in rows]


def _settings(run: Line, begun: Line) -> list[dict[str, str]]:
    """What was asked for, and what the run settled itself where nothing was."""
    settled = begun.get("settings") or {}
    typed = (run.get("settings") or {}).items()
    settings = {name: settled.get(name) if value is None else value for name, value in typed}
    if not _TAUGHT & set(str(settings.get("objective")).split("+")):
        settings = {name: value for name, value in settings.items() if name not in _OF_TEACHERS}
    rows = [(name.replace("_", " "), value) for name, value in settings.items() if value not in (None, "", [], {})]
    return [{"name": name, "value": _text(value)} for name, value in rows]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _next(folder: str, run: Line, tuning: bool) -> list[dict[str, str]]:
    """What to type: with what came of the run, or to go on with it."""
    report = {"command": f"bothways report {folder}", "what": "Draw this page anew."}
    if run.get("results") is None:
        command = str(run.get("command", "pretrain"))
        again = {
            "command": f"bothways {command} --from {folder}/run.json --out {folder}",
            "what": "Go on with the run.",
        }
        return [*([again] if run else []), report]
    if tuning:
        return [
            {"command": f"bothways predict {folder} texts.csv --out labels.csv", "what": "Answer a file."},
            {"command": f"bothways evaluate {folder} test.csv --out evaluation", "what": "Measure it on other data."},
            {"command": f"bothways compare {folder} another test.csv", "what": "Compare it with another run."},
        ]
    parts = str((run.get("settings") or {}).get("objective", "mlm")).split("+")
    fill = {"command": f'bothways fill {folder} "a sentence with a [MASK]"', "what": "Fill in words."}
    return [
        *([fill] if "mlm" in parts else []),
        {
            "command": f"bothways finetune classify labelled.csv --base {folder} --out my-classifier",
            "what": "Teach it your own labels.",
        },
        {
            "command": f"bothways pretrain --from {folder}/run.json --seed 1 --out again",
            "what": "Repeat the run with another seed.",
        },
    ]
