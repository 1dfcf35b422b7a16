"Write README.md and the docs site from the notebooks: the site with Quarto where there is one, else the same pages with pandoc and pagefind"
import base64,html,os,re,shutil,subprocess,sys,tempfile,yaml
from pathlib import Path
from execnb.nbio import read_nb
from fastcore.script import call_parse
from nbdev.config import get_config
from nbdev.processors import FilterDefaults
from nbdev.quarto import nbdev_docs,refresh_quarto_yml
from nbdev.serve import proc_nbs
from nbdev import serve_drv
import pypandoc

here = Path(__file__).resolve().parent
cfg = get_config(path=here)
base = f'{cfg.doc_host}{cfg.doc_baseurl}'.rstrip('/')+'/'
parts = {'Foundations': '0', 'Trajectory matching and EDF': '1', 'NRR-DD': '2', 'Baselines and comparison': '3', 'Running it': '4-9'}

# ---- which pages there are ----
def notebooks():
    "Paths of all notebooks below `nbs_path`, in reading order: index, tutorials, then by number"
    fns = [o.relative_to(cfg.nbs_path) for o in sorted(cfg.nbs_path.rglob('*.ipynb'))]
    fns = [o for o in fns if not any(p[0] in '._' for p in o.parts)]
    return sorted(fns, key=lambda o: (o.name!=cfg.readme_nb, o.parts[0]!='tutorials', str(o)))

def url(fn):
    "The page of notebook `fn`, as nbdev names it: without the number"
    return str(fn.parent/(re.sub(r'^\d+[a-z]?_', '', fn.stem)+'.html'))

def sections():
    "Contents of the sidebar"
    fns = notebooks()
    def pick(pat): return [str(o) for o in fns if re.match(pat, str(o))]
    res = pick(cfg.readme_nb) + [dict(section='Tutorials', contents=pick('tutorials/'))]
    res += [dict(section=k, contents=pick(f'[{v}]')) for k,v in parts.items()]
    return [o for o in res if isinstance(o, str) or o['contents']]

def write_sidebar():
    "`nbs/sidebar.yml`, which Quarto reads too"
    side = dict(website=dict(sidebar=dict(contents=sections())))
    (cfg.nbs_path/'sidebar.yml').write_text('# Written by docs/docs.py\n'+yaml.safe_dump(side, sort_keys=False))

# ---- a processed notebook as pandoc markdown ----
_re_dir = re.compile(r'^#\|\s*([\w-]+):?\s*(.*)\n?', re.M)
_re_front = re.compile(r'\A---\n(.*?)\n---\n', re.S)
_re_fenced = re.compile(r'^```.*?^```', re.M|re.S)
_re_symlink = re.compile(r'\[(`[^`]+`)\]\([^)]*\)') # nbdev links symbols in the comments of a signature too, where a link is only noise
def _s(o): return ''.join(o) if isinstance(o, (list,tuple)) else o or ''
def _fence(txt, kind): return f'``````{kind}\n{txt}\n``````'

def out2md(o, img, asis):
    "Markdown for cell output `o`, saving a picture to `img`"
    d = o.get('data', {})
    if 'text/markdown' in d: return _re_fenced.sub(lambda m: _re_symlink.sub(r'\1', m[0]), _s(d['text/markdown']))
    for k in ('png','jpeg'):
        if f'image/{k}' in d:
            img = img.with_suffix('.'+k)
            img.parent.mkdir(parents=True, exist_ok=True)
            img.write_bytes(base64.b64decode(_s(d[f'image/{k}'])))
            return f'![]({img.parent.name}/{img.name})'
    if raw := _s(d.get('image/svg+xml') or d.get('text/html')): return _fence(raw, '{=html}')
    txt = _s(o.get('text') or d.get('text/plain')).rstrip()
    return txt if asis or not txt else _fence(txt, 'output')

def cell2md(i, c, files, unfold):
    "Markdown for code cell `c`, the `i`-th, with its outputs; `unfold` shows the source of exported cells at once"
    d,src = dict(_re_dir.findall(c.source)),_re_dir.sub('', c.source).strip()
    if not src or d.get('include')=='false': return []
    code = _fence(src, 'python')
    summary = d.get('code-summary', 'Code').strip('"')
    exported = summary=='Exported source' # nbdev's words for a cell of `#| exports`
    if 'code-fold' in d: code = f'<details{" open"*(exported and unfold)}><summary>{"Source" if exported else summary}</summary>\n\n{code}\n\n</details>'
    res = [] if d.get('echo')=='false' else [code]
    if d.get('output')=='false': return res
    return res + [out2md(o, files/f'{i}_{j}', d.get('output')=='asis') for j,o in enumerate(c.get('outputs', []))]

def nb2md(fn, files):
    "Front matter and pandoc markdown of processed notebook `fn`, saving pictures in folder `files`"
    res,unfold = [],bool(re.match('[12]|30', fn.name)) # pages of methods
    for i,c in enumerate(read_nb(fn).cells): res += [c.source] if c.cell_type!='code' else cell2md(i, c, files, unfold)
    md = '\n\n'.join(res)
    front = _re_front.match(md)
    if not front: raise ValueError(f'{fn.name} has no title: its first markdown cell must be "# Title", then "> summary"')
    return yaml.safe_load(front[1]), re.sub(r'<!-- WARNING.*?-->', '', md[front.end():]).strip()

def relink(md, fn, target):
    "Point links to notebooks and nbdev's own links to symbols at `target(notebook, fragment)`; `fn` holds `md`"
    pages = {url(o): o for o in notebooks()}
    def doc(m): return f']({target(pages[m[1]], m[2] or "")})' if m[1] in pages else m[0]
    def nb(m):
        o = Path(os.path.normpath(fn.parent/m[1]))
        return f']({target(o, m[2] or "")})' if o in pages.values() else m[0]
    md = re.sub(rf'\]\({re.escape(base)}([\w/.-]+\.html)(#[^)\s]*)?\)', doc, md)
    return re.sub(r'\]\((?!\w+:)([\w/.-]+\.ipynb)(#[^)\s]*)?\)', nb, md)

# ---- README.md ----
def write_readme(dest):
    "README.md from the index notebook, in folder `dest`; its links lead to notebooks in the repository"
    fn,nbs = Path(cfg.readme_nb),cfg.nbs_path.name
    with tempfile.TemporaryDirectory() as tmp:
        serve_drv.main((cfg.nbs_path/fn, Path(tmp)/fn, FilterDefaults))
        fm,md = nb2md(Path(tmp)/fn, dest/nbs/f'{fn.stem}_files')
    md = relink(md, fn, lambda o,frag: f'{nbs}/{o}')
    md = re.sub(r'(!\[[^\]]*\]\()(?!\w+:)', rf'\1{nbs}/', md)
    md = md.replace('``````output', '``````').replace(f']({cfg.git_url}/blob/{cfg.branch}/', '](')
    md = f"# {fm['title']}\n\n> {fm['description']}\n\n{md}"
    pypandoc.convert_text(md, 'gfm', format='markdown-smart', outputfile=str(dest/'README.md'), extra_args=['--wrap=preserve'])

# ---- the site, without Quarto ----
def nav(cur):
    "The sidebar as nested html lists, for the page of `cur`"
    root = '../'*(len(cur.parts)-1)
    def f(o):
        if not isinstance(o, str): return f'<li><b>{o["section"]}</b><ul>{"".join(map(f, o["contents"]))}</ul>'
        return f'<li><a href="{root}{url(Path(o))}"{" class=on" if o==str(cur) else ""}>{html.escape(titles[o])}</a>'
    return ''.join(map(f, sections()))

def neighbour(cur, step):
    "Template variables for the page before (-1) or after (1) `cur`"
    fns = notebooks()
    i = fns.index(cur)+step
    if not 0<=i<len(fns): return {}
    k = 'prev' if step<0 else 'next'
    return {k: '../'*(len(cur.parts)-1)+url(fns[i]), f'{k}title': titles[str(fns[i])]}

def write_page(fn, fm, md, dest):
    "Convert `md` of notebook `fn` to its page"
    root = '../'*(len(fn.parts)-1)
    md = relink(md, fn, lambda o,frag: f'{root}{url(o)}{frag}')
    tvars = dict(nav=nav(fn), site=cfg.title, repo=cfg.git_url, root=root, heading=fm['title'], **neighbour(fn, -1), **neighbour(fn, 1))
    if fn.name!=cfg.readme_nb: tvars['sitetitle'] = f' · {cfg.title}'
    front = yaml.safe_dump({'title': fm['title'], 'description': fm.get('description', '')})
    pypandoc.convert_text(f'---\n{front}---\n\n{md}', 'html5', format='markdown-implicit_figures', outputfile=str(dest/url(fn)),
        extra_args=['-s','--toc','--toc-depth=3','--mathml',f'--template={here/"page.html"}', *[f'-V{a}={b}' for a,b in tvars.items()]])

def mend_anchors(dest):
    "Links to a symbol that has no heading of its own (a method, a private name) go to what holds it, else to the page"
    pages = {o: o.read_text() for o in dest.rglob('*.html')}
    ids = {o: set(re.findall(r'\bid="([^"]+)"', t)) for o,t in pages.items()}
    for o,txt in pages.items():
        def f(m):
            frag,known = m[2],ids.get(Path(os.path.normpath(o.parent/m[1])), {m[2]})
            while frag and frag not in known: frag = frag.rpartition('.')[0]
            return f'<a href="{m[1]}{"#"*bool(frag)}{frag}"><code>'
        o.write_text(re.sub(r'<a\s+href="([\w/.-]+\.html)#([^"]+)"><code>', f, txt))

def build(dest, n_workers):
    "The whole site in `dest`"
    cache = proc_nbs(n_workers=n_workers)
    shutil.rmtree(dest, ignore_errors=True)
    shutil.copytree(cache, dest, ignore=shutil.ignore_patterns('*.ipynb', '*.yml'))
    docs = {fn: nb2md(cache/fn, dest/fn.parent/f'{fn.stem}_files') for fn in notebooks()}
    titles.update({str(fn): fm['title'] for fn,(fm,_) in docs.items()})
    for fn,(fm,md) in docs.items(): write_page(fn, fm, md, dest)
    mend_anchors(dest)
    subprocess.run([sys.executable, '-m', 'pagefind', '--site', str(dest), '--quiet'], check=True)
    return len(docs)

titles = {}

@call_parse
def main(
    n_workers:int=2, # Processes
    force:bool=False, # Process every notebook again?
    readme_only:bool=False, # Only README.md and the sidebar?
    dest:str=None # Where the site goes (with `readme_only`: README.md); default: where settings.ini says
):
    "Write README.md, the sidebar and the site"
    os.chdir(cfg.config_path)
    to = Path(dest).absolute() if dest else None
    if not to: write_sidebar()
    if readme_only or not to: write_readme(to or cfg.config_path)
    if readme_only: return
    refresh_quarto_yml()
    if force: shutil.rmtree('_proc', ignore_errors=True)
    if shutil.which('quarto') and not to: return nbdev_docs.__wrapped__(n_workers=n_workers)
    print(f'{build(to or cfg.doc_path, n_workers)} pages in {to or cfg.doc_path}: python -m http.server -d {to or cfg.doc_path}')
