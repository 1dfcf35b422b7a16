"What nbdev's own commands do not check: the form of notebooks, and who imports whom"
import ast,importlib,inspect,json,re,subprocess,sys
from configparser import ConfigParser
from pathlib import Path
import pytest
from fastcore.docments import docments

root = Path(__file__).resolve().parent.parent
nbs = [o for o in sorted((root/'nbs').rglob('*.ipynb')) if not any(p[0] in '._' for p in o.relative_to(root).parts)]
each = pytest.mark.parametrize('fn', nbs, ids=lambda o: o.stem)
cfg = ConfigParser(delimiters=['='])
cfg.read(root/'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']

def cells(fn, kind): return [''.join(c['source']) for c in json.loads(fn.read_text())['cells'] if c['cell_type']==kind]
def python(fn): return [o for o in cells(fn, 'code') if not re.search(r'^[!%]', o, re.M) and 'nbdev_export(' not in o]
def default_exp(fn): return next((m[1] for o in cells(fn, 'code') if (m := re.search(r'^#\|\s*default_exp\s+(\S+)', o, re.M))), None)
numbers = {name: fn.stem.split('_')[0] for fn in nbs if (name := default_exp(fn))}
modules = sorted(numbers, key=numbers.get)
library = [o for o in modules if o not in ('all', 'cli')]
each_module = pytest.mark.parametrize('name', modules)

# ---- notebooks ----
@each
def test_title_alone(fn):
    assert re.fullmatch(r'# .+\n+> .+\s*', cells(fn, 'markdown')[0]), \
        'the first markdown cell is "# Title" and "> one line", and nothing else: nbdev drops the rest of it from page and README'

@each
def test_size(fn): assert fn.stat().st_size < 300_000, 'outputs too big: fewer or smaller figures, or jpeg'

@each
def test_imports_alone(fn):
    for src in python(fn):
        kinds = {isinstance(o, (ast.Import, ast.ImportFrom)) for o in ast.parse(src).body}
        assert len(kinds)<2, f'imports need a cell of their own, the docs build runs it:\n{src}'

@each
def test_directives_first(fn):
    for src in cells(fn, 'code'):
        assert not re.search(r'^[^#\s].*\n(.*\n)*\s*#\|', src, re.M), f'nbdev ignores a directive below code:\n{src}'

known = {'default_exp','export','exports','exporti','exec_doc','hide','eval','echo','output','include','code-fold','code-summary','warning',
         *cfg['tst_flags'].split()}

@each
def test_directives_known(fn):
    for src in cells(fn, 'code'):
        for d in re.findall(r'^\s*#\s*\|\s*([\w-]*)', src, re.M): assert d in known, f'nbdev ignores the unknown directive {d!r} in silence:\n{src}'

@each
def test_export_cells_short(fn):
    for src in cells(fn, 'code'):
        if re.match(r'#\|\s*export', src): assert src.count('\n')<60, f'{src.count(chr(10))+1} lines in one exported cell:\n{src[:400]}'

@each
def test_no_failed_cell_stored(fn):
    for c in json.loads(fn.read_text())['cells']:
        assert not any(o['output_type']=='error' for o in c.get('outputs', [])), f'a stored error:\n{"".join(c["source"])}'

def texts():
    "Every text file that is the project's own"
    for pat in ('*.md', '*.ini', '*.yml', '*.toml', 'Makefile', 'setup.py', '.ci/*', 'docs/*', 'tests/*', 'bench/**/*', 'nbs/**/*.ipynb', 'edf_nrr/*.py'):
        yield from (o for o in root.glob(pat) if o.is_file() and o.suffix not in ('.png','.jpg','.pyc'))

def test_no_absolute_paths():
    pat = re.compile(r'''(?<![\w.~/-])/(?:home|Users|root|tmp|work|mnt|media|var/folders)/[\w.-]|\b[A-Z]:\\\\?Users''')
    bad = [f'{o.relative_to(root)}: {o.read_text()[m.start()-30:m.end()+30]!r}' for o in texts() if (m := pat.search(o.read_text()))]
    assert not bad, 'a path of one machine:\n'+'\n'.join(bad)

def test_no_pickle():
    pat = re.compile(r'^\s*(import|from)\s+(c?[pP]ickle|dill|joblib|shelve|marshal)\b|\btorch\.load\s*\(|\bpickle\.loads?\s*\(|allow_pickle\s*=\s*True|weights_only\s*=\s*False')
    for fn in nbs:
        for src in cells(fn, 'code'):
            for line in src.splitlines(): assert not pat.search(line), f'{fn.name}: loading this can run code: {line}'

# ---- modules ----
def test_no_orphans():
    for f in (root/'edf_nrr').rglob('[!_]*.py'):
        nb = re.search(r'File to edit: (\S+\.ipynb)', f.read_text())
        assert nb and (f.parent/nb[1]).exists(), f'{f.name} has no notebook'

def test_one_notebook_a_module():
    assert len(numbers)==sum(default_exp(o) is not None for o in nbs), 'two notebooks export the same module'
    assert {o.stem for o in (root/'edf_nrr').glob('[!_]*.py')}==set(modules)

def imported(name):
    "Modules of the library that `name` imports, in functions too"
    for o in ast.walk(ast.parse((root/f'edf_nrr/{name}.py').read_text())):
        if isinstance(o, ast.ImportFrom) and (o.level or (o.module or '').split('.')[0]=='edf_nrr'):
            mod = (o.module or '').removeprefix('edf_nrr').lstrip('.')
            yield from [mod] if mod else [a.name for a in o.names]
        if isinstance(o, ast.Import): yield from (a.name.removeprefix('edf_nrr.') for a in o.names if a.name.startswith('edf_nrr.'))

@each_module
def test_imports_only_from_above(name):
    for o in imported(name):
        if o=='__version__': continue
        assert numbers[o] < numbers[name], f'{numbers[name]}_{name} imports {numbers[o]}_{o}, a row below it'
        assert not (numbers[name][0]=='2' and numbers[o][0]=='1'), f'{name} belongs to NRR-DD and imports {o}, of EDF: a method never imports another'

@each_module
def test_documented(name):
    mod = importlib.import_module(f'edf_nrr.{name}')
    assert mod.__doc__, f'{name}: the notebook has no "> summary"'
    bad = []
    for k in mod.__all__:
        o = getattr(mod, k)
        if getattr(o, '__module__', None)!=mod.__name__ or not (inspect.isfunction(o) or inspect.isclass(o)): continue
        if not o.__doc__ or o.__doc__.startswith(f'{k}('): bad.append(f'{k}: no docstring')
        if inspect.isfunction(o):
            docs = docments(inspect.unwrap(o), returns=False)
            params = [n for n,p in inspect.signature(o).parameters.items() if n!='self' and p.kind!=p.VAR_KEYWORD] # docments does not see **kwargs
            bad += [f'{k}: parameter {p} has no comment' for p in params if not docs.get(p)]
    assert not bad, '\n'.join(bad)

def test_names_unique():
    owner = {}
    for name in library:
        mod = importlib.import_module(f'edf_nrr.{name}')
        for k in mod.__all__: assert owner.setdefault(k, name)==name, f'`{k}` is in both {owner[k]} and {name}: `edf_nrr.all` would hide one'

def test_all_has_everything():
    everything = importlib.import_module('edf_nrr.all')
    missing = set(library) - set(imported('all'))
    assert not missing, f'99_all.ipynb does not import from {sorted(missing)}'
    for name in library:
        mod = importlib.import_module(f'edf_nrr.{name}')
        assert not set(mod.__all__) - set(everything.__all__)

@pytest.mark.skipif(not (root/'nbs/40_cli.ipynb').exists(), reason='no notebook for the commands yet')
def test_commands_resolve():
    for o in cfg['console_scripts'].split():
        mod,fn = o.split('=')[1].split(':')
        assert callable(getattr(importlib.import_module(mod), fn, None)), f'{o}: no such function'

heavy = 'fastai','fastprogress','fasthtml','sklearn','pandas','torchcam','IPython','nbdev','pyarrow'

def test_light_imports():
    names = [f'edf_nrr.{o}' for o in library if numbers[o]<'30']
    src = f'import sys,{",".join(names)}; print(*(o for o in {heavy!r} if o in sys.modules))'
    loaded = subprocess.run([sys.executable, '-c', src], capture_output=True, text=True, check=True, cwd=root).stdout.split()
    assert not loaded, f'`import edf_nrr...` loads {loaded}: import them inside the function that needs them'
