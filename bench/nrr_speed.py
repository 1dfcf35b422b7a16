"""Scoring of crops and refinement of images: seconds of the library and of the published loops of RDED and SRe2L

    python bench/nrr_speed.py PATH --rded PATH --sre2l PATH

The first PATH holds CIFAR-10 in the Hugging Face layout; without it the images are random. RDED and SRe2L are checkouts of the published code, which runs as it
is (on a CPU with `.cuda()` made to do nothing); without them only the library is timed. All contestants take turns in one process; ratios are of seconds
in the same turn, above 1 where the library is faster. Networks are RDED's two teachers for CIFAR-10, with weights and BatchNorm statistics of a few random
steps: time does not depend on them. RDED's images are JPEG files in class folders, as it reads them, the library's are in memory, as it holds them.
"""
import os,statistics,sys,tempfile,time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
import torch, torch.nn.functional as F
from fastcore.script import Param, call_parse
from reference import modules, statements
from edf_nrr.basics import changed, default_device, kept_memory, rng, versions, write_json
from edf_nrr.core import Distilled, Normalize
from edf_nrr.data import ImageData, Split, class_rank
from edf_nrr.files import parquet
from edf_nrr.models import create_model
from edf_nrr.teachers import scores_of
from edf_nrr.cam import cam
from edf_nrr.compdd import complexity
from edf_nrr.cidd import CIDDConfig, as_scored, candidates, crop_views, initialise, log_odds
from edf_nrr.nrr import NRRConfig, Refinement, refine
from edf_nrr.baselines import SRE2L, rded as ours_rded, surest_crops


IMAGENET,CIFAR = Normalize([.485, .456, .406], [.229, .224, .225]),Normalize([.4914, .4822, .4465], [.2023, .1994, .2010]) # of RDED's and of SRe2L's code

def synced(device):
    if device.type=='cuda': torch.cuda.synchronize()
    return time.perf_counter()

def turns(contestants, rounds, device):
    "Seconds of each contestant, one list a name; everyone runs once before"
    for f in contestants.values(): f()
    took = {k: [] for k in contestants}
    for _ in range(rounds):
        for k,f in contestants.items():
            t = synced(device); f(); took[k].append(synced(device)-t)
    return took

def row(name, took, images, against, **more):
    "Images a second and the ratio to each reference in the same turn"
    ratios = {k: [r/o for r,o in zip(took[k], took[name])] for k in against if k in took and k!=name}
    res = dict(contestant=name, images_a_second=images/statistics.median(took[name]), seconds=statistics.median(took[name]),
               faster_than={k: dict(median=statistics.median(v), min=min(v), max=max(v)) for k,v in ratios.items()}, **more)
    print(f"{name:>52} {res['images_a_second']:8.1f} images/s  " + ', '.join(f"{v['median']:.2f} ({v['min']:.2f}..{v['max']:.2f}) x {k}" for k,v in res['faster_than'].items()), flush=True)
    return res

@contextmanager
def published(device):
    "On a CPU, `.cuda()` leaves things where they are"
    saved = torch.Tensor.cuda,torch.nn.Module.cuda
    if device.type!='cuda': torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *args, **kwargs: self
    try: yield
    finally: torch.Tensor.cuda,torch.nn.Module.cuda = saved

def network(arch, device):
    "A teacher with BatchNorm statistics of some random images"
    net,gen = create_model(arch, 10, 32).train(),rng(0, 'statistics')
    with torch.no_grad():
        for _ in range(4): net(torch.randn(64, 3, 32, 32, generator=gen))
    net = net.eval().requires_grad_(False).to(device)
    net.classes,net.about = [str(i) for i in range(10)],dict(arch=arch)
    return net

def some_images(path, k, n, device):
    "n images of each of k classes: CIFAR-10's, or random ones"
    if path is None: split = Split(torch.randint(0, 256, (k*n, 3, 32, 32), generator=rng(0, 'images'), dtype=torch.uint8), torch.arange(k*n)//n)
    else:
        data = parquet(path, size=32, device='cpu')
        split = data.train.select(torch.cat([(data.y('train')==c).nonzero().flatten()[:n] for c in range(k)]))
    return ImageData(split, split, [str(i) for i in range(k)], IMAGENET, 'random images' if path is None else 'CIFAR-10', device)

def write_folders(data, root):
    "The images as RDED reads them, JPEG of quality 95 in a folder a class"
    from torchvision.io import write_jpeg
    for x,y,r in zip(data.train.raw().cpu(), data.y('train').tolist(), class_rank(data.y('train')).tolist()):
        (root/f'{y:05}').mkdir(exist_ok=True)
        write_jpeg(x, str(root/f'{y:05}'/f'{r:05}.jpg'), 95)

def import_rded(path, tmp):
    "RDED's modules; its arguments are read and folders made at import"
    argv,cwd,path = sys.argv,os.getcwd(),Path(path).expanduser().resolve()
    sys.argv = ['main.py', '--subset', 'cifar10', '--arch-name', 'conv3', '--factor', '1', '--num-crop', '5', '--mipc', '300', '--ipc', '10', '--stud-name', 'conv3']
    os.chdir(tmp)
    try: return modules(path, 'synthesize.main', 'synthesize.utils')
    finally: os.chdir(cwd); sys.argv = argv

def rded_loops(mods, net, data, tmp, device, n, crops, ipc):
    "RDED's `init_images` as published and with images decoded before; its selection alone, with crops that are there"
    main,utils = mods
    root,k,wrapped = tmp/'train',data.n_classes,torch.nn.DataParallel(net)
    main.tqdm = lambda o: o
    root.mkdir(); write_folders(data, root)
    args = dict(classes=range(k), mipc=n, train_dir=str(root), num_crop=crops, input_size=32, factor=1, ipc=ipc, syn_data_path=str(tmp/'syn'))
    folder = main.ImageFolder
    decoded = folder(classes=range(k), ipc=n, mem=True, root=str(root), transform=None)
    given,y = torch.randn(n, crops, 3, 32, 32, generator=rng(0, 'given')).to(device),torch.zeros(n, dtype=torch.long, device=device)
    def loop(workers, make):
        main.ImageFolder = make
        try:
            with published(device), torch.no_grad(): main.init_images(SimpleNamespace(**args, workers=workers), wrapped)
        finally: main.ImageFolder = folder
    def selection():
        with published(device):
            for _ in range(k): utils.selector(ipc, wrapped, given, y, 32, m=crops)
    return {'RDED as published, 4 worker processes': lambda: loop(4, folder), 'RDED, no workers, images decoded before': lambda: loop(0, lambda **kw: decoded),
            'RDED, selection only, crops given': selection}

def same_choice(utils, data, net, device, cfg, ipc):
    "Largest difference of what RDED's selection takes of the library's crops of a class to what the library takes"
    rows = (data.y('train').cpu()==0).nonzero().flatten()
    recipe,odds = surest_crops(data, net, rows, cfg)
    views,p = crop_views(data, cfg),data.pixels('train', rows)
    crops = torch.stack([data.norm.encode(views.apply(p, views.draw(k, rows))) for k in range(cfg.crops)], 1)
    with published(device): theirs = utils.selector(ipc, net, crops, data.y('train', rows), 32, m=cfg.crops)
    best = odds.argsort(descending=True, stable=True)[:ipc]
    return (data.norm.encode(views.apply(p[best.to(device)], recipe[best]))-theirs).abs().max().item()

def scoring(arch, data, device, rded, n, crops, ipc, rounds):
    "Rows of one network, real images a second from the pool to the set; what was compared of results"
    net,rows,cfg = network(arch, device),torch.arange(len(data.train)),CIDDConfig(crops=crops, pool=n, require_correct=False)
    p,y = data.pixels('train'),data.y('train')
    x,recipe = data.norm.encode(p),candidates(data, net, rows, cfg)['recipe']
    @torch.no_grad()
    def without_maps(): log_odds(scores_of(net, as_scored(crop_views(data, cfg).apply(p, recipe), data.norm, (32, 32))), y).cpu()
    @torch.no_grad()
    def alone(part):
        for _ in range(crops): torch.cat([net(o) for o in x.split(part)]) if part else scores_of(net, x)
    who,more = {},{}
    with tempfile.TemporaryDirectory() as tmp:
        if rded:
            mods = import_rded(rded, tmp)
            who = rded_loops(mods, net, data, Path(tmp), device, n, crops, ipc)
            more = dict(difference_of_choice=same_choice(mods[1], data, net, device, cfg, ipc))
        against = list(who)
        who |= {f'rded: {crops} passes an image': lambda: ours_rded(data, net, ipc, crops=crops, pool=n), 'CIDD: 1 pass with map, 1 for the best crop': lambda: initialise(data, net, ipc, cfg),
                'CIDD, crops given, no maps: 1 pass': without_maps, f'network alone, {crops} passes, parts of {n} as RDED': lambda: alone(n), f'network alone, {crops} passes, small parts': lambda: alone(0)}
        took = turns(who, rounds, device)
    return [row(k, took, len(rows), against, arch=arch, task='scoring') for k in who],more

def sre2l_loop(path, net, x, y):
    "SRe2L's loop over iterations as published: function of iterations and jitter -> last loss, images"
    file = next(Path(path).expanduser().glob('**/recover_cifar.py'), None)
    if file is None: raise FileNotFoundError(f'{path} has no recover_cifar.py: give a checkout of the published code')
    module, = modules(file.parent, 'recover_cifar')
    code = statements(file, 'get_images', lambda s: s.startswith('iterations_per_layer'), lambda s: s.startswith('for iteration'))
    def loop(iterations, jitter=4):
        hooks = [module.BNFeatureHook(m) for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        args = SimpleNamespace(iteration=iterations, jitter=jitter, lr=.25, r_bn=.01, first_bn_multiplier=10., verifier=False, store_best_images=True)
        names = vars(module) | dict(args=args, inputs=x.clone().requires_grad_(), targets=y, model_teacher=torch.nn.DataParallel(net), loss_r_feature_layers=hooks, hook_for_display=None, save_every=100, best_cost=1e4)
        try:
            with published(x.device): exec(code, names)
        finally:
            for h in hooks: h.close()
        return names['loss'].item(),names['inputs'].detach()
    return loop

def same_loss(loop, start, net, iterations):
    "First loss of both without shifts, and how far the images are apart after some steps"
    cfg = changed(SRE2L, augment=None, iterations=iterations, batch_size=len(start))
    first = refine(start, net, cfg, show=False, iterations=1).history
    ours,theirs = first['ce'][0].item()+cfg.alpha_bn*first['bn'][0].item(),loop(1, 0)[0]
    apart = (refine(start, net, cfg, show=False).images-loop(iterations, 0)[1]).abs()
    return dict(first_loss=ours, first_loss_of_sre2l=theirs, images_apart=dict(iterations=iterations, mean=apart.mean().item(), max=apart.max().item()))

def refinement(arch, device, sre2l, n, iterations, rounds):
    "Rows of one network, images times iterations a second; what was compared of results"
    net = network(arch, device)
    x,y = torch.randn(n, 3, 32, 32, generator=rng(0, 'noise')).to(device),(torch.arange(n)%10).to(device)
    start,cfg = Distilled(x, y, net.classes, CIFAR.to(device)),changed(SRE2L, iterations=iterations, batch_size=n)
    def alone():
        for _ in range(iterations): torch.autograd.grad(F.cross_entropy(net(a := x.clone().requires_grad_()), y), a)
    @torch.no_grad()
    def released():
        job = Refinement(start, net, cfg, None)
        for _ in range(iterations): job.step()
    def kept(f):
        with kept_memory(): f()
    loop,who,more = sre2l_loop(sre2l, net, x, y) if sre2l else None,{},{}
    if sre2l: who,more = {'SRe2L as published': lambda: loop(iterations)} | ({'SRe2L, freed memory kept': lambda: kept(lambda: loop(iterations))} if device.type=='cpu' else {}),same_loss(loop, start, net, iterations)
    against = list(who)
    who |= {'sre2l': lambda: refine(start, net, cfg, show=False), 'NRR: masked by maps, no shifts': lambda: refine(start, net, NRRConfig(iterations=iterations, batch_size=n), show=False), 'network alone: forward and backward': alone}
    if device.type=='cpu': who |= {'sre2l, freed memory not kept': released, 'network alone, freed memory kept': lambda: kept(alone)}
    took = turns(who, rounds, device)
    return [row(k, took, n*iterations, against, arch=arch, task='refinement') for k in who],more

def complexities(arch, data, device, rounds):
    "Scores of all images: one pass, and the class first"
    net = network(arch, device)
    @torch.no_grad()
    def two():
        for x,_ in data.batches('train', 256): (cam(net, x, scores_of(net, x).argmax(1), 'gradcam++')>=.5).float().mean((1, 2))
    who = {'class first, then its map: 2 passes': two, 'complexity: class and map in 1 pass': lambda: complexity(data, net, show=False)}
    took = turns(who, rounds, device)
    return [row(k, took, len(data.train), list(who)[:1], arch=arch, task='complexity') for k in who]

@call_parse
def main(
    path:Param('Folder of CIFAR-10; left out: random images', str, opt=False, nargs='?')=None,
    rded:str=None, # Checkout of RDED's code
    sre2l:str=None, # Checkout of SRe2L's code
    archs:str='convnet_bn,resnet18_cifar', # RDED's teachers for CIFAR-10; the second is SRe2L's
    classes:int=2, # That are scored, one after another
    images:int=300, # A class, RDED's `mipc`
    crops:int=5, # An image
    ipc:int=10, # Chosen of a class
    batch:int=100, # Images that are refined together
    iterations:int=8, # Of refinement in a turn; few understate what kept memory saves
    rounds:int=3, # Turns of all
    out:str='bench/results/nrr_speed.json' # Results file
):
    device,t0,rows,checks = default_device(),time.time(),[],{}
    data = some_images(path, classes, images, device)
    for arch in archs.split(','):
        print(f'{arch}, {data.name}', flush=True)
        for found,same in (scoring(arch, data, device, rded, images, crops, ipc, rounds), refinement(arch, device, sre2l, batch, iterations, rounds)):
            rows += found
            checks[arch] = checks.get(arch, {}) | same
        rows += complexities(arch, data, device, rounds)
    given = (' PATH' if path else '')+(' --rded PATH' if rded else '')+(' --sre2l PATH' if sre2l else '')
    write_json(out, dict(command=f'python bench/nrr_speed.py{given} --archs {archs} --classes {classes} --images {images} --crops {crops} --ipc {ipc} --batch {batch} --iterations {iterations} --rounds {rounds}',
                         seconds=round(time.time()-t0, 1), versions=versions(), data=data.name, device=device.type, classes=classes, images=images, crops=crops, ipc=ipc, batch=batch, iterations=iterations, rounds=rounds, checks=checks, rows=rows))
