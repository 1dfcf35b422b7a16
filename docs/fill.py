"Run notebooks in place and keep their outputs, leaving out the cells that `nbdev_test` leaves out: python docs/fill.py [--slow] nbs/00_core.ipynb ..."
import os,sys,warnings
from pathlib import Path
from fastcore.script import Param,call_parse
from fastcore.xtras import working_directory
from nbdev.config import get_config
from nbdev.process import NBProcessor
from execnb.nbio import read_nb,write_nb
from execnb.shell import CaptureShell

def fill(fn:Path, flags:set):
    "Execute `fn`, except cells under a directive in `flags`, `eval: false`, or that export"
    nb = read_nb(fn)
    dirs = {c['id']: getattr(c, 'directives_', {}) for c in NBProcessor(fn, process=True).nb.cells}
    def skip(c):
        if c.cell_type!='code': return True
        d = dirs.get(c['id'], {})
        return 'nbdev_export(' in c.source or d.get('eval:', [''])[0]=='false' or bool(flags & d.keys())
    for c in nb.cells:
        if not skip(c): c['outputs'] = []
    with working_directory(fn.parent): CaptureShell(fn).run_all(nb, exc_stop=True, preproc=skip)
    write_nb(nb, fn)

@call_parse
def main(
    fns:Param('Notebooks', str, nargs='+'),
    slow:bool=False # Run the cells flagged `slow` too?
):
    "Refresh the stored outputs of notebooks"
    sys.path.insert(0, os.getcwd())
    warnings.filterwarnings('ignore', category=FutureWarning) # their text holds paths of this machine
    for fn in fns: fill(Path(fn).absolute(), set(get_config().tst_flags.split()) - ({'slow'} if slow else set()))
