"""Recipes and command lines that are wrong, and what the answer to each must say."""

from __future__ import annotations

from dataclasses import dataclass

RECIPE = "name: tales\nmodel: llama\ndata:\n  train: chat.jsonl\n"
HELD_OUT = RECIPE + "  validation: 0.2\n  test: 0.2\n"
TWO = RECIPE + "phases: [{name: a}, {name: b}]\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@dataclass(frozen=True)
class Bad:
    """A recipe (or its bytes) and overrides, and what the answer must say: the place, what was found, the remedy."""

    name: str
    says: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    recipe: str | bytes = RECIPE


TEXTS = (
    Bad("nothing in it", ("tales.yaml: a recipe is a mapping", "empty", "luthier list recipes"), recipe=""),
    Bad("comments only", ("tales.yaml: a recipe is a mapping", "empty"), recipe="# name: tales\n# model: llama\n"),
    Bad("a list", ("tales.yaml", "and this is a list"), recipe="- name: tales\n- model: llama\n"),
    Bad("one word", ("tales.yaml", "and this is a single value"), recipe="tales\n"),
    Bad("binary", ("tales.yaml: this is not UTF-8 text", "at byte 128", "save it as UTF-8"), recipe=bytes(range(256))),
    Bad("UTF-16", ("tales.yaml: this is not UTF-8 text", "at byte 0"), recipe=RECIPE.encode("utf-16")),
    Bad("Latin-1", ("tales.yaml", "not UTF-8"), recipe=RECIPE.encode() + "about: café\n".encode("latin-1")),
    Bad("NUL byte", ("tales.yaml:5", "U+0000 cannot stand", "take it out"), recipe=RECIPE + "about: a\0b\n"),
    Bad("control character", ("tales.yaml:5", "U+0007"), recipe=RECIPE + "about: a\ab\n"),
    Bad("1,000 lists", ("tales.yaml", "nested too deeply"), recipe=RECIPE + f"about: {'[' * 1000}{']' * 1000}\n"),
    Bad("1,000 mappings", ("tales.yaml", "nested too deeply"), recipe=RECIPE + f"about: {'{a: ' * 1000}{'}' * 1000}\n"),
    Bad("a billion values", ("tales.yaml: this unfolds into more than 100,000", "write the values out"), recipe=BOMB),
    Bad("an alias in itself", ("tales.yaml", "holds itself"), recipe=RECIPE + "about: &x [*x]\n"),
    Bad("an alias of nothing", ("tales.yaml:5", "undefined alias 'x'"), recipe=RECIPE + "about: *x\n"),
    Bad(
        "code to run",
        ("tales.yaml:5", "the tag !!python/object/apply:os.mkdir is not read", "plain text"),
        recipe=RECIPE + "about: !!python/object/apply:os.mkdir [stolen]\n",
    ),
    Bad("a tag of its own", ("tales.yaml:5", "the tag !tale is not read"), recipe=RECIPE + "about: !tale wolf\n"),
    Bad("a set", ("tales.yaml:5", "the tag !!set is not read"), recipe=RECIPE + "about: !!set {a, b}\n"),
    Bad("bytes", ("tales.yaml:5", "the tag !!binary is not read"), recipe=RECIPE + "about: !!binary aGVsbG8=\n"),
    Bad("text tagged as number", ("tales.yaml:5", "this is no whole number"), recipe=RECIPE + "seed: !!int one\n"),
    Bad("5,000 digits", ("tales.yaml:5", "this is no whole number"), recipe=RECIPE + f"seed: {'9' * 5000}\n"),
    Bad("two documents", ("tales.yaml:5", "another document"), recipe=RECIPE + "---\n" + RECIPE),
    Bad("a merge key", ("tales.yaml:5", "unknown key '<<'"), recipe=RECIPE + "<<: {seed: 3}\n"),
    Bad("a list as key", ("tales.yaml:5", "a key is text"), recipe=RECIPE + "? [a, b]\n: 3\n"),
    Bad("a number as key", ("tales.yaml:5", "unknown key '3'"), recipe=RECIPE + "3: 4\n"),
    Bad(
        "the end missing", ("tales.yaml:5", "<stream end>", "check indentation"), recipe=RECIPE + "phases: [{name: a, "
    ),
    Bad("a date for a number", ("tales.yaml:5: seed", '"2024-01-01"'), recipe=RECIPE + "seed: 2024-01-01\n"),
    Bad("minutes for a number", ("tales.yaml:5: seed", '"1:30"'), recipe=RECIPE + "seed: 1:30\n"),
)
"""What is wrong with the text itself."""

VALUES = (
    Bad("epochs not a number", ("epochs", "NaN", "a finite number", "passes over the data"), ("epochs=.nan",)),
    Bad("epochs without end", ("epochs", "Infinity", "a finite number"), ("epochs=.inf",)),
    Bad("epochs beyond a float", ("epochs", "Infinity"), ("epochs=1e400",)),
    Bad("epochs below zero", ("epochs", "greater than 0"), ("epochs=-1",)),
    Bad("epochs for ever", ("epochs", "less than or equal to 100000"), ("epochs=1e300",)),
    Bad("epochs true", ("epochs", "true and false are no numbers", "write the number"), ("epochs=true",)),
    Bad("epochs a list", ("epochs", "[1]", "a number"), ("epochs=[1]",)),
    Bad("half a step", ("steps", "1.5", "a whole number"), ("steps=1.5",)),
    Bad("steps for ever", ("steps", "less than or equal to 1000000000"), ("steps=99999999999999999999999",)),
    Bad("a rate that is true", ("optimizer.adamw.lr", "no numbers"), ("optimizer.adamw.lr=true",)),
    Bad("a rate of zero", ("optimizer.adamw.lr", "greater than 0"), ("optimizer.adamw.lr=0",)),
    Bad("a rate of NaN", ("override optimizer.adamw.lr=.nan", "NaN"), ("optimizer.adamw.lr=.nan", "steps=1")),
    Bad("one beta", ("optimizer.adamw.betas", "too short", "2 items"), ("optimizer={adamw: {betas: [0.9]}}",)),
    Bad("a beta above one", ("optimizer.adamw.betas.1", "less than 1"), ("optimizer={adamw: {betas: [0.9, 1.5]}}",)),
    Bad("a seed below zero", ("seed", "-1", "greater than or equal to 0"), ("seed=-1",)),
    Bad("a seed of 33 bits", ("seed", "less than 4294967296"), ("seed=4294967296",)),
    Bad("a seed in words", ("seed", '"one"', "a whole number"), ("seed=one",)),
    Bad("a true seed", ("seed", "true and false"), ("seed=[1, true]",)),
    Bad("no seed", ("seed", "at least one seed", "seed=1"), ("seed=[]",)),
    Bad("max_length zero", ("max_length", "greater than 1"), ("max_length=0",)),
    Bad("clip at zero", ("clip", "null switches it off"), ("clip=0",)),
    Bad("all dropped out", ("dropout", "less than 1"), ("dropout=1",)),
    Bad("a rank of zero", ("adaptation.lora.rank", "greater than 0"), ("adaptation={lora: {rank: 0}}",)),
    Bad("no targets", ("adaptation.lora.targets", "at least 1 item"), ("adaptation={lora: {targets: []}}",)),
    Bad("a share of 2", ("adaptation.frozen.train", "'last:2'"), ("adaptation={frozen: {train: 2.0}}",)),
    Bad("keep no checkpoint", ("checkpoints.keep", "greater than or equal to 1"), ("checkpoints.keep=0",)),
    Bad("a truth in words", ("watch.keep_best", '"maybe"', "true or false"), ("watch.keep_best=maybe",)),
    Bad("a name that climbs", ("override name=../x", "text that fits"), ("name=../x",)),
    Bad("a name of 300 letters", ("name", "100 characters"), ("name=" + "n" * 300,)),
    Bad("a phase in a folder", ("phases.0.name", '"a/b"'), ("phases.0.name=a/b",)),
    Bad("no model", ("model", "null", "for example model=embedded:nano"), ("model=",)),
    Bad("no rows at all", ("data.train", "at least 1 item"), ("data.train=[]",)),
    Bad("data a number", ("data.train", "3 does not fit", "data.train=rows.jsonl"), ("data.train=3",)),
    Bad("data not a mapping", ("data", "a mapping of keys", "data.train=rows.jsonl"), ("data=chat.jsonl",)),
    Bad("rows of no weight", ("data.train.weight", "greater than 0"), ("data.train.weight=0",)),
    Bad("columns a list", ("data.columns", "a mapping of keys"), ("data.columns=[text]",)),
    Bad("unknown format", ("data.format", "did you mean 'text'?"), ("data.format=texts",)),
    Bad("no phases", ("phases", "at least 1 item"), ("phases=[]",)),
    Bad("a phase that is a number", ("phases.0", "a mapping of keys"), ("phases=[3]",)),
    Bad("a negative temperature", ("decoding.temperature", "greater than or equal to 0"), ("decoding.temperature=-1",)),
    Bad("no new tokens", ("decoding.max_new_tokens", "greater than 0"), ("decoding.max_new_tokens=0",)),
    Bad("unknown decoding", ("decoding.beams", "unknown key", "top_p"), ("decoding.beams=4",)),
    Bad("unknown device", ("machine.device", '"tpu"', "cuda"), ("machine.device=tpu",)),
    Bad("unknown dtype", ("machine.dtype", "'bfloat16' or 'float32'"), ("machine.dtype=int8",)),
    Bad("no threads", ("machine.threads", "greater than 0"), ("machine.threads=0",)),
    Bad("a billion threads", ("machine.threads", "1024"), ("machine.threads=1000000000",)),
    Bad("unknown tracker", ("trackers.0", "'tensorboard'"), ("trackers=[wandb]",)),
    Bad("export to 4 bits", ("export.dtype", "'float16'"), ("export.dtype=int4",)),
    Bad("new tokens not listed", ("new_tokens", "write [<a>]"), ("new_tokens=<a>",)),
    Bad("a template that is a folder", ("chat_template", "'llama'", "a Jinja file"), ("chat_template=llama",)),
)
"""What is wrong with one value."""

COMBINATIONS = (
    Bad("tokens and rows", ("phases.0.per_step", "both are given", "one of them"), ("per_step={tokens: 9, rows: 4}",)),
    Bad("neither tokens nor rows", ("phases.0.per_step", "neither is given", "{rows: 64}"), ("per_step={}",)),
    Bad(
        "nothing left to train on",
        ("data", "leave something to train on", "data.validation=0.1"),
        ("data.validation=0.5", "data.test=0.5"),
    ),
    Bad(
        "warmup and decay overlap",
        ("schedule.warmup_stable_decay", "more than the whole phase", "shorten"),
        ("schedule={warmup_stable_decay: {warmup: 0.9, decay: 0.9}}",),
    ),
    Bad("nesterov at rest", ("optimizer.sgd", "nesterov needs a momentum"), ("optimizer={sgd: {nesterov: true}}",)),
    Bad("a penalty twice", ("phases.0.penalties", "'l2_sp' stands 2 times", "keep one"), ("penalties=[l2_sp, l2_sp]",)),
    Bad("top_p while greedy", ("decoding.top_p", "read by nothing", "temperature"), ("decoding.top_p=0.5",)),
    Bad("watching nothing", ("watch.every", "no validation data", "checkpoints.every"), ("watch.every=5",)),
    Bad("head_scale without head", ("phases.0.adaptation", "head_scale"), ("adaptation={lora: {head_scale: 2}}",)),
    Bad(
        "test data of a phase",
        ("phases.0.data.test", "read by nothing", "data.test"),
        ("phases.0.data={train: chat.jsonl, test: 0.1}",),
    ),
    Bad(
        "from itself", ("tales.yaml:5: phases.1.from", "an earlier phase (a)"), recipe=TWO.replace("b}", "b, from: b}")
    ),
    Bad(
        "a circle of phases",
        ("phases.0.from", "'b', which does not come before it"),
        recipe=TWO.replace("a}", "a, from: b}").replace("b}]", "b, from: a}]"),
    ),
    Bad("from nowhere", ("phases.1.from", "no such folder"), recipe=TWO.replace("b}", "b, from: ./nowhere}")),
    Bad(
        "the first from another",
        ("phases.0.from", "nothing reads model", "set model=bert"),
        recipe=TWO.replace("a}", "a, from: bert}"),
    ),
    Bad(
        "two optimizers",
        ("phases.0.optimizer", "names no optimizer", "adamw, muon, sgd"),
        ("optimizer={adamw: {}, sgd: {}}",),
    ),
    Bad("an optimizer that is a number", ("phases.0.optimizer", "3 names no optimizer"), ("optimizer=3",)),
    Bad("no optimizer", ("override optimizer=: phases.0.optimizer", "null"), ("optimizer=",)),
    Bad("unknown schedule", ("phases.0.schedule", "luthier list schedules"), ("schedule=exponential",)),
    Bad("unknown parameter of a check", ("checks.0.text_match.limt", "'limit'"), ("checks=[{text_match: {limt: 3}}]",)),
)
"""What is wrong between keys, and what nothing would read."""


def gate(name: str, text: str, *says: str) -> Bad:
    checks = "checks: [text_match, forgetting]\n"
    return Bad(name, ("tales.yaml:8: gates.0", *says), recipe=f'{HELD_OUT}{checks}gates: ["{text}"]\n')


GATES = (
    gate("gate that calls", "text_match.exact >= open('x')", "is no number", "numbers, base"),
    gate("gate that reaches inside", "text_match.exact >= base.real", "is no number"),
    gate("gate by zero", "text_match.exact >= 1 / 0", "divides by zero", "a finite number"),
    gate("gate at infinity", "text_match.exact >= 1e400", "infinite", "a finite number"),
    gate("gate of 400 digits", "text_match.exact >= 1" + "0" * 400, "infinite"),
    gate("gate without a comparison", "text_match.exact", "cannot be read", "text_match.exact >= base + 0.10"),
    gate("gate on equality", "text_match.exact == 1", "cannot be read"),
    gate("gate without a metric", "exact >= 1", "names no metric"),
    gate("chained gate", "text_match.exact >= 1 >= 0", "is no number"),
    gate("gate on no subject", "text_match.exact.reloaded >= 1", "not measured", "base, tuned, change"),
    gate("gate on a ratio of the base", "forgetting.perplexity_ratio <= base", "of base", "hold it against a number"),
    Bad("gate that is a number", ("gates.0", "3 does not fit", "text"), ("gates=[3]",)),
)

OVERRIDES = (
    Bad("phase that is not there", ("override phases.7.epochs=1", "'7'", "not in the list"), ("phases.7.epochs=1",)),
    Bad("below a name", ("override name.first=1: name", "text"), ("name.first=1",)),
    Bad("below a number", ("override gates.0.x=1", "list"), ("gates.0.x=1",)),
    Bad("no key", ("'=3' is no override", "key.path=value"), ("=3",)),
    Bad("half a path", ("'data..train=3' is no override",), ("data..train=3",)),
    Bad("open brackets", ("override checks=[text_match", "close the brackets"), ("checks=[text_match",)),
    Bad("brackets without end", ("override about=[[[", "nested too deeply"), ("about=" + "[" * 1000,)),
    Bad("key twice in an override", ("override data={", "stands twice"), ("data={train: a, train: b}",)),
    Bad(
        "of which phase",
        ("override epochs=2: epochs", "belongs into phases, such as phases.0.epochs"),
        ("epochs=2",),
        recipe=TWO,
    ),
    Bad("steps of what", ("override steps=2: steps", "belongs into data or phases"), ("steps=2",), recipe=TWO),
)

EARLY = (*TEXTS, *VALUES, *COMBINATIONS, *GATES, *OVERRIDES)
"""Known before a model or data are opened: nothing at all may be written."""

LATE = (
    Bad(
        "targets of another model",
        ("phases.0.adaptation", "'quary'", "q_proj"),
        ("adaptation={lora: {targets: [quary]}}",),
    ),
    Bad("a layer too many", ("phases.0.adaptation", "no layer 9", "-2 to 1"), ("adaptation={lora: {layers: [9]}}",)),
    Bad("a rank above the matrix", ("phases.0.adaptation", "at most 32"), ("adaptation={lora: {rank: 4096}}",)),
    Bad("a range of other layers", ("phases.0.adaptation", "5"), ("adaptation={frozen: {train: 5-7}}",)),
    Bad("no head of its own", ("phases.0.adaptation", "no head", "lora"), ("adaptation=head",)),
    Bad("noise beyond a float", ("phase 'train', step 1", "nan", "learning rate"), ("embedding_noise=1e308",)),
    Bad("data for a template", ("chat template", "stop token", "'plain'"), ("chat_template=chat.jsonl",)),
    Bad("a later phase on an encoder", ("bert", "is an encoder"), recipe=TWO.replace("b}", "b, from: bert}")),
)
"""Known only with the model: what is prepared by then is whole."""
