"""What hints the code may print: read from its syntax, with ANY for what is known only when it runs."""

import ast
import itertools
import re
from pathlib import Path

import aecli

PACKAGE = Path(aecli.__file__).parent
ANY = "…"
KEYWORDS = ("hint", "options", "piped")  # of the errors that carry a way out
PLACES = {"_Bad": 1, "Guess": 2, "Near": 2}  # the argument that becomes part of a hint, of what is no error yet
NAMES = re.compile(rf"(?<![\w-])(--[a-z{ANY}]|-o\b)|\baecli\b")  # an option or a command
PIPED = f"| aecli train {ANY}"


def collected():
    """Return the hints that name an option or a command, as patterns: pattern -> where the first of it is."""
    code, found = _Code(), {}
    for text, place in code.hints():
        plain = re.sub(f"{ANY}( ?{ANY})+", ANY, text).strip()
        if NAMES.search(plain):
            found.setdefault(plain, place)
    return found


def is_of(pattern, hint):
    """Return whether a printed hint is one of a pattern. One that is options alone may be a part of it."""
    form = ".*".join(map(re.escape, pattern.split(ANY)))
    is_part = pattern.startswith("--") and " aecli " in f" {hint}"
    return (re.search if is_part else re.fullmatch)(form, hint) is not None


class _Code:
    """The package's modules."""

    def __init__(self):
        self._modules = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
        self._functions = {}
        for path, module in self._modules.items():
            for node in ast.walk(module):
                if isinstance(node, ast.FunctionDef):
                    self._functions.setdefault(node.name, []).append((path, node))

    def hints(self):
        """Yield each text that a hint may be, and its place."""
        for path, module in self._modules.items():
            for node in ast.walk(module):
                for value in self._hints_in(node):
                    place = f"{path.relative_to(PACKAGE.parent)}:{node.lineno}"
                    yield from ((text, place) for text in self._texts(value, path, ()))

    @staticmethod
    def _hints_in(node):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            yield from (keyword.value for keyword in node.keywords if keyword.arg in KEYWORDS)
            yield from node.args[PLACES.get(name, len(node.args)) :][:1]
        elif isinstance(node, ast.FunctionDef) and node.name == "explanation":  # (message, hint)
            yield from (each.value.elts[1] for each in ast.walk(node) if isinstance(each, ast.Return))

    def _texts(self, node, path, seen):  # noqa: C901, a case for each kind of expression
        """Return what an expression of a module may be, as texts; a list is its items, with blanks between them."""

        def either(*nodes):
            return set().union(*(self._texts(each, path, seen) for each in nodes))

        def joined(nodes, by=""):
            return {by.join(parts) for parts in itertools.product(*(either(each) for each in nodes))}

        match node:
            case ast.Constant(value=value):
                found = {"" if value is None else str(value)}
            case ast.JoinedStr(values=nodes):
                found = joined(nodes)
            case ast.List(elts=nodes) | ast.Tuple(elts=nodes):
                found = joined(nodes, " ")
            case ast.FormattedValue(value=inner) | ast.ListComp(elt=inner) | ast.GeneratorExp(elt=inner):
                found = either(inner)
            case ast.IfExp(body=one, orelse=other):
                found = either(one, other)
            case ast.BoolOp(values=nodes):
                found = either(*nodes)
            case ast.BinOp(left=one, op=ast.Add(), right=other):
                found = joined([one, other])
            case ast.BinOp(left=one, op=ast.Mult()):
                found = either(one) | {""}
            case ast.Name(id=name):
                found = self._assigned(name, path, seen)
            case ast.Attribute(attr=name):
                found = self._named(name, path, seen)
            case ast.Call(func=function, args=arguments):
                found = self._called(function, arguments, path, seen)
            case _:
                found = {ANY}
        return found

    def _called(self, function, arguments, path, seen):
        """Return what a call may give."""
        name = getattr(function, "attr", getattr(function, "id", ""))
        match name, arguments:
            case "Piped", [writes, *_]:
                found = {f"{ANY}{text} {PIPED}" for text in self._texts(writes, path, seen)}
            case "command", [_, *more]:
                ends = [self._texts(each, path, seen) for each in more]
                found = {" ".join(["aecli", ANY, *parts]) for parts in itertools.product(*ends)}
            case "join", [inner] if isinstance(inner, ast.List | ast.Tuple):
                found = self._texts(inner, path, seen)
            case "join", [inner]:
                found = {f"{text}{ANY}" for text in self._texts(inner, path, seen)}
            case (("split" | "_once"), [inner]):
                found = self._texts(inner, path, seen)
            case "format", _:
                found = {re.sub(r"\{.*?\}", ANY, text) for text in self._texts(function.value, path, seen)}
            case _:
                found = self._named(name, path, seen)
        return found

    def _named(self, name, path, seen):
        """Return what functions of a name may return, or what it may be where there are none."""
        if name not in self._functions:
            return self._assigned(name, path, seen)
        if (name, None) in seen:
            return {ANY}
        values = [
            (place, node.value)
            for place, function in self._functions[name]
            for node in ast.walk(function)
            if isinstance(node, ast.Return) and node.value is not None
        ]
        return set().union(*(self._texts(value, place, (*seen, (name, None))) for place, value in values)) or {ANY}

    def _assigned(self, name, path, seen):
        """Return what a name may be, by all that is assigned to it anywhere in its module."""
        if (name, path) in seen:
            return {ANY}
        values = [
            value
            for node in ast.walk(self._modules[path])
            for target, value in self._assignments(node, path)
            if getattr(target, "id", getattr(target, "attr", None)) == name
        ]
        return set().union(*(self._texts(value, path, (*seen, (name, path))) for value in values)) or {ANY}

    def _assignments(self, node, path):
        """Yield the pairs of target and value in a statement; of `a, b = TABLE[key]`, those of each of its entries."""
        if isinstance(node, ast.AugAssign | ast.AnnAssign) and node.value is not None:
            yield node.target, node.value
        for target in node.targets if isinstance(node, ast.Assign) else ():
            values = [node.value]
            if isinstance(node.value, ast.Subscript):
                values = self._entries(getattr(node.value.value, "id", None), path) or values
            for value in values:
                if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                    yield from zip(target.elts, value.elts, strict=False)
                else:
                    yield target, value

    def _entries(self, name, path):
        """Return the values of a module's dictionary."""
        named = [
            node.value
            for node in self._modules[path].body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name
        ]
        return [value for node in named if isinstance(node, ast.Dict) for value in node.values]
