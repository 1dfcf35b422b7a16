"""Recording experts: the published buffer script and ours, with FTD's flat steps (GSAM) and with plain SGD

    python bench/experts.py PATH --edf PATH

PATH holds CIFAR-10 as Parquet files, `--edf` is a checkout of the published EDF code; without it our own forms are timed alone. All train the same network from
the same images with the same batch size, augmentation and number of epochs, and write what they record. The published GSAM loop is its `train` as it is, plain
SGD its `epoch`. One epoch is a part of the training images and a fifth as many test images, as in CIFAR-10; experts an hour are those seconds scaled to 50,000
images and the published number of epochs. Contestants take turns in one process; ours keep freed memory while they run and hand it back, the published code
runs with malloc's own settings. On a CPU `.cpu()` does not copy, so that the published lists would hold one tensor over and over: here it copies, as on a GPU.
"""
import contextlib,io,json,statistics,tempfile,time
from argparse import Namespace
from functools import partial
from pathlib import Path
from unittest.mock import patch
import scipy.ndimage, torch, torch.nn.functional as F
from fastcore.script import call_parse
import edf_nrr.basics as basics, edf_nrr.trajectory as trajectory
from edf_nrr.basics import changed, kept_memory, versions, write_json
from edf_nrr.data import ImageData
from edf_nrr.files import parquet
from edf_nrr.models import create_model, n_params
from edf_nrr.trajectory import FTD_EXPERTS, MTT_EXPERTS, gsam_gradient, record_experts, store_bytes
from reference import modules

KEEP = 42 # EDF's CIFAR-10 with 50 images a class starts at epoch 40 at the latest and looks 2 ahead

def published(edf):
    "The published buffer script, its GSAM, and the loops of its two kinds of step"
    gsam,plain = modules(edf, 'utils.utils_gsam', 'utils.utils_baseline', unused=('kornia', 'tqdm'), aliases={'scipy.ndimage.interpolation': scipy.ndimage})
    return (*modules(Path(edf).expanduser()/'buffer', 'buffer', 'gsam'), gsam, plain)

def settings(cfg, device):
    "The published script's arguments for an `ExpertConfig`"
    mod = published.cache[2]
    return Namespace(num_experts=1, train_epochs=cfg.epochs, model='ConvNet', device=device, lr_teacher=cfg.lr, mom=cfg.momentum, l2=cfg.weight_decay, rho_max=cfg.rho, rho_min=cfg.rho,
                     alpha=cfg.alpha, adaptive=True, save_interval=1, dataset='CIFAR10', dsa=True, dsa_param=mod.ParamDiffAug(), dsa_strategy='color_crop_cutout_flip_scale_rotate', parall_eva=True)

def loaders(data, cfg, test):
    "Their loaders over tensors in memory: shuffled and single-process for training, two workers for testing; without `test` one image is tested"
    T,L = published.cache[2].TensorDataset,torch.utils.data.DataLoader
    a,b = (T(data.x(o).cpu(), data.y(o).cpu()) for o in ('train', 'test'))
    return L(a, batch_size=cfg.batch_size, shuffle=True, num_workers=0), L(b, batch_size=128, shuffle=False, num_workers=2) if test else [(b.images[:1], b.labels[:1])]

def their_gsam(data, cfg, test, folder):
    "One expert of the published `train`"
    published.cache[0].train(settings(cfg, str(data.device)), data.channels, data.n_classes, (data.size, data.size), *loaders(data, cfg, test), folder)

def their_sgd(data, cfg, test, folder):
    "One expert of plain SGD with the published `epoch`, recorded as their `train` does"
    args,mod = settings(cfg, data.device),published.cache[3]
    a,b = loaders(data, cfg, test)
    net = published.cache[2].get_network('ConvNet', data.channels, data.n_classes, (data.size, data.size)).to(data.device)
    opt,loss = torch.optim.SGD(net.parameters(), lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay),torch.nn.CrossEntropyLoss()
    kept = [[p.detach().cpu() for p in net.parameters()]]
    for _ in range(cfg.epochs):
        mod.epoch('train', a, net, opt, loss, args, aug=True)
        with torch.no_grad(): mod.epoch('test', b, net, None, loss, args, aug=False)
        kept.append([p.detach().cpu() for p in net.parameters()])
    torch.save([kept], Path(folder)/'replay_buffer_0.pt')

def reference(f, data, cfg, test, folder):
    cpu = torch.Tensor.cpu
    copies = patch.object(torch.Tensor, 'cpu', lambda t: cpu(t).clone()) if data.device.type=='cpu' else contextlib.nullcontext()
    with copies, contextlib.redirect_stdout(io.StringIO()): f(data, cfg, test, folder)

def ours(data, cfg, keeps, folder):
    with contextlib.nullcontext() if keeps else patch.object(basics, 'glibc_calls', lambda: (None, None)): record_experts(data, folder, cfg, show=False)

def bare(data, cfg, folder):
    "Only the passes through the network that the steps need: no order, no augmentation, no steps, nothing kept"
    net = create_model(cfg.arch, data.n_classes, data.size, data.channels).to(data.device)
    passes = 2 if cfg.rule=='gsam' else 1
    with kept_memory():
        for i in range(0, len(data.train), cfg.batch_size):
            x,y = (f('train', slice(i, i+cfg.batch_size)) for f in (data.x, data.y))
            for _ in range(passes*cfg.epochs): torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))

def contestants(data, cfg, edf):
    "Name -> function of a folder to record one expert into"
    theirs = partial(reference, their_gsam if cfg.rule=='gsam' else their_sgd, data, cfg)
    out = {'published': partial(theirs, True), 'published, no test pass': partial(theirs, False)} if edf else {}
    out |= {'ours': partial(ours, data, cfg, True), 'ours, memory handed back at each free': partial(ours, data, cfg, False),
            'ours, kept as bfloat16': partial(ours, data, changed(cfg, dtype='bfloat16', keep=1), True)}
    out |= {f'ours, {k}': partial(ours, data, changed(cfg, **o), True) for k,o in {'compiled': dict(compile=True), 'bfloat16 passes': dict(amp=True), 'bfloat16 passes, compiled': dict(amp=True, compile=True)}.items()}
    return out | {'the passes alone': partial(bare, data, cfg)}

def recorded(folder): return sum(o.stat().st_size for o in Path(folder).rglob('*') if o.suffix in ('.pt', '.safetensors'))

def published_bytes(name, cfg, size, params):
    "Bytes of an expert of the published number of epochs: theirs by what was written, ours by what will be, which is checked here"
    if name.startswith('published'): return size/(cfg.epochs+1)*(FTD_EXPERTS.epochs+1)
    if name=='the passes alone': return None
    small = changed(cfg, n=1, **(dict(dtype='bfloat16', keep=1) if name.endswith('as bfloat16') else {}))
    assert 0<=size-store_bytes(small, params)<1000, f'{name} wrote {size} bytes, announced {store_bytes(small, params)}'
    return store_bytes(changed(FTD_EXPERTS, n=1, dtype=small.dtype, keep=KEEP if small.keep else None), params)

def step_difference(data, cfg, dtype):
    "One GSAM step of both from equal parameters on an equal batch: largest difference of a parameter, as a share of the longest move of one"
    buffer,gsam,mod,_ = published.cache
    net,mine = mod.get_network('ConvNet', data.channels, data.n_classes, (data.size, data.size)).to(data.device, dtype),create_model(cfg.arch, data.n_classes, data.size, data.channels).to(data.device, dtype)
    x,y = data.x('train', slice(cfg.batch_size)).to(dtype),data.y('train', slice(cfg.batch_size))
    start = [p.detach().clone() for p in net.parameters()]
    def loss_grad(ps):
        ps = [p.detach().requires_grad_() for p in ps]
        return list(torch.autograd.grad(F.cross_entropy(torch.func.functional_call(mine, dict(zip([k for k,_ in mine.named_parameters()], ps)), (x,)), y), ps))
    after = [p-cfg.lr*g for p,g in zip(start, gsam_gradient(loss_grad, start, cfg.rho, cfg.alpha))]
    opt = torch.optim.SGD(net.parameters(), lr=cfg.lr)
    rho = gsam.ProportionScheduler(torch.optim.lr_scheduler.StepLR(opt, 1, 1.), cfg.lr, cfg.lr, cfg.rho, cfg.rho)
    step = gsam.GSAM(net.parameters(), opt, net, cfg.alpha, rho, adaptive=True)
    step.set_closure(F.cross_entropy, x, y)
    step.step()
    return max((a-b).abs().max() for a,b in zip(after, net.parameters())).item()/max((a-b).abs().max() for a,b in zip(after, start)).item()

def once_compiled():
    "In a recording of a hundred experts the network is compiled once; so here"
    made,new = {},trajectory.expert_forward
    trajectory.expert_forward = lambda net, cfg: made.setdefault((cfg.amp, cfg.compile), new(net, cfg))

def compete(data, cfg, edf, rounds):
    "Rows of all contestants of one kind of step"
    took,size = {},{}
    first = ImageData(data.train.select(slice(cfg.batch_size)), data.test, data.classes, data.norm, device=data.device)
    for r in range(-1, rounds):
        for k,f in contestants(data if r>=0 else first, cfg, edf).items(): # one batch first: it compiles
            with tempfile.TemporaryDirectory() as folder:
                t = time.perf_counter(); f(folder)
                if data.device.type=='cuda': torch.cuda.synchronize()
                if r>=0: took.setdefault(k, []).append(time.perf_counter()-t)
                size[k] = recorded(folder)
    params,base,rows = n_params(create_model(cfg.arch, data.n_classes, data.size, data.channels)),took['published' if edf else 'ours'],[]
    for k,ts in took.items():
        ratio,rate = sorted(b/a for a,b in zip(ts, base)),cfg.epochs*len(data.train)/statistics.median(ts)
        rows.append(dict(rule=cfg.rule, form=k, images_a_second=round(rate, 1), experts_an_hour=3600*rate/(50_000*FTD_EXPERTS.epochs), faster_median=statistics.median(ratio), faster_min=ratio[0], faster_max=ratio[-1],
                         bytes_an_expert=published_bytes(k, cfg, size[k], params), seconds=[round(t, 3) for t in ts]))
        print(json.dumps(rows[-1]), flush=True)
    return rows

@call_parse
def main(
    path:str, # Folder of CIFAR-10 as Parquet files
    edf:str=None, # Checkout of the published EDF code
    n_train:int=2048, # Training images an epoch; a fifth as many test images
    epochs:int=1, # Epochs an expert
    arch:str='convnet', # Network; the published code runs if it is 'convnet'
    rounds:int=5, # Turns of all contestants
    rules:str='gsam,sgd', # Kinds of step
    device:str=None, # Default: CUDA if there is any
    out:str='bench/results/experts.json' # Results file
):
    t0,data = time.time(),parquet(path, n_train=n_train, n_test=n_train//5, stream=False, device=device)
    once_compiled()
    edf = edf if arch=='convnet' else None
    if edf: published.cache = published(edf)
    presets = dict(gsam=FTD_EXPERTS, sgd=MTT_EXPERTS)
    cfgs = [changed(presets[o], n=1, epochs=epochs, arch=arch) for o in rules.split(',')]
    same = {str(d).removeprefix('torch.'): step_difference(data, cfgs[0], d) for d in (torch.float32, torch.float64)} if edf and cfgs[0].rule=='gsam' else {}
    if same: print(f'one GSAM step, difference to the published one as a share of the longest move: {same}', flush=True)
    rows = [o for cfg in cfgs for o in compete(data, cfg, edf, rounds)]
    write_json(out, dict(command=f'python bench/experts.py PATH{" --edf PATH" if edf else ""} --n_train {n_train} --epochs {epochs} --arch {arch} --rounds {rounds} --rules {rules}', seconds=round(time.time()-t0, 1), versions=versions(),
                         arch=arch, size=data.size, batch_size=cfgs[0].batch_size, n_train=n_train, n_test=n_train//5, epochs=epochs, rounds=rounds, keep=KEEP, published_epochs=FTD_EXPERTS.epochs, step_difference=same, rows=rows))
