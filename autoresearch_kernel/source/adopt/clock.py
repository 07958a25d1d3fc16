"""The training loop: TrainingClock in the place of a count of seconds, and evaluate_bpb as the end."""

from __future__ import annotations

import ast

from .draft import Draft, Edit, is_bound

Loop = ast.For | ast.While

_READS_CLOCK = {"time.time", "time.perf_counter", "time.monotonic", "time.process_time", "time.time_ns",
                "time.perf_counter_ns", "timeit.default_timer", "datetime.datetime.now"}  # fmt: skip
_IS_NUMBER = {f"{module}.{test}" for module in ("math", "torch", "numpy") for test in ("isnan", "isinf", "isfinite")}
EXITS = {"exit", "quit", "sys.exit", "os._exit", "SystemExit"}
_GIVES_BATCHES = {"next", "iter", "tqdm", "islice", "cycle"}  # functions whose first argument gives the same batches
_LOSSES = ("train_loss_f", "train_loss", "loss_f", "lossf", "loss_accum", "avg_loss", "total_loss", "loss")


def replace_clock(draft: Draft) -> None:
    """TrainingClock in the loop that trains; where there is no such loop, that is listed."""
    timed = _timed_names(draft)
    loop = _training_loop(draft, timed)
    if loop is None:
        words = "no loop with `.backward()` was found: train in `while clock.running():` with clock = TrainingClock()"
        draft.note(len(draft.lines), words, by_hand=True)
        return
    loops = _around(draft, loop)
    if any(around.body[0].lineno == around.lineno for around in loops):
        draft.note(loop, "write the body of the loop on lines of its own, and adopt the file again", by_hand=True)
        return
    tests = [test for around in loops for test in _time_tests(draft, around, timed)]
    loss, clock = _loss(draft, loop), draft.new_name("clock")
    report = f"{clock}.report(train_loss={loss})" if loss else ""
    if not loss:
        draft.note(loop, f"end each step with {clock}.report(train_loss=...), the loss of the step", by_hand=True)
    start = loops[-1]
    draft.insert(draft.starts[start.lineno - 1], f"{draft.indent(start)}{clock} = {draft.ours('TrainingClock')}()\n")
    _end_by_clock(draft, loop, tests, clock, report)
    for inner in loops[:-1]:  # a `break` leaves one loop; those around it, as over epochs, end right after it
        indent = draft.indent(inner)
        draft.insert(draft.after(inner), f"{indent}if {clock}.progress >= 1:\n{indent}    break\n")
    for test in tests:
        _elapsed(draft, start, test, clock)
    _drop_number_check(draft, loop)
    _drop_progress_line(draft, loop)


def is_training(node: ast.AST) -> bool:
    """Whether a node is a loop that computes gradients."""
    return isinstance(node, Loop) and _calls(node, "backward")


def _training_loop(draft: Draft, timed: set[str]) -> Loop | None:
    """The innermost loop with `.backward()` and `.step()`, not the one that accumulates gradients.

    Of several, as where the size of the batch is tried out first, the one that counts seconds, or the last one.
    """
    loops = [n for n in ast.walk(draft.tree) if isinstance(n, Loop) and is_training(n) and not draft.is_gone(n)]
    stepping = [loop for loop in loops if _calls(loop, "step")]
    innermost = [loop for loop in stepping if not any(n in stepping for n in ast.walk(loop) if n is not loop)]
    outermost = [loop for loop in loops if not any(n in loops for n in draft.ancestors(loop))]
    return max(
        innermost or outermost,
        key=lambda loop: (any(_time_tests(draft, around, timed) for around in _around(draft, loop)), loop.lineno),
        default=None,
    )


def _around(draft: Draft, loop: Loop) -> list[Loop]:
    """A loop and those that it stands in, from the inside."""
    return [loop, *(parent for parent in draft.ancestors(loop) if isinstance(parent, Loop))]


def _calls(node: ast.AST, name: str) -> bool:
    return any(isinstance(n, ast.Attribute) and n.attr == name for n in ast.walk(node))


# --- how the loop counts seconds


def _timed_names(draft: Draft) -> set[str]:
    """Names whose values come from a clock, directly or through other names."""
    timed: set[str] = set()
    while True:
        new = {
            ast.unparse(target)
            for node in ast.walk(draft.tree)
            if isinstance(node, ast.Assign | ast.AugAssign) and _is_timed(draft, node.value, timed)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name | ast.Attribute)
        } - timed
        if not new:
            return timed
        timed |= new


def _is_timed(draft: Draft, node: ast.AST, timed: set[str]) -> bool:
    return any(
        (isinstance(n, ast.Call) and draft.path(n.func) in _READS_CLOCK)
        or (isinstance(n, ast.Name | ast.Attribute) and ast.unparse(n) in timed)
        for n in ast.walk(node)
    )


def _time_tests(draft: Draft, loop: Loop, timed: set[str]) -> list[ast.Compare]:
    """Comparisons of seconds that end this loop: in its own test, or in an `if` with a `break`."""
    tests = [loop.test] if isinstance(loop, ast.While) else []
    tests += [n.test for n in _of_loop(draft, loop) if isinstance(n, ast.If) and _breaks(n)]
    compared = [node for test in tests for node in ast.walk(test) if isinstance(node, ast.Compare)]
    return [node for node in compared if _is_time_test(draft, node, timed)]


def _is_time_test(draft: Draft, node: ast.Compare, timed: set[str]) -> bool:
    """Whether seconds are compared with something else, or the clock itself with a time."""
    sides = [_is_timed(draft, side, timed) for side in (node.left, node.comparators[0])]
    is_order = len(node.ops) == 1 and isinstance(node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)
    return is_order and any(sides) and (not all(sides) or _is_timed(draft, node, set()))


def _of_loop(draft: Draft, loop: Loop) -> list[ast.AST]:
    """Nodes whose nearest loop is this one."""
    nearest = lambda node: next((p for p in draft.ancestors(node) if isinstance(p, Loop)), None)  # noqa: E731
    return [node for node in ast.walk(loop) if nearest(node) is loop]


def _breaks(node: ast.If) -> bool:
    return not node.orelse and isinstance(node.body[-1], ast.Break)


# --- what takes its place


def _end_by_clock(draft: Draft, loop: Loop, tests: list[ast.Compare], clock: str, report: str) -> None:
    """`clock.running()` begins each step and `clock.report()` ends it; other tests of the time are taken out."""
    owners = {test: draft.statement_of(test) for test in tests}
    condition = next((test for test, owner in owners.items() if owner is loop), None)
    if condition is None and isinstance(loop, ast.While) and isinstance(loop.test, ast.Constant) and loop.test.value:
        condition = loop.test  # type: ignore[assignment]
    if condition is not None:
        parent = draft.parents[condition]
        if isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Not):
            draft.replace(parent, f"{clock}.running()")
        else:
            draft.replace(condition, f"{'not ' if _is_negated(draft, condition) else ''}{clock}.running()")
        draft.note(loop, f"while {clock}.running(): the study's budget ends the training")
    else:
        first, indent = loop.body[0], draft.indent(loop.body[0])
        draft.insert(draft.starts[first.lineno - 1], f"{indent}if not {clock}.running():\n{indent}    break\n")
        draft.note(loop, f"`if not {clock}.running(): break` begins each step: the study's budget ends the training")
    ends = {owner for owner in owners.values() if isinstance(owner, ast.If)}
    computed = max(n.lineno for n in ast.walk(loop) if isinstance(n, ast.Attribute) and n.attr == "backward")
    at_end = (owner for owner in ends if report and draft.parents[owner] is loop and owner.lineno > computed)
    if (reported := next(at_end, None)) is not None:
        draft.replace(reported, report)
        draft.note(reported, report)
    elif report:
        last = loop.body[-1]
        draft.insert(draft.after(last), f"{draft.indent(last)}{report}\n")
        draft.note(last, f"after it: {report}")
    for owner in ends - {reported}:
        draft.remove(owner)
        draft.note(owner, f"taken out: {clock}.running() ends the training")


def _is_negated(draft: Draft, node: ast.AST) -> bool:
    """Whether a node stands under a `not`."""
    return any(isinstance(p, ast.UnaryOp) and isinstance(p.op, ast.Not) for p in draft.ancestors(node))


def _elapsed(draft: Draft, loop: Loop, test: ast.Compare, clock: str) -> None:
    """Where the loop updates its own count, the clock's takes its place; so do shares of the budget."""
    left, right = test.left, test.comparators[0]
    spent, budget = (left, right) if isinstance(test.ops[0], ast.Gt | ast.GtE) else (right, left)
    is_condition = isinstance(loop, ast.While) and draft.statement_of(test) is loop
    if is_condition != _is_negated(draft, test):
        spent, budget = budget, spent
    name = ast.unparse(spent) if isinstance(spent, ast.Name | ast.Attribute) else ""
    share = ast.dump(ast.BinOp(spent, ast.Div(), budget))
    is_share = isinstance(budget, ast.Constant) and budget.value == 1
    new = f"{clock}.progress" if is_share else f"{clock}.elapsed"
    for node in ast.walk(loop):
        if name and isinstance(node, ast.AugAssign) and ast.unparse(node.target) == name:
            parent = draft.parents[node]
            whole = parent if isinstance(parent, ast.If) and parent.body == [node] and not parent.orelse else node
            draft.replace(whole, f"{name} = {new}")
            draft.note(node, f"{name} = {new}, which counts every step")
        elif name and isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == [name]:
            draft.replace(node.value, new)
            draft.note(node, new)
        elif isinstance(node, ast.BinOp) and ast.dump(node) == share:
            _progress(draft, node, clock)


def _progress(draft: Draft, share: ast.BinOp, clock: str) -> None:
    """`min(seconds / budget, 1.0)`, or the fraction alone."""
    call = draft.parents[share]
    is_min = isinstance(call, ast.Call) and draft.path(call.func) == "min" and len(call.args) == 2
    draft.replace(call if is_min else share, f"{clock}.progress")
    draft.note(share, f"{clock}.progress")


def _loss(draft: Draft, loop: Loop) -> str:
    """The loss of a step as the source writes it; "" when none is found."""
    for node in ast.walk(loop):
        if isinstance(node, ast.Call) and draft.path(node.func) in _IS_NUMBER and node.args:
            return draft.text_of(node.args[0])
    assigned = {n.id for n in ast.walk(loop) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for name in (*_LOSSES, *sorted(n for n in assigned if "loss" in n.lower())):
        if name in assigned:
            return name
    called_on = [n.value for n in ast.walk(loop) if isinstance(n, ast.Attribute) and n.attr == "backward"]
    return next((n.id for value in called_on for n in ast.walk(value) if isinstance(n, ast.Name)), "")


def _drop_number_check(draft: Draft, loop: Loop) -> None:
    """An `if` that ends the process when the loss is no number: the clock does that, with a reason."""
    for node in [n for n in ast.walk(loop) if isinstance(n, ast.If) and not n.orelse]:
        checks = any(isinstance(n, ast.Call) and draft.path(n.func) in _IS_NUMBER for n in ast.walk(node.test))
        last = node.body[-1]
        call = last.value if isinstance(last, ast.Expr) else None
        if checks and isinstance(call, ast.Call) and draft.path(call.func) in EXITS and loop.body != [node]:
            draft.remove(node, with_comments=True)
            draft.note(node, "taken out: clock.report ends a run whose loss is no number")


def _drop_progress_line(draft: Draft, loop: Loop) -> None:
    """A line that is printed over the one before, at each step."""
    for node in _of_loop(draft, loop):
        if isinstance(node, ast.Expr) and isinstance(call := node.value, ast.Call) and draft.path(call.func) == "print":
            ends = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == "end"]
            if ends in (["''"], ["'\\r'"]):
                draft.remove(node)
                draft.note(node, "taken out: the clock prints the progress")


# --- the score


def replace_ending(draft: Draft) -> None:
    """evaluate_bpb is the last thing that a train.py does: it hands the model over and prints the summary."""
    calls = [n for n in ast.walk(draft.tree) if isinstance(n, ast.Call)]
    calls = [call for call in calls if draft.path(call.func) == "prepare.evaluate_bpb"]
    inside = [call for call in calls if any(isinstance(p, Loop) for p in draft.ancestors(call))]
    for call in inside:
        draft.note(call, 'ends the training: score batches of make_dataloader(..., "dev") in the loop', by_hand=True)
    ends = [call for call in calls if call not in inside]
    if not ends:
        words = "end with val_bpb = evaluate_bpb(model, tokenizer, batch_size): this program scores bits per byte alone"
        draft.note(len(draft.lines), words, by_hand=True)
        return
    statement = draft.statement_of(max(ends, key=lambda call: call.lineno))
    while isinstance(draft.parents[statement], ast.With):
        statement = draft.parents[statement]  # type: ignore[assignment]
    block = draft.block_of(statement)
    rest = block[block.index(statement) + 1 :]
    after = [s for s in rest if not _stays(s)]
    kept = {n.id for s in rest if _stays(s) for n in ast.walk(s) if isinstance(n, ast.Name)}
    nodes = [n for s in after for n in ast.walk(s)]
    if any(is_training(n) for n in nodes):
        draft.note(statement, "ends the training, so it has to be the last line", by_hand=True)
    if not after or any(is_training(n) or (is_bound(n) and n.id in kept) for n in nodes):  # type: ignore[attr-defined]
        return
    for s in after:
        draft.remove(s, with_comments=True)
    words = f"taken out, to line {after[-1].end_lineno}: evaluate_bpb prints the summary, and the study keeps the model"
    draft.note(after[0], words)


def _stays(statement: ast.stmt) -> bool:
    is_main = isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)
    return is_main or isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.Return)


def replace_batches(draft: Draft) -> None:
    """The seed of the study for the order of the rows, and a batch of any size."""
    loaders = set()
    for call in [n for n in ast.walk(draft.tree) if isinstance(n, ast.Call) and not draft.is_gone(n)]:
        if draft.path(call.func) == "prepare.make_dataloader":
            _loader(draft, call)
            loaders |= {ast.unparse(target) for target in getattr(draft.parents[call], "targets", [])}
    for node in [n for n in ast.walk(draft.tree) if isinstance(n, ast.Assign | ast.For)]:
        value = node.iter if isinstance(node, ast.For) else node.value
        target = node.target if isinstance(node, ast.For) else node.targets[0]
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.FloorDiv) and "accum" in ast.unparse(target):
            _any_batch(draft, node, value)
        batch = _batch_target(draft, target, value, loaders)
        if isinstance(batch, ast.Tuple) and len(batch.elts) == 2:
            draft.insert(draft.span(batch.elts[1])[1], ", _")
            draft.note(node, "make_dataloader here gives x, y and the epoch")


def _batch_target(draft: Draft, target: ast.expr, value: ast.expr, loaders: set[str]) -> ast.expr | None:
    """What a batch of a loader is assigned to; None where the value is no batch."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "__next__":
        return _batch_target(draft, target, value.func.value, loaders)
    if not isinstance(value, ast.Call) or not value.args:
        return target if ast.unparse(value) in loaders else None
    function = draft.path(value.func).rpartition(".")[2]
    if function == "enumerate" and isinstance(target, ast.Tuple) and len(target.elts) == 2:
        return _batch_target(draft, target.elts[1], value.args[0], loaders)
    return _batch_target(draft, target, value.args[0], loaders) if function in _GIVES_BATCHES else None


def _loader(draft: Draft, call: ast.Call) -> None:
    """The seed of a call of make_dataloader, and what this function here does not take."""
    words = {keyword.arg for keyword in call.keywords}
    if unknown := sorted(str(word) for word in words - {"tokenizer", "B", "T", "split", "device", "seed"}):
        draft.note(call, f"make_dataloader here has no {', '.join(unknown)}: take it out", by_hand=True)
    if call.args and isinstance(call.args[0], ast.Constant):
        draft.note(call, "write make_dataloader(tokenizer, B, T, split), as it is here", by_hand=True)
    if "'val'" in ast.unparse(call):
        draft.note(call, 'an experiment has no validation rows: look at the split "dev"', by_hand=True)
    elif "seed" not in words:
        end = draft.span(call)[1] - 1
        comma = "" if draft.source[:end].rstrip().endswith(",") else ","
        draft.insert(end, f"{comma} seed=SEED")
        draft.note(call, "seed=SEED, so that each run sees its own order of rows")


def _any_batch(draft: Draft, statement: ast.stmt, share: ast.BinOp) -> None:
    """At least one pass in a step, and no demand that its tokens divide: presets and the optimiser vary both."""
    rest = ast.dump(ast.BinOp(share.left, ast.Mod(), share.right))
    for other in draft.block_of(statement):
        if isinstance(other, ast.Assert) and isinstance(other.test, ast.Compare) and ast.dump(other.test.left) == rest:
            draft.remove(other)
            draft.note(other, "taken out: presets and the optimiser vary both sizes")
    start, end = draft.span(share)
    draft.edits += [Edit(start, start, "max(1, "), Edit(end, end, ")")]
    draft.note(statement, "at least one pass in each step, whatever the sizes of the batches are")
