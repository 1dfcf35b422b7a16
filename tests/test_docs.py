"The docs site builds from a bare checkout, without Quarto, and its pages hold together"
import json,os,re,subprocess,sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
import pytest

root = Path(__file__).resolve().parent.parent
nbs = [o.relative_to(root/'nbs') for o in sorted((root/'nbs').rglob('*.ipynb')) if not any(p[0] in '._' for p in o.relative_to(root).parts)]
each = pytest.mark.parametrize('nb', nbs, ids=str)

class Page(HTMLParser):
    "Anchors, links, pictures and the text outside code and maths of one page"
    def __init__(self, fn):
        super().__init__()
        self.fn,self.ids,self.links,self.images,self.tags,self.text,self.open = fn,set(),[],[],[],[],[]
        self.feed(fn.read_text())
    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs.get('class') or ''))
        if 'id' in attrs: self.ids.add(attrs['id'])
        if tag in ('a','link') and attrs.get('href'): self.links.append(attrs['href'])
        if tag in ('img','script') and attrs.get('src'): self.images.append(attrs['src'])
        if tag in ('code','pre','script','style','math'): self.open.append(tag)
    def handle_endtag(self, tag):
        if self.open and self.open[-1]==tag: self.open.pop()
    def handle_data(self, data):
        if not self.open: self.text.append(data)

def docs(*args): return subprocess.run([sys.executable, root/'docs/docs.py', *args], capture_output=True, text=True, cwd=root)

@pytest.fixture(scope='session')
def site(tmp_path_factory):
    "The whole site, built once"
    dest = tmp_path_factory.mktemp('docs')/'site'
    res = docs('--dest', str(dest))
    assert res.returncode==0, res.stdout+res.stderr
    return {o.relative_to(dest): Page(o) for o in dest.rglob('*.html')},dest

def page(site, nb): return site[0][nb.parent/(re.sub(r'^\d+[a-z]?_', '', nb.stem)+'.html')]

@each
def test_page(site, nb):
    o = page(site, nb)
    src = [c for c in json.loads((root/'nbs'/nb).read_text())['cells'] if c['cell_type']=='markdown']
    title = ''.join(src[0]['source']).splitlines()[0].removeprefix('# ').replace('`', '')
    text = ' '.join(''.join(o.text).split())
    assert title in o.fn.read_text() and not re.search(r'#\||:::|\$\$|^---', text), 'raw notebook or pandoc markup on the page'

@each
def test_maths(site, nb):
    o = page(site, nb)
    md = '\n'.join(''.join(c['source']) for c in json.loads((root/'nbs'/nb).read_text())['cells'] if c['cell_type']=='markdown')
    maths = [t for t,_ in o.tags if t=='math']
    assert bool(maths)==bool(re.search(r'\$\$|(?<![\w\\$])\$[^\s$][^$\n]*\$', re.sub(r'`[^`\n]*`|^```.*?^```', '', md, flags=re.M|re.S)))
    assert not any('math' in c.split() for t,c in o.tags if t=='span'), 'pandoc could not turn a formula into MathML'

@each
def test_links(site, nb):
    o = page(site, nb)
    pages,dest = site
    bad = []
    for href in o.links + o.images:
        if re.match(r'\w+:|//', href): continue
        url,_,frag = href.partition('#')
        target = Path(os.path.normpath(o.fn.parent/unquote(url))) if url else o.fn
        if not target.is_file(): bad.append(f'{href}: no such file')
        elif frag and target.suffix=='.html' and unquote(frag) not in pages[target.relative_to(dest)].ids: bad.append(f'{href}: no such anchor')
    assert not bad, '\n'.join(bad)

def test_every_page_in_sidebar(site):
    for o in nbs: assert str(o) in (root/'nbs/sidebar.yml').read_text(), f'{o} is not in nbs/sidebar.yml: make readme'

def test_search(site):
    entry = json.loads((site[1]/'pagefind/pagefind-entry.json').read_text())
    assert sum(o['page_count'] for o in entry['languages'].values())==len(nbs)

def test_readme_in_sync(tmp_path):
    assert docs('--readme_only', '--dest', str(tmp_path)).returncode==0
    assert (tmp_path/'README.md').read_text()==(root/'README.md').read_text(), 'README.md is not what nbs/index.ipynb gives: make readme'

def test_quarto_reads_the_same_settings():
    assert (root/'nbs/_quarto.yml').read_text()==(root/'_quarto.yml').read_text(), 'nbs/_quarto.yml must link to ../_quarto.yml'

def test_all_lists_every_module(site):
    links = [o.partition('#')[0] for o in site[0][Path('all.html')].links]
    for o in nbs:
        if re.match('[0-3]', o.name): assert links.count(re.sub(r'^\d+[a-z]?_', '', o.stem)+'.html')>1, f'the table of all.html has no row for {o}'
