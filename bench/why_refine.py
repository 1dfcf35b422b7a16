"Part `refine` of bench/why.py: random real images refined by cross-entropy alone, and the controls that say why it helps"
import time
from functools import lru_cache,partial
import torch, torch.nn.functional as F
from torch import nn
from keep import kept, kept_teacher
from edf_nrr.augment import DSA, Views
from edf_nrr.basics import load_tensors, rng, save_tensors
from edf_nrr.cidd import initialise
from edf_nrr.codes import LABEL_PRESETS
from edf_nrr.core import Distilled
from edf_nrr.data import ImageData, Split
from edf_nrr.dbr import distilled_id, label_views, labels_recipe, mixed_views, relabel, train_from_labels
from edf_nrr.files import parquet
from edf_nrr.models import timm_model
from edf_nrr.nrr import NRRConfig, refine
from edf_nrr.training import accuracy, random_real

SIZE,IPC,EPOCHS,ITERATIONS = 16,10,150,300
SETTINGS = dict(size=SIZE, n_train=18_000, n_held_out=2_000, n_test=4_000, teacher_epochs=10, iterations=ITERATIONS, more_iterations=900, student_epochs=EPOCHS)
VIEWS = DSA('crop_flip', ops='all')
CE = dict(mask='none', alpha_bn=0., augment=VIEWS)
REFINED = {'random real': None, 'ce-refine': CE, 'more steps': dict(CE, iterations=900), 'whole image, no views': dict(CE, augment=None), 'mask, views': dict(CE, mask='soft'),
           'paper': {}, 'paper, views': dict(augment=VIEWS)}
TEACHER,OTHER = 'convnet_bn_w64','convnet_bn_d2_w32'
WEAK,USUAL,STRONG = 2,10,25 # Epochs of the teacher
SMALL = 'convnet_bn_d2_w32'
LABELS = {'soft': dict(kind='soft'), 'one-hot': dict(kind='hard'), 'compact': LABEL_PRESETS['compact']}

class Block(nn.Module):
    "A residual block of two convolutions (He et al. 2016)"
    def __init__(self, a, b, stride):
        super().__init__()
        def conv(i, o, k, s): return nn.Sequential(nn.Conv2d(i, o, k, s, k//2, bias=False), nn.BatchNorm2d(o))
        self.way = nn.Sequential(conv(a, b, 3, stride), nn.ReLU(), conv(b, b, 3, 1))
        self.short = conv(a, b, 1, stride)
    def forward(self, x): return F.relu(self.way(x)+self.short(x))

def resnet8(n_classes, size, channels):
    "A residual network of eight layers, 32 to 128 channels"
    return nn.Sequential(nn.Conv2d(channels, 32, 3, 1, 1), Block(32, 32, 1), Block(32, 64, 2), Block(64, 128, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, n_classes))

def vit_small(n_classes, size, channels):
    "A vision transformer of four blocks of width 96 on patches of 4x4"
    return timm_model('vit_tiny_patch16_224', n_classes, size, channels, patch_size=4, depth=4, embed_dim=96, num_heads=3)

STUDENTS = {SMALL: (SMALL, 5e-3), TEACHER: (TEACHER, 5e-3), 'convnet_d2_w32': ('convnet_d2_w32', 5e-3), 'resnet8': (resnet8, 5e-3), 'vit_small': (vit_small, 1e-3)}

class Unmixed(Views):
    "Views without CutMix: every box is empty"
    def mix(self, epoch, indices, n):
        mix = super().mix(epoch, indices, n)
        return mix._replace(box=torch.zeros_like(mix.box), lam=torch.ones_like(mix.lam))

def seen_as(syn, seed, views):
    "Views of students: 'mixed' (crop, flip, CutMix), 'crops' (crop, flip) or 'images' (none)"
    v = label_views(syn, seed)
    if views=='mixed': return v
    return Unmixed(v.seed, v.size, v.scale, v.ratio, v.flip) if views=='crops' else Unmixed(v.seed, v.size, (1, 1), (1, 1), 0.)

def pixels(path, file):
    "20,000 training and 4,000 test images, decoded once"
    if not file.exists():
        data = parquet(path, size=SIZE, n_train=20_000, n_test=4_000, stream=False, device='cpu')
        parts = ((f'{k}.{n}', o) for k in ('train', 'test') for n,o in (('x', data.split(k).images), ('y', data.split(k).y)))
        save_tensors(file, dict(parts), dict(classes=data.classes))
    t,about = load_tensors(file)
    splits = [Split(t[f'{k}.x'], t[f'{k}.y']) for k in ('train', 'test')]
    return ImageData(*splits, about['classes'], name='cifar10', device='cpu')

def held_apart(data):
    "Images that teachers and sets are made of, with the held-out ones as test images, and the same with the real test images"
    held = data.validation(.1)
    return held,ImageData(held.train, data.test, data.classes, held.norm, data.name, data.device)

@lru_cache
def split(path, runs): return held_apart(pixels(path, runs.parent/'cifar10.safetensors'))

@lru_cache
def teacher_of(path, runs, arch=TEACHER, epochs=10):
    return kept_teacher(split(path, runs)[0], runs/f'{arch}-{epochs}.safetensors', arch, epochs=epochs, lr=1e-2, augment=VIEWS)

def like(syn, images, labels=None):
    "The set with other images"
    return Distilled(images, syn.labels if labels is None else labels, syn.classes, syn.norm, provenance=syn.provenance)

def refined(syn, teacher, seed, how): return refine(syn, teacher, NRRConfig(seed=seed, iterations=ITERATIONS), show=False, **how)

def from_crops(data, teacher, seed, select, how):
    "A set of CIDD, refined or as it is"
    start = initialise(data, teacher, IPC, seed=seed, select=select)
    return start if how is None else refined(start, teacher, seed, how)

def make(path, runs, name, seed, epochs=USUAL):
    "The images of a method or control, by a teacher of so many epochs"
    data,teacher = split(path, runs)[0],teacher_of(path, runs, epochs=epochs)
    start,how = name.split(' + ') if ' + ' in name else ('random', name)
    if start!='random': return from_crops(data, teacher, seed, start.split()[1], REFINED[how])
    real = random_real(data, IPC, seed)
    if name=='wrong class': return like(real, refined(like(real, real.images, (real.labels+3)%10), teacher, seed, CE).images)
    if name=="another image's change":
        change = set_of(path, runs, 'ce-refine', seed).images-real.images
        return like(real, real.images+change.roll(IPC+1, 0))
    if name=='noise':
        change = set_of(path, runs, 'ce-refine', seed).images-real.images
        return like(real, real.images+change.std()*torch.randn(change.shape, generator=rng(seed, 'noise')))
    return real if REFINED[how] is None else refined(real, teacher, seed, REFINED[how])

def set_of(path, runs, name, seed, epochs=USUAL):
    "The set of a method, from `runs` if it is there"
    file = runs/f'{name}-{seed}-{epochs}.safetensors'
    if not file.exists(): make(path, runs, name, seed, epochs).save(file)
    return Distilled.load(file)

def student(path, runs, name, seed, labels='soft', arch=SMALL, of=None, views='mixed', epochs=EPOCHS, teacher_epochs=USUAL):
    "Accuracies of a student of a set, with labels of its own views or of those of the set `of`"
    about = dict(labels=labels, arch=arch, views=views, student_epochs=epochs, teacher_epochs=teacher_epochs)
    def measured():
        t0,teacher,syn = time.time(),teacher_of(path, runs, epochs=teacher_epochs),set_of(path, runs, name, seed, teacher_epochs)
        asked = syn if of is None else set_of(path, runs, of, seed, teacher_epochs)
        t1,l = time.time(),relabel(asked, teacher, epochs=epochs, views=seen_as(syn, seed, views), show=False, **LABELS[labels])
        l.set_id = distilled_id(syn)
        net,lr = STUDENTS[arch]
        net = train_from_labels(syn, l, net, seed, labels_recipe(syn, epochs, lr=lr))
        held,test = split(path, runs)
        return dict(method=name if of is None else f'images of {name}, labels of {of}', ipc=IPC, seed=seed, teacher=teacher.accuracy,
                    validation=accuracy(net, held), accuracy=accuracy(net, test), seconds=time.time()-t0, student_seconds=time.time()-t1) | about
    return kept(runs, ['student', name, seed, of, about], measured)

@torch.no_grad()
def answers(net, syn, seed, epochs=20):
    "What a network says of a set: of the images, of crops with flip, of CutMix views"
    views,idx,K = label_views(syn, seed),torch.arange(len(syn)),len(syn.classes)
    z = torch.stack([net(views.apply(syn.images, views.draw(e, idx))) for e in range(epochs)])
    mixed = [mixed_views(syn, views, e, idx) for e in range(epochs)]
    zm,own = torch.cat([net(m.x) for m in mixed]),torch.cat([m.own for m in mixed])
    def ce(z): return F.cross_entropy(z.flatten(0, -2), syn.labels.repeat(z.numel()//K//len(syn))).item()
    votes = F.one_hot(z.argmax(2), K).float().mean(0).amax(1)
    p = zm.softmax(1)
    soft20 = (zm/20).softmax(1)
    return dict(ce_image=ce(net(syn.images)), right_image=(net(syn.images).argmax(1)==syn.labels).float().mean().item(), ce_view=ce(z),
                right_view=(z.argmax(2)==syn.labels).float().mean().item(), same_over_views=votes.mean().item(), mixed_in_pair=(zm.argmax(1)[:,None]==own).any(1).float().mean().item(),
                mixed_entropy=-(p*p.clamp(min=1e-12).log()).sum(1).mean().item(), logit_std=(zm-zm.mean(1, keepdim=True)).std().item(), label_range=(soft20.amax(1)-soft20.amin(1)).mean().item())

def spectrum(x):
    "Share of the energy, mean apart, at more than half the highest frequency"
    e = torch.fft.fft2(x-x.mean((2, 3), keepdim=True)).abs().square().mean((0, 1))
    f = torch.fft.fftfreq(x.shape[-1]).abs()
    high = torch.maximum(f[:,None], f)>.25
    return (e[high].sum()/e.sum().clamp(min=1e-12)).item()

def looked_at(path, runs, name, seed):
    "How the images of a set differ from the start, and what two networks say of them"
    def measured():
        t0,syn,start = time.time(),set_of(path, runs, name, seed),set_of(path, runs, 'random real', seed)
        change = syn.pixels()-start.pixels()
        about = dict(rms_change=change.square().mean().sqrt().item(), high_frequencies=spectrum(syn.pixels()), high_frequencies_of_change=spectrum(change))
        nets = dict(teacher=teacher_of(path, runs), other=teacher_of(path, runs, OTHER, 3))
        return dict(method=name, seed=seed) | about | {k: answers(n, syn, seed) for k,n in nets.items()} | dict(other_accuracy=nets['other'].accuracy, seconds=time.time()-t0)
    return kept(runs, ['images', name, seed], measured)

def jobs(path, runs, seeds):
    "All jobs, the most telling first"
    def each(names, these=range(seeds), **how):
        for s in these:
            for n in names: yield f'{n} {s} {how}',partial(student, path, runs, n, s, **how)
    def transplants(these):
        for s in these:
            yield f'labels of refined {s}',partial(student, path, runs, 'random real', s, of='ce-refine')
            yield f'images refined {s}',partial(student, path, runs, 'ce-refine', s, of='random real')
    pair,controls = ['random real', 'ce-refine'],['wrong class', "another image's change", 'noise']
    yield from each(pair)
    for views in ('crops', 'images'): yield from each(pair, views=views)
    yield from each(pair, range(3), labels='compact')
    for s in range(3):
        for n in [*pair, *controls]: yield f'{n} images {s}',partial(looked_at, path, runs, n, s)
    yield from each(pair, range(3), teacher_epochs=WEAK)
    for arch in ('resnet8', 'convnet_d2_w32'): yield from each(pair, range(3), arch=arch)
    yield from each(['mask, views', 'cidd high + random real', 'cidd high + ce-refine'], range(3))
    yield from each(pair, range(3), arch='vit_small')
    yield from each(pair, range(3), teacher_epochs=STRONG)
    yield from each(pair, range(3, seeds), labels='compact')
    yield from each(pair, labels='one-hot')
    yield from transplants(range(3))
    yield from each(controls, range(3))
    yield from each(pair, range(3), epochs=300)
    yield from each(['paper', 'whole image, no views', 'more steps', 'cidd low + random real', 'cidd low + ce-refine'], range(3))
    yield from each(pair, range(3), arch=TEACHER)
    for how in (dict(teacher_epochs=STRONG), dict(teacher_epochs=WEAK), dict(epochs=300)): yield from each(pair, range(3, seeds), **how)
    yield from each(['mask, views', 'paper', 'cidd high + random real', 'cidd high + ce-refine'], range(3, seeds))
    for arch in ('resnet8', 'convnet_d2_w32', 'vit_small', TEACHER): yield from each(pair, range(3, seeds), arch=arch)
