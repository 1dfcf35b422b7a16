"Part `cpd` of bench/why.py: how much the gradient of the images changes when the smallest errors are left out"
import dataclasses,time
from functools import partial
import torch
from keep import kept
from why_refine import split
from edf_nrr.augment import DSA
from edf_nrr.cpd import cpd
from edf_nrr.edf import EDFConfig, MatchingRun, VARIANTS
from edf_nrr.basics import changed
from edf_nrr.matching import augmented, inner_step
from edf_nrr.trajectory import ExpertConfig, record_experts

ALPHAS,AT = (.25, .5, .75, .9, .99, .999),(0, 10, 40)
EXPERTS = ExpertConfig(n=2, epochs=6, arch='convnet_d2_w32', lr=.03, momentum=0., batch_size=256, augment=DSA('crop_flip', ops='all'))
CFG = changed(EDFConfig(), ipc=10, iterations=max(AT), syn_steps=10, lr_img=1000., lr_lr=1e-4, lr_init=.03, batch_syn=50, initial_max_start_epoch=None,
              expand_until=None, max_start_epoch=5, init='random', gradient='unrolled', **VARIANTS['datm'])

SETTINGS = dict(n_train=6000, alphas=ALPHAS, iterations=AT, config=dataclasses.asdict(CFG), experts=dataclasses.asdict(EXPERTS))

def end_of_student(job):
    "Where the student ends as a function of the images, with both ends of the expert's way, for this iteration's batches"
    s = job.state
    expert,epoch,batches,views = job.draw()
    start,target = (job.experts.params(expert, e) for e in (epoch, epoch+job.cfg.expert_epochs))
    x,theta,probs = s['images'].clone().requires_grad_(),start.clone().requires_grad_(),s['logits'].softmax(1)
    for idx,view in zip(batches, views): theta = inner_step(job.forward, theta, augmented(x[idx], job.cfg.augment, view), probs[idx], s['lr'])
    return x,theta,start,target,epoch

def compared(a, b): return dict(cosine=torch.cosine_similarity(a.flatten(), b.flatten(), 0).item(), norm_ratio=(b.norm()/a.norm()).item())

def layers_of(net): return [(n, p.numel()) for n,p in net.named_parameters()]

def at_iteration(job):
    "Gradients with and without CPD for each alpha, of the whole network and of each layer's errors, and which errors it drops"
    x,theta,start,target,epoch = end_of_student(job)
    def pulled(v): return torch.autograd.grad(theta, x, v, retain_graph=True)[0]
    err,way = (theta-target).detach(),(start-target).square()
    full,rows = pulled(2*err/way.sum()),[]
    def dropped(alpha, layer=slice(None)):
        keep = cpd(alpha)(err.square())
        share = 1-(err.square()*keep)[layer].sum()/err.square()[layer].sum()
        return keep,dict(alpha=alpha, share=share.item(), dropped=1-keep[layer].float().mean().item())
    for alpha in ALPHAS:
        keep,about = dropped(alpha)
        rows.append(about | dict(layer='all') | compared(full, pulled(2*err*keep/(way*keep).sum())))
    ends = torch.tensor([n for _,n in layers_of(job.experts.net())]).cumsum(0).tolist()
    for (name,n),e in zip(layers_of(job.experts.net()), ends):
        if not name.endswith('weight') or n<1000: continue
        keep,about = dropped(.25, slice(e-n, e))
        only = torch.zeros_like(err)
        only[e-n:e] = 1
        rows.append(about | dict(layer=name) | compared(pulled(err*only), pulled(err*only*keep)))
    z = err/err.std()
    return dict(iteration=job.it, start_epoch=epoch, loss=(err.square().sum()/way.sum()).item(), kurtosis=z.pow(4).mean().item(), rows=rows),full

def watched(path, runs, seed):
    "One distillation by DATM, looked at on the way"
    def measured():
        t0,data = time.time(),split(path, runs)[0].take(600)
        job = MatchingRun(data, record_experts(data, runs/'experts', EXPERTS, show=False), changed(CFG, seed=seed))
        job.start()
        found,before,turns = [],None,[]
        while True:
            if job.it in AT:
                now,g = at_iteration(job)
                found.append(now)
                if before is not None: turns.append(compared(before, g)['cosine'])
                before = g
            if job.it==CFG.iterations: break
            job.step()
        return dict(seed=seed, found=found, cosine_of_iterations=turns, seconds=time.time()-t0)
    return kept(runs, ['cpd', ALPHAS, AT, seed], measured)

def jobs(path, runs, seeds):
    for s in range(3): yield f'gradients {s}',partial(watched, path, runs, s)
