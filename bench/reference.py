"""Published code as a contestant: modules and statements of a checkout that the user names, run as they are; nothing of theirs is kept here"""
import ast,importlib,sys
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import MagicMock

def modules(
    path, # Checkout
    *names, # Modules to import
    unused=(), # Packages that they import but what is timed does not use: stand-ins where they are not installed
    aliases={} # Modules that have moved since: old name -> module
)->list: # The modules
    "Modules of a checkout, its folder first on the path"
    path = Path(path).expanduser()
    if not path.is_dir(): raise FileNotFoundError(f'{path} is not a folder: give a checkout of the published code')
    for name in unused:
        if name.split('.')[0] in sys.modules or find_spec(name.split('.')[0]) is None: sys.modules.setdefault(name, MagicMock())
    sys.modules.update(aliases)
    sys.path.insert(0, str(path))
    return [importlib.import_module(o) for o in names]

def statements(
    file, # A module's file
    function:str, # Function that holds the statements
    first, # Function: source of a statement -> is it the first one?
    last # Function: source of a statement -> is it the last one?
): # Code object for `exec`
    "Some consecutive statements of a function, found by their source, wherever in it they are"
    body = next(o for o in ast.walk(ast.parse(Path(file).read_text())) if isinstance(o, ast.FunctionDef) and o.name==function)
    for block in [o for n in ast.walk(body) for o in (getattr(n, 'body', None), getattr(n, 'orelse', None)) if isinstance(o, list)]:
        src = [ast.unparse(o) for o in block]
        i = next((i for i,o in enumerate(src) if first(o)), None)
        if i is None: continue
        j = next((j for j,o in enumerate(src) if j>=i and last(o)), None)
        if j is not None: return compile(ast.Module(block[i:j+1], []), str(file), 'exec')
    raise ValueError(f'{file} has no such statements in {function}: another version of the published code?')
