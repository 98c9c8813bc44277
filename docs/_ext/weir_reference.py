"""Directives that write reference pages from the code itself, so that they cannot go stale.

`{weir-commands}`, `{weir-settings}`, `{weir-topics}`, `{weir-reasons}`, `{weir-api}`, `{weir-adrs}`, `{weir-flows}`,
`{weir-services}`, `{weir-metrics}`: each is a function that gives Markdown, which is parsed in the directive's place.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

#: A call with more parameters than these is shown with each on a line.
FEW = 5


def commands() -> Iterator[str]:
    """Every command with its usage, what it does, and its options: as `--help` says it."""
    from typer.main import get_command

    from weir.cli.main import app

    yield from _commands(get_command(app), "weir")


def _commands(group: Any, name: str) -> Iterator[str]:
    for inner_name in sorted(group.list_commands(None)):
        inner = group.get_command(None, inner_name)
        full = f"{name} {inner_name}"
        if hasattr(inner, "commands"):
            if inner.invoke_without_command:  # it does something by itself, too
                yield from _command(inner, full)
            yield from _commands(inner, full)
        else:
            yield from _command(inner, full)


def _command(inner: Any, full: str) -> Iterator[str]:
    arguments = [_argument(p) for p in inner.params if p.param_type_name == "argument"]
    options = ["[OPTIONS]"] if len(arguments) < len(inner.params) else []
    yield f"## `{full}`\n\n```text\n{' '.join([full, *options, *arguments])}\n```\n\n{(inner.help or '').strip()}\n"
    if inner.params:
        yield "| | |\n| --- | --- |"
        yield from (_row(p) for p in inner.params if not getattr(p, "hidden", False))
        yield ""


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name.upper())
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = _argument(parameter)
    elif parameter.is_flag or getattr(parameter, "count", False):
        name = ", ".join(parameter.opts)
    else:
        kind = getattr(parameter.type_descriptor.annotation, "__name__", "")
        metavar = parameter.metavar or {"int": "N", "float": "N", "Path": "FILE"}.get(kind, "TEXT")
        name = f"{', '.join(parameter.opts)} {metavar}"
    default = "" if parameter.default in (None, False, 0, "-") else f" Default: `{parameter.default}`."
    return f"| `{name}` | {_cell(parameter.help or '')}{default} |".replace("[FILE|-]", "[FILE\\|-]")


def settings() -> Iterator[str]:
    """Every variable, its default and what it is for."""
    from weir.infra.config import describe

    yield "| variable | default | |\n| --- | --- | --- |"
    for setting in describe({}):
        # The home is shown as an absolute path, which is the reader's own.
        default = ".weir" if setting.variable == "WEIR_HOME" else setting.value
        yield f"| `{setting.variable}` | {f'`{default}`' if default else ''} | {_cell(setting.doc)} |"


def topics() -> Iterator[str]:
    """Every topic: who writes it, its key, how long it is kept, its type and its examples."""
    import msgspec

    from weir.cli.topics import kept
    from weir.schemas import examples
    from weir.schemas.topics import TOPICS

    for topic in TOPICS:
        yield f"## `{topic.name}`\n"
        yield f"{topic.description}.\n"
        yield f"- written by: {topic.owner}{' (internal: its form may change)' if topic.internal else ''}"
        yield f"- key: {topic.key}"
        yield f"- partitions: {topic.partitions or '`WEIR_PARTITIONS`'}; kept: {kept(topic)}\n"
        if topic.value is None:
            continue
        yield "| field | |\n| --- | --- |"
        for field in msgspec.structs.fields(topic.value):
            needed = "required" if field.required else "optional"
            yield f"| `{field.encode_name}` | {_type(field.type)}, {needed} |"
        found = examples.load(topic.name)
        yield "\nAccepted, for example:\n\n```json"
        yield from (msgspec.json.format(record, indent=0).decode() for record in found.records())
        yield "```\n\nRefused:\n\n| record | reason | |\n| --- | --- | --- |"
        for bad in found.bad:
            yield f"| `{_shown(bad)}` | `{bad.reason}` | {_cell(bad.why)} |"
        yield ""


def _shown(bad: Any) -> str:
    text = bad.text if bad.text is not None else f"base64 {bad.base64}" if bad.base64 else bytes(bad.value).decode()
    text = text.replace("|", "&#124;") or " "
    return f"{text}{f' (… is {bad.repeat[1]} × {bad.repeat[0]})' if bad.repeat else ''}"


def _type(type_: Any) -> str:
    import msgspec

    kinds = {"int": "whole number", "str": "text", "bool": "true or false", "null": "null", "object": "object"}
    schema = msgspec.json.schema(type_)
    schema = schema.get("$defs", {}).get(getattr(type_, "__name__", ""), schema)
    parts = schema.get("anyOf", [schema])
    names = {"integer": "whole number", "string": "text", "boolean": "true or false"} | kinds
    described = []
    for part in parts:
        if "enum" in part:
            described += [f"`{value}`" for value in part["enum"]]
            continue
        kind = part.get("type", "any JSON")
        text = names.get(kind, kind)
        if "maxLength" in part:
            text += f" of {part['minLength']} to {part['maxLength']} printable characters"
        if "properties" in part:
            text += f" {{{', '.join(f'`{name}`' for name in part['properties'])}}}"
        described.append(text)
    return " or ".join(described)


def api() -> Iterator[str]:
    """Every name that a job is written with: how it is called, and what it says of itself."""
    from weir.streams import api

    for name in api.__all__:
        thing = getattr(api, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            yield f"## `{name}`\n\n```python\n{name} = {thing}\n```\n"
            continue
        yield f"## `{name}`\n\n```python\n{_signature(name, thing)}\n```\n\n{_prose(thing)}\n"
        members = inspect.isclass(thing) and not dataclasses.is_dataclass(thing)
        for member, value in vars(thing).items() if members else ():
            what = value.fget if isinstance(value, property) else value
            if inspect.isfunction(what) and not member.startswith("_") and what.__doc__:
                call = f".{member}" if isinstance(value, property) else f".{member}{_plain(inspect.signature(what))}"
                yield f"**`{call}`** — {_prose(what)}\n"


def _signature(name: str, thing: Any) -> str:
    if inspect.isclass(thing) and issubclass(thing, enum.Enum):
        return " | ".join(f"{name}.{member.name}" for member in thing)
    if getattr(thing, "_is_protocol", False):
        return f"class {name}(Protocol)"
    parameters = inspect.signature(thing).parameters.values()
    if len(parameters) > FEW:
        return f"{name}(\n" + "".join(f"    {_parameter(p)},\n" for p in parameters) + ")"
    return f"{name}{_plain(inspect.signature(thing))}"


def _parameter(parameter: inspect.Parameter) -> str:
    factory = "<factory>" in str(parameter.default)
    shown = "{}" if factory else repr(parameter.default)
    default = "" if parameter.default is inspect.Parameter.empty else f" = {shown}"
    return f"{parameter.name}: {parameter.annotation}{default}".replace("<Emit.CHANGES: 'changes'>", "Emit.CHANGES")


def _plain(signature: inspect.Signature) -> str:
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    return str(signature.replace(parameters=parameters)).replace("'", "").replace(" -> None", "")


def _prose(thing: Any) -> str:
    """A docstring, its doctests as code."""
    return re.sub(r"(^>>> .*(?:\n(?!\n).+)*)", r"\n```pycon\n\1\n```\n", inspect.getdoc(thing) or "", flags=re.M)


def reasons() -> Iterator[str]:
    """Every reason for which a message is refused."""
    from weir.schemas.dead_letters import Reason

    yield "| reason | |\n| --- | --- |"
    for reason in Reason:
        yield f"| `{reason}` | {_cell(reason.meaning)} |"


def adrs() -> Iterator[str]:
    """Every decision record, by its title."""
    for path in sorted((Path(__file__).parents[1] / "adr").glob("[0-9]*.md")):
        if not path.name.startswith("0000"):
            title = path.read_text().splitlines()[0].removeprefix("# ")
            yield f"- [{title}]({path.name})"


def flows() -> Iterator[str]:
    """The way of the data, a line for each topic."""
    from weir.services.flows import drawing

    yield from ("```text", *drawing(), "```")


def services() -> Iterator[str]:
    """Every service, what it does, and its topics."""
    from weir.services.flows import flows

    yield "| service | | reads | writes |\n| --- | --- | --- | --- |"
    for flow in flows():
        read, written = (", ".join(f"`{name}`" for name in names) for names in (flow.reads, flow.writes))
        yield f"| `{flow.service}` | {_cell(flow.description)} | {read} | {written} |"


def metrics() -> Iterator[str]:
    """Every metric, its kind and its labels."""
    from weir.infra.prometheus import METRICS

    yield "| metric | kind | labels | |\n| --- | --- | --- | --- |"
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield f"| `{metric.name}` | {metric.kind} | {labels} | {_cell(metric.meaning)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _directive(write: Callable[[], Iterator[str]]) -> type[SphinxDirective]:
    class Generated(SphinxDirective):
        has_content: ClassVar[bool] = False

        def run(self) -> list[nodes.Node]:
            self.env.note_reread()
            return self.parse_text_to_nodes("\n".join(write()), allow_section_headings=True)

    return Generated


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directives."""
    for write in (commands, settings, topics, reasons, api, adrs, flows, services, metrics):
        app.add_directive(f"weir-{write.__name__}", _directive(write))
    return {"parallel_read_safe": True}
