"""What can be known to be wrong with a recipe before anything is loaded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .component import find, names
from .errors import Problem, nearest
from .evidence import Check, Measure
from .gates import Gate, parse
from .redact import holds_secret

if TYPE_CHECKING:
    from .recipe import Phase, Recipe

__all__ = ["recipe_problems"]


def recipe_problems(recipe: Recipe) -> list[Problem]:
    """All problems of a validated recipe: phases, combinations, gates, files, credentials."""
    found: list[Problem] = []
    found.extend(_secrets(recipe.plain(), ""))
    found.extend(_whole(recipe))
    found.extend(_new_tokens(recipe))
    found.extend(_phases(recipe))
    found.extend(_checks(recipe))
    found.extend(_gates(recipe))
    found.extend(_decoding(recipe))
    for place, component, phase in recipe.components():
        found.extend(problem.at(place) for problem in component.problems(recipe, phase))
    return found


def _secrets(value: Any, place: str) -> Iterator[Problem]:
    """Credentials in a recipe: it is stored, printed and passed on, and nothing in it needs one."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets(key, place)
            yield from _secrets(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _secrets(item, f"{place}.{index}")
    elif isinstance(value, str) and holds_secret(value):
        yield Problem(
            "a credential stands in the recipe, which is stored and passed on as it is",
            place,
            "a path, a hub id, or other text without a token or password",
            "take it out, and make it invalid if it was shared; for the hub run `hf auth login` or set HF_TOKEN; "
            "a database's address goes into an environment variable, path: env:NAME; what lies behind another login is "
            "fetched first and given as a file",
        )


def _whole(recipe: Recipe) -> Iterator[Problem]:
    template = recipe.chat_template
    if template is not None and template != "plain" and not Path(template).is_file():
        beside = [file.name for file in Path(template).parent.glob("*.jinja")]
        near = nearest(Path(template).name, beside)
        yield Problem(
            f"there is no file '{template}'",
            "chat_template",
            "'plain', or the path of a Jinja file, from the folder in which the command runs",
            f"did you mean '{Path(template).with_name(near)}'?" if near else "leave it out to use the model's own",
        )
    if not recipe.seeds:
        yield Problem("the list of seeds is empty", "seed", "at least one seed", "seed=1")
    for seed, count in Counter(recipe.seeds).items():
        if count > 1:
            yield Problem(
                f"the seed {seed} stands {count} times",
                "seed",
                "different seeds: the same one gives the same run again, and no spread",
                f"seed={json.dumps(list(dict.fromkeys(recipe.seeds)))}",
            )


def _new_tokens(recipe: Recipe) -> Iterator[Problem]:
    for token, count in Counter(recipe.new_tokens).items():
        if not token:
            yield Problem("a new token is empty", "new_tokens", "texts of at least one character", "remove it")
        elif count > 1:
            yield Problem(f"{token!r} stands {count} times", "new_tokens", "each token once", "remove the repetition")
    names = [phase.name for phase in recipe.phases]
    for number, phase in enumerate(recipe.phases):
        # A phase that starts from an earlier one finds the rows already learned.
        opens = number == 0 if phase.from_ is None else phase.from_ not in names[:number]
        if recipe.new_tokens and opens and not getattr(phase.adaptation, "learns_tokens", False):
            name = phase.adaptation.component_name()
            yield Problem(
                f"{name} leaves the rows of new_tokens as they start: nothing in it trains them",
                f"phases.{number}.adaptation",
                "an adaptation that trains the embedding and the output layer: full, or frozen with embeddings: true",
                f"learn them in a phase before this one, such as adaptation=full, then continue with {name}",
            )


def _layers(phase: Phase, place: str) -> Iterator[Problem]:
    kept, once = list(phase.keep_layers), sorted(set(phase.keep_layers))
    if kept != once:
        place = f"{place}.keep_layers"
        yield Problem(
            f"keep_layers is {kept}", place, "each layer once, the lowest first", f"{place}={json.dumps(once)}"
        )


def _phases(recipe: Recipe) -> Iterator[Problem]:
    names = [phase.name for phase in recipe.phases]
    for name, count in Counter(names).items():
        if count > 1:
            yield Problem(
                f"{count} phases are called '{name}'",
                "phases",
                "a name of its own for each phase: its folder goes by it",
                "add name: to each phase",
            )
    for number, phase in enumerate(recipe.phases):
        place = f"phases.{number}"
        if phase.from_ is not None and phase.from_ in names and names.index(phase.from_) >= number:
            earlier = ", ".join(names[:number]) or "none"
            yield Problem(
                f"phase '{phase.name}' starts from '{phase.from_}', which does not come before it",
                f"{place}.from",
                f"an earlier phase ({earlier}) or the folder of a run",
            )
        if number == 0 and phase.from_ not in (None, recipe.model, *names):
            yield Problem(
                f"the first phase starts from '{phase.from_}', so that nothing reads model: {recipe.model}",
                f"{place}.from",
                "the start of the first phase in the recipe's model",
                f"remove it and set model={phase.from_}",
            )
        yield from _headless(recipe, number)
        if phase.data is not None and phase.data.test is not None:
            yield Problem(
                "a phase's own test data is read by nothing: checks measure on the recipe's",
                f"{place}.data.test",
                "data.train and data.validation in a phase",
                "remove it, or give it as the recipe's data.test",
            )
        yield from _layers(phase, place)
        if recipe.data_of(phase).validation is None:
            yield from _unwatched(phase, place)
        yield from _penalties(phase, place)


def _headless(recipe: Recipe, number: int) -> Iterator[Problem]:
    """A language model's phase that starts from one whose model has another head in the place of its output layer."""
    phase, names = recipe.phases[number], [one.name for one in recipe.phases[:number]]
    if phase.from_ in names:
        before = recipe.phases[names.index(phase.from_)]
    elif phase.from_ is None and number > 0:
        before = recipe.phases[number - 1]
    else:
        return
    if phase.objective.task == "causal_lm" and before.objective.task != "causal_lm":
        fit = [one.name for one in recipe.phases[:number] if one.objective.task == "causal_lm"]
        yield Problem(
            f"the language-model phase '{phase.name}' cannot follow '{before.name}', which trains "
            f"{_kinds({before.objective.task})}: the output layer is gone",
            f"phases.{number}",
            "the start from a language model",
            f"from: {fit[-1]}" if fit else f"from: {recipe.model}",
        )


def _unwatched(phase: Phase, place: str) -> Iterator[Problem]:
    """What is said about validation where there is none would be ignored, which is an error."""
    remedy = "set data.validation to a share (0.1) or a path, or remove it"
    for name, what, instead in (
        ("every", "is how often validation happens", "; checkpoints.every says how often checkpoints are written"),
        ("rows", "is how many validation rows are looked at", ""),
        ("patience", "stops early on validation", ""),
    ):
        if name in phase.watch.model_fields_set and getattr(phase.watch, name) is not None:
            found = f"watch.{name} {what}, and there is no validation data"
            yield Problem(found, f"{place}.watch.{name}", remedy=remedy + instead)


def _penalties(phase: Phase, place: str) -> Iterator[Problem]:
    for name, count in Counter(penalty.component_name() for penalty in phase.penalties).items():
        if count > 1:
            yield Problem(
                f"the penalty '{name}' stands {count} times",
                f"{place}.penalties",
                "each penalty once: its term goes by its name",
                "keep one, with the weight of all",
            )


def _checks(recipe: Recipe) -> Iterator[Problem]:
    task = recipe.phases[-1].objective.task
    items = recipe.data.test is not None or recipe.data.validation is not None
    seen: dict[str, int] = {}
    for index, check in enumerate(recipe.checks):
        assert isinstance(check, Check)
        name = check.component_name()
        first = seen.setdefault(name, index)
        if first != index:
            yield Problem(
                f"the check '{name}' is named twice, at checks.{first} and here",
                f"checks.{index}",
                "each check once: its findings go by its name",
                "keep one of the two",
            )
        if task not in check.tasks:
            yield Problem(
                f"the check '{name}' is for {_kinds(check.tasks)}, and the last phase trains {_kinds({task})}",
                f"checks.{index}",
                f"a check for {_kinds({task})}: {', '.join(_checks_for(task))}",
                f"take {name} out of checks, or change the phase's objective",
            )
        elif check.needs_items and not items:
            yield Problem(
                f"the check '{name}' measures on held-out rows, and there are none",
                f"checks.{index}",
                "data.test, or data.validation where there is no test",
                "set a share of the training data aside, data.test=0.1, or give a file: data.test=test.jsonl",
            )


def _decoding(recipe: Recipe) -> Iterator[Problem]:
    if recipe.decoding.top_p < 1 and recipe.decoding.temperature == 0:
        yield Problem(
            f"top_p {recipe.decoding.top_p:g} is read by nothing: at temperature 0 the likeliest token is taken",
            "decoding.top_p",
            "a temperature above 0 beside it",
            "set decoding.temperature=1, or remove top_p",
        )


def _kinds(tasks: Collection[str]) -> str:
    words = {
        "causal_lm": "language models",
        "features": "encoders of texts",
        "masked_lm": "masked language models",
        "question_answering": "question-answering models",
        "seq2seq": "encoder-decoders",
        "sequence_classification": "classifiers",
        "sequence_score": "reward models",
        "token_classification": "taggers",
    }
    return " and ".join(words[task] for task in sorted(tasks))


def _checks_for(task: str) -> list[str]:
    found = [(name, find("checks", name)) for name in names("checks")]
    return [name for name, check in found if issubclass(check, Check) and task in check.tasks]


def _gates(recipe: Recipe) -> Iterator[Problem]:
    checks = {check.component_name(): check for check in recipe.checks}
    for index, gate in enumerate(recipe.gates):
        place = f"gates.{index}"
        parsed = parse(gate)
        if isinstance(parsed, Problem):
            yield parsed.at(place)
        elif parsed.check not in checks:
            near = nearest(parsed.check, checks)
            yield Problem(
                f"the gate '{gate}' needs the check '{parsed.check}', which this recipe does not make",
                place,
                "one of the checks " + (", ".join(checks) or "(none are named)"),
                f"did you mean '{near}'?" if near else f"add {parsed.check} to checks",
            )
        elif parsed.metric not in (metrics := _metrics(checks[parsed.check])) and metrics:
            near = nearest(parsed.metric, metrics)
            yield Problem(
                f"the gate '{gate}' asks for '{parsed.metric}', which {parsed.check} does not measure",
                place,
                f"one of {', '.join(metrics)}; before .low or .high a subject may stand: base, tuned, change",
                f"did you mean '{parsed.check}.{near}'?" if near else None,
            )
        else:
            yield from _unmeasured(parsed, checks[parsed.check], place)


def _unmeasured(gate: Gate, check: Check, place: str) -> Iterator[Problem]:
    """A gate on a subject or an interval that its check never measures: such a gate could not hold."""
    own = [measure for measure in _measures(check) if measure.name == gate.metric and measure.group is None]
    if not own:
        return
    subjects = list(dict.fromkeys(subject for measure in own for subject in _subjects(check, measure)))
    name = f"{gate.check}.{gate.metric}"
    for subject in filter(None, (gate.subject, "base" if gate.uses_base else None)):
        if subject not in subjects:
            yield Problem(
                f"the gate '{gate.text}' needs {name} of {subject}, which is not measured",
                place,
                f"one of {', '.join(subjects)}",
                f"{name}.{subjects[0]} names one of them" if gate.subject else "hold it against a number",
            )
    if gate.bound != "value" and not any(measure.interval for measure in own):
        yield Problem(
            f"the gate '{gate.text}' asks for .{gate.bound}, and {name} has no interval",
            place,
            "the value itself",
            f"leave .{gate.bound} out",
        )


def _subjects(check: Check, measure: Measure) -> Iterator[str]:
    """The subjects that a check measures something for, as evaluate.findings makes them."""
    yield from measure.of or check.subjects
    if measure.paired and measure.against is None and {"base", "tuned"} <= {*check.subjects}:
        yield "change"


def _measures(check: Check) -> list[Measure]:
    """What a check measures, for one class a row and for several; empty where only data can tell."""
    try:
        found = [check.measures({"classes": (), "multi_label": several}) for several in (False, True)]
    except (KeyError, IndexError):
        return []
    return [measure for measures in found for measure in measures]


def _metrics(check: Check) -> list[str]:
    return list(dict.fromkeys(measure.name for measure in _measures(check)))
