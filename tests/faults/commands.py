"""Everything that keeps files, in a second or less. To add a command: a function (world, path, **settings) with `@command`

What it returns is compared, with all files in `path`. `settings` are those that the table of `stale` changes.
"""
import runpy,sys
from pathlib import Path
from faults import world

COMMANDS = {}

def command(f):
    COMMANDS[f.__name__] = f
    return f

def pick(settings, **defaults):
    "Things of the world that a setting names, such as data='other_data'"
    return [getattr(world.WORLD, settings.pop(k, v)) for k,v in defaults.items()]

# ---- functions of the library ----
@command
def record(w, path, **s):
    from edf_nrr.trajectory import record_experts
    data, = pick(s, data='data')
    return record_experts(data, path, show=False, **world.EXPERTS | s)

def edf(w, path, **s):
    from edf_nrr.edf import distill
    from edf_nrr.methods import TINY_EDF
    data,experts = pick(s, data='data', experts='experts')
    more = dict(cam_model=getattr(w, s.pop('cam_model'))) if 'cam_model' in s else {}
    return distill(data, experts, path=path, show=False, **dict(TINY_EDF, ipc=1) | s, **more)

@command
def edf_often(w, path, **s): return edf(w, path, **dict(save_every=1, iterations=3) | s)

@command
def edf_seldom(w, path, **s): return edf(w, path, **dict(save_every=10, iterations=6) | s)

@command
def edf_long(w, path, **s): return edf(w, path, **dict(save_every=10**6, iterations=60) | s)

@command
def dm(w, path, **s):
    from edf_nrr.dm import dm
    data,cam = pick(s, data='data', cam_model='teacher')
    tiny = dict(ipc=1, iterations=5, batch_real=8, arch='convnet_d1_w8', save_every=2, beta=1., cam_interval=2, alpha=.2)
    return dm(data, path=path, cam_model=cam, show=False, **tiny | s)

@command
def refine(w, path, **s):
    from edf_nrr.nrr import refine
    syn,teacher = pick(s, syn='hard', teacher='teacher')
    return refine(syn, teacher, path=path, show=False, **dict(iterations=3, save_every=2, batch_size=5) | s)

@command
def complexity(w, path, **s):
    from edf_nrr.compdd import complexity
    data,teacher = pick(s, data='data', teacher='teacher')
    return complexity(data, teacher, path=path, show=False, **dict(batch_size=70, save_every=1) | s)

@command
def compare(w, path, **s):
    from edf_nrr.baselines import rded
    from edf_nrr.compare import Protocol,compare
    data,teacher = pick(s, data='data', teacher='teacher')
    protocol = Protocol(**dict(lrs=(.01, .03), soft_lrs=(.003,), flip=0., checks=1) | s.pop('protocol', {}))
    entries = dict(mine=w.hard, made=lambda seed: rded(data, teacher, 1, seed=seed))
    how = dict(labels=['hard', 'own'], seeds=2, budget=4, arch='convnet_d1_w8') | s
    c = compare(data, entries, protocol=protocol, path=path, teacher=teacher, full=False, show=False, **how)
    c.report(path)
    return c.rows

@command
def shared(w, path, **s):
    "Experts and teacher that the methods of a comparison share"
    from edf_nrr.basics import changed
    from edf_nrr.checks import TINY_PRESET
    from edf_nrr.methods import Shared
    data, = pick(s, data='data')
    experts,teacher = (s.pop(k, {}) for k in ('experts', 'teacher'))
    preset = changed(TINY_PRESET, experts=changed(TINY_PRESET.experts, **experts), teacher=TINY_PRESET.teacher | dict(epochs=3) | teacher)
    o = Shared(data, preset, path)
    return o.experts,o.teacher

@command
def relabel(w, path, **s):
    from edf_nrr.dbr import relabel
    syn,teacher = pick(s, syn='hard', teacher='teacher')
    return relabel(syn, teacher, path=Path(path)/'labels.safetensors', show=False, **dict(kind='soft', epochs=3) | s)

def export(w, path, format, **s):
    syn, = pick(s, syn='hard')
    syn.export(path, format)
    from edf_nrr.export import load_export
    return load_export(path)

@command
def export_png(w, path, **s): return export(w, path, 'png', **s)

@command
def export_parquet(w, path, **s): return export(w, path, 'parquet', **s)

@command
def export_tensors(w, path, **s): return export(w, path, 'safetensors', **s)

@command
def export_over(w, path, **s):
    "An export that takes the place of another"
    w.soft.export(path, 'parquet')
    return export(w, path, 'png', **s)

@command
def demo(w, path, **s):
    "The first half of `dd demo`, with less of everything"
    from edf_nrr import demo
    from edf_nrr.basics import changed
    experts = changed(demo.DEMO_EXPERTS, n=2, epochs=3, keep=3, arch='convnet_d1_w8', batch_size=64)
    cfg = changed(demo.DEMO, **dict(iterations=2, syn_steps=2, expert_epochs=1, max_start_epoch=2, init='random', save_every=1) | s)
    return demo.demo_edf(w.data, Path(path), cfg, 2, experts, changed(demo.DEMO_RECIPE, epochs=4))

# ---- commands of the shell, as they are installed ----
def dd(name, *args, **options):
    "Run a command as its script does"
    given = [o for k,v in options.items() for o in ([f'--{k}'] if v is True else [f'--{k}', str(v)])]
    sys.argv = [name, *map(str, args), *given]
    try: runpy.run_path(str(Path(sys.executable).parent/name), run_name='__main__')
    except SystemExit as e:
        if e.code: raise

def joined(old, new):
    "Settings as text, 'a=1,b=2', with some replaced"
    both = dict(o.split('=') for o in f'{old},{new}'.split(',') if o)
    return ','.join(f'{k}={v}' for k,v in both.items())

def options(s, **defaults):
    "Options of a command: defaults, changed by `s`. Its `settings` are merged one by one"
    settings = joined(defaults.get('settings', ''), s.get('settings', ''))
    return defaults | s | (dict(settings=settings) if settings else {})

def pictures(w): return dict(data=w.folder/'pictures', size=8)

TINY_NRR = 'iterations=4,save_every=2,pool=10,require_correct=false'
TINY_EDF = ('iterations=4,syn_steps=3,expert_epochs=1,lr_img=10.,batch_syn=3,initial_max_start_epoch=none,expand_until=none,'
            'max_start_epoch=2,save_every=2,cam_interval=2,init=random,gradient=unrolled')

@command
def dd_experts(w, path, **s):
    dd('dd_experts', **options(s, path=path, **pictures(w), settings='n=2,epochs=3,arch=convnet_d1_w8,lr=.1,batch_size=20'))
    from edf_nrr.trajectory import Experts
    return Experts(path)

@command
def dd_distill_edf(w, path, **s):
    dd('dd_distill', **options(s, method='edf', path=path, experts=w.folder/'picture_experts', ipc=1, **pictures(w), settings=TINY_EDF))
    return made_set(path)

def made_set(path):
    "What `dd_distill` wrote, as a user reads it"
    from edf_nrr.core import Distilled
    return Distilled.load(path/'distilled.safetensors')

@command
def dd_distill_dm(w, path, **s):
    dd('dd_distill', **options(s, method='dm', path=path, ipc=1, **pictures(w), settings='iterations=4,batch_real=8,arch=convnet_d1_w8,save_every=2'))
    return made_set(path)

@command
def dd_distill_nrr(w, path, **s):
    dd('dd_distill', **options(s, method='nrr-dd', path=path, ipc=1, arch='convnet_bn_d1_w16', epochs=8, **pictures(w), settings=TINY_NRR))
    return made_set(path)

@command
def dd_relabel(w, path, **s):
    o = options(s, teacher=w.folder/'teacher.safetensors', labels=Path(path)/'labels.safetensors', epochs=3)
    dd('dd_relabel', o.pop('distilled', w.folder/'soft.safetensors'), **o)
    from edf_nrr.dbr import Labels
    return Labels.load(o['labels'])

@command
def dd_evaluate(w, path, **s):
    o = options(s, data='digits', arch='convnet_d1_w8', seeds=2, epochs=2, out=Path(path)/'results.json')
    dd('dd_evaluate', o.pop('distilled', w.folder/'digits.safetensors'), **o)

FEW = ('experts.n=1,experts.epochs=3,experts.keep=3,experts.arch=convnet_d1_w8,experts.batch_size=20,teacher.arch=convnet_bn_d1_w16,teacher.epochs=8,'
       'protocol.checks=1,protocol.full_steps=3,'+','.join(f'edf.{o}' for o in TINY_EDF.split(',')))

@command
def dd_compare(w, path, **s):
    few = dict(quick=True, no_flip=True, methods='edf,rded', ipc=1, labels='hard,own', seeds=2, budget=3, arch='convnet_d1_w8')
    dd('dd_compare', **options(s, path=path, **pictures(w), **few, settings=FEW))
    from edf_nrr.report import Comparison
    return Comparison.load(path/'comparison.json').rows

@command
def dd_complexity(w, path, **s):
    dd('dd_complexity', **options(s, path=path, arch='convnet_bn_d1_w16', epochs=3, **pictures(w)))
    from edf_nrr.basics import read_json
    return {k: v for k,v in read_json(path/'complexity.json').items() if k!='command'}

@command
def dd_export(w, path, **s):
    o = options(s, path=path, format='parquet')
    dd('dd_export', o.pop('distilled', w.folder/'soft.safetensors'), **o)

