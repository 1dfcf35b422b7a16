"Part `dae` of bench/why.py: which pixels, and which parameters, at equal length of every step of the images"
import dataclasses,time
from functools import lru_cache,partial
import torch
from keep import kept
from edf_nrr.basics import changed, rng
from edf_nrr.cpd import cpd
from edf_nrr.dae import DAE, dae_weights
from edf_nrr.datasets import cluttered_digits
from edf_nrr.demo import DEMO, DEMO_EXPERTS, DEMO_RECIPE
from edf_nrr.edf import MatchingRun, VARIANTS, correct_rows, predicted_classes
from edf_nrr.training import evaluate
from edf_nrr.trajectory import record_experts

CFG = changed(DEMO, iterations=80, syn_steps=6, expert_epochs=1, **VARIANTS['datm'])
RECIPE = changed(DEMO_RECIPE, epochs=150)
LENGTH = .006 # Of the gradient of the images in every step

SETTINGS = dict(n_train=3000, step_length=CFG.lr_img*LENGTH, students=2, config=dataclasses.asdict(CFG), recipe=dataclasses.asdict(RECIPE))

class EvenSteps(MatchingRun):
    "Trajectory matching whose steps of the images all have the same length: only their direction can differ"
    def update(self, grads):
        g = grads['images']
        super().update(grads | dict(images=g*(LENGTH/g.norm())))

@lru_cache
def world(runs):
    data = cluttered_digits(3000, 1000, size=16, object_fraction=.6)
    return data,record_experts(data, runs/'experts', changed(DEMO_EXPERTS, n=3, epochs=8), show=False)

def true_masks(data, experts, seed):
    "Masks of the real images that a run starts from, (N,H,W) in {0,1}"
    right = predicted_classes(experts.model(0), data)==data.y('train')
    return data.masks('train', correct_rows(data, right, CFG.ipc, seed)).float()

class Mirrored(DAE):
    "DAE with maps turned over: the background is enhanced"
    def maps(self, *args): return 1-super().maps(*args)

def scattered(masks, seed):
    "Masks of as many pixels each, anywhere"
    m = masks.flatten(1)
    order = torch.rand(m.shape, generator=rng(seed, 'scattered')).argsort(1)
    return m.gather(1, order).view(masks.shape)

def fixed(weights): return lambda images, classes, it: weights

def weigher(arm, data, experts, seed):
    "The pixel weights of an arm, or None"
    cams = dict(model=experts.model(0), beta=1., interval=CFG.cam_interval, seed=seed, classes=data.classes)
    if arm=='dae': return DAE(**cams)
    if arm=='mirrored dae': return Mirrored(**cams)
    if arm not in ('true masks', 'mirrored true masks', 'only object', 'only background', 'as many pixels anywhere'): return None
    m = true_masks(data, experts, seed)
    if arm in ('mirrored true masks', 'only background'): m = 1-m
    if arm=='as many pixels anywhere': m = scattered(m, seed)
    return fixed(m[:,None] if 'mask' not in arm else dae_weights(m, 1.))

def run(runs, arm, seed):
    "Accuracy of two students of a set"
    def measured():
        t0,(data,experts) = time.time(),world(runs)
        keep = cpd(float(arm.split()[1])) if arm.startswith('cpd') else None
        job = EvenSteps(data, experts, changed(CFG, seed=seed), keep=keep, weigh=weigher(arm, data, experts, seed))
        job.start()
        while job.it<CFG.iterations: job.step()
        acc = evaluate(job.result(), data, experts.arch, [2*seed, 2*seed+1], RECIPE).last
        return dict(method=arm, ipc=CFG.ipc, arch=experts.arch, labels='soft', seed=seed, accuracy=sum(acc)/2, loss=sum(o['loss'] for o in job.history[-20:])/20, seconds=time.time()-t0)
    r = kept(runs, ['dae', arm, seed], measured)
    return {k: v for k,v in r.items() if k!='loss'}

def jobs(path, runs, seeds):
    for arms in (['dae', 'mirrored dae'], ['only object', 'only background'], ['true masks', 'mirrored true masks'], ['as many pixels anywhere'], ['datm', 'cpd .9', 'cpd .99']):
        for s in range(8):
            for a in arms: yield f'{a} {s}',partial(run, runs, a, s)
