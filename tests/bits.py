"""Hashes of what every public path gives, to show that a change leaves all results alone, bit for bit

    python tests/bits.py before.json                  # before the change: writes a hash a path
    python tests/bits.py after.json --same before.json # after it: writes again and lists what differs, exit status 1 if anything does

Compare files of one machine and one torch only: rounding differs between processors. Names are looked up in whatever module holds them,
so that the script runs before and after code has moved.
"""
import argparse,hashlib,importlib,json,os,pkgutil,sys,tempfile
from pathlib import Path
os.environ.setdefault('OMP_NUM_THREADS', '1')
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import numpy as np, torch
torch.set_num_threads(1)
import edf_nrr

modules = [importlib.import_module(f'edf_nrr.{o.name}') for o in pkgutil.iter_modules(edf_nrr.__path__) if o.name[0]!='_' and o.name not in ('all', 'cli', 'demo')]

def find(*names):
    "The first of some names that a module defines"
    for name in names:
        for m in modules:
            o = getattr(m, name, None)
            if o is not None and name in getattr(m, '__all__', ()): return o
    raise AttributeError(f'no module has any of {names}')

def parts(o):
    "What is hashed of an object, as bytes"
    if torch.is_tensor(o): yield str(o.dtype).encode()+str(tuple(o.shape)).encode(); yield o.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if o.ndim else repr(o.item()).encode()
    elif isinstance(o, np.ndarray): yield from parts(torch.from_numpy(np.ascontiguousarray(o)))
    elif isinstance(o, dict):
        for k in o: yield repr(k).encode(); yield from parts(o[k])
    elif isinstance(o, (list, tuple)):
        for x in o: yield from parts(x)
    elif isinstance(o, torch.nn.Module): yield from parts({k: v for k,v in o.state_dict().items()})
    elif o is None or isinstance(o, (int, float, str, bool)): yield repr(o).encode()
    else: raise TypeError(f'cannot hash a {type(o).__name__}')

def h(o):
    d = hashlib.blake2b(digest_size=10)
    for p in parts(o): d.update(p)
    return d.hexdigest()

def of_set(s): return dict(images=s.images, labels=s.labels, logits=s.logits, lr=s.lr, history=dict(sorted(s.history.items())), classes=s.classes, norm=s.norm.state())

paths = {}
def path(f): paths[f.__name__] = f; return f

class World:
    "Data, experts and a teacher that paths share"
    def __init__(self, tmp):
        self.tmp = Path(tmp)
        self.digits = find('digits')()
        self.scene = find('cluttered_digits')(1500, 200, size=16, object_fraction=.6)
        self.experts = find('record_experts')(self.digits, self.tmp/'experts', n=2, epochs=4, arch='convnet_d1_w16', lr=.1, batch_size=64, show=False)
        self.teacher = find('train_teacher')(self.scene, 'convnet_bn_d2_w16', epochs=12, lr=1e-2, augment=None, show=False)

@path
def seeds(w): return [find('seed_of')(3, 'a', 1), torch.rand(5, generator=find('rng')(3, 'b'))]
@path
def data(w):
    d,s = w.digits,w.scene
    z = d.whiten()
    return [d.x('train'), d.y('test'), d.norm.state(), z.x('test'), z.norm.state(), s.x('train', slice(0, 50)), s.masks('train', slice(0, 50)), s.pixels('test'),
            d.resized(6).x('test'), d.only(['3', '1']).x('train'), d.take(5, 4).y('train'), d.validation(.2, 1).x('test'), find('held_out')(d.train.y, .3, 2), find('class_rank')(d.train.y)]
@path
def files(w):
    from PIL import Image
    for k in ('train', 'val'):
        for c in '01':
            (w.tmp/'folder'/k/c).mkdir(parents=True)
            for i in range(6): Image.fromarray(np.random.default_rng(i+10*int(c)).integers(0, 255, (9, 12, 3), dtype=np.uint8)).save(w.tmp/'folder'/k/c/f'{i}.png')
    image_folder = find('image_folder')
    a,b,c = image_folder(w.tmp/'folder', 8), image_folder(w.tmp/'folder', 8, resize='crop', stream=True), image_folder(w.tmp/'folder'/'train', 8, val=None)
    return [o.x(s) for o in (a, b, c) for s in ('train', 'test')]
@path
def imagenet(w): return [list(find('SUBSETS').items()), find('imagenet_wnids')(), find('imagenet_names')(), [find('subset_classes')(o) for o in find('SUBSETS')], [list(k) for k in find('subset_overlaps')()]]
@path
def models(w):
    make = find('create_model')
    return [make(a, 10, 16, 3, seed=1) for a in ('convnet', 'convnet_bn_d2_w16', 'resnet18_cifar', 'alexnet_cifar', 'vgg11_cifar', 'vit_tiny_cifar', 'resnet18')]
@path
def augment(w):
    DSA,Views,rng = find('DSA'),find('Views'),find('rng')
    x = w.scene.x('train', slice(0, 8))
    views = Views(3, 16)
    idx = torch.arange(8)
    return [DSA()(x, rng(0, 'v')), DSA('crop_flip', ops='all')(x, rng(1, 'v')), DSA(siamese=True)(x, rng(2, 'v')), views.apply(x, views.draw(4, idx)), list(views.mix(4, idx, 20))]
@path
def training(w):
    d,recipe = w.digits,find('Recipe')(epochs=20)
    rnd = find('random_real')(d, 2, 1, [w.experts.model(i) for i in range(2)])
    tuned = find('tune_lr')(rnd, d, 'convnet_d1_w16', (.01, .1), recipe, 1)
    e = find('evaluate')(tuned, d, 'convnet_d1_w16', 2, recipe)
    t = find('evaluate')(tuned, d, 'convnet_d1_w16', 2, recipe, together=True)
    return [of_set(rnd), tuned.lr, e.last, e.best, list(e.curve.items()), t.last, find('train_student')(rnd, 'convnet_d1_w16', 5, recipe), w.teacher, w.teacher.accuracy]
@path
def cams(w):
    x,y = w.scene.x('test', slice(0, 12)),w.scene.y('test', slice(0, 12))
    return [find('cam')(w.teacher, x, y, method=m) for m in ('gradcam', 'gradcam++', 'smoothgradcam++')]
@path
def complexity(w):
    r = find('complexity')(w.scene, w.teacher, show=False)
    eh = find('easy_hard')(w.scene, w.teacher, 1, 3, r)
    return [r.scores, r.about['flat'], r.about['accuracy'], [[k, d.classes] for k,d in eh.items()], find('class_features')(w.scene, w.teacher), list(find('similar_groups')(w.scene, w.teacher, 3).items())]
@path
def experts(w):
    g = find('record_experts')(w.digits, w.tmp/'gsam', n=1, epochs=2, arch='convnet_d1_w16', lr=.1, rule='gsam', weight_decay=1e-4, batch_size=64, dtype='bfloat16', show=False)
    return [[w.experts.params(i, e) for i in range(2) for e in range(5)], g.params(0), [find('draw_segment')(i, 5, 2, min_start_epoch=0, max_start_epoch=9, initial_max_start_epoch=3, expand_until=10) for i in range(12)]]
@path
def matching(w):
    res,base = [],find('EDFConfig')(ipc=2, iterations=4, syn_steps=4, expert_epochs=1, initial_max_start_epoch=None, max_start_epoch=3, lr_img=10., loss_threshold=2., batch_syn=12, cam_interval=2)
    changed,distill = find('changed'),find('distill')
    variants = find('VARIANTS', 'METHODS')
    for name,c in variants.items(): res.append(of_set(distill(w.digits, w.experts, changed(base, **c), show=False)))
    for g in ('unrolled', 'compiled'): res.append(of_set(distill(w.digits, w.experts, changed(base, gradient=g), keep=find('cpd')(.25, w.experts.shapes), show=False)))
    again = w.tmp/'again'
    distill(w.digits, w.experts, changed(base, iterations=2), path=again, show=False)
    return res+[of_set(distill(w.digits, w.experts, base, path=again, show=False))]
@path
def presets(w):
    from dataclasses import asdict
    preset = find('preset')
    return [[repr(v) for v in asdict(preset(d, i, m)).values()] for m,d,i in (('edf', 'cifar10', 1), ('edf', 'imagewoof', 50), ('edf', 'tiny', 50), ('datm', 'cifar100', 10), ('edf', 'dogs_hard', 1))]
@path
def nrr(w):
    initialise,refine = find('initialise'),find('refine')
    low = initialise(w.scene, w.teacher, 2, select='low', require_correct=False)
    four = initialise(w.scene, w.teacher, 1, tiles=4, require_correct=False, scoring='zero-padded', ratio='mean')
    res = [of_set(low), of_set(four)]
    for c in (dict(), dict(mask='none', optimiser='sgd'), dict(alpha_bn=0., augment=find('DSA')('crop_flip', ops='all'), cam_refresh=4), dict(mask='binary', batch_size=7)):
        res.append(of_set(refine(low, w.teacher, iterations=8, show=False, **c)))
    return res
@path
def labels(w):
    syn,res = find('random_real')(w.scene, 2),[]
    for how in (*find('LABEL_PRESETS').values(), dict(kind='hard'), dict(kind='topk', dtype='uint8')):
        l = find('relabel')(syn, w.teacher, epochs=6, show=False, **how)
        res += [l.d, l.classes, list(l.code) if l.code else None, find('evaluate_labels')(syn, l, w.scene, 'convnet_bn_d2_w16', 1).last]
    StudentLoss = find('StudentLoss')
    l = find('relabel')(syn, w.teacher, epochs=6, show=False)
    for m in ('l1', 'smooth_l1', 'mse'): res.append(find('train_from_labels')(syn, l, 'convnet_d2_w16', 1, loss=StudentLoss(match=m)))
    online = find('Online')(syn, w.teacher, 'soft', epochs=3)
    return [*res, find('train_from_labels')(syn, online, 'convnet_d2_w16', 1)]
@path
def baselines(w):
    t,s = w.teacher,w.scene
    sets = [find('herding')(s, t, 3), find('k_center')(s, t, 3), find('rded')(s, t, 2), find('rded')(s, t, 1, tiles=4), find('sre2l')(s, t, 1, iterations=6, show=False)]
    return [of_set(o) for o in sets]
@path
def dm(w):
    f,c = find('dm'),dict(ipc=2, iterations=4, batch_real=16, arch='convnet_d2_w16', show=False)
    return [of_set(f(w.scene, **c)), of_set(f(w.scene, cam_model=w.teacher, alpha=.3, beta=1., cam_interval=2, init='noise', **c))]
@path
def compare(w):
    Protocol,d = find('Protocol'),w.scene
    entries = {'herding': find('herding')(d, w.teacher, 2), 'nrr': find('Entry')(lambda s: find('refine')(find('initialise')(d, w.teacher, 2, seed=s), w.teacher, iterations=4, show=False), dict(kind='distances'))}
    c = find('compare')(d, entries, 'convnet_d2_w16', ['hard', 'plain', 'soft', 'own'], 2, 12, Protocol(lrs=(.01, .03), soft_lrs=(.003, .01), flip=0.), w.tmp/'compare', w.teacher, show=False)
    keep = 'method','labels','arch','ipc','seeds','accuracy','best_epoch_accuracy','lr','random','steps','bytes'
    return [[[k, r[k]] for k in keep] for r in c.rows] + [[m, c.scores(m)] for m in c.methods]
@path
def methods(w):
    preset = find('adjusted')(find('without_flip')(find('QUICK_PRESET')), {
        'experts.arch': 'convnet_d2_w16', 'experts.epochs': 4, 'experts.keep': 4, 'experts.n': 2, 'experts.lr': .05,
        'teacher.arch': 'convnet_bn_d2_w16', 'teacher.epochs': 12, 'teacher.augment': None})
    shared = find('Shared')(w.scene, preset, w.tmp/'shared')
    return [[n, of_set(find('make_set')(n, w.scene, 2, 1, shared, **m.tiny))] for n,m in find('METHODS').items()]
@path
def export(w):
    syn = find('random_real')(w.scene, 1)
    syn.export(w.tmp/'out', 'png'); syn.export(w.tmp/'parquet', 'parquet')
    return [of_set(find('load_export')(w.tmp/o)) for o in ('out', 'parquet')] + [sorted(str(o.relative_to(w.tmp/'out')) for o in (w.tmp/'out').rglob('*.png'))]

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('file'); p.add_argument('--same', help='hashes to compare with'); p.add_argument('--only', help='some of: '+' '.join(paths), default='')
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        w = World(tmp)
        found = {k: h(f(w)) for k,f in paths.items() if not a.only or k in a.only.split(',')}
    Path(a.file).write_text(json.dumps(dict(torch=torch.__version__, hashes=found), indent=1)+'\n')
    if not a.same: return print(f'{len(found)} hashes in {a.file}')
    old = json.loads(Path(a.same).read_text())
    bad = [k for k,v in found.items() if old['hashes'].get(k)!=v]
    print(f'{len(found)-len(bad)} of {len(found)} paths give the same bits'+(f'; other bits: {", ".join(bad)}' if bad else ''))
    sys.exit(bool(bad))

if __name__=='__main__': main()
