"""What clients and operators ask of the orchestrator: each command is answered, and the same command twice does the same once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from sagas.core.engine.calls import attempt
from sagas.core.engine.flow import begin_saga
from sagas.core.engine.machine import Sagas, ended
from sagas.core.engine.memory import understood
from sagas.core.engine.moves import done, fail, finish
from sagas.core.engine.nodes import begin
from sagas.core.engine.state import ENDED, FAILED, HELD, INCIDENT, RUNNING, WAITING, Instance, Run
from sagas.core.engine.undoing import SKIPPED, resolve_undo
from sagas.core.engine.views import view
from sagas.core.engine.words import Fields, Told, from_text, to_text
from schemas.naming import NAME_CHARS_MAX, domain_of, name_problem
from streams.core.sagas.definition import Approval, Signal, Step
from streams.core.sagas.graph import before, graph_of
from streams.core.sagas.mistakes import DefinitionErrors
from streams.core.sagas.schedules import next_ms

if TYPE_CHECKING:
    from sagas.core.engine.moves import Turn
    from sagas.core.engine.plan import Plan
    from sagas.core.engine.state import Frame
    from streams.core.at import At

__all__ = ["approve", "control", "define", "fork", "query", "refused", "resolve", "signal", "start"]

_LATE: Final = "ended", "it has ended"
_DEFINITIONS_FULL: Final = "too_many_definitions"


def refused(saga: str, code: str, reason: str, route: str) -> list[Told]:
    """Return the answer to what is not done; what is bad may be large."""
    return [Told("refused", {"saga": saga[:NAME_CHARS_MAX], "code": code, "reason": reason}, route)]


def define(machine: Sagas, asked: Fields, route: str, at: At) -> list[Told]:
    """Take a definition."""
    memory, name = machine.memory, (asked["domain"], asked["version"])
    known = memory.plans.get(name)
    if known is not None and known.digest != asked["digest"]:
        text = f"version {name[1]} of {name[0]!r} is another one here, and sagas may run by it: give yours another version"
        return refused(name[0], "definition_changed", text, route)
    told: list[Told] = []
    home = asked["home"] and name not in memory.homes
    if known is None or home:
        try:
            plan = known or understood(asked["digest"], asked["definition"])
        except (DefinitionErrors, ValueError) as error:
            return refused(name[0], "bad_definition", str(error), route)
        if (plan.definition.name, plan.definition.version) != name:
            return refused(name[0], "bad_definition", "its name or version is not that of the command", route)
        if not memory.define(plan, home=asked["home"]):
            text = f"{machine.limits.definitions_max} definitions are in use in this partition: end sagas of old ones"
            return refused(name[0], _DEFINITIONS_FULL, text, route)
        if home:
            _schedule(machine, plan, at)
        known = plan
        fields = {"name": name[0], "version": name[1], "digest": plan.digest, "definition": plan.text}
        told.append(Told("defined", fields, everybody=True))
    told.append(Told("defined", {"name": name[0], "version": name[1], "digest": known.digest, "definition": ""}, route))
    return told


def _schedule(machine: Sagas, plan: Plan, at: At) -> None:
    """Let the schedules of the newest version run, and no others."""
    memory, definition = machine.memory, plan.definition
    newest = max(version for name, version in memory.homes if name == definition.name)
    if newest != definition.version:
        return
    names = {one.name for one in definition.schedules}
    for name, schedule in list(memory.schedules):
        if name == definition.name and schedule not in names:
            memory.set_schedule(name, schedule, None)
    for one in definition.schedules:
        if (definition.name, one.name) not in memory.schedules:
            memory.set_schedule(definition.name, one.name, next_ms(one, at.now_ms))


def start(machine: Sagas, asked: Fields, route: str, at: At) -> list[Told]:
    """Start a saga; the same id again is the same saga."""
    saga, memory, limits = asked["saga"], machine.memory, machine.limits
    found = memory.find(saga)
    if found is not None:
        return _same(machine, found, asked, route)
    if problem := name_problem(saga, "the saga"):
        return refused(saga, "bad_name", problem, route)
    name = asked["definition"], asked["version"]
    plan = memory.plans.get(name)
    missing = _missing(machine, name)
    if plan is None or missing:
        which = missing or name
        return refused(saga, "unknown_definition", f"{which[0]!r}, version {which[1]}, is not known here: define it first", route)
    if asked["digest"] and plan.digest != asked["digest"]:
        text = f"version {name[1]} of {name[0]!r} is another one here: give yours another version"
        return refused(saga, "definition_changed", text, route)
    if len(memory.live) >= limits.live_max:
        return refused(saga, "too_many", f"{limits.live_max} sagas of this partition have not ended", route)
    given, problem = _input(plan, asked["input"], limits.payload_chars_max)
    if problem:
        return refused(saga, "bad_input", problem, route)
    told: list[Told] = []
    machine.begin(
        saga, plan, given, at, told, deadline_ms=max(0, asked["deadline_ms"]), route=route, follow=asked["follow"], by=asked["by"]
    )
    return machine.settle(told, at)


def _missing(machine: Sagas, name: tuple[str, int]) -> tuple[str, int] | None:
    """Return a definition that a saga of this one needs and that is not known."""
    waiting, seen = [name], set[tuple[str, int]]()
    while waiting:
        one = waiting.pop()
        plan = machine.memory.plans.get(one)
        if plan is None:
            return one
        seen.add(one)
        waiting += [child for child in plan.children if child not in seen]
    return None


def _input(plan: Plan, text: str, chars_max: int) -> tuple[Any, str]:
    if len(text) > chars_max:
        return None, f"the input has {len(text)} characters of JSON: at most {chars_max} are allowed"
    try:
        given = from_text(text) if text else None
    except orjson.JSONDecodeError as error:
        return None, f"the input is no JSON: {error}"
    if plan.definition.inputs:
        missing = [one for one in plan.definition.inputs if not isinstance(given, dict) or one not in given]
        if missing:
            return None, f"the input has no {missing[0]!r}: {plan.definition.name!r} needs {', '.join(plan.definition.inputs)}"
    return given, ""


def _same(machine: Sagas, inst: Instance, asked: Fields, route: str) -> list[Told]:
    """Answer a start of what was started."""
    saga, definition = asked["saga"], inst.plan.definition
    same = (asked["definition"], asked["version"]) == (definition.name, definition.version)
    try:
        same = same and (from_text(asked["input"]) if asked["input"] else None) == inst.input
    except orjson.JSONDecodeError:
        same = False
    if not same:
        return refused(saga, "different", "this id is of a saga with another definition or input: take another id", route)
    return _follow(machine, inst, route, follow=asked["follow"])


def _follow(machine: Sagas, inst: Instance, route: str, *, follow: bool) -> list[Told]:
    if inst.status == ENDED:
        return [Told("ended", ended(inst), route)]
    if not follow:
        return [Told("state", {"saga": inst.saga, "state": to_text(view(inst))}, route)]
    if route and route not in inst.routes:
        inst.routes = [*inst.routes, route][-machine.limits.followers_max :]
        machine.memory.touch(inst)
    return []


def query(machine: Sagas, asked: Fields, route: str) -> list[Told]:
    """Answer what a saga is doing, or its end when it comes."""
    inst = machine.memory.find(asked["saga"])
    if inst is None:
        return refused(asked["saga"], "unknown", "no saga with this id is known: it never started, or ended long ago", route)
    if asked["follow"]:
        return _follow(machine, inst, route, follow=True)
    return _state(inst, route)


def _state(inst: Instance, route: str) -> list[Told]:
    return [Told("state", {"saga": inst.saga, "state": to_text(view(inst))}, route)]


def _running(machine: Sagas, saga: str, route: str) -> tuple[Instance | None, list[Told]]:
    """Return a saga that has not ended, or the answer that there is none."""
    inst = machine.memory.live.get(saga)
    if inst is not None:
        return inst, []
    if machine.memory.find(saga) is not None:
        return None, refused(saga, *_LATE, route)
    return None, refused(saga, "unknown", "no saga with this id is known: it never started, or ended long ago", route)


def signal(machine: Sagas, asked: Fields, route: str, at: At) -> list[Told]:
    """Give a signal to the node that waits for it, or keep it for one that will."""
    inst, answer = _running(machine, asked["saga"], route)
    if inst is None:
        return answer
    limits, told, name = machine.limits, list[Told](), asked["signal"]
    if asked["signal_id"] in inst.seen:
        return _state(inst, route)
    if len(asked["payload"]) > limits.payload_chars_max or inst.chars + len(asked["payload"]) > limits.chars_max:
        text = f"the signal has {len(asked['payload'])} characters of JSON: {limits.payload_chars_max} are allowed"
        return refused(inst.saga, "too_large", f"{text}, and {limits.chars_max} for all data of a saga", route)
    try:
        value = from_text(asked["payload"]) if asked["payload"] else None
    except orjson.JSONDecodeError as error:
        return refused(inst.saga, "bad_payload", f"the signal carries no JSON: {error}", route)
    if sum(map(len, inst.signals.values())) >= limits.signals_max:
        return refused(inst.saga, "too_many", f"{limits.signals_max} signals wait in it that no node has wanted", route)
    inst.chars += len(asked["payload"])
    inst.seen = [*inst.seen, asked["signal_id"][:NAME_CHARS_MAX]][-limits.seen_max :]
    turn = machine.turn(inst, at, told)
    inst.note("signalled", note=name[:NAME_CHARS_MAX])
    waiting = _waiting_for(inst, name) if inst.status == RUNNING else None
    if waiting is None:
        inst.signals.setdefault(name, []).append(value)
    else:
        frame, node = waiting
        inst.note("answered", frame.prefix + node, note=f"signal {name}"[:NAME_CHARS_MAX])
        done(turn, frame, node, value)
    machine.advance(turn)
    return [*machine.settle(told, at), *_state(inst, route)]


def _waiting_for(inst: Instance, name: str) -> tuple[Frame, str] | None:
    for path, run in sorted(inst.active.items()):
        found = inst.find(path)
        if run.status == WAITING and found is not None:
            frame = found[0]
            node = frame.graph.nodes[path[len(frame.prefix) :]].node
            if isinstance(node, Signal) and node.signal == name:
                return frame, node.name
    return None


def approve(machine: Sagas, asked: Fields, route: str, at: At) -> list[Told]:
    """Say yes or no where a saga asks a human."""
    inst, answer = _running(machine, asked["saga"], route)
    if inst is None:
        return answer
    path, told = asked["node"], list[Told]()
    found = inst.find(path)
    if found is None or not isinstance(inst.plan.nodes.get(path[path.rfind("/") + 1 :]), Approval):
        return refused(inst.saga, "unknown_node", f"{path[:80]!r} waits for no approval", route)
    frame, run = found
    if run.status != WAITING:
        return refused(inst.saga, "decided", f"{path!r} does not wait for approval: it is {run.status}", route)
    turn = machine.turn(inst, at, told)
    by, reason = asked["by"][:NAME_CHARS_MAX], asked["reason"][: machine.limits.reason_chars_max]
    name = path[len(frame.prefix) :]
    if asked["approved"]:
        inst.note("answered", path, note=f"yes by {by}: {reason}")
        done(turn, frame, name, {"approved": True, "by": by, "reason": reason})
    else:
        fail(turn, frame, name, "rejected", f"no by {by}: {reason}")
    machine.advance(turn)
    return [*machine.settle(told, at), *_state(inst, route)]


def control(machine: Sagas, asked: Fields, route: str, at: At) -> list[Told]:
    """Pause, resume or cancel a saga."""
    inst, answer = _running(machine, asked["saga"], route)
    if inst is None:
        return answer
    action, told = asked["action"], list[Told]()
    reason = f"by {asked['by'][:NAME_CHARS_MAX]}: {asked['reason'][: machine.limits.reason_chars_max]}"
    if action not in {"pause", "resume", "cancel"}:
        return refused(inst.saga, "bad_action", f"{action[:40]!r}: pause, resume and cancel are allowed", route)
    if inst.status != RUNNING:
        if action == "cancel":
            return _state(inst, route)  # it undoes already
        return refused(inst.saga, "compensating", "it is being compensated, which is not interrupted", route)
    if action == "cancel" and inst.pivoted:
        return refused(inst.saga, "past_pivot", "its pivot has succeeded: it only goes forward", route)
    if action == "cancel":
        machine.cancel(inst, reason, told, at)
        return [*machine.settle(told, at), *_state(inst, route)]
    if inst.paused == (action == "pause"):
        return _state(inst, route)
    turn = machine.turn(inst, at, told)
    inst.paused = action == "pause"
    inst.note("paused" if inst.paused else "resumed", note=reason)
    if not inst.paused:
        _resume(turn)
    machine.advance(turn)
    return [*machine.settle(told, at), *_state(inst, route)]


def _resume(turn: Turn) -> None:
    """Begin what would have begun."""
    inst = turn.inst
    for path, run in sorted(inst.active.items()):
        found = inst.find(path)
        if turn.undo is None and run.status == HELD and found is not None and inst.active.get(path) is run:
            _anew(turn, found[0], path[len(found[0].prefix) :], run)


def _anew(turn: Turn, frame: Frame, name: str, run: Run) -> None:
    if run.attempt and isinstance(frame.graph.nodes[name].node, Step):
        attempt(turn, frame, name)
    else:
        begin(turn, frame, name)


def resolve(machine: Sagas, asked: Fields, route: str, at: At) -> list[Told]:
    """End an incident as an operator says."""
    inst, answer = _running(machine, asked["saga"], route)
    if inst is None:
        return answer
    path, action, by, told = asked["node"], asked["action"], asked["by"][:NAME_CHARS_MAX], list[Told]()
    reason = asked["reason"][: machine.limits.reason_chars_max]
    if action not in {"retry", "skip", "done"}:
        return refused(inst.saga, "bad_action", f"{action[:40]!r}: retry, skip and done are allowed", route)
    if not reason.strip():
        return refused(inst.saga, "no_reason", "say why, for those who look later", route)
    turn = machine.turn(inst, at, told)
    undo = next((one for one in inst.undos if one.path == path and one.status == INCIDENT), None)
    found = inst.find(path)
    if undo is not None:
        machine.advance(turn, over=resolve_undo(turn, undo, action, by, reason))
    elif found is not None and found[1].status == INCIDENT:
        frame, run = found
        name, extra = path[len(frame.prefix) :], run.extra
        inst.note("resolved", path, run.attempt, f"{action} by {by}: {reason}")
        closed = {"saga": inst.saga, "node": path, "undo": False, "open": False, "code": extra[0], "reason": extra[1]}
        told.append(Told("incident", closed, everybody=True))
        problem = _resolve_run(turn, frame, name, run, action, asked["result"])
        if problem:
            return refused(inst.saga, "bad_payload", problem, route)
        machine.advance(turn)
    else:
        return refused(
            inst.saga, "no_incident", f"{path[:80]!r} is at no incident: `antiphon sagas incidents` lists those open", route
        )
    return [*machine.settle(told, at), *_state(inst, route)]


def _resolve_run(turn: Turn, frame: Frame, name: str, run: Run, action: str, result: str) -> str:
    if action == "retry":
        run.extra = run.attempt
        _anew(turn, frame, name, run)
    elif action == "skip":
        finish(turn, frame, name, FAILED)
        turn.todo.append((frame, name))
    else:
        try:
            value = from_text(result) if result else None
        except orjson.JSONDecodeError as error:
            return f"the result is no JSON: {error}"
        done(turn, frame, name, value)
    return ""


def fork(machine: Sagas, asked: Fields, route: str, at: At) -> list[Told]:
    """Run a saga again from a node, as a new one that keeps the results of what does not follow this node."""
    memory, new, name = machine.memory, asked["fork"], asked["node"]
    inst = memory.find(asked["saga"])
    if inst is None:
        return refused(asked["saga"], "unknown", "no saga with this id is known: it never started, or ended long ago", route)
    known = memory.find(new)
    if known is not None and known.forked_from == inst.saga:
        return _follow(machine, known, route, follow=asked["follow"])
    problem = name_problem(new, "the fork")
    if not problem and domain_of(new) != inst.domain:
        problem = f"the fork {new!r} is not of the domain {inst.domain!r}: name it {inst.saga}/..."
    if problem or known is not None:
        return refused(inst.saga, "bad_name", problem or f"there is a saga {new!r}", route)
    if len(memory.live) >= machine.limits.live_max:
        return refused(inst.saga, "too_many", f"{machine.limits.live_max} sagas of this partition have not ended", route)
    kept, problem = _kept(inst, name)
    if problem:
        return refused(inst.saga, "cannot_fork", problem, route)
    told: list[Told] = []
    by = asked["by"][:NAME_CHARS_MAX]
    made = Instance(
        new, inst.plan, inst.input, at.now_ms, at.now_ms + inst.plan.definition.deadline_ms, forked_from=inst.saga, by=by
    )
    made.chars, made.kept = inst.chars, kept
    if asked["follow"] and route:
        made.routes.append(route)
    memory.add(made)
    frame, old = made.new_frame("", made.plan.graph, {}), inst.frames[""]
    for one in kept:
        run = old.runs[one]
        frame.runs[one] = Run(run.status, run.began_ms, attempt=run.attempt, result=run.result)
        frame.left -= 1
        if one in old.scope:
            frame.scope[one] = old.scope[one]
    made.note("forked", name, note=f"from {inst.saga} by {by}: {asked['reason'][: machine.limits.reason_chars_max]}")
    turn = machine.turn(made, at, told)
    turn.todo.extend((frame, one) for one in kept)
    begin_saga(turn)
    machine.advance(turn, began=True, route="" if asked["follow"] else route)
    return machine.settle(told, at)


def _kept(inst: Instance, name: str) -> tuple[list[str], str]:
    """Return the nodes whose results a fork keeps, and why it cannot be."""
    nodes = inst.plan.definition.nodes
    graph = graph_of(nodes)
    top = inst.frames.get("")
    if name not in graph.nodes or top is None:
        return [], f"{name[:80]!r} is no node of the graph: {', '.join(graph.nodes)} are"
    behind = {one for one, sources in before(graph).items() if name in sources} | {name}
    kept = [one for one, run in top.runs.items() if one not in behind and run.finished and run.status != "cancelled"]
    undone = {undo.path for undo in inst.undos if undo.status and undo.status != SKIPPED}
    if bad := [one for one in kept if one in undone]:
        return [], f"{bad[0]!r} was undone, and {name!r} follows on it: fork from {bad[0]!r} or from what comes before it"
    missing = [one for one in graph.sources[name] if one not in kept]
    if missing:
        return [], f"{missing[0]!r} has not ended, and {name!r} follows on it: fork from {missing[0]!r}"
    if any(graph.nodes[one].kind == "lock" for one in kept):
        lock = next(one for one in kept if graph.nodes[one].kind == "lock")
        return [], f"{lock!r} is a lock, which the fork does not hold: fork from {lock!r}"
    return kept, ""
