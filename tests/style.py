"""How the notebooks read, in numbers: python tests/style.py [--worst 10] [FOLDER ...]

Export cells of imports do not count. The aims are those of the best notebook-first code: short cells of one thought each,
shown by the next cell, with their source on the page. tests/test_repo.py holds looser bounds, so that a page may be an exception.
"""
import argparse,ast,json,re,statistics
from pathlib import Path

AIMS = {'lines a cell, median': (8, '<='), 'lines a cell, p90': (20, '<='), 'next code cell shows it, %': (70, '>='),
        'line length p90': (95, '<='), 'line length p99': (130, '<='), 'lines with "; ", %': (1.5, '<='),
        'private names, %': (25, '<='), 'source shown, %': (80, '>=')}
directive = re.compile(r'^\s*#\s*\|\s*(exports?)\b', re.M)

def code_cells(fn): return [s for c in json.loads(fn.read_text())['cells'] if c['cell_type']=='code' and (s := ''.join(c['source'])).strip()]
def tree(src):
    try: return ast.parse('\n'.join(o for o in src.splitlines() if not o.lstrip().startswith(('%', '!')))).body
    except SyntaxError: return []
def imports_only(src): return bool(tree(src)) and all(isinstance(o, (ast.Import, ast.ImportFrom)) for o in tree(src))
def code_lines(src): return [o for o in src.splitlines() if o.strip() and not re.match(r'\s*#\s*\|', o)]
def at(values, p): return sorted(values)[min(len(values)-1, int(p*len(values)))] if values else 0
def notebooks(folder): return [o for o in sorted(Path(folder).rglob('*.ipynb')) if not any(p[0] in '._' for p in o.relative_to(folder).parts)]

def exported(folder):
    "Each exported cell that is not of imports: notebook, source, whether its source is on the page, whether the next cell shows it"
    for fn in notebooks(folder):
        cells = code_cells(fn)
        for i,src in enumerate(cells):
            if not directive.search(src) or imports_only(src): continue
            nxt = cells[i+1] if i+1<len(cells) else ''
            shown = bool(nxt) and not directive.search(nxt) and 'nbdev_export' not in nxt
            yield fn,src,directive.search(src)[1]=='exports',shown

def measure(folder):
    "Name of each measure -> value"
    found = list(exported(folder))
    lines = [o for _,src,_,_ in found for o in code_lines(src)]
    sizes = [len(code_lines(src)) for _,src,_,_ in found]
    defs = [n.name for _,src,_,_ in found for n in tree(src) if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    def share(flags): return round(100*sum(flags)/max(1, len(flags)), 1)
    values = [statistics.median(sizes or [0]), at(sizes, .9), share([o[3] for o in found]), at([*map(len, lines)], .9), at([*map(len, lines)], .99),
              share(['; ' in o for o in lines]), share([o[0]=='_' and o[:2]!='__' for o in defs]), share([o[2] for o in found])]
    return {'export cells': len(found), **dict(zip(AIMS, values))}

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('folders', nargs='*', default=[Path(__file__).resolve().parent.parent/'nbs'])
    p.add_argument('--worst', type=int, default=0, help='also the longest cells and lines')
    a = p.parse_args()
    rows = [measure(o) for o in a.folders]
    for k in rows[0]: print(f'{k:28}', *(f'{r[k]:>10}' for r in rows), '  aim {1} {0}'.format(*AIMS[k]) if k in AIMS else '')
    found = [o for f in a.folders for o in exported(f)]
    for fn,src,_,_ in sorted(found, key=lambda o: -len(code_lines(o[1])))[:a.worst]: print(len(code_lines(src)), fn.stem, code_lines(src)[0][:80])
    long = sorted(((len(l), fn.stem, l.strip()[:100]) for fn,src,_,_ in found for l in code_lines(src)), reverse=True)
    for o in long[:a.worst]: print(*o)

if __name__=='__main__': main()
